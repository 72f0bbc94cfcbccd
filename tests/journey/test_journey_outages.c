// Outages, brown-outs and storms: what the upstream gets to see of them, and that goodput returns by itself (BEHAVIOUR 7, 8 and 16). The
// weather turns bad from the first minute to the second; the load goes on for two more. SJ_SEED chooses other seeds.
#include "sim.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SEEDS = 1, BAD_FROM_MS = 60000, BAD_UNTIL_MS = 120000, LAST_SLICE = 23 };

typedef struct outage {
    const char *name;
    sim_fate fate;
    double chance;
    int64_t latency_ms;
    size_t targets; // the first one's weather is bad
    double surge;
    double requests_per_s; // limit while it is bad; 0 none
    bool hints;
    // what is promised
    double sent; // per request while it lasts, at most
    double good; // share of the requests while it lasts, at least
    int back_after; // slices after its end until all requests are answered
} outage;

static const outage outages[] = {
    {.name = "all fail",
     .fate = SIM_503,
     .chance = 1,
     .latency_ms = 50,
     .targets = 1,
     .sent = 1.1,
     .back_after = 1},
    {.name = "all are reset",
     .fate = SIM_RESET,
     .chance = 1,
     .latency_ms = 50,
     .targets = 1,
     .sent = 1.1,
     .back_after = 1},
    {.name = "no connection",
     .fate = SIM_REFUSED,
     .chance = 1,
     .latency_ms = 2,
     .targets = 1,
     .sent = 0,
     .back_after = 1},
    {.name = "silence",
     .fate = SIM_SILENT,
     .chance = 1,
     .latency_ms = 300,
     .targets = 1,
     .sent = 1.1,
     .back_after = 3},
    {.name = "empty answers",
     .fate = SIM_EMPTY,
     .chance = 1,
     .latency_ms = 300,
     .targets = 1,
     .sent = 1.1,
     .back_after = 1},
    {.name = "throttled without a word",
     .fate = SIM_429,
     .chance = 1,
     .latency_ms = 30,
     .targets = 1,
     .sent = 1.1,
     .back_after = 1},
    {.name = "all fail, with a fallback",
     .fate = SIM_503,
     .chance = 1,
     .latency_ms = 50,
     .targets = 2,
     .sent = 1.3,
     .good = 0.999},
    {.name = "silence, with a fallback",
     .fate = SIM_SILENT,
     .chance = 1,
     .latency_ms = 300,
     .targets = 2,
     .sent = 1.1,
     .good = 0.999,
     .back_after = 3},
    {.name = "three in five fail",
     .fate = SIM_503,
     .chance = 0.6,
     .latency_ms = 300,
     .targets = 1,
     .sent = 1.2,
     .back_after = 1},
    {.name = "storm of failures",
     .fate = SIM_503,
     .chance = 1,
     .latency_ms = 300,
     .targets = 1,
     .surge = 4.4,
     .sent = 1.1,
     .back_after = 2},
    {.name = "storm of silence",
     .fate = SIM_SILENT,
     .chance = 1,
     .latency_ms = 300,
     .targets = 1,
     .surge = 4.4,
     .sent = 1.1,
     .back_after = 3},
    {.name = "rate limit with hints",
     .latency_ms = 300,
     .targets = 1,
     .requests_per_s = 60,
     .hints = true,
     .sent = 1.1,
     .good = 0.35, // more than the queue holds want to wait at the gate
     .back_after = 2},
    {.name = "rate limit without",
     .latency_ms = 300,
     .targets = 1,
     .requests_per_s = 60,
     .sent = 1.4,
     .good = 0.5,
     .back_after = 1},
};

static uint64_t base_seed(void) {
    const char *text = getenv("SJ_SEED");
    return text ? strtoull(text, NULL, 10) : 1;
}

static void prepare(sim_rules *rules, const outage *o, uint64_t seed) {
    sim_defaults(rules, seed);
    rules->arrivals_until_ms = 10000 * (LAST_SLICE + 1);
    rules->per_second = o->surge > 0 ? 75 : 100;
    rules->surge = o->surge;
    rules->surge_from_ms = BAD_FROM_MS;
    rules->surge_until_ms = BAD_FROM_MS + 47000;
    rules->workers = 4;
    rules->lag_ms = 2;
    rules->patience_ms = 60000; // SDK clients, told not to retry what has been retried here
    rules->client_retries = 2;
    rules->deadline_ms = 59000;
    rules->answer_ms = 30000;
    rules->slots[0].max_waiting = 2048; // a breaker is open for 12 s at most: room for all who come meanwhile
    rules->upstream_count = rules->target_count = rules->chains[0].n = o->targets;
    for (size_t i = 0; i < o->targets; i++)
        rules->upstream_of[i] = rules->chains[0].target[i] = i;
    sim_mood bad = {.latency_ms = o->latency_ms,
                    .requests_per_s = o->requests_per_s,
                    .limit_hints = o->hints,
                    .hint_ms = 3000};
    bad.chance[o->fate] = o->chance;
    rules->phases[0] = (sim_phase){BAD_FROM_MS, 0, bad};
    rules->phases[1] = (sim_phase){o->surge > 0 ? rules->surge_until_ms : BAD_UNTIL_MS, 0, rules->moods[0]};
    rules->phase_count = 2;
}

static void check_course(const outage *o, uint64_t seed, const sim_result *r) {
    int first = BAD_FROM_MS / 10000, last = BAD_UNTIL_MS / 10000 - 1;
    long requests = 0, good = 0, sent = 0;
    for (int i = first; i <= last; i++) {
        requests += r->slices[i].requests;
        good += r->slices[i].good;
    }
    if ((double)good < o->good * (double)requests)
        fail_msg("%s, seed %" PRIu64 ": only %ld of %ld answered", o->name, seed, good, requests);
    requests = 0;
    for (int i = first; i < last - (o->surge > 0);
         i++) { // those that waited for the end of it may then all be sent
        requests += r->slices[i].requests;
        sent += r->slices[i].sent;
    }
    if ((double)sent > o->sent * (double)requests)
        fail_msg("%s, seed %" PRIu64 ": %ld sent for %ld requests", o->name, seed, sent, requests);
    for (int i = last + 1 + o->back_after; i < LAST_SLICE; i++)
        if (r->slices[i].good != r->slices[i].requests)
            fail_msg("%s, seed %" PRIu64 ": %ld of %ld in slice %d", o->name, seed, r->slices[i].good,
                     r->slices[i].requests, i);
}

static void goodput_returns_by_itself(void **unused) {
    (void)unused;
    static sim_result r;
    for (size_t i = 0; i < sizeof outages / sizeof *outages; i++) {
        for (uint64_t seed = base_seed(); seed < base_seed() + SEEDS; seed++) {
            sim_rules rules;
            prepare(&rules, &outages[i], seed);
            sim_run(&rules, &r);
            if (r.violation[0])
                fail_msg("%s: %s", outages[i].name, r.violation);
            print_message("%s: %ld requests, %ld good, %ld attempts, %ld openings, p99 %" PRId64 " ms\n",
                          outages[i].name, r.requests, r.good, r.starts, r.opened, r.p99_ms);
            check_course(&outages[i], seed, &r);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goodput_returns_by_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
