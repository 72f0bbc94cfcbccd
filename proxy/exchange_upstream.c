#include "exchange_internal.h"

#include <time.h>

static void on_says(void *owner, unsigned says) {
    leg *l = owner;
    sj_steps steps;
    sj_journey_attempt_says(l->exchange->journey, l->attempt, says, exchange_now(l->exchange), &steps);
    exchange_take_steps(l->exchange, &steps);
}

static bool on_error_event(void *owner, const char *code, const char *message, sj_slice raw) {
    leg *l = owner;
    sj_exchange *e = l->exchange;
    bool shown = !sj_journey_is_mending(e->journey);
    sj_steps steps;
    exchange_tell_mends(e, l);
    sj_journey_attempt_error(e->journey, l->attempt, code, message, exchange_now(e), &steps);
    for (int i = 0; i < steps.count; i++) {
        l->answer.deaf |= steps.list[i].kind == SJ_STEP_CANCEL && steps.list[i].attempt == l->attempt;
        if (steps.list[i].kind != SJ_STEP_MEND)
            continue;
        exchange_keep_cause(e, raw);
        shown = false;
    }
    exchange_take_steps(e, &steps);
    return shown;
}

static void on_diverged(void *owner) {
    leg *l = owner;
    sj_exchange *e = l->exchange;
    sj_steps steps;
    l->answer.deaf = true;
    exchange_tell_mends(e, l);
    sj_journey_attempt_diverged(e->journey, l->attempt, exchange_now(e), &steps);
    exchange_take_steps(e, &steps);
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
    if (exchange_out_write(l->exchange, bytes))
        exchange_hold_back(l);
}

static const sj_answer_listener listener = {
    .on_says = on_says, .on_error = on_error_event, .on_diverged = on_diverged, .on_bytes = on_client_bytes};

static void on_attempt_head(void *owner, int status, const sj_headers *headers) {
    leg *l = owner;
    sj_exchange *e = l->exchange;
    sj_answer_head(&l->answer, status, headers);
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    int64_t wall_ms = (int64_t)wall.tv_sec * 1000 + wall.tv_nsec / 1000000;
    sj_retry_hint hint = sj_retry_hint_read(headers, status, wall_ms);
    sj_steps steps;
    sj_journey_attempt_head(e->journey, l->attempt, status, &hint, sj_answer_is_inspected(&l->answer),
                            exchange_now(e), &steps);
    exchange_take_steps(e, &steps);
    if (l->answer.replay && l->answer.mode == SJ_ANSWER_OPAQUE)
        on_diverged(l);
    exchange_arm_timer(e);
}

static void give_up_lost(leg *l) {
    sj_exchange *e = l->exchange;
    sj_attempt_over over = {
        .facts = {.end = SJ_END_LOCAL, .status = l->answer.status, .error_code = "", .error_message = ""},
        .sent = true};
    sj_attempt_cancel(&l->transfer);
    sj_steps steps;
    sj_journey_attempt_ended(e->journey, l->attempt, &over, exchange_now(e), &steps);
    exchange_take_steps(e, &steps);
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
    exchange_arm_timer(e);
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
    exchange_carry_out(e);
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
    exchange_tell_mends(e, l);
    sj_steps steps;
    sj_journey_attempt_ended(e->journey, attempt, &over, exchange_now(e), &steps);
    exchange_take_steps(e, &steps);
    e->trailers = trailers;
    exchange_carry_out(e);
    e->trailers = NULL;
}

const sj_attempt_handlers exchange_attempt_handlers = {
    .on_head = on_attempt_head, .on_data = on_attempt_data, .on_end = on_attempt_end};
