// What the journey tells an upstream's limit and pace, and what it does as they say (BEHAVIOUR 13).
#include "journey_bench.h"

static bench with(const sj_admission_rules *rules) {
    bench b = bench_calm(1);
    b.policies[0].max_attempts = 1;
    sj_admission_set_rules(b.admissions[0], rules);
    return b;
}

static sj_admission_rules slots(int max) {
    return (sj_admission_rules){
        .max_concurrent = max, .max_waiting = 100, .timeout_ms = 60000, .adaptive = true};
}

static int limit(const bench *b) {
    return sj_admission_read(b->admissions[0]).limit;
}

// ---- what moves the limit -------------------------------------------------------------------------------

static void connect_times_out(bench *b) {
    sj_attempt_over over = bench_over(SJ_END_NEVER_SENT, 0);
    over.connect_timed_out = true;
    ended(b, over);
}
static void stream_begins_with_rate_limit(bench *b) {
    head(b, 200);
    error_event(b, "rate_limit_exceeded");
}
static void quota(bench *b) {
    answer_code(b, 429, "insufficient_quota");
}
static void is_429(bench *b) {
    answer(b, 429);
}
static void is_503(bench *b) {
    answer(b, 503);
}
static void is_529(bench *b) {
    answer(b, 529);
}
static void is_500(bench *b) {
    answer(b, 500);
}
static void is_400(bench *b) {
    answer(b, 400);
}
static void is_refused(bench *b) {
    dies(b, SJ_END_NEVER_SENT);
}
static void times_out(bench *b) {
    dies(b, SJ_END_TIMED_OUT);
}

static const struct lesson {
    const char *name;
    void (*end)(bench *b);
    int cut_after; // of them in a row; 0: nothing is learnt
} lessons[] = {
    {"429", is_429, 10},
    {"529", is_529, 10},
    {"503", is_503, 40},
    {"connect timeout", connect_times_out, 40},
    {"error event", stream_begins_with_rate_limit, 10},
    {"quota", quota, 0},
    {"500", is_500, 0},
    {"400", is_400, 0},
    {"connection refused", is_refused, 0},
    {"timeout", times_out, 0},
    {"client gone", gone, 0},
};

static void one_exchange(bench *b, void (*end)(bench *b)) {
    b->plan.waiter.exchange_id++;
    go(b);
    while (!sj_journey_is_over(b->journey)) {
        end(b);
        if (!sj_journey_is_over(b->journey) && sj_journey_read(b->journey).attempts_sent > 0)
            gone(b);
    }
    sj_journey_free(&b->journey);
}

enum { MANY = 60 };

static void what_is_congestion(void **unused) {
    (void)unused;
    for (size_t i = 0; i < sizeof lessons / sizeof *lessons; i++) {
        sj_admission_rules rules = slots(10);
        bench b = with(&rules);
        b.plan.stream = true;
        b.plan.waiter.exchange_id = 1000;
        int count = 0;
        for (b.now += 1; count < MANY && limit(&b) == 10; count++)
            one_exchange(&b, lessons[i].end);
        if (count != (lessons[i].cut_after ? lessons[i].cut_after : MANY))
            fail_msg("%s: cut after %d", lessons[i].name, count);
        bench_free(&b);
    }
}

static void success_raises_it(void **unused) {
    (void)unused;
    sj_admission_rules rules = slots(10);
    bench b = with(&rules);
    b.plan.waiter.exchange_id = 1000;
    b.now++;
    for (int i = 0; i < SJ_LIMITER_CUT_TAKES; i++)
        one_exchange(&b, is_429);
    assert_int_equal(limit(&b), 4); // one of ten in use: to half, times 0.9
    for (int second = 0; second < 30 && limit(&b) < 10; second++, b.now += 1000) {
        bench one = bench_beside(&b, 1), two = bench_beside(&b, 2), three = bench_beside(&b, 3);
        bench *all[] = {&one, &two, &three};
        for (int i = 0; i < 3; i++)
            go(all[i]);
        for (int i = 0; i < 3; i++) {
            all[i]->now += 10;
            gives(all[i], answer(all[i], 200), "deliver 1");
            left(all[i]);
        }
    }
    assert_in_range(limit(&b), 5, 7); // three of six: near; three of seven or more: not wanted
    bench_free(&b);
}

