#include "keys.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

typedef struct key_state {
    int64_t rests_until_ms; // 0: fit, and good as far as is known
    int64_t refused_ms; // when the latest refused attempt had been started
    sj_key_trouble trouble;
    uint64_t refusals[SJ_KEY_TROUBLES];
} key_state;

struct sj_keys {
    pthread_mutex_t mutex;
    size_t count, present;
    key_state list[];
};

const char *sj_key_trouble_name(sj_key_trouble trouble) {
    return trouble == SJ_KEY_DEAD ? "dead" : "exhausted";
}

sj_keys *sj_keys_new(size_t count) {
    assert(count >= 1 && count <= SJ_KEYS_MAX);
    sj_keys *keys = calloc(1, sizeof *keys + count * sizeof keys->list[0]);
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

static bool is_fit(const key_state *key, int64_t now_ms) {
    return key->rests_until_ms <= now_ms;
}

static bool is_sooner(const key_state *a, const key_state *b) {
    if (a->trouble != b->trouble)
        return a->trouble == SJ_KEY_EXHAUSTED;
    return a->rests_until_ms < b->rests_until_ms;
}

// The next fit one from `from` on; none: the one that is back first.
static size_t next_fit(const sj_keys *keys, size_t from, int64_t now_ms) {
    size_t soonest = from;
    for (size_t i = 0; i < keys->count; i++) {
        size_t key = (from + i) % keys->count;
        if (is_fit(&keys->list[key], now_ms))
            return key;
        if (is_sooner(&keys->list[key], &keys->list[soonest]))
            soonest = key;
    }
    return soonest;
}

size_t sj_keys_pick(sj_keys *keys, int64_t now_ms) {
    pthread_mutex_lock(&keys->mutex);
    keys->present = next_fit(keys, keys->present, now_ms);
    size_t key = keys->present;
    pthread_mutex_unlock(&keys->mutex);
    return key;
}

static bool has_other(const sj_keys *keys, size_t key, int64_t now_ms) {
    for (size_t i = 0; i < keys->count; i++)
        if (i != key && is_fit(&keys->list[i], now_ms))
            return true;
    return false;
}

bool sj_keys_has_other(sj_keys *keys, size_t key, int64_t now_ms) {
    pthread_mutex_lock(&keys->mutex);
    bool another = has_other(keys, key, now_ms);
    pthread_mutex_unlock(&keys->mutex);
    return another;
}

// A dead key stays dead, whatever lesser trouble an older answer tells of.
static void rest(key_state *key, sj_key_trouble trouble, int64_t until_ms, int64_t now_ms) {
    if (is_fit(key, now_ms) || trouble == SJ_KEY_DEAD)
        key->trouble = trouble;
    if (until_ms > key->rests_until_ms)
        key->rests_until_ms = until_ms;
}

// An old answer about a key that has been left already turns nothing.
static void leave(sj_keys *keys, size_t key, int64_t now_ms) {
    if (keys->present == key)
        keys->present = next_fit(keys, (key + 1) % keys->count, now_ms);
}

sj_key_refusal sj_keys_refused(sj_keys *keys, size_t key, sj_key_trouble trouble, int64_t rest_ms,
                               int64_t started_ms, int64_t now_ms) {
    assert(key < keys->count);
    if (rest_ms <= 0)
        rest_ms = trouble == SJ_KEY_DEAD ? SJ_KEYS_REST_MS : SJ_KEYS_PAUSE_MS;
    pthread_mutex_lock(&keys->mutex);
    key_state *state = &keys->list[key];
    sj_key_refusal refusal = {.newly = is_fit(state, now_ms)};
    rest(state, trouble, now_ms + rest_ms, now_ms);
    state->refusals[trouble]++;
    if (started_ms > state->refused_ms)
        state->refused_ms = started_ms;
    leave(keys, key, now_ms);
    refusal.another = has_other(keys, key, now_ms);
    refusal.rest_ms = state->rests_until_ms - now_ms;
    pthread_mutex_unlock(&keys->mutex);
    return refusal;
}

// Only what starts from now on can disprove it.
void sj_keys_pause(sj_keys *keys, size_t key, int64_t rest_ms, int64_t now_ms) {
    assert(key < keys->count);
    pthread_mutex_lock(&keys->mutex);
    rest(&keys->list[key], SJ_KEY_EXHAUSTED, now_ms + rest_ms, now_ms);
    if (now_ms > keys->list[key].refused_ms)
        keys->list[key].refused_ms = now_ms;
    leave(keys, key, now_ms);
    pthread_mutex_unlock(&keys->mutex);
}

bool sj_keys_accepted(sj_keys *keys, size_t key, int64_t started_ms) {
    assert(key < keys->count);
    pthread_mutex_lock(&keys->mutex);
    key_state *state = &keys->list[key];
    bool back = state->rests_until_ms != 0 && started_ms > state->refused_ms;
    if (back)
        state->rests_until_ms = 0;
    pthread_mutex_unlock(&keys->mutex);
    return back;
}

int64_t sj_keys_back_ms(sj_keys *keys, int64_t now_ms) {
    int64_t back_ms = 0;
    pthread_mutex_lock(&keys->mutex);
    for (size_t i = 0; i < keys->count; i++) {
        const key_state *key = &keys->list[i];
        bool waits = !is_fit(key, now_ms) && key->trouble == SJ_KEY_EXHAUSTED;
        if (waits && (back_ms == 0 || key->rests_until_ms < back_ms))
            back_ms = key->rests_until_ms;
    }
    pthread_mutex_unlock(&keys->mutex);
    return back_ms;
}

void sj_keys_inherit(sj_keys *keys, size_t key, sj_keys *from, size_t from_key) {
    assert(key < keys->count && from_key < from->count && keys != from);
    pthread_mutex_lock(&from->mutex);
    key_state state = from->list[from_key];
    pthread_mutex_unlock(&from->mutex);
    pthread_mutex_lock(&keys->mutex);
    keys->list[key] = state;
    pthread_mutex_unlock(&keys->mutex);
}

sj_key_stats sj_keys_read(sj_keys *keys, size_t key, int64_t now_ms) {
    assert(key < keys->count);
    pthread_mutex_lock(&keys->mutex);
    const key_state *state = &keys->list[key];
    sj_key_stats stats = {
        .present = keys->present == key,
        .resting = !is_fit(state, now_ms),
        .trouble = state->trouble,
        .back_ms = state->rests_until_ms,
    };
    for (int i = 0; i < SJ_KEY_TROUBLES; i++)
        stats.refusals[i] = state->refusals[i];
    pthread_mutex_unlock(&keys->mutex);
    return stats;
}
