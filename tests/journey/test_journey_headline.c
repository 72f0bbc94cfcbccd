// The promise in numbers: 8.3 % of the upstream's answers fail at random; at most 0.2 % may reach the client, and next to none with a second
// target. Virtual time, the real lib. SJ_SEED chooses other seeds.
#include "sim.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SEEDS = 3 };

static uint64_t base_seed(void) {
    const char *text = getenv("SJ_SEED");
    return text ? strtoull(text, NULL, 10) : 1;
}

// 429 with and without Retry-After, 500, 503, resets, error bodies, empty bodies: each a seventh of 8.3 %.
static void spoil(sim_mood *mood, double share) {
    static const sim_fate fates[] = {SIM_429,   SIM_429_HINT,   SIM_500,  SIM_503,
                                     SIM_RESET, SIM_ERROR_BODY, SIM_EMPTY};
    for (size_t i = 0; i < sizeof fates / sizeof *fates; i++)
        mood->chance[fates[i]] = share / 7;
    mood->hint_ms = 2000;
}

static void headline(sim_rules *rules, uint64_t seed, double share, size_t targets, double streams,
                     bool adaptive) {
    sim_defaults(rules, seed);
    rules->arrivals_until_ms = 200000;
    rules->requests = 20000;
    rules->per_second = 200;
    rules->streams = streams;
    rules->upstream_count = rules->target_count = rules->chains[0].n = targets;
    for (size_t i = 0; i < targets; i++) {
        rules->upstream_of[i] = rules->chains[0].target[i] = i;
        rules->slots[i].adaptive = adaptive;
        spoil(&rules->moods[i], share);
    }
}

static void report(const char *name, const sim_result *r, long sent) {
    print_message("%s: %ld requests, %.3f %% failed, %.3f x sent, p50 %" PRId64 " ms, p99 %" PRId64
                  " ms, worst %" PRId64 " ms, %ld openings\n",
                  name, r->requests, 100.0 * (double)r->failed / (double)r->requests,
                  (double)sent / (double)r->requests, r->p50_ms, r->p99_ms, r->worst_ms, r->opened);
}

static void hold(const char *name, double share, size_t targets, double streams, bool adaptive,
                 double failed_percent, double sent_factor) {
    for (uint64_t i = 0; i < SEEDS; i++) {
        sim_rules rules;
        sim_result r;
        headline(&rules, base_seed() + i, share, targets, streams, adaptive);
        sim_run(&rules, &r);
        if (r.violation[0])
            fail_msg("%s", r.violation);
        long sent = 0;
        for (size_t u = 0; u < targets; u++)
            sent += r.sent[u];
        report(name, &r, sent);
        assert_int_equal(r.good + r.failed, r.requests);
        if ((double)r.failed > failed_percent / 100 * (double)r.requests ||
            (double)sent > sent_factor * (double)r.requests)
            fail_msg("%s, seed %" PRIu64 ": %ld of %ld failed, %ld sent", name, rules.seed, r.failed,
                     r.requests, sent);
    }
}

static void nothing_fails(void **unused) {
    (void)unused;
    hold("0 %", 0, 1, 0.5, false, 0, 1.0);
}

static void one_target(void **unused) {
    (void)unused;
    hold("8.3 %", 0.083, 1, 0, false, 0.2, 1.12);
}

static void one_target_streams(void **unused) {
    (void)unused;
    hold("8.3 %, streams", 0.083, 1, 1, false, 0.2, 1.12);
}

static void an_adaptive_limit(void **unused) {
    (void)unused;
    hold("8.3 %, adaptive limit", 0.083, 1, 0.5, true, 0.2, 1.12);
}

static void two_targets(void **unused) {
    (void)unused;
    hold("8.3 %, two targets", 0.083, 2, 0.5, false, 0.01, 1.12);
}

static void a_fifth_fails(void **unused) {
    (void)unused;
    hold("20 %", 0.2, 1, 0.5, true, 1.0, 1.3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_fails),      cmocka_unit_test(one_target),
        cmocka_unit_test(one_target_streams), cmocka_unit_test(an_adaptive_limit),
        cmocka_unit_test(two_targets),        cmocka_unit_test(a_fifth_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
