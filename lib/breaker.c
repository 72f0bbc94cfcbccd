#include "breaker.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum {
    HALF_OPEN_RETRY_MS = 50,
    HEALTHY_MS = 60 * 1000, // closed for this long (and for the last open time): growth starts anew
    REOPENINGS_MAX = 64,
};

const sj_breaker_rules sj_breaker_rules_default = {
    .enabled = true,
    .failure_threshold = 5,
    .failure_span_ms = 1000,
    .window_ms = 60 * 1000,
    .minimum_calls = 10,
    .failure_rate = 0.5,
    .slow_rate = 0,
    .slow_call_ms = 30 * 1000,
    .slow_call_whole_ms = 120 * 1000,
    .recovery_timeout_ms = 10 * 1000,
    .recovery_growth = 1,
    .recovery_cap_ms = 300 * 1000,
    .probe_timeout_ms = 30 * 1000,
    .half_open_max_calls = 3,
    .success_threshold = 0.5,
    .max_open_wait_ms = 15 * 1000,
};

static const char *const state_names[] = {
    [SJ_BREAKER_CLOSED] = "closed",       [SJ_BREAKER_OPEN] = "open",
    [SJ_BREAKER_HALF_OPEN] = "half_open", [SJ_BREAKER_FORCED_OPEN] = "forced_open",
    [SJ_BREAKER_DISABLED] = "disabled",
};

const char *sj_breaker_state_name(sj_breaker_state state) {
    return state_names[state];
}

// ---- the window -----------------------------------------------------------------------------------------

static int64_t bucket_ms(const sj_breaker_rules *rules) {
    int64_t width = rules->window_ms / SJ_BREAKER_BUCKETS;
    return width > 0 ? width : 1;
}

static sj_breaker_bucket *bucket_of(sj_breaker *breaker, int64_t index) {
    return &breaker->buckets[(uint64_t)index % SJ_BREAKER_BUCKETS];
}

static void clear_window(sj_breaker *breaker) {
    for (int i = 0; i < SJ_BREAKER_BUCKETS; i++)
        breaker->buckets[i] = (sj_breaker_bucket){.index = INT64_MIN};
}

// Workers' clocks may differ by a moment, so a bucket may be younger than index: then it takes the counts too.
static void add_counts(sj_breaker *breaker, int64_t index, const sj_breaker_bucket *counts) {
    sj_breaker_bucket *bucket = bucket_of(breaker, index);
    if (bucket->index < index)
        *bucket = (sj_breaker_bucket){.index = index};
    bucket->calls += counts->calls;
    bucket->failures += counts->failures;
    bucket->slow += counts->slow;
}

sj_breaker_bucket sj_breaker_window(const sj_breaker *breaker, int64_t now_ms) {
    int64_t oldest = now_ms / bucket_ms(&breaker->rules) - SJ_BREAKER_BUCKETS + 1;
    sj_breaker_bucket sum = {0};
    for (int i = 0; i < SJ_BREAKER_BUCKETS; i++) {
        const sj_breaker_bucket *bucket = &breaker->buckets[i];
        if (bucket->index < oldest)
            continue;
        sum.calls += bucket->calls;
        sum.failures += bucket->failures;
        sum.slow += bucket->slow;
    }
    return sum;
}

// A bucket's index depends on its width: the counts move to the buckets of the new width, oldest first.
static void change_width(sj_breaker *breaker, int64_t old_ms, int64_t new_ms) {
    sj_breaker_bucket old[SJ_BREAKER_BUCKETS];
    memcpy(old, breaker->buckets, sizeof old);
    clear_window(breaker);
    int64_t newest = INT64_MIN;
    for (int i = 0; i < SJ_BREAKER_BUCKETS; i++)
        newest = old[i].index > newest ? old[i].index : newest;
    for (int back = SJ_BREAKER_BUCKETS - 1; newest != INT64_MIN && back >= 0; back--) {
        const sj_breaker_bucket *bucket = &old[(uint64_t)(newest - back) % SJ_BREAKER_BUCKETS];
        if (bucket->index == newest - back)
            add_counts(breaker, bucket->index * old_ms / new_ms, bucket);
    }
}

