#include "http_rules.h"

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

// RFC 9110 5.6.2, a bit for each of the first 128 characters: it is asked for every character of every field name.
#define BIT(c) (UINT64_C(1) << ((c) % 64))
#define BITS(first, n) (((UINT64_C(1) << (n)) - 1) << ((first) % 64))
static const uint64_t token_chars[2] = {
    BIT('!') | BIT('#') | BIT('$') | BIT('%') | BIT('&') | BIT('\'') | BIT('*') | BIT('+') | BIT('-') |
        BIT('.') | BITS('0', 10),
    BITS('A', 26) | BIT('^') | BIT('_') | BIT('`') | BITS('a', 26) | BIT('|') | BIT('~'),
};

bool sj_http_is_token(sj_slice text) {
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];
        if (c >= 128 || !(token_chars[c / 64] & BIT(c)))
            return false;
    }
    return text.n > 0;
}

static bool is_control(char c) {
    return (unsigned char)c < 0x20 || c == 0x7f;
}

// Eight bytes at a time, as in json_scan.c: below 0x20, or 0x7f. A tab is let pass.
static bool has_control(sj_slice text) {
    static const uint64_t each_byte = UINT64_C(0x0101010101010101);
    size_t i = 0;
    for (; i + 8 <= text.n; i += 8) {
        uint64_t word;
        memcpy(&word, text.p + i, sizeof word);
        uint64_t del = word ^ each_byte * 0x7f;
        if ((((word - each_byte * 0x20) & ~word) | ((del - each_byte) & ~del)) & each_byte * 0x80)
            break;
    }
    for (; i < text.n; i++) {
        if (is_control(text.p[i]) && text.p[i] != '\t')
            return true;
    }
    return false;
}

static size_t find_any(sj_slice text, const char *wanted) {
    size_t least = text.n;
    for (; *wanted; wanted++) {
        const char *at = least ? memchr(text.p, *wanted, least) : NULL;
        if (at)
            least = (size_t)(at - text.p);
    }
    return least;
}

static sj_slice first(sj_slice text, size_t n) {
    return (sj_slice){text.p, n};
}

static bool starts_nocase(sj_slice text, sj_slice prefix) {
    return text.n >= prefix.n && sj_slice_equal_nocase(first(text, prefix.n), prefix);
}

// The next element of a comma-separated list, trimmed; *list goes on behind it. False: no more.
static bool next_element(sj_slice *list, sj_slice *element) {
    if (list->n == 0)
        return false;
    const char *comma = memchr(list->p, ',', list->n);
    size_t n = comma ? (size_t)(comma - list->p) : list->n;
    *element = sj_slice_trim(first(*list, n));
    *list = sj_slice_from(*list, comma ? n + 1 : n);
    return true;
}

#define NAME(literal)                                                                                        \
    { (literal), sizeof(literal) - 1 }
#define COUNT(rows) (sizeof(rows) / sizeof *(rows))

static bool is_one_of(sj_slice name, const sj_slice *names, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (sj_slice_equal_nocase(name, names[i]))
            return true;
    }
    return false;
}

// ---- what a request must look like --------------------------------------------------------------------------------

typedef struct request {
    sj_slice method, target, version;
    const sj_headers *headers;
} request;

static const sj_http_fault fine = {0, NULL};

static sj_http_fault bad(const char *message) {
    return (sj_http_fault){400, message};
}

static sj_http_fault not_built(const char *message) {
    return (sj_http_fault){501, message};
}

static sj_http_fault check_method(const request *r) {
    if (!sj_http_is_token(r->method))
        return bad("The method of the request line is no HTTP token.");
    if (sj_slice_equal(r->method, SJ_SLICE("CONNECT")))
        return not_built("CONNECT is not supported: this is a reverse proxy, use it as the base URL of your "
                         "client, not as a proxy.");
    return fine;
}

// Bytes of "http://authority" before the path; 0 for every other form.
static size_t authority_length(sj_slice target) {
    static const sj_slice schemes[] = {{"http://", 7}, {"https://", 8}};
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        if (starts_nocase(target, schemes[i]))
            return schemes[i].n + find_any(sj_slice_from(target, schemes[i].n), "/?#");
    }
    return 0;
}

