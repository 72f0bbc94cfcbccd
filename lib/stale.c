#include "stale.h"

#include "text.h"

#include <stdlib.h>

enum { AGE_MAX_S = 1 << 30 };

static const char target_field[] = "x-stormjib-target";

static bool is(sj_slice a, const char *b) {
    return sj_slice_equal_nocase(a, sj_slice_of(b));
}

static bool starts(sj_slice text, const char *prefix) {
    size_t n = strlen(prefix);
    return text.n >= n && is((sj_slice){text.p, n}, prefix);
}

// ---- the request ----------------------------------------------------------------------------------------

bool sj_stale_is_repeatable(sj_slice path, const sj_request_facts *facts) {
    sj_slice end = SJ_SLICE("/embeddings");
    while (path.n && path.p[path.n - 1] == '/')
        path.n--;
    bool embeddings = path.n >= end.n && sj_slice_equal(sj_slice_from(path, path.n - end.n), end);
    return facts->is_object && !facts->background && (facts->deterministic || embeddings);
}

// The next element of a comma-separated list, without the white space around it.
static bool next_element(sj_slice *list, sj_slice *element) {
    if (!list->n)
        return false;
    size_t n = 0;
    while (n < list->n && list->p[n] != ',')
        n++;
    *element = sj_slice_trim((sj_slice){list->p, n});
    *list = sj_slice_from(*list, n < list->n ? n + 1 : n);
    return true;
}

sj_stale_wish sj_stale_wish_of(const sj_headers *request) {
    sj_stale_wish wish = {true, true};
    for (size_t i = 0; i < request->count; i++) {
        sj_header field = sj_headers_at(request, i);
        sj_slice element;
        while (is(field.name, "Cache-Control") && next_element(&field.value, &element)) {
            bool no_store = is(element, "no-store");
            wish.may_keep &= !no_store;
            wish.may_serve &= !no_store && !is(element, "no-cache");
        }
    }
    return wish;
}

static const char *const identity_fields[] = {"Authorization", "api-key", "x-api-key", "x-goog-api-key",
                                              NULL};
static const char *const cookie_field[] = {"Cookie", NULL};
static const char *const question_fields[] = {"Accept",
                                              "Accept-Encoding",
                                              "Accept-Language",
                                              "Origin",
                                              "Access-Control-Request-Method",
                                              "Access-Control-Request-Headers",
                                              "OpenAI-Beta",
                                              "anthropic-version",
                                              "anthropic-beta",
                                              "OpenAI-Organization",
                                              "OpenAI-Project",
                                              "Content-Encoding",
                                              NULL};

// Every field of these names, in the order of the names: one line each.
static bool add_fields(const sj_headers *request, const char *const *names, sj_buffer *out) {
    bool ok = true;
    for (; *names; names++) {
        for (size_t i = 0; ok && i < request->count; i++) {
            sj_header field = sj_headers_at(request, i);
            if (is(field.name, *names))
                ok = sj_buffer_text(out, *names) && sj_buffer_text(out, ":") &&
                     sj_buffer_add(out, field.value) && sj_buffer_text(out, "\n");
        }
    }
    return ok;
}

bool sj_stale_identity(const sj_headers *request, sj_buffer *out) {
    size_t before = out->n;
    // Beside a key a cookie only says which server was asked last, and changes with every answer.
    return add_fields(request, identity_fields, out) &&
           (out->n > before || add_fields(request, cookie_field, out));
}

bool sj_stale_question(sj_slice target, const sj_headers *request, sj_buffer *out) {
    return sj_buffer_add(out, target) && sj_buffer_text(out, "\n") &&
           add_fields(request, question_fields, out);
}

// ---- the answer -----------------------------------------------------------------------------------------

// For that moment, or for that client's cookie jar.
static bool is_of_the_moment(sj_slice name) {
    static const char *const names[] = {
        "Set-Cookie",          "Set-Cookie2",    "Retry-After",   "retry-after-ms",
        "x-ms-retry-after-ms", "x-should-retry", "Server-Timing", "RateLimit"};
    static const char *const families[] = {"x-ratelimit-", "anthropic-ratelimit-", "RateLimit-",
                                           "x-stormjib-"};
    bool found = false;
    for (size_t i = 0; !found && i < sizeof names / sizeof names[0]; i++)
        found = is(name, names[i]);
    for (size_t i = 0; !found && i < sizeof families / sizeof families[0]; i++)
        found = starts(name, families[i]);
    return found;
}

