// BEHAVIOUR 13 through the journey, and the two ends that may come at any moment: the deadline, and the client's leaving.
#include "journey_bench.h"

static bench narrow(size_t hops, int max_concurrent, int max_waiting) {
    sj_target_rules rules = {sj_breaker_rules_default, sj_budget_rules_default};
    return bench_with(hops, &rules, max_concurrent, max_waiting);
}

static void free_slots(bench *b, size_t hop, int in_flight, int waiting) {
    sj_admission_stats slots = sj_admission_read(b->admissions[hop]);
    assert_int_equal(slots.in_flight, in_flight);
    assert_int_equal(slots.waiting, waiting);
}

// ---- the queue ------------------------------------------------------------------------------------------

static void one_after_the_other(void **unused) {
    (void)unused;
    bench b = narrow(1, 1, 10), second = bench_beside(&b, 2), third = bench_beside(&b, 3);
    gives(&b, go(&b), "start 1 a");
    gives(&second, go(&second), "queued a");
    gives(&third, go(&third), "queued a");
    assert_int_equal(due_in(&second), 300000);
    free_slots(&b, 0, 1, 2);
    gives(&second, granted(&second), ""); // a message for another, or a late one
    b.now += 700;
    gives(&b, answer(&b, 200), "grant 2; deliver 1");
    second.now = third.now = b.now;
    gives(&second, granted(&second), "start 1 a");
    gives(&second, granted(&second), "");
    assert_string_equal(trail(&second), "queue 700ms, a");
    assert_int_equal(sj_journey_read(second.journey).queue_ms, 700);
    gives(&second, answer(&second, 200), "grant 3; deliver 1");
    gives(&third, granted(&third), "start 1 a");
    gives(&third, answer(&third, 200), "deliver 1");
    left(&second);
    left(&third);
    over(&b);
    bench_free(&b);
}

static void a_retry_waits_without_a_slot(void **unused) {
    (void)unused;
    bench b = narrow(1, 1, 10), second = bench_beside(&b, 2);
    go(&b);
    go(&second);
    gives(&b, answer(&b, 503), "grant 2; retry a 500 backoff 503; save 1");
    gives(&second, granted(&second), "start 1 a");
    wakes_after(&b, 500, "queued a");
    assert_int_equal(spent(&b, 0), 14); // kept through the queue
    second.now = b.now;
    gives(&second, answer(&second, 200), "grant 1; deliver 1");
    gives(&b, granted(&b), "start 2 a");
    gives(&b, answer(&b, 200), "deliver 2");
    left(&second);
    over(&b);
    bench_free(&b);
}

// It was there first.
static void a_retry_stands_before_those_who_came_later(void **unused) {
    (void)unused;
    bench b = narrow(1, 1, 10), second = bench_beside(&b, 2), third = bench_beside(&b, 3);
    go(&b);
    second.now += 100;
    third.now += 200;
    go(&second);
    go(&third);
    gives(&b, answer(&b, 503), "grant 2; retry a 500 backoff 503; save 1");
    gives(&second, granted(&second), "start 1 a");
    wakes_after(&b, 500, "queued a");
    second.now = b.now;
    gives(&second, answer(&second, 200), "grant 1; deliver 1");
    gives(&b, granted(&b), "start 2 a");
    gives(&b, answer(&b, 200), "grant 3; deliver 2");
    gives(&third, gone(&third), "");
    left(&second);
    left(&third);
    over(&b);
    bench_free(&b);
}

static void a_grant_that_comes_too_late_goes_on(void **unused) {
    (void)unused;
    bench b = narrow(1, 1, 10), second = bench_beside(&b, 2), third = bench_beside(&b, 3);
    go(&b);
    go(&second);
    go(&third);
    gives(&b, answer(&b, 200), "grant 2; deliver 1");
    gives(&second, gone(&second), "grant 3"); // its message is still on the way
    gives(&second, granted(&second), "");
    gives(&third, granted(&third), "start 1 a");
    gives(&third, answer(&third, 200), "deliver 1");
    left(&second);
    left(&third);
    over(&b);
    bench_free(&b);
}

