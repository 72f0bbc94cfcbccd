#include "pace.h"

#include <math.h>
#include <stdbool.h>

static const double MINUTE_MS = 60000;
static const double ROUNDING =
    1e-6; // of a unit: a wait that was long enough must not turn out a millisecond short

static double at_least_one(double x) {
    return x < 1 ? 1 : x;
}
static double requests_size(const sj_pace *pace) {
    return at_least_one((double)pace->rules.requests_per_minute / 60);
}
static double tokens_size(const sj_pace *pace) {
    return at_least_one((double)pace->rules.tokens_per_minute / 6);
}

static double filled(double level, int64_t per_minute, int64_t ms, double size) {
    level += (double)per_minute * (double)ms / MINUTE_MS;
    return level < size ? level : size;
}

static void fill(sj_pace *pace, int64_t now_ms) {
    int64_t ms = now_ms - pace->filled_ms;
    if (ms <= 0)
        return;
    pace->filled_ms = now_ms;
    pace->requests = filled(pace->requests, pace->rules.requests_per_minute, ms, requests_size(pace));
    pace->tokens = filled(pace->tokens, pace->rules.tokens_per_minute, ms, tokens_size(pace));
}

void sj_pace_set_rules(sj_pace *pace, const sj_pace_rules *rules) {
    sj_pace_rules old = pace->rules;
    pace->rules = *rules;
    pace->requests =
        old.requests_per_minute ? fmin(pace->requests, requests_size(pace)) : requests_size(pace);
    pace->tokens = old.tokens_per_minute ? fmin(pace->tokens, tokens_size(pace)) : tokens_size(pace);
}

static int64_t wait_for(double missing, int64_t per_minute) {
    if (per_minute <= 0 || missing <= ROUNDING)
        return 0;
    double ms = ceil((missing - ROUNDING) * MINUTE_MS / (double)per_minute);
    return ms < 1 ? 1 : (int64_t)ms;
}

int64_t sj_pace_ready_ms(sj_pace *pace, int64_t tokens, int64_t now_ms) {
    fill(pace, now_ms);
    double wanted = fmin((double)tokens, tokens_size(pace));
    int64_t first = wait_for(1 - pace->requests, pace->rules.requests_per_minute);
    int64_t second = wait_for(wanted - pace->tokens, pace->rules.tokens_per_minute);
    return now_ms + (first > second ? first : second);
}

void sj_pace_spend(sj_pace *pace, int64_t tokens, int64_t now_ms) {
    sj_pace_give_back(pace, -1, -tokens, now_ms);
}

void sj_pace_give_back(sj_pace *pace, int requests, int64_t tokens, int64_t now_ms) {
    fill(pace, now_ms);
    pace->requests = fmin(pace->requests + requests, requests_size(pace));
    pace->tokens = fmin(pace->tokens + (double)tokens, tokens_size(pace));
    pace->requests = fmax(pace->requests, -at_least_one((double)pace->rules.requests_per_minute));
    pace->tokens = fmax(pace->tokens, -at_least_one((double)pace->rules.tokens_per_minute));
}
