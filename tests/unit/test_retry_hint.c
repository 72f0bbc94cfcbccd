#include "retry_hint.h"

#include <inttypes.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(list) (sizeof(list) / sizeof *(list))

typedef struct field {
    const char *name, *value;
} field;

static const int64_t now_ms =
    INT64_C(1696004797000); // Fri, 29 Sep 2023 16:26:37 GMT, the moment of openai-python's rows

static sj_retry_hint read_at(const field *fields, size_t count, int status, int64_t wall_ms) {
    sj_headers headers;
    sj_headers_init(&headers);
    for (size_t i = 0; i < count && fields[i].name; i++)
        assert_true(sj_headers_add(&headers, sj_slice_of(fields[i].name), sj_slice_of(fields[i].value)));
    sj_retry_hint hint = sj_retry_hint_read(&headers, status, wall_ms);
    sj_headers_free(&headers);
    assert_int_equal(hint.source == SJ_HINT_NONE, hint.wait_ms == 0);
    assert_true(hint.wait_ms >= 0);
    return hint;
}

typedef struct row {
    int64_t wait_ms; // 0: no hint
    field fields[5];
} row;

static void check(const row *rows, size_t count, int status) {
    for (size_t i = 0; i < count; i++) {
        sj_retry_hint hint = read_at(rows[i].fields, COUNT(rows[i].fields), status, now_ms);
        if (hint.wait_ms != rows[i].wait_ms)
            fail_msg("row %zu, %s: %s: gave %" PRId64, i, rows[i].fields[0].name, rows[i].fields[0].value,
                     hint.wait_ms);
    }
}
#define CHECK(rows, status) check(rows, COUNT(rows), status)

// openai-python, tests/test_client.py, test_parse_retry_after_header: 23 rows. There a refused hint gives the SDK's own backoff (0.5, 1, 2, 8 s),
// here "no hint". Different here: more than 120 s stays a hint; whether it is too long is the journey's business (max_hint).
static void test_openai_python(void **state) {
    (void)state;
    static const row rows[] = {
        {20000, {{"retry-after", "20"}}},
        {0, {{"retry-after", "0"}}},
        {0, {{"retry-after", "-10"}}},
        {60000, {{"retry-after", "60"}}},
        {61000, {{"retry-after", "61"}}},
        {120000, {{"retry-after", "120"}}},
        {121000, {{"retry-after", "121"}}},
        {20000, {{"retry-after", "Fri, 29 Sep 2023 16:26:57 GMT"}}},
        {0, {{"retry-after", "Fri, 29 Sep 2023 16:26:37 GMT"}}},
        {0, {{"retry-after", "Fri, 29 Sep 2023 16:26:27 GMT"}}},
        {60000, {{"retry-after", "Fri, 29 Sep 2023 16:27:37 GMT"}}},
        {61000, {{"retry-after", "Fri, 29 Sep 2023 16:27:38 GMT"}}},
        {120000, {{"retry-after", "Fri, 29 Sep 2023 16:28:37 GMT"}}},
        {121000, {{"retry-after", "Fri, 29 Sep 2023 16:28:38 GMT"}}},
        {0, {{"retry-after", "99999999999999999999999999999999999"}}},
        {0, {{"retry-after", "inf"}}},
        {0, {{"retry-after", "nan"}}},
        {0, {{"retry-after", "Zun, 29 Sep 2023 16:26:27 GMT"}}},
        {0, {{"retry-after", "Fri, 29 Sep 100000 16:26:57 GMT"}}},
        {0, {{"retry-after", ""}}}, // four rows there: one for each number of tries left
        {0, {{0}}},
        // test_retry_after_max_delay, the -ms form
        {120000, {{"retry-after-ms", "120000"}}},
        {120001, {{"retry-after-ms", "120001"}}},
    };
    CHECK(rows, 429);
    CHECK(rows, 503);
}

