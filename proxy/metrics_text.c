// The Prometheus text format 0.0.4 (prometheus.io, "Exposition formats").
#include "metrics.h"

#include "access_log.h"
#include "body.h"
#include "metrics_shard.h"
#include "setup.h"
#include "utf8.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

// Everything is written through this; the first failure makes the rest do nothing.
typedef struct sj_writer {
    sj_registry *registry;
    const sj_server_view *view;
    sj_buffer *out;
    bool ok;
} sj_writer;

static void text(sj_writer *w, const char *string) {
    w->ok = w->ok && sj_buffer_text(w->out, string);
}

static void escaped(sj_writer *w, const char *value) {
    for (const char *p = value; *p && w->ok; p++) {
        if (*p == '\\')
            text(w, "\\\\");
        else if (*p == '"')
            text(w, "\\\"");
        else if (*p == '\n')
            text(w, "\\n");
        else
            w->ok = sj_buffer_append(w->out, p, 1);
    }
}

static void count(sj_writer *w, uint64_t value) {
    w->ok = w->ok && sj_buffer_printf(w->out, "%" PRIu64 "\n", value);
}

static void seconds(sj_writer *w, double value) {
    w->ok = w->ok && sj_buffer_printf(w->out, "%.6f\n", value);
}

static void value_of(sj_writer *w, const sj_metric_def *def, uint64_t value) {
    if (def->unit == SJ_UNIT_SECONDS)
        seconds(w, (double)value / 1e6);
    else if (def->unit == SJ_UNIT_DOLLARS)
        w->ok = w->ok && sj_buffer_printf(w->out, "%.9f\n", (double)value / SJ_COST_PER_DOLLAR);
    else
        count(w, value);
}

static void head(sj_writer *w, const sj_metric_def *def) {
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    w->ok = w->ok && sj_buffer_printf(w->out, "# HELP %s %s\n# TYPE %s %s\n", def->name, def->help, def->name,
                                      kinds[def->kind]);
}

// name{a="x",b="y"} and a space; pairs end with NULL.
static void series(sj_writer *w, const char *name, const char *suffix, const char *const *pairs) {
    text(w, name);
    text(w, suffix);
    for (int i = 0; pairs[i]; i += 2) {
        text(w, i ? "," : "{");
        text(w, pairs[i]);
        text(w, "=\"");
        escaped(w, pairs[i + 1]);
        text(w, "\"");
    }
    text(w, pairs[0] ? "} " : " ");
}

// ---- labels ------------------------------------------------------------------------------------------------------------------

static const char *const label_names[SJ_LABEL_OF_COUNT] = {
    [SJ_LABEL_OF_TARGET] = "target",
    [SJ_LABEL_OF_UPSTREAM] = "upstream",
    [SJ_LABEL_OF_RESULT] = "result",
    [SJ_LABEL_OF_STATUS_CLASS] = "status_class",
    [SJ_LABEL_OF_STATUS] = "status",
    [SJ_LABEL_OF_CODE] = "code",
    [SJ_LABEL_OF_STREAM] = "stream",
    [SJ_LABEL_OF_TOKEN] = "gen_ai_token_type", // OpenTelemetry
    [SJ_LABEL_OF_AGAINST] = "against",
    [SJ_LABEL_OF_OUTCOME] = "outcome",
    [SJ_LABEL_OF_REASON] = "reason",
    [SJ_LABEL_OF_SOURCE] = "source",
    [SJ_LABEL_OF_STATE] = "state",
    [SJ_LABEL_OF_FROM] = "from",
    [SJ_LABEL_OF_TO] = "to",
    [SJ_LABEL_OF_OK] = "result",
    [SJ_LABEL_OF_VERSION] = "version",
};

enum { SCRATCH = 16 };

static const char *label_value(const sj_registry *registry, sj_label_kind kind, size_t index,
                               char scratch[SCRATCH]) {
    static const char *const classes[] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};
    static const char *const againsts[] = {
        [SJ_AGAINST_FIRST] = "first_target", [SJ_AGAINST_COMPARED] = "compare_prices"};
    static const char *const tokens[] = {"input", "output", "cached"};
    switch (kind) {
    case SJ_LABEL_OF_TARGET:
        return sj_labels_text(registry->targets, index);
    case SJ_LABEL_OF_REASON:
        return sj_labels_text(registry->reasons, index);
    case SJ_LABEL_OF_SOURCE:
        return sj_labels_text(registry->sources, index);
    case SJ_LABEL_OF_RESULT:
        return sj_result_name((sj_result)index);
    case SJ_LABEL_OF_STATUS_CLASS:
        return classes[index];
    case SJ_LABEL_OF_STATUS:
        (void)snprintf(scratch, SCRATCH, "%d", (int)index + SJ_STATUS_FIRST - 1);
        return index ? scratch : "other";
    case SJ_LABEL_OF_CODE:
        return sj_refusal_code((sj_refusal)index);
    case SJ_LABEL_OF_STREAM:
        return index ? "true" : "false";
    case SJ_LABEL_OF_TOKEN:
        return tokens[index];
    case SJ_LABEL_OF_AGAINST:
        return againsts[index];
    case SJ_LABEL_OF_OUTCOME:
        return sj_class_name((sj_class)index);
    case SJ_LABEL_OF_FROM:
    case SJ_LABEL_OF_TO:
        return sj_breaker_state_name((sj_breaker_state)index);
    default:
        return "";
    }
}

