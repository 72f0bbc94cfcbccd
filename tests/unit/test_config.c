// What a good configuration comes to.
#include "config_text.h"

#include <dirent.h>

#define UP "upstreams = { a = { base_url = \"http://127.0.0.1:9101/v1\"; }; };\n"

static void test_defaults_are_the_contract(void **state) {
    (void)state;
    sj_config *c = load_clean(UP);
    assert_int_equal(c->listen_count, 1);
    assert_string_equal(c->listens[0].host, "127.0.0.1");
    assert_int_equal(c->listens[0].port, 8080);
    assert_true(c->admin_enabled);
    assert_int_equal(c->admin.port, 8081);
    assert_true(c->workers >= 1);
    assert_int_equal(c->max_body_bytes, 64 << 20);
    assert_int_equal(c->inspect_max_bytes, 1 << 20);
    assert_int_equal(c->drain_timeout_ms, 30000);
    assert_int_equal(c->deadline_ms, 600000);
    assert_int_equal(c->fallback_gate_ms, 10000);
    assert_int_equal(c->stream_max_ms, 0);
    assert_false(c->forwarded);
    assert_true(c->labels);
    assert_false(c->has_seed);
    assert_true(c->global_breaker_enabled);
    assert_int_equal(c->store_max_bytes, 64 << 20);
    assert_int_equal(c->sticky_min_ms, 60000);
    assert_int_equal(c->sticky_failures, 3);
    assert_int_equal(c->limit_connections, 10000);
    assert_int_equal(c->body_memory_bytes, 512 << 20);
    assert_int_equal(c->log_format, SJ_LOG_LOGFMT);
    assert_int_equal(c->log_level, SJ_LOG_INFO);
    const sj_upstream_config *u = &c->upstreams[0];
    assert_int_equal(u->connect_timeout_ms, 10000);
    assert_int_equal(u->first_byte_timeout_ms, 120000);
    assert_int_equal(u->idle_timeout_ms, 120000);
    assert_int_equal(u->answer_timeout_ms, 600000);
    assert_int_equal(u->admission.max_concurrent, 256);
    assert_int_equal(u->admission.max_waiting, 1024);
    assert_int_equal(u->admission.timeout_ms, 300000);
    assert_int_equal(u->auth, SJ_AUTH_UNSET);
    assert_string_equal(u->api_key_header, "Authorization");
    assert_string_equal(u->api_key_prefix, "Bearer ");
    assert_true(u->adaptive);
    assert_false(u->prefill);
    const sj_route_config *r = &c->routes[0]; // supplied: there is one upstream
    assert_int_equal(c->route_count, 1);
    assert_int_equal(r->hop_count, 1);
    assert_null(r->hops[0].model);
    assert_true(r->replay);
    assert_int_equal(r->rescue, SJ_RESCUE_CHAIN);
    assert_int_equal(r->client_retries, SJ_CLIENT_RETRIES_NEVER);
    assert_int_equal(r->on_client_gone, SJ_CLIENT_GONE_CANCEL);
    assert_true(r->coalesce);
    assert_int_equal(r->hops[0].retry.max_attempts, 5);
    assert_int_equal(r->hops[0].retry.max_attempts_before_fallback, 2);
    assert_int_equal(r->hops[0].retry.max_wait_total_ms, 60000);
    assert_int_equal(r->hops[0].retry.max_hint_ms, 120000);
    assert_int_equal(r->hops[0].race.after_ms, 10000);
    assert_int_equal(r->hops[0].race.after_whole_ms, 60000);
    sj_config_unref(&c);
    assert_null(c);
}

static void assert_same_breaker(const sj_breaker_rules *a, const sj_breaker_rules *b) {
    assert_int_equal(a->enabled, b->enabled);
    assert_int_equal(a->failure_threshold, b->failure_threshold);
    assert_int_equal(a->failure_span_ms, b->failure_span_ms);
    assert_int_equal(a->window_ms, b->window_ms);
    assert_int_equal(a->minimum_calls, b->minimum_calls);
    assert_true(a->failure_rate == b->failure_rate && a->slow_rate == b->slow_rate);
    assert_int_equal(a->slow_call_ms, b->slow_call_ms);
    assert_int_equal(a->slow_call_whole_ms, b->slow_call_whole_ms);
    assert_int_equal(a->recovery_timeout_ms, b->recovery_timeout_ms);
    assert_true(a->recovery_growth == b->recovery_growth);
    assert_int_equal(a->recovery_cap_ms, b->recovery_cap_ms);
    assert_int_equal(a->probe_timeout_ms, b->probe_timeout_ms);
    assert_int_equal(a->half_open_max_calls, b->half_open_max_calls);
    assert_true(a->success_threshold == b->success_threshold);
    assert_int_equal(a->max_open_wait_ms, b->max_open_wait_ms);
}

