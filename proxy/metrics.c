#include "metrics.h"

#include "metrics_shard.h"

#include <assert.h>
#include <stdlib.h>

const sj_metric_def sj_metric_defs[SJ_METRIC_COUNT] = {
#define SJ_METRIC_DEF(id, kind_, unit_, kept_, a, b, c, name_, help_)                                        \
    [SJ_METRIC_##id] = {.name = "stormjib_" name_,                                                           \
                        .help = help_,                                                                       \
                        .kind = SJ_KIND_##kind_,                                                             \
                        .unit = SJ_UNIT_##unit_,                                                             \
                        .kept = SJ_KEPT_##kept_,                                                             \
                        .labels = {SJ_LABEL_OF_##a, SJ_LABEL_OF_##b, SJ_LABEL_OF_##c}},
    SJ_METRICS(SJ_METRIC_DEF)
#undef SJ_METRIC_DEF
};

const int64_t sj_bucket_bounds_us[SJ_BUCKETS] = {
    5000,    10000,    25000,    50000,    100000,   250000,    500000,    1000000,   2500000,
    5000000, 10000000, 20000000, 30000000, 60000000, 120000000, 300000000, 600000000,
};

size_t sj_label_room(sj_label_kind kind) {
    static const size_t room[SJ_LABEL_OF_COUNT] = {
        [SJ_LABEL_OF_NONE] = 1,
        [SJ_LABEL_OF_TARGET] = SJ_METRICS_MAX_TARGETS + SJ_LABEL_FIRST,
        [SJ_LABEL_OF_RESULT] = SJ_RESULT_COUNT,
        [SJ_LABEL_OF_STATUS_CLASS] = SJ_STATUS_CLASSES,
        [SJ_LABEL_OF_STATUS] = SJ_STATUS_LAST - SJ_STATUS_FIRST + 2,
        [SJ_LABEL_OF_CODE] = SJ_REFUSAL_COUNT,
        [SJ_LABEL_OF_STREAM] = 2,
        [SJ_LABEL_OF_TOKEN] = 3,
        [SJ_LABEL_OF_AGAINST] = SJ_AGAINSTS,
        [SJ_LABEL_OF_OUTCOME] = SJ_CLASS_NONE + 1,
        [SJ_LABEL_OF_REASON] = SJ_METRICS_MAX_REASONS + SJ_LABEL_FIRST,
        [SJ_LABEL_OF_SOURCE] = SJ_MAX_SOURCES + SJ_LABEL_FIRST,
        [SJ_LABEL_OF_FROM] = SJ_BREAKER_DISABLED + 1,
        [SJ_LABEL_OF_TO] = SJ_BREAKER_DISABLED + 1,
    };
    return room[kind];
}

static size_t cells_of(const sj_metric_def *def) {
    if (def->kept == SJ_KEPT_READ)
        return 0;
    size_t n = def->kind == SJ_KIND_HISTOGRAM ? SJ_BUCKET_CELLS : 1;
    for (int i = 0; i < SJ_METRIC_LABELS; i++)
        n *= sj_label_room(def->labels[i]);
    return n;
}

size_t sj_metric_cell(const sj_registry *registry, sj_metric metric, size_t a, size_t b, size_t c) {
    const sj_metric_def *def = &sj_metric_defs[metric];
    size_t index[SJ_METRIC_LABELS] = {a, b, c};
    size_t at = 0;
    for (int i = 0; i < SJ_METRIC_LABELS; i++) {
        size_t room = sj_label_room(def->labels[i]);
        assert(index[i] < room);
        at = at * room + index[i];
    }
    return registry->offsets[metric] + at * (def->kind == SJ_KIND_HISTOGRAM ? SJ_BUCKET_CELLS : 1);
}

// ---- the registry ------------------------------------------------------------------------------------------------------------

sj_registry *sj_registry_new(int workers) {
    assert(workers >= 1);
    sj_registry *registry = calloc(1, sizeof *registry);
    if (!registry)
        return NULL;
    registry->workers = workers;
    pthread_mutex_init(&registry->others, NULL);
    clock_gettime(CLOCK_REALTIME, &registry->started);
    clock_gettime(CLOCK_MONOTONIC, &registry->started_monotonic);
    size_t cells = 0;
    for (size_t i = 0; i < SJ_METRIC_COUNT; i++) {
        registry->offsets[i] = cells;
        cells += cells_of(&sj_metric_defs[i]);
    }
    registry->targets = sj_labels_new(SJ_METRICS_MAX_TARGETS);
    registry->reasons = sj_labels_new(SJ_METRICS_MAX_REASONS);
    registry->sources = sj_labels_new(SJ_MAX_SOURCES);
    registry->shards = calloc((size_t)workers + 1, sizeof *registry->shards);
    bool ok = registry->targets && registry->reasons && registry->sources && registry->shards;
    for (int i = 0; ok && i <= workers; i++) {
        // Large and mostly untouched: zero pages cost nothing until a target uses them.
        registry->shards[i] = (sj_metrics){registry, calloc(cells, sizeof(_Atomic uint64_t))};
        ok = registry->shards[i].cells != NULL;
    }
    if (!ok)
        sj_registry_free(&registry);
    return registry;
}

void sj_registry_free(sj_registry **registry) {
    sj_registry *gone = *registry;
    if (!gone)
        return;
    *registry = NULL;
    for (int i = 0; gone->shards && i <= gone->workers; i++)
        free(gone->shards[i].cells);
    free(gone->shards);
    sj_labels_free(&gone->targets);
    sj_labels_free(&gone->reasons);
    sj_labels_free(&gone->sources);
    pthread_mutex_destroy(&gone->others);
    free(gone);
}

sj_metrics *sj_registry_shard(sj_registry *registry, int worker) {
    assert(worker >= 0 && worker < registry->workers);
    return &registry->shards[worker];
}

void sj_registry_reserve_target(sj_registry *registry, const char *target_label) {
    (void)sj_labels_index(registry->targets, target_label);
}

void sj_registry_reloaded(sj_registry *registry, bool ok) {
    atomic_fetch_add(&registry->reloads[ok], 1);
}

void sj_registry_note(sj_registry *registry, const char *target_label, const sj_note *note) {
    pthread_mutex_lock(&registry->others);
    sj_metrics_note(&registry->shards[registry->workers], target_label, note);
    pthread_mutex_unlock(&registry->others);
}

int64_t sj_registry_uptime_ms(const sj_registry *registry) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - registry->started_monotonic.tv_sec) * 1000 +
           (now.tv_nsec - registry->started_monotonic.tv_nsec) / 1000000;
}

