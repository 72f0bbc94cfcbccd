#include "sim_random.h"

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
    if (pick(rng, 0, 3) == 0)
        mood->dead = (unsigned)pick(rng, 0, 255);
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

static void random_slots(sj_admission_rules *slots, sj_rng *rng) {
    bool roomy = flip(rng);
    *slots = (sj_admission_rules){
        .max_concurrent = roomy ? 256 : (int)scale(rng, 1, 256),
        .max_waiting = roomy ? 1024 : (int)scale(rng, 1, 1024),
        .timeout_ms = scale(rng, 100, 300000),
        .adaptive = flip(rng),
        .standing_queue = flip(rng),
    };
    if (pick(rng, 0, 3) == 0)
        slots->pace = (sj_pace_rules){scale(rng, 60, 6000), flip(rng) ? 0 : scale(rng, 1000, 10000000)};
}

static void random_breaker(sj_target_rules *targets, sj_rng *rng) {
    sj_breaker_rules *breaker = &targets->breaker;
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
    targets->budget.enabled = pick(rng, 0, 9) > 0;
    targets->budget.capacity = (int)scale(rng, 20, 1000);
}

static void random_targets(sim_rules *rules, sj_rng *rng) {
    rules->upstream_count = (size_t)pick(rng, 1, SIM_UPSTREAMS);
    rules->target_count = (size_t)pick(rng, 1, SIM_TARGETS);
    for (size_t i = 0; i < rules->upstream_count; i++) {
        random_mood(&rules->moods[i], rng);
        random_slots(&rules->slots[i], rng);
        random_slots(&rules->other_slots[i], rng);
        rules->keys[i] = flip(rng) ? 0 : (size_t)pick(rng, 1, SIM_CREDENTIALS);
    }
    for (size_t i = 0; i < rules->target_count; i++)
        rules->upstream_of[i] = (size_t)pick(rng, 0, (int64_t)rules->upstream_count - 1);
    rules->chain_count = (size_t)pick(rng, 1, SIM_CHAINS);
    for (size_t i = 0; i < rules->chain_count; i++) {
        rules->chains[i].n = (size_t)pick(rng, 1, SIM_HOPS);
        for (size_t hop = 0; hop < rules->chains[i].n; hop++)
            rules->chains[i].target[hop] = (size_t)pick(rng, 0, (int64_t)rules->target_count - 1);
    }
    random_breaker(&rules->targets, rng);
    rules->other_targets = rules->targets;
    random_breaker(&rules->other_targets, rng);
}

static void random_clients(sim_rules *rules, sj_rng *rng) {
    rules->workers = (int)pick(rng, 1, SIM_WORKERS);
    rules->lag_ms = pick(rng, 0, 5);
    rules->credentials = (int)pick(rng, 1, SIM_CREDENTIALS);
    rules->clients = flip(rng) ? (int)scale(rng, 1, SIM_FAIR_CLIENTS) : (int)scale(rng, 20, 5000);
    rules->naive = flip(rng) ? 0 : 0.2;
    rules->streams = sj_rng_unit(rng) * 0.8;
    rules->gets = rules->posts = 0.1;
    rules->unreplayable = rules->unmovable = rules->bound = 0.05;
    rules->first_byte_ms = scale(rng, 1000, 120000);
    rules->idle_ms = scale(rng, 1000, 120000);
    rules->answer_ms = scale(rng, 1000, 600000);
    rules->deadline_ms = scale(rng, 500, 600000);
    rules->fallback_gate_ms = scale(rng, 100, 20000);
    rules->rescue = flip(rng) ? 0 : 0.8;
    rules->rescue_other_model = sj_rng_unit(rng);
    rules->diverging = flip(rng) ? 0 : 0.2;
    rules->models = (int)pick(rng, 1, 3);
    rules->prefill = (unsigned)pick(rng, 0, 63);
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
    rules->drain_ms = flip(rng) ? 0 : scale(rng, 100, 60000);
    rules->back = 0.3;
    rules->slow = flip(rng) ? 0 : 0.05;
    rules->late_timer = flip(rng) ? 0 : 0.05;
}

// ---- how long, and how busy -----------------------------------------------------------------------------

enum { MINUTE_MS = 60000, HOUR_MS = 60 * MINUTE_MS };

static void storm(sim_rules *rules, sj_rng *rng) {
    rules->per_second = (double)scale(rng, 1, 64);
    rules->arrivals_until_ms = 7000 + MINUTE_MS * pick(rng, 1, 4);
    rules->surge = 5;
    rules->surge_from_ms = pick(rng, 7000, rules->arrivals_until_ms);
    rules->surge_until_ms = rules->surge_from_ms + 10000;
    rules->requests = 1500;
}

// Hours with next to nobody, and a burst now and then.
static void long_time(sim_rules *rules, int64_t hours, long requests, sj_rng *rng) {
    rules->arrivals_until_ms = hours * HOUR_MS;
    rules->burst_every_ms = HOUR_MS * pick(rng, 1, 24);
    rules->burst_ms = MINUTE_MS * pick(rng, 1, 10);
    rules->per_second = (double)scale(rng, 1, 16);
    rules->quiet = flip(rng) ? 0.0005 : 0.01;
    rules->requests = requests;
}

// Our own side has no way out, wherever it asks.
static void cut_off(sim_phase *phase) {
    phase->upstream = SIM_UPSTREAMS;
    phase->mood = (sim_mood){.latency_ms = 20};
    phase->mood.chance[SIM_REFUSED] = 0.9;
    phase->mood.chance[SIM_CONNECT_TIMEOUT] = 0.1;
}

static void random_weather(sim_rules *rules, size_t changes, sj_rng *rng) {
    rules->phase_count = changes;
    for (size_t i = 0; i < changes; i++) {
        sim_phase *phase = &rules->phases[i];
        phase->at_ms = (int64_t)i * rules->arrivals_until_ms / (int64_t)changes;
        phase->upstream = (size_t)pick(rng, 0, (int64_t)rules->upstream_count - 1);
        random_mood(&phase->mood, rng);
        if (pick(rng, 0, 19) == 0)
            cut_off(phase);
    }
}

static void random_upkeep(sim_rules *rules, sj_rng *rng) {
    if (pick(rng, 0, 3) == 0)
        rules->reload_every_ms = rules->arrivals_until_ms / pick(rng, 2, 20);
    if (pick(rng, 0, 3) == 0)
        rules->operator_every_ms = rules->arrivals_until_ms / pick(rng, 2, 40);
}

void sim_random_rules(sim_rules *rules, uint64_t seed) {
    sj_rng rng;
    sj_rng_seed(&rng, seed);
    sim_defaults(rules, seed);
    random_targets(rules, &rng);
    random_retry(&rules->retry, &rng);
    random_clients(rules, &rng);
    if (seed % 32 == 1)
        long_time(rules, 24 * pick(&rng, 7, 14), 5000, &rng);
    else if (seed % 8 == 2)
        long_time(rules, 24, 1500, &rng);
    else
        storm(rules, &rng);
    random_weather(rules, (size_t)pick(&rng, 0, rules->arrivals_until_ms > HOUR_MS ? SIM_PHASES : 20), &rng);
    random_upkeep(rules, &rng);
}
