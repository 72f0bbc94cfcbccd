// What the upstream's tests share: a loop, the scripted server, and a probe that records one attempt's callbacks.
#ifndef UPSTREAM_BENCH_H
#define UPSTREAM_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "raw_server.h"
#include "upstream.h"

typedef struct bench {
    uv_loop_t loop;
    sj_upstream *upstream;
    raw_server server;
    char origin[64];
} bench;

typedef enum probe_act {
    PROBE_NOTHING,
    PROBE_CANCEL_AT_HEAD,
    PROBE_CANCEL_AT_DATA,
    PROBE_HOLD_AT_HEAD,
    PROBE_HOLD_AT_DATA
} probe_act;

typedef struct probe {
    sj_attempt *attempt;
    probe_act act;
    sj_attempt **victim; // cancelled at the first data
    int heads, ends, status;
    size_t datas, body_n;
    char body[4096]; // its first bytes
    sj_headers head, trailers;
    sj_attempt_end end;
} probe;

__attribute__((unused)) static void probe_on_head(void *owner, int status, const sj_headers *headers) {
    probe *p = owner;
    p->heads++;
    p->status = status;
    sj_headers_clear(&p->head);
    for (size_t i = 0; i < headers->count; i++) {
        sj_header header = sj_headers_at(headers, i);
        assert_true(sj_headers_add(&p->head, header.name, header.value));
    }
    if (p->act == PROBE_CANCEL_AT_HEAD)
        sj_attempt_cancel(&p->attempt);
    else if (p->act == PROBE_HOLD_AT_HEAD)
        sj_attempt_hold(p->attempt);
}

__attribute__((unused)) static void probe_on_data(void *owner, sj_slice bytes) {
    probe *p = owner;
    assert_true(bytes.n > 0);
    p->datas++;
    size_t room = sizeof p->body - 1 - (p->body_n < sizeof p->body - 1 ? p->body_n : sizeof p->body - 1);
    size_t n = bytes.n < room ? bytes.n : room;
    if (n > 0)
        memcpy(p->body + p->body_n, bytes.p, n);
    p->body_n += bytes.n;
    if (p->victim)
        sj_attempt_cancel(p->victim);
    if (p->act == PROBE_CANCEL_AT_DATA)
        sj_attempt_cancel(&p->attempt);
    else if (p->act == PROBE_HOLD_AT_DATA)
        sj_attempt_hold(p->attempt);
}

__attribute__((unused)) static void probe_on_end(void *owner, const sj_attempt_end *end,
                                                 const sj_headers *trailers) {
    probe *p = owner;
    p->ends++;
    p->end = *end;
    for (size_t i = 0; i < trailers->count; i++) {
        sj_header header = sj_headers_at(trailers, i);
        assert_true(sj_headers_add(&p->trailers, header.name, header.value));
    }
    // Cancelling what is ending is harmless.
    sj_attempt_cancel(&p->attempt);
}

static const sj_attempt_handlers PROBE_HANDLERS = {probe_on_head, probe_on_data, probe_on_end};

__attribute__((unused)) static void probe_init(probe *p) {
    memset(p, 0, sizeof *p);
    sj_headers_init(&p->head);
    sj_headers_init(&p->trailers);
}

__attribute__((unused)) static void probe_free(probe *p) {
    sj_headers_free(&p->head);
    sj_headers_free(&p->trailers);
}

__attribute__((unused)) static void bench_open(bench *b, const raw_reply *replies, size_t count) {
    assert_int_equal(uv_loop_init(&b->loop), 0);
    b->upstream = sj_upstream_new(&b->loop);
    assert_non_null(b->upstream);
    assert_true(raw_start(&b->server, &b->loop, replies, count));
    (void)snprintf(b->origin, sizeof b->origin, "http://127.0.0.1:%d", b->server.port);
}

__attribute__((unused)) static void bench_close(bench *b) {
    sj_upstream_close(&b->upstream);
    assert_null(b->upstream);
    raw_stop(&b->server);
    assert_int_equal(uv_run(&b->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&b->loop), 0);
}

static void bench_on_tick(uv_timer_t *timer) {
    (void)timer;
}

// Runs the loop until *value reaches wanted; false when that took longer than limit_ms. It ticks, because a turn that ends what is waited for
// among its timers would still sleep.
__attribute__((unused)) static bool bench_run(bench *b, const int *value, int wanted, uint64_t limit_ms) {
    uv_timer_t tick;
    (void)uv_timer_init(&b->loop, &tick);
    uv_update_time(&b->loop);
    uint64_t late = uv_now(&b->loop) + limit_ms;
    (void)uv_timer_start(&tick, bench_on_tick, 1, 1);
    while (*value < wanted && uv_now(&b->loop) < late)
        (void)uv_run(&b->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&tick, NULL);
    (void)uv_run(&b->loop, UV_RUN_NOWAIT);
    return *value >= wanted;
}

// Lets whatever would still happen, happen.
__attribute__((unused)) static void bench_idle(bench *b, uint64_t ms) {
    static const int never = 0;
    (void)bench_run(b, &never, 1, ms);
}

__attribute__((unused)) static sj_attempt_spec bench_get(const bench *b, const sj_headers *headers) {
    return (sj_attempt_spec){
        .origin = b->origin,
        .target = SJ_SLICE("/v1/models"),
        .method = SJ_SLICE("GET"),
        .headers = headers,
        .connect_timeout_ms = 5000,
    };
}

__attribute__((unused)) static sj_attempt_spec bench_post(const bench *b, const sj_headers *headers,
                                                          const sj_body_cursor *body) {
    sj_attempt_spec spec = bench_get(b, headers);
    spec.method = SJ_SLICE("POST");
    spec.body = body;
    return spec;
}

__attribute__((unused)) static void bench_start(bench *b, probe *p, const sj_attempt_spec *spec) {
    p->attempt = sj_attempt_start(b->upstream, spec, &PROBE_HANDLERS, p);
    assert_non_null(p->attempt);
}

// One attempt from start to end.
__attribute__((unused)) static void bench_exchange(bench *b, probe *p, const sj_attempt_spec *spec) {
    probe_init(p);
    bench_start(b, p, spec);
    assert_true(bench_run(b, &p->ends, 1, 5000));
}

#endif
