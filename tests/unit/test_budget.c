// The retry budget: botocore's sequences as data, the floor, and the two bounds of BEHAVIOUR 8 in simulation.
#include "budget.h"
#include "rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static uint64_t base_seed(void) {
    const char *given = getenv("SJ_TEST_SEED");
    return given ? strtoull(given, NULL, 10) : 8;
}

static sj_budget new_budget(int capacity) {
    sj_budget_rules rules = sj_budget_rules_default;
    rules.capacity = capacity;
    sj_budget budget;
    sj_budget_init(&budget, &rules, 0);
    return budget;
}

// botocore tests/unit/retries/test_standard_retry_v2_1.py: TestRetryQuotaChecker and the 486, 472, 458 of
// test_dynamodb_base_backoff_and_increased_retries. A timeout costs 14 there, 5 here (BEHAVIOUR 8).
// c: charge 14, t: charge 5, s: success of the last charge, 1: success without retry, r: refund, d: the retry failed.
static void botocore_sequences(void **unused) {
    (void)unused;
    static const struct {
        const char *ops;
        int after[4];
    } rows[] = {
        {"ccc", {486, 472, 458}},
        {"cs", {486, 500}},
        {"ts", {495, 500}},
        {"cd", {486, 486}},
        {"cd1", {486, 486, 487}},
        {"cr", {486, 500}},
        {"ccs", {486, 472, 486}},
        {"1", {500}},
        {"tttd", {495, 490, 485, 485}},
        {"cds", {486, 486, 487}},
        {"crr", {486, 500, 500}},
    };
    for (size_t row = 0; row < sizeof rows / sizeof *rows; row++) {
        sj_budget budget = new_budget(500);
        sj_charge charge = {0}, none = {0};
        for (int i = 0; rows[row].ops[i]; i++) {
            switch (rows[row].ops[i]) {
            case 'c':
            case 't':
                assert_true(sj_budget_charge(&budget, rows[row].ops[i] == 't', 0, &charge));
                break;
            case 's':
                sj_budget_success(&budget, &charge);
                break;
            case '1':
                sj_budget_success(&budget, &none);
                break;
            case 'r':
                sj_budget_refund(&budget, &charge);
                break;
            default:
                charge = none;
            }
            assert_int_equal(budget.available, rows[row].after[i]);
        }
    }
}

// test_acquire_quota_fails: 14 pay one retry; without the floor the next is refused.
static void an_empty_budget_refuses(void **unused) {
    (void)unused;
    sj_budget budget = new_budget(14);
    budget.rules.floor_per_minute = 0;
    sj_charge charge;
    assert_true(sj_budget_charge(&budget, false, 0, &charge));
    assert_int_equal(charge.paid, 14);
    assert_false(sj_budget_charge(&budget, false, 0, &charge));
    assert_int_equal(charge.paid, 0);
    assert_int_equal(budget.available, 0);
    budget.rules.enabled = false;
    assert_true(sj_budget_charge(&budget, false, 0, &charge));
    assert_int_equal(charge.paid, 0);
}

// How many of many tries pass on the floor at one moment.
static int floor_passes(sj_budget *budget, int64_t now_ms) {
    int passed = 0;
    sj_charge charge;
    while (passed < 100 && sj_budget_charge(budget, false, now_ms, &charge)) {
        assert_true(charge.from_floor && charge.paid == 0);
        passed++;
    }
    return passed;
}

