// BEHAVIOUR 16: the field cases that concern waits and transitions, each from a configuration as a user would write it.
#include "config_text.h"
#include "journey_bench.h"

typedef struct field {
    sj_config *config;
    bench b;
} field;

#define ONE_UPSTREAM                                                                                         \
    "upstreams = { a = { base_url = \"http://127.0.0.1:1/v1\"; auth = \"none\"; }; };\n"                     \
    "routes = ( { model = \"*\"; chain = [ \"a\" ]; } );\n"

static field field_of(const char *text) {
    field f = {.config = load_text(text)};
    if (!f.config)
        fail_msg("%s", said_error);
    const sj_route_config *route = &f.config->routes[0];
    f.b = bench_new(route->hop_count);
    f.b.plan.deadline_ms = f.b.now + f.config->deadline_ms;
    f.b.plan.fallback_gate_ms = f.config->fallback_gate_ms;
    for (size_t i = 0; i < route->hop_count; i++) {
        const sj_upstream_config *upstream = &f.config->upstreams[route->hops[i].upstream];
        f.b.policies[i] = route->hops[i].retry;
        f.b.hops[i].max_open_wait_ms = upstream->rules.breaker.max_open_wait_ms;
        sj_target_set_rules(f.b.targets[i], &upstream->rules);
        sj_admission_set_rules(f.b.admissions[i], &upstream->admission);
    }
    return f;
}

static void field_free(field *f) {
    bench_free(&f->b);
    sj_config_unref(&f->config);
}

// Fails with that status until it stops; every wait within its bounds. ends: how many attempts there are in all.
static void fails_through(field *f, int status, const int64_t (*bounds)[2], int attempts) {
    bench *b = &f->b;
    b->plan.deadline_ms = b->now + f->config->deadline_ms;
    go(b);
    for (int i = 0; i < attempts - 1; i++) {
        answer(b, status);
        assert_int_equal(b->steps.notes[0].kind, SJ_NOTE_ATTEMPT); // an info line after each attempt
        assert_int_equal(b->steps.notes[1].kind, SJ_NOTE_RETRY); // and a warning before each sleep
        int64_t wait = due_in(b);
        assert_int_equal(b->steps.notes[1].ms, wait);
        if (wait < bounds[i][0] || wait > bounds[i][1])
            fail_msg("wait %d after %d is %d ms", i + 1, status, (int)wait);
        sleep_till_due(b);
        assert_int_equal(b->attempt, i + 2);
    }
    answer(b, status);
    char expected[64];
    (void)snprintf(expected, sizeof expected, "save %d; deliver saved a", attempts);
    assert_string_equal(bench_tell(b), expected);
    over(b);
}

#define EXACT(ms)                                                                                            \
    { (ms), (ms) }
#define OFF "breaker = { enabled = false; };\n"

static void basic(void **unused) {
    (void)unused;
    static const int64_t waits[][2] = {EXACT(2000), EXACT(2000), EXACT(4000), EXACT(8000)};
    static const int statuses[] = {429, 500, 502, 503, 408, 599};
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        field f = field_of(
            ONE_UPSTREAM OFF
            "retry = { strategy = \"exponential\"; base = \"1s\"; min = \"2s\"; cap = \"30s\"; "
            "throttle_cap = \"30s\"; max_attempts = 5; statuses = [ \"408\", \"429\", \"500-599\" ]; };");
        fails_through(&f, statuses[i], waits, 5);
        field_free(&f);
    }
    field f =
        field_of(ONE_UPSTREAM OFF "retry = { strategy = \"exponential\"; base = \"1s\"; min = \"2s\"; };");
    go(&f.b);
    gives(&f.b, dies(&f.b, SJ_END_TIMED_OUT), "retry a 2000 backoff timeout");
    wakes_after(&f.b, 2000, "start 2 a");
    gives(&f.b, dies(&f.b, SJ_END_NO_ANSWER), "retry a 2000 backoff reset");
    wakes_after(&f.b, 2000, "start 3 a");
    gives(&f.b, answer(&f.b, 422), "deliver 3"); // anything else is not
    over(&f.b);
    field_free(&f);
}

static void exponential(void **unused) {
    (void)unused;
    static const int64_t waits[][2] = {EXACT(2000),  EXACT(4000),  EXACT(8000),
                                       EXACT(16000), EXACT(32000), EXACT(60000)};
    field f = field_of(ONE_UPSTREAM OFF "retry = { strategy = \"exponential\"; base = \"2s\"; cap = \"60s\"; "
                                        "max_attempts = 7; max_wait_total = \"300s\"; };");
    fails_through(&f, 503, waits, 7);
    field_free(&f);
}

