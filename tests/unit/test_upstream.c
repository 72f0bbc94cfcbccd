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

int main(void) {
    sj_headers_init(&no_headers);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_get),
        cmocka_unit_test(test_post),
        cmocka_unit_test(test_reuse),
        cmocka_unit_test(test_stale),
    };
    if (!sj_upstream_global_init())
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sj_upstream_global_end();
    return failed;
}
