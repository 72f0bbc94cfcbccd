// BEHAVIOUR 12 through the journey, up to the in-band error: when an answer is committed, when it is whole, what becomes of a broken one.
#include "journey_bench.h"

enum { EVENT = 0, CONTENT = SJ_SAYS_CONTENT, FINISH = SJ_SAYS_FINISH };

static bench streaming(size_t hops) {
    bench b = bench_new(hops);
    b.plan.stream = true;
    return b;
}

// As the carrier reports the end of a stream.
static void stream_ends(bench *b, sj_end end, bool whole, bool lacks_only_done) {
    sj_attempt_over over = bench_over(end, 200);
    over.facts.stream_incomplete = end == SJ_END_WHOLE && !whole && !lacks_only_done;
    over.whole = whole;
    over.lacks_only_done = lacks_only_done;
    ended(b, over);
}

static void eof(bench *b) {
    stream_ends(b, SJ_END_WHOLE, false, false);
}

static void commit(bench *b) {
    *b = streaming(1);
    go(b);
    b->now += 100;
    head(b, 200);
    b->now += 200;
    gives(b, says(b, CONTENT), "commit 1");
}

static void check_counts(bench *b, int calls, int failures) {
    sj_target_stats stats = target_at(b, 0);
    assert_int_equal(stats.window_calls, calls);
    assert_int_equal(stats.window_failures, failures);
}

// ---- a good one -----------------------------------------------------------------------------------------

static void is_committed_at_the_first_content(void **unused) {
    (void)unused;
    bench b = streaming(1);
    gives(&b, go(&b), "start 1 a");
    wakes_after(&b, 120000, "retry a 500 backoff timeout; cancel 1"); // a stream's first byte
    wakes_after(&b, 500, "start 2 a");
    b.now += 300;
    head(&b, 200);
    gives(&b, says(&b, EVENT), ""); // a role, a ping, response.created
    b.now += 100;
    gives(&b, says(&b, EVENT), "");
    assert_int_equal(due_in(&b), 120000);
    gives(&b, says(&b, CONTENT), "commit 2");
    gives(&b, says(&b, CONTENT), "");
    gives(&b, says(&b, FINISH | SJ_SAYS_ALL_BUT_DONE), "");
    gives(&b, says(&b, SJ_SAYS_DONE | SJ_SAYS_WHOLE), "");
    b.now += 5;
    gives(&b, stream_ends(&b, SJ_END_WHOLE, true, false), "finish");
    sj_journey_summary summary = sj_journey_read(b.journey);
    assert_int_equal(summary.upstream_ms, 400); // to the first content
    assert_string_equal(trail(&b), "a timeout 120000ms, wait 500ms, a 200 405ms");
    check_counts(&b, 2, 1);
    over(&b);
    bench_free(&b);
}

static void a_finish_without_content_commits_too(void **unused) {
    (void)unused;
    bench b = streaming(1);
    go(&b);
    head(&b, 200);
    gives(&b, says(&b, FINISH | SJ_SAYS_ALL_BUT_DONE), "commit 1");
    gives(&b, stream_ends(&b, SJ_END_WHOLE, true, false), "finish");
    over(&b);
    bench_free(&b);
}

// ---- before content everything can be tried again -------------------------------------------------------

static void an_error_first_is_a_failed_attempt(void **unused) {
    (void)unused;
    bench b = streaming(1);
    go(&b);
    head(&b, 200);
    gives(&b, error_event(&b, "rate_limit_exceeded"), "retry a 1000 backoff error:rate_limit; cancel 1");
    wakes_after(&b, 1000, "start 2 a");
    head(&b, 200);
    says(&b, EVENT);
    gives(&b, error_event(&b, "server_error"), "retry a 1000 backoff error:server_error; cancel 2");
    wakes_after(&b, 1000, "start 3 a");
    head(&b, 200);
    gives(&b, says(&b, CONTENT), "commit 3");
    check_counts(&b, 2, 2);
    gives(&b, stream_ends(&b, SJ_END_WHOLE, true, false), "finish");
    assert_int_equal(sj_journey_read(b.journey).attempts_sent, 3);
    over(&b);
    bench_free(&b);
}

