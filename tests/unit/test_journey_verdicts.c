// BEHAVIOUR 3 through the journey: every row of its table, alone and with another target behind.
#include "journey_bench.h"

typedef enum effect { GOOD, BAD, NEUTRAL } effect;

typedef struct row {
    const char *name;
    sj_end end;
    int status;
    const char *code;
    sj_finding finding;
    bool incomplete; // a stream whose framing ended, not its protocol
    effect effect;
    const char *alone, *chained;
} row;

#define FAILS(reason) "retry a 500 backoff " reason
#define DELIVERED "deliver 1", "deliver 1"
#define RETRIED(what) what, what
static const row rows[] = {
    {"a good answer", SJ_END_WHOLE, 200, "", SJ_FINDING_GOOD, false, GOOD, DELIVERED},
    {"201", SJ_END_WHOLE, 201, "", SJ_FINDING_GOOD, false, GOOD, DELIVERED},
    {"a redirection", SJ_END_WHOLE, 307, "", SJ_FINDING_GOOD, false, GOOD, DELIVERED},
    {"400", SJ_END_WHOLE, 400, "", SJ_FINDING_GOOD, false, GOOD, DELIVERED},
    {"404", SJ_END_WHOLE, 404, "", SJ_FINDING_GOOD, false, GOOD, DELIVERED},
    {"405", SJ_END_WHOLE, 405, "", SJ_FINDING_GOOD, false, GOOD, DELIVERED},
    {"409", SJ_END_WHOLE, 409, "", SJ_FINDING_GOOD, false, GOOD, DELIVERED},
    {"413", SJ_END_WHOLE, 413, "", SJ_FINDING_GOOD, false, GOOD, DELIVERED},
    {"415", SJ_END_WHOLE, 415, "", SJ_FINDING_GOOD, false, GOOD, DELIVERED},
    {"418", SJ_END_WHOLE, 418, "", SJ_FINDING_GOOD, false, GOOD, DELIVERED},
    {"422", SJ_END_WHOLE, 422, "", SJ_FINDING_GOOD, false, GOOD, DELIVERED},
    {"too long", SJ_END_WHOLE, 400, "context_length_exceeded", SJ_FINDING_GOOD, false, GOOD, "deliver 1",
     "fallback b too_long; save 1; start 2 b"},
    {"content policy", SJ_END_WHOLE, 400, "content_filter", SJ_FINDING_GOOD, false, GOOD, DELIVERED},
    {"401", SJ_END_WHOLE, 401, "", SJ_FINDING_GOOD, false, NEUTRAL, "alert a 401; deliver 1",
     "alert a 401; deliver 1"},
    {"403", SJ_END_WHOLE, 403, "", SJ_FINDING_GOOD, false, NEUTRAL, "alert a 403; deliver 1",
     "alert a 403; deliver 1"},
    {"402", SJ_END_WHOLE, 402, "", SJ_FINDING_GOOD, false, NEUTRAL, "deliver 1",
     "fallback b 402; save 1; start 2 b"},
    {"quota", SJ_END_WHOLE, 429, "insufficient_quota", SJ_FINDING_GOOD, false, NEUTRAL, "deliver 1",
     "fallback b quota; save 1; start 2 b"},
    {"no such model", SJ_END_WHOLE, 404, "model_not_found", SJ_FINDING_GOOD, false, NEUTRAL, "deliver 1",
     "fallback b no_model; save 1; start 2 b"},
    {"408", SJ_END_WHOLE, 408, "", SJ_FINDING_GOOD, false, BAD, RETRIED(FAILS("408") "; save 1")},
    {"500", SJ_END_WHOLE, 500, "", SJ_FINDING_GOOD, false, BAD, RETRIED(FAILS("500") "; save 1")},
    {"502", SJ_END_WHOLE, 502, "", SJ_FINDING_GOOD, false, BAD, RETRIED(FAILS("502") "; save 1")},
    {"503", SJ_END_WHOLE, 503, "", SJ_FINDING_GOOD, false, BAD, RETRIED(FAILS("503") "; save 1")},
    {"504", SJ_END_WHOLE, 504, "", SJ_FINDING_GOOD, false, BAD, RETRIED("retry a 1000 backoff 504; save 1")},
    {"520", SJ_END_WHOLE, 520, "", SJ_FINDING_GOOD, false, BAD, RETRIED(FAILS("520") "; save 1")},
    {"529", SJ_END_WHOLE, 529, "", SJ_FINDING_GOOD, false, BAD, RETRIED(FAILS("529") "; save 1")},
    {"501 is none of the retried", SJ_END_WHOLE, 501, "", SJ_FINDING_GOOD, false, BAD,
     "save 1; deliver saved a", "save 1; deliver saved a"},
    {"a 503 cut short", SJ_END_BROKEN, 503, "", SJ_FINDING_GOOD, false, BAD, RETRIED(FAILS("503"))},
    {"a quota answer cut short", SJ_END_BROKEN, 429, "insufficient_quota", SJ_FINDING_GOOD, false, NEUTRAL,
     "refuse max_retries_exceeded", "fallback b quota; start 2 b"},
    {"429", SJ_END_WHOLE, 429, "", SJ_FINDING_GOOD, false, NEUTRAL,
     RETRIED("retry a 1000 backoff 429; save 1")},
    {"never fits the rate", SJ_END_WHOLE, 429, "request_too_large", SJ_FINDING_GOOD, false, NEUTRAL,
     RETRIED("retry a 1000 backoff 429; save 1")},
    {"refused connection", SJ_END_NEVER_SENT, 0, "", SJ_FINDING_GOOD, false, BAD,
     RETRIED("retry a 0 at_once connect; start 2 a fresh")},
    {"a stale connection", SJ_END_STALE, 0, "", SJ_FINDING_GOOD, false, NEUTRAL,
     RETRIED("retry a 0 at_once stale; start 2 a fresh")},
    {"reset before a byte", SJ_END_NO_ANSWER, 0, "", SJ_FINDING_GOOD, false, BAD, RETRIED(FAILS("reset"))},
    {"reset within the answer", SJ_END_BROKEN, 200, "", SJ_FINDING_GOOD, false, BAD,
     RETRIED(FAILS("broken"))},
    {"not HTTP", SJ_END_GARBAGE, 0, "", SJ_FINDING_GOOD, false, BAD, RETRIED(FAILS("garbage"))},
    {"the carrier's own timer", SJ_END_TIMED_OUT, 0, "", SJ_FINDING_GOOD, false, BAD, FAILS("timeout"),
     "fallback b timeout; start 2 b"},
    {"200, rate_limit", SJ_END_WHOLE, 200, "rate_limit_exceeded", SJ_FINDING_ERROR, false, BAD,
     RETRIED("retry a 1000 backoff error:rate_limit")},
    {"200, server_error", SJ_END_WHOLE, 200, "server_error", SJ_FINDING_ERROR, false, BAD,
     RETRIED(FAILS("error:server_error"))},
    {"200, timeout", SJ_END_WHOLE, 200, "upstream_timeout", SJ_FINDING_ERROR, false, BAD,
     RETRIED("retry a 1000 backoff error:timeout")},
    {"200, capacity", SJ_END_WHOLE, 200, "no_capacity", SJ_FINDING_ERROR, false, BAD,
     RETRIED(FAILS("error:capacity"))},
    {"200, overloaded", SJ_END_WHOLE, 200, "overloaded_error", SJ_FINDING_ERROR, false, BAD,
     RETRIED(FAILS("error:overloaded"))},
    {"200, another error", SJ_END_WHOLE, 200, "invalid_request_error", SJ_FINDING_ERROR, false, GOOD,
     DELIVERED},
    {"200, quota", SJ_END_WHOLE, 200, "insufficient_quota", SJ_FINDING_ERROR, false, NEUTRAL, "deliver 1",
     "fallback b quota; save 1; start 2 b"},
    {"200, empty", SJ_END_WHOLE, 200, "", SJ_FINDING_EMPTY, false, BAD, RETRIED(FAILS("empty"))},
    {"200, not JSON", SJ_END_WHOLE, 200, "", SJ_FINDING_NOT_JSON, false, BAD, RETRIED(FAILS("not_json"))},
    {"200, truncated", SJ_END_WHOLE, 200, "", SJ_FINDING_TRUNCATED, false, BAD, RETRIED(FAILS("truncated"))},
    {"a stream without content", SJ_END_WHOLE, 200, "", SJ_FINDING_GOOD, true, BAD,
     RETRIED(FAILS("incomplete"))},
    {"untrusted certificate", SJ_END_TLS_UNVERIFIED, 0, "", SJ_FINDING_GOOD, false, NEUTRAL,
     "alert a tls; refuse upstream_unreachable", "alert a tls; refuse upstream_unreachable"},
    {"our own mistake", SJ_END_LOCAL, 0, "", SJ_FINDING_GOOD, false, NEUTRAL,
     "alert a local; refuse upstream_unreachable", "alert a local; refuse upstream_unreachable"},
    {"cancelled under us", SJ_END_CANCELLED, 0, "", SJ_FINDING_GOOD, false, NEUTRAL,
     "refuse max_retries_exceeded", "refuse max_retries_exceeded"},
};

