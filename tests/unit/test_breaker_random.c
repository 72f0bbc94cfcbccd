// The breaker under random events, against a slow model that keeps every outcome. The seed is printed; SJ_TEST_SEED repeats a run.
#include "breaker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { HELD_MAX = 40, OUTCOMES_MAX = 4096, EVENTS = 6000, RUNS = 40 };

struct outcome {
    int64_t at_ms;
    bool failed, slow;
};

struct held {
    sj_breaker_permit permit;
    int64_t at_ms;
    uint64_t exchange;
    bool written_off; // a probe that was overdue when another one went out
};

struct world {
    sj_breaker breaker;
    sj_rng rng, jitter;
    int64_t now_ms;
    struct held held[HELD_MAX];
    int held_count;
    // The model: all that counted since the last change of state.
    struct outcome outcomes[OUTCOMES_MAX];
    int outcome_count;
    int run;
    int64_t run_since_ms;
    uint64_t run_exchange;
    bool run_differs;
    int in_flight; // as it was when the last outcome was recorded
    int trips, closings, stale;
};

static uint64_t base_seed(void) {
    const char *given = getenv("SJ_TEST_SEED");
    return given ? strtoull(given, NULL, 10) : 20240611;
}

static int pick(struct world *world, int n) {
    return (int)sj_rng_between(&world->rng, 0, n - 1);
}

static sj_breaker_rules random_rules(struct world *world) {
    static const double rates[] = {0, 0.2, 0.5, 0.9, 1};
    return (sj_breaker_rules){
        .enabled = pick(world, 20) != 0,
        .failure_threshold = pick(world, 8),
        .failure_span_ms = pick(world, 3) * 700,
        .window_ms = 1000 * (1 + pick(world, 60)),
        .minimum_calls = pick(world, 15),
        .failure_rate = rates[pick(world, 5)],
        .slow_rate = rates[pick(world, 5)],
        .recovery_timeout_ms = 1 + pick(world, 20000),
        .recovery_growth = 1 + pick(world, 3),
        .recovery_cap_ms = pick(world, 100000),
        .probe_timeout_ms = 1 + pick(world, 30000),
        .half_open_max_calls = 1 + pick(world, 6),
        .success_threshold = (1 + pick(world, 10)) / 10.0,
    };
}

static void forget_all(struct world *world) {
    world->outcome_count = world->run = 0;
    world->run_differs = false;
}

// ---- the model ------------------------------------------------------------------------------------------

static bool model_trips(const struct world *world, bool last_failed) {
    const sj_breaker_rules *rules = &world->breaker.rules;
    int64_t width = rules->window_ms / SJ_BREAKER_BUCKETS;
    int64_t from_ms = (world->now_ms / width - SJ_BREAKER_BUCKETS + 1) * width;
    int calls = 0, failures = 0, slow = 0;
    for (int i = 0; i < world->outcome_count; i++) {
        const struct outcome *outcome = &world->outcomes[i];
        bool counts = outcome->at_ms >= from_ms;
        calls += counts;
        failures += counts && outcome->failed;
        slow += counts && outcome->slow;
    }
    if (last_failed && rules->failure_threshold > 0 && world->run >= rules->failure_threshold &&
        world->now_ms - world->run_since_ms >= rules->failure_span_ms &&
        (world->in_flight == 0 || world->run_differs))
        return true;
    return calls > 0 && calls >= rules->minimum_calls &&
           world->now_ms - world->breaker.closed_since_ms >= rules->failure_span_ms &&
           ((rules->failure_rate > 0 && failures * 1000 >= rules->failure_rate * 1000 * calls - 1e-6) ||
            (rules->slow_rate > 0 && slow * 1000 >= rules->slow_rate * 1000 * calls - 1e-6));
}

static void model_records(struct world *world, sj_breaker_outcome outcome, bool slow, uint64_t exchange) {
    bool failed = outcome == SJ_OUTCOME_FAILURE;
    assert_true(world->outcome_count < OUTCOMES_MAX);
    world->outcomes[world->outcome_count++] = (struct outcome){world->now_ms, failed, slow};
    if (outcome == SJ_OUTCOME_SUCCESS) {
        world->run = 0;
        world->run_differs = false;
    } else if (failed && world->run++ == 0) {
        world->run_since_ms = world->now_ms;
        world->run_exchange = exchange;
    } else if (failed && exchange != world->run_exchange) {
        world->run_differs = true;
    }
}

// ---- invariants -----------------------------------------------------------------------------------------

static void check_always(const struct world *world) {
    const sj_breaker *breaker = &world->breaker;
    assert_int_equal(breaker->in_flight, world->held_count);
    assert_true(breaker->probes_out >= 0 && breaker->probes_out <= SJ_BREAKER_PROBES_MAX);
    assert_int_equal(breaker->stale_results, world->stale);
}

