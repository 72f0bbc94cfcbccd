// GET /state: what the proxy is doing now, as JSON.
#include "admin.h"

#include "body.h"
#include "json_span.h"
#include "setup.h"

#include <inttypes.h>

// Everything is written through this; the first failure makes the rest do nothing.
typedef struct sj_json_out {
    sj_buffer *out;
    bool ok;
    bool first; // no comma before the next member
} sj_json_out;

static void raw(sj_json_out *w, const char *text) {
    w->ok = w->ok && sj_buffer_text(w->out, text);
}

static void string(sj_json_out *w, const char *value) {
    if (value)
        w->ok = w->ok && sj_json_encode_string(sj_slice_of(value), w->out);
    else
        raw(w, "null");
}

static void key(sj_json_out *w, const char *name) {
    if (!w->first)
        raw(w, ",");
    w->first = false;
    if (name) {
        string(w, name);
        raw(w, ":");
    }
}

static void begin(sj_json_out *w, const char *name, const char *bracket) {
    key(w, name);
    raw(w, bracket);
    w->first = true;
}

static void end(sj_json_out *w, const char *bracket) {
    raw(w, bracket);
    w->first = false;
}

static void text(sj_json_out *w, const char *name, const char *value) {
    key(w, name);
    string(w, value);
}

static void number(sj_json_out *w, const char *name, int64_t value) {
    key(w, name);
    w->ok = w->ok && sj_buffer_printf(w->out, "%" PRId64, value);
}

static void dollars(sj_json_out *w, const char *name, double value) {
    key(w, name);
    w->ok = w->ok && sj_buffer_printf(w->out, "%.9f", value);
}

static void boolean(sj_json_out *w, const char *name, bool value) {
    key(w, name);
    raw(w, value ? "true" : "false");
}

// -1: not known.
static void known(sj_json_out *w, const char *name, int64_t value) {
    if (value >= 0) {
        number(w, name, value);
    } else {
        key(w, name);
        raw(w, "null");
    }
}

static void totals(sj_json_out *w, sj_registry *registry, const char *target) {
    static const struct {
        const char *name;
        sj_metric metric;
    } counters[] = {
        {"exchanges", SJ_METRIC_EXCHANGES},
        {"attempts", SJ_METRIC_ATTEMPTS},
        {"retries", SJ_METRIC_RETRIES},
        {"fallbacks", SJ_METRIC_FALLBACKS},
        {"budget_refused", SJ_METRIC_BUDGET_REFUSED},
        {"queued", SJ_METRIC_QUEUED},
        {"alerts", SJ_METRIC_ALERTS},
        {"stale_served", SJ_METRIC_STALE_SERVED},
        {"degraded_served", SJ_METRIC_DEGRADED_SERVED},
        {"transitions", SJ_METRIC_BREAKER_CHANGES},
        {"cost_unknown", SJ_METRIC_COST_UNKNOWN},
    };
    begin(w, "totals", "{");
    for (size_t i = 0; i < sizeof counters / sizeof counters[0]; i++)
        number(w, counters[i].name, (int64_t)sj_registry_sum(registry, counters[i].metric, target));
    sj_registry_costs costs = sj_registry_read_costs(registry, target);
    dollars(w, "cost_usd", costs.actual);
    dollars(w, "fallback_saved_usd", costs.saved_by_fallback);
    dollars(w, "compare_saved_usd", costs.saved_to_compared);
    end(w, "}");
}

static void answers(sj_json_out *w, sj_registry *registry) {
    static const char *const names[] = {"1xx", "2xx", "3xx", "4xx", "5xx"};
    begin(w, "answers", "{");
    for (int i = 0; i < 5; i++)
        number(w, names[i], (int64_t)sj_registry_statuses(registry, (i + 1) * 100, (i + 1) * 100 + 99));
    number(w, "429", (int64_t)sj_registry_statuses(registry, 429, 429));
    end(w, "}");
}

// By their place in the configuration (invariant 8).
static void several_keys(sj_json_out *w, sj_keys *keys, int64_t now_ms) {
    begin(w, "keys", "[");
    for (size_t i = 0; keys && i < sj_keys_count(keys) && w->ok; i++) {
        sj_key_stats stats = sj_keys_read(keys, i, now_ms);
        begin(w, NULL, "{");
        number(w, "key", (int64_t)i + 1);
        text(w, "state", stats.resting ? sj_key_trouble_name(stats.trouble) : "fit");
        boolean(w, "present", stats.present);
        number(w, "back_in_ms", stats.resting ? stats.back_ms - now_ms : 0);
        for (int trouble = 0; trouble < SJ_KEY_TROUBLES; trouble++)
            number(w, sj_key_trouble_name((sj_key_trouble)trouble), (int64_t)stats.refusals[trouble]);
        end(w, "}");
    }
    end(w, "]");
}

