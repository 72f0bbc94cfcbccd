#include "setup.h"

#include "setup_plan.h"

#include "key_ring.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAP_SIZE = 1024 }; // open addressing; never more than a third full

// The state of one upstream: shared by the setups that know it.
typedef struct upstream_state {
    atomic_int refs;
    char *name, *base_url;
    sj_admission *admission;
    pthread_mutex_t mutex; // of what follows
    sj_target *map[MAP_SIZE];
    sj_target *other;
    size_t models;
} upstream_state;

// The slots of one route: shared by the setups that know it.
typedef struct route_state {
    atomic_int refs;
    char *path, *model;
    sj_admission *slots;
} route_state;

struct sj_setup {
    atomic_int refs;
    sj_config *config;
    sj_global_breaker *global;
    atomic_int *global_refs; // shared with the setups before and after
    upstream_state **upstreams;
    uint64_t *origin_hashes, *key_hashes;
    sj_key_ring **rings; // of upstreams with several keys
    sj_sticky **stickies; // by route
    sj_answer_store *store; // NULL: no route wants it
    route_state **routes; // those with a bound of their own
    char mock_origin[40];
    uint64_t seed;
};

// FNV-1a from a secret start, finished so that every bit counts. It tells credentials apart; it need not resist somebody who knows the seed.
static uint64_t hash_bytes(uint64_t seed, sj_slice bytes) {
    uint64_t h = 0xcbf29ce484222325u ^ seed;
    for (size_t i = 0; i < bytes.n; i++)
        h = (h ^ (unsigned char)bytes.p[i]) * 0x100000001b3u;
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdu;
    return h ^ (h >> 33);
}

static void upstream_unref(upstream_state *state) {
    if (!state || atomic_fetch_sub(&state->refs, 1) != 1)
        return;
    for (size_t i = 0; i < MAP_SIZE; i++)
        sj_target_unref(&state->map[i]);
    sj_target_unref(&state->other);
    sj_admission_free(&state->admission);
    pthread_mutex_destroy(&state->mutex);
    free(state->name);
    free(state->base_url);
    free(state);
}

static upstream_state *upstream_new(const sj_upstream_config *config) {
    upstream_state *state = calloc(1, sizeof *state);
    if (!state)
        return NULL;
    atomic_init(&state->refs, 1);
    pthread_mutex_init(&state->mutex, NULL);
    state->name = strdup(config->name);
    state->base_url = strdup(config->base_url);
    sj_admission_rules rules = sj_setup_admission_rules(config);
    state->admission = sj_admission_new(&rules);
    if (!state->name || !state->base_url || !state->admission) {
        upstream_unref(state);
        return NULL;
    }
    return state;
}

static void apply_rules(upstream_state *state, const sj_upstream_config *config) {
    sj_admission_rules rules = sj_setup_admission_rules(config);
    sj_admission_set_rules(state->admission, &rules);
    pthread_mutex_lock(&state->mutex);
    for (size_t i = 0; i < MAP_SIZE; i++)
        if (state->map[i])
            sj_target_set_rules(state->map[i], &config->rules);
    if (state->other)
        sj_target_set_rules(state->other, &config->rules);
    pthread_mutex_unlock(&state->mutex);
}

static upstream_state *take_over(sj_setup *previous, const sj_upstream_config *config) {
    for (size_t i = 0; previous && i < previous->config->upstream_count; i++) {
        upstream_state *state = previous->upstreams[i];
        if (strcmp(state->name, config->name) == 0 && strcmp(state->base_url, config->base_url) == 0) {
            atomic_fetch_add(&state->refs, 1);
            apply_rules(state, config);
            return state;
        }
    }
    return upstream_new(config);
}

static void route_unref(route_state *state) {
    if (!state || atomic_fetch_sub(&state->refs, 1) != 1)
        return;
    sj_admission_free(&state->slots);
    free(state->path);
    free(state->model);
    free(state);
}

static route_state *route_new(const sj_route_config *config, const sj_admission_rules *rules) {
    route_state *state = calloc(1, sizeof *state);
    if (!state)
        return NULL;
    atomic_init(&state->refs, 1);
    state->path = strdup(config->path);
    state->model = strdup(config->model);
    state->slots = sj_admission_new(rules);
    if (!state->path || !state->model || !state->slots) {
        route_unref(state);
        return NULL;
    }
    return state;
}

