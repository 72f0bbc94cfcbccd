// Slots and the queue before them: order, leaving in every state, conservation under random interleavings and under threads.
#include "admission.h"
#include "rng.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

static uint64_t base_seed(void) {
    const char *given = getenv("SJ_TEST_SEED");
    return given ? strtoull(given, NULL, 10) : 13;
}

static sj_admission *new_admission(int slots, int places) {
    sj_admission_rules rules = {.max_concurrent = slots, .max_waiting = places, .timeout_ms = 300000};
    sj_admission *admission = sj_admission_new(&rules);
    assert_non_null(admission);
    return admission;
}

static int64_t now = 1000; // of the tests with one thread
static int64_t again;

static sj_slot_answer acquire(sj_admission *admission, uint64_t exchange, uint64_t client) {
    sj_waiter waiter = {.worker = 3, .exchange_id = exchange, .client = client};
    again = -1;
    return sj_admission_acquire(admission, &waiter, now, &again);
}

// Nobody else is concerned.
static sj_slot_answer look(sj_admission *admission, uint64_t exchange) {
    sj_wake wake;
    again = -1;
    sj_slot_answer answer = sj_admission_look(admission, exchange, now, &again, &wake);
    assert_false(wake.set);
    return answer;
}

// Its slot has been granted; whom that wakes next, 0 nobody.
static uint64_t take(sj_admission *admission, uint64_t exchange) {
    sj_wake wake;
    assert_int_equal(look(admission, exchange), SJ_SLOT_GRANTED);
    sj_admission_take(admission, exchange, now, &wake);
    return wake.set ? wake.waiter.exchange_id : 0;
}

static void expect(sj_admission *admission, int in_flight, int waiting) {
    sj_admission_stats stats = sj_admission_read(admission);
    assert_int_equal(stats.in_flight, in_flight);
    assert_int_equal(stats.waiting, waiting);
}

// Releases a slot; the exchange that got it takes it. 0: nobody did.
static uint64_t release(sj_admission *admission) {
    sj_wake wake;
    sj_admission_release(admission, now, &wake);
    if (!wake.set)
        return 0;
    assert_int_equal(wake.waiter.worker, 3);
    assert_int_equal(take(admission, wake.waiter.exchange_id), 0);
    return wake.waiter.exchange_id;
}

static void turns_are_taken_between_clients(void **unused) {
    (void)unused;
    sj_admission *admission = new_admission(1, 100);
    assert_int_equal(acquire(admission, 1, 'a'), SJ_SLOT_GRANTED);
    static const struct {
        uint64_t exchange, client;
    } waiters[] = {{11, 'a'}, {12, 'a'}, {13, 'a'}, {14, 'a'}, {21, 'b'}, {22, 'b'}, {31, 'c'}};
    for (size_t i = 0; i < 7; i++)
        assert_int_equal(acquire(admission, waiters[i].exchange, waiters[i].client), SJ_SLOT_QUEUED);
    expect(admission, 1, 7);
    static const uint64_t order[] = {11, 21, 31, 12};
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(release(admission), order[i]);
    assert_int_equal(acquire(admission, 41, 'd'), SJ_SLOT_QUEUED); // the turn is b's: d comes after a
    static const uint64_t rest[] = {22, 13, 41, 14, 0};
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(release(admission), rest[i]);
    expect(admission, 0, 0);
    sj_admission_free(&admission);
    assert_null(admission);
}

// A retry stands before those who came later, of its own client only.
static void who_comes_again_stands_where_its_age_puts_it(void **unused) {
    (void)unused;
    sj_line *line = sj_line_new(10);
    // exchange, client, since
    static const int64_t joins[][3] = {{1, 'a', 50}, {2, 'a', 70}, {3, 'b', 60}, {4, 'a', 60}, {5, 'a', 40},
                                       {6, 'a', 70}, {7, 'b', 1},  {8, 'a', 80}, {9, 'a', 50}};
    static const uint64_t order[] = {5, 7, 1, 3, 9, 4, 2, 6, 8};
    for (size_t i = 0; i < sizeof joins / sizeof *joins; i++) {
        sj_waiter waiter = {
            .exchange_id = (uint64_t)joins[i][0], .client = (uint64_t)joins[i][1], .since_ms = joins[i][2]};
        assert_true(sj_line_join(line, &waiter, 100));
    }
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        assert_int_equal(sj_line_first(line)->waiter.exchange_id, order[i]);
        sj_line_serve_first(line);
        sj_line_remove(line, order[i]);
    }
    assert_null(sj_line_first(line));
    sj_line_free(&line);
}

