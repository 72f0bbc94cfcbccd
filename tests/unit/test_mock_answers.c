// The mock's answers: well-formed, telling whose they are, the same streamed and whole; and what faults do to their bytes.
#include "inflate.h"
#include "mock_answer.h"
#include "sse.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const char hello[] = "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hello you\"}]}";

// ---- answers ------------------------------------------------------------------------------------

static void make(const char *path, const char *body, sj_mock_answer *answer) {
    cJSON *json = cJSON_Parse(body);
    sj_mock_ask ask = {.method = SJ_SLICE("POST"),
                       .path = sj_slice_of(path),
                       .body = sj_slice_of(body),
                       .json = json,
                       .words = 12,
                       .models = "a,b",
                       .number = 7};
    sj_mock_answer_init(answer);
    assert_true(sj_mock_answer_make(&ask, answer));
    assert_true(answer->count > 0 && answer->ends[answer->count - 1] == answer->body.n);
    cJSON_Delete(json);
}

static cJSON *make_json(const char *path, const char *body, int status) {
    sj_mock_answer answer;
    make(path, body, &answer);
    assert_int_equal(answer.status, status);
    cJSON *json = cJSON_ParseWithLength(answer.body.p, answer.body.n);
    assert_non_null(json);
    sj_mock_answer_free(&answer);
    return json;
}

static const cJSON *at(const cJSON *json, const char *path) {
    char copy[200];
    (void)snprintf(copy, sizeof copy, "%s", path);
    char *rest = copy;
    for (char *name; (name = strsep(&rest, ".")) && json;)
        json = name[0] >= '0' && name[0] <= '9' ? cJSON_GetArrayItem(json, name[0] - '0')
                                                : cJSON_GetObjectItemCaseSensitive(json, name);
    return json;
}

static const char *text_at(const cJSON *json, const char *path) {
    const char *text = cJSON_GetStringValue(at(json, path));
    return text ? text : "(none)";
}

// Joins the texts at `path` over all events of a stream; the last event's data goes to *last.
static sj_buffer join(const char *url, const char *body, const char *path, char *last, size_t last_size) {
    sj_mock_answer answer;
    make(url, body, &answer);
    assert_true(answer.stream);
    sj_buffer joined = sj_buffer_with_max(100000);
    sj_sse sse;
    sj_sse_event event;
    sj_sse_init(&sse, 100000);
    sj_slice input = sj_buffer_slice(&answer.body);
    size_t events = 0;
    for (; sj_sse_next(&sse, &input, &event); events++) {
        cJSON *json = cJSON_ParseWithLength(event.data.p, event.data.n);
        const char *text = cJSON_GetStringValue(at(json, path));
        assert_true(json || sj_slice_equal(event.data, SJ_SLICE("[DONE]")));
        if (text)
            assert_true(sj_buffer_text(&joined, text));
        (void)snprintf(last, last_size, "%.*s", (int)event.data.n, event.data.p);
        cJSON_Delete(json);
    }
    assert_int_equal(events, answer.count);
    sj_sse_free(&sse);
    sj_mock_answer_free(&answer);
    return joined;
}

static void assert_same(sj_buffer *joined, const char *text) {
    assert_int_equal(joined->n, strlen(text));
    assert_memory_equal(joined->p, text, joined->n);
    sj_buffer_free(joined);
}

static void test_chat_stream_equals_whole(void **state) {
    (void)state;
    cJSON *whole = make_json("/v1/chat/completions", hello, 200);
    const char *text = text_at(whole, "choices.0.message.content");
    assert_memory_equal(text, "echo:", 5);
    assert_non_null(strstr(text, "hello you "));
    assert_string_equal(text_at(whole, "choices.0.finish_reason"), "stop");
    assert_int_equal(cJSON_GetNumberValue(at(whole, "usage.completion_tokens")), 12);
    char last[4096];
    sj_buffer joined =
        join("/chat/completions",
             "{\"model\":\"m\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":"
             "\"text\",\"text\":\"hello you\"}]}]}",
             "choices.0.delta.content", last, sizeof last);
    assert_same(&joined, text);
    assert_string_equal(last, "[DONE]");
    cJSON_Delete(whole);
}

static void test_answers_tell_apart(void **state) {
    (void)state;
    cJSON *mine = make_json("/v1/chat/completions", hello, 200);
    cJSON *yours =
        make_json("/v1/chat/completions",
                  "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hello me\"}]}", 200);
    cJSON *two = make_json(
        "/x/chat/completions",
        "{\"model\":\"m\",\"n\":2,\"messages\":[{\"role\":\"user\",\"content\":\"hello you\"}]}", 200);
    const char *text = text_at(mine, "choices.0.message.content");
    assert_string_not_equal(text, text_at(yours, "choices.0.message.content"));
    assert_string_equal(text, text_at(two, "choices.0.message.content"));
    assert_string_not_equal(text, text_at(two, "choices.1.message.content"));
    cJSON_Delete(mine);
    cJSON_Delete(yours);
    cJSON_Delete(two);
}

