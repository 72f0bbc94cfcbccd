#include "exchange_internal.h"

#include "http_rules.h"
#include "text.h"

#include <assert.h>
#include <stdlib.h>
#include <time.h>

enum { SPARE_MAX = 256 };

static void carry_out(sj_exchange *e);
static void take_steps(sj_exchange *e, const sj_steps *steps);

// ---- life -----------------------------------------------------------------------------------------------------------------------

static uint64_t slot_of(uint64_t id) { return id & ((1u << SLOT_BITS) - 1); }

static bool take_slot(sj_worker *worker, sj_exchange *e) {
    if (worker->exchange_count == worker->slot_count) {
        size_t count = worker->slot_count ? worker->slot_count * 2 : 64;
        sj_exchange **slots = count <= (1u << SLOT_BITS) ? realloc(worker->slots, count * sizeof(sj_exchange *)) : NULL;
        if (!slots)
            return false;
        memset(slots + worker->slot_count, 0, (count - worker->slot_count) * sizeof *slots);
        worker->slots = slots;
        worker->slot_count = count;
    }
    size_t slot = worker->free_slot;
    while (worker->slots[slot % worker->slot_count])
        slot++;
    slot %= worker->slot_count;
    worker->free_slot = (uint32_t)((slot + 1) % worker->slot_count);
    worker->slots[slot] = e;
    worker->exchange_count++;
    // Unique in the process: slots and queues are shared by all workers.
    e->id = (++worker->serial << (SLOT_BITS + WORKER_BITS)) | ((uint64_t)worker->index << SLOT_BITS) | slot;
    return true;
}

// Exchanges that are over serve again: blocks of their size are dear to allocate.
static sj_exchange *take_exchange(sj_worker *worker) {
    sj_exchange *e = worker->spare;
    if (!e)
        return calloc(1, sizeof *e);
    worker->spare = e->todo_next;
    worker->spare_count--;
    memset(e, 0, sizeof *e);
    return e;
}

static void give_exchange_back(sj_worker *worker, sj_exchange *e) {
    e->magic = 0;
    if (worker->spare_count >= SPARE_MAX) {
        free(e);
        return;
    }
    e->todo_next = worker->spare;
    worker->spare = e;
    worker->spare_count++;
}

void sj_exchange_free_spare(sj_worker *worker) {
    sj_exchange *e;
    while ((e = worker->spare)) {
        worker->spare = e->todo_next;
        free(e);
    }
}

static void on_timer_closed(uv_handle_t *handle) {
    sj_exchange *e = handle->data;
    give_exchange_back(e->worker, e);
}

static void drop_leg(sj_exchange *e, leg *l) {
    if (!l || !l->attempt)
        return;
    if (l->transfer)
        sj_attempt_cancel(&l->transfer);
    e->dropped_events += l->answer.dropped_events;
    if (l->answer.completion.usage.total_tokens >= 0 || l->answer.completion.usage.completion_tokens >= 0)
        e->usage = l->answer.completion.usage;
    sj_answer_free(&l->answer);
    l->attempt = 0;
}

static void drop_other_legs(sj_exchange *e, const leg *keep) {
    for (int i = 0; i < LEGS_MAX; i++)
        if (&e->legs[i] != keep)
            drop_leg(e, &e->legs[i]);
}

static void leave_todo(sj_exchange *e) {
    if (!e->in_todo)
        return;
    sj_worker *worker = e->worker;
    sj_exchange *before = NULL;
    for (sj_exchange *x = worker->todo_first; x != e; x = x->todo_next)
        before = x;
    *(before ? &before->todo_next : &worker->todo_first) = e->todo_next;
    if (worker->todo_last == e)
        worker->todo_last = before;
    e->in_todo = false;
}

// The one place where an exchange ends (invariant 1): reached from the front's on_end alone, which comes exactly once whatever happened.
static void dispose(sj_exchange *e) {
    assert(e->magic == EXCHANGE_MAGIC && !e->call);
    sj_worker *worker = e->worker;
    if (e->journey && !sj_journey_is_over(e->journey)) {
        sj_steps steps;
        sj_journey_client_gone(e->journey, exchange_now(e), &steps);
        take_steps(e, &steps);
    }
    leave_todo(e);
    drop_other_legs(e, NULL);
    exchange_record(e);
    sj_headers_free(&e->saved.headers);
    sj_buffer_free(&e->saved.body);
    sj_journey_free(&e->journey);
    sj_body_free(&e->body);
    for (size_t i = 0; i < e->hop_count; i++)
        free(e->requests[i].model_json);
    free(e->hops);
    sj_setup_unref(&e->setup);
    worker->slots[slot_of(e->id)] = NULL;
    worker->exchange_count--;
    if (e->timer_open)
        uv_close((uv_handle_t *)&e->timer, on_timer_closed);
    else
        on_timer_closed((uv_handle_t *)&e->timer);
}

