#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "admin.h"

#include <cJSON.h>
#include <stdio.h>
#include <stdlib.h>

// A server that is only its view.
typedef struct sj_scene {
    sj_config config;
    sj_admission *admission;
    sj_target *targets[2];
    sj_global_breaker *global;
    sj_registry *registry;
    const char *names[1];
    bool draining;
    int views; // taken and not given back
    int reloads;
    bool reload_works;
    sj_admin_options options;
    sj_admin_answer answer;
} sj_scene;

static sj_scene scene;

static void take(sj_server *server, sj_server_view *view) {
    (void)server;
    scene.views++;
    *view = (sj_server_view){
        .draining = scene.draining,
        .targets = scene.targets,
        .target_count = 2,
        .upstream_names = scene.names,
        .admissions = &scene.admission,
        .upstream_count = 1,
        .global = scene.global,
        .config = &scene.config,
        .now_ms = 1000,
    };
}

static void release(sj_server_view *view) {
    (void)view;
    scene.views--;
}

static bool reload(void *context, sj_buffer *message) {
    assert_ptr_equal(context, &scene);
    scene.reloads++;
    assert_true(
        sj_buffer_text(message, scene.reload_works ? "2 upstreams" : "a.conf:3: \"retires\"?\na.conf:4: no"));
    return scene.reload_works;
}

static int set_up(void **state) {
    (void)state;
    static char path[] = "stormjib.conf";
    scene = (sj_scene){.reload_works = true};
    scene.config.path = path;
    scene.config.workers = 2;
    scene.names[0] = "a";
    scene.admission =
        sj_admission_new(&(sj_admission_rules){.max_concurrent = 7, .max_waiting = 5, .timeout_ms = 1000});
    sj_target_rules rules = {sj_breaker_rules_default, sj_budget_rules_default};
    scene.targets[0] = sj_target_new("a/m", 1, &rules, scene.admission, NULL, 1, 0);
    scene.targets[1] = sj_target_new("a/<b>\"\xff", 1, &rules, scene.admission, NULL, 1, 0);
    scene.global = sj_global_breaker_new(&sj_breaker_rules_default, 1, 0);
    scene.registry = sj_registry_new(2);
    scene.options = (sj_admin_options){.registry = scene.registry,
                                       .reload = reload,
                                       .context = &scene,
                                       .view_take = take,
                                       .view_release = release};
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    assert_int_equal(scene.views, 0);
    sj_admin_answer_free(&scene.answer);
    sj_target_unref(&scene.targets[0]);
    sj_target_unref(&scene.targets[1]);
    sj_global_breaker_free(&scene.global);
    sj_admission_free(&scene.admission);
    sj_registry_free(&scene.registry);
    return 0;
}

// Returns the body, NUL-terminated; headers as name, value, ..., NULL.
static const char *ask_with(const char *method, const char *target, const char *const *pairs) {
    sj_headers headers;
    sj_headers_init(&headers);
    for (size_t i = 0; pairs[i]; i += 2)
        assert_true(sj_headers_add(&headers, sj_slice_of(pairs[i]), sj_slice_of(pairs[i + 1])));
    sj_admin_request request = {
        .method = sj_slice_of(method), .target = sj_slice_of(target), .headers = &headers};
    sj_admin_answer_free(&scene.answer);
    sj_admin_answer_init(&scene.answer);
    sj_admin_route(&scene.options, &request, &scene.answer);
    sj_headers_free(&headers);
    assert_true(sj_buffer_append(&scene.answer.body, "", 1));
    return scene.answer.body.p;
}

static const char *ask(const char *method, const char *target) {
    return ask_with(method, target, (const char *[]){"Host", "127.0.0.1:8081", NULL});
}

static const char *answer_header(const char *name) {
    sj_slice value = sj_headers_get(&scene.answer.headers, name);
    return value.n ? value.p : "";
}