static void test_prefill_goes_on(void **state) {
    (void)state;
    cJSON *whole = make_json("/v1/chat/completions", hello, 200);
    const char *text = text_at(whole, "choices.0.message.content");
    char body[600];
    (void)snprintf(body, sizeof body,
                   "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hello you\"},"
                   "{\"role\":\"assistant\",\"content\":\"%.20s\"}]}",
                   text);
    cJSON *rest = make_json("/v1/chat/completions", body, 200);
    assert_string_equal(text_at(rest, "choices.0.message.content"), text + 20);
    cJSON_Delete(whole);
    cJSON_Delete(rest);
}

static void test_length_and_usage(void **state) {
    (void)state;
    char last[4096];
    sj_buffer joined =
        join("/v1/chat/completions",
             "{\"model\":\"m\",\"stream\":true,\"max_tokens\":3,\"stream_options\":{\"include_usage\":"
             "true},\"messages\":[{\"role\":\"user\",\"content\":\"a b c d\"}]}",
             "choices.0.finish_reason", last, sizeof last);
    assert_same(&joined, "length");
}

static void test_tool_call_in_fragments(void **state) {
    (void)state;
    static const char body[] = "{\"model\":\"m\",%s\"messages\":[{\"role\":\"user\",\"content\":\"use the "
                               "\\\"tool\\\" \u00e4\u00f6\"}],"
                               "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"look\"}}]}";
    char text[600], last[4096];
    (void)snprintf(text, sizeof text, body, "");
    cJSON *whole = make_json("/v1/chat/completions", text, 200);
    const char *arguments = text_at(whole, "choices.0.message.tool_calls.0.function.arguments");
    assert_string_equal(text_at(whole, "choices.0.message.tool_calls.0.function.name"), "look");
    assert_string_equal(text_at(whole, "choices.0.finish_reason"), "tool_calls");
    cJSON *parsed = cJSON_Parse(arguments);
    assert_true(cJSON_IsString(at(parsed, "text")));
    cJSON_Delete(parsed);
    (void)snprintf(text, sizeof text, body, "\"stream\":true,");
    sj_buffer joined = join("/v1/chat/completions", text, "choices.0.delta.tool_calls.0.function.arguments",
                            last, sizeof last);
    assert_same(&joined, arguments);
    cJSON_Delete(whole);
}

static void test_responses_sequence(void **state) {
    (void)state;
    char last[8192];
    sj_buffer types =
        join("/v1/responses", "{\"model\":\"m\",\"stream\":true,\"input\":\"hi\",\"max_output_tokens\":1}",
             "type", last, sizeof last);
    assert_same(&types, "response.created"
                        "response.in_progress"
                        "response.output_item.added"
                        "response.content_part.added"
                        "response.output_text.delta"
                        "response.output_text.done"
                        "response.content_part.done"
                        "response.output_item.done"
                        "response.incomplete");
    cJSON *whole = make_json("/v1/responses", "{\"model\":\"m\",\"input\":\"hi\"}", 200);
    sj_buffer joined = join("/v1/responses", "{\"model\":\"m\",\"stream\":true,\"input\":\"hi\"}", "delta",
                            last, sizeof last);
    assert_same(&joined, text_at(whole, "output.0.content.0.text"));
    assert_non_null(strstr(last, "\"type\":\"response.completed\""));
    cJSON_Delete(whole);
}

static void test_messages_sequence(void **state) {
    (void)state;
    static const char body[] =
        "{\"model\":\"m\",\"stream\":%s,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";
    char text[300], last[8192];
    (void)snprintf(text, sizeof text, body, "false");
    cJSON *whole = make_json("/v1/messages", text, 200);
    assert_string_equal(text_at(whole, "stop_reason"), "end_turn");
    (void)snprintf(text, sizeof text, body, "true");
    sj_buffer joined = join("/v1/messages", text, "delta.text", last, sizeof last);
    assert_same(&joined, text_at(whole, "content.0.text"));
    assert_string_equal(last, "{\"type\":\"message_stop\"}");
    cJSON_Delete(whole);
}

