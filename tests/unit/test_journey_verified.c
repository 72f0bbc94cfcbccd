// BEHAVIOUR 12: streams held back until they are complete, and signs of life before commit.
#include "journey_bench.h"

static bench verified_bench(size_t hops) {
    bench b = bench_calm(hops);
    b.plan.stream = b.plan.verified = true;
    return b;
}

static sj_attempt_over stream_over(sj_end end, bool whole, bool lacks_only_done) {
    sj_attempt_over over = bench_over(end, 200);
    over.whole = whole;
    over.lacks_only_done = lacks_only_done;
    over.facts.stream_incomplete = !whole && !lacks_only_done;
    return over;
}

static void a_break_is_invisible(void **unused) {
    (void)unused;
    bench b = verified_bench(1);
    gives(&b, go(&b), "start 1 a");
    head(&b, 200);
    gives(&b, says(&b, SJ_SAYS_CONTENT), "");
    gives(&b, ended(&b, stream_over(SJ_END_BROKEN, false, false)), "retry a 500 backoff broken");
    wakes_after(&b, 500, "start 2 a");
    head(&b, 200);
    says(&b, SJ_SAYS_CONTENT);
    gives(&b, says(&b, SJ_SAYS_FINISH | SJ_SAYS_WHOLE), "");
    gives(&b, ended(&b, stream_over(SJ_END_WHOLE, true, false)), "deliver 2");
    over(&b);
    bench_free(&b);
}

static void complete_however_it_ends(void **unused) {
    (void)unused;
    for (int how = 0; how < 3; how++) {
        bench b = verified_bench(1);
        go(&b);
        head(&b, 200);
        says(&b, SJ_SAYS_CONTENT);
        says(&b, SJ_SAYS_FINISH | SJ_SAYS_ALL_BUT_DONE);
        if (how == 0)
            gives(&b, ended(&b, stream_over(SJ_END_WHOLE, false, true)), "deliver 1");
        else if (how == 1)
            gives(&b, ended(&b, stream_over(SJ_END_BROKEN, false, true)), "deliver 1");
        else
            wakes_after(&b, 5000, "cancel 1; deliver 1");
        over(&b);
        bench_free(&b);
    }
}

static void too_much_to_hold_is_let_go(void **unused) {
    (void)unused;
    bench b = verified_bench(1);
    go(&b);
    head(&b, 200);
    says(&b, SJ_SAYS_CONTENT);
    gives(&b, says(&b, SJ_SAYS_CONTENT | SJ_SAYS_OVERFLOW), "commit 1");
    gives(&b, ended(&b, stream_over(SJ_END_BROKEN, false, false)), "break");
    over(&b);
    bench_free(&b);
}

static void signs_of_life_until_commit(void **unused) {
    (void)unused;
    bench b = bench_calm(1);
    b.plan.stream = true;
    b.plan.keepalive_ms = 15000;
    go(&b);
    wakes_after(&b, 15000, "keepalive");
    wakes_after(&b, 15000, "keepalive");
    gives(&b, answer(&b, 503), "retry a 500 backoff 503; save 1");
    wakes_after(&b, 500, "start 2 a");
    wakes_after(&b, 14500, "keepalive");
    head(&b, 200);
    gives(&b, says(&b, SJ_SAYS_CONTENT), "commit 2");
    assert_int_equal(due_in(&b), 120000);
    gives(&b, gone(&b), "cancel 2");
    over(&b);
    bench_free(&b);
}

static void none_for_whole_answers(void **unused) {
    (void)unused;
    bench b = bench_calm(1);
    b.plan.keepalive_ms = 15000;
    go(&b);
    assert_int_equal(due_in(&b), 600000);
    gone(&b);
    over(&b);
    bench_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_break_is_invisible),       cmocka_unit_test(complete_however_it_ends),
        cmocka_unit_test(too_much_to_hold_is_let_go), cmocka_unit_test(signs_of_life_until_commit),
        cmocka_unit_test(none_for_whole_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