static void test_retry_after(void **state) {
    (void)state;
    static const row rows[] = {
        {1100, {{"Retry-After", "1.1"}}},
        {1, {{"Retry-After", "0.0001"}}}, // never early
        {1501, {{"Retry-After", "1.5001"}}},
        {7000, {{"RETRY-AFTER", " 7 "}}},
        {500, {{"Retry-After", ".5"}}},
        {5000, {{"Retry-After", "5."}}},
        {7000, {{"Retry-After", "007"}}},
        {0, {{"Retry-After", "."}}},
        {0, {{"Retry-After", "+5"}}},
        {0, {{"Retry-After", "1e3"}}},
        {0, {{"Retry-After", "0x10"}}},
        {0, {{"Retry-After", "5 seconds"}}},
        {0, {{"Retry-After", "120s"}}}, // agentgateway has this row too
        {0, {{"Retry-After", "1,5"}}},
        {0, {{"Retry-After", "5, 6"}}},
        {0, {{"Retry-After", "1_0"}}},
        {0, {{"Retry-After", "\xd9\xa3"}}}, // Arabic-Indic three
        {0, {{"Retry-After", "NaN"}}},
        {0, {{"Retry-After", "-0"}}},
        {0, {{"Retry-After", "9223372037"}}}, // past 290 years
        {INT64_C(9223372036000), {{"Retry-After", "9223372036"}}},
        {20000, {{"Retry-After", "Friday, 29-Sep-23 16:26:57 GMT"}}},
        {20000, {{"Retry-After", "Fri Sep 29 16:26:57 2023"}}},
        {5000, {{"Retry-After", "5"}, {"Retry-After", "9"}}},
    };
    CHECK(rows, 503);
}

static void test_dates_are_measured_against_the_answers_own(void **state) {
    (void)state;
    static const row rows[] = {
        // The upstream's clock is two hours off: the wait is what it meant.
        {30000,
         {{"Date", "Fri, 29 Sep 2023 14:00:00 GMT"}, {"Retry-After", "Fri, 29 Sep 2023 14:00:30 GMT"}}},
        {30000,
         {{"Retry-After", "Fri, 29 Sep 2023 18:00:30 GMT"}, {"date", "Friday, 29-Sep-23 18:00:00 GMT"}}},
        {0, {{"Date", "Fri, 29 Sep 2023 18:00:00 GMT"}, {"Retry-After", "Fri, 29 Sep 2023 17:59:59 GMT"}}},
        {0, {{"Date", "Fri, 29 Sep 2023 18:00:00 GMT"}, {"Retry-After", "Fri, 29 Sep 2023 18:00:00 GMT"}}},
        {20000, {{"Date", "yesterday"}, {"Retry-After", "Fri, 29 Sep 2023 16:26:57 GMT"}}},
        {20000, {{"Date", ""}, {"Retry-After", "Fri, 29 Sep 2023 16:26:57 GMT"}}},
        // Seconds need no clock.
        {20000, {{"Date", "Fri, 29 Sep 2023 14:00:00 GMT"}, {"Retry-After", "20"}}},
    };
    CHECK(rows, 503);
    field far[] = {{"Retry-After", "Fri, 31 Dec 9999 23:59:59 GMT"}};
    assert_true(read_at(far, 1, 503, now_ms).wait_ms > INT64_C(200) * 365 * 86400 * 1000);
    assert_int_equal(read_at(far, 1, 503, INT64_MIN).wait_ms, 0); // would overflow
    assert_int_equal(read_at(far, 1, 503, INT64_MAX).wait_ms, 0);
}

static void test_milliseconds(void **state) {
    (void)state;
    static const row rows[] = {
        {1500, {{"retry-after-ms", "1500"}}},
        {2, {{"retry-after-ms", "1.5"}}},
        {250, {{"x-ms-retry-after-ms", "250"}}},
        {250, {{"retry-after-ms", "0"}, {"x-ms-retry-after-ms", "250"}}},
        {20000, {{"retry-after-ms", "soon"}, {"retry-after", "20"}}},
        {20000, {{"retry-after-ms", "-5"}, {"retry-after", "20"}}},
        {100, {{"retry-after", "20"}, {"retry-after-ms", "100"}}},
        {100, {{"x-ms-retry-after-ms", "200"}, {"Retry-After-Ms", "100"}}},
        {0, {{"retry-after-ms", "99999999999999999999"}}},
        {0, {{"retry-after-ms", "5s"}}},
        {0, {{"retry-after-ms", "nan"}}},
    };
    CHECK(rows, 429);
}

