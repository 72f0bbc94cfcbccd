#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "metrics.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

static const char *rendered(sj_registry *registry, const sj_server_view *view, sj_buffer *out) {
    *out = sj_buffer_with_max(SJ_METRICS_MAX_TEXT);
    assert_true(sj_registry_render(registry, view, out));
    assert_true(sj_buffer_append(out, "", 1));
    return out->p;
}

// The value of a series, given with its labels; -1 when it is not there.
static double value_of(const char *text, const char *series) {
    size_t n = strlen(series);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, series, n) == 0 && line[n] == ' ')
            return strtod(line + n, NULL);
    }
    return -1;
}

static sj_record a_record(const char *target) {
    return (sj_record){
        .target = target,
        .status = 200,
        .stream = true,
        .total_us = 20000,
        .first_content_us = 5000,
        .wait_ms = 520,
        .upstream_ms = 15,
        .bytes_in = 300,
        .bytes_out = 4000,
        .usage = {.prompt_tokens = 12, .completion_tokens = 30, .total_tokens = 42, .cached_tokens = -1},
    };
}

static void exchanges_are_counted(void **state) {
    (void)state;
    sj_registry *registry = sj_registry_new(2);
    sj_record record = a_record("a/m");
    for (int worker = 0; worker < 2; worker++) {
        sj_metrics *metrics = sj_registry_shard(registry, worker);
        sj_metrics_exchange_started(metrics);
        sj_metrics_exchange_started(metrics);
        sj_metrics_exchange(metrics, &record);
    }
    sj_record refused = {.target = "",
                         .result = SJ_RESULT_REFUSED,
                         .refusal = SJ_REFUSAL_NOT_FOUND,
                         .status = 404,
                         .first_content_us = -1};
    sj_metrics_exchange_started(sj_registry_shard(registry, 0));
    sj_metrics_exchange(sj_registry_shard(registry, 0), &refused);
    sj_buffer out;
    const char *text = rendered(registry, NULL, &out);
    assert_true(
        value_of(text, "stormjib_exchanges_total{target=\"a/m\",result=\"ok\",status_class=\"2xx\"}") == 2);
    assert_true(
        value_of(text, "stormjib_exchanges_total{target=\"none\",result=\"refused\",status_class=\"4xx\"}") ==
        1);
    assert_true(value_of(text, "stormjib_exchanges_in_flight") == 2);
    assert_true(value_of(text, "stormjib_responses_total{status=\"200\"}") == 2);
    assert_true(value_of(text, "stormjib_responses_total{status=\"404\"}") == 1);
    assert_true(value_of(text, "stormjib_refusals_total{code=\"not_found\"}") == 1);
    assert_true(value_of(text, "stormjib_tokens_total{target=\"a/m\",gen_ai_token_type=\"input\"}") == 24);
    assert_true(value_of(text, "stormjib_tokens_total{target=\"a/m\",gen_ai_token_type=\"output\"}") == 60);
    assert_true(value_of(text, "stormjib_tokens_total{target=\"a/m\",gen_ai_token_type=\"cached\"}") == -1);
    assert_true(value_of(text, "stormjib_wait_seconds_total{target=\"a/m\"}") == 1.04);
    assert_true(value_of(text, "stormjib_request_body_bytes_total") == 600);
    assert_int_equal(sj_registry_sum(registry, SJ_METRIC_EXCHANGES, NULL), 3);
    assert_int_equal(sj_registry_sum(registry, SJ_METRIC_EXCHANGES, "a/m"), 2);
    assert_int_equal(sj_registry_sum(registry, SJ_METRIC_RESPONSES, NULL), 3);
    sj_buffer_free(&out);
    sj_registry_free(&registry);
    assert_null(registry);
}

