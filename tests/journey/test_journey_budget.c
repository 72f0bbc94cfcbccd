// The retry budget in numbers (BEHAVIOUR 8), without a breaker to help it: what an upstream gets to see of a total outage, and what a fifth of
// failures costs. Virtual time, the real lib. SJ_SEED chooses other seeds.
#include "sim.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SEEDS = 2, MINUTE_S = 60, HOUR_S = 60 * MINUTE_S };

static uint64_t base_seed(void) {
    const char *text = getenv("SJ_SEED");
    return text ? strtoull(text, NULL, 10) : 1;
}

static void prepare(sim_rules *rules, uint64_t seed, double per_second, int64_t seconds) {
    sim_defaults(rules, seed);
    rules->per_second = per_second;
    rules->arrivals_until_ms = 7000 + 1000 * seconds;
    rules->streams = 0.5;
    rules->targets.breaker.enabled = false;
}

static void play(const sim_rules *rules, sim_result *r) {
    sim_run(rules, r);
    if (r->violation[0])
        fail_msg("%s", r->violation);
}

static const struct outage {
    double per_second;
    int64_t seconds;
    bool whole; // long enough for the bare 1.1
} outages[] = {
    {0.5, 10 * MINUTE_S, false}, {0.5, 24 * HOUR_S, true},   {10, MINUTE_S, false},
    {10, HOUR_S, true},          {300, 10 * MINUTE_S, true},
};

// The capacity of 500 pays for so many retries before the first is refused: they cost 14, after a throttle 5.
static const struct failing {
    sim_fate fate;
    int first_retries;
} failings[] = {{SIM_503, 35}, {SIM_RESET, 35}, {SIM_429, 100}, {SIM_EMPTY, 35}};

static void hold_outage(const struct outage *o, const struct failing *f, uint64_t seed, bool adaptive) {
    static sim_rules rules;
    static sim_result r;
    prepare(&rules, seed, o->per_second, o->seconds);
    rules.moods[0].chance[f->fate] = 1;
    rules.slots[0].adaptive = adaptive;
    play(&rules, &r);
    double sent = (double)r.sent[0], requests = (double)r.requests;
    print_message("%s: %.1f/s for %" PRId64 " s: %.4f x sent, %s\n", sim_fate_name(f->fate), o->per_second,
                  o->seconds, sent / requests, adaptive ? "adaptive" : "not adaptive");
    assert_int_equal(r.good, 0);
    assert_true(sent <= 1.1 * requests + f->first_retries);
    assert_true(!o->whole || sent <= 1.1 * requests);
}

static void an_outage_is_not_multiplied(void **unused) {
    (void)unused;
    for (size_t i = 0; i < sizeof outages / sizeof *outages; i++)
        for (size_t f = 0; f < sizeof failings / sizeof *failings; f++)
            hold_outage(&outages[i], &failings[f], base_seed() + i, f % 2);
}

// A fifth of the answers fails at random: nearly all requests succeed, and nobody has to wait for the first retries to be earned.
static void a_fifth_of_failures_is_made_good(void **unused) {
    (void)unused;
    static const double rates[] = {0.5, 1, 10, 50};
    static sim_rules rules;
    static sim_result r;
    for (size_t i = 0; i < 2 * SEEDS * sizeof rates / sizeof *rates; i++) {
        bool adaptive = i % 2;
        double per_second = rates[i / 2 / SEEDS];
        prepare(&rules, base_seed() + i, per_second, (int64_t)(20000 / per_second));
        rules.moods[0].chance[SIM_500] = rules.moods[0].chance[SIM_503] = 0.1;
        rules.slots[0].adaptive = adaptive;
        play(&rules, &r);
        print_message("20 %% fail at %.1f/s: %.3f %% of %ld failed, %.3f x sent, p99 %" PRId64 " ms, %s\n",
                      per_second, 100 * (double)r.failed / (double)r.requests, r.requests,
                      (double)r.sent[0] / (double)r.requests, r.p99_ms,
                      adaptive ? "adaptive" : "not adaptive");
        assert_true((double)r.good >= 0.99 * (double)r.requests);
        assert_true((double)r.sent[0] <= 1.3 * (double)r.requests);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_outage_is_not_multiplied),
        cmocka_unit_test(a_fifth_of_failures_is_made_good),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