static void happen(bench *b, const row *r) {
    if (r->status)
        head(b, r->status);
    sj_attempt_over over = bench_over(r->end, r->status);
    over.facts.inspected = r->status >= 200 && r->status < 300 && !r->incomplete;
    over.facts.finding = r->finding;
    over.facts.error_code = r->code;
    over.facts.stream_incomplete = r->incomplete;
    over.whole = !r->incomplete;
    ended(b, over);
}

static void check_row(const row *r, size_t hops) {
    bench b = bench_new(hops);
    gives(&b, go(&b), "start 1 a");
    assert_int_equal(due_in(&b), 600000);
    happen(&b, r);
    const char *expected = hops == 1 ? r->alone : r->chained;
    if (strcmp(bench_tell(&b), expected) != 0)
        fail_msg("%s, %zu targets: \"%s\" instead of \"%s\"", r->name, hops, bench_tell(&b), expected);
    sj_target_stats stats = target_at(&b, 0);
    if (stats.window_calls != (r->effect != NEUTRAL) || stats.window_failures != (r->effect == BAD))
        fail_msg("%s: the breaker saw %d calls, %d failures", r->name, stats.window_calls,
                 stats.window_failures);
    sj_journey_client_gone(b.journey, b.now, &b.steps);
    over(&b);
    bench_free(&b);
}