static void histograms_are_cumulative(void **state) {
    (void)state;
    sj_registry *registry = sj_registry_new(1);
    sj_metrics *metrics = sj_registry_shard(registry, 0);
    static const int64_t times_us[] = {0, 5000, 5001, 600000000, 600000001, -1};
    for (size_t i = 0; i < sizeof times_us / sizeof times_us[0]; i++) {
        sj_record record = a_record("a/m");
        record.total_us = times_us[i];
        sj_metrics_exchange(metrics, &record);
    }
    sj_buffer out;
    const char *text = rendered(registry, NULL, &out);
#define SERIES(le) "stormjib_exchange_duration_seconds_bucket{target=\"a/m\",stream=\"true\",le=\"" le "\"}"
    assert_true(value_of(text, SERIES("0.005")) == 2); // the bound belongs to the bucket
    assert_true(value_of(text, SERIES("0.01")) == 3);
    assert_true(value_of(text, SERIES("300")) == 3);
    assert_true(value_of(text, SERIES("600")) == 4);
    assert_true(value_of(text, SERIES("+Inf")) == 5);
    assert_true(value_of(text, "stormjib_exchange_duration_seconds_count{target=\"a/m\",stream=\"true\"}") ==
                5);
    assert_true(value_of(text, "stormjib_exchange_duration_seconds_sum{target=\"a/m\",stream=\"true\"}") ==
                1200.010002);
    assert_true(value_of(text, "stormjib_exchange_duration_seconds_count{target=\"a/m\",stream=\"false\"}") ==
                -1);
    sj_buffer_free(&out);
    sj_registry_free(&registry);
}

static void notes_are_counted(void **state) {
    (void)state;
    sj_registry *registry = sj_registry_new(1);
    sj_metrics *metrics = sj_registry_shard(registry, 0);
    const sj_note notes[] = {
        {.kind = SJ_NOTE_ATTEMPT, .class = SJ_CLASS_THROTTLED, .status = 429},
        {.kind = SJ_NOTE_ATTEMPT, .class = SJ_CLASS_NEVER_SENT},
        {.kind = SJ_NOTE_RETRY, .reason = "429", .source = "retry-after", .ms = 1500},
        {.kind = SJ_NOTE_FALLBACK, .reason = "timeout"},
        {.kind = SJ_NOTE_BREAKER, .change = {true, SJ_BREAKER_CLOSED, SJ_BREAKER_OPEN, "failure rate"}},
        {.kind = SJ_NOTE_BREAKER,
         .global = true,
         .change = {true, SJ_BREAKER_OPEN, SJ_BREAKER_HALF_OPEN, "recovery time over"}},
        {.kind = SJ_NOTE_BUDGET_REFUSED},
        {.kind = SJ_NOTE_HINT_GATE},
        {.kind = SJ_NOTE_QUEUED},
        {.kind = SJ_NOTE_ALERT, .class = SJ_CLASS_CREDENTIAL},
        {.kind = SJ_NOTE_GRANT},
    };
    for (size_t i = 0; i < sizeof notes / sizeof notes[0]; i++)
        sj_metrics_note(metrics, "a/m", &notes[i]);
    sj_registry_note(registry, "a/m", &notes[4]);
    static const struct {
        const char *series;
        double value;
    } expected[] = {
        {"stormjib_attempts_total{target=\"a/m\",outcome=\"throttled\"}", 1},
        {"stormjib_attempts_total{target=\"a/m\",outcome=\"never_sent\"}", 1},
        {"stormjib_attempt_responses_total{status=\"429\"}", 1},
        {"stormjib_retries_total{target=\"a/m\",reason=\"429\"}", 1},
        {"stormjib_retry_delay_seconds_total{source=\"retry-after\"}", 1.5},
        {"stormjib_fallbacks_total{target=\"a/m\",reason=\"timeout\"}", 1},
        {"stormjib_breaker_transitions_total{target=\"a/m\",from=\"closed\",to=\"open\"}", 2},
        {"stormjib_global_breaker_transitions_total{from=\"open\",to=\"half_open\"}", 1},
        {"stormjib_budget_refused_total{target=\"a/m\"}", 1},
        {"stormjib_hint_gates_total{target=\"a/m\"}", 1},
        {"stormjib_queued_total{target=\"a/m\"}", 1},
        {"stormjib_alerts_total{target=\"a/m\",outcome=\"credential\"}", 1},
    };
    sj_buffer out;
    const char *text = rendered(registry, NULL, &out);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        assert_true(value_of(text, expected[i].series) == expected[i].value);
    sj_buffer_free(&out);
    sj_registry_free(&registry);
}

