// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include "keys.h"

static void stays_with_a_fit_key(void **unused) {
    (void)unused;
    sj_keys *keys = sj_keys_new(3);
    assert_int_equal(sj_keys_pick(keys, 0), 0);
    assert_int_equal(sj_keys_pick(keys, 1000), 0);
    assert_true(sj_keys_refused(keys, 0, SJ_KEY_DEAD, 0, 1000));
    assert_int_equal(sj_keys_pick(keys, 1001), 1);
    assert_int_equal(sj_keys_pick(keys, 1000 + SJ_KEYS_REST_MS), 1); // the first is fit again, but nobody hurries back
    sj_keys_free(&keys);
}

static void rests_as_long_as_told(void **unused) {
    (void)unused;
    sj_keys *keys = sj_keys_new(2);
    assert_true(sj_keys_refused(keys, 0, SJ_KEY_EXHAUSTED, 2000, 0));
    assert_false(sj_keys_refused(keys, 1, SJ_KEY_EXHAUSTED, 0, 0));
    assert_int_equal(sj_keys_resting(keys, 1999), 2);
    assert_int_equal(sj_keys_pick(keys, 1999), 0); // back first
    assert_int_equal(sj_keys_resting(keys, 2000), 1);
    assert_int_equal(sj_keys_resting(keys, SJ_KEYS_PAUSE_MS), 0);
    sj_keys_free(&keys);
}

static void an_old_refusal_turns_nothing(void **unused) {
    (void)unused;
    sj_keys *keys = sj_keys_new(3);
    assert_true(sj_keys_refused(keys, 0, SJ_KEY_DEAD, 0, 0));
    assert_true(sj_keys_refused(keys, 0, SJ_KEY_DEAD, 0, 5)); // another exchange, sent before
    assert_int_equal(sj_keys_pick(keys, 6), 1);
    sj_keys_accepted(keys, 0);
    assert_int_equal(sj_keys_resting(keys, 6), 0);
    sj_keys_free(&keys);
}

static void a_single_key_is_always_used(void **unused) {
    (void)unused;
    sj_keys *keys = sj_keys_new(1);
    assert_false(sj_keys_refused(keys, 0, SJ_KEY_DEAD, 0, 0));
    assert_int_equal(sj_keys_pick(keys, 1), 0);
    assert_int_equal(sj_keys_resting(keys, 1), 0);
    sj_keys_free(&keys);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stays_with_a_fit_key),
        cmocka_unit_test(rests_as_long_as_told),
        cmocka_unit_test(an_old_refusal_turns_nothing),
        cmocka_unit_test(a_single_key_is_always_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
