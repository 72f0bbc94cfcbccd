// BEHAVIOUR 4, 5 and 6 through the journey: how long it waits between attempts, what stops it, what the upstream says about when.
#include "journey_bench.h"

// ---- strategies -----------------------------------------------------------------------------------------

enum { WAITS = 4 };

typedef struct strategy_row {
    const char *name;
    sj_backoff backoff;
    int64_t low[WAITS], high[WAITS];
} strategy_row;

static const strategy_row strategy_rows[] = {
    {"fixed", {.strategy = SJ_BACKOFF_FIXED, .base_ms = 700}, {700, 700, 700, 700}, {700, 700, 700, 700}},
    {"linear",
     {.strategy = SJ_BACKOFF_LINEAR, .base_ms = 700, .cap_ms = 2000},
     {700, 1400, 2000, 2000},
     {700, 1400, 2000, 2000}},
    {"exponential",
     {.strategy = SJ_BACKOFF_EXPONENTIAL,
      .base_ms = 500,
      .cap_ms = 3000,
      .min_ms = 600,
      .exponential_base = 2},
     {600, 1000, 2000, 3000},
     {600, 1000, 2000, 3000}},
    {"jitter",
     {.strategy = SJ_BACKOFF_JITTER, .base_ms = 1000, .cap_ms = 60000, .exponential_base = 2, .jitter = 0.3},
     {700, 1400, 2800, 5600},
     {1300, 2600, 5200, 10400}},
    {"full jitter",
     {.strategy = SJ_BACKOFF_FULL_JITTER, .base_ms = 500, .cap_ms = 8000, .exponential_base = 2},
     {50, 50, 50, 50},
     {500, 1000, 2000, 4000}},
    {"equal jitter",
     {.strategy = SJ_BACKOFF_EQUAL_JITTER, .base_ms = 500, .cap_ms = 8000, .exponential_base = 2},
     {250, 500, 1000, 2000},
     {500, 1000, 2000, 4000}},
    {"decorrelated",
     {.strategy = SJ_BACKOFF_DECORRELATED, .base_ms = 500, .cap_ms = 8000},
     {500, 500, 500, 500},
     {1500, 4500, 8000, 8000}},
    {"plus random",
     {.strategy = SJ_BACKOFF_PLUS_RANDOM,
      .base_ms = 1000,
      .cap_ms = 10000,
      .min_ms = 2000,
      .exponential_base = 2,
      .random_max_ms = 2000},
     {2000, 2000, 4000, 8000},
     {4000, 4000, 6000, 10000}},
};

// Five attempts, all failing; the four waits between them. Returns their sum.
static int64_t live_through(bench *b, const strategy_row *r) {
    int64_t sum = 0, before = r->backoff.base_ms;
    for (int i = 0; i < WAITS; i++) {
        answer(b, 503);
        int64_t wait = due_in(b);
        bool fits = wait >= r->low[i] && wait <= r->high[i];
        if (r->backoff.strategy == SJ_BACKOFF_DECORRELATED)
            fits &= wait <= 3 * before;
        if (!fits)
            fail_msg("%s: wait %d is %d ms", r->name, i + 1, (int)wait);
        sum += before = wait;
        sleep_till_due(b);
        assert_int_equal(b->attempt, i + 2);
    }
    return sum;
}

static void every_strategy(void **unused) {
    (void)unused;
    for (size_t i = 0; i < sizeof strategy_rows / sizeof *strategy_rows; i++) {
        bench b = bench_calm(1);
        b.policies[0].backoff = strategy_rows[i].backoff;
        int64_t shortest = INT64_MAX, longest = 0;
        for (uint64_t seed = 0; seed < 40; seed++) {
            b.plan.seed = seed;
            b.plan.deadline_ms = b.now + 600000;
            go(&b);
            int64_t sum = live_through(&b, &strategy_rows[i]);
            gives(&b, answer(&b, 503), "save 5; deliver saved a");
            assert_int_equal(sj_journey_read(b.journey).wait_ms, sum);
            shortest = sum < shortest ? sum : shortest;
            longest = sum > longest ? sum : longest;
            over(&b);
            sj_charge paid = {.paid = 4 * 14};
            sj_target_refund(b.targets[0], &paid);
        }
        bool random = strategy_rows[i].low[WAITS - 1] < strategy_rows[i].high[WAITS - 1];
        assert_true(random ? longest - shortest > 500 : longest == shortest);
        bench_free(&b);
    }
}

