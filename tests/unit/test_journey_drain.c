// The client has left and the running attempt is read on (BEHAVIOUR 2): in virtual time.
#include "journey_bench.h"

enum { DRAIN_MS = 30000 };

static bench bench_draining(size_t hops, bool stream) {
    bench b = bench_calm(hops);
    b.plan.drain_ms = DRAIN_MS;
    b.plan.stream = stream;
    return b;
}

static void without_the_option_it_is_cancelled(void **unused) {
    (void)unused;
    bench b = bench_draining(1, false);
    b.plan.drain_ms = 0;
    gives(&b, go(&b), "start 1 a");
    gives(&b, gone(&b), "cancel 1");
    over(&b);
    bench_free(&b);
}

static void an_answer_is_read_to_its_end(void **unused) {
    (void)unused;
    bench b = bench_draining(2, false);
    gives(&b, go(&b), "start 1 a");
    b.now += 100;
    gives(&b, gone(&b), "drain a 30000");
    gives(&b, gone(&b), "");
    assert_false(sj_journey_is_over(b.journey));
    assert_int_equal(sj_admission_read(b.admissions[0]).in_flight, 1); // the slot is held meanwhile
    assert_int_equal(due_in(&b), DRAIN_MS);
    b.now += 200;
    gives(&b, answer(&b, 200), "deliver 1");
    assert_int_equal(target_at(&b, 0).window_failures, 0);
    assert_int_equal(target_at(&b, 0).window_calls, 1);
    assert_string_equal(trail(&b), "a 200 300ms");
    over(&b);
    bench_free(&b);
}

static void a_stream_is_read_to_its_end(void **unused) {
    (void)unused;
    bench b = bench_draining(1, true);
    gives(&b, go(&b), "start 1 a");
    head(&b, 200);
    gives(&b, says(&b, SJ_SAYS_CONTENT), "commit 1");
    gives(&b, gone(&b), "drain a 30000");
    b.now += 20000;
    gives(&b, says(&b, SJ_SAYS_CONTENT), "");
    gives(&b, says(&b, SJ_SAYS_FINISH | SJ_SAYS_DONE | SJ_SAYS_WHOLE), "");
    assert_int_equal(due_in(&b), 5000); // silence behind the end completes it, as ever
    gives(&b, ended(&b, bench_over(SJ_END_WHOLE, 200)), "finish");
    over(&b);
    bench_free(&b);
}

static void it_ends_with_its_time(void **unused) {
    (void)unused;
    for (int committed = 0; committed < 2; committed++) {
        bench b = bench_draining(2, true);
        gives(&b, go(&b), "start 1 a");
        head(&b, 200);
        if (committed)
            gives(&b, says(&b, SJ_SAYS_CONTENT), "commit 1");
        gives(&b, gone(&b), "drain a 30000");
        b.now += DRAIN_MS / 2;
        gives(&b, says(&b, committed ? SJ_SAYS_CONTENT : 0), "");
        wakes_after(&b, DRAIN_MS / 2, "cancel 1");
        assert_string_equal(trail(&b), "a client_gone 30000ms");
        assert_int_equal(target_at(&b, 0).window_failures, 0);
        over(&b);
        bench_free(&b);
    }
}

// The client's own deadline has become nobody's; but an upstream that is silent for too long has failed all the same.
static void the_attempts_own_limits_hold(void **unused) {
    (void)unused;
    bench b = bench_draining(2, true);
    b.plan.deadline_ms = b.now + 1000;
    b.hops[0].first_byte_timeout_ms = 5000;
    gives(&b, go(&b), "start 1 a");
    gives(&b, gone(&b), "drain a 30000");
    wakes_after(&b, 5000, "cancel 1");
    assert_int_equal(target_at(&b, 0).window_failures, 1);
    over(&b);
    bench_free(&b);
}

static void nothing_new_is_started(void **unused) {
    (void)unused;
    static const int statuses[] = {500, 429, 402, 404};
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        bench b = bench_draining(2, false);
        gives(&b, go(&b), "start 1 a");
        gives(&b, gone(&b), "drain a 30000");
        answer(&b, statuses[i]);
        for (int k = 0; k < b.steps.count; k++)
            assert_int_not_equal(b.steps.list[k].kind, SJ_STEP_START);
        over(&b);
        bench_free(&b);
    }
    bench b = bench_draining(2, false);
    gives(&b, go(&b), "start 1 a");
    gives(&b, gone(&b), "drain a 30000");
    gives(&b, dies(&b, SJ_END_NEVER_SENT), ""); // not even the try that is for free
    over(&b);
    bench_free(&b);
}

