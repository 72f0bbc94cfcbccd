// BEHAVIOUR 7 through the journey: what a shut target means to an exchange, what an exchange tells the breaker.
#include "journey_bench.h"

static bench with_breaker(size_t hops, int half_open_max_calls) {
    sj_target_rules rules = {sj_breaker_rules_default, sj_budget_rules_default};
    rules.breaker.half_open_max_calls = half_open_max_calls;
    return bench_with(hops, &rules, 256, 1024);
}

// ---- waiting for a reopening ----------------------------------------------------------------------------

static void waits_for_the_reopening(void **unused) {
    (void)unused;
    bench b = bench_new(1);
    int64_t until = open_up(&b, 0);
    gives(&b, go(&b), "");
    wakes_after(&b, until - b.now, "breaker a half_open; start 1 a");
    gives(&b, answer(&b, 200), "deliver 1");
    assert_int_equal(target_at(&b, 0).state, SJ_BREAKER_HALF_OPEN); // two of three close it
    over(&b);
    gives(&b, go(&b), "start 1 a");
    gives(&b, answer(&b, 400), "breaker a closed; deliver 1"); // the caller's error is a good sign too
    over(&b);
    bench_free(&b);
}

static void fails_at_once_when_told_so(void **unused) {
    (void)unused;
    bench b = bench_new(1);
    b.hops[0].max_open_wait_ms = 0;
    int64_t until = open_up(&b, 0);
    gives(&b, go(&b), "refuse circuit_open");
    int64_t seconds = (until - b.now + 999) / 1000;
    assert_in_range(b.steps.list[0].retry_after_s, seconds, seconds + 3);
    over(&b);
    bench_free(&b);
}

static void max_open_wait_is_what_it_says(void **unused) {
    (void)unused;
    bench b = bench_new(1);
    int64_t until = open_up(&b, 0);
    b.hops[0].max_open_wait_ms = until - b.now - 1;
    gives(&b, go(&b), "refuse circuit_open");
    over(&b);
    b.hops[0].max_open_wait_ms = until - b.now;
    gives(&b, go(&b), "");
    wakes_after(&b, until - b.now, "breaker a half_open; start 1 a");
    gives(&b, answer(&b, 200), "deliver 1");
    over(&b);
    bench_free(&b);
}

// Those who wait for it have places in the upstream's queue, which is bounded.
static void no_more_wait_than_the_queue_holds(void **unused) {
    (void)unused;
    sj_target_rules rules = {sj_breaker_rules_default, sj_budget_rules_default};
    bench b = bench_with(1, &rules, 1, 2);
    int64_t until = open_up(&b, 0);
    bench second = bench_beside(&b, 2), third = bench_beside(&b, 3);
    gives(&b, go(&b), "");
    gives(&second, go(&second), "");
    gives(&third, go(&third), "refuse circuit_open");
    assert_int_equal(sj_admission_read(b.admissions[0]).standing_by, 2);
    left(&third);
    gives(&third, go(&third), "refuse circuit_open");
    left(&third);
    gives(&second, gone(&second), "");
    left(&second);
    gives(&third, go(&third), "");
    wakes_after(&b, until - b.now, "breaker a half_open; start 1 a");
    assert_int_equal(sj_admission_read(b.admissions[0]).standing_by, 1);
    third.now = b.now;
    gives(&third, ring(&third), "queued a"); // from one place to the other
    sj_admission_stats slots = sj_admission_read(b.admissions[0]);
    assert_int_equal(slots.standing_by, 0);
    assert_int_equal(slots.waiting, 1);
    gives(&b, answer(&b, 200), "grant 3; deliver 1");
    gives(&third, gone(&third), "");
    left(&third);
    over(&b);
    bench_free(&b);
}

// Its place among those who wait is the same one, whatever it waits for.
static void a_place_is_kept_from_the_reopening_to_the_line(void **unused) {
    (void)unused;
    sj_target_rules rules = {sj_breaker_rules_default, sj_budget_rules_default};
    bench b = bench_with(1, &rules, 1, 2);
    int64_t until = open_up(&b, 0);
    bench second = bench_beside(&b, 2), third = bench_beside(&b, 3);
    gives(&b, go(&b), "");
    gives(&second, go(&second), "");
    wakes_after(&b, until - b.now, "breaker a half_open; start 1 a");
    third.now = second.now = b.now;
    gives(&third, go(&third), "queued a");
    gives(&second, ring(&second), "queued a"); // the last place was its own, and it came before the third
    gives(&b, answer(&b, 200), "grant 2; deliver 1");
    gives(&second, gone(&second), "grant 3");
    gives(&third, gone(&third), "");
    left(&second);
    left(&third);
    over(&b);
    bench_free(&b);
}

