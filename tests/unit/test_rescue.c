// Chat and completions by example: each row is what the client has, then a second stream, then what of it goes on, byte for byte.
#include "rescue_bench.h"

#define HEAD "data: {\"id\":\"a\",\"created\":1,\"model\":\"m\",\"choices\":["
#define NEXT "data: {\"id\":\"b\",\"created\":2,\"model\":\"n\",\"choices\":["
#define MIXED "data: {\"id\":\"a\",\"created\":1,\"model\":\"n\",\"choices\":["
#define TAIL "]}\n\n"
#define DELTA(inside) "{\"index\":0,\"delta\":{" inside "},\"finish_reason\":null}"
#define HAS(inside) HEAD DELTA(inside) TAIL
#define SAYS(inside) NEXT DELTA(inside) TAIL
#define GETS(inside) MIXED DELTA(inside) TAIL
#define FINISH "{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}"
#define DONE "data: [DONE]\n\n"
#define CALL(inside) "\"tool_calls\":[{\"index\":0," inside "}]"

typedef struct example {
    const char *name, *has, *says;
    const char *gets; // NULL: the second stream diverges at its last event, with nothing passed on
} example;

static sj_protocol protocol = SJ_PROTOCOL_CHAT;

static sj_transcript *transcript_of(const char *events) {
    sj_transcript *t = sj_transcript_new(protocol, SJ_TRANSCRIPT_MAX_BYTES);
    assert_non_null(t);
    sj_slice input = sj_slice_of(events);
    sj_sse sse;
    sj_sse_event event;
    sj_sse_init(&sse, 1 << 20);
    while (sj_sse_next(&sse, &input, &event))
        sj_transcript_event(t, &event);
    assert_int_equal(sj_sse_held_bytes(&sse), 0);
    sj_sse_free(&sse);
    return t;
}

// What goes on of a whole stream; the outcome of its last event.
static sj_replay_outcome replay_all(sj_replay *replay, const char *events, sj_buffer *out) {
    sj_slice input = sj_slice_of(events), bytes;
    sj_sse sse;
    sj_sse_event event;
    sj_replay_outcome outcome = SJ_REPLAY_SWALLOWED;
    sj_sse_init(&sse, 1 << 20);
    while (sj_sse_next(&sse, &input, &event)) {
        assert_int_not_equal(outcome, SJ_REPLAY_DIVERGED);
        outcome = sj_replay_event(replay, &event, &bytes);
        assert_true(sj_buffer_add(out, bytes));
    }
    sj_sse_free(&sse);
    return outcome;
}

static void check_example(const example *e, sj_replay_mode mode) {
    sj_transcript *t = transcript_of(e->has);
    sj_replay *replay = sj_replay_new(t, mode);
    sj_buffer out = sj_buffer_with_max(1 << 20);
    assert_non_null(replay);
    sj_replay_outcome outcome = replay_all(replay, e->says, &out);
    sj_slice gets = sj_slice_of(e->gets ? e->gets : "");
    if (!sj_slice_equal(sj_buffer_slice(&out), gets))
        fail_msg("%s: got\n%.*s", e->name, (int)out.n, out.p ? out.p : "");
    if ((outcome == SJ_REPLAY_DIVERGED) != (e->gets == NULL))
        fail_msg("%s: outcome %d", e->name, outcome);
    sj_buffer_free(&out);
    sj_replay_free(&replay);
    sj_transcript_free(&t);
}

static void check_all(const example *examples, size_t count, sj_replay_mode mode) {
    for (size_t i = 0; i < count; i++)
        check_example(&examples[i], mode);
}

