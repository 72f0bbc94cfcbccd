#include "target.h"

#include "hint_gates.h"
#include "latency.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct sj_target {
    atomic_int references;
    pthread_mutex_t mutex; // over everything from here to the latencies
    sj_breaker breaker;
    sj_budget budget;
    sj_rng rng;
    sj_hint_gates gates;
    sj_latency first_content, whole;
    uint64_t origin; // from here on nothing changes
    sj_admission *admission;
    sj_global_breaker *global;
    char name[];
};

static void lock(sj_target *target) {
    pthread_mutex_lock(&target->mutex);
}
static void unlock(sj_target *target) {
    pthread_mutex_unlock(&target->mutex);
}

sj_target *sj_target_new(const char *name, uint64_t origin, const sj_target_rules *rules,
                         sj_admission *admission, sj_global_breaker *global, uint64_t seed, int64_t now_ms) {
    size_t length = strlen(name) + 1;
    sj_target *target = calloc(1, sizeof *target + length);
    if (!target)
        return NULL;
    if (pthread_mutex_init(&target->mutex, NULL) != 0) {
        free(target);
        return NULL;
    }
    atomic_init(&target->references, 1);
    sj_breaker_init(&target->breaker, &rules->breaker, now_ms);
    sj_budget_init(&target->budget, &rules->budget, now_ms);
    sj_rng_seed(&target->rng, seed);
    target->origin = origin;
    target->admission = admission;
    target->global = global;
    memcpy(target->name, name, length);
    return target;
}

sj_target *sj_target_ref(sj_target *target) {
    int before = atomic_fetch_add_explicit(&target->references, 1, memory_order_relaxed);
    assert(before > 0);
    (void)before;
    return target;
}

void sj_target_unref(sj_target **target) {
    sj_target *gone = *target;
    *target = NULL;
    if (!gone || atomic_fetch_sub_explicit(&gone->references, 1, memory_order_acq_rel) > 1)
        return;
    assert(gone->breaker.in_flight == 0); // invariant 1: every permit came back
    pthread_mutex_destroy(&gone->mutex);
    free(gone);
}

void sj_target_set_rules(sj_target *target, const sj_target_rules *rules) {
    lock(target);
    sj_breaker_set_rules(&target->breaker, &rules->breaker);
    sj_budget_set_rules(&target->budget, &rules->budget);
    unlock(target);
}

const char *sj_target_name(const sj_target *target) {
    return target->name;
}
sj_admission *sj_target_admission(const sj_target *target) {
    return target->admission;
}

static void note(sj_changes *changes, const sj_breaker_change *change, bool global) {
    if (!change->changed)
        return;
    assert(changes->count < SJ_CHANGES_MAX);
    changes->list[changes->count].change = *change;
    changes->list[changes->count++].global = global;
}

// ---- permission to attempt ------------------------------------------------------------------------------

// The obstacle that lasts longest answers.
static void outlast(sj_admit *answer, int64_t *retry_at_ms, sj_admit other, int64_t other_ms) {
    if (*answer != SJ_ADMIT_YES && *retry_at_ms >= other_ms)
        return;
    *answer = other;
    *retry_at_ms = other_ms;
}

static sj_admit ask_locked(const sj_target *target, uint64_t credential, int64_t now_ms,
                           int64_t *retry_at_ms) {
    sj_admit answer = SJ_ADMIT_YES;
    *retry_at_ms = now_ms;
    int64_t gate_ms = sj_hint_gates_until(&target->gates, credential, now_ms), open_ms;
    if (gate_ms != 0)
        outlast(&answer, retry_at_ms, SJ_ADMIT_GATED, gate_ms);
    if (!sj_breaker_would_admit(&target->breaker, now_ms, &open_ms))
        outlast(&answer, retry_at_ms, SJ_ADMIT_BREAKER_OPEN, open_ms);
    return answer;
}

static sj_admit ask_global(const sj_target *target, sj_admit answer, int64_t now_ms, int64_t *retry_at_ms) {
    int64_t open_ms;
    if (target->global && !sj_global_breaker_would_admit(target->global, now_ms, &open_ms))
        outlast(&answer, retry_at_ms, SJ_ADMIT_GLOBAL_OPEN, open_ms);
    return answer;
}

