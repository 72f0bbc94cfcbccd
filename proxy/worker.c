#include "worker.h"

#include "exchange.h"

#include <assert.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>

enum { TICK_MS = 1000, WAVE = 256, CALM = 16 };

static void begin_ending(sj_worker *worker);

// ---- mailbox: called by other threads -------------------------------------------------------------------------------------------

void sj_worker_post_grant(sj_worker *worker, uint64_t exchange_id) {
    uv_mutex_lock(&worker->mutex);
    if (worker->granted_count == worker->granted_cap) {
        size_t cap = worker->granted_cap ? worker->granted_cap * 2 : 64;
        uint64_t *granted = realloc(worker->granted, cap * sizeof *granted);
        assert(granted); // a lost letter would be a lost slot
        worker->granted = granted;
        worker->granted_cap = cap;
    }
    worker->granted[worker->granted_count++] = exchange_id;
    uv_mutex_unlock(&worker->mutex);
    uv_async_send(&worker->mailbox);
}

void sj_worker_post_letter(sj_worker *worker, const sj_letter *letter) {
    uv_mutex_lock(&worker->mutex);
    if (worker->letter_count == worker->letter_cap) {
        size_t cap = worker->letter_cap ? worker->letter_cap * 2 : 16;
        sj_letter *letters = realloc(worker->letters, cap * sizeof *letters);
        assert(letters); // somebody waits for it
        worker->letters = letters;
        worker->letter_cap = cap;
    }
    worker->letters[worker->letter_count++] = *letter;
    uv_mutex_unlock(&worker->mutex);
    uv_async_send(&worker->mailbox);
}

void sj_worker_post_setup(sj_worker *worker, sj_setup *setup) {
    uv_mutex_lock(&worker->mutex);
    sj_setup_unref(&worker->new_setup);
    worker->new_setup = sj_setup_ref(setup);
    uv_mutex_unlock(&worker->mutex);
    uv_async_send(&worker->mailbox);
}

static void post_flag(sj_worker *worker, bool *flag) {
    uv_mutex_lock(&worker->mutex);
    *flag = true;
    uv_mutex_unlock(&worker->mutex);
    uv_async_send(&worker->mailbox);
}

void sj_worker_post_drain(sj_worker *worker) {
    post_flag(worker, &worker->drain_asked);
}
void sj_worker_post_abort(sj_worker *worker) {
    post_flag(worker, &worker->abort_asked);
}

// ---- mailbox: read by the worker ------------------------------------------------------------------------------------------------

static sj_front_limits front_limits(const sj_worker *worker, const sj_config *config) {
    return (sj_front_limits){
        .connections = config->limit_connections,
        .in_all = worker->connections,
        .header_timeout_ms = config->header_timeout_ms,
        .body_timeout_ms = config->body_timeout_ms,
        .keepalive_timeout_ms = config->keepalive_timeout_ms,
    };
}

static void use_setup(sj_worker *worker, sj_setup *setup) {
    sj_setup_unref(&worker->setup);
    worker->setup = setup;
    const sj_config *config = sj_setup_config(setup);
    sj_front_limits limits = front_limits(worker, config);
    sj_front_set_limits(worker->front, &limits);
    sj_log_configure(worker->log, config->log_format, config->log_level);
}

static void read_letters(sj_worker *worker, sj_letter *letters, size_t count) {
    for (size_t i = 0; i < count; i++) {
        sj_exchange_letter(worker, &letters[i]);
        sj_tape_unref(&letters[i].tape);
    }
    free(letters);
}

static void on_mail(uv_async_t *mailbox) {
    sj_worker *worker = mailbox->data;
    uv_mutex_lock(&worker->mutex);
    sj_letter *letters = worker->letters;
    size_t letter_count = worker->letter_count;
    worker->letters = NULL;
    worker->letter_count = worker->letter_cap = 0;
    uint64_t *granted = worker->granted;
    size_t granted_count = worker->granted_count;
    sj_setup *setup = worker->new_setup;
    bool drain = worker->drain_asked, abort_all = worker->abort_asked;
    worker->granted = NULL;
    worker->granted_count = worker->granted_cap = 0;
    worker->new_setup = NULL;
    worker->drain_asked = false;
    uv_mutex_unlock(&worker->mutex);
    if (setup && !worker->ending)
        use_setup(worker, setup);
    else
        sj_setup_unref(&setup);
    for (size_t i = 0; i < granted_count; i++)
        sj_exchange_granted(worker, granted[i]);
    free(granted);
    read_letters(worker, letters, letter_count);
    if (drain && !worker->draining) {
        worker->draining = true;
        sj_front_quiesce(worker->front);
    }
    if (abort_all)
        begin_ending(worker);
}

// ---- the loop -------------------------------------------------------------------------------------------------------------------

static void publish_gauges(sj_worker *worker) {
    sj_upstream_stats stats = sj_upstream_read(worker->upstream);
    sj_metrics_set_upstream(worker->metrics, stats.connections_opened, stats.connections_reused,
                            stats.running);
    sj_metrics_set_clients(worker->metrics, sj_front_connections(worker->front));
    sj_metrics_set_log_dropped(worker->metrics, sj_log_dropped(worker->log));
}

