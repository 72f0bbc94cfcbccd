#include "rng.h"

static uint64_t rotate_left(uint64_t x, int by) {
    return (x << by) | (x >> (64 - by));
}

// splitmix64: spreads a poor seed (0, 1, 2 ...) over the whole state, which must never be all zero.
void sj_rng_seed(sj_rng *rng, uint64_t seed) {
    for (int i = 0; i < 4; i++) {
        seed += UINT64_C(0x9e3779b97f4a7c15);
        uint64_t z = seed;
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        rng->s[i] = z ^ (z >> 31);
    }
}

uint64_t sj_rng_next(sj_rng *rng) {
    uint64_t *s = rng->s;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t shifted = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate_left(s[3], 45);
    return result;
}

double sj_rng_unit(sj_rng *rng) {
    return (double)(sj_rng_next(rng) >> 11) * 0x1p-53;
}

int64_t sj_rng_between(sj_rng *rng, int64_t low, int64_t high) {
    if (high <= low)
        return low;
    uint64_t count = (uint64_t)high - (uint64_t)low + 1;
    if (count == 0) // the whole range of int64_t
        return (int64_t)sj_rng_next(rng);
    // Draws below `uneven` would make the first values of the range likelier than the others.
    uint64_t uneven = (UINT64_MAX - count + 1) % count;
    uint64_t draw = sj_rng_next(rng);
    while (draw < uneven)
        draw = sj_rng_next(rng);
    return (int64_t)((uint64_t)low + draw % count);
}
