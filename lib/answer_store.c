#include "answer_store.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { CHAINS = 4096, SHARE_OF_ONE = 8 };

typedef struct entry entry;
struct entry {
    sj_stored_answer answer; // first: callers hold a pointer to it
    atomic_int refs; // the store's own and the callers'
    uint64_t hash, credential;
    sj_slice path, request; // into bytes
    char *bytes; // path, request and answer body behind each other
    size_t weight;
    entry *chain_next;
    entry *newer, *older;
};

struct sj_answer_store {
    atomic_int refs;
    pthread_mutex_t mutex;
    entry *chains[CHAINS];
    entry *newest, *oldest;
    size_t max_bytes;
    sj_answer_store_stats stats; // but for max_bytes
};

static uint64_t mix(uint64_t hash, sj_slice bytes) {
    for (size_t i = 0; i < bytes.n; i++)
        hash = (hash ^ (unsigned char)bytes.p[i]) * 0x100000001b3u;
    return hash;
}

static uint64_t hash_of(const sj_answer_key *key) {
    uint64_t hash = mix(mix(0xcbf29ce484222325u ^ key->credential, key->path), key->body);
    return hash ^ (hash >> 29);
}

static void entry_unref(entry *e) {
    if (atomic_fetch_sub(&e->refs, 1) != 1)
        return;
    sj_headers_free(&e->answer.headers);
    free(e->bytes);
    free(e);
}

static sj_slice copy_to(char **at, sj_slice from) {
    sj_slice copy = {*at, from.n};
    if (from.n)
        memcpy(*at, from.p, from.n);
    *at += from.n;
    return copy;
}

static entry *entry_new(const sj_answer_key *key, int status, const sj_headers *headers, sj_slice body,
                        bool stream, int64_t now_ms) {
    entry *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    atomic_init(&e->refs, 1);
    sj_headers_init(&e->answer.headers);
    e->bytes = malloc(key->path.n + key->body.n + body.n + 1);
    if (!e->bytes || !sj_headers_add_all(&e->answer.headers, headers)) {
        entry_unref(e);
        return NULL;
    }
    char *at = e->bytes;
    e->path = copy_to(&at, key->path);
    e->request = copy_to(&at, key->body);
    e->answer.body = copy_to(&at, body);
    e->answer.status = status;
    e->answer.stream = stream;
    e->answer.stored_ms = now_ms;
    e->credential = key->credential;
    e->hash = hash_of(key);
    e->weight = sizeof *e + key->path.n + key->body.n + body.n + e->answer.headers.arena.cap +
                e->answer.headers.cap * sizeof(sj_header_place);
    return e;
}

// ---- under the mutex ------------------------------------------------------------------------------------------------------------

static void unlink_age(sj_answer_store *store, entry *e) {
    *(e->newer ? &e->newer->older : &store->newest) = e->older;
    *(e->older ? &e->older->newer : &store->oldest) = e->newer;
    e->newer = e->older = NULL;
}

static void link_newest(sj_answer_store *store, entry *e) {
    e->newer = NULL;
    e->older = store->newest;
    *(store->newest ? &store->newest->newer : &store->oldest) = e;
    store->newest = e;
}

static void drop(sj_answer_store *store, entry *e) {
    entry **link = &store->chains[e->hash % CHAINS];
    while (*link != e)
        link = &(*link)->chain_next;
    *link = e->chain_next;
    unlink_age(store, e);
    store->stats.bytes -= e->weight;
    store->stats.answers--;
    entry_unref(e);
}

static void shrink_to(sj_answer_store *store, size_t bytes) {
    while (store->oldest && store->stats.bytes > bytes) {
        drop(store, store->oldest);
        store->stats.evicted++;
    }
}

static entry *find(const sj_answer_store *store, const sj_answer_key *key, uint64_t hash) {
    for (entry *e = store->chains[hash % CHAINS]; e; e = e->chain_next)
        if (e->hash == hash && e->credential == key->credential && sj_slice_equal(e->path, key->path) &&
            sj_slice_equal(e->request, key->body))
            return e;
    return NULL;
}

// ---- the calls ------------------------------------------------------------------------------------------------------------------

