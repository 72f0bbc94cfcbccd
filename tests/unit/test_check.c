#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "check.h"
#include "key_source.h"

#include <stdlib.h>

static void model_lists_are_read(void **state) {
    (void)state;
    static const struct {
        const char *body;
        bool ok;
        size_t count;
    } cases[] = {
        {"{\"object\":\"list\",\"data\":[{\"id\":\"gpt-4.1\"},{\"id\":\"models/gemini-2.5-flash\"}]}", true, 2},
        {"{\"models\":[{\"name\":\"models/gemini-2.5-flash\"},{\"name\":\"gpt-4.1\"}]}", true, 2},
        {"[{\"id\":\"models/gemini-2.5-flash\"},\"gpt-4.1\"]", true, 2},
        {"{\"data\":[]}", true, 0},
        {"{\"data\":[{\"id\":5},{},null]}", true, 0},
        {"{\"data\":{\"id\":\"gpt-4.1\"}}", false, 0},
        {"{\"error\":{\"message\":\"no\"}}", false, 0},
        {"<!doctype html>", false, 0},
        {"", false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sj_check check = {.results = calloc(1, sizeof *check.results), .count = 1};
        assert_int_equal(sj_check_read_models(check.results, sj_slice_of(cases[i].body)), cases[i].ok);
        assert_int_equal(check.results[0].model_count, cases[i].count);
        if (cases[i].count) {
            assert_true(sj_check_lists(check.results, "gpt-4.1"));
            assert_true(sj_check_lists(check.results, "gemini-2.5-flash"));
            assert_true(sj_check_lists(check.results, "models/gemini-2.5-flash"));
        }
        assert_false(sj_check_lists(check.results, "gpt-4"));
        assert_false(sj_check_lists(check.results, "models/gpt-4.1"));
        sj_check_free(&check);
    }
}

static const char file[] = "# upstreams = { strong = { api_key = \"${COMMENT}\"; }; };\n"
                           "listen = \"127.0.0.1:8080\"; // api_key = \"no\"\n"
                           "retry = { base = \"1s\"; };\n"
                           "upstreams = {\n"
                           "  other = { api_key = \"${OTHER_KEY}\"; headers = { strong = \"{\"; }; };\n"
                           "  /* strong = {\n"
                           "     api_key = \"x\" */\n"
                           "  strong : {\n"
                           "    base_url = \"https://a.example/\\\"v1}\"; headers = { api_key = \"${NESTED}\"; };\n"
                           "    api_key = \"${STRONG_KEY}\";\n"
                           "  };\n"
                           "  several = { api_keys = [ \"${KEY_A}\",\n"
                           "                           \"plain-secret\", \"${KEY_C}\" ]; };\n"
                           "  keyless = { auth = \"none\"; };\n"
                           "};\n"
                           "routes = ( { chain = [ \"strong\" ]; } );\n";

static void key_sources_are_found(void **state) {
    (void)state;
    static const struct {
        const char *upstream;
        size_t index;
        int line;
        const char *variable;
    } cases[] = {
        {"strong", 0, 10, "STRONG_KEY"}, {"other", 0, 5, "OTHER_KEY"}, {"several", 0, 12, "KEY_A"},
        {"several", 1, 13, ""},          {"several", 2, 13, "KEY_C"},  {"several", 3, 12, ""},
        {"keyless", 0, 0, ""},           {"absent", 0, 0, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sj_key_source source = sj_key_source_find(SJ_SLICE(file), cases[i].upstream, cases[i].index);
        assert_int_equal(source.line, cases[i].line);
        assert_string_equal(source.variable, cases[i].variable);
    }
}

// Whatever the text, cut anywhere: no reading beyond it, and an end.
static void cut_files_do_no_harm(void **state) {
    (void)state;
    for (size_t n = 0; n < sizeof file; n++) {
        char *copy = malloc(n ? n : 1);
        assert_non_null(copy);
        memcpy(copy, file, n);
        sj_key_source source = sj_key_source_find((sj_slice){copy, n}, "several", 2);
        assert_true(source.line >= 0 && source.line <= 16);
        free(copy);
    }
    assert_int_equal(sj_key_source_in_file("/nonexistent", "strong", 0).line, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(model_lists_are_read),
        cmocka_unit_test(key_sources_are_found),
        cmocka_unit_test(cut_files_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
