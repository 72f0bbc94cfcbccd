#include "exchange_internal.h"

#include "coalesce.h"

// The side of an exchange that retries join (BEHAVIOUR 6): who may, and how they are told. tape.h is what they read.

static void write_to(sj_exchange *e, uint32_t worker, const sj_letter *letter) {
    e->worker->links.post(e->worker->links.context, worker, letter);
}

void exchange_tell_readers(sj_exchange *e, const sj_tape_news *news) {
    for (int i = 0; i < news->count; i++)
        write_to(e, news->readers[i].worker,
                 &(sj_letter){.kind = SJ_LETTER_NEWS, .to = news->readers[i].exchange});
}

bool exchange_may_lead(const sj_exchange *e) {
    return e->worker->sketches[exchange_slot(e)] != 0;
}

bool exchange_has_readers(const sj_exchange *e) {
    return e->tape && sj_tape_readers(e->tape) > 0;
}

bool exchange_record_on_tape(sj_exchange *e) {
    if (!e->tape)
        e->tape = sj_tape_new((sj_tape_place){e->worker->index, e->id}, e->request_id);
    return e->tape != NULL;
}

void exchange_end_tape(sj_exchange *e, bool whole) {
    sj_tape_news news;
    sj_tape_end(e->tape, whole, e->answered, &news);
    exchange_tell_readers(e, &news);
}

// ---- who may join ---------------------------------------------------------------------------------------

// A tape that begins now would lack what has gone out; signs of life are no loss.
static bool has_spoken(const sj_exchange *e) {
    return e->has_spoken || (e->has_begun && !e->head_sent);
}

static bool make_tape(sj_exchange *e) {
    if (e->tape)
        return true;
    if (has_spoken(e) || !exchange_record_on_tape(e))
        return false;
    if (e->head_sent)
        exchange_early_head_on_tape(e);
    return true;
}

static bool is_running(const sj_exchange *e) {
    return e->journey && !sj_journey_is_over(e->journey);
}

static bool takes_in(sj_exchange *e, const sj_letter *ask, int *seat) {
    if (!is_running(e) || !sj_fingerprint_same(exchange_fingerprint(e), ask->print) || !make_tape(e))
        return false;
    *seat = sj_tape_join(e->tape, ask->from);
    if (*seat < 0)
        return false;
    if (e->joint && e->joint->latest_ms < ask->deadline_ms)
        e->joint->latest_ms = ask->deadline_ms;
    // A client who is still there is told in his own time.
    sj_journey_client_back(e->journey, e->left_ns ? ask->deadline_ms : 0, exchange_now(e));
    exchange_arm_timer(e);
    return true;
}

sj_tape *exchange_find_leader(sj_worker *worker, const sj_letter *ask, int *seat) {
    for (size_t i = 0; i < worker->slot_count; i++)
        if (worker->sketches[i] == ask->sketch && takes_in(worker->slots[i], ask, seat))
            return sj_tape_ref(worker->slots[i]->tape);
    return NULL;
}

// ---- letters --------------------------------------------------------------------------------------------

static void answer_ask(sj_worker *worker, const sj_letter *ask) {
    sj_letter reply = {.kind = SJ_LETTER_ALONE, .to = ask->from.exchange};
    reply.tape = exchange_find_leader(worker, ask, &reply.seat);
    if (reply.tape)
        reply.kind = SJ_LETTER_JOINED;
    worker->links.post(worker->links.context, ask->from.worker, &reply);
}

static void let_flow(sj_exchange *e) {
    for (int i = 0; i < LEGS_MAX; i++)
        exchange_let_flow(&e->legs[i]);
    exchange_arm_timer(e);
}

void sj_exchange_letter(sj_worker *worker, sj_letter *letter) {
    if (letter->kind == SJ_LETTER_ASK) {
        answer_ask(worker, letter);
        return;
    }
    sj_exchange *e = exchange_by_id(worker, letter->to);
    switch (letter->kind) {
    case SJ_LETTER_JOINED:
    case SJ_LETTER_ALONE:
        exchange_ask_answered(worker, e, letter);
        return;
    case SJ_LETTER_NEWS:
        if (e)
            exchange_follow(e);
        return;
    case SJ_LETTER_READ:
        if (e)
            let_flow(e);
        return;
    case SJ_LETTER_LEFT:
        if (e && !e->call)
            exchange_client_left(e);
        return;
    default:
        return;
    }
}