uint64_t sj_metric_read(const sj_registry *registry, size_t cell) {
    uint64_t sum = 0;
    for (int i = 0; i <= registry->workers; i++)
        sum += atomic_load_explicit(&registry->shards[i].cells[cell], memory_order_relaxed);
    return sum;
}

// first .. last: of the cells that one value of the first label has.
static uint64_t sum_of(sj_registry *registry, sj_metric metric, const char *target_label, size_t first,
                       size_t last) {
    const sj_metric_def *def = &sj_metric_defs[metric];
    assert(def->kept == SJ_KEPT_SHARD && def->kind != SJ_KIND_HISTOGRAM);
    bool by_target = def->labels[0] == SJ_LABEL_OF_TARGET;
    size_t rest = cells_of(def) / sj_label_room(def->labels[0]);
    size_t from = 0, to = by_target ? sj_labels_count(registry->targets) : sj_label_room(def->labels[0]);
    if (target_label && by_target) {
        from = sj_labels_find(registry->targets, target_label);
        to = from == SIZE_MAX ? from : from + 1;
    }
    uint64_t sum = 0;
    for (size_t a = from; a < to; a++)
        for (size_t i = first; i < rest && i <= last; i++)
            sum += sj_metric_read(registry, registry->offsets[metric] + a * rest + i);
    return sum;
}

