#include "completion.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define COUNT(rows) (sizeof(rows) / sizeof *(rows))

enum { C = SJ_SAYS_CONTENT, F = SJ_SAYS_FINISH, E = SJ_SAYS_ERROR, D = SJ_SAYS_DONE, N = SJ_SAYS_NOT_JSON };

static sj_completion fresh(sj_protocol protocol, int choices) {
    sj_completion completion;
    sj_completion_init(&completion, protocol, choices);
    return completion;
}

static void protocols_by_path(void **state) {
    (void)state;
    static const struct {
        const char *path;
        sj_protocol protocol;
    } rows[] = {
        {"/v1/chat/completions", SJ_PROTOCOL_CHAT},
        {"/openai/deployments/x/chat/completions?api-version=2024-06-01", SJ_PROTOCOL_CHAT},
        {"/v1/chat/completions/", SJ_PROTOCOL_CHAT},
        {"/v1/chat/completions#stream", SJ_PROTOCOL_CHAT},
        {"chat/completions", SJ_PROTOCOL_CHAT},
        {"/v1beta/openai//chat//completions", SJ_PROTOCOL_CHAT},
        {"/v1/completions", SJ_PROTOCOL_COMPLETIONS},
        {"/v1/engines/davinci/completions", SJ_PROTOCOL_COMPLETIONS},
        {"/v1/responses", SJ_PROTOCOL_RESPONSES},
        {"/v1/responses/resp_1/cancel", SJ_PROTOCOL_OPAQUE},
        {"/v1/messages", SJ_PROTOCOL_MESSAGES},
        {"/v1/messages/count_tokens", SJ_PROTOCOL_OPAQUE},
        {"/v1/threads/t/messages", SJ_PROTOCOL_OPAQUE},
        {"/v1/threads/t/runs", SJ_PROTOCOL_ASSISTANTS},
        {"/v1/threads/runs", SJ_PROTOCOL_ASSISTANTS},
        {"/v1/threads/t/runs/r/submit_tool_outputs", SJ_PROTOCOL_ASSISTANTS},
        {"/v1/threads/t/runs/r", SJ_PROTOCOL_OPAQUE},
        {"/v1/embeddings", SJ_PROTOCOL_JSON},
        {"/v1/moderations", SJ_PROTOCOL_JSON},
        {"/v1/images/edits", SJ_PROTOCOL_JSON},
        {"/v1/audio/speech", SJ_PROTOCOL_OPAQUE},
        {"/v1/xcompletions", SJ_PROTOCOL_OPAQUE},
        {"/v1/models?x=/chat/completions", SJ_PROTOCOL_OPAQUE},
        {"/", SJ_PROTOCOL_OPAQUE},
        {"", SJ_PROTOCOL_OPAQUE},
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        if (sj_protocol_of(sj_slice_of(rows[i].path)) != rows[i].protocol)
            fail_msg("%s", rows[i].path);
}

// Events on their own: what a first one says.
static const struct {
    sj_protocol protocol;
    const char *name, *data;
    unsigned says;
} events[] = {
    {SJ_PROTOCOL_CHAT, "",
     "{\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]"
     "}",
     0},
    {SJ_PROTOCOL_CHAT, "",
     "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"},\"finish_reason\":null}]}", C},
    {SJ_PROTOCOL_CHAT, "", "{\"choices\":[{\"delta\":{\"content\":\"Hi\"},\"finish_reason\":\"stop\"}]}",
     C | F},
    {SJ_PROTOCOL_CHAT, "", "{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}", F},
    {SJ_PROTOCOL_CHAT, "", "{\"choices\":[{\"delta\":{},\"finish_reason\":\"\"}]}", 0},
    {SJ_PROTOCOL_CHAT, "", "{\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}", C},
    {SJ_PROTOCOL_CHAT, "", "{\"choices\":[{\"delta\":{\"reasoning\":\"hm\"}}]}", C},
    {SJ_PROTOCOL_CHAT, "", "{\"choices\":[{\"delta\":{\"refusal\":\"no\"}}]}", C},
    {SJ_PROTOCOL_CHAT, "",
     "{\"choices\":[{\"delta\":{\"content\":null,\"refusal\":null,\"tool_calls\":[]}}]}", 0},
    {SJ_PROTOCOL_CHAT, "", "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0}]}}]}", C},
    {SJ_PROTOCOL_CHAT, "", "{\"choices\":[{\"delta\":{\"function_call\":{\"name\":\"f\"}}}]}", C},
    {SJ_PROTOCOL_CHAT, "", "{\"choices\":[{\"delta\":{\"audio\":{\"id\":\"a\"}}}]}", C},
    {SJ_PROTOCOL_CHAT, "", "{\"choices\":[{\"delta\":{\"content\":[{\"type\":\"thinking\"}]}}]}", C},
    {SJ_PROTOCOL_CHAT, "", "{\"choices\":[{\"delta\":{\"content\":\"\\ud83d\"}}]}", C},
    {SJ_PROTOCOL_CHAT, "", "{\"choices\":[],\"prompt_filter_results\":[{\"prompt_index\":0}]}", 0},
    {SJ_PROTOCOL_CHAT, "", "{\"choices\":[],\"usage\":{\"prompt_tokens\":1}}", 0},
    {SJ_PROTOCOL_CHAT, "", "{\"choices\":[],\"error\":null}", 0},
    {SJ_PROTOCOL_CHAT, "", "{\"choices\":[],\"error\":{}}", 0},
    {SJ_PROTOCOL_CHAT, "", "{\"error\":{\"message\":\"m\",\"code\":\"server_error\"}}", E},
    {SJ_PROTOCOL_CHAT, "", "{\"error\":\"text\",\"choices\":[{\"delta\":{\"content\":\"x\"}}]}", E},
    {SJ_PROTOCOL_CHAT, "", "{\"object\":\"error\",\"message\":\"m\",\"code\":500}", E},
    {SJ_PROTOCOL_CHAT, "", "[{\"error\":{\"code\":503,\"message\":\"m\"}}]", E},
    {SJ_PROTOCOL_CHAT, "",
     "{\"choices\":[{\"delta\":{\"content\":\"\"},\"finish_reason\":\"error\",\"error\":{\"code\":502}}]}",
     E},
    {SJ_PROTOCOL_CHAT, "error", "{\"message\":\"m\"}", E},
    {SJ_PROTOCOL_CHAT, "error", "upstream fell over", E},
    {SJ_PROTOCOL_CHAT, "", "[DONE]", D},
    {SJ_PROTOCOL_CHAT, "", " [DONE] ", D},
    {SJ_PROTOCOL_CHAT, "", "<html>", N},
    {SJ_PROTOCOL_CHAT, "", "", N},
    {SJ_PROTOCOL_CHAT, "", "{\"choices\":[{\"delta\":{\"content\":\"cut", N},
    {SJ_PROTOCOL_CHAT, "", "{\"choices\":[]} trailing", N},
    {SJ_PROTOCOL_CHAT, "", "123", 0},
    {SJ_PROTOCOL_CHAT, "", "\"text\"", 0},
    {SJ_PROTOCOL_CHAT, "", "{\"type\":\"ping\"}", 0},
    {SJ_PROTOCOL_COMPLETIONS, "", "{\"choices\":[{\"index\":0,\"text\":\"\",\"finish_reason\":null}]}", 0},
    {SJ_PROTOCOL_COMPLETIONS, "",
     "{\"choices\":[{\"index\":0,\"text\":\" a\",\"finish_reason\":\"length\"}]}", C | F},
    {SJ_PROTOCOL_RESPONSES, "response.created", "{\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}",
     0},
    {SJ_PROTOCOL_RESPONSES, "", "{\"type\":\"response.in_progress\",\"response\":{\"error\":null}}", 0},
    {SJ_PROTOCOL_RESPONSES, "", "{\"type\":\"response.output_item.added\",\"item\":{\"type\":\"message\"}}",
     0},
    {SJ_PROTOCOL_RESPONSES, "", "{\"type\":\"response.output_item.added\",\"item\":{\"type\":\"reasoning\"}}",
     0},
    {SJ_PROTOCOL_RESPONSES, "",
     "{\"type\":\"response.output_item.added\",\"item\":{\"type\":\"function_call\"}}", C},
    {SJ_PROTOCOL_RESPONSES, "",
     "{\"type\":\"response.content_part.added\",\"part\":{\"type\":\"output_text\"}}", 0},
    {SJ_PROTOCOL_RESPONSES, "", "{\"type\":\"response.output_text.delta\",\"delta\":\"a\"}", C},
    {SJ_PROTOCOL_RESPONSES, "response.output_text.delta", "{\"delta\":\"a\"}", C},
    {SJ_PROTOCOL_RESPONSES, "", "{\"type\":\"response.reasoning_summary_text.delta\"}", C},
    {SJ_PROTOCOL_RESPONSES, "", "{\"type\":\"response.image_generation_call.partial_image\"}", C},
    {SJ_PROTOCOL_RESPONSES, "", "{\"type\":\"response.completed\",\"response\":{\"output\":[]}}", F},
    {SJ_PROTOCOL_RESPONSES, "", "{\"type\":\"response.incomplete\",\"response\":{}}", F},
    {SJ_PROTOCOL_RESPONSES, "",
     "{\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"server_error\"}}}", E},
    {SJ_PROTOCOL_RESPONSES, "error",
     "{\"type\":\"error\",\"code\":\"rate_limit_exceeded\",\"message\":\"m\"}", E},
    {SJ_PROTOCOL_RESPONSES, "", "[DONE]", 0},
    {SJ_PROTOCOL_MESSAGES, "message_start",
     "{\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"content\":[]}}", 0},
    {SJ_PROTOCOL_MESSAGES, "ping", "{\"type\":\"ping\"}", 0},
    {SJ_PROTOCOL_MESSAGES, "",
     "{\"type\":\"content_block_start\",\"content_block\":{\"type\":\"text\",\"text\":\"\"}}", 0},
    {SJ_PROTOCOL_MESSAGES, "", "{\"type\":\"content_block_start\",\"content_block\":{\"type\":\"tool_use\"}}",
     C},
    {SJ_PROTOCOL_MESSAGES, "",
     "{\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}", C},
    {SJ_PROTOCOL_MESSAGES, "", "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}", F},
    {SJ_PROTOCOL_MESSAGES, "", "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":null}}", 0},
    {SJ_PROTOCOL_MESSAGES, "message_stop", "{\"type\":\"message_stop\"}", F},
    {SJ_PROTOCOL_MESSAGES, "error", "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}", E},
    {SJ_PROTOCOL_ASSISTANTS, "thread.run.created", "{\"id\":\"run_1\",\"last_error\":null}", 0},
    {SJ_PROTOCOL_ASSISTANTS, "thread.message.delta", "{\"id\":\"msg_1\",\"delta\":{}}", C},
    {SJ_PROTOCOL_ASSISTANTS, "thread.run.step.delta", "{\"id\":\"step_1\"}", C},
    {SJ_PROTOCOL_ASSISTANTS, "thread.run.completed", "{\"id\":\"run_1\"}", F},
    {SJ_PROTOCOL_ASSISTANTS, "thread.run.failed",
     "{\"id\":\"r\",\"last_error\":{\"code\":\"server_error\",\"message\":\"m\"}}", E},
    {SJ_PROTOCOL_ASSISTANTS, "done", "[DONE]", F},
    {SJ_PROTOCOL_OPAQUE, "", "anything", C},
    {SJ_PROTOCOL_JSON, "", "{}", C},
};