sj_answer_store *sj_answer_store_new(size_t max_bytes) {
    sj_answer_store *store = calloc(1, sizeof *store);
    if (!store)
        return NULL;
    atomic_init(&store->refs, 1);
    pthread_mutex_init(&store->mutex, NULL);
    store->max_bytes = max_bytes;
    return store;
}

sj_answer_store *sj_answer_store_ref(sj_answer_store *store) {
    atomic_fetch_add(&store->refs, 1);
    return store;
}

void sj_answer_store_free(sj_answer_store **slot) {
    sj_answer_store *store = *slot;
    *slot = NULL;
    if (!store || atomic_fetch_sub(&store->refs, 1) != 1)
        return;
    shrink_to(store, 0);
    pthread_mutex_destroy(&store->mutex);
    free(store);
}

void sj_answer_store_set_max(sj_answer_store *store, size_t max_bytes) {
    pthread_mutex_lock(&store->mutex);
    store->max_bytes = max_bytes;
    shrink_to(store, max_bytes);
    pthread_mutex_unlock(&store->mutex);
}

// ---- recordings -------------------------------------------------------------------------------------------------------------------

bool sj_answer_store_take_room(sj_answer_store *store, size_t bytes) {
    pthread_mutex_lock(&store->mutex);
    size_t taken = store->stats.recording_bytes;
    bool ok = taken <= store->max_bytes && bytes <= store->max_bytes - taken;
    if (ok)
        store->stats.recording_bytes += bytes;
    pthread_mutex_unlock(&store->mutex);
    return ok;
}

void sj_answer_store_give_room(sj_answer_store *store, size_t bytes) {
    pthread_mutex_lock(&store->mutex);
    assert(store->stats.recording_bytes >= bytes);
    store->stats.recording_bytes -= bytes;
    pthread_mutex_unlock(&store->mutex);
}

size_t sj_answer_store_share(sj_answer_store *store) {
    pthread_mutex_lock(&store->mutex);
    size_t share = store->max_bytes / SHARE_OF_ONE;
    pthread_mutex_unlock(&store->mutex);
    return share;
}

// ---- putting in and taking out ----------------------------------------------------------------------------------------------------

void sj_answer_store_put(sj_answer_store *store, const sj_answer_key *key, int status,
                         const sj_headers *headers, sj_slice body, bool stream, int64_t now_ms) {
    if (key->path.n + key->body.n + body.n > sj_answer_store_share(store))
        return; // nothing that large is copied first
    entry *e = entry_new(key, status, headers, body, stream, now_ms);
    if (!e)
        return;
    pthread_mutex_lock(&store->mutex);
    entry *old = find(store, key, e->hash);
    if (old)
        drop(store, old);
    if (e->weight <= store->max_bytes / SHARE_OF_ONE) {
        shrink_to(store, store->max_bytes - e->weight);
        e->chain_next = store->chains[e->hash % CHAINS];
        store->chains[e->hash % CHAINS] = e;
        link_newest(store, e);
        store->stats.bytes += e->weight;
        store->stats.answers++;
        e = NULL;
    }
    pthread_mutex_unlock(&store->mutex);
    if (e)
        entry_unref(e);
}

const sj_stored_answer *sj_answer_store_get(sj_answer_store *store, const sj_answer_key *key,
                                            int64_t max_age_ms, int64_t now_ms) {
    uint64_t hash = hash_of(key); // a long body is read before the lock, not under it
    pthread_mutex_lock(&store->mutex);
    entry *e = find(store, key, hash);
    if (e && now_ms - e->answer.stored_ms > max_age_ms)
        e = NULL;
    if (e) {
        atomic_fetch_add(&e->refs, 1);
        unlink_age(store, e);
        link_newest(store, e);
        store->stats.hits++;
    } else
        store->stats.misses++;
    pthread_mutex_unlock(&store->mutex);
    return e ? &e->answer : NULL;
}

void sj_stored_answer_unref(const sj_stored_answer **answer) {
    if (*answer)
        entry_unref((entry *)(uintptr_t)*answer);
    *answer = NULL;
}

sj_answer_store_stats sj_answer_store_read(sj_answer_store *store) {
    pthread_mutex_lock(&store->mutex);
    sj_answer_store_stats stats = store->stats;
    stats.max_bytes = store->max_bytes;
    pthread_mutex_unlock(&store->mutex);
    return stats;
}
