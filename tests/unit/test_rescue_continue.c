// Continuation: the request that asks a model to go on, and the stream that does.
#include "rescue_bench.h"

#define CHUNK(id, inside) "data: {\"id\":\"" id "\",\"choices\":[" inside "]}\n\n"
#define TEXT(id, text) CHUNK(id, "{\"index\":0,\"delta\":{\"content\":\"" text "\"}}")
#define ROLE(id) CHUNK(id, "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}")
#define FINISH(id) CHUNK(id, "{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}")
#define DONE "data: [DONE]\n\n"
#define WORDS(id, text) CHUNK(id, "{\"index\":0,\"text\":\"" text "\"}")

static sj_transcript *transcript_of(sj_protocol protocol, const char *events) {
    sj_transcript *t = sj_transcript_new(protocol, SJ_TRANSCRIPT_MAX_BYTES);
    assert_non_null(t);
    sj_slice input = sj_slice_of(events);
    sj_sse sse;
    sj_sse_event event;
    sj_sse_init(&sse, 1 << 20);
    while (sj_sse_next(&sse, &input, &event))
        sj_transcript_event(t, &event);
    sj_sse_free(&sse);
    return t;
}

static void check_body(const sj_transcript *t, const char *body, sj_prefill_form form, const char *expected) {
    sj_buffer out = sj_buffer_with_max(10000);
    assert_true(sj_buffer_text(&out, "before"));
    bool ok = sj_continuation_body(t, sj_slice_of(body), form, &out);
    if (ok != (expected != NULL))
        fail_msg("%s: %s", body, ok ? "built" : "refused");
    sj_slice got = sj_slice_from(sj_buffer_slice(&out), 6);
    if (!sj_slice_equal(got, sj_slice_of(expected ? expected : "")))
        fail_msg("got %.*s", (int)got.n, got.p);
    assert_true(!ok || sj_json_check(got) == SJ_JSON_WHOLE);
    sj_buffer_free(&out);
}

// ---- requests ---------------------------------------------------------------------------------------------------------------

typedef struct body {
    const char *body;
    sj_prefill_form form;
    const char *expected; // NULL: refused
} body;

static void chat_bodies(void **state) {
    (void)state;
    static const body rows[] = {
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"q\"}],\"stream\":true}",
         SJ_PREFILL_PLAIN,
         "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\","
         "\"content\":\"a \\\"b\\\"\\n\xf0\x9f\x98\x80\"}],\"stream\":true}"},
        {" { \"messages\" : [ {\"role\":\"user\"} ] , \"n\":1 } \n", SJ_PREFILL_PREFIX,
         " { \"messages\" : [ {\"role\":\"user\"},{\"role\":\"assistant\",\"content\":\"a "
         "\\\"b\\\"\\n\xf0\x9f\x98\x80\",\"prefix\":true} ] , \"n\":1 } \n"},
        {"{\"messages\":[{\"role\":\"user\"}],\"n\":null,\"tools\":[]}", SJ_PREFILL_PARTIAL,
         "{\"messages\":[{\"role\":\"user\"},{\"role\":\"assistant\",\"content\":\"a "
         "\\\"b\\\"\\n\xf0\x9f\x98\x80\",\"partial\":true}],\"n\":null,\"tools\":[]}"},
        {"{\"messages\":[{\"role\":\"user\"}] }", SJ_PREFILL_CONTINUE_FINAL,
         "{\"messages\":[{\"role\":\"user\"},{\"role\":\"assistant\",\"content\":\"a "
         "\\\"b\\\"\\n\xf0\x9f\x98\x80\"}] "
         ",\"continue_final_message\":true,\"add_generation_prompt\":false}"},
        {"{\"messages\":[{\"role\":\"user\"}],\"continue_final_message\":true}", SJ_PREFILL_CONTINUE_FINAL,
         "{\"messages\":[{\"role\":\"user\"},{\"role\":\"assistant\",\"content\":\"a "
         "\\\"b\\\"\\n\xf0\x9f\x98\x80\"}],\"continue_final_message\":true}"},
        // The client's own beginning of an answer grows.
        {"{\"messages\":[{\"role\":\"assistant\",\"content\":\"Sure: \\u0041\"}]}", SJ_PREFILL_PLAIN,
         "{\"messages\":[{\"role\":\"assistant\",\"content\":\"Sure: \\u0041a "
         "\\\"b\\\"\\n\xf0\x9f\x98\x80\"}]}"},
        {"{\"messages\":[{\"content\":\"\",\"role\":\"assistant\"}]}", SJ_PREFILL_PREFIX,
         "{\"messages\":[{\"content\":\"a "
         "\\\"b\\\"\\n\xf0\x9f\x98\x80\",\"prefix\":true,\"role\":\"assistant\"}]}"},
        {"{\"messages\":[{\"prefix\":true,\"content\":\"\",\"role\":\"assistant\"}]}", SJ_PREFILL_PREFIX,
         "{\"messages\":[{\"prefix\":true,\"content\":\"a "
         "\\\"b\\\"\\n\xf0\x9f\x98\x80\",\"role\":\"assistant\"}]}"},
        {"{\"messages\":[{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"x\"}]}]}",
         SJ_PREFILL_PLAIN, NULL},
        {"{\"messages\":[{\"role\":\"assistant\",\"content\":\"x\",\"tool_calls\":[{}]}]}", SJ_PREFILL_PLAIN,
         NULL},
        {"{\"messages\":[]}", SJ_PREFILL_PLAIN, NULL},
        {"{\"messages\":[1]}", SJ_PREFILL_PLAIN, NULL},
        {"{\"messages\":\"x\"}", SJ_PREFILL_PLAIN, NULL},
        {"{\"prompt\":\"x\"}", SJ_PREFILL_PLAIN, NULL},
        {"{}", SJ_PREFILL_PLAIN, NULL},
        {"[]", SJ_PREFILL_PLAIN, NULL},
        {"", SJ_PREFILL_PLAIN, NULL},
        {"{\"messages\":[{\"role\":\"user\"}]", SJ_PREFILL_PLAIN, NULL},
        {"{\"messages\":[{\"role\":\"user\"}],\"messages\":[{\"role\":\"user\"}]}", SJ_PREFILL_PLAIN, NULL},
        {"{\"messages\":[{\"role\":\"user\"}],\"n\":2}", SJ_PREFILL_PLAIN, NULL},
        {"{\"messages\":[{\"role\":\"user\"}],\"tools\":[{}]}", SJ_PREFILL_PLAIN, NULL},
        {"{\"messages\":[{\"role\":\"user\"}],\"functions\":[{}]}", SJ_PREFILL_PLAIN, NULL},
    };
    sj_transcript *t = transcript_of(SJ_PROTOCOL_CHAT, ROLE("x") TEXT("x", "a \\\"b")
                                                           TEXT("x", "\\\"\\n\\ud83d") TEXT("x", "\\ude00"));
    for (size_t i = 0; i < COUNT(rows); i++)
        check_body(t, rows[i].body, rows[i].form, rows[i].expected);
    sj_transcript_free(&t);
}

