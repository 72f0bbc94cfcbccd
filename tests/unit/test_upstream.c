#include "upstream_bench.h"

#define OK_REPLY "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: 1\r\nx-a: 2\r\n\r\nok"

static sj_headers no_headers;

static void test_get(void **state) {
    (void)state;
    static const raw_reply replies[] = {{.text = OK_REPLY}};
    bench b;
    bench_open(&b, replies, 1);
    probe p;
    sj_attempt_spec spec = bench_get(&b, &no_headers);
    spec.target = SJ_SLICE("/v1/../a%2fb?q=1#frag");
    bench_exchange(&b, &p, &spec);
    assert_int_equal(p.end.end, SJ_END_WHOLE);
    assert_int_equal(p.status, 200);
    assert_string_equal(p.body, "ok");
    assert_string_equal(p.end.detail, "");
    assert_true(p.end.sent);
    assert_false(p.end.reused);
    assert_int_equal(p.head.count, 3);
    assert_string_equal(sj_headers_at(&p.head, 2).name.p, "x-a");
    char expected[256];
    (void)snprintf(expected, sizeof expected,
                   "GET /v1/../a%%2fb?q=1#frag HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", b.server.port);
    assert_string_equal(b.server.last, expected);
    probe_free(&p);
    bench_close(&b);
}

static void add(sj_headers *headers, const char *name, const char *value) {
    assert_true(sj_headers_add(headers, sj_slice_of(name), sj_slice_of(value)));
}

static void test_post(void **state) {
    (void)state;
    static const raw_reply replies[] = {{.text = OK_REPLY}};
    bench b;
    bench_open(&b, replies, 1);
    sj_headers headers;
    sj_headers_init(&headers);
    add(&headers, "Authorization", "Bearer k");
    add(&headers, "X-Empty", "");
    add(&headers, "X-Dup", "1");
    add(&headers, "x-dup", "2");
    add(&headers, "Expect", "100-continue");
    add(&headers, "Content-Length", "999");
    probe p;
    sj_body_cursor body = {.bytes = SJ_SLICE("{\"model\":\"a\"}")};
    sj_attempt_spec spec = bench_post(&b, &headers, &body);
    bench_exchange(&b, &p, &spec);
    assert_int_equal(p.end.end, SJ_END_WHOLE);
    char expected[512];
    (void)snprintf(expected, sizeof expected,
                   "POST /v1/models HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer k\r\nX-Empty:\r\n"
                   "X-Dup: 1\r\nx-dup: 2\r\nContent-Length: 13\r\n\r\n{\"model\":\"a\"}",
                   b.server.port);
    assert_string_equal(b.server.last, expected);
    probe_free(&p);
    sj_headers_free(&headers);
    bench_close(&b);
}

static void test_reuse(void **state) {
    (void)state;
    static const raw_reply replies[] = {{.text = OK_REPLY}};
    bench b;
    bench_open(&b, replies, 1);
    for (int i = 0; i < 5; i++) {
        probe p;
        sj_attempt_spec spec = bench_get(&b, &no_headers);
        bench_exchange(&b, &p, &spec);
        assert_int_equal(p.end.end, SJ_END_WHOLE);
        assert_int_equal(p.end.reused, i > 0);
        probe_free(&p);
    }
    assert_int_equal(b.server.connections, 1);
    assert_int_equal(b.server.requests, 5);
    sj_upstream_stats stats = sj_upstream_read(b.upstream);
    assert_int_equal(stats.connections_opened, 1);
    assert_int_equal(stats.connections_reused, 4);
    assert_int_equal(stats.running, 0);
    bench_close(&b);
}

static void test_stale(void **state) {
    (void)state;
    static const raw_reply replies[] = {{.text = OK_REPLY}, {.then = RAW_CLOSE}, {.text = OK_REPLY}};
    bench b;
    bench_open(&b, replies, 3);
    probe p;
    sj_body_cursor body = {.bytes = SJ_SLICE("{}")};
    sj_attempt_spec spec = bench_post(&b, &no_headers, &body);
    bench_exchange(&b, &p, &spec);
    assert_int_equal(p.end.end, SJ_END_WHOLE);
    probe_free(&p);
    bench_exchange(&b, &p, &spec);
    assert_int_equal(p.end.end, SJ_END_STALE);
    assert_true(p.end.sent);
    assert_true(p.end.reused);
    assert_int_equal(p.heads, 0);
    assert_int_equal(b.server.requests, 2);
    assert_int_equal(b.server.connections, 1);
    probe_free(&p);
    spec.fresh = true;
    bench_exchange(&b, &p, &spec);
    assert_int_equal(p.end.end, SJ_END_WHOLE);
    assert_int_equal(b.server.requests, 3);
    assert_int_equal(b.server.connections, 2);
    probe_free(&p);
    bench_close(&b);
}

// A connection that the upstream closed while it was idle is not used: nothing is stale.
static void test_idle_close(void **state) {
    (void)state;
    static const raw_reply replies[] = {{.text = OK_REPLY, .then = RAW_CLOSE},
                                        {.text = OK_REPLY, .then = RAW_RESET}};
    bench b;
    bench_open(&b, replies, 2);
    for (int i = 0; i < 4; i++) {
        probe p;
        sj_attempt_spec spec = bench_get(&b, &no_headers);
        bench_exchange(&b, &p, &spec);
        assert_int_equal(p.end.end, SJ_END_WHOLE);
        assert_false(p.end.reused);
        probe_free(&p);
        assert_true(bench_run(&b, &b.server.closed, i + 1, 5000));
        bench_idle(&b, 5);
    }
    assert_int_equal(b.server.connections, 4);
    bench_close(&b);
}

