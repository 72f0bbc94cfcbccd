// The limit that an upstream's congestion moves: the steps by hand, and whole upstreams played in virtual time.
#include "limiter.h"
#include "rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static sj_limiter limiter;

static void refuse(int times, int in_flight, int64_t started_ms, int64_t now_ms) {
    for (int i = 0; i < times; i++)
        (void)sj_limiter_congested(&limiter, SJ_CONGESTION_REFUSED, in_flight, started_ms, now_ms);
}

static void succeed(int times, int in_flight, int64_t started_ms, int64_t now_ms) {
    for (int i = 0; i < times; i++)
        sj_limiter_succeeded(&limiter, in_flight, started_ms, now_ms);
}

static void expect(int limit) {
    assert_int_equal(sj_limiter_limit(&limiter), limit);
}

// The pairs of Netflix concurrency-limits AIMDLimitTest: a drop takes 10 to 9 and 30 to 27; success at the limit takes 10 to 11, and 20 to 21 with
// 10 in flight. There one sample is enough; here a cut takes ten, and a step of one as many successes as there are slots.
static void cuts_and_steps(void **unused) {
    (void)unused;
    static const int drops[][2] = {{10, 9}, {30, 27}};
    for (size_t i = 0; i < sizeof drops / sizeof *drops; i++) {
        sj_limiter_init(&limiter, drops[i][0], true);
        refuse(SJ_LIMITER_CUT_TAKES, drops[i][0], 10, 20);
        expect(drops[i][1]);
        assert_int_equal(limiter.cuts, 1);
    }
    static const int rises[][3] = {{10, 10, 11}, {20, 10, 21}};
    for (size_t i = 0; i < sizeof rises / sizeof *rises; i++) {
        sj_limiter_init(&limiter, 100, true);
        limiter.limit = limiter.epoch_limit = rises[i][0];
        succeed(rises[i][0] - 1, rises[i][1], 0, 100);
        expect(rises[i][0]);
        succeed(2, rises[i][1], 0, 100);
        expect(rises[i][2]);
        succeed(1000, rises[i][1], 0, 100); // one step an epoch
        expect(rises[i][2]);
        succeed(1000, rises[i][1] + 1, 0, 1100);
        expect(rises[i][2] + 1);
    }
}

static void one_cut_an_epoch(void **unused) {
    (void)unused;
    sj_limiter_init(&limiter, 100, true);
    refuse(SJ_LIMITER_CUT_TAKES - 1, 100, 0, 10);
    expect(100);
    refuse(500, 100, 0, 10); // all at once: one of them cuts, the others had been started before
    expect(90);
    refuse(500, 90, 1008, 1009);
    expect(90);
    refuse(1, 90, 1009, 1010);
    expect(81);
    refuse(500, 90, 1010, 5000); // started before the cut
    expect(81);
    succeed(100, 10, 0, 5000); // long ones: five seconds at the median
    refuse(SJ_LIMITER_CUT_TAKES, 81, 5998, 5999);
    expect(81);
    refuse(1, 81, 6009, 6010);
    expect(72);
    succeed(128, 10, 0, 60000);
    refuse(10, 72, 16008, 16009); // never longer than ten seconds
    expect(72);
    refuse(1, 72, 16009, 16010);
    expect(64);
}

static void what_was_never_used_is_no_evidence(void **unused) {
    (void)unused;
    sj_limiter_init(&limiter, 256, true);
    refuse(SJ_LIMITER_CUT_TAKES, 30, 0, 10);
    expect(115); // 0.9 of half
    refuse(SJ_LIMITER_CUT_TAKES, 30, 1010, 1020);
    expect(51);
    refuse(SJ_LIMITER_CUT_TAKES, 30, 2020, 2030);
    expect(27);
    refuse(SJ_LIMITER_CUT_TAKES, 27, 3030, 3040);
    expect(24);
}