static void only_the_rest_goes_on(void **state) {
    (void)state;
    static const example rows[] = {
        {"the same pieces", HAS("\"content\":\"Hel\""),
         SAYS("\"content\":\"Hel\"") SAYS("\"content\":\"lo\""), GETS("\"content\":\"lo\"")},
        {"a piece that runs on", HAS("\"content\":\"Hel\""), SAYS("\"content\":\"Hello\""),
         GETS("\"content\":\"lo\"")},
        {"one character at a time", HAS("\"content\":\"ab\""),
         SAYS("\"content\":\"a\"") SAYS("\"content\":\"b\"") SAYS("\"content\":\"c\""),
         GETS("\"content\":\"c\"")},
        {"the rest keeps its escapes", HAS("\"content\":\"x\""),
         SAYS("\"content\":\"\\u0078\\n\\u00e9\\/y\""), GETS("\"content\":\"\\n\\u00e9\\/y\"")},
        {"escaped and raw are the same text", HAS("\"content\":\"\\u65e5\\ud83d\\ude00\\u002f\""),
         SAYS("\"content\":\"\xe6\x97\xa5\xf0\x9f\x98\x80\\/!\""), GETS("\"content\":\"!\"")},
        {"raw and escaped", HAS("\"content\":\"\xe6\x97\xa5\xf0\x9f\x98\x80/\""),
         SAYS("\"content\":\"\\u65E5\\uD83D\\uDE00/!\""), GETS("\"content\":\"!\"")},
        {"broken inside a pair", HAS("\"content\":\"\\ud83d\""), SAYS("\"content\":\"\xf0\x9f\x98\x80!\""),
         GETS("\"content\":\"\\ude00!\"")},
        {"a pair cut in the second stream", HAS("\"content\":\"\xf0\x9f\x98\x80\""),
         SAYS("\"content\":\"\\ud83d\"") SAYS("\"content\":\"\\ude00!\""), GETS("\"content\":\"!\"")},
        {"zero bytes", HAS("\"content\":\"a\\u0000b\""), SAYS("\"content\":\"a\\u0000bc\""),
         GETS("\"content\":\"c\"")},
        {"roles are not sent twice", HAS("\"role\":\"assistant\",\"content\":\"a\""),
         SAYS("\"role\":\"assistant\",\"content\":\"\"") SAYS("\"role\":\"assistant\",\"content\":\"ab\""),
         GETS("\"content\":\"b\"")},
        {"a role in the middle", HAS("\"role\":\"assistant\",\"content\":\"a\""),
         SAYS("\"content\":\"ab\" , \"role\" : \"assistant\" , \"x\":null"),
         GETS("\"content\":\"b\" , \"x\":null")},
        {"a role at the end", HAS("\"role\":\"assistant\",\"content\":\"a\""),
         SAYS("\"content\":\"ab\" , \"role\":\"assistant\""), GETS("\"content\":\"b\" ")},
        {"a role beside another name for the text", HAS("\"role\":\"assistant\",\"reasoning\":\"a\""),
         SAYS("\"reasoning\":\"ab\",\"role\":\"assistant\",\"reasoning_content\":\"ab\""),
         GETS("\"reasoning\":\"b\"")},
        {"reasoning under another name", HAS("\"reasoning_content\":\"hm\""), SAYS("\"reasoning\":\"hmm\""),
         GETS("\"reasoning\":\"m\"")},
        {"reasoning, then content", HAS("\"reasoning\":\"hm\"") HAS("\"content\":\"a\""),
         SAYS("\"reasoning\":\"h\"") SAYS("\"reasoning\":\"m\",\"content\":\"ab\""),
         GETS("\"reasoning\":\"\",\"content\":\"b\"")},
        {"refusal", HAS("\"refusal\":\"no\""), SAYS("\"refusal\":\"no, never\""),
         GETS("\"refusal\":\", never\"")},
        {"whole new deltas stay as they are", HAS("\"content\":\"a\""),
         SAYS("\"content\":\"a\"") NEXT
         "{\"index\":0,\"delta\":{\"content\":\"b\",\"reasoning_details\":[1]},"
         "\"logprobs\":{\"content\":[]},\"finish_reason\":null}],\"usage\":{}}\n\n",
         MIXED "{\"index\":0,\"delta\":{\"content\":\"b\",\"reasoning_details\":[1]},"
               "\"logprobs\":{\"content\":[]},\"finish_reason\":null}],\"usage\":{}}\n\n"},
        {"logprobs and companions of a part do not", HAS("\"content\":\"a\""),
         NEXT "{\"index\":0,\"delta\":{\"content\":\"ab\",\"reasoning_details\":[1]},"
              "\"logprobs\":{\"content\":[1]},\"finish_reason\":null}],\"service_tier\":\"x\"}\n\n",
         MIXED "{\"index\":0,\"delta\":{\"content\":\"b\"},\"logprobs\":null,\"finish_reason\":null}],"
               "\"service_tier\":\"x\"}\n\n"},
        {"finish with the last of the text", HAS("\"content\":\"ab\""),
         NEXT "{\"index\":0,\"delta\":{\"content\":\"ab\"},\"finish_reason\":\"stop\"}" TAIL DONE,
         MIXED "{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":\"stop\"}" TAIL DONE},
        {"usage at the end", HAS("\"content\":\"a\""),
         SAYS("\"content\":\"a\"") NEXT FINISH TAIL NEXT "],\"usage\":{\"total_tokens\":3}}\n\n" DONE,
         MIXED FINISH TAIL MIXED "],\"usage\":{\"total_tokens\":3}}\n\n" DONE},
        {"chunks before it has caught up stay here", HAS("\"content\":\"a\""),
         NEXT "],\"prompt_filter_results\":[]}\n\n" SAYS("") SAYS("\"content\":\"a\"") SAYS(""), GETS("")},
        {"a missing id", HAS("\"content\":\"a\""), "data: { \"choices\":[" DELTA("\"content\":\"ab\"") TAIL,
         "data: {\"id\":\"a\", \"choices\":[" DELTA("\"content\":\"b\"") TAIL},
        {"no id at first", "data: {\"choices\":[" DELTA("\"content\":\"a\"") TAIL, SAYS("\"content\":\"ab\""),
         NEXT DELTA("\"content\":\"b\"") TAIL},
        {"another choice begins", HAS("\"content\":\"a\""),
         NEXT
         "{\"index\":1,\"delta\":{\"role\":\"assistant\",\"content\":\"z\"}}" TAIL SAYS("\"content\":\"ab\""),
         MIXED
         "{\"index\":1,\"delta\":{\"role\":\"assistant\",\"content\":\"z\"}}" TAIL GETS("\"content\":\"b\"")},
        {"a choice that is over, and one that is not",
         HEAD FINISH ",{\"index\":1,\"delta\":{\"content\":\"a\"}}" TAIL,
         NEXT FINISH ",{\"index\":1,\"delta\":{\"content\":\"ab\"}}" TAIL,
         MIXED "{\"index\":0,\"delta\":{},\"finish_reason\":null},{\"index\":1,\"delta\":{\"content\":\"b\"}"
               "}" TAIL},
        {"errors are not for the client", HAS("\"content\":\"a\""),
         SAYS("\"content\":\"a\"") "data: {\"error\":{\"code\":\"x\"}}\n\nevent: error\ndata: {}\n\ndata: "
                                   "oops\n\n",
         ""},
        {"text as in completions", HEAD "{\"index\":0,\"text\":\"a\"}" TAIL,
         NEXT "{\"text\":\"ab\",\"index\":0,\"logprobs\":null,\"finish_reason\":null}" TAIL,
         MIXED "{\"text\":\"b\",\"index\":0,\"logprobs\":null,\"finish_reason\":null}" TAIL},
    };
    protocol = SJ_PROTOCOL_CHAT;
    check_all(rows, COUNT(rows), SJ_REPLAY_AGAIN);
    protocol = SJ_PROTOCOL_COMPLETIONS;
    check_all(&rows[COUNT(rows) - 1], 1, SJ_REPLAY_AGAIN);
    protocol = SJ_PROTOCOL_CHAT;
}

