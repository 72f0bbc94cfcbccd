#include "verdict.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define COUNT(rows) (sizeof(rows) / sizeof *(rows))

enum { RETRY = 1, NEXT = 2, FREE = 4, OWN = 8, ALERT = 16, STEP = 32 };

static int flags_of(const sj_verdict *verdict) {
    return (verdict->retry_here ? RETRY : 0) | (verdict->next_target ? NEXT : 0) |
           (verdict->free_retry ? FREE : 0) | (verdict->own_side ? OWN : 0) | (verdict->alert ? ALERT : 0) |
           (verdict->extra_step ? STEP : 0);
}

static sj_attempt_facts answered(int status, const char *code, const char *message) {
    return (sj_attempt_facts){.end = SJ_END_WHOLE,
                              .status = status,
                              .generation = true,
                              .error_code = code,
                              .error_message = message};
}

static sj_verdict judge(sj_attempt_facts facts) {
    return sj_verdict_of(&facts, &sj_verdict_rules_default);
}

#define CHECK(got, wanted_class, wanted_breaker, wanted_flags, wanted_reason)                                \
    do {                                                                                                     \
        sj_verdict checked = (got);                                                                          \
        assert_string_equal(sj_class_name(checked.class), sj_class_name(wanted_class));                      \
        assert_int_equal(checked.breaker, wanted_breaker);                                                   \
        assert_int_equal(flags_of(&checked), wanted_flags);                                                  \
        assert_string_equal(checked.reason, wanted_reason);                                                  \
    } while (0)

static void status_sets(void **state) {
    (void)state;
    sj_status_set set = {{0}};
    sj_status_set_add(&set, 408, 408);
    sj_status_set_add(&set, 429, 429);
    sj_status_set_add(&set, 500, 500);
    sj_status_set_add(&set, 502, 504);
    sj_status_set_add(&set, 520, 529);
    assert_memory_equal(&set, &sj_verdict_rules_default.statuses, sizeof set);
    assert_true(sj_status_set_has(&set, 503) && sj_status_set_has(&set, 529));
    assert_false(sj_status_set_has(&set, 501) || sj_status_set_has(&set, 530) || sj_status_set_has(&set, 0));
    sj_status_set_add(&set, -5, 2000);
    assert_true(sj_status_set_has(&set, 0) && sj_status_set_has(&set, 999));
    assert_false(sj_status_set_has(&set, -1) || sj_status_set_has(&set, 1000));
}

static void statuses(void **state) {
    (void)state;
    static const struct {
        int status;
        sj_class class;
        sj_effect breaker;
        int flags;
    } rows[] = {
        {200, SJ_CLASS_SUCCESS, SJ_EFFECT_SUCCESS, 0},
        {204, SJ_CLASS_SUCCESS, SJ_EFFECT_SUCCESS, 0},
        {302, SJ_CLASS_SUCCESS, SJ_EFFECT_SUCCESS, 0},
        {400, SJ_CLASS_CALLER, SJ_EFFECT_SUCCESS, 0},
        {401, SJ_CLASS_CREDENTIAL, SJ_EFFECT_NEUTRAL, ALERT},
        {402, SJ_CLASS_QUOTA, SJ_EFFECT_NEUTRAL, NEXT},
        {403, SJ_CLASS_CREDENTIAL, SJ_EFFECT_NEUTRAL, ALERT},
        {404, SJ_CLASS_CALLER, SJ_EFFECT_SUCCESS, 0},
        {408, SJ_CLASS_FAILING, SJ_EFFECT_FAILURE, RETRY | NEXT},
        {409, SJ_CLASS_CALLER, SJ_EFFECT_SUCCESS, 0},
        {413, SJ_CLASS_CALLER, SJ_EFFECT_SUCCESS, 0},
        {418, SJ_CLASS_CALLER, SJ_EFFECT_SUCCESS, 0},
        {422, SJ_CLASS_CALLER, SJ_EFFECT_SUCCESS, 0},
        {429, SJ_CLASS_THROTTLED, SJ_EFFECT_NEUTRAL, RETRY | NEXT},
        {500, SJ_CLASS_FAILING, SJ_EFFECT_FAILURE, RETRY | NEXT},
        {501, SJ_CLASS_FAILING, SJ_EFFECT_FAILURE, 0},
        {503, SJ_CLASS_FAILING, SJ_EFFECT_FAILURE, RETRY | NEXT},
        {504, SJ_CLASS_FAILING, SJ_EFFECT_FAILURE, RETRY | NEXT | STEP},
        {524, SJ_CLASS_FAILING, SJ_EFFECT_FAILURE, RETRY | NEXT},
        {529, SJ_CLASS_FAILING, SJ_EFFECT_FAILURE, RETRY | NEXT},
        {530, SJ_CLASS_FAILING, SJ_EFFECT_FAILURE, 0},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        char reason[8];
        (void)snprintf(reason, sizeof reason, "%d", rows[i].status);
        sj_verdict got = judge(answered(rows[i].status, "", ""));
        CHECK(got, rows[i].class, rows[i].breaker, rows[i].flags, reason);
        assert_int_equal(got.status, rows[i].status);
        sj_attempt_facts elsewhere = answered(rows[i].status, NULL, NULL);
        elsewhere.generation = false;
        CHECK(judge(elsewhere), rows[i].class, rows[i].breaker, rows[i].flags & ~NEXT, reason);
    }
}

