#include "admission.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

enum {
    STANDS_AFTER_MS = 30000,
    STANDING_TIMEOUT_MS = 2000
}; // as folly's Codel: short waits once the queue stands
enum { RETRY_AFTER_MIN_MS = 1000, RETRY_AFTER_MAX_MS = 60000, RETRY_AFTER_UNKNOWN_MS = 10000 };
static const double MEMORY_MS = 10000;
static const double FORGOTTEN = 0.05; // of a release

// How fast slots become free: each release counts with exponentially fading weight.
typedef struct releases {
    double weight; // of the releases up to at_ms
    int64_t since_ms, at_ms; // since_ms: the first one
} releases;

struct sj_admission {
    pthread_mutex_t mutex;
    sj_admission_rules rules;
    sj_limiter limiter;
    sj_pace pace;
    sj_line *line;
    int in_flight; // granted ones included
    int standing_by;
    int64_t busy_since_ms; // while somebody waits: since when the queue was never empty
    bool has_timekeeper; // the first in line has been told when the pace lets it through
    uint64_t timekeeper;
    releases releases;
};

sj_admission *sj_admission_new(const sj_admission_rules *rules) {
    sj_admission *admission = calloc(1, sizeof *admission);
    if (!admission)
        return NULL;
    admission->rules = *rules;
    admission->line = sj_line_new(rules->max_waiting);
    sj_limiter_init(&admission->limiter, rules->max_concurrent, rules->adaptive);
    sj_pace_set_rules(&admission->pace, &rules->pace);
    if (admission->line && pthread_mutex_init(&admission->mutex, NULL) == 0)
        return admission;
    sj_line_free(&admission->line);
    free(admission);
    return NULL;
}

void sj_admission_free(sj_admission **admission) {
    sj_admission *gone = *admission;
    *admission = NULL;
    if (!gone)
        return;
    assert(gone->in_flight == 0 && gone->standing_by == 0);
    sj_line_free(&gone->line);
    pthread_mutex_destroy(&gone->mutex);
    free(gone);
}

static void lock(sj_admission *admission) {
    pthread_mutex_lock(&admission->mutex);
}
static void unlock(sj_admission *admission) {
    pthread_mutex_unlock(&admission->mutex);
}

void sj_admission_set_rules(sj_admission *admission, const sj_admission_rules *rules) {
    lock(admission);
    admission->rules = *rules;
    sj_limiter_set(&admission->limiter, rules->max_concurrent, rules->adaptive);
    sj_pace_set_rules(&admission->pace, &rules->pace);
    admission->has_timekeeper = false; // what it was told holds no longer
    unlock(admission);
}

// ---- serving --------------------------------------------------------------------------------------------

static bool has_free_slot(const sj_admission *admission) {
    return admission->in_flight < sj_limiter_limit(&admission->limiter);
}

static bool is_first(const sj_admission *admission, uint64_t exchange_id) {
    const sj_line_place *first = sj_line_first(admission->line);
    return first && first->waiter.exchange_id == exchange_id;
}

static void occupy(sj_admission *admission, int64_t tokens, int64_t now_ms) {
    admission->in_flight++;
    sj_pace_spend(&admission->pace, tokens, now_ms);
}

static void set_timekeeper(sj_admission *admission, uint64_t exchange_id) {
    admission->has_timekeeper = true;
    admission->timekeeper = exchange_id;
}

// The first in line gets the free slot. When only the pace keeps it from that, it is woken once, to keep the time: it looks, is told when, and
// looks again then. Should it leave, the one behind it is woken in its place.
static void serve(sj_admission *admission, int64_t now_ms, sj_wake *wake) {
    *wake = (sj_wake){0};
    const sj_line_place *first = sj_line_first(admission->line);
    if (!first || !has_free_slot(admission))
        return;
    uint64_t id = first->waiter.exchange_id;
    bool in_time = sj_pace_ready_ms(&admission->pace, first->waiter.tokens, now_ms) <= now_ms;
    if (!in_time && admission->has_timekeeper && admission->timekeeper == id)
        return;
    *wake = (sj_wake){true, first->waiter};
    if (!in_time) {
        set_timekeeper(admission, id);
        return;
    }
    occupy(admission, first->waiter.tokens, now_ms);
    sj_line_serve_first(admission->line);
}

