// BEHAVIOUR 10 (late first token) and the stickiness of 9, through the journey.
#include "journey_bench.h"

static bench racing_bench(size_t hops, bool stream) {
    bench b = bench_calm(hops);
    b.plan.stream = stream;
    for (size_t i = 0; i < hops; i++)
        b.hops[i].race_after_ms = 10000;
    return b;
}

static void of(bench *b, int attempt) {
    b->attempt = attempt;
}

static void the_other_wins(void **unused) {
    (void)unused;
    bench b = racing_bench(2, true);
    gives(&b, go(&b), "start 1 a");
    head(&b, 200);
    says(&b, 0); // a role, but no content: still silent
    wakes_after(&b, 10000, "race b 10000; start 2 b");
    assert_int_equal(spent(&b, 1), 14); // races pay
    head(&b, 200);
    b.now += 300;
    gives(&b, says(&b, SJ_SAYS_CONTENT), "cancel 1; commit 2");
    gives(&b, says(&b, SJ_SAYS_FINISH | SJ_SAYS_WHOLE), "");
    gives(&b, ended(&b, bench_over(SJ_END_WHOLE, 200)), "finish");
    assert_string_equal(trail(&b), "a lost_race 10300ms, b 200 300ms");
    assert_string_equal(sj_journey_read(b.journey).fallback, "race");
    assert_int_equal(spent(&b, 1), 0); // it paid off
    over(&b);
    bench_free(&b);
}

static void the_silent_one_wins_after_all(void **unused) {
    (void)unused;
    bench b = racing_bench(2, true);
    go(&b);
    wakes_after(&b, 10000, "race b 10000; start 2 b");
    of(&b, 1);
    head(&b, 200);
    gives(&b, says(&b, SJ_SAYS_CONTENT), "cancel 2; commit 1");
    of(&b, 2);
    gives(&b, says(&b, SJ_SAYS_CONTENT), ""); // too late
    assert_null(sj_journey_read(b.journey).fallback);
    of(&b, 1);
    says(&b, SJ_SAYS_FINISH | SJ_SAYS_WHOLE);
    gives(&b, ended(&b, bench_over(SJ_END_WHOLE, 200)), "finish");
    over(&b);
    bench_free(&b);
}

static void an_error_never_beats_who_may_still_answer(void **unused) {
    (void)unused;
    bench b = racing_bench(3, true);
    b.policies[0].max_attempts_before_fallback = 1;
    go(&b);
    wakes_after(&b, 10000, "race b 10000; start 2 b");
    gives(&b, answer_code(&b, 400, "invalid_prompt"), "save 2");
    of(&b, 1);
    gives(&b, answer(&b, 503), "fallback c 503; save 1; start 3 c"); // b is used up
    gives(&b, gone(&b), "cancel 3");
    over(&b);
    bench_free(&b);
}

static void whole_answers_race_to_their_end(void **unused) {
    (void)unused;
    bench b = racing_bench(2, false);
    go(&b);
    wakes_after(&b, 10000, "race b 10000; start 2 b");
    gives(&b, answer(&b, 200), "cancel 1; deliver 2");
    over(&b);
    bench_free(&b);
}

static void no_race(void **unused) {
    (void)unused;
    for (int why = 0; why < 6; why++) {
        bench b = racing_bench(2, true);
        if (why == 0)
            b.plan.repeat = SJ_REPEAT_SAFE;
        else if (why == 1)
            b.plan.replayable = false;
        else if (why == 2)
            b.plan.client_retrying = true;
        else if (why == 3)
            b.hops[1].model = 5; // another model
        else if (why == 4)
            b.plan.hop_count = 1;
        else
            sj_target_gate(b.targets[1], BENCH_KEY, b.now + 60000, b.now, b.now);
        go(&b);
        if (due_in(&b) == 10000)
            sleep_till_due(&b);
        for (int i = 0; i < b.steps.count; i++)
            assert_int_not_equal(b.steps.list[i].attempt, 2);
        assert_int_equal(sj_journey_due_ms(b.journey), BENCH_START_MS + 120000);
        gone(&b);
        over(&b);
        b.plan.hop_count = 2;
        bench_free(&b);
    }
}

static void any_model_by_option(void **unused) {
    (void)unused;
    bench b = racing_bench(2, true);
    b.hops[1].model = 5;
    b.hops[0].race_other_model = true;
    go(&b);
    wakes_after(&b, 10000, "race b 10000; start 2 b");
    gives(&b, gone(&b), "cancel 1; cancel 2");
    over(&b);
    bench_free(&b);
}