static void ends_without_an_answer(void **state) {
    (void)state;
    static const struct {
        sj_end end;
        int status;
        sj_class class;
        sj_effect breaker;
        int flags;
        const char *reason;
    } rows[] = {
        {SJ_END_NEVER_SENT, 0, SJ_CLASS_NEVER_SENT, SJ_EFFECT_FAILURE, RETRY | NEXT | FREE | OWN, "connect"},
        {SJ_END_STALE, 0, SJ_CLASS_STALE, SJ_EFFECT_NEUTRAL, RETRY | NEXT | FREE, "stale"},
        {SJ_END_NO_ANSWER, 0, SJ_CLASS_NO_ANSWER, SJ_EFFECT_FAILURE, RETRY | NEXT, "reset"},
        {SJ_END_GARBAGE, 0, SJ_CLASS_MALFORMED, SJ_EFFECT_FAILURE, RETRY | NEXT, "garbage"},
        {SJ_END_TIMED_OUT, 0, SJ_CLASS_TIMED_OUT, SJ_EFFECT_FAILURE, RETRY | NEXT, "timeout"},
        {SJ_END_TIMED_OUT, 200, SJ_CLASS_TIMED_OUT, SJ_EFFECT_FAILURE, RETRY | NEXT, "timeout"},
        {SJ_END_TLS_UNVERIFIED, 0, SJ_CLASS_MISCONFIGURED, SJ_EFFECT_NEUTRAL, ALERT, "tls"},
        {SJ_END_LOCAL, 0, SJ_CLASS_MISCONFIGURED, SJ_EFFECT_NEUTRAL, ALERT, "local"},
        {SJ_END_CANCELLED, 0, SJ_CLASS_NONE, SJ_EFFECT_NEUTRAL, 0, "cancelled"},
        {SJ_END_CANCELLED, 500, SJ_CLASS_NONE, SJ_EFFECT_NEUTRAL, 0, "cancelled"},
        {SJ_END_WHOLE, 0, SJ_CLASS_MALFORMED, SJ_EFFECT_FAILURE, RETRY | NEXT, "no status"},
        {SJ_END_WHOLE, 101, SJ_CLASS_MALFORMED, SJ_EFFECT_FAILURE, RETRY | NEXT, "no status"},
        {SJ_END_BROKEN, 200, SJ_CLASS_MALFORMED, SJ_EFFECT_FAILURE, RETRY | NEXT, "broken"},
        {SJ_END_BROKEN, 400, SJ_CLASS_MALFORMED, SJ_EFFECT_FAILURE, RETRY | NEXT, "broken"},
        {SJ_END_BROKEN, 503, SJ_CLASS_FAILING, SJ_EFFECT_FAILURE, RETRY | NEXT, "503"},
        {SJ_END_BROKEN, 504, SJ_CLASS_FAILING, SJ_EFFECT_FAILURE, RETRY | NEXT | STEP, "504"},
        {SJ_END_BROKEN, 429, SJ_CLASS_THROTTLED, SJ_EFFECT_NEUTRAL, RETRY | NEXT, "429"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        sj_attempt_facts facts = {.end = rows[i].end, .status = rows[i].status, .generation = true};
        sj_verdict got = judge(facts);
        CHECK(got, rows[i].class, rows[i].breaker, rows[i].flags, rows[i].reason);
        assert_int_equal(got.status, rows[i].status);
    }
}

// Error answers as providers gave them; sources are public issue trackers and the providers' own documents.
static const struct {
    int status;
    const char *code, *message;
    sj_class class;
} worded[] = {
    {400, "context_length_exceeded", "", SJ_CLASS_TOO_LONG},
    {400, "invalid_request_error",
     "This model's maximum context length is 8192 tokens. However, your messages resulted in 8545 tokens.",
     SJ_CLASS_TOO_LONG},
    {400, "invalid_request_error", "prompt is too long: 213462 tokens > 200000 maximum", SJ_CLASS_TOO_LONG},
    {400, "invalid_request_error",
     "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000", SJ_CLASS_TOO_LONG},
    {400, "INVALID_ARGUMENT",
     "The input token count (1196265) exceeds the maximum number of tokens allowed (1048575).",
     SJ_CLASS_TOO_LONG},
    {400, "", "Please reduce the length of the messages or completion.", SJ_CLASS_TOO_LONG},
    {400, "", "Input is too long for requested model.", SJ_CLASS_TOO_LONG},
    {400, "", "Prompt contains 200000 tokens, too large for model with 131072 maximum context length",
     SJ_CLASS_TOO_LONG},
    {400, "", "This model's maximum prompt length is 131072 but the request contains 537812 tokens",
     SJ_CLASS_TOO_LONG},
    {400, "", "prompt too long; exceeded max context length by 100918 tokens", SJ_CLASS_TOO_LONG},
    {400, "exceed_context_size_error", "the request exceeds the available context size", SJ_CLASS_TOO_LONG},
    {400, "", "Your request exceeded model token limit: 256000 (requested: 300000)", SJ_CLASS_TOO_LONG},
    {422, "", "Input length (265330) exceeds model's maximum context length (262144).", SJ_CLASS_TOO_LONG},
    {500, "server_error", "Context size has been exceeded.", SJ_CLASS_TOO_LONG},
    {413, "request_too_large", "Request exceeds the maximum size", SJ_CLASS_CALLER},
    {400, "invalid_request_error", "Unknown parameter: 'quality'.", SJ_CLASS_CALLER},
    {400, "", "Throttling error: Too many tokens, please wait before trying again.", SJ_CLASS_CALLER},

    {400, "content_filter", "The response was filtered", SJ_CLASS_REFUSED},
    {400, "content_policy_violation", "", SJ_CLASS_REFUSED},
    {400, "ResponsibleAIPolicyViolation", "", SJ_CLASS_REFUSED},
    {400, "moderation_blocked", "Your request was rejected by the safety system.", SJ_CLASS_REFUSED},
    {400, "invalid_request_error", "Output blocked by content filtering policy", SJ_CLASS_REFUSED},
    {400, "invalid_request_error", "Content Exists Risk", SJ_CLASS_REFUSED},
    {403, "403", "Your chosen model requires moderation and your input was flagged", SJ_CLASS_REFUSED},

    {404, "model_not_found", "The model `gpt-3.5-turbo-0613` has been deprecated", SJ_CLASS_NO_MODEL},
    {404, "DeploymentNotFound", "The API deployment for this resource does not exist.", SJ_CLASS_NO_MODEL},
    {404, "not_found_error", "model: claude-9", SJ_CLASS_NO_MODEL},
    {404, "NotFoundError", "The model `x` does not exist.", SJ_CLASS_NO_MODEL},
    {404, "", "model \"llama9\" not found, try pulling it first", SJ_CLASS_NO_MODEL},
    {403, "model_not_found", "Project `p` does not have access to model `gpt-4`", SJ_CLASS_NO_MODEL},
    {400, "model_decommissioned", "", SJ_CLASS_NO_MODEL},
    {400, "invalid_request_error", "Model Not Exist", SJ_CLASS_NO_MODEL},
    {400, "400", "foo/bar is not a valid model ID", SJ_CLASS_NO_MODEL},
    {404, "not_found", "Not Found", SJ_CLASS_CALLER},
    {404, "", "", SJ_CLASS_CALLER},

    {429, "insufficient_quota",
     "You exceeded your current quota, please check your plan and billing details.", SJ_CLASS_QUOTA},
    {400, "billing_hard_limit_reached", "Billing hard limit has been reached", SJ_CLASS_QUOTA},
    {400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API.",
     SJ_CLASS_QUOTA},
    {402, "invalid_request_error", "Insufficient Balance", SJ_CLASS_QUOTA},
    {403, "insufficient_user_quota", "", SJ_CLASS_QUOTA},
    {429, "RESOURCE_EXHAUSTED",
     "You exceeded your current quota, please check your plan and billing details.", SJ_CLASS_THROTTLED},
    {429, "rate_limit_exceeded", "Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000",
     SJ_CLASS_THROTTLED},
    {413, "rate_limit_exceeded", "Rate limit reached on tokens per minute (TPM)", SJ_CLASS_THROTTLED},
    {401, "invalid_api_key", "Incorrect API key provided", SJ_CLASS_CREDENTIAL},
    {403, "permission_error", "", SJ_CLASS_CREDENTIAL},
    {503, "overloaded", "model is overloaded, context", SJ_CLASS_FAILING},
};

static void wordings_of_error_answers(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(worded); i++) {
        sj_verdict got = judge(answered(worded[i].status, worded[i].code, worded[i].message));
        if (got.class != worded[i].class || got.status != worded[i].status)
            fail_msg("%d %s %s: %s", worded[i].status, worded[i].code, worded[i].message,
                     sj_class_name(got.class));
    }
    CHECK(judge(answered(400, "context_length_exceeded", "")), SJ_CLASS_TOO_LONG, SJ_EFFECT_SUCCESS, NEXT,
          "too_long");
    CHECK(judge(answered(400, "content_filter", "")), SJ_CLASS_REFUSED, SJ_EFFECT_SUCCESS, 0, "refused");
    CHECK(judge(answered(404, "model_not_found", "")), SJ_CLASS_NO_MODEL, SJ_EFFECT_NEUTRAL, NEXT,
          "no_model");
    CHECK(judge(answered(429, "insufficient_quota", "")), SJ_CLASS_QUOTA, SJ_EFFECT_NEUTRAL, NEXT, "quota");
}