// Against a plain sorted list, with leavers.
static void the_line_is_sorted_by_age(void **unused) {
    (void)unused;
    sj_rng rng;
    sj_rng_seed(&rng, base_seed());
    sj_line *line = sj_line_new(10);
    struct {
        uint64_t id;
        int64_t since;
    } list[64];
    int count = 0;
    for (uint64_t id = 1; id < 20000; id++) {
        int64_t since = sj_rng_between(&rng, 0, 20);
        if (count < 64 && sj_rng_between(&rng, 0, 1)) {
            assert_true(sj_line_join(line, &(sj_waiter){.exchange_id = id, .since_ms = since}, 0));
            int at = count++;
            for (; at > 0 && list[at - 1].since > since; at--)
                list[at] = list[at - 1];
            list[at].id = id;
            list[at].since = since;
        } else if (count > 0) {
            int gone = sj_rng_between(&rng, 0, 2) ? 0 : (int)sj_rng_between(&rng, 0, count - 1);
            assert_int_equal(sj_line_first(line)->waiter.exchange_id, list[0].id);
            sj_line_remove(line, list[gone].id);
            for (count--; gone < count; gone++)
                list[gone] = list[gone + 1];
        }
        assert_int_equal(sj_line_length(line), count);
    }
    while (count > 0)
        sj_line_remove(line, list[--count].id);
    sj_line_free(&line);
}

static void the_queue_is_bounded(void **unused) {
    (void)unused;
    sj_admission *admission = new_admission(2, 3);
    for (uint64_t i = 1; i <= 2; i++)
        assert_int_equal(acquire(admission, i, i), SJ_SLOT_GRANTED);
    for (uint64_t i = 3; i <= 5; i++)
        assert_int_equal(acquire(admission, i, i), SJ_SLOT_QUEUED);
    assert_int_equal(acquire(admission, 6, 6), SJ_SLOT_FULL);
    expect(admission, 2, 3);
    assert_int_equal(release(admission), 3);
    assert_int_equal(acquire(admission, 6, 6), SJ_SLOT_QUEUED);
    for (uint64_t i = 4; i <= 6; i++)
        assert_int_equal(release(admission), i);
    assert_int_equal(release(admission) + release(admission), 0);
    sj_admission_free(&admission);
    sj_admission_free(&admission);
}

static void one_may_leave_at_any_time(void **unused) {
    (void)unused;
    sj_admission *admission = new_admission(1, 10);
    sj_wake wake;
    assert_int_equal(acquire(admission, 1, 1), SJ_SLOT_GRANTED);
    for (uint64_t i = 2; i <= 5; i++)
        assert_int_equal(acquire(admission, i, 1), SJ_SLOT_QUEUED);
    sj_admission_leave(admission, 3, now, &wake); // waiting, in the middle
    assert_false(wake.set);
    expect(admission, 1, 3);
    sj_admission_release(admission, now, &wake); // grants 2
    assert_true(wake.set && wake.waiter.exchange_id == 2);
    expect(admission, 1, 2);
    sj_admission_leave(admission, 2, now, &wake); // granted, not taken: its slot wakes the next
    assert_true(wake.set && wake.waiter.exchange_id == 4);
    expect(admission, 1, 1);
    sj_admission_leave(admission, 2, now, &wake); // gone, and never here: nothing
    assert_false(wake.set);
    sj_admission_leave(admission, 99, now, &wake);
    assert_false(wake.set);
    assert_int_equal(take(admission, 4), 0);
    sj_admission_leave(admission, 4, now, &wake); // taken: the queue knows it no more
    assert_false(wake.set);
    expect(admission, 1, 1);
    sj_admission_leave(admission, 5, now, &wake);
    assert_int_equal(release(admission), 0);
    sj_admission_free(&admission);
}

