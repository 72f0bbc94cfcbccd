// The breaker against scripts: sequences of known breakers re-typed as data, and our own rules.
#include "breaker.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// One word each:
//   f s n    admit (must be granted) and report failure, success, neutral; F S N: the same, slow
//   a0       admit and hold as 0;  0f: report what is held as 0
//   x        admission must be refused
//   +500     500 ms later;  5*f: five times
//   =c       state is closed (o open, h half-open, x forced open, d disabled)
//   !c       operator: closed (x forced open, d disabled)
//   @        from here on all attempts are of one exchange; again: of different ones
//   (c,f,r)  calls and failures in the window, failures in a row
//   ~2       results of an older generation so far;  .3: permits out
struct script {
    const char *name, *source;
    sj_breaker_rules rules;
    const char *words;
};

struct stage {
    sj_breaker breaker;
    sj_rng rng;
    sj_breaker_permit held[10];
    int64_t now_ms;
    uint64_t exchange;
    bool one_exchange;
    const struct script *script;
    const char *at; // the word being played
};

static void wrong(const struct stage *stage, const char *what) {
    fail_msg("%s: %s at \"%.40s\"", stage->script->name, what, stage->at);
}

static sj_breaker_state state_of(char letter) {
    static const char letters[] = "cohxd";
    const char *found = strchr(letters, letter);
    assert_non_null(found);
    return (sj_breaker_state)(found - letters);
}

static void report(struct stage *stage, sj_breaker_permit *permit, char letter) {
    char kind = (char)tolower(letter);
    sj_breaker_outcome outcome = kind == 'f'   ? SJ_OUTCOME_FAILURE
                                 : kind == 's' ? SJ_OUTCOME_SUCCESS
                                               : SJ_OUTCOME_NEUTRAL;
    stage->exchange += !stage->one_exchange;
    sj_breaker_change change;
    sj_breaker_state before = stage->breaker.state;
    sj_breaker_report(&stage->breaker, permit, outcome, kind != letter, stage->exchange, stage->now_ms,
                      &stage->rng, &change);
    if (change.changed != (before != stage->breaker.state) || (change.changed && !change.reason))
        wrong(stage, "the change is not told");
}

static void admit(struct stage *stage, sj_breaker_permit *permit, bool expected) {
    int64_t retry_at_ms;
    sj_breaker_change change;
    bool would = sj_breaker_would_admit(&stage->breaker, stage->now_ms, &retry_at_ms);
    bool yes = sj_breaker_admit(&stage->breaker, stage->now_ms, permit, &retry_at_ms, &change);
    if (yes != expected || would != yes || permit->held != yes)
        wrong(stage, expected ? "refused" : "admitted");
    if (!yes && retry_at_ms <= stage->now_ms)
        wrong(stage, "a retry time that is not ahead");
}

static void check_counts(struct stage *stage, const char *word) {
    int calls, failures, run;
    assert_int_equal(sscanf(word, "(%d,%d,%d)", &calls, &failures, &run), 3);
    sj_breaker_bucket window = sj_breaker_window(&stage->breaker, stage->now_ms);
    if (window.calls != calls || window.failures != failures || stage->breaker.consecutive != run)
        fail_msg("%s: counts (%d,%d,%d) at \"%.40s\"", stage->script->name, window.calls, window.failures,
                 stage->breaker.consecutive, stage->at);
}