static bool is_one_of(sj_slice name, const char *const *names) {
    while (*names && !is(name, *names))
        names++;
    return *names != NULL;
}

// RFC 9111 4.1: what the answer varies with must be part of the question.
static bool varies_otherwise(sj_slice vary) {
    sj_slice name;
    while (next_element(&vary, &name))
        if (name.n && !is_one_of(name, question_fields) && !is_one_of(name, identity_fields))
            return true;
    return false;
}

// Another stormjib's stand-in, or an answer to more than the question.
static bool is_unfit(sj_header field) {
    return is(field.name, "x-stormjib-degraded") || (is(field.name, "Vary") && varies_otherwise(field.value));
}

bool sj_stale_keep(const sj_headers *answer, const char *target, sj_headers *out) {
    bool ok = sj_headers_add(out, sj_slice_of(target_field), sj_slice_of(target));
    for (size_t i = 0; ok && i < answer->count; i++) {
        sj_header field = sj_headers_at(answer, i);
        ok = !is_unfit(field) &&
             (is_of_the_moment(field.name) || sj_headers_add(out, field.name, field.value));
    }
    return ok;
}

// What is no number is none; what is beyond all sense is cut (RFC 9111 1.2.2).
static int64_t age_before(const sj_headers *headers) {
    sj_slice text = sj_headers_get(headers, "Age");
    int64_t age = 0;
    for (size_t i = 0; i < text.n && age < AGE_MAX_S; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return 0;
        age = age * 10 + (text.p[i] - '0');
    }
    return age < AGE_MAX_S ? age : AGE_MAX_S;
}

int64_t sj_stale_age_s(const sj_stored_answer *answer, int64_t now_ms) {
    int64_t here_ms = now_ms - answer->stored_ms; // workers' clocks differ by a turn of their loops
    return age_before(&answer->headers) + (here_ms > 0 ? here_ms / 1000 : 0);
}

void sj_stale_status(int64_t age_s, const char *detail, char out[SJ_STALE_STATUS]) {
    sj_text text = sj_text_into(out, SJ_STALE_STATUS);
    sj_text_put(&text, "stormjib; hit; ttl=");
    sj_text_int(&text, -age_s);
    sj_text_put(&text, "; detail=");
    sj_text_put(&text, detail);
}

bool sj_stale_serve(const sj_stored_answer *answer, const char *detail, int64_t now_ms, sj_headers *out,
                    char *target) {
    int64_t age_s = sj_stale_age_s(answer, now_ms);
    char status[SJ_STALE_STATUS], digits[24];
    sj_text text = sj_text_into(digits, sizeof digits), where = sj_text_into(target, SJ_STALE_TARGET);
    sj_text_int(&text, age_s);
    sj_stale_status(age_s, detail, status);
    bool ok = true;
    for (size_t i = 0; ok && i < answer->headers.count; i++) {
        sj_header field = sj_headers_at(&answer->headers, i);
        if (is(field.name, target_field))
            sj_text_add(&where, field.value);
        else if (!is(field.name, "Age"))
            ok = sj_headers_add(out, field.name, field.value);
    }
    return ok && sj_headers_add(out, SJ_SLICE("Age"), sj_slice_of(digits)) &&
           sj_headers_add(out, SJ_SLICE("Cache-Status"), sj_slice_of(status));
}

const char *sj_stale_detail(sj_refusal refusal) {
    static const char *const details[SJ_REFUSAL_COUNT] = {
        [SJ_REFUSAL_UPSTREAM_UNREACHABLE] = "unreachable",
        [SJ_REFUSAL_MAX_RETRIES_EXCEEDED] = "retries-exhausted",
        [SJ_REFUSAL_CIRCUIT_OPEN] = "breaker-open",
        [SJ_REFUSAL_QUEUE_FULL] = "queue-full",
        [SJ_REFUSAL_QUEUE_TIMEOUT] = "queue-timeout",
        [SJ_REFUSAL_OVERLOADED] = "overloaded",
        [SJ_REFUSAL_TIMEOUT_MAX_RETRIES] = "timeout",
        [SJ_REFUSAL_DEADLINE_EXCEEDED] = "deadline",
    };
    return (size_t)refusal < SJ_REFUSAL_COUNT ? details[refusal] : NULL;
}
