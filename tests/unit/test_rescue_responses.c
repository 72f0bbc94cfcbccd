// The Responses protocol end to end: a stream of every usual event, broken at each of them, is told whole, once, in order, under the first
// stream's ids and with running sequence numbers.
#include "rescue_bench.h"

typedef struct teller {
    stream *out;
    sj_rng *rng;
    int number; // of the stream: its ids are its own
    int sequence; // -1: this server counts nothing
    const char *answer, *arguments, *summary;
    bool tool, reasons, minimal;
} teller;

// ---- a stream ---------------------------------------------------------------------------------------------------------------

__attribute__((format(printf, 3, 4))) static void tell(teller *t, const char *type, const char *format, ...) {
    char inside[2048], sequence[40] = "";
    va_list args;
    va_start(args, format);
    assert_in_range(vsnprintf(inside, sizeof inside, format, args), 0, sizeof inside - 1);
    va_end(args);
    if (t->sequence >= 0)
        (void)snprintf(sequence, sizeof sequence, ",\"sequence_number\":%d", t->sequence++);
    stream_add(t->out, "event: %s\ndata: {\"type\":\"%s\"%s%s%s}\n\n", type, type, sequence,
               *inside ? "," : "", inside);
}

static void tell_deltas(teller *t, const char *type, const char *where, const char *text) {
    units *all = calloc(1, sizeof *all);
    sj_buffer piece = sj_buffer_with_max(10000);
    units_add_text(all, text);
    for (size_t at = 0, n; at < all->n; at += n) {
        n = (size_t)sj_rng_between(t->rng, 1, 4);
        n = n < all->n - at ? n : all->n - at;
        sj_buffer_clear(&piece);
        units_write(all->p + at, n, t->rng, &piece);
        tell(t, type, "%s,\"delta\":%.*s,\"logprobs\":[1],\"obfuscation\":\"x\"", where, (int)piece.n,
             piece.p);
    }
    sj_buffer_free(&piece);
    free(all);
}

static void tell_response(teller *t, const char *type, const char *status, const char *output) {
    tell(t, type,
         "\"response\":{\"id\":\"resp_%d\",\"object\":\"response\",\"created_at\":%d,\"status\":\"%s\","
         "\"model\":\"m%d\",\"output\":[%s],\"previous_response_id\":null}",
         t->number, 1000 + t->number, status, t->number, output);
}

static int tell_reasoning(teller *t, int item, char *output, size_t size) {
    char where[80];
    (void)snprintf(where, sizeof where, "\"item_id\":\"rs_%d\",\"output_index\":%d,\"summary_index\":0",
                   t->number, item);
    tell(t, "response.output_item.added",
         "\"output_index\":%d,\"item\":{\"id\":\"rs_%d\",\"type\":\"reasoning\",\"summary\":[]}", item,
         t->number);
    tell(t, "response.reasoning_summary_part.added", "%s,\"part\":{\"type\":\"summary_text\",\"text\":\"\"}",
         where);
    tell_deltas(t, "response.reasoning_summary_text.delta", where, t->summary);
    tell(t, "response.reasoning_summary_text.done", "%s,\"text\":\"%s\"", where, t->summary);
    tell(t, "response.reasoning_summary_part.done", "%s,\"part\":{\"type\":\"summary_text\",\"text\":\"%s\"}",
         where, t->summary);
    (void)snprintf(output, size, "{\"id\":\"rs_%d\",\"type\":\"reasoning\"},", t->number);
    tell(t, "response.output_item.done",
         "\"output_index\":%d,\"item\":{\"id\":\"rs_%d\",\"type\":\"reasoning\"}", item, t->number);
    return item + 1;
}

