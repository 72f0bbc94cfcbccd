// BEHAVIOUR 16, the two loads: conf/cases/headline.conf and storm.conf, loaded by the program's own code and played by the simulator.
// SJ_SEED chooses other seeds.
#include "setup_plan.h"
#include "sim.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SEEDS = 3, SLICE_MS = 10000 };

static uint64_t base_seed(void) {
    const char *text = getenv("SJ_SEED");
    return text ? strtoull(text, NULL, 10) : 1;
}

// ---- from the file to the rules of a world --------------------------------------------------------------

static sj_config *load(const char *name) {
    char path[512];
    (void)snprintf(path, sizeof path, "%s/cases/%s.conf", SJ_CONF, name);
    (void)setenv("OPENAI_API_KEY", "sk-of-the-environment", 1);
    sj_buffer error = sj_buffer_with_max(65536), warnings = sj_buffer_with_max(65536);
    sj_config *config = NULL;
    if (!sj_config_load(path, &config, &error, &warnings) || warnings.n)
        fail_msg("%s: %.*s", path, (int)error.n, error.n ? error.p : "a warning");
    return config;
}

static void take_hop(sim_rules *rules, const sj_config *config, const sj_route_config *route, size_t i) {
    const sj_hop_config *hop = &route->hops[i];
    const sj_upstream_config *upstream = &config->upstreams[hop->upstream];
    rules->upstream_of[i] = hop->upstream;
    rules->chains[0].target[i] = i;
    rules->slots[hop->upstream] = sj_setup_admission_rules(upstream);
    rules->targets = upstream->rules; // the same everywhere in these files
    rules->retry = hop->retry;
    rules->race_after_ms = hop->race.enabled ? hop->race.after_ms : 0;
    rules->first_byte_ms = upstream->first_byte_timeout_ms;
    rules->idle_ms = upstream->idle_timeout_ms;
    rules->answer_ms = upstream->answer_timeout_ms;
}

static void world_of(sim_rules *rules, const sj_config *config, const char *model, uint64_t seed) {
    const sj_route_config *route =
        sj_config_route(config, SJ_SLICE("/v1/chat/completions"), sj_slice_of(model));
    assert_non_null(route);
    sim_defaults(rules, seed);
    rules->upstream_count = config->upstream_count;
    rules->target_count = rules->chains[0].n = route->hop_count;
    for (size_t i = 0; i < route->hop_count; i++)
        take_hop(rules, config, route, i);
    rules->deadline_ms = config->deadline_ms;
    rules->fallback_gate_ms = config->fallback_gate_ms;
    rules->stream_max_ms = config->stream_max_ms;
    rules->sticky = route->hop_count > 1;
    rules->stay = (sj_sticky_rules){config->sticky_min_ms, config->sticky_failures};
}

static void play(const sim_rules *rules, sim_result *r) {
    sim_run(rules, r);
    if (r->violation[0])
        fail_msg("seed %" PRIu64 ": %s", rules->seed, r->violation);
}

// ---- the headline ---------------------------------------------------------------------------------------

// 429 with and without Retry-After, 500, 503, resets, error bodies, empty bodies: each a seventh of 8.3 %.
static void spoil(sim_mood *mood) {
    static const sim_fate fates[] = {SIM_429,   SIM_429_HINT,   SIM_500,  SIM_503,
                                     SIM_RESET, SIM_ERROR_BODY, SIM_EMPTY};
    for (size_t i = 0; i < sizeof fates / sizeof *fates; i++)
        mood->chance[fates[i]] = 0.083 / 7;
    mood->hint_ms = 2000;
}

static void headline_of(const char *model, size_t targets, double allowed) {
    sj_config *config = load("headline");
    for (uint64_t seed = base_seed(); seed < base_seed() + SEEDS; seed++) {
        sim_rules rules;
        static sim_result r;
        world_of(&rules, config, model, seed);
        assert_int_equal(rules.target_count, targets);
        rules.arrivals_until_ms = 200000;
        rules.requests = 20000;
        rules.per_second = 200;
        rules.streams = 0.5;
        spoil(&rules.moods[0]);
        play(&rules, &r);
        double failed = (double)r.failed / (double)r.requests, load = (double)r.sent[0] / (double)r.requests;
        print_message("%s: %ld requests, %.3f %% failed, %.3f x sent\n", model, r.requests, 100 * failed,
                      load);
        if (failed > allowed || load > 1.12)
            fail_msg("%s, seed %" PRIu64 ": %ld of %ld failed, %.3f x sent", model, seed, r.failed,
                     r.requests, load);
        assert_true(load > 1.05); // there was something to hide
    }
    sj_config_unref(&config);
}

static void headline_alone(void **unused) {
    (void)unused;
    headline_of("any", 1, 0.002);
}

static void headline_with_a_fallback(void **unused) {
    (void)unused;
    headline_of("gpt-4.1", 2, 0.0001);
}

// ---- the storm ------------------------------------------------------------------------------------------

enum {
    STORM_FROM_MS = 60000,
    STORM_MS = 47000,
    STORM_ENDS_MS = STORM_FROM_MS + STORM_MS,
    SLICES = 20,
    BACK_AFTER = 2
};

// Traffic x4.4, and not a byte from upstream for 47 s. The clients are SDKs: twenty seconds, two retries.
static void storm_rules(sim_rules *rules, const sj_config *config, uint64_t seed) {
    world_of(rules, config, "gpt-4.1", seed);
    rules->arrivals_until_ms = SLICE_MS * SLICES;
    rules->per_second = 72.5;
    rules->surge = 4.4;
    rules->surge_from_ms = STORM_FROM_MS;
    rules->surge_until_ms = STORM_ENDS_MS;
    rules->workers = 4;
    rules->patience_ms = 20000;
    rules->client_retries = 2;
    sim_mood silent = {.latency_ms = 300, .chance = {[SIM_SILENT] = 1}};
    rules->phases[0] = (sim_phase){STORM_FROM_MS, 0, silent};
    rules->phases[1] = (sim_phase){STORM_ENDS_MS, 0, rules->moods[0]};
    rules->phase_count = 2;
}

static void storm(void **unused) {
    (void)unused;
    sj_config *config = load("storm");
    for (uint64_t seed = base_seed(); seed < base_seed() + SEEDS; seed++) {
        sim_rules rules;
        static sim_result r;
        storm_rules(&rules, config, seed);
        play(&rules, &r);
        long requests = 0, sent = 0;
        for (int i = STORM_FROM_MS / SLICE_MS; i < STORM_ENDS_MS / SLICE_MS;
             i++) { // while nothing is answered
            requests += r.slices[i].requests;
            sent += r.slices[i].sent;
        }
        print_message("storm: %ld requests in 40 s of it, %ld sent; %ld openings\n", requests, sent,
                      r.opened);
        assert_true(requests > 12000);
        assert_true(r.opened > 0);
        assert_true((double)sent <= 1.1 * (double)requests + 35);
        for (int i = STORM_ENDS_MS / SLICE_MS + 1 + BACK_AFTER; i < SLICES - 1; i++)
            if (r.slices[i].good != r.slices[i].requests)
                fail_msg("seed %" PRIu64 ": %ld of %ld in slice %d", seed, r.slices[i].good,
                         r.slices[i].requests, i);
    }
    sj_config_unref(&config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headline_alone),
        cmocka_unit_test(headline_with_a_fallback),
        cmocka_unit_test(storm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
