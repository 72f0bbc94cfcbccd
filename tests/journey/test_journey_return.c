// A strong target fails for a minute and comes back (BEHAVIOUR 9): meanwhile everybody is answered by the cheaper one, nobody is sacrificed to a
// probe, and afterwards all return to the strong one by themselves. Virtual time, the real lib. SJ_SEED chooses other seeds.
#include "sim.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SEEDS = 2, BAD_FROM = 6, BAD_UNTIL = 12, LAST = 30 }; // slices of 10 s

static const struct row {
    sim_fate fate;
    double share;
    int settled; // slices until the weather is known
    double sent; // attempts per request from then on while it lasts, at most
    int64_t stay_ms;
    int back; // slices after its end until all are answered by the strong one
} rows[] = {
    {SIM_503, 1, 2, 1.06, 60000, 8},   {SIM_503, 1, 2, 1.06, 20000, 4},
    {SIM_RESET, 1, 2, 1.06, 60000, 8}, {SIM_REFUSED, 1, 2, 1.02, 60000, 8},
    {SIM_EMPTY, 1, 2, 1.06, 60000, 8}, {SIM_SILENT, 1, 4, 1.1, 60000, 11}, // all probes are waited for
    {SIM_500, 0.9, 4, 1.1, 60000, 8}, // half of the last minute has to fail first
};

static uint64_t base_seed(void) {
    const char *text = getenv("SJ_SEED");
    return text ? strtoull(text, NULL, 10) : 1;
}

static void prepare(sim_rules *rules, const struct row *row, uint64_t seed) {
    sim_defaults(rules, seed);
    rules->arrivals_until_ms = 10000 * (LAST + 1);
    rules->per_second = 50;
    rules->workers = 4;
    rules->lag_ms = 2;
    rules->streams = 0.5;
    rules->sticky = true;
    rules->stay.min_ms = row->stay_ms;
    rules->first_byte_ms = rules->answer_ms = 30000;
    rules->upstream_count = rules->target_count = rules->chains[0].n = 2;
    rules->upstream_of[1] = rules->chains[0].target[1] = 1;
    sim_mood bad = {.latency_ms = 50};
    bad.chance[row->fate] = row->share;
    rules->phases[0] = (sim_phase){10000 * BAD_FROM, 0, bad};
    rules->phases[1] = (sim_phase){10000 * BAD_UNTIL, 0, rules->moods[0]};
    rules->phase_count = 2;
}

static void check(const struct row *row, uint64_t seed, const sim_result *r) {
    const char *name = sim_fate_name(row->fate);
    for (int i = 0; i <= LAST; i++) {
        const struct sim_slice *s = &r->slices[i];
        if (s->good != s->requests)
            fail_msg("%s, seed %" PRIu64 ": only %ld of %ld answered in slice %d", name, seed, s->good,
                     s->requests, i);
        bool in_charge = i < BAD_FROM - 1 || i >= BAD_UNTIL + row->back;
        if (in_charge && s->strong != s->good)
            fail_msg("%s, seed %" PRIu64 ": the strong one answered %ld of %ld in slice %d", name, seed,
                     s->strong, s->good, i);
        bool settled = i >= BAD_FROM + row->settled && i < BAD_UNTIL;
        if (settled && (double)s->sent > row->sent * (double)s->requests)
            fail_msg("%s, seed %" PRIu64 ": %ld sent for %ld in slice %d", name, seed, s->sent, s->requests,
                     i);
    }
}

static void all_return(void **unused) {
    (void)unused;
    static sim_rules rules;
    static sim_result r;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (uint64_t seed = base_seed(); seed < base_seed() + SEEDS; seed++) {
            prepare(&rules, &rows[i], seed);
            sim_run(&rules, &r);
            if (r.violation[0])
                fail_msg("%s", r.violation);
            print_message("%s: %ld requests, %ld sent to the strong one, p99 %" PRId64 " ms, worst %" PRId64
                          " ms\n",
                          sim_fate_name(rows[i].fate), r.requests, r.sent[0], r.p99_ms, r.worst_ms);
            check(&rows[i], seed, &r);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_return),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