static void what_one_event_says(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(events); i++) {
        sj_completion completion = fresh(events[i].protocol, 1);
        unsigned says =
            sj_completion_event(&completion, sj_slice_of(events[i].name), sj_slice_of(events[i].data));
        if (says != events[i].says)
            fail_msg("%s %s: %u", events[i].name, events[i].data, says);
    }
}

static unsigned chat(sj_completion *completion, const char *data) {
    return sj_completion_event(completion, SJ_SLICE(""), sj_slice_of(data));
}

static void a_chat_stream_from_first_to_last(void **state) {
    (void)state;
    sj_completion completion = fresh(SJ_PROTOCOL_CHAT, 1);
    assert_int_equal(chat(&completion, "{\"id\":\"chatcmpl-1\",\"choices\":[{\"index\":0,\"delta\":{\"role\":"
                                       "\"assistant\"}}],\"usage\":null}"),
                     0);
    assert_string_equal(completion.id, "chatcmpl-1");
    assert_int_equal(
        chat(&completion, "{\"id\":\"other\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}"), C);
    assert_string_equal(completion.id, "chatcmpl-1");
    assert_false(sj_completion_lacks_only_done(&completion));
    assert_int_equal(
        chat(&completion, "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}"), F);
    assert_true(sj_completion_lacks_only_done(&completion));
    assert_false(sj_completion_is_whole(&completion));
    assert_int_equal(
        chat(&completion,
             "{\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3,\"total_tokens\":12,"
             "\"prompt_tokens_details\":{\"cached_tokens\":4}}}"),
        0);
    assert_true(sj_completion_lacks_only_done(&completion));
    assert_int_equal(chat(&completion, "[DONE]"), D);
    assert_true(sj_completion_is_whole(&completion));
    assert_false(sj_completion_lacks_only_done(&completion));
    assert_int_equal(completion.usage.prompt_tokens, 9);
    assert_int_equal(completion.usage.completion_tokens, 3);
    assert_int_equal(completion.usage.total_tokens, 12);
    assert_int_equal(completion.usage.cached_tokens, 4);
}

