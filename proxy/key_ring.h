// The keys of one upstream that has several: what is known of each (lib/keys.h), shared by all workers, and each one's hash. Reference counted:
// a reload with the same keys goes on with the same ring, one with others takes over what is known of those that stayed. Holds no key itself.
#ifndef SJ_KEY_RING_H
#define SJ_KEY_RING_H

#include "keys.h"

typedef struct sj_key_ring sj_key_ring;

// credentials: the keys' hashes, in the order of the configuration; copied. previous: of the configuration before; NULL none. NULL: out of memory.
sj_key_ring *sj_key_ring_new(const uint64_t *credentials, size_t count, sj_key_ring *previous);
void sj_key_ring_unref(sj_key_ring **ring); // NULL-safe
sj_keys *sj_key_ring_keys(const sj_key_ring *ring);
const uint64_t *sj_key_ring_credentials(const sj_key_ring *ring);

#endif
