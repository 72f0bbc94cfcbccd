#include "server.h"

#include "body.h"
#include "house.h"
#include "listener.h"
#include "upstream.h"
#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

struct sj_server {
    pthread_mutex_t mutex; // of setup and workers; held while either changes
    sj_setup *setup;
    uint64_t seed;
    sj_registry *registry;
    sj_house *house;
    sj_worker **workers;
    int worker_count;
    sj_config *first_config; // listeners and workers are as it says until a restart
    int *fds, *ports;
    size_t fd_count;
    int admin_fd, admin_port;
    atomic_int connections; // clients', over all workers
    atomic_bool draining, hurried, drained;
    int news[2]; // a pipe: 'e' a worker has ended, 'h' hurry
};

static int64_t clock_ms(void) {
    return (int64_t)(uv_hrtime() / 1000000);
}

static uint64_t random_seed(const sj_config *config) {
    uint64_t seed = config->seed;
    if (!config->has_seed && uv_random(NULL, NULL, &seed, sizeof seed, 0, NULL) != 0)
        seed = uv_hrtime();
    return seed;
}

// ---- links of the workers -------------------------------------------------------------------------------------------------------

static void grant_locked(sj_server *server, const sj_waiter *waiter) {
    sj_worker_post_grant(server->workers[waiter->worker], waiter->exchange_id);
}

// The lock, because the first workers may already be at it while the others are being started.
static void grant(void *context, const sj_waiter *waiter) {
    sj_server *server = context;
    pthread_mutex_lock(&server->mutex);
    grant_locked(server, waiter);
    pthread_mutex_unlock(&server->mutex);
}

static void post(void *context, uint32_t worker, const sj_letter *letter) {
    sj_server *server = context;
    pthread_mutex_lock(&server->mutex);
    sj_worker_post_letter(server->workers[worker], letter);
    pthread_mutex_unlock(&server->mutex);
}

static int ask(void *context, const sj_letter *letter) {
    sj_server *server = context;
    int asked = 0;
    pthread_mutex_lock(&server->mutex);
    for (int i = 0; i < server->worker_count; i++) {
        if ((uint32_t)i == letter->from.worker)
            continue;
        sj_worker_post_letter(server->workers[i], letter);
        asked++;
    }
    pthread_mutex_unlock(&server->mutex);
    return asked;
}

static bool draining(void *context) {
    return sj_server_draining(context);
}
static void ended(void *context);

// ---- start ----------------------------------------------------------------------------------------------------------------------

static bool open_listeners(sj_server *server, sj_buffer *error) {
    const sj_config *config = server->first_config;
    server->fds = calloc(config->listen_count, sizeof *server->fds);
    server->ports = calloc(config->listen_count, sizeof *server->ports);
    if (!server->fds || !server->ports)
        return false;
    for (size_t i = 0; i < config->listen_count; i++) {
        server->fds[i] = sj_listener_open(&config->listens[i], &server->ports[i], error);
        if (server->fds[i] < 0)
            return false;
        server->fd_count++;
    }
    if (config->admin_enabled) {
        server->admin_fd = sj_listener_open(&config->admin, &server->admin_port, error);
        if (server->admin_fd < 0)
            return false;
    }
    return true;
}

static bool wants_mock(const sj_config *config) {
    for (size_t i = 0; i < config->upstream_count; i++)
        if (config->upstreams[i].embedded)
            return true;
    return false;
}

static bool start_house(sj_server *server, sj_buffer *error) {
    const sj_config *config = server->first_config;
    sj_house_options options = {
        .server = server,
        .registry = server->registry,
        .admin_fd = server->admin_fd,
        .mock = wants_mock(config),
        .log_format = config->log_format,
        .log_level = config->log_level,
    };
    server->house = sj_house_start(&options, error);
    return server->house != NULL;
}

static bool start_workers(sj_server *server) {
    bool ok = true;
    pthread_mutex_lock(&server->mutex);
    for (int i = 0; ok && i < server->first_config->workers; i++) {
        sj_worker_options options = {
            .index = (uint32_t)i,
            .setup = server->setup,
            .registry = server->registry,
            .listen_fds = server->fds,
            .listen_count = server->fd_count,
            .connections = &server->connections,
            .seed = server->seed + 1,
            .links = {.context = server,
                      .grant = grant,
                      .post = post,
                      .ask = ask,
                      .draining = draining,
                      .ended = ended},
        };
        server->workers[i] = sj_worker_start(&options);
        ok = server->workers[i] != NULL;
        server->worker_count += ok;
    }
    pthread_mutex_unlock(&server->mutex);
    return ok;
}

