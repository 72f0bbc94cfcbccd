#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "body.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_descriptors(void) {
    DIR *directory = opendir("/proc/self/fd");
    assert_non_null(directory);
    int count = 0;
    while (readdir(directory))
        count++;
    (void)closedir(directory);
    return count;
}

static int entries(const char *path) {
    DIR *directory = opendir(path);
    assert_non_null(directory);
    int count = 0;
    while (readdir(directory))
        count++;
    (void)closedir(directory);
    return count - 2;
}

// Fills by pieces of an odd size with bytes that tell their place.
static sj_body_result fill(sj_body *body, size_t n, size_t piece) {
    char bytes[70000];
    size_t at = 0;
    while (at < n) {
        size_t now = n - at < piece ? n - at : piece;
        for (size_t i = 0; i < now; i++)
            bytes[i] = (char)((at + i) * 31 % 251);
        sj_body_result result = sj_body_append(body, bytes, now);
        if (result != SJ_BODY_OK)
            return result;
        at += now;
    }
    return SJ_BODY_OK;
}

static void check_filled(const sj_body *body, size_t n) {
    sj_slice bytes = sj_body_bytes(body);
    assert_int_equal(bytes.n, n);
    for (size_t i = 0; i < n; i++) {
        if (bytes.p[i] != (char)(i * 31 % 251))
            fail_msg("byte %zu differs", i);
    }
}

static void test_empty(void **state) {
    (void)state;
    sj_body *body = sj_body_new(0, 100);
    assert_int_equal(sj_body_append(body, "", 0), SJ_BODY_OK);
    assert_int_equal(sj_body_finish(body), SJ_BODY_OK);
    assert_null(sj_body_bytes(body).p);
    assert_int_equal(sj_body_bytes(body).n, 0);
    assert_int_equal(sj_body_total_bytes(), 0);
    sj_body_free(&body);
    assert_null(body);
    sj_body_free(&body);
}

static void test_expected_is_taken_at_once(void **state) {
    (void)state;
    sj_body *body = sj_body_new(1000, 5000);
    assert_int_equal(sj_body_total_bytes(), 1000);
    assert_int_equal(fill(body, 1000, 333), SJ_BODY_OK);
    assert_int_equal(sj_body_total_bytes(), 1000);
    assert_int_equal(sj_body_finish(body), SJ_BODY_OK);
    check_filled(body, 1000);
    sj_body_free(&body);
    assert_int_equal(sj_body_total_bytes(), 0);
    // What can only be refused, or goes to a file, takes nothing.
    body = sj_body_new(6000, 5000);
    assert_int_equal(sj_body_total_bytes(), 0);
    sj_body_free(&body);
    body = sj_body_new(SJ_BODY_MEMORY_BYTES + 1, SIZE_MAX);
    assert_int_equal(sj_body_total_bytes(), 0);
    sj_body_free(&body);
}

static void test_growing_is_accounted(void **state) {
    (void)state;
    sj_body *body = sj_body_new(0, SJ_BODY_MEMORY_BYTES);
    assert_int_equal(sj_body_total_bytes(), 0);
    assert_int_equal(fill(body, 300001, 1001), SJ_BODY_OK);
    assert_true(sj_body_total_bytes() >= 300001);
    assert_true(sj_body_total_bytes() <= 2 * 300001 + 4096);
    assert_int_equal(sj_body_finish(body), SJ_BODY_OK);
    assert_int_equal(sj_body_total_bytes(), 300001);
    check_filled(body, 300001);
    sj_body_free(&body);
    assert_int_equal(sj_body_total_bytes(), 0);
}

static void test_file(void **state) {
    (void)state;
    char directory[] = "/tmp/stormjib-test-body-XXXXXX";
    assert_non_null(mkdtemp(directory));
    assert_int_equal(setenv("TMPDIR", directory, 1), 0);
    int before = open_descriptors();
    for (size_t n = SJ_BODY_MEMORY_BYTES - 1; n <= SJ_BODY_MEMORY_BYTES + 1; n++) {
        sj_body *body = sj_body_new(0, SIZE_MAX);
        assert_int_equal(fill(body, n, 65537), SJ_BODY_OK);
        bool file = n > SJ_BODY_MEMORY_BYTES;
        assert_int_equal(open_descriptors(), before + file);
        assert_int_equal(entries(directory), 0);
        assert_int_equal(sj_body_total_bytes() == 0, file);
        assert_int_equal(sj_body_finish(body), SJ_BODY_OK);
        assert_int_equal(sj_body_finish(body), SJ_BODY_OK);
        assert_int_equal(open_descriptors(), before);
        check_filled(body, n);
        sj_body_free(&body);
        assert_int_equal(sj_body_total_bytes(), 0);
    }
    // Freed before it was finished: the descriptor goes too.
    sj_body *body = sj_body_new(3 * SJ_BODY_MEMORY_BYTES, SIZE_MAX);
    assert_int_equal(fill(body, 10, 10), SJ_BODY_OK);
    assert_int_equal(open_descriptors(), before + 1);
    sj_body_free(&body);
    assert_int_equal(open_descriptors(), before);
    assert_int_equal(rmdir(directory), 0);
    assert_int_equal(unsetenv("TMPDIR"), 0);
}

