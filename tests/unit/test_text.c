#include "text.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void numbers_are_those_of_printf(void **state) {
    (void)state;
    static const int64_t numbers[] = {0, 1, -1, 9, 10, 255, 256, 1000000, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char wanted[64], got[64];
        (void)snprintf(wanted, sizeof wanted, "%" PRId64 " %" PRIx64 " %016" PRIx64, numbers[i],
                       (uint64_t)numbers[i], (uint64_t)numbers[i]);
        sj_text text = sj_text_into(got, sizeof got);
        sj_text_int(&text, numbers[i]);
        sj_text_put(&text, " ");
        sj_text_hex(&text, (uint64_t)numbers[i], 1);
        sj_text_add(&text, SJ_SLICE(" "));
        sj_text_hex(&text, (uint64_t)numbers[i], 16);
        assert_string_equal(got, wanted);
        assert_int_equal(text.n, strlen(wanted));
    }
}

static void what_does_not_fit_is_cut(void **state) {
    (void)state;
    char room[6] = {'?', '?', '?', '?', '?', '?'};
    sj_text text = sj_text_into(room, 5);
    assert_string_equal(room, "");
    sj_text_put(&text, "abc");
    sj_text_int(&text, 1234);
    assert_string_equal(room, "abc1");
    sj_text_put(&text, "more");
    sj_text_add(&text, (sj_slice){NULL, 0});
    assert_string_equal(room, "abc1");
    assert_int_equal(text.n, 4);
    assert_int_equal(room[5], '?');
    sj_text_copy(room, 1, "x");
    assert_string_equal(room, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_those_of_printf),
        cmocka_unit_test(what_does_not_fit_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