sj_admit sj_target_would_admit(sj_target *target, uint64_t credential, int64_t now_ms, int64_t *retry_at_ms) {
    lock(target);
    sj_admit answer = ask_locked(target, credential, now_ms, retry_at_ms);
    unlock(target);
    return ask_global(target, answer, now_ms, retry_at_ms);
}

static void report_breaker(sj_target *target, sj_permit *permit, sj_breaker_outcome outcome, bool slow,
                           uint64_t exchange_id, int64_t now_ms, sj_changes *changes) {
    sj_breaker_change change;
    sj_breaker_report(&target->breaker, &permit->breaker, outcome, slow, exchange_id, now_ms, &target->rng,
                      &change);
    note(changes, &change, false);
}

static void report_global(sj_target *target, sj_permit *permit, sj_breaker_outcome outcome, bool own_side,
                          uint64_t exchange_id, int64_t now_ms, sj_changes *changes) {
    if (!permit->global.held)
        return;
    sj_breaker_change change;
    sj_global_breaker_report(target->global, &permit->global, outcome, own_side, target->origin, exchange_id,
                             now_ms, &change);
    note(changes, &change, true);
}

// Also when the breaker has just gone half-open for it: the probe is returned, the next exchange may take it.
static sj_admit take_global(sj_target *target, int64_t now_ms, sj_permit *permit, int64_t *retry_at_ms,
                            sj_changes *changes) {
    sj_breaker_change change;
    if (!target->global)
        return SJ_ADMIT_YES;
    bool yes = sj_global_breaker_admit(target->global, now_ms, &permit->global, retry_at_ms, &change);
    note(changes, &change, true);
    if (yes)
        return SJ_ADMIT_YES;
    lock(target);
    report_breaker(target, permit, SJ_OUTCOME_NEUTRAL, false, 0, now_ms, changes);
    unlock(target);
    *permit = (sj_permit){0};
    return SJ_ADMIT_GLOBAL_OPEN;
}

sj_admit sj_target_admit(sj_target *target, uint64_t credential, int64_t now_ms, sj_permit *permit,
                         int64_t *retry_at_ms, sj_changes *changes) {
    *permit = (sj_permit){.started_ms = now_ms, .credential = credential};
    changes->count = 0;
    lock(target);
    sj_admit answer = ask_locked(target, credential, now_ms, retry_at_ms);
    if (answer == SJ_ADMIT_YES) {
        sj_breaker_change change;
        bool yes = sj_breaker_admit(&target->breaker, now_ms, &permit->breaker, retry_at_ms, &change);
        assert(yes);
        (void)yes;
        note(changes, &change, false);
        if (permit->breaker.probe)
            permit->probe_until_ms = now_ms + target->breaker.rules.probe_timeout_ms;
    }
    unlock(target);
    if (answer != SJ_ADMIT_YES)
        return ask_global(target, answer, now_ms, retry_at_ms);
    return take_global(target, now_ms, permit, retry_at_ms, changes);
}

static bool is_slow(const sj_target *target, const sj_report *report, int64_t elapsed_ms) {
    const sj_breaker_rules *rules = &target->breaker.rules;
    if (!report->streaming)
        return elapsed_ms > rules->slow_call_whole_ms;
    return (report->first_content_ms >= 0 ? report->first_content_ms : elapsed_ms) > rules->slow_call_ms;
}

static void record_time(sj_target *target, sj_permit *permit, const sj_report *report, int64_t elapsed_ms) {
    if (permit->timed)
        return;
    permit->timed = true;
    if (report->streaming && report->first_content_ms >= 0)
        sj_latency_add(&target->first_content, report->first_content_ms);
    else if (!report->streaming && report->outcome == SJ_OUTCOME_SUCCESS)
        sj_latency_add(&target->whole, elapsed_ms);
}

void sj_target_report(sj_target *target, sj_permit *permit, const sj_report *report, int64_t now_ms,
                      sj_changes *changes) {
    changes->count = 0;
    if (permit->breaker.held) {
        int64_t elapsed_ms = now_ms - permit->started_ms;
        lock(target);
        record_time(target, permit, report, elapsed_ms);
        if (report->outcome == SJ_OUTCOME_SUCCESS)
            sj_hint_gates_passed(&target->gates, permit->credential, permit->started_ms, now_ms);
        report_breaker(target, permit, report->outcome, is_slow(target, report, elapsed_ms),
                       report->exchange_id, now_ms, changes);
        unlock(target);
    }
    report_global(target, permit, report->outcome, report->own_side, report->exchange_id, now_ms, changes);
}

