#include "keys.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

struct sj_keys {
    pthread_mutex_t mutex;
    size_t count, present;
    int64_t rests_until_ms[SJ_KEYS_MAX]; // 0: fit
};

sj_keys *sj_keys_new(size_t count) {
    assert(count >= 1 && count <= SJ_KEYS_MAX);
    sj_keys *keys = calloc(1, sizeof *keys);
    if (!keys)
        return NULL;
    pthread_mutex_init(&keys->mutex, NULL);
    keys->count = count;
    return keys;
}

void sj_keys_free(sj_keys **slot) {
    sj_keys *keys = *slot;
    *slot = NULL;
    if (!keys)
        return;
    pthread_mutex_destroy(&keys->mutex);
    free(keys);
}

size_t sj_keys_count(const sj_keys *keys) {
    return keys->count;
}

static bool is_fit(const sj_keys *keys, size_t key, int64_t now_ms) {
    return keys->rests_until_ms[key] <= now_ms;
}

// The next fit one from `from` on; none: the one that is back first.
static size_t next_fit(const sj_keys *keys, size_t from, int64_t now_ms) {
    size_t soonest = from;
    for (size_t i = 0; i < keys->count; i++) {
        size_t key = (from + i) % keys->count;
        if (is_fit(keys, key, now_ms))
            return key;
        if (keys->rests_until_ms[key] < keys->rests_until_ms[soonest])
            soonest = key;
    }
    return soonest;
}

size_t sj_keys_pick(sj_keys *keys, int64_t now_ms) {
    if (keys->count == 1)
        return 0;
    pthread_mutex_lock(&keys->mutex);
    keys->present = next_fit(keys, keys->present, now_ms);
    size_t key = keys->present;
    pthread_mutex_unlock(&keys->mutex);
    return key;
}

bool sj_keys_refused(sj_keys *keys, size_t key, sj_key_trouble trouble, int64_t rest_ms, int64_t now_ms) {
    if (keys->count == 1)
        return false;
    if (rest_ms <= 0)
        rest_ms = trouble == SJ_KEY_DEAD ? SJ_KEYS_REST_MS : SJ_KEYS_PAUSE_MS;
    pthread_mutex_lock(&keys->mutex);
    if (now_ms + rest_ms > keys->rests_until_ms[key])
        keys->rests_until_ms[key] = now_ms + rest_ms;
    // An old answer about a key that has been left already turns nothing.
    if (keys->present == key)
        keys->present = next_fit(keys, (key + 1) % keys->count, now_ms);
    bool another = is_fit(keys, keys->present, now_ms);
    pthread_mutex_unlock(&keys->mutex);
    return another;
}

void sj_keys_accepted(sj_keys *keys, size_t key) {
    if (keys->count == 1)
        return;
    pthread_mutex_lock(&keys->mutex);
    keys->rests_until_ms[key] = 0;
    pthread_mutex_unlock(&keys->mutex);
}

size_t sj_keys_resting(sj_keys *keys, int64_t now_ms) {
    size_t resting = 0;
    pthread_mutex_lock(&keys->mutex);
    for (size_t i = 0; i < keys->count; i++)
        resting += !is_fit(keys, i, now_ms);
    pthread_mutex_unlock(&keys->mutex);
    return resting;
}
