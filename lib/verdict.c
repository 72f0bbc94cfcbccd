#include "verdict.h"

#include "text.h"

#include <assert.h>
#include <stdio.h>

#define COUNT(rows) (sizeof(rows) / sizeof *(rows))

// ---- status sets ------------------------------------------------------------------------------------------------------------

#define STATUS_BIT(status) (1u << ((status) % 8))

void sj_status_set_add(sj_status_set *set, int from, int to) {
    for (int status = from < 0 ? 0 : from; status <= to && status < 1000; status++)
        set->bits[status / 8] = (unsigned char)(set->bits[status / 8] | STATUS_BIT(status));
}

bool sj_status_set_has(const sj_status_set *set, int status) {
    return status >= 0 && status < 1000 && set->bits[status / 8] & STATUS_BIT(status);
}

static const char *const default_error_codes[] = {"rate_limit", "server_error", "timeout", "capacity",
                                                  "overloaded"};

const sj_verdict_rules sj_verdict_rules_default = {
    .statuses.bits =
        {
            [408 / 8] = STATUS_BIT(408),
            [429 / 8] = STATUS_BIT(429),
            [500 / 8] = STATUS_BIT(500) | STATUS_BIT(502) | STATUS_BIT(503),
            [504 / 8] = STATUS_BIT(504),
            [520 / 8] = 0xff,
            [528 / 8] = STATUS_BIT(528) | STATUS_BIT(529),
        },
    .error_codes = default_error_codes,
    .error_code_count = COUNT(default_error_codes),
};

// ---- the table of BEHAVIOUR 3 -----------------------------------------------------------------------------------------------

typedef struct class_row {
    const char *name;
    sj_effect breaker;
    bool retry_here, next_target, free_retry, own_side, alert;
} class_row;

static const class_row rows[] = {
    [SJ_CLASS_SUCCESS] = {.name = "success", .breaker = SJ_EFFECT_SUCCESS},
    [SJ_CLASS_CALLER] = {.name = "caller", .breaker = SJ_EFFECT_SUCCESS},
    [SJ_CLASS_TOO_LONG] = {.name = "too_long", .breaker = SJ_EFFECT_SUCCESS, .next_target = true},
    [SJ_CLASS_REFUSED] = {.name = "refused", .breaker = SJ_EFFECT_SUCCESS},
    [SJ_CLASS_CREDENTIAL] = {.name = "credential", .breaker = SJ_EFFECT_NEUTRAL, .alert = true},
    [SJ_CLASS_QUOTA] = {.name = "quota", .breaker = SJ_EFFECT_NEUTRAL, .next_target = true},
    [SJ_CLASS_NO_MODEL] = {.name = "no_model", .breaker = SJ_EFFECT_NEUTRAL, .next_target = true},
    [SJ_CLASS_FAILING] = {.name = "failing",
                          .breaker = SJ_EFFECT_FAILURE,
                          .retry_here = true,
                          .next_target = true},
    [SJ_CLASS_THROTTLED] = {.name = "throttled",
                            .breaker = SJ_EFFECT_NEUTRAL,
                            .retry_here = true,
                            .next_target = true},
    [SJ_CLASS_NEVER_SENT] = {.name = "never_sent",
                             .breaker = SJ_EFFECT_FAILURE,
                             .retry_here = true,
                             .next_target = true,
                             .free_retry = true,
                             .own_side = true},
    [SJ_CLASS_STALE] = {.name = "stale",
                        .breaker = SJ_EFFECT_NEUTRAL,
                        .retry_here = true,
                        .next_target = true,
                        .free_retry = true},
    [SJ_CLASS_NO_ANSWER] = {.name = "no_answer",
                            .breaker = SJ_EFFECT_FAILURE,
                            .retry_here = true,
                            .next_target = true},
    [SJ_CLASS_TIMED_OUT] = {.name = "timed_out",
                            .breaker = SJ_EFFECT_FAILURE,
                            .retry_here = true,
                            .next_target = true},
    [SJ_CLASS_MALFORMED] = {.name = "malformed",
                            .breaker = SJ_EFFECT_FAILURE,
                            .retry_here = true,
                            .next_target = true},
    [SJ_CLASS_MISCONFIGURED] = {.name = "misconfigured", .breaker = SJ_EFFECT_NEUTRAL, .alert = true},
    [SJ_CLASS_NONE] = {.name = "none", .breaker = SJ_EFFECT_NEUTRAL},
};

const char *sj_class_name(sj_class class) {
    return rows[class].name;
}

