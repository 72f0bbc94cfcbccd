// Retry budget (BEHAVIOUR 8): AWS SDK retry quota (500 / 14 / 5, refund on success) with a floor for quiet services. Pure; the caller locks.
#ifndef SJ_BUDGET_H
#define SJ_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

typedef struct sj_budget_rules {
    bool enabled;
    int capacity;         // 500
    int retry_cost;       // 14
    int throttle_cost;    // 5, after a throttle or timeout
    int floor_per_minute; // 6: min(floor, max(1, 10 % of the requests of the last 60 s)) retries pass when it is empty
} sj_budget_rules;

extern const sj_budget_rules sj_budget_rules_default;

enum { SJ_BUDGET_BUCKETS = 12, SJ_BUDGET_FLOOR_MAX = 64 };

typedef struct sj_budget {
    sj_budget_rules rules;
    int available;
    struct { int64_t index; int requests; } requests[SJ_BUDGET_BUCKETS]; // 5 s each
    int64_t floor_used_ms[SJ_BUDGET_FLOOR_MAX]; // ring of the floor retries of the last 60 s
    int floor_next;
} sj_budget;

// What a retry paid; kept by the journey until the attempt ends, then handed to success, refund or dropped.
typedef struct sj_charge {
    int paid;        // 0: nothing, or passed on the floor
    bool from_floor;
    int64_t floor_ms; // when it passed on the floor
} sj_charge;

void sj_budget_init(sj_budget *budget, const sj_budget_rules *rules, int64_t now_ms);
void sj_budget_set_rules(sj_budget *budget, const sj_budget_rules *rules);
// Counts a first attempt (for the floor's 10 %).
void sj_budget_request(sj_budget *budget, int64_t now_ms);
// False: refused.
__attribute__((warn_unused_result)) bool sj_budget_charge(sj_budget *budget, bool throttled_or_timed_out, int64_t now_ms, sj_charge *charge);
// The attempt was never sent: all of it back.
void sj_budget_refund(sj_budget *budget, sj_charge *charge);
// The attempt succeeded: what it paid comes back, or +1 when it paid nothing. Clears the charge.
void sj_budget_success(sj_budget *budget, sj_charge *charge);

#endif
