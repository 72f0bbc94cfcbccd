// What curl is told to send: the constant options of a pooled handle, and what changes from request to request.
#include "upstream_private.h"

#include "http_rules.h"

#include <assert.h>
#include <stdlib.h>

enum {
    MAX_METHOD = 64,
    MAX_TARGET = 64 * 1024,
    MAX_TEXT = SJ_HEADERS_MAX_BYTES + SJ_HEADERS_MAX_COUNT * 8 + 256 * 1024,
    SMALL_EDITED_BODY = 60 * 1024, // sent in one go with the head, as curl does below 64 KiB
    LARGE_TEXT = 32 * 1024, // not kept for the next attempt
    RECEIVE_BUFFER = 16 * 1024,
};

static size_t on_read(char *out, size_t size, size_t count, void *user) {
    sj_carrier *carrier = user;
    assert(carrier->magic == SJ_CARRIER_MAGIC);
    if (!carrier->attempt || carrier->attempt->state != SJ_ATTEMPT_RUNNING)
        return CURL_READFUNC_ABORT;
    return sj_body_cursor_read(&carrier->cursor, out, size * count);
}

static int on_seek(void *user, curl_off_t offset, int origin) {
    sj_carrier *carrier = user;
    assert(carrier->magic == SJ_CARRIER_MAGIC);
    bool ok = origin == SEEK_SET && offset >= 0 && sj_body_cursor_seek(&carrier->cursor, (uint64_t)offset);
    return ok ? CURL_SEEKFUNC_OK : CURL_SEEKFUNC_FAIL;
}

typedef struct constant_option {
    CURLoption option;
    long value;
} constant_option;

static const constant_option CONSTANT_OPTIONS[] = {
    {CURLOPT_NOSIGNAL, 1},
    {CURLOPT_NOPROGRESS, 1},
    {CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1}, // one paused HTTP/2 stream can stall its whole connection
    {CURLOPT_HTTP09_ALLOWED, 0},
    {CURLOPT_PATH_AS_IS, 1},
    {CURLOPT_FOLLOWLOCATION, 0},
    {CURLOPT_SUPPRESS_CONNECT_HEADERS, 1},
    {CURLOPT_BUFFERSIZE, RECEIVE_BUFFER},
    {CURLOPT_TCP_NODELAY, 1},
    {CURLOPT_TCP_KEEPALIVE, 1}, // a model may think for minutes behind a NAT
    {CURLOPT_TCP_KEEPIDLE, 60},
    {CURLOPT_TCP_KEEPINTVL, 30},
    {CURLOPT_QUICK_EXIT, 1}, // else a slow getaddrinfo blocks the loop when its transfer is removed
    {CURLOPT_DNS_CACHE_TIMEOUT, 300},
    {CURLOPT_MAXAGE_CONN, 50}, // below the keep-alive times of the upstreams
    {CURLOPT_MAXLIFETIME_CONN, 600},
    {CURLOPT_TIMEOUT_MS, 0}, // the exchange has its own timers
};

typedef struct constant_pointer {
    CURLoption option;
    const void *value;
} constant_pointer;

static bool set_constants(sj_carrier *carrier) {
    CURL *easy = carrier->easy;
    const constant_pointer pointers[] = {
        {CURLOPT_PROTOCOLS_STR, "http,https"},
        {CURLOPT_PROXY, ""}, // empty ones of ours, else curl reads the environment's
        {CURLOPT_NOPROXY, ""},
        {CURLOPT_CAPATH,
         NULL}, // with Debian's default directory curl would parse the CA bundle anew for every connection
        {CURLOPT_SHARE, carrier->upstream->share},
        {CURLOPT_ERRORBUFFER, carrier->error},
        {CURLOPT_PRIVATE, carrier},
        {CURLOPT_WRITEDATA, carrier},
        {CURLOPT_HEADERDATA, carrier},
        {CURLOPT_READDATA, carrier},
        {CURLOPT_SEEKDATA, carrier},
        {CURLOPT_PREREQDATA, carrier},
        {CURLOPT_CURLU, carrier->parsed_url},
    };
    CURLcode bad = CURLE_OK;
    for (size_t i = 0; i < sizeof CONSTANT_OPTIONS / sizeof CONSTANT_OPTIONS[0]; i++)
        bad |= curl_easy_setopt(easy, CONSTANT_OPTIONS[i].option, CONSTANT_OPTIONS[i].value);
    for (size_t i = 0; i < sizeof pointers / sizeof pointers[0]; i++)
        bad |= curl_easy_setopt(easy, pointers[i].option, pointers[i].value);
    bad |= curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, sj_answer_on_body);
    bad |= curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, sj_answer_on_header);
    bad |= curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, sj_answer_on_request);
    bad |= curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
    bad |= curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_seek);
    sj_carrier_set_socket_options(carrier);
    return bad == CURLE_OK;
}

