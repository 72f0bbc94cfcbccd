#include "sim_world.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void sim_defaults(sim_rules *rules, uint64_t seed) {
    *rules = (sim_rules){
        .seed = seed,
        .arrivals_until_ms = 60000,
        .requests = 1000000,
        .per_second = 100,
        .workers = 2,
        .upstream_count = 1,
        .target_count = 1,
        .targets = {sj_breaker_rules_default, sj_budget_rules_default},
        .chain_count = 1,
        .retry = {.backoff = sj_backoff_default,
                  .throttle_base_ms = 1000,
                  .throttle_cap_ms = 20000,
                  .max_hint_ms = 120000,
                  .max_attempts = 5,
                  .max_attempts_before_fallback = 2,
                  .max_wait_total_ms = 60000,
                  .rules = sj_verdict_rules_default},
        .first_byte_ms = 120000,
        .idle_ms = 120000,
        .answer_ms = 600000,
        .deadline_ms = 600000,
        .fallback_gate_ms = 10000,
        .stay = {60000, 3},
        .credentials = 1,
        .models = 1,
        .clients = SIM_FAIR_CLIENTS,
    };
    rules->chains[0].n = 1;
    for (size_t i = 0; i < SIM_UPSTREAMS; i++) {
        rules->moods[i].latency_ms = 300;
        rules->slots[i] =
            (sj_admission_rules){.max_concurrent = 256, .max_waiting = 1024, .timeout_ms = 300000};
    }
}

// ---- beginning and end of the world ---------------------------------------------------------------------

static void begin(sim_world *w, const sim_rules *rules, sim_result *result) {
    *w = (sim_world){.rules = rules, .result = result, .retry = rules->retry};
    *result = (sim_result){.trace = UINT64_C(0xcbf29ce484222325)};
    sj_rng_seed(&w->rng, rules->seed);
    sj_rng_seed(&w->chance, rules->seed + 1000003);
    sim_queue_init(&w->queue, rules->seed + 2000003);
    w->now_ms = 7000; // not zero: nothing may depend on it
    for (int i = 0; i < rules->workers; i++)
        w->lags[i] = sj_rng_between(&w->chance, 0, rules->lag_ms);
    w->global = sj_global_breaker_new(&rules->targets.breaker, rules->seed, w->now_ms);
    for (size_t i = 0; i < rules->upstream_count; i++) {
        w->upstreams[i].mood = rules->moods[i];
        w->admissions[i] = sj_admission_new(&rules->slots[i]);
        w->keys[i] = rules->keys[i] > 0 ? sj_keys_new(rules->keys[i]) : NULL;
    }
    for (size_t i = 0; rules->sticky && i < rules->chain_count; i++)
        w->sticky[i] = sj_sticky_new(&rules->stay);
    for (size_t i = 0; rules->route_slots.max_concurrent > 0 && i < rules->chain_count; i++)
        w->routes[i] = sj_admission_new(&rules->route_slots);
    for (size_t i = 0; i < rules->target_count; i++) {
        size_t upstream = rules->upstream_of[i];
        char name[64];
        (void)snprintf(name, sizeof name, "u%zu/m%zu", upstream, i);
        w->targets[i] = sj_target_new(name, upstream, &rules->targets, w->admissions[upstream], w->global,
                                      rules->seed + i, w->now_ms);
        if (!w->targets[i])
            abort();
    }
}