static void another_answer_stops_it(void **state) {
    (void)state;
    static const example rows[] = {
        {"first character", HAS("\"content\":\"abc\""), SAYS("\"content\":\"xbc\""), NULL},
        {"last character", HAS("\"content\":\"abc\""), SAYS("\"content\":\"abx\""), NULL},
        {"later", HAS("\"content\":\"abc\""), SAYS("\"content\":\"ab\"") SAYS("\"content\":\"d\""), NULL},
        {"case of a letter", HAS("\"content\":\"A\""), SAYS("\"content\":\"a\""), NULL},
        {"composed otherwise", HAS("\"content\":\"\xc3\xa9\""), SAYS("\"content\":\"e\xcc\x81\""), NULL},
        {"the other half of a pair", HAS("\"content\":\"\xf0\x9f\x98\x80\""),
         SAYS("\"content\":\"\xf0\x9f\x98\x81\""), NULL},
        {"no UTF-8", HAS("\"content\":\"\xc3\xa9\""), SAYS("\"content\":\"\xc3\""), NULL},
        {"it finishes first", HAS("\"content\":\"abc\""), SAYS("\"content\":\"ab\"") NEXT FINISH TAIL, NULL},
        {"it is done first", HAS("\"content\":\"abc\""), SAYS("\"content\":\"ab\"") DONE, NULL},
        {"it has fewer choices",
         HEAD "{\"index\":1,\"delta\":{\"content\":\"a\"}}" TAIL HAS("\"content\":\"a\""),
         SAYS("\"content\":\"a\"") DONE, NULL},
        {"content without the reasoning", HAS("\"reasoning\":\"hm\"") HAS("\"content\":\"a\""),
         SAYS("\"content\":\"ab\""), NULL},
        {"more reasoning before the content", HAS("\"reasoning\":\"hm\"") HAS("\"content\":\"a\""),
         SAYS("\"reasoning\":\"hmm\""), NULL},
        {"content instead of a refusal", HAS("\"refusal\":\"no\""), SAYS("\"content\":\"yes\""), NULL},
        {"a tool instead of text", HAS("\"content\":\"a\""),
         SAYS(CALL("\"id\":\"y\",\"function\":{\"name\":\"f\"}")), NULL},
        {"content as a list", HAS("\"content\":\"a\""), SAYS("\"content\":[{\"text\":\"a\"}]"), NULL},
        {"text after its choice was finished",
         HEAD "{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}" TAIL,
         SAYS("\"content\":\"a\"") SAYS("\"content\":\"b\""), NULL},
        {"another tool", HAS(CALL("\"id\":\"x\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}")),
         SAYS(CALL("\"id\":\"y\",\"function\":{\"name\":\"g\",\"arguments\":\"\"}")), NULL},
        {"a longer name", HAS(CALL("\"id\":\"x\",\"function\":{\"name\":\"f\",\"arguments\":\"{\"}")),
         SAYS(CALL("\"id\":\"y\",\"function\":{\"name\":\"fg\",\"arguments\":\"\"}")), NULL},
        {"other arguments", HAS(CALL("\"id\":\"x\",\"function\":{\"name\":\"f\",\"arguments\":\"{1\"}")),
         SAYS(CALL("\"id\":\"y\",\"function\":{\"name\":\"f\",\"arguments\":\"{2\"}")), NULL},
        {"one index for two calls",
         HAS(CALL("\"id\":\"x\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}")),
         SAYS(CALL("\"id\":\"y\",\"function\":{\"name\":\"f\",\"arguments\":\"{\"}"))
             SAYS(CALL("\"id\":\"z\",\"function\":{\"name\":\"f\",\"arguments\":\"}\"}")),
         NULL},
        {"the second call before the first is complete",
         HAS(CALL("\"id\":\"x\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}")),
         SAYS(CALL("\"id\":\"y\",\"function\":{\"name\":\"f\",\"arguments\":\"{\"}")) SAYS(
             "\"tool_calls\":[{\"index\":1,\"id\":\"z\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]"),
         NULL},
    };
    check_all(rows, COUNT(rows), SJ_REPLAY_AGAIN);
}

