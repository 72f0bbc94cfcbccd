// The target puts breaker, global breaker, gates, budget and latency behind one door: what one call does to all of them.
#include "target.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { KEY = 77, OTHER_KEY = 78, ORIGIN = 5, OTHER_ORIGIN = 6 };

struct bench {
    sj_target *target, *other;
    sj_global_breaker *global;
    int64_t now_ms, retry_at_ms;
    sj_changes changes;
    uint64_t exchange;
    sj_rng rng;
};

static sj_target_rules default_rules(void) {
    return (sj_target_rules){sj_breaker_rules_default, sj_budget_rules_default};
}

static struct bench new_bench(void) {
    struct bench bench = {.now_ms = 1000 * 1000};
    sj_target_rules rules = default_rules();
    bench.global = sj_global_breaker_new(&sj_breaker_rules_default, 1, bench.now_ms);
    bench.target = sj_target_new("strong/gpt-4.1", ORIGIN, &rules, NULL, bench.global, 2, bench.now_ms);
    bench.other = sj_target_new("cheap", OTHER_ORIGIN, &rules, NULL, bench.global, 3, bench.now_ms);
    assert_non_null(bench.target);
    sj_rng_seed(&bench.rng, 4);
    return bench;
}

static void end(struct bench *bench) {
    sj_target_unref(&bench->target);
    sj_target_unref(&bench->other);
    sj_global_breaker_free(&bench->global);
    assert_null(bench->target);
}

static sj_admit ask(struct bench *bench, sj_target *target, sj_permit *permit) {
    int64_t would_ms;
    sj_admit would = sj_target_would_admit(target, KEY, bench->now_ms, &would_ms);
    sj_admit answer =
        sj_target_admit(target, KEY, bench->now_ms, permit, &bench->retry_at_ms, &bench->changes);
    assert_int_equal(would, answer);
    assert_int_equal(would_ms, bench->retry_at_ms);
    assert_int_equal(permit->breaker.held, answer == SJ_ADMIT_YES);
    assert_int_equal(permit->global.held, answer == SJ_ADMIT_YES);
    return answer;
}

static sj_permit take(struct bench *bench, sj_target *target) {
    sj_permit permit;
    assert_int_equal(ask(bench, target, &permit), SJ_ADMIT_YES);
    return permit;
}

static void give(struct bench *bench, sj_target *target, sj_permit *permit, sj_breaker_outcome outcome,
                 bool own_side) {
    sj_report report = {.outcome = outcome, .own_side = own_side, .streaming = true, .first_content_ms = -1};
    report.exchange_id = ++bench->exchange;
    sj_target_report(target, permit, &report, bench->now_ms, &bench->changes);
}

static void fail_often(struct bench *bench, sj_target *target, int times, bool own_side) {
    for (int i = 0; i < times; i++) {
        sj_permit permit = take(bench, target);
        bench->now_ms += 300;
        give(bench, target, &permit, SJ_OUTCOME_FAILURE, own_side);
    }
}

static sj_breaker_state state(struct bench *bench, sj_target *target) {
    return sj_target_read(target, bench->now_ms).state;
}

static void has_a_name_and_is_counted(void **unused) {
    (void)unused;
    struct bench bench = new_bench();
    sj_target *again = sj_target_ref(bench.target);
    assert_ptr_equal(again, bench.target);
    sj_target_unref(&again);
    sj_target_unref(&again);
    assert_string_equal(sj_target_name(bench.target), "strong/gpt-4.1");
    assert_null(sj_target_admission(bench.target));
    end(&bench);
}

