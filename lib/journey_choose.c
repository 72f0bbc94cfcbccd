#include "journey_internal.h"

#include "text.h"

#include <assert.h>

enum {
    GATE_LOOK_MS = 50,
    GATE_LOOK_MAX_MS = 200,
    PROBE_LOOK_MS = 50, // the breaker's own "ask again" while all probes are out
    PROBE_LOOK_SPREAD_MS = 400, // of the first look after that
    PROBE_LOOK_MAX_MS = 3200,
    QUEUE_LOOK_MS = 1000,
};

// ---- candidates -----------------------------------------------------------------------------------------

bool journey_moves(const sj_journey *j) {
    return j->plan.repeat == SJ_REPEAT_FREELY;
}

bool journey_is_candidate(const sj_journey *j, size_t hop) {
    const sj_hop *h = journey_hop(j, hop);
    if (j->hops[hop].exhausted || (j->mend && !journey_mends(j, hop)))
        return false;
    if (hop == 0)
        return true;
    return journey_moves(j) && !(h->rewrites_model && !j->plan.movable) &&
           !(j->plan.bound && !h->same_upstream);
}

static size_t next_candidate(const sj_journey *j, size_t from, size_t end) {
    while (from < end && !journey_is_candidate(j, from))
        from++;
    return from;
}

bool journey_has_next(const sj_journey *j) {
    return next_candidate(j, j->hop + 1, j->plan.hop_count) < j->plan.hop_count;
}

bool journey_has_available_next(const sj_journey *j, int64_t now) {
    for (size_t hop = j->hop + 1; hop < j->plan.hop_count; hop++) {
        const sj_hop *h = journey_hop(j, hop);
        int64_t at;
        if (journey_is_candidate(j, hop) &&
            sj_target_would_admit(h->target, journey_credential(j, hop, now), now, &at) == SJ_ADMIT_YES)
            return true;
    }
    return false;
}

size_t journey_next_for_longer(const sj_journey *j) {
    int64_t here = journey_hop(j, j->hop)->context_tokens;
    for (size_t hop = j->hop + 1; hop < j->plan.hop_count; hop++)
        if (journey_is_candidate(j, hop) && journey_hop(j, hop)->context_tokens > here)
            return hop;
    return j->hop + 1;
}

// ---- starting -------------------------------------------------------------------------------------------

static attempt_state *free_place(sj_journey *j) {
    for (int i = 0; i < MAX_RUNNING; i++)
        if (j->running[i].id == 0)
            return &j->running[i];
    assert(0 && "no place for an attempt");
    return NULL;
}

void journey_start(sj_journey *j, size_t hop, const sj_permit *permit, int64_t now, sj_steps *out) {
    assert(now < j->plan.deadline_ms); // invariant 3
    attempt_state *a = free_place(j);
    *a = (attempt_state){
        .id = ++j->last_attempt_id,
        .hop = hop,
        .key = j->hops[hop].key,
        .permit = *permit,
        .charge = j->next_charge,
        .started_ms = now,
        .active_ms = now,
        .head_ms = -1,
        .race_ms = journey_race_due(j, hop, now),
    };
    hop_state *state = &j->hops[hop];
    state->counted += !j->next_is_free;
    if (!state->requested)
        sj_target_count_request(journey_hop(j, hop)->target, now);
    state->requested = true;
    sj_step *s = journey_step(out, SJ_STEP_START);
    s->attempt = a->id;
    s->hop = hop;
    s->key = a->key;
    s->fresh = j->next_is_fresh;
    s->mend = j->mend;
    j->hop = hop;
    j->next_charge = (sj_charge){0}; // the attempt's now
    j->next_is_fresh = j->next_is_free = j->next_is_paid = false;
    j->gate_turn_ms = j->gate_look_ms = j->probe_look_ms = 0;
    journey_set_state(j, STATE_ATTEMPTING);
}

// The slot is ours; the target has the last word. When it says no, the slot is given back.
static sj_admit start_with_slot(sj_journey *j, size_t hop, int64_t *retry_at, int64_t now, sj_steps *out) {
    sj_permit permit;
    sj_admit answer = journey_admit(j, hop, &permit, retry_at, now, out);
    if (answer == SJ_ADMIT_YES)
        journey_start(j, hop, &permit, now, out);
    else
        journey_release_unused(j, hop, now, out);
    return answer;
}