uint64_t sj_registry_sum(sj_registry *registry, sj_metric metric, const char *target_label) {
    return sum_of(registry, metric, target_label, 0, SIZE_MAX);
}

static double saved(sj_registry *registry, const char *target_label, size_t against) {
    return ((double)sum_of(registry, SJ_METRIC_COST_SAVED, target_label, against, against) -
            (double)sum_of(registry, SJ_METRIC_COST_EXTRA, target_label, against, against)) /
           SJ_COST_PER_DOLLAR;
}

sj_registry_costs sj_registry_read_costs(sj_registry *registry, const char *target_label) {
    return (sj_registry_costs){
        .actual = (double)sj_registry_sum(registry, SJ_METRIC_COST, target_label) / SJ_COST_PER_DOLLAR,
        .saved_by_fallback = saved(registry, target_label, SJ_AGAINST_FIRST),
        .saved_to_compared = saved(registry, target_label, SJ_AGAINST_COMPARED),
    };
}

static size_t status_index(int status) {
    return status >= SJ_STATUS_FIRST && status <= SJ_STATUS_LAST ? (size_t)(status - SJ_STATUS_FIRST + 1) : 0;
}

uint64_t sj_registry_statuses(const sj_registry *registry, int from, int to) {
    uint64_t sum = 0;
    for (int status = from; status <= to; status++)
        sum += sj_metric_read(registry,
                              sj_metric_cell(registry, SJ_METRIC_RESPONSES, status_index(status), 0, 0));
    return sum;
}

// ---- recording ---------------------------------------------------------------------------------------------------------------

// One writer per cell: a plain load and store, no locked instruction.
static void add_to(sj_metrics *metrics, size_t cell, uint64_t n) {
    uint64_t old = atomic_load_explicit(&metrics->cells[cell], memory_order_relaxed);
    atomic_store_explicit(&metrics->cells[cell], old + n, memory_order_relaxed);
}

static void add(sj_metrics *metrics, sj_metric metric, size_t a, size_t b, size_t c, uint64_t n) {
    add_to(metrics, sj_metric_cell(metrics->registry, metric, a, b, c), n);
}

static void set(sj_metrics *metrics, sj_metric metric, uint64_t value) {
    size_t cell = sj_metric_cell(metrics->registry, metric, 0, 0, 0);
    atomic_store_explicit(&metrics->cells[cell], value, memory_order_relaxed);
}

static void observe(sj_metrics *metrics, sj_metric metric, size_t a, size_t b, int64_t us) {
    if (us < 0)
        return;
    size_t cell = sj_metric_cell(metrics->registry, metric, a, b, 0);
    size_t bucket = 0; // no branch per bound: cheaper than a search over so few
    for (int i = 0; i < SJ_BUCKETS; i++)
        bucket += us > sj_bucket_bounds_us[i];
    add_to(metrics, cell + bucket, 1);
    add_to(metrics, cell + SJ_BUCKET_SUM, (uint64_t)us);
}

static size_t status_class(int status) {
    return status >= SJ_STATUS_FIRST && status <= SJ_STATUS_LAST ? (size_t)(status / 100) : 0;
}

static uint64_t positive(int64_t n) {
    return n > 0 ? (uint64_t)n : 0;
}

static void count_usage(sj_metrics *metrics, size_t target, const sj_usage *usage) {
    const int64_t tokens[] = {usage->prompt_tokens, usage->completion_tokens, usage->cached_tokens};
    for (size_t i = 0; i < 3; i++)
        if (tokens[i] > 0)
            add(metrics, SJ_METRIC_TOKENS, target, i, 0, (uint64_t)tokens[i]);
}

static void count_saved(sj_metrics *metrics, size_t target, size_t against, int64_t saved) {
    if (saved > 0)
        add(metrics, SJ_METRIC_COST_SAVED, target, against, 0, (uint64_t)saved);
    else if (saved < 0)
        add(metrics, SJ_METRIC_COST_EXTRA, target, against, 0, (uint64_t)-saved);
}