#define HAS_CALL                                                                                             \
    HAS(CALL("\"id\":\"x\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{1\"}"))

static void tool_calls(void **state) {
    (void)state;
    static const example rows[] = {
        {"the call keeps its id", HAS_CALL,
         SAYS(CALL("\"id\":\"y\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}"))
             SAYS(CALL("\"function\":{\"arguments\":\"{1,2}\"}")),
         GETS(CALL("\"function\":{\"arguments\":\",2}\"}"))},
        {"all in one", HAS_CALL,
         SAYS(CALL("\"id\":\"y\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{1,2}\"},"
                   "\"extra\":1")),
         GETS(CALL("\"function\":{\"arguments\":\",2}\"}"))},
        {"id and name in each fragment", HAS_CALL,
         SAYS(CALL("\"id\":\"y\",\"function\":{\"name\":\"f\",\"arguments\":\"{1\"}"))
             SAYS(CALL("\"id\":\"y\",\"function\":{\"arguments\":\",2\",\"name\":\"f\"}")),
         GETS(CALL("\"function\":{\"arguments\":\",2\"}"))},
        {"a second call", HAS_CALL,
         SAYS(CALL("\"id\":\"y\",\"function\":{\"name\":\"f\",\"arguments\":\"{1}\"}")) SAYS(
             "\"tool_calls\":[{\"index\":1,\"id\":\"z\",\"type\":\"function\",\"function\":{\"name\":\"g\","
             "\"arguments\":\"\"}}]"),
         GETS(CALL("\"function\":{\"arguments\":\"}\"}")) GETS(
             "\"tool_calls\":[{\"index\":1,\"id\":\"z\",\"type\":\"function\",\"function\":{\"name\":\"g\","
             "\"arguments\":\"\"}}]")},
        {"both in one event", HAS_CALL,
         SAYS("\"tool_calls\":[{\"index\":0,\"id\":\"y\",\"function\":{\"name\":\"f\",\"arguments\":\"{1\"}},"
              "{\"index\":1,\"id\":\"z\",\"function\":{\"name\":\"g\",\"arguments\":\"3\"}}]"),
         GETS("\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"\"}},"
              "{\"index\":1,\"id\":\"z\",\"function\":{\"name\":\"g\",\"arguments\":\"3\"}}]")},
        {"two fragments of one call in one event", HAS_CALL,
         SAYS(
             "\"tool_calls\":[{\"index\":0,\"id\":\"y\",\"function\":{\"name\":\"f\",\"arguments\":\"{1,\"}},"
             "{\"index\":0,\"function\":{\"arguments\":\"2\"}}]")
             SAYS(CALL("\"function\":{\"arguments\":\"}\"}")),
         GETS("\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\",\"}},"
              "{\"index\":0,\"function\":{\"arguments\":\"2\"}}]")
             GETS(CALL("\"function\":{\"arguments\":\"}\"}"))},
        {"text, then a call", HAS("\"content\":\"a\""),
         SAYS("\"content\":\"a\"")
             SAYS(CALL("\"id\":\"y\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}")),
         GETS(CALL("\"id\":\"y\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}"))},
        {"custom tools",
         HAS(CALL("\"id\":\"x\",\"type\":\"custom\",\"custom\":{\"name\":\"f\",\"input\":\"a\"}")),
         SAYS(CALL("\"id\":\"y\",\"type\":\"custom\",\"custom\":{\"name\":\"f\",\"input\":\"ab\"}")),
         GETS(CALL("\"custom\":{\"input\":\"b\"}"))},
        {"the old form", HAS("\"function_call\":{\"name\":\"f\",\"arguments\":\"{\"}"),
         SAYS("\"function_call\":{\"name\":\"f\",\"arguments\":\"{}\"}"),
         GETS("\"function_call\":{\"arguments\":\"}\"}")},
    };
    check_all(rows, COUNT(rows), SJ_REPLAY_AGAIN);
}

