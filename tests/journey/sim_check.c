// The invariants of ARCHITECTURE as far as they can be seen from outside of lib.
#include "sim_world.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { TIMER_SLACK_MS = 400, RINGS_MAX = 4000 };

void sim_violated(sim_world *w, const sim_exchange *e, const char *format, ...) {
    char *out = w->result->violation;
    if (out[0])
        return; // the first one tells most
    size_t size = sizeof w->result->violation;
    int n = snprintf(out, size, "seed %" PRIu64 ", at %" PRId64 " ms, exchange %" PRIu64 ": ", w->rules->seed,
                     w->now_ms, e ? e->id : 0);
    va_list args;
    va_start(args, format);
    n += vsnprintf(out + n, size - (size_t)n, format, args);
    va_end(args);
    char trail[400];
    if (e && n > 0 && (size_t)n < size) {
        sj_journey_trail(e->journey, sim_clock(w, e), trail, sizeof trail);
        (void)snprintf(out + n, size - (size_t)n, " [%s]", trail);
    }
}

#define must(condition, ...)                                                                                 \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            sim_violated(w, e, __VA_ARGS__);                                                                 \
    } while (0)

// ---- notes ----------------------------------------------------------------------------------------------

static bool is_success(sj_class class) {
    return class == SJ_CLASS_SUCCESS || class == SJ_CLASS_CALLER || class == SJ_CLASS_TOO_LONG ||
           class == SJ_CLASS_REFUSED;
}

static bool is_failure(sj_class class) {
    return class == SJ_CLASS_FAILING || class == SJ_CLASS_NO_ANSWER || class == SJ_CLASS_MALFORMED ||
           class == SJ_CLASS_TIMED_OUT;
}

// The leg that the note is about: of two at one target, the one that is about to go.
static sim_leg *leg_at(sim_exchange *e, size_t hop) {
    sim_leg *found = NULL;
    for (int i = 0; i < SIM_LEGS; i++)
        if (e->legs[i].attempt && e->legs[i].hop == hop && (!found || !e->legs[i].running))
            found = &e->legs[i];
    return found;
}

static void remember_attempt(sim_world *w, sim_exchange *e, const sj_note *note) {
    sim_leg *leg = leg_at(e, note->hop);
    must(leg, "an attempt ended that was none");
    if (!leg)
        return;
    sim_gate *gate = &w->gates[e->target_of[note->hop]][leg->credential];
    if (is_success(note->class) && leg->started_ms > gate->refused_ms) {
        if (gate->until_ms > sim_clock(w, e))
            sim_saw_special(w, SIM_SPECIAL_GATE_LIFTED);
        gate->until_ms = 0;
    }
    e->failed_probe |= leg->probe && is_failure(note->class);
    sim_forget_probe(w, leg);
}

static void remember_gate(sim_world *w, sim_exchange *e, const sj_note *note) {
    const sim_leg *leg = leg_at(e, note->hop);
    must(leg, "a gate without an attempt");
    if (!leg)
        return;
    sim_gate *gate = &w->gates[e->target_of[note->hop]][leg->credential];
    int64_t until_ms = sim_clock(w, e) + note->ms;
    e->own_gate_ms[note->hop][leg->credential] = until_ms;
    if (leg->started_ms > gate->refused_ms)
        gate->refused_ms = leg->started_ms;
    if (until_ms > gate->until_ms)
        gate->until_ms = until_ms;
}

static void see_note(sim_world *w, sim_exchange *e, const sj_note *note) {
    sim_seen *seen = &w->result->seen;
    sim_saw(seen, SIM_SAW_NOTE, (int)note->kind);
    switch (note->kind) {
    case SJ_NOTE_ATTEMPT:
        sim_saw(seen, SIM_SAW_CLASS, (int)note->class);
        return;
    case SJ_NOTE_BREAKER:
        sim_saw_change(seen, &note->change, note->global);
        return;
    case SJ_NOTE_RETRY:
    case SJ_NOTE_HINT_GATE:
        sim_saw_source(seen, note->source);
        return;
    case SJ_NOTE_FALLBACK:
        sim_saw_fallback(seen, note->reason);
        if (strcmp(note->reason, "sticky") == 0)
            sim_saw_special(w, SIM_SPECIAL_STICKY_START);
        return;
    case SJ_NOTE_KEY:
        sim_saw_key(seen, note->reason);
        return;
    case SJ_NOTE_RESCUED:
        sim_saw_special(w,
                        strcmp(note->source, "replay") == 0 ? SIM_SPECIAL_REPLAYED : SIM_SPECIAL_CONTINUED);
        return;
    case SJ_NOTE_QUEUED:
        e->queued_now = true;
        return;
    default:
        return;
    }
}