static void completion_bodies(void **state) {
    (void)state;
    static const body rows[] = {
        {"{\"prompt\":\"Once\",\"model\":\"m\"}", SJ_PREFILL_PLAIN,
         "{\"prompt\":\"Once upon \",\"model\":\"m\"}"},
        {"{\"prompt\":[ \"Once\" ],\"echo\":false}", SJ_PREFILL_PREFIX,
         "{\"prompt\":[ \"Once upon \" ],\"echo\":false}"},
        {"{\"prompt\":\"Once\",\"echo\":true}", SJ_PREFILL_PLAIN, NULL},
        {"{\"prompt\":\"Once\",\"best_of\":3}", SJ_PREFILL_PLAIN, NULL},
        {"{\"prompt\":\"Once\",\"suffix\":\"end\"}", SJ_PREFILL_PLAIN, NULL},
        {"{\"prompt\":[\"a\",\"b\"]}", SJ_PREFILL_PLAIN, NULL},
        {"{\"prompt\":[]}", SJ_PREFILL_PLAIN, NULL},
        {"{\"prompt\":[1,2]}", SJ_PREFILL_PLAIN, NULL},
        {"{\"prompt\":[[1,2]]}", SJ_PREFILL_PLAIN, NULL},
        {"{\"messages\":[{\"role\":\"user\"}]}", SJ_PREFILL_PLAIN, NULL},
    };
    sj_transcript *t = transcript_of(SJ_PROTOCOL_COMPLETIONS, WORDS("x", " upon "));
    for (size_t i = 0; i < COUNT(rows); i++)
        check_body(t, rows[i].body, rows[i].form, rows[i].expected);
    sj_transcript_free(&t);
}