// Its queue is as its first upstream's.
static route_state *take_over_route(const sj_setup *setup, const sj_setup *previous,
                                    const sj_route_config *config) {
    const sj_upstream_config *upstream = &setup->config->upstreams[config->hops[0].upstream];
    sj_admission_rules rules = upstream->admission;
    rules.max_concurrent = config->max_concurrent;
    rules.standing_queue = upstream->standing_queue;
    for (size_t i = 0; previous && i < previous->config->route_count; i++) {
        route_state *state = previous->routes[i];
        if (state && strcmp(state->path, config->path) == 0 && strcmp(state->model, config->model) == 0) {
            atomic_fetch_add(&state->refs, 1);
            sj_admission_set_rules(state->slots, &rules);
            return state;
        }
    }
    return route_new(config, &rules);
}

static bool make_routes(sj_setup *setup, const sj_setup *previous) {
    const sj_config *config = setup->config;
    setup->routes = calloc(config->route_count, sizeof *setup->routes);
    for (size_t i = 0; setup->routes && i < config->route_count; i++) {
        const sj_route_config *route = &config->routes[i];
        if (route->max_concurrent > 0 && !(setup->routes[i] = take_over_route(setup, previous, route)))
            return false;
    }
    return setup->routes != NULL;
}

sj_admission *sj_setup_route_slots(const sj_setup *setup, const sj_route_config *route) {
    const route_state *state = setup->routes[route - setup->config->routes];
    return state ? state->slots : NULL;
}

// Targets keep pointing at the global breaker, so it exists and stays the same one even while it is switched off.
static bool take_global(sj_setup *setup, sj_setup *previous, int64_t now_ms) {
    sj_breaker_rules rules = setup->config->global_breaker;
    rules.enabled = setup->config->global_breaker_enabled;
    if (previous) {
        setup->global = previous->global;
        setup->global_refs = previous->global_refs;
        atomic_fetch_add(setup->global_refs, 1);
        sj_global_breaker_set_rules(setup->global, &rules);
        return true;
    }
    setup->global = sj_global_breaker_new(&rules, setup->seed, now_ms);
    setup->global_refs = malloc(sizeof *setup->global_refs);
    if (setup->global_refs)
        atomic_init(setup->global_refs, 1);
    return setup->global && setup->global_refs;
}

// What is in it outlives a reload, but not one after which no route wants it.
static bool take_store(sj_setup *setup, const sj_setup *previous) {
    const sj_config *config = setup->config;
    bool wanted = false;
    for (size_t i = 0; i < config->route_count; i++)
        wanted |= config->routes[i].stale_if_error_ms > 0;
    if (!wanted)
        return true;
    if (previous && previous->store) {
        setup->store = sj_answer_store_ref(previous->store);
        sj_answer_store_set_max(setup->store, config->store_max_bytes);
    } else
        setup->store = sj_answer_store_new(config->store_max_bytes);
    return setup->store != NULL;
}

sj_answer_store *sj_setup_store(const sj_setup *setup) {
    return setup->store;
}

// A reload starts them anew: the chain may be another one.
static bool make_stickies(sj_setup *setup) {
    const sj_config *config = setup->config;
    sj_sticky_rules rules = {.min_ms = config->sticky_min_ms, .failures = config->sticky_failures};
    for (size_t i = 0; setup->stickies && i < config->route_count; i++)
        if (!(setup->stickies[i] = sj_sticky_new(&rules)))
            return false;
    return setup->stickies != NULL;
}

sj_sticky *sj_setup_sticky(const sj_setup *setup, const sj_route_config *route) {
    return setup->stickies[route - setup->config->routes];
}

static sj_key_ring *ring_before(const sj_setup *previous, const sj_upstream_config *config) {
    for (size_t i = 0; previous && i < previous->config->upstream_count; i++) {
        const sj_upstream_config *upstream = &previous->config->upstreams[i];
        if (strcmp(upstream->name, config->name) == 0 && strcmp(upstream->base_url, config->base_url) == 0)
            return previous->rings[i];
    }
    return NULL;
}

