// The running proxy: listeners, workers, targets, admin listener. Started and stopped by one thread (main, or the demo's).
#ifndef SJ_SERVER_H
#define SJ_SERVER_H

#include "config.h"
#include "keys.h"

typedef struct sj_server sj_server;

// Takes its own reference of config. Returns when it is listening. NULL: *error says what is wrong and what to do (port in use ...).
sj_server *sj_server_start(sj_config *config, sj_buffer *error);
int sj_server_port(const sj_server *server);       // of the first TCP listener, 0 none
int sj_server_admin_port(const sj_server *server); // 0 off
// Swaps the configuration; targets and upstreams of the same name, base URL and model keep their state. Any thread. False: out of memory, or draining.
__attribute__((warn_unused_result)) bool sj_server_reload(sj_server *server, sj_config *config);
// The same from the file it was started with. False: the old configuration stays in force and *message says what is wrong, where, and what to do.
__attribute__((warn_unused_result)) bool sj_server_reload_file(sj_server *server, sj_buffer *message);
// readyz turns 503 and new work is refused; returns when running exchanges have finished, at the latest after drain_timeout.
void sj_server_drain(sj_server *server);
// Ends a running drain at once (second signal). Async-signal-safe; not after sj_server_stop.
void sj_server_hurry(sj_server *server);
// Drains if that has not been done, then everything is joined and freed.
void sj_server_stop(sj_server **server);

// For the admin listener. A snapshot under the server's own lock.
typedef struct sj_server_view {
    bool draining;
    sj_target *const *targets; // every target that exists; referenced
    size_t target_count;
    const char *const *upstream_names;
    sj_admission *const *admissions; // by upstream
    sj_keys *const *keys; // by upstream: of those that have several, else NULL; NULL: of none
    size_t upstream_count;
    sj_global_breaker *global;
    sj_config *config; // referenced
    struct sj_setup *setup; // referenced; what the rest borrows from
    int64_t now_ms;    // the clock that targets are judged by
} sj_server_view;
void sj_server_view_take(sj_server *server, sj_server_view *view);
void sj_server_view_release(sj_server_view *view);
bool sj_server_draining(const sj_server *server);

#endif