void sim_check_note(sim_world *w, sim_exchange *e, const sj_note *note) {
    must(note->hop < e->plan.hop_count, "a note about no hop");
    see_note(w, e, note);
    if (note->kind == SJ_NOTE_ATTEMPT)
        remember_attempt(w, e, note);
    else if (note->kind == SJ_NOTE_HINT_GATE)
        remember_gate(w, e, note);
    else if (note->kind == SJ_NOTE_BREAKER && note->change.to == SJ_BREAKER_OPEN)
        w->result->opened++;
    else if (note->kind == SJ_NOTE_RACE)
        e->racing = true;
    else if (note->kind == SJ_NOTE_RETRY)
        must(note->ms >= 0 && note->ms <= 600 * 1000, "a retry in %" PRId64 " ms", note->ms);
}

// ---- probes ---------------------------------------------------------------------------------------------

void sim_forget_probe(sim_world *w, sim_leg *leg) {
    if (!leg->probe)
        return;
    leg->probe = false;
    sim_leg **at = &w->probes[leg->exchange->target_of[leg->hop]];
    while (*at && *at != leg)
        at = &(*at)->probe_next;
    if (*at)
        *at = leg->probe_next;
}

static void forget_older_generation(sim_world *w, size_t target, uint64_t generation) {
    if (w->probe_generation[target] == generation)
        return;
    w->probe_generation[target] = generation;
    for (sim_leg *leg = w->probes[target]; leg; leg = leg->probe_next)
        leg->probe = false;
    w->probes[target] = NULL;
}

// Those older than probe_timeout are written off and count no more.
static void note_probe(sim_world *w, sim_leg *leg, const sj_target_stats *stats) {
    const sim_exchange *e = leg->exchange;
    size_t target = e->target_of[leg->hop];
    const sj_breaker_rules *breaker = &w->rules->targets.breaker;
    forget_older_generation(w, target, stats->generation);
    leg->probe = true;
    leg->probe_next = w->probes[target];
    w->probes[target] = leg;
    int out = 0;
    for (const sim_leg *p = w->probes[target]; p; p = p->probe_next)
        out += leg->started_ms - p->started_ms < breaker->probe_timeout_ms - 2 * w->rules->lag_ms;
    must(out <= breaker->half_open_max_calls, "%d probes at once", out);
}

// ---- steps ----------------------------------------------------------------------------------------------

static int most_budget(const sim_world *w) {
    int one = w->rules->targets.budget.capacity, other = w->rules->other_targets.budget.capacity;
    return w->rules->reload_every_ms > 0 && other > one ? other : one;
}

static int attempt_limit(const sim_world *w, const sim_exchange *e, size_t hop) {
    int last = w->retry.max_attempts, before = w->retry.max_attempts_before_fallback;
    int keys = SIM_CREDENTIALS, mends = 4 * 2; // at most; of four streams
    int more = (e->plan.rescue ? mends : 0) + (w->keys[sim_upstream_at(w, e, hop)] ? keys : 0);
    return 2 + more +
           (e->plan.client_retrying ? 1
            : last > before         ? last
                                    : before); // two of them outside the limit
}

// Of the rules that may be in force: what a reload takes away, nobody gives back at once.
static const sj_admission_rules *most_slots(const sim_world *w, size_t upstream) {
    const sj_admission_rules *one = &w->rules->slots[upstream], *other = &w->rules->other_slots[upstream];
    return w->rules->reload_every_ms > 0 && other->max_concurrent > one->max_concurrent ? other : one;
}

static void note_race(sim_world *w, sim_exchange *e, const sj_step *step) {
    if (e->racing) {
        e->race_first = e->last_attempt;
        e->race_second = step->attempt;
    } else if (e->race_second) {
        sim_saw_special(w, SIM_SPECIAL_RACE_BOTH_LOST);
        e->race_first = e->race_second = 0;
    }
}

