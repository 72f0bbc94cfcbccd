// Journeys of several workers, each a real thread, at shared targets: what a thread decides may be outdated by another one a moment later. Made for
// the thread sanitizer; the order of events is the scheduler's, so only what must hold in any order is asserted.
#include "journey.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

// A worker turns at least so often, and on until it has ANSWERS to show: how much that takes is the scheduler's affair.
enum { WORKERS = 4, PLACES = 24, TURNS = 20000, ANSWERS = 300, MOST_TURNS = 200 * TURNS };
enum { TARGETS = 3, KEYS = 3, MAIL_MAX = 4096 };

typedef struct exchange {
    uint64_t id; // 0: free place
    sj_journey *journey;
    sj_hop hops[TARGETS];
    int attempt; // running, 0 none
    int ends;
} exchange;

typedef struct worker {
    pthread_t thread;
    uint32_t index;
    sj_rng rng;
    exchange places[PLACES];
    uint64_t next_id;
    long answered, refused, left, attempts;
    pthread_mutex_t mutex; // over the mailbox
    uint64_t mail[MAIL_MAX];
    int mail_count;
} worker;

static struct {
    atomic_llong clock_ms;
    sj_target *targets[TARGETS];
    sj_admission *admissions[2];
    sj_global_breaker *global;
    sj_keys *keys; // of the last target
    sj_sticky *sticky;
    sj_retry_policy retry;
    worker workers[WORKERS];
    atomic_int mistakes;
} world;

static int64_t now(void) {
    return atomic_load(&world.clock_ms);
}

static void mistake_unless(bool condition) {
    if (!condition)
        atomic_fetch_add(&world.mistakes, 1);
}

// ---- one worker -----------------------------------------------------------------------------------------

static void post(const sj_waiter *waiter) {
    worker *to = &world.workers[waiter->worker];
    pthread_mutex_lock(&to->mutex);
    mistake_unless(to->mail_count < MAIL_MAX);
    if (to->mail_count < MAIL_MAX)
        to->mail[to->mail_count++] = waiter->exchange_id;
    pthread_mutex_unlock(&to->mutex);
}

static void end(worker *w, exchange *e, long *counter) {
    (*counter)++;
    mistake_unless(++e->ends == 1);
    (void)w;
}

static void take(worker *w, exchange *e, const sj_steps *steps) {
    for (int i = 0; i < steps->note_count; i++)
        if (steps->notes[i].kind == SJ_NOTE_GRANT)
            post(&steps->notes[i].wake);
    for (int i = 0; i < steps->count; i++) {
        const sj_step *step = &steps->list[i];
        if (step->kind == SJ_STEP_START) {
            mistake_unless(e->attempt == 0);
            e->attempt = step->attempt;
            w->attempts++;
        } else if (step->kind == SJ_STEP_CANCEL) {
            mistake_unless(e->attempt == step->attempt);
            e->attempt = 0;
        } else if (step->kind == SJ_STEP_DELIVER || step->kind == SJ_STEP_DELIVER_SAVED) {
            end(w, e, &w->answered);
        } else if (step->kind == SJ_STEP_REFUSE) {
            end(w, e, &w->refused);
        }
    }
    if (!sj_journey_is_over(e->journey))
        return;
    mistake_unless(e->ends == 1 && e->attempt == 0);
    sj_journey_free(&e->journey);
    e->id = 0;
}

static const uint64_t key_hashes[KEYS] = {10, 11, 12};

static void begin(worker *w, exchange *e) {
    *e = (exchange){.id = ++w->next_id * WORKERS + w->index};
    for (size_t i = 0; i < TARGETS; i++)
        e->hops[i] = (sj_hop){
            .target = world.targets[i],
            .label = sj_target_name(world.targets[i]),
            .retry = &world.retry,
            .credential = sj_rng_next(&w->rng) % 3,
            .keys = i == TARGETS - 1 ? world.keys : NULL,
            .credentials = key_hashes,
            .first_byte_timeout_ms = 500,
            .idle_timeout_ms = 500,
            .answer_timeout_ms = 500,
            .max_open_wait_ms = 400,
        };
    sj_plan plan = {
        .hops = e->hops,
        .hop_count = 1 + sj_rng_next(&w->rng) % TARGETS,
        .waiter = {.worker = w->index, .exchange_id = e->id, .client = sj_rng_next(&w->rng) % 5},
        .movable = true,
        .replayable = true,
        .client_retrying = sj_rng_next(&w->rng) % 10 == 0,
        .deadline_ms = now() + 2000,
        .fallback_gate_ms = 100,
        .sticky = world.sticky,
        .seed = sj_rng_next(&w->rng),
    };
    e->journey = sj_journey_new(&plan);
    if (!e->journey)
        abort();
    sj_steps steps;
    sj_journey_admitted(e->journey, now(), &steps);
    take(w, e, &steps);
}

static void attempt_ends(worker *w, exchange *e) {
    static const int statuses[] = {200, 200, 200, 200, 200, 200, 200, 401,
                                   200, 503, 503, 503, 503, 429, 400, 0};
    bool bad_times = now() / 1000 % 3 == 0;
    int status = statuses[(bad_times ? 8 : 0) + sj_rng_next(&w->rng) % 8];
    sj_retry_hint hint = {0};
    if (status == 429 && sj_rng_next(&w->rng) % 2)
        hint = (sj_retry_hint){.wait_ms = 1 + sj_rng_between(&w->rng, 0, 200), .source = SJ_HINT_RETRY_AFTER};
    sj_attempt_over over = {
        .facts = {.end = status ? SJ_END_WHOLE : SJ_END_NEVER_SENT,
                  .status = status,
                  .error_code = "",
                  .error_message = ""},
        .whole = true,
        .sent = status != 0,
        .own_side = status == 0,
    };
    sj_steps steps;
    int attempt = e->attempt;
    if (status)
        sj_journey_attempt_head(e->journey, attempt, status, &hint, true, now(), &steps);
    e->attempt = 0;
    sj_journey_attempt_ended(e->journey, attempt, &over, now(), &steps);
    take(w, e, &steps);
}