// The limit holds for the probes of this half-open phase that are not written off.
static void check_probes(struct world *world) {
    const sj_breaker *breaker = &world->breaker;
    int live = 0;
    for (int i = 0; i < world->held_count; i++) {
        struct held *held = &world->held[i];
        if (held->permit.generation != breaker->generation)
            continue;
        assert_true(held->permit.probe);
        held->written_off |= world->now_ms - held->at_ms >= breaker->rules.probe_timeout_ms;
        live += !held->written_off;
    }
    assert_true(live <= breaker->rules.half_open_max_calls);
    assert_int_equal(live, breaker->probes_out);
}

// What a stale result must leave alone is everything but two counters.
static void check_untouched(const sj_breaker *before, const sj_breaker *after) {
    sj_breaker copy;
    memcpy(&copy, after, sizeof copy);
    copy.stale_results--;
    copy.in_flight++;
    assert_memory_equal(before, &copy, sizeof copy);
}

// ---- events ---------------------------------------------------------------------------------------------

static void note_change(struct world *world, const sj_breaker_change *change, uint64_t generation_before) {
    assert_int_equal(world->breaker.generation, generation_before + change->changed);
    if (!change->changed)
        return;
    assert_int_equal(change->to, world->breaker.state);
    world->trips += change->to == SJ_BREAKER_OPEN;
    world->closings += change->to == SJ_BREAKER_CLOSED;
    forget_all(world);
}

static void event_admit(struct world *world) {
    if (world->held_count == HELD_MAX)
        return;
    sj_breaker_permit permit;
    sj_breaker_change change;
    int64_t would_ms, retry_at_ms;
    uint64_t generation = world->breaker.generation;
    bool would = sj_breaker_would_admit(&world->breaker, world->now_ms, &would_ms);
    bool yes = sj_breaker_admit(&world->breaker, world->now_ms, &permit, &retry_at_ms, &change);
    assert_int_equal(would, yes);
    note_change(world, &change, generation);
    if (!yes) {
        assert_true(would_ms == retry_at_ms && retry_at_ms > world->now_ms && !permit.held);
        return;
    }
    assert_true(permit.held && permit.generation == world->breaker.generation);
    world->held[world->held_count++] = (struct held){permit, world->now_ms, (uint64_t)pick(world, 5), false};
    if (world->breaker.state == SJ_BREAKER_HALF_OPEN)
        check_probes(world);
}

static void event_report(struct world *world) {
    if (world->held_count == 0)
        return;
    int at = pick(world, world->held_count);
    struct held held = world->held[at];
    world->held[at] = world->held[--world->held_count];
    sj_breaker_outcome outcome = (sj_breaker_outcome)pick(world, 3);
    bool slow = pick(world, 3) == 0;
    sj_breaker before, once;
    memcpy(&before, &world->breaker, sizeof before); // padding too: it is compared
    sj_breaker_change change;
    sj_breaker_report(&world->breaker, &held.permit, outcome, slow, held.exchange, world->now_ms,
                      &world->jitter, &change);
    assert_false(held.permit.held);
    if (held.permit.generation != before.generation) {
        world->stale++;
        assert_false(change.changed);
        check_untouched(&before, &world->breaker);
        return;
    }
    bool counts = outcome != SJ_OUTCOME_NEUTRAL || (slow && before.rules.slow_rate > 0);
    if (counts) {
        model_records(world, outcome, slow, held.exchange);
        world->in_flight = world->held_count;
    }
    if (before.state == SJ_BREAKER_CLOSED) {
        bool due = counts && before.rules.enabled && model_trips(world, outcome == SJ_OUTCOME_FAILURE);
        assert_int_equal(due, change.changed && change.to == SJ_BREAKER_OPEN);
    }
    note_change(world, &change, before.generation);
    memcpy(&once, &world->breaker, sizeof once); // a second report of the same permit does nothing
    sj_breaker_report(&world->breaker, &held.permit, outcome, slow, held.exchange, world->now_ms,
                      &world->jitter, &change);
    assert_memory_equal(&once, &world->breaker, sizeof once);
}

static void event_operator(struct world *world) {
    static const sj_breaker_state states[] = {SJ_BREAKER_FORCED_OPEN, SJ_BREAKER_DISABLED, SJ_BREAKER_CLOSED,
                                              SJ_BREAKER_CLOSED};
    sj_breaker_change change;
    uint64_t generation = world->breaker.generation;
    sj_breaker_state to = states[pick(world, 4)];
    bool cleared = to == SJ_BREAKER_CLOSED && world->breaker.state == to;
    sj_breaker_force(&world->breaker, to, world->now_ms, &change);
    note_change(world, &change, generation);
    if (cleared)
        forget_all(world);
}

// The window's width stays, since the model knows no moved buckets.
static void event_reload(struct world *world) {
    sj_breaker_rules rules = random_rules(world);
    rules.window_ms = world->breaker.rules.window_ms;
    sj_breaker_set_rules(&world->breaker, &rules);
}