// ---- changes of state -----------------------------------------------------------------------------------

static void clear_run(sj_breaker *breaker) {
    breaker->consecutive = 0;
    breaker->failing_exchanges_differ = false;
}

static void set_state(sj_breaker *breaker, sj_breaker_state to, const char *reason, int64_t now_ms,
                      sj_breaker_change *change) {
    *change = (sj_breaker_change){true, breaker->state, to, reason};
    breaker->state = to;
    breaker->generation++;
    breaker->probes_out = 0;
    breaker->probes_succeeded = 0;
    clear_window(breaker);
    clear_run(breaker);
    if (to == SJ_BREAKER_CLOSED)
        breaker->closed_since_ms = now_ms;
}

static int64_t recovery_ms(const sj_breaker *breaker, sj_rng *rng) {
    const sj_breaker_rules *rules = &breaker->rules;
    double base = (double)rules->recovery_timeout_ms;
    double cap = fmax(base, (double)rules->recovery_cap_ms);
    double grown = fmin(cap, base * pow(fmax(1, rules->recovery_growth), breaker->reopenings));
    int64_t drawn = llround(grown * (0.8 + 0.4 * sj_rng_unit(rng)));
    return drawn > 0 ? drawn : 1;
}

static void open_up(sj_breaker *breaker, const char *reason, int64_t now_ms, sj_rng *rng,
                    sj_breaker_change *change) {
    int64_t healthy_ms = breaker->open_for_ms > HEALTHY_MS ? breaker->open_for_ms : HEALTHY_MS;
    if (breaker->state == SJ_BREAKER_HALF_OPEN)
        breaker->reopenings += breaker->reopenings < REOPENINGS_MAX;
    else if (now_ms - breaker->closed_since_ms >= healthy_ms)
        breaker->reopenings = 0;
    set_state(breaker, SJ_BREAKER_OPEN, reason, now_ms, change);
    breaker->open_for_ms = recovery_ms(breaker, rng);
    breaker->open_until_ms = now_ms + breaker->open_for_ms;
}

void sj_breaker_init(sj_breaker *breaker, const sj_breaker_rules *rules, int64_t now_ms) {
    *breaker = (sj_breaker){.rules = *rules, .generation = 1, .closed_since_ms = now_ms};
    clear_window(breaker);
}

void sj_breaker_set_rules(sj_breaker *breaker, const sj_breaker_rules *rules) {
    int64_t old_ms = bucket_ms(&breaker->rules), new_ms = bucket_ms(rules);
    breaker->rules = *rules;
    if (old_ms != new_ms)
        change_width(breaker, old_ms, new_ms);
}

void sj_breaker_force(sj_breaker *breaker, sj_breaker_state state, int64_t now_ms,
                      sj_breaker_change *change) {
    assert(state == SJ_BREAKER_FORCED_OPEN || state == SJ_BREAKER_DISABLED || state == SJ_BREAKER_CLOSED);
    *change = (sj_breaker_change){0};
    if (state == SJ_BREAKER_CLOSED)
        breaker->reopenings = 0;
    if (breaker->state != state) {
        set_state(breaker, state, "operator", now_ms, change);
    } else if (state == SJ_BREAKER_CLOSED) {
        clear_window(breaker);
        clear_run(breaker);
    }
}

// ---- admission ------------------------------------------------------------------------------------------

static int probe_limit(const sj_breaker_rules *rules) {
    int limit = rules->half_open_max_calls;
    return limit < 1 ? 1 : limit > SJ_BREAKER_PROBES_MAX ? SJ_BREAKER_PROBES_MAX : limit;
}

static int successes_to_close(const sj_breaker_rules *rules) {
    int limit = probe_limit(rules);
    double wanted = ceil(limit * rules->success_threshold - 1e-9);
    return wanted < 1 ? 1 : wanted > limit ? limit : (int)wanted;
}

