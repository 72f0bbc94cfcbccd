// Methods and bodies, holding back, cancelling in every state, many at once, closing.
#include "upstream_bench.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

static sj_headers no_headers;

#define OK_REPLY "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
static const raw_reply OK_REPLIES[] = {{.text = OK_REPLY}};

typedef struct shape {
    const char *method;
    const char *body; // NULL: none
    const char *expected; // the head after the Host line, and the body
} shape;

static const shape SHAPES[] = {
    {"GET", NULL, "\r\n"},
    {"DELETE", NULL, "\r\n"},
    {"OPTIONS", NULL, "\r\n"},
    {"BREW", NULL, "\r\n"},
    {"POST", NULL, "Content-Length: 0\r\n\r\n"},
    {"PUT", NULL, "Content-Length: 0\r\n\r\n"},
    {"PATCH", NULL, "Content-Length: 0\r\n\r\n"},
    {"POST", "", "Content-Length: 0\r\n\r\n"},
    {"DELETE", "", "Content-Length: 0\r\n\r\n"},
    {"POST", "abc", "Content-Length: 3\r\n\r\nabc"},
    {"PUT", "abc", "Content-Length: 3\r\n\r\nabc"},
    {"PATCH", "abc", "Content-Length: 3\r\n\r\nabc"},
    {"GET", "abc", "Content-Length: 3\r\n\r\nabc"},
    {"DELETE", "abc", "Content-Length: 3\r\n\r\nabc"},
    {"BREW", "abc", "Content-Length: 3\r\n\r\nabc"},
};

// In one order and then in the other, on one handle: nothing of a request stays behind for the next.
static void test_shapes(void **state) {
    (void)state;
    bench b;
    bench_open(&b, OK_REPLIES, 1);
    size_t count = sizeof SHAPES / sizeof SHAPES[0];
    for (size_t i = 0; i < 2 * count; i++) {
        const shape *one = &SHAPES[i < count ? i : 2 * count - 1 - i];
        sj_body_cursor body = {.bytes = sj_slice_of(one->body)};
        sj_attempt_spec spec = bench_get(&b, &no_headers);
        spec.method = sj_slice_of(one->method);
        spec.body = one->body ? &body : NULL;
        probe p;
        bench_exchange(&b, &p, &spec);
        assert_int_equal(p.end.end, SJ_END_WHOLE);
        char expected[256];
        (void)snprintf(expected, sizeof expected, "%s /v1/models HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s",
                       one->method, b.server.port, one->expected);
        assert_string_equal(b.server.last, expected);
        probe_free(&p);
    }
    assert_int_equal(b.server.connections, 1);
    bench_close(&b);
}

