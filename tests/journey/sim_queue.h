// The events to come, in the order of virtual time. Events of one millisecond come in an order drawn from the seed, so that many interleavings
// are tried, and the same ones each time.
#ifndef SIM_QUEUE_H
#define SIM_QUEUE_H

#include "rng.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum sim_event_kind {
    SIM_ARRIVAL, // a client asks
    SIM_TIMER, // an exchange's timer rings
    SIM_UPSTREAM, // the next news of an attempt
    SIM_GRANT, // a slot's message arrives at its worker
    SIM_LEAVE, // a client gives up, or is cut off
    SIM_RESUME, // a slow client reads again
    SIM_BACK, // a client asks again while its attempt is still under way: it has left, or asks beside it
    SIM_RELOAD, // other rules for targets and slots
    SIM_OPERATOR, // a breaker is forced
} sim_event_kind;

typedef struct sim_event {
    int64_t at_ms;
    uint64_t order;
    sim_event_kind kind;
    uint64_t exchange; // id
    uint64_t tag; // of a timer: which arming; of an upstream event: which attempt
} sim_event;

typedef struct sim_queue {
    sim_event *heap;
    size_t n, size;
    uint64_t added;
    sj_rng rng;
} sim_queue;

void sim_queue_init(sim_queue *queue, uint64_t seed);
void sim_queue_free(sim_queue *queue);
void sim_queue_add(sim_queue *queue, sim_event event);
bool sim_queue_next(sim_queue *queue, sim_event *event); // false: empty

#endif