// ---- time -----------------------------------------------------------------------------------------------------------------------

static void on_timer(uv_timer_t *timer) {
    sj_exchange *e = timer->data;
    assert(e->magic == EXCHANGE_MAGIC);
    e->timer_at_ms = 0;
    sj_steps steps;
    sj_journey_timer(e->journey, exchange_now(e), &steps);
    take_steps(e, &steps);
    carry_out(e);
}

// The due time mostly moves away (each byte puts the idle limit off): the timer is left to ring early and armed anew then.
static void arm_timer(sj_exchange *e) {
    int64_t due = e->journey ? sj_journey_due_ms(e->journey) : INT64_MAX;
    if (due == INT64_MAX || (e->timer_at_ms && e->timer_at_ms <= due))
        return;
    if (!e->timer_open) {
        uv_timer_init(&e->worker->loop, &e->timer);
        e->timer_open = true;
    }
    int64_t delay = due - exchange_now(e);
    e->timer_at_ms = due;
    uv_timer_start(&e->timer, on_timer, delay > 0 ? (uint64_t)delay : 0, 0);
}

// ---- steps ----------------------------------------------------------------------------------------------------------------------

static void line_up(sj_exchange *e) {
    if (e->in_todo)
        return;
    e->in_todo = true;
    e->todo_next = NULL;
    sj_worker *worker = e->worker;
    *(worker->todo_last ? &worker->todo_last->todo_next : &worker->todo_first) = e;
    worker->todo_last = e;
}

static void take_notes(sj_exchange *e, const sj_steps *steps) {
    for (int i = 0; i < steps->note_count; i++) {
        const sj_note *note = &steps->notes[i];
        if (note->kind == SJ_NOTE_GRANT) {
            e->worker->links.grant(e->worker->links.context, &note->wake);
            continue;
        }
        sj_metrics_note(e->worker->metrics, e->hops[note->hop].label, note);
        sj_log_note(e->worker->log, e->request_id, e->hops[note->hop].label, note);
    }
}

static void take_steps(sj_exchange *e, const sj_steps *steps) {
    take_notes(e, steps);
    for (int i = 0; i < steps->count; i++) {
        assert(e->todo_count < TODO_MAX);
        e->todo[e->todo_count++] = steps->list[i];
    }
    if (steps->count)
        line_up(e);
}

static leg *leg_of(sj_exchange *e, int attempt) {
    for (int i = 0; i < LEGS_MAX; i++)
        if (attempt != 0 && e->legs[i].attempt == attempt)
            return &e->legs[i];
    return NULL;
}

static const sj_attempt_handlers attempt_handlers;

static void start(sj_exchange *e, const sj_step *s) {
    leg *l = &e->legs[0];
    for (int i = 0; i < LEGS_MAX; i++)
        if (!e->legs[i].attempt || !e->legs[i].transfer)
            l = &e->legs[i];
    drop_leg(e, l);
    *l = (leg){.exchange = e, .attempt = s->attempt, .hop = s->hop};
    sj_answer_init(&l->answer, &e->context);
    l->transfer = exchange_start_transfer(e, l, s->fresh, &attempt_handlers);
    if (l->transfer)
        return;
    sj_attempt_over over = {.facts = {.end = SJ_END_LOCAL, .error_code = "", .error_message = ""}};
    sj_steps steps;
    sj_journey_attempt_ended(e->journey, s->attempt, &over, exchange_now(e), &steps);
    take_steps(e, &steps);
}

static leg *committed_leg(sj_exchange *e) {
    for (int i = 0; i < LEGS_MAX; i++)
        if (e->legs[i].attempt && e->legs[i].answer.committed)
            return &e->legs[i];
    return NULL;
}

