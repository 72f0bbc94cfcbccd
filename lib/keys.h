// Several keys of one upstream: which one is used now, and which ones rest because the upstream refused them. Knows keys by their number only.
// Shared by all workers. Thread-safe: one mutex, held for arithmetic only.
#ifndef SJ_KEYS_H
#define SJ_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct sj_keys sj_keys;

enum { SJ_KEYS_MAX = 64, SJ_KEYS_REST_MS = 300 * 1000, SJ_KEYS_PAUSE_MS = 60 * 1000 };

typedef enum sj_key_trouble {
    SJ_KEY_DEAD, // 401, 403: rests long
    SJ_KEY_EXHAUSTED, // quota, 429: rests for what the upstream said, else SJ_KEYS_PAUSE_MS
} sj_key_trouble;

sj_keys *sj_keys_new(size_t count); // 1 .. SJ_KEYS_MAX; NULL: out of memory
void sj_keys_free(sj_keys **keys); // NULL-safe
size_t sj_keys_count(const sj_keys *keys);
// The key to use: the present one unless it rests, then the next that does not; when all rest, the one that is back first.
size_t sj_keys_pick(sj_keys *keys, int64_t now_ms);
// The upstream refused that key. rest_ms: 0 = by the kind of trouble. True: another key is fit to be tried now.
bool sj_keys_refused(sj_keys *keys, size_t key, sj_key_trouble trouble, int64_t rest_ms, int64_t now_ms);
// It was accepted: its rest, if any, is over.
void sj_keys_accepted(sj_keys *keys, size_t key);
size_t sj_keys_resting(sj_keys *keys, int64_t now_ms);

#endif
