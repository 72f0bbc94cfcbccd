// What the tests of the journey share: real targets, admissions and a global breaker in virtual time, one exchange under test, and every
// event's steps and notes as one line of text:
//   "retry a 500 backoff 503; save 1; wait" - notes first, then steps, in the order given.
// The exchange's end (`over`) checks that everything it took was given back.
#ifndef JOURNEY_BENCH_H
#define JOURNEY_BENCH_H

#include "journey.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BENCH_HOPS = 4, BENCH_KEY = 77, BENCH_START_MS = 1000 * 1000, BENCH_STRANGER = 1 << 20 };

typedef struct bench {
    int64_t now;
    sj_target *targets[BENCH_HOPS];
    sj_admission *admissions[BENCH_HOPS];
    sj_global_breaker *global;
    sj_retry_policy policies[BENCH_HOPS];
    sj_hop hops[BENCH_HOPS];
    sj_plan plan;
    sj_journey *journey;
    sj_steps steps;
    int attempt; // the one started last
    int budget[BENCH_HOPS]; // before the exchange
    char text[2048];
} bench;

static const char *const bench_labels[BENCH_HOPS] = {"a", "b", "c", "d"};

__attribute__((unused)) static sj_retry_policy plain_policy(void) {
    return (sj_retry_policy){
        .backoff = {.strategy = SJ_BACKOFF_EXPONENTIAL,
                    .base_ms = 500,
                    .cap_ms = 8000,
                    .exponential_base = 2},
        .throttle_base_ms = 1000,
        .throttle_cap_ms = 20000,
        .max_hint_ms = 120000,
        .max_attempts = 5,
        .max_attempts_before_fallback = 2,
        .max_wait_total_ms = 60000,
        .rules = sj_verdict_rules_default,
    };
}

// Set rules before: bench_new makes everything with the defaults.
__attribute__((unused)) static bench bench_with(size_t hops, const sj_target_rules *rules, int max_concurrent,
                                                int max_waiting) {
    bench b = {.now = BENCH_START_MS};
    sj_admission_rules slots = {
        .max_concurrent = max_concurrent, .max_waiting = max_waiting, .timeout_ms = 300000};
    b.global = sj_global_breaker_new(&sj_breaker_rules_default, 1, b.now);
    assert_non_null(b.global);
    for (size_t i = 0; i < hops; i++) {
        b.admissions[i] = sj_admission_new(&slots);
        b.targets[i] = sj_target_new(bench_labels[i], 100 + i, rules, b.admissions[i], b.global, i, b.now);
        assert_true(b.admissions[i] && b.targets[i]);
        b.policies[i] = plain_policy();
    }
    b.plan = (sj_plan){
        .hop_count = hops,
        .waiter = {.worker = 1, .exchange_id = 1, .client = 9},
        .repeat = SJ_REPEAT_FREELY,
        .movable = true,
        .replayable = true,
        .deadline_ms = b.now + 600000,
        .fallback_gate_ms = 10000,
        .seed = 5,
    };
    for (size_t i = 0; i < hops; i++)
        b.hops[i] = (sj_hop){
            .target = b.targets[i],
            .label = bench_labels[i],
            .credential = BENCH_KEY,
            .first_byte_timeout_ms = 120000,
            .idle_timeout_ms = 120000,
            .answer_timeout_ms = 600000,
            .max_open_wait_ms = rules->breaker.max_open_wait_ms,
            .rewrites_model = i > 0,
        };
    return b;
}

__attribute__((unused)) static bench bench_new(size_t hops) {
    sj_target_rules rules = {sj_breaker_rules_default, sj_budget_rules_default};
    return bench_with(hops, &rules, 256, 1024);
}

// The same with breakers that never open.
__attribute__((unused)) static bench bench_calm(size_t hops) {
    sj_target_rules rules = {sj_breaker_rules_default, sj_budget_rules_default};
    rules.breaker.enabled = false;
    return bench_with(hops, &rules, 256, 1024);
}

// ---- events as text -------------------------------------------------------------------------------------

__attribute__((format(printf, 2, 3))) static void bench_put(bench *b, const char *format, ...) {
    size_t n = strlen(b->text);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(b->text + n, sizeof b->text - n, format, args);
    va_end(args);
}

