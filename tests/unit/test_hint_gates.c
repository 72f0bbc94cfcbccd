#include "hint_gates.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void a_gate_holds_its_credential_only(void **unused) {
    (void)unused;
    sj_hint_gates gates = {0};
    assert_int_equal(sj_hint_gates_until(&gates, 1, 0), 0);
    sj_hint_gates_set(&gates, 1, 5000, 0, 0);
    assert_int_equal(sj_hint_gates_until(&gates, 1, 4999), 5000);
    assert_int_equal(sj_hint_gates_until(&gates, 1, 5000), 0);
    assert_int_equal(sj_hint_gates_until(&gates, 2, 1000), 0);
    assert_int_equal(sj_hint_gates_count(&gates, 4999), 1);
    assert_int_equal(sj_hint_gates_count(&gates, 5000), 0);
}

static void a_later_hint_extends(void **unused) {
    (void)unused;
    sj_hint_gates gates = {0};
    sj_hint_gates_set(&gates, 1, 5000, 0, 0);
    sj_hint_gates_set(&gates, 1, 3000, 0, 0);
    assert_int_equal(sj_hint_gates_until(&gates, 1, 0), 5000);
    sj_hint_gates_set(&gates, 1, 9000, 0, 0);
    assert_int_equal(sj_hint_gates_until(&gates, 1, 0), 9000);
    sj_hint_gates_set(&gates, 2, 20000, 0, 0);
    assert_int_equal(sj_hint_gates_until(&gates, 1, 9000), 0);
    assert_int_equal(sj_hint_gates_until(&gates, 2, 9000), 20000);
    sj_hint_gates_set(&gates, 3, 10000, 0, 0); // a shorter one beside it
    assert_int_equal(sj_hint_gates_until(&gates, 2, 15000), 20000);
}

// Never early, each a little after the one before, within the spread, where it starts over.
static void turns_are_staggered(void **unused) {
    (void)unused;
    sj_hint_gates gates = {0};
    sj_rng rng;
    sj_rng_seed(&rng, 1);
    assert_int_equal(sj_hint_gates_turn(&gates, 1, 0, &rng), 0);
    sj_hint_gates_set(&gates, 1, 60000, 0, 0);
    int64_t before = 60000;
    int rounds = 0;
    for (int i = 0; i < 1000; i++) {
        int64_t turn = sj_hint_gates_turn(&gates, 1, 1000, &rng);
        assert_in_range(turn, 60001, 60000 + SJ_HINT_GATES_SPREAD_MS);
        rounds += turn < before;
        if (turn >= before)
            assert_in_range(turn - before, 10, 90);
        before = turn;
    }
    assert_in_range(rounds, 8, 12); // a hundred fill the spread
    sj_hint_gates_set(&gates, 1, 70000, 0, 1000);
    assert_in_range(sj_hint_gates_turn(&gates, 1, 1000, &rng), 70001, 70090); // those who wait are told anew
    assert_int_equal(sj_hint_gates_turn(&gates, 1, 70000, &rng), 0);
}

static void the_least_recently_used_goes(void **unused) {
    (void)unused;
    sj_hint_gates gates = {0};
    sj_rng rng;
    sj_rng_seed(&rng, 1);
    for (uint64_t i = 0; i < SJ_HINT_GATES_MAX; i++)
        sj_hint_gates_set(&gates, i, 1000, 0, 0);
    assert_true(sj_hint_gates_turn(&gates, 0, 0, &rng) > 0); // used
    sj_hint_gates_set(&gates, 1000, 1000, 0, 0);
    assert_int_equal(gates.count, SJ_HINT_GATES_MAX);
    assert_int_equal(sj_hint_gates_until(&gates, 0, 0), 1000);
    assert_int_equal(sj_hint_gates_until(&gates, 1, 0), 0);
    assert_int_equal(sj_hint_gates_until(&gates, 2, 0), 1000);
    assert_int_equal(sj_hint_gates_until(&gates, 1000, 0), 1000);
    for (uint64_t i = 0; i < 100000; i++)
        sj_hint_gates_set(&gates, i * 7919, 2000, 0, 0);
    assert_int_equal(sj_hint_gates_count(&gates, 1500), SJ_HINT_GATES_MAX);
}

static void falls_on_proof(void **unused) {
    (void)unused;
    sj_hint_gates gates = {0};
    sj_hint_gates_set(&gates, 1, 5000, 100, 200);
    sj_hint_gates_passed(&gates, 1, 100, 300); // started with the refused one: proves nothing
    sj_hint_gates_passed(&gates, 2, 150, 300); // another credential
    assert_int_equal(sj_hint_gates_until(&gates, 1, 300), 5000);
    sj_hint_gates_set(&gates, 1, 4000, 250, 310); // refused again, later
    sj_hint_gates_passed(&gates, 1, 240, 320);
    assert_int_equal(sj_hint_gates_until(&gates, 1, 320), 5000);
    sj_hint_gates_passed(&gates, 1, 251, 330);
    assert_int_equal(sj_hint_gates_until(&gates, 1, 330), 0);
    sj_hint_gates_set(&gates, 1, 900, 340, 400);
    assert_int_equal(sj_hint_gates_until(&gates, 1, 400), 900);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(falls_on_proof),
        cmocka_unit_test(a_gate_holds_its_credential_only),
        cmocka_unit_test(a_later_hint_extends),
        cmocka_unit_test(turns_are_staggered),
        cmocka_unit_test(the_least_recently_used_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