static void the_callers_own_error_is_shown_as_it_is(void **unused) {
    (void)unused;
    bench b = streaming(2);
    go(&b);
    head(&b, 200);
    gives(&b, error_event(&b, "invalid_request_error"), "commit 1");
    gives(&b, error_event(&b, "invalid_request_error"), ""); // once more is no news
    gives(&b, eof(&b), "finish"); // the error was all there was to say
    check_counts(&b, 1, 0);
    assert_string_equal(trail(&b), "a error:invalid_request_error 0ms");
    over(&b);
    go(&b);
    head(&b, 200);
    b.now += 2000;
    gives(&b, error_event(&b, "invalid_request_error"), "commit 1");
    wakes_after(&b, 5000, "cancel 1; finish"); // also when the upstream forgets to close
    over(&b);
    go(&b);
    head(&b, 200);
    error_event(&b, "invalid_request_error");
    gives(&b, stream_ends(&b, SJ_END_BROKEN, false, false), "finish");
    over(&b);
    bench_free(&b);
}

static void an_error_that_another_target_might_not_have(void **unused) {
    (void)unused;
    bench b = streaming(1);
    go(&b);
    head(&b, 200);
    gives(&b, error_event(&b, "insufficient_quota"), "commit 1"); // there is no other
    gives(&b, eof(&b), "finish");
    check_counts(&b, 0, 0); // neutral
    over(&b);
    bench_free(&b);
    b = streaming(2);
    b.policies[1].max_attempts = 1;
    go(&b);
    head(&b, 200);
    gives(&b, error_event(&b, "insufficient_quota"), "fallback b quota; save 1; cancel 1; start 2 b");
    gives(&b, answer(&b, 503), "deliver saved a"); // what was kept, before its transfer was cancelled
    over(&b);
    go(&b);
    gives(&b, answer(&b, 503), "retry a 500 backoff 503; save 1");
    wakes_after(&b, 500, "start 2 a");
    gives(&b, answer(&b, 503), "fallback b 503; save 2; start 3 b");
    head(&b, 200);
    gives(&b, error_event(&b, "invalid_request_error"), "cancel 3; deliver saved a"); // hides nothing
    over(&b);
    bench_free(&b);
}

static void ended_without_content(void **unused) {
    (void)unused;
    bench b = streaming(1);
    go(&b);
    head(&b, 200);
    says(&b, EVENT);
    gives(&b, eof(&b), "retry a 500 backoff incomplete");
    wakes_after(&b, 500, "start 2 a");
    head(&b, 200);
    gives(&b, stream_ends(&b, SJ_END_BROKEN, false, false), "retry a 1000 backoff broken");
    wakes_after(&b, 1000, "start 3 a");
    head(&b, 200);
    wakes_after(&b, 120000, "retry a 2000 backoff timeout; cancel 3");
    wakes_after(&b, 2000, "start 4 a");
    gives(&b, answer(&b, 503), "retry a 4000 backoff 503; save 4"); // an error answer instead of a stream
    gives(&b, gone(&b), "");
    over(&b);
    bench_free(&b);
}

// Nor is it a victory over a target that is silent so far.
static void an_error_wins_no_race(void **unused) {
    (void)unused;
    bench b = streaming(2);
    b.hops[0].race_after_ms = 10000;
    b.hops[0].race_other_model = true;
    go(&b);
    wakes_after(&b, 10000, "race b 10000; start 2 b");
    head(&b, 200);
    gives(&b, error_event(&b, "invalid_request_error"), "save 2; cancel 2");
    b.attempt = 1;
    head(&b, 200);
    gives(&b, says(&b, CONTENT), "commit 1");
    gives(&b, stream_ends(&b, SJ_END_WHOLE, true, false), "finish");
    assert_int_equal(sj_journey_read(b.journey).hop, 0);
    over(&b);
    go(&b);
    wakes_after(&b, 10000, "race b 10000; start 2 b");
    head(&b, 200);
    gives(&b, error_event(&b, "invalid_request_error"), "save 2; cancel 2");
    b.attempt = 1;
    gives(&b, dies(&b, SJ_END_TIMED_OUT), "retry a 500 backoff timeout"); // b is used up
    gives(&b, gone(&b), "");
    over(&b);
    bench_free(&b);
}

// ---- after content --------------------------------------------------------------------------------------

