// Several keys at an upstream (BEHAVIOUR 3), in virtual time.
#include "journey_bench.h"

enum { KEYS = 3 };
static const uint64_t hashes[KEYS] = {701, 702, 703};

// `count` keys at the first hop.
static bench bench_keys(size_t hops, size_t count) {
    bench b = bench_calm(hops);
    b.hops[0].keys = sj_keys_new(count);
    b.hops[0].credentials = hashes;
    assert_non_null(b.hops[0].keys);
    return b;
}

static void end(bench *b) {
    over(b);
    sj_keys_free(&b->hops[0].keys);
    bench_free(b);
}

// Another exchange's key is refused there.
static void refuse(bench *b, size_t key, sj_key_trouble trouble, int64_t ms) {
    (void)sj_keys_refused(b->hops[0].keys, key, trouble, ms, b->now, b->now);
}

static void a_dead_key_gives_way_at_once_and_free_of_charge(void **unused) {
    (void)unused;
    bench b = bench_keys(1, 2);
    gives(&b, go(&b), "start 1 a key 1");
    b.now += 20;
    gives(&b, answer(&b, 401), "alert a 401; key 1 dead 300000; retry a 0 next_key 401; start 2 a key 2");
    b.now += 30;
    gives(&b, answer(&b, 200), "deliver 2");
    assert_int_equal(spent(&b, 0), 0);
    assert_string_equal(trail(&b), "a 401 20ms, a 200 30ms");
    end(&b);
}

static void others_begin_with_the_key_that_is_good(void **unused) {
    (void)unused;
    bench b = bench_keys(1, 2);
    bench c = bench_beside(&b, 2);
    refuse(&b, 0, SJ_KEY_DEAD, 0);
    gives(&c, go(&c), "start 1 a key 2");
    gives(&c, answer(&c, 200), "deliver 1");
    left(&c);
    b.now += SJ_KEYS_REST_MS + 1; // rested: but nobody hurries back
    gives(&b, go(&b), "start 1 a key 2");
    gives(&b, answer(&b, 200), "deliver 1");
    end(&b);
}

// A dead key's place in the limit of attempts is not taken: with all three dead the third 401 is what the client gets.
static void when_all_are_dead_the_last_answer_is_delivered(void **unused) {
    (void)unused;
    bench b = bench_keys(1, 3);
    b.policies[0].max_attempts = 1;
    gives(&b, go(&b), "start 1 a key 1");
    b.now += 1;
    gives(&b, answer(&b, 401), "alert a 401; key 1 dead 300000; retry a 0 next_key 401; start 2 a key 2");
    b.now += 1;
    gives(&b, answer(&b, 403), "alert a 403; key 2 dead 300000; retry a 0 next_key 403; start 3 a key 3");
    b.now += 1;
    gives(&b, answer(&b, 401), "alert a 401; key 3 dead 300000; deliver 3");
    end(&b);
}

// Then an exchange costs one attempt, not one for each key.
static void a_dead_upstream_is_asked_once(void **unused) {
    (void)unused;
    bench b = bench_keys(1, 3);
    for (size_t key = 0; key < 3; key++)
        refuse(&b, key, SJ_KEY_DEAD, 0);
    b.now += 1;
    gives(&b, go(&b), "start 1 a key 1");
    gives(&b, answer(&b, 401), "alert a 401; deliver 1");
    end(&b);
}

static void after_its_rest_a_key_is_tried_again(void **unused) {
    (void)unused;
    bench b = bench_keys(1, 2);
    refuse(&b, 0, SJ_KEY_DEAD, 0);
    b.now += SJ_KEYS_REST_MS;
    refuse(&b, 1, SJ_KEY_DEAD, 0);
    b.now += 1;
    gives(&b, go(&b), "start 1 a key 1");
    b.now += 10;
    gives(&b, answer(&b, 200), "key 1 accepted 0; deliver 1");
    assert_false(sj_keys_read(b.hops[0].keys, 0, b.now).resting);
    end(&b);
}

static void a_throttled_key_gives_way_without_a_wait_but_is_paid_for(void **unused) {
    (void)unused;
    bench b = bench_keys(1, 2);
    gives(&b, go(&b), "start 1 a key 1");
    b.now += 20;
    gives(&b, answer_hint(&b, 429, 7000),
          "key 1 exhausted 7000; gate a 7000 retry-after; retry a 0 next_key 429; save 1; start 2 a key 2");
    assert_int_equal(spent(&b, 0), 5);
    b.now += 30;
    gives(&b, answer(&b, 200), "deliver 2");
    assert_int_equal(spent(&b, 0), 0); // given back
    // The gate is the key's own.
    int64_t at;
    assert_int_equal(sj_target_would_admit(b.targets[0], hashes[0], b.now, &at), SJ_ADMIT_GATED);
    assert_int_equal(sj_target_would_admit(b.targets[0], hashes[1], b.now, &at), SJ_ADMIT_YES);
    end(&b);
}

