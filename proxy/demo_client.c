#include "demo_client.h"

#include <stdlib.h>

static const int64_t connect_timeout_ms = 5000;
static const uint64_t fetch_timeout_ms = 5000;

static void on_head(void *owner, int status, const sj_headers *headers) {
    sj_demo_call *call = owner;
    sj_slice attempts = sj_headers_get(headers, "x-stormjib-attempts");
    call->status = status;
    call->attempts = attempts.n ? atoi(attempts.p) : 1;
}

static void on_data(void *owner, sj_slice bytes) {
    sj_demo_call *call = owner;
    // An answer past the cap is cut, and so counts as a wrong one.
    (void)!sj_buffer_add(&call->answer, bytes);
}

static void on_end(void *owner, const sj_attempt_end *end, const sj_headers *trailers) {
    (void)trailers;
    sj_demo_call *call = owner;
    call->attempt = NULL;
    call->end = end->end;
    call->on_over(call, call->owner);
}

static const sj_attempt_handlers handlers = {on_head, on_data, on_end};

void sj_demo_call_init(sj_demo_call *call, void (*on_over)(sj_demo_call *call, void *owner), void *owner) {
    *call = (sj_demo_call){.request = sj_buffer_with_max(64 * 1024),
                           .answer = sj_buffer_with_max(SJ_DEMO_MAX_ANSWER),
                           .on_over = on_over,
                           .owner = owner};
}

void sj_demo_call_free(sj_demo_call *call) {
    sj_buffer_free(&call->request);
    sj_buffer_free(&call->answer);
}

bool sj_demo_call_start(sj_demo_call *call, sj_upstream *upstream, const char *origin, const char *method,
                        const char *target) {
    sj_buffer_clear(&call->answer);
    call->status = 0;
    call->attempts = 1;
    call->cursor = (sj_body_cursor){.bytes = sj_buffer_slice(&call->request)};
    sj_headers headers;
    sj_headers_init(&headers);
    sj_attempt_spec spec = {.origin = origin,
                            .target = sj_slice_of(target),
                            .method = sj_slice_of(method),
                            .headers = &headers,
                            .body = call->request.n ? &call->cursor : NULL,
                            .connect_timeout_ms = connect_timeout_ms};
    if (sj_headers_add(&headers, SJ_SLICE("Content-Type"), SJ_SLICE("application/json")) &&
        sj_headers_add(&headers, SJ_SLICE("User-Agent"), SJ_SLICE("stormjib-demo")))
        call->attempt = sj_attempt_start(upstream, &spec, &handlers, call);
    sj_headers_free(&headers);
    return call->attempt != NULL;
}

void sj_demo_call_cancel(sj_demo_call *call) {
    if (call->attempt)
        sj_attempt_cancel(&call->attempt);
}

// ---- one request, waited for --------------------------------------------------------------------

typedef struct fetch {
    sj_upstream *upstream;
    sj_demo_call call;
    uv_timer_t deadline;
    bool whole;
} fetch;

// With its last handle the loop ends.
static void end_fetch(fetch *f) {
    sj_upstream_close(&f->upstream);
    uv_close((uv_handle_t *)&f->deadline, NULL);
}

static void on_fetched(sj_demo_call *call, void *owner) {
    fetch *f = owner;
    f->whole = call->end == SJ_END_WHOLE && call->status == 200;
    end_fetch(f);
}

static void on_deadline(uv_timer_t *timer) {
    fetch *f = timer->data;
    sj_demo_call_cancel(&f->call);
    end_fetch(f);
}

bool sj_demo_fetch(uv_loop_t *loop, const char *origin, const char *method, const char *target,
                   sj_buffer *out) {
    fetch f = {.upstream = sj_upstream_new(loop)};
    if (!f.upstream)
        return false;
    sj_demo_call_init(&f.call, on_fetched, &f);
    (void)uv_timer_init(loop, &f.deadline);
    f.deadline.data = &f;
    (void)uv_timer_start(&f.deadline, on_deadline, fetch_timeout_ms, 0);
    if (!sj_demo_call_start(&f.call, f.upstream, origin, method, target))
        end_fetch(&f);
    (void)uv_run(loop, UV_RUN_DEFAULT);
    bool ok = f.whole && sj_buffer_add(out, sj_buffer_slice(&f.call.answer));
    sj_demo_call_free(&f.call);
    return ok;
}