static void exponential_with_jitter(void **unused) {
    (void)unused;
    static const int64_t waits[][2] = {{50, 1000}, {50, 2000}, {50, 4000}, {50, 8000}, {50, 16000}};
    for (uint64_t seed = 0; seed < 20; seed++) {
        field f =
            field_of(ONE_UPSTREAM OFF "retry = { strategy = \"full_jitter\"; base = \"1s\"; cap = \"60s\"; "
                                      "max_attempts = 6; };");
        f.b.plan.seed = seed;
        fails_through(&f, 500, waits, 6);
        field_free(&f);
    }
}

static void combined(void **unused) {
    (void)unused;
    static const int64_t waits[][2] = {
        {2000, 4000}, {2000, 4000}, {4000, 6000}, {8000, 10000}, {10000, 12000}};
    for (uint64_t seed = 0; seed < 20; seed++) {
        field f =
            field_of(ONE_UPSTREAM OFF
                     "retry = { strategy = \"plus_random\"; base = \"1s\"; min = \"2s\"; cap = \"10s\"; "
                     "random_max = \"2s\"; max_attempts = 6; };");
        f.b.plan.seed = seed;
        fails_through(&f, 500, waits, 6);
        field_free(&f);
    }
}

#define TWO_STOPS                                                                                            \
    ONE_UPSTREAM OFF                                                                                         \
        "retry = { strategy = \"exponential\"; base = \"1s\"; cap = \"30s\"; max_wait_total = \"300s\"; "
static void two_stops(void **unused) {
    (void)unused;
    static const int64_t waits[][2] = {EXACT(1000),  EXACT(2000),  EXACT(4000),  EXACT(8000),  EXACT(16000),
                                       EXACT(30000), EXACT(30000), EXACT(30000), EXACT(30000), EXACT(30000),
                                       EXACT(30000), EXACT(30000), EXACT(30000)};
    field f = field_of(TWO_STOPS "max_attempts = 10; };");
    fails_through(&f, 503, waits, 10); // ten attempts
    field_free(&f);
    f = field_of(TWO_STOPS "max_attempts = 50; };");
    fails_through(&f, 503, waits, 14); // 271 s are waited; 30 more would be too many
    field_free(&f);
}

static void by_content(void **unused) {
    (void)unused;
    static const char *const codes[] = {"rate_limit_exceeded", "internal_server_error", "request_timeout",
                                        "insufficient_capacity"};
    field f = field_of(ONE_UPSTREAM OFF "retry = { strategy = \"fixed\"; base = \"1s\"; error_codes = [ "
                                        "\"rate_limit\", \"server_error\", \"timeout\", \"capacity\" ]; };");
    go(&f.b);
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        answer_code(&f.b, 200, codes[i]);
        assert_int_equal(due_in(&f.b), 1000);
        sleep_till_due(&f.b);
        assert_int_equal(f.b.attempt, (int)i + 2);
    }
    gives(&f.b, answer_code(&f.b, 200, "content_filter"), "deliver 5");
    over(&f.b);
    field_free(&f);
}

// ---- breakers -------------------------------------------------------------------------------------------

// Fails `failures` times, opens, and closes after `probes` good ones.
static void opens_and_closes(field *f, int failures, int64_t recovery_ms, int probes) {
    bench *b = &f->b;
    b->policies[0].max_attempts = 1;
    b->hops[0].max_open_wait_ms = 0;
    for (int i = 0; i < failures; i++) {
        assert_int_equal(target_at(b, 0).state, SJ_BREAKER_CLOSED);
        go(b);
        answer(b, 503);
        over(b);
    }
    sj_target_stats stats = target_at(b, 0);
    assert_int_equal(stats.state, SJ_BREAKER_OPEN);
    assert_in_range(stats.open_until_ms - b->now, recovery_ms * 8 / 10, recovery_ms * 12 / 10);
    b->now = stats.open_until_ms - 1;
    gives(b, go(b), "refuse circuit_open");
    over(b);
    b->now++;
    b->plan.deadline_ms = b->now + 60000;
    for (int i = 0; i < probes; i++) {
        go(b);
        assert_int_equal(target_at(b, 0).state, SJ_BREAKER_HALF_OPEN);
        gives(b, answer(b, 200), i + 1 < probes ? "deliver 1" : "breaker a closed; deliver 1");
        over(b);
    }
}