static void bench_put_note(bench *b, const sj_note *n) {
    const char *hop = bench_labels[n->hop];
    switch (n->kind) {
    case SJ_NOTE_ATTEMPT: // the trail has it
        return;
    case SJ_NOTE_RETRY:
        bench_put(b, "; retry %s %" PRId64 " %s %s", hop, n->ms, n->source, n->reason);
        return;
    case SJ_NOTE_HINT_GATE:
        bench_put(b, "; gate %s %" PRId64 " %s", hop, n->ms, n->source);
        return;
    case SJ_NOTE_BREAKER:
        bench_put(b, "; breaker %s %s", n->global ? "global" : hop, sj_breaker_state_name(n->change.to));
        return;
    case SJ_NOTE_BUDGET_REFUSED:
        bench_put(b, "; no budget %s", hop);
        return;
    case SJ_NOTE_FALLBACK:
        bench_put(b, "; fallback %s %s", hop, n->reason);
        return;
    case SJ_NOTE_RACE:
        bench_put(b, "; race %s %" PRId64, hop, n->ms);
        return;
    case SJ_NOTE_RESCUED:
        bench_put(b, "; rescued %s %" PRId64 " %s %s", hop, n->ms, n->source, n->reason);
        return;
    case SJ_NOTE_QUEUED:
        bench_put(b, "; queued %s", hop);
        return;
    case SJ_NOTE_DRAIN:
        bench_put(b, "; drain %s %" PRId64, hop, n->ms);
        return;
    case SJ_NOTE_ALERT:
        bench_put(b, "; alert %s %s", hop, n->reason);
        return;
    case SJ_NOTE_KEY:
        bench_put(b, "; key %d %s %" PRId64, n->key, n->reason, n->ms);
        return;
    case SJ_NOTE_STALE_SERVED: // the carrier's
    case SJ_NOTE_DEGRADED_SERVED:
        return;
    case SJ_NOTE_GRANT:
        bench_put(b, "; grant %" PRIu64, n->wake.exchange_id);
        return;
    }
}

static void bench_put_step(bench *b, const sj_step *s) {
    static const char *const words[] = {
        [SJ_STEP_START] = "start",         [SJ_STEP_CANCEL] = "cancel",
        [SJ_STEP_SAVE] = "save",           [SJ_STEP_COMMIT] = "commit",
        [SJ_STEP_DELIVER] = "deliver",     [SJ_STEP_DELIVER_SAVED] = "deliver saved",
        [SJ_STEP_SUPPLY_DONE] = "done",    [SJ_STEP_FINISH] = "finish",
        [SJ_STEP_KEEPALIVE] = "keepalive", [SJ_STEP_BREAK] = "break",
        [SJ_STEP_REFUSE] = "refuse",          [SJ_STEP_MEND] = "mend",
    };
    static const char *const mends[] = {"", " replay", " continue"};
    bench_put(b, "; %s", words[s->kind]);
    if (s->kind == SJ_STEP_REFUSE)
        bench_put(b, " %s", sj_refusal_code(s->refusal));
    else if (s->kind == SJ_STEP_DELIVER_SAVED)
        bench_put(b, " %s", bench_labels[s->hop]);
    else if (s->attempt)
        bench_put(b, " %d", s->attempt);
    if (s->kind == SJ_STEP_START)
        bench_put(b, " %s%s%s", bench_labels[s->hop], s->fresh ? " fresh" : "", mends[s->mend]);
    if (s->kind == SJ_STEP_START && b->hops[s->hop].keys)
        bench_put(b, " key %zu", s->key + 1);
    if (s->quiet)
        bench_put(b, " quiet");
}

static const char *bench_tell(bench *b) {
    b->text[0] = '\0';
    for (int i = 0; i < b->steps.note_count; i++)
        bench_put_note(b, &b->steps.notes[i]);
    for (int i = 0; i < b->steps.count; i++)
        bench_put_step(b, &b->steps.list[i]);
    return b->text[0] ? b->text + 2 : "";
}

#define gives(b, event, expected)                                                                            \
    do {                                                                                                     \
        event;                                                                                               \
        assert_string_equal(bench_tell(b), expected);                                                        \
    } while (0)

