#include "http_date.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define REFUSED INT64_MIN

static int64_t seconds(const char *text) {
    int64_t ms = REFUSED;
    bool ok = sj_http_date_parse(sj_slice_of(text), &ms);
    assert_int_equal(ok, ms != REFUSED);
    return ok ? ms / 1000 : REFUSED;
}

typedef struct row {
    const char *text;
    int64_t seconds;
} row;

static void check(const row *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        int64_t got = seconds(rows[i].text);
        if (got != rows[i].seconds)
            fail_msg("\"%s\" gave %" PRId64, rows[i].text, got);
    }
}

// curl's tests/libtest/lib517.c: its rows in the three forms of RFC 9110.
static void test_curls_rows(void **state) {
    (void)state;
    static const row rows[] = {
        {"Sun, 06 Nov 1994 08:49:37 GMT", 784111777},
        {"Sunday, 06-Nov-94 08:49:37 GMT", 784111777},
        {"Sun Nov  6 08:49:37 1994", 784111777},
        {"Wed, 25 Apr 2007 21:02:13 GMT", 1177534933},
        {"Wed, 31 Dec 2008 23:59:60 GMT", 1230768000},
        {"Sun, 06 Nov 2044 08:49:37 GMT", INT64_C(2362034977)},
        {"Sun, 06 Nov 3144 08:49:37 GMT", INT64_C(37074617377)},
        {"Sun, 06 Nov 1900 08:49:37 GMT", INT64_C(-2182259423)},
        {"Sun, 06 Nov 1800 08:49:37 GMT", INT64_C(-5337933023)},
        {"Sun, 06 Nov 1968 08:49:37 GMT", -36342623},
    };
    check(rows, sizeof rows / sizeof *rows);
}