static bool take_keys(sj_setup *setup, const sj_setup *previous, size_t upstream) {
    const sj_upstream_config *config = &setup->config->upstreams[upstream];
    uint64_t hashes[SJ_KEYS_MAX];
    size_t count = config->api_key_count < SJ_KEYS_MAX ? config->api_key_count : SJ_KEYS_MAX;
    for (size_t i = 0; i < count; i++)
        hashes[i] = sj_setup_hash(setup, sj_slice_of(config->api_keys[i]));
    if (count > 0)
        setup->key_hashes[upstream] = hashes[0];
    if (count > 1)
        setup->rings[upstream] = sj_key_ring_new(hashes, count, ring_before(previous, config));
    return count <= 1 || setup->rings[upstream];
}

sj_setup *sj_setup_new(sj_config *config, sj_setup *previous, int mock_port, uint64_t seed, int64_t now_ms) {
    size_t n = config->upstream_count;
    sj_setup *setup = calloc(1, sizeof *setup);
    if (!setup)
        return NULL;
    atomic_init(&setup->refs, 1);
    setup->config = sj_config_ref(config);
    setup->seed = seed;
    (void)snprintf(setup->mock_origin, sizeof setup->mock_origin, "http://127.0.0.1:%d", mock_port);
    setup->upstreams = calloc(n, sizeof *setup->upstreams);
    setup->origin_hashes = calloc(n, sizeof *setup->origin_hashes);
    setup->key_hashes = calloc(n, sizeof *setup->key_hashes);
    setup->rings = calloc(n, sizeof *setup->rings);
    setup->stickies = calloc(config->route_count, sizeof *setup->stickies);
    bool ok = setup->upstreams && setup->origin_hashes && setup->key_hashes && setup->rings &&
              make_stickies(setup) && make_routes(setup, previous) && take_store(setup, previous) &&
              take_global(setup, previous, now_ms);
    for (size_t i = 0; ok && i < n; i++) {
        const sj_upstream_config *upstream = &config->upstreams[i];
        setup->upstreams[i] = take_over(previous, upstream);
        setup->origin_hashes[i] = hash_bytes(0, sj_slice_of(sj_setup_origin(setup, i)));
        ok = setup->upstreams[i] != NULL && take_keys(setup, previous, i);
    }
    if (!ok)
        sj_setup_unref(&setup);
    return setup;
}

sj_setup *sj_setup_ref(sj_setup *setup) {
    atomic_fetch_add(&setup->refs, 1);
    return setup;
}

void sj_setup_unref(sj_setup **slot) {
    sj_setup *setup = *slot;
    *slot = NULL;
    if (!setup || atomic_fetch_sub(&setup->refs, 1) != 1)
        return;
    for (size_t i = 0; setup->upstreams && i < setup->config->upstream_count; i++)
        upstream_unref(setup->upstreams[i]);
    // Targets hold no reference to the global breaker: it goes with the last setup, when no target is left that could use it.
    if (setup->global_refs && atomic_fetch_sub(setup->global_refs, 1) == 1) {
        sj_global_breaker_free(&setup->global);
        free(setup->global_refs);
    }
    free(setup->upstreams);
    for (size_t i = 0; setup->stickies && i < setup->config->route_count; i++)
        sj_sticky_free(&setup->stickies[i]);
    free(setup->stickies);
    sj_answer_store_free(&setup->store);
    for (size_t i = 0; setup->routes && i < setup->config->route_count; i++)
        route_unref(setup->routes[i]);
    free(setup->routes);
    free(setup->origin_hashes);
    free(setup->key_hashes);
    for (size_t i = 0; setup->rings && i < setup->config->upstream_count; i++)
        sj_key_ring_unref(&setup->rings[i]);
    free(setup->rings);
    sj_config_unref(&setup->config);
    free(setup);
}

const sj_config *sj_setup_config(const sj_setup *setup) {
    return setup->config;
}
sj_global_breaker *sj_setup_global(const sj_setup *setup) {
    return setup->global;
}
sj_admission *sj_setup_admission(const sj_setup *setup, size_t upstream) {
    return setup->upstreams[upstream]->admission;
}

const char *sj_setup_origin(const sj_setup *setup, size_t upstream) {
    const sj_upstream_config *config = &setup->config->upstreams[upstream];
    return config->embedded ? setup->mock_origin : config->origin;
}