static const char *error_code(const char *body) {
    static char code[64];
    cJSON *json = cJSON_ParseWithOpts(body, NULL, true);
    assert_non_null(json);
    const cJSON *error = cJSON_GetObjectItem(json, "error");
    assert_true(strlen(cJSON_GetObjectItem(error, "message")->valuestring) > 10);
    (void)snprintf(code, sizeof code, "%s", cJSON_GetObjectItem(error, "code")->valuestring);
    cJSON_Delete(json);
    return code;
}

static void probes(void **state) {
    (void)state;
    assert_string_equal(ask("GET", "/healthz"), "ok\n");
    assert_int_equal(scene.answer.status, 200);
    assert_string_equal(ask("GET", "/readyz?verbose"), "ready\n");
    assert_int_equal(scene.answer.status, 200);
    scene.draining = true;
    assert_string_equal(ask("HEAD", "/readyz"), "draining\n");
    assert_int_equal(scene.answer.status, 503);
    (void)ask("GET", "/healthz");
    assert_int_equal(scene.answer.status, 200);
}

static void unknown_paths_and_methods(void **state) {
    (void)state;
    static const struct {
        const char *method, *target;
        int status;
        const char *code, *allow;
    } cases[] = {
        {"GET", "/nothing", 404, "not_found", ""},
        {"GET", "", 404, "not_found", ""},
        {"GET", "/metrics/", 404, "not_found", ""},
        {"POST", "/metrics", 405, "method_not_allowed", "GET, HEAD"},
        {"GET", "/reload", 405, "method_not_allowed", "POST"},
        {"HEAD", "/reload", 405, "method_not_allowed", "POST"},
        {"get", "/state", 405, "method_not_allowed", "GET, HEAD"},
        {"GET", "/breaker/a/m/open", 405, "method_not_allowed", "POST"},
        {"POST", "/breaker/a/m/explode", 404, "not_found", ""},
        {"POST", "/breaker/open", 404, "not_found", ""},
        {"POST", "/breaker//open", 404, "not_found", ""},
        {"POST", "/breaker/", 404, "not_found", ""},
        {"POST", "/breaker/a/other/open", 404, "not_found", ""},
        {"POST", "/breaker/a%2Fm%00/open", 404, "not_found", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *body = ask(cases[i].method, cases[i].target);
        assert_int_equal(scene.answer.status, cases[i].status);
        assert_string_equal(error_code(body), cases[i].code);
        assert_string_equal(answer_header("allow"), cases[i].allow);
        assert_string_equal(answer_header("content-type"), "application/json");
    }
    scene.options.reload = NULL;
    assert_string_equal(error_code(ask("POST", "/reload")), "not_found");
}

static void metrics(void **state) {
    (void)state;
    const char *body = ask("GET", "/metrics");
    assert_int_equal(scene.answer.status, 200);
    assert_string_equal(answer_header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert_non_null(strstr(body, "stormjib_breaker_state{target=\"a/m\",state=\"closed\"} 1\n"));
    assert_non_null(strstr(body, "stormjib_upstream_limit{upstream=\"a\"} 7\n"));
    assert_null(strchr(body, '\xff'));
}

static void state_is_json(void **state) {
    (void)state;
    sj_record record = {.target = "a/m", .status = 503, .total_us = 10, .first_content_us = -1};
    sj_metrics_exchange_started(sj_registry_shard(scene.registry, 1));
    sj_metrics_exchange(sj_registry_shard(scene.registry, 1), &record);
    cJSON *json = cJSON_ParseWithOpts(ask("GET", "/state"), NULL, true);
    assert_int_equal(scene.answer.status, 200);
    assert_non_null(json);
    assert_string_equal(cJSON_GetObjectItem(json, "version")->valuestring, SJ_VERSION);
    assert_string_equal(cJSON_GetObjectItem(json, "config")->valuestring, "stormjib.conf");
    assert_string_equal(cJSON_GetObjectItem(json, "global_breaker")->valuestring, "closed");
    assert_true(cJSON_IsFalse(cJSON_GetObjectItem(json, "draining")));
    assert_int_equal(cJSON_GetObjectItem(cJSON_GetObjectItem(json, "answers"), "5xx")->valueint, 1);
    assert_int_equal(cJSON_GetObjectItem(cJSON_GetObjectItem(json, "totals"), "exchanges")->valueint, 1);
    const cJSON *upstream = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "upstreams"), 0);
    assert_string_equal(cJSON_GetObjectItem(upstream, "name")->valuestring, "a");
    assert_int_equal(cJSON_GetObjectItem(upstream, "limit")->valueint, 7);
    assert_int_equal(cJSON_GetObjectItem(upstream, "limit_max")->valueint, 7);
    assert_int_equal(cJSON_GetObjectItem(upstream, "limit_cuts")->valueint, 0);
    const cJSON *targets = cJSON_GetObjectItem(json, "targets");
    assert_int_equal(cJSON_GetArraySize(targets), 2);
    const cJSON *target = cJSON_GetArrayItem(targets, 0);
    assert_string_equal(cJSON_GetObjectItem(target, "name")->valuestring, "a/m");
    assert_string_equal(cJSON_GetObjectItem(target, "state")->valuestring, "closed");
    assert_int_equal(cJSON_GetObjectItem(target, "budget_available")->valueint, 500);
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(cJSON_GetObjectItem(target, "first_content_ms"), "p50")));
    assert_int_equal(cJSON_GetObjectItem(cJSON_GetObjectItem(target, "totals"), "exchanges")->valueint, 1);
    const cJSON *odd = cJSON_GetArrayItem(targets, 1);
    assert_string_equal(cJSON_GetObjectItem(odd, "name")->valuestring, "a/<b>\"\xEF\xBF\xBD");
    assert_int_equal(cJSON_GetObjectItem(cJSON_GetObjectItem(odd, "totals"), "exchanges")->valueint, 0);
    cJSON_Delete(json);
}

