// What independent implementations do in the same situation, replayed through whole journeys: how long they wait, what it costs, when they stop.
//
// Not replayed, because nothing here is comparable: the client-side rate limiter of the AWS SDKs' adaptive mode (its cubic rates are requests per
// second of one client; ours is a limit of concurrent attempts, test_limiter.c), tenacity's chained and summed waits, its stops by two conditions
// at once (ours all count, each alone).
#include "journey_bench.h"

enum { TURNS = 6, NEVER = -1 };

typedef struct turn { // an attempt
    int64_t takes_ms;
    int status;
    int64_t hint_ms; // 0: the answer does not say when
    int64_t wait_ms; // until the next one starts; NEVER: none does
    int64_t wait_most_ms; // 0: exactly wait_ms
    int quota; // left in the budget then
} turn;

typedef struct known {
    const char *source;
    int64_t base_ms, cap_ms;
    int max_attempts, quota;
    int64_t deadline_ms; // from the start; 0: far away
    turn turns[TURNS]; // status 0 ends it; after a success another exchange begins
} known;

#define SMITHY "smithy-typescript util-retry/retries.integ.spec.ts, the cases all AWS SDKs share (2026): "
#define TENACITY "jd/tenacity tests/test_tenacity.py "
#define NODE "openai-node tests/index.test.ts "

// clang-format off: one attempt a line
static const known rows[] = {
    {SMITHY "retry eventually succeeds",
     50,
     20000,
     3,
     500,
     0,
     {{1, 500, 0, 50, 0, 486}, {1, 500, 0, 100, 0, 472}, {1, 200, 0, NEVER, 0, 486}}},
    {SMITHY "fail due to max attempts reached",
     50,
     20000,
     3,
     500,
     0,
     {{1, 502, 0, 50, 0, 486}, {1, 502, 0, 100, 0, 472}, {1, 502, 0, NEVER, 0, 472}}},
    {SMITHY "quota reached after a single retry",
     50,
     20000,
     3,
     14,
     0,
     {{1, 500, 0, 50, 0, 0}, {1, 500, 0, NEVER, 0, 0}}},
    {SMITHY "no retries at all if the quota is 0", 50, 20000, 3, 0, 0, {{1, 500, 0, NEVER, 0, 0}}},
    {SMITHY "exponential backoff timing",
     50,
     20000,
     5,
     500,
     0,
     {{1, 500, 0, 50, 0, 486},
      {1, 500, 0, 100, 0, 472},
      {1, 500, 0, 200, 0, 458},
      {1, 500, 0, 400, 0, 444},
      {1, 500, 0, NEVER, 0, 444}}},
    {SMITHY "stops after quota exhaustion",
     50,
     20000,
     5,
     20,
     0,
     {{1, 500, 0, 50, 0, 6}, {1, 502, 0, NEVER, 0, 6}}},
    {SMITHY "quota recovery after successful responses",
     50,
     20000,
     5,
     30,
     0,
     {{1, 500, 0, 50, 0, 16},
      {1, 502, 0, 100, 0, 2},
      {1, 200, 0, NEVER, 0, 16},
      {1, 500, 0, 50, 0, 2},
      {1, 200, 0, NEVER, 0, 16}}},
    {SMITHY "throttling: 5 tokens and 1000 ms",
     50,
     20000,
     3,
     500,
     0,
     {{1, 429, 0, 1000, 0, 495}, {1, 200, 0, NEVER, 0, 500}}},
    {"smithy-kotlin StandardRetryIntegrationTestCases, max backoff time (costs there are 5)",
     1000,
     3000,
     5,
     500,
     0,
     {{1, 500, 0, 1000, 0, 486},
      {1, 500, 0, 2000, 0, 472},
      {1, 500, 0, 3000, 0, 458},
      {1, 500, 0, 3000, 0, 444},
      {1, 500, 0, NEVER, 0, 444}}},
    {"botocore tests/unit/retries/test_standard_retry_v2_1.py, x-amz-retry-after 1500 (ours: up to half as "
     "much more)",
     50,
     20000,
     3,
     500,
     0,
     {{1, 500, 1500, 1500, 2250, 486}, {1, 200, 0, NEVER, 0, 500}}},
    {"botocore tests/unit/retries/test_standard_retry_v2_1.py, dynamodb: 25 ms, 4 attempts",
     25,
     20000,
     4,
     500,
     0,
     {{1, 500, 0, 25, 0, 486},
      {1, 500, 0, 50, 0, 472},
      {1, 500, 0, 100, 0, 458},
      {1, 500, 0, NEVER, 0, 458}}},
    {TENACITY "test_stop_after_attempt: not after 2, after 3",
     10,
     10,
     3,
     500,
     0,
     {{5, 503, 0, 10, 0, 486}, {5, 503, 0, 10, 0, 472}, {5, 503, 0, NEVER, 0, 472}}},
    {TENACITY "test_stop_before_delay: 0.998 s and 1 ms to sleep go on, as 0.999 s and 0.1 ms do there",
     1,
     1,
     9,
     500,
     1000,
     {{998, 503, 0, 1, 0, 486}, {0, 503, 0, NEVER, 0, 486}}},
    {TENACITY "test_stop_before_delay: 0.999 s and 1 ms stop",
     1,
     1,
     9,
     500,
     1000,
     {{999, 503, 0, NEVER, 0, 500}}},
    {TENACITY "test_stop_before_delay: a sleep as long as the whole time stops",
     1000,
     1000,
     9,
     500,
     1000,
     {{0, 503, 0, NEVER, 0, 500}}},
    {TENACITY "test_stop_or: 4 attempts or 1 s; (1, 0.1), (2, 0.2) and (3, 0.5) go on, (4, 0.8) stops",
     1,
     1,
     4,
     500,
     1000,
     {{100, 503, 0, 1, 0, 486},
      {99, 503, 0, 1, 0, 472},
      {299, 503, 0, 1, 0, 458},
      {299, 503, 0, NEVER, 0, 458}}},
    {TENACITY "test_stop_or: (3, 0.999) stops",
     1,
     1,
     4,
     500,
     1000,
     {{100, 503, 0, 1, 0, 486}, {99, 503, 0, 1, 0, 472}, {798, 503, 0, NEVER, 0, 472}}},
    {NODE "retry on 429 with retry-after 0.1",
     500,
     8000,
     3,
     500,
     0,
     {{1, 429, 100, 100, 150, 495}, {1, 200, 0, NEVER, 0, 500}, {1, 200, 0, NEVER, 0, 500}}},
    {NODE "retry on 429 with retry-after-ms 10",
     500,
     8000,
     3,
     500,
     0,
     {{1, 429, 10, 10, 15, 495}, {1, 200, 0, NEVER, 0, 500}}},
    {NODE "retry count header: the third request is the last, with a count of 2",
     500,
     8000,
     5,
     500,
     0,
     {{1, 429, 100, 100, 150, 495}, {1, 429, 100, 100, 150, 490}, {1, 200, 0, NEVER, 0, 495}}},
    {NODE "retry on timeout", 500, 8000, 3, 500, 0, {{10, 504, 0, 1000, 0, 486}, {1, 200, 0, NEVER, 0, 500}}},
    {"openai-python tests/test_client.py test_retries_taken: two 500s, then the answer",
     500,
     8000,
     5,
     500,
     0,
     {{1, 500, 0, 500, 0, 486}, {1, 500, 0, 1000, 0, 472}, {1, 200, 0, NEVER, 0, 486}}},
};
// clang-format on

