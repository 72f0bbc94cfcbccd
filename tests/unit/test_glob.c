#include "glob.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static bool match(const char *pattern, const char *text) {
    return sj_glob_match(sj_slice_of(pattern), sj_slice_of(text));
}

static void test_rows(void **state) {
    (void)state;
    static const struct {
        const char *pattern, *text;
        bool fits;
    } rows[] = {
        {"", "", true},
        {"", "a", false},
        {"*", "", true},
        {"*", "gpt-4.1", true},
        {"**", "", true},
        {"?", "", false},
        {"?", "a", true},
        {"?", "ab", false},
        {"*?", "", false},
        {"?*", "a", true},
        {"gpt-4.1", "gpt-4.1", true},
        {"gpt-4.1", "gpt-4x1", false},
        {"gpt-4.1", "gpt-4.1-mini", false},
        {"gpt-4.1", "GPT-4.1", false},
        {"gpt-4*", "gpt-4.1-mini", true},
        {"gpt-4*", "gpt-4", true},
        {"gpt-4*", "gpt-3.5", false},
        {"*-mini", "gpt-4.1-mini", true},
        {"*-mini", "gpt-4.1-minis", false},
        {"*/v1/*", "/openai/v1/chat", true},
        {"*ab*ab", "abab", true},
        {"*ab*ab", "ab", false},
        {"*ab*ab", "abxabyab", true},
        {"a*b?c*d", "aXXbYcZZd", true},
        {"a*b?c*d", "aXXbcZZd", false},
        {"*aab", "aaaaab", true},
        {"*a?b", "aaXaaYb", true},
        {"[a-z]", "b", false},
        {"[a-z]", "[a-z]", true},
        {"\\*", "*", false},
        {"\\*", "\\anything", true},
        {"a.c", "abc", false},
        {"?", "\xc3\xa4", false}, // one byte, not one letter
        {"??", "\xc3\xa4", true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (match(rows[i].pattern, rows[i].text) != rows[i].fits)
            fail_msg("\"%s\" on \"%s\"", rows[i].pattern, rows[i].text);
    }
}

static void test_nul_is_a_byte_like_others(void **state) {
    (void)state;
    assert_true(sj_glob_match(SJ_SLICE("a*c"), (sj_slice){"a\0c", 3}));
    assert_false(sj_glob_match(SJ_SLICE("a"), (sj_slice){"a\0", 2}));
    assert_true(sj_glob_match((sj_slice){NULL, 0}, (sj_slice){NULL, 0}));
}

// The exponential trap of recursive matchers: must come back at once.
static void test_many_stars_stay_cheap(void **state) {
    (void)state;
    enum { LENGTH = 20000 };
    char *text = malloc(LENGTH);
    assert_non_null(text);
    memset(text, 'a', LENGTH);
    assert_false(sj_glob_match(SJ_SLICE("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b"), (sj_slice){text, LENGTH}));
    assert_true(sj_glob_match(SJ_SLICE("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a"), (sj_slice){text, LENGTH}));
    free(text);
}

// Every short pattern over {a, *, ?} against every short text over {a, b}, compared with the definition itself.
static bool by_definition(const char *p, const char *t) {
    if (*p == '\0')
        return *t == '\0';
    if (*p == '*')
        return by_definition(p + 1, t) || (*t && by_definition(p, t + 1));
    return *t && (*p == '?' || *p == *t) && by_definition(p + 1, t + 1);
}

static void spell(unsigned number, const char *letters, unsigned base, char out[6]) {
    size_t n = 0;
    for (; number && n < 5; number = (number - 1) / base)
        out[n++] = letters[(number - 1) % base];
    out[n] = '\0';
}

static void test_against_the_definition(void **state) {
    (void)state;
    int agreed = 0;
    for (unsigned p = 0; p < 364; p++) { // all patterns of up to five letters
        for (unsigned t = 0; t < 63; t++) {
            char pattern[6], text[6];
            spell(p, "a*?", 3, pattern);
            spell(t, "ab", 2, text);
            bool wanted = by_definition(pattern, text);
            if (match(pattern, text) != wanted)
                fail_msg("\"%s\" on \"%s\"", pattern, text);
            agreed += wanted;
        }
    }
    assert_true(agreed > 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_nul_is_a_byte_like_others),
        cmocka_unit_test(test_many_stars_stay_cheap),
        cmocka_unit_test(test_against_the_definition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