static void a_new_limit_holds(void **unused) {
    (void)unused;
    sj_admission *admission = new_admission(1, 10);
    sj_wake wake;
    assert_int_equal(acquire(admission, 1, 1), SJ_SLOT_GRANTED);
    for (uint64_t i = 2; i <= 5; i++)
        assert_int_equal(acquire(admission, i, i), SJ_SLOT_QUEUED);
    sj_admission_next(admission, now, &wake);
    assert_false(wake.set);
    sj_admission_set_rules(admission,
                           &(sj_admission_rules){.max_concurrent = 3, .max_waiting = 4, .timeout_ms = 1000});
    assert_int_equal(acquire(admission, 6, 6), SJ_SLOT_FULL); // nobody passes those who wait
    sj_admission_next(admission, now, &wake);
    assert_true(wake.set && wake.waiter.exchange_id == 2);
    assert_int_equal(take(admission, 2), 3); // each one passes on what is left
    assert_int_equal(take(admission, 3), 0);
    expect(admission, 3, 2);
    sj_admission_set_rules(admission,
                           &(sj_admission_rules){.max_concurrent = 1, .max_waiting = 10, .timeout_ms = 1000});
    assert_int_equal(release(admission) + release(admission), 0); // down to the smaller limit first
    assert_int_equal(release(admission), 4);
    assert_int_equal(release(admission), 5);
    assert_int_equal(release(admission), 0);
    sj_admission_free(&admission);
}

static void one_waits_as_long_as_allowed(void **unused) {
    (void)unused;
    sj_admission *admission = new_admission(1, 10);
    sj_wake wake;
    assert_int_equal(acquire(admission, 1, 1), SJ_SLOT_GRANTED);
    assert_int_equal(acquire(admission, 2, 2), SJ_SLOT_QUEUED);
    assert_int_equal(again, now + 300000);
    now += 1000;
    assert_int_equal(acquire(admission, 3, 3), SJ_SLOT_QUEUED);
    now += 298999;
    assert_int_equal(look(admission, 2), SJ_SLOT_QUEUED);
    assert_int_equal(again, now + 1);
    now++;
    assert_int_equal(look(admission, 2), SJ_SLOT_LATE);
    expect(admission, 1, 1);
    sj_admission_release(admission, now, &wake);
    now += 1000;
    assert_int_equal(look(admission, 3), SJ_SLOT_GRANTED); // in time, though it looks late
    assert_int_equal(take(admission, 3), 0);
    assert_int_equal(release(admission), 0);
    sj_admission_free(&admission);
}

// folly's Codel allows a queue that stands a fraction of the time it allows one that empties now and then.
static void a_queue_that_stands_is_short(void **unused) {
    (void)unused;
    sj_admission_rules rules = {
        .max_concurrent = 1, .max_waiting = 10, .timeout_ms = 300000, .standing_queue = true};
    sj_admission *admission = sj_admission_new(&rules);
    int64_t start = now;
    assert_int_equal(acquire(admission, 1, 1), SJ_SLOT_GRANTED);
    assert_int_equal(acquire(admission, 2, 1), SJ_SLOT_QUEUED);
    assert_int_equal(again, start + 30000);
    now = start + 10000;
    assert_int_equal(acquire(admission, 3, 1), SJ_SLOT_QUEUED);
    assert_int_equal(again, start + 30000);
    assert_int_equal(release(admission), 2);
    now = start + 29000;
    assert_int_equal(acquire(admission, 4, 1), SJ_SLOT_QUEUED);
    assert_int_equal(again, start + 31000);
    now = start + 30000; // the first of them is long through, but it was never empty
    assert_int_equal(look(admission, 3), SJ_SLOT_LATE);
    assert_int_equal(acquire(admission, 5, 1), SJ_SLOT_QUEUED);
    assert_int_equal(again, start + 32000);
    now = start + 31000;
    assert_int_equal(look(admission, 4), SJ_SLOT_LATE);
    assert_int_equal(release(admission), 5); // empty
    assert_int_equal(acquire(admission, 6, 1), SJ_SLOT_QUEUED);
    assert_int_equal(again, now + 30000);
    assert_int_equal(release(admission), 6);
    assert_int_equal(release(admission), 0);
    sj_admission_free(&admission);
}

