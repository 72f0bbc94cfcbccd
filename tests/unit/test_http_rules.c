#include "http_rules.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define COUNT(list) (sizeof(list) / sizeof *(list))

typedef struct field {
    const char *name, *value;
} field;

static void add_fields(sj_headers *headers, const field *fields, size_t count) {
    for (size_t i = 0; i < count && fields[i].name; i++)
        assert_true(sj_headers_add(headers, sj_slice_of(fields[i].name), sj_slice_of(fields[i].value)));
}

static sj_http_fault check_slices(sj_slice method, sj_slice target, sj_slice version, const field *fields,
                                  size_t count) {
    sj_headers headers;
    sj_headers_init(&headers);
    add_fields(&headers, fields, count);
    sj_http_fault fault = sj_http_check_request(method, target, version, &headers);
    sj_headers_free(&headers);
    assert_true((fault.status == 0) == (fault.message == NULL));
    return fault;
}

static int check(const char *method, const char *target, const char *version, const field *fields,
                 size_t count) {
    return check_slices(sj_slice_of(method), sj_slice_of(target), sj_slice_of(version), fields, count).status;
}

static const field host[] = {{"Host", "localhost:8080"}};

static void test_method(void **state) {
    (void)state;
    static const struct {
        const char *method;
        int status;
    } rows[] = {
        {"GET", 0},
        {"POST", 0},
        {"PATCH", 0},
        {"M-SEARCH", 0},
        {"connect", 0}, // methods are case-sensitive: this is an unknown one, and passed on
        {"GET!#$%&'*+-.^_`|~09az", 0},
        {"CONNECT", 501},
        {"", 400},
        {"G ET", 400},
        {"GET\t", 400},
        {"GET\r", 400},
        {"GE(T", 400},
        {"GET:", 400},
        {"G\x7fT", 400},
        {"G\xc3\xa4T", 400},
        {"{GET}", 400},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        if (check(rows[i].method, "/v1/models", "HTTP/1.1", host, 1) != rows[i].status)
            fail_msg("\"%s\"", rows[i].method);
    }
    assert_int_equal(check("CONNECT", "example.com:443", "HTTP/1.1", host, 1), 501);
    assert_int_equal(
        check_slices((sj_slice){"GE\0T", 4}, SJ_SLICE("/"), SJ_SLICE("HTTP/1.1"), host, 1).status, 400);
}

static void test_target(void **state) {
    (void)state;
    static const struct {
        const char *target;
        int status;
    } rows[] = {
        {"/", 0},
        {"/v1/chat/completions", 0},
        {"/v1/x?a=b&c=%20d", 0},
        {"/v1/a#b?c", 0},
        {"/v1/%2e%2e/%00", 0},
        {"//v1//x", 0},
        {"/v1/\xc3\xa4", 0},
        {"/v1/{x}|\"<>\\^`", 0},
        {"http://other/v1/x?y", 0},
        {"HTTP://OTHER:80", 0},
        {"https://other?x", 0},
        {"", 400},
        {"*", 400}, // only for OPTIONS
        {"v1/x", 400},
        {"?x", 400},
        {"#x", 400},
        {"@other/", 400},
        {"other:443", 400},
        {"ftp://other/x", 400},
        {"http:/other", 400},
        {"http://", 400},
        {"http:///v1/x", 400},
        {"http://?x", 400},
        {"/v1/a b", 400},
        {" /v1", 400},
        {"/v1 ", 400},
        {"/v1\t", 400},
        {"/v1\r\nX: y", 400},
        {"/v1\x01", 400},
        {"/v1\x7f", 400},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        if (check("GET", rows[i].target, "HTTP/1.1", host, 1) != rows[i].status)
            fail_msg("\"%s\"", rows[i].target);
    }
    assert_int_equal(check("OPTIONS", "*", "HTTP/1.1", host, 1), 0);
    assert_int_equal(check("OPTIONS", "**", "HTTP/1.1", host, 1), 400);
    assert_int_equal(check("OPTIONS", "/v1", "HTTP/1.1", host, 1), 0);
    assert_int_equal(
        check_slices(SJ_SLICE("GET"), (sj_slice){"/a\0b", 4}, SJ_SLICE("HTTP/1.1"), host, 1).status, 400);
}

static void test_version(void **state) {
    (void)state;
    assert_int_equal(check("GET", "/", "HTTP/1.1", host, 1), 0);
    assert_int_equal(check("GET", "/", "HTTP/1.0", host, 1), 0);
    assert_int_equal(check("GET", "/", "HTTP/1.2", host, 1), 0);
    static const char *const odd[] = {"",          "HTTP/2.0", "HTTP/0.9", "HTTP/1.",
                                      "HTTP/1.10", "http/1.1", "HTTP/1.x", "XTTP/1.1"};
    for (size_t i = 0; i < COUNT(odd); i++)
        assert_int_equal(check("GET", "/", odd[i], host, 1), 400);
}