static sj_http_fault check_target(const request *r) {
    sj_slice target = r->target;
    for (size_t i = 0; i < target.n; i++) {
        if (is_control(target.p[i]) || target.p[i] == ' ')
            return bad("The request target has a space or a control character in it: percent-encode it.");
    }
    if (sj_slice_equal(target, SJ_SLICE("*")) && sj_slice_equal(r->method, SJ_SLICE("OPTIONS")))
        return fine;
    size_t authority = authority_length(target);
    if (authority && target.p[authority - 1] == '/') // "http:///path"
        return bad("The request target names no host after its scheme.");
    if (!authority && !sj_slice_starts(target, SJ_SLICE("/")))
        return bad("The request target must be a path that starts with \"/\", or a whole http URL.");
    return fine;
}

static sj_http_fault check_version(const request *r) {
    if (r->version.n != 8 || !sj_slice_starts(r->version, SJ_SLICE("HTTP/1.")) || !is_digit(r->version.p[7]))
        return bad("The request's protocol version is not understood: use HTTP/1.1.");
    return fine;
}

// The server library glues a folded line to the name of the field before it: "Content-Length: 5" continued by "0" becomes
// "Content-Length0: 5", a body length that went unseen.
static bool hides_framing(sj_slice name) {
    static const sj_slice framing[] = {{"content-length", 14}, {"transfer-encoding", 17}};
    for (size_t i = 0; i < sizeof framing / sizeof *framing; i++) {
        if (name.n > framing[i].n && starts_nocase(name, framing[i]))
            return true;
    }
    return false;
}

static sj_http_fault check_fields(const request *r) {
    for (size_t i = 0; i < r->headers->count; i++) {
        sj_header header = sj_headers_at(r->headers, i);
        if (!sj_http_is_token(header.name))
            return bad("A header name is no HTTP token: no spaces before the colon, no folded lines.");
        if (hides_framing(header.name))
            return bad("A header name starts like one that frames the body: no folded lines.");
        if (has_control(header.value))
            return bad("A header value has a control character or a line break in it.");
    }
    return fine;
}

enum { MAX_LENGTH_DIGITS = 18 };

static sj_http_fault check_content_length(const request *r) {
    size_t count = sj_headers_count_of(r->headers, "content-length");
    if (count == 0)
        return fine;
    if (count > 1)
        return bad("More than one Content-Length: send one.");
    sj_slice value = sj_headers_get(r->headers, "content-length");
    for (size_t i = 0; i < value.n; i++) {
        if (!is_digit(value.p[i]))
            return bad("Content-Length is not a plain number.");
    }
    if (value.n == 0 || value.n > MAX_LENGTH_DIGITS)
        return bad("Content-Length is empty or absurdly long.");
    return fine;
}

static bool names_other_coding(const sj_headers *headers) {
    for (size_t i = 0; i < headers->count; i++) {
        sj_header header = sj_headers_at(headers, i);
        sj_slice list = header.value, element;
        if (!sj_slice_equal_nocase(header.name, SJ_SLICE("transfer-encoding")))
            continue;
        while (next_element(&list, &element)) {
            sj_slice coding = sj_slice_trim(first(element, find_any(element, ";")));
            if (sj_http_is_token(coding) && !sj_slice_equal_nocase(coding, SJ_SLICE("chunked")))
                return true;
        }
    }
    return false;
}

static sj_http_fault check_transfer_encoding(const request *r) {
    size_t count = sj_headers_count_of(r->headers, "transfer-encoding");
    if (count == 0)
        return fine;
    if (sj_headers_count_of(r->headers, "content-length"))
        return bad("Both Content-Length and Transfer-Encoding: send one of them.");
    if (sj_slice_equal(r->version, SJ_SLICE("HTTP/1.0")))
        return bad("HTTP/1.0 has no Transfer-Encoding: send Content-Length, or use HTTP/1.1.");
    // To the letter, since the server library decodes chunks only behind exactly this value.
    if (count == 1 &&
        sj_slice_equal_nocase(sj_headers_get(r->headers, "transfer-encoding"), SJ_SLICE("chunked")))
        return fine;
    if (names_other_coding(r->headers))
        return not_built("The only Transfer-Encoding supported is \"chunked\".");
    return bad("Transfer-Encoding must be exactly one \"chunked\".");
}