static void every_choice_must_finish(void **state) {
    (void)state;
    sj_completion completion = fresh(SJ_PROTOCOL_CHAT, 2);
    (void)chat(&completion,
               "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}");
    assert_false(sj_completion_lacks_only_done(&completion));
    (void)chat(&completion, "{\"choices\":[{\"index\":1,\"delta\":{\"content\":\"b\"}}]}");
    assert_false(sj_completion_lacks_only_done(&completion));
    (void)chat(&completion, "{\"choices\":[{\"index\":1,\"delta\":{},\"finish_reason\":\"length\"}]}");
    assert_true(sj_completion_lacks_only_done(&completion));

    // One more than was asked for still has to finish; an index beyond all bounds is not counted.
    completion = fresh(SJ_PROTOCOL_CHAT, 1);
    (void)chat(&completion, "{\"choices\":[{\"index\":127,\"delta\":{\"content\":\"b\"}},{\"index\":5e9}]}");
    (void)chat(&completion, "{\"choices\":[{\"index\":0,\"finish_reason\":\"stop\"}]}");
    assert_false(sj_completion_lacks_only_done(&completion));
    (void)chat(&completion, "{\"choices\":[{\"index\":127,\"finish_reason\":\"stop\"}]}");
    assert_true(sj_completion_lacks_only_done(&completion));
}

