#include "duration.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE };

typedef struct row {
    const char *text;
    int64_t ms; // -1: refused
} row;

static void check(const row *rows, size_t count, sj_bare_number bare) {
    for (size_t i = 0; i < count; i++) {
        int64_t ms = -77;
        bool ok = sj_duration_parse(sj_slice_of(rows[i].text), bare, &ms);
        int64_t expected = rows[i].ms < 0 ? -77 : rows[i].ms;
        if (ok != (rows[i].ms >= 0) || ms != expected)
            fail_msg("\"%s\": %s, %" PRId64, rows[i].text, ok ? "taken" : "refused", ms);
    }
}
#define CHECK(rows, bare) check(rows, sizeof(rows) / sizeof *(rows), bare)

// Go's time package, parseDurationTests and parseDurationErrorTests (src/time/time_test.go), in milliseconds rounded up.
// Different here: nothing with a minus sign is a duration, not even "-0".
static const row go_rows[] = {
    {"0", 0},
    {"5s", 5 * SECOND},
    {"30s", 30 * SECOND},
    {"1478s", 1478 * SECOND},
    {"-5s", -1},
    {"+5s", 5 * SECOND},
    {"-0", -1},
    {"+0", 0},
    {"5.0s", 5 * SECOND},
    {"5.6s", 5600},
    {"5.s", 5 * SECOND},
    {".5s", 500},
    {"1.0s", 1 * SECOND},
    {"1.00s", 1 * SECOND},
    {"1.004s", 1004},
    {"1.0040s", 1004},
    {"100.00100s", 100001},
    {"10ns", 1},
    {"11us", 1},
    {"12\xc2\xb5s", 1},
    {"12\xce\xbcs", 1},
    {"13ms", 13},
    {"14s", 14 * SECOND},
    {"15m", 15 * MINUTE},
    {"16h", 16 * HOUR},
    {"3h30m", 3 * HOUR + 30 * MINUTE},
    {"10.5s4m", 4 * MINUTE + 10500},
    {"-2m3.4s", -1},
    {"1h2m3s4ms5us6ns", 1 * HOUR + 2 * MINUTE + 3 * SECOND + 5},
    {"39h9m14.425s", 39 * HOUR + 9 * MINUTE + 14425},
    {"52763797000ns", 52764},
    {"0.3333333333333333333h", 20 * MINUTE},
    {"9007199254740993ns", INT64_C(9007199255)},
    {"9223372036854775807ns", INT64_C(9223372036855)},
    {"9223372036854775.807us", INT64_C(9223372036855)},
    {"9223372036s854ms775us807ns", INT64_C(9223372036855)},
    {"-9223372036854775808ns", -1},
    {"0.100000000000000000000h", 6 * MINUTE},
    {"0.830103483285477580700h", 49 * MINUTE + 48 * SECOND + 373},
    {"", -1},
    {"3", -1},
    {"-", -1},
    {"s", -1},
    {".", -1},
    {"-.", -1},
    {".s", -1},
    {"+.s", -1},
    {"1d", -1},
    {"\x85\x85", -1},
    {"\xff\xff", -1},
    {"hello \xff\xff world", -1},
    {"\xef\xbf\xbd", -1},
    {"9223372036854775810ns", -1},
    {"9223372036854775808ns", -1},
    {"-9223372036854775809ns", -1},
    {"9223372036854776us", -1},
    {"3000000h", -1},
    {"9223372036854775.808us", -1},
    {"9223372036854ms775us808ns", -1},
};

// What OpenAI's rate-limit headers look like, and what does not pass for a duration.
static const row other_rows[] = {
    {"1s", 1000},
    {"6m0s", 6 * MINUTE},
    {"20ms", 20},
    {"1h15m30.918s", 4530918},
    {"8.64s", 8640},
    {"2m59.56s", 179560},
    {"0s", 0},
    {"0h0m0s", 0},
    {"1ns", 1},
    {"0.0000001ns", 1},
    {"999999ns", 1},
    {"1000001ns", 2},
    {"000000000000000000000000000000000001s", 1000},
    {"2562047h47m16.854775807s", INT64_C(9223372036855)},
    {"2562047h47m16.854775808s", -1},
    {"2562048h", -1},
    {"99999999999999999999999999999999999h", -1},
    {" 1s", -1},
    {"1s ", -1},
    {"1 s", -1},
    {"1S", -1},
    {"1H", -1},
    {"1e3s", -1},
    {"0x10s", -1},
    {"1..5s", -1},
    {"1.5.s", -1},
    {"1,5s", -1},
    {"1s5", -1},
    {"5 1s", -1},
    {"++5s", -1},
    {"+", -1},
    {"1s+1s", -1},
    {"1s-1s", -1},
    {"nan", -1},
    {"inf", -1},
    {"00", -1},
    {"0.0", -1},
};

