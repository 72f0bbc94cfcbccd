// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include "degraded.h"
#include "json_tree.h"
#include "sse.h"

#include <stdio.h>
#include <stdlib.h>

static const char text[] = "We are \"busy\".\n\xe2\x9c\x93 \x01 \\ </script>";

static sj_degraded_answer answer_of(sj_protocol protocol, bool stream) {
    return (sj_degraded_answer){
        .protocol = protocol,
        .wish = {.stream = stream, .choices = 1},
        .text = text,
        .model = "a \"model\"",
        .id = 0xabc,
        .unix_s = 1700000000,
    };
}

static sj_buffer built(const sj_degraded_answer *answer) {
    sj_buffer out = sj_buffer_with_max(SJ_DEGRADED_MAX_BYTES);
    assert_true(sj_degraded_build(answer, &out));
    return out;
}

static cJSON *tree_of(sj_slice json) {
    cJSON *tree = NULL;
    assert_int_equal(sj_json_tree_parse(json, &tree), SJ_JSON_WHOLE);
    assert_non_null(tree);
    return tree;
}

// "choices.0.message.content"
static const cJSON *at(const cJSON *tree, const char *path) {
    char word[64];
    while (tree && *path) {
        size_t n = strcspn(path, ".");
        (void)snprintf(word, sizeof word, "%.*s", (int)n, path);
        tree = word[0] >= '0' && word[0] <= '9' ? cJSON_GetArrayItem(tree, atoi(word))
                                                : sj_json_tree_get(tree, word);
        path += n + (path[n] == '.');
    }
    return tree;
}

static void says(const cJSON *tree, const char *path, const char *expected) {
    const cJSON *value = at(tree, path);
    if (!value || !cJSON_IsString(value))
        fail_msg("%s is no text", path);
    assert_string_equal(value->valuestring, expected);
}

static void counts(const cJSON *tree, const char *path, double expected) {
    const cJSON *value = at(tree, path);
    if (!value || !cJSON_IsNumber(value) || value->valuedouble > expected || value->valuedouble < expected)
        fail_msg("%s is not %g", path, expected);
}

static void is_null(const cJSON *tree, const char *path) {
    const cJSON *value = at(tree, path);
    if (!value || !cJSON_IsNull(value))
        fail_msg("%s is not null", path);
}

static sj_finding judged(sj_protocol protocol, int choices, sj_slice body, sj_completion *completion) {
    sj_completion_init(completion, protocol, choices);
    return sj_completion_answer(completion, body);
}

// ---- whole answers --------------------------------------------------------------------------------------

static void a_whole_chat_completion(void **unused) {
    (void)unused;
    sj_degraded_answer answer = answer_of(SJ_PROTOCOL_CHAT, false);
    answer.wish.choices = 2;
    sj_buffer out = built(&answer);
    cJSON *tree = tree_of(sj_buffer_slice(&out));
    says(tree, "id", "chatcmpl-0000000000000abc");
    says(tree, "object", "chat.completion");
    says(tree, "model", "a \"model\"");
    counts(tree, "created", 1700000000);
    assert_int_equal(cJSON_GetArraySize(at(tree, "choices")), 2);
    counts(tree, "choices.1.index", 1);
    says(tree, "choices.1.message.role", "assistant");
    says(tree, "choices.1.message.content", text);
    says(tree, "choices.1.finish_reason", "stop");
    is_null(tree, "choices.1.logprobs");
    counts(tree, "usage.total_tokens", 0);
    sj_completion completion;
    assert_int_equal(judged(SJ_PROTOCOL_CHAT, 2, sj_buffer_slice(&out), &completion), SJ_FINDING_GOOD);
    assert_int_equal(completion.usage.total_tokens, 0);
    cJSON_Delete(tree);
    sj_buffer_free(&out);
}

static void a_whole_completion(void **unused) {
    (void)unused;
    sj_degraded_answer answer = answer_of(SJ_PROTOCOL_COMPLETIONS, false);
    sj_buffer out = built(&answer);
    cJSON *tree = tree_of(sj_buffer_slice(&out));
    says(tree, "object", "text_completion");
    says(tree, "choices.0.text", text);
    says(tree, "choices.0.finish_reason", "stop");
    cJSON_Delete(tree);
    sj_buffer_free(&out);
}

