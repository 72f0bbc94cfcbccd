// BEHAVIOUR 12 through the journey, from a break after commit on: who mends it, in which order, and what it ends with when nobody does.
#include "journey_bench.h"

enum { CONTENT = SJ_SAYS_CONTENT, AGAIN = SJ_SAYS_AGAIN, FINISH = SJ_SAYS_FINISH, PREFILL = 1 << 8 };

static bench rescuing(bench b) {
    b.plan.stream = b.plan.rescue = b.plan.rescue_other_model = true;
    for (size_t i = 0; i < b.plan.hop_count; i++)
        b.hops[i].model = i + 1;
    return b;
}

static bench breakable(size_t hops) {
    return rescuing(bench_calm(hops));
}

static void stream_ends(bench *b, sj_end end, bool whole, bool lacks_only_done) {
    sj_attempt_over over = bench_over(end, 200);
    over.facts.stream_incomplete = end == SJ_END_WHOLE && !whole && !lacks_only_done;
    over.whole = whole;
    over.lacks_only_done = lacks_only_done;
    ended(b, over);
}

static void cut(bench *b) {
    stream_ends(b, SJ_END_BROKEN, false, false);
}

static void diverge(bench *b) {
    sj_journey_attempt_diverged(b->journey, b->attempt, b->now, &b->steps);
    bench_took(b);
}

// Committed 100 ms after its start, and broken after 300 ms more unless something else happens first.
static void stream_on(bench *b) {
    go(b);
    b->now += 100;
    head(b, 200);
    gives(b, says(b, CONTENT), "commit 1");
    sj_journey_can_mend(b->journey, true, true);
    b->now += 300;
}

static void finishes(bench *b) {
    gives(b, says(b, FINISH | SJ_SAYS_ALL_BUT_DONE), "");
    gives(b, stream_ends(b, SJ_END_WHOLE, true, false), "finish");
    over(b);
    bench_free(b);
}

// ---- replay ---------------------------------------------------------------------------------------------

static void the_same_target_is_asked_again_at_once(void **unused) {
    (void)unused;
    bench b = breakable(1);
    stream_on(&b);
    gives(&b, cut(&b), "mend 1; start 2 a replay");
    assert_true(sj_journey_is_mending(b.journey));
    b.now += 50;
    head(&b, 200);
    gives(&b, says(&b, AGAIN), ""); // what the client has already is no news
    gives(&b, says(&b, 0), "");
    b.now += 150;
    gives(&b, says(&b, CONTENT), "rescued a 200 replay cut; commit 2");
    assert_false(sj_journey_is_mending(b.journey));
    b.now += 10;
    sj_journey_summary summary = sj_journey_read(b.journey);
    assert_int_equal(summary.rescues, 1);
    assert_int_equal(summary.attempts_sent, 2);
    assert_int_equal(summary.upstream_ms, 100); // until the client had his first byte
    assert_null(summary.fallback);
    gives(&b, stream_ends(&b, SJ_END_WHOLE, true, false), "finish");
    assert_string_equal(trail(&b), "a cut 400ms, a 200 210ms");
    sj_target_stats stats = target_at(&b, 0);
    assert_int_equal(stats.window_calls, 2);
    assert_int_equal(stats.window_failures, 1);
    assert_int_equal(spent(&b, 0), 0); // what it paid for the second try came back with its success
    over(&b);
    bench_free(&b);
}

static void what_it_costs_is_paid(void **unused) {
    (void)unused;
    bench b = breakable(1);
    stream_on(&b);
    gives(&b, cut(&b), "mend 1; start 2 a replay");
    assert_int_equal(spent(&b, 0), 14);
    gives(&b, diverge(&b), "cancel 2; break");
    assert_int_equal(spent(&b, 0), 14);
    over(&b);
    stream_on(&b);
    sj_charge charge;
    while (sj_target_charge(b.targets[0], true, b.now, &charge)) // and those that always pass
        assert_true(b.now < BENCH_START_MS + 600000);
    gives(&b, cut(&b), "no budget a; mend 1; break");
    assert_int_equal(b.steps.list[1].refusal, SJ_REFUSAL_STREAM_BROKEN);
    over(&b);
    bench_free(&b);
}

