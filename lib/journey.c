#include "journey_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum { QUIET_COMPLETES_MS = 5000, GATE_MAX_MS = 600 * 1000, GATE_LOOK_MS = 50, GATE_LOOK_MAX_MS = 1000 };

// ---- small helpers --------------------------------------------------------------------------------------------------------------

static int64_t sooner(int64_t a, int64_t b) { return a < b ? a : b; }

static const sj_hop *hop_at(const sj_journey *j, size_t hop) { return &j->plan.hops[hop]; }

static sj_step *step(sj_steps *out, sj_step_kind kind) {
    assert(out->count < SJ_JOURNEY_MAX_STEPS);
    sj_step *s = &out->list[out->count++];
    *s = (sj_step){.kind = kind};
    return s;
}

// Notes are for people: when a single event makes more of them than fit, the last place is reused.
static sj_note *note(sj_steps *out, sj_note_kind kind, size_t hop) {
    sj_note *n = &out->notes[out->note_count < SJ_JOURNEY_MAX_NOTES ? out->note_count++ : SJ_JOURNEY_MAX_NOTES - 1];
    *n = (sj_note){.kind = kind, .hop = hop};
    return n;
}

static void note_changes(sj_steps *out, size_t hop, const sj_changes *changes) {
    for (int i = 0; i < changes->count; i++) {
        sj_note *n = note(out, SJ_NOTE_BREAKER, hop);
        n->change = changes->list[i].change;
        n->global = changes->list[i].global;
    }
}

static void note_wake(sj_steps *out, size_t hop, const sj_wake *wake) {
    if (!wake->set)
        return;
    sj_note *n = note(out, SJ_NOTE_GRANT, hop);
    n->wake = wake->waiter;
}

static trail_entry *trail_add(sj_journey *j, trail_kind kind, size_t hop, int64_t ms) {
    trail_entry *last = j->trail_count ? &j->trail[j->trail_count - 1] : NULL;
    if (last && kind == TRAIL_WAIT && last->kind == TRAIL_WAIT) { // one wait in several looks
        last->ms += ms;
        return last;
    }
    if (j->trail_count == SJ_TRAIL_MAX) {
        j->trail_cut = true;
        return &j->trail[SJ_TRAIL_MAX - 1];
    }
    trail_entry *entry = &j->trail[j->trail_count++];
    *entry = (trail_entry){.kind = kind, .hop = hop, .ms = ms};
    return entry;
}

attempt_state *journey_running(sj_journey *j, int id) {
    for (int i = 0; i < MAX_RUNNING; i++)
        if (id != 0 && j->running[i].id == id)
            return &j->running[i];
    return NULL;
}

static attempt_state *free_place(sj_journey *j) {
    for (int i = 0; i < MAX_RUNNING; i++)
        if (j->running[i].id == 0)
            return &j->running[i];
    assert(0 && "no place for an attempt");
    return NULL;
}

static void set_state(sj_journey *j, journey_state state) {
    assert(j->state != STATE_OVER || state == STATE_OVER); // invariant 1: over once
    j->state = state;
}

// ---- giving back (invariant 1) --------------------------------------------------------------------------------------------------

static void release_slot(sj_journey *j, attempt_state *a, sj_steps *out) {
    if (!a->holds_slot)
        return;
    a->holds_slot = false;
    sj_wake wake = {0};
    sj_admission_release(sj_target_admission(hop_at(j, a->hop)->target), &wake);
    note_wake(out, a->hop, &wake);
}

// The attempt's end as far as everything shared is concerned; its place is free afterwards.
static void settle(sj_journey *j, attempt_state *a, sj_effect effect, bool own_side, bool refund, int64_t now, sj_steps *out) {
    static const sj_breaker_outcome outcomes[] = {
        [SJ_EFFECT_SUCCESS] = SJ_OUTCOME_SUCCESS,
        [SJ_EFFECT_FAILURE] = SJ_OUTCOME_FAILURE,
        [SJ_EFFECT_NEUTRAL] = SJ_OUTCOME_NEUTRAL,
    };
    sj_target *target = hop_at(j, a->hop)->target;
    sj_report report = {
        .outcome = outcomes[effect],
        .own_side = own_side,
        .streaming = j->plan.stream,
        .first_content_ms = a->content ? a->first_content_ms : -1,
        .exchange_id = j->plan.waiter.exchange_id,
    };
    sj_changes changes = {0};
    sj_target_report(target, &a->permit, &report, now, &changes);
    note_changes(out, a->hop, &changes);
    if (effect == SJ_EFFECT_SUCCESS)
        sj_target_success(target, &a->charge);
    else if (refund)
        sj_target_refund(target, &a->charge);
    release_slot(j, a, out);
    *a = (attempt_state){0};
}

// Drops a running attempt for a reason of our own: nothing is learnt from it.
static void drop_attempt(sj_journey *j, attempt_state *a, const char *word, int64_t now, sj_steps *out) {
    trail_entry *entry = trail_add(j, TRAIL_ATTEMPT, a->hop, now - a->started_ms);
    (void)snprintf(entry->word, sizeof entry->word, "%s", word);
    j->attempts_sent++;
    step(out, SJ_STEP_CANCEL)->attempt = a->id;
    settle(j, a, SJ_EFFECT_NEUTRAL, false, false, now, out);
}