// agentgateway, crates/agentgateway/src/http/outlierdetction_tests.rs. Different here: "0" is no hint; of several resets the exhausted
// dimensions' largest counts before the smallest of all.
static void test_agentgateway(void **state) {
    (void)state;
    static const row rows[] = {
        {120000, {{"retry-after", "120"}}},
        {60000, {{"retry-after", "60"}}},
        {0, {{"retry-after", "0"}}},
        {0, {{"retry-after", "120s"}}},
        {0, {{"retry-after", "invalid"}}},
        {0, {{"retry-after", ""}}},
        {300000, {{"retry-after", "Fri, 29 Sep 2023 16:31:37 GMT"}}},
        {240000, {{"x-ratelimit-reset", "1696005037"}}},
        {0, {{"x-ratelimit-reset", "1695904798"}}},
        {1234000, {{"x-ratelimit-reset", "1234"}}},
        {300000, {{"x-ratelimit-reset-requests", "5m"}}},
        {3600000, {{"x-ratelimit-reset-requests", "1h"}}},
        {30000, {{"x-ratelimit-reset-requests", "30s"}}},
        {150000, {{"x-ratelimit-reset-tokens", "2m30s"}}},
        {60000, {{"x-ratelimit-reset-tokens", "1m"}}},
        {86400000, {{"x-ratelimit-reset-requests-day", "24h"}}},
        {60000, {{"x-ratelimit-reset-tokens-minute", "60s"}}},
        {60000, {{"x-ratelimit-reset-tokens-minute", "1m"}}},
        {120000, {{"x-ratelimit-reset-requests", "120"}}},
        {300000, {{"x-ratelimit-reset-tokens", "300"}}},
        {60000, {{"x-ratelimit-reset-requests", "300"}, {"x-ratelimit-reset-tokens", "60"}}},
        {11100,
         {{"x-ratelimit-reset-requests-day", "33011.382867097855"},
          {"x-ratelimit-reset-tokens-minute", "11.1"}}},
        {60000, {{"x-ratelimit-reset-tokens", "1m"}, {"x-ratelimit-reset-requests", "2m"}}},
        {0, {{"x-ratelimit-reset-requests", "invalid"}}},
        {0, {{"x-ratelimit-reset-tokens", ""}}},
        {0, {{0}}},
        {0, {{"x-ratelimit-reset-requests", "1m2x"}}},
        {0, {{"x-ratelimit-reset-tokens", "abc"}}},
        {0, {{"x-ratelimit-reset-requests", "-1m"}}},
    };
    CHECK(rows, 429);
}

// The example headers of OpenAI's rate-limit guide, and what may surround them.
static void test_reset_dimensions(void **state) {
    (void)state;
    static const row rows[] = {
        {1000, {{"x-ratelimit-reset-requests", "1s"}, {"x-ratelimit-reset-tokens", "6m0s"}}},
        {20, {{"x-ratelimit-reset-requests", "20ms"}}},
        {360000,
         {{"x-ratelimit-remaining-requests", "59"},
          {"x-ratelimit-reset-requests", "1s"},
          {"x-ratelimit-remaining-tokens", "0"},
          {"x-ratelimit-reset-tokens", "6m0s"}}},
        {1000,
         {{"x-ratelimit-remaining-requests", "0"},
          {"x-ratelimit-reset-requests", "1s"},
          {"x-ratelimit-remaining-tokens", "149984"},
          {"x-ratelimit-reset-tokens", "6m0s"}}},
        {360000,
         {{"x-ratelimit-reset-requests", "1s"},
          {"x-ratelimit-reset-tokens", "6m0s"},
          {"X-RateLimit-Remaining-Tokens", " 0 "},
          {"X-RateLimit-Remaining-Requests", "0"}}},
        {360000,
         {{"x-ratelimit-reset-tokens", "6m0s"},
          {"x-ratelimit-remaining-tokens", "-12"},
          {"x-ratelimit-reset-requests", "1s"}}},
        {1000,
         {{"x-ratelimit-reset-tokens", "6m0s"},
          {"x-ratelimit-remaining-tokens", "none"},
          {"x-ratelimit-reset-requests", "1s"}}},
        {1000,
         {{"x-ratelimit-reset-tokens", "6m0s"},
          {"x-ratelimit-remaining-tokens", ""},
          {"x-ratelimit-reset-requests", "1s"}}},
        // An exhausted dimension that does not say when says nothing.
        {1000,
         {{"x-ratelimit-remaining-tokens", "0"},
          {"x-ratelimit-reset-tokens", "0s"},
          {"x-ratelimit-reset-requests", "1s"}}},
        {1000, {{"x-ratelimit-remaining-tokens", "0"}, {"x-ratelimit-reset-requests", "1s"}}},
        {0, {{"x-ratelimit-reset-requests", "0s"}}},
        {0, {{"x-ratelimit-reset-requests", "99999999999999999999"}}},
        {0, {{"x-ratelimit-reset-", "5s"}}},
        {0, {{"x-ratelimit-remaining-requests", "0"}}},
        // They yield to Retry-After, and go before the one for all.
        {3000, {{"x-ratelimit-reset-requests", "1s"}, {"retry-after", "3"}}},
        {1000, {{"x-ratelimit-reset", "9"}, {"x-ratelimit-reset-requests", "1s"}}},
        {9000, {{"x-ratelimit-reset", "9"}, {"x-ratelimit-reset-requests", "junk"}}},
    };
    CHECK(rows, 429);
}