typedef struct row {
    const char *what;
    int on_1_1, on_1_0; // status by version; on_1_0 < 0: the same
    field fields[4];
} row;

static void check_rows(const row *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        int wanted_1_0 = rows[i].on_1_0 < 0 ? rows[i].on_1_1 : rows[i].on_1_0;
        int on_1_1 = check("POST", "/v1/chat/completions", "HTTP/1.1", rows[i].fields, COUNT(rows[i].fields));
        int on_1_0 = check("POST", "/v1/chat/completions", "HTTP/1.0", rows[i].fields, COUNT(rows[i].fields));
        if (on_1_1 != rows[i].on_1_1 || on_1_0 != wanted_1_0)
            fail_msg("%s: %d, on HTTP/1.0 %d", rows[i].what, on_1_1, on_1_0);
    }
}

#define HOST                                                                                                 \
    { "Host", "h" }

static void test_host(void **state) {
    (void)state;
    static const row rows[] = {
        {"missing", 400, 0, {{"Accept", "*/*"}}},
        {"none at all", 400, 0, {{0}}},
        {"name", 0, -1, {{"Host", "localhost"}}},
        {"name and port", 0, -1, {{"host", "localhost:8080"}}},
        {"IPv6", 0, -1, {{"HOST", "[::1]:8080"}}},
        {"underscore", 0, -1, {{"Host", "my_service.default"}}},
        {"percent", 0, -1, {{"Host", "a%41"}}},
        {"empty is legal (RFC 9112 3.2)", 0, -1, {{"Host", ""}}},
        {"two", 400, -1, {{"Host", "a"}, {"Host", "b"}}},
        {"two equal ones", 400, -1, {{"Host", "a"}, {"host", "a"}}},
        {"list", 400, -1, {{"Host", "a,b"}}},
        {"space", 400, -1, {{"Host", "a b"}}},
        {"trailing space", 400, -1, {{"Host", "a "}}},
        {"tab", 400, -1, {{"Host", "a\tb"}}},
        {"path", 400, -1, {{"Host", "a/b"}}},
        {"URL", 400, -1, {{"Host", "http://a"}}},
        {"userinfo", 400, -1, {{"Host", "a@b"}}},
        {"query", 400, -1, {{"Host", "a?b"}}},
        {"fragment", 400, -1, {{"Host", "a#b"}}},
        {"backslash", 400, -1, {{"Host", "a\\b"}}},
        {"folded: glued to the name", 400, 0, {{"Hostevil", "a"}}},
    };
    check_rows(rows, COUNT(rows));
}

static void test_names_and_values(void **state) {
    (void)state;
    static const row rows[] = {
        {"all token characters", 0, -1, {HOST, {"!#$%&'*+-.^_`|~09azAZ", "x"}}},
        {"empty value", 0, -1, {HOST, {"X-A", ""}}},
        {"tab and high bytes in a value", 0, -1, {HOST, {"X-A", "a\tb\xc3\xa4\xff"}}},
        {"quotes, commas and colons in a value", 0, -1, {HOST, {"X-A", "\"a,b\":c;(d)"}}},
        {"empty name", 400, -1, {HOST, {"", "x"}}},
        {"space before the colon", 400, -1, {HOST, {"X-A ", "x"}}},
        {"tab before the colon", 400, -1, {HOST, {"X-A\t", "x"}}},
        {"leading space", 400, -1, {HOST, {" X-A", "x"}}},
        {"space inside", 400, -1, {HOST, {"X A", "x"}}},
        {"line break in the name", 400, -1, {HOST, {"X-A\r\n B", "x"}}},
        {"control in the name", 400, -1, {HOST, {"X-A\x01", "x"}}},
        {"vertical tab in the name", 400, -1, {HOST, {"\x0bTransfer-Encoding", "chunked"}}},
        {"high byte in the name", 400, -1, {HOST, {"X-\xc3\xa4", "x"}}},
        {"parenthesis in the name", 400, -1, {HOST, {"X(A)", "x"}}},
        {"slash in the name", 400, -1, {HOST, {"X/A", "x"}}},
        {"CRLF in a value", 400, -1, {HOST, {"X-A", "a\r\nX-B: c"}}},
        {"obs-fold in a value", 400, -1, {HOST, {"X-A", "a\r\n b"}}},
        {"bare LF in a value", 400, -1, {HOST, {"X-A", "a\nb"}}},
        {"bare CR in a value", 400, -1, {HOST, {"X-A", "a\rb"}}},
        {"BEL in a value", 400, -1, {HOST, {"X-A", "a\x07"}}},
        {"DEL in a value", 400, -1, {HOST, {"X-A", "a\x7f"}}},
        {"escape in a value", 400, -1, {HOST, {"X-A", "\x1b[2J"}}},
    };
    check_rows(rows, COUNT(rows));
}