static void does_not_wait_beyond_the_deadline(void **unused) {
    (void)unused;
    bench b = bench_new(1);
    int64_t until = open_up(&b, 0);
    b.plan.deadline_ms = until;
    gives(&b, go(&b), "refuse circuit_open");
    over(&b);
    b.plan.deadline_ms = until + 1;
    gives(&b, go(&b), "");
    wakes_after(&b, until - b.now, "breaker a half_open; start 1 a");
    wakes_after(&b, 1, "cancel 1; refuse deadline_exceeded");
    over(&b);
    bench_free(&b);
}

// Each probe of a stranger fails: the breaker opens again and again, ten seconds each. The exchange waits 15 s in all.
static void the_wait_is_bounded_over_the_whole_exchange(void **unused) {
    (void)unused;
    for (uint64_t seed = 0; seed < 20; seed++) {
        bench b = bench_new(1);
        b.plan.seed = seed;
        open_up(&b, 0);
        int64_t began = b.now;
        go(&b);
        while (!sj_journey_is_over(b.journey)) {
            b.now = sj_journey_due_ms(b.journey);
            stranger(&b, 0, SJ_OUTCOME_FAILURE);
            assert_int_equal(target_at(&b, 0).state, SJ_BREAKER_OPEN);
            ring(&b);
            assert_int_equal(b.attempt, 0);
        }
        assert_in_range(b.now - began, 8000, 15000);
        assert_string_equal(bench_tell(&b), "refuse circuit_open");
        over(&b);
        bench_free(&b);
    }
}

// At growing intervals and at random, so that those who wait do not all come at once when it closes.
static void looks_again_while_all_probes_are_out(void **unused) {
    (void)unused;
    bench b = with_breaker(1, 1), second = bench_beside(&b, 2);
    b.now = second.now = open_up(&b, 0);
    b.plan.deadline_ms = second.plan.deadline_ms = b.now + 600000;
    gives(&b, go(&b), "breaker a half_open; start 1 a");
    int64_t began = second.now;
    gives(&second, go(&second), "");
    int64_t longest = 0;
    for (int64_t look = 400; look <= 1600; look *= 2) {
        assert_in_range(due_in(&second), 50, look);
        longest = due_in(&second) > longest ? due_in(&second) : longest;
        gives(&second, sleep_till_due(&second), "");
    }
    assert_true(longest > 100);
    b.now = second.now;
    gives(&b, answer(&b, 200), "breaker a closed; deliver 1");
    assert_in_range(due_in(&second), 50, 3200);
    gives(&second, sleep_till_due(&second), "start 1 a");
    char expected[64];
    (void)snprintf(expected, sizeof expected, "wait %dms, a", (int)(second.now - began));
    assert_string_equal(trail(&second), expected);
    gives(&second, answer(&second, 200), "deliver 1");
    left(&b);
    b.now = second.now;
    over(&second);
    bench_free(&b);
}

static void looks_no_longer_than_max_open_wait(void **unused) {
    (void)unused;
    bench b = with_breaker(1, 1), second = bench_beside(&b, 2);
    b.now = second.now = open_up(&b, 0);
    go(&b);
    go(&second);
    int64_t began = second.now;
    while (!sj_journey_is_over(second.journey))
        sleep_till_due(&second);
    assert_string_equal(bench_tell(&second), "refuse circuit_open");
    assert_in_range(second.now - began, 14900, 15000);
    left(&second);
    gives(&b, answer(&b, 200), "breaker a closed; deliver 1");
    over(&b);
    bench_free(&b);
}

// ---- with a chain ---------------------------------------------------------------------------------------

static void an_open_target_is_gone_round(void **unused) {
    (void)unused;
    bench b = bench_new(2);
    open_up(&b, 0);
    gives(&b, go(&b), "fallback b breaker_open; start 1 b");
    gives(&b, answer(&b, 200), "deliver 1");
    assert_string_equal(sj_journey_read(b.journey).fallback, "breaker_open");
    over(&b);
    bench_free(&b);
}