static void done_alone_is_an_empty_answer(void **state) {
    (void)state;
    static const struct {
        const char *before;
        bool whole;
    } rows[] = {
        {"{\"choices\":[]}", false},
        {"{\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}", false},
        {"{\"choices\":[{\"delta\":{\"content\":\"no finish\"}}]}", true},
        {"{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}", true},
        {"{\"some\":\"dialect\"}", true},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        sj_completion completion = fresh(SJ_PROTOCOL_CHAT, 1);
        (void)chat(&completion, rows[i].before);
        assert_int_equal(chat(&completion, "[DONE]"), D);
        if (sj_completion_is_whole(&completion) != rows[i].whole)
            fail_msg("%s", rows[i].before);
    }
    sj_completion completion = fresh(SJ_PROTOCOL_CHAT, 1);
    (void)chat(&completion, "[DONE]");
    assert_false(sj_completion_is_whole(&completion) || sj_completion_lacks_only_done(&completion));
}

static void typed_streams_end_by_their_last_event(void **state) {
    (void)state;
    sj_completion completion = fresh(SJ_PROTOCOL_RESPONSES, 1);
    (void)chat(&completion,
               "{\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"usage\":null}}");
    (void)chat(&completion, "{\"type\":\"response.output_text.delta\",\"delta\":\"a\"}");
    assert_false(sj_completion_is_whole(&completion));
    (void)chat(
        &completion,
        "{\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\",\"usage\":{\"input_tokens\":7,"
        "\"input_tokens_details\":{\"cached_tokens\":2},\"output_tokens\":5,\"total_tokens\":12}}}");
    assert_true(sj_completion_is_whole(&completion));
    assert_false(sj_completion_lacks_only_done(&completion));
    assert_string_equal(completion.id, "resp_1");
    assert_int_equal(completion.usage.prompt_tokens, 7);
    assert_int_equal(completion.usage.cached_tokens, 2);
    assert_int_equal(completion.usage.total_tokens, 12);

    completion = fresh(SJ_PROTOCOL_RESPONSES, 1);
    (void)chat(&completion, "{\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"rate_limit_"
                            "exceeded\",\"message\":\"slow\"}}}");
    assert_true(completion.ended);
    assert_string_equal(completion.error_code, "rate_limit_exceeded");
    assert_string_equal(completion.error_message, "slow");

    completion = fresh(SJ_PROTOCOL_ASSISTANTS, 1);
    (void)sj_completion_event(&completion, SJ_SLICE("thread.run.completed"), SJ_SLICE("{\"id\":\"run_1\"}"));
    assert_false(sj_completion_is_whole(&completion));
    (void)sj_completion_event(&completion, SJ_SLICE("done"), SJ_SLICE("[DONE]"));
    assert_true(sj_completion_is_whole(&completion));
}

