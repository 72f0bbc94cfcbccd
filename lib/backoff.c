#include "backoff.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>

const sj_backoff sj_backoff_default = {
    .strategy = SJ_BACKOFF_FULL_JITTER,
    .base_ms = 500,
    .cap_ms = 8000,
    .min_ms = 0,
    .exponential_base = 2.0,
    .jitter = 0.3,
    .random_max_ms = 2000,
};

const char *const sj_backoff_names[] = {
    "fixed",        "linear",       "exponential", "jitter", "full_jitter",
    "equal_jitter", "decorrelated", "plus_random", NULL,
};

// No wait is longer (about 35,000 years), so that now + wait never overflows and every sum here is exact in a double.
static const int64_t longest_ms = INT64_C(1) << 50;
// Beyond it every growth worth the name has met its cap.
enum { STEEPEST = 1000 };

static int64_t at_least(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t at_most(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t sane(int64_t ms) {
    return at_least(0, at_most(ms, longest_ms));
}

static int64_t rounded(double ms) {
    if (!(ms > 0))
        return 0;
    return ms >= (double)longest_ms ? longest_ms : (int64_t)(ms + 0.5);
}

// base * factor, at most cap: for the unjittered growths.
static int64_t grown(const sj_backoff *backoff, double factor) {
    return at_most(sane(backoff->cap_ms), rounded((double)sane(backoff->base_ms) * factor));
}

typedef struct step {
    const sj_backoff *backoff;
    int n;
    int64_t previous_ms;
    int64_t v_ms; // max(min, min(cap, base * exponential_base^(n-1)))
    sj_rng *rng;
} step;

static int64_t fixed(const step *s) {
    return sane(s->backoff->base_ms);
}

static int64_t linear(const step *s) {
    return grown(s->backoff, s->n);
}

static int64_t exponential(const step *s) {
    return s->v_ms;
}

static int64_t jitter(const step *s) {
    double factor = 1 + s->backoff->jitter * (2 * sj_rng_unit(s->rng) - 1);
    return at_least(SJ_BACKOFF_JITTER_FLOOR_MS, rounded((double)s->v_ms * factor));
}

static int64_t full_jitter(const step *s) {
    return sj_rng_between(s->rng, SJ_BACKOFF_FLOOR_MS, at_least(SJ_BACKOFF_FLOOR_MS, s->v_ms));
}

static int64_t equal_jitter(const step *s) {
    return sj_rng_between(s->rng, s->v_ms / 2, s->v_ms);
}

static int64_t decorrelated(const step *s) {
    int64_t base = sane(s->backoff->base_ms);
    return at_most(sane(s->backoff->cap_ms), sj_rng_between(s->rng, base, 3 * sane(s->previous_ms)));
}

static int64_t plus_random(const step *s) {
    return s->v_ms + sj_rng_between(s->rng, 0, sane(s->backoff->random_max_ms));
}

static int64_t (*const strategies[])(const step *) = {
    [SJ_BACKOFF_FIXED] = fixed,
    [SJ_BACKOFF_LINEAR] = linear,
    [SJ_BACKOFF_EXPONENTIAL] = exponential,
    [SJ_BACKOFF_JITTER] = jitter,
    [SJ_BACKOFF_FULL_JITTER] = full_jitter,
    [SJ_BACKOFF_EQUAL_JITTER] = equal_jitter,
    [SJ_BACKOFF_DECORRELATED] = decorrelated,
    [SJ_BACKOFF_PLUS_RANDOM] = plus_random,
};

int64_t sj_backoff_wait_ms(const sj_backoff *backoff, int n, int64_t previous_ms, sj_rng *rng) {
    assert((size_t)backoff->strategy < sizeof strategies / sizeof *strategies);
    if (n < 1)
        n = 1;
    double steepness = n - 1 < STEEPEST ? n - 1 : STEEPEST;
    int64_t v_ms = grown(backoff, pow(backoff->exponential_base, steepness));
    step s = {
        .backoff = backoff,
        .n = n,
        .previous_ms = previous_ms,
        .v_ms = at_least(sane(backoff->min_ms), v_ms),
        .rng = rng,
    };
    return strategies[backoff->strategy](&s);
}
