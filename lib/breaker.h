// Circuit breaker (BEHAVIOUR 7). Pure arithmetic on the time passed in; the caller locks (see target.h).
// Sources: gobreaker (generations), resilience4j (window, half-open permits, slow calls), Finagle (consecutive failures).
#ifndef SJ_BREAKER_H
#define SJ_BREAKER_H

#include "rng.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum sj_breaker_state {
    SJ_BREAKER_CLOSED,
    SJ_BREAKER_OPEN,
    SJ_BREAKER_HALF_OPEN,
    SJ_BREAKER_FORCED_OPEN,
    SJ_BREAKER_DISABLED,
} sj_breaker_state;

typedef struct sj_breaker_rules {
    bool enabled;
    int failure_threshold;      // consecutive failures; 5
    int64_t failure_span_ms;    // they are spread over at least this; 1 s
    int64_t window_ms;          // 60 s, in SJ_BREAKER_BUCKETS buckets
    int minimum_calls;          // 10
    double failure_rate;        // 0..1, 0 = off; 0.5
    double slow_rate;           // 0..1, 0 = off; 0
    int64_t slow_call_ms;       // first content of a stream later than this is slow; 30 s
    int64_t slow_call_whole_ms; // a whole answer longer than this is slow; 120 s
    int64_t recovery_timeout_ms;// 10 s, +-20 %
    double recovery_growth;     // factor per reopening, 1 = none
    int64_t recovery_cap_ms;    // 300 s
    int64_t probe_timeout_ms;   // 30 s
    int half_open_max_calls;    // 3
    double success_threshold;   // 0.5
    int64_t max_open_wait_ms;   // 15 s; read by the journey
} sj_breaker_rules;

extern const sj_breaker_rules sj_breaker_rules_default;

enum { SJ_BREAKER_BUCKETS = 10, SJ_BREAKER_PROBES_MAX = 64 }; // more probes than that are never out

typedef enum sj_breaker_outcome { SJ_OUTCOME_SUCCESS, SJ_OUTCOME_FAILURE, SJ_OUTCOME_NEUTRAL } sj_breaker_outcome;

// Handed out by admit, handed back exactly once by report.
typedef struct sj_breaker_permit {
    uint64_t generation;
    bool held;  // false: given back already, or never taken
    bool probe;
    uint64_t serial; // of a probe: tells it from the ones written off
} sj_breaker_permit;

typedef struct sj_breaker_probe {
    uint64_t serial;
    int64_t at_ms;
} sj_breaker_probe;

typedef struct sj_breaker_bucket {
    int64_t index; // now / bucket width when it was last written
    int calls, failures, slow;
} sj_breaker_bucket;

typedef struct sj_breaker_change {
    bool changed;
    sj_breaker_state from, to;
    const char *reason; // static: "consecutive failures", "failure rate", "slow rate", "probe failed", "slow probe", "probes succeeded", "recovery time over", "operator"
} sj_breaker_change;

typedef struct sj_breaker {
    sj_breaker_rules rules;
    sj_breaker_state state;
    uint64_t generation;        // grows with every change of state
    sj_breaker_bucket buckets[SJ_BREAKER_BUCKETS];
    int consecutive;            // undecayed
    int64_t first_failure_ms;   // of the present run of failures
    uint64_t failing_exchange;  // id of the exchange of the run's first failure
    bool failing_exchanges_differ;
    bool always_from_two;       // the "from >= 2 exchanges" rule holds even when nobody else is in flight (global breaker)
    int in_flight;              // permits out, all generations
    int64_t open_until_ms;
    int64_t open_for_ms;        // the last recovery time drawn
    int64_t closed_since_ms;
    int reopenings;             // for growth; back to 0 after a healthy while closed
    sj_breaker_probe probes[SJ_BREAKER_PROBES_MAX]; // of this half-open generation, oldest first; one older than probe_timeout_ms is written
    int probes_out;             // off at the next admission: it no longer counts against the limit, its result still does
    uint64_t probe_serial;
    int probes_succeeded;
    uint64_t stale_results;     // of an older generation: counted, no effect
} sj_breaker;

// FORCED_OPEN beats enabled = false; any other state admits everything then (and falls back to CLOSED), and still counts.
void sj_breaker_init(sj_breaker *breaker, const sj_breaker_rules *rules, int64_t now_ms);
// New parameters in place (reload); state and counts stay.
void sj_breaker_set_rules(sj_breaker *breaker, const sj_breaker_rules *rules);
// True: *permit is held. False: *retry_at_ms is the earliest moment worth asking again (open: reopening; half-open with all probes out: now + 50 ms or the
// earliest end of a probe; forced open: INT64_MAX).
__attribute__((warn_unused_result)) bool sj_breaker_admit(sj_breaker *breaker, int64_t now_ms, sj_breaker_permit *permit, int64_t *retry_at_ms, sj_breaker_change *change);
// Whether admit would say yes, changing nothing.
bool sj_breaker_would_admit(const sj_breaker *breaker, int64_t now_ms, int64_t *retry_at_ms);
// A neutral outcome is not counted, unless it is slow while the slow rate is watched: nobody waits for a hung upstream to the end.
// Gives the permit back; exactly once per held permit (further calls do nothing). exchange_id tells exchanges apart for the "from >= 2 exchanges" rule.
void sj_breaker_report(sj_breaker *breaker, sj_breaker_permit *permit, sj_breaker_outcome outcome, bool slow, uint64_t exchange_id,
                       int64_t now_ms, sj_rng *rng, sj_breaker_change *change);
// Operator: SJ_BREAKER_FORCED_OPEN, SJ_BREAKER_DISABLED, or SJ_BREAKER_CLOSED (back to normal, counts cleared).
void sj_breaker_force(sj_breaker *breaker, sj_breaker_state state, int64_t now_ms, sj_breaker_change *change);
// The window's sums; index means nothing here.
sj_breaker_bucket sj_breaker_window(const sj_breaker *breaker, int64_t now_ms);
const char *sj_breaker_state_name(sj_breaker_state state);

#endif