static void slots_busy_with_refusals_are_too_many(void **unused) {
    (void)unused;
    static const int rows[][2] = {{9, 90}, {10, 90}, {20, 80}, {35, 65}, {50, 50}, {95, 50}}; // slots, limit
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        sj_limiter_init(&limiter, 1000, true);
        limiter.limit = 111.5;
        refuse(SJ_LIMITER_CUT_TAKES, 112, 9, 10);
        expect(100);
        refuse(rows[i][0], 100, 11, 1009); // all the time, and too soon for a cut
        expect(100);
        refuse(1, 100, 1009, 1010);
        expect(rows[i][1]);
    }
}

static void never_below_one(void **unused) {
    (void)unused;
    sj_limiter_init(&limiter, 5, true);
    for (int i = 1; i < 50; i++)
        refuse(SJ_LIMITER_CUT_TAKES, 1, i * 2000 - 10, i * 2000);
    expect(1);
    sj_limiter_init(&limiter, 1, true);
    refuse(30, 1, 1, 10);
    expect(1);
}

// Cuts in a row, down to one; then one success for each slot, each second.
static void doubling_ends_at_half_of_what_was(void **unused) {
    (void)unused;
    sj_limiter_init(&limiter, 256, true);
    int64_t now = 0;
    for (int i = 0; i < 60; i++, now += 1500)
        refuse(SJ_LIMITER_CUT_TAKES, sj_limiter_limit(&limiter), now - 1, now);
    expect(1);
    static const int then[] = {2, 4, 8, 16, 32, 64, 128, 129, 130};
    for (size_t i = 0; i < sizeof then / sizeof *then; i++, now += 1000) {
        int slots = sj_limiter_limit(&limiter);
        succeed(slots + 1, slots, now - 10, now);
        expect(then[i]);
    }
    refuse(2 * SJ_LIMITER_CUT_TAKES, 130, now - 1, now); // a cut after growing: doubling would end at 65 now
    expect(117);
    now += 1000;
    succeed(1000, 117, now - 1, now);
    expect(118);
}

// One that grew into its limit at once would be refused until the next cut is due.
static void nothing_grows_in_the_epoch_of_a_cut(void **unused) {
    (void)unused;
    sj_limiter_init(&limiter, 100, true);
    refuse(SJ_LIMITER_CUT_TAKES, 100, 0, 10);
    succeed(1000, 90, 11, 1009);
    expect(90);
    succeed(1000, 90, 11, 1010);
    expect(91);
}

// Ten epochs without a cut make the step larger.
static void steps_grow(void **unused) {
    (void)unused;
    sj_limiter_init(&limiter, 1000, true);
    int64_t now = 0;
    limiter.limit = limiter.epoch_limit = 100;
    static const int then[] = {110, 130, 160, 200};
    for (size_t i = 0; i < sizeof then / sizeof *then; i++) {
        for (int k = 0; k < 10; k++, now += 1000)
            succeed(1000, 500, now - 1, now);
        expect(then[i]);
    }
}

static void only_what_is_used_grows(void **unused) {
    (void)unused;
    sj_limiter_init(&limiter, 100, true);
    refuse(SJ_LIMITER_CUT_TAKES, 100, 0, 10);
    expect(90);
    succeed(1000, 44, 11, 2000); // less than half
    expect(90);
    succeed(1000, 45, 5, 2000); // started before the cut
    expect(90);
    succeed(1000, 45, 11, 2000);
    expect(91);
}

static void others_teach_nothing_when_it_is_fixed(void **unused) {
    (void)unused;
    sj_limiter_init(&limiter, 10, false);
    refuse(100, 10, 0, 5000);
    expect(10);
    sj_limiter_set(&limiter, 10, true);
    refuse(SJ_LIMITER_CUT_TAKES, 10, 5000, 6000);
    expect(9);
    sj_limiter_set(&limiter, 20, true); // it was not at its maximum
    expect(9);
    sj_limiter_set(&limiter, 4, true);
    expect(4);
    sj_limiter_set(&limiter, 8, true); // it was
    expect(8);
    refuse(SJ_LIMITER_CUT_TAKES, 8, 7000, 7001);
    expect(7);
    sj_limiter_set(&limiter, 8, false);
    expect(8);
}

