// What has happened in the worlds played, kind by kind: a simulation that never met a situation has proved nothing about it. One table names
// every kind there is; a long run fails when one of them was never seen.
#ifndef SIM_SEEN_H
#define SIM_SEEN_H

#include "journey.h"

#include <stdio.h>

// Where an exchange is, as seen by one who follows it.
typedef enum sim_place {
    SIM_AT_NEW,
    SIM_AT_ROUTE, // in the queue of its route
    SIM_AT_QUEUE, // in an upstream's
    SIM_AT_BACKOFF,
    SIM_AT_GATE,
    SIM_AT_REOPENING,
    SIM_AT_ASKING, // one attempt, nothing committed
    SIM_AT_RACING, // two
    SIM_AT_COMMITTED,
    SIM_AT_MEND_QUEUE, // a broken stream is to be mended: in a queue for that
    SIM_AT_MEND_WAIT, // for anything else
    SIM_AT_MENDING, // asking
    SIM_AT_DRAINING, // read on, though the client has left
    SIM_AT_ANSWERED,
    SIM_AT_FAILED,
    SIM_AT_LEFT,
    SIM_PLACES,
} sim_place;

typedef enum sim_group {
    SIM_SAW_EVENT, // sim_event_kind
    SIM_SAW_FATE, // sim_fate
    SIM_SAW_END, // sj_end, as the journey was told
    SIM_SAW_STEP, // sj_step_kind
    SIM_SAW_NOTE, // sj_note_kind
    SIM_SAW_CLASS, // sj_class of an attempt's note
    SIM_SAW_REFUSAL, // sj_refusal
    SIM_SAW_BREAKER, // what changed it, and how: sim_saw_change
    SIM_SAW_GLOBAL, // the same of the one for our own side
    SIM_SAW_MOVE, // from place to place: sim_saw_move
    SIM_SAW_SOURCE, // of a delay
    SIM_SAW_KEY, // what becomes of a key
    SIM_SAW_FALLBACK, // why a target was left
    SIM_SAW_SPECIAL, // sim_special
    SIM_SAW_GROUPS,
} sim_group;

// What no note tells.
typedef enum sim_special {
    SIM_SPECIAL_SDK_RETRY, // a client asks again and says so
    SIM_SPECIAL_NAIVE_RETRY, // and does not
    SIM_SPECIAL_RACE_FIRST, // the silent one answered after all
    SIM_SPECIAL_RACE_SECOND,
    SIM_SPECIAL_RACE_BOTH_LOST,
    SIM_SPECIAL_VERIFIED, // a stream held back to its end
    SIM_SPECIAL_QUIET_BREAK, // broken off behind the upstream's own error event
    SIM_SPECIAL_LIMIT_CUT,
    SIM_SPECIAL_LIMIT_BACK, // whole again
    SIM_SPECIAL_BUDGET_FLOOR, // a retry that the floor let through
    SIM_SPECIAL_STALE_RESULT, // of an older breaker generation
    SIM_SPECIAL_STICKY_START, // straight to the fallback that is stayed with
    SIM_SPECIAL_STICKY_RETURN, // the first at the strong target again
    SIM_SPECIAL_PROBE_SAVED, // a probe failed, its exchange was answered further down
    SIM_SPECIAL_GATE_LIFTED, // by a success, before its time
    SIM_SPECIAL_LEFT_WOKEN, // a client left with its slot granted and not taken
    SIM_SPECIAL_WOKEN_FOR_NOTHING, // a wake-up for one that is gone
    SIM_SPECIAL_DRAINED, // read to its end for a client that had left
    SIM_SPECIAL_DRAIN_OVER, // it took too long
    SIM_SPECIAL_ABORTED, // somebody stopped it
    SIM_SPECIAL_BACK, // the client came back to it
    SIM_SPECIAL_JOINED, // and asked for it though it had not left
    SIM_SPECIAL_REPLAY, // an attempt at it
    SIM_SPECIAL_CONTINUE,
    SIM_SPECIAL_REPLAYED, // a stream that went on
    SIM_SPECIAL_CONTINUED,
    SIM_SPECIAL_DIVERGED,
    SIM_SPECIAL_ALL_KEYS_REST, // and one is tried all the same
    SIM_SPECIAL_HELD, // a slow reader
    SIM_SPECIALS,
} sim_special;

enum { SIM_KINDS_MAX = 288 }; // of one group

typedef struct sim_seen {
    long count[SIM_SAW_GROUPS][SIM_KINDS_MAX];
    char stray[96]; // something the table does not name; "" none
} sim_seen;

static inline void sim_saw(sim_seen *seen, sim_group group, int kind) {
    seen->count[group][kind]++;
}
void sim_saw_move(sim_seen *seen, sim_place from, sim_place to);
void sim_saw_change(sim_seen *seen, const sj_breaker_change *change, bool global);
void sim_saw_key(sim_seen *seen, const char *what);
void sim_saw_source(sim_seen *seen, const char *source);
void sim_saw_fallback(sim_seen *seen, const char *why);

void sim_seen_add(sim_seen *sum, const sim_seen *part);
// The table, kind by kind; returns how many of them were never seen.
int sim_seen_print(const sim_seen *seen, FILE *out);

#endif