static void every_kind_of_break(void **unused) {
    (void)unused;
    bench b = breakable(1);
    stream_on(&b);
    gives(&b, stream_ends(&b, SJ_END_WHOLE, false, false), "mend 1; start 2 a replay"); // no finish
    gives(&b, says(&b, CONTENT), "rescued a 0 replay incomplete; commit 2");
    gives(&b, error_event(&b, "server_error"), "cancel 2; mend 2; start 3 a replay");
    gives(&b, says(&b, CONTENT), "rescued a 0 replay error_event; commit 3");
    wakes_after(&b, 120000, "cancel 3; mend 3; start 4 a replay");
    gives(&b, says(&b, FINISH | SJ_SAYS_ALL_BUT_DONE), "rescued a 0 replay timeout; commit 4");
    assert_int_equal(sj_journey_read(b.journey).rescues, 3);
    gives(&b, stream_ends(&b, SJ_END_BROKEN, false, true), "done; finish");
    over(&b);
    bench_free(&b);
}

static void it_is_mended_three_times_and_no_more(void **unused) {
    (void)unused;
    bench b = breakable(1);
    stream_on(&b);
    for (int i = 0; i < 3; i++) {
        cut(&b);
        assert_int_equal(b.steps.list[1].kind, SJ_STEP_START);
        head(&b, 200);
        says(&b, CONTENT);
        assert_int_equal(b.steps.list[0].kind, SJ_STEP_COMMIT);
    }
    gives(&b, cut(&b), "break");
    over(&b);
    bench_free(&b);
}

static void before_it_says_anything_an_attempt_is_as_any_other(void **unused) {
    (void)unused;
    bench b = breakable(1);
    stream_on(&b);
    gives(&b, cut(&b), "mend 1; start 2 a replay");
    gives(&b, answer(&b, 503), "retry a 500 backoff 503"); // nothing is saved: the client is in a stream
    wakes_after(&b, 500, "start 3 a replay");
    gives(&b, dies(&b, SJ_END_NEVER_SENT), "retry a 0 at_once connect; start 4 a fresh replay");
    head(&b, 200);
    gives(&b, says(&b, AGAIN), "");
    gives(&b, cut(&b), "retry a 1000 backoff broken");
    wakes_after(&b, 1000, "start 5 a replay");
    gives(&b, answer_hint(&b, 429, 3000), "gate a 3000 retry-after; retry a 3378 retry-after 429");
    wakes_after(&b, 3378, "start 6 a replay");
    gives(&b, answer(&b, 503), "break"); // five that count
    assert_string_equal(trail(&b),
                        "a cut 400ms, a 503 0ms, wait 500ms, a connect 0ms (not sent), a broken 0ms, "
                        "wait 1000ms, a 429 0ms, wait 3378ms, a 503 0ms");
    over(&b);
    bench_free(&b);
}

// ---- down the chain -------------------------------------------------------------------------------------

static void the_next_target_after_the_first_difference(void **unused) {
    (void)unused;
    bench b = breakable(3);
    stream_on(&b);
    gives(&b, cut(&b), "mend 1; start 2 a replay");
    head(&b, 200);
    gives(&b, says(&b, AGAIN), "");
    gives(&b, diverge(&b), "fallback b diverged; cancel 2; start 3 b replay");
    head(&b, 200);
    gives(&b, diverge(&b), "fallback c diverged; cancel 3; start 4 c replay");
    assert_int_equal(target_at(&b, 1).window_failures, 0); // it did answer
    gives(&b, says(&b, CONTENT), "rescued c 0 replay cut; commit 4");
    assert_string_equal(sj_journey_read(b.journey).fallback, "diverged");
    assert_int_equal(sj_journey_read(b.journey).hop, 2);
    finishes(&b);
}

