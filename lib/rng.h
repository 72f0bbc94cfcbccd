// The seeded generator that every jitter is drawn from (xoshiro256**, Blackman and Vigna, seeded by splitmix64).
// Passed in, never global: the same seed gives the same journey. One owner, no locking.
#ifndef SJ_RNG_H
#define SJ_RNG_H

#include <stdint.h>

typedef struct sj_rng {
    uint64_t s[4];
} sj_rng;

void sj_rng_seed(sj_rng *rng, uint64_t seed);
uint64_t sj_rng_next(sj_rng *rng);
// Uniform in [0, 1).
double sj_rng_unit(sj_rng *rng);
// Uniform in [low, high]; low when high <= low.
int64_t sj_rng_between(sj_rng *rng, int64_t low, int64_t high);

#endif
