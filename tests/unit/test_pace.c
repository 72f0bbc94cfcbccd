// The pace: known sequences, what a minute may hold, and the queue that waits for it.
#include "admission.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static sj_pace pace;

static void with(int64_t requests, int64_t tokens) {
    pace = (sj_pace){0};
    sj_pace_set_rules(&pace, &(sj_pace_rules){requests, tokens});
}

static bool passes(int64_t tokens, int64_t now_ms) {
    if (sj_pace_ready_ms(&pace, tokens, now_ms) > now_ms)
        return false;
    sj_pace_spend(&pace, tokens, now_ms);
    return true;
}

// botocore tests/unit/retries/test_bucket.py at 10 a second; its bucket begins empty: 10 requests are spent first.
static void known_sequences(void **unused) {
    (void)unused;
    with(600, 0);
    for (int64_t i = 0; i < 10; i++)
        assert_true(passes(0, 0));
    assert_false(passes(0, 99));
    assert_true(passes(0, 100)); // 0.1 s
    assert_false(passes(0, 150)); // 0.15 s
    assert_int_equal(sj_pace_ready_ms(&pace, 0, 150), 200);
    assert_true(passes(0, 200));
    assert_true(passes(0, 300));
    for (int64_t i = 0; i < 20; i++) // one each 100 ms for two seconds
        assert_true(passes(0, 1000 + 100 * i));
    for (int64_t i = 4; i <= 8; i++) // well below
        assert_true(passes(0, 1000 * i));
    sj_pace_set_rules(&pace, &(sj_pace_rules){60, 0}); // lower, on the fly
    for (int64_t i = 9; i <= 13; i++)
        assert_true(passes(0, 1000 * i));
    with(30, 0); // the bucket never holds less than one
    assert_true(passes(0, 0));
    assert_false(passes(0, 1999));
    assert_true(passes(0, 2000));
}

static void off_is_off(void **unused) {
    (void)unused;
    with(0, 0);
    for (int i = 0; i < 100000; i++)
        assert_true(passes(1000000, 0));
    sj_pace_set_rules(&pace, &(sj_pace_rules){60, 0});
    assert_true(passes(0, 0)); // comes up full
    assert_false(passes(0, 0));
}

// 6000 a minute: 100 a second, a bucket of 1000.
static void tokens_go_into_debt(void **unused) {
    (void)unused;
    with(0, 6000);
    assert_true(passes(400, 0));
    assert_true(passes(600, 0));
    assert_int_equal(sj_pace_ready_ms(&pace, 1, 0), 10);
    assert_int_equal(sj_pace_ready_ms(&pace, 500, 0), 5000);
    assert_int_equal(sj_pace_ready_ms(&pace, 100000, 0), 10000); // as full as it gets
    assert_true(passes(2500, 10000)); // larger than the bucket: the ones after it wait for both
    assert_int_equal(sj_pace_ready_ms(&pace, 0, 10000), 25000);
    sj_pace_give_back(&pace, 0, 1400, 11000); // it took 1100
    assert_int_equal(sj_pace_ready_ms(&pace, 0, 11000), 11000);
    assert_int_equal(sj_pace_ready_ms(&pace, 1, 11000), 11010);
    sj_pace_give_back(&pace, 0, -200, 11000); // and another one more than was guessed
    assert_int_equal(sj_pace_ready_ms(&pace, 0, 11000), 13000);
    sj_pace_give_back(&pace, 0, INT32_MAX, 11000); // never more than the bucket
    assert_true(passes(1000, 11000));
    assert_false(passes(1, 11000));
    sj_pace_give_back(&pace, 0, -INT32_MAX, 11000); // nor debt for more than a minute
    assert_int_equal(sj_pace_ready_ms(&pace, 0, 11000), 71000);
    assert_int_equal(sj_pace_ready_ms(&pace, 0, 10000), 70000); // another worker's clock, a little behind
}

// ---- the queue that waits for the pace ------------------------------------------------------------------

enum { EXCHANGES = 300 };

enum phase { IDLE, WAITING, RUNNING };

typedef struct desk {
    sj_admission *admission;
    sj_rng rng;
    int64_t now;
    struct {
        enum phase phase;
        uint64_t id;
        int64_t tokens, at; // looks again, or ends
    } list[EXCHANGES];
    uint64_t last_id;
    int64_t starts[20000];
    int64_t costs[20000];
    int start_count, looks, left;
} desk;

static desk d;

static void wake_up(const sj_wake *wake);

static void begin(int i) {
    d.list[i].phase = RUNNING;
    d.list[i].at = d.now + sj_rng_between(&d.rng, 100, 3000);
    assert_in_range(d.start_count, 0, 19999);
    d.starts[d.start_count] = d.now;
    d.costs[d.start_count++] = d.list[i].tokens;
}

