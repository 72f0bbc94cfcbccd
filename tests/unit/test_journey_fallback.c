// BEHAVIOUR 9 through the journey (without stickiness): one pass down the chain, why it goes on, and which answer is given in the end.
#include "journey_bench.h"

// ---- one pass -------------------------------------------------------------------------------------------

static void strong_then_cheap(void **unused) {
    (void)unused;
    bench b = bench_new(2);
    gives(&b, go(&b), "start 1 a");
    b.now += 410;
    gives(&b, answer(&b, 503), "retry a 500 backoff 503; save 1");
    wakes_after(&b, 500, "start 2 a");
    gives(&b, answer(&b, 503), "fallback b 503; save 2; start 3 b");
    b.now += 150;
    gives(&b, answer(&b, 200), "deliver 3");
    assert_string_equal(trail(&b), "a 503 410ms, wait 500ms, a 503 0ms, b 200 150ms");
    sj_journey_summary summary = sj_journey_read(b.journey);
    assert_int_equal(summary.attempts_sent, 3);
    assert_int_equal(summary.retries, 1);
    assert_int_equal(summary.hop, 1);
    assert_string_equal(summary.fallback, "503");
    assert_int_equal(summary.wait_ms, 500);
    assert_int_equal(summary.upstream_ms, 150);
    assert_int_equal(spent(&b, 0), 14);
    assert_int_equal(spent(&b, 1), 0); // a hop's first attempt is free
    over(&b);
    bench_free(&b);
}

// Two attempts at each but the last, five there; never back again.
static void all_fail(void **unused) {
    (void)unused;
    bench b = bench_calm(3);
    static const char order[] = "aabbccccc";
    go(&b);
    for (int i = 0; order[i]; i++) {
        assert_int_equal(bench_labels[b.steps.list[b.steps.count - 1].hop][0], order[i]);
        answer(&b, i == 1 ? 502 : 503);
        if (!sj_journey_is_over(b.journey) && order[i] == order[i + 1])
            sleep_till_due(&b);
    }
    assert_string_equal(bench_tell(&b), "deliver saved a");
    sj_journey_summary summary = sj_journey_read(b.journey);
    assert_int_equal(summary.attempts_sent, 9);
    assert_int_equal(summary.hop, 0);
    assert_null(summary.fallback); // it was the first target's answer
    over(&b);
    bench_free(&b);
}

// ---- what is delivered when all fail --------------------------------------------------------------------

static void the_first_target_that_gave_an_answer(void **unused) {
    (void)unused;
    bench b = bench_calm(3);
    for (int i = 0; i < 3; i++)
        b.policies[i].max_attempts = b.policies[i].max_attempts_before_fallback = 1;
    go(&b);
    gives(&b, dies(&b, SJ_END_TIMED_OUT), "fallback b timeout; start 2 b");
    b.now += 30;
    gives(&b, answer(&b, 503), "fallback c 503; save 2; start 3 c");
    b.now += 70;
    gives(&b, answer(&b, 500), "deliver saved b");
    sj_journey_summary summary = sj_journey_read(b.journey);
    assert_int_equal(summary.hop, 1);
    assert_int_equal(summary.upstream_ms, 30);
    assert_string_equal(summary.fallback, "timeout");
    over(&b);
    bench_free(&b);
}

static void a_fallbacks_own_refusal_hides_nothing(void **unused) {
    (void)unused;
    static const int refusals[] = {400, 401, 402, 404, 422};
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        bench b = bench_calm(2);
        b.policies[0].max_attempts_before_fallback = 1;
        go(&b);
        gives(&b, answer(&b, 503), "fallback b 503; save 1; start 2 b");
        answer(&b, refusals[i]);
        const char *told = bench_tell(&b);
        assert_string_equal(refusals[i] == 401 ? told + strlen("alert b 401; ") : told, "deliver saved a");
        over(&b);
        bench_free(&b);
    }
}

