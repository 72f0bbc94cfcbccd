#include "exchange_internal.h"

#include "coalesce.h"

#include <stdlib.h>

// The side of a retry (BEHAVIOUR 6): before it pays for an attempt of its own it asks all workers for an exchange in flight that it repeats, and then
// reads that one's answer. Its own exchange has no journey from then on.

enum { ASK_MAX_MS = 200 }; // a worker that is that busy is not waited for

sj_fingerprint exchange_fingerprint(sj_exchange *e) {
    if (e->joint)
        return e->joint->print;
    sj_question question = {
        .client = exchange_client_name(e),
        .method = e->method,
        .target = e->target,
        .headers = e->headers,
        .body = sj_body_bytes(e->body),
    };
    uint64_t low = sj_setup_hash(e->setup, SJ_SLICE("coalesce low")),
             high = sj_setup_hash(e->setup, SJ_SLICE("coalesce high"));
    sj_fingerprint print = sj_coalesce_fingerprint(&question, low, high);
    e->joint = calloc(1, sizeof *e->joint);
    if (e->joint)
        e->joint->print = print;
    return print;
}

static bool is_in(const sj_exchange *e, join_state state) {
    return e->joint && e->joint->state == state;
}

bool exchange_is_asking(const sj_exchange *e) {
    return is_in(e, JOIN_ASKING);
}

bool exchange_is_following(const sj_exchange *e) {
    return is_in(e, JOIN_FOLLOWING);
}

// ---- asking ---------------------------------------------------------------------------------------------

static uint64_t *sketch_of(sj_exchange *e) {
    return &e->worker->sketches[exchange_slot(e)];
}

static void register_as_leader(sj_exchange *e) {
    *sketch_of(e) = sj_coalesce_sketch(e->client, sj_body_bytes(e->body).n);
}

static void go_alone(sj_exchange *e) {
    if (e->joint)
        e->joint->state = JOIN_NOT;
    register_as_leader(e);
    if (sj_coalesce_has_key(e->headers)) // its client means to ask again, perhaps amid the answer
        (void)exchange_record_on_tape(e);
    e->start_asked = true;
    exchange_line_up(e);
}

static void follow(sj_exchange *e, sj_tape *tape, int seat) {
    joint *j = e->joint;
    j->state = JOIN_FOLLOWING;
    j->follows = tape;
    j->seat = seat;
    sj_journey_free(&e->journey);
    sj_body_free(&e->body);
    sj_log_event(e->worker->log, SJ_LOG_INFO, "coalesced", sj_log_text("request_id", e->request_id),
                 sj_log_text("with", sj_tape_request_id(tape)));
    exchange_line_up(e);
}

static void ask(sj_exchange *e) {
    sj_letter letter = {
        .kind = SJ_LETTER_ASK,
        .from = {e->worker->index, e->id},
        .sketch = sj_coalesce_sketch(e->client, sj_body_bytes(e->body).n),
        .print = exchange_fingerprint(e),
        .deadline_ms = e->deadline_ms,
    };
    joint *j = e->joint;
    int seat;
    sj_tape *tape = j ? exchange_find_leader(e->worker, &letter, &seat) : NULL;
    if (tape) {
        follow(e, tape, seat);
        return;
    }
    int asked = j ? e->worker->links.ask(e->worker->links.context, &letter) : 0;
    if (asked == 0) {
        go_alone(e);
        return;
    }
    j->state = JOIN_ASKING;
    j->answers_due = asked;
    j->ask_until_ms = exchange_now(e) + ASK_MAX_MS;
    exchange_arm_timer(e);
}

void exchange_begin(sj_exchange *e) {
    size_t n = e->body ? sj_body_bytes(e->body).n : 0;
    if (e->route->coalesce && e->context.generation && n > 0 && n <= SJ_COALESCE_BODY_MAX) {
        if (e->is_repeat) {
            ask(e);
            return;
        }
        register_as_leader(e);
    }
    e->start_asked = true;
    exchange_line_up(e);
}

void exchange_ask_timer(sj_exchange *e) {
    if (exchange_now(e) >= e->joint->ask_until_ms)
        go_alone(e);
    else
        exchange_arm_timer(e);
}

static void give_seat_back(sj_worker *worker, sj_tape *tape, int seat) {
    sj_tape_place writer = sj_tape_writer(tape);
    sj_tape_leave(tape, seat);
    worker->links.post(worker->links.context, writer.worker,
                       &(sj_letter){.kind = SJ_LETTER_LEFT, .to = writer.exchange});
}

void exchange_ask_answered(sj_worker *worker, sj_exchange *e, sj_letter *letter) {
    bool asking = e && exchange_is_asking(e);
    if (letter->tape && asking) {
        follow(e, letter->tape, letter->seat);
        letter->tape = NULL;
    } else if (letter->tape) // it has left, goes its own way by now, or has found another one
        give_seat_back(worker, letter->tape, letter->seat);
    else if (asking && --e->joint->answers_due == 0)
        go_alone(e);
}

