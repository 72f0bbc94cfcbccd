// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include "keys.h"

static bool refused(sj_keys *keys, size_t key, sj_key_trouble trouble, int64_t rest_ms, int64_t now_ms) {
    return sj_keys_refused(keys, key, trouble, rest_ms, now_ms, now_ms).another;
}

static size_t resting(sj_keys *keys, int64_t now_ms) {
    size_t n = 0;
    for (size_t i = 0; i < sj_keys_count(keys); i++)
        n += sj_keys_read(keys, i, now_ms).resting;
    return n;
}

static void stays_with_a_fit_key(void **unused) {
    (void)unused;
    sj_keys *keys = sj_keys_new(3);
    assert_int_equal(sj_keys_pick(keys, 0), 0);
    assert_int_equal(sj_keys_pick(keys, 1000), 0);
    assert_true(refused(keys, 0, SJ_KEY_DEAD, 0, 1000));
    assert_int_equal(sj_keys_pick(keys, 1001), 1);
    assert_int_equal(sj_keys_pick(keys, 1000 + SJ_KEYS_REST_MS),
                     1); // the first is fit again, but nobody hurries back
    sj_keys_free(&keys);
}

static void rests_as_long_as_told(void **unused) {
    (void)unused;
    sj_keys *keys = sj_keys_new(2);
    assert_true(refused(keys, 0, SJ_KEY_EXHAUSTED, 2000, 0));
    assert_false(refused(keys, 1, SJ_KEY_EXHAUSTED, 0, 0));
    assert_int_equal(resting(keys, 1999), 2);
    assert_int_equal(sj_keys_pick(keys, 1999), 0); // back first
    assert_int_equal(sj_keys_back_ms(keys, 1999), 2000);
    assert_int_equal(resting(keys, 2000), 1);
    assert_int_equal(sj_keys_back_ms(keys, 2000), SJ_KEYS_PAUSE_MS);
    assert_int_equal(resting(keys, SJ_KEYS_PAUSE_MS), 0);
    assert_int_equal(sj_keys_back_ms(keys, SJ_KEYS_PAUSE_MS), 0);
    sj_keys_free(&keys);
}

static void an_old_refusal_turns_nothing(void **unused) {
    (void)unused;
    sj_keys *keys = sj_keys_new(3);
    assert_true(refused(keys, 0, SJ_KEY_DEAD, 0, 0));
    sj_key_refusal second = sj_keys_refused(keys, 0, SJ_KEY_DEAD, 0, 3, 5); // another exchange, sent before
    assert_true(second.another && !second.newly);
    assert_int_equal(second.rest_ms, SJ_KEYS_REST_MS);
    assert_int_equal(sj_keys_pick(keys, 6), 1);
    assert_int_equal(sj_keys_read(keys, 0, 6).refusals[SJ_KEY_DEAD], 2);
    sj_keys_free(&keys);
}

static void only_a_later_attempt_proves_it_good(void **unused) {
    (void)unused;
    sj_keys *keys = sj_keys_new(2);
    (void)sj_keys_refused(keys, 0, SJ_KEY_EXHAUSTED, 5000, 100, 120);
    assert_false(sj_keys_accepted(keys, 0, 100)); // begun together: says nothing of what was refused
    assert_int_equal(resting(keys, 200), 1);
    assert_true(sj_keys_accepted(keys, 0, 101));
    assert_int_equal(resting(keys, 200), 0);
    assert_false(sj_keys_accepted(keys, 0, 300)); // told once
    sj_keys_free(&keys);
}

static void after_its_rest_the_first_success_is_news(void **unused) {
    (void)unused;
    sj_keys *keys = sj_keys_new(2);
    (void)sj_keys_refused(keys, 1, SJ_KEY_EXHAUSTED, 1000, 0, 0);
    assert_false(sj_keys_read(keys, 1, 1000).resting);
    assert_true(sj_keys_accepted(keys, 1, 2000));
    sj_keys_free(&keys);
}

static void when_all_rest_the_dead_come_last(void **unused) {
    (void)unused;
    sj_keys *keys = sj_keys_new(3);
    (void)refused(keys, 0, SJ_KEY_DEAD, 0, 0);
    (void)refused(keys, 1, SJ_KEY_EXHAUSTED, 400 * 1000, 0);
    (void)refused(keys, 2, SJ_KEY_DEAD, 1000, 0);
    assert_int_equal(sj_keys_pick(keys, 10), 1);
    assert_int_equal(sj_keys_back_ms(keys, 10), 400 * 1000);
    assert_int_equal(sj_keys_pick(keys, 1000), 2); // worth a try again
    sj_keys_free(&keys);
}

static void a_dead_key_stays_dead_whatever_older_answers_say(void **unused) {
    (void)unused;
    sj_keys *keys = sj_keys_new(2);
    (void)refused(keys, 0, SJ_KEY_EXHAUSTED, 1000, 0);
    (void)refused(keys, 0, SJ_KEY_DEAD, 0, 10);
    (void)refused(keys, 0, SJ_KEY_EXHAUSTED, 1000, 20);
    sj_key_stats stats = sj_keys_read(keys, 0, 30);
    assert_true(stats.resting && stats.trouble == SJ_KEY_DEAD);
    assert_int_equal(stats.back_ms, 10 + SJ_KEYS_REST_MS);
    assert_int_equal(stats.refusals[SJ_KEY_EXHAUSTED], 2);
    sj_keys_free(&keys);
}

static void another_is_one_that_is_fit(void **unused) {
    (void)unused;
    sj_keys *keys = sj_keys_new(2);
    assert_true(sj_keys_has_other(keys, 0, 0));
    (void)refused(keys, 1, SJ_KEY_EXHAUSTED, 1000, 0);
    assert_false(sj_keys_has_other(keys, 0, 999));
    assert_true(sj_keys_has_other(keys, 0, 1000));
    assert_true(sj_keys_has_other(keys, 1, 0));
    sj_keys_free(&keys);
}

static void a_single_key_is_always_used(void **unused) {
    (void)unused;
    sj_keys *keys = sj_keys_new(1);
    assert_false(refused(keys, 0, SJ_KEY_DEAD, 0, 0));
    assert_int_equal(sj_keys_pick(keys, 1), 0);
    assert_false(sj_keys_has_other(keys, 0, 1));
    sj_keys_free(&keys);
}

static void what_is_known_of_a_key_goes_on(void **unused) {
    (void)unused;
    sj_keys *before = sj_keys_new(2), *after = sj_keys_new(3);
    (void)refused(before, 1, SJ_KEY_DEAD, 0, 0);
    sj_keys_inherit(after, 0, before, 1);
    assert_int_equal(sj_keys_pick(after, 1), 1);
    assert_int_equal(sj_keys_read(after, 0, 1).refusals[SJ_KEY_DEAD], 1);
    assert_true(sj_keys_accepted(after, 0, 5));
    assert_int_equal(resting(before, 6), 1);
    sj_keys_free(&before);
    sj_keys_free(&after);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stays_with_a_fit_key),
        cmocka_unit_test(rests_as_long_as_told),
        cmocka_unit_test(an_old_refusal_turns_nothing),
        cmocka_unit_test(only_a_later_attempt_proves_it_good),
        cmocka_unit_test(after_its_rest_the_first_success_is_news),
        cmocka_unit_test(when_all_rest_the_dead_come_last),
        cmocka_unit_test(a_dead_key_stays_dead_whatever_older_answers_say),
        cmocka_unit_test(another_is_one_that_is_fit),
        cmocka_unit_test(a_single_key_is_always_used),
        cmocka_unit_test(what_is_known_of_a_key_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