static void reserve_labels(sj_server *server) {
    const sj_config *config = sj_setup_config(server->setup);
    for (size_t r = 0; r < config->route_count; r++)
        for (size_t h = 0; h < config->routes[r].hop_count; h++) {
            const sj_hop_config *hop = &config->routes[r].hops[h];
            sj_target *target = sj_setup_target(server->setup, hop->upstream,
                                                sj_slice_of(hop->model ? hop->model : ""), clock_ms());
            if (target && hop->model)
                sj_registry_reserve_target(server->registry, sj_target_name(target));
        }
}

sj_server *sj_server_start(sj_config *config, sj_buffer *error) {
    sj_server *server = calloc(1, sizeof *server);
    if (!server)
        return NULL;
    pthread_mutex_init(&server->mutex, NULL);
    server->admin_fd = server->news[0] = server->news[1] = -1;
    server->first_config = sj_config_ref(config);
    server->seed = random_seed(config);
    sj_body_set_total_max(config->body_memory_bytes);
    server->registry = sj_registry_new(config->workers);
    server->workers = calloc((size_t)config->workers, sizeof *server->workers);
    bool ok = server->registry && server->workers && pipe2(server->news, O_CLOEXEC) == 0 &&
              open_listeners(server, error) && start_house(server, error);
    if (ok)
        server->setup =
            sj_setup_new(config, NULL, sj_house_mock_port(server->house), server->seed, clock_ms());
    if (ok && server->setup)
        reserve_labels(server);
    if (ok && server->setup && start_workers(server) && sj_house_open_admin(server->house))
        return server;
    if (error->n == 0)
        sj_buffer_note(error, "cannot start: out of memory or threads\n");
    sj_server_stop(&server);
    return NULL;
}

int sj_server_port(const sj_server *server) {
    for (size_t i = 0; i < server->fd_count; i++)
        if (server->ports[i])
            return server->ports[i];
    return 0;
}

int sj_server_admin_port(const sj_server *server) {
    return server->admin_port;
}

// ---- reload ---------------------------------------------------------------------------------------------------------------------

// A raised limit lets one of the waiters in, who passes on what else is free.
static void let_in(sj_server *server, sj_admission *slots) {
    sj_wake wake = {0};
    if (slots)
        sj_admission_next(slots, clock_ms(), &wake);
    if (wake.set)
        grant_locked(server, &wake.waiter);
}

static bool swap_setup(sj_server *server, sj_config *config) {
    if (sj_server_draining(server)) // the workers may be gone at any moment
        return false;
    sj_setup *setup =
        sj_setup_new(config, server->setup, sj_house_mock_port(server->house), server->seed, clock_ms());
    if (!setup)
        return false;
    sj_setup_unref(&server->setup);
    server->setup = setup;
    sj_body_set_total_max(config->body_memory_bytes);
    reserve_labels(server);
    for (int i = 0; i < server->worker_count; i++)
        sj_worker_post_setup(server->workers[i], setup);
    for (size_t i = 0; i < config->upstream_count; i++)
        let_in(server, sj_setup_admission(setup, i));
    for (size_t i = 0; i < config->route_count; i++)
        let_in(server, sj_setup_route_slots(setup, &config->routes[i]));
    return true;
}

bool sj_server_reload(sj_server *server, sj_config *config) {
    pthread_mutex_lock(&server->mutex);
    bool ok = swap_setup(server, config);
    pthread_mutex_unlock(&server->mutex);
    sj_registry_reloaded(server->registry, ok);
    return ok;
}

bool sj_server_reload_file(sj_server *server, sj_buffer *message) {
    sj_config *config = NULL;
    sj_buffer error = sj_buffer_with_max(64 * 1024), warnings = sj_buffer_with_max(64 * 1024);
    bool ok = sj_config_load(server->first_config->path, &config, &error, &warnings);
    if (ok && wants_mock(config) && sj_house_mock_port(server->house) == 0) {
        ok = false;
        sj_buffer_note(
            &error, "base_url = \"mock\" needs a restart: the embedded upstream is started at start only\n");
    }
    if (ok && !sj_server_reload(server, config)) {
        ok = false;
        sj_buffer_note(message, "not reloaded: out of memory, or shutting down\n");
    } else if (ok) {
        sj_buffer restart = sj_buffer_with_max(1024);
        sj_config_needs_restart(server->first_config, config, &restart);
        sj_buffer_note(message, "configuration reloaded");
        if (restart.n)
            sj_buffer_note(message, "; needs a restart to take effect: %.*s", (int)restart.n, restart.p);
        sj_buffer_note(message, "\n");
        sj_buffer_note(message, "%.*s", (int)warnings.n, warnings.p);
        sj_buffer_free(&restart);
    } else {
        sj_registry_reloaded(server->registry, false);
        sj_buffer_note(message, "%.*s", (int)error.n, error.p);
    }
    sj_config_unref(&config);
    sj_buffer_free(&error);
    sj_buffer_free(&warnings);
    return ok;
}

// ---- stop -----------------------------------------------------------------------------------------------------------------------

