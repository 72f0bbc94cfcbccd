#include "backoff.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(list) (sizeof(list) / sizeof *(list))

static sj_rng rng;

static int reseed(void **state) {
    (void)state;
    sj_rng_seed(&rng, 20240501);
    return 0;
}

static int64_t wait_ms(const sj_backoff *backoff, int n) {
    return sj_backoff_wait_ms(backoff, n, backoff->base_ms, &rng);
}

// Unjittered waits. Sources: the field cases of our own contract; tenacity's tests/test_tenacity.py, test_exponential*; botocore's
// tests/unit/retries/test_standard.py.
static void test_exact_rows(void **state) {
    (void)state;
    static const struct {
        const char *source;
        sj_backoff backoff;
        int64_t waits[12]; // from n = 1; 0 ends the row
    } rows[] = {
        {"fixed: always base, whatever the cap",
         {.strategy = SJ_BACKOFF_FIXED, .base_ms = 3000, .cap_ms = 1000, .exponential_base = 2},
         {3000, 3000, 3000, 3000}},
        {"field case: linear 1 2 3 4 s",
         {.strategy = SJ_BACKOFF_LINEAR, .base_ms = 1000, .cap_ms = 60000, .exponential_base = 2},
         {1000, 2000, 3000, 4000}},
        {"linear meets its cap",
         {.strategy = SJ_BACKOFF_LINEAR,
          .base_ms = 2000,
          .cap_ms = 5000,
          .min_ms = 9000,
          .exponential_base = 2},
         {2000, 4000, 5000, 5000}},
        {"field case: exponential 1 2 4 8 s",
         {.strategy = SJ_BACKOFF_EXPONENTIAL, .base_ms = 1000, .cap_ms = 60000, .exponential_base = 2},
         {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000}},
        {"field case: 2 4 8 16 32 s, cap 60",
         {.strategy = SJ_BACKOFF_EXPONENTIAL, .base_ms = 2000, .cap_ms = 60000, .exponential_base = 2},
         {2000, 4000, 8000, 16000, 32000, 60000}},
        {"field case: multiplier 1 s, min 2 s, max 30 s",
         {.strategy = SJ_BACKOFF_EXPONENTIAL,
          .base_ms = 1000,
          .min_ms = 2000,
          .cap_ms = 30000,
          .exponential_base = 2},
         {2000, 2000, 4000, 8000, 16000, 30000, 30000}},
        {"field case: rate-limited, 5..300 s",
         {.strategy = SJ_BACKOFF_EXPONENTIAL,
          .base_ms = 1000,
          .min_ms = 5000,
          .cap_ms = 300000,
          .exponential_base = 2},
         {5000, 5000, 5000, 8000, 16000, 32000, 64000, 128000, 256000, 300000}},
        {"tenacity, wait_exponential(): 1 2 4 8 16 32 64 128",
         {.strategy = SJ_BACKOFF_EXPONENTIAL, .base_ms = 1000, .cap_ms = INT64_MAX, .exponential_base = 2},
         {1000, 2000, 4000, 8000, 16000, 32000, 64000, 128000}},
        {"tenacity, wait_exponential(max=40)",
         {.strategy = SJ_BACKOFF_EXPONENTIAL, .base_ms = 1000, .cap_ms = 40000, .exponential_base = 2},
         {1000, 2000, 4000, 8000, 16000, 32000, 40000, 40000}},
        {"tenacity, wait_exponential(min=20)",
         {.strategy = SJ_BACKOFF_EXPONENTIAL,
          .base_ms = 1000,
          .min_ms = 20000,
          .cap_ms = INT64_MAX,
          .exponential_base = 2},
         {20000, 20000, 20000, 20000, 20000, 32000, 64000, 128000}},
        {"tenacity, wait_exponential(min=20, multiplier=2)",
         {.strategy = SJ_BACKOFF_EXPONENTIAL,
          .base_ms = 2000,
          .min_ms = 20000,
          .cap_ms = INT64_MAX,
          .exponential_base = 2},
         {20000, 20000, 20000, 20000, 32000, 64000, 128000, 256000}},
        {"tenacity, wait_exponential(min=10, max=100)",
         {.strategy = SJ_BACKOFF_EXPONENTIAL,
          .base_ms = 1000,
          .min_ms = 10000,
          .cap_ms = 100000,
          .exponential_base = 2},
         {10000, 10000, 10000, 10000, 16000, 32000, 64000, 100000, 100000}},
        {"tenacity, wait_exponential(max=50, multiplier=1)",
         {.strategy = SJ_BACKOFF_EXPONENTIAL, .base_ms = 1000, .cap_ms = 50000, .exponential_base = 2},
         {1000, 2000, 4000, 8000, 16000, 32000, 50000, 50000}},
        {"tenacity, wait_fixed(1)",
         {.strategy = SJ_BACKOFF_FIXED, .base_ms = 1000, .cap_ms = 60000, .exponential_base = 2},
         {1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000}},
        {"tenacity, wait_incrementing(start=500, increment=100) from its 5th step: 500 600 700",
         {.strategy = SJ_BACKOFF_LINEAR, .base_ms = 100000, .cap_ms = INT64_MAX, .exponential_base = 2},
         {100000, 200000, 300000, 400000, 500000, 600000, 700000}},
        {"a growth of three",
         {.strategy = SJ_BACKOFF_EXPONENTIAL, .base_ms = 1000, .cap_ms = INT64_MAX, .exponential_base = 3},
         {1000, 3000, 9000, 27000, 81000, 243000}},
        {"botocore: .05 .1 ... 12.8 20 20",
         {.strategy = SJ_BACKOFF_EXPONENTIAL, .base_ms = 50, .cap_ms = 20000, .exponential_base = 2},
         {50, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 20000, 20000}},
        {"a fractional base, rounded to the millisecond",
         {.strategy = SJ_BACKOFF_EXPONENTIAL, .base_ms = 100, .cap_ms = 1000, .exponential_base = 1.5},
         {100, 150, 225, 338, 506, 759, 1000}},
        {"a growth of one is no growth",
         {.strategy = SJ_BACKOFF_EXPONENTIAL, .base_ms = 700, .cap_ms = 1000, .exponential_base = 1},
         {700, 700, 700}},
        {"min wins over cap",
         {.strategy = SJ_BACKOFF_EXPONENTIAL,
          .base_ms = 100,
          .min_ms = 900,
          .cap_ms = 500,
          .exponential_base = 2},
         {900, 900, 900, 900}},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        for (int n = 1; n <= 12 && rows[i].waits[n - 1]; n++) {
            int64_t got = wait_ms(&rows[i].backoff, n);
            if (got != rows[i].waits[n - 1])
                fail_msg("%s: n = %d gave %" PRId64, rows[i].source, n, got);
        }
    }
}