static void test_nul_in_a_field(void **state) {
    (void)state;
    sj_headers headers;
    sj_headers_init(&headers);
    assert_true(sj_headers_add(&headers, SJ_SLICE("Host"), SJ_SLICE("h")));
    assert_true(sj_headers_add(&headers, SJ_SLICE("X-A"), (sj_slice){"a\0b", 3}));
    sj_slice get = SJ_SLICE("GET"), root = SJ_SLICE("/"), version = SJ_SLICE("HTTP/1.1");
    assert_int_equal(sj_http_check_request(get, root, version, &headers).status, 400);
    sj_headers_clear(&headers);
    assert_true(sj_headers_add(&headers, SJ_SLICE("Host"), SJ_SLICE("h")));
    assert_int_equal(sj_http_check_request(get, root, version, &headers).status, 0);
    assert_true(sj_headers_add(&headers, (sj_slice){"X\0A", 3}, SJ_SLICE("a")));
    assert_int_equal(sj_http_check_request(get, root, version, &headers).status, 400);
    sj_headers_free(&headers);
}

static void test_content_length(void **state) {
    (void)state;
    static const row rows[] = {
        {"zero", 0, -1, {HOST, {"Content-Length", "0"}}},
        {"a number", 0, -1, {HOST, {"content-length", "1234567890"}}},
        {"leading zeros", 0, -1, {HOST, {"Content-Length", "007"}}},
        {"18 digits", 0, -1, {HOST, {"Content-Length", "999999999999999999"}}},
        {"19 digits", 400, -1, {HOST, {"Content-Length", "1000000000000000000"}}},
        {"wraps 64 bits to 5", 400, -1, {HOST, {"Content-Length", "18446744073709551621"}}},
        {"empty", 400, -1, {HOST, {"Content-Length", ""}}},
        {"plus", 400, -1, {HOST, {"Content-Length", "+5"}}},
        {"minus", 400, -1, {HOST, {"Content-Length", "-5"}}},
        {"hex", 400, -1, {HOST, {"Content-Length", "0x5"}}},
        {"fraction", 400, -1, {HOST, {"Content-Length", "5.0"}}},
        {"exponent", 400, -1, {HOST, {"Content-Length", "1e3"}}},
        {"underscore", 400, -1, {HOST, {"Content-Length", "1_000"}}},
        {"inner space", 400, -1, {HOST, {"Content-Length", "5 6"}}},
        {"trailing space", 400, -1, {HOST, {"Content-Length", "5 "}}},
        {"list", 400, -1, {HOST, {"Content-Length", "5, 6"}}},
        {"list of equals", 400, -1, {HOST, {"Content-Length", "5, 5"}}},
        {"quoted", 400, -1, {HOST, {"Content-Length", "\"5\""}}},
        {"chunked", 400, -1, {HOST, {"Content-Length", "chunked"}}},
        {"two different", 400, -1, {HOST, {"Content-Length", "5"}, {"Content-Length", "6"}}},
        {"two equal", 400, -1, {HOST, {"Content-Length", "5"}, {"CONTENT-LENGTH", "5"}}},
        {"two, one empty", 400, -1, {HOST, {"Content-Length", "5"}, {"Content-Length", ""}}},
        {"space before the colon", 400, -1, {HOST, {"Content-Length ", "5"}}},
        {"folded: glued to the name", 400, -1, {HOST, {"Content-Length0", "5"}}},
        {"folded: beside a whole one", 400, -1, {HOST, {"Content-Length", "5"}, {"content-length6", "1"}}},
        {"longer name", 400, -1, {HOST, {"Content-Length-X", "5"}}},
        {"shorter name is another field", 0, -1, {HOST, {"Content-Lengt", "5, x"}}},
        {"underscore is another field", 0, -1, {HOST, {"Content_Length", "x"}}},
    };
    check_rows(rows, COUNT(rows));
}

