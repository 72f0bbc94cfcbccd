#include "journey.h"

#include "journey_internal.h"
#include "text.h"

#include <assert.h>
#include <stdlib.h>

enum { QUIET_COMPLETES_MS = 5000, FORECAST_MAX_MS = 10000 };

static void clear(sj_steps *out) {
    out->count = out->note_count = 0;
}

sj_journey *sj_journey_new(const sj_plan *plan) {
    assert(plan->hop_count > 0);
    size_t hop_count = plan->hop_count < MAX_HOPS ? plan->hop_count : MAX_HOPS;
    sj_journey *j = calloc(1, sizeof *j + hop_count * sizeof j->hops[0]);
    if (!j)
        return NULL;
    j->plan = *plan;
    j->plan.hop_count = hop_count;
    j->trail = j->short_trail;
    j->trail_room = SHORT_TRAIL;
    j->earliest_ms = j->keepalive_at_ms = j->drain_until_ms = INT64_MAX;
    sj_rng_seed(&j->rng, plan->seed);
    return j;
}

void sj_journey_free(sj_journey **journey) {
    sj_journey *j = *journey;
    if (!j)
        return;
    assert(j->state == STATE_OVER || j->state == STATE_NEW);
    for (int i = 0; i < MAX_RUNNING; i++)
        assert(j->running[i].id == 0);
    assert(!j->next_is_paid);
    if (j->trail != j->short_trail)
        free(j->trail);
    free(j);
    *journey = NULL;
}

bool sj_journey_is_over(const sj_journey *j) {
    return j->state == STATE_OVER;
}

// ---- committed ------------------------------------------------------------------------------------------

static void commit(sj_journey *j, attempt_state *a, int64_t now, sj_steps *out) {
    assert(j->state == STATE_ATTEMPTING); // invariant 2
    journey_drop_others(j, a, now, out);
    if (a->status < 400 && a->said != SAID_ERROR && !a->content)
        journey_content(j, a, now, out);
    j->hop = a->hop;
    if (j->mend)
        journey_mended(j, a->hop, now, out);
    else {
        j->upstream_ms = now - a->started_ms;
        j->committed_ms = now;
    }
    sj_step *s = journey_step(out, SJ_STEP_COMMIT);
    s->attempt = a->id;
    s->hop = a->hop;
    journey_set_state(j, STATE_COMMITTED);
}

// over NULL: the upstream has not ended, nobody waits for it any longer.
static void complete(sj_journey *j, attempt_state *a, const sj_attempt_over *over, bool supply_done,
                     int64_t now, sj_steps *out) {
    sj_attempt_facts facts = {
        .end = SJ_END_WHOLE, .status = a->status, .error_code = "", .error_message = ""};
    sj_verdict v = a->said == SAID_ERROR ? a->error : journey_judge(j, a, &facts);
    journey_note_attempt(j, a, &v, true, now, out);
    (void)journey_learn_key(j, a, &v, now, out);
    journey_teach(j, a, &v, over, now);
    journey_settle(j, a, v.breaker, false, false, now, out);
    if (supply_done)
        (void)journey_step(out, SJ_STEP_SUPPLY_DONE);
    journey_step(out, SJ_STEP_FINISH)->class = v.class;
    journey_end(j, now, out);
}

static void settle_broken(sj_journey *j, attempt_state *a, const char *word, int64_t now, sj_steps *out) {
    sj_verdict v = {.class = SJ_CLASS_MALFORMED};
    sj_text_copy(v.reason, sizeof v.reason, word);
    journey_note_attempt(j, a, &v, true, now, out);
    journey_settle(j, a, SJ_EFFECT_FAILURE, false, false, now, out);
}

static void break_off(sj_journey *j, attempt_state *a, const char *word, int64_t now, sj_steps *out) {
    int attempt = a->id;
    size_t hop = a->hop;
    settle_broken(j, a, word, now, out);
    if (!journey_mend(j, attempt, hop, word, now, out))
        journey_break(j, false, now, out);
}