static void test_other_endpoints(void **state) {
    (void)state;
    static const struct {
        const char *path, *body;
        int status;
        const char *member; // must be there
    } rows[] = {
        {"/v1/completions", "{\"model\":\"m\",\"prompt\":\"x\"}", 200, "choices.0.text"},
        {"/v1/embeddings", "{\"model\":\"m\",\"input\":[\"x\",\"y\"],\"dimensions\":4}", 200,
         "data.1.embedding.3"},
        {"/v1/embeddings", "{\"model\":\"m\",\"input\":[1,2]}", 200, "data.0.embedding.0"},
        {"/v1/embeddings", "{\"model\":\"m\"}", 400, "error.code"},
        {"/v1/moderations", "{\"input\":\"x\"}", 200, "results.0.flagged"},
        {"/v1/images/generations", "{\"prompt\":\"x\",\"n\":2}", 200, "data.1.b64_json"},
        {"/v1/audio/transcriptions", "--x\r\n", 200, "text"},
        {"/v1/chat/completions", "{\"messages\":[]}", 400, "error.message"},
        {"/v1/chat/completions", "not json", 400, "error.message"},
        {"/v1/files", "", 404, "error.type"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cJSON *json = make_json(rows[i].path, rows[i].body, rows[i].status);
        if (!at(json, rows[i].member))
            fail_msg("%s: no %s", rows[i].path, rows[i].member);
        cJSON_Delete(json);
    }
}

// ---- spoiled answers ----------------------------------------------------------------------------

static void spoil(const char *fault_text, const char *body, sj_mock_answer *answer) {
    sj_mock_fault fault;
    assert_true(sj_mock_fault_parse(sj_slice_of(fault_text), &fault, NULL));
    make("/v1/chat/completions", body, answer);
    assert_true(sj_mock_answer_spoil(answer, &fault, 784111777));
}

static void test_gzip_is_the_same_answer(void **state) {
    (void)state;
    sj_mock_answer plain, coded;
    spoil("ok", hello, &plain);
    spoil("gzip", hello, &coded);
    sj_buffer out = sj_buffer_with_max(100000);
    assert_true(sj_inflate(SJ_CODING_GZIP, sj_buffer_slice(&coded.body), &out));
    assert_true(sj_slice_equal(sj_buffer_slice(&out), sj_buffer_slice(&plain.body)));
    sj_buffer_free(&out);
    sj_mock_answer_free(&plain);
    sj_mock_answer_free(&coded);
}

static void test_error_events_by_dialect(void **state) {
    (void)state;
    static const struct {
        const char *path, *name, *member;
    } rows[] = {
        {"/v1/chat/completions", "", "error.code"},
        {"/v1/responses", "response.failed", "response.error.code"},
        {"/v1/messages", "error", "error.code"},
    };
    sj_mock_fault fault;
    assert_true(sj_mock_fault_parse(SJ_SLICE("late-error-1; status=503"), &fault, NULL));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        sj_mock_answer answer;
        make(rows[i].path, "{\"model\":\"m\",\"stream\":true,\"messages\":[]}", &answer);
        assert_true(sj_mock_answer_spoil(&answer, &fault, 0));
        assert_int_equal(answer.count, 2);
        sj_sse sse;
        sj_sse_event event;
        sj_sse_init(&sse, 100000);
        sj_slice input = sj_slice_from(sj_buffer_slice(&answer.body), answer.ends[0]);
        assert_true(sj_sse_next(&sse, &input, &event));
        assert_true(sj_slice_equal(event.name, sj_slice_of(rows[i].name)));
        cJSON *json = cJSON_ParseWithLength(event.data.p, event.data.n);
        assert_string_equal(text_at(json, rows[i].member), "overloaded");
        cJSON_Delete(json);
        sj_sse_free(&sse);
        sj_mock_answer_free(&answer);
    }
}

static void test_big_event_is_still_json(void **state) {
    (void)state;
    sj_mock_answer answer;
    spoil("big-event-5000", "{\"model\":\"m\",\"stream\":true,\"messages\":[]}", &answer);
    size_t n = answer.ends[2] - answer.ends[1];
    assert_in_range(n, 5000, 5100);
    cJSON *json = cJSON_ParseWithLength(answer.body.p + answer.ends[1] + 6, n - 6);
    assert_non_null(json);
    cJSON_Delete(json);
    sj_mock_answer_free(&answer);
}

static void test_retry_dates(void **state) {
    (void)state;
    static const struct {
        const char *fault, *line; // RFC 9110's example, ten seconds before it
    } rows[] = {
        {"429; retry-after-date=0", "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n"},
        {"429; retry-after-rfc850=0", "Retry-After: Sunday, 06-Nov-94 08:49:37 GMT\r\n"},
        {"429; retry-after-asctime=3", "Retry-After: Sun Nov  6 08:49:40 1994\r\n"},
        {"429; retry-after=2", "Retry-After: 2\r\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        sj_mock_answer answer;
        spoil(rows[i].fault, hello, &answer);
        assert_int_equal(answer.status, 429);
        assert_true(sj_slice_equal(sj_buffer_slice(&answer.headers), sj_slice_of(rows[i].line)));
        sj_mock_answer_free(&answer);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chat_stream_equals_whole), cmocka_unit_test(test_answers_tell_apart),
        cmocka_unit_test(test_prefill_goes_on),          cmocka_unit_test(test_length_and_usage),
        cmocka_unit_test(test_tool_call_in_fragments),   cmocka_unit_test(test_responses_sequence),
        cmocka_unit_test(test_messages_sequence),        cmocka_unit_test(test_other_endpoints),
        cmocka_unit_test(test_gzip_is_the_same_answer),  cmocka_unit_test(test_big_event_is_still_json),
        cmocka_unit_test(test_error_events_by_dialect),  cmocka_unit_test(test_retry_dates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