static void drop_all(sj_journey *j, const char *word, int64_t now, sj_steps *out) {
    for (int i = 0; i < MAX_RUNNING; i++)
        if (j->running[i].id)
            drop_attempt(j, &j->running[i], word, now, out);
}

static void end_wait(sj_journey *j, int64_t now) {
    int64_t waited = now - j->wait_since_ms;
    if (waited <= 0)
        return;
    j->wait_ms += waited;
    trail_add(j, TRAIL_WAIT, j->hop, waited);
}

static void leave_queue(sj_journey *j, int64_t now, sj_steps *out) {
    sj_wake wake = {0};
    sj_admission_leave(sj_target_admission(hop_at(j, j->hop)->target), j->plan.waiter.exchange_id, &wake);
    note_wake(out, j->hop, &wake);
    j->queue_ms += now - j->wait_since_ms;
    trail_add(j, TRAIL_QUEUE, j->hop, now - j->wait_since_ms);
}

static void forget_next(sj_journey *j) {
    sj_target_refund(hop_at(j, j->next_hop)->target, &j->next_charge);
    j->next_charge = (sj_charge){0};
    j->next_is_fresh = j->next_is_free = false;
}

static void finish(sj_journey *j) { set_state(j, STATE_OVER); }

// ---- giving up ------------------------------------------------------------------------------------------------------------------

static void refuse(sj_journey *j, sj_refusal refusal, int64_t retry_after_ms, sj_steps *out) {
    sj_step *s = step(out, SJ_STEP_REFUSE);
    s->refusal = refusal;
    if (retry_after_ms > 0) {
        int64_t seconds = (retry_after_ms + 999) / 1000 + sj_rng_between(&j->rng, 0, 2);
        s->retry_after_s = seconds < 1 ? 1 : seconds > 60 ? 60 : seconds;
    }
    finish(j);
}

static sj_refusal refusal_of_last(const sj_journey *j) {
    switch (j->last_class) {
    case SJ_CLASS_TIMED_OUT:
        return SJ_REFUSAL_TIMEOUT_MAX_RETRIES;
    case SJ_CLASS_NEVER_SENT:
    case SJ_CLASS_MISCONFIGURED:
        return SJ_REFUSAL_UPSTREAM_UNREACHABLE;
    default:
        return SJ_REFUSAL_MAX_RETRIES_EXCEEDED;
    }
}

static void give_up(sj_journey *j, int64_t now, sj_steps *out) {
    if (j->saved) {
        step(out, SJ_STEP_DELIVER_SAVED)->hop = j->saved_hop;
        finish(j);
        return;
    }
    if (now >= j->plan.deadline_ms)
        refuse(j, SJ_REFUSAL_DEADLINE_EXCEEDED, 0, out);
    else if (j->last_attempt_id > 0)
        refuse(j, refusal_of_last(j), 0, out);
    else if (j->budget_refused)
        refuse(j, SJ_REFUSAL_OVERLOADED, 5000, out);
    else
        refuse(j, SJ_REFUSAL_CIRCUIT_OPEN, j->earliest_ms == INT64_MAX ? 30000 : j->earliest_ms - now + 1, out);
}

// ---- choosing a target ----------------------------------------------------------------------------------------------------------

static bool moves(const sj_journey *j) { return j->plan.repeat == SJ_REPEAT_FREELY; }

static bool is_candidate(const sj_journey *j, size_t hop) {
    const sj_hop *h = hop_at(j, hop);
    if (j->hops[hop].exhausted)
        return false;
    if (hop > 0 && !moves(j))
        return false;
    return !(h->rewrites_model && !j->plan.movable && hop > 0) && !(j->plan.bound && !h->same_upstream);
}

// Whether another target further down could answer right now.
static bool has_available_next(const sj_journey *j, int64_t now) {
    for (size_t hop = j->hop + 1; hop < j->plan.hop_count; hop++) {
        int64_t at;
        if (is_candidate(j, hop) && sj_target_would_admit(hop_at(j, hop)->target, hop_at(j, hop)->credential, now, &at) == SJ_ADMIT_YES)
            return true;
    }
    return false;
}

static void fall_back(sj_journey *j, size_t to, const char *reason, sj_steps *out) {
    if (!j->fallback[0])
        (void)snprintf(j->fallback, sizeof j->fallback, "%s", reason);
    sj_note *n = note(out, SJ_NOTE_FALLBACK, to);
    (void)snprintf(n->reason, sizeof n->reason, "%s", reason);
}

static void wait_until(sj_journey *j, size_t hop, int64_t until_ms, wait_reason why, int64_t now) {
    set_state(j, STATE_WAITING);
    j->hop = hop;
    j->wait_until_ms = until_ms;
    j->wait_since_ms = now;
    j->wait_for = why;
}