static void broken_after_content(void **unused) {
    (void)unused;
    bench b;
    commit(&b);
    gives(&b, eof(&b), "break"); // a clean end of framing is no end of the stream
    assert_string_equal(trail(&b), "a incomplete 300ms");
    check_counts(&b, 1, 1);
    over(&b);
    bench_free(&b);
    commit(&b);
    gives(&b, stream_ends(&b, SJ_END_BROKEN, false, false), "break");
    assert_string_equal(trail(&b), "a cut 300ms");
    over(&b);
    bench_free(&b);
    commit(&b);
    gives(&b, error_event(&b, "server_error"), "cancel 1; break quiet"); // the client has seen it
    check_counts(&b, 1, 1);
    over(&b);
    bench_free(&b);
}

static void what_a_broken_retry_had_paid_is_gone(void **unused) {
    (void)unused;
    bench b = streaming(1);
    go(&b);
    gives(&b, answer(&b, 503), "retry a 500 backoff 503; save 1");
    wakes_after(&b, 500, "start 2 a");
    head(&b, 200);
    gives(&b, says(&b, CONTENT), "commit 2");
    gives(&b, eof(&b), "break");
    assert_int_equal(b.steps.list[0].refusal, SJ_REFUSAL_STREAM_BROKEN);
    assert_int_equal(spent(&b, 0), 14);
    over(&b);
    bench_free(&b);
}

static void complete_but_for_done(void **unused) {
    (void)unused;
    static const sj_end ends[] = {SJ_END_WHOLE, SJ_END_BROKEN};
    for (int i = 0; i < 2; i++) {
        bench b;
        commit(&b);
        gives(&b, says(&b, FINISH | SJ_SAYS_ALL_BUT_DONE), "");
        gives(&b, stream_ends(&b, ends[i], false, true), "done; finish");
        check_counts(&b, 1, 0);
        over(&b);
        bench_free(&b);
    }
    bench b;
    commit(&b);
    b.now += 50;
    gives(&b, says(&b, FINISH | SJ_SAYS_ALL_BUT_DONE), "");
    b.now += 1000;
    gives(&b, says(&b, EVENT), ""); // usage
    wakes_after(&b, 5000, "cancel 1; done; finish");
    over(&b);
    bench_free(&b);
}

static void whole_whatever_the_connection_does(void **unused) {
    (void)unused;
    bench b;
    commit(&b);
    gives(&b, says(&b, SJ_SAYS_DONE | SJ_SAYS_WHOLE), "");
    gives(&b, stream_ends(&b, SJ_END_BROKEN, true, false), "finish");
    check_counts(&b, 1, 0);
    over(&b);
    bench_free(&b);
    commit(&b);
    gives(&b, says(&b, SJ_SAYS_DONE | SJ_SAYS_WHOLE), "");
    wakes_after(&b, 5000, "cancel 1; finish"); // an upstream that never closes
    over(&b);
    bench_free(&b);
    commit(&b);
    gives(&b, says(&b, SJ_SAYS_DONE | SJ_SAYS_WHOLE), "");
    gives(&b, error_event(&b, "server_error"), ""); // too late to spoil anything
    gives(&b, stream_ends(&b, SJ_END_WHOLE, true, false), "finish");
    over(&b);
    bench_free(&b);
}

// ---- clocks after commit --------------------------------------------------------------------------------

static void the_deadline_does_not_cut_a_committed_stream(void **unused) {
    (void)unused;
    bench b;
    commit(&b);
    b.hops[0].idle_timeout_ms = 400000;
    for (int i = 0; i < 10; i++) {
        b.now += 300000;
        gives(&b, ring(&b), "");
        gives(&b, says(&b, CONTENT), "");
        assert_int_equal(due_in(&b), 400000);
    }
    gives(&b, stream_ends(&b, SJ_END_WHOLE, true, false), "finish");
    over(&b);
    bench_free(&b);
}

static void silence_breaks_it(void **unused) {
    (void)unused;
    bench b;
    commit(&b);
    b.now += 119999;
    gives(&b, ring(&b), "");
    says(&b, EVENT);
    wakes_after(&b, 120000, "cancel 1; break");
    check_counts(&b, 1, 1);
    over(&b);
    bench_free(&b);
}