typedef struct spread {
    int64_t low, high;
    double mean;
} spread;

static spread sample(const sj_backoff *backoff, int n, int64_t previous_ms) {
    enum { DRAWS = 20000 };
    spread s = {INT64_MAX, INT64_MIN, 0};
    for (int i = 0; i < DRAWS; i++) {
        int64_t ms = sj_backoff_wait_ms(backoff, n, previous_ms, &rng);
        s.low = ms < s.low ? ms : s.low;
        s.high = ms > s.high ? ms : s.high;
        s.mean += (double)ms / DRAWS;
    }
    return s;
}

// The range a jittered wait is drawn from: nothing outside, both ends nearly reached, the mean in the middle.
static void test_jittered_ranges(void **state) {
    (void)state;
    static const struct {
        const char *formula;
        sj_backoff backoff;
        int n;
        int64_t previous_ms, low, high;
    } rows[] = {
        {"default, first: U(50, 500)",
         {.strategy = SJ_BACKOFF_FULL_JITTER, 500, 8000, 0, 2, 0.3, 2000},
         1,
         0,
         50,
         500},
        {"default, third: U(50, 2000)",
         {.strategy = SJ_BACKOFF_FULL_JITTER, 500, 8000, 0, 2, 0.3, 2000},
         3,
         0,
         50,
         2000},
        {"default, capped: U(50, 8000)",
         {.strategy = SJ_BACKOFF_FULL_JITTER, 500, 8000, 0, 2, 0.3, 2000},
         9,
         0,
         50,
         8000},
        {"full with min: U(50, min)",
         {.strategy = SJ_BACKOFF_FULL_JITTER, 500, 8000, 3000, 2, 0.3, 0},
         1,
         0,
         50,
         3000},
        {"full below its floor", {.strategy = SJ_BACKOFF_FULL_JITTER, 10, 20, 0, 2, 0.3, 0}, 5, 0, 50, 50},
        {"equal: v/2 + U(0, v/2)",
         {.strategy = SJ_BACKOFF_EQUAL_JITTER, 1000, 60000, 0, 2, 0.3, 0},
         3,
         0,
         2000,
         4000},
        {"equal of an odd v", {.strategy = SJ_BACKOFF_EQUAL_JITTER, 5, 60000, 0, 2, 0.3, 0}, 1, 0, 2, 5},
        {"jitter +-30 %", {.strategy = SJ_BACKOFF_JITTER, 1000, 60000, 0, 2, 0.3, 0}, 2, 0, 1400, 2600},
        {"jitter +-30 % of the cap",
         {.strategy = SJ_BACKOFF_JITTER, 1000, 60000, 0, 2, 0.3, 0},
         50,
         0,
         42000,
         78000},
        {"jitter +-100 %", {.strategy = SJ_BACKOFF_JITTER, 1000, 60000, 0, 2, 1.0, 0}, 4, 0, 100, 16000},
        {"jitter of nothing", {.strategy = SJ_BACKOFF_JITTER, 1000, 60000, 0, 2, 0, 0}, 4, 0, 8000, 8000},
        {"jitter has a floor of 100 ms",
         {.strategy = SJ_BACKOFF_JITTER, 20, 30, 0, 2, 0.3, 0},
         9,
         0,
         100,
         100},
        {"decorrelated, first",
         {.strategy = SJ_BACKOFF_DECORRELATED, 500, 8000, 0, 2, 0, 0},
         1,
         500,
         500,
         1500},
        {"decorrelated, later",
         {.strategy = SJ_BACKOFF_DECORRELATED, 500, 8000, 0, 2, 0, 0},
         2,
         1200,
         500,
         3600},
        {"decorrelated, previous too small",
         {.strategy = SJ_BACKOFF_DECORRELATED, 500, 8000, 0, 2, 0, 0},
         2,
         0,
         500,
         500},
        {"tenacity, wait_random_exponential(0.5, 60), attempt 1; ours from 50 ms",
         {SJ_BACKOFF_FULL_JITTER, 500, 60000, 0, 2, 0, 0},
         1,
         0,
         50,
         500},
        {"tenacity, wait_random_exponential(0.5, 60), attempt 2; ours from 50 ms",
         {SJ_BACKOFF_FULL_JITTER, 500, 60000, 0, 2, 0, 0},
         2,
         0,
         50,
         1000},
        {"tenacity, wait_random_exponential(0.5, 60), attempt 3; ours from 50 ms",
         {SJ_BACKOFF_FULL_JITTER, 500, 60000, 0, 2, 0, 0},
         3,
         0,
         50,
         2000},
        {"tenacity, wait_random_exponential(0.5, 60), attempt 4; ours from 50 ms",
         {SJ_BACKOFF_FULL_JITTER, 500, 60000, 0, 2, 0, 0},
         4,
         0,
         50,
         4000},
        {"tenacity, wait_random_exponential(0.5, 60), attempt 5; ours from 50 ms",
         {SJ_BACKOFF_FULL_JITTER, 500, 60000, 0, 2, 0, 0},
         5,
         0,
         50,
         8000},
        {"tenacity, wait_random_exponential(0.5, 60), attempt 6; ours from 50 ms",
         {SJ_BACKOFF_FULL_JITTER, 500, 60000, 0, 2, 0, 0},
         6,
         0,
         50,
         16000},
        {"tenacity, wait_random_exponential(0.5, 60), attempt 7; ours from 50 ms",
         {SJ_BACKOFF_FULL_JITTER, 500, 60000, 0, 2, 0, 0},
         7,
         0,
         50,
         32000},
        {"tenacity, wait_random_exponential(0.5, 60), attempt 8; ours from 50 ms",
         {SJ_BACKOFF_FULL_JITTER, 500, 60000, 0, 2, 0, 0},
         8,
         0,
         50,
         60000},
        {"tenacity, wait_random_exponential(0.5, 60), attempt 9; ours from 50 ms",
         {SJ_BACKOFF_FULL_JITTER, 500, 60000, 0, 2, 0, 0},
         9,
         0,
         50,
         60000},
        {"tenacity, wait_exponential_jitter(max=60), attempt 1",
         {SJ_BACKOFF_PLUS_RANDOM, 1000, 60000, 0, 2, 0, 1000},
         1,
         0,
         1000,
         2000},
        {"tenacity, wait_exponential_jitter(max=60), attempt 2",
         {SJ_BACKOFF_PLUS_RANDOM, 1000, 60000, 0, 2, 0, 1000},
         2,
         0,
         2000,
         3000},
        {"tenacity, wait_exponential_jitter(max=60), attempt 3",
         {SJ_BACKOFF_PLUS_RANDOM, 1000, 60000, 0, 2, 0, 1000},
         3,
         0,
         4000,
         5000},
        {"tenacity, wait_exponential_jitter(max=60), attempt 4",
         {SJ_BACKOFF_PLUS_RANDOM, 1000, 60000, 0, 2, 0, 1000},
         4,
         0,
         8000,
         9000},
        {"tenacity, wait_exponential_jitter(max=60), attempt 5",
         {SJ_BACKOFF_PLUS_RANDOM, 1000, 60000, 0, 2, 0, 1000},
         5,
         0,
         16000,
         17000},
        {"tenacity, wait_exponential_jitter(max=60), attempt 6",
         {SJ_BACKOFF_PLUS_RANDOM, 1000, 60000, 0, 2, 0, 1000},
         6,
         0,
         32000,
         33000},
        {"plus_random: v + U(0, 2 s)",
         {.strategy = SJ_BACKOFF_PLUS_RANDOM, 1000, 10000, 2000, 2, 0, 2000},
         3,
         0,
         4000,
         6000},
        {"plus_random at min",
         {.strategy = SJ_BACKOFF_PLUS_RANDOM, 1000, 10000, 2000, 2, 0, 2000},
         1,
         0,
         2000,
         4000},
        {"plus_random at the cap",
         {.strategy = SJ_BACKOFF_PLUS_RANDOM, 1000, 10000, 2000, 2, 0, 2000},
         8,
         0,
         10000,
         12000},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        spread s = sample(&rows[i].backoff, rows[i].n, rows[i].previous_ms);
        double width = (double)(rows[i].high - rows[i].low),
               middle = (double)(rows[i].high + rows[i].low) / 2;
        bool inside = s.low >= rows[i].low && s.high <= rows[i].high;
        bool wide = (double)(s.high - s.low) >= 0.99 * width;
        bool centred = s.mean > middle - 0.02 * width - 1 && s.mean < middle + 0.02 * width + 1;
        // Clipping at the 100 ms floor moves the mean of the +-100 % row.
        if (!inside || !wide || !(centred || rows[i].backoff.jitter >= 1))
            fail_msg("%s: %" PRId64 "..%" PRId64 ", mean %.1f", rows[i].formula, s.low, s.high, s.mean);
    }
}