// A raised limit wakes one, and that one the next.
static void a_stream_that_ends_well_counts(void **unused) {
    (void)unused;
    sj_admission_rules rules = slots(2);
    bench b = with(&rules), second = bench_beside(&b, 2), third = bench_beside(&b, 3);
    b.plan.stream = true;
    for (int i = 0; i < SJ_LIMITER_CUT_TAKES; i++)
        sj_admission_congested(b.admissions[0], SJ_CONGESTION_REFUSED, b.now, b.now);
    assert_int_equal(limit(&b), 1);
    b.now++;
    gives(&b, go(&b), "start 1 a");
    gives(&second, go(&second), "queued a");
    gives(&third, go(&third), "queued a");
    b.now += 1000;
    head(&b, 200);
    says(&b, SJ_SAYS_CONTENT);
    gives(&b, ended(&b, bench_over(SJ_END_WHOLE, 200)), "grant 2; finish");
    assert_int_equal(limit(&b), 2);
    second.now = third.now = b.now;
    gives(&second, granted(&second), "grant 3; start 1 a");
    gives(&third, granted(&third), "start 1 a");
    gives(&second, answer(&second, 200), "deliver 1");
    gives(&third, answer(&third, 200), "deliver 1");
    left(&second);
    left(&third);
    over(&b);
    bench_free(&b);
}

// ---- the pace -------------------------------------------------------------------------------------------

static sj_admission_rules paced(int64_t requests, int64_t tokens) {
    return (sj_admission_rules){
        .max_concurrent = 100, .max_waiting = 100, .timeout_ms = 60000, .pace = {requests, tokens}};
}

static void the_first_keeps_the_time(void **unused) {
    (void)unused;
    sj_admission_rules rules = paced(60, 0);
    bench b = with(&rules), second = bench_beside(&b, 2), third = bench_beside(&b, 3);
    gives(&b, go(&b), "start 1 a");
    gives(&second, go(&second), "queued a");
    gives(&third, go(&third), "queued a");
    assert_int_equal(due_in(&second), 1000);
    assert_int_equal(due_in(&third), 60000);
    wakes_after(&second, 1000, "grant 3; start 1 a");
    third.now = second.now;
    gives(&third, granted(&third), ""); // told when
    wakes_after(&third, 1000, "start 1 a");
    gives(&third, answer(&third, 200), "deliver 1");
    gives(&second, answer(&second, 200), "deliver 1");
    gives(&b, answer(&b, 200), "deliver 1");
    left(&second);
    left(&third);
    over(&b);
    bench_free(&b);
}

static void the_time_is_handed_on(void **unused) {
    (void)unused;
    sj_admission_rules rules = paced(60, 0);
    bench b = with(&rules), second = bench_beside(&b, 2), third = bench_beside(&b, 3);
    go(&b);
    go(&second);
    go(&third);
    second.now += 400;
    gives(&second, gone(&second), "grant 3");
    third.now = second.now;
    gives(&third, granted(&third), "");
    wakes_after(&third, 600, "start 1 a");
    gives(&third, gone(&third), "cancel 1");
    gives(&b, gone(&b), "cancel 1");
    left(&second);
    left(&third);
    over(&b);
    bench_free(&b);
}

// How long a second one of 1000 tokens, of 6000 a minute, has to wait after a first one of 1000 that ends so.
static int64_t wait_after(sj_attempt_over over, int status) {
    sj_admission_rules rules = paced(0, 6000);
    bench b = with(&rules);
    b.plan.waiter.tokens = 1000;
    bench second = bench_beside(&b, 2);
    go(&b);
    gives(&second, go(&second), "queued a");
    assert_int_equal(due_in(&second), 10000);
    if (status)
        head(&b, status);
    ended(&b, over);
    bool first_again = !sj_journey_is_over(b.journey);
    if (first_again)
        gone(&b);
    granted(&second);
    int64_t wait = second.attempt ? 0 : due_in(&second);
    gone(&second);
    left(&second);
    left(&b);
    bench_free(&b);
    return wait;
}

static void what_it_really_cost(void **unused) {
    (void)unused;
    sj_attempt_over good = bench_over(SJ_END_WHOLE, 200);
    good.facts.inspected = true;
    assert_int_equal(wait_after(good, 200), 10000); // it did not say
    good.tokens = 300;
    assert_int_equal(wait_after(good, 200), 3000);
    good.tokens = 1500;
    assert_int_equal(wait_after(good, 200), 15000);
    assert_int_equal(wait_after(bench_over(SJ_END_WHOLE, 429), 429), 0); // nothing was done for it
    assert_int_equal(wait_after(bench_over(SJ_END_WHOLE, 400), 400), 0);
    assert_int_equal(wait_after(bench_over(SJ_END_NO_ANSWER, 0), 0), 10000); // perhaps it was
}