static void play_word(struct stage *stage, const char *word) {
    sj_breaker_permit permit;
    sj_breaker_change change;
    if (word[0] == '+') {
        stage->now_ms += atoi(word + 1);
    } else if (word[0] == '=') {
        if (stage->breaker.state != state_of(word[1]))
            wrong(stage, sj_breaker_state_name(stage->breaker.state));
    } else if (word[0] == '!') {
        sj_breaker_force(&stage->breaker, state_of(word[1]), stage->now_ms, &change);
    } else if (word[0] == '@') {
        stage->one_exchange = !stage->one_exchange;
    } else if (word[0] == '(') {
        check_counts(stage, word);
    } else if (word[0] == '~') {
        if (stage->breaker.stale_results != (uint64_t)atoi(word + 1))
            wrong(stage, "stale results");
    } else if (word[0] == '.') {
        if (stage->breaker.in_flight != atoi(word + 1))
            wrong(stage, "permits out");
    } else if (word[0] == 'x') {
        admit(stage, &permit, false);
    } else if (word[0] == 'a') {
        admit(stage, &stage->held[word[1] - '0'], true);
    } else if (isdigit((unsigned char)word[0])) {
        report(stage, &stage->held[word[0] - '0'], word[1]);
    } else {
        admit(stage, &permit, true);
        report(stage, &permit, word[0]);
    }
}

static void play(const struct script *script) {
    struct stage stage = {.now_ms = 3000 * 1000, .script = script};
    sj_breaker_init(&stage.breaker, &script->rules, stage.now_ms);
    sj_rng_seed(&stage.rng, 7);
    char word[32];
    int length;
    for (stage.at = script->words; sscanf(stage.at, " %31s%n", word, &length) == 1; stage.at += length) {
        char *times = strchr(word, '*');
        for (int i = times ? atoi(word) : 1; i > 0; i--)
            play_word(&stage, times ? times + 1 : word);
    }
}

// Failures in a row over a span, rate of at least so many in the window, slow rate, recovery, probes, share to close.
#define RULES(row, span, rate, least, window, slow, recovery, probes, share)                                 \
    {                                                                                                        \
        .enabled = true, .failure_threshold = row, .failure_span_ms = span, .failure_rate = rate,            \
        .minimum_calls = least, .window_ms = window, .slow_rate = slow, .recovery_timeout_ms = recovery,     \
        .recovery_growth = 1, .recovery_cap_ms = 300000, .probe_timeout_ms = 30000,                          \
        .half_open_max_calls = probes, .success_threshold = share                                            \
    }
#define R4J RULES(0, 0, 0.5, 5, 5000, 0.5, 5000, 4, 1)
#define FINAGLE RULES(3, 0, 0, 10, 60000, 0, 5000, 1, 1)
#define OURS RULES(5, 1000, 0.5, 10, 60000, 0, 10000, 3, 0.5)
#define GOBREAKER RULES(6, 0, 0, 10, 60000, 0, 60000, 1, 1)
#define GOBREAKER_ROLLING RULES(0, 0, 0.6, 3, 30000, 0, 90000, 3, 1)
#define R4J_20S RULES(0, 0, 0.5, 5, 20000, 0.5, 5000, 4, 1)
#define GOBREAKER_CUSTOM RULES(0, 0, 0.6, 3, 30000, 0, 90000, 3, 1)
#define FAILSAFE_2_OF_3 RULES(0, 0, 0.66, 3, 60000, 0, 5000, 1, 1)
#define FAILSAFE_3_OF_4 RULES(0, 0, 0.75, 4, 60000, 0, 5000, 1, 1)
#define FAILSAFE_SUCCESSES RULES(2, 0, 0, 0, 60000, 0, 5000, 3, 1)
#define ALL_OFF RULES(0, 0, 0, 0, 60000, 0, 1, 1, 1)

#define GOBREAKER_TEST "sony/gobreaker v2/gobreaker_test.go "
#define R4J_TEST "resilience4j CircuitBreakerStateMachineTest "
#define FAILSAFE_TEST "failsafe-go circuitbreaker/"
#define POLLY_TEST "Polly CircuitStateControllerTests "
#define FINAGLE_TEST "twitter/finagle FailureAccrualPolicyTest "