static int tell_message(teller *t, int item, char *output, size_t size) {
    char where[80];
    (void)snprintf(where, sizeof where, "\"item_id\":\"msg_%d\",\"output_index\":%d,\"content_index\":0",
                   t->number, item);
    tell(t, "response.output_item.added",
         "\"output_index\":%d,\"item\":{\"id\":\"msg_%d\",\"type\":\"message\",\"role\":\"assistant\","
         "\"content\":[]}",
         item, t->number);
    if (!t->minimal)
        tell(t, "response.content_part.added", "%s,\"part\":{\"type\":\"output_text\",\"text\":\"\"}", where);
    tell_deltas(t, "response.output_text.delta", where, t->answer);
    if (!t->minimal) {
        tell(t, "response.output_text.annotation.added", "%s,\"annotation_index\":0,\"annotation\":{}",
             where);
        tell(t, "response.output_text.done", "%s,\"text\":\"%s\"", where, t->answer);
        tell(t, "response.content_part.done", "%s,\"part\":{\"type\":\"output_text\",\"text\":\"%s\"}", where,
             t->answer);
    }
    (void)snprintf(output, size, "{\"id\":\"msg_%d\",\"type\":\"message\",\"content\":[{\"text\":\"%s\"}]}",
                   t->number, t->answer);
    tell(t, "response.output_item.done", "\"output_index\":%d,\"item\":%s", item, output);
    return item + 1;
}

static void tell_call(teller *t, int item, char *output, size_t size) {
    char where[80];
    (void)snprintf(where, sizeof where, "\"item_id\":\"fc_%d\",\"output_index\":%d", t->number, item);
    tell(t, "response.output_item.added",
         "\"output_index\":%d,\"item\":{\"id\":\"fc_%d\",\"type\":\"function_call\",\"call_id\":\"call_%d\","
         "\"name\":\"f\",\"arguments\":\"\"}",
         item, t->number, t->number);
    tell_deltas(t, "response.function_call_arguments.delta", where, t->arguments);
    tell(t, "response.function_call_arguments.done", "%s,\"arguments\":\"%s\"", where, t->arguments);
    (void)snprintf(output, size,
                   ",{\"id\":\"fc_%d\",\"type\":\"function_call\",\"call_id\":\"call_%d\",\"name\":\"f\","
                   "\"arguments\":\"%s\"}",
                   t->number, t->number, t->arguments);
    tell(t, "response.output_item.done", "\"output_index\":%d,\"item\":%s", item, output + 1);
}

static void tell_all(teller *t) {
    char reasoning[200] = "", message[400] = "", call[400] = "", output[1000];
    int item = 0;
    tell_response(t, "response.created", "in_progress", "");
    tell_response(t, "response.in_progress", "in_progress", "");
    if (t->reasons)
        item = tell_reasoning(t, item, reasoning, sizeof reasoning);
    item = tell_message(t, item, message, sizeof message);
    if (t->tool)
        tell_call(t, item, call, sizeof call);
    (void)snprintf(output, sizeof output, "%s%s%s", reasoning, message, call);
    tell_response(t, "response.completed", "completed", output);
}

static teller teller_of(sj_rng *rng, int number) {
    return (teller){
        .out = stream_new(),
        .rng = rng,
        .number = number,
        .sequence = 0,
        .answer = "Guten Tag, \xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\x98\x80!",
        .arguments = "{'a':12}",
        .summary = "thinking",
        .tool = true,
        .reasons = true,
    };
}

// ---- its reader -------------------------------------------------------------------------------------------------------------

enum { MAX_TOLD = 200 };

// What a client makes of it: the events by type, deltas added up where they follow each other.
typedef struct reader {
    char told[MAX_TOLD][64];
    int count, sequence, annotations;
    units texts[3];
    char ids[5][40]; // of response, items and call: each stays what it was at first
} reader;

static void check_id(reader *r, sj_slice value, const char *kind) {
    static const char *const kinds[] = {"resp", "msg", "rs", "fc", "call"};
    size_t i = 0;
    while (strcmp(kinds[i], kind) != 0)
        i++;
    if (value.n == 0)
        return;
    assert_true(strncmp(value.p + 1, kind, strlen(kind)) == 0);
    if (!*r->ids[i])
        (void)snprintf(r->ids[i], sizeof r->ids[i], "%.*s", (int)value.n, value.p);
    assert_true(sj_slice_equal(value, sj_slice_of(r->ids[i])));
}

static void check_item(reader *r, sj_slice item) {
    sj_slice type = json_get(item, "type");
    if (type.n == 0)
        return;
    check_id(r, json_get(item, "id"), type.p[1] == 'm' ? "msg" : type.p[1] == 'r' ? "rs" : "fc");
    check_id(r, json_get(item, "call_id"), "call");
}

