#include "global_breaker.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

// Permits of the closed state are not counted by the inner breaker: they are handed out and, after a success, taken back
// without the lock. Their generation is enough to tell stale results. Only probes are in its books.
struct sj_global_breaker {
    _Atomic uint64_t
        calm; // the generation while closed with no failure on record, else 0; written under the mutex
    pthread_mutex_t mutex;
    sj_breaker breaker;
    sj_rng rng;
    uint64_t failed_probe_generation; // half-open: the one failed probe so far, and its origin
    uint64_t failed_probe_origin;
};

// Successes are not counted while all is calm, so a rate of failures would mean nothing.
static sj_breaker_rules without_rates(const sj_breaker_rules *rules) {
    sj_breaker_rules own = *rules;
    own.failure_rate = 0;
    own.slow_rate = 0;
    return own;
}

static void publish(sj_global_breaker *global) {
    const sj_breaker *breaker = &global->breaker;
    bool calm = breaker->state == SJ_BREAKER_CLOSED && breaker->consecutive == 0;
    atomic_store_explicit(&global->calm, calm ? breaker->generation : 0, memory_order_relaxed);
}

static void lock(sj_global_breaker *global) {
    pthread_mutex_lock(&global->mutex);
}

static void unlock(sj_global_breaker *global) {
    publish(global);
    pthread_mutex_unlock(&global->mutex);
}

sj_global_breaker *sj_global_breaker_new(const sj_breaker_rules *rules, uint64_t seed, int64_t now_ms) {
    sj_global_breaker *global = calloc(1, sizeof *global);
    if (!global)
        return NULL;
    if (pthread_mutex_init(&global->mutex, NULL) != 0) {
        free(global);
        return NULL;
    }
    sj_breaker_rules own = without_rates(rules);
    sj_breaker_init(&global->breaker, &own, now_ms);
    global->breaker.always_from_two = true;
    sj_rng_seed(&global->rng, seed);
    publish(global);
    return global;
}

void sj_global_breaker_free(sj_global_breaker **global) {
    if (!*global)
        return;
    assert((*global)->breaker.in_flight == 0);
    pthread_mutex_destroy(&(*global)->mutex);
    free(*global);
    *global = NULL;
}

void sj_global_breaker_set_rules(sj_global_breaker *global, const sj_breaker_rules *rules) {
    sj_breaker_rules own = without_rates(rules);
    lock(global);
    sj_breaker_set_rules(&global->breaker, &own);
    unlock(global);
}

bool sj_global_breaker_admit(sj_global_breaker *global, int64_t now_ms, sj_breaker_permit *permit,
                             int64_t *retry_at_ms, sj_breaker_change *change) {
    uint64_t calm = atomic_load_explicit(&global->calm, memory_order_relaxed);
    if (calm != 0) {
        *permit = (sj_breaker_permit){.generation = calm, .held = true};
        *change = (sj_breaker_change){0};
        *retry_at_ms = now_ms;
        return true;
    }
    lock(global);
    bool yes = sj_breaker_admit(&global->breaker, now_ms, permit, retry_at_ms, change);
    if (yes && !permit->probe)
        global->breaker.in_flight--;
    unlock(global);
    return yes;
}

bool sj_global_breaker_would_admit(sj_global_breaker *global, int64_t now_ms, int64_t *retry_at_ms) {
    *retry_at_ms = now_ms;
    if (atomic_load_explicit(&global->calm, memory_order_relaxed) != 0)
        return true;
    lock(global);
    bool yes = sj_breaker_would_admit(&global->breaker, now_ms, retry_at_ms);
    unlock(global);
    return yes;
}

// One dead provider must not keep the others shut out: a failed probe only reopens together with one of another origin.
static sj_breaker_outcome judge_probe(sj_global_breaker *global, const sj_breaker_permit *permit,
                                      uint64_t origin) {
    bool first = global->failed_probe_generation != permit->generation;
    if (!first)
        return origin == global->failed_probe_origin ? SJ_OUTCOME_NEUTRAL : SJ_OUTCOME_FAILURE;
    global->failed_probe_generation = permit->generation;
    global->failed_probe_origin = origin;
    return SJ_OUTCOME_NEUTRAL;
}

void sj_global_breaker_report(sj_global_breaker *global, sj_breaker_permit *permit,
                              sj_breaker_outcome outcome, bool own_side, uint64_t origin,
                              uint64_t exchange_id, int64_t now_ms, sj_breaker_change *change) {
    (void)exchange_id; // it is origins that must differ here
    *change = (sj_breaker_change){0};
    if (!permit->held)
        return;
    if (outcome == SJ_OUTCOME_FAILURE && !own_side)
        outcome = SJ_OUTCOME_SUCCESS;
    bool calm = atomic_load_explicit(&global->calm, memory_order_relaxed) == permit->generation;
    if (!permit->probe && (outcome == SJ_OUTCOME_NEUTRAL || (outcome == SJ_OUTCOME_SUCCESS && calm))) {
        permit->held = false;
        return;
    }
    lock(global);
    if (!permit->probe)
        global->breaker.in_flight++;
    else if (outcome == SJ_OUTCOME_FAILURE)
        outcome = judge_probe(global, permit, origin);
    sj_breaker_report(&global->breaker, permit, outcome, false, origin, now_ms, &global->rng, change);
    unlock(global);
}

sj_breaker_state sj_global_breaker_state(sj_global_breaker *global) {
    lock(global);
    sj_breaker_state state = global->breaker.state;
    unlock(global);
    return state;
}

void sj_global_breaker_force(sj_global_breaker *global, sj_breaker_state state, int64_t now_ms,
                             sj_breaker_change *change) {
    lock(global);
    sj_breaker_force(&global->breaker, state, now_ms, change);
    unlock(global);
}