uint64_t sj_setup_hash(const sj_setup *setup, sj_slice credential) {
    return hash_bytes(setup->seed, credential);
}
uint64_t sj_setup_key_hash(const sj_setup *setup, size_t upstream) {
    return setup->key_hashes[upstream];
}
sj_keys *sj_setup_keys(const sj_setup *setup, size_t upstream) {
    return setup->rings[upstream] ? sj_key_ring_keys(setup->rings[upstream]) : NULL;
}
const uint64_t *sj_setup_key_hashes(const sj_setup *setup, size_t upstream) {
    return setup->rings[upstream] ? sj_key_ring_credentials(setup->rings[upstream]) : NULL;
}
bool sj_setup_same_origin(const sj_setup *setup, size_t a, size_t b) {
    return setup->origin_hashes[a] == setup->origin_hashes[b];
}

// ---- targets --------------------------------------------------------------------------------------------------------------------

static sj_slice model_of(const upstream_state *state, const sj_target *target) {
    const char *name = sj_target_name(target) + strlen(state->name);
    return sj_slice_of(*name == '/' ? name + 1 : name);
}

static sj_target *make_target(sj_setup *setup, size_t upstream, sj_slice model, int64_t now_ms) {
    upstream_state *state = setup->upstreams[upstream];
    char name[512];
    (void)snprintf(name, sizeof name, "%s%s%.*s", state->name, model.n ? "/" : "", (int)model.n,
                   model.p ? model.p : "");
    uint64_t seed = hash_bytes(setup->seed, sj_slice_of(name));
    return sj_target_new(name, setup->origin_hashes[upstream], &setup->config->upstreams[upstream].rules,
                         state->admission, setup->global, seed, now_ms);
}

static sj_target *find_or_make(sj_setup *setup, size_t upstream, sj_slice model, int64_t now_ms) {
    upstream_state *state = setup->upstreams[upstream];
    size_t at = hash_bytes(0, model) % MAP_SIZE;
    for (; state->map[at]; at = (at + 1) % MAP_SIZE)
        if (sj_slice_equal(model_of(state, state->map[at]), model))
            return state->map[at];
    if (state->models >= SJ_SETUP_MODELS_MAX) {
        if (!state->other)
            state->other = make_target(setup, upstream, SJ_SLICE("(other)"), now_ms);
        return state->other;
    }
    sj_target *target = make_target(setup, upstream, model, now_ms);
    if (target) {
        state->map[at] = target;
        state->models++;
    }
    return target;
}

sj_target *sj_setup_target(sj_setup *setup, size_t upstream, sj_slice model, int64_t now_ms) {
    upstream_state *state = setup->upstreams[upstream];
    pthread_mutex_lock(&state->mutex);
    sj_target *target = find_or_make(setup, upstream, model, now_ms);
    pthread_mutex_unlock(&state->mutex);
    return target;
}

static size_t count_targets(const upstream_state *state) {
    size_t count = state->other != NULL;
    for (size_t i = 0; i < MAP_SIZE; i++)
        count += state->map[i] != NULL;
    return count;
}

static bool list_targets(upstream_state *state, sj_target_list *list) {
    sj_target **grown = realloc(list->targets, (list->count + count_targets(state) + 1) * sizeof *grown);
    if (!grown)
        return false;
    list->targets = grown;
    for (size_t i = 0; i < MAP_SIZE; i++)
        if (state->map[i])
            list->targets[list->count++] = sj_target_ref(state->map[i]);
    if (state->other)
        list->targets[list->count++] = sj_target_ref(state->other);
    return true;
}

sj_target_list sj_setup_targets(sj_setup *setup) {
    sj_target_list list = {0};
    for (size_t i = 0; i < setup->config->upstream_count; i++) {
        pthread_mutex_lock(&setup->upstreams[i]->mutex);
        (void)list_targets(setup->upstreams[i], &list);
        pthread_mutex_unlock(&setup->upstreams[i]->mutex);
    }
    return list;
}

void sj_target_list_free(sj_target_list *list) {
    for (size_t i = 0; i < list->count; i++)
        sj_target_unref(&list->targets[i]);
    free(list->targets);
    *list = (sj_target_list){0};
}
