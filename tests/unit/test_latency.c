#include "latency.h"
#include "rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void needs_enough_samples(void **unused) {
    (void)unused;
    sj_latency latency = {0};
    assert_int_equal(sj_latency_quantile(&latency, 0.5), -1);
    for (int i = 1; i < SJ_LATENCY_ENOUGH; i++)
        sj_latency_add(&latency, i);
    assert_int_equal(sj_latency_quantile(&latency, 0.95), -1);
    sj_latency_add(&latency, 20);
    assert_int_equal(sj_latency_quantile(&latency, 0.5), 10); // nearest rank of 1..20
    assert_int_equal(sj_latency_quantile(&latency, 0.95), 19);
    assert_int_equal(sj_latency_quantile(&latency, 1), 20);
    assert_int_equal(sj_latency_quantile(&latency, 0.001), 1);
}

static void odd_values_are_bounded(void **unused) {
    (void)unused;
    sj_latency latency = {0};
    for (int i = 0; i < 10; i++) {
        sj_latency_add(&latency, -5);
        sj_latency_add(&latency, INT64_MAX);
    }
    assert_int_equal(sj_latency_quantile(&latency, 0.5), 0);
    assert_int_equal(sj_latency_quantile(&latency, 1), INT32_MAX);
}

static int by_value(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

// Against sorting the last 128 anew each time; many equal values.
static void follows_the_last_samples(void **unused) {
    (void)unused;
    static int32_t all[2000], last[SJ_LATENCY_SAMPLES];
    sj_latency latency = {0};
    sj_rng rng;
    sj_rng_seed(&rng, 3);
    for (int n = 0; n < 2000; n++) {
        all[n] = (int32_t)sj_rng_between(&rng, n / 10, n / 10 + 40);
        sj_latency_add(&latency, all[n]);
        int count = n + 1 < SJ_LATENCY_SAMPLES ? n + 1 : SJ_LATENCY_SAMPLES;
        assert_int_equal(latency.count, count);
        memcpy(last, &all[n + 1 - count], (size_t)count * sizeof *last);
        qsort(last, (size_t)count, sizeof *last, by_value);
        assert_memory_equal(last, latency.sorted, (size_t)count * sizeof *last);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(needs_enough_samples),
        cmocka_unit_test(odd_values_are_bounded),
        cmocka_unit_test(follows_the_last_samples),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
