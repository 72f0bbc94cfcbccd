// Inside of the metrics: how the cells of a shard are laid out. Used by metrics.c (records) and metrics_text.c (reads) alone.
#ifndef SJ_METRICS_SHARD_H
#define SJ_METRICS_SHARD_H

#include "metrics.h"
#include "metrics_labels.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

typedef enum sj_label_kind {
    SJ_LABEL_OF_NONE,
    SJ_LABEL_OF_TARGET,
    SJ_LABEL_OF_UPSTREAM,
    SJ_LABEL_OF_KEY,
    SJ_LABEL_OF_RESULT,
    SJ_LABEL_OF_STATUS_CLASS,
    SJ_LABEL_OF_STATUS,
    SJ_LABEL_OF_CODE,
    SJ_LABEL_OF_STREAM,
    SJ_LABEL_OF_TOKEN,
    SJ_LABEL_OF_AGAINST,
    SJ_LABEL_OF_OUTCOME,
    SJ_LABEL_OF_REASON,
    SJ_LABEL_OF_SOURCE,
    SJ_LABEL_OF_STATE,
    SJ_LABEL_OF_FROM,
    SJ_LABEL_OF_TO,
    SJ_LABEL_OF_OK,
    SJ_LABEL_OF_VERSION,
    SJ_LABEL_OF_COUNT,
} sj_label_kind;

typedef enum sj_metric_kind { SJ_KIND_COUNTER, SJ_KIND_GAUGE, SJ_KIND_HISTOGRAM } sj_metric_kind;
typedef enum sj_metric_unit { SJ_UNIT_ONE, SJ_UNIT_SECONDS, SJ_UNIT_DOLLARS } sj_metric_unit;
typedef enum sj_metric_kept { SJ_KEPT_SHARD, SJ_KEPT_READ } sj_metric_kept;

enum {
    SJ_METRIC_LABELS = 3,
    SJ_BUCKETS = 17,
    SJ_BUCKET_SUM = SJ_BUCKETS + 1,
    SJ_BUCKET_CELLS = SJ_BUCKETS + 2
};
enum { SJ_STATUS_FIRST = 100, SJ_STATUS_LAST = 599, SJ_STATUS_CLASSES = 6, SJ_MAX_SOURCES = 16 };

typedef struct sj_metric_def {
    const char *name, *help;
    sj_metric_kind kind;
    sj_metric_unit unit;
    sj_metric_kept kept;
    sj_label_kind labels[SJ_METRIC_LABELS];
} sj_metric_def;

enum { SJ_AGAINST_FIRST, SJ_AGAINST_COMPARED, SJ_AGAINSTS }; // what a cost is compared with

extern const sj_metric_def sj_metric_defs[SJ_METRIC_COUNT];
extern const int64_t sj_bucket_bounds_us[SJ_BUCKETS]; // upper, inclusive; one more bucket holds the rest

// A cell's index: offset of the metric, then its labels in order, each with the room of its kind; a histogram has SJ_BUCKET_CELLS per series:
// the buckets (not cumulated), then the sum in microseconds.
struct sj_metrics {
    sj_registry *registry;
    _Atomic uint64_t *cells;
};

struct sj_registry {
    int workers;
    sj_metrics *shards; // one more than workers: the last is for the other threads, under its lock
    pthread_mutex_t others;
    size_t offsets[SJ_METRIC_COUNT];
    sj_labels *targets, *reasons, *sources;
    _Atomic uint64_t reloads[2]; // failed, ok
    struct timespec started, started_monotonic;
};

// How many values a kind of label can have in a shard.
size_t sj_label_room(sj_label_kind kind);
size_t sj_metric_cell(const sj_registry *registry, sj_metric metric, size_t a, size_t b, size_t c);
uint64_t sj_metric_read(const sj_registry *registry, size_t cell); // summed over the shards

#endif