// A target's first attempt is free, unless the client is retrying by itself; every further one is paid for, also when what had been paid
// was given back on the way.
static bool pay(sj_journey *j, size_t hop, int64_t now, sj_steps *out) {
    bool owed = j->hops[hop].requested ? !j->next_is_free : j->plan.client_retrying;
    if (!owed || j->next_is_paid)
        return true;
    bool gentle = j->hops[hop].requested && journey_is_gentle(j->last_class);
    j->next_is_paid = sj_target_charge(journey_hop(j, hop)->target, gentle, now, &j->next_charge);
    if (j->next_is_paid)
        return true;
    j->budget_refused = true;
    (void)journey_note(out, SJ_NOTE_BUDGET_REFUSED, hop, "");
    return false;
}

// ---- waiting --------------------------------------------------------------------------------------------

void journey_wait_until(sj_journey *j, size_t hop, int64_t until_ms, wait_reason why, int64_t now) {
    journey_set_state(j, STATE_WAITING);
    j->hop = hop;
    j->wait_until_ms = until_ms;
    j->wait_since_ms = now;
    j->wait_for = why;
}

// Whether a gate at this hop is waited for rather than gone round.
static bool gate_is_bearable(const sj_journey *j, size_t hop, int64_t until_ms, int64_t now) {
    int64_t wait = until_ms - now, left = j->plan.deadline_ms - now;
    int64_t bound = journey_has_available_next(j, now) ? j->plan.fallback_gate_ms
                                                       : journey_hop(j, hop)->retry->max_hint_ms;
    return wait < left && wait <= bound;
}

// A gate may fall before its time: looks are so close together that who arrives then has no better chance than who has been waiting. At its time
// everybody has a turn.
static void wait_at_gate(sj_journey *j, size_t hop, int64_t until_ms, int64_t now) {
    const sj_hop *h = journey_hop(j, hop);
    uint64_t credential = journey_credential(j, hop, now);
    if (j->gate_turn_ms <= until_ms || j->gate_credential != credential)
        j->gate_turn_ms = sj_target_gate_turn(h->target, credential, now, &j->rng);
    j->gate_credential = credential;
    int64_t turn = j->gate_turn_ms;
    if (turn < until_ms || turn >= j->plan.deadline_ms)
        turn = until_ms;
    j->gate_look_ms = j->gate_look_ms ? journey_sooner(2 * j->gate_look_ms, GATE_LOOK_MAX_MS) : GATE_LOOK_MS;
    int64_t look = now + j->gate_look_ms;
    journey_wait_until(j, hop, look < until_ms ? look : turn, WAIT_GATE, now);
}

// ---- choosing -------------------------------------------------------------------------------------------

// What has been seen on the way down the chain.
typedef struct survey {
    const char *why; // the hop before was left; NULL none was
    sj_admission *full; // NULL none was
    int64_t earliest_ms; // something to wait for
    int64_t latest_ms; // as long as it is worth waiting for
    size_t earliest_hop;
} survey;

static void note_fallback(sj_journey *j, size_t to, const char *why, sj_steps *out) {
    if (!j->fallback[0])
        sj_text_copy(j->fallback, sizeof j->fallback, why);
    (void)journey_note(out, SJ_NOTE_FALLBACK, to, why);
}

static void pass_by(sj_journey *j, size_t hop, sj_admit answer, int64_t at, survey *seen, int64_t now) {
    static const char *const words[] = {
        [SJ_ADMIT_YES] = "",
        [SJ_ADMIT_BREAKER_OPEN] = "breaker_open",
        [SJ_ADMIT_GLOBAL_OPEN] = "global_breaker_open",
        [SJ_ADMIT_GATED] = "gated",
    };
    const sj_hop *h = journey_hop(j, hop);
    seen->why = words[answer];
    int64_t bound = answer == SJ_ADMIT_GATED ? h->retry->max_hint_ms : h->max_open_wait_ms - j->open_wait_ms;
    if (at < seen->earliest_ms && at - now <= bound) {
        seen->earliest_ms = at;
        seen->latest_ms = now + bound;
        seen->earliest_hop = hop;
    }
    j->earliest_ms = journey_sooner(j->earliest_ms, at);
}

