#include "inflate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#define ZLIB_CONST
#include <zlib.h>

enum { WRAP_GZIP = MAX_WBITS + 16, WRAP_ZLIB = MAX_WBITS, WRAP_NONE = -MAX_WBITS, ROOM = 4 * 1024 * 1024 };

static const char answer[] = "{\"choices\": [{\"message\": {\"content\": \"Hello, hello, hello.\"}}]}";

static sj_slice answer_slice(void) {
    return (sj_slice){answer, sizeof answer - 1};
}

static void compress_onto(sj_buffer *out, int window_bits, sj_slice text) {
    z_stream z = {.next_in = (const unsigned char *)text.p, .avail_in = (unsigned)text.n};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
    unsigned char piece[4096];
    int state = Z_OK;
    while (state == Z_OK) {
        z.next_out = piece;
        z.avail_out = sizeof piece;
        state = deflate(&z, Z_FINISH);
        assert_true(sj_buffer_append(out, piece, sizeof piece - z.avail_out));
    }
    assert_int_equal(state, Z_STREAM_END);
    assert_int_equal(deflateEnd(&z), Z_OK);
}

static sj_buffer compressed(int window_bits, sj_slice text) {
    sj_buffer out = sj_buffer_with_max(ROOM);
    compress_onto(&out, window_bits, text);
    return out;
}

static void assert_decodes(sj_coding coding, sj_slice in, sj_slice expected) {
    sj_buffer out = sj_buffer_with_max(ROOM);
    assert_true(sj_buffer_text(&out, ">"));
    assert_true(sj_inflate(coding, in, &out));
    assert_int_equal(out.n, expected.n + 1);
    assert_memory_equal(out.p + 1, expected.p, expected.n);
    sj_buffer_free(&out);
}

static void assert_refuses(sj_coding coding, sj_slice in) {
    sj_buffer out = sj_buffer_with_max(ROOM);
    assert_true(sj_buffer_text(&out, ">"));
    assert_false(sj_inflate(coding, in, &out));
    assert_int_equal(out.n, 1);
    sj_buffer_free(&out);
}