static void one_who_leaves_the_queue_wakes_nobody(void **unused) {
    (void)unused;
    bench b = narrow(1, 1, 10), second = bench_beside(&b, 2);
    go(&b);
    go(&second);
    gives(&second, gone(&second), "");
    free_slots(&b, 0, 1, 0);
    left(&second);
    gives(&b, answer(&b, 200), "deliver 1");
    over(&b);
    bench_free(&b);
}

static void the_queues_own_timeout(void **unused) {
    (void)unused;
    bench b = narrow(1, 1, 10), second = bench_beside(&b, 2), third = bench_beside(&b, 3);
    go(&b);
    gives(&second, go(&second), "queued a");
    wakes_after(&second, 300000, "refuse queue_timeout");
    assert_string_equal(trail(&second), "queue 300000ms");
    assert_int_equal(sj_journey_read(second.journey).queue_ms, 300000);
    assert_in_range(second.steps.list[0].retry_after_s, 10, 17); // nothing ever moved here
    left(&second);
    gives(&third, go(&third), "queued a");
    gives(&b, answer(&b, 200), "grant 3; deliver 1");
    wakes_after(&third, 300000, "start 1 a"); // granted, only the message had not come
    gives(&third, answer(&third, 200), "deliver 1");
    left(&third);
    over(&b);
    bench_free(&b);
}

static void the_queues_timeout_with_an_answer_in_hand(void **unused) {
    (void)unused;
    bench b = narrow(1, 1, 10), second = bench_beside(&b, 2);
    go(&b);
    go(&second);
    answer(&b, 503);
    gives(&second, granted(&second), "start 1 a");
    wakes_after(&b, 500, "queued a");
    wakes_after(&b, 300000, "deliver saved a");
    assert_int_equal(spent(&b, 0), 0);
    left(&b);
    second.now = b.now;
    gives(&second, answer(&second, 200), "deliver 1");
    over(&second);
    bench_free(&b);
}

static void full(void **unused) {
    (void)unused;
    bench b = narrow(1, 1, 1), second = bench_beside(&b, 2), third = bench_beside(&b, 3);
    go(&b);
    go(&second);
    gives(&third, go(&third), "refuse queue_full");
    assert_in_range(third.steps.list[0].retry_after_s, 10, 17);
    left(&third);
    gives(&b, answer(&b, 503), "grant 2; retry a 500 backoff 503; save 1");
    gives(&second, granted(&second), "start 1 a");
    bench fourth = bench_beside(&b, 4);
    gives(&fourth, go(&fourth), "queued a");
    wakes_after(&b, 500, "deliver saved a"); // full for a retry: what it has is given
    assert_int_equal(spent(&b, 0), 0);
    gives(&fourth, gone(&fourth), "");
    gives(&second, gone(&second), "cancel 1");
    left(&fourth);
    left(&second);
    over(&b);
    bench_free(&b);
}

// The breaker opens while they queue: each grant is handed on, and its holder waits for the reopening.
static void granted_at_a_shut_target(void **unused) {
    (void)unused;
    bench b = narrow(2, 1, 10), second = bench_beside(&b, 2), third = bench_beside(&b, 3);
    third.plan.hop_count = 1;
    go(&b);
    go(&second);
    go(&third);
    sj_changes changes;
    sj_target_force(b.targets[0], SJ_BREAKER_FORCED_OPEN, b.now, &changes);
    gives(&b, answer(&b, 200), "grant 2; deliver 1");
    gives(&second, granted(&second), "grant 3; fallback b breaker_open; start 1 b");
    gives(&third, granted(&third), "refuse circuit_open");
    gives(&second, answer(&second, 200), "deliver 1");
    left(&second);
    left(&third);
    over(&b);
    bench_free(&b);
}

static void granted_at_a_gate(void **unused) {
    (void)unused;
    bench b = narrow(1, 1, 10), second = bench_beside(&b, 2);
    go(&b);
    go(&second);
    answer_hint(&b, 429, 3000);
    gives(&b, gone(&b), "");
    left(&b);
    gives(&second, granted(&second), "");
    while (!second.attempt)
        sleep_till_due(&second);
    assert_in_range(second.now, BENCH_START_MS + 3000, BENCH_START_MS + 4500);
    gives(&second, answer(&second, 200), "deliver 1");
    over(&second);
    bench_free(&b);
}