// ---- whole upstreams ------------------------------------------------------------------------------------

enum { CLIENTS_MAX = 400 };

// Clients without a pause between questions; one that was refused comes back after a while, as the journey's backoff does.
typedef struct world {
    int slots; // of the upstream: beyond it 429; 0 none
    bool refused_count; // for it, what it is refusing runs too
    int per_second; // beyond it 429; 0 none
    double odd; // share that fails whatever the load
    sj_congestion odd_kind;
    int64_t answer_ms, refusal_ms;
    int clients;
    // what happened
    int64_t now;
    sj_rng rng;
    struct client {
        int64_t started, until;
        bool runs, good, counts;
        sj_congestion kind;
    } list[CLIENTS_MAX];
    int serving, answered, refused, most_in_flight;
    double bucket;
} world;

static int in_flight(const world *w) {
    int count = 0;
    for (int i = 0; i < w->clients; i++)
        count += w->list[i].runs;
    return count;
}

static void ask(world *w, struct client *c) {
    bool odd = sj_rng_unit(&w->rng) < w->odd;
    bool over = (w->slots && w->serving >= w->slots) || (w->per_second && w->bucket < 1);
    c->runs = true;
    c->started = w->now;
    c->good = !odd && !over;
    c->kind = over ? SJ_CONGESTION_REFUSED : w->odd_kind;
    c->counts = c->good || w->refused_count;
    w->serving += c->counts;
    w->bucket -= c->good;
    int64_t ms = c->good ? w->answer_ms : w->refusal_ms;
    c->until = w->now + sj_rng_between(&w->rng, ms / 2, ms * 3 / 2);
}

static void answer(world *w, struct client *c, int running) {
    if (c->good) {
        sj_limiter_succeeded(&limiter, running, c->started, w->now);
        w->answered++;
    } else {
        (void)sj_limiter_congested(&limiter, c->kind, running, c->started, w->now);
        w->refused++;
    }
    w->serving -= c->counts;
    c->until = w->now + (c->good ? 0 : sj_rng_between(&w->rng, 500, 1500));
    c->runs = false;
}

static void play(world *w, int64_t ms) {
    w->answered = w->refused = w->most_in_flight = 0;
    for (int64_t end = w->now + ms; w->now < end; w->now++) {
        int running = in_flight(w);
        int first = (int)sj_rng_between(&w->rng, 0, w->clients - 1);
        w->bucket += w->per_second / 1000.0;
        w->bucket = w->bucket < w->per_second ? w->bucket : w->per_second;
        for (int i = 0; i < w->clients; i++) {
            struct client *c = &w->list[(first + i) % w->clients];
            if (c->until > w->now)
                continue;
            if (c->runs)
                answer(w, c, running--);
            else if (running < sj_limiter_limit(&limiter)) {
                ask(w, c);
                running++;
            }
        }
        w->most_in_flight = running > w->most_in_flight ? running : w->most_in_flight;
        assert_in_range(sj_limiter_limit(&limiter), 1, limiter.max);
    }
}

static world *new_world(int clients, int64_t answer_ms) {
    static world w;
    w = (world){.clients = clients, .answer_ms = answer_ms, .refusal_ms = 10, .now = 1000};
    const char *seed = getenv("SJ_TEST_SEED");
    sj_rng_seed(&w.rng, seed ? strtoull(seed, NULL, 10) : 21);
    sj_limiter_init(&limiter, 256, true);
    return &w;
}

static double refused_share(const world *w) {
    return (double)w->refused / (w->answered + w->refused);
}