static void the_limit_follows_the_upstream(void **unused) {
    (void)unused;
    sj_admission_rules rules = {
        .max_concurrent = 10, .max_waiting = 100, .timeout_ms = 1000, .adaptive = true};
    sj_admission *admission = sj_admission_new(&rules);
    for (uint64_t i = 1; i <= 10; i++)
        assert_int_equal(acquire(admission, i, i), SJ_SLOT_GRANTED);
    for (uint64_t i = 11; i <= 40; i++)
        assert_int_equal(acquire(admission, i, i), SJ_SLOT_QUEUED);
    for (int i = 0; i < SJ_LIMITER_CUT_TAKES; i++)
        sj_admission_congested(admission, SJ_CONGESTION_REFUSED, now - 1, now);
    sj_admission_stats stats = sj_admission_read(admission);
    assert_int_equal(stats.limit, 9);
    assert_int_equal(stats.max, 10);
    assert_int_equal(stats.cuts, 1);
    assert_int_equal(release(admission), 0);
    assert_int_equal(release(admission), 11);
    for (uint64_t i = 12; i <= 40; i++) { // a success a second, started after the cut
        now += 1000;
        sj_admission_succeeded(admission, now - 900, now);
        if (sj_admission_read(admission).limit == 10)
            break;
        assert_int_equal(release(admission), i);
    }
    assert_int_equal(sj_admission_read(admission).limit, 10);
    sj_wake wake;
    sj_admission_release(admission, now, &wake); // two are free now: whoever gets the one passes on the other
    assert_true(wake.set);
    assert_int_equal(take(admission, wake.waiter.exchange_id), wake.waiter.exchange_id + 1);
    assert_int_equal(take(admission, wake.waiter.exchange_id + 1), 0);
    while (sj_admission_read(admission).in_flight)
        (void)release(admission);
    sj_admission_free(&admission);
}

static void refusals_say_when_honestly(void **unused) {
    (void)unused;
    sj_admission *admission = new_admission(1, 1000);
    sj_rng rng;
    sj_rng_seed(&rng, base_seed());
    assert_int_equal(acquire(admission, 1, 1), SJ_SLOT_GRANTED);
    for (int i = 0; i < 50; i++) // nothing is known yet
        assert_in_range(sj_admission_retry_after_ms(admission, now, &rng), 10000, 15000);
    uint64_t id = 1;
    for (int i = 0; i < 400; i++) { // ten a second
        now += 100;
        assert_int_equal(acquire(admission, ++id, 1), SJ_SLOT_QUEUED);
        assert_int_equal(release(admission), id);
    }
    for (int i = 0; i < 99; i++)
        assert_int_equal(acquire(admission, ++id, 1), SJ_SLOT_QUEUED);
    int64_t least = INT64_MAX, most = 0;
    for (int i = 0; i < 500; i++) { // a hundred at ten a second
        int64_t ms = sj_admission_retry_after_ms(admission, now, &rng);
        least = ms < least ? ms : least;
        most = ms > most ? ms : most;
    }
    assert_in_range(least, 10000, 11000);
    assert_in_range(most, 14500, 16500);
    while (sj_admission_read(admission).waiting)
        (void)release(admission);
    assert_in_range(sj_admission_retry_after_ms(admission, now, &rng), 1000, 1500);
    for (int i = 0; i < 900; i++)
        assert_int_equal(acquire(admission, ++id, 1), SJ_SLOT_QUEUED);
    now += 20000; // nothing moves any more
    assert_int_equal(sj_admission_retry_after_ms(admission, now, &rng), 60000);
    while (sj_admission_read(admission).in_flight)
        (void)release(admission);
    sj_admission_free(&admission);
}

// ---- random interleavings -------------------------------------------------------------------------------

enum { CLIENTS = 6, EXCHANGES = 200 };

enum phase { IDLE, WAITING, GRANTED, HOLDING };

struct model {
    sj_admission *admission;
    sj_rng rng;
    struct {
        enum phase phase;
        uint64_t id, client, since;
    } list[EXCHANGES];
    uint64_t next_id, steps;
    uint64_t waits_since[CLIENTS], last_grant[CLIENTS];
    int counts[4];
    int slots, places, grants;
};

static void set_phase(struct model *model, int at, enum phase phase) {
    model->counts[model->list[at].phase]--;
    model->counts[phase]++;
    model->list[at].phase = phase;
}