static void failures_open_it_and_probes_close_it(void **unused) {
    (void)unused;
    struct bench bench = new_bench();
    fail_often(&bench, bench.target, 5, false);
    assert_int_equal(bench.changes.count, 1);
    assert_false(bench.changes.list[0].global);
    assert_int_equal(bench.changes.list[0].change.to, SJ_BREAKER_OPEN);
    sj_permit permit;
    assert_int_equal(ask(&bench, bench.target, &permit), SJ_ADMIT_BREAKER_OPEN);
    assert_int_equal(sj_target_read(bench.target, bench.now_ms).open_until_ms, bench.retry_at_ms);
    permit = take(&bench, bench.other); // its own breaker
    give(&bench, bench.other, &permit, SJ_OUTCOME_SUCCESS, false);
    bench.now_ms = sj_target_read(bench.target, bench.now_ms).open_until_ms;
    for (int i = 0; i < 2; i++) {
        permit = take(&bench, bench.target);
        assert_int_equal(permit.probe_until_ms, bench.now_ms + 30000);
        bench.now_ms += 200;
        sj_target_content(bench.target, &permit, true, 1, bench.now_ms,
                          &bench.changes); // the verdict comes here
        assert_false(permit.breaker.held || permit.global.held);
        assert_int_equal(bench.changes.count, i);
        bench.now_ms += 60000;
        give(&bench, bench.target, &permit, SJ_OUTCOME_FAILURE, false); // what comes later changes nothing
        assert_int_equal(bench.changes.count, 0);
    }
    sj_target_stats stats = sj_target_read(bench.target, bench.now_ms);
    assert_int_equal(stats.state, SJ_BREAKER_CLOSED);
    assert_int_equal(stats.in_flight, 0);
    assert_int_equal(stats.window_failures + stats.consecutive_failures, 0);
    end(&bench);
}

static void a_stream_counts_at_its_end_but_for_probes(void **unused) {
    (void)unused;
    struct bench bench = new_bench();
    sj_permit permit = take(&bench, bench.target);
    assert_int_equal(permit.probe_until_ms, 0);
    bench.now_ms += 400;
    sj_target_content(bench.target, &permit, true, 1, bench.now_ms, &bench.changes);
    assert_true(permit.breaker.held);
    assert_false(permit.global.held); // our own side has shown that it works
    assert_int_equal(sj_target_read(bench.target, bench.now_ms).window_calls, 0);
    give(&bench, bench.target, &permit, SJ_OUTCOME_FAILURE, false);
    for (int i = 0; i < 2; i++)
        give(&bench, bench.target, &permit, SJ_OUTCOME_FAILURE, false);
    sj_target_stats stats = sj_target_read(bench.target, bench.now_ms);
    assert_int_equal(stats.window_failures, 1);
    assert_int_equal(stats.in_flight, 0);
    end(&bench);
}

static void our_own_side_stops_all(void **unused) {
    (void)unused;
    struct bench bench = new_bench();
    fail_often(&bench, bench.other, 1, true);
    fail_often(&bench, bench.target, 4, true);
    assert_int_equal(bench.changes.count, 1);
    assert_true(bench.changes.list[0].global);
    sj_permit permit;
    assert_int_equal(ask(&bench, bench.target, &permit), SJ_ADMIT_GLOBAL_OPEN);
    assert_int_equal(ask(&bench, bench.other, &permit), SJ_ADMIT_GLOBAL_OPEN);
    assert_int_equal(sj_target_read(bench.target, bench.now_ms).in_flight, 0);
    bench.now_ms = bench.retry_at_ms;
    for (int i = 0; i < 2; i++) {
        permit = take(&bench, bench.target);
        assert_true(permit.global.probe);
        give(&bench, bench.target, &permit, SJ_OUTCOME_SUCCESS, false);
    }
    assert_int_equal(sj_global_breaker_state(bench.global), SJ_BREAKER_CLOSED);
    end(&bench);
}

// The breaker is ready for a probe, but the global one is not: the probe goes back unused.
static void a_probe_that_may_not_go_is_returned(void **unused) {
    (void)unused;
    struct bench bench = new_bench();
    sj_breaker_change change;
    fail_often(&bench, bench.target, 5, false);
    bench.now_ms = sj_target_read(bench.target, bench.now_ms).open_until_ms;
    sj_global_breaker_force(bench.global, SJ_BREAKER_FORCED_OPEN, bench.now_ms, &change);
    sj_permit permit;
    for (int i = 0; i < 10; i++)
        assert_int_equal(ask(&bench, bench.target, &permit), SJ_ADMIT_GLOBAL_OPEN);
    assert_true(bench.retry_at_ms == INT64_MAX);
    assert_int_equal(sj_target_read(bench.target, bench.now_ms).in_flight, 0);
    sj_global_breaker_force(bench.global, SJ_BREAKER_CLOSED, bench.now_ms, &change);
    permit = take(&bench, bench.target);
    assert_true(permit.breaker.probe);
    give(&bench, bench.target, &permit, SJ_OUTCOME_NEUTRAL, false);
    end(&bench);
}