static void look(int i) {
    sj_wake wake;
    int64_t at = INT64_MAX;
    d.looks++;
    sj_slot_answer answer = sj_admission_look(d.admission, d.list[i].id, d.now, &at, &wake);
    wake_up(&wake);
    if (answer == SJ_SLOT_GRANTED) {
        begin(i);
        sj_admission_take(d.admission, d.list[i].id, d.now, &wake);
        wake_up(&wake);
    } else if (answer == SJ_SLOT_QUEUED) {
        assert_true(at > d.now); // no busy polling
        d.list[i].at = at;
    } else
        d.list[i].phase = IDLE;
}

static void wake_up(const sj_wake *wake) {
    for (int i = 0; wake->set && i < EXCHANGES; i++)
        if (d.list[i].phase == WAITING && d.list[i].id == wake->waiter.exchange_id) {
            look(i);
            return;
        }
    assert_false(wake->set);
}

static void arrive(int i, int64_t most_tokens) {
    d.list[i].id = ++d.last_id;
    d.list[i].tokens = sj_rng_between(&d.rng, 0, most_tokens);
    sj_waiter waiter = {0, d.list[i].id, (uint64_t)sj_rng_between(&d.rng, 0, 4), d.now, d.list[i].tokens};
    sj_slot_answer answer = sj_admission_acquire(d.admission, &waiter, d.now, &d.list[i].at);
    if (answer == SJ_SLOT_GRANTED)
        begin(i);
    else if (answer == SJ_SLOT_QUEUED)
        d.list[i].phase = WAITING;
}

static void turn(int i, int64_t most_tokens, bool open) {
    sj_wake wake = {0};
    if (d.list[i].phase == IDLE && open && sj_rng_between(&d.rng, 0, 50) == 0)
        arrive(i, most_tokens);
    else if (d.list[i].phase == WAITING && d.now >= d.list[i].at)
        look(i);
    else if (d.list[i].phase == WAITING && sj_rng_between(&d.rng, 0, 3000) == 0) {
        sj_admission_leave(d.admission, d.list[i].id, d.now, &wake);
        d.list[i].phase = IDLE;
        d.left++;
    } else if (d.list[i].phase == RUNNING && d.now >= d.list[i].at) {
        sj_admission_release(d.admission, d.now, &wake);
        d.list[i].phase = IDLE;
    }
    wake_up(&wake);
}

// Somebody waits, a slot is free: then the time at which the pace lets the next one through is kept by one of them.
static void check_kept_time(int64_t slowest_ms) {
    sj_admission_stats stats = sj_admission_read(d.admission);
    assert_true(stats.in_flight <= stats.limit);
    if (stats.waiting == 0 || stats.in_flight == stats.limit)
        return;
    int64_t first = INT64_MAX;
    for (int i = 0; i < EXCHANGES; i++)
        if (d.list[i].phase == WAITING && d.list[i].at < first)
            first = d.list[i].at;
    assert_true(first <= d.now + slowest_ms);
}

static void open_desk(int slots, const sj_pace_rules *rules) {
    d = (desk){.now = 5000};
    const char *seed = getenv("SJ_TEST_SEED");
    sj_rng_seed(&d.rng, seed ? strtoull(seed, NULL, 10) : 8);
    d.admission = sj_admission_new(&(sj_admission_rules){
        .max_concurrent = slots, .max_waiting = 200, .timeout_ms = 60000, .pace = *rules});
    assert_non_null(d.admission);
}

static void close_desk(void) {
    while (sj_admission_read(d.admission).in_flight + sj_admission_read(d.admission).waiting > 0) {
        d.now += 10;
        for (int i = 0; i < EXCHANGES; i++)
            turn(i, 0, false);
    }
    sj_admission_free(&d.admission);
}

static void play(int64_t ms, int64_t most_tokens, int64_t slowest_ms) {
    for (int64_t end = d.now + ms; d.now < end; d.now += 10) {
        for (int i = 0; i < EXCHANGES; i++)
            turn(i, most_tokens, true);
        check_kept_time(slowest_ms);
    }
}

static int64_t most_in_a_minute(const int64_t *weights) {
    int64_t sum = 0, most = 0;
    for (int first = 0, i = 0; i < d.start_count; i++) {
        sum += weights ? weights[i] : 1;
        for (; d.starts[first] <= d.starts[i] - 60000; first++)
            sum -= weights ? weights[first] : 1;
        most = sum > most ? sum : most;
    }
    return most;
}

static void the_queue_keeps_the_requests_pace(void **unused) {
    (void)unused;
    open_desk(100, &(sj_pace_rules){.requests_per_minute = 600});
    play(300000, 0, 100);
    print_message("%d starts in 5 min, %lld in the fullest, %d looks, %d left\n", d.start_count,
                  (long long)most_in_a_minute(NULL), d.looks, d.left);
    assert_in_range(d.start_count, 2990, 3010);
    assert_in_range(most_in_a_minute(NULL), 600, 610);
    assert_true(d.looks < 3 * (d.start_count + d.left)); // woken, told when, looked: no more for each
    assert_true(d.left > 100);
    close_desk();
}