static void test_transfer_encoding(void **state) {
    (void)state;
    static const row rows[] = {
        {"chunked", 0, 400, {HOST, {"Transfer-Encoding", "chunked"}}},
        {"any case", 0, 400, {HOST, {"transfer-encoding", "ChUnKeD"}}},
        {"with Content-Length", 400, -1, {HOST, {"Transfer-Encoding", "chunked"}, {"Content-Length", "5"}}},
        {"Content-Length first", 400, -1, {HOST, {"Content-Length", "5"}, {"Transfer-Encoding", "chunked"}}},
        {"other coding with Content-Length",
         400,
         -1,
         {HOST, {"Content-Length", "5"}, {"Transfer-Encoding", "gzip"}}},
        {"gzip, chunked", 501, 400, {HOST, {"Transfer-Encoding", "gzip, chunked"}}},
        {"gzip in a field of its own",
         501,
         400,
         {HOST, {"Transfer-Encoding", "gzip"}, {"Transfer-Encoding", "chunked"}}},
        {"gzip alone", 501, 400, {HOST, {"Transfer-Encoding", "gzip"}}},
        {"with a parameter", 501, 400, {HOST, {"Transfer-Encoding", "gzip;q=1, chunked"}}},
        {"chunked, gzip", 501, 400, {HOST, {"Transfer-Encoding", "chunked, gzip"}}},
        {"chunked, identity", 501, 400, {HOST, {"Transfer-Encoding", "chunked, identity"}}},
        {"identity", 501, 400, {HOST, {"Transfer-Encoding", "identity"}}},
        {"xchunked", 501, 400, {HOST, {"Transfer-Encoding", "xchunked"}}},
        {"chunkedx", 501, 400, {HOST, {"Transfer-Encoding", "chunkedx"}}},
        {"chunked twice", 400, -1, {HOST, {"Transfer-Encoding", "chunked, chunked"}}},
        {"two fields", 400, -1, {HOST, {"Transfer-Encoding", "chunked"}, {"Transfer-Encoding", "chunked"}}},
        {"two fields, one empty",
         400,
         -1,
         {HOST, {"Transfer-Encoding", "chunked"}, {"Transfer-Encoding", ""}}},
        {"empty", 400, -1, {HOST, {"Transfer-Encoding", ""}}},
        {"only a comma", 400, -1, {HOST, {"Transfer-Encoding", ","}}},
        {"leading comma", 400, -1, {HOST, {"Transfer-Encoding", ", chunked"}}},
        {"trailing comma", 400, -1, {HOST, {"Transfer-Encoding", "chunked,"}}},
        {"trailing space", 400, -1, {HOST, {"Transfer-Encoding", "chunked "}}},
        {"trailing tab", 400, -1, {HOST, {"Transfer-Encoding", "chunked\t"}}},
        {"a parameter of chunked", 400, -1, {HOST, {"Transfer-Encoding", "chunked;x=1"}}},
        {"quoted", 400, -1, {HOST, {"Transfer-Encoding", "\"chunked\""}}},
        {"inner space", 400, -1, {HOST, {"Transfer-Encoding", "chu nked"}}},
        {"control",
         400,
         -1,
         {HOST,
          {"Transfer-Encoding", "\x0b"
                                "chunked"}}},
        {"space before the colon", 400, -1, {HOST, {"Transfer-Encoding ", "chunked"}}},
        {"folded: glued to the name", 400, -1, {HOST, {"Transfer-Encodingchunked", ""}}},
        {"folded: with a comma", 400, -1, {HOST, {"Transfer-Encoding, x", "chunked"}}},
        {"longer name", 400, -1, {HOST, {"transfer-encoding-x", "chunked"}, {"Content-Length", "5"}}},
        {"underscore is another field", 0, -1, {HOST, {"Transfer_Encoding", "x"}}},
        {"TE is another field", 0, -1, {HOST, {"TE", "trailers"}}},
    };
    check_rows(rows, COUNT(rows));
}

static void test_upgrade(void **state) {
    (void)state;
    static const row rows[] = {
        {"WebSocket", 501, -1, {HOST, {"Connection", "Upgrade"}, {"Upgrade", "websocket"}}},
        {"any case", 501, -1, {HOST, {"Connection", "upgrade"}, {"upgrade", "WebSocket"}}},
        {"with a version", 501, -1, {HOST, {"Upgrade", "websocket/13"}}},
        {"among others", 501, -1, {HOST, {"Upgrade", "h2c, websocket"}}},
        {"in a second field", 501, -1, {HOST, {"Upgrade", "h2c"}, {"Upgrade", "websocket"}}},
        {"without Connection", 501, -1, {HOST, {"Upgrade", "websocket"}}},
        {"h2c offer of a Java client",
         0,
         -1,
         {HOST,
          {"Connection", "Upgrade, HTTP2-Settings"},
          {"Upgrade", "h2c"},
          {"HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA"}}},
        {"TLS offer", 0, -1, {HOST, {"Connection", "Upgrade"}, {"Upgrade", "TLS/1.0"}}},
        {"empty", 0, -1, {HOST, {"Upgrade", ""}}},
        {"a longer name", 0, -1, {HOST, {"Upgrade", "websockets"}}},
        {"the word in another field", 0, -1, {HOST, {"X-Note", "websocket"}, {"Connection", "websocket"}}},
        {"keep-alive", 0, -1, {HOST, {"Connection", "keep-alive"}}},
    };
    check_rows(rows, COUNT(rows));
}