static void the_same_seed_waits_the_same(void **unused) {
    (void)unused;
    int64_t sums[3];
    static const uint64_t seeds[3] = {7, 7, 8};
    for (int i = 0; i < 3; i++) {
        bench b = bench_calm(1);
        b.policies[0].backoff = strategy_rows[4].backoff;
        b.plan.seed = seeds[i];
        go(&b);
        sums[i] = live_through(&b, &strategy_rows[4]);
        gone(&b);
        over(&b);
        bench_free(&b);
    }
    assert_int_equal(sums[0], sums[1]);
    assert_int_not_equal(sums[0], sums[2]);
}

static void a_504_waits_one_step_more(void **unused) {
    (void)unused;
    bench b = bench_calm(1);
    go(&b);
    gives(&b, answer(&b, 503), "retry a 500 backoff 503; save 1");
    wakes_after(&b, 500, "start 2 a");
    gives(&b, answer(&b, 504), "retry a 2000 backoff 504; save 2");
    const sj_note *retry = &b.steps.notes[b.steps.note_count - 1];
    assert_int_equal(retry->class, SJ_CLASS_FAILING);
    assert_int_equal(retry->status, 504);
    wakes_after(&b, 2000, "start 3 a");
    gives(&b, answer(&b, 503), "retry a 2000 backoff 503; save 3");
    wakes_after(&b, 2000, "start 4 a");
    gives(&b, gone(&b), "cancel 4");
    assert_int_equal(spent(&b, 0), 3 * 14); // it was sent, whatever became of it
    over(&b);
    bench_free(&b);
}

static void a_throttle_has_its_own_base_and_cap(void **unused) {
    (void)unused;
    bench b = bench_calm(1);
    b.policies[0].throttle_cap_ms = 3000;
    go(&b);
    gives(&b, answer(&b, 429), "retry a 1000 backoff 429; save 1");
    wakes_after(&b, 1000, "start 2 a");
    gives(&b, answer(&b, 503), "retry a 1000 backoff 503; save 2");
    wakes_after(&b, 1000, "start 3 a");
    gives(&b, answer(&b, 429), "retry a 3000 backoff 429; save 3");
    wakes_after(&b, 3000, "start 4 a");
    gives(&b, answer(&b, 200), "deliver 4");
    assert_int_equal(spent(&b, 0), 5 + 14); // the last retry's cost came back
    over(&b);
    bench_free(&b);
}

// ---- stops ----------------------------------------------------------------------------------------------

static void attempts_stop_it(void **unused) {
    (void)unused;
    bench b = bench_calm(1);
    b.policies[0].max_attempts = 1;
    go(&b);
    gives(&b, answer(&b, 503), "save 1; deliver saved a");
    over(&b);
    b.policies[0].max_attempts = 2;
    go(&b);
    gives(&b, dies(&b, SJ_END_NO_ANSWER), "retry a 500 backoff reset");
    wakes_after(&b, 500, "start 2 a");
    gives(&b, dies(&b, SJ_END_NO_ANSWER), "refuse max_retries_exceeded");
    over(&b);
    bench_free(&b);
}

