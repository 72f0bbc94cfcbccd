#include "coalesce.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

// ---- the hash -------------------------------------------------------------------------------------------

// Key 00 01 .. 0f, message 00 01 .. (n-1): the first rows of vectors_sip128 in the reference implementation's
// vectors.h (github.com/veorq/SipHash).
static const struct {
    size_t n;
    unsigned char bytes[16];
} vectors[] = {
    {0, {0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93}},
    {1, {0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11, 0x9b, 0x22, 0xfc, 0x45}},
    {2, {0x81, 0x77, 0x22, 0x8d, 0xa4, 0xa4, 0x5d, 0xc7, 0xfc, 0xa3, 0x8b, 0xde, 0xf6, 0x0a, 0xff, 0xe4}},
    {3, {0x9c, 0x70, 0xb6, 0x0c, 0x52, 0x67, 0xa9, 0x4e, 0x5f, 0x33, 0xb6, 0xb0, 0x29, 0x85, 0xed, 0x51}},
};

static sj_fingerprint of_counted(size_t n, size_t piece) {
    char message[64];
    for (size_t i = 0; i < sizeof message; i++)
        message[i] = (char)i;
    sj_fingerprinter printer;
    sj_fingerprint_begin(&printer, 0x0706050403020100u, 0x0f0e0d0c0b0a0908u);
    for (size_t at = 0; at < n; at += piece)
        sj_fingerprint_bytes(&printer, (sj_slice){message + at, n - at < piece ? n - at : piece});
    return sj_fingerprint_end(&printer);
}

static void it_is_siphash(void **unused) {
    (void)unused;
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        sj_fingerprint print = of_counted(vectors[i].n, 64);
        unsigned char bytes[16];
        for (int k = 0; k < 8; k++) {
            bytes[k] = (unsigned char)(print.low >> (8 * k));
            bytes[8 + k] = (unsigned char)(print.high >> (8 * k));
        }
        assert_memory_equal(bytes, vectors[i].bytes, 16);
    }
}

static void pieces_make_no_difference(void **unused) {
    (void)unused;
    for (size_t n = 0; n <= 64; n++)
        for (size_t piece = 1; piece <= 17; piece++)
            assert_true(sj_fingerprint_same(of_counted(n, piece), of_counted(n, 64)));
    assert_false(sj_fingerprint_same(of_counted(15, 64), of_counted(16, 64)));
}

// ---- questions ------------------------------------------------------------------------------------------

typedef struct asked {
    const char *client, *method, *target, *body;
    const char *fields[8]; // name, value, ...
} asked;

static const asked plain = {"Bearer sk-a",
                            "POST",
                            "/v1/chat/completions",
                            "{\"model\":\"m\"}",
                            {"Content-Type", "application/json", "Idempotency-Key", "k1"}};

static sj_fingerprint print_of(const asked *a, uint64_t key) {
    sj_headers headers;
    sj_headers_init(&headers);
    for (int i = 0; i + 1 < 8 && a->fields[i]; i += 2)
        assert_true(sj_headers_add(&headers, sj_slice_of(a->fields[i]), sj_slice_of(a->fields[i + 1])));
    sj_question question = {sj_slice_of(a->client), sj_slice_of(a->method), sj_slice_of(a->target), &headers,
                            sj_slice_of(a->body)};
    sj_fingerprint print = sj_coalesce_fingerprint(&question, key, 2);
    sj_headers_free(&headers);
    return print;
}

static bool is_like_plain(asked other) {
    return sj_fingerprint_same(print_of(&plain, 1), print_of(&other, 1));
}

static void what_must_be_alike(void **unused) {
    (void)unused;
    asked other = plain;
    assert_true(is_like_plain(other));
    other.client = "Bearer sk-b";
    assert_false(is_like_plain(other));
    other = plain;
    other.target = "/v1/chat/completions?a";
    assert_false(is_like_plain(other));
    other = plain;
    other.method = "PUT";
    assert_false(is_like_plain(other));
    other = plain;
    other.body = "{\"model\":\"n\"}";
    assert_false(is_like_plain(other));
    other = plain;
    other.fields[3] = "k2";
    assert_false(is_like_plain(other));
    other.fields[2] = NULL;
    assert_false(is_like_plain(other));
    assert_false(sj_fingerprint_same(print_of(&plain, 1), print_of(&plain, 2)));
}

static void what_differs_from_try_to_try_does_not_count(void **unused) {
    (void)unused;
    asked other = plain;
    other.fields[4] = "x-stainless-retry-count";
    other.fields[5] = "1";
    assert_true(is_like_plain(other));
    other.fields[4] = "Accept-Encoding";
    other.fields[5] = "gzip";
    assert_false(is_like_plain(other));
    other.fields[5] = ""; // said, and empty
    assert_false(is_like_plain(other));
}

// What stands in one part cannot be pushed into the next.
static void parts_do_not_run_together(void **unused) {
    (void)unused;
    asked a = {"ab", "c", "", "", {NULL}}, b = {"a", "bc", "", "", {NULL}};
    assert_false(sj_fingerprint_same(print_of(&a, 1), print_of(&b, 1)));
}

static void who_repeats(void **unused) {
    (void)unused;
    sj_headers headers;
    sj_headers_init(&headers);
    assert_false(sj_coalesce_is_repeat(&headers, 0));
    assert_true(sj_coalesce_is_repeat(&headers, 1));
    assert_true(sj_headers_add(&headers, SJ_SLICE("idempotency-key"), SJ_SLICE("")));
    assert_false(sj_coalesce_is_repeat(&headers, 0));
    sj_headers_clear(&headers);
    assert_true(sj_headers_add(&headers, SJ_SLICE("idempotency-key"), SJ_SLICE("x")));
    assert_true(sj_coalesce_is_repeat(&headers, 0));
    sj_headers_free(&headers);
    assert_true(sj_coalesce_sketch(7, 100) == sj_coalesce_sketch(7, 100));
    assert_true(sj_coalesce_sketch(7, 100) != sj_coalesce_sketch(7, 101));
    assert_true(sj_coalesce_sketch(8, 100) != sj_coalesce_sketch(16, 100));
    assert_true(sj_coalesce_sketch(0, 0) != 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_siphash),
        cmocka_unit_test(pieces_make_no_difference),
        cmocka_unit_test(what_must_be_alike),
        cmocka_unit_test(what_differs_from_try_to_try_does_not_count),
        cmocka_unit_test(parts_do_not_run_together),
        cmocka_unit_test(who_repeats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
