#include "json_span.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define COUNT(rows) (sizeof(rows) / sizeof *(rows))

static sj_json_state check(const char *text) {
    return sj_json_check(sj_slice_of(text));
}

static void accepts_what_the_grammar_allows(void **state) {
    (void)state;
    static const char *const texts[] = {
        "0",
        "-0",
        "-0.5e+10",
        "1E5",
        "true",
        "null",
        "\"\"",
        "[]",
        "{}",
        " [ ] ",
        "[1,2 , [3]]",
        "{\"\":0}",
        "\t\n\r {\"a\" : [ { } ] } ",
        "\"\\u00e9\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
        "\"\\ud800\"",
        "\"\x7f\xff\"",
        "{\"a\":1,\"a\":2}",
        "[[],{},[[]],{\"k\":[]}]",
    };
    for (size_t i = 0; i < COUNT(texts); i++)
        if (check(texts[i]) != SJ_JSON_WHOLE)
            fail_msg("refused: %s", texts[i]);
}

static void refuses_everything_else(void **state) {
    (void)state;
    static const char *const texts[] = {
        "",        "01",         "+1",        ".5",     "1.e5",        "1e+x",
        "-a",      "0x1",        "NaN",       "truE",   "[1,]",        "[,1]",
        "[1 2]",   "{\"a\":1,}", "{a:1}",     "{1:1}",  "{\"a\" 1}",   "{,}",
        "]",       "[}",         "{]",        "1 2",    "{}{}",        "\"\n\"",
        "'a'",     "\"\\x\"",    "{\"a\":1]", "[1}",    "\"\\u\"",     "nul1",
        "// c\n1", "\"\x1f\"",   "\"\\\n\"",  "[\"a\"", "\"\\u12g4\"", "\xef\xbb\xbf{}",
    };
    for (size_t i = 0; i < COUNT(texts); i++)
        if (check(texts[i]) == SJ_JSON_WHOLE)
            fail_msg("accepted: %s", texts[i]);
    assert_int_equal(sj_json_check((sj_slice){"\"a\0b\"", 5}), SJ_JSON_WRONG);
    assert_int_equal(sj_json_check((sj_slice){"1\0", 2}), SJ_JSON_WRONG);
    assert_int_equal(sj_json_check((sj_slice){"\"\\\0\"", 4}), SJ_JSON_WRONG);
    assert_int_equal(sj_json_check((sj_slice){NULL, 0}), SJ_JSON_CUT);
}

// Every prefix of a text is "cut"; with a byte changed for the worse it is "wrong".
static void tells_cut_from_wrong(void **state) {
    (void)state;
    static const char text[] = "{\"a\": [1.5e-3, true, null, \"x\\u00e9\\n\", {\"b\": -0}], \"c\": false}";
    for (size_t n = 0; n < sizeof text - 1; n++)
        if (sj_json_check((sj_slice){text, n}) != SJ_JSON_CUT)
            fail_msg("not cut: %.*s", (int)n, text);
    assert_int_equal(check(text), SJ_JSON_WHOLE);
    assert_int_equal(check("{\"a\": [1.5e-3, tru]"), SJ_JSON_WRONG);
    assert_int_equal(check("<html>"), SJ_JSON_WRONG);
    assert_int_equal(check("[1"), SJ_JSON_CUT);
    assert_int_equal(check("-"), SJ_JSON_CUT);
    assert_int_equal(check("1."), SJ_JSON_CUT);
}

static sj_json_state check_nested(int depth, const char *opener, const char *closer) {
    sj_buffer text = sj_buffer_with_max(64 * 1024);
    for (int i = 0; i < depth; i++)
        assert_true(sj_buffer_text(&text, opener));
    assert_true(sj_buffer_text(&text, "1"));
    for (int i = 0; i < depth; i++)
        assert_true(sj_buffer_text(&text, closer));
    sj_json_state result = sj_json_check(sj_buffer_slice(&text));
    sj_buffer_free(&text);
    return result;
}