static void a_gate_holds_one_credential(void **unused) {
    (void)unused;
    struct bench bench = new_bench();
    sj_target_gate(bench.target, KEY, bench.now_ms + 3000, bench.now_ms, bench.now_ms);
    sj_target_gate(bench.target, KEY, bench.now_ms + 2000, bench.now_ms, bench.now_ms);
    sj_permit permit;
    assert_int_equal(ask(&bench, bench.target, &permit), SJ_ADMIT_GATED);
    assert_int_equal(bench.retry_at_ms, bench.now_ms + 3000);
    assert_int_equal(sj_target_would_admit(bench.target, OTHER_KEY, bench.now_ms, &bench.retry_at_ms),
                     SJ_ADMIT_YES);
    assert_int_equal(sj_target_read(bench.target, bench.now_ms).gates, 1);
    int64_t first = sj_target_gate_turn(bench.target, KEY, bench.now_ms, &bench.rng);
    int64_t second = sj_target_gate_turn(bench.target, KEY, bench.now_ms, &bench.rng);
    assert_true(first > bench.now_ms + 3000 && second > first && second < bench.now_ms + 3200);
    assert_int_equal(sj_target_gate_turn(bench.target, OTHER_KEY, bench.now_ms, &bench.rng), 0);
    bench.now_ms += 3000;
    permit = take(&bench, bench.target);
    give(&bench, bench.target, &permit, SJ_OUTCOME_NEUTRAL, false);
    end(&bench);
}

static void the_longest_obstacle_answers(void **unused) {
    (void)unused;
    struct bench bench = new_bench();
    fail_often(&bench, bench.target, 5, false); // open for 8..12 s
    sj_permit permit;
    sj_target_gate(bench.target, KEY, bench.now_ms + 2000, bench.now_ms, bench.now_ms);
    assert_int_equal(ask(&bench, bench.target, &permit), SJ_ADMIT_BREAKER_OPEN);
    assert_true(bench.retry_at_ms >= bench.now_ms + 8000);
    sj_target_gate(bench.target, KEY, bench.now_ms + 60000, bench.now_ms, bench.now_ms);
    assert_int_equal(ask(&bench, bench.target, &permit), SJ_ADMIT_GATED);
    assert_int_equal(bench.retry_at_ms, bench.now_ms + 60000);
    end(&bench);
}

static void slow_calls(void **unused) {
    (void)unused;
    static const struct {
        bool streaming, slow;
        int64_t elapsed_ms, content_ms;
    } rows[] = {
        {true, false, 500000, 30000}, {true, true, 500000, 30001},   {true, true, 30001, -1},
        {true, false, 30000, -1},     {false, false, 120000, 50000}, {false, true, 120001, 10},
    };
    struct bench bench = new_bench();
    for (size_t row = 0; row < sizeof rows / sizeof *rows; row++) {
        sj_target_force(bench.target, SJ_BREAKER_CLOSED, bench.now_ms, &bench.changes);
        sj_permit permit = take(&bench, bench.target);
        sj_report report = {SJ_OUTCOME_SUCCESS, false, rows[row].streaming, rows[row].content_ms, 1};
        bench.now_ms += rows[row].elapsed_ms;
        sj_target_report(bench.target, &permit, &report, bench.now_ms, &bench.changes);
        assert_int_equal(sj_target_read(bench.target, bench.now_ms).window_slow, rows[row].slow);
    }
    end(&bench);
}