static void who_waits_or_queues_leaves_at_once(void **unused) {
    (void)unused;
    bench b = bench_draining(1, false);
    gives(&b, go(&b), "start 1 a");
    gives(&b, answer(&b, 500), "retry a 500 backoff 500; save 1");
    gives(&b, gone(&b), "");
    over(&b);
    bench_free(&b);
    sj_target_rules rules = {sj_breaker_rules_default, sj_budget_rules_default};
    bench first = bench_with(1, &rules, 1, 8);
    gives(&first, go(&first), "start 1 a");
    bench second = bench_beside(&first, 2);
    second.plan.drain_ms = DRAIN_MS;
    gives(&second, go(&second), "queued a");
    gives(&second, gone(&second), "");
    left(&second);
    gives(&first, answer(&first, 200), "deliver 1");
    over(&first);
    bench_free(&first);
}

static void a_race_goes_on_but_none_begins(void **unused) {
    (void)unused;
    bench b = bench_draining(2, true);
    b.hops[0].race_after_ms = 1000;
    b.hops[0].race_other_model = true;
    gives(&b, go(&b), "start 1 a");
    wakes_after(&b, 1000, "race b 1000; start 2 b");
    gives(&b, gone(&b), "drain b 30000");
    head(&b, 200);
    gives(&b, says(&b, SJ_SAYS_CONTENT), "cancel 1; commit 2");
    gives(&b, ended(&b, bench_over(SJ_END_WHOLE, 200)), "finish");
    over(&b);
    bench_free(&b);
    b = bench_draining(2, true);
    b.hops[0].race_after_ms = 1000;
    b.hops[0].race_other_model = true;
    gives(&b, go(&b), "start 1 a");
    gives(&b, gone(&b), "drain a 30000");
    wakes_after(&b, DRAIN_MS, "cancel 1");
    over(&b);
    bench_free(&b);
}

static void who_comes_back_finds_it_going_on(void **unused) {
    (void)unused;
    bench b = bench_draining(2, true);
    b.plan.deadline_ms = b.now + 10000;
    b.plan.keepalive_ms = 2000;
    gives(&b, go(&b), "start 1 a");
    gives(&b, gone(&b), "drain a 30000");
    b.now += 9000;
    gives(&b, ring(&b), ""); // no sign of life for nobody
    sj_journey_client_back(b.journey, b.now + 20000, b.now);
    wakes_after(&b, 2000, "keepalive");
    gives(&b, answer(&b, 500), "retry a 500 backoff 500; save 1");
    wakes_after(&b, 500, "start 2 a");
    b.now = BENCH_START_MS + 28999;
    ring(&b);
    b.now++;
    gives(&b, ring(&b), "cancel 2; deliver saved a");
    over(&b);
    bench_free(&b);
}

static void who_joins_takes_no_sign_of_life_from_who_is_there(void **unused) {
    (void)unused;
    bench b = bench_draining(1, true);
    b.plan.keepalive_ms = 2000;
    gives(&b, go(&b), "start 1 a");
    b.now += 1500;
    sj_journey_client_back(b.journey, 0, b.now);
    wakes_after(&b, 500, "keepalive");
    gives(&b, sj_journey_abort(b.journey, "shutting_down", b.now, &b.steps), "cancel 1");
    over(&b);
    bench_free(&b);
}

static void the_programs_end_ends_it(void **unused) {
    (void)unused;
    bench b = bench_draining(1, true);
    gives(&b, go(&b), "start 1 a");
    gives(&b, gone(&b), "drain a 30000");
    gives(&b, sj_journey_abort(b.journey, "shutting_down", b.now, &b.steps), "cancel 1");
    gives(&b, sj_journey_abort(b.journey, "shutting_down", b.now, &b.steps), "");
    over(&b);
    bench_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_the_option_it_is_cancelled),
        cmocka_unit_test(an_answer_is_read_to_its_end),
        cmocka_unit_test(a_stream_is_read_to_its_end),
        cmocka_unit_test(it_ends_with_its_time),
        cmocka_unit_test(the_attempts_own_limits_hold),
        cmocka_unit_test(nothing_new_is_started),
        cmocka_unit_test(who_waits_or_queues_leaves_at_once),
        cmocka_unit_test(a_race_goes_on_but_none_begins),
        cmocka_unit_test(who_comes_back_finds_it_going_on),
        cmocka_unit_test(who_joins_takes_no_sign_of_life_from_who_is_there),
        cmocka_unit_test(the_programs_end_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