static void the_floor_follows_the_traffic(void **unused) {
    (void)unused;
    static const struct {
        int requests, passes;
    } rows[] = {{0, 1}, {1, 1}, {19, 1}, {20, 2}, {39, 3}, {59, 5}, {60, 6}, {1000, 6}};
    for (size_t row = 0; row < sizeof rows / sizeof *rows; row++) {
        sj_budget budget = new_budget(0);
        for (int i = 0; i < rows[row].requests; i++)
            sj_budget_request(&budget, 100000 + i % 50000);
        assert_int_equal(floor_passes(&budget, 150000), rows[row].passes);
        assert_int_equal(floor_passes(&budget, 150000 + 59999), 0);
        assert_int_equal(floor_passes(&budget, 150000 + 60000), 1); // no requests in the last 60 s
    }
    sj_budget wide = new_budget(0);
    wide.rules.floor_per_minute = 1000;
    for (int i = 0; i < 10000; i++)
        sj_budget_request(&wide, 1000);
    assert_int_equal(floor_passes(&wide, 1000), SJ_BUDGET_FLOOR_MAX);
}

static void a_floor_retry_never_sent_comes_back(void **unused) {
    (void)unused;
    sj_budget budget = new_budget(500);
    budget.available = 0;
    for (int i = 0; i < 30; i++)
        sj_budget_request(&budget, 1000);
    sj_charge charges[3], more;
    for (int i = 0; i < 3; i++)
        assert_true(sj_budget_charge(&budget, false, 1000 + i * 1000, &charges[i]));
    assert_false(sj_budget_charge(&budget, false, 4000, &more));
    sj_budget_refund(&budget, &charges[1]); // of 2000
    sj_budget_refund(&budget, &charges[1]);
    assert_true(sj_budget_charge(&budget, false, 4000, &more));
    assert_false(sj_budget_charge(&budget, false, 4000, &more));
    for (int i = 0; i < 30; i++)
        sj_budget_request(&budget, 30000);
    assert_true(sj_budget_charge(&budget, false, 61000, &more)); // that of 1000 has left the window
    assert_false(sj_budget_charge(&budget, false, 62999, &more));
    assert_true(sj_budget_charge(&budget, false, 63000, &more)); // that of 3000
    sj_budget_success(&budget, &more);
    assert_int_equal(budget.available, 1);
}

static void capacity_may_change(void **unused) {
    (void)unused;
    sj_budget budget = new_budget(500);
    sj_charge charge;
    assert_true(sj_budget_charge(&budget, false, 0, &charge));
    sj_budget_rules rules = sj_budget_rules_default;
    rules.capacity = 600;
    sj_budget_set_rules(&budget, &rules);
    assert_int_equal(budget.available, 586);
    rules.capacity = 100;
    sj_budget_set_rules(&budget, &rules);
    assert_int_equal(budget.available, 100);
    sj_budget_success(&budget, &charge);
    assert_int_equal(budget.available, 100);
}

static void random_operations_stay_within(void **unused) {
    (void)unused;
    sj_rng rng;
    sj_rng_seed(&rng, base_seed());
    print_message("seed %llu\n", (unsigned long long)base_seed());
    sj_budget budget = new_budget(100);
    sj_charge charges[16] = {{0}};
    int64_t now_ms = 0, floor_used[4096];
    int floor_count = 0;
    for (int i = 0; i < 50000; i++) {
        now_ms += sj_rng_between(&rng, 0, 200);
        sj_charge *charge = &charges[sj_rng_between(&rng, 0, 15)];
        int64_t kind = sj_rng_between(&rng, 0, 9);
        if (kind < 3) {
            sj_budget_request(&budget, now_ms);
        } else if (kind < 8) {
            if (sj_budget_charge(&budget, kind == 3, now_ms, charge) && charge->from_floor)
                floor_used[floor_count++] = now_ms;
        } else if (kind == 8) {
            sj_budget_success(&budget, charge);
        }
        assert_in_range(budget.available, 0, 100);
        assert_true(floor_count < 4096);
    }
    assert_true(floor_count > 100);
    for (int i = 6; i < floor_count; i++)
        assert_true(floor_used[i] - floor_used[i - 6] >= 60000); // never seven within 60 s
}

// ---- the bounds, with the breaker off and clients whose journeys ask for 5 attempts ----------------------

struct load {
    double amplification, succeeded; // attempts per request; share of requests
};