// The strong upstream hangs with all of its slots taken, the next one is idle: as with a gate, fallback_gate is as long as one waits.
static void a_slow_queue_is_gone_round(void **unused) {
    (void)unused;
    bench b = narrow(2, 1, 10), second = bench_beside(&b, 2), third = bench_beside(&b, 3);
    third.plan.hop_count = 1;
    go(&b);
    gives(&second, go(&second), "queued a");
    gives(&third, go(&third), "queued a");
    assert_int_equal(due_in(&third), 300000); // nowhere else to go
    wakes_after(&second, 10000, "fallback b queue_slow; start 1 b");
    assert_string_equal(sj_journey_read(second.journey).fallback, "queue_slow");
    gives(&second, answer(&second, 200), "deliver 1");
    left(&second);
    gives(&b, answer(&b, 200), "grant 3; deliver 1");
    third.now = b.now;
    gives(&third, granted(&third), "start 1 a");
    gives(&third, answer(&third, 200), "deliver 1");
    left(&third);
    over(&b);
    bench_free(&b);
}

static void a_slow_queue_is_kept_while_nobody_else_is_free(void **unused) {
    (void)unused;
    bench b = narrow(2, 1, 10), other = bench_beside(&b, 2), second = bench_beside(&b, 3);
    go(&b);
    sj_target_gate(b.targets[0], BENCH_KEY, b.now + 60000, b.now, b.now);
    gives(&other, go(&other), "fallback b gated; start 1 b");
    sj_changes changes;
    second.hops[0].credential = BENCH_KEY + 1;
    gives(&second, go(&second), "queued a");
    wakes_after(&second, 10000, "");
    wakes_after(&second, 1000, ""); // looks again, and keeps its place
    other.now = second.now;
    gives(&other, answer(&other, 200), "deliver 1");
    sj_target_force(b.targets[1], SJ_BREAKER_FORCED_OPEN, second.now, &changes);
    wakes_after(&second, 1000, "");
    sj_target_force(b.targets[1], SJ_BREAKER_CLOSED, second.now, &changes);
    wakes_after(&second, 1000, "fallback b queue_slow; start 1 b");
    gives(&second, answer(&second, 200), "deliver 1");
    left(&other);
    left(&second);
    gives(&b, answer(&b, 200), "deliver 1");
    over(&b);
    bench_free(&b);
}

// Two models at one upstream share its slots.
static void one_upstream_with_two_targets(void **unused) {
    (void)unused;
    bench b = narrow(2, 1, 10);
    sj_target_rules rules = {sj_breaker_rules_default, sj_budget_rules_default};
    sj_target_unref(&b.targets[1]);
    b.targets[1] = sj_target_new("b", 101, &rules, b.admissions[0], b.global, 1, b.now);
    b.hops[1].target = b.targets[1];
    b.policies[0].max_attempts_before_fallback = 1;
    go(&b);
    gives(&b, answer(&b, 503), "fallback b 503; save 1; start 2 b");
    free_slots(&b, 0, 1, 0);
    gives(&b, answer(&b, 200), "deliver 2");
    over(&b);
    bench_free(&b);
}

// ---- every state ----------------------------------------------------------------------------------------

static void is_new(bench *b) {
    b->plan.hops = b->hops;
    for (int i = 0; i < 2; i++)
        b->hops[i].retry = &b->policies[i];
    b->journey = sj_journey_new(&b->plan);
}

static void is_queued(bench *b) {
    sj_waiter other = {.exchange_id = 500};
    assert_true(sj_admission_try(b->admissions[0], &other, b->now));
    gives(b, go(b), "queued a");
}

static void is_granted(bench *b) {
    is_queued(b);
    sj_wake wake;
    sj_admission_release(b->admissions[0], b->now, &wake);
    assert_true(wake.set && wake.waiter.exchange_id == 1);
}