static void a_whole_response(void **unused) {
    (void)unused;
    sj_degraded_answer answer = answer_of(SJ_PROTOCOL_RESPONSES, false);
    sj_buffer out = built(&answer);
    cJSON *tree = tree_of(sj_buffer_slice(&out));
    says(tree, "id", "resp_0000000000000abc");
    says(tree, "status", "completed");
    is_null(tree, "error");
    says(tree, "output.0.role", "assistant");
    says(tree, "output.0.content.0.type", "output_text");
    says(tree, "output.0.content.0.text", text);
    counts(tree, "usage.output_tokens_details.reasoning_tokens", 0);
    sj_completion completion;
    assert_int_equal(judged(SJ_PROTOCOL_RESPONSES, 1, sj_buffer_slice(&out), &completion), SJ_FINDING_GOOD);
    cJSON_Delete(tree);
    sj_buffer_free(&out);
}

static void a_whole_message(void **unused) {
    (void)unused;
    sj_degraded_answer answer = answer_of(SJ_PROTOCOL_MESSAGES, false);
    sj_buffer out = built(&answer);
    cJSON *tree = tree_of(sj_buffer_slice(&out));
    says(tree, "type", "message");
    says(tree, "content.0.text", text);
    says(tree, "stop_reason", "end_turn");
    counts(tree, "usage.output_tokens", 0);
    cJSON_Delete(tree);
    sj_buffer_free(&out);
}

// ---- streams --------------------------------------------------------------------------------------------

enum { MAX_EVENTS = 32 };

typedef struct events {
    sj_buffer out;
    sj_sse sse;
    char names[MAX_EVENTS][64];
    cJSON *trees[MAX_EVENTS];
    int count;
    bool done, whole;
} events;

static events streamed(const sj_degraded_answer *answer) {
    events all = {.out = built(answer)};
    sj_slice bytes = sj_buffer_slice(&all.out);
    sj_sse_event event;
    sj_completion completion;
    sj_completion_init(&completion, answer->protocol, answer->wish.choices);
    sj_sse_init(&all.sse, 1 << 20);
    while (sj_sse_next(&all.sse, &bytes, &event)) {
        assert_true(event.has_data && !all.done);
        assert_int_equal(
            sj_completion_event(&completion, event.name, event.data) & (SJ_SAYS_NOT_JSON | SJ_SAYS_ERROR), 0);
        all.done = sj_slice_equal(event.data, SJ_SLICE("[DONE]"));
        if (all.done)
            continue;
        assert_true(all.count < MAX_EVENTS);
        (void)snprintf(all.names[all.count], sizeof all.names[0], "%.*s", (int)event.name.n,
                       event.name.p ? event.name.p : "");
        all.trees[all.count++] = tree_of(event.data);
    }
    all.whole = sj_completion_is_whole(&completion);
    return all;
}

static void let_go(events *all) {
    for (int i = 0; i < all->count; i++)
        cJSON_Delete(all->trees[i]);
    sj_sse_free(&all->sse);
    sj_buffer_free(&all->out);
}

static void a_chat_stream(void **unused) {
    (void)unused;
    sj_degraded_answer answer = answer_of(SJ_PROTOCOL_CHAT, true);
    events all = streamed(&answer);
    assert_int_equal(all.count, 3);
    says(all.trees[0], "object", "chat.completion.chunk");
    says(all.trees[0], "choices.0.delta.role", "assistant");
    says(all.trees[1], "choices.0.delta.content", text);
    is_null(all.trees[1], "choices.0.finish_reason");
    says(all.trees[2], "choices.0.finish_reason", "stop");
    assert_null(at(all.trees[2], "usage"));
    assert_true(all.done && all.whole);
    for (int i = 0; i < all.count; i++)
        says(all.trees[i], "id", "chatcmpl-0000000000000abc");
    let_go(&all);
}