// A free slot included.
static bool has_free_next(const sj_journey *j, int64_t now) {
    for (size_t hop = j->hop + 1; hop < j->plan.hop_count; hop++) {
        const sj_hop *h = journey_hop(j, hop);
        int64_t at;
        if (!journey_is_candidate(j, hop) ||
            sj_target_would_admit(h->target, journey_credential(j, hop, now), now, &at) != SJ_ADMIT_YES)
            continue;
        sj_admission_stats slots = sj_admission_read(sj_target_admission(h->target));
        if (slots.waiting == 0 && slots.in_flight < slots.limit)
            return true;
    }
    return false;
}

// As with a gate: while another target is free, nobody waits longer than fallback_gate for a slot.
static int64_t patience_until(const sj_journey *j) {
    bool for_target = j->queue != j->plan.route_slots && journey_has_next(j);
    return for_target ? j->wait_since_ms + j->plan.fallback_gate_ms : INT64_MAX;
}

void journey_weigh_queue(sj_journey *j, int64_t now, sj_steps *out) {
    int64_t patience = patience_until(j);
    if (now >= patience && has_free_next(j, now)) {
        journey_leave_queue(j, now, out);
        journey_choose(j, j->hop + 1, "queue_slow", now, out);
        return;
    }
    if (now >= patience)
        patience = now + QUEUE_LOOK_MS;
    j->wait_until_ms = journey_sooner(j->wait_until_ms, patience);
}

static bool start_or_queue(sj_journey *j, size_t hop, survey *seen, int64_t now, sj_steps *out) {
    sj_admission *slots = sj_target_admission(journey_hop(j, hop)->target);
    sj_slot_answer slot = journey_acquire(j, slots, hop, now, out);
    if (slot == SJ_SLOT_QUEUED) {
        j->wait_until_ms = journey_sooner(j->wait_until_ms, patience_until(j));
        return true;
    }
    if (slot == SJ_SLOT_FULL) {
        seen->full = slots;
        seen->why = "queue_full";
        return false;
    }
    int64_t at = INT64_MAX;
    sj_admit answer = start_with_slot(j, hop, &at, now, out);
    if (answer != SJ_ADMIT_YES) // another worker was quicker
        pass_by(j, hop, answer, at, seen, now);
    return answer == SJ_ADMIT_YES;
}

static bool take(sj_journey *j, size_t hop, survey *seen, int64_t now, sj_steps *out) {
    if (!pay(j, hop, now, out)) {
        seen->why = "budget";
        return false;
    }
    const char *why = seen->why;
    if (!start_or_queue(j, hop, seen, now, out))
        return false;
    if (hop > 0 && why)
        note_fallback(j, hop, why, out);
    return true;
}

// True: started, queued, or waiting at its gate.
static bool offer(sj_journey *j, size_t hop, survey *seen, int64_t now, sj_steps *out) {
    const sj_hop *h = journey_hop(j, hop);
    int64_t at = INT64_MAX;
    sj_admit answer = sj_target_would_admit(h->target, journey_credential(j, hop, now), now, &at);
    j->hop = hop;
    if (hop != j->next_hop) {
        journey_forget_next(j);
        j->gate_turn_ms = j->gate_look_ms = 0;
    }
    j->next_hop = hop;
    if (answer == SJ_ADMIT_YES)
        return take(j, hop, seen, now, out);
    if (answer == SJ_ADMIT_GATED && gate_is_bearable(j, hop, at, now)) {
        if (journey_stand_by(j, hop)) {
            wait_at_gate(j, hop, at, now);
            return true;
        }
        seen->full = sj_target_admission(h->target);
        seen->why = "queue_full";
        return false;
    }
    pass_by(j, hop, answer, at, seen, now);
    return false;
}

// While all probes are out, looks are repeated at growing and random intervals: once the breaker closes, those who waited come one after
// the other, not in one rush that fills the queue.
static bool wait_for_reopening(sj_journey *j, const survey *seen, int64_t now) {
    if (seen->earliest_ms >= j->plan.deadline_ms || !journey_stand_by(j, seen->earliest_hop))
        return false;
    int64_t soonest = seen->earliest_ms > now ? seen->earliest_ms : now + 1, until = soonest;
    if (soonest - now <= PROBE_LOOK_MS) {
        int64_t spread = j->probe_look_ms ? 2 * j->probe_look_ms : PROBE_LOOK_SPREAD_MS;
        j->probe_look_ms = journey_sooner(spread, PROBE_LOOK_MAX_MS);
        until = now + sj_rng_between(&j->rng, PROBE_LOOK_MS, j->probe_look_ms);
        until = journey_sooner(until, journey_sooner(seen->latest_ms, j->plan.deadline_ms - 1));
    }
    journey_wait_until(j, seen->earliest_hop, until > soonest ? until : soonest, WAIT_REOPENING, now);
    return true;
}