static void labels_are_bounded_and_escaped(void **state) {
    (void)state;
    sj_registry *registry = sj_registry_new(1);
    sj_metrics *metrics = sj_registry_shard(registry, 0);
    sj_registry_reserve_target(registry, "quo\"te\\back\nline");
    const sj_note note = {.kind = SJ_NOTE_QUEUED};
    for (int i = 0; i < 1000; i++) {
        char label[32];
        (void)snprintf(label, sizeof label, "a/model-%d", i);
        sj_metrics_note(metrics, label, &note);
    }
    char too_long[400];
    memset(too_long, 'x', sizeof too_long - 1);
    too_long[sizeof too_long - 1] = '\0';
    sj_metrics_note(metrics, too_long, &note);
    sj_metrics_note(metrics, "bad\xff", &note);
    sj_metrics_note(metrics, "other", &note);
    sj_metrics_note(metrics, "none", &note);
    sj_metrics_note(metrics, NULL, &note);
    sj_metrics_note(metrics, "quo\"te\\back\nline", &note);
    sj_buffer out;
    const char *text = rendered(registry, NULL, &out);
    assert_true(value_of(text, "stormjib_queued_total{target=\"a/model-0\"}") == 1);
    assert_true(value_of(text, "stormjib_queued_total{target=\"a/model-254\"}") == 1);
    assert_true(value_of(text, "stormjib_queued_total{target=\"a/model-255\"}") == -1);
    assert_true(value_of(text, "stormjib_queued_total{target=\"other\"}") == 745 + 3);
    assert_true(value_of(text, "stormjib_queued_total{target=\"none\"}") == 2);
    assert_true(value_of(text, "stormjib_queued_total{target=\"quo\\\"te\\\\back\\nline\"}") == 1);
    assert_int_equal(sj_registry_sum(registry, SJ_METRIC_QUEUED, NULL), 1006);
    sj_buffer_free(&out);
    sj_registry_free(&registry);
}

static void costs_are_summed(void **state) {
    (void)state;
    sj_registry *registry = sj_registry_new(2);
    static const struct {
        const char *target;
        sj_costs costs;
    } exchanges[] = {
        {"a/m",
         {.known = true, .actual = 12000000, .at_first = SJ_COST_UNKNOWN, .compared = SJ_COST_UNKNOWN}},
        {"b/m", {.known = true, .actual = 630000, .at_first = 12000000, .compared = 600000}},
        {"b/m", {.known = true, .actual = 1, .at_first = 0, .compared = 3}},
        {"b/m", {.unknown = true}},
        {"b/m", {0}},
    };
    for (size_t i = 0; i < sizeof exchanges / sizeof exchanges[0]; i++) {
        sj_metrics *metrics = sj_registry_shard(registry, (int)i % 2);
        sj_metrics_exchange_started(metrics);
        sj_metrics_exchange(
            metrics, &(sj_record){.target = exchanges[i].target, .status = 200, .costs = exchanges[i].costs});
    }
    static const struct {
        const char *series;
        double value;
    } expected[] = {
        {"stormjib_cost_dollars_total{target=\"a/m\"}", 0.012},
        {"stormjib_cost_dollars_total{target=\"b/m\"}", 0.000630001},
        {"stormjib_cost_saved_dollars_total{target=\"b/m\",against=\"first_target\"}", 0.01137},
        {"stormjib_cost_extra_dollars_total{target=\"b/m\",against=\"first_target\"}", 0.000000001},
        {"stormjib_cost_saved_dollars_total{target=\"b/m\",against=\"compare_prices\"}", 0.000000002},
        {"stormjib_cost_extra_dollars_total{target=\"b/m\",against=\"compare_prices\"}", 0.00003},
        {"stormjib_cost_unknown_total{target=\"b/m\"}", 1},
    };
    sj_buffer out;
    const char *text = rendered(registry, NULL, &out);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        assert_true(value_of(text, expected[i].series) == expected[i].value);
    sj_registry_costs all = sj_registry_read_costs(registry, NULL),
                      a = sj_registry_read_costs(registry, "a/m");
    assert_true(all.actual > 0.01263 && all.actual < 0.0126301);
    assert_true(all.saved_by_fallback > 0.011369 && all.saved_to_compared < 0);
    assert_true(a.actual == 0.012 && a.saved_by_fallback == 0 && a.saved_to_compared == 0);
    sj_buffer_free(&out);
    sj_registry_free(&registry);
}

