// A keyed 128-bit hash of several parts, to tell questions apart without keeping them: SipHash-2-4 with the 128-bit output (Aumasson and Bernstein,
// "SipHash: a fast short-input PRF", 2012). Who does not know the key cannot make two that are alike. One owner, no locking.
#ifndef SJ_FINGERPRINT_H
#define SJ_FINGERPRINT_H

#include "slice.h"

#include <stdint.h>

typedef struct sj_fingerprint {
    uint64_t low, high;
} sj_fingerprint;

typedef struct sj_fingerprinter {
    uint64_t v[4];
    unsigned char rest[8]; // of a word that is not whole yet
    uint64_t total;        // bytes so far
} sj_fingerprinter;

void sj_fingerprint_begin(sj_fingerprinter *printer, uint64_t key_low, uint64_t key_high);
void sj_fingerprint_bytes(sj_fingerprinter *printer, sj_slice bytes);
// With its length in front: "ab", "c" is not "a", "bc", and an absent part ({NULL, 0}) is not an empty one.
void sj_fingerprint_part(sj_fingerprinter *printer, sj_slice part);
sj_fingerprint sj_fingerprint_end(sj_fingerprinter *printer);

static inline bool sj_fingerprint_same(sj_fingerprint a, sj_fingerprint b) { return a.low == b.low && a.high == b.high; }

#endif