static void a_request_larger_than_a_minute_allows_is_not_repeated(void **state) {
    (void)state;
    const char *openai = "Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit "
                         "30000, Requested 342389.";
    const char *groq =
        "Request too large for model `llama` on tokens per minute (TPM): Limit 6000, Requested 6294";
    CHECK(judge(answered(429, "rate_limit_exceeded", openai)), SJ_CLASS_THROTTLED, SJ_EFFECT_NEUTRAL, NEXT,
          "too_large_for_rate");
    CHECK(judge(answered(413, "rate_limit_exceeded", groq)), SJ_CLASS_THROTTLED, SJ_EFFECT_NEUTRAL, NEXT,
          "too_large_for_rate");
}

static sj_attempt_facts found(sj_finding finding, const char *code) {
    return (sj_attempt_facts){.end = SJ_END_WHOLE,
                              .status = 200,
                              .generation = true,
                              .inspected = true,
                              .finding = finding,
                              .error_code = code};
}

static void error_objects_in_a_200(void **state) {
    (void)state;
    static const struct {
        const char *code;
        sj_class class;
        sj_effect breaker;
        int flags, status;
        const char *reason;
    } rows[] = {
        {"rate_limit_exceeded", SJ_CLASS_THROTTLED, SJ_EFFECT_FAILURE, RETRY | NEXT, 429, "error:rate_limit"},
        {"server_error", SJ_CLASS_FAILING, SJ_EFFECT_FAILURE, RETRY | NEXT, 500, "error:server_error"},
        {"overloaded_error", SJ_CLASS_FAILING, SJ_EFFECT_FAILURE, RETRY | NEXT, 503, "error:overloaded"},
        {"Insufficient_Capacity", SJ_CLASS_FAILING, SJ_EFFECT_FAILURE, RETRY | NEXT, 503, "error:capacity"},
        {"timeout", SJ_CLASS_FAILING, SJ_EFFECT_FAILURE, RETRY | NEXT | STEP, 504, "error:timeout"},
        {"502", SJ_CLASS_FAILING, SJ_EFFECT_FAILURE, RETRY | NEXT, 502, "error:502"},
        {"429", SJ_CLASS_THROTTLED, SJ_EFFECT_FAILURE, RETRY | NEXT, 429, "error:429"},
        {"400", SJ_CLASS_CALLER, SJ_EFFECT_SUCCESS, 0, 200, "error:400"},
        {"invalid value, with spaces and more than fits", SJ_CLASS_CALLER, SJ_EFFECT_SUCCESS, 0, 200,
         "error:invalid_value__with_space"},
        {"", SJ_CLASS_CALLER, SJ_EFFECT_SUCCESS, 0, 200, "error"},
        {NULL, SJ_CLASS_CALLER, SJ_EFFECT_SUCCESS, 0, 200, "error"},
        {"context_length_exceeded", SJ_CLASS_TOO_LONG, SJ_EFFECT_SUCCESS, NEXT, 200, "too_long"},
        {"insufficient_quota", SJ_CLASS_QUOTA, SJ_EFFECT_NEUTRAL, NEXT, 200, "quota"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        sj_verdict got = judge(found(SJ_FINDING_ERROR, rows[i].code));
        CHECK(got, rows[i].class, rows[i].breaker, rows[i].flags, rows[i].reason);
        assert_int_equal(got.status, rows[i].status);
    }
}

static void answers_that_are_no_answer(void **state) {
    (void)state;
    CHECK(judge(found(SJ_FINDING_GOOD, "")), SJ_CLASS_SUCCESS, SJ_EFFECT_SUCCESS, 0, "200");
    CHECK(judge(found(SJ_FINDING_EMPTY, "")), SJ_CLASS_MALFORMED, SJ_EFFECT_FAILURE, RETRY | NEXT, "empty");
    CHECK(judge(found(SJ_FINDING_NOT_JSON, "")), SJ_CLASS_MALFORMED, SJ_EFFECT_FAILURE, RETRY | NEXT,
          "not_json");
    CHECK(judge(found(SJ_FINDING_TRUNCATED, "")), SJ_CLASS_MALFORMED, SJ_EFFECT_FAILURE, RETRY | NEXT,
          "truncated");
    sj_attempt_facts stream = answered(200, "", "");
    stream.stream_incomplete = true;
    CHECK(judge(stream), SJ_CLASS_MALFORMED, SJ_EFFECT_FAILURE, RETRY | NEXT, "incomplete");
    sj_attempt_facts opaque = found(SJ_FINDING_EMPTY, "");
    opaque.inspected = false;
    CHECK(judge(opaque), SJ_CLASS_SUCCESS, SJ_EFFECT_SUCCESS, 0, "200");
}

static void upstreams_own_word_overrides(void **state) {
    (void)state;
    sj_attempt_facts facts = answered(503, "", "");
    facts.should_retry = SJ_SHOULD_RETRY_NO;
    CHECK(judge(facts), SJ_CLASS_FAILING, SJ_EFFECT_FAILURE, NEXT, "503");
    facts = answered(400, "", "");
    facts.should_retry = SJ_SHOULD_RETRY_YES;
    CHECK(judge(facts), SJ_CLASS_CALLER, SJ_EFFECT_SUCCESS, RETRY, "400");
    facts = answered(501, "", "");
    facts.should_retry = SJ_SHOULD_RETRY_YES;
    CHECK(judge(facts), SJ_CLASS_FAILING, SJ_EFFECT_FAILURE, RETRY, "501");
    facts = answered(400, "context_length_exceeded", "");
    facts.should_retry = SJ_SHOULD_RETRY_YES;
    CHECK(judge(facts), SJ_CLASS_TOO_LONG, SJ_EFFECT_SUCCESS, NEXT, "too_long");
    facts = answered(200, "", "");
    facts.should_retry = SJ_SHOULD_RETRY_YES;
    CHECK(judge(facts), SJ_CLASS_SUCCESS, SJ_EFFECT_SUCCESS, 0, "200");
    facts =
        (sj_attempt_facts){.end = SJ_END_NO_ANSWER, .generation = true, .should_retry = SJ_SHOULD_RETRY_NO};
    assert_true(judge(facts).retry_here);
}

static void operators_rules_hold(void **state) {
    (void)state;
    static const char *const codes[] = {"flaky"};
    sj_verdict_rules rules = {
        .error_codes = codes, .error_code_count = 1, .retry_conflict = true, .fallback_on_refusal = true};
    sj_status_set_add(&rules.statuses, 404, 404);
    sj_status_set_add(&rules.statuses, 200, 200);
    sj_attempt_facts facts = answered(404, "", "");
    CHECK(sj_verdict_of(&facts, &rules), SJ_CLASS_FAILING, SJ_EFFECT_FAILURE, RETRY | NEXT, "404");
    facts = answered(200, "", "");
    CHECK(sj_verdict_of(&facts, &rules), SJ_CLASS_SUCCESS, SJ_EFFECT_SUCCESS, 0, "200");
    facts = answered(409, "", "");
    CHECK(sj_verdict_of(&facts, &rules), SJ_CLASS_CALLER, SJ_EFFECT_SUCCESS, RETRY, "409");
    facts = answered(400, "content_filter", "");
    CHECK(sj_verdict_of(&facts, &rules), SJ_CLASS_REFUSED, SJ_EFFECT_SUCCESS, NEXT, "refused");
    facts = answered(429, "", "");
    CHECK(sj_verdict_of(&facts, &rules), SJ_CLASS_THROTTLED, SJ_EFFECT_NEUTRAL, 0, "429");
    facts = answered(503, "", "");
    CHECK(sj_verdict_of(&facts, &rules), SJ_CLASS_FAILING, SJ_EFFECT_FAILURE, 0, "503");
    facts.end = SJ_END_BROKEN;
    CHECK(sj_verdict_of(&facts, &rules), SJ_CLASS_MALFORMED, SJ_EFFECT_FAILURE, RETRY | NEXT, "broken");
    facts = found(SJ_FINDING_ERROR, "server_error");
    CHECK(sj_verdict_of(&facts, &rules), SJ_CLASS_CALLER, SJ_EFFECT_SUCCESS, 0, "error:server_error");
    facts = found(SJ_FINDING_ERROR, "very_flaky");
    CHECK(sj_verdict_of(&facts, &rules), SJ_CLASS_FAILING, SJ_EFFECT_FAILURE, RETRY | NEXT, "error:flaky");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_sets),
        cmocka_unit_test(statuses),
        cmocka_unit_test(ends_without_an_answer),
        cmocka_unit_test(wordings_of_error_answers),
        cmocka_unit_test(a_request_larger_than_a_minute_allows_is_not_repeated),
        cmocka_unit_test(error_objects_in_a_200),
        cmocka_unit_test(answers_that_are_no_answer),
        cmocka_unit_test(upstreams_own_word_overrides),
        cmocka_unit_test(operators_rules_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