static void the_sum_of_waits_stops_it(void **unused) {
    (void)unused;
    bench b = bench_calm(2);
    for (int i = 0; i < 2; i++) {
        b.policies[i].max_wait_total_ms = 3000;
        b.policies[i].max_attempts_before_fallback = 3;
        b.policies[i].max_attempts = 10;
    }
    go(&b);
    answer(&b, 503);
    wakes_after(&b, 500, "start 2 a");
    answer(&b, 503);
    wakes_after(&b, 1000, "start 3 a");
    gives(&b, answer(&b, 503), "fallback b 503; save 3; start 4 b");
    answer(&b, 503);
    wakes_after(&b, 500, "start 5 b");
    answer(&b, 503);
    wakes_after(&b, 1000, "start 6 b");
    gives(&b, answer(&b, 503), "deliver saved a"); // 3000 are used up
    over(&b);
    bench_free(&b);
}

static void the_deadline_stops_it_before_the_sleep(void **unused) {
    (void)unused;
    bench b = bench_calm(1);
    b.plan.deadline_ms = b.now + 500;
    go(&b);
    gives(&b, answer(&b, 503), "save 1; deliver saved a");
    over(&b);
    b.plan.deadline_ms = b.now + 501;
    go(&b);
    gives(&b, answer(&b, 503), "retry a 500 backoff 503; save 1");
    wakes_after(&b, 500, "start 2 a");
    wakes_after(&b, 1, "cancel 2; deliver saved a");
    over(&b);
    bench_free(&b);
}

static void the_budget_stops_it(void **unused) {
    (void)unused;
    bench b = bench_calm(1);
    drain_budget(&b, 0, 10);
    go(&b);
    gives(&b, answer(&b, 503), "retry a 500 backoff 503; save 1"); // one of the floor
    assert_int_equal(spent(&b, 0), 0);
    wakes_after(&b, 500, "start 2 a");
    gives(&b, answer(&b, 503), "no budget a; save 2; deliver saved a");
    over(&b);
    go(&b);
    gives(&b, answer(&b, 429), "retry a 1000 backoff 429; save 1"); // five are enough for this
    assert_int_equal(spent(&b, 0), 5);
    wakes_after(&b, 1000, "start 2 a");
    gives(&b, dies(&b, SJ_END_TIMED_OUT), "retry a 1000 backoff timeout");
    assert_int_equal(spent(&b, 0), 10);
    gives(&b, gone(&b), "");
    assert_int_equal(spent(&b, 0), 5); // decided, never sent
    over(&b);
    bench_free(&b);
}

// Of an empty budget a tenth of the last minute's requests may be retried, six at most.
static void the_floor_follows_the_requests(void **unused) {
    (void)unused;
    static const int expected[][2] = {
        {2, 1}, {30, 3}, {100, 6}}; // requests before; retries of the next eight
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        bench b = bench_calm(1);
        drain_budget(&b, 0, 0);
        int retries = 0;
        for (int request = 0; request < expected[i][0] + 8; request++) {
            go(&b);
            if (request >= expected[i][0])
                answer(&b, 503);
            retries += !sj_journey_is_over(b.journey) && sj_journey_read(b.journey).retries;
            b.now += 10;
            if (!sj_journey_is_over(b.journey) && request >= expected[i][0])
                sleep_till_due(&b); // sent: what is not sent would be given back
            gone(&b);
            over(&b);
        }
        assert_int_equal(retries, expected[i][1]);
        bench_free(&b);
    }
}

static void a_retry_that_is_never_sent_costs_nothing(void **unused) {
    (void)unused;
    bench b = bench_calm(1);
    go(&b);
    answer(&b, 503);
    assert_int_equal(spent(&b, 0), 14);
    wakes_after(&b, 500, "start 2 a");
    gives(&b, dies(&b, SJ_END_NEVER_SENT), "retry a 0 at_once connect; start 3 a fresh");
    assert_int_equal(spent(&b, 0), 0);
    gives(&b, answer(&b, 503), "retry a 1000 backoff 503; save 3");
    assert_int_equal(spent(&b, 0), 14);
    gives(&b, gone(&b), "");
    over(&b);
    bench_free(&b);
}

// ---- hints ----------------------------------------------------------------------------------------------

