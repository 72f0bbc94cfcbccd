// The same answers, cut, escaped and interleaved at random in each stream, broken at every event: what the client adds up is the whole answer
// once, or the streams differed in what it already had. A failure names its seed.
#include "rescue_bench.h"

enum { SEEDS = 60, MAX_SEGMENTS = 5 };

typedef enum said { CONTENT, REASONING, REFUSAL, TOOL } said;

typedef struct segment {
    said said;
    int tool;
    units text;
} segment;

typedef struct script {
    bool chat;
    int choices;
    int segments[BENCH_CHOICES];
    segment said[BENCH_CHOICES][MAX_SEGMENTS];
} script;

static uint64_t seed;

static int tell_seed(void **state) {
    (void)state;
    print_message("last seed: %d\n", (int)seed);
    return 0;
}

// ---- answers ----------------------------------------------------------------------------------------------------------------

static const char *const alphabet[] = {
    "a",
    "b",
    "aa",
    " ",
    "\n",
    "\"",
    "\\",
    "/",
    "\t",
    "\xc3\xa9",
    "\xe6\x97\xa5\xe6\x9c\xac",
    "\xea\xb0\x80",
    "\xed\x95\x9c",
    "\xf0\x9f\x98\x80",
    "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x9a\x80",
    "{\"k\":",
    "}",
    "\x01",
    "\x7f",
    "\xef\xbf\xbd",
};

static void make_text(sj_rng *rng, units *text) {
    int words = (int)sj_rng_between(rng, 1, 14);
    for (int i = 0; i < words; i++)
        units_add_text(text, alphabet[sj_rng_next(rng) % COUNT(alphabet)]);
}

static void make_script(sj_rng *rng, script *s) {
    memset(s, 0, sizeof *s);
    s->chat = sj_rng_next(rng) % 4 != 0;
    s->choices = (int)sj_rng_between(rng, 1, BENCH_CHOICES);
    for (int c = 0; c < s->choices; c++) {
        int tools = s->chat ? (int)sj_rng_between(rng, 0, BENCH_TOOLS - 1) : 0;
        if (s->chat && sj_rng_next(rng) % 3 == 0)
            s->said[c][s->segments[c]++].said = REASONING;
        s->said[c][s->segments[c]++].said = s->chat && sj_rng_next(rng) % 6 == 0 ? REFUSAL : CONTENT;
        for (int i = 0; i < tools; i++) {
            segment *tool = &s->said[c][s->segments[c]++];
            tool->said = TOOL;
            tool->tool = i;
        }
        for (int i = 0; i < s->segments[c]; i++)
            make_text(rng, &s->said[c][i].text);
    }
}

// ---- streams ----------------------------------------------------------------------------------------------------------------

typedef struct writer {
    const script *script;
    sj_rng *rng;
    int number; // of the stream: its ids are its own
    const char *reasoning;
    bool repeats_role;
    int segment[BENCH_CHOICES];
    size_t at[BENCH_CHOICES];
    bool opened[BENCH_CHOICES], tool_opened[BENCH_CHOICES][BENCH_TOOLS], finished[BENCH_CHOICES];
    stream *out;
} writer;

static bool chance(writer *w, unsigned one_in) {
    return sj_rng_next(w->rng) % one_in == 0;
}

static size_t cut(writer *w, const segment *from, size_t at) {
    size_t n = (size_t)sj_rng_between(w->rng, chance(w, 8) ? 0 : 1, 7);
    return n < from->text.n - at ? n : from->text.n - at;
}

static void put(sj_buffer *out, const char *text) {
    assert_true(sj_buffer_text(out, text));
}

static void put_tool(writer *w, int c, const segment *from, size_t n, sj_buffer *out) {
    bool *opened = &w->tool_opened[c][from->tool];
    assert_true(sj_buffer_printf(out, "\"tool_calls\": [ {\"index\":%d,", from->tool));
    if (!*opened)
        assert_true(sj_buffer_printf(out, "\"id\":\"call_%d_%d_%d\", \"type\":\"function\",", w->number, c,
                                     from->tool));
    put(out, "\"function\":{");
    if (!*opened)
        assert_true(sj_buffer_printf(out, "\"name\":\"tool_%d\",", from->tool));
    put(out, "\"arguments\":");
    units_write(from->text.p + w->at[c], n, w->rng, out);
    put(out, "}}]");
    *opened = true;
}

static void put_text(writer *w, int c, sj_buffer *out) {
    const segment *from = &w->script->said[c][w->segment[c]];
    size_t n = cut(w, from, w->at[c]);
    const char *names[] = {"content", w->reasoning, "refusal"};
    if (from->said == TOOL) {
        put_tool(w, c, from, n, out);
    } else {
        assert_true(sj_buffer_printf(out, "\"%s\":", w->script->chat ? names[from->said] : "text"));
        units_write(from->text.p + w->at[c], n, w->rng, out);
    }
    w->at[c] += n;
    if (w->at[c] == from->text.n) {
        w->segment[c]++;
        w->at[c] = 0;
    }
}