static void latency_of_streams_and_of_whole_answers(void **unused) {
    (void)unused;
    struct bench bench = new_bench();
    for (int i = 1; i <= 40; i++) {
        bool streaming = i % 2;
        sj_permit permit = take(&bench, bench.target);
        int64_t content_ms = i * 10;
        if (streaming)
            sj_target_content(bench.target, &permit, true, 1, bench.now_ms + content_ms, &bench.changes);
        sj_report report = {SJ_OUTCOME_SUCCESS, false, streaming, content_ms, 1};
        sj_target_report(bench.target, &permit, &report, bench.now_ms + 1000 * i, &bench.changes);
        permit = take(&bench, bench.target);
        give(&bench, bench.target, &permit, SJ_OUTCOME_SUCCESS, false); // no content: no sample
        if (i == 38)
            assert_int_equal(sj_target_read(bench.target, bench.now_ms).p50_first_content_ms, -1);
    }
    sj_target_stats stats = sj_target_read(bench.target, bench.now_ms);
    assert_int_equal(stats.p50_first_content_ms, 190); // of 10, 30 ... 390
    assert_int_equal(stats.p95_first_content_ms, 370);
    assert_int_equal(stats.p50_whole_ms, 20000); // of 2000, 4000 ... 40000
    assert_int_equal(stats.p95_whole_ms, 38000);
    end(&bench);
}

static void budget_is_behind_the_same_door(void **unused) {
    (void)unused;
    struct bench bench = new_bench();
    sj_charge charge, throttled;
    assert_true(sj_target_charge(bench.target, false, bench.now_ms, &charge));
    assert_true(sj_target_charge(bench.target, true, bench.now_ms, &throttled));
    assert_int_equal(sj_target_read(bench.target, bench.now_ms).budget_available, 481);
    sj_target_refund(bench.target, &throttled);
    sj_target_success(bench.target, &charge);
    assert_int_equal(sj_target_read(bench.target, bench.now_ms).budget_available, 500);
    sj_target_rules rules = default_rules();
    rules.budget.capacity = 0;
    sj_target_set_rules(bench.target, &rules);
    for (int i = 0; i < 20; i++)
        sj_target_count_request(bench.target, bench.now_ms);
    for (int i = 0; i < 3; i++)
        assert_int_equal(sj_target_charge(bench.target, false, bench.now_ms, &charge), i < 2);
    end(&bench);
}

static void the_operator_has_the_last_word(void **unused) {
    (void)unused;
    struct bench bench = new_bench();
    sj_target_force(bench.target, SJ_BREAKER_FORCED_OPEN, bench.now_ms, &bench.changes);
    assert_int_equal(bench.changes.count, 1);
    sj_permit permit;
    assert_int_equal(ask(&bench, bench.target, &permit), SJ_ADMIT_BREAKER_OPEN);
    sj_target_force(bench.target, SJ_BREAKER_DISABLED, bench.now_ms, &bench.changes);
    fail_often(&bench, bench.target, 20, false);
    assert_int_equal(state(&bench, bench.target), SJ_BREAKER_DISABLED);
    sj_target_force(bench.target, SJ_BREAKER_CLOSED, bench.now_ms, &bench.changes);
    assert_int_equal(state(&bench, bench.target), SJ_BREAKER_CLOSED);
    end(&bench);
}

// ---- threads --------------------------------------------------------------------------------------------

enum { WORKERS = 4, ROUNDS = 8000, HELD = 6 };

struct errand {
    sj_target *target; // NULL: none; holds a reference
    sj_permit permit;
    sj_charge charge;
    int64_t gone_ms;
};

struct worker {
    sj_target *targets[2];
    sj_rng rng;
    uint64_t index;
    int64_t now_ms;
    struct errand errands[HELD];
    int admitted, refused, changes, wrong;
};

static int64_t draw(struct worker *worker, int64_t high) {
    return sj_rng_between(&worker->rng, 0, high);
}

static void set_out(struct worker *worker, struct errand *errand) {
    sj_target *target = worker->targets[draw(worker, 1)];
    uint64_t credential = (uint64_t)draw(worker, 100);
    int64_t retry_at_ms;
    sj_changes changes;
    sj_target_count_request(target, worker->now_ms);
    if (!sj_target_charge(target, draw(worker, 1), worker->now_ms, &errand->charge))
        worker->refused++;
    sj_admit answer =
        sj_target_admit(target, credential, worker->now_ms, &errand->permit, &retry_at_ms, &changes);
    worker->changes += changes.count;
    if (answer != SJ_ADMIT_YES) {
        (void)sj_target_gate_turn(target, credential, worker->now_ms, &worker->rng);
        sj_target_refund(target, &errand->charge);
        worker->refused++;
        return;
    }
    worker->admitted++;
    errand->target = sj_target_ref(target);
    errand->gone_ms = worker->now_ms;
}