static void the_idle_clock_stands_still_while_held(void **unused) {
    (void)unused;
    bench b;
    commit(&b);
    sj_journey_attempt_held(b.journey, 1, true, b.now);
    assert_true(due_in(&b) == INT64_MAX);
    b.now += 10 * 120000;
    gives(&b, ring(&b), "");
    sj_journey_attempt_held(b.journey, 1, false, b.now);
    assert_int_equal(due_in(&b), 120000);
    says(&b, FINISH | SJ_SAYS_ALL_BUT_DONE);
    sj_journey_attempt_held(b.journey, 1, true, b.now);
    assert_true(due_in(&b) == INT64_MAX); // nor is it silence when we do not listen
    b.now += 60000;
    gives(&b, ring(&b), "");
    sj_journey_attempt_held(b.journey, 1, false, b.now);
    wakes_after(&b, 5000, "cancel 1; done; finish");
    sj_journey_attempt_held(b.journey, 1, true, b.now); // late
    over(&b);
    bench_free(&b);
}

static void stream_max_ends_it(void **unused) {
    (void)unused;
    bench b = streaming(1);
    b.plan.stream_max_ms = 10000;
    go(&b);
    b.now += 3000;
    head(&b, 200);
    assert_int_equal(due_in(&b), 120000); // counts from the commit on
    gives(&b, says(&b, CONTENT), "commit 1");
    sj_journey_attempt_held(b.journey, 1, true, b.now);
    wakes_after(&b, 10000, "cancel 1; break");
    over(&b);
    bench_free(&b);
}

// ---- answers that are not read --------------------------------------------------------------------------

static void opaque_answers(void **unused) {
    (void)unused;
    bench b = bench_new(1);
    b.plan.repeat = SJ_REPEAT_SAFE;
    sj_retry_hint none = {0};
    go(&b);
    sj_journey_attempt_head(b.journey, 1, 200, &none, false, b.now, &b.steps);
    gives(&b, says(&b, CONTENT), "commit 1"); // the first body byte
    gives(&b, stream_ends(&b, SJ_END_WHOLE, true, false), "finish");
    check_counts(&b, 1, 0);
    over(&b);
    go(&b);
    sj_journey_attempt_head(b.journey, 1, 200, &none, false, b.now, &b.steps);
    says(&b, CONTENT);
    gives(&b, stream_ends(&b, SJ_END_BROKEN, true, false), "break");
    over(&b);
    bench_free(&b);
}

// Too large to be held to its end: it is let go as it comes, and cut is cut.
static void a_whole_answer_that_outgrew_its_bound(void **unused) {
    (void)unused;
    bench b = bench_new(1);
    go(&b);
    head(&b, 200);
    gives(&b, says(&b, CONTENT), "commit 1");
    gives(&b, stream_ends(&b, SJ_END_BROKEN, true, false), "break");
    check_counts(&b, 1, 1);
    over(&b);
    go(&b);
    head(&b, 503);
    gives(&b, says(&b, CONTENT), "commit 1");
    gives(&b, stream_ends(&b, SJ_END_WHOLE, true, false), "finish");
    check_counts(&b, 2, 2); // a large 503 is still a 503
    over(&b);
    bench_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_committed_at_the_first_content),
        cmocka_unit_test(a_finish_without_content_commits_too),
        cmocka_unit_test(an_error_first_is_a_failed_attempt),
        cmocka_unit_test(the_callers_own_error_is_shown_as_it_is),
        cmocka_unit_test(an_error_that_another_target_might_not_have),
        cmocka_unit_test(ended_without_content),
        cmocka_unit_test(an_error_wins_no_race),
        cmocka_unit_test(broken_after_content),
        cmocka_unit_test(what_a_broken_retry_had_paid_is_gone),
        cmocka_unit_test(complete_but_for_done),
        cmocka_unit_test(whole_whatever_the_connection_does),
        cmocka_unit_test(the_deadline_does_not_cut_a_committed_stream),
        cmocka_unit_test(silence_breaks_it),
        cmocka_unit_test(the_idle_clock_stands_still_while_held),
        cmocka_unit_test(stream_max_ends_it),
        cmocka_unit_test(opaque_answers),
        cmocka_unit_test(a_whole_answer_that_outgrew_its_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
