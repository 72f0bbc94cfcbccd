#include "latency.h"

#include <assert.h>
#include <math.h>
#include <string.h>

// The first place whose value is not below ms.
static int place_of(const sj_latency *latency, int32_t ms) {
    int low = 0, high = latency->count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (latency->sorted[middle] < ms)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void drop_oldest(sj_latency *latency) {
    int at = place_of(latency, latency->ring[latency->next]);
    assert(at < latency->count && latency->sorted[at] == latency->ring[latency->next]);
    latency->count--;
    memmove(&latency->sorted[at], &latency->sorted[at + 1], (size_t)(latency->count - at) * sizeof(int32_t));
}

void sj_latency_add(sj_latency *latency, int64_t ms) {
    int32_t value = ms < 0 ? 0 : ms > INT32_MAX ? INT32_MAX : (int32_t)ms;
    if (latency->count == SJ_LATENCY_SAMPLES)
        drop_oldest(latency);
    int at = place_of(latency, value);
    memmove(&latency->sorted[at + 1], &latency->sorted[at], (size_t)(latency->count - at) * sizeof(int32_t));
    latency->sorted[at] = value;
    latency->count++;
    latency->ring[latency->next] = value;
    latency->next = (latency->next + 1) % SJ_LATENCY_SAMPLES;
}

int64_t sj_latency_quantile(const sj_latency *latency, double q) {
    if (latency->count < SJ_LATENCY_ENOUGH)
        return -1;
    int rank = (int)ceil(q * latency->count - 1e-9);
    return latency->sorted[rank < 1 ? 0 : rank > latency->count ? latency->count - 1 : rank - 1];
}