static void the_only_real_answer_is_given_whoever_gave_it(void **unused) {
    (void)unused;
    bench b = bench_calm(2);
    go(&b);
    gives(&b, dies(&b, SJ_END_TIMED_OUT), "fallback b timeout; start 2 b");
    gives(&b, answer(&b, 400), "deliver 2");
    over(&b);
    bench_free(&b);
}

static void without_any_answer_our_own(void **unused) {
    (void)unused;
    static const struct {
        sj_end end;
        const char *expected;
    } lasts[] = {
        {SJ_END_NO_ANSWER, "refuse max_retries_exceeded"},
        {SJ_END_GARBAGE, "refuse max_retries_exceeded"},
        {SJ_END_TIMED_OUT, "refuse timeout_max_retries"},
        {SJ_END_TLS_UNVERIFIED, "alert b tls; refuse upstream_unreachable"},
    };
    for (size_t i = 0; i < sizeof lasts / sizeof *lasts; i++) {
        bench b = bench_calm(2);
        b.policies[0].max_attempts_before_fallback = b.policies[1].max_attempts = 1;
        go(&b);
        gives(&b, dies(&b, SJ_END_NO_ANSWER), "fallback b reset; start 2 b");
        gives(&b, dies(&b, lasts[i].end), lasts[i].expected);
        assert_int_equal(sj_journey_read(b.journey).hop, 1);
        over(&b);
        bench_free(&b);
    }
}

// ---- reasons to go on -----------------------------------------------------------------------------------

static void budget_refused(void **unused) {
    (void)unused;
    bench b = bench_new(2);
    drain_budget(&b, 0, 10);
    sj_charge floor;
    assert_true(sj_target_charge(b.targets[0], false, b.now, &floor));
    go(&b);
    gives(&b, answer(&b, 503), "no budget a; fallback b budget; save 1; start 2 b");
    gives(&b, answer(&b, 503), "retry b 500 backoff 503"); // its own budget
    gives(&b, gone(&b), "");
    over(&b);
    bench_free(&b);
}

static void queue_full_there(void **unused) {
    (void)unused;
    sj_target_rules rules = {sj_breaker_rules_default, sj_budget_rules_default};
    bench b = bench_with(2, &rules, 1, 0), second = bench_beside(&b, 2), third = bench_beside(&b, 3);
    gives(&b, go(&b), "start 1 a");
    gives(&second, go(&second), "fallback b queue_full; start 1 b");
    gives(&third, go(&third), "refuse queue_full");
    assert_in_range(third.steps.list[0].retry_after_s, 10, 17);
    gives(&second, answer(&second, 200), "deliver 1");
    gives(&b, answer(&b, 200), "deliver 1");
    left(&second);
    left(&third);
    over(&b);
    bench_free(&b);
}

static void a_silent_target_is_not_asked_twice(void **unused) {
    (void)unused;
    bench b = bench_new(2);
    go(&b);
    wakes_after(&b, 600000, "cancel 1; refuse deadline_exceeded"); // answer_timeout is as long
    over(&b);
    b.hops[0].answer_timeout_ms = 60000;
    b.plan.deadline_ms = b.now + 600000;
    go(&b);
    wakes_after(&b, 60000, "fallback b timeout; cancel 1; start 2 b");
    gives(&b, answer(&b, 200), "deliver 2");
    over(&b);
    bench_free(&b);
    b = bench_new(1);
    b.hops[0].answer_timeout_ms = 60000;
    go(&b);
    wakes_after(&b, 60000, "retry a 500 backoff timeout; cancel 1"); // nobody else is there
    gives(&b, gone(&b), "");
    assert_int_equal(spent(&b, 0), 0);
    over(&b);
    bench_free(&b);
}