// Its lenient rows: curl takes most of them, we take no guesses.
static void test_other_spellings_are_refused(void **state) {
    (void)state;
    static const char *const rows[] = {
        "06 Nov 1994 08:49:37 GMT",
        "06-Nov-94 08:49:37 GMT",
        "Nov  6 08:49:37 1994",
        "06 Nov 1994 08:49:37",
        "1994 Nov 6 08:49:37",
        "GMT 08:49:37 06-Nov-94 Sunday",
        "1994 Nov 6",
        "Sun/Nov/6/94/GMT",
        "Sun, 06 Nov 1994 08:49:37 CET",
        "06 Nov 1994 08:49:37 EST",
        "Sun, 12 Sep 2004 15:05:58 -0700",
        "20040912 15:05:58 -0700",
        "Thu, 01-Jan-1970 00:59:59 GMT",
        "Sat, 15-Apr-17 21:01:22 GMT",
        "Fri, 1 Jan 2010 01:01:50 GMT",
        "Wednesday, 1-Jan-2003 00:00:00 GMT",
        ", 1-Jan-2003 00:00:00 GMT",
        "WillyWonka  , 18-Apr-07 22:50:12 GMT",
        "Sat, 15-Apr-17\"21:01:22\"GMT",
        "Sat, 15-Apr-17 21:01:22 GMT-2",
        "Thu Apr 18 22:50:12 2007 GMT",
        "2017 April 15 21:01:22",
        "Thu, 012-Aug-2008 20:49:07 GMT",
        "Thu, 999999999999-Aug-2007 20:49:07 GMT",
        "Thu, 12-Aug-2007 20:61:99999999999 GMT",
        "IAintNoDateFool",
        "20110632 12:34:56",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_true(seconds(rows[i]) == REFUSED);
}

static void test_edges(void **state) {
    (void)state;
    static const row rows[] = {
        {"Thu, 01 Jan 1970 00:00:00 GMT", 0},
        {"Wed, 31 Dec 1969 23:59:59 GMT", -1},
        {"Tue, 29 Feb 2000 12:00:00 GMT", 951825600},
        {"Thu, 29 Feb 2024 23:59:59 GMT", 1709251199},
        {"Fri, 01 Mar 2024 00:00:00 GMT", 1709251200},
        {"Wed, 01 Mar 2023 00:00:00 GMT", 1677628800},
        {"Sat, 31 Dec 2016 23:59:60 GMT", 1483228800},
        {"Mon, 01 Jan 0001 00:00:00 GMT", INT64_C(-62135596800)},
        {"Fri, 31 Dec 9999 23:59:59 GMT", INT64_C(253402300799)},
        {"SUN, 06 NOV 1994 08:49:37 GMT", 784111777},
        {"mon, 06 nov 1994 08:49:37 GMT", 784111777}, // the day of the week is decoration
        {"Sun Nov 06 08:49:37 1994", 784111777},
        {"Thursday, 01-Jan-70 00:00:00 GMT", 0},
        {"Friday, 31-Dec-99 23:59:59 GMT", 946684799},
        {"Saturday, 01-Jan-00 00:00:00 GMT", 946684800},
        {"Tuesday, 31-Dec-69 00:00:00 GMT", INT64_C(3155673600)},
        {"", REFUSED},
        {"Sun", REFUSED},
        {"Sun, 06 Nov 1994 08:49:37", REFUSED},
        {"Sun, 06 Nov 1994 08:49:37 GM", REFUSED},
        {"Sun, 06 Nov 1994 08:49:37 GMT ", REFUSED},
        {" Sun, 06 Nov 1994 08:49:37 GMT", REFUSED},
        {"Sun, 06 Nov 1994 08:49:37 gmt", REFUSED},
        {"Sun, 06 Nov 1994 08:49:37 UTC", REFUSED},
        {"Sun,06 Nov 1994 08:49:37 GMT", REFUSED},
        {"Sun, 6 Nov 1994 08:49:37 GMT", REFUSED},
        {"Sun,  6 Nov 1994 08:49:37 GMT", REFUSED},
        {"Sun, 00 Nov 1994 08:49:37 GMT", REFUSED},
        {"Sun, 31 Nov 1994 08:49:37 GMT", REFUSED},
        {"Sun, 29 Feb 2023 08:49:37 GMT", REFUSED},
        {"Sun, 29 Feb 1900 08:49:37 GMT", REFUSED},
        {"Sun, 06 Nov 0000 08:49:37 GMT", REFUSED},
        {"Sun, 06 Nov 1994 24:00:00 GMT", REFUSED},
        {"Sun, 06 Nov 1994 08:60:00 GMT", REFUSED},
        {"Sun, 06 Nov 1994 08:49:61 GMT", REFUSED},
        {"Sun, 06 Nov 1994 8:49:37 GMT", REFUSED},
        {"Sun, 06 Nov 1994 -8:49:37 GMT", REFUSED},
        {"Sun, 06 Nov +994 08:49:37 GMT", REFUSED},
        {"Sun, 06 Nov 100000 08:49:37 GMT", REFUSED},
        {"Zun, 06 Nov 1994 08:49:37 GMT", REFUSED},
        {"Sun, 06 Nov. 1994 08:49:37 GMT", REFUSED},
        {"Sun, 06 November 1994 08:49:37 GMT", REFUSED},
        {"Sun, 06-Nov-94 08:49:37 GMT", REFUSED},
        {"Sunday, 06-Nov-1994 08:49:37 GMT", REFUSED},
        {"Sun Nov 6 08:49:37 1994", REFUSED},
        {"Sun Nov  6 08:49:37 94", REFUSED},
        {"Sun Nov    08:49:37 1994", REFUSED},
    };
    check(rows, sizeof rows / sizeof *rows);
}

// Every prefix of a valid date, in memory of exactly that length, so that a read past the end shows.
static void test_prefixes(void **state) {
    (void)state;
    const char *text = "Sunday, 06-Nov-94 08:49:37 GMT";
    for (size_t n = 0; n < strlen(text); n++) {
        char *copy = n ? test_malloc(n) : NULL;
        if (n)
            memcpy(copy, text, n);
        int64_t ms = 7;
        assert_false(sj_http_date_parse((sj_slice){copy, n}, &ms));
        assert_int_equal(ms, 7);
        test_free(copy);
    }
}

// Each day from 1970 to 2105, counted by hand.
static void test_day_by_day(void **state) {
    (void)state;
    static const char *const names[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int64_t day = 0;
    for (int year = 1970; year < 2106; year++) {
        for (int month = 0; month < 12; month++) {
            bool leap = year % 4 == 0 && year != 2100;
            for (int mday = 1; mday <= lengths[month] + (month == 1 && leap); mday++, day++) {
                char text[64];
                (void)snprintf(text, sizeof text, "Sun, %02d %s %d 00:00:01 GMT", mday, names[month], year);
                if (seconds(text) != day * 86400 + 1)
                    fail_msg("%s", text);
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_curls_rows), cmocka_unit_test(test_other_spellings_are_refused),
        cmocka_unit_test(test_edges),      cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_day_by_day),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