static void messages_count_the_cache_in(void **state) {
    (void)state;
    sj_completion completion = fresh(SJ_PROTOCOL_MESSAGES, 1);
    (void)chat(&completion,
               "{\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"usage\":{\"input_tokens\":10,"
               "\"cache_creation_input_tokens\":20,\"cache_read_input_tokens\":30,\"output_tokens\":1}}}");
    assert_string_equal(completion.id, "msg_1");
    assert_int_equal(completion.usage.prompt_tokens, 60);
    assert_int_equal(completion.usage.cached_tokens, 30);
    (void)chat(&completion, "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{"
                            "\"output_tokens\":15}}");
    assert_int_equal(completion.usage.prompt_tokens, 60);
    assert_int_equal(completion.usage.completion_tokens, 15);
    assert_int_equal(completion.usage.total_tokens, 75);
    assert_false(sj_completion_is_whole(&completion));
    (void)chat(&completion, "{\"type\":\"message_stop\"}");
    assert_true(sj_completion_is_whole(&completion));
}

static const struct {
    sj_protocol protocol;
    const char *body;
    sj_finding finding;
} answers[] = {
    {SJ_PROTOCOL_CHAT, "{\"choices\":[{\"message\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}",
     SJ_FINDING_GOOD},
    {SJ_PROTOCOL_CHAT, "{\"choices\":[{\"message\":{\"content\":null,\"tool_calls\":[{}]}}],\"error\":null}",
     SJ_FINDING_GOOD},
    {SJ_PROTOCOL_CHAT, "{\"choices\":[{\"message\":{\"content\":\"\"},\"finish_reason\":\"stop\"}]}",
     SJ_FINDING_GOOD},
    {SJ_PROTOCOL_CHAT, "\xef\xbb\xbf {\"choices\":[{}]} \r\n", SJ_FINDING_GOOD},
    {SJ_PROTOCOL_CHAT, "", SJ_FINDING_EMPTY},
    {SJ_PROTOCOL_CHAT, " \r\n\t ", SJ_FINDING_EMPTY},
    {SJ_PROTOCOL_CHAT, "{}", SJ_FINDING_EMPTY},
    {SJ_PROTOCOL_CHAT, "null", SJ_FINDING_EMPTY},
    {SJ_PROTOCOL_CHAT, "[]", SJ_FINDING_EMPTY},
    {SJ_PROTOCOL_CHAT, "{\"choices\":[ ]}", SJ_FINDING_EMPTY},
    {SJ_PROTOCOL_CHAT, "{\"choices\":null}", SJ_FINDING_EMPTY},
    {SJ_PROTOCOL_CHAT, "{\"choices\":[{\"message\":{\"content\":\"a", SJ_FINDING_TRUNCATED},
    {SJ_PROTOCOL_CHAT, "{\"choices\":[{}]", SJ_FINDING_TRUNCATED},
    {SJ_PROTOCOL_CHAT, "<html>Bad gateway</html>", SJ_FINDING_NOT_JSON},
    {SJ_PROTOCOL_CHAT, "upstream connect error", SJ_FINDING_NOT_JSON},
    {SJ_PROTOCOL_CHAT, "{\"choices\":[{}]}{}", SJ_FINDING_NOT_JSON},
    {SJ_PROTOCOL_CHAT, "data: {}\n\n", SJ_FINDING_NOT_JSON},
    {SJ_PROTOCOL_CHAT, "{\"error\":{\"code\":\"server_error\"}}", SJ_FINDING_ERROR},
    {SJ_PROTOCOL_CHAT, "{\"error\":\"boom\",\"choices\":[{}]}", SJ_FINDING_ERROR},
    {SJ_PROTOCOL_CHAT, "{\"error\":false,\"choices\":[{}]}", SJ_FINDING_GOOD},
    {SJ_PROTOCOL_CHAT, "{\"error\":{},\"choices\":[{}]}", SJ_FINDING_GOOD},
    {SJ_PROTOCOL_CHAT, "[{\"error\":{\"code\":503}}]", SJ_FINDING_ERROR},
    {SJ_PROTOCOL_CHAT, "{\"object\":\"error\",\"message\":\"m\"}", SJ_FINDING_ERROR},
    {SJ_PROTOCOL_CHAT, "{\"choices\":[{\"finish_reason\":\"error\",\"error\":{\"code\":502}}]}",
     SJ_FINDING_ERROR},
    {SJ_PROTOCOL_COMPLETIONS, "{\"choices\":[{\"text\":\"a\"}]}", SJ_FINDING_GOOD},
    {SJ_PROTOCOL_RESPONSES, "{\"status\":\"completed\",\"error\":null,\"output\":[{}]}", SJ_FINDING_GOOD},
    {SJ_PROTOCOL_RESPONSES, "{\"status\":\"queued\",\"error\":null,\"output\":[]}", SJ_FINDING_GOOD},
    {SJ_PROTOCOL_RESPONSES, "{\"status\":\"completed\",\"output\":[]}", SJ_FINDING_EMPTY},
    {SJ_PROTOCOL_RESPONSES, "{\"status\":\"incomplete\"}", SJ_FINDING_EMPTY},
    {SJ_PROTOCOL_RESPONSES, "{\"status\":\"failed\",\"output\":[]}", SJ_FINDING_ERROR},
    {SJ_PROTOCOL_MESSAGES, "{\"type\":\"message\",\"content\":[]}", SJ_FINDING_GOOD},
    {SJ_PROTOCOL_MESSAGES, "{\"type\":\"message\"}", SJ_FINDING_EMPTY},
    {SJ_PROTOCOL_MESSAGES, "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}",
     SJ_FINDING_ERROR},
    {SJ_PROTOCOL_ASSISTANTS, "{\"id\":\"run_1\",\"last_error\":null}", SJ_FINDING_GOOD},
    {SJ_PROTOCOL_JSON, "{\"data\":[]}", SJ_FINDING_GOOD},
    {SJ_PROTOCOL_JSON, "[[0.1]]", SJ_FINDING_GOOD},
    {SJ_PROTOCOL_JSON, "{}", SJ_FINDING_EMPTY},
    {SJ_PROTOCOL_JSON, "[]", SJ_FINDING_EMPTY},
    {SJ_PROTOCOL_OPAQUE, "", SJ_FINDING_GOOD},
};