static void ended(void *context) {
    sj_server *server = context;
    while (write(server->news[1], "e", 1) < 0 && errno == EINTR)
        ;
}

// Each worker says when it has ended; a second signal, or the drain's time-out, makes them cut what still runs.
static void wait_for_workers(sj_server *server, int64_t timeout_ms) {
    int64_t until = clock_ms() + timeout_ms;
    bool cut = false;
    for (int left = server->worker_count; left > 0;) {
        int64_t remaining = until - clock_ms();
        struct pollfd news = {.fd = server->news[0], .events = POLLIN};
        int n = poll(&news, 1, cut ? -1 : remaining > 0 ? (int)remaining : 0);
        char word = 0;
        if (n > 0 && read(server->news[0], &word, 1) == 1 && word == 'e')
            left--;
        if (!cut && (word == 'h' || clock_ms() >= until)) {
            cut = true;
            for (int i = 0; i < server->worker_count; i++)
                sj_worker_post_abort(server->workers[i]);
        }
    }
}

static int64_t drain_timeout(sj_server *server) {
    return server->setup ? sj_setup_config(server->setup)->drain_timeout_ms : 0;
}

void sj_server_drain(sj_server *server) {
    if (atomic_exchange(&server->drained, true))
        return;
    pthread_mutex_lock(&server->mutex); // a reload under way comes to its end first
    atomic_store(&server->draining, true);
    pthread_mutex_unlock(&server->mutex);
    for (int i = 0; i < server->worker_count; i++)
        sj_worker_post_drain(server->workers[i]);
    wait_for_workers(server, drain_timeout(server));
}

void sj_server_stop(sj_server **slot) {
    sj_server *server = *slot;
    if (!server)
        return;
    *slot = NULL;
    sj_server_drain(server);
    // The admin listener stays up to the last, so that readyz and metrics tell of the drain.
    for (int i = 0; i < server->worker_count; i++)
        sj_worker_join(&server->workers[i]);
    sj_house_stop(&server->house);
    for (size_t i = 0; i < server->fd_count; i++)
        sj_listener_close(&server->first_config->listens[i], server->fds[i]);
    if (server->admin_fd >= 0)
        sj_listener_close(&server->first_config->admin, server->admin_fd);
    sj_setup_unref(&server->setup);
    sj_registry_free(&server->registry);
    sj_config_unref(&server->first_config);
    for (int i = 0; i < 2; i++)
        if (server->news[i] >= 0)
            close(server->news[i]);
    free(server->workers);
    free(server->fds);
    free(server->ports);
    pthread_mutex_destroy(&server->mutex);
    free(server);
}

void sj_server_hurry(sj_server *server) {
    if (atomic_exchange(&server->hurried, true)) // once: the pipe takes so much and no more
        return;
    ssize_t n = write(server->news[1], "h", 1);
    (void)n;
}

bool sj_server_draining(const sj_server *server) {
    return atomic_load(&server->draining);
}

// ---- for the admin listener -----------------------------------------------------------------------------------------------------

void sj_server_view_take(sj_server *server, sj_server_view *view) {
    pthread_mutex_lock(&server->mutex);
    sj_setup *setup = server->setup ? sj_setup_ref(server->setup) : NULL;
    pthread_mutex_unlock(&server->mutex);
    *view = (sj_server_view){.draining = sj_server_draining(server), .now_ms = clock_ms()};
    if (!setup)
        return;
    view->setup = setup;
    view->config = sj_config_ref(((sj_config *)(uintptr_t)sj_setup_config(setup)));
    sj_target_list list = sj_setup_targets(setup);
    view->targets = list.targets;
    view->target_count = list.count;
    view->global = sj_setup_global(setup);
    const char **names = calloc(view->config->upstream_count, sizeof *names);
    sj_admission **admissions = calloc(view->config->upstream_count, sizeof *admissions);
    sj_keys **keys = calloc(view->config->upstream_count, sizeof *keys);
    if (names && admissions && keys)
        view->upstream_count = view->config->upstream_count;
    for (size_t i = 0; i < view->upstream_count; i++) {
        names[i] = view->config->upstreams[i].name;
        admissions[i] = sj_setup_admission(setup, i);
        keys[i] = sj_setup_keys(setup, i);
    }
    view->keys = keys;
    view->upstream_names = names;
    view->admissions = admissions;
}

void sj_server_view_release(sj_server_view *view) {
    sj_target_list list = {.targets = (sj_target **)(uintptr_t)view->targets, .count = view->target_count};
    sj_target_list_free(&list);
    free((void *)(uintptr_t)view->upstream_names);
    free((void *)(uintptr_t)view->admissions);
    free((void *)(uintptr_t)view->keys);
    sj_config_unref(&view->config);
    sj_setup_unref(&view->setup);
    *view = (sj_server_view){0};
}
