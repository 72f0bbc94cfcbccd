// Random worlds: upstreams of changing moods, clients that leave at any step, workers whose clocks differ. After every event the invariants are
// checked. SJ_SEED repeats the world with that seed, SJ_HOURS plays that many hours of virtual time.
#include "sim.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { FIRST_SEED = 1 };
static const double default_hours = 3;

static int64_t pick(sj_rng *rng, int64_t low, int64_t high) {
    return sj_rng_between(rng, low, high);
}

// Small values as likely as large ones.
static int64_t scale(sj_rng *rng, int64_t low, int64_t high) {
    int64_t value = low;
    while (value < high && pick(rng, 0, 3) > 0)
        value *= 2;
    return value > high ? high : value;
}

static bool flip(sj_rng *rng) {
    return sj_rng_next(rng) & 1;
}

// ---- random rules ---------------------------------------------------------------------------------------

static void random_mood(sim_mood *mood, sj_rng *rng) {
    *mood = (sim_mood){.latency_ms = scale(rng, 20, 4000), .hint_ms = scale(rng, 100, 200000)};
    double left = flip(rng) ? 0.1 : sj_rng_unit(rng); // how much goes wrong
    for (int i = 0; i < 8; i++) {
        double part = left * sj_rng_unit(rng) / 2;
        mood->chance[pick(rng, 1, SIM_FATES - 1)] += part;
        left -= part;
    }
    if (pick(rng, 0, 5) == 0)
        mood->chance[pick(rng, 1, SIM_FATES - 1)] = 1; // an outage of one kind
    if (pick(rng, 0, 3) == 0) {
        mood->requests_per_s = (double)scale(rng, 1, 50);
        mood->limit_hints = flip(rng);
    }
}

static void random_retry(sj_retry_policy *retry, sj_rng *rng) {
    retry->backoff.strategy = (sj_backoff_strategy)pick(rng, SJ_BACKOFF_FIXED, SJ_BACKOFF_PLUS_RANDOM);
    retry->backoff.base_ms = scale(rng, 1, 4000);
    retry->backoff.cap_ms = scale(rng, 100, 60000);
    retry->max_hint_ms = scale(rng, 1000, 300000);
    retry->max_attempts = (int)pick(rng, 1, 10);
    retry->max_attempts_before_fallback = (int)pick(rng, 1, 4);
    retry->max_wait_total_ms = scale(rng, 100, 200000);
    retry->rules.retry_conflict = flip(rng);
    retry->rules.fallback_on_refusal = flip(rng);
}

static void random_targets(sim_rules *rules, sj_rng *rng) {
    rules->upstream_count = (size_t)pick(rng, 1, SIM_UPSTREAMS);
    rules->target_count = (size_t)pick(rng, 1, SIM_TARGETS);
    for (size_t i = 0; i < rules->upstream_count; i++) {
        random_mood(&rules->moods[i], rng);
        rules->slots[i] = (sj_admission_rules){
            .max_concurrent = (int)scale(rng, 1, 256),
            .max_waiting = (int)scale(rng, 1, 1024),
            .timeout_ms = scale(rng, 100, 300000),
            .adaptive = flip(rng),
            .standing_queue = flip(rng),
        };
        if (pick(rng, 0, 3) == 0)
            rules->slots[i].pace =
                (sj_pace_rules){scale(rng, 60, 6000), flip(rng) ? 0 : scale(rng, 1000, 10000000)};
    }
    for (size_t i = 0; i < rules->target_count; i++)
        rules->upstream_of[i] = (size_t)pick(rng, 0, (int64_t)rules->upstream_count - 1);
    rules->chain_count = (size_t)pick(rng, 1, SIM_CHAINS);
    for (size_t i = 0; i < rules->chain_count; i++) {
        rules->chains[i].n = (size_t)pick(rng, 1, SIM_HOPS);
        for (size_t hop = 0; hop < rules->chains[i].n; hop++)
            rules->chains[i].target[hop] = (size_t)pick(rng, 0, (int64_t)rules->target_count - 1);
    }
    sj_breaker_rules *breaker = &rules->targets.breaker;
    breaker->enabled = pick(rng, 0, 9) > 0;
    breaker->failure_threshold = (int)pick(rng, 1, 10);
    breaker->failure_span_ms = scale(rng, 1, 4000);
    breaker->recovery_timeout_ms = scale(rng, 100, 60000);
    breaker->recovery_growth = 1 + sj_rng_unit(rng);
    breaker->half_open_max_calls = (int)pick(rng, 1, 5);
    breaker->success_threshold = sj_rng_unit(rng);
    breaker->probe_timeout_ms = scale(rng, 100, 30000);
    breaker->max_open_wait_ms = flip(rng) ? scale(rng, 100, 60000) : 0;
    breaker->slow_rate = flip(rng) ? 0 : 0.5;
    breaker->slow_call_ms = scale(rng, 100, 30000);
    rules->targets.budget.enabled = pick(rng, 0, 9) > 0;
    rules->targets.budget.capacity = (int)scale(rng, 20, 1000);
}