// One choice's part of an event.
static void put_choice(writer *w, int c, sj_buffer *out) {
    bool last_index = chance(w, 2);
    put(out, "{");
    if (!last_index)
        assert_true(sj_buffer_printf(out, "\"index\":%d,", c));
    bool has_text = w->segment[c] < w->script->segments[c] && (w->opened[c] || chance(w, 2));
    if (w->script->chat) {
        put(out, "\"delta\":{");
        bool role = !w->opened[c] || w->repeats_role;
        if (role)
            put(out, has_text ? "\"role\":\"assistant\", " : "\"role\":\"assistant\",\"content\":\"\"");
        if (has_text)
            put_text(w, c, out);
        put(out, "},");
    } else if (has_text) {
        put_text(w, c, out);
        put(out, ",");
    }
    w->opened[c] = true;
    bool ends = w->segment[c] == w->script->segments[c] && (!has_text || chance(w, 3));
    w->finished[c] = ends;
    assert_true(sj_buffer_printf(out, "\"logprobs\":null,\"finish_reason\":%s", ends ? "\"stop\"" : "null"));
    if (last_index)
        assert_true(sj_buffer_printf(out, " , \"index\" : %d", c));
    put(out, "}");
}

static int pick(writer *w, int but) {
    int left[BENCH_CHOICES], n = 0;
    for (int c = 0; c < w->script->choices; c++)
        if (!w->finished[c] && c != but)
            left[n++] = c;
    return n ? left[sj_rng_next(w->rng) % (unsigned)n] : -1;
}

static void put_head(writer *w, sj_buffer *out) {
    bool named = chance(w, 9);
    if (named)
        put(out, "event: message\n");
    assert_true(sj_buffer_printf(
        out, "data: {\"id\":\"cmpl-%d\",\"object\":\"chunk\",\"created\":%d,\"model\":\"m%d\",\"choices\":[",
        w->number, 1700000000 + w->number, w->number));
}

static void write_stream(writer *w) {
    sj_buffer *out = &w->out->bytes;
    for (int c = pick(w, -1); c >= 0; c = pick(w, -1)) {
        if (chance(w, 12))
            stream_add(w->out, ": ping\n\n");
        put_head(w, out);
        put_choice(w, c, out);
        int other = chance(w, 6) ? pick(w, c) : -1;
        if (other >= 0) {
            put(out, ", ");
            put_choice(w, other, out);
        }
        put(out, "]}\n\n");
        stream_end_event(w->out);
    }
    put_head(w, out);
    put(out, "],\"usage\":{\"total_tokens\":7}}\n\n");
    stream_end_event(w->out);
    stream_add(w->out, "data: [DONE]\n\n");
}

static stream *make_stream(const script *s, sj_rng *rng, int number) {
    static const char *const reasonings[] = {"reasoning", "reasoning_content"};
    writer w = {.script = s,
                .rng = rng,
                .number = number,
                .reasoning = reasonings[sj_rng_next(rng) % 2],
                .repeats_role = false,
                .out = stream_new()};
    write_stream(&w);
    return w.out;
}

// ---- what the client must have ----------------------------------------------------------------------------------------------

static units *heard(client *c, int choice, const segment *from) {
    client_choice *got = &c->choices[choice];
    units *texts[] = {&got->content, &got->reasoning, &got->refusal, &got->tools[from->tool].arguments};
    return texts[from->said];
}

static void check_tool(const client_tool *tool, int number) {
    char name[16];
    (void)snprintf(name, sizeof name, "tool_%d", number);
    assert_true(units_is(&tool->name, name));
    assert_true(units_is(&tool->type, "function"));
    assert_int_equal(tool->id.n, strlen("call_1_0_0")); // one id, not two
}

static void check_whole(client *c, const script *s) {
    for (int i = 0; i < s->choices; i++) {
        assert_true(units_is(&c->choices[i].finish, "stop"));
        assert_true(!s->chat || units_is(&c->choices[i].role, "assistant"));
        for (int j = 0; j < s->segments[i]; j++) {
            const segment *from = &s->said[i][j];
            const units *got = s->chat ? heard(c, i, from) : &c->choices[i].text;
            assert_true(units_equal(got, &from->text));
            if (from->said == TOOL)
                check_tool(&c->choices[i].tools[from->tool], from->tool);
        }
    }
    assert_int_equal(c->done, 1);
    assert_int_equal(c->usages, 1);
    assert_int_equal(c->ids, 0);
}