struct retry {
    int64_t at_ms;
    int attempt;
    sj_charge charge;
};

struct service {
    sj_budget budget;
    sj_rng rng;
    double failing;
    struct retry retries[4096]; // waiting for their backoff
    int retry_count, attempts, requests, succeeded;
};

static void attempt(struct service *service, int64_t now_ms, int number, sj_charge charge) {
    service->attempts++;
    if (sj_rng_unit(&service->rng) >= service->failing) {
        service->succeeded++;
        sj_budget_success(&service->budget, &charge);
    } else if (number < 5 && sj_budget_charge(&service->budget, false, now_ms, &charge)) {
        int64_t delay_ms = sj_rng_between(&service->rng, 50, 500 << (number - 1)); // full jitter
        assert_true(service->retry_count < 4096);
        service->retries[service->retry_count++] = (struct retry){now_ms + delay_ms, number + 1, charge};
    }
}

static void run_due_retries(struct service *service, int64_t now_ms) {
    for (int i = 0; i < service->retry_count; i++) {
        if (service->retries[i].at_ms > now_ms)
            continue;
        struct retry due = service->retries[i];
        service->retries[i--] = service->retries[--service->retry_count];
        attempt(service, now_ms, due.attempt, due.charge);
    }
}

// Poisson arrivals in steps of 50 ms.
static struct load simulate(double per_second, double failing, int64_t minutes, uint64_t seed) {
    static struct service service;
    service = (struct service){.budget = new_budget(500), .failing = failing};
    sj_rng_seed(&service.rng, seed);
    double next_ms = 0;
    for (int64_t now_ms = 0; now_ms < minutes * 60000 || service.retry_count > 0; now_ms += 50) {
        run_due_retries(&service, now_ms);
        while (now_ms < minutes * 60000 && next_ms <= (double)now_ms) {
            next_ms += -1000 / per_second * log(1 - sj_rng_unit(&service.rng));
            service.requests++;
            sj_budget_request(&service.budget, now_ms);
            attempt(&service, now_ms, 1, (sj_charge){0});
        }
    }
    return (struct load){(double)service.attempts / service.requests,
                         (double)service.succeeded / service.requests};
}

static void an_outage_is_not_amplified(void **unused) {
    (void)unused;
    static const struct {
        double per_second;
        int64_t minutes;
        double bound;
    } rows[] = {
        {0.5, 60, 1.13}, {0.5, 24 * 60, 1.10}, {10, 10, 1.10}, {10, 60, 1.10}, {300, 10, 1.10},
    };
    for (size_t row = 0; row < sizeof rows / sizeof *rows; row++) {
        struct load load = simulate(rows[row].per_second, 1, rows[row].minutes, base_seed() + row);
        print_message("outage: %5.1f/s for %4d min: load x %.4f\n", rows[row].per_second,
                      (int)rows[row].minutes, load.amplification);
        assert_true(load.succeeded <= 0);
        assert_true(load.amplification > 1 && load.amplification <= rows[row].bound);
    }
}

static void random_failures_are_hidden(void **unused) {
    (void)unused;
    static const double per_second[] = {1, 10};
    for (size_t row = 0; row < 2; row++) {
        struct load load = simulate(per_second[row], 0.2, 120, base_seed() + row);
        print_message("20 %% failing: %4.1f/s: %.5f succeed, load x %.4f\n", per_second[row], load.succeeded,
                      load.amplification);
        assert_true(load.succeeded >= 0.99);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(botocore_sequences),
        cmocka_unit_test(an_empty_budget_refuses),
        cmocka_unit_test(the_floor_follows_the_traffic),
        cmocka_unit_test(a_floor_retry_never_sent_comes_back),
        cmocka_unit_test(capacity_may_change),
        cmocka_unit_test(random_operations_stay_within),
        cmocka_unit_test(an_outage_is_not_amplified),
        cmocka_unit_test(random_failures_are_hidden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