static void adaptive_breaker(void **unused) {
    (void)unused;
    field f = field_of(
        ONE_UPSTREAM "breaker = { failure_threshold = 5; failure_span = \"0s\"; recovery_timeout = \"60s\"; "
                     "half_open_max_calls = 3; success_threshold = 1.0; };");
    opens_and_closes(&f, 5, 60000, 3);
    field_free(&f);
}

static void simple_breaker(void **unused) {
    (void)unused;
    field f = field_of(
        ONE_UPSTREAM "breaker = { failure_threshold = 5; failure_span = \"0s\"; recovery_timeout = \"30s\"; "
                     "half_open_max_calls = 1; };");
    opens_and_closes(&f, 5, 30000, 1);
    field_free(&f);
}

static void advanced_breaker(void **unused) {
    (void)unused;
    field f = field_of(
        ONE_UPSTREAM "breaker = { failure_threshold = 5; failure_span = \"0s\"; recovery_timeout = \"30s\"; "
                     "half_open_max_calls = 3; success_threshold = 0.5; failure_rate = 0.5; };");
    opens_and_closes(&f, 5, 30000, 2);
    bench *b = &f.b; // the window: half of ten calls, never five in a row
    b->now += 2000;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(target_at(b, 0).state, SJ_BREAKER_CLOSED);
        go(b);
        answer(b, i % 2 ? 503 : 200);
        over(b);
    }
    assert_int_equal(target_at(b, 0).state, SJ_BREAKER_OPEN);
    field_free(&f);
}

// ---- whole clients --------------------------------------------------------------------------------------

static void client(void **unused) {
    (void)unused;
    static const int64_t waits[][2] = {
        {700, 1300}, {1400, 2600}, {2800, 5200}, {5600, 10400}, {11200, 20800}};
    for (uint64_t seed = 0; seed < 20; seed++) {
        field f = field_of(ONE_UPSTREAM OFF "retry = { strategy = \"jitter\"; base = \"1s\"; cap = \"60s\"; "
                                            "jitter = 0.3; max_attempts = 6; };");
        f.b.plan.seed = seed;
        fails_through(&f, 503, waits, 6);
        f.b.plan.deadline_ms = f.b.now + 600000;
        go(&f.b);
        answer_hint(&f.b, 429, 7000);
        assert_in_range(due_in(&f.b), 7000, 10500);
        sleep_till_due(&f.b);
        answer(&f.b, 504);
        assert_in_range(due_in(&f.b), 1400, 2600); // one step more
        gone(&f.b);
        over(&f.b);
        field_free(&f);
    }
    field f = field_of(ONE_UPSTREAM OFF "retry = { strategy = \"jitter\"; base = \"10ms\"; };");
    go(&f.b);
    answer(&f.b, 503);
    assert_int_equal(due_in(&f.b), 100); // the least
    gone(&f.b);
    over(&f.b);
    field_free(&f);
}