static void too_long_goes_to_a_longer_context(void **unused) {
    (void)unused;
    bench b = bench_calm(4);
    static const int64_t contexts[] = {8000, 8000, 32000, 0};
    for (int i = 0; i < 4; i++) {
        b.hops[i].context_tokens = contexts[i];
        b.policies[i].max_attempts = b.policies[i].max_attempts_before_fallback = 1;
    }
    go(&b);
    gives(&b, answer_code(&b, 400, "context_length_exceeded"), "fallback c too_long; save 1; start 2 c");
    gives(&b, answer(&b, 503), "fallback d 503; start 3 d");
    gives(&b, answer(&b, 503), "deliver saved a"); // not b, which was skipped
    over(&b);
    bench_free(&b);
    b = bench_calm(2); // nothing declared: simply the next
    go(&b);
    gives(&b, answer_code(&b, 400, "context_length_exceeded"), "fallback b too_long; save 1; start 2 b");
    gives(&b, answer_code(&b, 400, "context_length_exceeded"), "deliver saved a"); // never the same again
    over(&b);
    bench_free(&b);
}

static void a_shut_one_in_between_is_passed(void **unused) {
    (void)unused;
    bench b = bench_new(3);
    open_up(&b, 1);
    b.policies[0].max_attempts_before_fallback = 1;
    go(&b);
    gives(&b, answer(&b, 502), "fallback c breaker_open; save 1; start 2 c");
    assert_string_equal(sj_journey_read(b.journey).fallback, "breaker_open");
    gives(&b, answer(&b, 200), "deliver 2");
    over(&b);
    bench_free(&b);
}

// With nobody able to take over, the target has all of its attempts.
static void a_chain_whose_rest_is_shut_is_a_single_target(void **unused) {
    (void)unused;
    bench b = bench_calm(2);
    sj_changes changes;
    sj_target_force(b.targets[1], SJ_BREAKER_FORCED_OPEN, b.now, &changes);
    go(&b);
    for (int i = 0; i < 4; i++) {
        answer(&b, 503);
        sleep_till_due(&b);
    }
    assert_int_equal(b.attempt, 5);
    gives(&b, answer(&b, 503), "save 5; deliver saved a");
    over(&b);
    bench_free(&b);
}

// ---- who may not move -----------------------------------------------------------------------------------

static void a_body_that_cannot_be_spliced_skips_other_models(void **unused) {
    (void)unused;
    bench b = bench_calm(3);
    b.plan.movable = false;
    b.hops[2].rewrites_model = false; // the same model elsewhere
    b.policies[0].max_attempts_before_fallback = 1;
    go(&b);
    gives(&b, answer(&b, 503), "fallback c 503; save 1; start 2 c");
    gives(&b, answer(&b, 200), "deliver 2");
    over(&b);
    bench_free(&b);
}

static void a_bound_body_keeps_its_upstream(void **unused) {
    (void)unused;
    bench b = bench_calm(3);
    b.plan.bound = true;
    b.hops[0].same_upstream = b.hops[2].same_upstream = true;
    b.policies[0].max_attempts_before_fallback = 1;
    go(&b);
    gives(&b, answer(&b, 503), "fallback c 503; save 1; start 2 c");
    gives(&b, answer(&b, 200), "deliver 2");
    over(&b);
    b.hops[0].same_upstream = b.hops[2].same_upstream = false;
    gives(&b, go(&b), "start 1 a"); // bound to nothing known: the first one it is
    gives(&b, answer(&b, 503), "retry a 500 backoff 503; save 1");
    gives(&b, gone(&b), "");
    over(&b);
    bench_free(&b);
}

static void other_methods_never_move(void **unused) {
    (void)unused;
    bench b = bench_calm(2);
    b.plan.repeat = SJ_REPEAT_SAFE;
    b.policies[0].max_attempts = 2;
    go(&b);
    gives(&b, answer(&b, 503), "retry a 500 backoff 503; save 1");
    wakes_after(&b, 500, "start 2 a");
    gives(&b, answer(&b, 503), "save 2; deliver saved a");
    over(&b);
    sj_changes changes;
    sj_target_force(b.targets[0], SJ_BREAKER_FORCED_OPEN, b.now, &changes);
    gives(&b, go(&b), "refuse circuit_open");
    over(&b);
    bench_free(&b);
}

