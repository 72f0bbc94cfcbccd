// How long to wait before the next attempt when the upstream did not say (BEHAVIOUR 4).
// Formulas: AWS "Exponential Backoff and Jitter" (full, equal, decorrelated), tenacity (exponential, plus_random),
// openai-python (jitter). Pure: same arguments and generator state, same wait.
#ifndef SJ_BACKOFF_H
#define SJ_BACKOFF_H

#include "rng.h"

typedef enum sj_backoff_strategy {
    SJ_BACKOFF_FIXED,
    SJ_BACKOFF_LINEAR,
    SJ_BACKOFF_EXPONENTIAL,
    SJ_BACKOFF_JITTER,
    SJ_BACKOFF_FULL_JITTER,
    SJ_BACKOFF_EQUAL_JITTER,
    SJ_BACKOFF_DECORRELATED,
    SJ_BACKOFF_PLUS_RANDOM,
} sj_backoff_strategy;

typedef struct sj_backoff {
    sj_backoff_strategy strategy;
    int64_t base_ms;
    int64_t cap_ms;
    int64_t min_ms;
    double exponential_base; // >= 1
    double jitter;           // 0..1, of SJ_BACKOFF_JITTER
    int64_t random_max_ms;   // of SJ_BACKOFF_PLUS_RANDOM
} sj_backoff;

enum { SJ_BACKOFF_FLOOR_MS = 50, SJ_BACKOFF_JITTER_FLOOR_MS = 100 };

extern const sj_backoff sj_backoff_default; // full_jitter, base 0.5 s, cap 8 s, min 0, exponential_base 2, j 0.3, random_max 2 s

// n: number of the retry, from 1. previous_ms: the wait before it, base_ms for the first (decorrelated only).
int64_t sj_backoff_wait_ms(const sj_backoff *backoff, int n, int64_t previous_ms, sj_rng *rng);
// NULL-terminated names in the order of the enum, as the configuration spells them.
extern const char *const sj_backoff_names[];

#endif