static void leave(worker *w, exchange *e) {
    sj_steps steps;
    end(w, e, &w->left);
    sj_journey_client_gone(e->journey, now(), &steps);
    take(w, e, &steps);
}

static void ring(worker *w, exchange *e) {
    sj_steps steps;
    sj_journey_timer(e->journey, now(), &steps);
    take(w, e, &steps);
}

static void read_mail(worker *w) {
    uint64_t mail[MAIL_MAX];
    pthread_mutex_lock(&w->mutex);
    int count = w->mail_count;
    for (int i = 0; i < count; i++)
        mail[i] = w->mail[i];
    w->mail_count = 0;
    pthread_mutex_unlock(&w->mutex);
    for (int i = 0; i < count; i++)
        for (int place = 0; place < PLACES; place++)
            if (w->places[place].id == mail[i]) {
                sj_steps steps;
                sj_journey_granted(w->places[place].journey, now(), &steps);
                take(w, &w->places[place], &steps);
                break;
            }
}

static void *work(void *argument) {
    worker *w = argument;
    for (int turn = 0; turn < TURNS || (w->answered < ANSWERS && turn < MOST_TURNS); turn++) {
        atomic_fetch_add(&world.clock_ms, (long long)(sj_rng_next(&w->rng) % 4 == 0));
        if (turn % 16 == 0) // on a single core too nobody turns alone, the slots in the hands of those who sleep
            (void)sched_yield();
        read_mail(w);
        exchange *e = &w->places[sj_rng_next(&w->rng) % PLACES];
        if (e->id == 0)
            begin(w, e);
        else if (now() >= sj_journey_due_ms(e->journey))
            ring(w, e);
        else if (sj_rng_next(&w->rng) % 50 == 0)
            leave(w, e);
        else if (e->attempt && sj_rng_next(&w->rng) % 4)
            attempt_ends(w, e);
    }
    for (int place = 0; place < PLACES; place++)
        if (w->places[place].id)
            leave(w, &w->places[place]);
    return NULL;
}

// ---- the world ------------------------------------------------------------------------------------------

static void make_world(void) {
    sj_target_rules rules = {sj_breaker_rules_default, sj_budget_rules_default};
    rules.breaker.failure_span_ms = 20;
    rules.breaker.recovery_timeout_ms = 100;
    rules.breaker.probe_timeout_ms = 300;
    sj_admission_rules slots = {
        .max_concurrent = 12, .max_waiting = 40, .timeout_ms = 1000, .adaptive = true};
    sj_sticky_rules stay = {200, 3};
    world.retry = (sj_retry_policy){
        .backoff = {.strategy = SJ_BACKOFF_FULL_JITTER, .base_ms = 20, .cap_ms = 200, .exponential_base = 2},
        .throttle_base_ms = 20,
        .throttle_cap_ms = 200,
        .max_hint_ms = 500,
        .max_attempts = 4,
        .max_attempts_before_fallback = 2,
        .max_wait_total_ms = 1000,
        .rules = sj_verdict_rules_default,
    };
    world.global = sj_global_breaker_new(&rules.breaker, 1, 0);
    world.sticky = sj_sticky_new(&stay);
    world.keys = sj_keys_new(KEYS);
    for (size_t i = 0; i < 2; i++)
        world.admissions[i] = sj_admission_new(&slots);
    static const char *const names[TARGETS] = {"a/x", "a/y", "b/z"};
    for (size_t i = 0; i < TARGETS; i++)
        world.targets[i] = sj_target_new(names[i], i, &rules, world.admissions[i / 2], world.global, i, 0);
}

static void everything_comes_back(void **unused) {
    (void)unused;
    make_world();
    for (uint32_t i = 0; i < WORKERS; i++) {
        worker *w = &world.workers[i];
        w->index = i;
        sj_rng_seed(&w->rng, 77 + i);
        pthread_mutex_init(&w->mutex, NULL);
    }
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&world.workers[i].thread, NULL, work, &world.workers[i]), 0);
    long answered = 0, refused = 0, left = 0, attempts = 0;
    for (int i = 0; i < WORKERS; i++) {
        assert_int_equal(pthread_join(world.workers[i].thread, NULL), 0);
        answered += world.workers[i].answered;
        refused += world.workers[i].refused;
        left += world.workers[i].left;
        attempts += world.workers[i].attempts;
        pthread_mutex_destroy(&world.workers[i].mutex);
    }
    print_message("%ld answered, %ld refused, %ld left, %ld attempts\n", answered, refused, left, attempts);
    assert_int_equal(atomic_load(&world.mistakes), 0);
    assert_true(answered >= WORKERS * ANSWERS);
    for (size_t i = 0; i < TARGETS; i++) {
        sj_target_stats stats = sj_target_read(world.targets[i], now());
        assert_int_equal(stats.in_flight, 0);
        assert_in_range(stats.budget_available, 0, 500);
        sj_target_unref(&world.targets[i]);
    }
    for (size_t i = 0; i < 2; i++) {
        sj_admission_stats slots = sj_admission_read(world.admissions[i]);
        assert_int_equal(slots.in_flight, 0);
        assert_int_equal(slots.waiting, 0);
        sj_admission_free(&world.admissions[i]);
    }
    sj_sticky_free(&world.sticky);
    sj_keys_free(&world.keys);
    sj_global_breaker_free(&world.global);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