// What the stream has said counts for more than how the connection went down behind it.
static void ended_after_commit(sj_journey *j, attempt_state *a, const sj_attempt_over *over, int64_t now,
                               sj_steps *out) {
    bool clean = over->facts.end == SJ_END_WHOLE;
    if (a->said != SAID_SOME || over->lacks_only_done || (over->whole && clean))
        complete(j, a, over, over->lacks_only_done && a->said != SAID_ERROR, now, out);
    else
        break_off(j, a, clean ? "incomplete" : "cut", now, out);
}

// ---- events ---------------------------------------------------------------------------------------------

void sj_journey_admitted(sj_journey *j, int64_t now, sj_steps *out) {
    clear(out);
    assert(j->state == STATE_NEW);
    j->plan.waiter.since_ms = now;
    if (j->plan.stream && j->plan.keepalive_ms > 0)
        j->keepalive_at_ms = now + j->plan.keepalive_ms;
    journey_begin(j, now, out);
}

// The answer is good, and the last for a while. A forecast, not a refusal: it holds for ten seconds at most, then the upstream may say so itself.
// Only what starts from now on can disprove it.
static void gate_ahead(const sj_journey *j, const attempt_state *a, int64_t now, sj_steps *out) {
    const sj_hop *h = journey_hop(j, a->hop);
    int64_t ms = journey_sooner(a->hint.exhausted_ms, FORECAST_MAX_MS);
    sj_target_gate(h->target, a->permit.credential, now + ms, now, now);
    journey_rest_key(j, a, ms, now);
    sj_note *n = journey_note(out, SJ_NOTE_HINT_GATE, a->hop, "exhausted");
    n->ms = ms;
    n->source = "x-ratelimit-remaining";
}

void sj_journey_attempt_head(sj_journey *j, int attempt, int status, const sj_retry_hint *hint,
                             bool inspected, int64_t now, sj_steps *out) {
    clear(out);
    attempt_state *a = journey_running(j, attempt);
    if (!a)
        return;
    a->status = status;
    a->hint = *hint;
    a->inspected = inspected;
    a->head_ms = a->active_ms = now;
    if (hint->exhausted_ms > 0)
        gate_ahead(j, a, now, out);
}

void sj_journey_attempt_says(sj_journey *j, int attempt, unsigned says, int64_t now, sj_steps *out) {
    clear(out);
    attempt_state *a = journey_running(j, attempt);
    if (!a)
        return;
    a->active_ms = now;
    if (a->said != SAID_ERROR && (says & (SJ_SAYS_ALL_BUT_DONE | SJ_SAYS_WHOLE)))
        a->said = says & SJ_SAYS_WHOLE ? SAID_ALL : SAID_ALL_BUT_DONE;
    // While a stream is mended an error's text is no content.
    bool speaks = says & (SJ_SAYS_CONTENT | SJ_SAYS_FINISH) && !(j->mend && a->status >= 400);
    bool held_back = j->plan.verified && a->inspected && !(says & SJ_SAYS_OVERFLOW);
    if (j->state != STATE_ATTEMPTING)
        return;
    if (speaks && !held_back)
        commit(j, a, now, out);
    else if ((speaks || says & SJ_SAYS_AGAIN) &&
             !a->content) // the target has shown what it can; the race is over
        journey_content(j, a, now, out);
}

static void cancel(const attempt_state *a, sj_steps *out) {
    journey_step(out, SJ_STEP_CANCEL)->attempt = a->id;
}

// A refusal would be said again; what is too long, or paid for no longer, only another target may have an answer to.
static void error_after_commit(sj_journey *j, attempt_state *a, const sj_verdict *v, int64_t now,
                               sj_steps *out) {
    int attempt = a->id;
    size_t hop = a->hop;
    bool mendable = a->said == SAID_SOME && v->class != SJ_CLASS_REFUSED;
    cancel(a, out);
    settle_broken(j, a, "error_event", now, out);
    j->hops[hop].exhausted |= v->next_target && !v->retry_here;
    if (!mendable || !journey_mend(j, attempt, hop, "error_event", now, out))
        journey_break(j, true, now, out);
}