static bool check_output(void *context, sj_slice key, sj_slice item) {
    (void)key;
    check_item(context, item);
    return true;
}

static void read_delta(reader *r, const char *type, sj_slice data) {
    static const char *const kinds[] = {"response.output_text.", "response.function_call_arguments.",
                                        "response.reasoning_summary_text."};
    static const char *const ids[] = {"msg", "fc", "rs"};
    for (size_t i = 0; i < COUNT(kinds); i++) {
        if (strncmp(type, kinds[i], strlen(kinds[i])) != 0)
            continue;
        check_id(r, json_get(data, "item_id"), ids[i]);
        add_member(&r->texts[i], data, "delta");
    }
}

static void read_told(reader *r, const sj_sse_event *event) {
    char type[64];
    sj_slice said = json_get(event->data, "type");
    (void)snprintf(type, sizeof type, "%.*s", (int)said.n - 2, said.p + 1);
    assert_true(sj_slice_equal(event->name, sj_slice_of(type)));
    int sequence = json_int(event->data, "sequence_number", -1);
    assert_true(sequence == -1 || sequence == r->sequence);
    r->sequence = sequence + 1;
    sj_slice response = json_get(event->data, "response");
    check_id(r, json_get(response, "id"), "resp");
    if (response.n)
        assert_true(sj_json_walk_array(json_get(response, "output"), check_output, r));
    check_item(r, json_get(event->data, "item"));
    read_delta(r, type, event->data);
    bool again = r->count && strcmp(r->told[r->count - 1], type) == 0 && strstr(type, ".delta");
    r->annotations += strstr(type, "annotation") != NULL;
    if (!again && !strstr(type, "annotation") && r->count < MAX_TOLD)
        (void)snprintf(r->told[r->count++], sizeof r->told[0], "%s", type);
}

static void read_bytes(reader *r, sj_slice bytes) {
    sj_sse sse;
    sj_sse_event event;
    sj_sse_init(&sse, 1 << 20);
    while (sj_sse_next(&sse, &bytes, &event))
        read_told(r, &event);
    sj_sse_free(&sse);
}

static bool replay_to(const stream *s, size_t n, sj_replay *replay, reader *r) {
    sj_sse sse;
    sj_sse_init(&sse, 1 << 20);
    bool good = true;
    for (size_t i = 0; good && i < n; i++) {
        sj_sse_event event = stream_event(s, i, &sse);
        sj_slice bytes;
        sj_replay_outcome outcome = sj_replay_event(replay, &event, &bytes);
        good = outcome != SJ_REPLAY_DIVERGED;
        read_bytes(r, bytes);
    }
    sj_sse_free(&sse);
    return good;
}

static reader *reader_of(const stream *s, size_t n) {
    reader *r = calloc(1, sizeof *r);
    assert_non_null(r);
    read_bytes(r, (sj_slice){s->bytes.p, n ? s->ends[n - 1] : 0});
    return r;
}

// ---- tests ------------------------------------------------------------------------------------------------------------------

static void check_whole(const reader *r, const teller *t, const reader *expected) {
    assert_string_equal(r->ids[0], "\"resp_1\"");
    assert_int_equal(r->count, expected->count);
    assert_int_equal(r->annotations, 1);
    for (int i = 0; i < r->count; i++)
        assert_string_equal(r->told[i], expected->told[i]);
    assert_true(units_is(&r->texts[0], t->answer));
    assert_true(units_is(&r->texts[1], t->tool ? t->arguments : ""));
    assert_true(units_is(&r->texts[2], t->reasons ? t->summary : ""));
}

static void rescue_at(teller tellers[3], size_t first, size_t second, const reader *expected) {
    sj_transcript *t = sj_transcript_new(SJ_PROTOCOL_RESPONSES, SJ_TRANSCRIPT_MAX_BYTES);
    reader *r = reader_of(tellers[0].out, first);
    stream_pass(tellers[0].out, first, t, NULL);
    assert_true(sj_transcript_is_complete(t));
    for (int i = 1; i < 3; i++) {
        sj_replay *replay = sj_replay_new(t, SJ_REPLAY_AGAIN);
        assert_non_null(replay);
        assert_true(replay_to(tellers[i].out, i == 1 ? second : tellers[i].out->count, replay, r));
        sj_replay_free(&replay);
    }
    check_whole(r, &tellers[0], expected);
    sj_transcript_free(&t);
    free(r);
}