// lib keeps defaults of its own for its tests; the table must say the same.
static void test_defaults_are_those_of_lib(void **state) {
    (void)state;
    sj_config *c = load_clean(UP);
    assert_same_breaker(&c->upstreams[0].rules.breaker, &sj_breaker_rules_default);
    assert_same_breaker(&c->global_breaker, &sj_breaker_rules_default);
    const sj_budget_rules *budget = &c->upstreams[0].rules.budget;
    assert_int_equal(budget->enabled, sj_budget_rules_default.enabled);
    assert_int_equal(budget->capacity, sj_budget_rules_default.capacity);
    assert_int_equal(budget->retry_cost, sj_budget_rules_default.retry_cost);
    assert_int_equal(budget->throttle_cost, sj_budget_rules_default.throttle_cost);
    assert_int_equal(budget->floor_per_minute, sj_budget_rules_default.floor_per_minute);
    const sj_backoff *b = &c->routes[0].hops[0].retry.backoff, *d = &sj_backoff_default;
    assert_int_equal(b->strategy, d->strategy);
    assert_int_equal(b->base_ms, d->base_ms);
    assert_int_equal(b->cap_ms, d->cap_ms);
    assert_int_equal(b->min_ms, d->min_ms);
    assert_true(b->exponential_base == d->exponential_base && b->jitter == d->jitter);
    assert_int_equal(b->random_max_ms, d->random_max_ms);
    const sj_verdict_rules *rules = &c->routes[0].hops[0].retry.rules, *verdict = &sj_verdict_rules_default;
    assert_memory_equal(&rules->statuses, &verdict->statuses, sizeof rules->statuses);
    assert_int_equal(rules->error_code_count, verdict->error_code_count);
    for (size_t i = 0; i < rules->error_code_count; i++)
        assert_string_equal(rules->error_codes[i], verdict->error_codes[i]);
    sj_config_unref(&c);
}

static void test_nearest_block_wins_key_by_key(void **state) {
    (void)state;
    sj_config *c =
        load_clean("upstreams = { a = { base_url = \"http://h/v1\"; retry = { cap = \"4s\"; max_attempts = "
                   "7; }; race = { after = \"3s\"; };"
                   "  breaker = { failure_threshold = 9; }; budget = { retry_cost = 1; }; queue = { "
                   "max_waiting = 0; }; };\n"
                   " b = { base_url = \"http://h/v1\"; }; };\n"
                   "routes = ( { model = \"y\"; chain = [ \"a\", \"b\" ]; retry = { cap = \"2s\"; statuses = "
                   "[ 503 ]; }; "
                   "retry_conflict = true; },\n"
                   "           { model = \"x\"; chain = \"b\"; race = { other_model = true; }; } );\n"
                   "retry = { cap = \"6s\"; base = \"1s\"; max_attempts = 3; error_codes = [ ]; };\n"
                   "race = { enabled = false; after = \"1s\"; };\n"
                   "breaker = { failure_threshold = 8; minimum_calls = 4; }; budget = { capacity = 100; "
                   "retry_cost = 2; };\n"
                   "queue = { timeout = \"5s\"; max_waiting = 3; };\n");
    const sj_hop_config *a = &c->routes[0].hops[0], *b = &c->routes[0].hops[1],
                        *alone = &c->routes[1].hops[0];
    assert_int_equal(a->retry.backoff.cap_ms, 2000);
    assert_int_equal(a->retry.backoff.base_ms, 1000);
    assert_int_equal(a->retry.max_attempts, 7);
    assert_int_equal(b->retry.max_attempts, 3);
    assert_int_equal(alone->retry.backoff.cap_ms, 6000);
    assert_true(sj_status_set_has(&a->retry.rules.statuses, 503));
    assert_false(sj_status_set_has(&a->retry.rules.statuses, 500));
    assert_true(sj_status_set_has(&alone->retry.rules.statuses, 500));
    assert_int_equal(alone->retry.rules.error_code_count, 0);
    assert_true(a->retry.rules.retry_conflict);
    assert_false(alone->retry.rules.retry_conflict);
    assert_int_equal(a->race.after_ms, 3000);
    assert_int_equal(alone->race.after_ms, 1000);
    assert_false(a->race.enabled);
    assert_true(alone->race.other_model);
    const sj_upstream_config *ua = &c->upstreams[0], *ub = &c->upstreams[1];
    assert_int_equal(ua->rules.breaker.failure_threshold, 9);
    assert_int_equal(ua->rules.breaker.minimum_calls, 4);
    assert_int_equal(ub->rules.breaker.failure_threshold, 8);
    assert_int_equal(ua->rules.budget.retry_cost, 1);
    assert_int_equal(ua->rules.budget.capacity, 100);
    assert_int_equal(ub->rules.budget.retry_cost, 2);
    assert_int_equal(ua->admission.max_waiting, 0);
    assert_int_equal(ub->admission.max_waiting, 3);
    assert_int_equal(ua->admission.timeout_ms, 5000);
    assert_int_equal(c->global_breaker.failure_threshold, 5); // takes nothing from breaker
    sj_config_unref(&c);
}