static void start_attempt(sj_journey *j, size_t hop, const sj_permit *permit, int64_t now, sj_steps *out) {
    assert(now < j->plan.deadline_ms); // invariant 3
    attempt_state *a = free_place(j);
    *a = (attempt_state){
        .id = ++j->last_attempt_id,
        .hop = hop,
        .holds_slot = true,
        .permit = *permit,
        .charge = j->next_charge,
        .started_ms = now,
        .active_ms = now,
        .head_ms = -1,
        .quiet_since_ms = -1,
    };
    hop_state *state = &j->hops[hop];
    if (!j->next_is_free)
        state->counted++;
    if (!state->requested)
        sj_target_count_request(hop_at(j, hop)->target, now);
    state->requested = true;
    sj_step *s = step(out, SJ_STEP_START);
    *s = (sj_step){.kind = SJ_STEP_START, .attempt = a->id, .hop = hop, .fresh = j->next_is_fresh};
    j->hop = hop;
    j->next_charge = (sj_charge){0};
    j->next_is_fresh = j->next_is_free = false;
    j->gate_turn_ms = j->gate_look_ms = 0;
    set_state(j, STATE_ATTEMPTING);
}

// The slot is ours; the breaker has the last word. False: it said no, the slot is given back.
static bool start_with_slot(sj_journey *j, size_t hop, int64_t now, sj_steps *out) {
    const sj_hop *h = hop_at(j, hop);
    sj_permit permit = {0};
    sj_changes changes = {0};
    int64_t at;
    sj_admit answer = sj_target_admit(h->target, h->credential, now, &permit, &at, &changes);
    note_changes(out, hop, &changes);
    if (answer == SJ_ADMIT_YES) {
        start_attempt(j, hop, &permit, now, out);
        return true;
    }
    sj_wake wake = {0};
    sj_admission_release(sj_target_admission(h->target), &wake);
    note_wake(out, hop, &wake);
    return false;
}

typedef enum offer { OFFER_TAKEN, OFFER_UNAVAILABLE } offer;

// A client that retries by itself pays the budget for its first attempt at each target too.
static bool pay_entry(sj_journey *j, size_t hop, int64_t now, sj_steps *out) {
    if (!j->plan.client_retrying || j->hops[hop].requested || j->next_charge.paid)
        return true;
    if (sj_target_charge(hop_at(j, hop)->target, false, now, &j->next_charge))
        return true;
    j->budget_refused = true;
    note(out, SJ_NOTE_BUDGET_REFUSED, hop);
    return false;
}

static offer queue_or_start(sj_journey *j, size_t hop, int64_t now, sj_steps *out) {
    sj_admission *admission = sj_target_admission(hop_at(j, hop)->target);
    switch (sj_admission_acquire(admission, &j->plan.waiter)) {
    case SJ_SLOT_GRANTED:
        return start_with_slot(j, hop, now, out) ? OFFER_TAKEN : OFFER_UNAVAILABLE;
    case SJ_SLOT_QUEUED:
        set_state(j, STATE_QUEUED);
        j->hop = hop;
        j->wait_since_ms = now;
        j->wait_until_ms = now + sj_admission_rules_of(admission).timeout_ms;
        note(out, SJ_NOTE_QUEUED, hop);
        return OFFER_TAKEN;
    case SJ_SLOT_FULL:
        break;
    }
    (void)snprintf(j->last_word, sizeof j->last_word, "queue_full");
    return OFFER_UNAVAILABLE;
}

// Whether a gate at this hop is waited for rather than gone round.
static bool gate_is_bearable(const sj_journey *j, size_t hop, int64_t until_ms, bool has_next, int64_t now) {
    int64_t wait = until_ms - now, left = j->plan.deadline_ms - now;
    int64_t bound = has_next ? j->plan.fallback_gate_ms : hop_at(j, hop)->retry->max_hint_ms;
    return wait < left && wait <= bound;
}

// A gate may fall before its time, mostly soon after it was set: the first looks are close together.
static void wait_at_gate(sj_journey *j, size_t hop, int64_t until_ms, int64_t now) {
    const sj_hop *h = hop_at(j, hop);
    if (j->gate_turn_ms <= until_ms)
        j->gate_turn_ms = sj_target_gate_turn(h->target, h->credential, now, &j->rng);
    int64_t turn = j->gate_turn_ms > until_ms ? j->gate_turn_ms : until_ms;
    j->gate_look_ms = j->gate_look_ms ? sooner(2 * j->gate_look_ms, GATE_LOOK_MAX_MS) : GATE_LOOK_MS;
    wait_until(j, hop, sooner(turn, now + j->gate_look_ms), WAIT_GATE, now);
}