static void what_a_whole_answer_is(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(answers); i++) {
        sj_completion completion = fresh(answers[i].protocol, 1);
        sj_finding finding = sj_completion_answer(&completion, sj_slice_of(answers[i].body));
        if (finding != answers[i].finding)
            fail_msg("%s: %d", answers[i].body, finding);
    }
    sj_completion completion = fresh(SJ_PROTOCOL_CHAT, 1);
    assert_int_equal(sj_completion_answer(&completion, (sj_slice){NULL, 0}), SJ_FINDING_EMPTY);
}

static void a_whole_answer_tells_usage_id_and_error(void **state) {
    (void)state;
    sj_completion completion = fresh(SJ_PROTOCOL_CHAT, 1);
    assert_int_equal(
        sj_completion_answer(
            &completion, SJ_SLICE("{\"id\":\"chatcmpl-7\",\"choices\":[{}],\"usage\":{\"prompt_tokens\":2,"
                                  "\"completion_tokens\":3}}")),
        SJ_FINDING_GOOD);
    assert_string_equal(completion.id, "chatcmpl-7");
    assert_int_equal(completion.usage.prompt_tokens, 2);
    assert_int_equal(completion.usage.total_tokens, 5);
    assert_int_equal(completion.usage.cached_tokens, -1);

    completion = fresh(SJ_PROTOCOL_CHAT, 1);
    assert_int_equal(
        sj_completion_answer(&completion,
                             SJ_SLICE("{\"choices\":[{\"error\":{\"code\":502,\"message\":\"gone\"}}]}")),
        SJ_FINDING_ERROR);
    assert_string_equal(completion.error_code, "502");
    assert_string_equal(completion.error_message, "gone");
}

