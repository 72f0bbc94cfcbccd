// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include "stale.h"

#include <stdio.h>
#include <stdlib.h>

// "Name: value\nName: value\n"
static sj_headers headers_of(const char *text) {
    sj_headers headers;
    sj_headers_init(&headers);
    while (*text) {
        const char *colon = strchr(text, ':'), *end = strchr(text, '\n');
        assert_true(sj_headers_add(&headers, (sj_slice){text, (size_t)(colon - text)},
                                   sj_slice_trim((sj_slice){colon + 1, (size_t)(end - colon - 1)})));
        text = end + 1;
    }
    return headers;
}

static void is_text(sj_headers *headers, const char *expected) {
    char text[1024] = "";
    for (size_t i = 0; i < headers->count; i++) {
        sj_header field = sj_headers_at(headers, i);
        size_t n = strlen(text);
        (void)snprintf(text + n, sizeof text - n, "%s: %s\n", field.name.p, field.value.p);
    }
    assert_string_equal(text, expected);
    sj_headers_free(headers);
}

static void repeatable_questions(void **unused) {
    (void)unused;
    static const struct {
        const char *path, *body;
        bool repeatable;
    } rows[] = {
        {"/v1/chat/completions", "{\"temperature\":0}", true},
        {"/v1/chat/completions", "{\"temperature\":0.0}", true},
        {"/v1/chat/completions", "{\"temperature\":0.1}", false},
        {"/v1/chat/completions", "{}", false},
        {"/v1/chat/completions", "[]", false},
        {"/v1/chat/completions", "", false},
        {"/v1/responses", "{\"temperature\":0,\"background\":true}", false},
        {"/v1/embeddings", "{}", true},
        {"/v1/embeddings/", "{}", true},
        {"/embeddings", "{}", true},
        {"/v1/embeddings", "\"text\"", false},
        {"/v1/my-embeddings", "{}", false},
        {"/v1/embeddings/x", "{}", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        sj_request_facts facts;
        sj_request_facts_read(sj_slice_of(rows[i].body), &facts);
        if (sj_stale_is_repeatable(sj_slice_of(rows[i].path), &facts) != rows[i].repeatable)
            fail_msg("%s %s", rows[i].path, rows[i].body);
    }
}

static void what_the_client_wishes(void **unused) {
    (void)unused;
    static const struct {
        const char *fields;
        bool keep, serve;
    } rows[] = {
        {"", true, true},
        {"Cache-Control: max-age=0\n", true, true},
        {"cache-control: no-store\n", false, false},
        {"Cache-Control: no-cache\n", true, false},
        {"Cache-Control: max-age=0 ,\t No-Store\n", false, false},
        {"Cache-Control: x\nCache-Control: no-cache\n", true, false},
        {"Cache-Control: ,,no-cache=\"x\",not-no-store,\n", true, true},
        {"Pragma: no-cache\n", true, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        sj_headers request = headers_of(rows[i].fields);
        sj_stale_wish wish = sj_stale_wish_of(&request);
        if (wish.may_keep != rows[i].keep || wish.may_serve != rows[i].serve)
            fail_msg("%s", rows[i].fields);
        sj_headers_free(&request);
    }
}

static void question_is(const char *fields, const char *question, const char *identity) {
    sj_headers request = headers_of(fields);
    sj_buffer a = sj_buffer_with_max(1024), b = sj_buffer_with_max(1024);
    assert_true(sj_stale_question(SJ_SLICE("/v1/x?y"), &request, &a));
    assert_true(sj_stale_identity(&request, &b));
    assert_true(sj_slice_equal(sj_buffer_slice(&a), sj_slice_of(question)));
    assert_true(sj_slice_equal(sj_buffer_slice(&b), sj_slice_of(identity)));
    sj_buffer_free(&a);
    sj_buffer_free(&b);
    sj_headers_free(&request);
}

static void who_asks_what(void **unused) {
    (void)unused;
    question_is("", "/v1/x?y\n", "");
    question_is("User-Agent: x\nx-stainless-retry-count: 2\n", "/v1/x?y\n", "");
    question_is("authorization: Bearer a\nAccept-encoding: gzip\nAPI-KEY: b\nAccept-Encoding: br\n",
                "/v1/x?y\nAccept-Encoding:gzip\nAccept-Encoding:br\n", "Authorization:Bearer a\napi-key:b\n");
    question_is("Cookie: a=b\nx-api-key: k\n", "/v1/x?y\n", "x-api-key:k\n");
    question_is("Cookie: a=b\n", "/v1/x?y\n", "Cookie:a=b\n");
    sj_headers request = headers_of("Authorization: Bearer of bad news\n");
    sj_buffer small = sj_buffer_with_max(16);
    assert_false(sj_stale_identity(&request, &small));
    sj_buffer_free(&small);
    sj_headers_free(&request);
}

static void what_is_kept_of_an_answer(void **unused) {
    (void)unused;
    sj_headers answer = headers_of(
        "Content-Type: application/json\nSet-Cookie: a=b\nX-RateLimit-Remaining: 1\nx-request-id: r\n"
        "RateLimit: x\nRateLimit-Policy: x\nretry-after: 1\nx-should-retry: true\nx-stormjib-trail: t\n"
        "anthropic-ratelimit-x: 1\nVary: Accept-Encoding\nAge: 7\n");
    sj_headers out;
    sj_headers_init(&out);
    assert_true(sj_stale_keep(&answer, "up/m", &out));
    is_text(&out, "x-stormjib-target: up/m\nContent-Type: application/json\nx-request-id: r\nVary: "
                  "Accept-Encoding\nAge: 7\n");
    sj_headers_free(&answer);
    static const struct {
        const char *field;
        bool kept;
    } rows[] = {
        {"Vary: *\n", false},
        {"Vary: Origin, X-Tenant\n", false},
        {"Vary: x-tenant\n", false},
        {"Vary: Origin,Access-Control-Request-Method , accept-encoding,\n", true},
        {"Vary: authorization\n", true},
        {"Vary: Cookie\n", false},
        {"Vary:\n", true},
        {"X-Stormjib-Degraded: true\n", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        answer = headers_of(rows[i].field);
        sj_headers_init(&out);
        if (sj_stale_keep(&answer, "up/m", &out) != rows[i].kept)
            fail_msg("%s", rows[i].field);
        sj_headers_free(&out);
        sj_headers_free(&answer);
    }
}

static void served_as_the_rfcs_say(void **unused) {
    (void)unused;
    sj_stored_answer stored = {.stored_ms = 10000,
                               .headers =
                                   headers_of("x-stormjib-target: up/m\nDate: d\nCache-Status: far; hit\n")};
    char target[SJ_STALE_TARGET];
    sj_headers out;
    sj_headers_init(&out);
    assert_true(sj_stale_serve(&stored, "breaker-open", 10000 + 412999, &out, target));
    assert_string_equal(target, "up/m");
    is_text(&out, "Date: d\nCache-Status: far; hit\nAge: 412\nCache-Status: stormjib; hit; ttl=-412; "
                  "detail=breaker-open\n");
    assert_int_equal(sj_stale_age_s(&stored, 9000), 0); // another worker's clock
    sj_headers_init(&out);
    assert_true(sj_stale_serve(&stored, "deadline", 10000, &out, target));
    is_text(&out,
            "Date: d\nCache-Status: far; hit\nAge: 0\nCache-Status: stormjib; hit; ttl=0; detail=deadline\n");
    sj_headers_free(&stored.headers);
}

static void an_age_of_its_own_counts(void **unused) {
    (void)unused;
    static const struct {
        const char *field;
        int64_t age_s;
    } rows[] = {
        {"Age: 100\n", 103},
        {"age: 0\n", 3},
        {"Age: x\n", 3},
        {"Age: 1x\n", 3},
        {"Age: -5\n", 3},
        {"Age: \n", 3},
        {"Age: 99999999999999999999\n", (1 << 30) + 3},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        sj_stored_answer stored = {.stored_ms = 0, .headers = headers_of(rows[i].field)};
        assert_int_equal(sj_stale_age_s(&stored, 3999), rows[i].age_s);
        sj_headers_free(&stored.headers);
    }
}

// RFC 9211 2: a token of RFC 8941 begins with a letter.
static void details_are_tokens_and_errors_of_callers_have_none(void **unused) {
    (void)unused;
    static const sj_refusal callers[] = {
        SJ_REFUSAL_NONE,           SJ_REFUSAL_BAD_REQUEST,     SJ_REFUSAL_UNAUTHORIZED, SJ_REFUSAL_NOT_FOUND,
        SJ_REFUSAL_BODY_TOO_LARGE, SJ_REFUSAL_NOT_IMPLEMENTED, SJ_REFUSAL_STREAM_BROKEN};
    for (size_t i = 0; i < sizeof callers / sizeof callers[0]; i++)
        assert_null(sj_stale_detail(callers[i]));
    int others = 0;
    for (int i = 0; i < SJ_REFUSAL_COUNT; i++) {
        const char *detail = sj_stale_detail((sj_refusal)i);
        others += detail != NULL;
        assert_true(!detail || strspn(detail, "abcdefghijklmnopqrstuvwxyz-") == strlen(detail));
    }
    assert_int_equal(others, 8);
    assert_null(sj_stale_detail(SJ_REFUSAL_COUNT));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repeatable_questions),
        cmocka_unit_test(what_the_client_wishes),
        cmocka_unit_test(who_asks_what),
        cmocka_unit_test(what_is_kept_of_an_answer),
        cmocka_unit_test(served_as_the_rfcs_say),
        cmocka_unit_test(an_age_of_its_own_counts),
        cmocka_unit_test(details_are_tokens_and_errors_of_callers_have_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
