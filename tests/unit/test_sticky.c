// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include "sticky.h"

static const sj_sticky_rules rules = {.min_ms = 60000, .failures = 3};

static void stays_until_the_strong_one_is_back(void **unused) {
    (void)unused;
    sj_sticky *sticky = sj_sticky_new(&rules);
    assert_int_equal(sj_sticky_first(sticky, true, 0), 0);
    sj_sticky_answered(sticky, 1, false, 10); // it fell back for another reason: nothing is held
    assert_false(sj_sticky_holds(sticky));
    sj_sticky_answered(sticky, 1, true, 100);
    assert_int_equal(sj_sticky_first(sticky, false, 200), 1);
    assert_int_equal(sj_sticky_first(sticky, true, 60099), 1); // closed, but the stay is young
    assert_int_equal(sj_sticky_first(sticky, false, 90000), 1); // old, but shut
    assert_int_equal(sj_sticky_first(sticky, true, 60100), 0);
    assert_false(sj_sticky_holds(sticky));
    sj_sticky_free(&sticky);
}

static void failures_turn_back(void **unused) {
    (void)unused;
    sj_sticky *sticky = sj_sticky_new(&rules);
    sj_sticky_answered(sticky, 1, true, 0);
    sj_sticky_failed(sticky, 1);
    sj_sticky_failed(sticky, 0); // the strong one's failures are its own
    sj_sticky_failed(sticky, 1);
    sj_sticky_answered(sticky, 1, true, 5); // not in a row
    sj_sticky_failed(sticky, 1);
    sj_sticky_failed(sticky, 1);
    assert_true(sj_sticky_holds(sticky));
    sj_sticky_failed(sticky, 1);
    assert_int_equal(sj_sticky_first(sticky, false, 10), 0);
    sj_sticky_free(&sticky);
}

static void moves_down_the_chain(void **unused) {
    (void)unused;
    sj_sticky *sticky = sj_sticky_new(&rules);
    sj_sticky_answered(sticky, 1, true, 0);
    sj_sticky_answered(sticky, 2, true, 50);
    assert_int_equal(sj_sticky_first(sticky, true, 60010), 2); // its stay began at 50
    assert_int_equal(sj_sticky_first(sticky, true, 60050), 0);
    sj_sticky_free(&sticky);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stays_until_the_strong_one_is_back),
        cmocka_unit_test(failures_turn_back),
        cmocka_unit_test(moves_down_the_chain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