// Ends that decide by themselves; SJ_END_WHOLE and SJ_END_BROKEN look at the answer.
static const struct {
    sj_class class;
    const char *reason;
} ends[] = {
    [SJ_END_WHOLE] = {SJ_CLASS_MALFORMED, "no status"},
    [SJ_END_NEVER_SENT] = {SJ_CLASS_NEVER_SENT, "connect"},
    [SJ_END_STALE] = {SJ_CLASS_STALE, "stale"},
    [SJ_END_NO_ANSWER] = {SJ_CLASS_NO_ANSWER, "reset"},
    [SJ_END_BROKEN] = {SJ_CLASS_MALFORMED, "broken"},
    [SJ_END_GARBAGE] = {SJ_CLASS_MALFORMED, "garbage"},
    [SJ_END_TIMED_OUT] = {SJ_CLASS_TIMED_OUT, "timeout"},
    [SJ_END_TLS_UNVERIFIED] = {SJ_CLASS_MISCONFIGURED, "tls"},
    [SJ_END_LOCAL] = {SJ_CLASS_MISCONFIGURED, "local"},
    [SJ_END_CANCELLED] = {SJ_CLASS_NONE, "cancelled"},
};

static const struct {
    sj_finding finding;
    const char *reason;
} malformed[] = {
    {SJ_FINDING_EMPTY, "empty"},
    {SJ_FINDING_NOT_JSON, "not_json"},
    {SJ_FINDING_TRUNCATED, "truncated"},
};

// What a configured part of an error code counts as; codes that stand nowhere here count as 500.
static const struct {
    const char *part;
    int status;
} code_statuses[] = {
    {"rate_limit", 429}, {"rate limit", 429},  {"throttl", 429}, {"too_many", 429},  {"overloaded", 503},
    {"capacity", 503},   {"unavailable", 503}, {"timeout", 504}, {"timed_out", 504},
};

// ---- wordings ---------------------------------------------------------------------------------------------------------------

// Where a class may be recognised by its wording; 200 stands for an error object inside of a 200.
static const struct {
    sj_class class;
    short statuses[6];
} scopes[] = {
    {SJ_CLASS_QUOTA, {200, 400, 402, 403, 429}},
    {SJ_CLASS_TOO_LONG, {200, 400, 413, 422, 500, 503}},
    {SJ_CLASS_REFUSED, {200, 400, 403, 422}},
    {SJ_CLASS_NO_MODEL, {200, 400, 403, 404}},
};