static void a_hint_is_never_early_and_no_step(void **unused) {
    (void)unused;
    for (uint64_t seed = 0; seed < 50; seed++) {
        bench b = bench_calm(1);
        b.plan.seed = seed;
        b.policies[0].max_wait_total_ms = 600;
        go(&b);
        answer_hint(&b, 429, 3000);
        assert_in_range(due_in(&b), 3000, 4500);
        assert_string_equal(b.steps.notes[b.steps.note_count - 1].source, "retry-after");
        sleep_till_due(&b);
        answer_hint(&b, 503, 60000);
        assert_in_range(due_in(&b), 60000, 65000);
        sleep_till_due(&b);
        assert_int_equal(b.attempt, 3);
        gives(&b, answer(&b, 503),
              "retry a 500 backoff 503; save 3"); // the first step, and all of the sum is left
        gives(&b, gone(&b), "");
        over(&b);
        bench_free(&b);
    }
}

static void a_hint_beyond_max_hint_is_passed_on(void **unused) {
    (void)unused;
    bench b = bench_calm(1);
    go(&b);
    gives(&b, answer_hint(&b, 429, 120001), "gate a 120001 retry-after; save 1; deliver saved a");
    over(&b);
    bench_free(&b);
    b = bench_calm(1);
    go(&b);
    answer_hint(&b, 429, 120000);
    assert_in_range(due_in(&b), 120000, 125000);
    gives(&b, gone(&b), "");
    over(&b);
    bench_free(&b);
}

static void a_hint_beyond_the_deadline_is_passed_on(void **unused) {
    (void)unused;
    bench b = bench_calm(1);
    b.plan.deadline_ms = b.now + 20000;
    go(&b);
    gives(&b, answer_hint(&b, 429, 20000), "gate a 20000 retry-after; save 1; deliver saved a");
    over(&b);
    bench_free(&b);
    b = bench_calm(1);
    b.plan.deadline_ms = b.now + 20000;
    go(&b);
    answer_hint(&b, 429, 19900); // the spread leaves room for the attempt
    assert_in_range(due_in(&b), 19900, 19950);
    gives(&b, sleep_till_due(&b), "start 2 a");
    gives(&b, answer(&b, 200), "deliver 2");
    over(&b);
    bench_free(&b);
}

static void a_long_hint_is_a_reason_to_go_on(void **unused) {
    (void)unused;
    bench b = bench_calm(2);
    go(&b);
    answer_hint(&b, 429, 10000); // not longer than fallback_gate
    assert_in_range(due_in(&b), 10000, 15000);
    gives(&b, gone(&b), "");
    over(&b);
    bench_free(&b);
    b = bench_calm(2);
    go(&b);
    gives(&b, answer_hint(&b, 429, 10001), "gate a 10001 retry-after; fallback b 429; save 1; start 2 b");
    gives(&b, answer(&b, 200), "deliver 2");
    assert_string_equal(sj_journey_read(b.journey).fallback, "429");
    over(&b);
    bench_free(&b);
    b = bench_calm(2);
    sj_target_gate(b.targets[1], BENCH_KEY, b.now + 100000, b.now, b.now); // nowhere to go at once
    go(&b);
    answer_hint(&b, 429, 30000);
    assert_in_range(due_in(&b), 30000, 35000);
    gives(&b, gone(&b), "");
    over(&b);
    bench_free(&b);
}

// ---- gates: what one was told holds for all -------------------------------------------------------------