static void a_refusal_names_the_target_it_is_about(void **unused) {
    (void)unused;
    bench b = bench_new(2);
    sj_changes changes;
    sj_target_force(b.targets[1], SJ_BREAKER_FORCED_OPEN, b.now, &changes);
    b.policies[0].max_attempts = 1;
    go(&b);
    gives(&b, dies(&b, SJ_END_NO_ANSWER), "refuse max_retries_exceeded");
    assert_int_equal(sj_journey_read(b.journey).hop, 0); // the last one that was asked
    over(&b);
    sj_target_force(b.targets[0], SJ_BREAKER_FORCED_OPEN, b.now, &changes);
    gives(&b, go(&b), "refuse circuit_open");
    assert_int_equal(sj_journey_read(b.journey).hop, 0); // the one that was wanted
    over(&b);
    bench_free(&b);
}

static void a_failed_probe_goes_down_the_chain(void **unused) {
    (void)unused;
    bench b = bench_new(2);
    b.now = open_up(&b, 0);
    gives(&b, go(&b), "breaker a half_open; start 1 a");
    gives(&b, answer(&b, 503),
          "breaker a open; fallback b breaker_open; save 1; start 2 b"); // nobody is sacrificed
    gives(&b, answer(&b, 200), "deliver 2");
    over(&b);
    bench_free(&b);
}

// It has one retry left there, paid for already; the breaker opens while it waits.
static void a_retry_finds_its_target_shut(void **unused) {
    (void)unused;
    bench b = bench_new(2);
    go(&b);
    answer(&b, 503);
    assert_int_equal(spent(&b, 0), 14);
    sj_changes changes;
    sj_target_force(b.targets[0], SJ_BREAKER_FORCED_OPEN, b.now, &changes);
    wakes_after(&b, 500, "fallback b breaker_open; start 2 b");
    assert_int_equal(spent(&b, 0), 0); // nothing was sent for it
    gives(&b, answer(&b, 200), "deliver 2");
    over(&b);
    bench_free(&b);
}

static void one_shut_in_passing_is_waited_for_in_the_end(void **unused) {
    (void)unused;
    bench b = bench_new(2);
    int64_t until = open_up(&b, 0);
    b.policies[1].max_attempts = 1;
    gives(&b, go(&b), "fallback b breaker_open; start 1 b");
    gives(&b, answer(&b, 503), "save 1");
    wakes_after(&b, until - b.now, "breaker a half_open; start 2 a");
    gives(&b, answer(&b, 200), "deliver 2");
    assert_null(sj_journey_read(b.journey).fallback); // the first target answered after all
    over(&b);
    bench_free(&b);
}

// Coming back to a target costs what a retry costs.
static void a_retry_after_a_detour_is_paid_for(void **unused) {
    (void)unused;
    bench b = bench_new(2);
    b.policies[1].max_attempts = b.policies[1].max_attempts_before_fallback = 1;
    go(&b);
    answer(&b, 503);
    b.now += 1000;
    for (int i = 0; i < 4; i++)
        stranger(&b, 0, SJ_OUTCOME_FAILURE);
    int64_t until = target_at(&b, 0).open_until_ms;
    gives(&b, ring(&b), "fallback b breaker_open; start 2 b");
    assert_int_equal(spent(&b, 0), 0);
    gives(&b, answer(&b, 503), "");
    wakes_after(&b, until - b.now, "breaker a half_open; start 3 a");
    assert_int_equal(spent(&b, 0), 14);
    gives(&b, answer(&b, 503), "breaker a open; retry a 1000 backoff 503; save 3"); // a is the last one now
    gives(&b, gone(&b), "");
    over(&b);
    bench_free(&b);
}

