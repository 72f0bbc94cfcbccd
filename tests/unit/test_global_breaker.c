// The breaker of our own side: two origins, no success anywhere, and never one provider alone.
#include "global_breaker.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { A = 1, B = 2, C = 3 };

struct bench {
    sj_global_breaker *global;
    int64_t now_ms;
    sj_breaker_change change;
};

static struct bench new_bench(void) {
    struct bench bench = {.now_ms = 1000 * 1000};
    bench.global = sj_global_breaker_new(&sj_breaker_rules_default, 5, bench.now_ms);
    assert_non_null(bench.global);
    return bench;
}

static sj_breaker_permit take(struct bench *bench) {
    sj_breaker_permit permit;
    int64_t retry_at_ms;
    assert_true(sj_global_breaker_would_admit(bench->global, bench->now_ms, &retry_at_ms));
    assert_true(sj_global_breaker_admit(bench->global, bench->now_ms, &permit, &retry_at_ms, &bench->change));
    assert_true(permit.held);
    return permit;
}

// letter: o own-side failure, p the provider's, s success, n neutral.
static void give(struct bench *bench, sj_breaker_permit *permit, char letter, uint64_t origin) {
    sj_breaker_outcome outcome = letter == 's'   ? SJ_OUTCOME_SUCCESS
                                 : letter == 'n' ? SJ_OUTCOME_NEUTRAL
                                                 : SJ_OUTCOME_FAILURE;
    sj_global_breaker_report(bench->global, permit, outcome, letter == 'o', origin, 7, bench->now_ms,
                             &bench->change);
    assert_false(permit->held);
}

static void one(struct bench *bench, char letter, uint64_t origin) {
    sj_breaker_permit permit = take(bench);
    give(bench, &permit, letter, origin);
}

static void expect(struct bench *bench, sj_breaker_state state) {
    assert_string_equal(sj_breaker_state_name(sj_global_breaker_state(bench->global)),
                        sj_breaker_state_name(state));
}

static void trip(struct bench *bench) {
    for (int i = 0; i < 5; i++) {
        expect(bench, SJ_BREAKER_CLOSED);
        bench->now_ms += 300;
        one(bench, 'o', i % 2 ? B : A);
    }
    expect(bench, SJ_BREAKER_OPEN);
}

static void reopens_at(struct bench *bench) {
    sj_breaker_permit permit;
    int64_t retry_at_ms, asked_ms;
    assert_false(
        sj_global_breaker_admit(bench->global, bench->now_ms, &permit, &retry_at_ms, &bench->change));
    assert_false(permit.held);
    assert_false(sj_global_breaker_would_admit(bench->global, bench->now_ms, &asked_ms));
    assert_int_equal(asked_ms, retry_at_ms);
    assert_in_range(retry_at_ms - bench->now_ms, 8000, 12000);
    bench->now_ms = retry_at_ms;
}

static void two_origins_open_it(void **unused) {
    (void)unused;
    struct bench bench = new_bench();
    trip(&bench);
    assert_string_equal(bench.change.reason, "consecutive failures");
    reopens_at(&bench);
    one(&bench, 's', A);
    expect(&bench, SJ_BREAKER_HALF_OPEN);
    one(&bench, 's', A);
    assert_string_equal(bench.change.reason, "probes succeeded");
    expect(&bench, SJ_BREAKER_CLOSED);
    sj_global_breaker_free(&bench.global);
    sj_global_breaker_free(&bench.global);
}

static void what_keeps_it_closed(void **unused) {
    (void)unused;
    static const struct {
        const char *what, *letters;
        const char *origins;
    } rows[] = {
        {"one origin alone", "oooooooooooo", "111111111111"},
        {"a success in between", "oooosoooosoooo", "12121212121212"},
        {"a provider's 5xx is an answer", "oooopoooopoooo", "12121312121312"},
        {"neutral outcomes", "nnnnnnnnnnnnnn", "12121212121212"},
        {"failures that are not ours", "pppppppppppppp", "12121212121212"},
    };
    for (size_t row = 0; row < sizeof rows / sizeof *rows; row++) {
        struct bench bench = new_bench();
        for (int i = 0; rows[row].letters[i]; i++) {
            bench.now_ms += 500;
            one(&bench, rows[row].letters[i], (uint64_t)rows[row].origins[i]);
            if (bench.change.changed)
                fail_msg("%s: opened", rows[row].what);
        }
        expect(&bench, SJ_BREAKER_CLOSED);
        sj_global_breaker_free(&bench.global);
    }
}

static void too_quick_does_not_open_it(void **unused) {
    (void)unused;
    struct bench bench = new_bench();
    for (uint64_t i = 0; i < 20; i++) {
        bench.now_ms += 49;
        one(&bench, 'o', i % 3);
    }
    expect(&bench, SJ_BREAKER_CLOSED);
    bench.now_ms += 100;
    one(&bench, 'o', A);
    expect(&bench, SJ_BREAKER_OPEN);
    sj_global_breaker_free(&bench.global);
}

static void results_from_before_change_nothing(void **unused) {
    (void)unused;
    struct bench bench = new_bench();
    sj_breaker_permit old[3] = {take(&bench), take(&bench), take(&bench)};
    trip(&bench);
    give(&bench, &old[0], 's', C);
    expect(&bench, SJ_BREAKER_OPEN);
    reopens_at(&bench);
    sj_breaker_permit probe = take(&bench);
    assert_true(probe.probe);
    give(&bench, &old[1], 's', C);
    expect(&bench, SJ_BREAKER_HALF_OPEN);
    give(&bench, &probe, 's', A);
    one(&bench, 's', A);
    for (int i = 0; i < 4; i++) {
        bench.now_ms += 500;
        one(&bench, 'o', A);
    }
    give(&bench, &old[2], 'o', B); // would be the fifth, and of another origin
    expect(&bench, SJ_BREAKER_CLOSED);
    one(&bench, 'o', B);
    expect(&bench, SJ_BREAKER_OPEN);
    sj_global_breaker_free(&bench.global);
}