static void test_coding_of(void **state) {
    (void)state;
    static const struct {
        const char *value;
        sj_coding coding;
    } rows[] = {
        {"", SJ_CODING_IDENTITY},
        {" ", SJ_CODING_IDENTITY},
        {"identity", SJ_CODING_IDENTITY},
        {"Identity", SJ_CODING_IDENTITY},
        {"gzip", SJ_CODING_GZIP},
        {" GZip\t", SJ_CODING_GZIP},
        {"x-gzip", SJ_CODING_GZIP},
        {"deflate", SJ_CODING_DEFLATE},
        {"br", SJ_CODING_OTHER},
        {"zstd", SJ_CODING_OTHER},
        {"gzip, gzip", SJ_CODING_OTHER},
        {"gzip, br", SJ_CODING_OTHER},
        {"identity, gzip", SJ_CODING_OTHER},
        {"gzi", SJ_CODING_OTHER},
        {"gzipped", SJ_CODING_OTHER},
        {"compress", SJ_CODING_OTHER},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(sj_coding_of(sj_slice_of(rows[i].value)), rows[i].coding);
    assert_int_equal(sj_coding_of((sj_slice){NULL, 0}), SJ_CODING_IDENTITY);
}

static void test_each_coding(void **state) {
    (void)state;
    static const struct {
        int wrap;
        sj_coding coding;
    } rows[] = {{WRAP_GZIP, SJ_CODING_GZIP}, {WRAP_ZLIB, SJ_CODING_DEFLATE}, {WRAP_NONE, SJ_CODING_DEFLATE}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        sj_buffer in = compressed(rows[i].wrap, answer_slice());
        assert_decodes(rows[i].coding, sj_buffer_slice(&in), answer_slice());
        sj_buffer_free(&in);
        in = compressed(rows[i].wrap, SJ_SLICE(""));
        assert_decodes(rows[i].coding, sj_buffer_slice(&in), SJ_SLICE(""));
        sj_buffer_free(&in);
    }
    assert_decodes(SJ_CODING_IDENTITY, answer_slice(), answer_slice());
    assert_decodes(SJ_CODING_IDENTITY, SJ_SLICE(""), SJ_SLICE(""));
    assert_refuses(SJ_CODING_OTHER, answer_slice());
}

// A gzip file put together by hand (RFC 1952): "hi\n" in a stored block.
static void test_known_bytes(void **state) {
    (void)state;
    static const char stored[] = "\x1f\x8b\x08\0\0\0\0\0\0\x03"
                                 "\x01\x03\0\xfc\xff"
                                 "hi\n"
                                 "\x7a\x7a\x6f\xed"
                                 "\x03\0\0\0";
    assert_decodes(SJ_CODING_GZIP, (sj_slice){stored, sizeof stored - 1}, SJ_SLICE("hi\n"));
    // A damaged checksum or length is damage.
    for (size_t i = sizeof stored - 9; i < sizeof stored - 1; i++) {
        char damaged[sizeof stored];
        memcpy(damaged, stored, sizeof stored);
        damaged[i] ^= 1;
        assert_refuses(SJ_CODING_GZIP, (sj_slice){damaged, sizeof stored - 1});
    }
}

static void test_large(void **state) {
    (void)state;
    enum { SIZE = 300 * 1000 };
    char *text = malloc(SIZE);
    assert_non_null(text);
    uint32_t number = 1;
    for (size_t i = 0; i < SIZE; i++) {
        number = number * 1664525 + 1013904223;
        text[i] = (char)('a' + (number >> 24) % 20);
    }
    sj_slice whole = {text, SIZE};
    sj_buffer in = compressed(WRAP_GZIP, whole);
    assert_decodes(SJ_CODING_GZIP, sj_buffer_slice(&in), whole);
    sj_buffer_free(&in);
    free(text);
}

static void test_several_gzip_members(void **state) {
    (void)state;
    sj_buffer in = sj_buffer_with_max(ROOM);
    compress_onto(&in, WRAP_GZIP, SJ_SLICE("one "));
    compress_onto(&in, WRAP_GZIP, SJ_SLICE(""));
    compress_onto(&in, WRAP_GZIP, SJ_SLICE("two"));
    size_t two_and_a_bit = in.n;
    assert_decodes(SJ_CODING_GZIP, sj_buffer_slice(&in), SJ_SLICE("one two"));
    assert_true(sj_buffer_append(&in, "\0\0\0", 3)); // padding
    assert_decodes(SJ_CODING_GZIP, sj_buffer_slice(&in), SJ_SLICE("one two"));
    assert_true(sj_buffer_text(&in, "x")); // garbage
    assert_refuses(SJ_CODING_GZIP, sj_buffer_slice(&in));
    in.n = two_and_a_bit - 1; // the last one cut short
    assert_refuses(SJ_CODING_GZIP, sj_buffer_slice(&in));
    sj_buffer_free(&in);
    // Streams of the other codings do not repeat.
    in = compressed(WRAP_ZLIB, SJ_SLICE("one"));
    compress_onto(&in, WRAP_ZLIB, SJ_SLICE("two"));
    assert_refuses(SJ_CODING_DEFLATE, sj_buffer_slice(&in));
    sj_buffer_free(&in);
}

static void test_every_cut_is_noticed(void **state) {
    (void)state;
    static const struct {
        int wrap;
        sj_coding coding;
    } rows[] = {{WRAP_GZIP, SJ_CODING_GZIP}, {WRAP_ZLIB, SJ_CODING_DEFLATE}, {WRAP_NONE, SJ_CODING_DEFLATE}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        sj_buffer in = compressed(rows[i].wrap, answer_slice());
        for (size_t n = 0; n < in.n; n++)
            assert_refuses(rows[i].coding, (sj_slice){in.p, n});
        sj_buffer_free(&in);
    }
    assert_refuses(SJ_CODING_GZIP, (sj_slice){NULL, 0});
    assert_refuses(SJ_CODING_DEFLATE, (sj_slice){NULL, 0});
}

static void test_the_wrong_coding_is_damage(void **state) {
    (void)state;
    sj_buffer in = compressed(WRAP_ZLIB, answer_slice());
    assert_refuses(SJ_CODING_GZIP, sj_buffer_slice(&in));
    sj_buffer_free(&in);
    in = compressed(WRAP_GZIP, answer_slice());
    assert_refuses(SJ_CODING_DEFLATE, sj_buffer_slice(&in));
    sj_buffer_free(&in);
    assert_refuses(SJ_CODING_GZIP, answer_slice());
    assert_refuses(SJ_CODING_DEFLATE, answer_slice());
}

// A small input that would become 64 MiB: refused at the cap, having allocated no more than it.
static void test_bomb(void **state) {
    (void)state;
    enum { BLOWN_UP = 64 * 1024 * 1024, CAP = 100 * 1000 };
    char *zeros = calloc(1, BLOWN_UP);
    assert_non_null(zeros);
    sj_buffer in = compressed(WRAP_GZIP, (sj_slice){zeros, BLOWN_UP});
    assert_true(in.n < 100 * 1000);
    sj_buffer out = sj_buffer_with_max(CAP);
    assert_false(sj_inflate(SJ_CODING_GZIP, sj_buffer_slice(&in), &out));
    assert_int_equal(out.n, 0);
    assert_true(out.cap <= CAP);
    sj_buffer_free(&out);
    sj_buffer_free(&in);
    // Exactly the cap fits.
    in = compressed(WRAP_GZIP, (sj_slice){zeros, CAP});
    out = sj_buffer_with_max(CAP);
    assert_true(sj_inflate(SJ_CODING_GZIP, sj_buffer_slice(&in), &out));
    assert_int_equal(out.n, CAP);
    sj_buffer_free(&out);
    out = sj_buffer_with_max(CAP - 1);
    assert_false(sj_inflate(SJ_CODING_GZIP, sj_buffer_slice(&in), &out));
    sj_buffer_free(&out);
    sj_buffer_free(&in);
    free(zeros);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_coding_of),
        cmocka_unit_test(test_each_coding),
        cmocka_unit_test(test_known_bytes),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_several_gzip_members),
        cmocka_unit_test(test_every_cut_is_noticed),
        cmocka_unit_test(test_the_wrong_coding_is_damage),
        cmocka_unit_test(test_bomb),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