// Values met so far; less than the room for those that grow.
static size_t label_count(const sj_registry *registry, sj_label_kind kind) {
    if (kind == SJ_LABEL_OF_TARGET)
        return sj_labels_count(registry->targets);
    if (kind == SJ_LABEL_OF_REASON)
        return sj_labels_count(registry->reasons);
    if (kind == SJ_LABEL_OF_SOURCE)
        return sj_labels_count(registry->sources);
    return sj_label_room(kind);
}

// ---- what the shards hold ----------------------------------------------------------------------------------------------------

static void histogram(sj_writer *w, const sj_metric_def *def, size_t cell, const char **pairs, int used) {
    uint64_t cells[SJ_BUCKET_CELLS], all = 0;
    for (size_t i = 0; i < SJ_BUCKET_CELLS; i++) {
        cells[i] = sj_metric_read(w->registry, cell + i);
        all += i == SJ_BUCKET_SUM ? 0 : cells[i];
    }
    if (all == 0)
        return;
    uint64_t sum = 0;
    for (int i = 0; i <= SJ_BUCKETS; i++) {
        char bound[24] = "+Inf";
        if (i < SJ_BUCKETS)
            (void)snprintf(bound, sizeof bound, "%g", (double)sj_bucket_bounds_us[i] / 1e6);
        sum += cells[i];
        pairs[used] = "le";
        pairs[used + 1] = bound;
        pairs[used + 2] = NULL;
        series(w, def->name, "_bucket", pairs);
        count(w, sum);
    }
    pairs[used] = NULL;
    series(w, def->name, "_sum", pairs);
    seconds(w, (double)cells[SJ_BUCKET_SUM] / 1e6);
    series(w, def->name, "_count", pairs);
    count(w, all);
}

static void one_series(sj_writer *w, sj_metric metric, const size_t index[SJ_METRIC_LABELS]) {
    const sj_metric_def *def = &sj_metric_defs[metric];
    char scratch[SJ_METRIC_LABELS][SCRATCH];
    const char *pairs[2 * SJ_METRIC_LABELS + 3];
    int used = 0;
    for (int i = 0; i < SJ_METRIC_LABELS && def->labels[i] != SJ_LABEL_OF_NONE; i++) {
        pairs[used++] = label_names[def->labels[i]];
        pairs[used++] = label_value(w->registry, def->labels[i], index[i], scratch[i]);
    }
    pairs[used] = NULL;
    size_t cell = sj_metric_cell(w->registry, metric, index[0], index[1], index[2]);
    if (def->kind == SJ_KIND_HISTOGRAM) {
        histogram(w, def, cell, pairs, used);
        return;
    }
    uint64_t value = sj_metric_read(w->registry, cell);
    if (value == 0 && used > 0) // what never happened has no series, except where it needs no label
        return;
    series(w, def->name, "", pairs);
    value_of(w, def, value);
}

static void from_shards(sj_writer *w, sj_metric metric) {
    const sj_label_kind *labels = sj_metric_defs[metric].labels;
    size_t n[SJ_METRIC_LABELS];
    for (int i = 0; i < SJ_METRIC_LABELS; i++)
        n[i] = label_count(w->registry, labels[i]);
    for (size_t a = 0; a < n[0]; a++)
        for (size_t b = 0; b < n[1]; b++)
            for (size_t c = 0; c < n[2] && w->ok; c++)
                one_series(w, metric, (const size_t[]){a, b, c});
}

// ---- what is read ------------------------------------------------------------------------------------------------------------

static void plain(sj_writer *w, const char *name, double value) {
    text(w, name);
    w->ok = w->ok && sj_buffer_printf(w->out, " %.15g\n", value);
}