static void answers_that_cannot_be_continued(void **state) {
    (void)state;
    static const char *const rows[] = {
        "",
        ROLE("x"),
        TEXT("x", " \\n"), // nothing would be sent
        TEXT("x", "a\\ud83d"),
        TEXT("x", "a") CHUNK("x", "{\"index\":1,\"delta\":{\"content\":\"b\"}}"),
        CHUNK("x", "{\"index\":0,\"delta\":{\"reasoning\":\"hm\"}}") TEXT("x", "a"),
        CHUNK("x", "{\"index\":0,\"delta\":{\"refusal\":\"no\"}}"),
        TEXT("x", "a") CHUNK("x", "{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c\"}]}}"),
        TEXT("x", "a") FINISH("x"),
        TEXT("x", "a") CHUNK("x", "{\"index\":0,\"delta\":{\"audio\":{\"id\":\"c\"}}}"),
    };
    const char *request = "{\"messages\":[{\"role\":\"user\"}]}";
    for (size_t i = 0; i < COUNT(rows); i++) {
        sj_transcript *t = transcript_of(SJ_PROTOCOL_CHAT, rows[i]);
        check_body(t, request, SJ_PREFILL_PLAIN, NULL);
        sj_transcript_free(&t);
    }
    check_body(NULL, request, SJ_PREFILL_PLAIN, NULL);
    sj_transcript *t = transcript_of(SJ_PROTOCOL_RESPONSES, "data: {\"type\":\"response.created\"}\n\n");
    check_body(t, request, SJ_PREFILL_PLAIN, NULL);
    sj_transcript_free(&t);
}

static void bodies_are_bounded(void **state) {
    (void)state;
    sj_transcript *t = transcript_of(SJ_PROTOCOL_CHAT, TEXT("x", "abc"));
    sj_slice request = SJ_SLICE("{\"messages\":[{\"role\":\"user\"}]}");
    for (size_t max = 0; max < 100; max++) {
        sj_buffer out = sj_buffer_with_max(max);
        bool ok = sj_continuation_body(t, request, SJ_PREFILL_PLAIN, &out);
        assert_true(ok == (max >= request.n + strlen(",{\"role\":\"assistant\",\"content\":\"abc\"}")));
        assert_true(ok || out.n == 0);
        sj_buffer_free(&out);
    }
    sj_transcript_free(&t);
}