static void whole_once_wherever_it_breaks(void **state) {
    (void)state;
    for (int seed = 1; seed <= 8; seed++) {
        sj_rng rng;
        sj_rng_seed(&rng, (uint64_t)seed);
        teller tellers[3];
        for (int i = 0; i < 3; i++) {
            tellers[i] = teller_of(&rng, i + 1);
            tellers[i].tool = seed % 2;
            tellers[i].reasons = seed % 3 != 0;
            tellers[i].sequence = seed % 4 == 0 ? -1 : 0;
            tell_all(&tellers[i]);
        }
        reader *expected = reader_of(tellers[0].out, tellers[0].out->count);
        check_whole(expected, &tellers[0], expected);
        // Nothing is committed before response.in_progress, and that is never told twice.
        for (size_t first = 2; first < tellers[0].out->count; first++)
            rescue_at(tellers, first, (size_t)sj_rng_between(&rng, 0, (int64_t)tellers[1].out->count - 1),
                      expected);
        for (int i = 0; i < 3; i++)
            stream_free(tellers[i].out);
        free(expected);
    }
}

// The texts with one character changed, lost, or added; what each stands for in the client's reader.
static void differing_answers_never_mix(void **state) {
    (void)state;
    sj_rng rng;
    sj_rng_seed(&rng, 7);
    teller original = teller_of(&rng, 1);
    tell_all(&original);
    static const struct {
        const char *answer, *arguments, *summary;
        int text; // which of the reader's texts it changes
        size_t from; // how much of that may be had without a difference
    } rows[] = {
        {"Guten Tax", NULL, NULL, 0, 8},     {"Guten", NULL, NULL, 0, 5},  {"guten Tag", NULL, NULL, 0, 0},
        {NULL, "{'a':13}", NULL, 1, 6},      {NULL, "{'a':1", NULL, 1, 6}, {NULL, NULL, "thinkinG", 2, 7},
        {NULL, NULL, "thinking more", 2, 8},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        teller other = teller_of(&rng, 2);
        other.answer = rows[i].answer ? rows[i].answer : other.answer;
        other.arguments = rows[i].arguments ? rows[i].arguments : other.arguments;
        other.summary = rows[i].summary ? rows[i].summary : other.summary;
        tell_all(&other);
        for (size_t first = 1; first < original.out->count; first++) {
            sj_transcript *t = sj_transcript_new(SJ_PROTOCOL_RESPONSES, SJ_TRANSCRIPT_MAX_BYTES);
            reader *r = reader_of(original.out, first);
            stream_pass(original.out, first, t, NULL);
            size_t had = r->texts[rows[i].text].n;
            bool ended = strstr(r->told[r->count - 1], ".delta") == NULL;
            sj_replay *replay = sj_replay_new(t, SJ_REPLAY_AGAIN);
            bool good = replay_to(other.out, other.out->count, replay, r);
            if (had > rows[i].from || (had == rows[i].from && had && ended))
                assert_false(good);
            else if (had < rows[i].from)
                assert_true(good);
            if (!good)
                assert_int_equal(r->texts[rows[i].text].n, had);
            sj_replay_free(&replay);
            sj_transcript_free(&t);
            free(r);
        }
        stream_free(other.out);
    }
    stream_free(original.out);
}

// A server that tells less than the first one did can still take over.
static void fewer_events_than_before(void **state) {
    (void)state;
    sj_rng rng;
    sj_rng_seed(&rng, 9);
    teller original = teller_of(&rng, 1), minimal = teller_of(&rng, 2);
    original.tool = minimal.tool = original.reasons = minimal.reasons = false;
    minimal.minimal = true;
    minimal.sequence = -1;
    tell_all(&original);
    tell_all(&minimal);
    for (size_t first = 3; first < 8; first++) {
        sj_transcript *t = sj_transcript_new(SJ_PROTOCOL_RESPONSES, SJ_TRANSCRIPT_MAX_BYTES);
        reader *r = reader_of(original.out, first);
        stream_pass(original.out, first, t, NULL);
        sj_replay *replay = sj_replay_new(t, SJ_REPLAY_AGAIN);
        assert_true(replay_to(minimal.out, minimal.out->count, replay, r));
        assert_true(units_is(&r->texts[0], original.answer));
        assert_string_equal(r->told[r->count - 1], "response.completed");
        sj_replay_free(&replay);
        sj_transcript_free(&t);
        free(r);
    }
    stream_free(original.out);
    stream_free(minimal.out);
}