static void count_costs(sj_metrics *metrics, size_t target, const sj_costs *costs) {
    if (costs->unknown)
        add(metrics, SJ_METRIC_COST_UNKNOWN, target, 0, 0, 1);
    if (!costs->known)
        return;
    add(metrics, SJ_METRIC_COST, target, 0, 0, (uint64_t)costs->actual);
    count_saved(metrics, target, SJ_AGAINST_FIRST, sj_cost_saved(costs->at_first, costs->actual));
    count_saved(metrics, target, SJ_AGAINST_COMPARED, sj_cost_saved(costs->compared, costs->actual));
}

void sj_metrics_exchange_started(sj_metrics *metrics) {
    add(metrics, SJ_METRIC_IN_FLIGHT, 0, 0, 0, 1);
}

void sj_metrics_exchange(sj_metrics *metrics, const sj_record *record) {
    add(metrics, SJ_METRIC_IN_FLIGHT, 0, 0, 0, (uint64_t)-1);
    if (record->health)
        return;
    size_t target = sj_labels_index(metrics->registry->targets, record->target);
    add(metrics, SJ_METRIC_EXCHANGES, target, record->result, status_class(record->status), 1);
    if (record->status)
        add(metrics, SJ_METRIC_RESPONSES, status_index(record->status), 0, 0, 1);
    if (record->refusal != SJ_REFUSAL_NONE)
        add(metrics, SJ_METRIC_REFUSALS, record->refusal, 0, 0, 1);
    observe(metrics, SJ_METRIC_DURATION, target, record->stream, record->total_us);
    observe(metrics, SJ_METRIC_FIRST_CONTENT, target, record->stream, record->first_content_us);
    bool joined = record->coalesced && *record->coalesced;
    if (joined)
        add(metrics, SJ_METRIC_COALESCED, target, 0, 0, 1);
    if (record->result == SJ_RESULT_OK && !joined)
        observe(metrics, SJ_METRIC_UPSTREAM_DURATION, target, 0, record->upstream_ms * 1000);
    add(metrics, SJ_METRIC_WAITED, target, 0, 0, positive(record->wait_ms) * 1000);
    add(metrics, SJ_METRIC_QUEUE_WAITED, target, 0, 0, positive(record->queue_ms) * 1000);
    add(metrics, SJ_METRIC_BYTES_IN, 0, 0, 0, record->bytes_in);
    add(metrics, SJ_METRIC_BYTES_OUT, 0, 0, 0, record->bytes_out);
    add(metrics, SJ_METRIC_DROPPED_EVENTS, target, 0, 0, positive(record->dropped_events));
    count_usage(metrics, target, &record->usage);
    count_costs(metrics, target, &record->costs);
}

static void note_attempt(sj_metrics *metrics, size_t target, const sj_note *note) {
    add(metrics, SJ_METRIC_ATTEMPTS, target, note->class, 0, 1);
    if (note->status)
        add(metrics, SJ_METRIC_ATTEMPT_STATUSES, status_index(note->status), 0, 0, 1);
}

static void note_retry(sj_metrics *metrics, size_t target, const sj_note *note) {
    sj_registry *registry = metrics->registry;
    add(metrics, SJ_METRIC_RETRIES, target, sj_labels_index(registry->reasons, note->reason), 0, 1);
    add(metrics, SJ_METRIC_RETRY_DELAYS, sj_labels_index(registry->sources, note->source), 0, 0,
        positive(note->ms) * 1000);
}

static void note_fallback(sj_metrics *metrics, size_t target, const sj_note *note) {
    add(metrics, SJ_METRIC_FALLBACKS, target, sj_labels_index(metrics->registry->reasons, note->reason), 0,
        1);
}

static void note_stale(sj_metrics *metrics, size_t target, const sj_note *note) {
    add(metrics, SJ_METRIC_STALE_SERVED, target, sj_labels_index(metrics->registry->reasons, note->reason), 0,
        1);
}