static void a_chat_stream_with_usage_and_choices(void **unused) {
    (void)unused;
    sj_degraded_answer answer = answer_of(SJ_PROTOCOL_CHAT, true);
    answer.wish.choices = 2;
    answer.wish.include_usage = true;
    events all = streamed(&answer);
    assert_int_equal(all.count, 7);
    counts(all.trees[3], "choices.0.index", 1);
    says(all.trees[3], "choices.0.delta.content", text);
    is_null(all.trees[3], "usage");
    assert_int_equal(cJSON_GetArraySize(at(all.trees[6], "choices")), 0);
    counts(all.trees[6], "usage.total_tokens", 0);
    assert_true(all.done && all.whole);
    let_go(&all);
}

static void a_completions_stream(void **unused) {
    (void)unused;
    sj_degraded_answer answer = answer_of(SJ_PROTOCOL_COMPLETIONS, true);
    events all = streamed(&answer);
    assert_int_equal(all.count, 2);
    says(all.trees[0], "choices.0.text", text);
    says(all.trees[1], "choices.0.finish_reason", "stop");
    assert_true(all.done && all.whole);
    let_go(&all);
}

static void a_responses_stream(void **unused) {
    (void)unused;
    static const char *const names[] = {
        "response.created",           "response.in_progress",
        "response.output_item.added", "response.content_part.added",
        "response.output_text.delta", "response.output_text.done",
        "response.content_part.done", "response.output_item.done",
        "response.completed",
    };
    sj_degraded_answer answer = answer_of(SJ_PROTOCOL_RESPONSES, true);
    events all = streamed(&answer);
    assert_int_equal(all.count, sizeof names / sizeof names[0]);
    for (int i = 0; i < all.count; i++) {
        assert_string_equal(all.names[i], names[i]);
        says(all.trees[i], "type", names[i]);
        counts(all.trees[i], "sequence_number", i);
    }
    says(all.trees[0], "response.status", "in_progress");
    says(all.trees[4], "delta", text);
    says(all.trees[4], "item_id", "msg_0000000000000abc");
    says(all.trees[8], "response.output.0.content.0.text", text);
    assert_true(all.whole && !all.done);
    let_go(&all);
}

static void a_messages_stream(void **unused) {
    (void)unused;
    sj_degraded_answer answer = answer_of(SJ_PROTOCOL_MESSAGES, true);
    events all = streamed(&answer);
    assert_int_equal(all.count, 6);
    for (int i = 0; i < all.count; i++)
        says(all.trees[i], "type", all.names[i]);
    says(all.trees[2], "delta.text", text);
    says(all.trees[4], "delta.stop_reason", "end_turn");
    assert_true(all.whole);
    let_go(&all);
}

// ---- bounds ---------------------------------------------------------------------------------------------

static void what_does_not_fit_leaves_nothing_behind(void **unused) {
    (void)unused;
    sj_degraded_answer answer = answer_of(SJ_PROTOCOL_CHAT, true);
    sj_buffer all = built(&answer);
    for (size_t max = 0; max < all.n; max += 7) {
        sj_buffer out = sj_buffer_with_max(max + 2);
        assert_true(sj_buffer_text(&out, "ab"));
        assert_false(sj_degraded_build(&answer, &out));
        assert_int_equal(out.n, 2);
        sj_buffer_free(&out);
    }
    sj_buffer_free(&all);
    static const sj_protocol others[] = {SJ_PROTOCOL_OPAQUE, SJ_PROTOCOL_ASSISTANTS, SJ_PROTOCOL_JSON};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        sj_buffer out = sj_buffer_with_max(1 << 20);
        answer.protocol = others[i];
        assert_false(sj_degraded_fits(others[i], &answer.wish, text));
        assert_false(sj_degraded_build(&answer, &out));
        sj_buffer_free(&out);
    }
}

// ---- the wish -------------------------------------------------------------------------------------------

enum { STREAM = 1, USAGE = 2, JSON = 4, CALL = 8 };

