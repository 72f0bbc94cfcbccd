// "Not before" as the upstream said it to one credential (BEHAVIOUR 5): every exchange with that credential waits, and they are let
// through one after the other. A gate falls early on proof that it holds no longer: a success of an attempt that was started after the refused
// one. So one odd 429 among hundreds of good answers a second holds up nobody but its own exchange, while a limit that is really reached shuts
// everybody out. Bounded: the least recently used gate goes when there are too many. Pure; the caller locks.
#ifndef SJ_HINT_GATES_H
#define SJ_HINT_GATES_H

#include "rng.h"

enum { SJ_HINT_GATES_MAX = 64, SJ_HINT_GATES_SPREAD_MS = 5000 };

typedef struct sj_hint_gate {
    uint64_t credential; // hash
    int64_t until_ms;
    uint64_t used;       // larger = more recently
    int64_t refused_ms;  // when the latest refused attempt had been started
    int64_t spread_ms;   // of the release
    int64_t offset_ms;   // of the exchange that was told its turn last
} sj_hint_gate;

// Zero-initialised is empty.
typedef struct sj_hint_gates {
    sj_hint_gate list[SJ_HINT_GATES_MAX];
    int count;
    uint64_t uses;
    int64_t latest_ms; // no gate lasts longer
} sj_hint_gates;

// A later until_ms extends, an earlier one leaves it. refused_ms: when the attempt that was refused had been started. The release is spread over
// half of what is left, at most SJ_HINT_GATES_SPREAD_MS.
void sj_hint_gates_set(sj_hint_gates *gates, uint64_t credential, int64_t until_ms, int64_t refused_ms, int64_t now_ms);
// An attempt started then has succeeded.
void sj_hint_gates_passed(sj_hint_gates *gates, uint64_t credential, int64_t started_ms, int64_t now_ms);
// 0 = no gate. Costs one comparison while no gate stands.
int64_t sj_hint_gates_until(const sj_hint_gates *gates, uint64_t credential, int64_t now_ms);
// When an exchange may pass: 0 = no gate; else a little later for each one that asks, by random steps; within the spread, where it starts over.
int64_t sj_hint_gates_turn(sj_hint_gates *gates, uint64_t credential, int64_t now_ms, sj_rng *rng);
// How many stand now.
int sj_hint_gates_count(const sj_hint_gates *gates, int64_t now_ms);

#endif