static void upstreams(sj_json_out *w, const sj_server_view *view) {
    begin(w, "upstreams", "[");
    for (size_t i = 0; i < view->upstream_count && w->ok; i++) {
        sj_admission_stats stats = sj_admission_read(view->admissions[i]);
        begin(w, NULL, "{");
        text(w, "name", view->upstream_names[i]);
        number(w, "in_flight", stats.in_flight);
        number(w, "waiting", stats.waiting + stats.standing_by);
        number(w, "limit", stats.limit);
        number(w, "limit_max", stats.max);
        number(w, "limit_cuts", (int64_t)stats.cuts);
        several_keys(w, view->keys ? view->keys[i] : NULL, view->now_ms);
        end(w, "}");
    }
    end(w, "]");
}

static void store(sj_json_out *w, const sj_server_view *view) {
    sj_answer_store *kept = view->setup ? sj_setup_store(view->setup) : NULL;
    if (!kept)
        return;
    sj_answer_store_stats stats = sj_answer_store_read(kept);
    begin(w, "store", "{");
    number(w, "answers", (int64_t)stats.answers);
    number(w, "bytes", (int64_t)stats.bytes);
    number(w, "max_bytes", (int64_t)stats.max_bytes);
    number(w, "hits", (int64_t)stats.hits);
    number(w, "misses", (int64_t)stats.misses);
    number(w, "evicted", (int64_t)stats.evicted);
    end(w, "}");
}

static void one_target(sj_json_out *w, sj_registry *registry, sj_target *target, int64_t now_ms) {
    sj_target_stats stats = sj_target_read(target, now_ms);
    const char *name = sj_target_name(target);
    int64_t left_ms = stats.open_until_ms - now_ms;
    begin(w, NULL, "{");
    text(w, "name", name);
    text(w, "state", sj_breaker_state_name(stats.state));
    number(w, "reopens_in_ms", stats.state == SJ_BREAKER_OPEN && left_ms > 0 ? left_ms : 0);
    number(w, "consecutive_failures", stats.consecutive_failures);
    begin(w, "window", "{");
    number(w, "calls", stats.window_calls);
    number(w, "failures", stats.window_failures);
    number(w, "slow", stats.window_slow);
    end(w, "}");
    number(w, "generation", (int64_t)stats.generation);
    number(w, "stale_results", (int64_t)stats.stale_results);
    number(w, "in_flight", stats.in_flight);
    number(w, "budget_available", stats.budget_available);
    number(w, "gates", stats.gates);
    begin(w, "first_content_ms", "{");
    known(w, "p50", stats.p50_first_content_ms);
    known(w, "p95", stats.p95_first_content_ms);
    end(w, "}");
    begin(w, "whole_answer_ms", "{");
    known(w, "p50", stats.p50_whole_ms);
    known(w, "p95", stats.p95_whole_ms);
    end(w, "}");
    totals(w, registry, name);
    end(w, "}");
}

bool sj_admin_state(sj_registry *registry, const sj_server_view *view, sj_buffer *out) {
    sj_json_out w = {out, true, true};
    begin(&w, NULL, "{");
    text(&w, "version", SJ_VERSION);
    number(&w, "uptime_ms", sj_registry_uptime_ms(registry));
    boolean(&w, "draining", view->draining);
    text(&w, "config", view->config ? view->config->path : NULL);
    boolean(&w, "prices", view->config && view->config->price_count > 0);
    number(&w, "workers", view->config ? view->config->workers : 0);
    text(&w, "global_breaker",
         view->global ? sj_breaker_state_name(sj_global_breaker_state(view->global)) : NULL);
    number(&w, "exchanges_in_flight", (int64_t)sj_registry_sum(registry, SJ_METRIC_IN_FLIGHT, NULL));
    number(&w, "client_connections", (int64_t)sj_registry_sum(registry, SJ_METRIC_CLIENT_CONNECTIONS, NULL));
    number(&w, "body_memory_bytes", (int64_t)sj_body_total_bytes());
    totals(&w, registry, NULL);
    answers(&w, registry);
    upstreams(&w, view);
    store(&w, view);
    begin(&w, "targets", "[");
    for (size_t i = 0; i < view->target_count && w.ok; i++)
        one_target(&w, registry, view->targets[i], view->now_ms);
    end(&w, "]");
    end(&w, "}");
    raw(&w, "\n");
    return w.ok;
}