// ---- following ------------------------------------------------------------------------------------------

// As the other client got it, but for the labels that are about this request.
static bool own_headers(const sj_exchange *e, const sj_headers *from, sj_headers *out) {
    bool ok = true;
    for (size_t i = 0; ok && i < from->count; i++) {
        sj_header header = sj_headers_at(from, i);
        if (sj_slice_equal_nocase(header.name, SJ_SLICE("x-stormjib-request-id")))
            header.value = sj_slice_of(e->request_id);
        ok = sj_headers_add(out, header.name, header.value);
    }
    if (ok && exchange_config(e)->labels)
        ok = sj_headers_add(out, SJ_SLICE("x-stormjib-coalesced"),
                            sj_slice_of(sj_tape_request_id(e->joint->follows)));
    return ok;
}

static void begin_answer(sj_exchange *e, const sj_tape_begin *begin) {
    sj_headers headers;
    sj_headers_init(&headers);
    e->joint->begun = true;
    if (own_headers(e, &begin->headers, &headers))
        exchange_out_begin(e, begin->status, &headers, begin->content_length);
    else
        exchange_out_cut(e);
    sj_headers_free(&headers);
}

static void leave_seat(sj_exchange *e) {
    e->joint->state = JOIN_NOT;
    give_seat_back(e->worker, e->joint->follows, e->joint->seat);
}

static void end_answer(sj_exchange *e, sj_tape_state state) {
    sj_refusal refusal = sj_tape_refusal(e->joint->follows);
    leave_seat(e);
    if (state == SJ_TAPE_WHOLE) {
        exchange_set_end(e, refusal == SJ_REFUSAL_NONE ? END_ANSWERED : END_REFUSED, refusal);
        exchange_out_finish(e, NULL);
    } else if (e->joint->begun) {
        exchange_set_end(e, END_BROKEN, refusal == SJ_REFUSAL_NONE ? SJ_REFUSAL_STREAM_BROKEN : refusal);
        exchange_out_cut(e);
    } else
        exchange_refuse(e, SJ_REFUSAL_MAX_RETRIES_EXCEEDED,
                        "The request that this one repeats came to no answer.", 0);
}

// False: not now, or not any more.
static bool read_some(sj_exchange *e) {
    joint *j = e->joint;
    sj_tape_chunk chunk;
    sj_tape_state state = sj_tape_read(j->follows, j->seat, &chunk);
    sj_tape_place writer = sj_tape_writer(j->follows);
    if (chunk.tell_writer)
        e->worker->links.post(e->worker->links.context, writer.worker,
                              &(sj_letter){.kind = SJ_LETTER_READ, .to = writer.exchange});
    const sj_tape_begin *begin = j->begun ? NULL : sj_tape_begun(j->follows);
    if (begin)
        begin_answer(e, begin);
    if (state == SJ_TAPE_WAIT)
        return false;
    if (state != SJ_TAPE_BYTES) {
        end_answer(e, state);
        return false;
    }
    if (e->first_content_ns < 0)
        e->first_content_ns = (int64_t)uv_hrtime();
    return !exchange_out_write(e, (sj_slice){chunk.bytes, chunk.n});
}

void exchange_follow(sj_exchange *e) {
    while (exchange_is_following(e) && e->call && read_some(e))
        ;
}

// Before the answer has begun; then it lasts as long as it does.
int64_t exchange_follow_due(const sj_exchange *e) {
    return e->joint->begun ? INT64_MAX : e->deadline_ms;
}

void exchange_follow_timer(sj_exchange *e) {
    if (exchange_now(e) < exchange_follow_due(e)) {
        exchange_arm_timer(e);
        return;
    }
    leave_seat(e);
    exchange_refuse(e, SJ_REFUSAL_DEADLINE_EXCEEDED,
                    "The request that this one repeats was not answered within this one's deadline. Raise "
                    "deadline, or the client's time-out.",
                    0);
}

// ---- the end --------------------------------------------------------------------------------------------

void exchange_stop_joining(sj_exchange *e) {
    if (exchange_is_following(e))
        leave_seat(e);
    else if (e->joint)
        e->joint->state = JOIN_NOT;
}

void exchange_abort_following(sj_exchange *e) {
    exchange_stop_joining(e);
    if (e->joint->begun) {
        exchange_set_end(e, END_BROKEN, SJ_REFUSAL_SHUTTING_DOWN);
        exchange_out_cut(e);
    } else
        exchange_refuse(e, SJ_REFUSAL_SHUTTING_DOWN,
                        "This proxy is shutting down. Try again after Retry-After.", 1);
}

void exchange_forget_joint(sj_exchange *e) {
    *sketch_of(e) = 0;
    exchange_stop_joining(e);
    if (e->tape)
        exchange_end_tape(e, false);
    sj_tape_unref(&e->tape);
    if (e->joint)
        sj_tape_unref(&e->joint->follows);
    free(e->joint);
    e->joint = NULL;
}