// Two things differ from the sources throughout: recovery times have their +-20 %, and half-open is seen at admission.
static const struct script scripts[] = {
    {"gobreaker default",
     GOBREAKER_TEST "TestDefaultCircuitBreaker: more than 5 in a row, open 60 s, one probe", GOBREAKER,
     "5*f =c (5,5,5) s =c (6,5,0) f =c (7,6,1) 5*f =o (0,0,0) x x +47900 x =o +24100 a0 =h x 0f =o (0,0,0) "
     "+72000 s =c (0,0,0)"},
    {"gobreaker rolling window",
     GOBREAKER_TEST "TestRollingWindowCircuitBreaker: 30 s in 3 s buckets, 60 % of >= 3", GOBREAKER_ROLLING,
     "s f s f s f s f s f =c (10,5,1) +3000 s (11,5,0) +2000 s (12,5,0) +2000 s (13,5,0) +2000 f (14,6,1) "
     "+3000 s f (16,7,1) +3000 s f (18,8,1) +3000 s f (20,9,1) +3000 s f (22,10,1) +3000 s f (24,11,1) "
     "+3000 s f (26,12,1) +3000 f (17,8,2) f (18,9,3) f (19,10,4) f (20,11,5) f (21,12,6) f (22,13,7) =c f "
     "=o "
     "x +108000 s s =h a0 =h 0s =c (0,0,0)"},
    {"gobreaker generation", GOBREAKER_TEST "TestGeneration: an older generation's result has no effect",
     FINAGLE, "a0 a1 3*f =o .2 +6000 a2 =h .3 0s =h ~1 .2 1f =h ~2 .1 2s =c .0"},
    {"gobreaker issue 296",
     "consecutive failures must not decay with the window: an outage under rare traffic", OURS,
     "f +30000 f +30000 f +30000 f =c +30000 f =o"},
    {"r4j failure rate", R4J_TEST "shouldOpenAfterFailureRateThresholdExceeded: a success trips it too", R4J,
     "f (1,1,1) f (2,2,2) f (3,3,3) s =c (4,3,0) s =o x"},
    {"r4j slow rate", R4J_TEST "shouldOpenAfterSlowCallRateThresholdExceeded", R4J, "F S f s =c S =o"},
    {"r4j wait", R4J_TEST "shouldTransitionToHalfOpenAfterWaitDuration", R4J,
     "5*f =o x +3000 x =o +3000 a0 =h (0,0,0)"},
    {"r4j permits", R4J_TEST "shouldIncreaseCounterOnReleasePermission", R4J,
     "5*f +6000 a0 a1 a2 a3 x x 0n a0 x =h .4"},
    {"r4j permits are new", R4J_TEST "shouldOnlyPermitFourCallsInHalfOpenState", R4J,
     "5*f +6000 a0 a1 a2 a3 x 0f =o x +6000 a4 a5 a6 a7 x x .7 1s 2s 3f =h ~3 .4"},
    {"r4j slow probes",
     R4J_TEST "shouldTransitionBackToOpenStateWhenSlowCallRateIsAboveThreshold; ours at once", R4J,
     "5*f +6000 s =h S =o"},
    {"r4j ignored", R4J_TEST "shouldIgnoreExceptionsAndThenTransitionToClosed", R4J,
     "5*f +6000 n n n =h (0,0,0) s s s =h (3,0,0) s =c (0,0,0)"},
    {"r4j forced open", R4J_TEST "shouldForceOpenCircuitBreaker", R4J,
     "a0 !x =x x +6000 x =x 0f ~1 .0 !c =c s"},
    {"r4j disabled", R4J_TEST "shouldDisableCircuitBreaker; ours counts", R4J,
     "!d =d s 9*f =d (10,9,9) !c =c (0,0,0)"},
    {"r4j reset", R4J_TEST "shouldResetMetrics", R4J, "s f (2,1,1) !c =c (0,0,0)"},
    {"r4j failure rate over time", R4J_TEST "shouldOpenAfterFailureRateThresholdExceeded2", R4J_20S,
     "s +1000 s +1000 s +1000 f +1000 f =c +1000 =c f =o"},
    {"r4j slow rate over time", R4J_TEST "shouldOpenAfterSlowCallRateThresholdExceededUsingMockClock",
     R4J_20S,
     "a0 +5000 0S (1,0,0) =c a0 +5000 0S (2,0,0) =c a0 +1000 0s (3,0,0) =c a0 +1000 0s (4,0,0) =c a0 +5000 "
     "0S =o"},
    {"r4j rate of the probes",
     R4J_TEST "shouldTransitionBackToOpenStateWhenFailureRateIsAboveThreshold; ours at the first failure",
     R4J, "5*f +6000 a0 a1 a2 a3 =h (0,0,0) 0f =o 1f 2s 3f =o ~3 .0"},
    {"r4j good probes",
     R4J_TEST "shouldTransitionBackToClosedStateWhenFailureIsBelowThreshold; ours allows no failure", R4J,
     "5*f +6000 s s s =h (3,0,0) s =c (0,0,0) s (1,0,0)"},
    {"r4j released when ignored", R4J_TEST "shouldReleasePermissionWhenExceptionIgnored", R4J,
     "5*f +6000 s =h (1,0,0) s =h (2,0,0) s =h (3,0,0) n =h (3,0,0) f =o"},
    {"r4j reset while open", R4J_TEST "shouldResetToClosedState", R4J, "5*f =o x !c =c (0,0,0) s =c"},
    {"r4j hours", R4J_TEST "shouldTransitionToHalfOpenAfterPassedWaitDuration: late is as good", R4J,
     "5*f =o x +3000 x +7200000 =o a0 =h (0,0,0)"},
    {"gobreaker custom",
     GOBREAKER_TEST
     "TestCustomCircuitBreaker; there the interval is cleared at once, ours rolls on: one failure more",
     GOBREAKER_CUSTOM,
     "s f n s f n s f n s f n s f n =c (10,5,1) +29999 s =c (11,5,0) +1000 f =c (2,1,1) s f =c (4,2,1) f =o "
     "(0,0,0) x +108000 n n n n =h f =o (0,0,0) x +108000 s s =h (2,0,0) a0 (2,0,0) 0s =c (0,0,0)"},
    {"failsafe threshold", FAILSAFE_TEST "closedstate_test.go TestClosedStateFailureWithFailureThreshold",
     FINAGLE, "f s f f =c f =o"},
    {"failsafe ratio", FAILSAFE_TEST "closedstate_test.go TestClosedStateFailureWithFailureRatio",
     FAILSAFE_2_OF_3, "f s =c f =o"},
    {"failsafe ratio not met", FAILSAFE_TEST "closedstate_test.go TestClosedStateSuccessWithFailureRatio",
     FAILSAFE_3_OF_4,
     "s f s f s f s f s f s f s f s f s f s f s f s f s f s f s f s f s f s f s f s f =c (40,20,1)"},
    {"failsafe successes",
     FAILSAFE_TEST "halfopenstate_test.go TestHalfOpenFailureWithSuccessAndFailureThresholds",
     FAILSAFE_SUCCESSES, "2*f =o +6000 s s =h f =o +6000 s s =h s =c"},
    {"failsafe default", FAILSAFE_TEST "halfopenstate_test.go TestHalfOpen...WithDefaultConfig", FINAGLE,
     "3*f +6000 f =o +6000 s =c"},
    {"polly half-open", POLLY_TEST "OnActionPreExecute_HalfOpen and HalfOpen_EnsureCorrectStateTransition...",
     FINAGLE, "3*f =o x +6000 a0 =h x 0s =c 3*f +6000 a0 x 0f =o x"},
    {"polly isolated", POLLY_TEST "OnActionSuccess_... and OnActionFailureAsync_EnsureCorrectBehavior",
     FINAGLE, "a0 a1 !x =x x 0s =x 1f =x x !c =c"},
    {"finagle nth", FINAGLE_TEST "fail on nth attempt", FINAGLE, "f =c f =c f =o"},
    {"finagle success", FINAGLE_TEST "failures reset to zero on success", FINAGLE, "f s f =c f =c f =o"},
    {"finagle revived", FINAGLE_TEST "failures reset to zero on revived()", FINAGLE, "f !c f =c f =c f =o"},
    {"finagle ignorable probe", "finagle FailureAccrualFactory: an ignorable probe leaves the probe open",
     FINAGLE, "3*f +6000 a0 x 0n =h a0 x 0s =c"},
    {"polly cancelled probe", "Polly v8 closes on it, and on a late success; ours must not", FINAGLE,
     "a0 3*f +6000 n =h 0s =h ~1 f =o"},
    {"the span", "BEHAVIOUR 7", OURS, "4*f +999 f =c +1 f =o"},
    {"a success within the span", "BEHAVIOUR 7", OURS, "12*s 4*f +2000 s 4*f +999 f =c +1 f =o"},
    {"one exchange alone may open it", "BEHAVIOUR 7", OURS, "@ 4*f +1000 f =o"},
    {"one exchange among others may not", "BEHAVIOUR 7", OURS, "a0 @ 4*f +1000 4*f =c (8,8,8) @ f =o"},
    {"window", "BEHAVIOUR 7: rate from 10 calls", OURS, "+1000 f s f s f s f s f =c (9,5,1) s =o"},
    {"window just begun", "a rate has to hold for the span", OURS,
     "f s f s f s f s f s =c (10,5,0) +999 s f =c +1 f =o"},
    {"neutral outcomes", "BEHAVIOUR 7", OURS,
     "20*n =c (0,0,0) 4*f n +1000 n f =o +12000 n n n =h s n =h s =c"},
    {"slow neutral", "SOURCES d: a hung upstream that clients give up on", R4J, "4*N =c N =o"},
    {"slow is ignored while off", "BEHAVIOUR 7", OURS,
     "20*S 20*N =c (20,0,0) 15*f =c +1000 f =o +12000 S S =c"},
    {"closes at 2 of 3", "BEHAVIOUR 7: ceil(3 * 0.5)", OURS,
     "4*f +1000 f =o +12000 a0 a1 a2 x 0s =h 1s =c 2f =c ~1 .0 (0,0,0)"},
    {"hung probes", "BEHAVIOUR 7: a probe that never reports must not jam it", OURS,
     "4*f +1000 f +12000 a0 +10 a1 a2 x +29989 x +1 a3 x +10 a4 a5 x .6 0s =h 3s =c .4"},
    {"a hung probe's failure still counts", "BEHAVIOUR 7", OURS,
     "4*f +1000 f +12000 a0 a1 a2 +30000 a3 0f =o 3s =o ~1 1n 2n .0"},
    {"triggers off", "BEHAVIOUR 7", ALL_OFF, "50*f +2000 50*f =c (100,100,100)"},
};