static void save(sj_exchange *e, leg *l) {
    if (!l)
        return;
    sj_headers_free(&e->saved.headers);
    sj_buffer_free(&e->saved.body);
    e->saved = (saved_answer){
        .set = true,
        .status = l->answer.status,
        .content_length = l->answer.content_length,
        .headers = l->answer.headers,
        .body = l->answer.held,
    };
    sj_headers_init(&l->answer.headers);
    l->answer.held = sj_buffer_with_max(0);
}

static void carry_out_step(sj_exchange *e, const sj_step *s) {
    leg *l = leg_of(e, s->attempt);
    char message[1536];
    switch (s->kind) {
    case SJ_STEP_START:
        start(e, s);
        return;
    case SJ_STEP_CANCEL:
        if (l) { // what it told so far may still be needed to end the answer
            l->answer.deaf = true;
            sj_attempt_cancel(&l->transfer);
        }
        return;
    case SJ_STEP_SAVE:
        save(e, l);
        return;
    case SJ_STEP_COMMIT:
        drop_other_legs(e, l);
        exchange_commit(e, l);
        return;
    case SJ_STEP_DELIVER:
        exchange_deliver_leg(e, l);
        return;
    case SJ_STEP_DELIVER_SAVED:
        exchange_deliver(e, e->saved.status, &e->saved.headers, sj_buffer_slice(&e->saved.body), e->saved.content_length, s->hop);
        return;
    case SJ_STEP_KEEPALIVE:
        exchange_keepalive(e);
        return;
    case SJ_STEP_SUPPLY_DONE:
        exchange_supply_done(e, committed_leg(e));
        return;
    case SJ_STEP_FINISH:
        exchange_finish(e);
        return;
    case SJ_STEP_BREAK:
        exchange_break(e, committed_leg(e), s->quiet);
        return;
    case SJ_STEP_REFUSE:
        sj_journey_message(e->journey, s->refusal, message, sizeof message);
        exchange_refuse(e, s->refusal, message, s->retry_after_s);
        return;
    }
}

// Only at the loop's top level. A step may add others behind it.
static void carry_out(sj_exchange *e) {
    for (int i = 0; i < e->todo_count; i++) {
        sj_step s = e->todo[i];
        if (e->call || s.kind == SJ_STEP_CANCEL)
            carry_out_step(e, &s);
    }
    e->todo_count = 0;
    for (int i = 0; i < LEGS_MAX; i++)
        if (e->legs[i].transfer && !e->legs[i].held_back)
            sj_attempt_resume(e->legs[i].transfer);
    arm_timer(e);
}

bool sj_exchange_run_todo(sj_worker *worker) {
    bool any = false;
    sj_exchange *e;
    while ((e = worker->todo_first)) {
        worker->todo_first = e->todo_next;
        if (!worker->todo_first)
            worker->todo_last = NULL;
        e->in_todo = false;
        any = true;
        if (e->start_asked) {
            e->start_asked = false;
            sj_steps steps;
            sj_journey_admitted(e->journey, exchange_now(e), &steps);
            take_steps(e, &steps);
        }
        carry_out(e);
    }
    return any;
}

void sj_exchange_granted(sj_worker *worker, uint64_t exchange_id) {
    size_t slot = slot_of(exchange_id);
    sj_exchange *e = slot < worker->slot_count ? worker->slots[slot] : NULL;
    if (!e || e->id != exchange_id || !e->journey)
        return; // it left, and gave the slot back then
    sj_steps steps;
    sj_journey_granted(e->journey, exchange_now(e), &steps);
    take_steps(e, &steps);
    carry_out(e);
}

// ---- the upstream's news --------------------------------------------------------------------------------------------------------

static void on_says(void *owner, unsigned says) {
    leg *l = owner;
    sj_steps steps;
    sj_journey_attempt_says(l->exchange->journey, l->attempt, says, exchange_now(l->exchange), &steps);
    take_steps(l->exchange, &steps);
}

static void on_error_event(void *owner, const char *code, const char *message) {
    leg *l = owner;
    sj_steps steps;
    sj_journey_attempt_error(l->exchange->journey, l->attempt, code, message, exchange_now(l->exchange), &steps);
    for (int i = 0; i < steps.count; i++)
        l->answer.deaf |= steps.list[i].kind == SJ_STEP_CANCEL && steps.list[i].attempt == l->attempt;
    take_steps(l->exchange, &steps);
}

