#include "headers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static int start(void **state) {
    sj_headers *headers = malloc(sizeof *headers);
    if (!headers)
        return -1;
    sj_headers_init(headers);
    *state = headers;
    return 0;
}

static int stop(void **state) {
    sj_headers_free(*state);
    free(*state);
    return 0;
}

static void add(sj_headers *headers, const char *name, const char *value) {
    assert_true(sj_headers_add(headers, sj_slice_of(name), sj_slice_of(value)));
}

static void assert_at(const sj_headers *headers, size_t index, const char *name, const char *value) {
    sj_header header = sj_headers_at(headers, index);
    assert_true(sj_slice_equal(header.name, sj_slice_of(name)));
    assert_true(sj_slice_equal(header.value, sj_slice_of(value)));
    assert_string_equal(header.name.p, name); // terminated too
    assert_string_equal(header.value.p, value);
}

static void test_case_order_and_duplicates_are_kept(void **state) {
    sj_headers *headers = *state;
    add(headers, "Set-Cookie", "a=1");
    add(headers, "X-Empty", "");
    add(headers, "SET-COOKIE", "b=2");
    add(headers, "Set-Cookie", "a=1");
    assert_int_equal(headers->count, 4);
    assert_at(headers, 0, "Set-Cookie", "a=1");
    assert_at(headers, 1, "X-Empty", "");
    assert_at(headers, 2, "SET-COOKIE", "b=2");
    assert_at(headers, 3, "Set-Cookie", "a=1");
}

static void test_get_and_count(void **state) {
    sj_headers *headers = *state;
    assert_null(sj_headers_get(headers, "Host").p);
    assert_int_equal(sj_headers_count_of(headers, "Host"), 0);
    add(headers, "Hos", "no");
    add(headers, "Host2", "no");
    add(headers, "hOsT", "first");
    add(headers, "Host", "second");
    add(headers, "X-Empty", "");
    assert_string_equal(sj_headers_get(headers, "host").p, "first");
    assert_int_equal(sj_headers_count_of(headers, "HOST"), 2);
    sj_slice empty = sj_headers_get(headers, "x-empty");
    assert_non_null(empty.p); // there, and empty; unlike one that is not there
    assert_int_equal(empty.n, 0);
    assert_null(sj_headers_get(headers, "").p);
}

static void test_bytes_are_counted(void **state) {
    sj_headers *headers = *state;
    assert_true(sj_headers_add(headers, (sj_slice){"X-Name and more", 6}, (sj_slice){"a\0b and more", 3}));
    sj_header header = sj_headers_at(headers, 0);
    assert_string_equal(header.name.p, "X-Name");
    assert_int_equal(header.value.n, 3);
    assert_memory_equal(header.value.p, "a\0b", 4);
    assert_true(sj_headers_add(headers, SJ_SLICE("N"), (sj_slice){NULL, 0}));
    assert_at(headers, 1, "N", "");
}

static void test_clear_and_free_can_be_used_again(void **state) {
    sj_headers *headers = *state;
    add(headers, "A", "1");
    sj_headers_clear(headers);
    assert_int_equal(headers->count, 0);
    assert_null(sj_headers_get(headers, "A").p);
    add(headers, "B", "2");
    assert_at(headers, 0, "B", "2");
    sj_headers_free(headers);
    assert_int_equal(headers->count, 0);
    add(headers, "C", "3");
    assert_at(headers, 0, "C", "3");
}

static void test_count_is_capped(void **state) {
    sj_headers *headers = *state;
    for (int i = 0; i < SJ_HEADERS_MAX_COUNT; i++)
        add(headers, "n", i % 2 ? "odd" : "even");
    assert_false(sj_headers_add(headers, SJ_SLICE("one"), SJ_SLICE("more")));
    assert_int_equal(headers->count, SJ_HEADERS_MAX_COUNT);
    assert_at(headers, 0, "n", "even");
    assert_at(headers, SJ_HEADERS_MAX_COUNT - 1, "n", "odd");
    assert_null(sj_headers_get(headers, "one").p);
    assert_int_equal(sj_headers_count_of(headers, "N"), SJ_HEADERS_MAX_COUNT);
}

static void test_bytes_are_capped(void **state) {
    sj_headers *headers = *state;
    char *big = test_malloc(SJ_HEADERS_MAX_BYTES);
    memset(big, 'x', SJ_HEADERS_MAX_BYTES);
    assert_false(sj_headers_add(headers, SJ_SLICE("n"), (sj_slice){big, SJ_HEADERS_MAX_BYTES}));
    assert_false(sj_headers_add(headers, (sj_slice){big, SJ_HEADERS_MAX_BYTES}, SJ_SLICE("v")));
    assert_int_equal(headers->count, 0);
    add(headers, "still", "works");
    size_t used = headers->arena.n;
    assert_false(sj_headers_add(headers, SJ_SLICE("n"), (sj_slice){big, SJ_HEADERS_MAX_BYTES - used - 2}));
    assert_int_equal(headers->arena.n, used);
    assert_true(sj_headers_add(headers, SJ_SLICE("n"), (sj_slice){big, SJ_HEADERS_MAX_BYTES - used - 3}));
    assert_false(sj_headers_add(headers, SJ_SLICE(""), SJ_SLICE("")));
    assert_at(headers, 0, "still", "works");
    assert_int_equal(headers->count, 2);
    test_free(big);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_case_order_and_duplicates_are_kept, start, stop),
        cmocka_unit_test_setup_teardown(test_get_and_count, start, stop),
        cmocka_unit_test_setup_teardown(test_bytes_are_counted, start, stop),
        cmocka_unit_test_setup_teardown(test_clear_and_free_can_be_used_again, start, stop),
        cmocka_unit_test_setup_teardown(test_count_is_capped, start, stop),
        cmocka_unit_test_setup_teardown(test_bytes_are_capped, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