static void a_race_never_queues(void **unused) {
    (void)unused;
    bench b = racing_bench(2, true);
    sj_admission_rules one = {.max_concurrent = 1, .max_waiting = 1024, .timeout_ms = 300000};
    sj_admission_set_rules(b.admissions[1], &one);
    sj_waiter other = {.worker = 0, .exchange_id = BENCH_STRANGER, .client = 1};
    assert_true(sj_admission_try(b.admissions[1], &other, b.now));
    go(&b);
    wakes_after(&b, 10000, "");
    assert_int_equal(sj_admission_read(b.admissions[1]).waiting, 0);
    assert_int_equal(spent(&b, 1), 0);
    gone(&b);
    sj_wake wake;
    sj_admission_release(b.admissions[1], b.now, &wake);
    over(&b);
    bench_free(&b);
}

// Twenty first contents at 8 s: it gets 16 s.
static void a_slow_target_is_given_twice_its_p95(void **unused) {
    (void)unused;
    bench b = racing_bench(2, true);
    for (uint64_t i = 0; i < 20; i++) {
        sj_permit permit;
        sj_changes changes;
        int64_t at;
        assert_int_equal(sj_target_admit(b.targets[0], BENCH_KEY, b.now - 8000, &permit, &at, &changes),
                         SJ_ADMIT_YES);
        sj_target_content(b.targets[0], &permit, true, BENCH_STRANGER + i, b.now, &changes);
        sj_report report = {.outcome = SJ_OUTCOME_SUCCESS,
                            .streaming = true,
                            .first_content_ms = 8000,
                            .exchange_id = BENCH_STRANGER + i};
        sj_target_report(b.targets[0], &permit, &report, b.now, &changes);
    }
    go(&b);
    wakes_after(&b, 10000, "");
    wakes_after(&b, 6000, "race b 16000; start 2 b");
    gone(&b);
    over(&b);
    bench_free(&b);
}

// ---- staying with a fallback ----------------------------------------------------------------------------

static const sj_sticky_rules stay = {.min_ms = 60000, .failures = 3};

static void next_exchange(bench *b) {
    sj_journey_free(&b->journey);
    b->plan.waiter.exchange_id++;
    b->plan.deadline_ms = b->now + 600000;
}

static void stays_with_the_fallback(void **unused) {
    (void)unused;
    bench b = bench_new(2);
    b.plan.sticky = sj_sticky_new(&stay);
    int64_t reopening = open_up(&b, 0);
    gives(&b, go(&b), "fallback b breaker_open; start 1 b");
    gives(&b, answer(&b, 200), "deliver 1");
    next_exchange(&b);
    gives(&b, go(&b), "fallback b sticky; start 1 b");
    gives(&b, answer(&b, 200), "deliver 1");
    // Its recovery time over, the strong one is probed by live requests; the first closes nothing yet.
    b.now = reopening;
    for (int i = 0; i < 2; i++) {
        next_exchange(&b);
        go(&b);
        assert_string_equal(bench_labels[b.steps.list[b.steps.count - 1].hop], "a");
        answer(&b, 200);
    }
    assert_int_equal(target_at(&b, 0).state, SJ_BREAKER_CLOSED);
    next_exchange(&b);
    gives(&b, go(&b), "fallback b sticky; start 1 b"); // closed, but the stay is young
    gives(&b, answer(&b, 200), "deliver 1");
    b.now += 60000;
    next_exchange(&b);
    gives(&b, go(&b), "start 1 a");
    gives(&b, answer(&b, 200), "deliver 1");
    over(&b);
    sj_sticky_free(&b.plan.sticky);
    bench_free(&b);
}

static void a_failing_fallback_turns_back(void **unused) {
    (void)unused;
    bench b = bench_new(2);
    b.policies[1].max_attempts = 1;
    b.plan.sticky = sj_sticky_new(&stay);
    sj_sticky_answered(b.plan.sticky, 1, true, b.now); // the strong one was shut, and is closed again
    for (int i = 0; i < 3; i++) {
        gives(&b, go(&b), "fallback b sticky; start 1 b");
        gives(&b, answer(&b, 500), "save 1; start 2 a"); // nobody is sacrificed
        gives(&b, answer(&b, 200), "deliver 2");
        next_exchange(&b);
    }
    gives(&b, go(&b), "start 1 a");
    gives(&b, answer(&b, 200), "deliver 1");
    over(&b);
    sj_sticky_free(&b.plan.sticky);
    bench_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_other_wins),
        cmocka_unit_test(the_silent_one_wins_after_all),
        cmocka_unit_test(an_error_never_beats_who_may_still_answer),
        cmocka_unit_test(whole_answers_race_to_their_end),
        cmocka_unit_test(no_race),
        cmocka_unit_test(any_model_by_option),
        cmocka_unit_test(a_race_never_queues),
        cmocka_unit_test(a_slow_target_is_given_twice_its_p95),
        cmocka_unit_test(stays_with_the_fallback),
        cmocka_unit_test(a_failing_fallback_turns_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