static void waits_though_an_answer_is_saved(void **unused) {
    (void)unused;
    bench b = bench_new(1);
    go(&b);
    answer(&b, 503);
    b.now += 1000;
    for (int i = 0; i < 4; i++)
        stranger(&b, 0, SJ_OUTCOME_FAILURE);
    int64_t until = target_at(&b, 0).open_until_ms;
    gives(&b, ring(&b), "");
    assert_int_equal(spent(&b, 0), 14);
    wakes_after(&b, until - b.now, "breaker a half_open; start 2 a");
    assert_int_equal(spent(&b, 0), 14);
    gives(&b, gone(&b), "cancel 2");
    over(&b);
    b.hops[0].max_open_wait_ms = 100;
    bench late = bench_beside(&b, 7);
    sj_changes changes;
    sj_target_force(b.targets[0], SJ_BREAKER_CLOSED, b.now, &changes);
    go(&late);
    answer(&late, 503);
    sj_target_force(b.targets[0], SJ_BREAKER_FORCED_OPEN, b.now, &changes);
    wakes_after(&late, 500, "deliver saved a");
    assert_int_equal(spent(&late, 0), 0);
    over(&late);
    bench_free(&b);
}

// ---- probes ---------------------------------------------------------------------------------------------

static void a_streamed_probe_has_its_verdict_at_first_content(void **unused) {
    (void)unused;
    bench b = with_breaker(1, 1);
    b.now = open_up(&b, 0);
    b.plan.stream = true;
    gives(&b, go(&b), "breaker a half_open; start 1 a");
    head(&b, 200);
    gives(&b, says(&b, 0), "");
    gives(&b, says(&b, SJ_SAYS_CONTENT), "breaker a closed; commit 1");
    gives(&b, dies(&b, SJ_END_BROKEN), "break"); // of an older generation
    assert_int_equal(target_at(&b, 0).state, SJ_BREAKER_CLOSED);
    assert_int_equal(target_at(&b, 0).window_failures, 0);
    over(&b);
    bench_free(&b);
}

static void a_silent_streamed_probe_fails(void **unused) {
    (void)unused;
    bench b = bench_new(2);
    b.now = open_up(&b, 0);
    b.plan.stream = true;
    gives(&b, go(&b), "breaker a half_open; start 1 a");
    wakes_after(&b, 30000, "breaker a open; fallback b timeout; cancel 1; start 2 b");
    gives(&b, gone(&b), "cancel 2");
    over(&b);
    bench_free(&b);
}

static void a_neutral_probe_gives_its_permit_back(void **unused) {
    (void)unused;
    bench b = with_breaker(1, 1);
    b.now = open_up(&b, 0);
    gives(&b, go(&b), "breaker a half_open; start 1 a");
    gives(&b, answer(&b, 401), "alert a 401; deliver 1");
    assert_int_equal(target_at(&b, 0).state, SJ_BREAKER_HALF_OPEN);
    over(&b);
    gives(&b, go(&b), "start 1 a");
    gives(&b, gone(&b), "cancel 1");
    over(&b);
    b.plan.stream = true;
    gives(&b, go(&b), "start 1 a");
    head(&b, 200);
    gives(&b, error_event(&b, "insufficient_quota"),
          "commit 1"); // shown, for there is nowhere to go; no content
    gives(&b, dies(&b, SJ_END_BROKEN), "finish");
    assert_int_equal(target_at(&b, 0).state, SJ_BREAKER_HALF_OPEN);
    over(&b);
    b.plan.verified = true;
    gives(&b, go(&b), "start 1 a");
    head(&b, 200);
    gives(&b, says(&b, SJ_SAYS_CONTENT), "breaker a closed"); // held back, and yet its verdict
    gives(&b, gone(&b), "cancel 1");
    over(&b);
    b.plan.stream = b.plan.verified = false;
    gives(&b, go(&b), "start 1 a");
    gives(&b, answer(&b, 200), "deliver 1");
    over(&b);
    bench_free(&b);
}

static void results_of_an_older_generation_change_nothing(void **unused) {
    (void)unused;
    bench b = bench_new(1);
    go(&b);
    open_up(&b, 0);
    gives(&b, answer(&b, 200), "deliver 1");
    assert_int_equal(target_at(&b, 0).state, SJ_BREAKER_OPEN);
    assert_int_equal(target_at(&b, 0).stale_results, 1);
    over(&b);
    bench_free(&b);
}

// ---- the operator, and our own side ---------------------------------------------------------------------