// As the providers (or the gateways before them) put it; parts, without regard to case. All that stand in a row must be there.
// The comment names the one that was seen saying so.
static const struct {
    sj_class class;
    const char *code, *message, *also;
} wordings[] = {
    {SJ_CLASS_QUOTA, "insufficient_quota", NULL, NULL}, // OpenAI
    {SJ_CLASS_QUOTA, "billing_hard_limit", NULL, NULL}, // OpenAI
    {SJ_CLASS_QUOTA, "billing_not_active", NULL, NULL}, // OpenAI
    {SJ_CLASS_QUOTA, "exceeded_current_quota", NULL, NULL}, // Moonshot
    {SJ_CLASS_QUOTA, "insufficient_user_quota", NULL, NULL}, // One API
    {SJ_CLASS_QUOTA, "insufficient_balance", NULL, NULL},
    {SJ_CLASS_QUOTA, "insufficient_credit", NULL, NULL},
    {SJ_CLASS_QUOTA, "arrearage", NULL, NULL}, // DashScope
    {SJ_CLASS_QUOTA, NULL, "credit balance is too low", NULL}, // Anthropic
    {SJ_CLASS_QUOTA, NULL, "insufficient balance", NULL}, // DeepSeek
    {SJ_CLASS_QUOTA, NULL, "insufficient credits", NULL}, // OpenRouter
    {SJ_CLASS_QUOTA, NULL, "used all available credits", NULL}, // xAI
    {SJ_CLASS_QUOTA, NULL, "quota is not enough", NULL}, // One API

    {SJ_CLASS_TOO_LONG, "context_length_exceeded", NULL, NULL}, // OpenAI, Groq
    {SJ_CLASS_TOO_LONG, "context_window_exceeded", NULL, NULL},
    {SJ_CLASS_TOO_LONG, "contextwindowexceeded", NULL, NULL}, // LiteLLM
    {SJ_CLASS_TOO_LONG, "exceed_context_size", NULL, NULL}, // llama.cpp
    {SJ_CLASS_TOO_LONG, "max_prompt_tokens_exceeded", NULL, NULL}, // Copilot
    {SJ_CLASS_TOO_LONG, NULL, "context length",
     NULL}, // OpenAI, vLLM, Mistral, DeepSeek, OpenRouter, Together, Ollama
    {SJ_CLASS_TOO_LONG, NULL, "context window", NULL}, // OpenAI (responses), MiniMax
    {SJ_CLASS_TOO_LONG, NULL, "context limit", NULL}, // Anthropic
    {SJ_CLASS_TOO_LONG, NULL, "context size", NULL}, // llama.cpp
    {SJ_CLASS_TOO_LONG, NULL, "prompt is too long", NULL}, // Anthropic
    {SJ_CLASS_TOO_LONG, NULL, "prompt too long", NULL}, // Ollama
    {SJ_CLASS_TOO_LONG, NULL, "input is too long", NULL}, // Bedrock
    {SJ_CLASS_TOO_LONG, NULL, "too many input tokens", NULL}, // Bedrock
    {SJ_CLASS_TOO_LONG, NULL, "too many tokens", NULL}, // Cohere
    {SJ_CLASS_TOO_LONG, NULL, "maximum number of tokens", NULL}, // Gemini
    {SJ_CLASS_TOO_LONG, NULL, "maximum prompt length", NULL}, // xAI
    {SJ_CLASS_TOO_LONG, NULL, "maximum allowed input length", NULL},
    {SJ_CLASS_TOO_LONG, NULL, "exceeded model token limit", NULL}, // Moonshot
    {SJ_CLASS_TOO_LONG, NULL, "prompt token count", NULL}, // Copilot
    {SJ_CLASS_TOO_LONG, NULL, "range of input length", NULL}, // DashScope
    {SJ_CLASS_TOO_LONG, NULL, "reduce the length of", NULL}, // OpenAI, Groq
    {SJ_CLASS_TOO_LONG, NULL, "token limit exceeded", NULL},

    {SJ_CLASS_REFUSED, "content_filter", NULL, NULL}, // OpenAI, Azure
    {SJ_CLASS_REFUSED, "content_policy", NULL, NULL}, // OpenAI
    {SJ_CLASS_REFUSED, "responsibleaipolicy", NULL, NULL}, // Azure
    {SJ_CLASS_REFUSED, "moderation", NULL, NULL}, // OpenAI images
    {SJ_CLASS_REFUSED, "data_inspection_failed", NULL, NULL}, // DashScope
    {SJ_CLASS_REFUSED, NULL, "content management policy", NULL}, // Azure
    {SJ_CLASS_REFUSED, NULL, "content filtering policy", NULL}, // Anthropic
    {SJ_CLASS_REFUSED, NULL, "content policy", NULL},
    {SJ_CLASS_REFUSED, NULL, "usage polic", NULL}, // OpenAI reasoning models
    {SJ_CLASS_REFUSED, NULL, "safety system", NULL}, // OpenAI images
    {SJ_CLASS_REFUSED, NULL, "input was flagged", NULL}, // OpenRouter
    {SJ_CLASS_REFUSED, NULL, "content exists risk", NULL}, // DeepSeek
    {SJ_CLASS_REFUSED, NULL, "inappropriate content", NULL}, // DashScope

    {SJ_CLASS_NO_MODEL, "model_not_found", NULL, NULL}, // OpenAI, Groq; 403 when the project has no access
    {SJ_CLASS_NO_MODEL, "deploymentnotfound", NULL, NULL}, // Azure
    {SJ_CLASS_NO_MODEL, "model_decommissioned", NULL, NULL}, // Groq
    {SJ_CLASS_NO_MODEL, "invalid_model", NULL, NULL}, // Mistral
    {SJ_CLASS_NO_MODEL, "not_found_error", "model:", NULL}, // Anthropic
    {SJ_CLASS_NO_MODEL, NULL, "model", "does not exist"}, // vLLM, xAI
    {SJ_CLASS_NO_MODEL, NULL, "model", "not found"}, // Ollama, Gemini
    {SJ_CLASS_NO_MODEL, NULL, "model not exist", NULL}, // DeepSeek
    {SJ_CLASS_NO_MODEL, NULL, "invalid model", NULL}, // Mistral, LiteLLM
    {SJ_CLASS_NO_MODEL, NULL, "not a valid model", NULL}, // OpenRouter
    {SJ_CLASS_NO_MODEL, NULL, "no endpoints found", NULL}, // OpenRouter
    {SJ_CLASS_NO_MODEL, NULL, "unable to access model", NULL}, // Together
    {SJ_CLASS_NO_MODEL, NULL, "model identifier is invalid", NULL}, // Bedrock
};

