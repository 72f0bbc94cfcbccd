// How many attempts an upstream bears at once, learnt from what it says (BEHAVIOUR 13): additive increase, multiplicative decrease on explicit
// congestion. Latency is no signal: an answer takes as long as it has tokens. Pure; the caller locks.
//
// A cut takes the limit to 0.9 of what is in use, at most once per epoch (the p50 of the upstream's latency, within 1..10 s), and attempts that
// were started before a cut say nothing against the limit after it. Two things make it larger, up to a half: what was never used is no evidence, so
// an unused limit falls to what is in flight first (as TCP cuts from the flight size, RFC 5681 section 3.1); and slots that were busy with being
// refused since the last cut are slots too many.
// An upstream that fails now and then, whatever the load, must not be strangled: each success excuses a part of a refusal, and a cut takes ten
// refusals in excess: chance alone reaches three every few seconds at 200 requests/s when a tenth is refused, ten hardly ever. So up to about a
// tenth of 429s, or a third of 503s, moves nothing.
// Successes near the limit raise it, from an epoch after the last cut on: by at most double per epoch up to half of what it was before the cuts in a row, then by 1/limit each and at
// most 1 per epoch, a step that grows by one with each ten epochs without a cut.
// Sources: Netflix concurrency-limits (AIMDLimit: x 0.9, in flight >= half), RFC 5681 (slow start threshold), Page's CUSUM test (the excess).
#ifndef SJ_LIMITER_H
#define SJ_LIMITER_H

#include "latency.h"

#include <stdbool.h>

enum { SJ_LIMITER_CUT_TAKES = 10 }; // refusals in excess

typedef enum sj_congestion {
    SJ_CONGESTION_REFUSED, // 429, 529: too much
    SJ_CONGESTION_UNWELL, // 503, connect timeout: perhaps too much
} sj_congestion;

typedef struct sj_limiter {
    int max;
    bool adaptive; // false: the limit is max, whatever happens
    double limit; // 1..max
    double excess; // of refusals over what successes excuse
    uint64_t cuts;
    int64_t cut_ms; // the last one
    int64_t refused_ms; // time that slots spent on being refused since then
    double after_cut; // what it left
    double threshold; // doubling ends here
    int64_t epoch_ms; // of growing
    double epoch_limit; // when it began
    int epochs; // since the last cut
    sj_latency latency;
} sj_limiter;

void sj_limiter_init(sj_limiter *limiter, int max, bool adaptive);
// A limit that was at its maximum follows it; a smaller one stays where it is.
void sj_limiter_set(sj_limiter *limiter, int max, bool adaptive);
// At least 1 when max is.
int sj_limiter_limit(const sj_limiter *limiter);
// in_flight: with the attempt that is told of. True: the limit was cut.
bool sj_limiter_congested(sj_limiter *limiter, sj_congestion kind, int in_flight, int64_t started_ms,
                          int64_t now_ms);
void sj_limiter_succeeded(sj_limiter *limiter, int in_flight, int64_t started_ms, int64_t now_ms);

#endif