sj_carrier *sj_carrier_new(sj_upstream *upstream) {
    sj_carrier *carrier = calloc(1, sizeof *carrier);
    if (!carrier)
        return NULL;
    carrier->magic = SJ_CARRIER_MAGIC;
    carrier->upstream = upstream;
    carrier->text = sj_buffer_with_max(MAX_TEXT);
    sj_headers_init(&carrier->head);
    sj_headers_init(&carrier->trailers);
    carrier->easy = curl_easy_init();
    carrier->parsed_url = curl_url();
    if (carrier->easy && carrier->parsed_url && set_constants(carrier))
        return carrier;
    sj_carrier_free(carrier);
    return NULL;
}

void sj_carrier_free(sj_carrier *carrier) {
    curl_easy_cleanup(carrier->easy);
    curl_url_cleanup(carrier->parsed_url);
    sj_buffer_free(&carrier->text);
    sj_headers_free(&carrier->head);
    sj_headers_free(&carrier->trailers);
    free(carrier->url);
    free(carrier->method);
    free(carrier->ca_file);
    free(carrier->proxy);
    carrier->magic = 0;
    free(carrier);
}

static bool is_target(sj_slice text) {
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];
        if (c <= ' ' || c == 0x7f)
            return false;
    }
    return text.n > 0 && text.n <= MAX_TARGET;
}

static bool is_value(sj_slice text) {
    return text.n == 0 ||
           (!memchr(text.p, '\r', text.n) && !memchr(text.p, '\n', text.n) && !memchr(text.p, '\0', text.n));
}

// A NUL-terminated text of three parts at the end of the carrier's buffer.
static bool add_text(sj_carrier *carrier, sj_slice a, sj_slice b, sj_slice c) {
    return sj_buffer_add(&carrier->text, a) && sj_buffer_add(&carrier->text, b) &&
           sj_buffer_add(&carrier->text, c) && sj_buffer_append(&carrier->text, "", 1);
}

// Fields that are the library's, or that would change the framing it chose. Expect would stall the upload for a second.
static bool is_ours(sj_slice name) {
    static const char *const OURS[] = {"Host", "Content-Length", "Transfer-Encoding", "Expect"};
    for (size_t i = 0; i < sizeof OURS / sizeof OURS[0]; i++) {
        if (sj_slice_equal_nocase(name, sj_slice_of(OURS[i])))
            return true;
    }
    return false;
}

static bool add_line(sj_buffer *text, sj_slice name, sj_slice value) {
    if (!sj_buffer_reserve(text, name.n + value.n + 4))
        return false;
    char *to = mempcpy(text->p + text->n, name.p, name.n);
    to = mempcpy(to, ": ", value.n ? 2 : 1);
    if (value.n)
        to = mempcpy(to, value.p, value.n);
    to = mempcpy(to, "\r\n", 2);
    text->n = (size_t)(to - text->p);
    return true;
}

// All fields as one entry of curl's list, line ends and all: curl walks its list for each field that it might add of its own accord, which cost
// 4 % of a request's instructions.
static bool add_fields(sj_buffer *text, const sj_headers *headers) {
    size_t count = 0, start = text->n;
    for (size_t i = 0; i < headers->count; i++) {
        sj_header header = sj_headers_at(headers, i);
        sj_slice value = sj_slice_trim(header.value);
        if (!sj_http_is_token(header.name) || !is_value(value))
            return false;
        if (is_ours(header.name))
            continue;
        if (!add_line(text, header.name, value))
            return false;
        count++;
    }
    if (text->n > start)
        text->n -= 2; // curl ends the last one
    // In curl's language "Name:" alone means "not this one", and "Name;" an empty one.
    if (count == 1 && memchr(text->p + start, ':', text->n - start) == text->p + text->n - 1)
        text->p[text->n - 1] = ';';
    return sj_buffer_append(text, "", 1);
}