static sj_http_fault check_host(const request *r) {
    size_t count = sj_headers_count_of(r->headers, "host");
    if (count > 1)
        return bad("More than one Host header: send one.");
    if (count == 0)
        return sj_slice_equal(r->version, SJ_SLICE("HTTP/1.0")) ? fine : bad("HTTP/1.1 needs a Host header.");
    sj_slice value = sj_headers_get(r->headers, "host");
    if (find_any(value, " \t,/\\?#@<>\"") < value.n)
        return bad("The Host header is not a host with an optional port.");
    return fine;
}

// Any other protocol (h2c of some Java clients) is an offer that may be passed over.
static sj_http_fault check_upgrade(const request *r) {
    for (size_t i = 0; i < r->headers->count; i++) {
        sj_header header = sj_headers_at(r->headers, i);
        sj_slice list = header.value, element;
        if (!sj_slice_equal_nocase(header.name, SJ_SLICE("upgrade")))
            continue;
        while (next_element(&list, &element)) {
            sj_slice protocol = first(element, find_any(element, "/"));
            if (sj_slice_equal_nocase(protocol, SJ_SLICE("websocket")))
                return not_built(
                    "WebSocket is not built yet: connect to the API itself for realtime sessions.");
        }
    }
    return fine;
}

sj_http_fault sj_http_check_request(sj_slice method, sj_slice raw_target, sj_slice version,
                                    const sj_headers *headers) {
    static sj_http_fault (*const checks[])(const request *) = {
        check_method, check_target,         check_version,
        check_fields, check_content_length, check_transfer_encoding,
        check_host,   check_upgrade,
    };
    const request r = {method, raw_target, version, headers};
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        sj_http_fault fault = checks[i](&r);
        if (fault.status)
            return fault;
    }
    return fine;
}

// ---- what a proxy must not carry ----------------------------------------------------------------------------------

bool sj_http_is_hop_by_hop(sj_slice name, sj_slice connection_values) {
    static const sj_slice always[] = {
        NAME("connection"),
        NAME("keep-alive"),
        NAME("proxy-connection"),
        NAME("proxy-authenticate"),
        NAME("proxy-authorization"),
        NAME("te"),
        NAME("trailer"),
        NAME("transfer-encoding"),
        NAME("upgrade"),
    };
    static const sj_slice never[] = {NAME("host"), NAME("authorization"), NAME("content-type"),
                                     NAME("content-encoding"), NAME("date")};
    if (is_one_of(name, always, COUNT(always)))
        return true;
    if (connection_values.n == 0 || is_one_of(name, never, COUNT(never)))
        return false;
    sj_slice element;
    while (next_element(&connection_values, &element)) {
        if (sj_slice_equal_nocase(element, name))
            return true;
    }
    return false;
}

// The values of all Connection fields as one list; *joined is only used for more than one.
static bool connection_values(const sj_headers *in, sj_buffer *joined, sj_slice *values) {
    *values = sj_headers_get(in, "connection");
    if (sj_headers_count_of(in, "connection") < 2)
        return true;
    for (size_t i = 0; i < in->count; i++) {
        sj_header header = sj_headers_at(in, i);
        if (!sj_slice_equal_nocase(header.name, SJ_SLICE("connection")))
            continue;
        if (!sj_buffer_add(joined, header.value) || !sj_buffer_text(joined, ","))
            return false;
    }
    *values = sj_buffer_slice(joined);
    return true;
}

static bool forward(const sj_headers *in, const sj_slice *dropped, size_t dropped_count,
                    sj_slice dropped_prefix, sj_headers *out) {
    sj_buffer joined = sj_buffer_with_max(SJ_HEADERS_MAX_BYTES);
    sj_slice values;
    bool ok = connection_values(in, &joined, &values);
    for (size_t i = 0; ok && i < in->count; i++) {
        sj_header header = sj_headers_at(in, i);
        bool drop = is_one_of(header.name, dropped, dropped_count) ||
                    sj_http_is_hop_by_hop(header.name, values) ||
                    (dropped_prefix.n && starts_nocase(header.name, dropped_prefix));
        if (!drop)
            ok = sj_headers_add(out, header.name, header.value);
    }
    sj_buffer_free(&joined);
    return ok;
}