void sj_journey_attempt_error(sj_journey *j, int attempt, const char *code, const char *message, int64_t now,
                              sj_steps *out) {
    clear(out);
    attempt_state *a = journey_running(j, attempt);
    if (!a || a->said >= SAID_ALL)
        return;
    a->active_ms = now;
    sj_attempt_over over = {
        .facts = {.end = SJ_END_WHOLE,
                  .status = a->status,
                  .inspected = a->inspected,
                  .finding = SJ_FINDING_ERROR,
                  .error_code = code,
                  .error_message = message},
        .sent = true,
    };
    sj_verdict v = journey_judge(j, a, &over.facts);
    if (j->state == STATE_COMMITTED) {
        error_after_commit(j, a, &v, now, out);
        return;
    }
    if (journey_shows_error(j, a, &v, now)) {
        a->said = SAID_ERROR; // the upstream may end as it likes now
        a->error = v;
        commit(j, a, now, out);
        return;
    }
    journey_ended_before_commit(j, a, &over, true, now, out);
}

void sj_journey_attempt_ended(sj_journey *j, int attempt, const sj_attempt_over *over, int64_t now,
                              sj_steps *out) {
    clear(out);
    attempt_state *a = journey_running(j, attempt);
    if (!a)
        return;
    if (j->state == STATE_COMMITTED) {
        ended_after_commit(j, a, over, now, out);
        return;
    }
    sj_attempt_over known = *over;
    if (a->said == SAID_ALL ||
        a->said == SAID_ALL_BUT_DONE) // held back, and complete however the connection went down
        known.facts.end = SJ_END_WHOLE;
    journey_ended_before_commit(j, a, &known, false, now, out);
}

void sj_journey_attempt_held(sj_journey *j, int attempt, bool held, int64_t now) {
    attempt_state *a = journey_running(j, attempt);
    if (!a)
        return;
    a->held = held;
    a->active_ms = now;
}

static void deadline_passed(sj_journey *j, int64_t now, sj_steps *out) {
    journey_drop_everything(j, "deadline", now, out);
    journey_give_up(j, now, out);
}

static void look_at_queue(sj_journey *j, int64_t now, sj_steps *out) {
    sj_slot_answer answer = journey_look(j, now, out);
    if (answer == SJ_SLOT_GRANTED)
        journey_use_grant(j, now, out);
    else if (answer == SJ_SLOT_QUEUED)
        journey_weigh_queue(j, now, out);
    if (answer != SJ_SLOT_LATE)
        return;
    journey_forget_next(j);
    if (j->saved || j->mend)
        journey_give_up(j, now, out);
    else
        journey_refuse_queue(j, SJ_REFUSAL_QUEUE_TIMEOUT, j->queue, now, out);
}

void sj_journey_granted(sj_journey *j, int64_t now, sj_steps *out) {
    clear(out);
    if (j->state != STATE_QUEUED)
        return;
    if (now >= j->plan.deadline_ms)
        deadline_passed(j, now, out);
    else
        look_at_queue(j, now, out);
}

// ---- time -----------------------------------------------------------------------------------------------

static int64_t committed_due(const sj_journey *j, const attempt_state *a) {
    int64_t silence_ms = a->said == SAID_SOME ? journey_hop(j, a->hop)->idle_timeout_ms : QUIET_COMPLETES_MS;
    int64_t due = a->held ? INT64_MAX : a->active_ms + silence_ms;
    if (j->plan.stream_max_ms > 0)
        due = journey_sooner(due, j->committed_ms + j->plan.stream_max_ms);
    return due;
}

static int64_t attempt_due(const sj_journey *j, const attempt_state *a) {
    const sj_hop *h = journey_hop(j, a->hop);
    if (j->state == STATE_COMMITTED)
        return committed_due(j, a);
    if (!j->plan.stream)
        return a->started_ms + h->answer_timeout_ms;
    if (a->said == SAID_ALL_BUT_DONE || a->said == SAID_ALL)
        return a->active_ms + QUIET_COMPLETES_MS;
    int64_t due =
        a->head_ms < 0 ? a->started_ms + h->first_byte_timeout_ms : a->active_ms + h->idle_timeout_ms;
    return a->permit.probe_until_ms > 0 && !a->content ? journey_sooner(due, a->permit.probe_until_ms) : due;
}