static void labelled(sj_writer *w, const char *name, const char *const *pairs, double value) {
    series(w, name, "", pairs);
    w->ok = w->ok && sj_buffer_printf(w->out, "%.15g\n", value);
}

static void states(sj_writer *w, const char *name, const char *target, sj_breaker_state state) {
    for (int i = 0; i <= SJ_BREAKER_DISABLED; i++) {
        const char *state_name = sj_breaker_state_name((sj_breaker_state)i);
        const char *with_target[] = {"target", target, "state", state_name, NULL};
        labelled(w, name, target ? with_target : with_target + 2, i == (int)state);
    }
}

static void of_target(sj_writer *w, sj_metric metric, const char *name, sj_target *target) {
    const char *label = sj_target_name(target);
    if (!sj_utf8_valid(sj_slice_of(label))) // a client's model: counted under "other"
        return;
    const char *pairs[] = {"target", label, NULL};
    sj_target_stats stats = sj_target_read(target, w->view->now_ms);
    if (metric == SJ_METRIC_BREAKER_STATE) {
        states(w, name, label, stats.state);
        return;
    }
    int64_t left_ms = stats.state == SJ_BREAKER_OPEN ? stats.open_until_ms - w->view->now_ms : 0;
    double value = metric == SJ_METRIC_BREAKER_OPEN_FOR ? (double)(left_ms > 0 ? left_ms : 0) / 1e3
                   : metric == SJ_METRIC_TARGET_RUNNING ? stats.in_flight
                   : metric == SJ_METRIC_BUDGET_LEFT    ? stats.budget_available
                   : metric == SJ_METRIC_GATES          ? stats.gates
                                                        : (double)stats.stale_results;
    labelled(w, name, pairs, value);
}

static void read_targets(sj_writer *w, sj_metric metric, const char *name) {
    for (size_t i = 0; w->view && i < w->view->target_count && w->ok; i++)
        of_target(w, metric, name, w->view->targets[i]);
}

static void read_slots(sj_writer *w, sj_metric metric, const char *name) {
    for (size_t i = 0; w->view && i < w->view->upstream_count && w->ok; i++) {
        sj_admission_stats stats = sj_admission_read(w->view->admissions[i]);
        const char *pairs[] = {"upstream", w->view->upstream_names[i], NULL};
        labelled(w, name, pairs,
                 metric == SJ_METRIC_SLOTS_TAKEN     ? stats.in_flight
                 : metric == SJ_METRIC_SLOTS_WAITING ? stats.waiting + stats.standing_by
                 : metric == SJ_METRIC_SLOTS_MAX     ? stats.max
                 : metric == SJ_METRIC_SLOTS_CUTS    ? (double)stats.cuts
                                                     : stats.limit);
    }
}

static void one_key(sj_writer *w, sj_metric metric, const char *name, const char *upstream,
                    const sj_key_stats *stats, const char *key) {
    if (metric == SJ_METRIC_KEY_RESTING) {
        labelled(w, name, (const char *[]){"upstream", upstream, "key", key, NULL}, stats->resting);
        return;
    }
    for (int i = 0; i < SJ_KEY_TROUBLES; i++) {
        const char *pairs[] = {
            "upstream", upstream, "key", key, "reason", sj_key_trouble_name((sj_key_trouble)i), NULL};
        labelled(w, name, pairs, (double)stats->refusals[i]);
    }
}

// Keys are known by their place in the configuration alone (invariant 8).
static void read_keys(sj_writer *w, sj_metric metric, const char *name) {
    for (size_t i = 0; w->view && w->view->keys && i < w->view->upstream_count; i++) {
        sj_keys *keys = w->view->keys[i];
        for (size_t k = 0; keys && k < sj_keys_count(keys) && w->ok; k++) {
            sj_key_stats stats = sj_keys_read(keys, k, w->view->now_ms);
            char number[SCRATCH];
            (void)snprintf(number, sizeof number, "%u", (unsigned)k + 1);
            one_key(w, metric, name, w->view->upstream_names[i], &stats, number);
        }
    }
}

static void read_store(sj_writer *w, sj_metric metric, const char *name) {
    sj_answer_store *store = w->view && w->view->setup ? sj_setup_store(w->view->setup) : NULL;
    if (!store)
        return;
    sj_answer_store_stats stats = sj_answer_store_read(store);
    plain(w, name,
          (double)(metric == SJ_METRIC_STORE_ANSWERS ? stats.answers
                   : metric == SJ_METRIC_STORE_BYTES ? stats.bytes
                                                     : stats.evicted));
}