static void settles_at_the_slots_and_recovers(void **unused) {
    (void)unused;
    static const int64_t answers_ms[] = {100, 500, 3000, 10000};
    for (size_t i = 0; i < sizeof answers_ms / sizeof *answers_ms; i++) {
        world *w = new_world(200, answers_ms[i]);
        w->slots = 20;
        play(w, 20000 + 6 * answers_ms[i]);
        play(w, 60000);
        int full = (int)(20 * 60000 / answers_ms[i]);
        print_message("answers of %5d ms: limit %3d, refused %.1f %%, answered %.0f %%\n", (int)answers_ms[i],
                      sj_limiter_limit(&limiter), 100 * refused_share(w), 100.0 * w->answered / full);
        assert_in_range(sj_limiter_limit(&limiter), 15, 26);
        assert_true(w->answered > full * 85 / 100);
        assert_true(w->refused < w->answered / 5 + 60);
        w->slots = 0;
        play(w, 60000 + 30 * answers_ms[i]);
        print_message("    without a limit: limit %3d\n", sj_limiter_limit(&limiter));
        assert_in_range(sj_limiter_limit(&limiter), 100, 256);
    }
}

// An upstream that is as busy refusing as answering.
static void settles_where_refusing_is_work(void **unused) {
    (void)unused;
    world *w = new_world(100, 200);
    w->slots = 20;
    w->refused_count = true;
    w->refusal_ms = 200;
    play(w, 8000);
    int at_first = w->refused;
    play(w, 30000);
    print_message("refusing is work: limit %d, %d refused at first, then %.1f %%, answered %d\n",
                  sj_limiter_limit(&limiter), at_first, 100 * refused_share(w), w->answered);
    assert_in_range(sj_limiter_limit(&limiter), 15, 24);
    assert_true(at_first < 1000);
    assert_true(refused_share(w) < 0.14);
    assert_true(w->answered > 2500);
}

static void settles_at_a_rate(void **unused) {
    (void)unused;
    world *w = new_world(100, 200);
    w->per_second = 50;
    play(w, 30000);
    play(w, 60000);
    print_message("50 a second: limit %d, refused %.1f %%, answered %d\n", sj_limiter_limit(&limiter),
                  100 * refused_share(w), w->answered);
    assert_in_range(sj_limiter_limit(&limiter), 7, 14);
    assert_true(w->answered > 2700);
    assert_true(refused_share(w) < 0.2);
}

// What fails now and then, whatever the load, must not be strangled.
static void odd_failures_do_not_strangle(void **unused) {
    (void)unused;
    static const struct {
        double share;
        sj_congestion kind;
    } rows[] = {{0.2, SJ_CONGESTION_UNWELL}, {0.05, SJ_CONGESTION_REFUSED}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        world *w = new_world(120, 1000);
        w->odd = rows[i].share;
        w->odd_kind = rows[i].kind;
        play(w, 60000);
        play(w, 60000);
        print_message("%2.0f %% odd: limit %d, %d cuts, answered %d\n", 100 * rows[i].share,
                      sj_limiter_limit(&limiter), (int)limiter.cuts, w->answered);
        assert_in_range(w->most_in_flight, 90, 256);
        assert_true(w->answered > 60 * 120 * 6 / 10);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts_and_steps),
        cmocka_unit_test(one_cut_an_epoch),
        cmocka_unit_test(what_was_never_used_is_no_evidence),
        cmocka_unit_test(slots_busy_with_refusals_are_too_many),
        cmocka_unit_test(never_below_one),
        cmocka_unit_test(doubling_ends_at_half_of_what_was),
        cmocka_unit_test(nothing_grows_in_the_epoch_of_a_cut),
        cmocka_unit_test(steps_grow),
        cmocka_unit_test(only_what_is_used_grows),
        cmocka_unit_test(others_teach_nothing_when_it_is_fixed),
        cmocka_unit_test(settles_at_the_slots_and_recovers),
        cmocka_unit_test(settles_where_refusing_is_work),
        cmocka_unit_test(settles_at_a_rate),
        cmocka_unit_test(odd_failures_do_not_strangle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