void sj_target_content(sj_target *target, sj_permit *permit, bool streaming, uint64_t exchange_id,
                       int64_t now_ms, sj_changes *changes) {
    changes->count = 0;
    sj_report report = {SJ_OUTCOME_SUCCESS, false, streaming, now_ms - permit->started_ms, exchange_id};
    if (permit->breaker.held && (permit->breaker.probe || (streaming && !permit->timed))) {
        lock(target);
        if (streaming)
            record_time(target, permit, &report, report.first_content_ms);
        if (permit->breaker.probe)
            report_breaker(target, permit, SJ_OUTCOME_SUCCESS,
                           is_slow(target, &report, report.first_content_ms), exchange_id, now_ms, changes);
        unlock(target);
    }
    // Content came: our own side works, whatever becomes of the rest.
    report_global(target, permit, SJ_OUTCOME_SUCCESS, false, exchange_id, now_ms, changes);
}

// ---- hints ----------------------------------------------------------------------------------------------

void sj_target_gate(sj_target *target, uint64_t credential, int64_t until_ms, int64_t refused_ms,
                    int64_t now_ms) {
    lock(target);
    sj_hint_gates_set(&target->gates, credential, until_ms, refused_ms, now_ms);
    unlock(target);
}

int64_t sj_target_gate_turn(sj_target *target, uint64_t credential, int64_t now_ms, sj_rng *rng) {
    lock(target);
    int64_t turn_ms = sj_hint_gates_turn(&target->gates, credential, now_ms, rng);
    unlock(target);
    return turn_ms;
}

// ---- budget ---------------------------------------------------------------------------------------------

void sj_target_count_request(sj_target *target, int64_t now_ms) {
    lock(target);
    sj_budget_request(&target->budget, now_ms);
    unlock(target);
}

bool sj_target_charge(sj_target *target, bool throttled_or_timed_out, int64_t now_ms, sj_charge *charge) {
    lock(target);
    bool yes = sj_budget_charge(&target->budget, throttled_or_timed_out, now_ms, charge);
    unlock(target);
    return yes;
}

void sj_target_refund(sj_target *target, sj_charge *charge) {
    lock(target);
    sj_budget_refund(&target->budget, charge);
    unlock(target);
}

void sj_target_success(sj_target *target, sj_charge *charge) {
    lock(target);
    sj_budget_success(&target->budget, charge);
    unlock(target);
}

// ---- for people -----------------------------------------------------------------------------------------

sj_breaker_state sj_target_state(sj_target *target) {
    lock(target);
    sj_breaker_state state = target->breaker.state;
    unlock(target);
    return state;
}

sj_target_stats sj_target_read(sj_target *target, int64_t now_ms) {
    lock(target);
    const sj_breaker *breaker = &target->breaker;
    sj_breaker_bucket window = sj_breaker_window(breaker, now_ms);
    sj_target_stats stats = {
        .state = breaker->state,
        .open_until_ms = breaker->open_until_ms,
        .consecutive_failures = breaker->consecutive,
        .window_calls = window.calls,
        .window_failures = window.failures,
        .window_slow = window.slow,
        .generation = breaker->generation,
        .stale_results = breaker->stale_results,
        .in_flight = breaker->in_flight,
        .budget_available = target->budget.available,
        .gates = sj_hint_gates_count(&target->gates, now_ms),
        .p50_first_content_ms = sj_latency_quantile(&target->first_content, 0.50),
        .p95_first_content_ms = sj_latency_quantile(&target->first_content, 0.95),
        .p50_whole_ms = sj_latency_quantile(&target->whole, 0.50),
        .p95_whole_ms = sj_latency_quantile(&target->whole, 0.95),
    };
    unlock(target);
    return stats;
}

void sj_target_force(sj_target *target, sj_breaker_state state, int64_t now_ms, sj_changes *changes) {
    sj_breaker_change change;
    changes->count = 0;
    lock(target);
    sj_breaker_force(&target->breaker, state, now_ms, &change);
    unlock(target);
    note(changes, &change, false);
}