// Tries the candidates from `first` on. Nothing available: waits for the earliest reopening, or gives up.
static void choose(sj_journey *j, size_t first, int64_t now, sj_steps *out) {
    static const char *const words[] = {"", "breaker_open", "global_breaker_open", "gated"};
    const char *why = NULL;
    bool full = false;
    int64_t earliest = INT64_MAX;
    size_t earliest_hop = first;
    for (size_t hop = first; hop < j->plan.hop_count; hop++) {
        if (!is_candidate(j, hop))
            continue;
        const sj_hop *h = hop_at(j, hop);
        int64_t at = INT64_MAX;
        sj_admit answer = sj_target_would_admit(h->target, h->credential, now, &at);
        j->hop = hop;
        if (hop != j->next_hop)
            forget_next(j);
        j->next_hop = hop;
        if (answer == SJ_ADMIT_YES) {
            if (!pay_entry(j, hop, now, out)) {
                why = "budget";
                continue;
            }
            if (hop > 0 && why)
                fall_back(j, hop, why, out);
            if (queue_or_start(j, hop, now, out) == OFFER_TAKEN)
                return;
            full = true;
            why = "queue_full";
            forget_next(j);
            continue;
        }
        if (answer == SJ_ADMIT_GATED && gate_is_bearable(j, hop, at, has_available_next(j, now), now)) {
            wait_at_gate(j, hop, at, now);
            return;
        }
        why = words[answer];
        int64_t bound = answer == SJ_ADMIT_GATED ? h->retry->max_hint_ms : h->max_open_wait_ms - j->open_wait_ms;
        if (at < earliest && at - now <= bound) {
            earliest = at;
            earliest_hop = hop;
        }
        if (at < j->earliest_ms)
            j->earliest_ms = at;
    }
    if (earliest < j->plan.deadline_ms)
        wait_until(j, earliest_hop, earliest > now ? earliest : now + 1, WAIT_REOPENING, now);
    else if (full && j->last_attempt_id == 0)
        refuse(j, SJ_REFUSAL_QUEUE_FULL, 2000, out);
    else
        give_up(j, now, out);
}

// The present hop is done with; on to the next, or the end.
static void advance(sj_journey *j, size_t next, const char *reason, int64_t now, sj_steps *out) {
    j->hops[j->hop].exhausted = true;
    for (size_t hop = next; hop < j->plan.hop_count; hop++)
        if (is_candidate(j, hop)) {
            fall_back(j, hop, reason, out);
            choose(j, hop, now, out);
            return;
        }
    // Targets before this one that were shut when we passed may be worth waiting for.
    for (size_t hop = 0; hop < j->hop; hop++)
        if (is_candidate(j, hop)) {
            choose(j, hop, now, out);
            return;
        }
    give_up(j, now, out);
}

static size_t next_with_more_context(const sj_journey *j) {
    int64_t here = hop_at(j, j->hop)->context_tokens;
    for (size_t hop = j->hop + 1; hop < j->plan.hop_count; hop++)
        if (is_candidate(j, hop) && hop_at(j, hop)->context_tokens > here)
            return hop;
    return j->hop + 1;
}

static bool has_next(const sj_journey *j) {
    for (size_t hop = j->hop + 1; hop < j->plan.hop_count; hop++)
        if (is_candidate(j, hop))
            return true;
    return false;
}

// ---- after an attempt -----------------------------------------------------------------------------------------------------------

// What is known of an ended attempt once its place has been freed.
typedef struct ended {
    int id;
    sj_verdict verdict;
    sj_retry_hint hint;
    bool real_answer; // a whole HTTP answer that could be delivered as it is
} ended;

static bool may_repeat(const sj_journey *j, const sj_verdict *v) {
    bool unsent = v->class == SJ_CLASS_NEVER_SENT;
    switch (j->plan.repeat) {
    case SJ_REPEAT_FREELY:
        return j->plan.replayable || unsent || v->class == SJ_CLASS_THROTTLED;
    case SJ_REPEAT_SAFE:
        return true;
    case SJ_REPEAT_UNSENT:
        return unsent || v->class == SJ_CLASS_THROTTLED;
    }
    return false;
}

typedef struct pause {
    bool possible;
    int64_t ms;
    bool hinted;
    const char *source;
} pause;

// The wait before another attempt here, or that there is none that fits (BEHAVIOUR 4 and 5; every stop is tested before the sleep).
static pause plan_pause(sj_journey *j, const ended *e, bool next_available, int64_t now) {
    const sj_retry_policy *policy = hop_at(j, j->hop)->retry;
    hop_state *state = &j->hops[j->hop];
    pause p = {.possible = true, .source = "backoff"};
    if (e->hint.source != SJ_HINT_NONE) {
        int64_t hint = e->hint.wait_ms;
        int64_t spread = hint / 2 < 5000 ? hint / 2 : 5000;
        p.hinted = true;
        p.source = sj_hint_source_name(e->hint.source);
        p.ms = hint > GATE_MAX_MS ? hint : hint + sj_rng_between(&j->rng, 0, spread);
        p.possible = hint <= policy->max_hint_ms && !(next_available && hint > j->plan.fallback_gate_ms);
    } else {
        sj_backoff backoff = policy->backoff;
        if (e->verdict.class == SJ_CLASS_THROTTLED) {
            backoff.base_ms = policy->throttle_base_ms;
            backoff.cap_ms = policy->throttle_cap_ms;
        }
        state->retry_no += e->verdict.extra_step ? 2 : 1;
        int64_t previous = state->previous_wait_ms ? state->previous_wait_ms : backoff.base_ms;
        p.ms = sj_backoff_wait_ms(&backoff, state->retry_no, previous, &j->rng);
        state->previous_wait_ms = p.ms;
        p.possible = j->unhinted_wait_ms + p.ms <= policy->max_wait_total_ms;
    }
    if (p.ms >= j->plan.deadline_ms - now)
        p.possible = false;
    return p;
}