static void framing(void **state) {
    (void)state;
    static const example rows[] = {
        {"comments pass, at any time", HAS("\"content\":\"a\""),
         ": ping\n\n" SAYS("\"content\":\"a\"") "id: 7\n\n", ": ping\n\nid: 7\n\n"},
        {"lines around the data", HAS("\"content\":\"a\""),
         ": x\r\nevent: chunk\r\ndata:{\"id\":\"b\",\"choices\":[" DELTA(
             "\"content\":\"ab\"") "]}\r\nid: 7\r\n\r\n",
         ": x\r\nevent: chunk\r\ndata:{\"id\":\"a\",\"choices\":[" DELTA(
             "\"content\":\"b\"") "]}\r\nid: 7\r\n\r\n"},
        {"data of several lines", HAS("\"content\":\"a\""),
         "event: chunk\ndata: {\"id\":\"b\",\ndata: \"choices\":[\ndata: " DELTA(
             "\"content\":\"ab\"") "]\ndata: }\n\n",
         "event: chunk\ndata: {\"id\":\"a\", \"choices\":[ " DELTA("\"content\":\"b\"") "] }\n\n"},
        {"a byte order mark", HEAD "{\"index\":0,\"delta\":{\"role\":\"assistant\"}}" TAIL,
         "\xef\xbb\xbf" SAYS("\"content\":\"a\""), GETS("\"content\":\"a\"")},
        {"what is no byte order mark later on", HAS("\"content\":\"a\""), ": x\n\n\xef\xbb\xbf: y\n\n",
         ": x\n\n\xef\xbb\xbf: y\n\n"},
        {"the very same bytes", HAS("\"content\":\"a\""), HAS("\"content\":\"a\"") HAS("\"content\":\"b\""),
         HAS("\"content\":\"b\"")},
    };
    check_all(rows, COUNT(rows), SJ_REPLAY_AGAIN);
}