static bool says(const char *text, const char *part) {
    return !part || (text && *text && strcasestr(text, part));
}

static bool in_scope(sj_class class, int status) {
    for (size_t i = 0; i < COUNT(scopes); i++)
        for (size_t k = 0; scopes[i].class == class && k < COUNT(scopes[i].statuses); k++)
            if (scopes[i].statuses[k] == status)
                return true;
    return false;
}

// A rate limit whose wording speaks of tokens is no matter of context.
static bool speaks_of_rate(const sj_attempt_facts *facts) {
    return says(facts->error_message, "per min") || says(facts->error_message, "rate limit") ||
           says(facts->error_code, "rate_limit") || says(facts->error_message, "please wait");
}

// More in one request than is allowed in a minute (OpenAI 429, Groq 413): waiting does not help, a target with another limit does.
static bool never_fits_the_rate(const sj_attempt_facts *facts) {
    return says(facts->error_message, "request too large") && speaks_of_rate(facts);
}

// SJ_CLASS_NONE: nothing known. status: 200 for an error object inside of a 200.
static sj_class class_of_wording(const sj_attempt_facts *facts, int status) {
    for (size_t i = 0; i < COUNT(wordings); i++)
        if (in_scope(wordings[i].class, status) && says(facts->error_code, wordings[i].code) &&
            says(facts->error_message, wordings[i].message) && says(facts->error_message, wordings[i].also) &&
            !(wordings[i].class == SJ_CLASS_TOO_LONG && speaks_of_rate(facts)))
            return wordings[i].class;
    return SJ_CLASS_NONE;
}

// ---- verdicts ---------------------------------------------------------------------------------------------------------------

static sj_verdict verdict_as(sj_class class, int status, const char *reason) {
    const class_row *row = &rows[class];
    sj_verdict verdict = {
        .class = class,
        .breaker = row->breaker,
        .retry_here = row->retry_here,
        .next_target = row->next_target,
        .free_retry = row->free_retry,
        .own_side = row->own_side,
        .alert = row->alert,
        .status = status,
    };
    sj_text_copy(verdict.reason, sizeof verdict.reason, reason);
    return verdict;
}

static sj_verdict as_status(sj_class class, int status) {
    char reason[16];
    sj_text text = sj_text_into(reason, sizeof reason);
    sj_text_int(&text, status);
    return verdict_as(class, status, reason);
}

static sj_verdict never_fits(int status) {
    sj_verdict verdict = verdict_as(SJ_CLASS_THROTTLED, status, "too_large_for_rate");
    verdict.retry_here = false;
    return verdict;
}

static sj_verdict of_end(const sj_attempt_facts *facts) {
    return verdict_as(ends[facts->end].class, facts->status, ends[facts->end].reason);
}

// The class of a status that is retried.
static sj_class retried_class(int status) {
    return status == 429 ? SJ_CLASS_THROTTLED : SJ_CLASS_FAILING;
}

static bool is_retried(const sj_verdict_rules *rules, int status) {
    return status >= 400 && sj_status_set_has(&rules->statuses, status);
}

static sj_verdict of_error_status(const sj_attempt_facts *facts, const sj_verdict_rules *rules) {
    int status = facts->status;
    if ((status == 413 || status == 429) && never_fits_the_rate(facts))
        return never_fits(status);
    sj_class worded = class_of_wording(facts, status);
    if (worded != SJ_CLASS_NONE)
        return verdict_as(worded, status, rows[worded].name);
    if (is_retried(rules, status))
        return as_status(retried_class(status), status);
    if (status == 413 && says(facts->error_code, "rate_limit"))
        return as_status(SJ_CLASS_THROTTLED, status);
    if (status == 401 || status == 403)
        return as_status(SJ_CLASS_CREDENTIAL, status);
    if (status == 402)
        return as_status(SJ_CLASS_QUOTA, status);
    if (status != 429 && status < 500) {
        sj_verdict verdict = as_status(SJ_CLASS_CALLER, status);
        verdict.retry_here = status == 409 && rules->retry_conflict;
        return verdict;
    }
    // Failing or throttled, but not among the statuses that the operator wants retried.
    sj_verdict verdict = as_status(retried_class(status), status);
    verdict.retry_here = verdict.next_target = false;
    return verdict;
}

static int status_of_code(const char *code) {
    for (size_t i = 0; i < COUNT(code_statuses); i++)
        if (says(code, code_statuses[i].part))
            return code_statuses[i].status;
    return 500;
}