static void random_clients(sim_rules *rules, sj_rng *rng) {
    rules->workers = (int)pick(rng, 1, SIM_WORKERS);
    rules->lag_ms = pick(rng, 0, 5);
    rules->credentials = (int)pick(rng, 1, SIM_CREDENTIALS);
    rules->streams = sj_rng_unit(rng) * 0.8;
    rules->gets = rules->posts = 0.1;
    rules->unreplayable = rules->unmovable = rules->bound = 0.05;
    rules->first_byte_ms = scale(rng, 1000, 120000);
    rules->idle_ms = scale(rng, 1000, 120000);
    rules->answer_ms = scale(rng, 1000, 600000);
    rules->deadline_ms = scale(rng, 500, 600000);
    rules->fallback_gate_ms = scale(rng, 100, 20000);
    rules->verified = flip(rng) ? 0 : 0.3;
    rules->keepalive_ms = flip(rng) ? 0 : scale(rng, 100, 15000);
    rules->race_after_ms = flip(rng) ? 0 : scale(rng, 100, 20000);
    rules->sticky = flip(rng);
    if (pick(rng, 0, 3) == 0)
        rules->route_slots = (sj_admission_rules){.max_concurrent = (int)scale(rng, 1, 64),
                                                  .max_waiting = (int)scale(rng, 1, 256),
                                                  .timeout_ms = scale(rng, 100, 60000)};
    rules->stay = (sj_sticky_rules){scale(rng, 100, 60000), (int)pick(rng, 1, 5)};
    rules->stream_max_ms = flip(rng) ? 0 : scale(rng, 1000, 60000);
    rules->patience_ms = flip(rng) ? 0 : scale(rng, 1000, 60000);
    rules->client_retries = 2;
    rules->leaves = flip(rng) ? 0 : 0.02;
    rules->slow = flip(rng) ? 0 : 0.05;
    rules->late_timer = flip(rng) ? 0 : 0.05;
}

static void random_world(sim_rules *rules, uint64_t seed) {
    sj_rng rng;
    sj_rng_seed(&rng, seed);
    sim_defaults(rules, seed);
    random_targets(rules, &rng);
    random_retry(&rules->retry, &rng);
    random_clients(rules, &rng);
    rules->per_second = (double)scale(&rng, 1, 64);
    rules->arrivals_until_ms = 7000 + 60000 * pick(&rng, 1, 4);
    rules->surge = 5;
    rules->surge_from_ms = pick(&rng, 7000, rules->arrivals_until_ms);
    rules->surge_until_ms = rules->surge_from_ms + 10000;
    rules->requests = 1500;
    rules->phase_count = (size_t)pick(&rng, 0, 20);
    for (size_t i = 0; i < rules->phase_count; i++) {
        sim_phase *phase = &rules->phases[i];
        phase->at_ms = (int64_t)i * rules->arrivals_until_ms / (int64_t)rules->phase_count;
        phase->upstream = (size_t)pick(&rng, 0, (int64_t)rules->upstream_count - 1);
        random_mood(&phase->mood, &rng);
    }
}

// ---- the tests ------------------------------------------------------------------------------------------

static double hours(void) {
    const char *text = getenv("SJ_HOURS");
    return text ? strtod(text, NULL) : default_hours;
}

static void live(uint64_t seed, sim_result *r) {
    sim_rules rules;
    random_world(&rules, seed);
    sim_run(&rules, r);
    if (r->violation[0])
        fail_msg("%s\nSJ_SEED=%" PRIu64 " repeats it", r->violation, seed);
    if (r->good + r->failed + r->left != r->exchanges)
        fail_msg("seed %" PRIu64 ": %ld good, %ld failed, %ld left of %ld", seed, r->good, r->failed, r->left,
                 r->exchanges);
}

static void the_invariants_hold(void **unused) {
    (void)unused;
    static sim_result r;
    const char *one = getenv("SJ_SEED");
    long worlds = 0, exchanges = 0, good = 0, starts = 0, opened = 0, events = 0;
    int64_t played_ms = 0;
    for (uint64_t seed = one ? strtoull(one, NULL, 10) : FIRST_SEED; (double)played_ms < hours() * 3600000;
         seed++) {
        live(seed, &r);
        worlds++;
        played_ms += r.ended_ms;
        exchanges += r.exchanges;
        good += r.good;
        starts += r.starts;
        opened += r.opened;
        events += r.events;
        if (one && !getenv("SJ_HOURS"))
            break;
    }
    print_message(
        "%ld worlds, %.1f h: %ld exchanges, %ld good, %ld attempts, %ld breaker openings, %ld events\n",
        worlds, (double)played_ms / 3600000, exchanges, good, starts, opened, events);
    assert_true(one || (good > exchanges / 10 && opened > worlds));
}

static void the_same_seed_is_the_same_story(void **unused) {
    (void)unused;
    static sim_result first, second;
    uint64_t before = 0;
    for (uint64_t seed = FIRST_SEED; seed < FIRST_SEED + 5; seed++) {
        live(seed, &first);
        live(seed, &second);
        assert_memory_equal(&first, &second, sizeof first);
        assert_true(first.trace != before);
        before = first.trace;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_invariants_hold),
        cmocka_unit_test(the_same_seed_is_the_same_story),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
