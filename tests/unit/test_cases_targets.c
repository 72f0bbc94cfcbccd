// BEHAVIOUR 16, the files of conf/cases about breakers, fallback, queues and keys; and what holds of all files of conf/.
#include "case_bench.h"

#include <dirent.h>

// ---- breakers -------------------------------------------------------------------------------------------

// One question's attempts that all fail; the breaker opens with the last of them.
static void opens_after(case_play *play, int failures) {
    bench *b = &play->b;
    case_ask(play);
    for (int i = 1; i < failures; i++) {
        answer(b, 503);
        assert_int_equal(target_at(b, 0).state, SJ_BREAKER_CLOSED);
        sleep_till_due(b);
    }
    answer(b, 503);
    assert_non_null(strstr(bench_tell(b), "breaker a open"));
    over(b);
}

// Refused at once until it is probed; closes with the last of so many good answers.
static void recovers(case_play *play, int64_t recovery_ms, int probes) {
    bench *b = &play->b;
    int64_t until = target_at(b, 0).open_until_ms;
    assert_in_range(until - b->now, recovery_ms * 8 / 10, recovery_ms * 12 / 10);
    gives(b, case_ask(play), "refuse circuit_open");
    over(b);
    b->now = until - 15000;
    case_ask(play); // near enough to wait for
    assert_int_equal(due_in(b), 15000);
    gone(b);
    over(b);
    b->now = until;
    for (int i = 0; i < probes; i++) {
        gives(b, case_ask(play), i == 0 ? "breaker a half_open; start 1 a" : "start 1 a");
        gives(b, answer(b, 200), i + 1 < probes ? "deliver 1" : "breaker a closed; deliver 1");
        over(b);
    }
}

// A probe that fails opens it anew.
static void reopens(case_play *play, int64_t recovery_ms) {
    bench *b = &play->b;
    b->now = target_at(b, 0).open_until_ms;
    case_ask(play);
    answer(b, 503);
    assert_int_equal(target_at(b, 0).state, SJ_BREAKER_OPEN);
    assert_in_range(target_at(b, 0).open_until_ms - b->now, recovery_ms * 8 / 10, recovery_ms * 12 / 10);
    gone(b);
    over(b);
}

static void breaker_case(const char *name, int failures, int64_t recovery_ms, int probes) {
    case_play play = case_of(name);
    opens_after(&play, failures);
    reopens(&play, recovery_ms);
    recovers(&play, recovery_ms, probes);
    case_free(&play);
}

static void adaptive_breaker(void **unused) {
    (void)unused;
    breaker_case("cases/adaptive_breaker", 5, 60000, 3);
}

static void simple_breaker(void **unused) {
    (void)unused;
    breaker_case("cases/simple_breaker", 5, 30000, 1);
}

static void advanced_breaker(void **unused) {
    (void)unused;
    breaker_case("cases/advanced_breaker", 5, 30000, 2);
    case_play play = case_of("cases/advanced_breaker");
    bench *b = &play.b; // the window: half of ten calls, never five in a row
    for (int calls = 2; calls <= 10; calls += 2) {
        assert_int_equal(target_at(b, 0).state, SJ_BREAKER_CLOSED);
        case_ask(&play);
        answer(b, 503);
        sleep_till_due(b);
        answer(b, 200);
        over(b);
    }
    assert_int_equal(target_at(b, 0).state, SJ_BREAKER_OPEN);
    case_free(&play);
    play = case_of("cases/advanced_breaker");
    for (int calls = 2; calls <= 10; calls += 2) { // the same over five minutes: the window has slid on
        case_ask(&play);
        answer(b, 503);
        sleep_till_due(b);
        answer(b, 200);
        over(b);
        b->now += 60000;
    }
    assert_int_equal(target_at(b, 0).state, SJ_BREAKER_CLOSED);
    case_free(&play);
}

