// The slots of one upstream and the queue before them (BEHAVIOUR 13): how many attempts may run there at once (limiter.h), how many may start per
// minute (pace.h), and who waits (line.h), over all workers.
// Thread-safe: one mutex inside, held for arithmetic only. Nobody is called back: a call that concerns a waiter names it in *wake, and the caller
// posts that to the waiter's worker once no lock is held. Whoever is woken looks (sj_admission_look): either its slot has been granted, or it is
// now told when to look again. At most one is woken per call; each one woken passes on by itself what else is free.
// A waiter is `waiting -> granted | left`, decided under the one lock. A grant carries the slot.
#ifndef SJ_ADMISSION_H
#define SJ_ADMISSION_H

#include "limiter.h"
#include "line.h"
#include "pace.h"
#include "rng.h"

typedef struct sj_admission sj_admission;

typedef struct sj_admission_rules {
    int max_concurrent; // 256
    int max_waiting; // 1024
    int64_t timeout_ms; // 300 s; how long one may wait
    bool adaptive; // the limit follows what the upstream says
    bool standing_queue; // a queue that was never empty for 30 s: 2 s, until it is
    sj_pace_rules pace;
} sj_admission_rules;

typedef struct sj_wake {
    bool set;
    sj_waiter waiter;
} sj_wake;

typedef enum sj_slot_answer {
    SJ_SLOT_GRANTED,
    SJ_SLOT_QUEUED, // look again when woken, and at *again_ms
    SJ_SLOT_FULL, // of acquire: nobody else may wait
    SJ_SLOT_LATE, // of look: waited as long as one may, and no longer known
} sj_slot_answer;

sj_admission *sj_admission_new(const sj_admission_rules *rules);
void sj_admission_free(sj_admission **admission); // NULL-safe; nobody may hold a slot or wait
// A larger limit hands out nothing by itself: call sj_admission_next afterwards.
void sj_admission_set_rules(sj_admission *admission, const sj_admission_rules *rules);

// ---- getting in -------------------------------------------------------------------------------------------------------------

// FIFO: a free slot is only granted at once when nobody waits before. GRANTED, QUEUED or FULL.
sj_slot_answer sj_admission_acquire(sj_admission *admission, const sj_waiter *waiter, int64_t now_ms,
                                    int64_t *again_ms);
// The same for one that does not want to wait: true when granted.
bool sj_admission_try(sj_admission *admission, const sj_waiter *waiter, int64_t now_ms);
// By one that was queued and has not left. GRANTED (then take it), QUEUED or LATE.
sj_slot_answer sj_admission_look(sj_admission *admission, uint64_t exchange_id, int64_t now_ms,
                                 int64_t *again_ms, sj_wake *wake);
// A granted waiter takes note of its slot: the queue forgets it; the slot stays held until release.
void sj_admission_take(sj_admission *admission, uint64_t exchange_id, int64_t now_ms, sj_wake *wake);
// Leaves the queue, or gives the slot back that had been granted meanwhile. Harmless for one that is not known.
void sj_admission_leave(sj_admission *admission, uint64_t exchange_id, int64_t now_ms, sj_wake *wake);
// One that waits for something else than a slot (a breaker's reopening, the end of a gate) takes a place of max_waiting too. False: none is free; never for one
// that comes again.
__attribute__((warn_unused_result)) bool sj_admission_stand_by(sj_admission *admission, bool again);
void sj_admission_stand_down(sj_admission *admission); // once for each stand_by that was true
// A free slot to the next waiter, if there are both.
void sj_admission_next(sj_admission *admission, int64_t now_ms, sj_wake *wake);

// ---- what an attempt has shown, while it holds its slot ---------------------------------------------------------------------
// Aborts, the caller's errors and cancelled losers teach nothing: for them only release is called.

void sj_admission_congested(sj_admission *admission, sj_congestion kind, int64_t started_ms, int64_t now_ms);
void sj_admission_succeeded(sj_admission *admission, int64_t started_ms, int64_t now_ms);
// The pace was charged one request and `waiter.tokens` when the slot was granted. What of it was not used comes back; negative tokens: more was.
void sj_admission_give_back(sj_admission *admission, int requests, int64_t tokens, int64_t now_ms);

void sj_admission_release(sj_admission *admission, int64_t now_ms, sj_wake *wake);

// ---- for people -------------------------------------------------------------------------------------------------------------

// For one who could not be let in: how long those who wait now take to get through, with a spread; 1..60 s.
int64_t sj_admission_retry_after_ms(sj_admission *admission, int64_t now_ms, sj_rng *rng);

typedef struct sj_admission_stats {
    int in_flight, waiting, standing_by, limit, max;
    uint64_t cuts; // of the limit
} sj_admission_stats;
sj_admission_stats sj_admission_read(sj_admission *admission);

#endif