static void test_reset(void **state) {
    (void)state;
    static const row rows[] = {
        {1500, {{"x-ratelimit-reset", "1.5"}}},
        {90000, {{"X-RateLimit-Reset", "1m30s"}}},
        {INT64_C(2591999000), {{"x-ratelimit-reset", "2591999"}}}, // 30 days less a second
        {0, {{"x-ratelimit-reset", "2592000"}}}, // a moment of 1970
        {INT64_C(2592000000), {{"x-ratelimit-reset", "720h"}}}, // a unit makes it a duration
        {1000, {{"x-ratelimit-reset", "1696004798"}}},
        {500, {{"x-ratelimit-reset", "1696004797.5"}}},
        {0, {{"x-ratelimit-reset", "1696004797"}}},
        {1000, {{"x-ratelimit-reset", "1696004798000"}}}, // in ms, as OpenRouter writes it
        {0, {{"x-ratelimit-reset", "1696004797000"}}},
        {0, {{"x-ratelimit-reset", "99999999999999999999"}}},
        {0, {{"x-ratelimit-reset", "0"}}},
        {0, {{"x-ratelimit-reset", "-1"}}},
        {0, {{"x-ratelimit-reset", "Fri, 29 Sep 2023 16:26:57 GMT"}}},
    };
    CHECK(rows, 429);
}

static void test_resets_mean_nothing_on_other_statuses(void **state) {
    (void)state;
    static const int statuses[] = {200, 400, 500, 503, 529};
    static const row rows[] = {
        {0, {{"x-ratelimit-reset-requests", "5m"}, {"x-ratelimit-remaining-requests", "0"}}},
        {0, {{"x-ratelimit-reset", "30"}}},
        {2000, {{"x-ratelimit-reset", "30"}, {"retry-after", "2"}}},
    };
    for (size_t i = 0; i < COUNT(statuses); i++)
        CHECK(rows, statuses[i]);
}

static void test_source(void **state) {
    (void)state;
    static const struct {
        const char *header, *name;
        sj_hint_source source;
    } rows[] = {
        {"retry-after-ms", "retry-after-ms", SJ_HINT_RETRY_AFTER_MS},
        {"x-ms-retry-after-ms", "retry-after-ms", SJ_HINT_RETRY_AFTER_MS},
        {"retry-after", "retry-after", SJ_HINT_RETRY_AFTER},
        {"x-ratelimit-reset-requests", "x-ratelimit-reset-*", SJ_HINT_RATELIMIT_RESET_DIMENSION},
        {"x-ratelimit-reset", "x-ratelimit-reset", SJ_HINT_RATELIMIT_RESET},
        {"x-other", "none", SJ_HINT_NONE},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        field fields[] = {{rows[i].header, "5"}};
        sj_retry_hint hint = read_at(fields, 1, 429, now_ms);
        assert_int_equal(hint.source, rows[i].source);
        assert_string_equal(sj_hint_source_name(hint.source), rows[i].name);
    }
}

