// One worker: a thread with a loop of its own, a front, an upstream and every exchange that began there. No lock on the path of bytes.
// Other threads reach it only through its mailbox (sj_worker_post_*).
#ifndef SJ_WORKER_H
#define SJ_WORKER_H

#include "access_log.h"
#include "front.h"
#include "letter.h"
#include "metrics.h"
#include "setup.h"
#include "upstream.h"

typedef struct sj_worker sj_worker;
typedef struct sj_exchange sj_exchange;

// Asked by exchanges; see server.c.
typedef struct sj_worker_links {
    void *context;
    // Another worker's exchange has been granted a slot. Any thread.
    void (*grant)(void *context, const sj_waiter *waiter);
    bool (*draining)(void *context);
    // About retries (letter.h). post: to that worker; the letter's tape goes with it. ask: to all but its sender; how many they are. Any thread.
    void (*post)(void *context, uint32_t worker, const sj_letter *letter);
    int (*ask)(void *context, const sj_letter *letter);
    void (*ended)(void *context); // from the worker's thread, the last thing it does
} sj_worker_links;

typedef struct sj_worker_options {
    uint32_t index;
    sj_setup *setup; // referenced by the worker
    sj_registry *registry;
    const int *listen_fds;
    size_t listen_count;
    atomic_int *connections; // clients', over all workers
    uint64_t seed;
    sj_worker_links links;
} sj_worker_options;

// Starts the thread. NULL: could not.
sj_worker *sj_worker_start(const sj_worker_options *options);
// From any thread:
void sj_worker_post_grant(sj_worker *worker, uint64_t exchange_id);
void sj_worker_post_letter(sj_worker *worker, const sj_letter *letter); // takes what it holds
void sj_worker_post_setup(sj_worker *worker, sj_setup *setup); // the worker takes its own reference
void sj_worker_post_drain(sj_worker *worker);  // no new connections; ends by itself when nothing runs any more
void sj_worker_post_abort(sj_worker *worker);  // cuts what still runs
// Waits for the thread's end and frees it.
void sj_worker_join(sj_worker **worker);

// ---- for the exchanges of this worker, on its thread ----------------------------------------------------------------------------
struct sj_worker {
    uv_loop_t loop;
    uv_thread_t thread;
    uv_async_t mailbox;
    uv_timer_t tick; // once a second: gauges, a log nobody reads
    uv_prepare_t flush; // the log, once per turn
    uv_mutex_t mutex; // of the letters
    uint64_t *granted; // letters: exchanges that have been granted a slot
    size_t granted_count, granted_cap;
    sj_letter *letters; // bounded by the exchanges that join, as each has few under way
    size_t letter_count, letter_cap;
    sj_setup *new_setup;
    bool drain_asked, abort_asked;
    // the thread's own
    uint32_t index;
    atomic_int *connections;
    sj_front *front;
    sj_upstream *upstream;
    sj_metrics *metrics;
    sj_log *log;
    sj_rng rng;
    sj_setup *setup;
    sj_worker_links links;
    bool draining, ending;
    sj_exchange *todo_first, *todo_last; // exchanges with steps to carry out at the loop's top level
    sj_exchange **slots;                 // running exchanges by the low bits of their id
    uint64_t *sketches; // what those look like that a retry may join (coalesce.h), 0 the others; by the same index
    size_t slot_count;
    uint32_t free_slot;
    uint64_t serial;
    size_t exchange_count, exchange_peak; // peak: as seen by the ticks since memory was last given back
    sj_exchange *spare; // ended ones, to be used again
    size_t spare_count;
};

static inline int64_t sj_worker_now_ms(const sj_worker *worker) { return (int64_t)uv_now(&worker->loop); }

#endif