static void test_messages_say_what_to_do(void **state) {
    (void)state;
    field two[] = {{"Host", "a"}, {"Content-Length", "1"}, {"Content-Length", "1"}};
    sj_http_fault fault =
        check_slices(SJ_SLICE("POST"), SJ_SLICE("/"), SJ_SLICE("HTTP/1.1"), two, COUNT(two));
    assert_int_equal(fault.status, 400);
    assert_non_null(strstr(fault.message, "Content-Length"));
    fault = check_slices(SJ_SLICE("CONNECT"), SJ_SLICE("a:1"), SJ_SLICE("HTTP/1.1"), host, 1);
    assert_non_null(strstr(fault.message, "base URL"));
}

static bool hop(const char *name, const char *connection) {
    return sj_http_is_hop_by_hop(sj_slice_of(name), sj_slice_of(connection));
}

static void test_hop_by_hop(void **state) {
    (void)state;
    static const char *const always[] = {"Connection",
                                         "Keep-Alive",
                                         "Proxy-Connection",
                                         "Proxy-Authenticate",
                                         "Proxy-Authorization",
                                         "TE",
                                         "Trailer",
                                         "Transfer-Encoding",
                                         "Upgrade",
                                         "connection",
                                         "TRANSFER-ENCODING"};
    for (size_t i = 0; i < COUNT(always); i++) {
        assert_true(hop(always[i], ""));
        assert_true(hop(always[i], NULL));
    }
    static const char *const never[] = {"Host", "Authorization", "Content-Type", "Content-Encoding",
                                        "Date", "authorization"};
    for (size_t i = 0; i < COUNT(never); i++)
        assert_false(hop(never[i], "host, authorization, content-type, content-encoding, date"));
    assert_false(hop("X-A", ""));
    assert_false(hop("X-A", "close"));
    assert_false(hop("X-A", "X-AB, XX-A, X-"));
    assert_true(hop("X-A", "close, x-a"));
    assert_true(hop("x-a", "X-A"));
    assert_true(hop("X-A", ",,\t X-A ,"));
    assert_true(hop("HTTP2-Settings", "Upgrade, HTTP2-Settings"));
    assert_false(hop("Trailers", ""));
}

static void assert_forwards(bool request, const field *in, size_t in_count, const field *out,
                            size_t out_count) {
    sj_headers from, to;
    sj_headers_init(&from);
    sj_headers_init(&to);
    add_fields(&from, in, in_count);
    assert_true(sj_headers_add(&to, SJ_SLICE("Already"), SJ_SLICE("there")));
    assert_true(request ? sj_http_forward_request(&from, &to) : sj_http_forward_answer(&from, &to));
    assert_int_equal(to.count, out_count + 1);
    assert_string_equal(sj_headers_at(&to, 0).name.p, "Already");
    for (size_t i = 0; i < out_count; i++) {
        assert_string_equal(sj_headers_at(&to, i + 1).name.p, out[i].name);
        assert_string_equal(sj_headers_at(&to, i + 1).value.p, out[i].value);
    }
    sj_headers_free(&from);
    sj_headers_free(&to);
}

static void test_forward_request(void **state) {
    (void)state;
    static const field in[] = {
        {"Host", "localhost"},
        {"Authorization", "Bearer x"},
        {"X-Order", "1"},
        {"Content-Length", "17"},
        {"connection", "keep-alive, X-Private, authorization"},
        {"X-Private", "a"},
        {"Expect", "100-continue"},
        {"x-order", "2"},
        {"TE", "trailers"},
        {"Connection", "x-also-private"},
        {"X-Also-Private", "b"},
        {"X-StormJib-Deadline", "5s"},
        {"x-stormjib-", "odd"},
        {"x-stormjibber", "kept"},
        {"Content-Type", "application/json"},
        {"X-Order", "1"},
        {"User-Agent", "OpenAI/Python 1.0"},
        {"Accept-Encoding", ""},
        {"Transfer-Encoding", "chunked"},
        {"Keep-Alive", "timeout=5"},
        {"Proxy-Authorization", "Basic x"},
    };
    static const field out[] = {
        {"Authorization", "Bearer x"},
        {"X-Order", "1"},
        {"x-order", "2"},
        {"x-stormjibber", "kept"},
        {"Content-Type", "application/json"},
        {"X-Order", "1"},
        {"User-Agent", "OpenAI/Python 1.0"},
        {"Accept-Encoding", ""},
    };
    assert_forwards(true, in, COUNT(in), out, COUNT(out));
}