static void scripts_play(void **unused) {
    (void)unused;
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++)
        play(&scripts[i]);
}

// ---- single calls ---------------------------------------------------------------------------------------

struct bench {
    sj_breaker breaker;
    sj_rng rng;
    sj_breaker_change change;
    int64_t retry_at_ms, now_ms;
    uint64_t exchange;
};

static struct bench new_bench(const sj_breaker_rules *rules) {
    struct bench bench = {.now_ms = 1000 * 1000};
    sj_breaker_init(&bench.breaker, rules, bench.now_ms);
    sj_rng_seed(&bench.rng, 11);
    return bench;
}

static sj_breaker_permit take(struct bench *bench) {
    sj_breaker_permit permit;
    assert_true(
        sj_breaker_admit(&bench->breaker, bench->now_ms, &permit, &bench->retry_at_ms, &bench->change));
    return permit;
}

static bool would(struct bench *bench) {
    return sj_breaker_would_admit(&bench->breaker, bench->now_ms, &bench->retry_at_ms);
}

static void give(struct bench *bench, sj_breaker_permit *permit, sj_breaker_outcome outcome) {
    sj_breaker_report(&bench->breaker, permit, outcome, false, ++bench->exchange, bench->now_ms, &bench->rng,
                      &bench->change);
}