static void a_target_that_was_given_up_before_commit_stays_so(void **unused) {
    (void)unused;
    bench b = breakable(3);
    b.policies[0].max_attempts_before_fallback = 1;
    go(&b);
    gives(&b, answer(&b, 503), "fallback b 503; save 1; start 2 b");
    head(&b, 200);
    gives(&b, says(&b, CONTENT), "commit 2");
    sj_journey_can_mend(b.journey, true, false);
    gives(&b, cut(&b), "mend 2; start 3 b replay"); // the same target: no fallback
    gives(&b, diverge(&b), "fallback c diverged; cancel 3; start 4 c replay");
    gives(&b, diverge(&b), "cancel 4; break"); // and never the answer that was kept
    over(&b);
    bench_free(&b);
}

static void only_targets_of_the_same_model(void **unused) {
    (void)unused;
    bench b = breakable(3);
    b.plan.rescue_other_model = false;
    b.hops[0].model = b.hops[2].model = 7;
    b.hops[1].model = 8;
    stream_on(&b);
    gives(&b, cut(&b), "mend 1; start 2 a replay");
    gives(&b, diverge(&b), "fallback c diverged; cancel 2; start 3 c replay");
    gives(&b, diverge(&b), "cancel 3; break");
    over(&b);
    bench_free(&b);
}

static void a_shut_target_is_gone_round(void **unused) {
    (void)unused;
    bench b = rescuing(bench_new(2));
    stream_on(&b);
    open_up(&b, 0);
    gives(&b, cut(&b), "fallback b breaker_open; mend 1; start 2 b replay");
    gives(&b, says(&b, CONTENT), "rescued b 0 replay cut; commit 2");
    finishes(&b);
}

static void with_nowhere_else_its_reopening_is_waited_for(void **unused) {
    (void)unused;
    bench b = bench_new(1);
    b.plan.stream = b.plan.rescue = true;
    stream_on(&b);
    int64_t until = open_up(&b, 0);
    gives(&b, cut(&b), "mend 1");
    assert_int_equal(sj_journey_due_ms(b.journey), until);
    gives(&b, sleep_till_due(&b), "breaker a half_open; start 2 a replay");
    head(&b, 200);
    gives(&b, says(&b, AGAIN), ""); // the probe has answered
    gives(&b, says(&b, CONTENT), "rescued a 10405 replay cut; commit 2");
    gives(&b, stream_ends(&b, SJ_END_WHOLE, true, false), "finish");
    over(&b);
    bench_free(&b);
}

static void an_errors_refusal_is_not_the_end_of_the_chain(void **unused) {
    (void)unused;
    bench b = breakable(2);
    stream_on(&b);
    gives(&b, error_event(&b, "insufficient_quota"),
          "fallback b error_event; cancel 1; mend 1; start 2 b replay");
    gives(&b, answer(&b, 400), "break"); // not quiet: what broke it has not been told yet
    over(&b);
    stream_on(&b);
    gives(&b, error_event(&b, "content_filter"), "cancel 1; break quiet"); // it would be refused again
    over(&b);
    stream_on(&b);
    says(&b, FINISH | SJ_SAYS_ALL_BUT_DONE);
    gives(&b, error_event(&b, "server_error"),
          "cancel 1; break quiet"); // nothing is missing that could be asked for
    over(&b);
    stream_on(&b);
    gives(&b, error_event(&b, "gremlins"),
          "cancel 1; mend 1; start 2 a replay"); // no caller's error amid an answer
    head(&b, 200);
    gives(&b, error_event(&b, "gremlins"), "fallback b error:gremlins; cancel 2; start 3 b replay");
    head(&b, 200);
    gives(&b, error_event(&b, "invalid_request_error"), "cancel 3; break");
    over(&b);
    bench_free(&b);
}