static void nests_to_the_limit_and_no_further(void **state) {
    (void)state;
    assert_int_equal(check_nested(SJ_JSON_MAX_DEPTH, "[", "]"), SJ_JSON_WHOLE);
    assert_int_equal(check_nested(SJ_JSON_MAX_DEPTH + 1, "[", "]"), SJ_JSON_WRONG);
    assert_int_equal(check_nested(SJ_JSON_MAX_DEPTH, "{\"a\":", "}"), SJ_JSON_WHOLE);
    assert_int_equal(check_nested(SJ_JSON_MAX_DEPTH + 1, "{\"a\":", "}"), SJ_JSON_WRONG);
    assert_int_equal(check_nested(SJ_JSON_MAX_DEPTH / 2, "[{\"a\":", "}]"), SJ_JSON_WHOLE);
    assert_int_equal(check_nested(SJ_JSON_MAX_DEPTH / 2, "[{\"a\":", "]}"), SJ_JSON_WRONG);
}

// Each length, and each place of the byte that ends a plain run: the eight-byte steps must not run past it.
static void finds_the_end_of_a_string_at_every_offset(void **state) {
    (void)state;
    char text[64];
    for (size_t n = 0; n < 40; n++) {
        text[0] = '"';
        memset(text + 1, 'x', n);
        text[n + 1] = '"';
        sj_json_cursor cursor = {text, text + n + 2};
        assert_int_equal(sj_json_skip_string(&cursor), SJ_JSON_WHOLE);
        assert_ptr_equal(cursor.at, text + n + 2);
        for (size_t bad = 0; bad < n; bad++) {
            text[bad + 1] = (char)(bad % 0x20);
            assert_int_equal(sj_json_check((sj_slice){text, n + 2}), SJ_JSON_WRONG);
            text[bad + 1] = (char)(0x80 + bad);
            assert_int_equal(sj_json_check((sj_slice){text, n + 2}), SJ_JSON_WHOLE);
            text[bad + 1] = 'x';
        }
    }
}

typedef struct notes {
    char text[512];
    int stop_after;
} notes;

static bool note(void *context, sj_slice key, sj_slice value) {
    notes *seen = context;
    size_t used = strlen(seen->text);
    (void)snprintf(seen->text + used, sizeof seen->text - used, "%.*s=%.*s;", (int)key.n, key.p, (int)value.n,
                   value.p);
    return --seen->stop_after != 0;
}

static void reports_members_in_order(void **state) {
    (void)state;
    notes seen = {.stop_after = -1};
    assert_true(sj_json_walk_object(
        SJ_SLICE(" {\"a\" : 1 , \"m\\u006fdel\":\"x\\\"y\",\"a\":[1, 2] ,\"o\":{\"a\":3}} "), note, &seen));
    assert_string_equal(seen.text, "a=1;model=\"x\\\"y\";a=[1, 2];o={\"a\":3};");
    seen.text[0] = '\0';
    assert_true(sj_json_walk_object(SJ_SLICE("{ }"), note, &seen));
    assert_true(sj_json_walk_array(SJ_SLICE("[1, {} ]"), note, &seen));
    assert_string_equal(seen.text, "=1;={};");
    seen.stop_after = 1;
    assert_false(sj_json_walk_object(SJ_SLICE("{\"a\":1,\"b\":2}"), note, &seen));
    assert_string_equal(seen.text, "=1;={};a=1;");
    static const char *const refused[] = {
        "", "[]", "{", "{}x", "{\"a\":1,}", "{\"a\":01}", "{\"a\":1}}", "\"a\"", "{\"a\"}",
    };
    for (size_t i = 0; i < COUNT(refused); i++)
        assert_false(sj_json_walk_object(sj_slice_of(refused[i]), note, &seen));
}

#define DIGITS_60 "012345678901234567890123456789012345678901234567890123456789"