static int waiting_of(const struct model *model, uint64_t client) {
    int count = 0;
    for (int i = 0; i < EXCHANGES; i++)
        count += model->list[i].phase == WAITING && model->list[i].client == client;
    return count;
}

// FIFO within the client; and no client is served twice while another one waits all the time.
static void check_fair(const struct model *model, int granted) {
    uint64_t client = model->list[granted].client;
    for (int i = 0; i < EXCHANGES; i++)
        if (model->list[i].phase == WAITING && model->list[i].client == client)
            assert_true(model->list[i].since >= model->list[granted].since);
    for (uint64_t other = 0; other < CLIENTS; other++)
        if (other != client && waiting_of(model, other) &&
            model->waits_since[other] < model->last_grant[client])
            assert_true(model->last_grant[other] > model->last_grant[client]);
}

static void note_grant(struct model *model, int at) {
    check_fair(model, at);
    set_phase(model, at, GRANTED);
    model->last_grant[model->list[at].client] = model->steps;
    model->grants++;
}

static void note_wake(struct model *model, const sj_wake *wake) {
    if (!wake->set)
        return;
    int at = 0;
    while (at < EXCHANGES &&
           !(model->list[at].phase == WAITING && model->list[at].id == wake->waiter.exchange_id))
        at++;
    assert_true(at < EXCHANGES);
    assert_int_equal(wake->waiter.client, model->list[at].client);
    note_grant(model, at);
}

static void start(struct model *model, int at) {
    uint64_t client = (uint64_t)sj_rng_between(&model->rng, 0, CLIENTS - 1);
    if (sj_rng_between(&model->rng, 0, 1))
        client = 0; // a greedy one
    model->list[at].id = ++model->next_id;
    model->list[at].client = client;
    model->list[at].since = model->steps;
    sj_slot_answer answer = acquire(model->admission, model->list[at].id, client);
    int busy = model->counts[GRANTED] + model->counts[HOLDING];
    assert_int_equal(answer, model->counts[WAITING] == 0 && busy < model->slots ? SJ_SLOT_GRANTED
                             : model->counts[WAITING] < model->places           ? SJ_SLOT_QUEUED
                                                                                : SJ_SLOT_FULL);
    if (answer == SJ_SLOT_QUEUED && waiting_of(model, client) == 0)
        model->waits_since[client] = model->steps;
    if (answer != SJ_SLOT_FULL)
        set_phase(model, at, answer == SJ_SLOT_GRANTED ? HOLDING : WAITING);
}

static void leave(struct model *model, int at) {
    sj_wake wake;
    sj_admission_leave(model->admission, model->list[at].id, now, &wake);
    set_phase(model, at, IDLE);
    note_wake(model, &wake);
}

static void finish(struct model *model, int at) {
    sj_wake wake;
    sj_admission_release(model->admission, now, &wake);
    set_phase(model, at, IDLE);
    note_wake(model, &wake);
}

static void change_limits(struct model *model) {
    sj_wake wake;
    model->slots = (int)sj_rng_between(&model->rng, 1, 30);
    model->places = (int)sj_rng_between(&model->rng, 0, 150);
    sj_admission_rules rules = {
        .max_concurrent = model->slots, .max_waiting = model->places, .timeout_ms = 300000};
    sj_admission_set_rules(model->admission, &rules);
    model->steps++;
    sj_admission_next(model->admission, now, &wake);
    note_wake(model, &wake);
}

static void take_or_wait(struct model *model, int at) {
    sj_wake wake;
    sj_slot_answer answer = look(model->admission, model->list[at].id);
    if (answer == SJ_SLOT_GRANTED &&
        model->list[at].phase == WAITING) // the one who passes it on is not there yet
        note_grant(model, at);
    assert_int_equal(answer, model->list[at].phase == GRANTED ? SJ_SLOT_GRANTED : SJ_SLOT_QUEUED);
    if (answer != SJ_SLOT_GRANTED)
        return;
    sj_admission_take(model->admission, model->list[at].id, now, &wake);
    set_phase(model, at, HOLDING);
    model->steps++;
    note_wake(model, &wake);
}

