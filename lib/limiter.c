#include "limiter.h"

static const double CUT = 0.9, MOST_CUT = 0.5;
static const double ENOUGH = SJ_LIMITER_CUT_TAKES,
                    MOST = 1.6 * SJ_LIMITER_CUT_TAKES; // excess refusals: for a cut; remembered
static const double EXCUSE = 0.125; // a success's worth
enum { EPOCH_MIN_MS = 1000, EPOCH_MAX_MS = 10000, EPOCHS_PER_STEP = 10 };

static double smaller(double a, double b) {
    return a < b ? a : b;
}
static double larger(double a, double b) {
    return a > b ? a : b;
}

static int64_t epoch_length(const sj_limiter *limiter) {
    int64_t p50 = sj_latency_quantile(&limiter->latency, 0.5);
    if (p50 < EPOCH_MIN_MS)
        return EPOCH_MIN_MS;
    return p50 < EPOCH_MAX_MS ? p50 : EPOCH_MAX_MS;
}

static void begin_epoch(sj_limiter *limiter, int64_t now_ms) {
    limiter->epoch_ms = now_ms;
    limiter->epoch_limit = limiter->limit;
}

// Too soon after a cut for another one, and for growing: one that grows into its limit at once is refused until the next cut is due.
static bool is_settling(const sj_limiter *limiter, int64_t now_ms) {
    return limiter->cuts > 0 && now_ms - limiter->cut_ms < epoch_length(limiter);
}

static bool is_of_the_past(const sj_limiter *limiter, int64_t started_ms) {
    return limiter->cuts > 0 && started_ms <= limiter->cut_ms;
}

void sj_limiter_init(sj_limiter *limiter, int max, bool adaptive) {
    *limiter = (sj_limiter){.max = max, .adaptive = adaptive, .limit = max, .epoch_limit = max};
}

void sj_limiter_set(sj_limiter *limiter, int max, bool adaptive) {
    bool was_whole = limiter->limit >= limiter->max;
    limiter->limit = !adaptive || was_whole ? max : smaller(limiter->limit, max);
    limiter->max = max;
    limiter->adaptive = adaptive;
}

int sj_limiter_limit(const sj_limiter *limiter) {
    return (int)limiter->limit;
}

static void cut(sj_limiter *limiter, int in_flight, int64_t now_ms) {
    double used = smaller(limiter->limit, larger(in_flight, limiter->limit * MOST_CUT));
    double elapsed_ms = (double)(now_ms - limiter->cut_ms);
    double wasted = limiter->cuts > 0 ? (double)limiter->refused_ms / elapsed_ms : 0; // slots
    if (limiter->cuts == 0 || limiter->limit >= limiter->after_cut + 1)
        limiter->threshold = limiter->limit / 2; // the first of the cuts in a row
    limiter->limit = larger(larger(smaller(CUT * used, used - wasted), MOST_CUT * used), 1);
    limiter->after_cut = limiter->limit;
    limiter->cut_ms = now_ms;
    limiter->refused_ms = 0;
    limiter->cuts++;
    limiter->excess = 0;
    limiter->epochs = 0;
    begin_epoch(limiter, now_ms);
}

bool sj_limiter_congested(sj_limiter *limiter, sj_congestion kind, int in_flight, int64_t started_ms,
                          int64_t now_ms) {
    static const double worth[] = {[SJ_CONGESTION_REFUSED] = 1, [SJ_CONGESTION_UNWELL] = 0.25};
    if (!limiter->adaptive || is_of_the_past(limiter, started_ms))
        return false;
    limiter->excess = smaller(limiter->excess + worth[kind], MOST);
    limiter->refused_ms += now_ms - started_ms;
    if (limiter->excess < ENOUGH || is_settling(limiter, now_ms))
        return false;
    cut(limiter, in_flight, now_ms);
    return true;
}

static void grow(sj_limiter *limiter, int64_t now_ms) {
    if (now_ms - limiter->epoch_ms >= epoch_length(limiter)) {
        begin_epoch(limiter, now_ms);
        limiter->epochs++;
    }
    if (limiter->limit < limiter->threshold) {
        double most = smaller(2 * limiter->epoch_limit, limiter->threshold);
        limiter->limit = larger(limiter->limit, smaller(limiter->limit + 1, most));
    } else {
        double step = 1 + limiter->epochs / EPOCHS_PER_STEP;
        double most = limiter->epoch_limit + step;
        limiter->limit = larger(limiter->limit, smaller(limiter->limit + step / limiter->limit, most));
    }
    limiter->limit = smaller(limiter->limit, limiter->max);
}

void sj_limiter_succeeded(sj_limiter *limiter, int in_flight, int64_t started_ms, int64_t now_ms) {
    sj_latency_add(&limiter->latency, now_ms - started_ms);
    if (!limiter->adaptive)
        return;
    limiter->excess = larger(limiter->excess - EXCUSE, 0);
    bool wanted = limiter->limit < limiter->max && in_flight >= (sj_limiter_limit(limiter) + 1) / 2;
    bool fine = limiter->excess < 1 && !is_settling(limiter, now_ms);
    if (wanted && fine && !is_of_the_past(limiter, started_ms))
        grow(limiter, now_ms);
}