// The wait is for the key that is back first, not for the one that was asked last.
static void when_all_are_throttled_the_first_one_back_is_waited_for(void **unused) {
    (void)unused;
    bench b = bench_keys(1, 2);
    gives(&b, go(&b), "start 1 a key 1");
    gives(&b, answer_hint(&b, 429, 2000),
          "key 1 exhausted 2000; gate a 2000 retry-after; retry a 0 next_key 429; save 1; start 2 a key 2");
    b.now += 500;
    gives(&b, answer_hint(&b, 429, 20000),
          "key 2 exhausted 20000; gate a 20000 retry-after; retry a 1950 retry-after 429; save 2");
    gives(&b, sleep_till_due(&b), "start 3 a key 1");
    b.now += 10;
    gives(&b, answer(&b, 200), "key 1 accepted 0; deliver 3");
    end(&b);
}

static void the_next_key_counts_as_an_attempt(void **unused) {
    (void)unused;
    bench b = bench_keys(1, 3);
    b.policies[0].max_attempts = 2;
    gives(&b, go(&b), "start 1 a key 1");
    gives(&b, answer(&b, 429), "key 1 exhausted 60000; retry a 0 next_key 429; save 1; start 2 a key 2");
    b.now += 1;
    gives(&b, answer(&b, 429), "key 2 exhausted 60000; save 2; deliver saved a");
    end(&b);
}

static void without_budget_no_other_key_is_asked(void **unused) {
    (void)unused;
    sj_target_rules rules = {sj_breaker_rules_default, sj_budget_rules_default};
    rules.budget.floor_per_minute = 0;
    bench b = bench_with(1, &rules, 256, 1024);
    b.hops[0].keys = sj_keys_new(2);
    b.hops[0].credentials = hashes;
    drain_budget(&b, 0, 0);
    gives(&b, go(&b), "start 1 a key 1");
    gives(&b, answer(&b, 429), "key 1 exhausted 60000; no budget a; save 1; deliver saved a");
    end(&b);
}

static void a_used_up_quota_goes_to_the_next_key_then_to_the_next_target(void **unused) {
    (void)unused;
    bench b = bench_keys(2, 2);
    gives(&b, go(&b), "start 1 a key 1");
    gives(&b, answer_code(&b, 429, "insufficient_quota"),
          "key 1 exhausted 60000; retry a 0 next_key quota; save 1; start 2 a key 2");
    assert_int_equal(spent(&b, 0), 5);
    b.now += 1;
    gives(&b, answer_code(&b, 429, "insufficient_quota"),
          "key 2 exhausted 60000; fallback b quota; save 2; start 3 b");
    gives(&b, answer(&b, 200), "deliver 3");
    end(&b);
}

// What was kept of the quota is delivered when no further attempt is allowed: it is no longer the attempt's to deliver.
static void a_used_up_quota_without_attempts_left_is_delivered(void **unused) {
    (void)unused;
    bench b = bench_keys(1, 2);
    b.policies[0].max_attempts = 1;
    gives(&b, go(&b), "start 1 a key 1");
    gives(&b, answer_code(&b, 429, "insufficient_quota"), "key 1 exhausted 60000; save 1; deliver saved a");
    end(&b);
}

static void a_client_that_retries_gets_the_next_key_after_a_401_only(void **unused) {
    (void)unused;
    bench b = bench_keys(1, 3);
    b.plan.client_retrying = true;
    gives(&b, go(&b), "start 1 a key 1");
    gives(&b, answer(&b, 401), "alert a 401; key 1 dead 300000; retry a 0 next_key 401; start 2 a key 2");
    b.now += 1;
    gives(&b, answer(&b, 429), "key 2 exhausted 60000; save 2; deliver saved a");
    end(&b);
}

// Nothing was executed: this holds for requests that are never repeated, too.
static void a_401_is_no_repetition(void **unused) {
    (void)unused;
    bench b = bench_keys(1, 2);
    b.plan.repeat = SJ_REPEAT_UNSENT;
    b.plan.replayable = false;
    gives(&b, go(&b), "start 1 a key 1");
    gives(&b, answer(&b, 401), "alert a 401; key 1 dead 300000; retry a 0 next_key 401; start 2 a key 2");
    gives(&b, answer(&b, 200), "deliver 2");
    end(&b);
}

