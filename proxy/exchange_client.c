#include "exchange_internal.h"

#include "http_rules.h"
#include "text.h"

#include <assert.h>

static bool refuse_early(sj_exchange *e, const sj_call_head *head) {
    const sj_config *config = exchange_config(e);
    sj_worker *worker = e->worker;
    if (sj_slice_equal(e->path, SJ_SLICE("/healthz")) || sj_slice_equal(e->path, SJ_SLICE("/readyz"))) {
        exchange_health(e, e->path.p[1] == 'h' || !worker->links.draining(worker->links.context));
        return true;
    }
    if (head->over_limit) {
        sj_call_close_after(e->call);
        exchange_refuse(e, SJ_REFUSAL_OVERLOADED,
                        "Too many connections. Try again after Retry-After, or raise limits.connections.", 1);
    } else if (worker->draining) {
        sj_call_close_after(e->call);
        exchange_refuse(e, SJ_REFUSAL_SHUTTING_DOWN,
                        "This proxy is shutting down. Try again after Retry-After.", 1);
    } else if (!exchange_authorise(e))
        exchange_refuse(e, SJ_REFUSAL_UNAUTHORIZED,
                        "Send one of the proxy's client_keys as \"Authorization: Bearer KEY\" (or api-key).",
                        0);
    else if (head->content_length > 0 && (uint64_t)head->content_length > config->max_body_bytes)
        exchange_refuse(e, SJ_REFUSAL_BODY_TOO_LARGE, "The request body is larger than max_body.", 0);
    else
        return false;
    return true;
}

static void *on_request(void *context, sj_call *call, const sj_call_head *head) {
    sj_worker *worker = context;
    sj_exchange *e = exchange_new(worker);
    if (!e)
        return NULL; // nothing can be said without memory for it
    e->call = call;
    e->setup = sj_setup_ref(worker->setup);
    e->method = head->method;
    e->target = head->target;
    e->path = sj_http_path(head->target);
    e->headers = head->headers;
    e->peer = head->peer;
    e->is_head = sj_slice_equal(head->method, SJ_SLICE("HEAD"));
    e->timer.data = e;
    e->usage = (sj_usage){-1, -1, -1, -1};
    e->started_ns = (int64_t)uv_hrtime();
    e->first_content_ns = -1;
    sj_text id = sj_text_into(e->request_id, sizeof e->request_id);
    sj_text_hex(&id, sj_rng_next(&worker->rng), 16);
    sj_headers_init(&e->saved.headers);
    sj_metrics_exchange_started(worker->metrics);
    if (!refuse_early(e, head) && head->content_length > 0)
        e->body = sj_body_new((size_t)head->content_length, exchange_config(e)->max_body_bytes);
    return e;
}

static void refuse_body(sj_exchange *e, sj_body_result result) {
    sj_body_free(&e->body);
    if (result == SJ_BODY_TOO_LARGE)
        exchange_refuse(e, SJ_REFUSAL_BODY_TOO_LARGE, "The request body is larger than max_body.", 0);
    else if (result == SJ_BODY_NO_FILE)
        exchange_refuse(e, SJ_REFUSAL_OVERLOADED,
                        "No temporary file for a large request body: check TMPDIR and its free space.", 5);
    else
        exchange_refuse(e, SJ_REFUSAL_OVERLOADED,
                        "Request bodies fill limits.body_memory. Try again after Retry-After.", 1);
}

static void on_body(void *owner, sj_slice bytes) {
    sj_exchange *e = owner;
    e->bytes_in += bytes.n;
    if (!e->body)
        e->body = sj_body_new(0, exchange_config(e)->max_body_bytes);
    sj_body_result result = e->body ? sj_body_append(e->body, bytes.p, bytes.n) : SJ_BODY_NO_MEMORY;
    if (result != SJ_BODY_OK)
        refuse_body(e, result);
}

static void on_request_end(void *owner) {
    sj_exchange *e = owner;
    sj_body_result result = e->body ? sj_body_finish(e->body) : SJ_BODY_OK;
    if (result != SJ_BODY_OK) {
        refuse_body(e, result);
        return;
    }
    plan_fault fault = exchange_plan(e);
    if (fault.refusal != SJ_REFUSAL_NONE) {
        exchange_refuse(e, fault.refusal, fault.message, fault.refusal == SJ_REFUSAL_OVERLOADED ? 1 : 0);
        return;
    }
    // We are inside MHD's callback: the first attempt starts from the todo list.
    exchange_begin(e);
}

static void on_writable(void *owner) {
    sj_exchange *e = owner;
    for (int i = 0; i < LEGS_MAX; i++)
        exchange_let_flow(&e->legs[i]);
    exchange_follow(e);
    exchange_arm_timer(e);
}

static void on_gone(void *owner) {
    exchange_client_left(owner);
}

static void abort_one(sj_exchange *e) {
    bool running = !sj_journey_is_over(e->journey);
    exchange_abandon(e, "shutting_down");
    leg *l = exchange_committed_leg(e);
    if (running && l)
        exchange_break(e, l, false);
    else if (running)
        exchange_refuse(e, SJ_REFUSAL_SHUTTING_DOWN,
                        "This proxy is shutting down. Try again after Retry-After.", 1);
    if (!e->call)
        exchange_dispose(e);
}

void sj_exchange_abort_all(sj_worker *worker) {
    for (size_t i = 0; i < worker->slot_count; i++) {
        sj_exchange *e = worker->slots[i];
        if (e && e->journey && (!e->call || !sj_journey_is_over(e->journey)))
            abort_one(e);
        else if (e && exchange_is_following(e))
            exchange_abort_following(e);
    }
}

static void on_end(void *owner, bool complete) {
    sj_exchange *e = owner;
    assert(e->magic == EXCHANGE_MAGIC);
    e->call = NULL;
    bool good =
        e->end == END_RUNNING || e->end == END_ANSWERED || e->end == END_STALE || e->end == END_DEGRADED;
    if (good && !complete)
        e->end = END_CLIENT_GONE;
    else if (e->end == END_RUNNING)
        e->end = END_ANSWERED;
    if (e->end != END_CLIENT_GONE || !exchange_outlives_its_call(e))
        exchange_dispose(e);
}

static bool on_turn(void *context) {
    return sj_exchange_run_todo(context);
}

const sj_front_handlers sj_exchange_handlers = {
    .on_request = on_request,
    .on_body = on_body,
    .on_request_end = on_request_end,
    .on_writable = on_writable,
    .on_gone = on_gone,
    .on_end = on_end,
    .on_turn = on_turn,
};
