#include "buffer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void assert_holds(const sj_buffer *buffer, const char *text) {
    assert_true(sj_slice_equal(sj_buffer_slice(buffer), sj_slice_of(text)));
}

static void test_starts_empty_and_owns_nothing(void **state) {
    (void)state;
    sj_buffer buffer = sj_buffer_with_max(10);
    assert_null(buffer.p);
    assert_holds(&buffer, "");
    sj_buffer_free(&buffer);
    sj_buffer_free(&buffer);
    assert_true(sj_buffer_append(&buffer, NULL, 0));
    assert_null(buffer.p);
}

static void test_appends_in_order(void **state) {
    (void)state;
    sj_buffer buffer = sj_buffer_with_max(100);
    assert_true(sj_buffer_text(&buffer, "one "));
    assert_true(sj_buffer_add(&buffer, SJ_SLICE("two ")));
    assert_true(sj_buffer_append(&buffer, "three", 5));
    assert_true(sj_buffer_printf(&buffer, " %d%%", 4));
    assert_holds(&buffer, "one two three 4%");
    assert_true(sj_buffer_append(&buffer, "\0x", 2));
    assert_int_equal(buffer.n, 18);
    sj_buffer_free(&buffer);
}

static void test_cap_is_hard(void **state) {
    (void)state;
    sj_buffer buffer = sj_buffer_with_max(8);
    assert_true(sj_buffer_text(&buffer, "12345"));
    assert_false(sj_buffer_text(&buffer, "6789"));
    assert_holds(&buffer, "12345");
    assert_true(sj_buffer_text(&buffer, "678"));
    assert_false(sj_buffer_text(&buffer, "9"));
    assert_true(sj_buffer_text(&buffer, ""));
    assert_false(sj_buffer_append(&buffer, "x", SIZE_MAX)); // no wrap around
    assert_false(sj_buffer_printf(&buffer, "x"));
    assert_holds(&buffer, "12345678");
    sj_buffer_free(&buffer);
    buffer = sj_buffer_with_max(0);
    assert_false(sj_buffer_text(&buffer, "x"));
    assert_null(buffer.p);
}

// printf needs room for its terminator, which is not counted.
static void test_printf_at_the_cap(void **state) {
    (void)state;
    sj_buffer buffer = sj_buffer_with_max(4);
    assert_false(sj_buffer_printf(&buffer, "%s", "1234"));
    assert_int_equal(buffer.n, 0);
    assert_true(sj_buffer_printf(&buffer, "%s", "123"));
    assert_holds(&buffer, "123");
    assert_true(sj_buffer_printf(&buffer, "%s", ""));
    assert_holds(&buffer, "123");
    sj_buffer_free(&buffer);
}

static void test_grows_to_its_cap_and_no_further(void **state) {
    (void)state;
    enum { MAX = 100 * 1000 };
    sj_buffer buffer = sj_buffer_with_max(MAX);
    size_t growths = 0, last_cap = 0;
    for (int i = 0; i < MAX; i++) {
        char c = (char)('a' + i % 26);
        assert_true(sj_buffer_append(&buffer, &c, 1));
        growths += buffer.cap != last_cap;
        last_cap = buffer.cap;
    }
    assert_in_range(growths, 2, 12); // doubling, not one by one
    assert_true(buffer.cap <= MAX);
    assert_false(sj_buffer_text(&buffer, "x"));
    for (size_t i = 0; i < MAX; i++) {
        if (buffer.p[i] != (char)('a' + i % 26))
            fail_msg("byte %zu", i);
    }
    sj_buffer_free(&buffer);
}

static void test_consume(void **state) {
    (void)state;
    sj_buffer buffer = sj_buffer_with_max(20);
    sj_buffer_consume(&buffer, 5);
    assert_holds(&buffer, "");
    assert_true(sj_buffer_text(&buffer, "0123456789"));
    sj_buffer_consume(&buffer, 0);
    assert_holds(&buffer, "0123456789");
    sj_buffer_consume(&buffer, 3);
    assert_holds(&buffer, "3456789");
    assert_true(sj_buffer_text(&buffer, "ab"));
    assert_holds(&buffer, "3456789ab");
    sj_buffer_consume(&buffer, 9);
    assert_holds(&buffer, "");
    assert_true(sj_buffer_text(&buffer, "again"));
    sj_buffer_consume(&buffer, 1000);
    assert_holds(&buffer, "");
    sj_buffer_free(&buffer);
}

static void test_clear_keeps_and_free_gives_back(void **state) {
    (void)state;
    sj_buffer buffer = sj_buffer_with_max(20);
    assert_true(sj_buffer_text(&buffer, "text"));
    char *p = buffer.p;
    sj_buffer_clear(&buffer);
    assert_holds(&buffer, "");
    assert_ptr_equal(buffer.p, p);
    assert_true(sj_buffer_text(&buffer, "new"));
    assert_holds(&buffer, "new");
    sj_buffer_free(&buffer);
    assert_null(buffer.p);
    assert_int_equal(buffer.cap, 0);
    assert_true(sj_buffer_text(&buffer, "same cap"));
    assert_int_equal(buffer.max, 20);
    sj_buffer_free(&buffer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_starts_empty_and_owns_nothing),
        cmocka_unit_test(test_appends_in_order),
        cmocka_unit_test(test_cap_is_hard),
        cmocka_unit_test(test_printf_at_the_cap),
        cmocka_unit_test(test_grows_to_its_cap_and_no_further),
        cmocka_unit_test(test_consume),
        cmocka_unit_test(test_clear_keeps_and_free_gives_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