static void bench_took(bench *b) {
    for (int i = 0; i < b->steps.count; i++)
        if (b->steps.list[i].kind == SJ_STEP_START)
            b->attempt = b->steps.list[i].attempt;
}

// ---- the exchange ---------------------------------------------------------------------------------------

__attribute__((unused)) static sj_target_stats target_at(bench *b, size_t hop) {
    return sj_target_read(b->targets[hop], b->now);
}

__attribute__((unused)) static void go(bench *b) {
    for (size_t i = 0; i < b->plan.hop_count; i++) {
        b->hops[i].retry = &b->policies[i];
        b->budget[i] = target_at(b, i).budget_available;
    }
    b->plan.hops = b->hops;
    b->journey = sj_journey_new(&b->plan);
    assert_non_null(b->journey);
    assert_true(sj_journey_due_ms(b->journey) == INT64_MAX);
    sj_journey_admitted(b->journey, b->now, &b->steps);
    bench_took(b);
}

__attribute__((unused)) static void head_hint(bench *b, int status, sj_retry_hint hint) {
    sj_journey_attempt_head(b->journey, b->attempt, status, &hint, true, b->now, &b->steps);
    assert_int_equal(b->steps.count + b->steps.note_count, 0);
}

__attribute__((unused)) static void head(bench *b, int status) {
    head_hint(b, status, (sj_retry_hint){0});
}

static sj_attempt_over bench_over(sj_end end, int status) {
    return (sj_attempt_over){
        .facts = {.end = end, .status = status, .error_code = "", .error_message = ""},
        .whole = end == SJ_END_WHOLE,
        .sent = end != SJ_END_NEVER_SENT,
        .own_side = end == SJ_END_NEVER_SENT,
    };
}

__attribute__((unused)) static void ended(bench *b, sj_attempt_over over) {
    sj_journey_attempt_ended(b->journey, b->attempt, &over, b->now, &b->steps);
    bench_took(b);
}

// A whole answer with its head.
__attribute__((unused)) static void answer(bench *b, int status) {
    head(b, status);
    sj_attempt_over over = bench_over(SJ_END_WHOLE, status);
    over.facts.inspected = status < 300;
    ended(b, over);
}

__attribute__((unused)) static void answer_hint(bench *b, int status, int64_t wait_ms) {
    head_hint(b, status, (sj_retry_hint){.wait_ms = wait_ms, .source = SJ_HINT_RETRY_AFTER});
    ended(b, bench_over(SJ_END_WHOLE, status));
}

__attribute__((unused)) static void answer_code(bench *b, int status, const char *code) {
    head(b, status);
    sj_attempt_over over = bench_over(SJ_END_WHOLE, status);
    over.facts.inspected = status < 300;
    over.facts.finding = status < 300 ? SJ_FINDING_ERROR : SJ_FINDING_GOOD;
    over.facts.error_code = code;
    ended(b, over);
}

__attribute__((unused)) static void dies(bench *b, sj_end end) {
    ended(b, bench_over(end, 0));
}

__attribute__((unused)) static void says(bench *b, unsigned bits) {
    sj_journey_attempt_says(b->journey, b->attempt, bits, b->now, &b->steps);
    bench_took(b);
}

__attribute__((unused)) static void error_event(bench *b, const char *code) {
    sj_journey_attempt_error(b->journey, b->attempt, code, "", b->now, &b->steps);
    bench_took(b);
}

__attribute__((unused)) static void ring(bench *b) {
    sj_journey_timer(b->journey, b->now, &b->steps);
    bench_took(b);
}

__attribute__((unused)) static void granted(bench *b) {
    sj_journey_granted(b->journey, b->now, &b->steps);
    bench_took(b);
}

__attribute__((unused)) static void gone(bench *b) {
    sj_journey_client_gone(b->journey, b->now, &b->steps);
    bench_took(b);
}

__attribute__((unused)) static int64_t due_in(const bench *b) {
    int64_t due = sj_journey_due_ms(b->journey);
    return due == INT64_MAX ? INT64_MAX : due - b->now;
}

