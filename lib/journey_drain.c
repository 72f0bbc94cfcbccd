#include "journey_internal.h"

// The client has left (BEHAVIOUR 2). What runs may be read on, so that its usage is counted: nothing new is started, no deadline holds but the
// drain's own, and a client that comes back finds the exchange where it is.

bool journey_is_draining(const sj_journey *j) {
    return j->drain_until_ms != INT64_MAX;
}

static void stop(sj_journey *j, const char *word, int64_t now, sj_steps *out) {
    journey_drop_everything(j, word, now, out);
    journey_end(j, now, out);
}

void journey_drain_over(sj_journey *j, int64_t now, sj_steps *out) {
    stop(j, "client_gone", now, out);
}

static void begin_drain(sj_journey *j, int64_t now, sj_steps *out) {
    journey_forget_next(j);
    for (int i = 0; i < MAX_RUNNING; i++)
        j->running[i].race_ms = INT64_MAX;
    j->drain_until_ms = now + j->plan.drain_ms;
    journey_note(out, SJ_NOTE_DRAIN, j->hop, "client_gone")->ms = j->plan.drain_ms;
}

void sj_journey_client_gone(sj_journey *j, int64_t now, sj_steps *out) {
    out->count = out->note_count = 0;
    if (j->state == STATE_OVER || journey_is_draining(j))
        return;
    bool runs = j->state == STATE_ATTEMPTING || j->state == STATE_COMMITTED;
    if (runs && j->plan.drain_ms > 0 && !j->mend) // nobody needs the rest of a stream that he has left
        begin_drain(j, now, out);
    else
        stop(j, "client_gone", now, out);
}

void sj_journey_client_back(sj_journey *j, int64_t deadline_ms, int64_t now) {
    bool nobody_listened = journey_is_draining(j);
    j->drain_until_ms = INT64_MAX;
    if (j->plan.deadline_ms < deadline_ms)
        j->plan.deadline_ms = deadline_ms;
    if (nobody_listened && j->keepalive_at_ms != INT64_MAX)
        j->keepalive_at_ms = now + j->plan.keepalive_ms;
}

void sj_journey_abort(sj_journey *j, const char *why, int64_t now, sj_steps *out) {
    out->count = out->note_count = 0;
    if (j->state != STATE_OVER)
        stop(j, why, now, out);
}