// ---- what people read -----------------------------------------------------------------------------------

static void the_message_says_what_was_tried(void **unused) {
    (void)unused;
    bench b = bench_calm(2);
    b.policies[0].max_attempts_before_fallback = b.policies[1].max_attempts = 1;
    go(&b);
    b.now += 20;
    dies(&b, SJ_END_NO_ANSWER);
    b.now += 30;
    gives(&b, dies(&b, SJ_END_TIMED_OUT), "refuse timeout_max_retries");
    char message[1024];
    sj_journey_message(b.journey, SJ_REFUSAL_TIMEOUT_MAX_RETRIES, message, sizeof message);
    assert_non_null(strstr(message, " Tried: a reset 20ms, b timeout 30ms."));
    sj_journey_message(b.journey, SJ_REFUSAL_TIMEOUT_MAX_RETRIES, message, 30);
    assert_int_equal(strlen(message), 29);
    over(&b);
    bench_free(&b);
}

// However long it takes, the trail keeps its beginning and its end.
static void a_long_trail_keeps_its_ends(void **unused) {
    (void)unused;
    bench b = bench_calm(1);
    b.policies[0].max_attempts = 30;
    b.policies[0].backoff.cap_ms = 1000;
    go(&b);
    for (int i = 0; i < 20; i++) {
        answer(&b, i == 1 ? 502 : 503);
        sleep_till_due(&b);
    }
    b.now += 77;
    gives(&b, answer(&b, 200), "deliver 21");
    const char *text = trail(&b);
    assert_int_equal(strncmp(text, "a 503 0ms, wait 500ms, a 502 0ms", 32), 0);
    assert_string_equal(text + strlen(text) - 17, ", ..., a 200 77ms");
    char small[24];
    sj_journey_trail(b.journey, b.now, small, sizeof small);
    assert_string_equal(small, "a 503 0ms, wait 500ms, ");
    over(&b);
    bench_free(&b);
}

static void a_running_attempt_stands_in_the_trail(void **unused) {
    (void)unused;
    bench b = bench_calm(1);
    go(&b);
    assert_string_equal(trail(&b), "a");
    b.now += 40;
    head(&b, 200);
    assert_string_equal(trail(&b), "a 200 40ms");
    assert_int_equal(sj_journey_read(b.journey).attempts_sent, 1);
    gives(&b, gone(&b), "cancel 1");
    assert_string_equal(trail(&b), "a client_gone 40ms");
    over(&b);
    bench_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strong_then_cheap),
        cmocka_unit_test(all_fail),
        cmocka_unit_test(the_first_target_that_gave_an_answer),
        cmocka_unit_test(a_fallbacks_own_refusal_hides_nothing),
        cmocka_unit_test(the_only_real_answer_is_given_whoever_gave_it),
        cmocka_unit_test(without_any_answer_our_own),
        cmocka_unit_test(budget_refused),
        cmocka_unit_test(queue_full_there),
        cmocka_unit_test(a_silent_target_is_not_asked_twice),
        cmocka_unit_test(too_long_goes_to_a_longer_context),
        cmocka_unit_test(a_shut_one_in_between_is_passed),
        cmocka_unit_test(a_chain_whose_rest_is_shut_is_a_single_target),
        cmocka_unit_test(a_body_that_cannot_be_spliced_skips_other_models),
        cmocka_unit_test(a_bound_body_keeps_its_upstream),
        cmocka_unit_test(other_methods_never_move),
        cmocka_unit_test(the_message_says_what_was_tried),
        cmocka_unit_test(a_long_trail_keeps_its_ends),
        cmocka_unit_test(a_running_attempt_stands_in_the_trail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