// ---- a strong model and a cheap one ---------------------------------------------------------------------

static void strong_fails_three_times(case_play *play) {
    bench *b = &play->b;
    gives(b, case_ask(play), "start 1 a");
    gives(b, answer(b, 500), "retry a 1000 backoff 500; save 1");
    wakes_after(b, 1000, "start 2 a");
    gives(b, answer(b, 500), "retry a 2000 backoff 500; save 2");
    wakes_after(b, 2000, "start 3 a");
    gives(b, answer(b, 500), "breaker a open; fallback b 500; save 3; start 4 b");
}

static void strong_cheap(void **unused) {
    (void)unused;
    case_play play = case_of("cases/strong_cheap");
    bench *b = &play.b;
    assert_string_equal(b->hops[0].label, "router/openai/gpt-4.1");
    assert_string_equal(b->hops[1].label, "router/deepseek/deepseek-v3.2");
    strong_fails_three_times(&play); // both fail: three attempts each, and the strong one's answer is told
    gives(b, answer(b, 502), "retry b 1000 backoff 502");
    wakes_after(b, 1000, "start 5 b");
    gives(b, answer(b, 502), "retry b 2000 backoff 502");
    wakes_after(b, 2000, "start 6 b");
    answer(b, 502);
    assert_non_null(strstr(bench_tell(b), "deliver saved a"));
    assert_int_equal(sj_journey_read(b->journey).attempts_sent, 6);
    over(b);
    case_free(&play);

    play = case_of("cases/strong_cheap");
    strong_fails_three_times(&play); // three failures of the strong one: from now on the cheap one
    gives(b, answer(b, 200), "deliver 4");
    over(b);
    b->now = target_at(b, 0).open_until_ms - 1;
    gives(b, case_ask(&play), "fallback b sticky; start 1 b");
    gives(b, answer(b, 502), "retry b 1000 backoff 502; save 1"); // three failures of the cheap one: back
    wakes_after(b, 1000, "start 2 b");
    gives(b, answer(b, 502), "retry b 2000 backoff 502; save 2");
    wakes_after(b, 2000, "start 3 b");
    gives(b, answer(b, 502), "breaker b open; breaker a half_open; save 3; start 4 a");
    gives(b, answer(b, 200), "deliver 4");
    over(b);
    gives(b, case_ask(&play), "start 1 a"); // and there it stays
    gives(b, answer(b, 200), "breaker a closed; deliver 1");
    over(b);
    case_free(&play);
}

// ---- queues, keys, all files ----------------------------------------------------------------------------

static void batch(void **unused) {
    (void)unused;
    enum { SIZE = 50, AT_ONCE = 10 };
    case_play play = case_of("cases/batch");
    static bench items[SIZE];
    for (uint64_t i = 0; i < SIZE; i++) {
        items[i] = bench_beside(&play.b, 100 + i);
        gives(&items[i], go(&items[i]), i < AT_ONCE ? "start 1 a" : "queued a");
    }
    sj_admission_stats slots = sj_admission_read(play.b.admissions[0]);
    assert_int_equal(slots.in_flight, AT_ONCE);
    assert_int_equal(slots.waiting, SIZE - AT_ONCE);
    for (int i = 0; i < SIZE - AT_ONCE; i++) { // each that ends lets the next one in, in order
        answer(&items[i], 200);
        char next[32];
        (void)snprintf(next, sizeof next, "grant %d; deliver 1", 100 + AT_ONCE + i);
        assert_string_equal(bench_tell(&items[i]), next);
        gives(&items[i + AT_ONCE], granted(&items[i + AT_ONCE]), "start 1 a");
        left(&items[i]);
    }
    bench late = bench_beside(&play.b, 500);
    gives(&late, go(&late), "queued a"); // waits 300 s and no longer
    late.now += due_in(&late);
    assert_int_equal(late.now - play.b.now, 300000);
    gives(&late, ring(&late), "refuse queue_timeout");
    left(&late);
    for (int i = SIZE - AT_ONCE; i < SIZE; i++) {
        gone(&items[i]);
        left(&items[i]);
    }
    case_free(&play);
}