static void view_is_shown(void **state) {
    (void)state;
    sj_admission_rules slots = {.max_concurrent = 7, .max_waiting = 5, .timeout_ms = 1000};
    sj_admission *admission = sj_admission_new(&slots);
    sj_target_rules rules = {sj_breaker_rules_default, sj_budget_rules_default};
    sj_target *target = sj_target_new("a/m", 1, &rules, admission, NULL, 1, 0);
    sj_changes changes = {0};
    sj_target_force(target, SJ_BREAKER_FORCED_OPEN, 10, &changes);
    sj_waiter waiter = {.exchange_id = 1};
    int64_t again_ms;
    assert_int_equal(sj_admission_acquire(admission, &waiter, 0, &again_ms), SJ_SLOT_GRANTED);
    const char *name = "a";
    sj_keys *keys = sj_keys_new(2);
    (void)sj_keys_refused(keys, 0, SJ_KEY_DEAD, 0, 1, 10);
    sj_global_breaker *global = sj_global_breaker_new(&sj_breaker_rules_default, 1, 0);
    sj_server_view view = {
        .draining = true,
        .targets = &target,
        .target_count = 1,
        .upstream_names = &name,
        .admissions = &admission,
        .keys = &keys,
        .upstream_count = 1,
        .global = global,
        .now_ms = 20,
    };
    sj_registry *registry = sj_registry_new(3);
    sj_registry_reloaded(registry, true);
    sj_registry_reloaded(registry, false);
    sj_registry_reloaded(registry, false);
    sj_metrics_set_upstream(sj_registry_shard(registry, 0), 3, 40, 2);
    sj_metrics_set_upstream(sj_registry_shard(registry, 1), 4, 50, 1);
    sj_metrics_set_upstream(sj_registry_shard(registry, 1), 5, 51, 0);
    sj_metrics_set_clients(sj_registry_shard(registry, 2), 9);
    static const struct {
        const char *series;
        double value;
    } expected[] = {
        {"stormjib_breaker_state{target=\"a/m\",state=\"forced_open\"}", 1},
        {"stormjib_breaker_state{target=\"a/m\",state=\"closed\"}", 0},
        {"stormjib_breaker_open_remaining_seconds{target=\"a/m\"}", 0},
        {"stormjib_global_breaker_state{state=\"closed\"}", 1},
        {"stormjib_target_in_flight{target=\"a/m\"}", 0},
        {"stormjib_budget_available{target=\"a/m\"}", 500},
        {"stormjib_upstream_in_flight{upstream=\"a\"}", 1},
        {"stormjib_upstream_waiting{upstream=\"a\"}", 0},
        {"stormjib_upstream_limit{upstream=\"a\"}", 7},
        {"stormjib_upstream_limit_max{upstream=\"a\"}", 7},
        {"stormjib_upstream_limit_cuts_total{upstream=\"a\"}", 0},
        {"stormjib_key_resting{upstream=\"a\",key=\"1\"}", 1},
        {"stormjib_key_resting{upstream=\"a\",key=\"2\"}", 0},
        {"stormjib_key_refusals_total{upstream=\"a\",key=\"1\",reason=\"dead\"}", 1},
        {"stormjib_key_refusals_total{upstream=\"a\",key=\"2\",reason=\"exhausted\"}", 0},
        {"stormjib_draining", 1},
        {"stormjib_workers", 3},
        {"stormjib_config_reloads_total{result=\"ok\"}", 1},
        {"stormjib_config_reloads_total{result=\"failed\"}", 2},
        {"stormjib_build_info{version=\"" SJ_VERSION "\"}", 1},
        {"stormjib_upstream_connections_opened_total", 8},
        {"stormjib_upstream_connections_reused_total", 91},
        {"stormjib_attempts_running", 2},
        {"stormjib_client_connections", 9},
    };
    sj_buffer out;
    const char *text = rendered(registry, &view, &out);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        assert_true(value_of(text, expected[i].series) == expected[i].value);
    assert_true(value_of(text, "stormjib_resident_memory_bytes") > 100000);
    assert_true(value_of(text, "stormjib_open_fds") >= 3);
    sj_buffer_free(&out);
    sj_keys_free(&keys);
    sj_registry_free(&registry);
    sj_wake wake;
    sj_admission_release(admission, 0, &wake);
    sj_target_unref(&target);
    sj_global_breaker_free(&global);
    sj_admission_free(&admission);
}