static void come_back(struct worker *worker, struct errand *errand) {
    bool outage = worker->now_ms / 60000 % 2; // every other minute
    int64_t kind = draw(worker, 19);
    sj_changes changes;
    sj_report report = {.outcome = kind == 0             ? SJ_OUTCOME_NEUTRAL
                                   : outage || kind == 1 ? SJ_OUTCOME_FAILURE
                                                         : SJ_OUTCOME_SUCCESS,
                        .own_side = true,
                        .streaming = kind % 2,
                        .first_content_ms = kind % 4 ? worker->now_ms - errand->gone_ms : -1,
                        .exchange_id = (uint64_t)draw(worker, 1000)};
    if (report.outcome == SJ_OUTCOME_SUCCESS)
        sj_target_success(errand->target, &errand->charge);
    if (report.outcome == SJ_OUTCOME_NEUTRAL)
        sj_target_gate(errand->target, (uint64_t)draw(worker, 100), worker->now_ms + draw(worker, 2000),
                       worker->now_ms, worker->now_ms);
    sj_target_report(errand->target, &errand->permit, &report, worker->now_ms, &changes);
    worker->changes += changes.count;
    sj_target_report(errand->target, &errand->permit, &report, worker->now_ms, &changes);
    worker->wrong += changes.count;
    sj_target_unref(&errand->target);
}

static void *work(void *argument) {
    struct worker *worker = argument;
    sj_changes changes;
    for (int i = 0; i < ROUNDS; i++) {
        struct errand *errand = &worker->errands[draw(worker, HELD - 1)];
        worker->now_ms += draw(worker, 60);
        if (!errand->target)
            set_out(worker, errand);
        else if (draw(worker, 3) == 0)
            sj_target_content(errand->target, &errand->permit, true, 1, worker->now_ms, &changes);
        else
            come_back(worker, errand);
        if (i % 1000 == 0) {
            sj_target_rules rules = default_rules();
            rules.breaker.half_open_max_calls = (int)draw(worker, 5);
            rules.breaker.window_ms = 1000 + draw(worker, 60000);
            sj_target_set_rules(worker->targets[0], &rules);
        }
        int left = sj_target_read(worker->targets[i % 2], worker->now_ms).budget_available;
        worker->wrong += left < 0 || left > 500;
    }
    for (int i = 0; i < HELD; i++)
        if (worker->errands[i].target)
            come_back(worker, &worker->errands[i]);
    return NULL;
}

static void workers_share_it(void **unused) {
    (void)unused;
    static struct worker workers[WORKERS];
    pthread_t threads[WORKERS];
    struct bench bench = new_bench();
    for (int i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){.targets = {bench.target, bench.other}, .index = (uint64_t)i};
        workers[i].now_ms = bench.now_ms;
        sj_rng_seed(&workers[i].rng, (uint64_t)i);
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    int admitted = 0, refused = 0, changes = 0;
    for (int i = 0; i < WORKERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        admitted += workers[i].admitted;
        refused += workers[i].refused;
        changes += workers[i].changes;
        assert_int_equal(workers[i].wrong, 0);
    }
    assert_true(admitted > 1000 && refused > 100 && changes > 4);
    assert_int_equal(sj_target_read(bench.target, 0).in_flight + sj_target_read(bench.other, 0).in_flight, 0);
    end(&bench);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_a_name_and_is_counted),
        cmocka_unit_test(failures_open_it_and_probes_close_it),
        cmocka_unit_test(a_stream_counts_at_its_end_but_for_probes),
        cmocka_unit_test(our_own_side_stops_all),
        cmocka_unit_test(a_probe_that_may_not_go_is_returned),
        cmocka_unit_test(a_gate_holds_one_credential),
        cmocka_unit_test(the_longest_obstacle_answers),
        cmocka_unit_test(slow_calls),
        cmocka_unit_test(latency_of_streams_and_of_whole_answers),
        cmocka_unit_test(budget_is_behind_the_same_door),
        cmocka_unit_test(the_operator_has_the_last_word),
        cmocka_unit_test(workers_share_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