static void test_should_retry(void **state) {
    (void)state;
    static const struct {
        const char *value;
        sj_should_retry said;
    } rows[] = {
        {"true", SJ_SHOULD_RETRY_YES},     {"false", SJ_SHOULD_RETRY_NO},
        {" true ", SJ_SHOULD_RETRY_YES},   {"True", SJ_SHOULD_RETRY_UNSAID},
        {"FALSE", SJ_SHOULD_RETRY_UNSAID}, {"1", SJ_SHOULD_RETRY_UNSAID},
        {"", SJ_SHOULD_RETRY_UNSAID},      {"truefalse", SJ_SHOULD_RETRY_UNSAID},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        field fields[] = {{"X-Should-Retry", rows[i].value}};
        assert_int_equal(read_at(fields, 1, 500, now_ms).should_retry, rows[i].said);
    }
    assert_int_equal(read_at(NULL, 0, 500, now_ms).should_retry, SJ_SHOULD_RETRY_UNSAID);
    field both[] = {{"x-should-retry", "false"}, {"retry-after", "5"}};
    sj_retry_hint hint = read_at(both, 2, 500, now_ms);
    assert_int_equal(hint.should_retry, SJ_SHOULD_RETRY_NO);
    assert_int_equal(hint.wait_ms, 5000);
}

static sj_client_patience patience(const field *fields, size_t count) {
    sj_headers headers;
    sj_headers_init(&headers);
    for (size_t i = 0; i < count && fields[i].name; i++)
        assert_true(sj_headers_add(&headers, sj_slice_of(fields[i].name), sj_slice_of(fields[i].value)));
    sj_client_patience read = sj_client_patience_read(&headers);
    sj_headers_free(&headers);
    return read;
}

// t' = max(0.9 t, t - 1 s)
static void test_client_timeout(void **state) {
    (void)state;
    static const struct {
        int64_t timeout_ms;
        field fields[3];
    } rows[] = {
        {0, {{0}}},
        {599000, {{"X-Stainless-Timeout", "600"}}},
        {599000, {{"x-stainless-read-timeout", "600"}}},
        {599000, {{"x-stainless-read-timeout", "600.0"}}},
        {58500, {{"X-Stainless-Timeout", "59.5"}}},
        {9000, {{"X-Stainless-Timeout", "10"}}},
        {10000, {{"X-Stainless-Timeout", "11"}}},
        {4500, {{"X-Stainless-Timeout", "5"}}},
        {90, {{"X-Stainless-Timeout", "0.1"}}},
        {1, {{"X-Stainless-Timeout", "0.001"}}},
        {1, {{"X-Stainless-Timeout", "0.0000001"}}},
        {0, {{"X-Stainless-Timeout", "0"}}},
        {0, {{"X-Stainless-Timeout", "-5"}}},
        {0, {{"X-Stainless-Timeout", "nan"}}},
        {0, {{"X-Stainless-Timeout", "inf"}}},
        {0, {{"X-Stainless-Timeout", "NaN"}}},
        {0, {{"X-Stainless-Timeout", "None"}}},
        {0, {{"X-Stainless-Timeout", "60s"}}},
        {0, {{"X-Stainless-Timeout", ""}}},
        {0, {{"X-Stainless-Timeout", "99999999999999999999"}}},
        {INT64_C(9223372035000), {{"X-Stainless-Timeout", "9223372036"}}},
        {4500, {{"X-Stainless-Timeout", "5"}, {"x-stainless-read-timeout", "600"}}},
        {4500, {{"X-Stainless-Timeout", "600"}, {"x-stainless-read-timeout", "5"}}},
        {599000, {{"X-Stainless-Timeout", "600"}, {"x-stainless-read-timeout", "0"}}},
        // ours is taken as it is
        {5000, {{"x-stormjib-deadline", "5s"}}},
        {5000, {{"X-Stormjib-Deadline", " 5 "}}},
        {90000, {{"x-stormjib-deadline", "1m30s"}}},
        {500, {{"x-stormjib-deadline", "500ms"}}},
        {0, {{"x-stormjib-deadline", "0"}}},
        {0, {{"x-stormjib-deadline", "0s"}}},
        {0, {{"x-stormjib-deadline", "-5s"}}},
        {0, {{"x-stormjib-deadline", "soon"}}},
        {4600, {{"x-stormjib-deadline", "4.6s"}, {"X-Stainless-Timeout", "600"}}},
        {4500, {{"x-stormjib-deadline", "4.6s"}, {"X-Stainless-Timeout", "5"}}},
        {4500, {{"x-stormjib-deadline", "junk"}, {"X-Stainless-Timeout", "5"}}},
        {4500, {{"x-stormjib-deadline", "0"}, {"X-Stainless-Timeout", "5"}}},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        sj_client_patience read = patience(rows[i].fields, COUNT(rows[i].fields));
        if (read.timeout_ms != rows[i].timeout_ms)
            fail_msg("row %zu, %s: %s: gave %" PRId64, i, rows[i].fields[0].name, rows[i].fields[0].value,
                     read.timeout_ms);
        assert_int_equal(read.retry_count, 0);
    }
}