// Shapes of error answers. The texts are shortened from public documents and issue reports of the providers named.
static const struct {
    const char *body, *code, *message;
} errors[] = {
    {"{\"error\":{\"message\":\"m\",\"type\":\"invalid_request_error\",\"param\":null,\"code\":\"model_not_"
     "found\"}}",
     "model_not_found", "m"}, // OpenAI
    {"{\"error\":{\"message\":\"m\",\"type\":\"server_error\",\"code\":null}}", "server_error",
     "m"}, // OpenAI
    {"{\"error\":{\"code\":\"429\",\"message\":\"m\"}}", "429", "m"}, // Azure
    {"{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"m\"}}", "overloaded_error",
     "m"}, // Anthropic
    {"[{\"error\":{\"code\":429,\"message\":\"m\",\"status\":\"RESOURCE_EXHAUSTED\"}}]", "RESOURCE_EXHAUSTED",
     "m"}, // Google
    {"{\"error\":{\"code\":502,\"message\":\"m\"}}", "502", "m"}, // OpenRouter
    {"{\"object\":\"error\",\"message\":\"m\",\"type\":\"BadRequestError\",\"code\":400}", "BadRequestError",
     "m"}, // vLLM
    {"{\"error\":\"m\",\"error_type\":\"overloaded\"}", "overloaded", "m"}, // TGI
    {"{\"error\":\"m\"}", "", "m"}, // Ollama
    {"{\"message\":\"m\",\"code\":\"c\"}", "c", "m"},
    {"{\"message\":\"m\"}", "", "m"},
    {"{\"statusCode\":401,\"message\":\"m\"}", "", "m"}, // Azure gateway
    {"{\"detail\":\"m\"}", "", "m"}, // FastAPI
    {"{\"detail\":[{\"loc\":[\"body\"],\"msg\":\"m\"}]}", "", "m"},
    {"{\"errors\":[{\"code\":10000,\"message\":\"m\"}]}", "10000", "m"}, // Cloudflare
    {"<html>503</html>", "", ""},
    {"", "", ""},
    {"{\"error\":{\"code\":\"cut", "", ""},
    {"{\"error\":{\"message\":\"a\\u0000b\"}}", "", "a"},
    {"{\"error\":{\"message\":\"a\\n\\u001b[1mb\\u007f\"}}", "", "a[1mb"},
    {"{\"error\":{\"message\":\"Incorrect API key provided: sk-proj-abc_DEF-123. See task-list\"}}", "",
     "Incorrect API key provided: sk-... See task-list"},
    {"{\"error\":{\"message\":\"got 'Bearer abc.def'\"}}", "", "got 'Bearer ...'"},
};