static void forced_open(void **unused) {
    (void)unused;
    bench b = bench_new(1);
    sj_changes changes;
    sj_target_force(b.targets[0], SJ_BREAKER_FORCED_OPEN, b.now, &changes);
    gives(&b, go(&b), "refuse circuit_open");
    assert_in_range(b.steps.list[0].retry_after_s, 30, 32);
    over(&b);
    sj_target_force(b.targets[0], SJ_BREAKER_DISABLED, b.now, &changes);
    gives(&b, go(&b), "start 1 a");
    gives(&b, answer(&b, 200), "deliver 1");
    over(&b);
    bench_free(&b);
}

// DNS or the network is gone: attempts to two origins fail on our side.
static void the_global_breaker(void **unused) {
    (void)unused;
    bench b = bench_new(2);
    for (uint64_t i = 0; i < 5; i++) {
        sj_permit permit;
        sj_changes changes;
        int64_t at;
        assert_int_equal(sj_target_admit(b.targets[i % 2], BENCH_KEY, b.now, &permit, &at, &changes), 0);
        sj_report report = {.outcome = SJ_OUTCOME_FAILURE, .own_side = true, .exchange_id = 100 + i};
        sj_target_report(b.targets[i % 2], &permit, &report, b.now, &changes);
        b.now += 300;
    }
    assert_int_equal(sj_global_breaker_state(b.global), SJ_BREAKER_OPEN);
    assert_int_equal(target_at(&b, 0).state, SJ_BREAKER_CLOSED);
    gives(&b, go(&b), "");
    assert_in_range(due_in(&b), 7000, 12000);
    gives(&b, sleep_till_due(&b), "breaker global half_open; start 1 a");
    gives(&b, answer(&b, 200), "deliver 1");
    over(&b);
    b.hops[0].max_open_wait_ms = b.hops[1].max_open_wait_ms = 0;
    sj_global_breaker_force(b.global, SJ_BREAKER_FORCED_OPEN, b.now, &(sj_breaker_change){0});
    gives(&b, go(&b), "refuse circuit_open");
    over(&b);
    sj_global_breaker_force(b.global, SJ_BREAKER_CLOSED, b.now, &(sj_breaker_change){0});
    bench_free(&b);
}

// An attempt tells it whether the failure was on our side.
static void our_own_side_is_told(void **unused) {
    (void)unused;
    bench b = bench_calm(2);
    for (uint64_t i = 0; i < 5; i++) {
        bench other = bench_beside(&b, 10 + i);
        other.plan.hop_count = 1;
        other.hops[0] = b.hops[i % 2];
        other.policies[0].max_attempts = 1;
        go(&other);
        dies(&other, SJ_END_NEVER_SENT);
        gone(&other);
        left(&other);
        b.now += 300;
    }
    assert_int_equal(sj_global_breaker_state(b.global), SJ_BREAKER_OPEN);
    bench_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_for_the_reopening),
        cmocka_unit_test(fails_at_once_when_told_so),
        cmocka_unit_test(max_open_wait_is_what_it_says),
        cmocka_unit_test(no_more_wait_than_the_queue_holds),
        cmocka_unit_test(a_place_is_kept_from_the_reopening_to_the_line),
        cmocka_unit_test(does_not_wait_beyond_the_deadline),
        cmocka_unit_test(the_wait_is_bounded_over_the_whole_exchange),
        cmocka_unit_test(looks_again_while_all_probes_are_out),
        cmocka_unit_test(looks_no_longer_than_max_open_wait),
        cmocka_unit_test(an_open_target_is_gone_round),
        cmocka_unit_test(a_refusal_names_the_target_it_is_about),
        cmocka_unit_test(a_failed_probe_goes_down_the_chain),
        cmocka_unit_test(a_retry_finds_its_target_shut),
        cmocka_unit_test(one_shut_in_passing_is_waited_for_in_the_end),
        cmocka_unit_test(a_retry_after_a_detour_is_paid_for),
        cmocka_unit_test(waits_though_an_answer_is_saved),
        cmocka_unit_test(a_streamed_probe_has_its_verdict_at_first_content),
        cmocka_unit_test(a_silent_streamed_probe_fails),
        cmocka_unit_test(a_neutral_probe_gives_its_permit_back),
        cmocka_unit_test(results_of_an_older_generation_change_nothing),
        cmocka_unit_test(forced_open),
        cmocka_unit_test(the_global_breaker),
        cmocka_unit_test(our_own_side_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
