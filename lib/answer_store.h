// Answers kept for the day nothing answers (BEHAVIOUR 11, stale-if-error of RFC 5861 4 for a private application cache). A key is credential,
// path and body, compared whole: an answer never goes to another credential or another question. Least recently used goes first; bounded in bytes,
// keys included. Shared by all workers. Thread-safe: one mutex; stored answers are immutable and reference counted, so nothing is copied under it
// but what is put in.
#ifndef SJ_ANSWER_STORE_H
#define SJ_ANSWER_STORE_H

#include "headers.h"

#include <stdint.h>

typedef struct sj_answer_store sj_answer_store;

typedef struct sj_answer_key {
    uint64_t credential; // hash
    sj_slice path;       // the request target
    sj_slice body;
} sj_answer_key;

typedef struct sj_stored_answer {
    int status;
    sj_headers headers; // as the client may get them
    sj_slice body;      // of a stream: the recorded events
    bool stream;
    int64_t stored_ms;
} sj_stored_answer;

sj_answer_store *sj_answer_store_new(size_t max_bytes); // 0: keeps nothing. NULL: out of memory
sj_answer_store *sj_answer_store_ref(sj_answer_store *store);
void sj_answer_store_free(sj_answer_store **store); // one reference; NULL-safe; answers still referenced live on
// What is over goes at once.
void sj_answer_store_set_max(sj_answer_store *store, size_t max_bytes);
// Copies everything; replaces an older answer to the same key. An answer larger than an eighth of the store is not kept.
void sj_answer_store_put(sj_answer_store *store, const sj_answer_key *key, int status, const sj_headers *headers, sj_slice body, bool stream,
                         int64_t now_ms);
// Room for answers while they are being recorded, apart from those kept: as much again at most. False: no more. What was taken is given back.
__attribute__((warn_unused_result)) bool sj_answer_store_take_room(sj_answer_store *store, size_t bytes);
void sj_answer_store_give_room(sj_answer_store *store, size_t bytes);
// The largest answer that is worth recording.
size_t sj_answer_store_share(sj_answer_store *store);
// Referenced, to be given back with sj_stored_answer_unref. NULL: none that is at most max_age_ms old.
const sj_stored_answer *sj_answer_store_get(sj_answer_store *store, const sj_answer_key *key, int64_t max_age_ms, int64_t now_ms);
void sj_stored_answer_unref(const sj_stored_answer **answer); // NULL-safe

typedef struct sj_answer_store_stats {
    size_t answers, bytes, max_bytes, recording_bytes;
    uint64_t hits, misses, evicted;
} sj_answer_store_stats;
sj_answer_store_stats sj_answer_store_read(sj_answer_store *store);

#endif