// ---- what cannot be rescued -------------------------------------------------------------------------------------------------

static void streams_that_cannot_be_compared(void **state) {
    (void)state;
    static const char *const rows[] = {
        HAS("\"audio\":{\"data\":\"x\"}"),
        HAS("\"images\":[{}]"),
        HAS("\"content\":[{\"type\":\"text\",\"text\":\"a\"}]"),
        HAS("\"content\":{\"a\":1}"),
        HAS("\"con\\u0074ent\":\"a\""),
        HAS("\"content\":\"\xff\""),
        HAS("\"content\":\"\xed\xa0\x80\""),
        HAS("\"tool_calls\":[{\"id\":\"x\",\"function\":{\"name\":\"f\"}}]"),
        HAS("\"tool_calls\":[{\"index\":-1,\"id\":\"x\",\"function\":{\"name\":\"f\"}}]"),
        HAS("\"tool_calls\":[{\"index\":0,\"id\":\"x\",\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1}}}"
            "]"),
        HAS(CALL("\"id\":\"x\",\"function\":{\"name\":\"f\"}"))
            HAS(CALL("\"id\":\"y\",\"function\":{\"name\":\"f\"}")),
        HEAD "{\"index\":0,\"message\":{\"content\":\"a\"}}" TAIL,
        HEAD "{\"index\":99999,\"delta\":{\"content\":\"a\"}}" TAIL,
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        sj_transcript *t = transcript_of(rows[i]);
        if (sj_transcript_is_complete(t))
            fail_msg("%s", rows[i]);
        assert_null(sj_replay_new(t, SJ_REPLAY_AGAIN));
        assert_int_equal(sj_transcript_bytes(t), 0); // nothing is kept for nothing
        sj_transcript_free(&t);
    }
    static const char *const fine[] = {
        HAS("\"audio\":null,\"images\":[],\"content\":null,\"tool_calls\":null"),
        HAS("\"reasoning_details\":[{\"text\":\"a\"}],\"reasoning\":\"a\""),
        "data: {\"error\":{\"message\":\"audio\"}}\n\n",
        "data: not JSON\n\n: comment\n\ndata: [DONE]\n\n",
    };
    for (size_t i = 0; i < COUNT(fine); i++) {
        sj_transcript *t = transcript_of(fine[i]);
        assert_true(sj_transcript_is_complete(t));
        sj_transcript_free(&t);
    }
}

static void protocols_without_rescue(void **state) {
    (void)state;
    static const sj_protocol none[] = {SJ_PROTOCOL_OPAQUE, SJ_PROTOCOL_MESSAGES, SJ_PROTOCOL_ASSISTANTS,
                                       SJ_PROTOCOL_JSON};
    for (size_t i = 0; i < COUNT(none); i++)
        assert_null(sj_transcript_new(none[i], 1000));
    sj_sse_event event = {.has_data = true, .data = {"{}", 2}};
    sj_transcript *t = NULL;
    sj_transcript_event(t, &event);
    assert_false(sj_transcript_is_complete(t));
    assert_int_equal(sj_transcript_bytes(t), 0);
    assert_null(sj_replay_new(t, SJ_REPLAY_AGAIN));
    sj_transcript_free(&t);
    sj_replay *replay = NULL;
    sj_replay_free(&replay);
}

static void memory_is_bounded(void **state) {
    (void)state;
    sj_transcript *t = sj_transcript_new(SJ_PROTOCOL_CHAT, 5000);
    stream *s = stream_new();
    stream_add(s, HAS("\"content\":\"0123456789012345678901234567890123456789\""));
    int passed = 0;
    for (; passed < 1000 && sj_transcript_is_complete(t); passed++) {
        assert_in_range(sj_transcript_bytes(t), 0, 5000);
        stream_pass(s, 1, t, NULL);
    }
    assert_in_range(passed, 100, 126); // 5000 bytes less what holds them
    assert_int_equal(sj_transcript_bytes(t), 0);
    stream_pass(s, 1, t, NULL);
    assert_false(sj_transcript_is_complete(t));
    stream_free(s);
    sj_transcript_free(&t);

    // Many small things are bounded too.
    t = sj_transcript_new(SJ_PROTOCOL_CHAT, 5000);
    s = stream_new();
    for (int i = 0; i < 200; i++)
        stream_add(s, "data: {\"choices\":[{\"index\":%d,\"delta\":{\"role\":\"a\"}}]}\n\n", i);
    stream_pass(s, s->count, t, NULL);
    assert_false(sj_transcript_is_complete(t));
    stream_free(s);
    sj_transcript_free(&t);
}