static void test_upstream(void **state) {
    (void)state;
    (void)setenv("T_KEY", "sk-secret-1", 1);
    (void)setenv("T_TEAM", "blue", 1);
    sj_config *c = load_clean(
        "upstreams = { az = { base_url = \"HTTPS://Az.Example:443/openai/\"; api_keys = [ \"${T_KEY}\", "
        "\"${T_TEAM}\" ]; api_key_header = \"api-key\";"
        " headers = ( { name = \"X.Team\"; value = \"${T_TEAM}\"; }, { name = \"x-b\"; value = \"\"; } );"
        " query = { api-version = \"2024-10-21\"; x = \"a b&c\"; }; proxy = \"http://u:pw@proxy:3128\";"
        " context = ( { model = \"gpt*\"; tokens = 128000; } ); tokens_per_minute = 3000000000L; }; };\n");
    const sj_upstream_config *u = &c->upstreams[0];
    assert_string_equal(u->name, "az");
    assert_string_equal(u->base_url, "https://az.example/openai");
    assert_string_equal(u->origin, "https://az.example");
    assert_string_equal(u->base_path, "/openai");
    assert_int_equal(u->api_key_count, 2);
    assert_string_equal(u->api_keys[0], "sk-secret-1");
    assert_int_equal(u->auth, SJ_AUTH_KEY);
    assert_string_equal(u->api_key_prefix, "");
    assert_int_equal(u->header_count, 2);
    assert_string_equal(u->headers[0].name, "X.Team");
    assert_string_equal(u->headers[0].value, "blue");
    assert_string_equal(u->query, "api-version=2024-10-21&x=a%20b%26c");
    assert_string_equal(u->proxy, "http://u:pw@proxy:3128");
    assert_int_equal(u->contexts[0].tokens, 128000);
    assert_int_equal(u->tokens_per_minute, 3000000000LL);
    char *shown = print_config(c);
    assert_null(strstr(shown, "sk-secret-1"));
    assert_null(strstr(shown, "blue"));
    assert_null(strstr(shown, ":pw"));
    assert_non_null(strstr(shown, "\"http://***@proxy:3128\""));
    free(shown);
    sj_config_unref(&c);
}