static void begin(bench *b, const known *k) {
    b->plan.deadline_ms = b->now + (k->deadline_ms ? k->deadline_ms : 600000);
    go(b);
}

static void check_wait(bench *b, const known *k, int i) {
    const turn *t = &k->turns[i];
    int64_t most = t->wait_most_ms ? t->wait_most_ms : t->wait_ms;
    if (due_in(b) < t->wait_ms || due_in(b) > most)
        fail_msg("%s: a wait of %" PRId64 " ms after attempt %d", k->source, due_in(b), i + 1);
    b->now += due_in(b);
    ring(b);
    if (b->steps.count != 1 || b->steps.list[0].kind != SJ_STEP_START)
        fail_msg("%s: no attempt %d", k->source, i + 2);
}

static void play(const known *k) {
    sj_target_rules rules = {sj_breaker_rules_default, sj_budget_rules_default};
    rules.breaker.enabled = false;
    rules.budget.capacity = k->quota;
    rules.budget.floor_per_minute = 0;
    bench b = bench_with(1, &rules, 256, 1024);
    b.policies[0].backoff.base_ms = k->base_ms;
    b.policies[0].backoff.cap_ms = k->cap_ms;
    b.policies[0].max_attempts = k->max_attempts;
    for (int i = 0; i < TURNS && k->turns[i].status; i++) {
        const turn *t = &k->turns[i];
        if (!b.journey)
            begin(&b, k);
        b.now += t->takes_ms;
        if (t->hint_ms > 0)
            answer_hint(&b, t->status, t->hint_ms);
        else
            answer(&b, t->status);
        if (target_at(&b, 0).budget_available != t->quota)
            fail_msg("%s: %d left after attempt %d", k->source, target_at(&b, 0).budget_available, i + 1);
        if (sj_journey_is_over(b.journey) != (t->wait_ms == NEVER))
            fail_msg("%s: over or not after attempt %d", k->source, i + 1);
        if (t->wait_ms == NEVER)
            over(&b);
        else
            check_wait(&b, k, i);
    }
    assert_null(b.journey);
    bench_free(&b);
}

static void known_journeys(void **unused) {
    (void)unused;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        play(&rows[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_journeys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