static void others_with_that_credential_wait_and_are_staggered(void **unused) {
    (void)unused;
    bench b = bench_calm(1);
    go(&b);
    answer_hint(&b, 429, 5000);
    int64_t until = b.now + 5000;
    bench others[40];
    int64_t starts[40];
    for (uint64_t i = 0; i < 40; i++) {
        others[i] = bench_beside(&b, 100 + i);
        gives(&others[i], go(&others[i]), "");
        assert_int_equal(due_in(&others[i]), 50); // the first look
    }
    bench stranger_of_another_key = bench_beside(&b, 99);
    stranger_of_another_key.hops[0].credential = BENCH_KEY + 5;
    gives(&stranger_of_another_key, go(&stranger_of_another_key), "start 1 a");
    for (uint64_t i = 0; i < 40; i++) {
        while (!others[i].attempt)
            sleep_till_due(&others[i]);
        starts[i] = others[i].now;
        assert_in_range(starts[i], until, until + 2500);
        assert_true(i == 0 || starts[i] > starts[i - 1]);
        int64_t waited = sj_journey_read(others[i].journey).wait_ms;
        assert_int_equal(waited, starts[i] - b.now);
        gives(&others[i], gone(&others[i]), "cancel 1");
        left(&others[i]);
    }
    assert_true(starts[39] - starts[0] > 1000);
    gives(&stranger_of_another_key, gone(&stranger_of_another_key), "cancel 1");
    left(&stranger_of_another_key);
    gone(&b);
    over(&b);
    bench_free(&b);
}

static void proof_lifts_the_gate_for_the_others_only(void **unused) {
    (void)unused;
    bench b = bench_calm(1), early = bench_beside(&b, 2), late = bench_beside(&b, 3);
    go(&b);
    b.now = early.now += 10;
    gives(&early, go(&early), "start 1 a"); // after the one that will be refused
    answer_hint(&b, 429, 8000);
    int64_t until = b.now + 8000;
    late.now = b.now;
    gives(&late, go(&late), "");
    wakes_after(&late, 50, "");
    early.now = late.now;
    gives(&early, answer(&early, 200), "deliver 1");
    wakes_after(&late, 100, "start 1 a");
    gives(&late, answer(&late, 200), "deliver 1");
    assert_true(sj_journey_due_ms(b.journey) >= until);
    gives(&b, sleep_till_due(&b), "start 2 a");
    gives(&b, answer(&b, 200), "deliver 2");
    left(&early);
    left(&late);
    over(&b);
    bench_free(&b);
}

static void a_gate_of_another_exchange_is_obeyed_after_a_backoff(void **unused) {
    (void)unused;
    bench b = bench_calm(1);
    go(&b);
    answer(&b, 503);
    sj_target_gate(b.targets[0], BENCH_KEY, b.now + 2000, b.now, b.now);
    while (b.attempt == 1)
        sleep_till_due(&b);
    assert_in_range(b.now, BENCH_START_MS + 2000, BENCH_START_MS + 3000);
    assert_int_equal(spent(&b, 0), 14); // paid once
    gives(&b, answer(&b, 200), "deliver 2");
    assert_int_equal(spent(&b, 0), 0);
    over(&b);
    bench_free(&b);
}

static void a_long_gate_is_gone_round_or_refused(void **unused) {
    (void)unused;
    bench b = bench_calm(2);
    sj_target_gate(b.targets[0], BENCH_KEY, b.now + 10001, b.now, b.now);
    gives(&b, go(&b), "fallback b gated; start 1 b");
    gives(&b, answer(&b, 200), "deliver 1");
    over(&b);
    bench_free(&b);
    b = bench_calm(1);
    sj_target_gate(b.targets[0], BENCH_KEY, b.now + 130000, b.now, b.now);
    gives(&b, go(&b), "refuse circuit_open");
    assert_int_equal(b.steps.list[0].retry_after_s, 60);
    over(&b);
    b.plan.deadline_ms = b.now + 30000; // nor is there time for this one
    sj_target_gate(b.targets[0], BENCH_KEY + 1, b.now + 30000, b.now, b.now);
    b.hops[0].credential = BENCH_KEY + 1;
    gives(&b, go(&b), "refuse circuit_open");
    assert_in_range(b.steps.list[0].retry_after_s, 30, 33);
    over(&b);
    bench_free(&b);
}

static void the_turn_at_a_gate_stays_inside_the_deadline(void **unused) {
    (void)unused;
    bench b = bench_calm(1);
    b.plan.deadline_ms = b.now + 4001;
    sj_target_gate(b.targets[0], BENCH_KEY, b.now + 4000, b.now, b.now);
    go(&b);
    while (!b.attempt)
        sleep_till_due(&b);
    assert_int_equal(b.now, BENCH_START_MS + 4000);
    gives(&b, answer(&b, 200), "deliver 1");
    over(&b);
    bench_free(&b);
}

