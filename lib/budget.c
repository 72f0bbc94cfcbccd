#include "budget.h"

#include <assert.h>

enum {
    FLOOR_WINDOW_MS = 60 * 1000,
    BUCKET_MS = FLOOR_WINDOW_MS / SJ_BUDGET_BUCKETS,
    REQUESTS_PER_FLOOR_RETRY = 10,
};

static const int64_t LONG_AGO = INT64_MIN / 2;

const sj_budget_rules sj_budget_rules_default = {
    .enabled = true,
    .capacity = 500,
    .retry_cost = 14,
    .throttle_cost = 5,
    .floor_per_minute = 6,
};

void sj_budget_init(sj_budget *budget, const sj_budget_rules *rules, int64_t now_ms) {
    *budget = (sj_budget){.rules = *rules, .available = rules->capacity};
    for (int i = 0; i < SJ_BUDGET_BUCKETS; i++)
        budget->requests[i].index = now_ms / BUCKET_MS - SJ_BUDGET_BUCKETS;
    for (int i = 0; i < SJ_BUDGET_FLOOR_MAX; i++)
        budget->floor_used_ms[i] = LONG_AGO;
}

static void give(sj_budget *budget, int tokens) {
    int room = budget->rules.capacity - budget->available;
    budget->available += tokens < room ? tokens : room;
}

// What a larger capacity adds is there at once; a smaller one cuts.
void sj_budget_set_rules(sj_budget *budget, const sj_budget_rules *rules) {
    int more = rules->capacity - budget->rules.capacity;
    budget->rules = *rules;
    if (more > 0)
        budget->available += more;
    else if (budget->available > rules->capacity)
        budget->available = rules->capacity;
}

// ---- the floor ------------------------------------------------------------------------------------------

void sj_budget_request(sj_budget *budget, int64_t now_ms) {
    int64_t index = now_ms / BUCKET_MS;
    uint64_t at = (uint64_t)index % SJ_BUDGET_BUCKETS;
    if (budget->requests[at].index < index) {
        budget->requests[at].index = index;
        budget->requests[at].requests = 0;
    }
    budget->requests[at].requests++;
}

static int recent_requests(const sj_budget *budget, int64_t now_ms) {
    int64_t oldest = now_ms / BUCKET_MS - SJ_BUDGET_BUCKETS + 1;
    int sum = 0;
    for (int i = 0; i < SJ_BUDGET_BUCKETS; i++)
        sum += budget->requests[i].index >= oldest ? budget->requests[i].requests : 0;
    return sum;
}

static int floor_allowance(const sj_budget *budget, int64_t now_ms) {
    int share = recent_requests(budget, now_ms) / REQUESTS_PER_FLOOR_RETRY;
    int allowance = share > 1 ? share : 1;
    int most = budget->rules.floor_per_minute;
    most = most < SJ_BUDGET_FLOOR_MAX ? most : SJ_BUDGET_FLOOR_MAX;
    return allowance < most ? allowance : most;
}

// The ring's entry `back` places before the newest one (0).
static int64_t *floor_entry(sj_budget *budget, int back) {
    return &budget->floor_used_ms[(budget->floor_next - 1 - back + 2 * SJ_BUDGET_FLOOR_MAX) %
                                  SJ_BUDGET_FLOOR_MAX];
}

// n retries fit in the window when the n-th newest has left it.
static bool use_floor(sj_budget *budget, int64_t now_ms) {
    int allowance = floor_allowance(budget, now_ms);
    if (allowance < 1 || now_ms - *floor_entry(budget, allowance - 1) < FLOOR_WINDOW_MS)
        return false;
    budget->floor_used_ms[budget->floor_next] = now_ms;
    budget->floor_next = (budget->floor_next + 1) % SJ_BUDGET_FLOOR_MAX;
    return true;
}

// Takes the entry out and moves the newer ones down, so that the ring stays in order of time.
static void return_floor(sj_budget *budget, int64_t used_ms) {
    int back = 0;
    while (back < SJ_BUDGET_FLOOR_MAX && *floor_entry(budget, back) != used_ms)
        back++;
    if (back == SJ_BUDGET_FLOOR_MAX)
        return;
    for (; back > 0; back--)
        *floor_entry(budget, back) = *floor_entry(budget, back - 1);
    *floor_entry(budget, 0) = LONG_AGO;
    budget->floor_next = (budget->floor_next - 1 + SJ_BUDGET_FLOOR_MAX) % SJ_BUDGET_FLOOR_MAX;
}

// ---- charges --------------------------------------------------------------------------------------------

bool sj_budget_charge(sj_budget *budget, bool throttled_or_timed_out, int64_t now_ms, sj_charge *charge) {
    *charge = (sj_charge){0};
    if (!budget->rules.enabled)
        return true;
    int cost = throttled_or_timed_out ? budget->rules.throttle_cost : budget->rules.retry_cost;
    if (budget->available >= cost) {
        budget->available -= cost;
        charge->paid = cost;
        return true;
    }
    if (!use_floor(budget, now_ms))
        return false;
    charge->from_floor = true;
    charge->floor_ms = now_ms;
    return true;
}

void sj_budget_refund(sj_budget *budget, sj_charge *charge) {
    give(budget, charge->paid);
    if (charge->from_floor)
        return_floor(budget, charge->floor_ms);
    *charge = (sj_charge){0};
}

void sj_budget_success(sj_budget *budget, sj_charge *charge) {
    give(budget, charge->paid > 0 ? charge->paid : 1);
    *charge = (sj_charge){0};
    assert(budget->available <= budget->rules.capacity);
}