static void forms_by_host(void **state) {
    (void)state;
    static const struct {
        const char *host;
        sj_prefill_form form;
    } rows[] = {
        {"api.deepseek.com", SJ_PREFILL_PREFIX},
        {"API.Mistral.AI", SJ_PREFILL_PREFIX},
        {"mistral.ai", SJ_PREFILL_PREFIX},
        {"notmistral.ai", SJ_PREFILL_PLAIN},
        {"api.moonshot.cn", SJ_PREFILL_PARTIAL},
        {"dashscope-intl.aliyuncs.com", SJ_PREFILL_PARTIAL},
        {"openrouter.ai", SJ_PREFILL_PLAIN},
        {"127.0.0.1", SJ_PREFILL_PLAIN},
        {"deepseek.com.evil.example", SJ_PREFILL_PLAIN},
        {"", SJ_PREFILL_PLAIN},
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        assert_int_equal(sj_prefill_form_of(sj_slice_of(rows[i].host)), rows[i].form);
}

// ---- streams ----------------------------------------------------------------------------------------------------------------

typedef struct example {
    const char *name, *has, *says, *gets;
} example;

static void check_stream(sj_protocol protocol, const example *e) {
    sj_transcript *t = transcript_of(protocol, e->has);
    sj_replay *replay = sj_replay_new(t, SJ_REPLAY_CONTINUE);
    assert_non_null(replay);
    assert_true(sj_replay_has_caught_up(replay));
    sj_buffer out = sj_buffer_with_max(1 << 20);
    sj_slice input = sj_slice_of(e->says), bytes;
    sj_sse sse;
    sj_sse_event event;
    sj_sse_init(&sse, 1 << 20);
    while (sj_sse_next(&sse, &input, &event)) {
        assert_int_not_equal(sj_replay_event(replay, &event, &bytes), SJ_REPLAY_DIVERGED);
        assert_true(sj_buffer_add(&out, bytes));
    }
    if (!sj_slice_equal(sj_buffer_slice(&out), sj_slice_of(e->gets)))
        fail_msg("%s: got\n%.*s", e->name, (int)out.n, out.p ? out.p : "");
    sj_replay_free(&replay);
    // Whatever went on is in the transcript: a stream that says all of it once more adds nothing.
    replay = sj_replay_new(t, SJ_REPLAY_AGAIN);
    client *c = calloc(1, sizeof *c);
    client_bytes(c, sj_slice_of(e->has));
    client_bytes(c, sj_buffer_slice(&out));
    sj_buffer again = sj_buffer_with_max(100000);
    const units *text = protocol == SJ_PROTOCOL_CHAT ? &c->choices[0].content : &c->choices[0].text;
    assert_true(sj_buffer_text(&again, protocol == SJ_PROTOCOL_CHAT
                                           ? "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":"
                                           : "data: {\"choices\":[{\"index\":0,\"text\":"));
    units_write(text->p, text->n, NULL, &again);
    assert_true(sj_buffer_text(&again, protocol == SJ_PROTOCOL_CHAT ? "}}]}\n\n" : "}]}\n\n"));
    input = sj_buffer_slice(&again);
    assert_true(sj_sse_next(&sse, &input, &event));
    assert_int_equal(sj_replay_event(replay, &event, &bytes), SJ_REPLAY_SWALLOWED);
    assert_true(sj_replay_has_caught_up(replay));
    sj_replay_free(&replay);
    sj_transcript_free(&t);
    sj_sse_free(&sse);
    sj_buffer_free(&out);
    sj_buffer_free(&again);
    free(c);
}

static void the_stream_goes_on(void **state) {
    (void)state;
    static const example rows[] = {
        {"plainly", ROLE("a") TEXT("a", "Hel"), ROLE("b") TEXT("b", "lo") FINISH("b") DONE,
         TEXT("a", "lo") FINISH("a") DONE},
        {"with the role in each chunk", ROLE("a") TEXT("a", "Hel"),
         CHUNK("b", "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"lo\"}}"), TEXT("a", "lo")},
        {"after an echo in one piece", TEXT("a", "Hel"), TEXT("b", "Hel") TEXT("b", "lo"), TEXT("a", "lo")},
        {"after an echo that runs on", TEXT("a", "Hel"), TEXT("b", "Hello"), TEXT("a", "lo")},
        {"after an echo in pieces", TEXT("a", "Hel"), TEXT("b", "H") TEXT("b", "e") TEXT("b", "lo"),
         TEXT("a", "o")},
        {"after what only looked like an echo", TEXT("a", "Hello"),
         TEXT("b", "He") TEXT("b", "l") TEXT("b", "p!"), TEXT("a", "He") TEXT("a", "l") TEXT("a", "p!")},
        {"with less than an echo to its end", TEXT("a", "Hello"), TEXT("b", "He") FINISH("b") DONE,
         TEXT("a", "He") FINISH("a") DONE},
        {"with less than an echo, done", TEXT("a", "Hello"), TEXT("b", "He") DONE, TEXT("a", "He") DONE},
        {"with comments before all is clear", TEXT("a", "Hello"), TEXT("b", "He") ": x\n\n" TEXT("b", "y"),
         ": x\n\n" TEXT("a", "He") TEXT("a", "y")},
        {"past white space that was left out", TEXT("a", "Hello \\n"), TEXT("b", " ") TEXT("b", "\\nworld"),
         TEXT("a", "world")},
        {"past some of that white space", TEXT("a", "Hello \\n"), TEXT("b", " world"), TEXT("a", "world")},
        {"past none of it", TEXT("a", "Hello "), TEXT("b", "world") TEXT("b", " "),
         TEXT("a", "world") TEXT("a", " ")},
        {"past an echo without the white space", TEXT("a", "Hello "), TEXT("b", "Hello") TEXT("b", ", w"),
         TEXT("a", ", w")},
        {"past an echo, then white space", TEXT("a", "Hello "), TEXT("b", "Hello world"), TEXT("a", "world")},
        {"past what only looked like an echo, with its white space", TEXT("a", "Hello "),
         TEXT("b", "He") TEXT("b", " x"), TEXT("a", "He") TEXT("a", " x")},
        {"with only one echo", TEXT("a", "ab"), TEXT("b", "ab") TEXT("b", "ab"), TEXT("a", "ab")},
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        check_stream(SJ_PROTOCOL_CHAT, &rows[i]);
    static const example words[] = {
        {"prompt and text", WORDS("a", " upon "), WORDS("b", "a time"), WORDS("a", "a time")},
        {"white space was sent", WORDS("a", " upon "), WORDS("b", " a"), WORDS("a", " a")},
    };
    for (size_t i = 0; i < COUNT(words); i++)
        check_stream(SJ_PROTOCOL_COMPLETIONS, &words[i]);
}

// An echo that is longer than what is held for it ends the rescue, not the memory.
static void echoes_are_bounded(void **state) {
    (void)state;
    sj_transcript *t = sj_transcript_new(SJ_PROTOCOL_CHAT, SJ_TRANSCRIPT_MAX_BYTES);
    stream *s = stream_new();
    for (int i = 0; i < 1900; i++)
        stream_add(s,
                   "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%d\"}}],\"x\":\"%0300d\"}\n\n",
                   i, 0);
    stream_pass(s, s->count, t, NULL);
    sj_replay *replay = sj_replay_new(t, SJ_REPLAY_CONTINUE);
    assert_false(stream_replay(s, s->count, replay, NULL));
    sj_replay_free(&replay);
    sj_transcript_free(&t);
    stream_free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chat_bodies),
        cmocka_unit_test(completion_bodies),
        cmocka_unit_test(answers_that_cannot_be_continued),
        cmocka_unit_test(bodies_are_bounded),
        cmocka_unit_test(forms_by_host),
        cmocka_unit_test(the_stream_goes_on),
        cmocka_unit_test(echoes_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