// The oldest stand first, so the overdue ones are a prefix.
static int overdue_probes(const sj_breaker *breaker, int64_t now_ms) {
    int n = 0;
    while (n < breaker->probes_out && now_ms - breaker->probes[n].at_ms >= breaker->rules.probe_timeout_ms)
        n++;
    return n;
}

static void remove_probes(sj_breaker *breaker, int at, int n) {
    breaker->probes_out -= n;
    memmove(&breaker->probes[at], &breaker->probes[at + n],
            (size_t)(breaker->probes_out - at) * sizeof breaker->probes[0]);
}

static void forget_probe(sj_breaker *breaker, uint64_t serial) {
    for (int i = 0; i < breaker->probes_out; i++) {
        if (breaker->probes[i].serial == serial) {
            remove_probes(breaker, i, 1);
            return;
        }
    }
}

static bool admits_probe(const sj_breaker *breaker, int64_t now_ms, int64_t *retry_at_ms) {
    int overdue = overdue_probes(breaker, now_ms);
    if (breaker->probes_out - overdue < probe_limit(&breaker->rules))
        return true;
    int64_t free_at = breaker->probes[overdue].at_ms + breaker->rules.probe_timeout_ms;
    int64_t soon = now_ms + HALF_OPEN_RETRY_MS;
    *retry_at_ms = free_at < soon ? free_at : soon;
    return false;
}

bool sj_breaker_would_admit(const sj_breaker *breaker, int64_t now_ms, int64_t *retry_at_ms) {
    *retry_at_ms = now_ms;
    if (breaker->state == SJ_BREAKER_FORCED_OPEN) {
        *retry_at_ms = INT64_MAX;
        return false;
    }
    if (!breaker->rules.enabled)
        return true;
    if (breaker->state == SJ_BREAKER_HALF_OPEN)
        return admits_probe(breaker, now_ms, retry_at_ms);
    if (breaker->state != SJ_BREAKER_OPEN || now_ms >= breaker->open_until_ms)
        return true;
    *retry_at_ms = breaker->open_until_ms;
    return false;
}

static void send_probe(sj_breaker *breaker, int64_t now_ms, sj_breaker_permit *permit) {
    remove_probes(breaker, 0, overdue_probes(breaker, now_ms));
    permit->probe = true;
    permit->serial = ++breaker->probe_serial;
    assert(breaker->probes_out < SJ_BREAKER_PROBES_MAX);
    breaker->probes[breaker->probes_out++] = (sj_breaker_probe){permit->serial, now_ms};
}

bool sj_breaker_admit(sj_breaker *breaker, int64_t now_ms, sj_breaker_permit *permit, int64_t *retry_at_ms,
                      sj_breaker_change *change) {
    *permit = (sj_breaker_permit){0};
    *change = (sj_breaker_change){0};
    if (!sj_breaker_would_admit(breaker, now_ms, retry_at_ms))
        return false;
    bool watching = breaker->state == SJ_BREAKER_OPEN || breaker->state == SJ_BREAKER_HALF_OPEN;
    if (watching && !breaker->rules.enabled)
        set_state(breaker, SJ_BREAKER_CLOSED, "operator", now_ms, change);
    else if (breaker->state == SJ_BREAKER_OPEN)
        set_state(breaker, SJ_BREAKER_HALF_OPEN, "recovery time over", now_ms, change);
    *permit = (sj_breaker_permit){.generation = breaker->generation, .held = true};
    if (breaker->state == SJ_BREAKER_HALF_OPEN)
        send_probe(breaker, now_ms, permit);
    breaker->in_flight++;
    return true;
}

// ---- results --------------------------------------------------------------------------------------------

static void count_run(sj_breaker *breaker, sj_breaker_outcome outcome, uint64_t exchange_id, int64_t now_ms) {
    if (outcome == SJ_OUTCOME_SUCCESS) {
        clear_run(breaker);
    } else if (outcome == SJ_OUTCOME_FAILURE && breaker->consecutive++ == 0) {
        breaker->first_failure_ms = now_ms;
        breaker->failing_exchange = exchange_id;
    } else if (outcome == SJ_OUTCOME_FAILURE && exchange_id != breaker->failing_exchange) {
        breaker->failing_exchanges_differ = true;
    }
}

