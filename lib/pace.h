// How much may be asked of an upstream per minute (BEHAVIOUR 13): a bucket of requests and one of tokens, filled continuously. The bucket of
// requests holds one second's worth, at least one (as botocore's does), that of tokens ten seconds' worth. A request passes when the bucket holds
// its tokens or is full, and may leave it in debt: so one larger than the bucket passes too, and the ones after it wait for both.
// Tokens are estimated before and corrected by what the answer says. Pure; the caller locks.
#ifndef SJ_PACE_H
#define SJ_PACE_H

#include <stdint.h>

typedef struct sj_pace_rules {
    int64_t requests_per_minute, tokens_per_minute; // 0 off
} sj_pace_rules;

// Zero-initialised: no rules, nothing is held up.
typedef struct sj_pace {
    sj_pace_rules rules;
    double requests, tokens; // what is in the buckets; below zero: debt
    int64_t filled_ms;
} sj_pace;

// Buckets that were off come up full; the others keep what is in them.
void sj_pace_set_rules(sj_pace *pace, const sj_pace_rules *rules);
// When a request of so many tokens may start: now_ms, or later than that.
int64_t sj_pace_ready_ms(sj_pace *pace, int64_t tokens, int64_t now_ms);
void sj_pace_spend(sj_pace *pace, int64_t tokens, int64_t now_ms);
// What was spent too much comes back; negative tokens: it was too little. Debt is bounded by a minute's worth.
void sj_pace_give_back(sj_pace *pace, int requests, int64_t tokens, int64_t now_ms);

#endif
