#include "rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

// Reference outputs of the authors' C code for the state 1, 2, 3, 4, as listed in rand_xoshiro's tests.
static void test_reference_sequence(void **state) {
    (void)state;
    static const uint64_t expected[] = {
        11520,
        0,
        1509978240,
        UINT64_C(1215971899390074240),
        UINT64_C(1216172134540287360),
        UINT64_C(607988272756665600),
        UINT64_C(16172922978634559625),
        UINT64_C(8476171486693032832),
        UINT64_C(10595114339597558777),
        UINT64_C(2904607092377533576),
    };
    sj_rng rng = {{1, 2, 3, 4}};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        assert_true(sj_rng_next(&rng) == expected[i]);
}

// splitmix64's reference outputs for this seed (same source).
static void test_seeding(void **state) {
    (void)state;
    sj_rng rng;
    sj_rng_seed(&rng, UINT64_C(1477776061723855037));
    assert_true(rng.s[0] == UINT64_C(1985237415132408290));
    assert_true(rng.s[1] == UINT64_C(2979275885539914483));
    assert_true(rng.s[2] == UINT64_C(13511426838097143398));
    assert_true(rng.s[3] == UINT64_C(8488337342461049707));
    sj_rng_seed(&rng, 0);
    assert_true((rng.s[0] | rng.s[1] | rng.s[2] | rng.s[3]) != 0);
}

static void test_same_seed_same_numbers(void **state) {
    (void)state;
    sj_rng a, b, other;
    sj_rng_seed(&a, 42);
    sj_rng_seed(&b, 42);
    sj_rng_seed(&other, 43);
    int differing = 0;
    for (int i = 0; i < 100; i++) {
        uint64_t x = sj_rng_next(&a);
        assert_true(x == sj_rng_next(&b));
        differing += x != sj_rng_next(&other);
    }
    assert_true(differing > 90);
}

static void test_unit_is_uniform(void **state) {
    (void)state;
    enum { DRAWS = 100000, CELLS = 20 };
    sj_rng rng;
    sj_rng_seed(&rng, 7);
    int cells[CELLS] = {0};
    for (int i = 0; i < DRAWS; i++) {
        double u = sj_rng_unit(&rng);
        assert_true(u >= 0 && u < 1);
        cells[(int)(u * CELLS)]++;
    }
    double chi = 0, each = (double)DRAWS / CELLS;
    for (int i = 0; i < CELLS; i++)
        chi += (cells[i] - each) * (cells[i] - each) / each;
    assert_true(chi < 43.8); // 0.999 quantile, 19 degrees of freedom
    assert_true(chi > 3); // and not suspiciously even
}

static void test_between_is_uniform_and_reaches_both_ends(void **state) {
    (void)state;
    enum { DRAWS = 70000, CELLS = 7 };
    sj_rng rng;
    sj_rng_seed(&rng, 8);
    int cells[CELLS] = {0};
    for (int i = 0; i < DRAWS; i++) {
        int64_t x = sj_rng_between(&rng, -3, 3);
        assert_true(x >= -3 && x <= 3);
        cells[x + 3]++;
    }
    double chi = 0, each = (double)DRAWS / CELLS;
    for (int i = 0; i < CELLS; i++)
        chi += (cells[i] - each) * (cells[i] - each) / each;
    assert_true(chi < 22.5); // 0.999 quantile, 6 degrees of freedom
}

static void test_between_at_the_edges(void **state) {
    (void)state;
    sj_rng rng;
    sj_rng_seed(&rng, 9);
    sj_rng untouched = rng;
    assert_true(sj_rng_between(&rng, 5, 5) == 5);
    assert_true(sj_rng_between(&rng, 5, 4) == 5);
    assert_true(sj_rng_between(&rng, INT64_MAX, INT64_MIN) == INT64_MAX);
    assert_memory_equal(&rng, &untouched, sizeof rng);
    int negative = 0;
    for (int i = 0; i < 1000; i++) {
        negative += sj_rng_between(&rng, INT64_MIN, INT64_MAX) < 0;
        assert_true(sj_rng_between(&rng, INT64_MAX - 1, INT64_MAX) >= INT64_MAX - 1);
    }
    assert_in_range(negative, 430, 570);
}

// Of three quarters of all values, a plain modulo would give the lowest third twice as often as the others.
static void test_between_has_no_modulo_bias(void **state) {
    (void)state;
    sj_rng rng;
    sj_rng_seed(&rng, 10);
    const int64_t third = INT64_C(1) << 62;
    int lowest = 0;
    for (int i = 0; i < 9000; i++)
        lowest +=
            sj_rng_between(&rng, INT64_MIN, INT64_MIN + 2 * (third - 1) + third + 1) < INT64_MIN + third;
    assert_in_range(lowest, 2800, 3200);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference_sequence),
        cmocka_unit_test(test_seeding),
        cmocka_unit_test(test_same_seed_same_numbers),
        cmocka_unit_test(test_unit_is_uniform),
        cmocka_unit_test(test_between_is_uniform_and_reaches_both_ends),
        cmocka_unit_test(test_between_at_the_edges),
        cmocka_unit_test(test_between_has_no_modulo_bias),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
