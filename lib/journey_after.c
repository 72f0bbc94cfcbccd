#include "journey_internal.h"

#include <assert.h>
#include <stdio.h>

enum {
    GATE_MAX_MS = 600 * 1000,
    HINT_SPREAD_MAX_MS = 5000,
    OPEN_RETRY_AFTER_MS = 30000, // when nobody knows better
    BUDGET_RETRY_AFTER_MS = 5000,
};

// What is known of an ended attempt once its place has been freed.
typedef struct ended {
    int id;
    sj_verdict verdict;
    sj_retry_hint hint;
    bool real_answer; // a whole HTTP answer that could be delivered as it is
    bool next_key; // it was its key that was refused, and another one is fit
    bool saved;
} ended;

// ---- giving up ------------------------------------------------------------------------------------------

void journey_refuse(sj_journey *j, sj_refusal refusal, int64_t retry_after_ms, int64_t now, sj_steps *out) {
    assert(!j->mend);
    sj_step *s = journey_step(out, SJ_STEP_REFUSE);
    s->refusal = refusal;
    if (retry_after_ms > 0) {
        int64_t seconds = (retry_after_ms + 999) / 1000 + sj_rng_between(&j->rng, 0, 2);
        s->retry_after_s = journey_sooner(seconds, 60);
    }
    if (j->last_attempt_id > 0)
        j->hop = j->last_hop;
    journey_end(j, now, out);
}