static void note_winner(sim_world *w, const sim_exchange *e, int attempt) {
    if (e->race_second)
        sim_saw_special(w, attempt == e->race_second ? SIM_SPECIAL_RACE_SECOND : SIM_SPECIAL_RACE_FIRST);
}

// A key that rests is used when all do.
static void check_key(sim_world *w, sim_exchange *e, const sj_step *step) {
    sj_keys *keys = w->keys[sim_upstream_at(w, e, step->hop)];
    if (!keys)
        return;
    int64_t now = sim_clock(w, e);
    must(step->key < sj_keys_count(keys), "key %zu", step->key);
    if (!sj_keys_read(keys, step->key, now).resting)
        return;
    sim_saw_special(w, SIM_SPECIAL_ALL_KEYS_REST);
    must(!sj_keys_has_other(keys, step->key, now), "key %zu rests, and others do not", step->key);
}

// Only by one that can, as far as anybody can.
static void check_mend(sim_world *w, sim_exchange *e, const sj_step *step) {
    const sj_hop *hop = &e->hops[step->hop];
    if (step->mend == SJ_MEND_NONE)
        return;
    must(e->plan.rescue_other_model || hop->model == e->hops[e->committed_hop].model,
         "mended by another model");
    must(step->mend == SJ_MEND_REPLAY ? e->can_replay : e->can_continue && hop->prefill,
         "mended by one that cannot");
}

static void check_start(sim_world *w, sim_exchange *e, const sj_step *step) {
    int64_t now = sim_clock(w, e);
    must(step->hop < e->plan.hop_count, "no such hop");
    size_t target = e->target_of[step->hop], upstream = sim_upstream_at(w, e, step->hop);
    uint64_t credential = sim_credential(w, e, step->hop, step->key);
    const sim_gate *gate = &w->gates[target][credential];
    must(step->attempt == e->last_attempt + 1, "attempt %d after %d", step->attempt, e->last_attempt);
    must(sim_running(e) == 0 || (e->racing && sim_running(e) == 1), "two attempts at once, and no race");
    must((!e->committed || e->mending) && !e->told, "an attempt after the answer");
    must((step->mend != SJ_MEND_NONE) == e->mending, "an attempt at mending, or not");
    check_key(w, e, step);
    check_mend(w, e, step);
    must(now < e->plan.deadline_ms, "an attempt after the deadline"); // invariant 3
    must(now >= gate->until_ms, "an attempt %" PRId64 " ms before the gate's time", gate->until_ms - now);
    // A key that others have shown to be good again is asked again.
    must(w->keys[upstream] || now >= e->own_gate_ms[step->hop][credential],
         "an attempt against its own hint");
    must(++e->attempts_at[step->hop] <= attempt_limit(w, e, step->hop), "%d attempts at one target",
         e->attempts_at[step->hop]);
    must(w->upstreams[upstream].running < most_slots(w, upstream)->max_concurrent,
         "%d attempts at one upstream", w->upstreams[upstream].running + 1);
    note_race(w, e, step);
}

void sim_check_started(sim_world *w, sim_leg *leg) {
    const sim_exchange *e = leg->exchange;
    for (int i = 0; i < MAX_RUNNING; i++)
        if (e->journey->running[i].id == leg->attempt && e->journey->running[i].charge.from_floor)
            sim_saw_special(w, SIM_SPECIAL_BUDGET_FLOOR);
    sj_target_stats stats = sj_target_read(w->targets[e->target_of[leg->hop]], leg->started_ms);
    must(stats.state != SJ_BREAKER_OPEN && stats.state != SJ_BREAKER_FORCED_OPEN,
         "an attempt at an open breaker");
    must(stats.budget_available >= 0 && stats.budget_available <= most_budget(w), "a budget of %d",
         stats.budget_available);
    if (stats.state == SJ_BREAKER_HALF_OPEN && w->rules->targets.breaker.enabled &&
        w->rules->reload_every_ms == 0)
        note_probe(w, leg, &stats);
}