static void fail_once(struct bench *bench) {
    sj_breaker_permit permit = take(bench);
    give(bench, &permit, SJ_OUTCOME_FAILURE);
}

static void trip(struct bench *bench) {
    for (int i = 0; i < 5; i++) {
        bench->now_ms += 300;
        fail_once(bench);
    }
    assert_int_equal(bench->breaker.state, SJ_BREAKER_OPEN);
}

static void tells_when_to_ask_again(void **unused) {
    (void)unused;
    struct bench bench = new_bench(&sj_breaker_rules_default);
    trip(&bench);
    assert_int_equal(bench.change.from, SJ_BREAKER_CLOSED);
    assert_int_equal(bench.change.to, SJ_BREAKER_OPEN);
    assert_string_equal(bench.change.reason, "consecutive failures");
    assert_false(would(&bench));
    assert_in_range(bench.retry_at_ms - bench.now_ms, 8000, 12000);
    bench.now_ms = bench.retry_at_ms;
    assert_true(would(&bench));
    assert_int_equal(bench.breaker.state, SJ_BREAKER_OPEN); // asked, not taken
    for (int i = 0; i < 3; i++)
        assert_true(take(&bench).probe);
    assert_false(would(&bench));
    assert_int_equal(bench.retry_at_ms, bench.now_ms + 50);
    bench.now_ms += 29980; // the oldest probe ends sooner than 50 ms from now
    assert_false(would(&bench));
    assert_int_equal(bench.retry_at_ms, bench.now_ms + 20);
    sj_breaker_force(&bench.breaker, SJ_BREAKER_FORCED_OPEN, bench.now_ms, &bench.change);
    assert_string_equal(bench.change.reason, "operator");
    assert_false(would(&bench));
    assert_true(bench.retry_at_ms == INT64_MAX);
}