static void every_row(void **unused) {
    (void)unused;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t hops = 1; hops <= 2; hops++)
            check_row(&rows[i], hops);
}

// ---- what the answer says about retrying, and options ---------------------------------------------------

static void should_retry(bench *b, int status, sj_should_retry said) {
    head_hint(b, status, (sj_retry_hint){.should_retry = said});
    ended(b, bench_over(SJ_END_WHOLE, status));
}

static void x_should_retry_overrides(void **unused) {
    (void)unused;
    bench b = bench_new(1);
    go(&b);
    gives(&b, should_retry(&b, 503, SJ_SHOULD_RETRY_NO), "save 1; deliver saved a");
    over(&b);
    go(&b);
    gives(&b, should_retry(&b, 400, SJ_SHOULD_RETRY_YES), "retry a 500 backoff 400; save 1");
    wakes_after(&b, 500, "start 2 a");
    gives(&b, answer(&b, 400), "deliver 2"); // unsaid this time
    over(&b);
    bench_free(&b);
    b = bench_new(2);
    go(&b);
    gives(&b, should_retry(&b, 503, SJ_SHOULD_RETRY_NO), "fallback b 503; save 1; start 2 b");
    gives(&b, answer(&b, 200), "deliver 2");
    over(&b);
    bench_free(&b);
}

static void refusals_and_conflicts_by_option(void **unused) {
    (void)unused;
    bench b = bench_new(2);
    b.policies[0].rules.retry_conflict = true;
    b.policies[0].rules.fallback_on_refusal = true;
    go(&b);
    gives(&b, answer(&b, 409), "retry a 500 backoff 409; save 1");
    wakes_after(&b, 500, "start 2 a");
    gives(&b, answer_code(&b, 400, "content_filter"), "fallback b refused; save 2; start 3 b");
    gives(&b, answer(&b, 200), "deliver 3");
    over(&b);
    bench_free(&b);
}

static void statuses_by_option(void **unused) {
    (void)unused;
    bench b = bench_new(1);
    sj_status_set_add(&b.policies[0].rules.statuses, 418, 418);
    go(&b);
    gives(&b, answer(&b, 418), "retry a 500 backoff 418; save 1");
    gives(&b, gone(&b), "");
    over(&b);
    bench_free(&b);
}

// ---- requests that do not repeat freely -----------------------------------------------------------------

typedef struct repeat_row {
    const char *name;
    sj_repeat repeat;
    bool replayable;
    sj_end end;
    int status;
    const char *expected;
} repeat_row;