// A million tokens either way, in cents of the published list.
static void costs(void **unused) {
    (void)unused;
    static const struct {
        const char *model;
        int64_t cents;
    } rows[] = {{"openai/gpt-4.1", 800},
                {"anthropic/claude-sonnet-4.5", 1500},
                {"google/gemini-2.5-flash", 250},
                {"deepseek/deepseek-v3.2", 42}};
    static const sj_usage million = {.prompt_tokens = 1000000, .completion_tokens = 1000000};
    case_play play = case_of("cases/costs");
    const sj_config *config = play.config;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const sj_price *price = sj_price_find(config->prices, config->price_count, SJ_SLICE("router"),
                                              sj_slice_of(rows[i].model));
        assert_int_equal(sj_cost_of(price, &million), rows[i].cents * 2 * (SJ_COST_PER_DOLLAR / 100));
        assert_non_null(sj_price_find(config->compare_prices, config->compare_price_count, SJ_SLICE("router"),
                                      sj_slice_of(rows[i].model)));
    }
    bench *b = &play.b; // what is saved is saved by going down this chain
    case_ask(&play);
    gives(b, answer(b, 402), "fallback b 402; save 1; start 2 b");
    gives(b, answer(b, 200), "deliver 2");
    assert_string_equal(play.route->hops[0].model, rows[0].model);
    assert_string_equal(play.route->hops[sj_journey_read(b->journey).hop].model, rows[3].model);
    over(b);
    case_free(&play);
}

static void key(void **unused) {
    (void)unused;
    sj_config *config = case_config("cases/key");
    assert_string_equal(config->upstreams[0].api_keys[0], "sk-of-the-environment");
    char *printed = print_config(config);
    assert_null(strstr(printed, "sk-of-the-environment"));
    free(printed);
    sj_config_unref(&config);
    unsetenv("OPENAI_API_KEY");
    assert_null(load_file(SJ_CONF "/cases/key.conf"));
    assert_non_null(strstr(said_error, "OPENAI_API_KEY"));
    assert_non_null(strstr(said_error, "key.conf:3"));
}

static bool is_case(const char *name) {
    size_t n = strlen(name);
    return n > 5 && strcmp(name + n - 5, ".conf") == 0;
}

// Two lines of explanation, then the configuration.
static void check_head(const char *path) {
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char line[512];
    for (int i = 0; i < 3; i++) {
        assert_non_null(fgets(line, sizeof line, file));
        if ((line[0] == '#') != (i < 2) || (i < 2 && strlen(line) < 40))
            fail_msg("%s: line %d is '%s'", path, i + 1, line);
    }
    (void)fclose(file);
}

static void every_case_says_what_it_is_and_loads(void **unused) {
    (void)unused;
    DIR *folder = opendir(SJ_CONF "/cases");
    assert_non_null(folder);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (!is_case(entry->d_name))
            continue;
        char path[512], name[256];
        (void)snprintf(path, sizeof path, "%s/cases/%s", SJ_CONF, entry->d_name);
        check_head(path);
        (void)snprintf(name, sizeof name, "cases/%.*s", (int)strlen(entry->d_name) - 5, entry->d_name);
        sj_config *config = case_config(name);
        sj_config_unref(&config);
        count++;
    }
    (void)closedir(folder);
    assert_in_range(count, 19, 99);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adaptive_breaker),
        cmocka_unit_test(simple_breaker),
        cmocka_unit_test(advanced_breaker),
        cmocka_unit_test(strong_cheap),
        cmocka_unit_test(batch),
        cmocka_unit_test(key),
        cmocka_unit_test(costs),
        cmocka_unit_test(every_case_says_what_it_is_and_loads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