static void the_queue_keeps_the_tokens_pace(void **unused) {
    (void)unused;
    open_desk(100, &(sj_pace_rules){.tokens_per_minute = 60000});
    play(300000, 400, 400);
    int64_t all = 0;
    for (int i = 0; i < d.start_count; i++)
        all += d.costs[i];
    print_message("%lld tokens in 5 min, %lld in the fullest\n", (long long)all,
                  (long long)most_in_a_minute(d.costs));
    assert_in_range(all, 305000, 311000);
    assert_in_range(most_in_a_minute(d.costs), 60000, 70400);
    close_desk();
}

// Slots are what is short, the pace now and then.
static void both(void **unused) {
    (void)unused;
    open_desk(5, &(sj_pace_rules){.requests_per_minute = 200});
    play(120000, 0, 300);
    assert_in_range(d.start_count, 350, 410);
    assert_in_range(most_in_a_minute(NULL), 170, 204);
    close_desk();
}

static void what_was_not_used_comes_back(void **unused) {
    (void)unused;
    sj_wake wake;
    int64_t at;
    sj_admission *admission = sj_admission_new(&(sj_admission_rules){
        .max_concurrent = 9, .max_waiting = 9, .timeout_ms = 60000, .pace = {.tokens_per_minute = 6000}});
    sj_waiter big = {0, 1, 1, 0, 1000}, next = {0, 2, 1, 0, 300}, last = {0, 3, 1, 0, 10};
    assert_int_equal(sj_admission_acquire(admission, &big, 0, &at), SJ_SLOT_GRANTED);
    assert_int_equal(sj_admission_acquire(admission, &next, 0, &at), SJ_SLOT_QUEUED);
    assert_int_equal(at, 3000);
    assert_int_equal(sj_admission_acquire(admission, &last, 0, &at), SJ_SLOT_QUEUED);
    assert_int_equal(at, 60000);
    sj_admission_give_back(admission, 0, 900,
                           1000); // it took 100 only: 1000 - 900 are spent, and 100 have flowed in
    sj_admission_release(admission, 1000, &wake);
    assert_true(wake.set && wake.waiter.exchange_id == 2);
    assert_int_equal(sj_admission_look(admission, 2, 1000, &at, &wake), SJ_SLOT_GRANTED);
    sj_admission_leave(admission, 2, 1000, &wake); // it had gone: slot and tokens come back
    assert_true(wake.set && wake.waiter.exchange_id == 3);
    assert_int_equal(sj_admission_look(admission, 3, 1000, &at, &wake), SJ_SLOT_GRANTED);
    sj_admission_take(admission, 3, 1000, &wake);
    sj_admission_release(admission, 1000, &wake);
    sj_waiter full = {0, 4, 1, 0, 990};
    assert_int_equal(sj_admission_acquire(admission, &full, 1000, &at), SJ_SLOT_GRANTED);
    sj_admission_release(admission, 1000, &wake);
    sj_admission_free(&admission);
}

// The one that keeps the time leaves, and the one behind it is asked to.
static void somebody_keeps_the_time(void **unused) {
    (void)unused;
    sj_wake wake;
    int64_t at;
    sj_admission *admission = sj_admission_new(&(sj_admission_rules){
        .max_concurrent = 9, .max_waiting = 9, .timeout_ms = 60000, .pace = {.requests_per_minute = 6}});
    for (uint64_t i = 1; i <= 3; i++)
        (void)sj_admission_acquire(admission, &(sj_waiter){0, i, i, 0, 0}, 0, &at);
    sj_admission_leave(admission, 2, 1000, &wake);
    assert_true(wake.set && wake.waiter.exchange_id == 3);
    assert_int_equal(sj_admission_look(admission, 3, 1000, &at, &wake), SJ_SLOT_QUEUED);
    assert_int_equal(at, 10000);
    sj_admission_next(admission, 1000, &wake);
    assert_false(wake.set); // it knows
    sj_admission_set_rules(admission, &(sj_admission_rules){.max_concurrent = 9,
                                                            .max_waiting = 9,
                                                            .timeout_ms = 60000,
                                                            .pace = {.requests_per_minute = 600}});
    sj_admission_next(admission, 1000, &wake);
    assert_true(wake.set && wake.waiter.exchange_id == 3);
    assert_int_equal(sj_admission_look(admission, 3, 1000, &at, &wake), SJ_SLOT_QUEUED);
    assert_int_equal(at, 1090); // a tenth has flowed in by the old rules
    assert_int_equal(sj_admission_look(admission, 3, 1090, &at, &wake), SJ_SLOT_GRANTED);
    sj_admission_take(admission, 3, 1090, &wake);
    sj_admission_release(admission, 1090, &wake);
    sj_admission_release(admission, 1090, &wake);
    sj_admission_free(&admission);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_sequences),
        cmocka_unit_test(off_is_off),
        cmocka_unit_test(tokens_go_into_debt),
        cmocka_unit_test(the_queue_keeps_the_requests_pace),
        cmocka_unit_test(the_queue_keeps_the_tokens_pace),
        cmocka_unit_test(both),
        cmocka_unit_test(what_was_not_used_comes_back),
        cmocka_unit_test(somebody_keeps_the_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