static int64_t sooner(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t latest_ms(const sj_admission *admission, const sj_line_place *place) {
    int64_t until = place->joined_ms + admission->rules.timeout_ms;
    if (!admission->rules.standing_queue)
        return until;
    int64_t stands = admission->busy_since_ms + STANDS_AFTER_MS;
    int64_t shorter = place->joined_ms + STANDING_TIMEOUT_MS;
    return sooner(until, stands > shorter ? stands : shorter);
}

// When one that waits has to look again, unless it is woken before.
static int64_t again(sj_admission *admission, const sj_line_place *place, int64_t now_ms) {
    uint64_t id = place->waiter.exchange_id;
    int64_t until = latest_ms(admission, place);
    bool paced = has_free_slot(admission) && is_first(admission, id);
    if (paced)
        set_timekeeper(admission, id);
    else if (admission->has_timekeeper && admission->timekeeper == id)
        admission->has_timekeeper = false; // whoever frees a slot wakes it
    return paced ? sooner(until, sj_pace_ready_ms(&admission->pace, place->waiter.tokens, now_ms)) : until;
}

// ---- getting in -----------------------------------------------------------------------------------------

static bool has_place(const sj_admission *admission) {
    return sj_line_length(admission->line) + admission->standing_by < admission->rules.max_waiting;
}

static bool join(sj_admission *admission, const sj_waiter *waiter, int64_t now_ms) {
    int length = sj_line_length(admission->line);
    if (!has_place(admission) || !sj_line_join(admission->line, waiter, now_ms))
        return false;
    if (length == 0)
        admission->busy_since_ms = now_ms;
    return true;
}

static bool try(sj_admission *admission, const sj_waiter *waiter, int64_t now_ms) {
    bool free = sj_line_length(admission->line) == 0 && has_free_slot(admission) &&
                sj_pace_ready_ms(&admission->pace, waiter->tokens, now_ms) <= now_ms;
    if (free)
        occupy(admission, waiter->tokens, now_ms);
    return free;
}

bool sj_admission_try(sj_admission *admission, const sj_waiter *waiter, int64_t now_ms) {
    lock(admission);
    bool granted = try(admission, waiter, now_ms);
    unlock(admission);
    return granted;
}

sj_slot_answer sj_admission_acquire(sj_admission *admission, const sj_waiter *waiter, int64_t now_ms,
                                    int64_t *again_ms) {
    sj_slot_answer answer = SJ_SLOT_FULL;
    lock(admission);
    if (try(admission, waiter, now_ms)) {
        answer = SJ_SLOT_GRANTED;
    } else if (join(admission, waiter, now_ms)) {
        *again_ms = again(admission, sj_line_find(admission->line, waiter->exchange_id), now_ms);
        answer = SJ_SLOT_QUEUED;
    }
    unlock(admission);
    return answer;
}

static void leave(sj_admission *admission, const sj_line_place *place, int64_t now_ms) {
    if (place->served) {
        admission->in_flight--;
        sj_pace_give_back(&admission->pace, 1, place->waiter.tokens, now_ms);
    }
    sj_line_remove(admission->line, place->waiter.exchange_id);
}

static sj_slot_answer look(sj_admission *admission, const sj_line_place *place, int64_t now_ms,
                           int64_t *again_ms, sj_wake *wake) {
    *wake = (sj_wake){0};
    if (!place->served && is_first(admission, place->waiter.exchange_id)) {
        serve(admission, now_ms, wake);
        *wake = (sj_wake){0}; // it is looking already
    }
    if (place->served)
        return SJ_SLOT_GRANTED;
    if (now_ms < latest_ms(admission, place)) {
        *again_ms = again(admission, place, now_ms);
        return SJ_SLOT_QUEUED;
    }
    leave(admission, place, now_ms);
    serve(admission, now_ms, wake);
    return SJ_SLOT_LATE;
}

sj_slot_answer sj_admission_look(sj_admission *admission, uint64_t exchange_id, int64_t now_ms,
                                 int64_t *again_ms, sj_wake *wake) {
    lock(admission);
    const sj_line_place *place = sj_line_find(admission->line, exchange_id);
    assert(place);
    sj_slot_answer answer = look(admission, place, now_ms, again_ms, wake);
    unlock(admission);
    return answer;
}

void sj_admission_take(sj_admission *admission, uint64_t exchange_id, int64_t now_ms, sj_wake *wake) {
    lock(admission);
    const sj_line_place *place = sj_line_find(admission->line, exchange_id);
    assert(place && place->served);
    sj_line_remove(admission->line, exchange_id);
    serve(admission, now_ms, wake);
    unlock(admission);
}

void sj_admission_leave(sj_admission *admission, uint64_t exchange_id, int64_t now_ms, sj_wake *wake) {
    *wake = (sj_wake){0};
    lock(admission);
    const sj_line_place *place = sj_line_find(admission->line, exchange_id);
    if (place) {
        leave(admission, place, now_ms);
        serve(admission, now_ms, wake);
    }
    unlock(admission);
}

bool sj_admission_stand_by(sj_admission *admission, bool again) {
    lock(admission);
    bool free = again || has_place(admission);
    admission->standing_by += free;
    unlock(admission);
    return free;
}

void sj_admission_stand_down(sj_admission *admission) {
    lock(admission);
    assert(admission->standing_by > 0);
    admission->standing_by--;
    unlock(admission);
}

void sj_admission_next(sj_admission *admission, int64_t now_ms, sj_wake *wake) {
    lock(admission);
    serve(admission, now_ms, wake);
    unlock(admission);
}

// ---- what an attempt has shown --------------------------------------------------------------------------

void sj_admission_congested(sj_admission *admission, sj_congestion kind, int64_t started_ms, int64_t now_ms) {
    lock(admission);
    (void)sj_limiter_congested(&admission->limiter, kind, admission->in_flight, started_ms, now_ms);
    unlock(admission);
}

void sj_admission_succeeded(sj_admission *admission, int64_t started_ms, int64_t now_ms) {
    lock(admission);
    sj_limiter_succeeded(&admission->limiter, admission->in_flight, started_ms, now_ms);
    unlock(admission);
}

void sj_admission_give_back(sj_admission *admission, int requests, int64_t tokens, int64_t now_ms) {
    lock(admission);
    sj_pace_give_back(&admission->pace, requests, tokens, now_ms);
    unlock(admission);
}

static double faded(const releases *r, int64_t now_ms) {
    return r->weight * exp(-(double)(now_ms - r->at_ms) / MEMORY_MS);
}

static void note_release(releases *r, int64_t now_ms) {
    double weight = faded(r, now_ms);
    if (weight < FORGOTTEN)
        r->since_ms = now_ms;
    r->weight = weight + 1;
    r->at_ms = now_ms;
}

void sj_admission_release(sj_admission *admission, int64_t now_ms, sj_wake *wake) {
    lock(admission);
    assert(admission->in_flight > 0);
    admission->in_flight--;
    note_release(&admission->releases, now_ms);
    serve(admission, now_ms, wake);
    unlock(admission);
}

// ---- for people -----------------------------------------------------------------------------------------

// Releases per ms: as measured, else as the latency lets expect; 0 unknown.
static double drain_rate(const sj_admission *admission, int64_t now_ms) {
    const releases *r = &admission->releases;
    double weight = faded(r, now_ms);
    int64_t age_ms = now_ms - r->since_ms;
    if (weight >= FORGOTTEN) // what was before the first release counts for nothing
        return weight / (MEMORY_MS * (1 - exp(-fmax((double)age_ms, 1000) / MEMORY_MS)));
    int64_t p50 = sj_latency_quantile(&admission->limiter.latency, 0.5);
    return p50 > 0 ? sj_limiter_limit(&admission->limiter) / (double)p50 : 0;
}

int64_t sj_admission_retry_after_ms(sj_admission *admission, int64_t now_ms, sj_rng *rng) {
    lock(admission);
    double rate = drain_rate(admission, now_ms);
    int waiting = sj_line_length(admission->line);
    unlock(admission);
    double wait = rate > 0 ? ceil((waiting + 1) / rate / 1000) * 1000 : RETRY_AFTER_UNKNOWN_MS;
    int64_t ms = (int64_t)fmin(fmax(wait, RETRY_AFTER_MIN_MS), RETRY_AFTER_MAX_MS);
    ms += sj_rng_between(rng, 0, ms / 2);
    return ms < RETRY_AFTER_MAX_MS ? ms : RETRY_AFTER_MAX_MS;
}

sj_admission_stats sj_admission_read(sj_admission *admission) {
    lock(admission);
    sj_admission_stats stats = {
        .in_flight = admission->in_flight,
        .waiting = sj_line_length(admission->line),
        .standing_by = admission->standing_by,
        .limit = sj_limiter_limit(&admission->limiter),
        .max = admission->rules.max_concurrent,
        .cuts = admission->limiter.cuts,
    };
    unlock(admission);
    return stats;
}