static void leaves_long_and_odd_keys_raw(void **state) {
    (void)state;
    notes seen = {.stop_after = -1};
    assert_true(sj_json_walk_object(SJ_SLICE("{\"\\u0000\":1,\"\\ud800\":2,\"" DIGITS_60
                                             "\\u0030123\":3,\"" DIGITS_60 "\\u00301234\":4}"),
                                    note, &seen));
    assert_string_equal(seen.text, "\\u0000=1;\\ud800=2;" DIGITS_60 "0123=3;" DIGITS_60 "\\u00301234=4;");
}

static void decodes_strings(void **state) {
    (void)state;
    static const struct {
        const char *raw, *text; // text NULL: refused
    } rows[] = {
        {"\"gpt-4.1\"", "gpt-4.1"},
        {"\"\"", ""},
        {"\"\\u0065\\u00E9\\u20ac\\ud83d\\ude00\"", "e\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
        {"\"\xe2\x82\xac\"", "\xe2\x82\xac"},
        {"\"0123456789abcde\"", "0123456789abcde"},
        {"\"0123456789abcdef\"", NULL},
        {"\"a\\u0000\"", NULL},
        {"\"\\ud83d\"", NULL},
        {"\"\\ud83dx\"", NULL},
        {"\"\\ud83d\\n\"", NULL},
        {"\"\\ude00\\ud83d\"", NULL},
        {"\"\\ud83d\\u0041\"", NULL},
        {"\"\xc0\x80\"", NULL},
        {"\"\xed\xa0\x80\"", NULL},
        {"\"\xf4\x90\x80\x80\"", NULL},
        {"\"\xe2\x82\"", NULL},
        {"\"a", NULL},
        {"a", NULL},
        {"17", NULL},
        {"\"a\" ", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        char out[16];
        bool ok = sj_json_decode_string(sj_slice_of(rows[i].raw), out, sizeof out);
        if (ok != (rows[i].text != NULL) || (ok && strcmp(out, rows[i].text) != 0))
            fail_msg("%s", rows[i].raw);
    }
    char tiny[1];
    assert_false(sj_json_decode_string(SJ_SLICE("\"\""), tiny, 0));
    assert_true(sj_json_decode_string(SJ_SLICE("\"\""), tiny, 1));
}

static void encodes_strings(void **state) {
    (void)state;
    sj_buffer out = sj_buffer_with_max(100);
    assert_true(sj_json_encode_string(
        SJ_SLICE("a\"\\\n\r\t\0\x1f\x7f/\xc3\xa9\xc3\xff\xf0\x9f\x98\x80\xed\xa0\x80"), &out));
    assert_true(sj_slice_equal(
        sj_buffer_slice(&out),
        SJ_SLICE("\"a\\\"\\\\\\n\\r\\t\\u0000\\u001f\x7f/\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\xf0\x9f\x98\x80"
                 "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"")));
    size_t before = out.n;
    assert_false(
        sj_json_encode_string(SJ_SLICE("this is longer than what is left of the small buffer"), &out));
    assert_int_equal(out.n, before);
    sj_buffer_free(&out);
}

static sj_request_facts facts_of(const char *body) {
    sj_request_facts facts;
    sj_request_facts_read(sj_slice_of(body), &facts);
    return facts;
}

static void finds_every_model(void **state) {
    (void)state;
    const char *body = "{\"model\" : \"a\\u002db\",\"x\":{\"model\":\"no\"}, \"mod\\u0065l\":\"last\"}";
    sj_request_facts facts = facts_of(body);
    assert_true(facts.is_object && facts.has_model && !facts.model_spans_overflow);
    assert_string_equal(facts.model, "last");
    assert_int_equal(facts.model_span_count, 2);
    assert_int_equal(facts.model_spans[0].n, strlen("\"a\\u002db\""));
    assert_memory_equal(body + facts.model_spans[0].offset, "\"a\\u002db\"", facts.model_spans[0].n);
    assert_int_equal(facts.model_spans[1].n, strlen("\"last\""));
    assert_memory_equal(body + facts.model_spans[1].offset, "\"last\"", facts.model_spans[1].n);

    facts = facts_of("{\"model\":\"a\",\"model\":null}");
    assert_true(facts.has_model);
    assert_string_equal(facts.model, "");
    facts = facts_of(
        "{\"model\":\"1\",\"model\":\"2\",\"model\":\"3\",\"model\":\"4\",\"model\":\"5\",\"model\":\"6\","
        "\"model\":\"7\",\"model\":\"8\",\"model\":\"9\"}");
    assert_true(facts.model_spans_overflow);
    assert_int_equal(facts.model_span_count, SJ_JSON_MAX_MODEL_SPANS);
    assert_string_equal(facts.model, "9");
}

static void says_nothing_of_what_is_no_object(void **state) {
    (void)state;
    static const char *const bodies[] = {
        "",
        "[]",
        "null",
        "{\"model\":\"a\",\"stream\":true} x",
        "{\"model\":\"a\",\"stream\":true",
        "{\"model\":\"a\",\"stream\":true,}",
    };
    for (size_t i = 0; i < COUNT(bodies); i++) {
        sj_request_facts facts = facts_of(bodies[i]);
        assert_false(facts.is_object || facts.has_model || facts.stream);
        assert_int_equal(facts.model_span_count, 0);
        assert_int_equal(facts.choices, 1);
    }
    sj_request_facts facts;
    sj_request_facts_read((sj_slice){NULL, 0}, &facts);
    assert_false(facts.is_object);
}

enum { STREAM = 1, STORE = 2, BACKGROUND = 4, HOSTED = 8, BOUND = 16, DETERMINISTIC = 32 };

static int bits_of(const sj_request_facts *facts) {
    return (facts->stream ? STREAM : 0) | (facts->store ? STORE : 0) | (facts->background ? BACKGROUND : 0) |
           (facts->hosted_tools ? HOSTED : 0) | (facts->bound_to_upstream ? BOUND : 0) |
           (facts->deterministic ? DETERMINISTIC : 0);
}

static void reads_facts(void **state) {
    (void)state;
    static const struct {
        const char *body;
        int bits, choices;
    } rows[] = {
        {"{}", 0, 1},
        {"{\"stream\":true,\"n\":3}", STREAM, 3},
        {"{\"stream\":true,\"stream\":false}", 0, 1},
        {"{\"stream\":\"true\",\"n\":0}", 0, 1},
        {"{\"Stream\":true,\"n\":129}", 0, 1},
        {"{\"n\":128}", 0, 128},
        {"{\"n\":99999999999999999999}", 0, 1},
        {"{\"n\":2.0}", 0, 1},
        {"{\"n\":-2}", 0, 1},
        {"{\"n\":null,\"store\":true}", STORE, 1},
        {"{\"background\":true}", BACKGROUND, 1},
        {"{\"temperature\":0}", DETERMINISTIC, 1},
        {"{\"temperature\":-0.00}", DETERMINISTIC, 1},
        {"{\"temperature\":0E7}", DETERMINISTIC, 1},
        {"{\"temperature\":0.01}", 0, 1},
        {"{\"temperature\":null}", 0, 1},
        {"{\"temperature\":10}", 0, 1},
        {"{\"tools\":[{\"type\":\"function\",\"name\":\"f\"},{\"type\":\"custom\"}]}", 0, 1},
        {"{\"tools\":[{\"type\":\"function\",\"function\":{\"type\":\"web_search\"}}]}", 0, 1},
        {"{\"tools\":[{\"type\":\"function\"},{\"type\":\"web_search\"}]}", HOSTED, 1},
        {"{\"tools\":[{\"name\":\"f\"}]}", HOSTED, 1},
        {"{\"tools\":[]}", 0, 1},
        {"{\"tools\":null}", 0, 1},
        {"{\"previous_response_id\":\"resp_1\"}", BOUND, 1},
        {"{\"previous_response_id\":null}", 0, 1},
        {"{\"conversation\":{\"id\":\"c\"}}", BOUND, 1},
        {"{\"conversation\":\"\"}", 0, 1},
        {"{\"input\":[{\"content\":[{\"type\":\"input_file\",\"file_id\":\"file-abc\"}]}]}", BOUND, 1},
        {"{\"a\":{\"file_ids\" : [ \"file-abc\" ]}}", BOUND, 1},
        {"{\"a\":{\"file_ids\":[ ], \"file_id\": null}}", 0, 1},
        {"{\"a\":{\"file_id\":null},\"b\":[{\n\"file_id\"\n:\n\"f\"}]}", BOUND, 1},
        {"{\"a\":\"{\\\"file_id\\\": \\\"x\\\"}\",\"b\":[\"file_id\"],\"my_file_id\":\"x\",\"file_idx\":1}",
         0, 1},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        sj_request_facts facts = facts_of(rows[i].body);
        if (!facts.is_object || bits_of(&facts) != rows[i].bits || facts.choices != rows[i].choices)
            fail_msg("%s: %d, choices %d", rows[i].body, bits_of(&facts), facts.choices);
    }
}

static bool ignore(void *context, sj_slice key, sj_slice value) {
    (void)context;
    (void)key;
    (void)value;
    return true;
}

// y_*.json must pass and n_*.json must not, alone and as a member's value.
static void judge_vector(const char *folder, const char *name) {
    static char text[256 * 1024];
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t n = fread(text, 1, sizeof text, file);
    (void)fclose(file);
    assert_true(n < sizeof text);
    bool expected = name[0] == 'y';
    if ((sj_json_check((sj_slice){text, n}) == SJ_JSON_WHOLE) != expected)
        fail_msg("%s", name);
    sj_buffer wrapped = sj_buffer_with_max(sizeof text + 16);
    assert_true(sj_buffer_text(&wrapped, "{\"v\":") && sj_buffer_append(&wrapped, text, n) &&
                sj_buffer_text(&wrapped, "}"));
    bool accepted = sj_json_walk_object(sj_buffer_slice(&wrapped), ignore, NULL);
    sj_buffer_free(&wrapped);
    if (accepted != expected)
        fail_msg("wrapped: %s", name);
}

static void agrees_with_the_json_test_suite(void **state) {
    (void)state;
    const char *folder = getenv("SJ_JSON_SUITE");
    DIR *dir = folder ? opendir(folder) : NULL;
    if (!dir) {
        print_message("SJ_JSON_SUITE names no folder with JSONTestSuite's extracted test_parsing: skipped\n");
        skip();
    }
    int judged = 0;
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        if (strncmp(entry->d_name, "y_", 2) != 0 && strncmp(entry->d_name, "n_", 2) != 0)
            continue;
        judge_vector(folder, entry->d_name);
        judged++;
    }
    (void)closedir(dir);
    print_message("%d vectors\n", judged);
    assert_true(judged > 200);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_what_the_grammar_allows),
        cmocka_unit_test(refuses_everything_else),
        cmocka_unit_test(tells_cut_from_wrong),
        cmocka_unit_test(nests_to_the_limit_and_no_further),
        cmocka_unit_test(finds_the_end_of_a_string_at_every_offset),
        cmocka_unit_test(reports_members_in_order),
        cmocka_unit_test(leaves_long_and_odd_keys_raw),
        cmocka_unit_test(decodes_strings),
        cmocka_unit_test(encodes_strings),
        cmocka_unit_test(finds_every_model),
        cmocka_unit_test(says_nothing_of_what_is_no_object),
        cmocka_unit_test(reads_facts),
        cmocka_unit_test(agrees_with_the_json_test_suite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