// Probes sacrifice nobody: whose probe failed is sent on to whoever else is free.
static bool is_free(const sim_world *w, const sim_exchange *e, size_t hop) {
    size_t upstream = sim_upstream_at(w, e, hop);
    sj_admission_stats slots = sj_admission_read(w->admissions[upstream]);
    int64_t at;
    for (size_t other = 0; other < e->plan.hop_count; other++)
        if (e->target_of[other] == e->target_of[hop] && e->attempts_at[other] > 0)
            return false;
    return !w->keys[upstream] && sim_line_is_plain(w, (int)upstream) && slots.waiting == 0 &&
           slots.in_flight < slots.limit && (e->plan.movable || !e->hops[hop].rewrites_model) &&
           sj_target_would_admit(w->targets[e->target_of[hop]], e->credential, sim_clock(w, e), &at) ==
               SJ_ADMIT_YES;
}

void sim_check_failed(sim_world *w, sim_exchange *e) {
    bool moves = e->plan.repeat == SJ_REPEAT_FREELY && e->plan.replayable && !e->plan.bound &&
                 !e->plan.client_retrying;
    if (!e->failed_probe || !moves || e->committed || e->last_attempt > 1 || e->line != SIM_NO_LINE ||
        sim_clock(w, e) >= e->plan.deadline_ms)
        return;
    for (size_t hop = 1; hop < e->plan.hop_count; hop++)
        must(!is_free(w, e, hop), "sacrificed to a probe while target %zu was free", e->target_of[hop]);
}

static void check_retry_after(sim_world *w, sim_exchange *e, const sj_step *step) {
    bool says_when = step->refusal == SJ_REFUSAL_CIRCUIT_OPEN || step->refusal == SJ_REFUSAL_QUEUE_FULL ||
                     step->refusal == SJ_REFUSAL_QUEUE_TIMEOUT || step->refusal == SJ_REFUSAL_OVERLOADED;
    must(step->retry_after_s >= says_when && step->retry_after_s <= 60, "Retry-After: %" PRId64,
         step->retry_after_s);
}

static void check_end(sim_world *w, sim_exchange *e) {
    must(!e->told, "a second end"); // invariant 1
    e->told = true;
    must(e->committed || e->gone || sim_clock(w, e) <= e->plan.deadline_ms + TIMER_SLACK_MS,
         "%" PRId64 " ms after the deadline", sim_clock(w, e) - e->plan.deadline_ms);
}

void sim_check_step(sim_world *w, sim_exchange *e, const sj_step *step) {
    bool reads_on =
        e->place == SIM_AT_DRAINING && step->kind != SJ_STEP_START && step->kind != SJ_STEP_KEEPALIVE;
    must(!e->gone || step->kind == SJ_STEP_CANCEL || reads_on, "step %d after the client has gone",
         step->kind);
    must(!e->told, "step %d after the end", step->kind);
    const sim_leg *leg = sim_leg_of(e, step->attempt);
    switch (step->kind) {
    case SJ_STEP_START:
        check_start(w, e, step);
        return;
    case SJ_STEP_CANCEL:
        must(leg && leg->running, "cancelled %d, which does not run", step->attempt);
        return;
    case SJ_STEP_SAVE:
        must(leg, "saved an answer that is gone");
        must(!e->committed, "saved after commit");
        return;
    case SJ_STEP_COMMIT:
        note_winner(w, e, step->attempt);
        must((!e->committed || e->mending) && leg && leg->running,
             "committed twice, or what does not run"); // invariant 2
        must(!leg || leg->again == 0, "the client has that already");
        return;
    case SJ_STEP_DELIVER:
        note_winner(w, e, step->attempt);
        if (e->plan.verified && leg && leg->status == 200)
            sim_saw_special(w, SIM_SPECIAL_VERIFIED);
        must(!e->committed && leg && !leg->running, "delivered what has not just ended");
        check_end(w, e);
        return;
    case SJ_STEP_DELIVER_SAVED:
        must(!e->committed && e->saved, "delivered what was not saved");
        check_end(w, e);
        return;
    case SJ_STEP_KEEPALIVE:
        must((!e->committed || e->mending) && e->plan.keepalive_ms > 0, "an unwanted sign of life");
        return;
    case SJ_STEP_SUPPLY_DONE:
        must(e->committed, "[DONE] before commit");
        return;
    case SJ_STEP_MEND:
        must(e->committed && e->plan.rescue && !e->mending && !sim_running(e), "an unwanted rescue");
        must(e->can_replay || e->can_continue, "a rescue of what cannot be rescued");
        return;
    case SJ_STEP_FINISH:
        must(!e->mending, "ended what is broken");
        // fall through
    case SJ_STEP_BREAK:
        must(e->committed, "ended an answer that has not begun");
        check_end(w, e);
        return;
    case SJ_STEP_REFUSE:
        must(!e->committed, "refused after commit");
        check_retry_after(w, e, step);
        check_end(w, e);
        return;
    }
}