static bool run_trips(const sj_breaker *breaker, int64_t now_ms) {
    const sj_breaker_rules *rules = &breaker->rules;
    bool from_two = breaker->always_from_two || breaker->in_flight > 0;
    return rules->failure_threshold > 0 && breaker->consecutive >= rules->failure_threshold &&
           now_ms - breaker->first_failure_ms >= rules->failure_span_ms &&
           (!from_two || breaker->failing_exchanges_differ);
}

// Divided, not multiplied: 3 of 10 is then exactly the 0.3 somebody wrote.
static bool rate_trips(int part, int calls, double rate) {
    return rate > 0 && (double)part / calls >= rate;
}

static const char *reason_to_open(const sj_breaker *breaker, sj_breaker_outcome outcome, int64_t now_ms) {
    const sj_breaker_rules *rules = &breaker->rules;
    if (outcome == SJ_OUTCOME_FAILURE && run_trips(breaker, now_ms))
        return "consecutive failures";
    sj_breaker_bucket window = sj_breaker_window(breaker, now_ms);
    if (window.calls < 1 || window.calls < rules->minimum_calls)
        return NULL;
    // Ten calls of a busy start say little: as with the run of failures, a rate has to hold for a while.
    if (now_ms - breaker->closed_since_ms < rules->failure_span_ms)
        return NULL;
    if (rate_trips(window.failures, window.calls, rules->failure_rate))
        return "failure rate";
    return rate_trips(window.slow, window.calls, rules->slow_rate) ? "slow rate" : NULL;
}

static void judge_probe(sj_breaker *breaker, sj_breaker_outcome outcome, bool slow, int64_t now_ms,
                        sj_rng *rng, sj_breaker_change *change) {
    if (outcome == SJ_OUTCOME_FAILURE)
        open_up(breaker, "probe failed", now_ms, rng, change);
    else if (outcome == SJ_OUTCOME_SUCCESS && slow && breaker->rules.slow_rate > 0)
        open_up(breaker, "slow probe", now_ms, rng, change);
    else if (outcome == SJ_OUTCOME_SUCCESS &&
             ++breaker->probes_succeeded >= successes_to_close(&breaker->rules))
        set_state(breaker, SJ_BREAKER_CLOSED, "probes succeeded", now_ms, change);
}

void sj_breaker_report(sj_breaker *breaker, sj_breaker_permit *permit, sj_breaker_outcome outcome, bool slow,
                       uint64_t exchange_id, int64_t now_ms, sj_rng *rng, sj_breaker_change *change) {
    *change = (sj_breaker_change){0};
    if (!permit->held)
        return;
    permit->held = false;
    assert(breaker->in_flight > 0);
    breaker->in_flight--;
    if (permit->generation != breaker->generation) { // invariant 4
        breaker->stale_results++;
        return;
    }
    if (permit->probe)
        forget_probe(breaker, permit->serial);
    if (outcome == SJ_OUTCOME_NEUTRAL && !(slow && breaker->rules.slow_rate > 0))
        return;
    sj_breaker_bucket counts = {.calls = 1, .failures = outcome == SJ_OUTCOME_FAILURE, .slow = slow};
    add_counts(breaker, now_ms / bucket_ms(&breaker->rules), &counts);
    count_run(breaker, outcome, exchange_id, now_ms);
    if (!breaker->rules.enabled)
        return;
    if (breaker->state == SJ_BREAKER_HALF_OPEN) {
        judge_probe(breaker, outcome, slow, now_ms, rng, change);
    } else if (breaker->state == SJ_BREAKER_CLOSED) {
        const char *reason = reason_to_open(breaker, outcome, now_ms);
        if (reason)
            open_up(breaker, reason, now_ms, rng, change);
    }
}