static void retry_at_once(sj_journey *j, int64_t now, sj_steps *out) {
    j->next_hop = j->hop;
    j->next_is_fresh = j->next_is_free = true;
    choose(j, j->hop, now, out);
}

static bool retry_here(sj_journey *j, const ended *e, int64_t now, sj_steps *out) {
    const sj_retry_policy *policy = hop_at(j, j->hop)->retry;
    const sj_verdict *v = &e->verdict;
    bool next_available = has_available_next(j, now) && v->next_target;
    int limit = next_available ? policy->max_attempts_before_fallback : policy->max_attempts;
    if (j->plan.client_retrying)
        limit = 1;
    if (!v->retry_here || !may_repeat(j, v) || j->hops[j->hop].counted >= limit)
        return false;
    if (v->class == SJ_CLASS_TIMED_OUT && next_available) // do not ask a silent target twice
        return false;
    pause p = plan_pause(j, e, next_available, now);
    if (!p.possible)
        return false;
    j->next_hop = j->hop;
    bool gentle = v->class == SJ_CLASS_THROTTLED || v->class == SJ_CLASS_TIMED_OUT;
    if (!sj_target_charge(hop_at(j, j->hop)->target, gentle, now, &j->next_charge)) {
        j->budget_refused = true;
        note(out, SJ_NOTE_BUDGET_REFUSED, j->hop);
        return false;
    }
    if (!p.hinted)
        j->unhinted_wait_ms += p.ms;
    j->retries++;
    sj_note *n = note(out, SJ_NOTE_RETRY, j->hop);
    n->ms = p.ms;
    n->source = p.source;
    n->class = v->class;
    n->status = v->status;
    (void)snprintf(n->reason, sizeof n->reason, "%s", v->reason);
    wait_until(j, j->hop, now + p.ms, WAIT_BACKOFF, now);
    return true;
}

static void save_answer(sj_journey *j, const ended *e, sj_steps *out) {
    if (!e->real_answer || (j->saved && j->saved_hop != j->hop))
        return;
    j->saved = true;
    j->saved_hop = j->hop;
    sj_step *s = step(out, SJ_STEP_SAVE);
    s->attempt = e->id;
    s->hop = j->hop;
}

static void deliver(sj_journey *j, const ended *e, sj_steps *out) {
    if (!e->real_answer) {
        refuse(j, refusal_of_last(j), 0, out);
        return;
    }
    sj_step *s = step(out, SJ_STEP_DELIVER);
    s->attempt = e->id;
    s->hop = j->hop;
    finish(j);
}

static void try_again(sj_journey *j, const ended *e, int64_t now, sj_steps *out) {
    hop_state *state = &j->hops[j->hop];
    if (e->verdict.class == SJ_CLASS_NEVER_SENT && !state->unsent_retry_used) {
        state->unsent_retry_used = true;
        state->counted--; // it never reached anybody
        retry_at_once(j, now, out);
        return;
    }
    if (e->verdict.class == SJ_CLASS_STALE && !state->stale_retry_used && j->plan.repeat != SJ_REPEAT_UNSENT) {
        state->stale_retry_used = true;
        state->counted--;
        retry_at_once(j, now, out);
        return;
    }
    save_answer(j, e, out);
    if (retry_here(j, e, now, out))
        return;
    if (e->verdict.next_target && may_repeat(j, &e->verdict) && moves(j))
        advance(j, j->hop + 1, e->verdict.reason, now, out);
    else
        give_up(j, now, out);
}

static void act(sj_journey *j, const ended *e, int64_t now, sj_steps *out) {
    const sj_verdict *v = &e->verdict;
    switch (v->class) {
    case SJ_CLASS_SUCCESS:
    case SJ_CLASS_CALLER:
    case SJ_CLASS_REFUSED:
    case SJ_CLASS_CREDENTIAL:
    case SJ_CLASS_TOO_LONG:
    case SJ_CLASS_QUOTA:
    case SJ_CLASS_NO_MODEL:
        if (v->retry_here) // x-should-retry: true, 409 by option
            try_again(j, e, now, out);
        else if (v->next_target && moves(j) && has_next(j)) {
            save_answer(j, e, out);
            advance(j, v->class == SJ_CLASS_TOO_LONG ? next_with_more_context(j) : j->hop + 1, v->reason, now, out);
        } else if (j->saved && j->saved_hop != j->hop && v->class != SJ_CLASS_SUCCESS)
            give_up(j, now, out); // a fallback's own refusal never hides what really happened
        else
            deliver(j, e, out);
        return;
    case SJ_CLASS_MISCONFIGURED:
        give_up(j, now, out);
        return;
    default:
        try_again(j, e, now, out);
    }
}