static void test_forward_answer(void **state) {
    (void)state;
    static const field in[] = {
        {"Date", "Sun, 06 Nov 1994 08:49:37 GMT"},
        {"Server", "cloudflare"},
        {"Content-Length", "17"},
        {"Transfer-Encoding", "chunked"},
        {"Connection", "close, X-Hop, Date"},
        {"x-hop", "gone"},
        {"Set-Cookie", "a=1"},
        {"Set-Cookie", "b=2"},
        {"Content-Encoding", "gzip"},
        {"Trailer", "x"},
        {"x-request-id", "req_1"},
        {"Expect", "kept, it means nothing here"},
        {"x-stormjib-target", "of an inner stormjib"},
    };
    static const field out[] = {
        {"Date", "Sun, 06 Nov 1994 08:49:37 GMT"},
        {"Server", "cloudflare"},
        {"Set-Cookie", "a=1"},
        {"Set-Cookie", "b=2"},
        {"Content-Encoding", "gzip"},
        {"x-request-id", "req_1"},
        {"Expect", "kept, it means nothing here"},
        {"x-stormjib-target", "of an inner stormjib"},
    };
    assert_forwards(false, in, COUNT(in), out, COUNT(out));
}

static void test_forward_says_when_there_is_no_room(void **state) {
    (void)state;
    sj_headers from, to;
    sj_headers_init(&from);
    sj_headers_init(&to);
    for (int i = 0; i < SJ_HEADERS_MAX_COUNT; i++) {
        assert_true(sj_headers_add(&from, SJ_SLICE("a"), SJ_SLICE("b")));
        assert_true(sj_headers_add(&to, SJ_SLICE("a"), SJ_SLICE("b")));
    }
    assert_false(sj_http_forward_request(&from, &to));
    sj_headers_clear(&to);
    assert_true(sj_http_forward_request(&from, &to));
    sj_headers_free(&from);
    sj_headers_free(&to);
}

