#include "exchange_stand_in.h"

#include <assert.h>

static void on_timer(uv_timer_t *timer) {
    sj_exchange *e = timer->data;
    assert(e->magic == EXCHANGE_MAGIC);
    e->timer_at_ms = 0;
    if (exchange_is_asking(e)) {
        exchange_ask_timer(e);
        return;
    }
    if (exchange_is_following(e)) {
        exchange_follow_timer(e);
        return;
    }
    if (!e->journey)
        return;
    leg *l = exchange_committed_leg(e);
    if (l && exchange_now(e) >= sj_journey_due_ms(e->journey))
        exchange_tell_mends(e, l);
    sj_steps steps;
    sj_journey_timer(e->journey, exchange_now(e), &steps);
    exchange_take_steps(e, &steps);
    exchange_carry_out(e);
}

// The due time mostly moves away (each byte puts the idle limit off): the timer is left to ring early and armed anew then.
void exchange_arm_timer(sj_exchange *e) {
    int64_t due = e->journey ? sj_journey_due_ms(e->journey) : INT64_MAX;
    if (exchange_is_asking(e))
        due = e->joint->ask_until_ms;
    else if (exchange_is_following(e))
        due = exchange_follow_due(e);
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

void exchange_line_up(sj_exchange *e) {
    if (e->in_todo)
        return;
    e->in_todo = true;
    e->todo_next = NULL;
    sj_worker *worker = e->worker;
    *(worker->todo_last ? &worker->todo_last->todo_next : &worker->todo_first) = e;
    worker->todo_last = e;
}

void exchange_leave_todo(sj_exchange *e) {
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

void exchange_take_notes(sj_exchange *e, const sj_steps *steps) {
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

// It outlived its call, and there is nothing left to read.
static bool is_done(const sj_exchange *e) {
    return !e->call && e->journey && sj_journey_is_over(e->journey);
}

void exchange_take_steps(sj_exchange *e, const sj_steps *steps) {
    exchange_take_notes(e, steps);
    for (int i = 0; i < steps->count; i++) {
        assert(e->todo_count < TODO_MAX);
        e->todo[e->todo_count++] = steps->list[i];
    }
    if (steps->count || is_done(e))
        exchange_line_up(e);
}

static leg *leg_of(sj_exchange *e, int attempt) {
    for (int i = 0; i < LEGS_MAX; i++)
        if (attempt != 0 && e->legs[i].attempt == attempt)
            return &e->legs[i];
    return NULL;
}

static void start(sj_exchange *e, const sj_step *s) {
    leg *l = &e->legs[0];
    for (int i = 0; i < LEGS_MAX; i++)
        if (!e->legs[i].attempt || !e->legs[i].transfer)
            l = &e->legs[i];
    exchange_drop_leg(e, l);
    *l = (leg){.exchange = e, .attempt = s->attempt, .hop = s->hop, .key = s->key};
    sj_answer_init(&l->answer, &e->context);
    if (!s->mend || exchange_mend_with(e, l, s->mend))
        l->transfer = exchange_start_transfer(e, l, s->fresh, &exchange_attempt_handlers);
    if (l->transfer)
        return;
    sj_attempt_over over = {.facts = {.end = SJ_END_LOCAL, .error_code = "", .error_message = ""}};
    sj_steps steps;
    sj_journey_attempt_ended(e->journey, s->attempt, &over, exchange_now(e), &steps);
    exchange_take_steps(e, &steps);
}

leg *exchange_committed_leg(sj_exchange *e) {
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
    bool may_tell_error =
        s->kind == SJ_STEP_REFUSE || s->kind == SJ_STEP_DELIVER || s->kind == SJ_STEP_DELIVER_SAVED;
    if (may_tell_error && exchange_has_stand_in(e) && exchange_stand_in(e, s))
        return;
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
        exchange_drop_other_legs(e, l);
        if (l->answer.replay)
            exchange_mended(e, l);
        else
            exchange_commit(e, l);
        return;
    case SJ_STEP_MEND:
        exchange_begin_mend(e, l);
        return;
    case SJ_STEP_DELIVER:
        exchange_deliver_leg(e, l, s->class);
        return;
    case SJ_STEP_DELIVER_SAVED:
        exchange_deliver(e, e->saved.status, &e->saved.headers, sj_buffer_slice(&e->saved.body),
                         e->saved.content_length, s->hop);
        return;
    case SJ_STEP_KEEPALIVE:
        exchange_keepalive(e);
        return;
    case SJ_STEP_SUPPLY_DONE:
        exchange_supply_done(e, exchange_committed_leg(e));
        return;
    case SJ_STEP_FINISH:
        exchange_finish(e, s->class);
        return;
    case SJ_STEP_BREAK:
        exchange_break(e, exchange_committed_leg(e), s->quiet);
        return;
    case SJ_STEP_REFUSE:
        sj_journey_message(e->journey, s->refusal, message, sizeof message);
        exchange_refuse(e, s->refusal, message, s->retry_after_s);
        return;
    }
}

// Only at the loop's top level. A step may add others behind it.
void exchange_carry_out(sj_exchange *e) {
    for (int i = 0; i < e->todo_count; i++) {
        sj_step s = e->todo[i];
        carry_out_step(e, &s);
    }
    e->todo_count = 0;
    for (int i = 0; i < LEGS_MAX; i++)
        if (e->legs[i].transfer && !e->legs[i].held_back)
            sj_attempt_resume(e->legs[i].transfer);
    exchange_arm_timer(e);
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
            exchange_take_steps(e, &steps);
        }
        exchange_carry_out(e);
        exchange_follow(e);
        if (is_done(e))
            exchange_dispose(e);
    }
    return any;
}

void sj_exchange_granted(sj_worker *worker, uint64_t exchange_id) {
    sj_exchange *e = exchange_by_id(worker, exchange_id);
    if (!e || !e->journey)
        return; // it left, and gave the slot back then
    sj_steps steps;
    sj_journey_granted(e->journey, exchange_now(e), &steps);
    exchange_take_steps(e, &steps);
    exchange_carry_out(e);
}
