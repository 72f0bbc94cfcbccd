// One model at one upstream: breaker, retry budget, hint gates, latency (BEHAVIOUR 1, 5, 7, 8). Shared by all workers and exchanges.
// Thread-safe: one small mutex inside, held for arithmetic only, never across I/O or a call out. Reference counted: a reload keeps the state.
// The upstream's slots (admission.h) and the global breaker hang on it but keep their own locks; they are never taken together.
#ifndef SJ_TARGET_H
#define SJ_TARGET_H

#include "admission.h"
#include "budget.h"
#include "global_breaker.h"

typedef struct sj_target sj_target;

typedef struct sj_target_rules {
    sj_breaker_rules breaker;
    sj_budget_rules budget;
} sj_target_rules;

// name: "upstream/model" or "upstream"; copied. admission and global: borrowed, outlive the target; global may be NULL.
// origin: hash of the base URL's scheme, host and port.
sj_target *sj_target_new(const char *name, uint64_t origin, const sj_target_rules *rules, sj_admission *admission,
                         sj_global_breaker *global, uint64_t seed, int64_t now_ms);
sj_target *sj_target_ref(sj_target *target);
void sj_target_unref(sj_target **target); // NULL-safe
void sj_target_set_rules(sj_target *target, const sj_target_rules *rules);
const char *sj_target_name(const sj_target *target);
sj_admission *sj_target_admission(const sj_target *target);

// ---- permission to attempt --------------------------------------------------------------------------------------------------

typedef enum sj_admit { SJ_ADMIT_YES, SJ_ADMIT_BREAKER_OPEN, SJ_ADMIT_GLOBAL_OPEN, SJ_ADMIT_GATED } sj_admit;

// Handed out by admit, handed back exactly once by report; zero-initialised means "not held".
typedef struct sj_permit {
    sj_breaker_permit breaker, global;
    int64_t started_ms;
    uint64_t credential;
    int64_t probe_until_ms; // of a probe: a stream without content by then counts as failed (the journey ends the attempt); else 0
    bool timed;             // its first content is in the latency record
} sj_permit;

enum { SJ_CHANGES_MAX = 2 };
typedef struct sj_changes { // transitions caused by one call; global ones are marked
    struct {
        sj_breaker_change change;
        bool global;
    } list[SJ_CHANGES_MAX];
    int count;
} sj_changes;

// credential: hash of the credential that would be sent (hint gates are per credential). On anything but YES *retry_at_ms says when to ask again: of several
// obstacles the one that lasts longest is named.
__attribute__((warn_unused_result)) sj_admit sj_target_admit(sj_target *target, uint64_t credential, int64_t now_ms, sj_permit *permit,
                                                     int64_t *retry_at_ms, sj_changes *changes);
// The same question without taking anything.
sj_admit sj_target_would_admit(sj_target *target, uint64_t credential, int64_t now_ms, int64_t *retry_at_ms);

typedef struct sj_report {
    sj_breaker_outcome outcome;
    bool own_side;              // DNS, no route, connect: feeds the global breaker
    bool streaming;             // which of the two slow limits holds
    int64_t first_content_ms;   // since start; -1: none came
    uint64_t exchange_id;
} sj_report;

// The attempt's end; gives the permit back (once; further calls do nothing).
void sj_target_report(sj_target *target, sj_permit *permit, const sj_report *report, int64_t now_ms, sj_changes *changes);
// First content of a streamed attempt: a probe gets its verdict now (the permit then is settled, the later report changes nothing);
// the time goes into the target's latency record.
void sj_target_content(sj_target *target, sj_permit *permit, bool streaming, uint64_t exchange_id, int64_t now_ms, sj_changes *changes);

// ---- hints ------------------------------------------------------------------------------------------------------------------

// The upstream said "not before until_ms" to this credential, answering an attempt started at refused_ms. A later until_ms extends, an earlier one
// changes nothing; a success reported of an attempt started after refused_ms lifts it. Bounded LRU of 64.
void sj_target_gate(sj_target *target, uint64_t credential, int64_t until_ms, int64_t refused_ms, int64_t now_ms);
// When this exchange may pass the gate: 0 = no gate; else until_ms plus a stagger that grows with each one told so (spread over at most 5 s).
int64_t sj_target_gate_turn(sj_target *target, uint64_t credential, int64_t now_ms, sj_rng *rng);

// ---- budget -----------------------------------------------------------------------------------------------------------------

void sj_target_count_request(sj_target *target, int64_t now_ms);
__attribute__((warn_unused_result)) bool sj_target_charge(sj_target *target, bool throttled_or_timed_out, int64_t now_ms, sj_charge *charge);
void sj_target_refund(sj_target *target, sj_charge *charge);
void sj_target_success(sj_target *target, sj_charge *charge);

// ---- for people -------------------------------------------------------------------------------------------------------------

// Only the breaker's state: cheap.
sj_breaker_state sj_target_state(sj_target *target);

typedef struct sj_target_stats {
    sj_breaker_state state;
    int64_t open_until_ms;   // meaningful while open
    int consecutive_failures, window_calls, window_failures, window_slow;
    uint64_t generation, stale_results;
    int in_flight, budget_available, gates;
    int64_t p50_first_content_ms, p95_first_content_ms; // of streams; -1: fewer than 20 samples
    int64_t p50_whole_ms, p95_whole_ms;                 // of whole answers, to their end
} sj_target_stats;
sj_target_stats sj_target_read(sj_target *target, int64_t now_ms);
void sj_target_force(sj_target *target, sj_breaker_state state, int64_t now_ms, sj_changes *changes);

#endif