void journey_refuse_queue(sj_journey *j, sj_refusal refusal, sj_admission *queue, int64_t now,
                          sj_steps *out) {
    journey_refuse(j, refusal, sj_admission_retry_after_ms(queue, now, &j->rng), now, out);
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

void journey_give_up(sj_journey *j, int64_t now, sj_steps *out) {
    if (j->mend)
        journey_mend_failed(j, now, out);
    else if (j->saved) {
        sj_step *s = journey_step(out, SJ_STEP_DELIVER_SAVED);
        s->hop = j->saved_hop;
        s->class = j->saved_class;
        j->hop = j->saved_hop;
        j->upstream_ms = j->saved_upstream_ms;
        journey_end(j, now, out);
    } else if (now >= j->plan.deadline_ms)
        journey_refuse(j, SJ_REFUSAL_DEADLINE_EXCEEDED, 0, now, out);
    else if (j->last_attempt_id > 0)
        journey_refuse(j, refusal_of_last(j), 0, now, out);
    else if (j->budget_refused)
        journey_refuse(j, SJ_REFUSAL_OVERLOADED, BUDGET_RETRY_AFTER_MS, now, out);
    else if (j->earliest_ms == INT64_MAX)
        journey_refuse(j, SJ_REFUSAL_CIRCUIT_OPEN, OPEN_RETRY_AFTER_MS, now, out);
    else
        journey_refuse(j, SJ_REFUSAL_CIRCUIT_OPEN, j->earliest_ms - now + 1, now, out);
}

static void save_answer(sj_journey *j, ended *e, sj_steps *out) {
    if (!e->real_answer || j->mend || (j->saved && j->saved_hop < j->hop))
        return;
    j->saved = e->saved = true;
    j->saved_hop = j->hop;
    j->saved_class = e->verdict.class;
    j->saved_upstream_ms = j->upstream_ms;
    sj_step *s = journey_step(out, SJ_STEP_SAVE);
    s->attempt = e->id;
    s->hop = j->hop;
}

static void deliver(sj_journey *j, const ended *e, int64_t now, sj_steps *out) {
    if (!e->real_answer) {
        journey_refuse(j, refusal_of_last(j), 0, now, out);
        return;
    }
    sj_step *s = journey_step(out, SJ_STEP_DELIVER);
    s->attempt = e->id;
    s->hop = j->hop;
    s->class = e->verdict.class;
    journey_end(j, now, out);
}

// ---- retrying -------------------------------------------------------------------------------------------

static bool may_repeat(const sj_journey *j, const sj_verdict *v) {
    bool unsent = v->class == SJ_CLASS_NEVER_SENT || v->class == SJ_CLASS_THROTTLED;
    switch (j->plan.repeat) {
    case SJ_REPEAT_FREELY:
        return j->plan.replayable || unsent;
    case SJ_REPEAT_SAFE:
        return true;
    case SJ_REPEAT_UNSENT:
        return unsent;
    }
    return false;
}

typedef struct pause {
    bool possible;
    int64_t ms;
    bool hinted;
    const char *source;
} pause;

// Never early, and not all at the same moment; in what the deadline leaves, half is for the attempt itself.
static pause pause_as_told(sj_journey *j, const ended *e, bool next_available, int64_t left_ms, int64_t now) {
    const sj_retry_policy *policy = journey_hop(j, j->hop)->retry;
    int64_t hint = journey_keys_back_in(j, j->hop, e->hint.wait_ms, now);
    int64_t spread = journey_sooner(hint / 2, HINT_SPREAD_MAX_MS);
    bool fits = hint < left_ms && hint <= policy->max_hint_ms;
    bool too_long = next_available && hint > j->plan.fallback_gate_ms;
    pause p = {.possible = fits && !too_long, .hinted = true, .source = sj_hint_source_name(e->hint.source)};
    if (p.possible)
        p.ms = hint + sj_rng_between(&j->rng, 0, journey_sooner(spread, (left_ms - hint) / 2));
    return p;
}

static pause pause_by_formula(sj_journey *j, const ended *e, int64_t left_ms) {
    const sj_retry_policy *policy = journey_hop(j, j->hop)->retry;
    hop_state *state = &j->hops[j->hop];
    sj_backoff backoff = policy->backoff;
    if (e->verdict.class == SJ_CLASS_THROTTLED) {
        backoff.base_ms = policy->throttle_base_ms;
        backoff.cap_ms = policy->throttle_cap_ms;
    }
    int n = ++state->retry_no + e->verdict.extra_step;
    int64_t previous = state->previous_wait_ms ? state->previous_wait_ms : backoff.base_ms;
    int64_t ms = state->previous_wait_ms = sj_backoff_wait_ms(&backoff, n, previous, &j->rng);
    return (pause){
        .possible = ms < left_ms && j->unhinted_wait_ms + ms <= policy->max_wait_total_ms,
        .ms = ms,
        .source = "backoff",
    };
}

static void note_retry(sj_journey *j, const sj_verdict *v, const pause *p, sj_steps *out) {
    j->retries++;
    sj_note *n = journey_note(out, SJ_NOTE_RETRY, j->hop, v->reason);
    n->ms = p->ms;
    n->source = p->source;
    n->class = v->class;
    n->status = v->status;
}

static bool has_attempts_left(const sj_journey *j, bool next_available) {
    const sj_retry_policy *policy = journey_hop(j, j->hop)->retry;
    int limit = next_available ? policy->max_attempts_before_fallback : policy->max_attempts;
    return j->hops[j->hop].counted < (j->plan.client_retrying ? 1 : limit);
}

// Whether another attempt here is allowed at all.
static bool is_retriable(const sj_journey *j, const sj_verdict *v, bool next_available) {
    if (v->class == SJ_CLASS_TIMED_OUT && next_available) // do not ask a silent target twice
        return false;
    return v->retry_here && may_repeat(j, v) && has_attempts_left(j, next_available);
}

// The breaker has opened, perhaps for this very failure: a sleep here would be for nothing.
static bool is_shut(const sj_journey *j, int64_t now) {
    const sj_hop *h = journey_hop(j, j->hop);
    int64_t at;
    sj_admit answer = sj_target_would_admit(h->target, journey_credential(j, j->hop, now), now, &at);
    return answer == SJ_ADMIT_BREAKER_OPEN || answer == SJ_ADMIT_GLOBAL_OPEN;
}

// For the attempt to come.
static bool pay_retry(sj_journey *j, const sj_verdict *v, int64_t now, sj_steps *out) {
    bool gentle = journey_is_gentle(v->class) || v->class == SJ_CLASS_QUOTA;
    if (!sj_target_charge(journey_hop(j, j->hop)->target, gentle, now, &j->next_charge)) {
        (void)journey_note(out, SJ_NOTE_BUDGET_REFUSED, j->hop, v->reason);
        return false;
    }
    j->next_hop = j->hop;
    j->next_is_paid = true;
    return true;
}

// Every stop is tested before the sleep (BEHAVIOUR 4 and 5). False: no other attempt here; *why, when it is not the attempt's own reason.
static bool retry_here(sj_journey *j, const ended *e, const char **why, int64_t now, sj_steps *out) {
    const sj_verdict *v = &e->verdict;
    bool next_available = v->next_target && journey_has_available_next(j, now);
    if (!is_retriable(j, v, next_available))
        return false;
    if (next_available && is_shut(j, now)) {
        *why = "breaker_open";
        return false;
    }
    int64_t left_ms = j->plan.deadline_ms - now;
    pause p = e->next_key ? (pause){.possible = left_ms > 0, .hinted = true, .source = "next_key"}
              : e->hint.source != SJ_HINT_NONE ? pause_as_told(j, e, next_available, left_ms, now)
                                               : pause_by_formula(j, e, left_ms);
    if (!p.possible)
        return false;
    if (!pay_retry(j, v, now, out)) {
        *why = "budget";
        return false;
    }
    if (!p.hinted)
        j->unhinted_wait_ms += p.ms;
    note_retry(j, v, &p, out);
    if (e->next_key)
        journey_choose(j, j->hop, NULL, now, out);
    else
        journey_wait_until(j, j->hop, now + p.ms, WAIT_BACKOFF, now);
    return true;
}

// Once per target and cause, outside the attempt limit and the budget.
static bool retry_at_once(sj_journey *j, const sj_verdict *v, int64_t now, sj_steps *out) {
    hop_state *state = &j->hops[j->hop];
    bool *used = v->class == SJ_CLASS_STALE ? &state->stale_retry_used : &state->unsent_retry_used;
    if (!v->free_retry || *used || !may_repeat(j, v) || now >= j->plan.deadline_ms)
        return false;
    *used = true;
    j->next_hop = j->hop;
    j->next_is_fresh = j->next_is_free = true;
    note_retry(j, v, &(pause){.source = "at_once"}, out);
    journey_choose(j, j->hop, NULL, now, out);
    return true;
}

static void try_again(sj_journey *j, const ended *e, int64_t now, sj_steps *out) {
    const char *why = e->verdict.reason;
    if (retry_at_once(j, &e->verdict, now, out) || retry_here(j, e, &why, now, out))
        return;
    if (e->verdict.next_target && may_repeat(j, &e->verdict) && journey_moves(j))
        journey_advance(j, j->hop + 1, why, now, out);
    else
        journey_give_up(j, now, out);
}

// A dead key's successor is asked free of charge: that was no attempt at an answer. After a quota it is a retry like others.
static bool try_next_key(sj_journey *j, const sj_verdict *v, int64_t now, sj_steps *out) {
    bool is_free = v->class == SJ_CLASS_CREDENTIAL;
    if (now >= j->plan.deadline_ms)
        return false;
    if (!is_free && !(has_attempts_left(j, journey_has_available_next(j, now)) && pay_retry(j, v, now, out)))
        return false;
    j->next_hop = j->hop;
    j->next_is_free = is_free;
    note_retry(j, v, &(pause){.source = "next_key"}, out);
    journey_choose(j, j->hop, NULL, now, out);
    return true;
}

// ---- after an attempt -----------------------------------------------------------------------------------

typedef enum way { WAY_TRY_AGAIN, WAY_NEXT_KEY, WAY_NEXT_TARGET, WAY_GIVE_UP, WAY_DELIVER } way;

static way way_on(const sj_journey *j, const sj_verdict *v, bool next_key) {
    switch (v->class) {
    case SJ_CLASS_SUCCESS:
        return WAY_DELIVER;
    case SJ_CLASS_CALLER:
    case SJ_CLASS_REFUSED:
    case SJ_CLASS_CREDENTIAL:
    case SJ_CLASS_TOO_LONG:
    case SJ_CLASS_QUOTA:
    case SJ_CLASS_NO_MODEL:
        if (next_key)
            return WAY_NEXT_KEY;
        if (v->retry_here) // x-should-retry: true, 409 by option
            return WAY_TRY_AGAIN;
        if (v->next_target && journey_moves(j) && journey_has_next(j))
            return WAY_NEXT_TARGET;
        // A fallback's own refusal never hides what really happened.
        return j->saved && j->saved_hop != j->hop ? WAY_GIVE_UP : WAY_DELIVER;
    case SJ_CLASS_MISCONFIGURED:
        return WAY_GIVE_UP;
    default:
        return WAY_TRY_AGAIN;
    }
}

// A whole answer, or an error of any kind, is not for a client who is in the middle of a stream.
static void mend_on(sj_journey *j, const ended *e, way w, int64_t now, sj_steps *out) {
    const sj_verdict *v = &e->verdict;
    const char *why = v->class == SJ_CLASS_SUCCESS ? "no_stream" : v->reason;
    size_t hop = j->hop;
    if (w == WAY_TRY_AGAIN && (retry_at_once(j, v, now, out) || retry_here(j, e, &why, now, out)))
        return;
    if (w == WAY_NEXT_KEY && try_next_key(j, v, now, out))
        return;
    journey_mend_next(j, hop, true, why, now, out);
}

static void go(sj_journey *j, const ended *e, way w, int64_t now, sj_steps *out) {
    const sj_verdict *v = &e->verdict;
    bool longer = v->class == SJ_CLASS_TOO_LONG;
    if (journey_is_draining(j) && w != WAY_DELIVER) {
        journey_end(j, now, out);
        return;
    }
    if (j->mend) {
        mend_on(j, e, w, now, out);
        return;
    }
    switch (w) {
    case WAY_TRY_AGAIN:
        try_again(j, e, now, out);
        return;
    case WAY_NEXT_KEY:
        if (try_next_key(j, v, now, out))
            return;
        w = way_on(j, v, false); // what has been saved is no longer there to be delivered
        go(j, e, w == WAY_DELIVER && e->saved ? WAY_GIVE_UP : w, now, out);
        return;
    case WAY_NEXT_TARGET:
        journey_advance(j, longer ? journey_next_for_longer(j) : j->hop + 1, v->reason, now, out);
        return;
    case WAY_GIVE_UP:
        journey_give_up(j, now, out);
        return;
    case WAY_DELIVER:
        deliver(j, e, now, out);
        return;
    }
}

static void set_gate(const sj_journey *j, const attempt_state *a, const sj_verdict *v, int64_t now,
                     sj_steps *out) {
    bool waits = v->class == SJ_CLASS_THROTTLED || v->class == SJ_CLASS_FAILING;
    if (!waits || a->hint.source == SJ_HINT_NONE)
        return;
    const sj_hop *h = journey_hop(j, a->hop);
    int64_t ms = journey_sooner(a->hint.wait_ms, GATE_MAX_MS);
    sj_target_gate(h->target, a->permit.credential, now + ms, a->started_ms, now);
    sj_note *n = journey_note(out, SJ_NOTE_HINT_GATE, a->hop, v->reason);
    n->ms = ms;
    n->source = sj_hint_source_name(a->hint.source);
}

sj_verdict journey_judge(const sj_journey *j, const attempt_state *a, const sj_attempt_facts *facts) {
    sj_attempt_facts known = *facts;
    known.generation = j->plan.repeat == SJ_REPEAT_FREELY;
    known.should_retry = a->hint.should_retry;
    return sj_verdict_of(&known, &journey_hop(j, a->hop)->retry->rules);
}

// A 200 that is a failure of the upstream's in disguise is no answer to deliver: an application would take it for one.
static bool is_real_answer(const attempt_state *a, const sj_attempt_over *over, const sj_verdict *v) {
    bool disguised =
        v->class == SJ_CLASS_FAILING || v->class == SJ_CLASS_THROTTLED || v->class == SJ_CLASS_MALFORMED;
    return over->facts.end == SJ_END_WHOLE && a->status > 0 && (a->status >= 400 || !disguised);
}

bool journey_shows_error(sj_journey *j, const attempt_state *a, const sj_verdict *v, int64_t now) {
    j->hop = a->hop;
    return way_on(j, v, journey_has_next_key(j, a, v, now)) == WAY_DELIVER && !j->mend &&
           !journey_is_racing(j); // the other one may still answer
}

// For the case that nothing better comes. A dead key's 401 would tell of the wrong trouble once another key has been asked.
static bool is_worth_keeping(const sj_journey *j, const sj_verdict *v, way w) {
    if (v->class == SJ_CLASS_SUCCESS)
        return false;
    bool dead_key = w == WAY_NEXT_KEY && v->class == SJ_CLASS_CREDENTIAL;
    bool goes_on = w == WAY_TRY_AGAIN || w == WAY_NEXT_KEY || w == WAY_NEXT_TARGET;
    return (goes_on && !dead_key) || journey_is_racing(j);
}

void journey_ended_before_commit(sj_journey *j, attempt_state *a, const sj_attempt_over *over,
                                 bool transferring, int64_t now, sj_steps *out) {
    ended e = {.id = a->id, .verdict = journey_judge(j, a, &over->facts), .hint = a->hint};
    const sj_verdict *v = &e.verdict;
    e.real_answer = is_real_answer(a, over, v);
    j->hop = a->hop;
    journey_note_attempt(j, a, v, over->sent, now, out);
    e.next_key = journey_learn_key(j, a, v, now, out);
    way w = way_on(j, v, e.next_key);
    if (is_worth_keeping(j, v, w))
        save_answer(j, &e, out);
    if (transferring) // what is to be kept has been kept
        journey_step(out, SJ_STEP_CANCEL)->attempt = a->id;
    set_gate(j, a, v, now, out);
    if (!a->content && v->class == SJ_CLASS_SUCCESS)
        journey_content(j, a, now, out);
    size_t hop = a->hop;
    journey_teach(j, a, v, over, now);
    journey_settle(j, a, v->breaker, v->own_side && over->own_side, !over->sent, now, out);
    if (v->class == SJ_CLASS_SUCCESS)
        journey_drop_others(j, NULL, now, out);
    else if (journey_others_run(j)) { // an error never beats a target that may still answer
        j->hops[hop].exhausted = true;
        return;
    }
    j->hop = hop;
    go(j, &e, w, now, out);
}
