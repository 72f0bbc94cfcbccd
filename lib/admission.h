// The slots of one upstream and the queue before them (BEHAVIOUR 13): how many attempts may run there at once, over all workers.
// Thread-safe: one mutex inside, held for arithmetic only. Nobody is called back: a release that hands its slot to a waiter says so in *wake,
// and the caller posts that to the waiter's worker once no lock is held.
// A waiter is `waiting -> granted | left`, decided under the one lock. A grant carries the slot.
#ifndef SJ_ADMISSION_H
#define SJ_ADMISSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct sj_admission sj_admission;

typedef struct sj_admission_rules {
    int max_concurrent;  // 256
    int max_waiting;     // 1024
    int64_t timeout_ms;  // 300 s; how long one may wait (kept here, timed by the journey)
} sj_admission_rules;

// Who waits: enough to find it again from any thread. exchange_id never repeats within a process.
typedef struct sj_waiter {
    uint32_t worker;
    uint64_t exchange_id;
    uint64_t client; // hash of the client's credential or address: turns are taken between clients
} sj_waiter;

typedef struct sj_wake {
    bool set;
    sj_waiter waiter;
} sj_wake;

typedef enum sj_slot_answer { SJ_SLOT_GRANTED, SJ_SLOT_QUEUED, SJ_SLOT_FULL } sj_slot_answer;

sj_admission *sj_admission_new(const sj_admission_rules *rules);
void sj_admission_free(sj_admission **admission); // NULL-safe; nobody may hold a slot or wait
// A larger limit hands out nothing by itself: call sj_admission_next afterwards until it wakes nobody.
void sj_admission_set_rules(sj_admission *admission, const sj_admission_rules *rules);
sj_admission_rules sj_admission_rules_of(sj_admission *admission); // a snapshot
// FIFO: a free slot is only granted at once when nobody waits before.
sj_slot_answer sj_admission_acquire(sj_admission *admission, const sj_waiter *waiter);
// Whether the waiter's slot has been granted meanwhile.
bool sj_admission_granted(sj_admission *admission, uint64_t exchange_id);
// Leaves the queue. When the slot had been granted already it is given back (and may wake the next).
void sj_admission_leave(sj_admission *admission, uint64_t exchange_id, sj_wake *wake);
// A granted waiter takes note of its slot: the queue forgets it; the slot stays held until release.
void sj_admission_take(sj_admission *admission, uint64_t exchange_id);
void sj_admission_release(sj_admission *admission, sj_wake *wake);
// Grants a slot that is free to the next waiter, if there are both.
void sj_admission_next(sj_admission *admission, sj_wake *wake);
typedef struct sj_admission_stats {
    int in_flight, waiting, limit;
} sj_admission_stats;
sj_admission_stats sj_admission_read(sj_admission *admission);

#endif