// ---- a client that retries by itself --------------------------------------------------------------------

static void a_retrying_client_has_one_attempt_and_pays(void **unused) {
    (void)unused;
    bench b = bench_calm(2);
    b.plan.client_retrying = true;
    gives(&b, go(&b), "start 1 a");
    assert_int_equal(spent(&b, 0), 14);
    gives(&b, answer(&b, 503), "fallback b 503; save 1; start 2 b");
    assert_int_equal(spent(&b, 0), 14);
    assert_int_equal(spent(&b, 1), 14);
    gives(&b, answer(&b, 200), "deliver 2");
    assert_int_equal(spent(&b, 1), 0);
    over(&b);
    bench_free(&b);
}

static void a_retrying_client_without_budget_is_refused(void **unused) {
    (void)unused;
    bench b = bench_calm(2);
    b.plan.client_retrying = true;
    for (size_t i = 0; i < 2; i++) {
        drain_budget(&b, i, 10);
        sj_charge floor;
        assert_true(sj_target_charge(b.targets[i], false, b.now, &floor)); // the one of this minute
    }
    gives(&b, go(&b), "no budget a; no budget b; refuse overloaded");
    assert_in_range(b.steps.list[0].retry_after_s, 5, 7);
    over(&b);
    bench_free(&b);
    b = bench_calm(2);
    b.plan.client_retrying = true;
    drain_budget(&b, 0, 10);
    sj_charge of_this_minute;
    assert_true(sj_target_charge(b.targets[0], false, b.now, &of_this_minute));
    gives(&b, go(&b), "no budget a; fallback b budget; start 1 b");
    gives(&b, answer(&b, 200), "deliver 1");
    over(&b);
    bench_free(&b);
    b = bench_calm(2);
    b.plan.client_retrying = true;
    drain_budget(&b, 0, 10);
    gives(&b, go(&b), "start 1 a"); // on the floor, and counted as paid
    gives(&b, answer(&b, 503), "fallback b 503; save 1; start 2 b");
    gives(&b, dies(&b, SJ_END_NEVER_SENT), "retry b 0 at_once connect; start 3 b fresh");
    gives(&b, answer(&b, 503), "deliver saved a");
    over(&b);
    bench_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_strategy),
        cmocka_unit_test(the_same_seed_waits_the_same),
        cmocka_unit_test(a_504_waits_one_step_more),
        cmocka_unit_test(a_throttle_has_its_own_base_and_cap),
        cmocka_unit_test(attempts_stop_it),
        cmocka_unit_test(the_sum_of_waits_stops_it),
        cmocka_unit_test(the_deadline_stops_it_before_the_sleep),
        cmocka_unit_test(the_budget_stops_it),
        cmocka_unit_test(the_floor_follows_the_requests),
        cmocka_unit_test(a_retry_that_is_never_sent_costs_nothing),
        cmocka_unit_test(a_hint_is_never_early_and_no_step),
        cmocka_unit_test(a_hint_beyond_max_hint_is_passed_on),
        cmocka_unit_test(a_hint_beyond_the_deadline_is_passed_on),
        cmocka_unit_test(a_long_hint_is_a_reason_to_go_on),
        cmocka_unit_test(others_with_that_credential_wait_and_are_staggered),
        cmocka_unit_test(proof_lifts_the_gate_for_the_others_only),
        cmocka_unit_test(a_gate_of_another_exchange_is_obeyed_after_a_backoff),
        cmocka_unit_test(a_long_gate_is_gone_round_or_refused),
        cmocka_unit_test(the_turn_at_a_gate_stays_inside_the_deadline),
        cmocka_unit_test(a_retrying_client_has_one_attempt_and_pays),
        cmocka_unit_test(a_retrying_client_without_budget_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