static void a_permit_goes_back_once(void **unused) {
    (void)unused;
    struct bench bench = new_bench(&sj_breaker_rules_default);
    sj_breaker_permit permit = take(&bench), never = {0};
    assert_int_equal(bench.breaker.in_flight, 1);
    for (int i = 0; i < 3; i++)
        give(&bench, &permit, SJ_OUTCOME_FAILURE);
    give(&bench, &never, SJ_OUTCOME_FAILURE);
    assert_int_equal(bench.breaker.in_flight, 0);
    assert_int_equal(bench.breaker.consecutive, 1);
}

static int64_t reopen(struct bench *bench) {
    bench->now_ms = bench->breaker.open_until_ms;
    fail_once(bench);
    assert_string_equal(bench->change.reason, "probe failed");
    return bench->breaker.open_until_ms - bench->now_ms;
}

// The growth of SOURCES d with factor 2: 10, 20, 40 ... 300 s, each +-20 %.
static void recovery_grows_and_is_forgotten(void **unused) {
    (void)unused;
    sj_breaker_rules rules = sj_breaker_rules_default;
    rules.recovery_growth = 2;
    struct bench bench = new_bench(&rules);
    trip(&bench);
    static const int64_t grown_s[] = {20, 40, 80, 160, 300, 300, 300};
    for (size_t i = 0; i < sizeof grown_s / sizeof *grown_s; i++)
        assert_in_range(reopen(&bench), grown_s[i] * 800, grown_s[i] * 1200);
    for (int healthy = 0; healthy < 2; healthy++) {
        bench.now_ms = bench.breaker.open_until_ms;
        for (int i = 0; i < 2; i++) {
            sj_breaker_permit probe = take(&bench);
            give(&bench, &probe, SJ_OUTCOME_SUCCESS);
        }
        assert_int_equal(bench.breaker.state, SJ_BREAKER_CLOSED);
        bench.now_ms += healthy ? 400 * 1000 : 5000;
        trip(&bench);
        int64_t expected_s = healthy ? 10 : 300; // closed for a moment only: the long time holds
        assert_in_range(bench.breaker.open_until_ms - bench.now_ms, expected_s * 800, expected_s * 1200);
    }
}