static void too_much_for_the_rate_is_no_matter_of_the_key(void **unused) {
    (void)unused;
    bench b = bench_keys(1, 2);
    gives(&b, go(&b), "start 1 a key 1");
    head(&b, 429);
    sj_attempt_over so = bench_over(SJ_END_WHOLE, 429);
    so.facts.error_message = "Request too large for gpt-4.1 on tokens per min (TPM)";
    gives(&b, ended(&b, so), "save 1; deliver saved a");
    assert_false(sj_keys_read(b.hops[0].keys, 0, b.now).resting);
    end(&b);
}

// Its key's 401 would send the reader to the wrong place.
static void a_dead_keys_answer_does_not_stand_for_the_next_ones_trouble(void **unused) {
    (void)unused;
    bench b = bench_keys(1, 2);
    b.policies[0].max_attempts = 1;
    gives(&b, go(&b), "start 1 a key 1");
    gives(&b, answer(&b, 401), "alert a 401; key 1 dead 300000; retry a 0 next_key 401; start 2 a key 2");
    gives(&b, dies(&b, SJ_END_NO_ANSWER), "refuse max_retries_exceeded");
    end(&b);
}

// "None left" on a good answer: whoever comes next uses another key instead of waiting.
static void the_last_of_a_keys_requests_sends_others_to_the_next(void **unused) {
    (void)unused;
    bench b = bench_keys(1, 2);
    bench c = bench_beside(&b, 2);
    gives(&b, go(&b), "start 1 a key 1");
    sj_retry_hint hint = {.exhausted_ms = 4000};
    gives(&b, sj_journey_attempt_head(b.journey, 1, 200, &hint, true, b.now, &b.steps),
          "gate a 4000 x-ratelimit-remaining");
    gives(&c, go(&c), "start 1 a key 2");
    gives(&c, answer(&c, 200), "deliver 1");
    left(&c);
    sj_attempt_over so = bench_over(SJ_END_WHOLE, 200);
    gives(&b, ended(&b, so), "deliver 1");
    assert_true(sj_keys_read(b.hops[0].keys, 0, b.now).resting);
    assert_int_equal(sj_keys_read(b.hops[0].keys, 0, b.now).refusals[SJ_KEY_EXHAUSTED], 0);
    end(&b);
}

static void a_stream_that_begins_with_a_used_up_quota_goes_to_the_next_key(void **unused) {
    (void)unused;
    bench b = bench_keys(1, 2);
    b.plan.stream = true;
    gives(&b, go(&b), "start 1 a key 1");
    head(&b, 200);
    gives(&b, error_event(&b, "insufficient_quota"),
          "key 1 exhausted 60000; retry a 0 next_key quota; save 1; cancel 1; start 2 a key 2");
    b.now += 5;
    head(&b, 200);
    gives(&b, says(&b, SJ_SAYS_CONTENT), "commit 2");
    gives(&b, says(&b, SJ_SAYS_WHOLE), "");
    sj_attempt_over so = bench_over(SJ_END_WHOLE, 200);
    gives(&b, ended(&b, so), "finish");
    end(&b);
}

// One key's limit says nothing of how much the upstream bears.
static void a_keys_limit_does_not_cut_the_upstreams(void **unused) {
    (void)unused;
    for (int keys = 1; keys <= 2; keys++) {
        bench b = bench_keys(1, 2);
        sj_admission_rules slots = {
            .max_concurrent = 8, .max_waiting = 10, .timeout_ms = 300000, .adaptive = true};
        sj_admission_set_rules(b.admissions[0], &slots);
        sj_keys *both = b.hops[0].keys;
        if (keys == 1)
            b.hops[0].keys = NULL;
        uint64_t cuts = 0;
        for (uint64_t id = 2; id < 40; id++) {
            bench c = bench_beside(&b, id);
            c.policies[0].max_attempts = 1;
            go(&c);
            c.now = b.now += 500;
            answer(&c, 429);
            if (keys == 2)
                (void)sj_keys_accepted(both, sj_keys_read(both, 0, c.now).present ? 1 : 0, c.now + 1);
            left(&c);
            cuts = sj_admission_read(b.admissions[0]).cuts;
        }
        if (keys == 2)
            assert_int_equal(cuts, 0);
        else
            assert_true(cuts > 0);
        b.hops[0].keys = both;
        go(&b);
        answer(&b, 200);
        end(&b);
    }
}