// Sleeps to the due time; just before it nothing happens.
__attribute__((unused)) static void sleep_till_due(bench *b) {
    int64_t due = sj_journey_due_ms(b->journey);
    assert_true(due >= b->now && due < INT64_MAX);
    if (due > b->now) {
        b->now = due - 1;
        gives(b, ring(b), "");
        assert_int_equal(sj_journey_due_ms(b->journey), due);
    }
    b->now = due;
    ring(b);
}

// Sleeps exactly that long.
#define wakes_after(b, ms, expected)                                                                         \
    do {                                                                                                     \
        assert_int_equal(due_in(b), ms);                                                                     \
        gives(b, sleep_till_due(b), expected);                                                               \
    } while (0)

__attribute__((unused)) static const char *trail(bench *b) {
    sj_journey_trail(b->journey, b->now, b->text, sizeof b->text);
    return b->text;
}

// It is over, nobody is due, every further event is idle, and nothing of what it took is still out.
__attribute__((unused)) static void over(bench *b) {
    assert_true(sj_journey_is_over(b->journey));
    assert_true(sj_journey_due_ms(b->journey) == INT64_MAX);
    gives(b, ring(b), "");
    gives(b, granted(b), "");
    gives(b, dies(b, SJ_END_NO_ANSWER), "");
    gives(b, says(b, SJ_SAYS_CONTENT), "");
    gives(b, error_event(b, "server_error"), "");
    gives(b, gone(b), "");
    for (size_t i = 0; i < b->plan.hop_count; i++) {
        assert_int_equal(target_at(b, i).in_flight, 0);
        sj_admission_stats slots = sj_admission_read(b->admissions[i]);
        assert_int_equal(slots.in_flight, 0);
        assert_int_equal(slots.waiting, 0);
    }
    sj_journey_free(&b->journey);
}

// Another exchange at the same targets. End it with `left`, and the last of all with `over`.
__attribute__((unused)) static bench bench_beside(const bench *b, uint64_t id) {
    bench other = *b;
    other.journey = NULL;
    other.attempt = 0;
    other.plan.waiter.exchange_id = id;
    other.plan.seed = id;
    return other;
}

__attribute__((unused)) static void left(bench *b) {
    assert_true(sj_journey_is_over(b->journey));
    sj_journey_free(&b->journey);
}

// What the exchange cost a target, after its end.
__attribute__((unused)) static int spent(bench *b, size_t hop) {
    return b->budget[hop] - target_at(b, hop).budget_available;
}

__attribute__((unused)) static void bench_free(bench *b) {
    for (size_t i = 0; i < b->plan.hop_count; i++) {
        sj_target_unref(&b->targets[i]);
        sj_admission_free(&b->admissions[i]);
    }
    sj_global_breaker_free(&b->global);
}

// ---- other exchanges at a target ------------------------------------------------------------------------

// Leaves so many tokens in a target's budget.
__attribute__((unused)) static void drain_budget(bench *b, size_t hop, int left_over) {
    sj_charge charge;
    while (target_at(b, hop).budget_available - 5 >= left_over)
        assert_true(sj_target_charge(b->targets[hop], true, b->now, &charge));
    assert_int_equal(target_at(b, hop).budget_available, left_over);
}

// A stranger's attempt begins and ends there with that outcome.
__attribute__((unused)) static void stranger(bench *b, size_t hop, sj_breaker_outcome outcome) {
    static uint64_t id = BENCH_STRANGER;
    sj_permit permit;
    sj_changes changes;
    int64_t at;
    assert_int_equal(sj_target_admit(b->targets[hop], BENCH_KEY + 1, b->now, &permit, &at, &changes),
                     SJ_ADMIT_YES);
    sj_report report = {.outcome = outcome, .first_content_ms = -1, .exchange_id = ++id};
    sj_target_report(b->targets[hop], &permit, &report, b->now, &changes);
}

// Opens the breaker by failures and says until when.
__attribute__((unused)) static int64_t open_up(bench *b, size_t hop) {
    for (int i = 0; i < 5; i++) {
        stranger(b, hop, SJ_OUTCOME_FAILURE);
        b->now += i < 4 ? 300 : 0;
    }
    sj_target_stats stats = target_at(b, hop);
    assert_int_equal(stats.state, SJ_BREAKER_OPEN);
    return stats.open_until_ms;
}

#endif