static const repeat_row repeat_rows[] = {
    {"GET, 503", SJ_REPEAT_SAFE, true, SJ_END_WHOLE, 503, "retry a 500 backoff 503; save 1"},
    {"GET, no answer", SJ_REPEAT_SAFE, true, SJ_END_NO_ANSWER, 0, "retry a 500 backoff reset"},
    {"GET, stale", SJ_REPEAT_SAFE, true, SJ_END_STALE, 0, "retry a 0 at_once stale; start 2 a fresh"},
    {"GET, 402", SJ_REPEAT_SAFE, true, SJ_END_WHOLE, 402, "deliver 1"},
    {"GET, timeout", SJ_REPEAT_SAFE, true, SJ_END_TIMED_OUT, 0, "retry a 500 backoff timeout"},
    {"POST, 503", SJ_REPEAT_UNSENT, true, SJ_END_WHOLE, 503, "save 1; deliver saved a"},
    {"POST, no answer", SJ_REPEAT_UNSENT, true, SJ_END_NO_ANSWER, 0, "refuse max_retries_exceeded"},
    {"POST, stale", SJ_REPEAT_UNSENT, true, SJ_END_STALE, 0, "refuse max_retries_exceeded"},
    {"POST, timeout", SJ_REPEAT_UNSENT, true, SJ_END_TIMED_OUT, 0, "refuse timeout_max_retries"},
    {"POST, 429", SJ_REPEAT_UNSENT, true, SJ_END_WHOLE, 429, "retry a 1000 backoff 429; save 1"},
    {"POST, never sent", SJ_REPEAT_UNSENT, true, SJ_END_NEVER_SENT, 0,
     "retry a 0 at_once connect; start 2 a fresh"},
    {"stored, 503", SJ_REPEAT_FREELY, false, SJ_END_WHOLE, 503, "save 1; deliver saved a"},
    {"stored, no answer", SJ_REPEAT_FREELY, false, SJ_END_NO_ANSWER, 0, "refuse max_retries_exceeded"},
    {"stored, stale", SJ_REPEAT_FREELY, false, SJ_END_STALE, 0, "refuse max_retries_exceeded"},
    {"stored, 429", SJ_REPEAT_FREELY, false, SJ_END_WHOLE, 429, "retry a 1000 backoff 429; save 1"},
    {"stored, never sent", SJ_REPEAT_FREELY, false, SJ_END_NEVER_SENT, 0,
     "retry a 0 at_once connect; start 2 a fresh"},
    {"stored, 402", SJ_REPEAT_FREELY, false, SJ_END_WHOLE, 402, "fallback b 402; save 1; start 2 b"},
};

static void requests_that_do_not_repeat_freely(void **unused) {
    (void)unused;
    for (size_t i = 0; i < sizeof repeat_rows / sizeof *repeat_rows; i++) {
        const repeat_row *r = &repeat_rows[i];
        bench b = bench_new(2);
        b.plan.repeat = r->repeat;
        b.plan.replayable = r->replayable;
        go(&b);
        happen(&b, &(row){.end = r->end, .status = r->status, .code = ""});
        if (strcmp(bench_tell(&b), r->expected) != 0)
            fail_msg("%s: \"%s\" instead of \"%s\"", r->name, bench_tell(&b), r->expected);
        sj_journey_client_gone(b.journey, b.now, &b.steps);
        over(&b);
        bench_free(&b);
    }
}

// ---- tries outside the limit ----------------------------------------------------------------------------

static void a_refused_connection_has_one_try_more(void **unused) {
    (void)unused;
    bench b = bench_calm(1);
    go(&b);
    gives(&b, dies(&b, SJ_END_NEVER_SENT), "retry a 0 at_once connect; start 2 a fresh");
    gives(&b, dies(&b, SJ_END_NEVER_SENT), "retry a 500 backoff connect");
    wakes_after(&b, 500, "start 3 a");
    gives(&b, dies(&b, SJ_END_NEVER_SENT), "retry a 1000 backoff connect");
    wakes_after(&b, 1000, "start 4 a");
    gives(&b, dies(&b, SJ_END_NEVER_SENT), "retry a 2000 backoff connect");
    wakes_after(&b, 2000, "start 5 a");
    gives(&b, dies(&b, SJ_END_NEVER_SENT), "retry a 4000 backoff connect");
    assert_int_equal(spent(&b, 0), 14); // decided, not yet sent
    wakes_after(&b, 4000, "start 6 a");
    gives(&b, dies(&b, SJ_END_NEVER_SENT), "refuse upstream_unreachable");
    assert_int_equal(spent(&b, 0), 0); // none was ever sent
    assert_int_equal(sj_journey_read(b.journey).attempts_sent, 0);
    over(&b);
    bench_free(&b);
}