static void strategies_compared(void **unused) {
    (void)unused;
    static const struct {
        const char *retry;
        int64_t waits[4][2];
    } rows[] = {
        {"strategy = \"linear\"; base = \"1s\";", {EXACT(1000), EXACT(2000), EXACT(3000), EXACT(4000)}},
        {"strategy = \"exponential\"; base = \"1s\";", {EXACT(1000), EXACT(2000), EXACT(4000), EXACT(8000)}},
        {"strategy = \"jitter\"; base = \"1s\"; jitter = 0.2;",
         {{800, 1200}, {1600, 2400}, {3200, 4800}, {6400, 9600}}},
        {"strategy = \"decorrelated\"; base = \"1s\"; cap = \"20s\";",
         {{1000, 3000}, {1000, 9000}, {1000, 20000}, {1000, 20000}}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[512];
        (void)snprintf(text, sizeof text, "%sretry = { %s };", ONE_UPSTREAM OFF, rows[i].retry);
        field f = field_of(text);
        fails_through(&f, 503, rows[i].waits, 5);
        field_free(&f);
    }
}

static void rate_limited(void **unused) {
    (void)unused;
    static const int64_t waits[][2] = {EXACT(5000),  EXACT(5000),  EXACT(5000),  EXACT(8000),
                                       EXACT(16000), EXACT(32000), EXACT(64000), EXACT(128000)};
    static const char text[] = "upstreams = { a = { base_url = \"http://127.0.0.1:1/v1\"; auth = \"none\"; "
                               "max_concurrent = 5; }; };\n"
                               "routes = ( { model = \"*\"; chain = [ \"a\" ]; } );\n"
                               "deadline = \"3600s\";\n"
                               "retry = { strategy = \"exponential\"; base = \"1s\"; min = \"5s\"; cap = "
                               "\"300s\"; throttle_cap = \"300s\"; "
                               "max_hint = \"300s\"; max_attempts = 10; max_wait_total = \"400s\"; };";
    field f = field_of(text);
    fails_through(&f, 429, waits, 9); // 263 s; the ninth wait of 256 s is beyond the sum
    f.b.plan.deadline_ms = f.b.now + 3600000;
    go(&f.b);
    answer_hint(&f.b, 429, 280000);
    assert_in_range(due_in(&f.b), 280000, 285000);
    gone(&f.b);
    over(&f.b);
    field_free(&f);
    f = field_of(text);
    bench others[6]; // at most five at once
    for (uint64_t i = 0; i < 6; i++) {
        others[i] = bench_beside(&f.b, 50 + i);
        gives(&others[i], go(&others[i]), i < 5 ? "start 1 a" : "queued a");
    }
    gives(&others[0], answer(&others[0], 200), "grant 55; deliver 1");
    gives(&others[5], granted(&others[5]), "start 1 a");
    for (int i = 0; i < 6; i++) {
        gone(&others[i]);
        left(&others[i]);
    }
    field_free(&f);
}

static void timeouts(void **unused) {
    (void)unused;
    field f = field_of(ONE_UPSTREAM "deadline = \"60s\";\nretry = { strategy = \"fixed\"; base = \"1s\"; };");
    assert_int_equal(f.config->upstreams[0].connect_timeout_ms, 10000);
    go(&f.b);
    f.b.now += 10000;
    gives(&f.b, dies(&f.b, SJ_END_NEVER_SENT), "retry a 0 at_once connect; start 2 a fresh");
    wakes_after(&f.b, 50000, "cancel 2; refuse deadline_exceeded");
    over(&f.b);
    field_free(&f);
}

static void strong_to_cheap(void **unused) {
    (void)unused;
    field f = field_of(
        "upstreams = { strong = { base_url = \"http://127.0.0.1:1/v1\"; auth = \"none\"; };\n"
        "              cheap = { base_url = \"http://127.0.0.1:2/v1\"; auth = \"none\"; }; };\n"
        "routes = ( { model = \"gpt-4.1\"; chain = [ \"strong/gpt-4.1\", \"cheap/deepseek-v3.2\" ]; } );\n"
        "retry = { strategy = \"exponential\"; base = \"1s\"; cap = \"10s\"; max_attempts = 3; "
        "max_attempts_before_fallback = 3; };");
    bench *b = &f.b;
    gives(b, go(b), "start 1 a");
    gives(b, answer(b, 500), "retry a 1000 backoff 500; save 1");
    wakes_after(b, 1000, "start 2 a");
    gives(b, answer(b, 500), "retry a 2000 backoff 500; save 2");
    wakes_after(b, 2000, "start 3 a");
    gives(b, answer(b, 500), "fallback b 500; save 3; start 4 b");
    gives(b, answer(b, 502), "retry b 1000 backoff 502");
    wakes_after(b, 1000, "start 5 b");
    gives(b, answer(b, 502), "retry b 2000 backoff 502");
    wakes_after(b, 2000, "start 6 b");
    gives(b, answer(b, 502), "deliver saved a");
    assert_int_equal(sj_journey_read(b->journey).attempts_sent, 6);
    over(b);
    field_free(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(basic),
        cmocka_unit_test(exponential),
        cmocka_unit_test(exponential_with_jitter),
        cmocka_unit_test(combined),
        cmocka_unit_test(two_stops),
        cmocka_unit_test(by_content),
        cmocka_unit_test(adaptive_breaker),
        cmocka_unit_test(simple_breaker),
        cmocka_unit_test(advanced_breaker),
        cmocka_unit_test(client),
        cmocka_unit_test(strategies_compared),
        cmocka_unit_test(rate_limited),
        cmocka_unit_test(timeouts),
        cmocka_unit_test(strong_to_cheap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