static void what_is_no_stream_mends_nothing(void **unused) {
    (void)unused;
    bench b = breakable(2);
    stream_on(&b);
    gives(&b, cut(&b), "mend 1; start 2 a replay");
    gives(&b, answer(&b, 200), "fallback b no_stream; start 3 b replay");
    head(&b, 503);
    gives(&b, says(&b, CONTENT | SJ_SAYS_OVERFLOW), ""); // an error too long to be held
    gives(&b, gone(&b), "cancel 3");
    over(&b);
    bench_free(&b);
}

// ---- continuation ---------------------------------------------------------------------------------------

static void going_on_comes_after_all_replays(void **unused) {
    (void)unused;
    bench b = breakable(3);
    b.hops[0].prefill = b.hops[2].prefill = true;
    stream_on(&b);
    gives(&b, cut(&b), "mend 1; start 2 a replay");
    gives(&b, diverge(&b), "fallback b diverged; cancel 2; start 3 b replay");
    gives(&b, diverge(&b), "fallback c diverged; cancel 3; start 4 c replay");
    gives(&b, diverge(&b), "cancel 4; start 5 a continue");
    gives(&b, diverge(&b), "fallback c diverged; cancel 5; start 6 c continue");
    head(&b, 200);
    gives(&b, says(&b, CONTENT), "rescued c 0 continuation cut; commit 6");
    gives(&b, stream_ends(&b, SJ_END_WHOLE, true, false), "finish");
    assert_string_equal(trail(&b), "a cut 400ms, a diverged 0ms, b diverged 0ms, c diverged 0ms, "
                                   "a diverged 0ms, c 200 0ms");
    over(&b);
    bench_free(&b);
}

static void where_replay_is_impossible_it_comes_first(void **unused) {
    (void)unused;
    bench b = breakable(2);
    b.hops[1].prefill = true;
    stream_on(&b);
    sj_journey_can_mend(b.journey, false, true);
    gives(&b, cut(&b), "fallback b cut; mend 1; start 2 b continue");
    gives(&b, diverge(&b), "cancel 2; break");
    over(&b);
    stream_on(&b);
    sj_journey_can_mend(b.journey, true, false); // several choices, tools
    gives(&b, cut(&b), "mend 1; start 2 a replay");
    gives(&b, diverge(&b), "fallback b diverged; cancel 2; start 3 b replay");
    gives(&b, diverge(&b), "cancel 3; break");
    over(&b);
    bench_free(&b);
}

static void it_is_not_waited_for_a_shut_target_while_another_goes_on(void **unused) {
    (void)unused;
    bench b = rescuing(bench_new(2));
    b.hops[0].prefill = true;
    stream_on(&b);
    int64_t until = open_up(&b, 1);
    gives(&b, cut(&b), "mend 1; start 2 a replay");
    gives(&b, diverge(&b), "cancel 2; start 3 a continue");
    gives(&b, says(&b, CONTENT), "rescued a 0 continuation cut; commit 3");
    sj_journey_can_mend(b.journey, true, false);
    gives(&b, cut(&b), "mend 3; start 4 a replay");
    gives(&b, diverge(&b), "cancel 4"); // there is no going on: it is waited for
    assert_int_equal(sj_journey_due_ms(b.journey), until);
    gives(&b, gone(&b), "");
    over(&b);
    bench_free(&b);
    b = rescuing(bench_new(2));
    b.hops[0].prefill = true;
    stream_on(&b);
    until = open_up(&b, 1);
    gives(&b, cut(&b), "mend 1; start 2 a replay");
    gives(&b, answer(&b, 400), ""); // nor would a go on
    assert_int_equal(sj_journey_due_ms(b.journey), until);
    gives(&b, gone(&b), "");
    over(&b);
    b.hops[1].max_open_wait_ms = 0;
    b.hops[0].prefill = false;
    stream_on(&b);
    gives(&b, cut(&b), "mend 1; start 2 a replay");
    gives(&b, diverge(&b), "cancel 2; break");
    assert_int_equal(sj_journey_read(b.journey).hop, 0); // b was only looked at
    over(&b);
    bench_free(&b);
}