static void wishes_are_read(void **unused) {
    (void)unused;
    static const struct {
        const char *body;
        int flags, choices;
    } rows[] = {
        {"{}", 0, 1},
        {"", 0, 1},
        {"[]", 0, 1},
        {"{\"stream\":true", 0, 1},
        {"{\"stream\":true}", STREAM, 1},
        {"{\"stream\":true,\"stream\":false}", 0, 1},
        {"{\"stream\":\"true\"}", 0, 1},
        {"{\"stream_options\":{\"include_usage\":true},\"stream\":true}", STREAM | USAGE, 1},
        {"{\"stream_options\":null}", 0, 1},
        {"{\"stream_options\":{\"include_usage\":false}}", 0, 1},
        {"{\"response_format\":{\"type\":\"text\"}}", 0, 1},
        {"{\"response_format\":{\"type\":\"json_object\"}}", JSON, 1},
        {"{\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"type\":\"x\"}}}", JSON, 1},
        {"{\"text\":{\"format\":{\"type\":\"json_schema\"}}}", JSON, 1},
        {"{\"text\":{\"verbosity\":\"low\"}}", 0, 1},
        {"{\"text\":\"x\"}", 0, 1},
        {"{\"tool_choice\":\"auto\"}", 0, 1},
        {"{\"tool_choice\":\"none\"}", 0, 1},
        {"{\"tool_choice\":null}", 0, 1},
        {"{\"tool_choice\":\"required\"}", CALL, 1},
        {"{\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}}}", CALL, 1},
        {"{\"tool_choice\":{\"type\":\"auto\"}}", 0, 1},
        {"{\"tool_choice\":{\"type\":\"any\"}}", CALL, 1},
        {"{\"n\":3}", 0, 3},
        {"{\"n\":0}", 0, 1},
        {"{\"n\":-2}", 0, 1},
        {"{\"n\":1e9}", 0, 1},
        {"{\"n\":99999999999999999999}", 0, 128},
        {"{\"n\":2,\"prompt\":[\"a\",\"b\",\"c\"]}", 0, 6},
        {"{\"prompt\":[1,2,3]}", 0, 1},
        {"{\"prompt\":[[1,2],[3]]}", 0, 2},
        {"{\"prompt\":[]}", 0, 1},
        {"{\"prompt\":\"a\"}", 0, 1},
        {"{\"messages\":[{\"n\":7,\"stream\":true}]}", 0, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        sj_degraded_wish wish;
        sj_degraded_read(sj_slice_of(rows[i].body), &wish);
        int flags = (wish.stream ? STREAM : 0) | (wish.include_usage ? USAGE : 0) |
                    (wish.wants_json ? JSON : 0) | (wish.wants_call ? CALL : 0);
        if (flags != rows[i].flags || wish.choices != rows[i].choices)
            fail_msg("%s: %d, %d", rows[i].body, flags, wish.choices);
    }
}

static void a_text_fits_where_it_can_be_read(void **unused) {
    (void)unused;
    sj_degraded_wish plain = {.choices = 1}, json = {.choices = 1, .wants_json = true},
                     call = {.choices = 1, .wants_call = true};
    assert_true(sj_degraded_fits(SJ_PROTOCOL_CHAT, &plain, "busy"));
    assert_false(sj_degraded_fits(SJ_PROTOCOL_CHAT, &json, "busy"));
    assert_false(sj_degraded_fits(SJ_PROTOCOL_CHAT, &json, "[1]"));
    assert_true(sj_degraded_fits(SJ_PROTOCOL_RESPONSES, &json, "{\"busy\": true}"));
    assert_false(sj_degraded_fits(SJ_PROTOCOL_CHAT, &call, "{}"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_chat_completion), cmocka_unit_test(a_whole_completion),
        cmocka_unit_test(a_whole_response),        cmocka_unit_test(a_whole_message),
        cmocka_unit_test(a_chat_stream),           cmocka_unit_test(a_chat_stream_with_usage_and_choices),
        cmocka_unit_test(a_completions_stream),    cmocka_unit_test(a_responses_stream),
        cmocka_unit_test(a_messages_stream),       cmocka_unit_test(what_does_not_fit_leaves_nothing_behind),
        cmocka_unit_test(wishes_are_read),         cmocka_unit_test(a_text_fits_where_it_can_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