static void read_server(sj_writer *w, sj_metric metric, const char *name) {
    if (metric == SJ_METRIC_WORKERS)
        plain(w, name, w->registry->workers);
    else if (w->view && metric == SJ_METRIC_DRAINING)
        plain(w, name, w->view->draining);
    else if (w->view && metric == SJ_METRIC_GLOBAL_STATE && w->view->global)
        states(w, name, NULL, sj_global_breaker_state(w->view->global));
}

static void read_registry(sj_writer *w, sj_metric metric, const char *name) {
    if (metric == SJ_METRIC_RELOADS) {
        labelled(w, name, (const char *[]){"result", "ok", NULL},
                 (double)atomic_load(&w->registry->reloads[1]));
        labelled(w, name, (const char *[]){"result", "failed", NULL},
                 (double)atomic_load(&w->registry->reloads[0]));
    } else if (metric == SJ_METRIC_BUILD_INFO) {
        labelled(w, name, (const char *[]){"version", SJ_VERSION, NULL}, 1);
    } else if (metric == SJ_METRIC_START_TIME) {
        plain(w, name,
              (double)w->registry->started.tv_sec + (double)(w->registry->started.tv_nsec / 1000000) / 1e3);
    } else {
        plain(w, name, (double)sj_registry_uptime_ms(w->registry) / 1e3);
    }
}

static double resident_bytes(void) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file) {
        if (fscanf(file, "%*s %ld", &pages) != 1)
            pages = 0;
        fclose(file);
    }
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static double open_descriptors(void) {
    DIR *dir = opendir("/proc/self/fd");
    if (!dir)
        return 0;
    int n = -1; // the directory's own
    while (readdir(dir))
        n++;
    closedir(dir);
    return n > 2 ? n - 2 : 0; // "." and ".."
}

static void read_process(sj_writer *w, sj_metric metric, const char *name) {
    if (metric == SJ_METRIC_BODY_MEMORY) {
        plain(w, name, (double)sj_body_total_bytes());
    } else if (metric == SJ_METRIC_RSS) {
        plain(w, name, resident_bytes());
    } else if (metric == SJ_METRIC_OPEN_FDS) {
        plain(w, name, open_descriptors());
    } else {
        struct rusage usage;
        getrusage(RUSAGE_SELF, &usage);
        plain(w, name,
              (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                  (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    }
}

static void (*const readers[SJ_METRIC_COUNT])(sj_writer *, sj_metric, const char *) = {
    [SJ_METRIC_BREAKER_STATE] = read_targets,
    [SJ_METRIC_BREAKER_OPEN_FOR] = read_targets,
    [SJ_METRIC_TARGET_RUNNING] = read_targets,
    [SJ_METRIC_BUDGET_LEFT] = read_targets,
    [SJ_METRIC_GATES] = read_targets,
    [SJ_METRIC_STALE_RESULTS] = read_targets,
    [SJ_METRIC_SLOTS_TAKEN] = read_slots,
    [SJ_METRIC_SLOTS_WAITING] = read_slots,
    [SJ_METRIC_SLOTS_LIMIT] = read_slots,
    [SJ_METRIC_SLOTS_MAX] = read_slots,
    [SJ_METRIC_SLOTS_CUTS] = read_slots,
    [SJ_METRIC_KEY_RESTING] = read_keys,
    [SJ_METRIC_KEY_REFUSALS] = read_keys,
    [SJ_METRIC_STORE_ANSWERS] = read_store,
    [SJ_METRIC_STORE_BYTES] = read_store,
    [SJ_METRIC_STORE_EVICTED] = read_store,
    [SJ_METRIC_GLOBAL_STATE] = read_server,
    [SJ_METRIC_WORKERS] = read_server,
    [SJ_METRIC_DRAINING] = read_server,
    [SJ_METRIC_RELOADS] = read_registry,
    [SJ_METRIC_BUILD_INFO] = read_registry,
    [SJ_METRIC_START_TIME] = read_registry,
    [SJ_METRIC_UPTIME] = read_registry,
    [SJ_METRIC_BODY_MEMORY] = read_process,
    [SJ_METRIC_RSS] = read_process,
    [SJ_METRIC_CPU] = read_process,
    [SJ_METRIC_OPEN_FDS] = read_process,
};

bool sj_registry_render(sj_registry *registry, const sj_server_view *view, sj_buffer *out) {
    sj_writer w = {registry, view, out, true};
    for (size_t i = 0; i < SJ_METRIC_COUNT && w.ok; i++) {
        const sj_metric_def *def = &sj_metric_defs[i];
        head(&w, def);
        if (readers[i])
            readers[i](&w, (sj_metric)i, def->name);
        else
            from_shards(&w, (sj_metric)i);
    }
    return w.ok;
}