static void test_path(void **state) {
    (void)state;
    static const struct {
        const char *target, *path;
    } rows[] = {
        {"/v1/x", "/v1/x"},
        {"/v1/x?y=z", "/v1/x"},
        {"/v1/x#y?z", "/v1/x"},
        {"/v1/x?y#z", "/v1/x"},
        {"/?x", "/"},
        {"/", "/"},
        {"", "/"},
        {"*", "*"},
        {"//x", "//x"},
        {"/v1/%3Fx", "/v1/%3Fx"},
        {"/a/../b", "/a/../b"},
        {"http://other/v1/x?y", "/v1/x"},
        {"http://other:80/", "/"},
        {"http://other", "/"},
        {"http://other?x", "/"},
        {"http://other#x", "/"},
        {"HTTPS://user:pass@other/v1", "/v1"},
        {"/http://other/v1", "/http://other/v1"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        sj_slice path = sj_http_path(sj_slice_of(rows[i].target));
        if (!sj_slice_equal(path, sj_slice_of(rows[i].path)))
            fail_msg("\"%s\" gave \"%.*s\"", rows[i].target, (int)path.n, path.p);
    }
    assert_true(sj_slice_equal(sj_http_path((sj_slice){NULL, 0}), SJ_SLICE("/")));
}

static void test_upstream_target(void **state) {
    (void)state;
    static const struct {
        const char *base, *target, *extra, *result;
    } rows[] = {
        // A base path takes the place of the client's /v1 segment ...
        {"/v1", "/v1/chat/completions", "", "/v1/chat/completions"},
        {"/v1beta/openai", "/v1/chat/completions", "", "/v1beta/openai/chat/completions"},
        {"/api/v1", "/v1/models/x", "", "/api/v1/models/x"},
        {"/v1", "/v1", "", "/v1"},
        {"/v1", "/v1/", "", "/v1/"},
        {"/v1beta/openai", "/v1", "", "/v1beta/openai"},
        {"/v1beta/openai", "/v1?x=y", "", "/v1beta/openai?x=y"},
        {"/x", "/v1//chat", "", "/x//chat"},
        {"/x", "/v1/v1/chat", "", "/x/v1/chat"},
        // ... and goes before every other path.
        {"/v1", "/chat/completions", "", "/v1/chat/completions"},
        {"/v1", "/", "", "/v1/"},
        {"/v1", "/v1beta/x", "", "/v1/v1beta/x"},
        {"/v1", "/v10/x", "", "/v1/v10/x"},
        {"/v1", "/v1.1/x", "", "/v1/v1.1/x"},
        {"/v1", "/V1/x", "", "/v1/V1/x"},
        {"/v1", "/%761/x", "", "/v1/%761/x"},
        {"/v1", "/a/v1/x", "", "/v1/a/v1/x"},
        {"/v1", "//v1/x", "", "/v1//v1/x"},
        // Without one the path stays.
        {"", "/v1/chat/completions", "", "/v1/chat/completions"},
        {"", "/v1", "", "/v1"},
        {"", "/openai/deployments/x/chat/completions?api-version=1", "",
         "/openai/deployments/x/chat/completions?api-version=1"},
        {"", "/", "", "/"},
        // Nothing is decoded, cleaned or lost.
        {"/v1", "/v1/models/a%2Fb%20c?d=%26&e", "", "/v1/models/a%2Fb%20c?d=%26&e"},
        {"/v1", "/v1/../x/./y", "", "/v1/../x/./y"},
        {"/v1", "/v1/a?b?c", "", "/v1/a?b?c"},
        {"/v1", "/v1/a?", "", "/v1/a?"},
        {"/v1", "/v1/a#b?c", "", "/v1/a#b?c"},
        {"/v1", "/v1#x", "", "/v1#x"},
        {"/v1", "/v1/\xc3\xa4", "", "/v1/\xc3\xa4"},
        // Absolute form: scheme and authority are ignored.
        {"", "http://other/v1/x?y", "", "/v1/x?y"},
        {"/base", "http://other/v1/x?y", "", "/base/x?y"},
        {"", "http://other", "", "/"},
        {"/v1", "http://other?x", "", "/v1/?x"},
        {"", "https://u:p@other:1/a#b", "", "/a#b"},
        // More query.
        {"/v1", "/v1/x", "a=b&c=d", "/v1/x?a=b&c=d"},
        {"/v1", "/v1/x?y=z", "a=b", "/v1/x?y=z&a=b"},
        {"/v1", "/v1/x?", "a=b", "/v1/x?a=b"},
        {"/v1", "/v1/x?y&", "a=b", "/v1/x?y&a=b"},
        {"/v1", "/v1/x#f", "a=b", "/v1/x?a=b#f"},
        {"/v1", "/v1/x?y#f?g", "a=b", "/v1/x?y&a=b#f?g"},
        {"", "/x", "api-version=2024-10-21", "/x?api-version=2024-10-21"},
        // The server as a whole.
        {"", "*", "", "*"},
        {"/v1", "*", "a=b", "*"},
        {"/v1", "", "", "/v1/"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        sj_buffer out = sj_buffer_with_max(200);
        assert_true(sj_buffer_text(&out, ">"));
        assert_true(sj_http_upstream_target(sj_slice_of(rows[i].base), sj_slice_of(rows[i].target),
                                            sj_slice_of(rows[i].extra), &out));
        sj_slice got = sj_slice_from(sj_buffer_slice(&out), 1);
        if (!sj_slice_equal(got, sj_slice_of(rows[i].result)))
            fail_msg("\"%s\" + \"%s\" gave \"%.*s\"", rows[i].base, rows[i].target, (int)got.n, got.p);
        sj_buffer_free(&out);
    }
}

static void test_upstream_target_without_room_changes_nothing(void **state) {
    (void)state;
    for (size_t max = 0; max < 18; max++) {
        sj_buffer out = sj_buffer_with_max(max);
        bool started = sj_buffer_text(&out, ">");
        size_t before = out.n;
        assert_int_equal(before, started);
        assert_false(
            sj_http_upstream_target(SJ_SLICE("/base"), SJ_SLICE("/v1/abc?d#e"), SJ_SLICE("x=y"), &out));
        assert_int_equal(out.n, before);
        sj_buffer_free(&out);
    }
}

static void test_no_part_is_cut_off_silently(void **state) {
    (void)state;
    static const char *const targets[] = {"/v1/abc?def", "/v1/abc#def", "/v1/abc", "/v1/abc?d#e"};
    for (size_t i = 0; i < COUNT(targets); i++) {
        size_t whole = strlen(targets[i]);
        for (size_t max = 0; max <= whole; max++) {
            sj_buffer out = sj_buffer_with_max(max);
            bool ok = sj_http_upstream_target(SJ_SLICE(""), sj_slice_of(targets[i]), SJ_SLICE(""), &out);
            assert_int_equal(ok, max == whole);
            assert_int_equal(out.n, ok ? whole : 0);
            sj_buffer_free(&out);
        }
    }
}

static void test_is_generation(void **state) {
    (void)state;
    static const struct {
        const char *method, *path;
        bool yes;
    } rows[] = {
        {"POST", "/v1/chat/completions", true},
        {"POST", "/chat/completions", true},
        {"POST", "/v1/completions", true},
        {"POST", "/v1/embeddings", true},
        {"POST", "/v1/moderations", true},
        {"POST", "/v1/responses", true},
        {"POST", "/v1/messages", true},
        {"POST", "/v1/images/generations", true},
        {"POST", "/v1/images/edits", true},
        {"POST", "/v1/images/variations", true},
        {"POST", "/v1/audio/speech", true},
        {"POST", "/v1/audio/transcriptions", true},
        {"POST", "/v1/audio/translations", true},
        {"POST", "/v1/chat/completions/", true},
        {"POST", "/v1/chat/completions///", true},
        {"POST", "/v1beta/openai/chat/completions", true},
        {"POST", "/openai/deployments/gpt-4.1/chat/completions", true},
        {"POST", "/openai/deployments/x/embeddings", true},
        {"POST", "/openai/deployments/x/audio/speech/", true},
        {"POST", "/openai/v1/responses", true},
        {"POST", "/api/anthropic/v1/messages", true},
        {"POST", "/completions", true},
        {"GET", "/v1/chat/completions", false},
        {"post", "/v1/chat/completions", false},
        {"DELETE", "/v1/responses", false},
        {"PUT", "/v1/embeddings", false},
        {"POST", "/v1/responses/resp_1/cancel", false},
        {"POST", "/v1/responses/resp_1", false},
        {"POST", "/v1/responses/input_tokens", false},
        {"POST", "/v1/chat/completions/chatcmpl-1", false},
        {"POST", "/v1/messages/batches", false},
        {"POST", "/v1/messages/count_tokens", false},
        {"POST", "/v1/images", false},
        {"POST", "/v1/images/", false},
        {"POST", "/v1/audio", false},
        {"POST", "/v1/images/generations/x", false},
        {"POST", "/v1/xcompletions", false},
        {"POST", "/v1/Embeddings", false},
        {"POST", "/v1/ximages/generations", false},
        {"POST", "/v1/threads/thread_1/messages", false},
        {"POST", "/openai/threads/thread_1/messages/", false},
        {"POST", "/v1/threads/images/x", false},
        {"POST", "/v1/threads/messages", false},
        {"POST", "/v1/threads", false},
        {"POST", "/v1/threads/runs", false},
        {"POST", "/v1/files", false},
        {"POST", "/v1/batches", false},
        {"POST", "/v1/fine_tuning/jobs", false},
        {"POST", "/v1/assistants", false},
        {"POST", "/v1/conversations", false},
        {"POST", "/v1/realtime/sessions", false},
        {"POST", "/v1/videos", false},
        {"POST", "/", false},
        {"POST", "", false},
        {"POST", "*", false},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        if (sj_http_is_generation(sj_slice_of(rows[i].method), sj_slice_of(rows[i].path)) != rows[i].yes)
            fail_msg("%s %s", rows[i].method, rows[i].path);
    }
    assert_false(sj_http_is_generation(SJ_SLICE("POST"), (sj_slice){NULL, 0}));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_method),
        cmocka_unit_test(test_target),
        cmocka_unit_test(test_version),
        cmocka_unit_test(test_host),
        cmocka_unit_test(test_names_and_values),
        cmocka_unit_test(test_nul_in_a_field),
        cmocka_unit_test(test_content_length),
        cmocka_unit_test(test_transfer_encoding),
        cmocka_unit_test(test_upgrade),
        cmocka_unit_test(test_messages_say_what_to_do),
        cmocka_unit_test(test_hop_by_hop),
        cmocka_unit_test(test_forward_request),
        cmocka_unit_test(test_forward_answer),
        cmocka_unit_test(test_forward_says_when_there_is_no_room),
        cmocka_unit_test(test_path),
        cmocka_unit_test(test_upstream_target),
        cmocka_unit_test(test_upstream_target_without_room_changes_nothing),
        cmocka_unit_test(test_no_part_is_cut_off_silently),
        cmocka_unit_test(test_is_generation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