static const row bare_rows[] = {
    {"59", 59000},      {"0.25", 250},
    {"59.5", 59500},    {"0", 0},
    {"0.0", 0},         {"00", 0},
    {"5.", 5000},       {".5", 500},
    {"0.0001", 1},      {"+7", 7000},
    {"1m", MINUTE},     {"9223372036", INT64_C(9223372036000)},
    {"9223372037", -1}, {"99999999999999999999", -1},
    {"-7", -1},         {"1m5", -1},
    {"5 ", -1},         {"", -1},
    {".", -1},          {"1e3", -1},
    {"nan", -1},        {"inf", -1},
    {"0x10", -1},       {"1_000", -1},
};

static void test_go_grammar(void **state) {
    (void)state;
    CHECK(go_rows, SJ_BARE_REFUSED);
    CHECK(other_rows, SJ_BARE_REFUSED);
}

static void test_bare_seconds(void **state) {
    (void)state;
    CHECK(bare_rows, SJ_BARE_SECONDS);
}

static void test_text_need_not_be_terminated(void **state) {
    (void)state;
    int64_t ms = 0;
    assert_true(sj_duration_parse((sj_slice){"15s", 2}, SJ_BARE_SECONDS, &ms));
    assert_int_equal(ms, 15000);
    assert_false(sj_duration_parse((sj_slice){"1s\0", 3}, SJ_BARE_SECONDS, &ms));
    assert_false(sj_duration_parse((sj_slice){NULL, 0}, SJ_BARE_SECONDS, &ms));
    assert_int_equal(ms, 15000);
}

static void test_bare_milliseconds(void **state) {
    (void)state;
    static const row rows[] = {
        {"0", 0},
        {"1500", 1500},
        {"1.5", 2},
        {"0.25", 1},
        {"9223372036854", INT64_C(9223372036854)},
        {"9223372036855", -1},
        {"2s", 2000},
        {"-1", -1},
    };
    CHECK(rows, SJ_BARE_MILLISECONDS);
}

static void test_format(void **state) {
    (void)state;
    static const struct {
        int64_t ms;
        const char *text;
    } rows[] = {
        {0, "0s"},
        {1, "1ms"},
        {500, "500ms"},
        {999, "999ms"},
        {1000, "1s"},
        {2500, "2.5s"},
        {2050, "2.05s"},
        {1001, "1.001s"},
        {59999, "59.999s"},
        {60000, "1m"},
        {90000, "1m30s"},
        {60500, "1m0.5s"},
        {600000, "10m"},
        {3600000, "1h"},
        {3605000, "1h5s"},
        {5400000, "1h30m"},
        {86400000, "24h"},
        {-2500, "-2.5s"},
        {-5, "-5ms"},
        {INT64_MAX, "2562047788015h12m55.807s"},
        {INT64_MIN, "-2562047788015h12m55.808s"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[40];
        sj_duration_format(rows[i].ms, text, sizeof text);
        assert_string_equal(text, rows[i].text);
    }
}

static void test_format_stays_within_its_room(void **state) {
    (void)state;
    char text[8] = "#######";
    sj_duration_format(90000, text, 4);
    assert_string_equal(text, "1m3");
    assert_int_equal(text[4], '#');
    sj_duration_format(90000, text, 1);
    assert_string_equal(text, "");
    text[0] = '#';
    sj_duration_format(90000, text, 0);
    assert_int_equal(text[0], '#');
}

static void test_what_is_written_can_be_read(void **state) {
    (void)state;
    uint64_t number = 1;
    for (int i = 0; i < 2000; i++) {
        number = number * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        int64_t wanted = (int64_t)((number >> 8) % UINT64_C(9223372036000)) >> (i % 40), got = -1;
        char text[40];
        sj_duration_format(wanted, text, sizeof text);
        assert_true(sj_duration_parse(sj_slice_of(text), SJ_BARE_REFUSED, &got));
        assert_int_equal(got, wanted);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_go_grammar),
        cmocka_unit_test(test_bare_seconds),
        cmocka_unit_test(test_bare_milliseconds),
        cmocka_unit_test(test_text_need_not_be_terminated),
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_format_stays_within_its_room),
        cmocka_unit_test(test_what_is_written_can_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