static void a_slot_that_is_not_used_costs_nothing(void **unused) {
    (void)unused;
    sj_admission_rules rules = paced(60, 0);
    rules.max_concurrent = 1;
    bench b = with(&rules), second = bench_beside(&b, 2);
    go(&b);
    gives(&second, go(&second), "queued a");
    b.now += 5000;
    second.now = b.now;
    sj_target_gate(b.targets[0], BENCH_KEY, b.now + 700, b.now, b.now);
    gives(&b, gone(&b), "grant 2; cancel 1");
    gives(&second, granted(&second), ""); // at the gate: its place in the pace has come back
    sj_waiter other = {.exchange_id = 77};
    assert_true(sj_admission_try(b.admissions[0], &other, b.now));
    assert_false(sj_admission_try(b.admissions[0], &other, b.now));
    sj_wake wake;
    sj_admission_release(b.admissions[0], b.now, &wake);
    gives(&second, gone(&second), "");
    left(&b);
    over(&second);
    bench_free(&b);
}

// ---- forecasts ------------------------------------------------------------------------------------------

static void nothing_left_gates_ahead(void **unused) {
    (void)unused;
    bench b = bench_new(1), second = bench_beside(&b, 2);
    go(&b);
    sj_retry_hint none_left = {.exhausted_ms = 3000};
    sj_journey_attempt_head(b.journey, 1, 200, &none_left, true, b.now, &b.steps);
    assert_string_equal(bench_tell(&b), "gate a 3000 x-ratelimit-remaining");
    sj_attempt_over over_200 = bench_over(SJ_END_WHOLE, 200);
    over_200.facts.inspected = true;
    gives(&b, ended(&b, over_200), "deliver 1"); // its own success lifts nothing
    gives(&second, go(&second), "");
    while (!second.attempt)
        sleep_till_due(&second);
    assert_in_range(second.now, BENCH_START_MS + 3000, BENCH_START_MS + 4500);
    gives(&second, answer(&second, 200), "deliver 1");
    left(&b);
    over(&second);
    bench_free(&b);
}

static void a_forecast_holds_ten_seconds(void **unused) {
    (void)unused;
    bench b = bench_new(2), second = bench_beside(&b, 2);
    go(&b);
    sj_retry_hint tomorrow = {.exhausted_ms = 86400000};
    sj_journey_attempt_head(b.journey, 1, 200, &tomorrow, true, b.now, &b.steps);
    assert_string_equal(bench_tell(&b), "gate a 10000 x-ratelimit-remaining");
    gives(&second, go(&second), ""); // worth waiting for
    gives(&second, gone(&second), "");
    gives(&b, gone(&b), "cancel 1");
    left(&second);
    over(&b);
    bench_free(&b);
}

// ---- refusals -------------------------------------------------------------------------------------------

static void retry_after_is_how_long_the_queue_takes(void **unused) {
    (void)unused;
    sj_admission_rules rules = {.max_concurrent = 1, .max_waiting = 20, .timeout_ms = 60000};
    bench b = with(&rules), last = bench_beside(&b, 9);
    int64_t at;
    sj_wake wake;
    b.plan.waiter.exchange_id = 1000;
    for (int i = 0; i < 100; i++, b.now += 500) // two a second
        one_exchange(&b, is_400);
    go(&b);
    for (uint64_t i = 1; i <= 20; i++)
        (void)sj_admission_acquire(b.admissions[0], &(sj_waiter){.exchange_id = i + 10}, b.now, &at);
    last.now = b.now;
    gives(&last, go(&last), "refuse queue_full");
    assert_in_range(last.steps.list[0].retry_after_s, 10, 19); // 21 at two a second
    for (uint64_t i = 1; i <= 20; i++)
        sj_admission_leave(b.admissions[0], i + 10, b.now, &wake);
    gives(&b, gone(&b), "cancel 1");
    left(&last);
    over(&b);
    bench_free(&b);
}

static void a_standing_queue_is_short(void **unused) {
    (void)unused;
    sj_admission_rules rules = {
        .max_concurrent = 1, .max_waiting = 20, .timeout_ms = 300000, .standing_queue = true};
    bench b = with(&rules), second = bench_beside(&b, 2);
    go(&b);
    gives(&second, go(&second), "queued a");
    wakes_after(&second, 30000, "refuse queue_timeout");
    assert_in_range(second.steps.list[0].retry_after_s, 10, 17);
    left(&second);
    b.now = second.now;
    gives(&b, gone(&b), "cancel 1");
    over(&b);
    bench_free(&b);
}

// ---- a route's own bound --------------------------------------------------------------------------------

static sj_admission *route_with(bench *b, int max_concurrent, int max_waiting) {
    sj_admission_rules rules = {
        .max_concurrent = max_concurrent, .max_waiting = max_waiting, .timeout_ms = 60000};
    b->plan.route_slots = sj_admission_new(&rules);
    assert_non_null(b->plan.route_slots);
    return b->plan.route_slots;
}

