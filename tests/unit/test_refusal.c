#include "refusal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cJSON.h>
#include <cmocka.h>

// BEHAVIOUR 14, in its order.
static const struct {
    sj_refusal refusal;
    const char *code;
    int status;
    bool shed;
} rows[] = {
    {SJ_REFUSAL_NONE, "", 0, false},
    {SJ_REFUSAL_BAD_REQUEST, "bad_request", 400, false},
    {SJ_REFUSAL_UNAUTHORIZED, "unauthorized", 401, false},
    {SJ_REFUSAL_NOT_FOUND, "not_found", 404, false},
    {SJ_REFUSAL_BODY_TOO_LARGE, "body_too_large", 413, false},
    {SJ_REFUSAL_NOT_IMPLEMENTED, "not_implemented", 501, false},
    {SJ_REFUSAL_UPSTREAM_UNREACHABLE, "upstream_unreachable", 502, false},
    {SJ_REFUSAL_MAX_RETRIES_EXCEEDED, "max_retries_exceeded", 502, false},
    {SJ_REFUSAL_STREAM_BROKEN, "stream_broken", 502, false},
    {SJ_REFUSAL_CIRCUIT_OPEN, "circuit_open", 503, false},
    {SJ_REFUSAL_QUEUE_FULL, "queue_full", 503, true},
    {SJ_REFUSAL_QUEUE_TIMEOUT, "queue_timeout", 503, false},
    {SJ_REFUSAL_OVERLOADED, "overloaded", 503, true},
    {SJ_REFUSAL_SHUTTING_DOWN, "shutting_down", 503, true},
    {SJ_REFUSAL_TIMEOUT_MAX_RETRIES, "timeout_max_retries", 504, false},
    {SJ_REFUSAL_DEADLINE_EXCEEDED, "deadline_exceeded", 504, false},
};

static void test_table(void **state) {
    (void)state;
    assert_int_equal(sizeof rows / sizeof *rows, SJ_REFUSAL_COUNT);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(rows[i].refusal, i);
        assert_string_equal(sj_refusal_code(rows[i].refusal), rows[i].code);
        assert_int_equal(sj_refusal_status(rows[i].refusal), rows[i].status);
        assert_int_equal(sj_refusal_is_shed(rows[i].refusal), rows[i].shed);
    }
}

static void assert_text(const cJSON *object, const char *name, const char *text) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    assert_true(cJSON_IsString(item));
    assert_string_equal(item->valuestring, text);
}

static void test_body_is_openais_shape(void **state) {
    (void)state;
    static const char *const messages[] = {
        "Tried strong/gpt-4.1 5 times.",
        "",
        "a \"quote\", a \\ backslash,\na line, a \ttab, \x01, \x7f and \xc3\xa4",
        "</script>",
    };
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++) {
        sj_buffer out = sj_buffer_with_max(1000);
        assert_true(sj_refusal_body(SJ_REFUSAL_CIRCUIT_OPEN, messages[i], &out));
        cJSON *json = cJSON_ParseWithLength(out.p, out.n);
        assert_non_null(json);
        const cJSON *error = cJSON_GetObjectItemCaseSensitive(json, "error");
        assert_int_equal(cJSON_GetArraySize(error), 4);
        assert_text(error, "message", messages[i]);
        assert_text(error, "type", "stormjib_error");
        assert_text(error, "code", "circuit_open");
        assert_true(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(error, "param")));
        assert_null(memchr(out.p, '\n', out.n - 1)); // one line, for logs and in-band events
        cJSON_Delete(json);
        sj_buffer_free(&out);
    }
}

static void test_body_without_room_changes_nothing(void **state) {
    (void)state;
    int refused = 0;
    for (size_t max = 1; max < 200; max++) {
        sj_buffer out = sj_buffer_with_max(max);
        assert_true(sj_buffer_text(&out, "x"));
        if (!sj_refusal_body(SJ_REFUSAL_QUEUE_FULL, "The queue is full.", &out)) {
            assert_int_equal(out.n, 1);
            refused++;
        }
        sj_buffer_free(&out);
    }
    assert_in_range(refused, 80, 150);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_body_is_openais_shape),
        cmocka_unit_test(test_body_without_room_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