// min(cap, U(base, 3 * previous)): draws beyond the cap pile up on it.
static void test_decorrelated_piles_up_at_its_cap(void **state) {
    (void)state;
    sj_backoff backoff = {SJ_BACKOFF_DECORRELATED, 500, 8000, 0, 2, 0, 0};
    int at_cap = 0;
    for (int i = 0; i < 10000; i++) {
        int64_t ms = sj_backoff_wait_ms(&backoff, 5, 8000, &rng);
        assert_in_range(ms, 500, 8000);
        at_cap += ms == 8000;
    }
    assert_in_range(at_cap, 6600, 7000); // (24000 - 8000) / 23500 = 68 %
}

// Kolmogorov-Smirnov against the uniform distribution.
static void test_full_jitter_is_uniform(void **state) {
    (void)state;
    enum { DRAWS = 20000, LOW = 50, HIGH = 8000 };
    static int counts[HIGH + 1];
    memset(counts, 0, sizeof counts);
    for (int i = 0; i < DRAWS; i++)
        counts[wait_ms(&sj_backoff_default, 20)]++;
    double worst = 0;
    int below = 0;
    for (int ms = LOW; ms <= HIGH; ms++) {
        below += counts[ms];
        double distance = (double)below / DRAWS - (double)(ms - LOW + 1) / (HIGH - LOW + 1);
        distance = distance < 0 ? -distance : distance;
        worst = distance > worst ? distance : worst;
    }
    assert_int_equal(below, DRAWS);
    assert_true(worst < 1.95 / 141.42); // 0.999 quantile, sqrt(20000)
    assert_true(worst > 0.0005);
}