static void note_degraded(sj_metrics *metrics, size_t target, const sj_note *note) {
    add(metrics, SJ_METRIC_DEGRADED_SERVED, target, sj_labels_index(metrics->registry->reasons, note->reason),
        0, 1);
}

static void note_race(sj_metrics *metrics, size_t target, const sj_note *note) {
    (void)note;
    add(metrics, SJ_METRIC_RACES, target, 0, 0, 1);
}

static void note_rescued(sj_metrics *metrics, size_t target, const sj_note *note) {
    add(metrics, SJ_METRIC_RESCUES, target, sj_labels_index(metrics->registry->sources, note->source), 0, 1);
}

static void note_breaker(sj_metrics *metrics, size_t target, const sj_note *note) {
    const sj_breaker_change *change = &note->change;
    if (note->global)
        add(metrics, SJ_METRIC_GLOBAL_CHANGES, change->from, change->to, 0, 1);
    else
        add(metrics, SJ_METRIC_BREAKER_CHANGES, target, change->from, change->to, 1);
}

static void note_alert(sj_metrics *metrics, size_t target, const sj_note *note) {
    add(metrics, SJ_METRIC_ALERTS, target, note->class, 0, 1);
}

static void note_budget(sj_metrics *metrics, size_t target, const sj_note *note) {
    (void)note;
    add(metrics, SJ_METRIC_BUDGET_REFUSED, target, 0, 0, 1);
}

static void note_gate(sj_metrics *metrics, size_t target, const sj_note *note) {
    (void)note;
    add(metrics, SJ_METRIC_HINT_GATES, target, 0, 0, 1);
}

static void note_queued(sj_metrics *metrics, size_t target, const sj_note *note) {
    (void)note;
    add(metrics, SJ_METRIC_QUEUED, target, 0, 0, 1);
}

static void note_drain(sj_metrics *metrics, size_t target, const sj_note *note) {
    (void)note;
    add(metrics, SJ_METRIC_DRAINS, target, 0, 0, 1);
}

void sj_metrics_note(sj_metrics *metrics, const char *target_label, const sj_note *note) {
    static void (*const by_kind[])(sj_metrics *, size_t, const sj_note *) = {
        [SJ_NOTE_ATTEMPT] = note_attempt,
        [SJ_NOTE_RETRY] = note_retry,
        [SJ_NOTE_HINT_GATE] = note_gate,
        [SJ_NOTE_BREAKER] = note_breaker,
        [SJ_NOTE_BUDGET_REFUSED] = note_budget,
        [SJ_NOTE_FALLBACK] = note_fallback,
        [SJ_NOTE_RACE] = note_race,
        [SJ_NOTE_QUEUED] = note_queued,
        [SJ_NOTE_ALERT] = note_alert,
        [SJ_NOTE_STALE_SERVED] = note_stale,
        [SJ_NOTE_DEGRADED_SERVED] = note_degraded,
        [SJ_NOTE_DRAIN] = note_drain,
        [SJ_NOTE_RESCUED] = note_rescued,
    };
    if ((size_t)note->kind < sizeof by_kind / sizeof by_kind[0] && by_kind[note->kind])
        by_kind[note->kind](metrics, sj_labels_index(metrics->registry->targets, target_label), note);
}

void sj_metrics_set_upstream(sj_metrics *metrics, uint64_t opened, uint64_t reused, int running) {
    set(metrics, SJ_METRIC_UPSTREAM_OPENED, opened);
    set(metrics, SJ_METRIC_UPSTREAM_REUSED, reused);
    set(metrics, SJ_METRIC_ATTEMPTS_RUNNING, positive(running));
}

void sj_metrics_set_clients(sj_metrics *metrics, int connections) {
    set(metrics, SJ_METRIC_CLIENT_CONNECTIONS, positive(connections));
}

void sj_metrics_set_log_dropped(sj_metrics *metrics, uint64_t lines) {
    set(metrics, SJ_METRIC_LOG_DROPPED, lines);
}