// A code that is a status in digits (OpenRouter); 0: it is none.
static int status_in_digits(const char *code) {
    if (!code || strlen(code) != 3 || strspn(code, "0123456789") != 3)
        return 0;
    return (code[0] - '0') * 100 + (code[1] - '0') * 10 + (code[2] - '0');
}

// An error object's code as one short word.
static void put_error_reason(sj_verdict *verdict, const char *code) {
    (void)snprintf(verdict->reason, sizeof verdict->reason, code && *code ? "error:%s" : "error", code);
    for (char *p = verdict->reason; *p; p++)
        if (!memchr("_-.:", *p, 4) && !(*p >= '0' && *p <= '9') &&
            !((*p | 0x20) >= 'a' && (*p | 0x20) <= 'z'))
            *p = '_';
}

static sj_verdict of_failing_code(int status, const char *word) {
    sj_verdict verdict = verdict_as(retried_class(status), status, "");
    verdict.breaker = SJ_EFFECT_FAILURE;
    put_error_reason(&verdict, word);
    return verdict;
}

// An error object where a 200 promised an answer.
static sj_verdict of_error_object(const sj_attempt_facts *facts, const sj_verdict_rules *rules) {
    if (never_fits_the_rate(facts))
        return never_fits(429);
    sj_class worded = class_of_wording(facts, 200);
    if (worded != SJ_CLASS_NONE)
        return verdict_as(worded, facts->status, rows[worded].name);
    for (size_t i = 0; i < rules->error_code_count; i++)
        if (*rules->error_codes[i] && facts->error_code && says(facts->error_code, rules->error_codes[i]))
            return of_failing_code(status_of_code(facts->error_code), rules->error_codes[i]);
    int status = status_in_digits(facts->error_code);
    if (is_retried(rules, status))
        return of_failing_code(status, facts->error_code);
    sj_verdict verdict = verdict_as(SJ_CLASS_CALLER, facts->status, "");
    put_error_reason(&verdict, facts->error_code);
    return verdict;
}

static sj_verdict of_good_status(const sj_attempt_facts *facts, const sj_verdict_rules *rules) {
    if (facts->inspected && facts->finding == SJ_FINDING_ERROR)
        return of_error_object(facts, rules);
    for (size_t i = 0; facts->inspected && i < COUNT(malformed); i++)
        if (facts->finding == malformed[i].finding)
            return verdict_as(SJ_CLASS_MALFORMED, facts->status, malformed[i].reason);
    if (facts->stream_incomplete)
        return verdict_as(SJ_CLASS_MALFORMED, facts->status, "incomplete");
    return as_status(SJ_CLASS_SUCCESS, facts->status);
}

static sj_verdict of_answer(const sj_attempt_facts *facts, const sj_verdict_rules *rules) {
    bool has_head = facts->status >= 200;
    // A 503 that was cut short is a 503; of any other answer the rest is missed.
    bool decides =
        facts->end == SJ_END_WHOLE || (facts->end == SJ_END_BROKEN && is_retried(rules, facts->status));
    if (!has_head || !decides)
        return of_end(facts);
    return facts->status >= 400   ? of_error_status(facts, rules)
           : facts->status >= 300 ? as_status(SJ_CLASS_SUCCESS, facts->status)
                                  : of_good_status(facts, rules);
}

sj_verdict sj_verdict_of(const sj_attempt_facts *facts, const sj_verdict_rules *rules) {
    assert((size_t)facts->end < COUNT(ends));
    sj_verdict verdict = of_answer(facts, rules);
    verdict.extra_step = verdict.class == SJ_CLASS_FAILING && verdict.status == 504;
    if (verdict.class == SJ_CLASS_REFUSED)
        verdict.next_target = rules->fallback_on_refusal;
    if (!facts->generation)
        verdict.next_target = false;
    bool answered = facts->end == SJ_END_WHOLE || facts->end == SJ_END_BROKEN;
    if (answered && facts->should_retry == SJ_SHOULD_RETRY_NO)
        verdict.retry_here = false;
    if (answered && facts->should_retry == SJ_SHOULD_RETRY_YES && facts->status >= 400)
        verdict.retry_here = verdict.class != SJ_CLASS_TOO_LONG;
    return verdict;
}

bool sj_class_is_callers(sj_class class) {
    switch (class) {
    case SJ_CLASS_CALLER:
    case SJ_CLASS_TOO_LONG:
    case SJ_CLASS_REFUSED:
    case SJ_CLASS_CREDENTIAL:
    case SJ_CLASS_NO_MODEL:
        return true;
    default:
        return false;
    }
}
