// Shared by journey.c (the machine) and journey_text.c (what it tells people). Nobody else includes this.
#ifndef SJ_JOURNEY_INTERNAL_H
#define SJ_JOURNEY_INTERNAL_H

#include "journey.h"

enum { MAX_HOPS = 16, MAX_RUNNING = 2 };

typedef enum journey_state {
    STATE_NEW,
    STATE_QUEUED,     // for a slot at hop's upstream
    STATE_WAITING,    // for wait_until_ms
    STATE_ATTEMPTING,
    STATE_COMMITTED,
    STATE_OVER,
} journey_state;

typedef enum wait_reason { WAIT_BACKOFF, WAIT_GATE, WAIT_REOPENING } wait_reason;

typedef struct hop_state {
    int counted;    // attempts that count against the limit
    int retry_no;   // n of the backoff formula
    int64_t previous_wait_ms;
    bool unsent_retry_used, stale_retry_used;
    bool exhausted; // never again in this exchange
    bool requested; // counted as a request in its target's budget
} hop_state;

typedef struct attempt_state {
    int id; // 0: free place
    size_t hop;
    bool holds_slot;
    bool inspected, content, held;
    bool sent_over; // told to be sent when it ended
    int status;
    sj_retry_hint hint;
    sj_permit permit;
    sj_charge charge;
    int64_t started_ms, head_ms, active_ms, first_content_ms;
    int64_t quiet_since_ms; // complete (but for [DONE]) since; -1 not yet
    bool lacks_done;
} attempt_state;

typedef enum trail_kind { TRAIL_ATTEMPT, TRAIL_WAIT, TRAIL_QUEUE } trail_kind;

typedef struct trail_entry {
    trail_kind kind;
    size_t hop;
    int64_t ms;
    char word[32]; // of an attempt: status or reason
    bool unsent, stale;
} trail_entry;

struct sj_journey {
    sj_plan plan;
    sj_rng rng;
    journey_state state;
    size_t hop;   // the one being attempted, waited for or queued at
    hop_state hops[MAX_HOPS];
    attempt_state running[MAX_RUNNING];
    int last_attempt_id;
    bool saved;
    size_t saved_hop;
    sj_class last_class;
    char last_word[32];
    size_t last_hop;
    bool budget_refused;
    // waiting
    int64_t wait_until_ms, wait_since_ms;
    wait_reason wait_for;
    // the attempt to come
    size_t next_hop;      // where the three below hold; elsewhere they are dropped
    bool next_is_fresh;
    bool next_is_free;    // does not count against the attempt limit
    sj_charge next_charge;// paid for it
    int64_t unhinted_wait_ms; // towards max_wait_total
    int64_t gate_turn_ms, gate_look_ms; // of the gate being waited at; 0 none
    int64_t open_wait_ms;     // towards max_open_wait
    int64_t earliest_ms;  // reopening or gate seen when nothing was available; INT64_MAX none
    // for labels
    char fallback[32];
    int attempts_sent, retries;
    int64_t wait_ms, queue_ms, upstream_ms;
    trail_entry trail[SJ_TRAIL_MAX];
    int trail_count;
    bool trail_cut;
};

attempt_state *journey_running(sj_journey *j, int id);

#endif