// ---- states ---------------------------------------------------------------------------------------------

static void note_limit(sim_world *w, size_t upstream, const sj_admission_stats *slots) {
    if (slots->cuts > w->cuts[upstream])
        sim_saw_special(w, SIM_SPECIAL_LIMIT_CUT);
    if (w->cut[upstream] && slots->limit >= slots->max)
        sim_saw_special(w, SIM_SPECIAL_LIMIT_BACK);
    w->cuts[upstream] = slots->cuts;
    w->cut[upstream] = slots->limit < slots->max;
}

void sim_check_exchange(sim_world *w, sim_exchange *e) {
    bool over = sj_journey_is_over(e->journey);
    bool drains = e->place == SIM_AT_DRAINING;
    must(over ? e->told || e->gone : !e->told && e->gone == drains,
         "over without an end, or the other way round");
    must(!drains || sim_clock(w, e) <= e->left_ms + w->rules->drain_ms + TIMER_SLACK_MS,
         "read on for nobody");
    must(!over || sim_running(e) == 0, "over with an attempt running");
    must(!e->committed || sim_running(e) <= 1, "a loser still runs");
    int64_t due = sj_journey_due_ms(e->journey);
    must(over == (due == INT64_MAX) || e->held, "nothing will ever happen");
    if (e->plan.route_slots) {
        sj_admission_stats route = sj_admission_read(e->plan.route_slots);
        must(route.in_flight <= route.max, "%d exchanges on one route", route.in_flight);
    }
    int64_t signs = e->plan.keepalive_ms > 0 ? (w->now_ms - e->born_ms) / e->plan.keepalive_ms : 0;
    must(e->rings <= RINGS_MAX + signs, "its timer rang %d times", e->rings);
    for (size_t hop = 0; hop < e->plan.hop_count; hop++) {
        size_t upstream = sim_upstream_at(w, e, hop);
        sj_admission_stats slots = sj_admission_read(w->admissions[upstream]);
        must(slots.in_flight <= most_slots(w, upstream)->max_concurrent, "%d slots are out", slots.in_flight);
        note_limit(w, upstream, &slots);
        must(slots.in_flight >= w->upstreams[upstream].running, "attempts without slots");
        must(w->rules->reload_every_ms > 0 || slots.waiting <= w->rules->slots[upstream].max_waiting,
             "%d are waiting", slots.waiting);
    }
}

void sim_check_end(sim_world *w) {
    const sim_exchange *e = NULL;
    must(w->alive == 0, "%" PRIu64 " exchanges never ended", w->alive);
    for (size_t i = 0; i < w->rules->upstream_count; i++) {
        sj_admission_stats slots = sj_admission_read(w->admissions[i]);
        must(slots.in_flight == 0 && slots.waiting == 0, "%d slots and %d waiters are left", slots.in_flight,
             slots.waiting);
        must(w->upstreams[i].running == 0, "%d transfers are left", w->upstreams[i].running);
    }
    for (size_t i = 0; i < w->rules->chain_count && w->routes[i]; i++) {
        sj_admission_stats slots = sj_admission_read(w->routes[i]);
        must(slots.in_flight == 0 && slots.waiting == 0, "%d slots and %d waiters of a route are left",
             slots.in_flight, slots.waiting);
    }
    for (size_t i = 0; i < w->rules->target_count; i++) {
        sj_target_stats stats = sj_target_read(w->targets[i], w->now_ms);
        must(stats.in_flight == 0, "%d permits are left", stats.in_flight);
        w->result->seen.count[SIM_SAW_SPECIAL][SIM_SPECIAL_STALE_RESULT] += (long)stats.stale_results;
        must(stats.budget_available >= 0 && stats.budget_available <= most_budget(w), "a budget of %d",
             stats.budget_available);
    }
}
