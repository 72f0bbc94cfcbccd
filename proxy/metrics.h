// Counters, gauges and histograms for Prometheus. One shard per worker, written by its thread alone with relaxed atomics and summed when read:
// recording takes no lock and no shared cache line. Every metric is declared once, in metrics_list.h.
// Label values come from bounded sets: targets (256, then "other"), reasons (64, then "other"), enumerations; never from a secret (invariants 7, 8).
#ifndef SJ_METRICS_H
#define SJ_METRICS_H

#include "metrics_list.h"
#include "record.h"
#include "server.h"

typedef enum sj_metric {
#define SJ_METRIC_ID(id, ...) SJ_METRIC_##id,
    SJ_METRICS(SJ_METRIC_ID)
#undef SJ_METRIC_ID
        SJ_METRIC_COUNT,
} sj_metric;

typedef struct sj_registry sj_registry; // all shards; outlives them and their workers
typedef struct sj_metrics sj_metrics; // one worker's shard; owned by the registry

enum { SJ_METRICS_MAX_TARGETS = 256, SJ_METRICS_MAX_REASONS = 64, SJ_METRICS_MAX_TEXT = 16 * 1024 * 1024 };

sj_registry *sj_registry_new(int workers); // NULL: out of memory
void sj_registry_free(sj_registry **registry); // NULL-safe
sj_metrics *sj_registry_shard(sj_registry *registry, int worker); // 0 .. workers - 1

// ---- on the worker's thread --------------------------------------------------------------------------------------------------
// in-flight +1; each is followed by one sj_metrics_exchange.
void sj_metrics_exchange_started(sj_metrics *metrics);
void sj_metrics_exchange(sj_metrics *metrics, const sj_record *record);
// target_label: of the note's hop. Kinds that count nothing are ignored.
void sj_metrics_note(sj_metrics *metrics, const char *target_label, const sj_note *note);
// What others count: set to their present value, once in a while (a timer, the end of an exchange).
void sj_metrics_set_upstream(sj_metrics *metrics, uint64_t opened, uint64_t reused, int running);
void sj_metrics_set_clients(sj_metrics *metrics, int connections);
void sj_metrics_set_log_dropped(sj_metrics *metrics, uint64_t lines);

// ---- on any thread -----------------------------------------------------------------------------------------------------------
// Makes sure that a configured target has a label of its own before clients' models take them all.
void sj_registry_reserve_target(sj_registry *registry, const char *target_label);
void sj_registry_reloaded(sj_registry *registry, bool ok);
// As sj_metrics_note, for what happens outside the workers (an operator forcing a breaker).
void sj_registry_note(sj_registry *registry, const char *target_label, const sj_note *note);
// Sum over shards and labels of a counter or gauge that is kept in the shards; target_label NULL: of all targets.
uint64_t sj_registry_sum(sj_registry *registry, sj_metric metric, const char *target_label);
// US dollars, of all targets or of one. Saved: below 0 when another choice would have been cheaper.
typedef struct sj_registry_costs {
    double actual, saved_by_fallback, saved_to_compared;
} sj_registry_costs;
sj_registry_costs sj_registry_read_costs(sj_registry *registry, const char *target_label);
// Answers to clients whose status lies in from .. to.
uint64_t sj_registry_statuses(const sj_registry *registry, int from, int to);
int64_t sj_registry_uptime_ms(const sj_registry *registry);
// Appends everything in Prometheus text format 0.0.4. view NULL: without what only the server knows. False: out's cap or memory.
__attribute__((warn_unused_result)) bool sj_registry_render(sj_registry *registry, const sj_server_view *view,
                                                            sj_buffer *out);

#endif