static void test_no_directory(void **state) {
    (void)state;
    // A TMPDIR that is not there falls back to the system's.
    assert_int_equal(setenv("TMPDIR", "/nonexistent/stormjib", 1), 0);
    sj_body *body = sj_body_new(0, SIZE_MAX);
    assert_int_equal(fill(body, SJ_BODY_MEMORY_BYTES + 5, 70000), SJ_BODY_OK);
    assert_int_equal(sj_body_finish(body), SJ_BODY_OK);
    check_filled(body, SJ_BODY_MEMORY_BYTES + 5);
    sj_body_free(&body);
    assert_int_equal(unsetenv("TMPDIR"), 0);
}

static void test_max(void **state) {
    (void)state;
    sj_body *body = sj_body_new(0, 10);
    assert_int_equal(sj_body_append(body, "0123456789", 10), SJ_BODY_OK);
    assert_int_equal(sj_body_append(body, "x", 1), SJ_BODY_TOO_LARGE);
    assert_int_equal(sj_body_append(body, "x", SIZE_MAX), SJ_BODY_TOO_LARGE);
    assert_int_equal(sj_body_finish(body), SJ_BODY_OK);
    assert_memory_equal(sj_body_bytes(body).p, "0123456789", 10);
    assert_true(sj_body_total_bytes() <= 10);
    sj_body_free(&body);
}

static void test_total(void **state) {
    (void)state;
    sj_body_set_total_max(10000);
    sj_body *first = sj_body_new(6000, SIZE_MAX);
    assert_int_equal(fill(first, 6000, 1000), SJ_BODY_OK);
    sj_body *second = sj_body_new(6000, SIZE_MAX);
    assert_int_equal(sj_body_total_bytes(), 6000);
    assert_int_equal(fill(second, 6000, 6000), SJ_BODY_NO_MEMORY);
    // What fits exactly is not refused for the sake of growing room.
    assert_int_equal(fill(second, 4000, 4000), SJ_BODY_OK);
    assert_int_equal(sj_body_total_bytes(), 10000);
    assert_int_equal(sj_body_append(second, "x", 1), SJ_BODY_NO_MEMORY);
    sj_body_free(&first);
    assert_int_equal(sj_body_total_bytes(), 4000);
    assert_int_equal(sj_body_append(second, "x", 1), SJ_BODY_OK);
    assert_int_equal(sj_body_total_bytes(), 8000);
    // A lower limit at reload takes nothing away, and refuses what is new.
    sj_body_set_total_max(100);
    sj_body *third = sj_body_new(0, SIZE_MAX);
    assert_int_equal(sj_body_append(third, "x", 1), SJ_BODY_NO_MEMORY);
    sj_body_free(&third);
    sj_body_free(&second);
    assert_int_equal(sj_body_total_bytes(), 0);
    sj_body_set_total_max(SIZE_MAX);
}

static void check_cursor(sj_body_cursor *cursor, const char *expected) {
    size_t n = strlen(expected);
    assert_int_equal(sj_body_cursor_size(cursor), n);
    // By every piece size, and from every place.
    for (size_t piece = 1; piece <= n + 1; piece++) {
        char out[256] = {0};
        size_t at = 0, got = 0;
        assert_true(sj_body_cursor_seek(cursor, 0));
        while ((got = sj_body_cursor_read(cursor, out + at, piece)) > 0)
            at += got;
        assert_int_equal(at, n);
        assert_string_equal(out, expected);
        assert_int_equal(cursor->at, n);
    }
    for (size_t from = 0; from <= n; from++) {
        char out[256] = {0};
        assert_true(sj_body_cursor_seek(cursor, from));
        assert_int_equal(sj_body_cursor_read(cursor, out, sizeof out), n - from);
        assert_string_equal(out, expected + from);
    }
    assert_false(sj_body_cursor_seek(cursor, n + 1));
}

static void test_cursor(void **state) {
    (void)state;
    sj_body_cursor plain = {.bytes = SJ_SLICE("hello")};
    check_cursor(&plain, "hello");
    sj_body_cursor empty = {.bytes = {NULL, 0}};
    check_cursor(&empty, "");
    const sj_json_edit middle[] = {{9, 3}, {21, 5}};
    sj_body_cursor two = {SJ_SLICE("{\"model\":\"a\",\"model\":\"bcd\"}"), middle, 2, SJ_SLICE("\"longer\""),
                          0};
    check_cursor(&two, "{\"model\":\"longer\",\"model\":\"longer\"}");
    const sj_json_edit ends[] = {{0, 1}, {2, 0}, {4, 1}};
    sj_body_cursor edges = {SJ_SLICE("abcde"), ends, 3, SJ_SLICE("--"), 0};
    check_cursor(&edges, "--b--cd--");
    edges.replacement = (sj_slice){NULL, 0};
    check_cursor(&edges, "bcd");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_expected_is_taken_at_once),
        cmocka_unit_test(test_growing_is_accounted),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_no_directory),
        cmocka_unit_test(test_max),
        cmocka_unit_test(test_total),
        cmocka_unit_test(test_cursor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