static void set_gate(sj_journey *j, const attempt_state *a, const sj_verdict *v, int64_t now, sj_steps *out) {
    bool waits = v->class == SJ_CLASS_THROTTLED || v->class == SJ_CLASS_FAILING;
    if (!waits || a->hint.source == SJ_HINT_NONE)
        return;
    const sj_hop *h = hop_at(j, a->hop);
    int64_t ms = a->hint.wait_ms < GATE_MAX_MS ? a->hint.wait_ms : GATE_MAX_MS;
    sj_target_gate(h->target, h->credential, now + ms, a->started_ms, now);
    sj_note *n = note(out, SJ_NOTE_HINT_GATE, a->hop);
    n->ms = ms;
    n->source = sj_hint_source_name(a->hint.source);
}

static void note_attempt(sj_journey *j, const attempt_state *a, const sj_verdict *v, bool sent, int64_t now, sj_steps *out) {
    int64_t ms = now - a->started_ms;
    trail_entry *entry = trail_add(j, TRAIL_ATTEMPT, a->hop, ms);
    (void)snprintf(entry->word, sizeof entry->word, "%s", v->reason);
    entry->unsent = !sent;
    entry->stale = v->class == SJ_CLASS_STALE;
    // A stale try is marked in the trail and not counted: the upstream had closed before it came.
    if (sent && !entry->stale)
        j->attempts_sent++;
    j->last_class = v->class;
    j->last_hop = a->hop;
    (void)snprintf(j->last_word, sizeof j->last_word, "%s", v->reason);
    j->upstream_ms = ms;
    sj_note *n = note(out, SJ_NOTE_ATTEMPT, a->hop);
    n->class = v->class;
    n->status = a->status;
    n->ms = ms;
    (void)snprintf(n->reason, sizeof n->reason, "%s", v->reason);
    if (v->alert) {
        n = note(out, SJ_NOTE_ALERT, a->hop);
        n->class = v->class;
        n->status = a->status;
        (void)snprintf(n->reason, sizeof n->reason, "%s", v->reason);
    }
}

static sj_verdict judge(const sj_journey *j, const attempt_state *a, const sj_attempt_facts *facts) {
    sj_attempt_facts known = *facts;
    known.generation = j->plan.repeat == SJ_REPEAT_FREELY;
    known.should_retry = a->hint.should_retry;
    return sj_verdict_of(&known, &hop_at(j, a->hop)->retry->rules);
}

static void ended_before_commit(sj_journey *j, attempt_state *a, const sj_attempt_over *over, int64_t now, sj_steps *out) {
    ended e = {
        .id = a->id,
        .verdict = judge(j, a, &over->facts),
        .hint = a->hint,
        .real_answer = over->facts.end == SJ_END_WHOLE && a->status > 0,
    };
    // A 200 that is a failure of the upstream's in disguise is no answer to deliver: an application would take it for one.
    if (a->status < 400 && (e.verdict.class == SJ_CLASS_FAILING || e.verdict.class == SJ_CLASS_THROTTLED || e.verdict.class == SJ_CLASS_MALFORMED))
        e.real_answer = false;
    j->hop = a->hop;
    note_attempt(j, a, &e.verdict, over->sent, now, out);
    set_gate(j, a, &e.verdict, now, out);
    if (!a->content && e.verdict.class == SJ_CLASS_SUCCESS) {
        a->content = true;
        a->first_content_ms = now - a->started_ms;
        sj_changes changes = {0};
        sj_target_content(hop_at(j, a->hop)->target, &a->permit, j->plan.stream, j->plan.waiter.exchange_id, now, &changes);
        note_changes(out, a->hop, &changes);
    }
    settle(j, a, e.verdict.breaker, e.verdict.own_side && over->own_side, !over->sent, now, out);
    act(j, &e, now, out);
}

// ---- committed ------------------------------------------------------------------------------------------------------------------

static void commit(sj_journey *j, attempt_state *a, int64_t now, sj_steps *out) {
    assert(j->state == STATE_ATTEMPTING); // invariant 2
    a->content = true;
    a->first_content_ms = now - a->started_ms;
    j->hop = a->hop;
    j->upstream_ms = a->first_content_ms;
    sj_changes changes = {0};
    sj_target_content(hop_at(j, a->hop)->target, &a->permit, j->plan.stream, j->plan.waiter.exchange_id, now, &changes);
    note_changes(out, a->hop, &changes);
    sj_step *s = step(out, SJ_STEP_COMMIT);
    s->attempt = a->id;
    s->hop = a->hop;
    set_state(j, STATE_COMMITTED);
}

static void note_committed_end(sj_journey *j, const attempt_state *a, sj_class class, const char *word, int64_t now, sj_steps *out) {
    sj_verdict v = {.class = class};
    (void)snprintf(v.reason, sizeof v.reason, "%s", word);
    int64_t to_content = j->upstream_ms;
    note_attempt(j, a, &v, true, now, out);
    j->upstream_ms = to_content;
}