#define EVENT(inside) "data: {" inside "}\n\n"
#define CREATED(n) EVENT("\"type\":\"response.created\",\"response\":{\"id\":\"r" n "\"}")
#define ITEM(n, kind)                                                                                        \
    EVENT("\"type\":\"response.output_item.added\",\"output_index\":0,\"item\":{\"id\":\"i" n "\"," kind "}")
#define TEXT(n, text)                                                                                        \
    EVENT("\"type\":\"response.output_text.delta\",\"item_id\":\"i" n                                        \
          "\",\"output_index\":0,\"content_index\":0,\"delta\":\"" text "\"")
#define WHOLE(n, text)                                                                                       \
    EVENT("\"type\":\"response.output_text.done\",\"item_id\":\"i" n                                         \
          "\",\"output_index\":0,\"content_index\":0,\"text\":\"" text "\"")
#define MESSAGE "\"type\":\"message\""
#define CALL(name) "\"type\":\"function_call\",\"name\":\"" name "\",\"call_id\":\"c\""
#define COMPLETED(n)                                                                                         \
    EVENT("\"type\":\"response.completed\",\"response\":{\"id\":\"r" n "\",\"output\":[{\"id\":\"i" n "\"}]" \
          "}")

static const struct {
    const char *name, *has, *says;
    const char *gets; // NULL: it diverges, with nothing passed on
} rows[] = {
    {"the rest of a delta", CREATED("1") ITEM("1", MESSAGE) TEXT("1", "ab"),
     CREATED("2") ITEM("2", MESSAGE) TEXT("2", "abc") WHOLE("2", "abc") COMPLETED("2"),
     TEXT("1", "c") WHOLE("1", "abc") COMPLETED("1")},
    {"logprobs of a part", CREATED("1") ITEM("1", MESSAGE) TEXT("1", "ab"),
     CREATED("2") ITEM("2", MESSAGE) EVENT("\"type\":\"response.output_text.delta\",\"output_index\":0,"
                                           "\"content_index\":0,\"logprobs\":[1],\"delta\":\"abc\""),
     EVENT("\"type\":\"response.output_text.delta\",\"output_index\":0,\"content_index\":0,\"logprobs\":[],"
           "\"delta\":\"c\"")},
    {"texts said only in full", CREATED("1") ITEM("1", MESSAGE) WHOLE("1", "ab"),
     CREATED("2") ITEM("2", MESSAGE) WHOLE("2", "ab") COMPLETED("2"), COMPLETED("1")},
    {"said in full by the second only", CREATED("1") ITEM("1", MESSAGE) TEXT("1", "ab"),
     CREATED("2") ITEM("2", MESSAGE) WHOLE("2", "ab") COMPLETED("2"), WHOLE("1", "ab") COMPLETED("1")},
    {"another one said in full", CREATED("1") ITEM("1", MESSAGE) TEXT("1", "ab"),
     CREATED("2") ITEM("2", MESSAGE) WHOLE("2", "abc"), NULL},
    {"another kind of item", CREATED("1") ITEM("1", MESSAGE), CREATED("2") ITEM("2", CALL("f")), NULL},
    {"another tool", CREATED("1") ITEM("1", CALL("f")), CREATED("2") ITEM("2", CALL("g")), NULL},
    {"no item where there was one", CREATED("1") ITEM("1", CALL("f")), CREATED("2") COMPLETED("2"), NULL},
    {"more text than one that ended", CREATED("1") ITEM("1", MESSAGE) TEXT("1", "ab") WHOLE("1", "ab"),
     CREATED("2") ITEM("2", MESSAGE) TEXT("2", "ab") TEXT("2", "c"), NULL},
    {"text of an unknown kind", CREATED("1") ITEM("1", MESSAGE) TEXT("1", "ab"),
     EVENT("\"type\":\"response.smell.delta\",\"output_index\":0,\"delta\":\"x\""), NULL},
    {"failures are not for the client", CREATED("1") ITEM("1", MESSAGE),
     CREATED("2")
         EVENT("\"type\":\"response.failed\",\"response\":{\"id\":\"r2\",\"error\":{\"code\":\"x\"}}")
             EVENT("\"type\":\"error\",\"code\":\"x\",\"message\":\"y\""),
     ""},
    {"a second item is the second stream's own", CREATED("1") ITEM("1", MESSAGE),
     CREATED("2") ITEM("2", MESSAGE) EVENT("\"type\":\"response.output_item.added\",\"output_index\":1,"
                                           "\"item\":{\"id\":\"j2\",\"type\":\"message\"}")
         EVENT("\"type\":\"response.output_text.delta\",\"item_id\":\"j2\",\"output_index\":1,\"content_"
               "index\":0,\"delta\":\"z\""),
     EVENT("\"type\":\"response.output_item.added\",\"output_index\":1,\"item\":{\"id\":\"j2\",\"type\":"
           "\"message\"}") EVENT("\"type\":\"response.output_text.delta\",\"item_id\":\"j2\",\"output_"
                                 "index\":1,\"content_index\":0,\"delta\":\"z\"")},
};