void exchange_hold_back(leg *l) {
    if (l->held_back || !l->transfer)
        return;
    l->held_back = true;
    sj_attempt_hold(l->transfer);
    sj_journey_attempt_held(l->exchange->journey, l->attempt, true, exchange_now(l->exchange));
}

void exchange_let_flow(leg *l) {
    if (!l->held_back || !l->transfer)
        return;
    l->held_back = false;
    sj_journey_attempt_held(l->exchange->journey, l->attempt, false, exchange_now(l->exchange));
    sj_attempt_resume(l->transfer);
}

static void on_client_bytes(void *owner, sj_slice bytes) {
    leg *l = owner;
    sj_exchange *e = l->exchange;
    if (!e->call)
        return;
    e->bytes_out += bytes.n;
    if (sj_call_write(e->call, bytes) > SJ_FRONT_HIGH_WATER)
        exchange_hold_back(l);
}

static const sj_answer_listener listener = {.on_says = on_says, .on_error = on_error_event, .on_bytes = on_client_bytes};

static void on_attempt_head(void *owner, int status, const sj_headers *headers) {
    leg *l = owner;
    sj_exchange *e = l->exchange;
    sj_answer_head(&l->answer, status, headers);
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    int64_t wall_ms = (int64_t)wall.tv_sec * 1000 + wall.tv_nsec / 1000000;
    sj_retry_hint hint = sj_retry_hint_read(headers, status, wall_ms);
    sj_steps steps;
    sj_journey_attempt_head(e->journey, l->attempt, status, &hint, sj_answer_is_inspected(&l->answer), exchange_now(e), &steps);
    take_steps(e, &steps);
    arm_timer(e);
}

static void give_up_lost(leg *l) {
    sj_exchange *e = l->exchange;
    sj_attempt_over over = {.facts = {.end = SJ_END_LOCAL, .status = l->answer.status, .error_code = "", .error_message = ""}, .sent = true};
    sj_attempt_cancel(&l->transfer);
    sj_steps steps;
    sj_journey_attempt_ended(e->journey, l->attempt, &over, exchange_now(e), &steps);
    take_steps(e, &steps);
}

static void on_attempt_data(void *owner, sj_slice bytes) {
    leg *l = owner;
    sj_exchange *e = l->exchange;
    if (l->answer.lost && l->transfer)
        give_up_lost(l);
    if (l->answer.deaf)
        return;
    sj_answer_feed(&l->answer, bytes, &listener, l);
    // One note of life for the whole read; what it said has been told.
    on_says(l, 0);
    // curl reads many times inside one call: what those would bring has to wait for the steps.
    if (e->todo_count && l->transfer)
        sj_attempt_hold(l->transfer);
    arm_timer(e);
}

static int64_t tokens_used(const sj_usage *usage) {
    if (usage->total_tokens > 0)
        return usage->total_tokens;
    int64_t in = usage->prompt_tokens, out = usage->completion_tokens;
    return (in > 0 ? in : 0) + (out > 0 ? out : 0);
}

static void on_attempt_end(void *owner, const sj_attempt_end *end, const sj_headers *trailers) {
    leg *l = owner;
    sj_exchange *e = l->exchange;
    int attempt = l->attempt;
    l->transfer = NULL;
    // First what its bytes asked for, which may drop this attempt and give its place to the next one.
    carry_out(e);
    if (!attempt || l->attempt != attempt)
        return;
    if (!l->answer.deaf)
        sj_answer_end(&l->answer, &listener, l);
    bool lost = l->answer.lost;
    sj_attempt_over over = {
        .whole = !lost && sj_answer_is_whole(&l->answer),
        .lacks_only_done = !lost && sj_answer_lacks_only_done(&l->answer),
        .sent = end->sent,
        .own_side = end->own_side,
        .connect_timed_out = end->connect_timed_out,
    };
    sj_answer_facts(&l->answer, lost ? SJ_END_LOCAL : end->end, &over.facts);
    over.tokens = tokens_used(&l->answer.completion.usage); // of a whole answer they are known now
    sj_steps steps;
    sj_journey_attempt_ended(e->journey, attempt, &over, exchange_now(e), &steps);
    take_steps(e, &steps);
    e->trailers = trailers;
    carry_out(e);
    e->trailers = NULL;
}

static const sj_attempt_handlers attempt_handlers = {.on_head = on_attempt_head, .on_data = on_attempt_data, .on_end = on_attempt_end};

// ---- the client's news ----------------------------------------------------------------------------------------------------------