static int by_size(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static void sum_up(sim_world *w) {
    sim_result *r = w->result;
    r->ended_ms = w->now_ms;
    for (size_t i = 0; i < w->rules->upstream_count; i++) {
        r->sent[i] = w->upstreams[i].sent;
        r->most_running[i] = w->upstreams[i].most_running;
    }
    if (w->latency_count == 0)
        return;
    qsort(w->latencies, w->latency_count, sizeof *w->latencies, by_size);
    r->p50_ms = w->latencies[w->latency_count / 2];
    r->p99_ms = w->latencies[w->latency_count * 99 / 100];
    r->worst_ms = w->latencies[w->latency_count - 1];
}

static void end(sim_world *w) {
    sim_queue_free(&w->queue);
    free(w->exchanges);
    free(w->latencies);
    for (size_t i = 0; i < w->rules->chain_count; i++)
        sj_sticky_free(&w->sticky[i]);
    for (size_t i = 0; i < w->rules->upstream_count; i++)
        sj_keys_free(&w->keys[i]);
    if (w->result->violation[0])
        return; // what is out would only be asserted once more
    for (size_t i = 0; i < w->rules->target_count; i++)
        sj_target_unref(&w->targets[i]);
    for (size_t i = 0; i < w->rules->upstream_count; i++)
        sj_admission_free(&w->admissions[i]);
    for (size_t i = 0; i < w->rules->chain_count; i++)
        sj_admission_free(&w->routes[i]);
    sj_global_breaker_free(&w->global);
}

// ---- its course -----------------------------------------------------------------------------------------

static void until(int64_t *until_ms, int64_t at_ms, int64_t next_ms) {
    if (next_ms > at_ms && next_ms < *until_ms)
        *until_ms = next_ms;
}

// Per second; so until *until_ms.
static double rate(const sim_rules *rules, int64_t at_ms, int64_t *until_ms) {
    *until_ms = INT64_MAX;
    double rate = rules->per_second;
    if (rules->surge > 0) {
        until(until_ms, at_ms, rules->surge_from_ms);
        until(until_ms, at_ms, rules->surge_until_ms);
        rate *= at_ms >= rules->surge_from_ms && at_ms < rules->surge_until_ms ? rules->surge : 1;
    }
    if (rules->burst_every_ms > 0) {
        int64_t began_ms = at_ms - at_ms % rules->burst_every_ms;
        until(until_ms, at_ms, began_ms + rules->burst_ms);
        until(until_ms, at_ms, began_ms + rules->burst_every_ms);
        rate *= at_ms < began_ms + rules->burst_ms ? 1 : rules->quiet;
    }
    return rate;
}

// Quiet hours are jumped over: where the rate changes, the next gap is drawn anew.
static void next_arrival(sim_world *w) {
    if (w->result->requests >= w->rules->requests)
        return;
    int64_t at = w->now_ms, same_until;
    for (int changes = 0; at <= w->rules->arrivals_until_ms && changes < 10000; changes++) {
        double frequency = rate(w->rules, at, &same_until);
        double gap = frequency > 0 ? -log(1 - sj_rng_unit(&w->rng)) * 1000 / frequency : INFINITY;
        // Fractions of a millisecond add up in the mean by rounding at random.
        if (gap <= (double)(same_until - at)) {
            at += (int64_t)(gap + sj_rng_unit(&w->rng));
            break;
        }
        at = same_until;
    }
    if (at <= w->rules->arrivals_until_ms)
        sim_queue_add(&w->queue, (sim_event){.at_ms = at, .kind = SIM_ARRIVAL});
}

static void arrive(sim_world *w, const sim_event *event) {
    if (event->tag > 0) { // a client's own retry
        sim_ask(w, (int64_t)event->exchange, (int)(event->tag & 0xff), event->tag > 0xff);
        return;
    }
    w->result->requests++;
    size_t last = sizeof w->result->slices / sizeof *w->result->slices - 1;
    size_t i = (size_t)(w->now_ms / 10000);
    w->result->slices[i < last ? i : last].requests++;
    sim_ask(w, w->now_ms, 0, sj_rng_unit(&w->chance) < w->rules->naive);
    next_arrival(w);
}

static void change_moods(sim_world *w) {
    const sim_rules *rules = w->rules;
    for (; w->phase < rules->phase_count && rules->phases[w->phase].at_ms <= w->now_ms; w->phase++) {
        const sim_phase *phase = &rules->phases[w->phase];
        for (size_t i = 0; i < rules->upstream_count; i++)
            if (phase->upstream == i || phase->upstream == SIM_UPSTREAMS)
                w->upstreams[i].mood = phase->mood;
    }
}

void sim_run(const sim_rules *rules, sim_result *result) {
    sim_world world, *w = &world;
    begin(w, rules, result);
    next_arrival(w);
    sim_upkeep_begin(w);
    sim_event event;
    while (!result->violation[0] && sim_queue_next(&w->queue, &event)) {
        w->now_ms = event.at_ms;
        change_moods(w);
        sim_saw(&result->seen, SIM_SAW_EVENT, (int)event.kind);
        if (event.kind == SIM_ARRIVAL)
            arrive(w, &event);
        else if (event.kind == SIM_RELOAD)
            sim_reload(w);
        else if (event.kind == SIM_OPERATOR)
            sim_operate(w);
        else
            sim_happen(w, &event);
    }
    if (!result->violation[0])
        sim_check_end(w);
    sum_up(w);
    end(w);
}