static void test_nothing_overflows(void **state) {
    (void)state;
    static const int64_t sizes[] = {INT64_MIN, -1, 0, 1, 500, INT64_C(1) << 53, INT64_MAX / 2, INT64_MAX};
    static const int numbers[] = {INT32_MIN, -1, 0, 1, 2, 63, 64, 1000, 1001, 100000, INT32_MAX};
    static const double bases[] = {1, 1.0000001, 2, 10, 1e300};
    for (size_t a = 0; a < COUNT(sizes) * COUNT(sizes) * COUNT(bases); a++) {
        int64_t base = sizes[a % COUNT(sizes)], cap = sizes[a / COUNT(sizes) % COUNT(sizes)];
        for (size_t b = 0; b < COUNT(numbers) * (SJ_BACKOFF_PLUS_RANDOM + 1); b++) {
            sj_backoff backoff = {
                .strategy = (sj_backoff_strategy)(b / COUNT(numbers)),
                .base_ms = base,
                .cap_ms = cap,
                .min_ms = sizes[(a + b) % COUNT(sizes)],
                .exponential_base = bases[a / COUNT(sizes) / COUNT(sizes)],
                .jitter = 1,
                .random_max_ms = cap,
            };
            int64_t ms = sj_backoff_wait_ms(&backoff, numbers[b % COUNT(numbers)], base, &rng);
            // Room to be added to any clock.
            assert_true(ms >= 0 && ms < INT64_C(1) << 53);
        }
    }
}