void journey_choose(sj_journey *j, size_t first, const char *why, int64_t now, sj_steps *out) {
    survey seen = {.why = why, .earliest_ms = INT64_MAX};
    j->earliest_ms = INT64_MAX;
    if (now < j->plan.deadline_ms)
        for (size_t hop = first; hop < j->plan.hop_count; hop++)
            if (journey_is_candidate(j, hop) && offer(j, hop, &seen, now, out))
                return;
    // Those before, when a fallback was stayed with or they were shut as we passed.
    if (now < j->plan.deadline_ms)
        for (size_t hop = 0; hop < first; hop++)
            if (journey_is_candidate(j, hop) && offer(j, hop, &seen, now, out))
                return;
    if (!journey_has_another_mend(j, now) && wait_for_reopening(j, &seen, now))
        return;
    journey_forget_next(j);
    if (j->last_attempt_id == 0)
        j->hop = first;
    if (seen.full && j->last_attempt_id == 0)
        journey_refuse_queue(j, SJ_REFUSAL_QUEUE_FULL, seen.full, now, out);
    else
        journey_give_up(j, now, out);
}

void journey_advance(sj_journey *j, size_t next, const char *why, int64_t now, sj_steps *out) {
    size_t here = j->hop, end = j->plan.hop_count;
    for (size_t hop = here; hop < next && hop < end; hop++) // one pass: what is skipped is skipped for good
        j->hops[hop].exhausted = true;
    size_t to = next_candidate(j, next, end);
    if (to == end) // those before this one that were shut when we passed may be worth waiting for
        to = next_candidate(j, 0, here);
    if (to != here && to < end)
        journey_choose(j, to, why, now, out);
    else
        journey_give_up(j, now, out);
}

// A fallback that is stayed with is asked first, unless the strong target wants a probe: that one is a live request which goes on down the chain
// if it fails.
static void start_chain(sj_journey *j, int64_t now, sj_steps *out) {
    const sj_hop *strong = journey_hop(j, 0);
    size_t first = 0;
    if (j->plan.sticky && journey_moves(j) && sj_sticky_holds(j->plan.sticky)) {
        sj_breaker_state state = sj_target_state(strong->target);
        bool closed = state == SJ_BREAKER_CLOSED || state == SJ_BREAKER_DISABLED;
        first = sj_sticky_first(j->plan.sticky, closed, now);
        int64_t at;
        if (!closed &&
            sj_target_would_admit(strong->target, journey_credential(j, 0, now), now, &at) == SJ_ADMIT_YES)
            first = 0;
        if (first >= j->plan.hop_count || !journey_is_candidate(j, first))
            first = 0;
    }
    journey_choose(j, first, first ? "sticky" : NULL, now, out);
}

void journey_begin(sj_journey *j, int64_t now, sj_steps *out) {
    sj_admission *slots = j->plan.route_slots;
    sj_slot_answer answer = SJ_SLOT_GRANTED;
    if (slots && now < j->plan.deadline_ms) {
        answer = journey_acquire(j, slots, 0, now, out);
        j->holds_route = answer == SJ_SLOT_GRANTED;
    }
    if (answer == SJ_SLOT_GRANTED)
        start_chain(j, now, out);
    else if (answer == SJ_SLOT_FULL)
        journey_refuse_queue(j, SJ_REFUSAL_QUEUE_FULL, slots, now, out);
}

void journey_use_grant(sj_journey *j, int64_t now, sj_steps *out) {
    int64_t at;
    if (j->queue == j->plan.route_slots) {
        j->holds_route = true;
        start_chain(j, now, out);
    } else if (start_with_slot(j, j->hop, &at, now, out) != SJ_ADMIT_YES)
        journey_choose(j, j->hop, NULL, now, out);
}