// Or when it gets company.
static int64_t attempt_ring(const sj_journey *j, const attempt_state *a) {
    int64_t due = attempt_due(j, a);
    return j->state == STATE_ATTEMPTING && !a->content ? journey_sooner(due, a->race_ms) : due;
}

// Until something of the answer has gone out; or how long it is read on for nobody.
static int64_t exchange_due(const sj_journey *j) {
    if (j->state == STATE_COMMITTED || journey_is_draining(j))
        return j->drain_until_ms;
    return journey_sooner(j->plan.deadline_ms, j->keepalive_at_ms);
}

int64_t sj_journey_due_ms(const sj_journey *j) {
    if (j->state == STATE_OVER || j->state == STATE_NEW)
        return INT64_MAX;
    int64_t due = exchange_due(j);
    if (j->state == STATE_WAITING || j->state == STATE_QUEUED)
        due = journey_sooner(due, j->wait_until_ms);
    for (int i = 0; i < MAX_RUNNING; i++)
        if (j->running[i].id)
            due = journey_sooner(due, attempt_ring(j, &j->running[i]));
    return due;
}

static void attempt_timed_out(sj_journey *j, attempt_state *a, int64_t now, sj_steps *out) {
    if (j->state != STATE_COMMITTED) {
        bool all = a->said == SAID_ALL || a->said == SAID_ALL_BUT_DONE;
        sj_attempt_over over = {
            .facts = {.end = all ? SJ_END_WHOLE : SJ_END_TIMED_OUT,
                      .status = a->status,
                      .error_code = "",
                      .error_message = ""},
            .sent = true,
        };
        journey_ended_before_commit(j, a, &over, true, now, out);
        return;
    }
    cancel(a, out);
    bool too_long = j->plan.stream_max_ms > 0 && now >= j->committed_ms + j->plan.stream_max_ms;
    if (a->said == SAID_SOME && too_long) {
        settle_broken(j, a, "timeout", now, out);
        journey_break(j, false, now, out);
    } else if (a->said == SAID_SOME)
        break_off(j, a, "timeout", now, out);
    else
        complete(j, a, NULL, a->said == SAID_ALL_BUT_DONE, now, out);
}

static void wait_over(sj_journey *j, int64_t now, sj_steps *out) {
    bool reopening = j->wait_for == WAIT_REOPENING;
    if (reopening)
        j->open_wait_ms += now - j->wait_since_ms;
    journey_end_wait(j, now);
    // After a reopening everything that is not used up is worth another look; a backoff stays where it was.
    journey_choose(j, reopening ? 0 : j->hop, NULL, now, out);
}

static void exchange_timer(sj_journey *j, int64_t now, sj_steps *out) {
    if (journey_is_draining(j))
        journey_drain_over(j, now, out);
    else if (now >= j->plan.deadline_ms)
        deadline_passed(j, now, out);
    else {
        j->keepalive_at_ms = now + j->plan.keepalive_ms;
        (void)journey_step(out, SJ_STEP_KEEPALIVE);
    }
}

void sj_journey_timer(sj_journey *j, int64_t now, sj_steps *out) {
    clear(out);
    if (now < sj_journey_due_ms(j))
        return;
    if (now >= exchange_due(j)) {
        exchange_timer(j, now, out);
        return;
    }
    if (j->state == STATE_WAITING) {
        wait_over(j, now, out);
        return;
    }
    if (j->state == STATE_QUEUED) {
        look_at_queue(j, now, out);
        return;
    }
    for (int i = 0; i < MAX_RUNNING; i++)
        if (j->running[i].id && now >= attempt_due(j, &j->running[i])) {
            attempt_timed_out(j, &j->running[i], now, out);
            return;
        }
    for (int i = 0; i < MAX_RUNNING; i++)
        if (j->running[i].id && j->state == STATE_ATTEMPTING && !j->running[i].content &&
            now >= j->running[i].race_ms) {
            journey_race(j, &j->running[i], now, out);
            return;
        }
}