// A is dead for good, we and B are well again: A's failed probes must not keep B out.
static void a_dead_provider_does_not_keep_it_open(void **unused) {
    (void)unused;
    struct bench bench = new_bench();
    trip(&bench);
    reopens_at(&bench);
    for (int i = 0; i < 5; i++)
        one(&bench, 'o', A);
    expect(&bench, SJ_BREAKER_HALF_OPEN);
    one(&bench, 's', B);
    one(&bench, 's', B);
    expect(&bench, SJ_BREAKER_CLOSED);
    trip(&bench);
    reopens_at(&bench);
    one(&bench, 'o', A);
    expect(&bench, SJ_BREAKER_HALF_OPEN);
    one(&bench, 'o', B); // two origins: it is us
    expect(&bench, SJ_BREAKER_OPEN);
    assert_string_equal(bench.change.reason, "probe failed");
    sj_global_breaker_free(&bench.global);
}

static void probes_are_limited_and_given_back(void **unused) {
    (void)unused;
    struct bench bench = new_bench();
    trip(&bench);
    reopens_at(&bench);
    sj_breaker_permit probes[3] = {take(&bench), take(&bench), take(&bench)};
    int64_t retry_at_ms;
    assert_false(sj_global_breaker_would_admit(bench.global, bench.now_ms, &retry_at_ms));
    assert_int_equal(retry_at_ms, bench.now_ms + 50);
    give(&bench, &probes[0], 'n', A);
    assert_true(sj_global_breaker_would_admit(bench.global, bench.now_ms, &retry_at_ms));
    give(&bench, &probes[1], 'p', A); // reached
    give(&bench, &probes[2], 's', A);
    expect(&bench, SJ_BREAKER_CLOSED);
    sj_global_breaker_free(&bench.global);
}

static void switches(void **unused) {
    (void)unused;
    struct bench bench = new_bench();
    int64_t retry_at_ms;
    sj_global_breaker_force(bench.global, SJ_BREAKER_FORCED_OPEN, bench.now_ms, &bench.change);
    assert_false(sj_global_breaker_would_admit(bench.global, bench.now_ms, &retry_at_ms));
    assert_true(retry_at_ms == INT64_MAX);
    sj_global_breaker_force(bench.global, SJ_BREAKER_CLOSED, bench.now_ms, &bench.change);
    sj_breaker_rules rules = sj_breaker_rules_default;
    rules.enabled = false;
    sj_global_breaker_set_rules(bench.global, &rules);
    for (uint64_t i = 0; i < 20; i++) {
        bench.now_ms += 500;
        one(&bench, 'o', i);
    }
    expect(&bench, SJ_BREAKER_CLOSED);
    sj_global_breaker_set_rules(bench.global, &sj_breaker_rules_default);
    one(&bench, 'o', A);
    expect(&bench, SJ_BREAKER_OPEN);
    sj_global_breaker_free(&bench.global);
}

// ---- threads --------------------------------------------------------------------------------------------

enum { WORKERS = 4, ROUNDS = 4000 };

struct worker {
    sj_global_breaker *global;
    uint64_t index;
    sj_rng rng;
    int admitted, refused;
};

static void *work(void *argument) {
    struct worker *worker = argument;
    sj_breaker_permit permit;
    sj_breaker_change change;
    int64_t retry_at_ms;
    for (int64_t i = 0; i < ROUNDS; i++) {
        int64_t now_ms = i * 20;
        if (!sj_global_breaker_admit(worker->global, now_ms, &permit, &retry_at_ms, &change)) {
            worker->refused++;
            continue;
        }
        worker->admitted++;
        bool outage = i / 500 % 2 == 1; // half of the time nothing gets through
        sj_breaker_outcome outcome = outage                                    ? SJ_OUTCOME_FAILURE
                                     : sj_rng_between(&worker->rng, 0, 9) == 0 ? SJ_OUTCOME_NEUTRAL
                                                                               : SJ_OUTCOME_SUCCESS;
        sj_global_breaker_report(worker->global, &permit, outcome, true, worker->index, worker->index, now_ms,
                                 &change);
    }
    return NULL;
}

static void workers_share_it(void **unused) {
    (void)unused;
    struct worker workers[WORKERS];
    pthread_t threads[WORKERS];
    sj_global_breaker *global = sj_global_breaker_new(&sj_breaker_rules_default, 1, 0);
    for (int i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){.global = global, .index = (uint64_t)i};
        sj_rng_seed(&workers[i].rng, (uint64_t)i);
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    int admitted = 0;
    for (int i = 0; i < WORKERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        admitted += workers[i].admitted;
    }
    assert_true(admitted > 100);
    sj_global_breaker_free(&global); // asserts that every probe came back
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_origins_open_it),
        cmocka_unit_test(what_keeps_it_closed),
        cmocka_unit_test(too_quick_does_not_open_it),
        cmocka_unit_test(results_from_before_change_nothing),
        cmocka_unit_test(a_dead_provider_does_not_keep_it_open),
        cmocka_unit_test(probes_are_limited_and_given_back),
        cmocka_unit_test(switches),
        cmocka_unit_test(workers_share_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