// The bound is met while a replay runs: the client still gets all of it, but there is no second rescue.
static void bound_met_in_a_replay(void **state) {
    (void)state;
    sj_transcript *t = sj_transcript_new(SJ_PROTOCOL_CHAT, 1000);
    stream *s = stream_new();
    client *c = calloc(1, sizeof *c);
    for (int i = 0; i < 100; i++)
        stream_add(s, HAS("\"content\":\"0123456789\""));
    stream_pass(s, 5, t, c);
    sj_replay *replay = sj_replay_new(t, SJ_REPLAY_AGAIN);
    assert_true(stream_replay(s, s->count, replay, c));
    assert_int_equal(c->choices[0].content.n, 1000);
    assert_false(sj_transcript_is_complete(t));
    assert_true(sj_replay_has_caught_up(replay));
    sj_replay_free(&replay);
    assert_null(sj_replay_new(t, SJ_REPLAY_AGAIN));
    sj_transcript_free(&t);
    stream_free(s);
    free(c);
}

static void events_too_long_to_be_read(void **state) {
    (void)state;
    sj_sse_event piece = {.raw = {"data: x", 7}, .oversize = true};
    sj_slice bytes;
    sj_transcript *t = transcript_of(HAS("\"content\":\"a\""));
    sj_replay *replay = sj_replay_new(t, SJ_REPLAY_AGAIN);
    assert_int_equal(sj_replay_event(replay, &piece, &bytes), SJ_REPLAY_DIVERGED);
    sj_replay_free(&replay);
    replay = sj_replay_new(t, SJ_REPLAY_AGAIN);
    sj_buffer out = sj_buffer_with_max(1000);
    assert_int_equal(replay_all(replay, SAYS("\"content\":\"a\""), &out), SJ_REPLAY_SWALLOWED);
    assert_int_equal(sj_replay_event(replay, &piece, &bytes), SJ_REPLAY_EMIT);
    assert_true(sj_slice_equal(bytes, piece.raw));
    assert_false(sj_transcript_is_complete(t));
    sj_replay_free(&replay);
    sj_transcript_free(&t);
    t = transcript_of("");
    sj_transcript_event(t, &piece);
    assert_false(sj_transcript_is_complete(t));
    sj_transcript_free(&t);
}

static void a_diverged_replay_stays_so(void **state) {
    (void)state;
    sj_transcript *t = transcript_of(HAS("\"content\":\"ab\""));
    sj_replay *replay = sj_replay_new(t, SJ_REPLAY_AGAIN);
    sj_buffer out = sj_buffer_with_max(1000);
    assert_int_equal(replay_all(replay, SAYS("\"content\":\"x\""), &out), SJ_REPLAY_DIVERGED);
    assert_int_equal(replay_all(replay, SAYS("\"content\":\"ab\""), &out), SJ_REPLAY_DIVERGED);
    assert_int_equal(replay_all(replay, DONE, &out), SJ_REPLAY_DIVERGED);
    assert_int_equal(out.n, 0);
    sj_replay_free(&replay);
    // The transcript is none the worse for it.
    replay = sj_replay_new(t, SJ_REPLAY_AGAIN);
    assert_int_equal(replay_all(replay, SAYS("\"content\":\"abc\""), &out), SJ_REPLAY_EMIT);
    assert_true(sj_slice_equal(sj_buffer_slice(&out), SJ_SLICE(GETS("\"content\":\"c\""))));
    sj_buffer_free(&out);
    sj_replay_free(&replay);
    sj_transcript_free(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_rest_goes_on),
        cmocka_unit_test(another_answer_stops_it),
        cmocka_unit_test(tool_calls),
        cmocka_unit_test(framing),
        cmocka_unit_test(streams_that_cannot_be_compared),
        cmocka_unit_test(protocols_without_rescue),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(bound_met_in_a_replay),
        cmocka_unit_test(events_too_long_to_be_read),
        cmocka_unit_test(a_diverged_replay_stays_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