static bool refuse_early(sj_exchange *e, const sj_call_head *head) {
    const sj_config *config = exchange_config(e);
    sj_worker *worker = e->worker;
    if (sj_slice_equal(e->path, SJ_SLICE("/healthz")) || sj_slice_equal(e->path, SJ_SLICE("/readyz"))) {
        exchange_health(e, e->path.p[1] == 'h' || !worker->links.draining(worker->links.context));
        return true;
    }
    if (head->over_limit) {
        sj_call_close_after(e->call);
        exchange_refuse(e, SJ_REFUSAL_OVERLOADED, "Too many connections. Try again after Retry-After, or raise limits.connections.", 1);
    } else if (worker->draining) {
        sj_call_close_after(e->call);
        exchange_refuse(e, SJ_REFUSAL_SHUTTING_DOWN, "This proxy is shutting down. Try again after Retry-After.", 1);
    } else if (!exchange_authorise(e))
        exchange_refuse(e, SJ_REFUSAL_UNAUTHORIZED, "Send one of the proxy's client_keys as \"Authorization: Bearer KEY\" (or api-key).", 0);
    else if (head->content_length > 0 && (uint64_t)head->content_length > config->max_body_bytes)
        exchange_refuse(e, SJ_REFUSAL_BODY_TOO_LARGE, "The request body is larger than max_body.", 0);
    else
        return false;
    return true;
}

static void *on_request(void *context, sj_call *call, const sj_call_head *head) {
    sj_worker *worker = context;
    sj_exchange *e = take_exchange(worker);
    if (!e)
        return NULL; // nothing can be said without memory for it
    if (!take_slot(worker, e)) {
        give_exchange_back(worker, e);
        return NULL;
    }
    e->magic = EXCHANGE_MAGIC;
    e->worker = worker;
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
        exchange_refuse(e, SJ_REFUSAL_OVERLOADED, "No temporary file for a large request body: check TMPDIR and its free space.", 5);
    else
        exchange_refuse(e, SJ_REFUSAL_OVERLOADED, "Request bodies fill limits.body_memory. Try again after Retry-After.", 1);
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
    e->start_asked = true;
    line_up(e);
}

static void on_writable(void *owner) {
    sj_exchange *e = owner;
    for (int i = 0; i < LEGS_MAX; i++)
        exchange_let_flow(&e->legs[i]);
    arm_timer(e);
}

// Nothing more is wanted: what it holds of the shared things is given back.
static void abandon(sj_exchange *e) {
    sj_steps steps;
    sj_journey_client_gone(e->journey, exchange_now(e), &steps);
    take_notes(e, &steps);
    e->start_asked = false;
    // Cancelling is allowed anywhere.
    for (int i = 0; i < LEGS_MAX; i++) {
        e->legs[i].answer.deaf = true;
        if (e->legs[i].transfer)
            sj_attempt_cancel(&e->legs[i].transfer);
    }
    e->todo_count = 0;
}

static void on_gone(void *owner) {
    sj_exchange *e = owner;
    e->end = END_CLIENT_GONE;
    if (e->journey)
        abandon(e);
}

void sj_exchange_abort_all(sj_worker *worker) {
    for (size_t i = 0; i < worker->slot_count; i++) {
        sj_exchange *e = worker->slots[i];
        if (!e || !e->call || !e->journey || sj_journey_is_over(e->journey))
            continue;
        abandon(e);
        leg *l = committed_leg(e);
        if (l)
            exchange_break(e, l, false);
        else
            exchange_refuse(e, SJ_REFUSAL_SHUTTING_DOWN, "This proxy is shutting down. Try again after Retry-After.", 1);
    }
}

static void on_end(void *owner, bool complete) {
    sj_exchange *e = owner;
    assert(e->magic == EXCHANGE_MAGIC);
    e->call = NULL;
    if (e->end == END_RUNNING || e->end == END_ANSWERED)
        e->end = complete ? END_ANSWERED : END_CLIENT_GONE;
    dispose(e);
}

static bool on_turn(void *context) { return sj_exchange_run_todo(context); }

const sj_front_handlers sj_exchange_handlers = {
    .on_request = on_request,
    .on_body = on_body,
    .on_request_end = on_request_end,
    .on_writable = on_writable,
    .on_gone = on_gone,
    .on_end = on_end,
    .on_turn = on_turn,
};