static sj_transcript *transcript_for(const script *s) {
    sj_transcript *t =
        sj_transcript_new(s->chat ? SJ_PROTOCOL_CHAT : SJ_PROTOCOL_COMPLETIONS, SJ_TRANSCRIPT_MAX_BYTES);
    assert_non_null(t);
    return t;
}

static client *client_new(void) {
    client *c = calloc(1, sizeof *c);
    assert_non_null(c);
    return c;
}

// Broken after `first` events, and the second stream after `second`; the third is whole.
static void rescue_twice(const script *s, stream *const streams[3], size_t first, size_t second) {
    sj_transcript *t = transcript_for(s);
    client *c = client_new();
    stream_pass(streams[0], first, t, c);
    assert_true(sj_transcript_is_complete(t));
    sj_replay *replay = sj_replay_new(t, SJ_REPLAY_AGAIN);
    assert_true(stream_replay(streams[1], second, replay, c));
    sj_replay_free(&replay);
    assert_true(sj_transcript_is_complete(t));
    replay = sj_replay_new(t, SJ_REPLAY_AGAIN);
    assert_true(stream_replay(streams[2], streams[2]->count, replay, c));
    assert_true(sj_replay_has_caught_up(replay));
    check_whole(c, s);
    sj_replay_free(&replay);
    sj_transcript_free(&t);
    free(c);
}

static void whole_once_wherever_it_breaks(void **state) {
    (void)state;
    script *s = calloc(1, sizeof *s);
    assert_non_null(s);
    for (seed = 1; seed <= SEEDS; seed++) {
        sj_rng rng;
        sj_rng_seed(&rng, seed);
        make_script(&rng, s);
        stream *streams[3];
        for (int i = 0; i < 3; i++)
            streams[i] = make_stream(s, &rng, i + 1);
        for (size_t first = 0; first <= streams[0]->count - 2; first++) {
            size_t last = streams[1]->count - 2;
            rescue_twice(s, streams, first, (size_t)sj_rng_between(&rng, 0, (int64_t)last));
        }
        for (int i = 0; i < 3; i++)
            stream_free(streams[i]);
    }
    free(s);
}

// ---- answers that differ ----------------------------------------------------------------------------------------------------

typedef struct change {
    int choice, segment;
    size_t at;
    bool shorter;
} change;

static change make_change(sj_rng *rng, const script *s, script *changed) {
    change made = {.choice = (int)sj_rng_between(rng, 0, s->choices - 1)};
    made.segment = (int)sj_rng_between(rng, 0, s->segments[made.choice] - 1);
    const segment *from = &s->said[made.choice][made.segment];
    made.at = (size_t)sj_rng_between(rng, 0, (int64_t)from->text.n - 1);
    made.shorter = sj_rng_next(rng) % 3 == 0;
    *changed = *s;
    units *text = &changed->said[made.choice][made.segment].text;
    if (made.shorter)
        text->n = made.at;
    else
        text->p[made.at] = text->p[made.at] == 'x' ? 'y' : 'x';
    return made;
}

static void check_change(const script *s, const script *changed, const change *made, stream *const streams[2],
                         size_t first) {
    sj_transcript *t = transcript_for(s);
    client *c = client_new();
    stream_pass(streams[0], first, t, c);
    const segment *from = &s->said[made->choice][made->segment];
    units *got = s->chat ? heard(c, made->choice, from) : &c->choices[made->choice].text;
    size_t had = got->n;
    bool moved_on = c->choices[made->choice].finish.n > 0;
    sj_replay *replay = sj_replay_new(t, SJ_REPLAY_AGAIN);
    bool good = stream_replay(streams[1], streams[1]->count, replay, c);
    if (had > made->at) {
        assert_false(good);
        assert_int_equal(got->n, had); // nothing of the other answer
        assert_false(sj_replay_has_caught_up(replay));
    } else if (!moved_on && good) {
        check_whole(c, changed);
    }
    assert_true(good || had > made->at || moved_on);
    sj_replay_free(&replay);
    sj_transcript_free(&t);
    free(c);
}

static void differing_answers_never_mix(void **state) {
    (void)state;
    script *s = calloc(1, sizeof *s), *changed = calloc(1, sizeof *changed);
    assert_true(s && changed);
    for (seed = 1001; seed <= 1000 + SEEDS * 2; seed++) {
        sj_rng rng;
        sj_rng_seed(&rng, seed);
        make_script(&rng, s);
        change made = make_change(&rng, s, changed);
        stream *streams[2] = {make_stream(s, &rng, 1), make_stream(changed, &rng, 2)};
        for (size_t first = 1; first <= streams[0]->count - 2; first++)
            check_change(s, changed, &made, streams, first);
        stream_free(streams[0]);
        stream_free(streams[1]);
    }
    free(s);
    free(changed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(whole_once_wherever_it_breaks, tell_seed),
        cmocka_unit_test_teardown(differing_answers_never_mix, tell_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