static void complete(sj_journey *j, attempt_state *a, bool supply_done, int64_t now, sj_steps *out) {
    char word[32];
    (void)snprintf(word, sizeof word, "%d", a->status);
    note_committed_end(j, a, SJ_CLASS_SUCCESS, word, now, out);
    settle(j, a, SJ_EFFECT_SUCCESS, false, false, now, out);
    if (supply_done)
        step(out, SJ_STEP_SUPPLY_DONE);
    step(out, SJ_STEP_FINISH);
    finish(j);
}

static void break_off(sj_journey *j, attempt_state *a, const char *word, bool quiet, int64_t now, sj_steps *out) {
    note_committed_end(j, a, SJ_CLASS_MALFORMED, word, now, out);
    settle(j, a, SJ_EFFECT_FAILURE, false, false, now, out);
    sj_step *s = step(out, SJ_STEP_BREAK);
    s->refusal = SJ_REFUSAL_STREAM_BROKEN;
    s->quiet = quiet;
    finish(j);
}

static void ended_after_commit(sj_journey *j, attempt_state *a, const sj_attempt_over *over, int64_t now, sj_steps *out) {
    // The protocol's end counts for more than how the connection went down behind it.
    if (over->lacks_only_done || (over->whole && a->inspected) || (over->whole && over->facts.end == SJ_END_WHOLE))
        complete(j, a, over->lacks_only_done, now, out);
    else
        break_off(j, a, over->facts.end == SJ_END_WHOLE ? "incomplete" : "cut", false, now, out);
}

// ---- events ---------------------------------------------------------------------------------------------------------------------

sj_journey *sj_journey_new(const sj_plan *plan) {
    assert(plan->hop_count > 0);
    sj_journey *j = calloc(1, sizeof *j);
    if (!j)
        return NULL;
    j->plan = *plan;
    if (j->plan.hop_count > MAX_HOPS)
        j->plan.hop_count = MAX_HOPS;
    j->earliest_ms = INT64_MAX;
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
    free(j);
    *journey = NULL;
}

static void clear(sj_steps *out) { out->count = out->note_count = 0; }

void sj_journey_admitted(sj_journey *j, int64_t now, sj_steps *out) {
    clear(out);
    assert(j->state == STATE_NEW);
    if (now >= j->plan.deadline_ms) {
        give_up(j, now, out);
        return;
    }
    choose(j, 0, now, out);
}

void sj_journey_attempt_head(sj_journey *j, int attempt, int status, const sj_retry_hint *hint, bool inspected, int64_t now, sj_steps *out) {
    clear(out);
    attempt_state *a = journey_running(j, attempt);
    if (!a)
        return;
    a->status = status;
    a->hint = *hint;
    a->inspected = inspected;
    a->head_ms = a->active_ms = now;
}

void sj_journey_attempt_says(sj_journey *j, int attempt, unsigned says, int64_t now, sj_steps *out) {
    clear(out);
    attempt_state *a = journey_running(j, attempt);
    if (!a)
        return;
    a->active_ms = now;
    if (says & (SJ_SAYS_ALL_BUT_DONE | SJ_SAYS_WHOLE)) {
        a->quiet_since_ms = now;
        a->lacks_done = !(says & SJ_SAYS_WHOLE);
    }
    if (j->state == STATE_ATTEMPTING && (says & (SJ_SAYS_CONTENT | SJ_SAYS_FINISH)))
        commit(j, a, now, out);
}

void sj_journey_attempt_error(sj_journey *j, int attempt, const char *code, const char *message, int64_t now, sj_steps *out) {
    clear(out);
    attempt_state *a = journey_running(j, attempt);
    if (!a)
        return;
    a->active_ms = now;
    if (j->state == STATE_COMMITTED) {
        step(out, SJ_STEP_CANCEL)->attempt = a->id;
        break_off(j, a, "error_event", true, now, out);
        return;
    }
    sj_attempt_over over = {
        .facts = {.end = SJ_END_WHOLE, .status = a->status, .inspected = true, .finding = SJ_FINDING_ERROR,
                  .error_code = code, .error_message = message},
        .sent = true,
    };
    sj_verdict v = judge(j, a, &over.facts);
    if (!v.retry_here && !v.next_target) { // the caller's own error: his to see
        commit(j, a, now, out);
        return;
    }
    step(out, SJ_STEP_CANCEL)->attempt = a->id;
    ended_before_commit(j, a, &over, now, out);
}

void sj_journey_attempt_ended(sj_journey *j, int attempt, const sj_attempt_over *over, int64_t now, sj_steps *out) {
    clear(out);
    attempt_state *a = journey_running(j, attempt);
    if (!a)
        return;
    if (j->state == STATE_COMMITTED)
        ended_after_commit(j, a, over, now, out);
    else
        ended_before_commit(j, a, over, now, out);
}

void sj_journey_attempt_held(sj_journey *j, int attempt, bool held, int64_t now) {
    attempt_state *a = journey_running(j, attempt);
    if (!a)
        return;
    a->held = held;
    a->active_ms = now;
}