static void test_head(void **state) {
    (void)state;
    static const raw_reply replies[] = {{.text = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"},
                                        {.text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
                                        {.text = OK_REPLY}};
    bench b;
    bench_open(&b, replies, 3);
    sj_attempt_spec spec = bench_get(&b, &no_headers);
    spec.method = SJ_SLICE("HEAD");
    for (int i = 0; i < 4; i++) {
        sj_body_cursor body = {.bytes = SJ_SLICE("abc")};
        spec.body = i == 3 ? &body : NULL;
        probe p;
        bench_exchange(&b, &p, &spec);
        assert_int_equal(p.end.end, SJ_END_WHOLE);
        assert_int_equal(p.status, 200);
        assert_int_equal(p.body_n, 0);
        assert_int_equal(strncmp(b.server.last, "HEAD /v1/models HTTP/1.1\r\n", 26), 0);
        probe_free(&p);
    }
    // curl sends no body with HEAD.
    assert_null(strstr(b.server.last, "Content-Length"));
    bench_close(&b);
}

// A body with edits arrives edited: small ones in one piece, large ones read on the way.
static void check_edited(bench *b, size_t n) {
    char *bytes = malloc(n);
    for (size_t i = 0; i < n; i++)
        bytes[i] = (char)('a' + i % 23);
    const sj_json_edit edits[] = {{0, 1}, {n / 2, 3}, {n - 2, 2}};
    sj_body_cursor body = {{bytes, n}, edits, 3, SJ_SLICE("\"EDITED\""), 0};
    size_t expected_n = (size_t)sj_body_cursor_size(&body);
    char *expected = malloc(expected_n);
    assert_int_equal(sj_body_cursor_read(&body, expected, expected_n), expected_n);
    probe p;
    sj_attempt_spec spec = bench_post(b, &no_headers, &body);
    bench_exchange(b, &p, &spec);
    assert_int_equal(p.end.end, SJ_END_WHOLE);
    const char *sent = strstr(b->server.last, "\r\n\r\n") + 4;
    assert_int_equal(b->server.last_n - (size_t)(sent - b->server.last), expected_n);
    assert_memory_equal(sent, expected, expected_n);
    probe_free(&p);
    free(expected);
    free(bytes);
}

static void test_edited(void **state) {
    (void)state;
    bench b;
    bench_open(&b, OK_REPLIES, 1);
    check_edited(&b, 10);
    check_edited(&b, 60 * 1024 - 15);
    check_edited(&b, 60 * 1024);
    check_edited(&b, 64 * 1024);
    check_edited(&b, 3000000);
    check_edited(&b, 100);
    assert_int_equal(b.server.connections, 1);
    bench_close(&b);
}

static void test_large_body(void **state) {
    (void)state;
    bench b;
    bench_open(&b, OK_REPLIES, 1);
    for (size_t n = 64 * 1024 - 1; n < 8000000; n = n * 11) {
        char *bytes = malloc(n);
        memset(bytes, 'y', n);
        sj_body_cursor body = {.bytes = {bytes, n}};
        probe p;
        sj_attempt_spec spec = bench_post(&b, &no_headers, &body);
        bench_exchange(&b, &p, &spec);
        assert_int_equal(p.end.end, SJ_END_WHOLE);
        const char *sent = strstr(b.server.last, "\r\n\r\n") + 4;
        assert_int_equal(b.server.last_n - (size_t)(sent - b.server.last), n);
        assert_memory_equal(sent, bytes, n);
        probe_free(&p);
        free(bytes);
    }
    bench_close(&b);
}

// An answer that comes before the upload is through is an answer.
static void test_early_answer(void **state) {
    (void)state;
    static const raw_reply replies[] = {
        {.text = "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig", .early = true},
        {.text = OK_REPLY}};
    bench b;
    bench_open(&b, replies, 2);
    size_t n = 20 * 1024 * 1024;
    char *bytes = calloc(1, n);
    sj_body_cursor body = {.bytes = {bytes, n}};
    probe p;
    sj_attempt_spec spec = bench_post(&b, &no_headers, &body);
    bench_exchange(&b, &p, &spec);
    assert_int_equal(p.end.end, SJ_END_WHOLE);
    assert_int_equal(p.status, 413);
    assert_string_equal(p.body, "big");
    probe_free(&p);
    free(bytes);
    // The rest of the body will not be taken for a request.
    spec = bench_get(&b, &no_headers);
    bench_exchange(&b, &p, &spec);
    assert_int_equal(p.end.end, SJ_END_WHOLE);
    assert_false(p.end.reused);
    probe_free(&p);
    bench_close(&b);
}

static size_t queued_at_server;

static void count_queued(uv_handle_t *handle, void *listener) {
    if (handle->type == UV_TCP && handle != listener)
        queued_at_server += uv_stream_get_write_queue_size((uv_stream_t *)handle);
}

static void check_hold(probe_act act) {
    enum { BIG = 24 * 1024 * 1024 };
    static const raw_reply replies[] = {
        {.text = "HTTP/1.1 200 OK\r\n\r\n", .filler = BIG, .then = RAW_CLOSE}};
    bench b;
    bench_open(&b, replies, 1);
    probe p;
    probe_init(&p);
    p.act = act;
    sj_attempt_spec spec = bench_get(&b, &no_headers);
    bench_start(&b, &p, &spec);
    assert_true(bench_run(&b, &p.heads, 1, 5000));
    bench_idle(&b, 50);
    size_t first = p.body_n;
    assert_int_equal(first > 0, act == PROBE_HOLD_AT_DATA);
    bench_idle(&b, 50);
    assert_int_equal(p.body_n, first);
    assert_int_equal(p.datas, act == PROBE_HOLD_AT_DATA);
    // What is not delivered stays at the upstream, not here.
    queued_at_server = 0;
    uv_walk(&b.loop, count_queued, &b.server.listener);
    assert_true(queued_at_server > BIG / 3);
    // One piece for each resume while each piece is held at once; none inside the call.
    for (int i = 0; i < 5; i++) {
        size_t before = p.body_n;
        sj_attempt_resume(p.attempt);
        sj_attempt_resume(p.attempt);
        assert_int_equal(p.body_n, before);
        p.act = PROBE_HOLD_AT_DATA;
        bench_idle(&b, 10);
        assert_true(p.body_n > before);
        assert_true(p.body_n - before <= 64 * 1024);
    }
    // Resumed and held again at once: still held.
    size_t before = p.body_n;
    sj_attempt_resume(p.attempt);
    sj_attempt_hold(p.attempt);
    sj_attempt_hold(p.attempt);
    bench_idle(&b, 10);
    assert_int_equal(p.body_n, before);
    p.act = PROBE_NOTHING;
    sj_attempt_resume(p.attempt);
    assert_true(bench_run(&b, &p.ends, 1, 10000));
    assert_int_equal(p.end.end, SJ_END_WHOLE);
    assert_int_equal(p.body_n, BIG);
    probe_free(&p);
    bench_close(&b);
}

static void test_hold(void **state) {
    (void)state;
    check_hold(PROBE_HOLD_AT_HEAD);
    check_hold(PROBE_HOLD_AT_DATA);
}

static void check_quiet_after_cancel(bench *b, const probe *p, int heads) {
    assert_null(p->attempt);
    bench_idle(b, 20);
    assert_int_equal(p->ends, 0);
    assert_int_equal(p->heads, heads);
    assert_int_equal(sj_upstream_read(b->upstream).running, 0);
    probe after;
    sj_attempt_spec spec = bench_get(b, &no_headers);
    bench_exchange(b, &after, &spec);
    assert_int_equal(after.end.end, SJ_END_WHOLE);
    probe_free(&after);
}

static void test_cancel_before_sending(void **state) {
    (void)state;
    bench b;
    bench_open(&b, OK_REPLIES, 1);
    sj_attempt_spec spec = bench_get(&b, &no_headers);
    probe p;
    probe_init(&p);
    // Before the loop turned.
    bench_start(&b, &p, &spec);
    sj_attempt_cancel(&p.attempt);
    sj_attempt_cancel(&p.attempt);
    check_quiet_after_cancel(&b, &p, 0);
    assert_int_equal(b.server.requests, 1);
    // Resolving.
    spec.origin = "http://nonexistent.invalid";
    bench_start(&b, &p, &spec);
    (void)uv_run(&b.loop, UV_RUN_NOWAIT);
    sj_attempt_cancel(&p.attempt);
    check_quiet_after_cancel(&b, &p, 0);
    // Connecting: nobody takes it out of the backlog.
    int full = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    assert_int_equal(bind(full, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(full, 0), 0);
    assert_int_equal(getsockname(full, (struct sockaddr *)&address, &length), 0);
    char origin[64];
    (void)snprintf(origin, sizeof origin, "http://127.0.0.1:%d", ntohs(address.sin_port));
    spec.origin = origin;
    probe waiting[3];
    for (int i = 0; i < 3; i++) {
        probe_init(&waiting[i]);
        bench_start(&b, &waiting[i], &spec);
    }
    bench_idle(&b, 20);
    for (int i = 0; i < 3; i++) {
        sj_attempt_cancel(&waiting[i].attempt);
        assert_int_equal(waiting[i].ends, 0);
        probe_free(&waiting[i]);
    }
    check_quiet_after_cancel(&b, &p, 0);
    (void)close(full);
    probe_free(&p);
    bench_close(&b);
}

static void test_cancel_after_sending(void **state) {
    (void)state;
    static const raw_reply replies[] = {{.text = NULL}, {.text = OK_REPLY}};
    bench b;
    bench_open(&b, replies, 2);
    sj_attempt_spec spec = bench_get(&b, &no_headers);
    probe p;
    probe_init(&p);
    bench_start(&b, &p, &spec);
    assert_true(bench_run(&b, &b.server.requests, 1, 5000));
    sj_attempt_cancel(&p.attempt);
    // The upstream is told at once: that is what ends the work there.
    assert_true(bench_run(&b, &b.server.closed, 1, 5000));
    check_quiet_after_cancel(&b, &p, 0);
    probe_free(&p);
    bench_close(&b);
}

static void check_cancel_inside(probe_act act, size_t filler) {
    const raw_reply replies[] = {{.text = "HTTP/1.1 200 OK\r\n\r\n", .filler = filler}, {.text = OK_REPLY}};
    bench b;
    bench_open(&b, replies, 2);
    sj_attempt_spec spec = bench_get(&b, &no_headers);
    probe p;
    probe_init(&p);
    p.act = act;
    bench_start(&b, &p, &spec);
    assert_true(bench_run(&b, &p.heads, 1, 5000));
    if (act == PROBE_HOLD_AT_DATA || act == PROBE_HOLD_AT_HEAD) {
        bench_idle(&b, 20);
        // Resumed in the same turn: the resume that is under way must find nothing.
        sj_attempt_resume(p.attempt);
        sj_attempt_cancel(&p.attempt);
    }
    assert_true(bench_run(&b, &b.server.closed, 1, 5000));
    assert_int_equal(p.datas, act == PROBE_CANCEL_AT_DATA || act == PROBE_HOLD_AT_DATA);
    check_quiet_after_cancel(&b, &p, 1);
    probe_free(&p);
    bench_close(&b);
}

static void test_cancel_inside(void **state) {
    (void)state;
    for (size_t filler = 1; filler < 2000000; filler *= 1000) {
        check_cancel_inside(PROBE_CANCEL_AT_HEAD, filler);
        check_cancel_inside(PROBE_CANCEL_AT_DATA, filler);
        check_cancel_inside(PROBE_HOLD_AT_DATA, filler);
        check_cancel_inside(PROBE_HOLD_AT_HEAD, filler);
    }
}

// The winner of a race cancels the loser from inside its first bytes; the loser may have its own in the same turn.
static void test_cancel_another_inside(void **state) {
    (void)state;
    bench b;
    bench_open(&b, OK_REPLIES, 1);
    sj_attempt_spec spec = bench_get(&b, &no_headers);
    for (int round = 0; round < 20; round++) {
        probe p[2];
        probe_init(&p[0]);
        probe_init(&p[1]);
        bench_start(&b, &p[0], &spec);
        bench_start(&b, &p[1], &spec);
        p[0].victim = &p[1].attempt;
        p[1].victim = &p[0].attempt;
        for (int turn = 0; turn < 500 && p[0].ends + p[1].ends == 0; turn++)
            (void)uv_run(&b.loop, UV_RUN_ONCE);
        bench_idle(&b, 2);
        assert_int_equal(p[0].ends + p[1].ends, 1);
        assert_int_equal(p[0].datas + p[1].datas, 1);
        probe_free(&p[0]);
        probe_free(&p[1]);
    }
    assert_int_equal(sj_upstream_read(b.upstream).running, 0);
    bench_close(&b);
}

typedef struct crowd {
    bench *b;
    sj_attempt_spec spec;
    int ended, bad, to_start;
} crowd;

static const sj_attempt_handlers CROWD_HANDLERS;

static void crowd_start(crowd *c) {
    c->to_start--;
    assert_non_null(sj_attempt_start(c->b->upstream, &c->spec, &CROWD_HANDLERS, c));
}

static void crowd_on_head(void *owner, int status, const sj_headers *headers) {
    (void)headers;
    ((crowd *)owner)->bad += status != 200;
}

static void crowd_on_data(void *owner, sj_slice bytes) {
    ((crowd *)owner)->bad += bytes.n != 2;
}

static void crowd_on_end(void *owner, const sj_attempt_end *end, const sj_headers *trailers) {
    (void)trailers;
    crowd *c = owner;
    c->ended++;
    c->bad += end->end != SJ_END_WHOLE;
    if (c->to_start > 0)
        crowd_start(c);
}

static const sj_attempt_handlers CROWD_HANDLERS = {crowd_on_head, crowd_on_data, crowd_on_end};

static void test_many(void **state) {
    (void)state;
    enum { AT_ONCE = 500, IN_ALL = 2000 };
    bench b;
    bench_open(&b, OK_REPLIES, 1);
    crowd c = {.b = &b, .spec = bench_get(&b, &no_headers), .to_start = IN_ALL};
    for (int i = 0; i < AT_ONCE; i++)
        crowd_start(&c);
    assert_int_equal(sj_upstream_read(b.upstream).running, AT_ONCE);
    assert_true(bench_run(&b, &c.ended, IN_ALL, 20000));
    assert_int_equal(c.bad, 0);
    assert_int_equal(b.server.requests, IN_ALL);
    // The pool serves again. On a busy machine a few more are opened: curl takes a pooled one only when its check finds it alive.
    assert_true(b.server.connections < IN_ALL / 2);
    sj_upstream_stats stats = sj_upstream_read(b.upstream);
    assert_int_equal(stats.running, 0);
    assert_int_equal(stats.connections_opened + stats.connections_reused, IN_ALL);
    bench_close(&b);
}

static void test_close_while_running(void **state) {
    (void)state;
    static const raw_reply replies[] = {{.text = OK_REPLY}, {.text = NULL}};
    bench b;
    bench_open(&b, replies, 2);
    sj_attempt_spec spec = bench_get(&b, &no_headers);
    probe done, waiting, new, resolving;
    bench_exchange(&b, &done, &spec);
    probe_init(&waiting);
    bench_start(&b, &waiting, &spec);
    assert_true(bench_run(&b, &b.server.requests, 2, 5000));
    probe_init(&resolving);
    spec.origin = "http://nonexistent.invalid";
    bench_start(&b, &resolving, &spec);
    (void)uv_run(&b.loop, UV_RUN_NOWAIT);
    probe_init(&new);
    bench_start(&b, &new, &spec);
    bench_close(&b);
    assert_int_equal(waiting.ends + new.ends, 0);
    probe_free(&done);
    probe_free(&waiting);
    probe_free(&resolving);
    probe_free(&new);
}

typedef struct closer {
    bench *b;
    int ended;
} closer;

static void closer_on_head(void *owner, int status, const sj_headers *headers) {
    (void)owner, (void)status, (void)headers;
}
static void closer_on_data(void *owner, sj_slice bytes) {
    (void)owner, (void)bytes;
}
static void closer_on_end(void *owner, const sj_attempt_end *end, const sj_headers *trailers) {
    (void)end;
    closer *c = owner;
    c->ended++;
    sj_upstream_close(&c->b->upstream);
    assert_int_equal(trailers->count, 0);
}

static void test_close_from_end(void **state) {
    (void)state;
    static const sj_attempt_handlers handlers = {closer_on_head, closer_on_data, closer_on_end};
    bench b;
    bench_open(&b, OK_REPLIES, 1);
    closer c = {.b = &b};
    sj_attempt_spec spec = bench_get(&b, &no_headers);
    assert_non_null(sj_attempt_start(b.upstream, &spec, &handlers, &c));
    assert_non_null(sj_attempt_start(b.upstream, &spec, &handlers, &c));
    assert_true(bench_run(&b, &c.ended, 1, 5000));
    bench_close(&b);
    assert_int_equal(c.ended, 1);
}

int main(void) {
    sj_headers_init(&no_headers);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_head),
        cmocka_unit_test(test_edited),
        cmocka_unit_test(test_large_body),
        cmocka_unit_test(test_early_answer),
        cmocka_unit_test(test_hold),
        cmocka_unit_test(test_cancel_before_sending),
        cmocka_unit_test(test_cancel_after_sending),
        cmocka_unit_test(test_cancel_inside),
        cmocka_unit_test(test_cancel_another_inside),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_close_while_running),
        cmocka_unit_test(test_close_from_end),
    };
    if (!sj_upstream_global_init())
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sj_upstream_global_end();
    return failed;
}
