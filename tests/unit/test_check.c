#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "check.h"
#include "key_source.h"
#include "mock.h"
#include "upstream.h"

#include <stdio.h>
#include <stdlib.h>

static void model_lists_are_read(void **state) {
    (void)state;
    static const struct {
        const char *body;
        bool ok;
        size_t count;
    } cases[] = {
        {"{\"object\":\"list\",\"data\":[{\"id\":\"gpt-4.1\"},{\"id\":\"models/gemini-2.5-flash\"}]}", true,
         2},
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

static const char file[] =
    "# upstreams = { strong = { api_key = \"${COMMENT}\"; }; };\n"
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

// ---- against the misbehaving upstream ----------------------------------------------------------------------------------------

typedef struct sj_stage {
    uv_loop_t loop;
    uv_async_t stop;
    uv_thread_t thread;
    sj_mock *mock;
} sj_stage;

static void on_stop(uv_async_t *async) {
    sj_stage *stage = async->data;
    sj_mock_close(&stage->mock);
    uv_close((uv_handle_t *)async, NULL);
}

static void run_stage(void *argument) {
    uv_run(&((sj_stage *)argument)->loop, UV_RUN_DEFAULT);
}

static void upstreams_are_asked(void **state) {
    (void)state;
    static sj_stage stage;
    uv_loop_init(&stage.loop);
    uv_async_init(&stage.loop, &stage.stop, on_stop);
    stage.stop.data = &stage;
    stage.mock = sj_mock_new(&stage.loop, NULL);
    assert_non_null(stage.mock);
    char origin[64];
    (void)snprintf(origin, sizeof origin, "http://127.0.0.1:%d", sj_mock_port(stage.mock));
    assert_int_equal(uv_thread_create(&stage.thread, run_stage, &stage), 0);
    char empty[] = "", v1[] = "/v1", bearer[] = "Bearer ", authorization[] = "Authorization", key[] = "k",
         closed[] = "http://127.0.0.1:9";
    char fault[] = "x-mock-fault", f401[] = "401", f503[] = "503", f404[] = "404", silence[] = "timeout";
    char *keys[] = {key, key};
    sj_pair pairs[] = {{fault, f401}, {fault, f503}, {fault, f404}, {fault, silence}};
    const sj_upstream_config usual = {.origin = origin,
                                      .base_path = v1,
                                      .query = empty,
                                      .api_key_header = authorization,
                                      .api_key_prefix = bearer,
                                      .auth = SJ_AUTH_UNSET,
                                      .connect_timeout_ms = 2000};
    sj_upstream_config upstreams[] = {usual, usual, usual, usual, usual, usual, usual, usual};
    upstreams[1].api_keys = keys;
    upstreams[1].api_key_count = 2;
    upstreams[1].auth = SJ_AUTH_KEY;
    for (size_t i = 1; i <= 5; i++)
        upstreams[i].header_count = 1;
    upstreams[1].headers = upstreams[2].headers = &pairs[0];
    upstreams[3].headers = &pairs[1];
    upstreams[4].headers = &pairs[2];
    upstreams[5].headers = &pairs[3];
    upstreams[6].origin = closed;
    upstreams[7].embedded = true;
    static const struct {
        size_t upstream, key;
        sj_check_kind kind;
        int status;
    } expected[] = {
        {0, 0, SJ_CHECK_OK, 200},          {1, 0, SJ_CHECK_WRONG_KEY, 401}, {1, 1, SJ_CHECK_WRONG_KEY, 401},
        {2, 0, SJ_CHECK_CLIENTS_KEY, 401}, {3, 0, SJ_CHECK_ODD, 503},       {4, 0, SJ_CHECK_NO_LIST, 404},
        {5, 0, SJ_CHECK_UNREACHABLE, 0},   {6, 0, SJ_CHECK_UNREACHABLE, 0}, {7, 0, SJ_CHECK_EMBEDDED, 0},
    };
    enum { N = sizeof expected / sizeof expected[0] };
    sj_config config = {.upstreams = upstreams, .upstream_count = 8};
    sj_check check;
    assert_true(sj_upstream_global_init());
    assert_true(sj_check_run(&config, 500, &check));
    assert_int_equal(check.count, N);
    for (size_t i = 0; i < N; i++) {
        const sj_check_result *result = &check.results[i];
        assert_int_equal(result->upstream, expected[i].upstream);
        assert_int_equal(result->key, expected[i].key);
        assert_int_equal(result->kind, expected[i].kind);
        assert_int_equal(result->status, expected[i].status);
        assert_int_equal(*result->detail != '\0',
                         result->kind != SJ_CHECK_OK && result->kind != SJ_CHECK_EMBEDDED);
    }
    assert_true(check.results[0].model_count > 0);
    sj_check_free(&check);
    sj_upstream_global_end();
    uv_async_send(&stage.stop);
    uv_thread_join(&stage.thread);
    assert_int_equal(uv_loop_close(&stage.loop), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(model_lists_are_read),
        cmocka_unit_test(key_sources_are_found),
        cmocka_unit_test(cut_files_do_no_harm),
        cmocka_unit_test(upstreams_are_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