void sj_journey_granted(sj_journey *j, int64_t now, sj_steps *out) {
    clear(out);
    sj_admission *admission = sj_target_admission(hop_at(j, j->hop)->target);
    if (j->state != STATE_QUEUED || !sj_admission_granted(admission, j->plan.waiter.exchange_id))
        return;
    sj_admission_take(admission, j->plan.waiter.exchange_id);
    j->queue_ms += now - j->wait_since_ms;
    trail_add(j, TRAIL_QUEUE, j->hop, now - j->wait_since_ms);
    if (!start_with_slot(j, j->hop, now, out)) {
        forget_next(j);
        choose(j, j->hop, now, out);
    }
}

void sj_journey_client_gone(sj_journey *j, int64_t now, sj_steps *out) {
    clear(out);
    if (j->state == STATE_OVER)
        return;
    if (j->state == STATE_QUEUED)
        leave_queue(j, now, out);
    else if (j->state == STATE_WAITING)
        end_wait(j, now);
    forget_next(j);
    drop_all(j, "client_gone", now, out);
    finish(j);
}

// ---- time -----------------------------------------------------------------------------------------------------------------------

static int64_t attempt_due(const sj_journey *j, const attempt_state *a) {
    const sj_hop *h = hop_at(j, a->hop);
    if (a->quiet_since_ms >= 0 && j->state == STATE_COMMITTED && !a->held)
        return a->active_ms + QUIET_COMPLETES_MS;
    if (j->state == STATE_COMMITTED) {
        int64_t due = a->held ? INT64_MAX : a->active_ms + h->idle_timeout_ms;
        if (j->plan.stream_max_ms > 0)
            due = sooner(due, a->started_ms + a->first_content_ms + j->plan.stream_max_ms);
        return due;
    }
    if (!j->plan.stream)
        return a->started_ms + h->answer_timeout_ms;
    int64_t due = a->head_ms < 0 ? a->started_ms + h->first_byte_timeout_ms : a->active_ms + h->idle_timeout_ms;
    return a->permit.probe_until_ms > 0 ? sooner(due, a->permit.probe_until_ms) : due;
}

int64_t sj_journey_due_ms(const sj_journey *j) {
    if (j->state == STATE_OVER || j->state == STATE_NEW)
        return INT64_MAX;
    int64_t due = j->state == STATE_COMMITTED ? INT64_MAX : j->plan.deadline_ms;
    if (j->state == STATE_WAITING || j->state == STATE_QUEUED)
        due = sooner(due, j->wait_until_ms);
    for (int i = 0; i < MAX_RUNNING; i++)
        if (j->running[i].id)
            due = sooner(due, attempt_due(j, &j->running[i]));
    return due;
}

static void attempt_timed_out(sj_journey *j, attempt_state *a, int64_t now, sj_steps *out) {
    step(out, SJ_STEP_CANCEL)->attempt = a->id;
    if (j->state == STATE_COMMITTED) {
        if (a->quiet_since_ms >= 0)
            complete(j, a, a->lacks_done, now, out);
        else
            break_off(j, a, "timeout", false, now, out);
        return;
    }
    sj_attempt_over over = {.facts = {.end = SJ_END_TIMED_OUT, .status = a->status, .error_code = "", .error_message = ""}, .sent = true};
    ended_before_commit(j, a, &over, now, out);
}

static void deadline_passed(sj_journey *j, int64_t now, sj_steps *out) {
    if (j->state == STATE_QUEUED)
        leave_queue(j, now, out);
    else if (j->state == STATE_WAITING)
        end_wait(j, now);
    forget_next(j);
    drop_all(j, "deadline", now, out);
    give_up(j, now, out);
}

static void wait_over(sj_journey *j, int64_t now, sj_steps *out) {
    if (j->wait_for == WAIT_REOPENING)
        j->open_wait_ms += now - j->wait_since_ms;
    end_wait(j, now);
    // After a reopening everything that is not used up is worth another look; a backoff stays where it was.
    choose(j, j->wait_for == WAIT_REOPENING ? 0 : j->hop, now, out);
}

void sj_journey_timer(sj_journey *j, int64_t now, sj_steps *out) {
    clear(out);
    if (now < sj_journey_due_ms(j))
        return;
    if (j->state != STATE_COMMITTED && now >= j->plan.deadline_ms) {
        deadline_passed(j, now, out);
        return;
    }
    if (j->state == STATE_WAITING) {
        wait_over(j, now, out);
        return;
    }
    if (j->state == STATE_QUEUED) {
        leave_queue(j, now, out);
        forget_next(j);
        if (j->saved)
            give_up(j, now, out);
        else
            refuse(j, SJ_REFUSAL_QUEUE_TIMEOUT, 5000, out);
        return;
    }
    for (int i = 0; i < MAX_RUNNING; i++)
        if (j->running[i].id && now >= attempt_due(j, &j->running[i])) {
            attempt_timed_out(j, &j->running[i], now, out);
            return;
        }
}

bool sj_journey_is_over(const sj_journey *j) { return j->state == STATE_OVER; }