static void one_run(uint64_t seed, int *trips, int *closings, int *stale) {
    static struct world world;
    memset(&world, 0, sizeof world);
    sj_rng_seed(&world.rng, seed);
    sj_rng_seed(&world.jitter, seed + 1);
    world.now_ms = 1 + pick(&world, 100000);
    sj_breaker_rules rules = random_rules(&world);
    sj_breaker_init(&world.breaker, &rules, world.now_ms);
    int pace_ms = 1 << pick(&world, 12);
    for (int i = 0; i < EVENTS; i++) {
        world.now_ms += pick(&world, pace_ms);
        int kind = pick(&world, 1000);
        if (kind < 500)
            event_admit(&world);
        else if (kind < 985)
            event_report(&world);
        else if (kind < 990)
            event_operator(&world);
        else if (kind < 994)
            event_reload(&world);
        check_always(&world);
    }
    while (world.held_count > 0)
        event_report(&world);
    check_always(&world);
    assert_int_equal(world.breaker.in_flight, 0);
    assert_int_equal(world.breaker.probes_out, 0);
    *trips += world.trips;
    *closings += world.closings;
    *stale += world.stale;
}

static void random_events(void **unused) {
    (void)unused;
    int trips = 0, closings = 0, stale = 0;
    for (uint64_t run = 0; run < RUNS; run++) {
        print_message("seed %llu\n", (unsigned long long)(base_seed() + run * 1000));
        one_run(base_seed() + run * 1000, &trips, &closings, &stale);
    }
    // The runs did go everywhere.
    assert_true(trips > 100 && closings > 100 && stale > 100);
}

// Whoever asks again when told gets a probe out in bounded time, even if no probe ever reports.
static void an_open_breaker_probes(void **unused) {
    (void)unused;
    static struct world world;
    sj_rng_seed(&world.rng, base_seed());
    for (int i = 0; i < 300; i++) {
        sj_breaker_rules rules = random_rules(&world);
        rules.enabled = true;
        rules.failure_threshold = 1;
        rules.failure_span_ms = 0;
        sj_breaker_permit permit;
        sj_breaker_change change;
        int64_t retry_at_ms, now_ms = 5000;
        sj_breaker_init(&world.breaker, &rules, now_ms);
        assert_true(sj_breaker_admit(&world.breaker, now_ms, &permit, &retry_at_ms, &change));
        sj_breaker_report(&world.breaker, &permit, SJ_OUTCOME_FAILURE, false, 1, now_ms, &world.rng, &change);
        assert_int_equal(world.breaker.state, SJ_BREAKER_OPEN);
        int asked = 0;
        for (int probes = 0; probes < 20 * rules.half_open_max_calls; probes++) {
            while (!sj_breaker_admit(&world.breaker, now_ms, &permit, &retry_at_ms, &change)) {
                now_ms = retry_at_ms;
                assert_true(++asked <= 1 + 20 * (1 + rules.probe_timeout_ms / 50));
            }
            assert_true(permit.probe);
        }
        double longest = 1.2 * (double)rules.recovery_timeout_ms + 1 + 20.0 * (double)rules.probe_timeout_ms;
        assert_true((double)(now_ms - 5000) <= longest);
    }
}

// One breaker, 100 requests/s of which 20 % fail at random, after so many good ones. How many rows of five failures it saw; -1: it opened.
static int live_through_failures(sj_rng *rng, uint64_t good, uint64_t requests) {
    sj_breaker breaker;
    sj_breaker_permit another, permit;
    sj_breaker_change change;
    int64_t retry_at_ms;
    int rows_of_five = 0;
    sj_breaker_init(&breaker, &sj_breaker_rules_default, 0);
    assert_true(sj_breaker_admit(&breaker, 0, &another, &retry_at_ms, &change));
    for (uint64_t i = 0; i < good + requests; i++) {
        int64_t now_ms = (int64_t)i * 10;
        if (!sj_breaker_admit(&breaker, now_ms, &permit, &retry_at_ms, &change))
            return -1;
        bool fails = i >= good && sj_rng_unit(rng) < 0.2;
        sj_breaker_report(&breaker, &permit, fails ? SJ_OUTCOME_FAILURE : SJ_OUTCOME_SUCCESS, false, i,
                          now_ms, rng, &change);
        rows_of_five += breaker.consecutive == 5;
    }
    return rows_of_five;
}

// BEHAVIOUR 7: it must not trip, though five in a row happen twice a minute; nor at a start, when the window is all but empty.
static void random_failures_do_not_trip(void **unused) {
    (void)unused;
    sj_rng rng;
    sj_rng_seed(&rng, base_seed());
    assert_true(live_through_failures(&rng, 100, 20 * 60 * 100) >= 20);
    for (int start = 0; start < 5000; start++)
        assert_true(live_through_failures(&rng, 0, 200) >= 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_events),
        cmocka_unit_test(an_open_breaker_probes),
        cmocka_unit_test(random_failures_do_not_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
