#include "demo.h"

#include "slice.h"

#include <stdlib.h>

// Counters of the proxy, summed over their labels that hold `label`.
static const struct event {
    const char *metric, *label, *key, *words;
} events[SJ_DEMO_EVENTS] = {
    {"stormjib_retries_total", "", "retries", "attempts repeated"},
    {"stormjib_hint_gates_total", "", "hint_gates", "waits the upstream asked for (Retry-After)"},
    {"stormjib_rescues_total", "", "rescues", "streams mended after they broke"},
    {"stormjib_fallbacks_total", "", "fallbacks", "moves to another model or upstream"},
    {"stormjib_breaker_transitions_total", "to=\"open\"", "breaker_opened", "times a circuit breaker opened"},
    {"stormjib_budget_refused_total", "", "budget_refused", "retries the budget did not allow"},
    {"stormjib_queued_total", "", "queued", "waits for a free slot"},
    {"stormjib_dropped_events_total", "", "dropped_events", "stream events left out: no JSON"},
};

static double value_of(sj_slice line) {
    const char *space = memrchr(line.p, ' ', line.n);
    char number[40] = "";
    size_t n = space ? (size_t)(line.p + line.n - space - 1) : 0;
    if (n && n < sizeof number)
        memcpy(number, space + 1, n);
    return strtod(number, NULL);
}

static bool is_sample(sj_slice line, const struct event *event) {
    sj_slice name = sj_slice_of(event->metric);
    if (!sj_slice_starts(line, name) || line.n == name.n || (line.p[name.n] != '{' && line.p[name.n] != ' '))
        return false;
    return !event->label[0] || memmem(line.p, line.n, event->label, strlen(event->label)) != NULL;
}

void sj_demo_read_events(const char *metrics, size_t n, double counts[SJ_DEMO_EVENTS]) {
    sj_slice rest = {metrics, n};
    while (rest.n) {
        const char *end = memchr(rest.p, '\n', rest.n);
        sj_slice line = {rest.p, end ? (size_t)(end - rest.p) : rest.n};
        rest = sj_slice_from(rest, end ? line.n + 1 : line.n);
        for (int i = 0; i < SJ_DEMO_EVENTS; i++) {
            if (is_sample(line, &events[i]))
                counts[i] += value_of(line);
        }
    }
}

// ---- for people ---------------------------------------------------------------------------------

static double share(const sj_demo_tally *tally) {
    return tally->done ? 100.0 * tally->failed / tally->done : 0;
}

// One row: a name and two numbers with the same unit, and their difference when that tells something.
static void table_row(FILE *out, const char *name, double direct, double proxied, int digits,
                      const char *unit) {
    (void)fprintf(out, "  %-26s %13.*f %-3s %13.*f %s", name, digits, direct, unit, digits, proxied, unit);
    if (strcmp(unit, "ms") == 0)
        (void)fprintf(out, " (%+.1f)", proxied - direct);
    (void)fputc('\n', out);
}

static void latency_row(FILE *out, const char *name, const sj_demo_outcome *o, double p) {
    table_row(out, name, sj_demo_percentile(&o->direct.tally, p), sj_demo_percentile(&o->proxied.tally, p), 1,
              "ms");
}

static void failure_rows(FILE *out, const sj_demo_tally *direct, const sj_demo_tally *proxied) {
    table_row(out, "failed for the client", direct->failed, proxied->failed, 0, "");
    table_row(out, "", share(direct), share(proxied), 2, "%");
    for (int i = SJ_DEMO_GOOD + 1; i < SJ_DEMO_RESULTS; i++) {
        char name[40];
        (void)snprintf(name, sizeof name, "  %s", sj_demo_result_name((sj_demo_result)i));
        if (direct->by[i] || proxied->by[i])
            table_row(out, name, direct->by[i], proxied->by[i], 0, "");
    }
}

void sj_demo_report_table(const sj_demo_outcome *o, FILE *out) {
    const sj_demo_tally *direct = &o->direct.tally, *proxied = &o->proxied.tally;
    (void)fprintf(out, "\n  %-26s %13s     %13s\n", "", "directly", "via stormjib");
    table_row(out, "requests", direct->done, proxied->done, 0, "");
    table_row(out, "  of them streamed", direct->streams, proxied->streams, 0, "");
    failure_rows(out, direct, proxied);
    table_row(out, "attempts upstream", o->direct.attempts, o->proxied.attempts, 0, "");
    latency_row(out, "latency of answers, p50", o, 0.50);
    latency_row(out, "latency of answers, p99", o, 0.99);
    table_row(out, "took", direct->seconds, proxied->seconds, 1, "s");
    (void)fprintf(out, "\nWhat stormjib did:\n  %8d answers that took more than one attempt\n",
                  proxied->retried);
    for (int i = 0; i < SJ_DEMO_EVENTS; i++) {
        if (o->events[i] > 0)
            (void)fprintf(out, "  %8.0f %s\n", o->events[i], events[i].words);
    }
    if (proxied->retried)
        (void)fputs("Repeated answers wait for a backoff first; they are what the p99 shows.\n", out);
}

// ---- for programs -------------------------------------------------------------------------------

static void json_side(FILE *out, const char *name, const sj_demo_side *side) {
    const sj_demo_tally *tally = &side->tally;
    (void)fprintf(out,
                  "\"%s\":{\"requests\":%d,\"failed\":%d,\"streams\":%d,\"retried\":%d,\"attempts\":%.0f,"
                  "\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"seconds\":%.3f,\"results\":{",
                  name, tally->done, tally->failed, tally->streams, tally->retried, side->attempts,
                  sj_demo_percentile(tally, 0.5), sj_demo_percentile(tally, 0.99), tally->seconds);
    for (int i = 0; i < SJ_DEMO_RESULTS; i++)
        (void)fprintf(out, "%s\"%s\":%d", i ? "," : "", sj_demo_result_name((sj_demo_result)i), tally->by[i]);
    (void)fputs("}}", out);
}

void sj_demo_report_json(const sj_demo_options *options, const sj_demo_outcome *o, FILE *out) {
    (void)fprintf(out, "{\"requests\":%d,\"concurrency\":%d,\"fail\":%g,\"seed\":%llu,", options->requests,
                  options->concurrency, options->fail, (unsigned long long)options->seed);
    json_side(out, "direct", &o->direct);
    (void)fputs(",", out);
    json_side(out, "stormjib", &o->proxied);
    (void)fputs(",\"events\":{", out);
    for (int i = 0; i < SJ_DEMO_EVENTS; i++)
        (void)fprintf(out, "%s\"%s\":%.0f", i ? "," : "", events[i].key, o->events[i]);
    (void)fputs("}}\n", out);
}