// The list curl reads. It sends no field of its own accord that is named here, nor where the client had none.
static struct curl_slist *link_lines(sj_carrier *carrier, char *fields) {
    static char suppressed[][16] = {"Expect:", "Accept:", "User-Agent:", "Content-Type:"};
    enum { SUPPRESSED = sizeof suppressed / sizeof suppressed[0] };
    _Static_assert(SUPPRESSED + 1 == SJ_CARRIER_LINES, "and the fields");
    for (size_t i = 0; i < SUPPRESSED; i++)
        carrier->lines[i] = (struct curl_slist){.data = suppressed[i], .next = &carrier->lines[i + 1]};
    carrier->lines[SUPPRESSED] = (struct curl_slist){.data = fields};
    if (*fields == '\0')
        carrier->lines[SUPPRESSED - 1].next = NULL;
    return carrier->lines;
}

static bool same_text(const char *a, const char *b) {
    return a == b || (a && b && strcmp(a, b) == 0);
}

// Sets a text when it differs from what the handle has, of which *kept is our copy.
static bool set_text(CURL *easy, CURLoption option, char **kept, const char *wanted, const char *otherwise) {
    if (same_text(wanted, *kept))
        return true;
    char *copy = wanted ? strdup(wanted) : NULL;
    if (wanted && !copy)
        return false;
    free(*kept);
    *kept = copy;
    return curl_easy_setopt(easy, option, wanted ? wanted : otherwise) == CURLE_OK;
}

// Parsed when it changes, which is seldom; from CURLOPT_URL alone curl would do it for every transfer.
static bool set_url(sj_carrier *carrier, const char *url) {
    if (same_text(url, carrier->url))
        return true;
    return curl_url_set(carrier->parsed_url, CURLUPART_URL, url,
                        CURLU_NON_SUPPORT_SCHEME | CURLU_PATH_AS_IS) == CURLUE_OK &&
           set_text(carrier->easy, CURLOPT_URL, &carrier->url, url, NULL);
}

// What was added to the text, as places in it: the text moves while it grows.
typedef struct layout {
    size_t target, url, fields, body, body_n;
} layout;

// A proxy for plain http wants the whole URL as the target, which curl takes from the URL alone.
static bool wants_url_target(const sj_attempt_spec *spec) {
    return spec->proxy && strncasecmp(spec->origin, "http://", 7) == 0;
}

static bool add_edited_body(sj_carrier *carrier, layout *places) {
    char part[4096];
    places->body = carrier->text.n;
    for (;;) {
        size_t n = sj_body_cursor_read(&carrier->cursor, part, sizeof part);
        if (n == 0)
            break;
        if (!sj_buffer_append(&carrier->text, part, n))
            return false;
    }
    places->body_n = carrier->text.n - places->body;
    return true;
}

static bool is_small_edited(const sj_body_cursor *cursor) {
    return cursor->edit_count > 0 && sj_body_cursor_size(cursor) <= SMALL_EDITED_BODY;
}

static bool lay_out(sj_carrier *carrier, const sj_attempt_spec *spec, layout *places) {
    const sj_slice nothing = {NULL, 0};
    *places = (layout){0};
    sj_buffer_clear(&carrier->text);
    if (!sj_http_is_token(spec->method) || spec->method.n > MAX_METHOD || !is_target(spec->target))
        return false;
    if (!add_text(carrier, spec->method, nothing, nothing))
        return false;
    places->target = carrier->text.n;
    if (!add_text(carrier, spec->target, nothing, nothing))
        return false;
    places->url = carrier->text.n;
    if (wants_url_target(spec) && !add_text(carrier, sj_slice_of(spec->origin), spec->target, nothing))
        return false;
    places->fields = carrier->text.n;
    if (!add_fields(&carrier->text, spec->headers))
        return false;
    return !spec->body || !is_small_edited(spec->body) || add_edited_body(carrier, places);
}