static void test_client_retry_count(void **state) {
    (void)state;
    static const struct {
        const char *value;
        int count;
    } rows[] = {
        {"0", 0},
        {"1", 1},
        {"42", 42},
        {" 2 ", 2},
        {"007", 7},
        {"", 0},
        {"-1", 0},
        {"+1", 0},
        {"1.0", 0},
        {"two", 0},
        {"1x", 0},
        {"0x1", 0},
        {"1 2", 0},
        {"2147483647", INT_MAX},
        {"99999999999999999999999999", INT_MAX},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        field fields[] = {{"X-Stainless-Retry-Count", rows[i].value}};
        assert_int_equal(patience(fields, 1).retry_count, rows[i].count);
    }
    assert_int_equal(patience(NULL, 0).retry_count, 0);
}

// A good answer that was the last one for a while.
static void test_exhausted(void **state) {
    (void)state;
    static const row rows[] = {
        {1000, {{"x-ratelimit-remaining-requests", "0"}, {"x-ratelimit-reset-requests", "1s"}}},
        {0, {{"x-ratelimit-remaining-requests", "1"}, {"x-ratelimit-reset-requests", "1s"}}},
        {0, {{"x-ratelimit-remaining-requests", "0"}}},
        {0, {{"x-ratelimit-reset-requests", "1s"}}},
        {0, {{"x-ratelimit-remaining-requests", "0"}, {"x-ratelimit-reset-requests", "0s"}}},
        {0, {{"x-ratelimit-remaining-tokens", "0"}, {"x-ratelimit-reset-requests", "1s"}}},
        {360000,
         {{"x-ratelimit-remaining-requests", "0"},
          {"x-ratelimit-reset-requests", "20ms"},
          {"X-RateLimit-Remaining-Tokens", "0"},
          {"X-RateLimit-Reset-Tokens", "6m0s"}}},
        {20,
         {{"x-ratelimit-remaining-requests", "0"},
          {"x-ratelimit-reset-requests", "20ms"},
          {"x-ratelimit-remaining-tokens", "149984"},
          {"x-ratelimit-reset-tokens", "6m0s"}}},
        {7000, {{"x-ratelimit-remaining", "0"}, {"x-ratelimit-reset", "7"}}},
        {3000, {{"x-ratelimit-remaining", "0"}, {"x-ratelimit-reset", "1696004800"}}},
        {0, {{"x-ratelimit-remaining", "3"}, {"x-ratelimit-reset", "7"}}},
        {0, {{"x-ratelimit-remaining", "soon"}, {"x-ratelimit-reset", "7"}}},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        sj_retry_hint hint = read_at(rows[i].fields, COUNT(rows[i].fields), 200, now_ms);
        if (hint.exhausted_ms != rows[i].wait_ms || hint.source != SJ_HINT_NONE)
            fail_msg("row %zu: gave %" PRId64, i, hint.exhausted_ms);
        hint = read_at(rows[i].fields, COUNT(rows[i].fields), 429, now_ms); // there it is the hint itself
        assert_int_equal(hint.exhausted_ms, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_openai_python),
        cmocka_unit_test(test_retry_after),
        cmocka_unit_test(test_dates_are_measured_against_the_answers_own),
        cmocka_unit_test(test_milliseconds),
        cmocka_unit_test(test_agentgateway),
        cmocka_unit_test(test_reset_dimensions),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_resets_mean_nothing_on_other_statuses),
        cmocka_unit_test(test_source),
        cmocka_unit_test(test_should_retry),
        cmocka_unit_test(test_client_timeout),
        cmocka_unit_test(test_client_retry_count),
        cmocka_unit_test(test_exhausted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