static void to_stay_with_a_target_is_no_fallback(void **unused) {
    (void)unused;
    bench b = rescuing(bench_new(3));
    b.hops[1].prefill = true;
    open_up(&b, 0);
    gives(&b, go(&b), "fallback b breaker_open; start 1 b");
    head(&b, 200);
    gives(&b, says(&b, CONTENT), "commit 1");
    sj_journey_can_mend(b.journey, true, true);
    gives(&b, cut(&b), "mend 1; start 2 b replay");
    gives(&b, diverge(&b), "fallback c diverged; cancel 2; start 3 c replay");
    gives(&b, diverge(&b), "cancel 3; start 4 b continue");
    gives(&b, gone(&b), "cancel 4");
    over(&b);
    bench_free(&b);
}

static void each_break_gives_all_another_turn(void **unused) {
    (void)unused;
    bench b = breakable(2);
    b.hops[0].prefill = b.hops[1].prefill = true;
    stream_on(&b);
    gives(&b, cut(&b), "mend 1; start 2 a replay");
    gives(&b, diverge(&b), "fallback b diverged; cancel 2; start 3 b replay");
    gives(&b, diverge(&b), "cancel 3; start 4 a continue");
    gives(&b, diverge(&b), "fallback b diverged; cancel 4; start 5 b continue");
    gives(&b, says(&b, CONTENT), "rescued b 0 continuation cut; commit 5");
    gives(&b, cut(&b), "mend 5; start 6 b replay");
    gives(&b, diverge(&b), "cancel 6; start 7 a replay");
    gives(&b, diverge(&b), "cancel 7; start 8 b continue");
    gives(&b, diverge(&b), "cancel 8; start 9 a continue");
    gives(&b, diverge(&b), "cancel 9; break");
    over(&b);
    bench_free(&b);
}

// What he left behind is read on, and not begun anew.
static void nobody_mends_for_a_client_who_has_left(void **unused) {
    (void)unused;
    bench b = breakable(1);
    b.plan.drain_ms = 30000;
    stream_on(&b);
    gone(&b);
    gives(&b, cut(&b), "break");
    over(&b);
    stream_on(&b);
    gives(&b, cut(&b), "mend 1; start 2 a replay");
    gives(&b, gone(&b), "cancel 2");
    over(&b);
    bench_free(&b);
}

static void a_target_that_refuses_to_replay_is_not_asked_to_go_on(void **unused) {
    (void)unused;
    bench b = breakable(2);
    b.hops[0].prefill = b.hops[1].prefill = true;
    stream_on(&b);
    gives(&b, cut(&b), "mend 1; start 2 a replay");
    gives(&b, answer(&b, 400), "fallback b 400; start 3 b replay");
    gives(&b, diverge(&b), "cancel 3; start 4 b continue");
    gives(&b, answer(&b, 400), "break");
    over(&b);
    bench_free(&b);
}

// ---- no rescue ------------------------------------------------------------------------------------------

static void when_it_is_not_allowed(void **unused) {
    (void)unused;
    bench b = breakable(1);
    b.plan.rescue = false;
    stream_on(&b);
    gives(&b, cut(&b), "break");
    over(&b);
    bench_free(&b);
    b = breakable(1);
    stream_on(&b);
    sj_journey_can_mend(b.journey, false, false);
    gives(&b, cut(&b), "break");
    over(&b);
    stream_on(&b);
    sj_journey_can_mend(b.journey, false, false);
    gives(&b, error_event(&b, "server_error"), "cancel 1; break quiet");
    over(&b);
    bench_free(&b);
    b = breakable(1);
    go(&b); // nobody has said that it could be
    head(&b, 200);
    says(&b, CONTENT);
    gives(&b, cut(&b), "break");
    over(&b);
    bench_free(&b);
}

static void a_retrying_client_gets_one_attempt_per_target(void **unused) {
    (void)unused;
    bench b = breakable(2);
    b.plan.client_retrying = true;
    b.hops[0].prefill = true;
    stream_on(&b);
    gives(&b, cut(&b), "fallback b cut; mend 1; start 2 b replay");
    gives(&b, answer(&b, 503), "break");
    over(&b);
    bench_free(&b);
}