static bool wants_length_zero(sj_slice method) {
    static const char *const METHODS[] = {"POST", "PUT", "PATCH"};
    for (size_t i = 0; i < sizeof METHODS / sizeof METHODS[0]; i++) {
        if (sj_slice_equal(method, sj_slice_of(METHODS[i])))
            return true;
    }
    return false;
}

// curl decides by its own idea of the method whether there is a body; the word on the wire is CUSTOMREQUEST's.
static bool set_body(sj_carrier *carrier, const sj_attempt_spec *spec, const layout *places) {
    CURL *easy = carrier->easy;
    bool head = sj_slice_equal(spec->method, SJ_SLICE("HEAD"));
    bool ok = curl_easy_setopt(easy, CURLOPT_NOBODY, head ? 1L : 0L) == CURLE_OK;
    if (head != carrier->forbid_reuse) {
        // An upstream that answers HEAD with a body would leave it in front of the next answer.
        carrier->forbid_reuse = head;
        ok = ok && curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, head ? 1L : 0L) == CURLE_OK;
    }
    if (head)
        return ok;
    if (!spec->body && !wants_length_zero(spec->method))
        return ok && curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L) == CURLE_OK;
    const char *fields = "";
    curl_off_t size = 0;
    if (spec->body && is_small_edited(spec->body)) {
        fields = carrier->text.p + places->body;
        size = (curl_off_t)places->body_n;
    } else if (spec->body) {
        size = (curl_off_t)sj_body_cursor_size(spec->body);
        if (size > 0)
            fields = spec->body->edit_count ? NULL : spec->body->bytes.p;
    }
    return ok && curl_easy_setopt(easy, CURLOPT_POSTFIELDS, fields) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, size) == CURLE_OK;
}

static bool set_connection(sj_carrier *carrier, const sj_attempt_spec *spec) {
    CURL *easy = carrier->easy;
    bool ok = true;
    if (spec->connect_timeout_ms != carrier->connect_timeout_ms) {
        carrier->connect_timeout_ms = spec->connect_timeout_ms;
        long timeout_ms = spec->connect_timeout_ms > 0 ? (long)spec->connect_timeout_ms : 1;
        ok = curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, timeout_ms) == CURLE_OK;
    }
    if (spec->fresh != carrier->fresh) {
        carrier->fresh = spec->fresh;
        ok = ok && curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, spec->fresh ? 1L : 0L) == CURLE_OK;
    }
    if (!same_text(spec->ca_file, carrier->ca_file))
        ok = ok && set_text(easy, CURLOPT_CAINFO, &carrier->ca_file, spec->ca_file,
                            curl_version_info(CURLVERSION_NOW)->cainfo);
    return ok && set_text(easy, CURLOPT_PROXY, &carrier->proxy, spec->proxy, "");
}

bool sj_carrier_load(sj_carrier *carrier, const sj_attempt_spec *spec) {
    layout places;
    if (spec->body)
        carrier->cursor = *spec->body;
    carrier->cursor.at = 0;
    if (!lay_out(carrier, spec, &places))
        return false;
    struct curl_slist *lines = link_lines(carrier, carrier->text.p + places.fields);
    carrier->cursor.at = 0;
    bool url_target = wants_url_target(spec);
    const char *url = url_target ? carrier->text.p + places.url : spec->origin;
    const char *target = url_target ? NULL : carrier->text.p + places.target;
    CURL *easy = carrier->easy;
    return set_url(carrier, url) &&
           set_text(easy, CURLOPT_CUSTOMREQUEST, &carrier->method, carrier->text.p, NULL) &&
           curl_easy_setopt(easy, CURLOPT_REQUEST_TARGET, target) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_HTTPHEADER, lines) == CURLE_OK && set_connection(carrier, spec) &&
           set_body(carrier, spec, &places);
}

void sj_carrier_unload(sj_carrier *carrier) {
    carrier->attempt = NULL;
    carrier->cursor = (sj_body_cursor){0};
    sj_headers_clear(&carrier->head);
    sj_headers_clear(&carrier->trailers);
    if (carrier->text.cap > LARGE_TEXT)
        sj_buffer_free(&carrier->text);
}