// What an upstream says on an idle connection is not the answer to the next request.
static void test_idle_words(void **state) {
    (void)state;
    static const raw_reply replies[] = {{.text = OK_REPLY}};
    static const raw_reply words[] = {
        {.text = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"},
        {.text = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", .then = RAW_CLOSE},
        {.text = "x", .filler = 300000},
        {.text = "x", .then = RAW_RESET},
    };
    bench b;
    bench_open(&b, replies, 1);
    for (size_t i = 0; i <= sizeof words / sizeof words[0]; i++) {
        probe p;
        sj_attempt_spec spec = bench_get(&b, &no_headers);
        bench_exchange(&b, &p, &spec);
        assert_int_equal(p.end.end, SJ_END_WHOLE);
        assert_int_equal(p.status, 200);
        assert_string_equal(p.body, "ok");
        assert_false(p.end.reused);
        probe_free(&p);
        if (i < sizeof words / sizeof words[0])
            raw_speak(&b.server, &words[i]);
        bench_idle(&b, 10);
    }
    bench_close(&b);
}

// Each of the fields that curl has ideas of its own about goes as the client sent it, and no other comes along.
static void test_client_fields(void **state) {
    (void)state;
    static const raw_reply replies[] = {{.text = OK_REPLY}};
    static const char *const NAMES[] = {"Accept", "user-agent", "Content-Type", "Accept-Encoding", "Cookie"};
    bench b;
    bench_open(&b, replies, 1);
    sj_body_cursor body = {.bytes = SJ_SLICE("x")};
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++) {
        sj_headers headers;
        sj_headers_init(&headers);
        add(&headers, NAMES[i], " a value ");
        probe p;
        sj_attempt_spec spec = bench_post(&b, &headers, &body);
        bench_exchange(&b, &p, &spec);
        char expected[256];
        (void)snprintf(
            expected, sizeof expected,
            "POST /v1/models HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s: a value\r\nContent-Length: 1\r\n\r\nx",
            b.server.port, NAMES[i]);
        assert_string_equal(b.server.last, expected);
        probe_free(&p);
        sj_headers_free(&headers);
    }
    bench_close(&b);
}

static void test_environment_is_ignored(void **state) {
    (void)state;
    static const raw_reply replies[] = {{.text = OK_REPLY}};
    assert_int_equal(setenv("http_proxy", "http://127.0.0.1:1", 1), 0);
    assert_int_equal(setenv("ALL_PROXY", "http://127.0.0.1:1", 1), 0);
    assert_int_equal(setenv("no_proxy", "*", 1), 0);
    bench b;
    bench_open(&b, replies, 1);
    probe p;
    sj_attempt_spec spec = bench_get(&b, &no_headers);
    bench_exchange(&b, &p, &spec);
    assert_int_equal(p.end.end, SJ_END_WHOLE);
    probe_free(&p);
    // no_proxy neither: the proxy asked for is used.
    char proxy[64];
    (void)snprintf(proxy, sizeof proxy, "%s", b.origin);
    spec.proxy = proxy;
    spec.origin = "http://api.test:8000";
    spec.target = SJ_SLICE("/v1/models?a=b");
    bench_exchange(&b, &p, &spec);
    assert_int_equal(p.end.end, SJ_END_WHOLE);
    assert_int_equal(strncmp(b.server.last, "GET http://api.test:8000/v1/models?a=b HTTP/1.1\r\n", 49), 0);
    probe_free(&p);
    // And without one it is gone again.
    spec = bench_get(&b, &no_headers);
    bench_exchange(&b, &p, &spec);
    assert_int_equal(strncmp(b.server.last, "GET /v1/models HTTP/1.1\r\n", 25), 0);
    probe_free(&p);
    bench_close(&b);
    assert_int_equal(unsetenv("http_proxy") + unsetenv("ALL_PROXY") + unsetenv("no_proxy"), 0);
}

// To https through a proxy: the key goes into the tunnel only, and a proxy that refuses has sent nothing.
static void test_tunnel(void **state) {
    (void)state;
    static const raw_reply replies[] = {{.text = "HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n"}};
    bench b;
    bench_open(&b, replies, 1);
    sj_headers headers;
    sj_headers_init(&headers);
    add(&headers, "Authorization", "Bearer secret");
    probe p;
    sj_attempt_spec spec = bench_get(&b, &headers);
    spec.origin = "https://api.test";
    spec.proxy = b.origin;
    bench_exchange(&b, &p, &spec);
    assert_int_equal(p.end.end, SJ_END_NEVER_SENT);
    assert_false(p.end.sent);
    assert_int_equal(p.heads, 0);
    assert_int_equal(strncmp(b.server.last, "CONNECT api.test:443 HTTP/1.1\r\n", 31), 0);
    assert_null(strstr(b.server.last, "secret"));
    probe_free(&p);
    sj_headers_free(&headers);
    bench_close(&b);
}

int main(void) {
    sj_headers_init(&no_headers);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_get),           cmocka_unit_test(test_post),
        cmocka_unit_test(test_reuse),         cmocka_unit_test(test_stale),
        cmocka_unit_test(test_idle_close),    cmocka_unit_test(test_idle_words),
        cmocka_unit_test(test_client_fields), cmocka_unit_test(test_environment_is_ignored),
        cmocka_unit_test(test_tunnel),
    };
    if (!sj_upstream_global_init())
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sj_upstream_global_end();
    return failed;
}
