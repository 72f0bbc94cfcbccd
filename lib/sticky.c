#include "sticky.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct sj_sticky {
    sj_sticky_rules rules;
    atomic_size_t hop; // 0: nothing is held. Written under the mutex
    pthread_mutex_t mutex;
    int64_t since_ms;
    int failures; // in a row, on the held hop
};

sj_sticky *sj_sticky_new(const sj_sticky_rules *rules) {
    sj_sticky *sticky = calloc(1, sizeof *sticky);
    if (!sticky)
        return NULL;
    sticky->rules = *rules;
    atomic_init(&sticky->hop, 0);
    pthread_mutex_init(&sticky->mutex, NULL);
    return sticky;
}

void sj_sticky_free(sj_sticky **slot) {
    sj_sticky *sticky = *slot;
    *slot = NULL;
    if (!sticky)
        return;
    pthread_mutex_destroy(&sticky->mutex);
    free(sticky);
}

static size_t held(const sj_sticky *sticky) {
    return atomic_load_explicit(&sticky->hop, memory_order_relaxed);
}

static void hold(sj_sticky *sticky, size_t hop, int64_t now_ms) {
    atomic_store_explicit(&sticky->hop, hop, memory_order_relaxed);
    sticky->since_ms = now_ms;
    sticky->failures = 0;
}

bool sj_sticky_holds(sj_sticky *sticky) {
    return held(sticky) != 0;
}

size_t sj_sticky_first(sj_sticky *sticky, bool strong_closed, int64_t now_ms) {
    if (held(sticky) == 0)
        return 0;
    pthread_mutex_lock(&sticky->mutex);
    if (strong_closed && now_ms - sticky->since_ms >= sticky->rules.min_ms)
        hold(sticky, 0, now_ms);
    size_t hop = held(sticky);
    pthread_mutex_unlock(&sticky->mutex);
    return hop;
}

void sj_sticky_answered(sj_sticky *sticky, size_t hop, bool strong_shut, int64_t now_ms) {
    if (hop == 0 || (held(sticky) == 0 && !strong_shut))
        return;
    pthread_mutex_lock(&sticky->mutex);
    if (held(sticky) == hop)
        sticky->failures = 0;
    else if (strong_shut)
        hold(sticky, hop, now_ms);
    pthread_mutex_unlock(&sticky->mutex);
}

void sj_sticky_failed(sj_sticky *sticky, size_t hop) {
    if (hop == 0 || held(sticky) != hop)
        return;
    pthread_mutex_lock(&sticky->mutex);
    if (held(sticky) == hop && ++sticky->failures >= sticky->rules.failures)
        hold(sticky, 0, 0);
    pthread_mutex_unlock(&sticky->mutex);
}