// ---- clocks ---------------------------------------------------------------------------------------------

static void the_deadline_bounds_it(void **unused) {
    (void)unused;
    bench b = breakable(1);
    b.plan.deadline_ms = b.now + 1000;
    stream_on(&b);
    gives(&b, cut(&b), "mend 1; start 2 a replay");
    wakes_after(&b, 600, "cancel 2; break");
    assert_string_equal(trail(&b), "a cut 400ms, a deadline 600ms");
    over(&b);
    b.plan.deadline_ms = b.now + 1000;
    stream_on(&b);
    gives(&b, cut(&b), "mend 1; start 2 a replay");
    gives(&b, answer_hint(&b, 429, 5000), "gate a 5000 retry-after; break");
    over(&b);
    bench_free(&b);
    b = breakable(1);
    b.plan.deadline_ms = b.now + 400;
    stream_on(&b); // healthy beyond it, and broken then
    gives(&b, cut(&b), "break");
    over(&b);
    b.plan.deadline_ms = b.now + 401;
    stream_on(&b);
    gives(&b, cut(&b), "mend 1; start 2 a replay");
    gives(&b, says(&b, CONTENT), "rescued a 0 replay cut; commit 2");
    assert_int_equal(due_in(&b), 120000); // committed, it is not cut by it
    finishes(&b);
}

static void stream_max_ends_it_for_good(void **unused) {
    (void)unused;
    bench b = breakable(1);
    b.plan.stream_max_ms = 10000;
    stream_on(&b);
    gives(&b, cut(&b), "mend 1; start 2 a replay");
    b.now += 4000;
    gives(&b, says(&b, CONTENT), "rescued a 4000 replay cut; commit 2");
    wakes_after(&b, 5700, "cancel 2; break"); // counted from the first commit on, and no break to be mended
    over(&b);
    stream_on(&b);
    gives(&b, cut(&b), "mend 1; start 2 a replay");
    wakes_after(&b, 9700, "cancel 2; break");
    over(&b);
    bench_free(&b);
}

static void signs_of_life_meanwhile(void **unused) {
    (void)unused;
    bench b = breakable(1);
    b.plan.keepalive_ms = 2000;
    stream_on(&b);
    assert_int_equal(due_in(&b), 120000 - 300);
    gives(&b, cut(&b), "mend 1; start 2 a replay");
    wakes_after(&b, 2000, "keepalive");
    gives(&b, says(&b, AGAIN), "");
    wakes_after(&b, 2000, "keepalive");
    gives(&b, says(&b, CONTENT), "rescued a 4000 replay cut; commit 2");
    assert_int_equal(due_in(&b), 120000);
    finishes(&b);
}

static void nobody_races_for_it(void **unused) {
    (void)unused;
    bench b = breakable(2);
    b.hops[0].race_after_ms = 1000;
    b.hops[0].race_other_model = true;
    stream_on(&b);
    gives(&b, cut(&b), "mend 1; start 2 a replay");
    assert_int_equal(due_in(&b), 120000);
    gives(&b, gone(&b), "cancel 2");
    over(&b);
    bench_free(&b);
}

// ---- others ---------------------------------------------------------------------------------------------

static void a_client_that_leaves_ends_it(void **unused) {
    (void)unused;
    bench b = breakable(1);
    stream_on(&b);
    gives(&b, cut(&b), "mend 1; start 2 a replay");
    gives(&b, answer(&b, 503), "retry a 500 backoff 503");
    gives(&b, gone(&b), "");
    over(&b);
    assert_int_equal(spent(&b, 0), 14); // the try that was sent; not the one that was not
    bench_free(&b);
}

