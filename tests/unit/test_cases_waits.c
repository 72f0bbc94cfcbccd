// BEHAVIOUR 16, the files of conf/cases about waits and stops.
#include "case_bench.h"

#define COUNT(list) (int)(sizeof(list) / sizeof *(list))
enum { SEEDS = 20 };

static void plays(const char *name, int status, const case_wait *waits, int attempts) {
    case_play play = case_of(name);
    case_fails(&play, status, 100, waits, attempts);
    case_free(&play);
}

// With other dice each time.
static void plays_by_chance(const char *name, const char *model, int status, const case_wait *waits,
                            int attempts) {
    int64_t first[SEEDS];
    bool differ = false;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        case_play play = case_for(name, model, false);
        play.b.plan.seed = seed * 100;
        case_fails(&play, status, 100, waits, attempts);
        first[seed] = play.b.now;
        differ |= first[seed] != first[0];
        case_free(&play);
    }
    assert_true(differ);
}

static void basic(void **unused) {
    (void)unused;
    static const case_wait waits[] = {EXACT(2000), EXACT(2000), EXACT(4000), EXACT(8000)};
    static const int statuses[] = {429, 500, 501, 502, 503, 504, 408, 599};
    for (int i = 0; i < COUNT(statuses); i++) {
        static const case_wait after_504[] = {EXACT(2000), EXACT(4000), EXACT(8000),
                                              EXACT(16000)}; // one step more
        plays("cases/basic", statuses[i], statuses[i] == 504 ? after_504 : waits, 5);
    }
    case_play play = case_of("cases/basic");
    case_ask(&play);
    gives(&play.b, dies(&play.b, SJ_END_TIMED_OUT), "retry a 2000 backoff timeout");
    wakes_after(&play.b, 2000, "start 2 a");
    gives(&play.b, dies(&play.b, SJ_END_NO_ANSWER), "retry a 2000 backoff reset");
    wakes_after(&play.b, 2000, "start 3 a");
    gives(&play.b, dies(&play.b, SJ_END_NEVER_SENT),
          "retry a 0 at_once connect; start 4 a fresh"); // network errors: once at once
    gives(&play.b, dies(&play.b, SJ_END_NEVER_SENT), "retry a 4000 backoff connect");
    wakes_after(&play.b, 4000, "start 5 a");
    gives(&play.b, answer(&play.b, 422), "deliver 5"); // anything else is not retried
    over(&play.b);
    case_free(&play);
}

static void exponential(void **unused) {
    (void)unused;
    static const case_wait waits[] = {EXACT(2000),  EXACT(4000),  EXACT(8000),
                                      EXACT(16000), EXACT(32000), EXACT(60000)};
    plays("cases/exponential", 503, waits, 7);
    plays("cases/exponential", 429, waits, 7);
}

static void exponential_jitter(void **unused) {
    (void)unused;
    static const case_wait waits[] = {{1000, 2000}, {2000, 3000}, {4000, 5000}, {8000, 9000}, {16000, 17000}};
    plays_by_chance("cases/exponential_jitter", "gpt-4.1", 500, waits, 6);
}

static void combined(void **unused) {
    (void)unused;
    static const case_wait waits[] = {{2000, 4000}, {2000, 4000}, {4000, 6000}, {8000, 10000}};
    plays_by_chance("cases/combined", "gpt-4.1", 500, waits, 5);
}

static void two_stops(void **unused) {
    (void)unused;
    static const case_wait waits[] = {EXACT(1000),  EXACT(2000),  EXACT(4000),  EXACT(8000), EXACT(16000),
                                      EXACT(30000), EXACT(30000), EXACT(30000), EXACT(30000)};
    plays("cases/two_stops", 503, waits, 10); // ten attempts
    case_play play = case_of("cases/two_stops");
    int64_t began = play.b.now;
    case_fails(&play, 503, 25000, waits, 8); // 291 s are gone; another 30 would be too many
    assert_int_equal(play.b.now - began, 8 * 25000 + 91000);
    case_free(&play);
}

static void by_content(void **unused) {
    (void)unused;
    static const char *const codes[] = {"rate_limit_exceeded", "internal_server_error", "request_timeout",
                                        "insufficient_capacity"};
    case_play play = case_of("cases/by_content");
    case_ask(&play);
    for (int i = 0; i < COUNT(codes); i++) {
        answer_code(&play.b, 200, codes[i]);
        assert_int_equal(play.b.steps.notes[play.b.steps.note_count - 1].kind, SJ_NOTE_RETRY);
        sleep_till_due(&play.b);
        assert_int_equal(play.b.attempt, i + 2);
    }
    gives(&play.b, answer_code(&play.b, 200, "content_filter"), "deliver 5");
    over(&play.b);
    case_free(&play);
}