static void breakers_are_forced(void **state) {
    (void)state;
    static const struct {
        const char *target, *answer;
        sj_breaker_state now;
    } cases[] = {
        {"/breaker/a/m/open", "{\"target\":\"a/m\",\"state\":\"forced_open\"}\n", SJ_BREAKER_FORCED_OPEN},
        {"/breaker/a%2Fm/disable", "{\"target\":\"a/m\",\"state\":\"disabled\"}\n", SJ_BREAKER_DISABLED},
        {"/breaker/a%2fm/close?x", "{\"target\":\"a/m\",\"state\":\"closed\"}\n", SJ_BREAKER_CLOSED},
        {"/breaker/%61/m/close", "{\"target\":\"a/m\",\"state\":\"closed\"}\n", SJ_BREAKER_CLOSED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_string_equal(ask("POST", cases[i].target), cases[i].answer);
        assert_int_equal(scene.answer.status, 200);
        assert_int_equal(sj_target_read(scene.targets[0], 1000).state, cases[i].now);
        assert_int_equal(sj_target_read(scene.targets[1], 1000).state, SJ_BREAKER_CLOSED);
    }
    assert_int_equal(sj_registry_sum(scene.registry, SJ_METRIC_BREAKER_CHANGES, "a/m"),
                     3); // closing twice is one change
    (void)ask("POST", "/breaker/global/open");
    assert_int_equal(scene.answer.status, 200);
    assert_int_equal(sj_global_breaker_state(scene.global), SJ_BREAKER_FORCED_OPEN);
    assert_int_equal(sj_registry_sum(scene.registry, SJ_METRIC_GLOBAL_CHANGES, NULL), 1);
    (void)ask("POST", "/breaker/a%2F%3Cb%3E%22%FF/open");
    assert_int_equal(sj_target_read(scene.targets[1], 1000).state, SJ_BREAKER_FORCED_OPEN);
}

static void reloads(void **state) {
    (void)state;
    assert_string_equal(ask("POST", "/reload"), "{\"ok\":true,\"message\":\"2 upstreams\"}\n");
    assert_int_equal(scene.answer.status, 200);
    scene.reload_works = false;
    assert_string_equal(error_code(ask("POST", "/reload")), "invalid_configuration");
    assert_int_equal(scene.answer.status, 422);
    assert_int_equal(scene.reloads, 2);
}

static void token_is_needed(void **state) {
    (void)state;
    static char token[] = "s3cret-token";
    scene.config.admin_token = token;
    static const struct {
        const char *authorization;
        int status;
    } cases[] = {
        {"", 401},
        {"Bearer", 401},
        {"Bearer ", 401},
        {"Bearer s3cret-toke", 401},
        {"Bearer s3cret-tokenX", 401},
        {"Bearer s3cret-tokens3cret-token", 401},
        {"Bearer S3cret-token", 401},
        {"Basic s3cret-token", 401},
        {"s3cret-token", 401},
        {"Bearer s3cret-token", 200},
        {"bearer   s3cret-token ", 200},
    };
    static const char *const paths[] = {"/", "/state", "/metrics"};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t j = 0; j < 3; j++) {
            const char *body =
                ask_with("GET", paths[j], (const char *[]){"authorization", cases[i].authorization, NULL});
            assert_int_equal(scene.answer.status, cases[i].status);
            assert_null(strstr(body, "s3cret"));
            assert_int_equal(*answer_header("www-authenticate") != '\0', cases[i].status == 401);
        }
    (void)ask("GET", "/not/there"); // says nothing about what there is
    assert_int_equal(scene.answer.status, 401);
    (void)ask("POST", "/breaker/a/m/open");
    assert_int_equal(scene.answer.status, 401);
    assert_int_equal(sj_target_read(scene.targets[0], 1000).state, SJ_BREAKER_CLOSED);
    (void)ask("GET", "/healthz");
    assert_int_equal(scene.answer.status, 200);
    (void)ask("GET", "/readyz");
    assert_int_equal(scene.answer.status, 200);
    (void)ask_with("POST", "/breaker/a/m/open",
                   (const char *[]){"Host", "admin.example", "Authorization", "Bearer s3cret-token", NULL});
    assert_int_equal(scene.answer.status, 200);
}

