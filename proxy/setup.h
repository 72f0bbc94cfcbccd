// A configuration brought to life: for each upstream its slots and its targets, and what is needed of it for every request worked out once.
// Immutable after creation but for targets that clients' models bring into being. Reference counted: a reload makes a new setup that takes over the
// state of upstreams of the same name and base URL (and so of their targets), and running exchanges finish on the one they began with.
// Thread-safe.
#ifndef SJ_SETUP_H
#define SJ_SETUP_H

#include "answer_store.h"
#include "config.h"
#include "keys.h"

typedef struct sj_setup sj_setup;

// previous: NULL at start; its upstreams' state is taken over and its parameters are replaced in place. mock_port: of the embedded upstream, 0 when
// none is wanted. NULL: out of memory.
sj_setup *sj_setup_new(sj_config *config, sj_setup *previous, int mock_port, uint64_t seed, int64_t now_ms);
sj_setup *sj_setup_ref(sj_setup *setup);
void sj_setup_unref(sj_setup **setup); // NULL-safe

const sj_config *sj_setup_config(const sj_setup *setup);
sj_global_breaker *sj_setup_global(const sj_setup *setup);
sj_admission *sj_setup_admission(const sj_setup *setup, size_t upstream);
const char *sj_setup_origin(const sj_setup *setup, size_t upstream); // "https://host[:port]"; of the embedded one where it listens now

// Of a route, by its place in the configuration: which target its exchanges start at.
// For exchanges of a route that has a max_concurrent of its own; else NULL. Borrowed.
sj_admission *sj_setup_route_slots(const sj_setup *setup, const sj_route_config *route);
sj_sticky *sj_setup_sticky(const sj_setup *setup, const sj_route_config *route);

// The target of a model at an upstream, made when it is first asked for; at most SJ_SETUP_MODELS_MAX per upstream, then one shared "other".
// model empty: the upstream itself. Borrowed: lives as long as the setup.
enum { SJ_SETUP_MODELS_MAX = 256 };
sj_target *sj_setup_target(sj_setup *setup, size_t upstream, sj_slice model, int64_t now_ms);

// Where answers are kept for the day nothing answers; NULL while no route has stale_if_error. Survives reloads. Borrowed.
sj_answer_store *sj_setup_store(const sj_setup *setup);

// Hash of a credential, for hint gates, fairness and coalescing; keyed by a secret of this process.
uint64_t sj_setup_hash(const sj_setup *setup, sj_slice credential);
// Of the upstream's own key, worked out once; 0 when it has none.
uint64_t sj_setup_key_hash(const sj_setup *setup, size_t upstream);
// What is known of its keys when it has several, and their hashes; else NULL. Borrowed.
sj_keys *sj_setup_keys(const sj_setup *setup, size_t upstream);
const uint64_t *sj_setup_key_hashes(const sj_setup *setup, size_t upstream);
// Scheme, host and port are the same.
bool sj_setup_same_origin(const sj_setup *setup, size_t a, size_t b);

// Every target that exists, for the admin listener: referenced, in a list to be given back with sj_setup_targets_free.
typedef struct sj_target_list {
    sj_target **targets;
    size_t count;
} sj_target_list;
sj_target_list sj_setup_targets(sj_setup *setup);
void sj_target_list_free(sj_target_list *list);

#endif