static void is_attempting(bench *b) {
    gives(b, go(b), "start 1 a");
}

static void has_a_head(bench *b) {
    is_attempting(b);
    head(b, 200);
}

static void waits_for_a_retry(bench *b) {
    is_attempting(b);
    dies(b, SJ_END_NO_ANSWER);
    assert_int_equal(due_in(b), 500);
}

static void waits_with_an_answer(bench *b) {
    is_attempting(b);
    answer_hint(b, 429, 9000);
}

static void is_at_a_gate(bench *b) {
    sj_target_gate(b->targets[0], BENCH_KEY, b->now + 9000, b->now, b->now);
    gives(b, go(b), "");
}

static void waits_for_a_reopening(bench *b) {
    sj_changes changes;
    sj_target_force(b->targets[1], SJ_BREAKER_FORCED_OPEN, b->now, &changes);
    open_up(b, 0);
    gives(b, go(b), "");
}

static void is_at_the_fallback(bench *b) {
    is_attempting(b);
    gives(b, dies(b, SJ_END_TIMED_OUT), "fallback b timeout; start 2 b");
}

static void is_committed(bench *b) {
    has_a_head(b);
    gives(b, says(b, SJ_SAYS_CONTENT), "commit 1");
}

static void was_answered(bench *b) {
    is_attempting(b);
    gives(b, answer(b, 200), "deliver 1");
}

static const struct state_row {
    const char *name;
    void (*enter)(bench *b);
    const char *on_gone, *on_deadline;
    bool occupied; // by somebody else
} states[] = {
    {"new", is_new, "", "refuse deadline_exceeded", false},
    {"queued", is_queued, "", "refuse deadline_exceeded", true},
    {"granted", is_granted, "", "refuse deadline_exceeded", false},
    {"attempting", is_attempting, "cancel 1", "cancel 1; refuse deadline_exceeded", false},
    {"head", has_a_head, "cancel 1", "cancel 1; refuse deadline_exceeded", false},
    {"backoff", waits_for_a_retry, "", "refuse deadline_exceeded", false},
    {"hint", waits_with_an_answer, "", "deliver saved a", false},
    {"gate", is_at_a_gate, "", "refuse deadline_exceeded", false},
    {"reopening", waits_for_a_reopening, "", "refuse deadline_exceeded", false},
    {"fallback", is_at_the_fallback, "cancel 2", "cancel 2; refuse deadline_exceeded", false},
    {"committed", is_committed, "cancel 1", NULL, false},
    {"over", was_answered, "", NULL, false},
};

static void check_given_back(bench *b, const struct state_row *state) {
    if (state->occupied) {
        free_slots(b, 0, 1, 0);
        sj_wake wake;
        sj_admission_release(b->admissions[0], b->now, &wake);
        assert_false(wake.set);
    }
    assert_int_equal(b->budget[0] - target_at(b, 0).budget_available, 0);
    over(b);
    bench_free(b);
}

static bench in_state(const struct state_row *state) {
    (void)state;
    bench b = narrow(2, 1, 10);
    b.plan.stream = true;
    b.budget[0] = target_at(&b, 0).budget_available;
    return b;
}

static void expect(bench *b, const struct state_row *state, const char *event, const char *expected) {
    if (strcmp(bench_tell(b), expected) != 0)
        fail_msg("%s, %s: \"%s\" instead of \"%s\"", state->name, event, bench_tell(b), expected);
}

static void the_client_leaves(void **unused) {
    (void)unused;
    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        bench b = in_state(&states[i]);
        states[i].enter(&b);
        gone(&b);
        expect(&b, &states[i], "gone", states[i].on_gone);
        gives(&b, gone(&b), ""); // idempotent
        check_given_back(&b, &states[i]);
    }
}

static void arrive_at_the_deadline(bench *b, const struct state_row *state) {
    state->enter(b);
    b->now = b->plan.deadline_ms;
    if (strcmp(state->name, "new") == 0)
        sj_journey_admitted(b->journey, b->now, &b->steps);
    else
        ring(b);
}

