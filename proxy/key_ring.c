#include "key_ring.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct sj_key_ring {
    atomic_int refs;
    sj_keys *keys;
    size_t count;
    uint64_t credentials[];
};

static bool has_the_same(const sj_key_ring *ring, const uint64_t *credentials, size_t count) {
    return ring->count == count && memcmp(ring->credentials, credentials, count * sizeof *credentials) == 0;
}

static void inherit(sj_key_ring *ring, sj_key_ring *previous) {
    for (size_t i = 0; i < ring->count; i++)
        for (size_t k = 0; k < previous->count; k++)
            if (ring->credentials[i] == previous->credentials[k])
                sj_keys_inherit(ring->keys, i, previous->keys, k);
}

sj_key_ring *sj_key_ring_new(const uint64_t *credentials, size_t count, sj_key_ring *previous) {
    if (previous && has_the_same(previous, credentials, count)) {
        atomic_fetch_add(&previous->refs, 1);
        return previous;
    }
    sj_key_ring *ring = calloc(1, sizeof *ring + count * sizeof *credentials);
    if (!ring)
        return NULL;
    atomic_init(&ring->refs, 1);
    ring->count = count;
    memcpy(ring->credentials, credentials, count * sizeof *credentials);
    ring->keys = sj_keys_new(count);
    if (!ring->keys)
        sj_key_ring_unref(&ring);
    else if (previous)
        inherit(ring, previous);
    return ring;
}

void sj_key_ring_unref(sj_key_ring **slot) {
    sj_key_ring *ring = *slot;
    *slot = NULL;
    if (!ring || atomic_fetch_sub(&ring->refs, 1) != 1)
        return;
    sj_keys_free(&ring->keys);
    free(ring);
}

sj_keys *sj_key_ring_keys(const sj_key_ring *ring) {
    return ring->keys;
}
const uint64_t *sj_key_ring_credentials(const sj_key_ring *ring) {
    return ring->credentials;
}