static void it_waits_for_a_slot_like_all(void **unused) {
    (void)unused;
    sj_target_rules rules = {sj_breaker_rules_default, sj_budget_rules_default};
    bench b = bench_with(1, &rules, 1, 10);
    b.plan.stream = b.plan.rescue = true;
    stream_on(&b);
    bench other = bench_beside(&b, 2);
    gives(&other, go(&other), "queued a");
    gives(&b, cut(&b), "grant 2; queued a; mend 1");
    gives(&other, granted(&other), "start 1 a");
    gives(&other, answer(&other, 200), "grant 1; deliver 1");
    left(&other);
    gives(&b, granted(&b), "start 2 a replay");
    gives(&b, says(&b, CONTENT), "rescued a 0 replay cut; commit 2");
    finishes(&b);
}

static void too_late_for_a_slot(void **unused) {
    (void)unused;
    sj_target_rules rules = {sj_breaker_rules_default, sj_budget_rules_default};
    bench b = bench_with(1, &rules, 1, 10);
    b.plan.stream = b.plan.rescue = true;
    stream_on(&b);
    bench other = bench_beside(&b, 2);
    gives(&other, go(&other), "queued a");
    gives(&b, cut(&b), "grant 2; queued a; mend 1");
    gives(&other, granted(&other), "start 1 a");
    b.now += 300000;
    gives(&b, ring(&b), "break");
    other.now = b.now;
    gives(&other, gone(&other), "cancel 1");
    left(&other);
    over(&b);
    bench_free(&b);
}

static void astray_after_it_went_on(void **unused) {
    (void)unused;
    bench b = breakable(1);
    stream_on(&b);
    gives(&b, cut(&b), "mend 1; start 2 a replay");
    gives(&b, says(&b, CONTENT), "rescued a 0 replay cut; commit 2"); // of one choice
    gives(&b, diverge(&b), "cancel 2; mend 2; start 3 a replay"); // of another
    gives(&b, says(&b, CONTENT), "rescued a 0 replay diverged; commit 3");
    sj_journey_can_mend(b.journey, false, false);
    gives(&b, diverge(&b), "cancel 3; break");
    gives(&b, diverge(&b), "");
    over(&b);
    bench_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_target_is_asked_again_at_once),
        cmocka_unit_test(what_it_costs_is_paid),
        cmocka_unit_test(every_kind_of_break),
        cmocka_unit_test(it_is_mended_three_times_and_no_more),
        cmocka_unit_test(before_it_says_anything_an_attempt_is_as_any_other),
        cmocka_unit_test(the_next_target_after_the_first_difference),
        cmocka_unit_test(a_target_that_was_given_up_before_commit_stays_so),
        cmocka_unit_test(only_targets_of_the_same_model),
        cmocka_unit_test(a_shut_target_is_gone_round),
        cmocka_unit_test(with_nowhere_else_its_reopening_is_waited_for),
        cmocka_unit_test(an_errors_refusal_is_not_the_end_of_the_chain),
        cmocka_unit_test(what_is_no_stream_mends_nothing),
        cmocka_unit_test(going_on_comes_after_all_replays),
        cmocka_unit_test(where_replay_is_impossible_it_comes_first),
        cmocka_unit_test(it_is_not_waited_for_a_shut_target_while_another_goes_on),
        cmocka_unit_test(to_stay_with_a_target_is_no_fallback),
        cmocka_unit_test(each_break_gives_all_another_turn),
        cmocka_unit_test(nobody_mends_for_a_client_who_has_left),
        cmocka_unit_test(a_target_that_refuses_to_replay_is_not_asked_to_go_on),
        cmocka_unit_test(when_it_is_not_allowed),
        cmocka_unit_test(a_retrying_client_gets_one_attempt_per_target),
        cmocka_unit_test(the_deadline_bounds_it),
        cmocka_unit_test(stream_max_ends_it_for_good),
        cmocka_unit_test(signs_of_life_meanwhile),
        cmocka_unit_test(nobody_races_for_it),
        cmocka_unit_test(a_client_that_leaves_ends_it),
        cmocka_unit_test(it_waits_for_a_slot_like_all),
        cmocka_unit_test(too_late_for_a_slot),
        cmocka_unit_test(astray_after_it_went_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