// Two workers' exchanges meet at a dead key: each loses one attempt to it at most, and later ones none.
static void exchanges_under_way_lose_one_attempt_each(void **unused) {
    (void)unused;
    bench b = bench_keys(1, 2);
    bench c = bench_beside(&b, 2);
    gives(&b, go(&b), "start 1 a key 1");
    gives(&c, go(&c), "start 1 a key 1");
    b.now = c.now += 10;
    gives(&b, answer(&b, 401), "alert a 401; key 1 dead 300000; retry a 0 next_key 401; start 2 a key 2");
    gives(&c, answer(&c, 401), "alert a 401; retry a 0 next_key 401; start 2 a key 2"); // reported once
    bench d = bench_beside(&b, 3);
    gives(&d, go(&d), "start 1 a key 2");
    gives(&d, answer(&d, 200), "deliver 1");
    left(&d);
    gives(&c, answer(&c, 200), "deliver 2");
    left(&c);
    gives(&b, answer(&b, 200), "deliver 2");
    end(&b);
}

// The key that was fit when it lined up may not be when its turn comes.
static void the_key_is_chosen_when_the_attempt_begins(void **unused) {
    (void)unused;
    sj_target_rules rules = {sj_breaker_rules_default, sj_budget_rules_default};
    bench b = bench_with(1, &rules, 1, 10);
    b.hops[0].keys = sj_keys_new(2);
    b.hops[0].credentials = hashes;
    bench c = bench_beside(&b, 2);
    gives(&b, go(&b), "start 1 a key 1");
    gives(&c, go(&c), "queued a");
    refuse(&b, 0, SJ_KEY_DEAD, 0);
    b.now = c.now += 100;
    gives(&b, answer(&b, 200), "grant 2; deliver 1");
    left(&b);
    gives(&c, granted(&c), "start 1 a key 2");
    gives(&c, answer(&c, 200), "deliver 1");
    end(&c);
}

static void at_a_gate_the_key_that_opens_first_is_taken(void **unused) {
    (void)unused;
    bench b = bench_keys(1, 2);
    for (size_t key = 0; key < 2; key++) {
        int64_t ms = key == 0 ? 30000 : 60000;
        refuse(&b, key, SJ_KEY_EXHAUSTED, ms);
        sj_target_gate(b.targets[0], hashes[key], b.now + ms, b.now, b.now);
    }
    int64_t since = b.now;
    gives(&b, go(&b), "");
    b.now += 40;
    assert_true(due_in(&b) <= 200);
    // Somebody's success proves the second key good: no reason to wait for the first one's gate.
    assert_true(sj_keys_accepted(b.hops[0].keys, 1, b.now));
    sj_permit permit;
    sj_changes changes;
    int64_t at;
    assert_int_equal(sj_target_admit(b.targets[0], 999, b.now, &permit, &at, &changes), SJ_ADMIT_YES);
    permit.credential = hashes[1];
    sj_report report = {.outcome = SJ_OUTCOME_SUCCESS, .first_content_ms = -1, .exchange_id = 77};
    sj_target_report(b.targets[0], &permit, &report, b.now, &changes);
    gives(&b, sleep_till_due(&b), "start 1 a key 2");
    assert_true(b.now - since <= 200);
    gives(&b, answer(&b, 200), "deliver 1");
    end(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dead_key_gives_way_at_once_and_free_of_charge),
        cmocka_unit_test(others_begin_with_the_key_that_is_good),
        cmocka_unit_test(when_all_are_dead_the_last_answer_is_delivered),
        cmocka_unit_test(a_dead_upstream_is_asked_once),
        cmocka_unit_test(after_its_rest_a_key_is_tried_again),
        cmocka_unit_test(a_throttled_key_gives_way_without_a_wait_but_is_paid_for),
        cmocka_unit_test(when_all_are_throttled_the_first_one_back_is_waited_for),
        cmocka_unit_test(the_next_key_counts_as_an_attempt),
        cmocka_unit_test(without_budget_no_other_key_is_asked),
        cmocka_unit_test(a_used_up_quota_goes_to_the_next_key_then_to_the_next_target),
        cmocka_unit_test(a_used_up_quota_without_attempts_left_is_delivered),
        cmocka_unit_test(a_client_that_retries_gets_the_next_key_after_a_401_only),
        cmocka_unit_test(a_401_is_no_repetition),
        cmocka_unit_test(too_much_for_the_rate_is_no_matter_of_the_key),
        cmocka_unit_test(a_dead_keys_answer_does_not_stand_for_the_next_ones_trouble),
        cmocka_unit_test(the_last_of_a_keys_requests_sends_others_to_the_next),
        cmocka_unit_test(a_stream_that_begins_with_a_used_up_quota_goes_to_the_next_key),
        cmocka_unit_test(a_keys_limit_does_not_cut_the_upstreams),
        cmocka_unit_test(exchanges_under_way_lose_one_attempt_each),
        cmocka_unit_test(the_key_is_chosen_when_the_attempt_begins),
        cmocka_unit_test(at_a_gate_the_key_that_opens_first_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