// After a wave of exchanges the allocator would keep their memory for good: 2,000 streams left 68 MB behind. It takes about 0.4 ms per MB, so it
// is done when little runs.
static void give_memory_back(sj_worker *worker) {
    if (worker->exchange_peak >= WAVE && worker->exchange_count <= CALM) {
        (void)malloc_trim(0);
        worker->exchange_peak = 0;
    }
    if (worker->exchange_count > worker->exchange_peak)
        worker->exchange_peak = worker->exchange_count;
}

static void on_tick(uv_timer_t *tick) {
    sj_worker *worker = tick->data;
    publish_gauges(worker);
    give_memory_back(worker);
    (void)sj_log_flush(worker->log);
}

static void on_flush(uv_prepare_t *prepare) {
    sj_worker *worker = prepare->data;
    (void)sj_log_flush(worker->log);
    // Draining ends with the last exchange.
    if (worker->draining && worker->exchange_count == 0)
        begin_ending(worker);
}

static void begin_ending(sj_worker *worker) {
    if (worker->ending)
        return;
    worker->ending = worker->draining = true;
    if (worker->front)
        sj_exchange_abort_all(worker);
    sj_front_close(&worker->front);
    sj_upstream_close(&worker->upstream);
    uv_close((uv_handle_t *)&worker->tick, NULL);
    uv_close((uv_handle_t *)&worker->flush, NULL);
    uv_unref((uv_handle_t *)&worker->mailbox);
}

static void run(void *argument) {
    sj_worker *worker = argument;
    uv_run(&worker->loop, UV_RUN_DEFAULT);
    assert(worker->exchange_count == 0); // invariant 1
    (void)sj_log_flush(worker->log);
    worker->links.ended(worker->links.context);
}

// ---- life -----------------------------------------------------------------------------------------------------------------------

static bool listen_all(sj_worker *worker, const sj_worker_options *options) {
    for (size_t i = 0; i < options->listen_count; i++)
        if (!sj_front_listen(worker->front, options->listen_fds[i]))
            return false;
    return true;
}

static void destroy(sj_worker *worker) {
    sj_setup_unref(&worker->setup);
    sj_setup_unref(&worker->new_setup);
    sj_log_free(&worker->log);
    sj_exchange_free_spare(worker);
    free(worker->slots);
    free(worker->sketches);
    free(worker->granted);
    for (size_t i = 0; i < worker->letter_count; i++)
        sj_tape_unref(&worker->letters[i].tape);
    free(worker->letters);
    uv_mutex_destroy(&worker->mutex);
    free(worker);
}

sj_worker *sj_worker_start(const sj_worker_options *options) {
    sj_worker *worker = calloc(1, sizeof *worker);
    if (!worker)
        return NULL;
    const sj_config *config = sj_setup_config(options->setup);
    worker->index = options->index;
    worker->connections = options->connections;
    sj_front_limits limits = front_limits(worker, config);
    worker->links = options->links;
    worker->setup = sj_setup_ref(options->setup);
    worker->metrics = sj_registry_shard(options->registry, (int)options->index);
    worker->log = sj_log_new(config->log_format, config->log_level);
    sj_rng_seed(&worker->rng, options->seed + options->index);
    uv_mutex_init(&worker->mutex);
    uv_loop_init(&worker->loop);
    uv_async_init(&worker->loop, &worker->mailbox, on_mail);
    uv_timer_init(&worker->loop, &worker->tick);
    uv_prepare_init(&worker->loop, &worker->flush);
    worker->mailbox.data = worker->tick.data = worker->flush.data = worker;
    uv_timer_start(&worker->tick, on_tick, TICK_MS, TICK_MS);
    // Started before the front's own, so that libuv runs it after that one: what the turn logged leaves before the loop sleeps.
    uv_prepare_start(&worker->flush, on_flush);
    worker->upstream = sj_upstream_new(&worker->loop);
    worker->front = sj_front_new(&worker->loop, &limits, &sj_exchange_handlers, worker);
    bool ok = worker->log && worker->upstream && worker->front && listen_all(worker, options);
    // Blocked in the worker, so that the main thread gets every signal.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    ok = ok && uv_thread_create(&worker->thread, run, worker) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (ok)
        return worker;
    begin_ending(worker);
    uv_close((uv_handle_t *)&worker->mailbox, NULL);
    uv_run(&worker->loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&worker->loop);
    destroy(worker);
    return NULL;
}

void sj_worker_join(sj_worker **slot) {
    sj_worker *worker = *slot;
    if (!worker)
        return;
    *slot = NULL;
    uv_thread_join(&worker->thread);
    uv_close((uv_handle_t *)&worker->mailbox, NULL);
    uv_run(&worker->loop, UV_RUN_DEFAULT);
    int left = uv_loop_close(&worker->loop);
    assert(left == 0);
    (void)left;
    destroy(worker);
}