static void errors_in_all_shapes(void **state) {
    (void)state;
    sj_completion completion = fresh(SJ_PROTOCOL_CHAT, 1);
    for (size_t i = 0; i < COUNT(errors); i++) {
        sj_completion_error_of(&completion, sj_slice_of(errors[i].body));
        if (strcmp(completion.error_code, errors[i].code) != 0 ||
            strcmp(completion.error_message, errors[i].message) != 0)
            fail_msg("%s: %s / %s", errors[i].body, completion.error_code, completion.error_message);
    }
}

static void long_texts_are_cut_at_a_character(void **state) {
    (void)state;
    sj_buffer body = sj_buffer_with_max(4096);
    assert_true(sj_buffer_text(&body, "{\"error\":{\"code\":\""));
    for (int i = 0; i < 200; i++)
        assert_true(sj_buffer_text(&body, "c"));
    assert_true(sj_buffer_text(&body, "\",\"message\":\""));
    for (int i = 0; i < 200; i++)
        assert_true(sj_buffer_text(&body, "\xe2\x82\xac"));
    assert_true(sj_buffer_text(&body, "\"}}"));
    sj_completion completion = fresh(SJ_PROTOCOL_CHAT, 1);
    sj_completion_error_of(&completion, sj_buffer_slice(&body));
    assert_int_equal(strlen(completion.error_code), sizeof completion.error_code - 1);
    assert_int_equal(strlen(completion.error_message), (sizeof completion.error_message - 1) / 3 * 3);
    sj_buffer_free(&body);
}

static void our_own_error_event(void **state) {
    (void)state;
    sj_buffer out = sj_buffer_with_max(300);
    assert_true(sj_completion_error_event(SJ_PROTOCOL_CHAT, "stream_broken", "it \"broke\"\n", &out));
    assert_true(sj_slice_equal(
        sj_buffer_slice(&out),
        SJ_SLICE("data: {\"error\": {\"message\": \"it \\\"broke\\\"\\n\", \"type\": \"stormjib_error\", "
                 "\"param\": null, \"code\": \"stream_broken\"}}\n\n")));
    sj_completion completion = fresh(SJ_PROTOCOL_CHAT, 1);
    assert_int_equal(sj_completion_event(&completion, SJ_SLICE(""), (sj_slice){out.p + 6, out.n - 8}), E);
    assert_string_equal(completion.error_code, "stream_broken");
    sj_buffer_clear(&out);
    assert_true(sj_completion_error_event(SJ_PROTOCOL_RESPONSES, "c", "m", &out));
    assert_true(sj_slice_starts(sj_buffer_slice(&out),
                                SJ_SLICE("event: error\ndata: {\"type\": \"error\", \"error\": {")));
    sj_buffer_clear(&out);
    assert_true(sj_completion_error_event(SJ_PROTOCOL_OPAQUE, "c", "m", &out));
    assert_int_equal(out.n, 0);
    sj_buffer small = sj_buffer_with_max(40);
    assert_false(sj_completion_error_event(SJ_PROTOCOL_CHAT, "c", "m", &small));
    assert_int_equal(small.n, 0);
    sj_buffer_free(&small);
    sj_buffer_free(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(protocols_by_path),
        cmocka_unit_test(what_one_event_says),
        cmocka_unit_test(a_chat_stream_from_first_to_last),
        cmocka_unit_test(every_choice_must_finish),
        cmocka_unit_test(done_alone_is_an_empty_answer),
        cmocka_unit_test(typed_streams_end_by_their_last_event),
        cmocka_unit_test(messages_count_the_cache_in),
        cmocka_unit_test(what_a_whole_answer_is),
        cmocka_unit_test(a_whole_answer_tells_usage_id_and_error),
        cmocka_unit_test(errors_in_all_shapes),
        cmocka_unit_test(long_texts_are_cut_at_a_character),
        cmocka_unit_test(our_own_error_event),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