static void test_number_1000_is_the_cap(void **state) {
    (void)state;
    sj_backoff backoff = {SJ_BACKOFF_EXPONENTIAL, 500, 8000, 0, 2, 0, 0};
    assert_int_equal(wait_ms(&backoff, 1000), 8000);
    assert_int_equal(wait_ms(&backoff, INT32_MAX), 8000);
    backoff.strategy = SJ_BACKOFF_LINEAR;
    assert_int_equal(wait_ms(&backoff, INT32_MAX), 8000);
    assert_int_equal(wait_ms(&backoff, 0), 500); // counted from 1
}

static void test_same_seed_same_waits(void **state) {
    (void)state;
    for (int strategy = 0; strategy <= SJ_BACKOFF_PLUS_RANDOM; strategy++) {
        sj_backoff backoff = sj_backoff_default;
        backoff.strategy = (sj_backoff_strategy)strategy;
        sj_rng a, b;
        sj_rng_seed(&a, 99);
        sj_rng_seed(&b, 99);
        for (int n = 1; n < 50; n++)
            assert_int_equal(sj_backoff_wait_ms(&backoff, n, 700, &a),
                             sj_backoff_wait_ms(&backoff, n, 700, &b));
    }
}

static void test_default_and_names(void **state) {
    (void)state;
    const sj_backoff *d = &sj_backoff_default;
    assert_int_equal(d->strategy, SJ_BACKOFF_FULL_JITTER);
    assert_int_equal(d->base_ms, 500);
    assert_int_equal(d->cap_ms, 8000);
    assert_int_equal(d->min_ms, 0);
    assert_true(d->exponential_base == 2.0 && d->jitter == 0.3);
    assert_int_equal(d->random_max_ms, 2000);
    assert_string_equal(sj_backoff_names[SJ_BACKOFF_FIXED], "fixed");
    assert_string_equal(sj_backoff_names[SJ_BACKOFF_LINEAR], "linear");
    assert_string_equal(sj_backoff_names[SJ_BACKOFF_EXPONENTIAL], "exponential");
    assert_string_equal(sj_backoff_names[SJ_BACKOFF_JITTER], "jitter");
    assert_string_equal(sj_backoff_names[SJ_BACKOFF_FULL_JITTER], "full_jitter");
    assert_string_equal(sj_backoff_names[SJ_BACKOFF_EQUAL_JITTER], "equal_jitter");
    assert_string_equal(sj_backoff_names[SJ_BACKOFF_DECORRELATED], "decorrelated");
    assert_string_equal(sj_backoff_names[SJ_BACKOFF_PLUS_RANDOM], "plus_random");
    assert_null(sj_backoff_names[SJ_BACKOFF_PLUS_RANDOM + 1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_exact_rows, reseed),
        cmocka_unit_test_setup(test_jittered_ranges, reseed),
        cmocka_unit_test_setup(test_decorrelated_piles_up_at_its_cap, reseed),
        cmocka_unit_test_setup(test_full_jitter_is_uniform, reseed),
        cmocka_unit_test_setup(test_nothing_overflows, reseed),
        cmocka_unit_test_setup(test_number_1000_is_the_cap, reseed),
        cmocka_unit_test_setup(test_same_seed_same_waits, reseed),
        cmocka_unit_test_setup(test_default_and_names, reseed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
