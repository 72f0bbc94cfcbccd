#include "journey_internal.h"

#include "text.h"

#include <assert.h>

// Rescue (BEHAVIOUR 12). The stream of a committed answer broke: the same machinery chooses, waits and starts, but only targets that may mend it are
// candidates, first all that replay, then all that go on. What they answer is never delivered: the stream goes on, or it is broken off.

enum { MENDS_MAX = 3 }; // an upstream that breaks every stream is not asked for ever

void sj_journey_can_mend(sj_journey *j, bool replay, bool go_on) {
    j->can_replay = replay;
    j->can_continue = go_on;
}

bool sj_journey_is_mending(const sj_journey *j) {
    return j->mend != SJ_MEND_NONE;
}

void journey_break(sj_journey *j, bool quiet, int64_t now, sj_steps *out) {
    sj_step *s = journey_step(out, SJ_STEP_BREAK);
    s->refusal = SJ_REFUSAL_STREAM_BROKEN;
    s->quiet = quiet;
    journey_end(j, now, out);
}

static bool can_do(const sj_journey *j, sj_mend way, size_t hop) {
    const hop_state *state = &j->hops[hop];
    const sj_hop *h = journey_hop(j, hop);
    if (!j->plan.rescue_other_model && h->model != journey_hop(j, j->broken_hop)->model)
        return false;
    return way == SJ_MEND_REPLAY ? !state->replayed : h->prefill && !state->continued;
}

bool journey_mends(const sj_journey *j, size_t hop) {
    return can_do(j, j->mend, hop);
}

// The first in turn, from the target on whose stream broke; hop_count: none.
static size_t first_candidate(const sj_journey *j) {
    size_t count = j->plan.hop_count;
    for (size_t i = 0; i < count; i++) {
        size_t hop = (j->broken_hop + i) % count;
        if (journey_is_candidate(j, hop))
            return hop;
    }
    return count;
}

static bool has_candidate(const sj_journey *j) {
    return first_candidate(j) < j->plan.hop_count;
}

// The first way from this one on that some target can go. NONE: there is none.
static bool set_way(sj_journey *j, sj_mend way) {
    j->mend = way;
    if (j->mend == SJ_MEND_REPLAY && !(j->can_replay && has_candidate(j)))
        j->mend = SJ_MEND_CONTINUE;
    if (j->mend == SJ_MEND_CONTINUE && !(j->can_continue && has_candidate(j)))
        j->mend = SJ_MEND_NONE;
    return j->mend != SJ_MEND_NONE;
}

// To stay with a target is no fallback.
static void begin_way(sj_journey *j, const char *why, int64_t now, sj_steps *out) {
    size_t first = first_candidate(j);
    bool stays = first == j->broken_hop || first == j->last_hop;
    journey_choose(j, j->broken_hop, stays ? NULL : why, now, out);
}

bool journey_mend(sj_journey *j, int attempt, size_t hop, const char *word, int64_t now, sj_steps *out) {
    assert(j->state == STATE_COMMITTED);
    if (!j->plan.rescue || j->mends == MENDS_MAX || now >= j->plan.deadline_ms || journey_is_draining(j))
        return false;
    for (size_t i = 0; i < j->plan.hop_count; i++)
        j->hops[i].replayed = j->hops[i].continued = false;
    if (j->plan.client_retrying) // one attempt per target
        j->hops[hop].replayed = j->hops[hop].continued = true;
    j->broken_hop = hop;
    if (!set_way(j, SJ_MEND_REPLAY))
        return false;
    j->mends++;
    j->broken_ms = now;
    sj_text_copy(j->broken_word, sizeof j->broken_word, word);
    if (j->plan.stream_max_ms > 0)
        j->plan.deadline_ms = journey_sooner(j->plan.deadline_ms, j->committed_ms + j->plan.stream_max_ms);
    if (j->plan.keepalive_ms > 0)
        j->keepalive_at_ms = now + j->plan.keepalive_ms;
    journey_step(out, SJ_STEP_MEND)->attempt = attempt;
    begin_way(j, word, now, out);
    return true;
}

bool journey_has_another_mend(const sj_journey *j, int64_t now) {
    for (size_t hop = 0; j->mend == SJ_MEND_REPLAY && j->can_continue && hop < j->plan.hop_count; hop++) {
        const sj_hop *h = journey_hop(j, hop);
        int64_t at;
        if (!j->hops[hop].exhausted && can_do(j, SJ_MEND_CONTINUE, hop) &&
            sj_target_would_admit(h->target, journey_credential(j, hop, now), now, &at) == SJ_ADMIT_YES)
            return true;
    }
    return false;
}

void journey_mend_failed(sj_journey *j, int64_t now, sj_steps *out) {
    if (j->mend == SJ_MEND_REPLAY && set_way(j, SJ_MEND_CONTINUE)) {
        begin_way(j, j->broken_word, now, out);
        return;
    }
    j->hop = j->last_hop;
    journey_break(j, false, now, out);
}

void journey_mend_next(sj_journey *j, size_t hop, bool exhausted, const char *why, int64_t now,
                       sj_steps *out) {
    hop_state *state = &j->hops[hop];
    *(j->mend == SJ_MEND_REPLAY ? &state->replayed : &state->continued) = true;
    state->exhausted |= exhausted;
    journey_choose(j, hop, why, now, out);
}

void journey_mended(sj_journey *j, size_t hop, int64_t now, sj_steps *out) {
    sj_note *n = journey_note(out, SJ_NOTE_RESCUED, hop, j->broken_word);
    n->ms = now - j->broken_ms;
    n->source = j->mend == SJ_MEND_REPLAY ? "replay" : "continuation";
    j->mend = SJ_MEND_NONE;
    j->rescues++;
}

// Before it has brought anything new, or after: then that break may be mended too. It did answer, so nothing is held against it.
void sj_journey_attempt_diverged(sj_journey *j, int attempt, int64_t now, sj_steps *out) {
    out->count = out->note_count = 0;
    attempt_state *a = journey_running(j, attempt);
    if (!a)
        return;
    sj_verdict v = {.class = SJ_CLASS_NONE};
    size_t hop = a->hop;
    sj_text_copy(v.reason, sizeof v.reason, "diverged");
    journey_step(out, SJ_STEP_CANCEL)->attempt = attempt;
    journey_note_attempt(j, a, &v, true, now, out);
    journey_settle(j, a, SJ_EFFECT_NEUTRAL, false, false, now, out);
    if (j->mend)
        journey_mend_next(j, hop, false, v.reason, now, out);
    else if (!journey_mend(j, attempt, hop, v.reason, now, out))
        journey_break(j, false, now, out);
}