// Every line is a comment or a sample of the family announced before it; every name starts alike; no series comes twice.
static void text_is_well_formed(void **state) {
    (void)state;
    sj_registry *registry = sj_registry_new(1);
    sj_record record = a_record("a/m");
    sj_metrics_exchange(sj_registry_shard(registry, 0), &record);
    sj_buffer out;
    char *text = strdup(rendered(registry, NULL, &out)), *rest = text, *line;
    char family[128] = "";
    int samples = 0;
    while ((line = strsep(&rest, "\n")) != NULL && *line) {
        if (strncmp(line, "# TYPE ", 7) == 0) {
            char kind[16];
            assert_int_equal(sscanf(line, "# TYPE %127s %15s", family, kind), 2);
            assert_true(!strcmp(kind, "counter") || !strcmp(kind, "gauge") || !strcmp(kind, "histogram"));
            size_t n = strlen(family);
            assert_int_equal(!strcmp(kind, "counter"), n > 6 && !strcmp(family + n - 6, "_total"));
        } else if (strncmp(line, "# HELP ", 7) != 0) {
            assert_int_equal(strncmp(line, "stormjib_", 9), 0);
            assert_int_equal(strncmp(line, family, strlen(family)), 0);
            char *end;
            (void)strtod(strrchr(line, ' ') + 1, &end);
            assert_int_equal(*end, '\0');
            samples++;
        }
    }
    assert_true(samples > 60);
    free(text);
    sj_buffer_free(&out);
    sj_registry_free(&registry);
}

static void a_full_buffer_is_told(void **state) {
    (void)state;
    sj_registry *registry = sj_registry_new(1);
    sj_buffer out = sj_buffer_with_max(1000);
    assert_false(sj_registry_render(registry, NULL, &out));
    sj_buffer_free(&out);
    sj_registry_free(&registry);
}

enum { WORKERS = 4, ROUNDS = 3000 };

typedef struct sj_hammer {
    sj_registry *registry;
    int worker;
    atomic_int *running;
} sj_hammer;

static void *hammer(void *argument) {
    sj_hammer *own = argument;
    sj_metrics *metrics = sj_registry_shard(own->registry, own->worker);
    for (int i = 0; i < ROUNDS; i++) {
        char label[32];
        (void)snprintf(label, sizeof label, "a/m%d", i % 50); // all workers meet the same new labels at once
        sj_record record = a_record(label);
        const sj_note note = {.kind = SJ_NOTE_RETRY, .reason = "503", .source = "backoff"};
        sj_metrics_exchange_started(metrics);
        sj_metrics_note(metrics, label, &note);
        sj_metrics_exchange(metrics, &record);
    }
    atomic_fetch_sub(own->running, 1);
    return NULL;
}

static void workers_and_reader_at_once(void **state) {
    (void)state;
    sj_registry *registry = sj_registry_new(WORKERS);
    atomic_int running = WORKERS;
    pthread_t threads[WORKERS];
    sj_hammer hammers[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        hammers[i] = (sj_hammer){registry, i, &running};
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, &hammers[i]), 0);
    }
    uint64_t last = 0;
    for (int i = 0; i < 20 && atomic_load(&running); i++) {
        sj_buffer out;
        (void)rendered(registry, NULL, &out);
        sj_buffer_free(&out);
        uint64_t now = sj_registry_sum(registry, SJ_METRIC_EXCHANGES, NULL);
        assert_true(now >= last);
        last = now;
    }
    for (int i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(sj_registry_sum(registry, SJ_METRIC_EXCHANGES, NULL), WORKERS * ROUNDS);
    assert_int_equal(sj_registry_sum(registry, SJ_METRIC_RETRIES, "a/m7"), WORKERS * ROUNDS / 50);
    assert_int_equal(sj_registry_sum(registry, SJ_METRIC_IN_FLIGHT, NULL), 0);
    sj_registry_free(&registry);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exchanges_are_counted),      cmocka_unit_test(histograms_are_cumulative),
        cmocka_unit_test(notes_are_counted),          cmocka_unit_test(labels_are_bounded_and_escaped),
        cmocka_unit_test(costs_are_summed),           cmocka_unit_test(view_is_shown),
        cmocka_unit_test(text_is_well_formed),        cmocka_unit_test(a_full_buffer_is_told),
        cmocka_unit_test(workers_and_reader_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