static void step(struct model *model, int at) {
    model->steps++;
    bool leaves = sj_rng_between(&model->rng, 0, 3) == 0;
    if (model->list[at].phase == IDLE)
        start(model, at);
    else if (model->list[at].phase == HOLDING)
        finish(model, at);
    else if (leaves)
        leave(model, at);
    else
        take_or_wait(model, at);
}

// Nobody waits for a free slot, unless one who was woken has yet to pass it on.
static void check_progress(const struct model *model) {
    int busy = model->counts[GRANTED] + model->counts[HOLDING];
    if (model->counts[WAITING] > 0 && busy < model->slots)
        assert_true(model->counts[GRANTED] > 0);
}

static void random_interleavings(void **unused) {
    (void)unused;
    static struct model model;
    model = (struct model){.admission = new_admission(8, 64), .slots = 8, .places = 64};
    model.counts[IDLE] = EXCHANGES;
    sj_rng_seed(&model.rng, base_seed());
    print_message("seed %llu\n", (unsigned long long)base_seed());
    for (int i = 0; i < 40000; i++) {
        step(&model, (int)sj_rng_between(&model.rng, 0, EXCHANGES - 1));
        if (sj_rng_between(&model.rng, 0, 400) == 0)
            change_limits(&model);
        expect(model.admission, model.counts[GRANTED] + model.counts[HOLDING], model.counts[WAITING]);
        check_progress(&model);
    }
    assert_true(model.grants > 1000);
    for (int at = 0; at < EXCHANGES; at++) {
        model.steps++;
        if (model.list[at].phase == HOLDING)
            finish(&model, at);
        else if (model.list[at].phase != IDLE)
            leave(&model, at);
    }
    for (int at = 0; at < EXCHANGES; at++) // those granted on the way
        if (model.list[at].phase == GRANTED)
            leave(&model, at);
    expect(model.admission, 0, 0);
    sj_admission_free(&model.admission);
}

// ---- threads --------------------------------------------------------------------------------------------

enum { WORKERS = 4, LANES = 8, PER_WORKER = 1000, SLOTS = 3, MAIL = 64, TIME = 1000 };

struct mailbox {
    pthread_mutex_t mutex;
    pthread_cond_t filled;
    uint64_t mail[MAIL];
    int count;
};

struct office {
    sj_admission *admission;
    struct mailbox boxes[WORKERS];
    pthread_barrier_t start;
    atomic_int holding, most, granted_by_mail;
    atomic_ullong next_id;
};

struct lane {
    enum phase phase;
    uint64_t id;
};

struct worker {
    struct office *office;
    uint32_t index;
    sj_rng rng;
    struct lane lanes[LANES];
    int finished;
    bool failed;
};

static void post(struct office *office, const sj_wake *wake) {
    if (!wake->set)
        return;
    struct mailbox *box = &office->boxes[wake->waiter.worker];
    pthread_mutex_lock(&box->mutex);
    if (box->count < MAIL)
        box->mail[box->count++] = wake->waiter.exchange_id;
    pthread_cond_signal(&box->filled);
    pthread_mutex_unlock(&box->mutex);
}

static void hold(struct worker *worker, struct lane *lane) {
    int held = atomic_fetch_add(&worker->office->holding, 1) + 1;
    int most = atomic_load(&worker->office->most);
    while (held > most && !atomic_compare_exchange_weak(&worker->office->most, &most, held)) {
    }
    lane->phase = HOLDING;
}

static void on_mail(struct worker *worker, uint64_t id) {
    for (int i = 0; i < LANES; i++) {
        struct lane *lane = &worker->lanes[i];
        if (lane->phase != WAITING || lane->id != id)
            continue; // it left meanwhile, and gave the slot back then
        sj_admission *admission = worker->office->admission;
        sj_wake wake;
        int64_t at;
        sj_slot_answer answer = sj_admission_look(admission, id, TIME, &at, &wake);
        post(worker->office, &wake);
        worker->failed |= answer != SJ_SLOT_GRANTED;
        sj_admission_take(admission, id, TIME, &wake);
        post(worker->office, &wake);
        atomic_fetch_add(&worker->office->granted_by_mail, 1);
        hold(worker, lane);
    }
}