static void test_base_urls(void **state) {
    (void)state;
    static const struct {
        const char *url, *origin, *path;
    } rows[] = {
        {"http://h", "http://h", ""},
        {"http://h/", "http://h", ""},
        {"http://h:80/v1//", "http://h", "/v1"},
        {"http://h:443/v1", "http://h:443", "/v1"},
        {"https://[::1]:8443/a%20b", "https://[::1]:8443", "/a%20b"},
        {"https://host_with.under-score/v1beta/openai", "https://host_with.under-score", "/v1beta/openai"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[512];
        (void)snprintf(text, sizeof text, "upstreams = { a = { base_url = \"%s\"; }; };", rows[i].url);
        sj_config *c = load_clean(text);
        assert_string_equal(c->upstreams[0].origin, rows[i].origin);
        assert_string_equal(c->upstreams[0].base_path, rows[i].path);
        assert_false(c->upstreams[0].embedded);
        sj_config_unref(&c);
    }
    sj_config *c = load_clean("upstreams = { a = { base_url = \"mock\"; }; };");
    assert_true(c->upstreams[0].embedded);
    assert_string_equal(c->upstreams[0].base_url, "mock");
    assert_string_equal(c->upstreams[0].base_path, "/v1");
    sj_config_unref(&c);
}

static void test_listeners(void **state) {
    (void)state;
    sj_config *c =
        load_clean(UP "listen = [ \"[::1]:0\", \"localhost:8000\", \"unix:/run/s.sock\" ]; admin = \"\";");
    assert_int_equal(c->listen_count, 3);
    assert_string_equal(c->listens[0].host, "::1");
    assert_int_equal(c->listens[0].port, 0);
    assert_string_equal(c->listens[1].host, "127.0.0.1");
    assert_null(c->listens[2].host);
    assert_string_equal(c->listens[2].unix_path, "/run/s.sock");
    assert_false(c->admin_enabled);
    sj_config_unref(&c);
    c = load_text(UP "listen = \"0.0.0.0:8080\"; admin = \"[::]:1\"; admin_token = \"t\";");
    assert_non_null(c);
    assert_non_null(strstr(said_warnings, "t.conf:2: key 'listen': is reachable from other machines"));
    assert_non_null(strstr(said_warnings, "t.conf:2: key 'admin_token': the secret stands in the file"));
    sj_config_unref(&c);
    (void)setenv("T_KEY", "a, b,,c", 1);
    c = load_clean(UP "listen = \"0.0.0.0:8080\"; client_keys = \"${T_KEY}\";");
    assert_int_equal(c->client_key_count, 3);
    assert_string_equal(c->client_keys[1], "b");
    sj_config_unref(&c);
}

static void test_routes(void **state) {
    (void)state;
    sj_config *c = load_clean("upstreams = { a = { base_url = \"http://h\"; }; };\n"
                              "routes = ( { path = \"*/embeddings\"; model = \"text-*\"; chain = [ "
                              "\"a/text-3/large\" ]; degraded = \"costs ${5}\\n\"; },\n"
                              "           { model = \"gpt-4.1\"; chain = [ \"a\" ]; keepalive = \"15s\"; "
                              "stream = \"verified\"; } );");
    assert_string_equal(c->routes[0].hops[0].model, "text-3/large"); // split at the first slash
    assert_string_equal(c->routes[0].degraded, "costs ${5}\n");
    assert_ptr_equal(sj_config_route(c, SJ_SLICE("/v1/embeddings"), SJ_SLICE("text-9")), &c->routes[0]);
    assert_ptr_equal(sj_config_route(c, SJ_SLICE("/v1/x"), SJ_SLICE("gpt-4.1")), &c->routes[1]);
    assert_null(sj_config_route(c, SJ_SLICE("/v1/x"), SJ_SLICE("text-9")));
    assert_null(sj_config_route(c, SJ_SLICE("/v1/x"), SJ_SLICE("")));
    sj_config_unref(&c);
}

static void test_restart_and_references(void **state) {
    (void)state;
    sj_config *a = load_clean(UP "workers = 2;");
    sj_config *b =
        load_clean(UP "workers = 3; listen = \"127.0.0.1:8082\"; admin = \"\"; deadline = \"1s\";");
    sj_buffer out = sj_buffer_with_max(100);
    sj_config_needs_restart(a, b, &out);
    assert_true(sj_slice_equal(sj_buffer_slice(&out), SJ_SLICE("listen, admin, workers")));
    sj_buffer_clear(&out);
    sj_config_needs_restart(a, a, &out);
    assert_int_equal(out.n, 0);
    sj_buffer_free(&out);
    sj_config *second = sj_config_ref(a);
    sj_config_unref(&a);
    assert_int_equal(second->workers, 2);
    sj_config_unref(&second);
    sj_config_unref(&b);
    sj_config_unref(&b);
}

// Printing what was loaded, and loading that, ends at once.
static void assert_round_trip(const sj_config *config) {
    char *first = print_config(config);
    sj_config *again = load_text(first);
    assert_string_equal(said_error, "");
    char *second = print_config(again);
    assert_string_equal(first, second);
    sj_config_unref(&again);
    free(first);
    free(second);
}

static void test_round_trip(void **state) {
    (void)state;
    (void)setenv("T_KEY", "k", 1);
    sj_config *c = load_text(
        "listen = [ \"127.0.0.1:1\", \"unix:/x \\\"y\\\\\" ]; admin = \"\"; seed = 9000000000000000000L; "
        "workers = 3; stream_max = \"90061001ms\"; max_body = \"1048577B\";\n"
        "client_keys = [ \"${T_KEY}\", \"b\" ]; admin_token = \"t\"; forwarded = true; labels = false;\n"
        "upstreams = { a-b_c = { base_url = \"https://h:1/x\"; api_key = \"${T_KEY}\"; auth = \"key\"; "
        "api_key_prefix = \"K \\\"\"; proxy = \"socks5h://h:1\"; prefill = true; adaptive = false;\n"
        "  headers = { X-A = \"plain\"; X-Token = \"hidden\"; }; query = ( { name = \"a.b\"; value = \"c\"; "
        "} ); context = ( { model = \"*\"; tokens = 1; }, { model = \"b\"; tokens = 2; } );\n"
        "  retry = { jitter = 0.1; statuses = [ ]; }; race = { enabled = false; }; breaker = { failure_rate "
        "= 0.333333333333333314829616256247; }; budget = { enabled = false; }; queue = { standing_queue = "
        "true; }; };\n"
        " m = { base_url = \"mock\"; auth = \"none\"; tokens_per_minute = 5000000000L; }; };\n"
        "routes = ( { path = \"/v1/*\"; chain = [ \"a-b_c/m1\", \"m\" ]; retry = { strategy = "
        "\"decorrelated\"; error_codes = [ \"x\" ]; }; race = { after = \"1500ms\"; }; degraded = "
        "\"\\\"quoted\\\" \\x01 \\\\ ${x} y\"; rescue = \"off\"; on_client_gone = \"drain\"; client_retries "
        "= \"passthrough\"; stale_if_error = \"1h\"; },\n"
        "  { model = \"z\"; chain = \"m\"; } );\n"
        "prices = ( { model = \"m\"; input = 1; output = 1e-9; } ); log = { format = \"json\"; level = "
        "\"debug\"; };\n"
        "global_breaker = { enabled = false; window = \"59m\"; };");
    assert_string_equal(said_error, "");
    assert_int_equal(c->seed, 9000000000000000000ULL);
    assert_int_equal(c->stream_max_ms, 90061001);
    assert_string_equal(c->routes[0].degraded, "\"quoted\" \x01 \\ ${x} y");
    assert_false(c->global_breaker_enabled);
    assert_round_trip(c);
    char *shown = print_config(c);
    assert_null(strstr(shown, "hidden"));
    assert_non_null(strstr(shown, "plain"));
    free(shown);
    sj_config_unref(&c);
}

static void test_document_loads(void **state) {
    (void)state;
    sj_buffer out = sj_buffer_with_max(SAID_BYTES);
    assert_true(sj_config_document(&out));
    sj_config *c = load_bytes(sj_buffer_slice(&out));
    assert_string_equal(said_error, "");
    assert_string_equal(said_warnings, "");
    sj_config_unref(&c);
    for (size_t b = 0; sj_blocks[b]; b++) {
        for (size_t i = 0; i < sj_blocks[b]->count; i++) {
            const sj_key *key = &sj_blocks[b]->keys[i];
            assert_non_null(key->help);
            assert_non_null(memmem(out.p, out.n, key->name, strlen(key->name)));
            assert_true(sj_key_is_group(key) || key->type == SJ_KEY_REFUSED || key->text || key->example);
        }
    }
    sj_buffer_free(&out);
}

static void check_shipped(const char *path) {
    sj_config *c = load_file(path);
    assert_string_equal(said_error, "");
    assert_string_equal(said_warnings, "");
    assert_string_equal(c->path, path);
    assert_round_trip(c);
    char *shown = print_config(c);
    assert_null(strstr(shown, "secret-value"));
    free(shown);
    sj_config_unref(&c);
}

static int check_folder(const char *folder) {
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    int seen = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        char path[4400];
        size_t n = strlen(entry->d_name);
        if (n < 5 || strcmp(entry->d_name + n - 5, ".conf") != 0)
            continue;
        (void)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        check_shipped(path);
        seen++;
    }
    (void)closedir(dir);
    return seen;
}

// Everything in conf/ runs as it is.
static void test_shipped_files(void **state) {
    (void)state;
    static const char *const variables[] = {"STRONG_KEY", "OPENAI_API_KEY", "STORMJIB_CLIENT_KEYS",
                                            "STORMJIB_ADMIN_TOKEN", "OPENROUTER_API_KEY"};
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        (void)setenv(variables[i], "secret-value", 1);
    assert_true(check_folder(SJ_CONF) >= 4);
    assert_true(check_folder(SJ_CONF "/cases") >= 17);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_are_the_contract),
        cmocka_unit_test(test_defaults_are_those_of_lib),
        cmocka_unit_test(test_nearest_block_wins_key_by_key),
        cmocka_unit_test(test_upstream),
        cmocka_unit_test(test_base_urls),
        cmocka_unit_test(test_listeners),
        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_restart_and_references),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_document_loads),
        cmocka_unit_test(test_shipped_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