bool sj_http_forward_request(const sj_headers *in, sj_headers *out) {
    static const sj_slice dropped[] = {NAME("host"), NAME("content-length"), NAME("expect")};
    return forward(in, dropped, COUNT(dropped), SJ_SLICE("x-stormjib-"), out);
}

bool sj_http_forward_answer(const sj_headers *in, sj_headers *out) {
    static const sj_slice dropped[] = {NAME("content-length")};
    return forward(in, dropped, COUNT(dropped), (sj_slice){NULL, 0}, out);
}

// ---- where a path goes --------------------------------------------------------------------------------------------

typedef struct parts {
    sj_slice path;
    sj_slice query; // with its "?"
    sj_slice fragment; // with its "#"
} parts;

static parts split(sj_slice target) {
    parts p = {.path = SJ_SLICE("/")};
    if (target.n == 0)
        return p;
    target = sj_slice_from(target, authority_length(target));
    size_t path_n = find_any(target, "?#");
    if (path_n)
        p.path = first(target, path_n);
    target = sj_slice_from(target, path_n);
    size_t query_n = find_any(target, "#");
    p.query = first(target, query_n);
    p.fragment = sj_slice_from(target, query_n);
    return p;
}

sj_slice sj_http_path(sj_slice raw_target) {
    return split(raw_target).path;
}

static sj_slice without_v1(sj_slice path) {
    const sj_slice v1 = SJ_SLICE("/v1");
    bool leads = sj_slice_starts(path, v1) && (path.n == v1.n || path.p[v1.n] == '/');
    return leads ? sj_slice_from(path, v1.n) : path;
}

static bool add_query(sj_slice query, sj_slice extra, sj_buffer *out) {
    if (!sj_buffer_add(out, query))
        return false;
    if (extra.n == 0)
        return true;
    const char *joint = query.n == 0 ? "?" : "&";
    if (query.n && (query.p[query.n - 1] == '?' || query.p[query.n - 1] == '&'))
        joint = "";
    return sj_buffer_text(out, joint) && sj_buffer_add(out, extra);
}

bool sj_http_upstream_target(sj_slice base_path, sj_slice raw_target, sj_slice extra_query, sj_buffer *out) {
    parts p = split(raw_target);
    if (sj_slice_equal(p.path, SJ_SLICE("*")))
        return sj_buffer_text(out, "*");
    sj_slice path = base_path.n ? without_v1(p.path) : p.path;
    size_t start = out->n;
    if (sj_buffer_add(out, base_path) && sj_buffer_add(out, path) && add_query(p.query, extra_query, out) &&
        sj_buffer_add(out, p.fragment))
        return true;
    out->n = start;
    return false;
}

// ---- which requests generate --------------------------------------------------------------------------------------

static sj_slice pop_segment(sj_slice *path) {
    size_t n = path->n;
    while (n && path->p[n - 1] != '/')
        n--;
    sj_slice segment = sj_slice_from(*path, n);
    *path = first(*path, n ? n - 1 : 0);
    return segment;
}

static bool is_segment_of(sj_slice segment, const char *const *names) {
    for (; *names; names++) {
        if (sj_slice_equal(segment, sj_slice_of(*names)))
            return true;
    }
    return false;
}

bool sj_http_is_generation(sj_slice method, sj_slice path) {
    static const char *const last[] = {"completions", "embeddings", "moderations",
                                       "messages",    "responses",  NULL};
    static const char *const family[] = {"images", "audio", NULL};
    while (path.n && path.p[path.n - 1] == '/')
        path.n--;
    if (path.n == 0 || !sj_slice_equal(method, SJ_SLICE("POST")))
        return false;
    sj_slice segment = pop_segment(&path), prefix = path;
    bool fits = is_segment_of(segment, last) || is_segment_of(pop_segment(&path), family);
    // threads/{id}/messages stores a message: repeating it would store two.
    while (fits && prefix.n)
        fits = !sj_slice_equal(pop_segment(&prefix), SJ_SLICE("threads"));
    return fits;
}