static void by_example(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        sj_transcript *t = sj_transcript_new(SJ_PROTOCOL_RESPONSES, SJ_TRANSCRIPT_MAX_BYTES);
        sj_sse sse;
        sj_sse_event event;
        sj_slice input = sj_slice_of(rows[i].has), bytes;
        sj_sse_init(&sse, 1 << 20);
        while (sj_sse_next(&sse, &input, &event))
            sj_transcript_event(t, &event);
        sj_replay *replay = sj_replay_new(t, SJ_REPLAY_AGAIN);
        assert_non_null(replay);
        sj_replay_outcome outcome = SJ_REPLAY_SWALLOWED;
        sj_buffer out = sj_buffer_with_max(10000);
        input = sj_slice_of(rows[i].says);
        while (outcome != SJ_REPLAY_DIVERGED && sj_sse_next(&sse, &input, &event)) {
            outcome = sj_replay_event(replay, &event, &bytes);
            assert_true(sj_buffer_add(&out, bytes));
        }
        if ((outcome == SJ_REPLAY_DIVERGED) != !rows[i].gets ||
            !sj_slice_equal(sj_buffer_slice(&out), sj_slice_of(rows[i].gets ? rows[i].gets : "")))
            fail_msg("%s: outcome %d, got\n%.*s", rows[i].name, outcome, (int)out.n, out.p ? out.p : "");
        sj_buffer_free(&out);
        sj_replay_free(&replay);
        sj_transcript_free(&t);
        sj_sse_free(&sse);
    }
}

static void streams_that_cannot_be_compared(void **state) {
    (void)state;
    static const char *const odd[] = {
        EVENT("\"type\":\"response.audio.delta\",\"delta\":\"UklGRg==\""),
        EVENT("\"type\":\"response.output_text.delta\",\"delta\":\"no index\""),
        EVENT("\"type\":\"response.reasoning.delta\",\"output_index\":0,\"delta\":{\"a\":1}"),
        EVENT("\"type\":\"response.output_item.added\",\"output_index\":0,\"item\":{\"type\":\"function_"
              "call\",\"arguments\":\"{}\"}"),
        ITEM("1", MESSAGE) ITEM("1", MESSAGE),
    };
    for (size_t i = 0; i < COUNT(odd); i++) {
        sj_transcript *t = sj_transcript_new(SJ_PROTOCOL_RESPONSES, SJ_TRANSCRIPT_MAX_BYTES);
        sj_sse sse;
        sj_sse_event event;
        sj_slice input = sj_slice_of(odd[i]);
        sj_sse_init(&sse, 1 << 20);
        while (sj_sse_next(&sse, &input, &event))
            sj_transcript_event(t, &event);
        if (sj_transcript_is_complete(t))
            fail_msg("%s", odd[i]);
        sj_transcript_free(&t);
        sj_sse_free(&sse);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_once_wherever_it_breaks),   cmocka_unit_test(differing_answers_never_mix),
        cmocka_unit_test(fewer_events_than_before),        cmocka_unit_test(by_example),
        cmocka_unit_test(streams_that_cannot_be_compared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