static void client(void **unused) {
    (void)unused;
    static const case_wait waits[] = {{700, 1300}, {1400, 2600}, {2800, 5200}, {5600, 10400}, {11200, 20800}};
    plays_by_chance("cases/client", "gpt-4.1", 503, waits, 6);
    case_play play = case_of("cases/client");
    case_ask(&play);
    answer_hint(&play.b, 429, 7000);
    assert_in_range(due_in(&play.b), 7000, 10500); // never early
    sleep_till_due(&play.b);
    answer(&play.b, 504);
    assert_in_range(due_in(&play.b), 1400, 2600); // one step more
    gone(&play.b);
    over(&play.b);
    play.b.policies[0].backoff.base_ms = 10;
    case_ask(&play);
    answer(&play.b, 503);
    assert_int_equal(due_in(&play.b), 100); // the least
    gone(&play.b);
    over(&play.b);
    case_free(&play);
}

static void strategies(void **unused) {
    (void)unused;
    static const case_wait linear[] = {EXACT(1000), EXACT(2000), EXACT(3000), EXACT(4000)};
    static const case_wait doubling[] = {EXACT(1000), EXACT(2000), EXACT(4000), EXACT(8000)};
    static const case_wait jittered[] = {{800, 1200}, {1600, 2400}, {3200, 4800}, {6400, 9600}};
    static const case_wait decorrelated[] = {{1000, 3000}, {1000, 9000}, {1000, 20000}, {1000, 20000}};
    case_play play = case_for("cases/strategies", "linear", false);
    assert_true(play.b.hops[0].rewrites_model); // those names are ours
    case_fails(&play, 503, 100, linear, 5);
    case_free(&play);
    play = case_for("cases/strategies", "exponential", false);
    case_fails(&play, 503, 100, doubling, 5);
    case_free(&play);
    plays_by_chance("cases/strategies", "jittered", 503, jittered, 5);
    plays_by_chance("cases/strategies", "decorrelated", 503, decorrelated, 5);
}

static void rate_limited(void **unused) {
    (void)unused;
    static const case_wait waits[] = {EXACT(5000),  EXACT(5000),  EXACT(5000),   EXACT(8000),  EXACT(16000),
                                      EXACT(32000), EXACT(64000), EXACT(128000), EXACT(256000)};
    plays("cases/rate_limited", 429, waits, 10);
    case_play play = case_of("cases/rate_limited");
    case_ask(&play);
    answer_hint(&play.b, 429, 280000);
    assert_in_range(due_in(&play.b), 280000, 285000);
    sleep_till_due(&play.b);
    gives(&play.b, answer(&play.b, 200), "deliver 2");
    over(&play.b);
    case_free(&play);

    play = case_of("cases/rate_limited");
    bench others[6]; // at most five at once
    for (uint64_t i = 0; i < 6; i++) {
        others[i] = bench_beside(&play.b, 50 + i);
        gives(&others[i], go(&others[i]), i < 5 ? "start 1 a" : "queued a");
    }
    gives(&others[0], answer(&others[0], 200), "grant 55; deliver 1");
    gives(&others[5], granted(&others[5]), "start 1 a");
    for (int i = 0; i < 6; i++) {
        gone(&others[i]);
        left(&others[i]);
    }
    case_free(&play);
}

static void timeouts(void **unused) {
    (void)unused;
    case_play play = case_of("cases/timeouts");
    bench *b = &play.b;
    case_ask(&play);
    b->now += play.config->upstreams[0].connect_timeout_ms;
    gives(b, dies(b, SJ_END_NEVER_SENT), "retry a 0 at_once connect; start 2 a fresh");
    wakes_after(b, 50000, "cancel 2; refuse deadline_exceeded"); // ten to connect, sixty in all
    over(b);
    case_free(&play);
    play = case_for("cases/timeouts", "gpt-4.1", true);
    case_ask(&play);
    head(b, 200);
    gives(b, says(b, SJ_SAYS_CONTENT), "commit 1");
    for (int i = 0; i < 10; i++) { // ten minutes of a healthy stream
        b->now += 59999;
        gives(b, ring(b), "");
        gives(b, says(b, SJ_SAYS_CONTENT), "");
    }
    assert_int_equal(due_in(b), 60000);
    gone(b);
    over(b);
    case_free(&play);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(basic),    cmocka_unit_test(exponential), cmocka_unit_test(exponential_jitter),
        cmocka_unit_test(combined), cmocka_unit_test(two_stops),   cmocka_unit_test(by_content),
        cmocka_unit_test(client),   cmocka_unit_test(strategies),  cmocka_unit_test(rate_limited),
        cmocka_unit_test(timeouts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