// Through retries and waits, from the first step to the last.
static void a_route_bounds_its_exchanges(void **unused) {
    (void)unused;
    bench b = bench_calm(1);
    sj_admission *route = route_with(&b, 1, 1);
    bench second = bench_beside(&b, 2), third = bench_beside(&b, 3);
    gives(&b, go(&b), "start 1 a");
    gives(&second, go(&second), "queued a");
    gives(&third, go(&third), "refuse queue_full");
    assert_in_range(third.steps.list[0].retry_after_s, 10, 17);
    gives(&b, answer(&b, 503), "retry a 500 backoff 503; save 1");
    assert_int_equal(sj_admission_read(route).in_flight, 1);
    assert_int_equal(sj_admission_read(b.admissions[0]).in_flight, 0);
    wakes_after(&b, 500, "start 2 a");
    gives(&b, answer(&b, 200), "grant 2; deliver 2");
    second.now = b.now;
    gives(&second, granted(&second), "start 1 a");
    assert_string_equal(trail(&second), "queue 500ms, a");
    gives(&second, answer(&second, 200), "deliver 1");
    assert_int_equal(sj_admission_read(route).in_flight, 0);
    left(&second);
    left(&third);
    over(&b);
    sj_admission_free(&route);
    bench_free(&b);
}

// First at the route, then at the upstream; each time the client may leave.
static void two_queues_one_after_the_other(void **unused) {
    (void)unused;
    for (int leaves = 0; leaves < 4; leaves++) {
        sj_target_rules rules = {sj_breaker_rules_default, sj_budget_rules_default};
        bench b = bench_with(1, &rules, 1, 10);
        sj_admission *route = route_with(&b, 1, 10);
        bench second = bench_beside(&b, 2), other = bench_beside(&b, 3);
        other.plan.route_slots = NULL; // of another route at the same upstream
        gives(&b, go(&b), "start 1 a");
        gives(&second, go(&second), "queued a");
        gives(&other, go(&other), "queued a");
        if (leaves == 0)
            gives(&second, gone(&second), "");
        gives(&b, answer(&b, 200), leaves == 0 ? "grant 3; deliver 1" : "grant 3; grant 2; deliver 1");
        if (leaves == 1) // granted, and does not know
            gives(&second, gone(&second), "");
        gives(&other, granted(&other), "start 1 a");
        if (leaves >= 2)
            gives(&second, granted(&second), "queued a");
        if (leaves == 2)
            gives(&second, gone(&second), "");
        gives(&other, answer(&other, 200), leaves == 3 ? "grant 2; deliver 1" : "deliver 1");
        if (leaves == 3) {
            gives(&second, granted(&second), "start 1 a");
            gives(&second, gone(&second), "cancel 1");
        }
        assert_int_equal(sj_admission_read(route).in_flight + sj_admission_read(route).waiting, 0);
        left(&second);
        left(&other);
        over(&b);
        sj_admission_free(&route);
        bench_free(&b);
    }
}

static void the_routes_queue_has_its_ends(void **unused) {
    (void)unused;
    bench b = bench_calm(1);
    sj_admission *route = route_with(&b, 1, 10);
    bench late = bench_beside(&b, 2), hasty = bench_beside(&b, 3), last = bench_beside(&b, 4);
    hasty.plan.deadline_ms = b.now + 1000;
    go(&b);
    gives(&late, go(&late), "queued a");
    gives(&hasty, go(&hasty), "queued a");
    wakes_after(&hasty, 1000, "refuse deadline_exceeded");
    wakes_after(&late, 60000, "refuse queue_timeout");
    last.now = last.plan.deadline_ms; // too late for anything
    gives(&last, go(&last), "refuse deadline_exceeded");
    gives(&b, gone(&b), "cancel 1");
    assert_int_equal(sj_admission_read(route).in_flight + sj_admission_read(route).waiting, 0);
    left(&late);
    left(&hasty);
    left(&last);
    over(&b);
    sj_admission_free(&route);
    bench_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_congestion),
        cmocka_unit_test(success_raises_it),
        cmocka_unit_test(a_stream_that_ends_well_counts),
        cmocka_unit_test(the_first_keeps_the_time),
        cmocka_unit_test(the_time_is_handed_on),
        cmocka_unit_test(what_it_really_cost),
        cmocka_unit_test(a_slot_that_is_not_used_costs_nothing),
        cmocka_unit_test(nothing_left_gates_ahead),
        cmocka_unit_test(a_forecast_holds_ten_seconds),
        cmocka_unit_test(retry_after_is_how_long_the_queue_takes),
        cmocka_unit_test(a_standing_queue_is_short),
        cmocka_unit_test(a_route_bounds_its_exchanges),
        cmocka_unit_test(two_queues_one_after_the_other),
        cmocka_unit_test(the_routes_queue_has_its_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
