// Random worlds, from storms of minutes to weeks of sparse traffic. After every event the invariants are checked; at the end a table tells what has
// been seen. SJ_SEED repeats the world with that seed, SJ_HOURS plays that many hours of virtual time, SJ_STORY=file tells SJ_SEED's world line by line.
#include "sim_random.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// A run of that many hours is long enough to have seen every kind, and holds at least so many exchanges.
enum { FIRST_SEED = 1, LONG_HOURS = 40000, LONG_EXCHANGES = 5000000 };
static const double default_hours = 3000;

typedef struct total {
    long worlds, exchanges, good, failed, left, starts, opened, events;
    double hours;
    sim_seen seen;
} total;

static double hours_wanted(void) {
    const char *text = getenv("SJ_HOURS");
    return text ? strtod(text, NULL) : default_hours;
}

static void live(uint64_t seed, FILE *story, sim_result *r) {
    static sim_rules rules;
    sim_random_rules(&rules, seed);
    rules.story = story;
    sim_run(&rules, r);
    if (r->violation[0])
        fail_msg("%s\nSJ_SEED=%" PRIu64 " repeats it", r->violation, seed);
    if (r->seen.stray[0])
        fail_msg("seed %" PRIu64 ": the table does not know %s", seed, r->seen.stray);
    if (r->good + r->failed + r->left != r->exchanges)
        fail_msg("seed %" PRIu64 ": %ld good, %ld failed, %ld left of %ld", seed, r->good, r->failed, r->left,
                 r->exchanges);
}

static void add(total *t, const sim_result *r) {
    t->worlds++;
    t->hours += (double)r->ended_ms / 3600000;
    t->exchanges += r->exchanges;
    t->good += r->good;
    t->failed += r->failed;
    t->left += r->left;
    t->starts += r->starts;
    t->opened += r->opened;
    t->events += r->events;
    sim_seen_add(&t->seen, &r->seen);
}

static void report(const total *t) {
    print_message(
        "%.0f h in %ld worlds: %ld exchanges (%ld good, %ld failed, %ld left by the client), %ld attempts, "
        "%ld breaker openings, %ld events\n",
        t->hours, t->worlds, t->exchanges, t->good, t->failed, t->left, t->starts, t->opened, t->events);
}

static void one_world(uint64_t seed) {
    static sim_result r;
    static total t;
    const char *path = getenv("SJ_STORY");
    FILE *story = path ? fopen(path, "w") : NULL;
    assert_true(!path || story);
    live(seed, story, &r);
    if (story)
        assert_int_equal(fclose(story), 0);
    add(&t, &r);
    report(&t);
}

static void the_invariants_hold(void **unused) {
    (void)unused;
    static sim_result r;
    static total t;
    const char *one = getenv("SJ_SEED");
    if (one && !getenv("SJ_HOURS")) {
        one_world(strtoull(one, NULL, 10));
        return;
    }
    for (uint64_t seed = one ? strtoull(one, NULL, 10) : FIRST_SEED; t.hours < hours_wanted(); seed++) {
        live(seed, NULL, &r);
        add(&t, &r);
    }
    int never = sim_seen_print(&t.seen, stdout);
    report(&t);
    assert_true(t.good > t.exchanges / 10 && t.opened > t.worlds);
    if (t.hours >= LONG_HOURS && never > 0)
        fail_msg("%d kinds were never seen", never);
    assert_true(t.hours < LONG_HOURS || t.exchanges >= LONG_EXCHANGES);
}

// Byte for byte.
static void the_same_seed_is_the_same_story(void **unused) {
    (void)unused;
    static sim_result first, second;
    uint64_t before = 0;
    for (uint64_t seed = FIRST_SEED; seed < FIRST_SEED + 10; seed++) {
        char *stories[2] = {NULL, NULL};
        size_t sizes[2];
        sim_result *results[2] = {&first, &second};
        for (int i = 0; i < 2; i++) {
            FILE *story = open_memstream(&stories[i], &sizes[i]);
            assert_non_null(story);
            live(seed, story, results[i]);
            assert_int_equal(fclose(story), 0);
        }
        assert_int_equal(sizes[0], sizes[1]);
        assert_true(sizes[0] > 100);
        assert_memory_equal(stories[0], stories[1], sizes[0]);
        assert_memory_equal(&first, &second, sizeof first);
        assert_true(first.trace != before);
        before = first.trace;
        free(stories[0]);
        free(stories[1]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_invariants_hold),
        cmocka_unit_test(the_same_seed_is_the_same_story),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
