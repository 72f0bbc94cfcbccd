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
    SJ_KEY_TROUBLES,
} sj_key_trouble;

const char *sj_key_trouble_name(sj_key_trouble trouble); // "dead", "exhausted"

sj_keys *sj_keys_new(size_t count); // 1 .. SJ_KEYS_MAX; NULL: out of memory
void sj_keys_free(sj_keys **keys); // NULL-safe
size_t sj_keys_count(const sj_keys *keys);

// The key to use: the present one unless it rests, then the next that does not. When all rest, the one that is back first, an exhausted one
// rather than a dead one.
size_t sj_keys_pick(sj_keys *keys, int64_t now_ms);
// Whether a key but this one is fit to be tried.
bool sj_keys_has_other(sj_keys *keys, size_t key, int64_t now_ms);

typedef struct sj_key_refusal {
    bool another;    // another key is fit to be tried now
    bool newly;      // it did not rest before
    int64_t rest_ms; // what is left of its rest
} sj_key_refusal;

// The upstream refused that key, answering an attempt started at started_ms. rest_ms: 0 = by the kind of trouble.
sj_key_refusal sj_keys_refused(sj_keys *keys, size_t key, sj_key_trouble trouble, int64_t rest_ms, int64_t started_ms, int64_t now_ms);
// It was the last for a while: others first. That is no refusal.
void sj_keys_pause(sj_keys *keys, size_t key, int64_t rest_ms, int64_t now_ms);
// An attempt with it, started then, succeeded: what was refused before that counts no more. True: it was not known to be good.
bool sj_keys_accepted(sj_keys *keys, size_t key, int64_t started_ms);
// When the first one that rests and is not dead is back; 0: none such rests.
int64_t sj_keys_back_ms(sj_keys *keys, int64_t now_ms);
// Another set of keys has this one too: what is known of it goes on.
void sj_keys_inherit(sj_keys *keys, size_t key, sj_keys *from, size_t from_key);

// ---- for people -------------------------------------------------------------------------------------------------------------

typedef struct sj_key_stats {
    bool present; // the one in use
    bool resting;
    sj_key_trouble trouble; // why, while it rests
    int64_t back_ms;        // when, while it rests
    uint64_t refusals[SJ_KEY_TROUBLES];
} sj_key_stats;
sj_key_stats sj_keys_read(sj_keys *keys, size_t key, int64_t now_ms);

#endif