static void the_deadline_passes(void **unused) {
    (void)unused;
    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        if (!states[i].on_deadline)
            continue;
        bench b = in_state(&states[i]);
        for (int hop = 0; hop < 2; hop++)
            b.hops[hop].first_byte_timeout_ms = b.hops[hop].idle_timeout_ms = 3600000;
        b.plan.deadline_ms = b.now + 20000;
        arrive_at_the_deadline(&b, &states[i]);
        expect(&b, &states[i], "deadline", states[i].on_deadline);
        check_given_back(&b, &states[i]);
    }
}

// Other news may be read before the timer rings: nothing starts then.
static void news_at_the_deadline_starts_nothing(void **unused) {
    (void)unused;
    static const sj_end ends[] = {SJ_END_NEVER_SENT, SJ_END_STALE,  SJ_END_NO_ANSWER,
                                  SJ_END_TIMED_OUT,  SJ_END_BROKEN, SJ_END_GARBAGE};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        bench b = bench_new(2);
        go(&b);
        b.now = b.plan.deadline_ms + (int64_t)(i % 2);
        gives(&b, dies(&b, ends[i]), "refuse deadline_exceeded");
        over(&b);
        bench_free(&b);
    }
    bench b = bench_new(2);
    go(&b);
    b.now = b.plan.deadline_ms;
    gives(&b, answer(&b, 503), "save 1; deliver saved a");
    over(&b);
    b.plan.deadline_ms = b.now + 1000;
    go(&b);
    b.now = b.plan.deadline_ms;
    gives(&b, answer_code(&b, 429, "insufficient_quota"), "save 1; deliver saved a");
    over(&b);
    bench_free(&b);
}

static void a_grant_at_the_deadline_is_handed_on(void **unused) {
    (void)unused;
    bench b = narrow(1, 1, 10), second = bench_beside(&b, 2), third = bench_beside(&b, 3);
    second.plan.deadline_ms = b.now + 1000;
    go(&b);
    go(&second);
    go(&third);
    gives(&b, answer(&b, 200), "grant 2; deliver 1");
    second.now = second.plan.deadline_ms;
    gives(&second, granted(&second), "grant 3; refuse deadline_exceeded");
    gives(&third, granted(&third), "start 1 a");
    gives(&third, answer(&third, 200), "deliver 1");
    left(&second);
    left(&third);
    over(&b);
    bench_free(&b);
}

// An answer that is just there is worth more than the clock.
static void content_at_the_deadline_is_committed(void **unused) {
    (void)unused;
    bench b = bench_new(1);
    b.plan.stream = true;
    b.plan.deadline_ms = b.now + 1000;
    go(&b);
    head(&b, 200);
    b.now = b.plan.deadline_ms;
    gives(&b, says(&b, SJ_SAYS_CONTENT), "commit 1");
    gives(&b, ring(&b), "");
    gives(&b, gone(&b), "cancel 1");
    over(&b);
    bench_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_after_the_other),
        cmocka_unit_test(a_retry_waits_without_a_slot),
        cmocka_unit_test(a_retry_stands_before_those_who_came_later),
        cmocka_unit_test(a_grant_that_comes_too_late_goes_on),
        cmocka_unit_test(one_who_leaves_the_queue_wakes_nobody),
        cmocka_unit_test(the_queues_own_timeout),
        cmocka_unit_test(the_queues_timeout_with_an_answer_in_hand),
        cmocka_unit_test(full),
        cmocka_unit_test(granted_at_a_shut_target),
        cmocka_unit_test(granted_at_a_gate),
        cmocka_unit_test(a_slow_queue_is_gone_round),
        cmocka_unit_test(a_slow_queue_is_kept_while_nobody_else_is_free),
        cmocka_unit_test(one_upstream_with_two_targets),
        cmocka_unit_test(the_client_leaves),
        cmocka_unit_test(the_deadline_passes),
        cmocka_unit_test(news_at_the_deadline_starts_nothing),
        cmocka_unit_test(a_grant_at_the_deadline_is_handed_on),
        cmocka_unit_test(content_at_the_deadline_is_committed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