static void stale_and_refused_are_two_causes(void **unused) {
    (void)unused;
    bench b = bench_new(1);
    go(&b);
    gives(&b, dies(&b, SJ_END_STALE), "retry a 0 at_once stale; start 2 a fresh");
    gives(&b, dies(&b, SJ_END_NEVER_SENT), "retry a 0 at_once connect; start 3 a fresh");
    gives(&b, dies(&b, SJ_END_STALE), "retry a 500 backoff stale");
    wakes_after(&b, 500, "start 4 a");
    gives(&b, answer(&b, 200), "deliver 4");
    sj_journey_summary summary = sj_journey_read(b.journey);
    assert_int_equal(summary.attempts_sent, 1);
    assert_int_equal(summary.retries, 3);
    assert_string_equal(trail(&b), "a stale 0ms (stale), a connect 0ms (not sent), a stale 0ms (stale), "
                                   "wait 500ms, a 200 0ms");
    assert_int_equal(spent(&b, 0), 0); // paid back by its success
    over(&b);
    bench_free(&b);
}

// What stored and degraded answers are decided by (BEHAVIOUR 11).
static void the_last_step_says_what_the_answer_was(void **unused) {
    (void)unused;
    static const struct {
        int status;
        const char *code;
        sj_class class;
        bool callers;
    } ends[] = {
        {200, "", SJ_CLASS_SUCCESS, false},
        {400, "", SJ_CLASS_CALLER, true},
        {400, "context_length_exceeded", SJ_CLASS_TOO_LONG, true},
        {400, "content_filter", SJ_CLASS_REFUSED, true},
        {401, "", SJ_CLASS_CREDENTIAL, true},
        {403, "", SJ_CLASS_CREDENTIAL, true},
        {404, "model_not_found", SJ_CLASS_NO_MODEL, true},
        {402, "", SJ_CLASS_QUOTA, false},
        {429, "insufficient_quota", SJ_CLASS_QUOTA, false},
        {429, "", SJ_CLASS_THROTTLED, false},
        {503, "", SJ_CLASS_FAILING, false},
    };
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        bench b = bench_new(1);
        b.policies[0].max_attempts = 1;
        go(&b);
        sj_attempt_over whole = {
            .facts = {.end = SJ_END_WHOLE,
                      .status = ends[i].status,
                      .error_code = ends[i].code,
                      .error_message = ""},
            .whole = true,
            .sent = true,
        };
        head_hint(&b, ends[i].status, (sj_retry_hint){0});
        sj_journey_attempt_ended(b.journey, b.attempt, &whole, b.now, &b.steps);
        const sj_step *last = &b.steps.list[b.steps.count - 1];
        bool saved = ends[i].class == SJ_CLASS_THROTTLED || ends[i].class == SJ_CLASS_FAILING;
        assert_int_equal(last->kind, saved ? SJ_STEP_DELIVER_SAVED : SJ_STEP_DELIVER);
        assert_int_equal(last->class, ends[i].class);
        assert_int_equal(sj_class_is_callers(last->class), ends[i].callers);
        over(&b);
        bench_free(&b);
    }
}

// The saved answer's own class, not that of the attempt that came last.
static void a_saved_answer_keeps_its_class(void **unused) {
    (void)unused;
    bench b = bench_new(2);
    b.policies[0].max_attempts_before_fallback = 1;
    go(&b);
    (void)answer(&b, 503);
    gives(&b, answer(&b, 400), "deliver saved a");
    assert_int_equal(b.steps.list[b.steps.count - 1].class, SJ_CLASS_FAILING);
    over(&b);
    bench_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row),
        cmocka_unit_test(x_should_retry_overrides),
        cmocka_unit_test(refusals_and_conflicts_by_option),
        cmocka_unit_test(statuses_by_option),
        cmocka_unit_test(requests_that_do_not_repeat_freely),
        cmocka_unit_test(a_refused_connection_has_one_try_more),
        cmocka_unit_test(stale_and_refused_are_two_causes),
        cmocka_unit_test(the_last_step_says_what_the_answer_was),
        cmocka_unit_test(a_saved_answer_keeps_its_class),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
