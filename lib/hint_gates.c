#include "hint_gates.h"

#include <stddef.h>

enum { STEP_MIN_MS = 10, STEP_MAX_MS = 90 }; // a hundred exchanges fill the spread

static int find(const sj_hint_gates *gates, uint64_t credential) {
    for (int i = 0; i < gates->count; i++)
        if (gates->list[i].credential == credential)
            return i;
    return -1;
}

// A free place, or that of the gate least recently used.
static sj_hint_gate *place_for(sj_hint_gates *gates) {
    if (gates->count < SJ_HINT_GATES_MAX)
        return &gates->list[gates->count++];
    sj_hint_gate *oldest = &gates->list[0];
    for (int i = 1; i < gates->count; i++)
        if (gates->list[i].used < oldest->used)
            oldest = &gates->list[i];
    return oldest;
}

void sj_hint_gates_set(sj_hint_gates *gates, uint64_t credential, int64_t until_ms, int64_t refused_ms,
                       int64_t now_ms) {
    int at = find(gates, credential);
    sj_hint_gate *gate = at >= 0 ? &gates->list[at] : place_for(gates);
    if (at < 0)
        *gate = (sj_hint_gate){.credential = credential, .refused_ms = refused_ms};
    gate->used = ++gates->uses;
    if (refused_ms > gate->refused_ms)
        gate->refused_ms = refused_ms;
    if (until_ms <= gate->until_ms)
        return;
    int64_t half = (until_ms - now_ms) / 2;
    gate->until_ms = until_ms;
    gate->spread_ms = half < STEP_MAX_MS               ? STEP_MAX_MS
                      : half < SJ_HINT_GATES_SPREAD_MS ? half
                                                       : SJ_HINT_GATES_SPREAD_MS;
    gate->offset_ms = 0;
    gates->latest_ms = until_ms > gates->latest_ms ? until_ms : gates->latest_ms;
}

void sj_hint_gates_passed(sj_hint_gates *gates, uint64_t credential, int64_t started_ms, int64_t now_ms) {
    int at = now_ms < gates->latest_ms ? find(gates, credential) : -1;
    if (at >= 0 && started_ms > gates->list[at].refused_ms)
        gates->list[at].until_ms = 0;
}

int64_t sj_hint_gates_until(const sj_hint_gates *gates, uint64_t credential, int64_t now_ms) {
    if (now_ms >= gates->latest_ms)
        return 0;
    int at = find(gates, credential);
    return at >= 0 && now_ms < gates->list[at].until_ms ? gates->list[at].until_ms : 0;
}

int64_t sj_hint_gates_turn(sj_hint_gates *gates, uint64_t credential, int64_t now_ms, sj_rng *rng) {
    if (sj_hint_gates_until(gates, credential, now_ms) == 0)
        return 0;
    sj_hint_gate *gate = &gates->list[find(gates, credential)];
    gate->used = ++gates->uses;
    gate->offset_ms += sj_rng_between(rng, STEP_MIN_MS, STEP_MAX_MS);
    if (gate->offset_ms > gate->spread_ms)
        gate->offset_ms -= gate->spread_ms;
    return gate->until_ms + gate->offset_ms;
}

int sj_hint_gates_count(const sj_hint_gates *gates, int64_t now_ms) {
    int count = 0;
    for (int i = 0; i < gates->count; i++)
        count += now_ms < gates->list[i].until_ms;
    return count;
}