// Blocks only when there is nothing else to do; ten seconds without mail are a lost wake-up.
static void read_mail(struct worker *worker, bool block) {
    struct mailbox *box = &worker->office->boxes[worker->index];
    uint64_t mail[MAIL];
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10;
    pthread_mutex_lock(&box->mutex);
    while (block && box->count == 0 && !worker->failed)
        worker->failed = pthread_cond_timedwait(&box->filled, &box->mutex, &until) != 0;
    int count = box->count;
    for (int i = 0; i < count; i++)
        mail[i] = box->mail[i];
    box->count = 0;
    pthread_mutex_unlock(&box->mutex);
    for (int i = 0; i < count; i++)
        on_mail(worker, mail[i]);
}

static int lanes_in(const struct worker *worker, enum phase phase) {
    int count = 0;
    for (int i = 0; i < LANES; i++)
        count += worker->lanes[i].phase == phase;
    return count;
}

static void turn_lane(struct worker *worker, struct lane *lane, bool open) {
    sj_admission *admission = worker->office->admission;
    sj_wake wake = {.set = false};
    if (lane->phase == IDLE && open) {
        lane->id = atomic_fetch_add(&worker->office->next_id, 1) + 1;
        sj_waiter waiter = {worker->index, lane->id, lane->id % 7, 0, 0};
        int64_t at;
        sj_slot_answer answer = sj_admission_acquire(admission, &waiter, TIME, &at);
        if (answer == SJ_SLOT_GRANTED)
            hold(worker, lane);
        else if (answer == SJ_SLOT_QUEUED)
            lane->phase = WAITING;
    } else if (lane->phase == HOLDING) {
        atomic_fetch_sub(&worker->office->holding, 1);
        sj_admission_release(admission, TIME, &wake);
        lane->phase = IDLE;
        worker->finished++;
    } else if (lane->phase == WAITING && sj_rng_between(&worker->rng, 0, 9) == 0) {
        sj_admission_leave(admission, lane->id, TIME, &wake);
        lane->phase = IDLE;
    }
    post(worker->office, &wake);
}

static void *work(void *argument) {
    struct worker *worker = argument;
    pthread_barrier_wait(&worker->office->start);
    while (!worker->failed && worker->finished < PER_WORKER) {
        turn_lane(worker, &worker->lanes[sj_rng_between(&worker->rng, 0, LANES - 1)], true);
        read_mail(worker, lanes_in(worker, WAITING) == LANES);
    }
    while (!worker->failed && lanes_in(worker, IDLE) < LANES) {
        for (int i = 0; i < LANES; i++)
            if (worker->lanes[i].phase == HOLDING)
                turn_lane(worker, &worker->lanes[i], false);
        read_mail(worker, lanes_in(worker, WAITING) > 0);
    }
    return NULL;
}

static void workers_share_the_slots(void **unused) {
    (void)unused;
    static struct office office;
    static struct worker workers[WORKERS];
    pthread_t threads[WORKERS];
    office.admission = new_admission(SLOTS, 16);
    assert_int_equal(pthread_barrier_init(&office.start, NULL, WORKERS), 0);
    for (uint32_t i = 0; i < WORKERS; i++) {
        pthread_mutex_init(&office.boxes[i].mutex, NULL);
        pthread_cond_init(&office.boxes[i].filled, NULL);
        workers[i].office = &office;
        workers[i].index = i;
        sj_rng_seed(&workers[i].rng, base_seed() + i);
    }
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (int i = 0; i < WORKERS; i++)
        assert_false(workers[i].failed);
    assert_in_range(atomic_load(&office.most), 2, SLOTS);
    assert_true(atomic_load(&office.granted_by_mail) > 100);
    expect(office.admission, 0, 0);
    sj_admission_free(&office.admission);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turns_are_taken_between_clients),
        cmocka_unit_test(who_comes_again_stands_where_its_age_puts_it),
        cmocka_unit_test(the_line_is_sorted_by_age),
        cmocka_unit_test(the_queue_is_bounded),
        cmocka_unit_test(one_may_leave_at_any_time),
        cmocka_unit_test(a_new_limit_holds),
        cmocka_unit_test(one_waits_as_long_as_allowed),
        cmocka_unit_test(a_queue_that_stands_is_short),
        cmocka_unit_test(the_limit_follows_the_upstream),
        cmocka_unit_test(refusals_say_when_honestly),
        cmocka_unit_test(random_interleavings),
        cmocka_unit_test(workers_share_the_slots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