// Without a token a page in somebody's browser must not get through to us.
static void other_web_pages_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *host, *origin;
        int status;
    } cases[] = {
        {"127.0.0.1:8081", "", 200},
        {"localhost", "", 200},
        {"LOCALHOST:1", "http://localhost:1", 200},
        {"[::1]:8081", "http://[::1]:8081", 200},
        {"127.0.0.1:8081", "http://127.0.0.1:8081", 200},
        {"127.0.0.1:8081", "http://127.0.0.1:9999", 403},
        {"127.0.0.1:8081", "https://evil.example", 403},
        {"127.0.0.1:8081", "null", 403},
        {"rebound.example:8081", "http://rebound.example:8081", 403},
        {"1.2.3.4.evil.example", "", 403},
        {"", "", 403},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        (void)ask_with("POST", "/reload",
                       (const char *[]){"Host", cases[i].host, "Origin", cases[i].origin, NULL});
        assert_int_equal(scene.answer.status, cases[i].status);
    }
    assert_int_equal(scene.reloads, 5);
}

static void page_is_self_contained(void **state) {
    (void)state;
    const char *body = ask("GET", "/");
    assert_int_equal(scene.answer.status, 200);
    assert_string_equal(answer_header("content-type"), "text/html; charset=utf-8");
    assert_non_null(strstr(answer_header("content-security-policy"), "default-src 'none'"));
    assert_non_null(strstr(body, "<title>stormjib</title>"));
    assert_non_null(strstr(body, "</html>"));
    assert_null(strstr(body, "http:"));
    assert_null(strstr(body, "https:"));
    assert_null(strstr(body, "innerHTML"));
    assert_null(strstr(body, "//cdn"));
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(probes),          TEST(unknown_paths_and_methods),   TEST(metrics),
        TEST(state_is_json),   TEST(breakers_are_forced),         TEST(reloads),
        TEST(token_is_needed), TEST(other_web_pages_are_refused), TEST(page_is_self_contained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