static void recovery_is_spread(void **unused) {
    (void)unused;
    struct bench bench = new_bench(&sj_breaker_rules_default);
    trip(&bench);
    int64_t least = INT64_MAX, most = 0;
    for (int i = 0; i < 500; i++) {
        int64_t ms = reopen(&bench);
        assert_in_range(ms, 8000, 12000);
        least = ms < least ? ms : least;
        most = ms > most ? ms : most;
    }
    assert_in_range(least, 8000, 8100);
    assert_in_range(most, 11900, 12000);
}

static void a_smaller_limit_is_kept_with_more_out(void **unused) {
    (void)unused;
    struct bench bench = new_bench(&sj_breaker_rules_default);
    trip(&bench);
    bench.now_ms = bench.breaker.open_until_ms;
    sj_breaker_permit probes[3] = {take(&bench), take(&bench), take(&bench)};
    sj_breaker_rules rules = sj_breaker_rules_default;
    rules.half_open_max_calls = 1;
    sj_breaker_set_rules(&bench.breaker, &rules);
    assert_false(would(&bench));
    give(&bench, &probes[0], SJ_OUTCOME_NEUTRAL);
    give(&bench, &probes[1], SJ_OUTCOME_NEUTRAL);
    assert_false(would(&bench));
    give(&bench, &probes[2], SJ_OUTCOME_SUCCESS);
    assert_int_equal(bench.breaker.state, SJ_BREAKER_CLOSED);
}

static void counts_move_to_new_buckets(void **unused) {
    (void)unused;
    static const int64_t windows_ms[] = {60000, 30000, 120000, 60000, 600000};
    sj_breaker_rules rules = sj_breaker_rules_default;
    rules.failure_rate = rules.failure_threshold = 0;
    struct bench bench = new_bench(&rules);
    for (int i = 0; i < 20; i++) { // one a second
        bench.now_ms += 1000;
        fail_once(&bench);
    }
    for (size_t i = 0; i < sizeof windows_ms / sizeof *windows_ms; i++) {
        rules.window_ms = windows_ms[i];
        sj_breaker_set_rules(&bench.breaker, &rules);
        assert_int_equal(sj_breaker_window(&bench.breaker, bench.now_ms).calls, 20);
    }
    assert_int_equal(bench.breaker.consecutive, 20);
    bench.now_ms += 700000;
    assert_int_equal(sj_breaker_window(&bench.breaker, bench.now_ms).calls, 0);
}

static void switched_off_admits_and_counts(void **unused) {
    (void)unused;
    struct bench bench = new_bench(&sj_breaker_rules_default);
    trip(&bench);
    sj_breaker_rules rules = sj_breaker_rules_default;
    rules.enabled = false;
    sj_breaker_set_rules(&bench.breaker, &rules);
    for (int i = 0; i < 30; i++)
        fail_once(&bench);
    assert_int_equal(bench.breaker.state, SJ_BREAKER_CLOSED);
    assert_int_equal(sj_breaker_window(&bench.breaker, bench.now_ms).failures, 30);
    sj_breaker_force(&bench.breaker, SJ_BREAKER_FORCED_OPEN, bench.now_ms, &bench.change);
    assert_false(would(&bench)); // the operator has the last word
    sj_breaker_force(&bench.breaker, SJ_BREAKER_CLOSED, bench.now_ms, &bench.change);
    bench.now_ms += 1000;
    for (int i = 0; i < 9; i++)
        fail_once(&bench);
    sj_breaker_set_rules(&bench.breaker, &sj_breaker_rules_default);
    fail_once(&bench);
    assert_string_equal(bench.change.reason, "failure rate");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scripts_play),
        cmocka_unit_test(tells_when_to_ask_again),
        cmocka_unit_test(a_permit_goes_back_once),
        cmocka_unit_test(recovery_grows_and_is_forgotten),
        cmocka_unit_test(recovery_is_spread),
        cmocka_unit_test(a_smaller_limit_is_kept_with_more_out),
        cmocka_unit_test(counts_move_to_new_buckets),
        cmocka_unit_test(switched_off_admits_and_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
