// The last times something took, and their quantiles: a ring and the same values in order. Pure; the caller locks.
// Adding costs two binary searches and two short memmoves, asking is one look.
#ifndef SJ_LATENCY_H
#define SJ_LATENCY_H

#include <stdint.h>

enum { SJ_LATENCY_SAMPLES = 128, SJ_LATENCY_ENOUGH = 20 };

// Zero-initialised is empty.
typedef struct sj_latency {
    int32_t ring[SJ_LATENCY_SAMPLES];
    int32_t sorted[SJ_LATENCY_SAMPLES];
    int count, next;
} sj_latency;

void sj_latency_add(sj_latency *latency, int64_t ms);
// Nearest rank, 0 < q <= 1; -1 with fewer than SJ_LATENCY_ENOUGH samples.
int64_t sj_latency_quantile(const sj_latency *latency, double q);

#endif
