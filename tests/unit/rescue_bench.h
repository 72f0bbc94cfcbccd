// For the tests of rescue: answers written as streams, cut and escaped at random, and a client that adds up what it gets the way the SDKs do.
// It reads with the span walker and a decoder of its own, so that nothing of the code under test checks itself.
#ifndef SJ_TEST_RESCUE_BENCH_H
#define SJ_TEST_RESCUE_BENCH_H

#include "json_span.h"
#include "rescue.h"
#include "rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define COUNT(rows) (sizeof(rows) / sizeof *(rows))

enum { BENCH_CHOICES = 3, BENCH_TOOLS = 3, BENCH_EVENTS = 2000 };

// ---- text as UTF-16 ---------------------------------------------------------------------------------------------------------

typedef struct units {
    uint16_t p[4096];
    size_t n;
} units;

static inline void units_add(units *text, unsigned unit) {
    assert_true(text->n < COUNT(text->p));
    text->p[text->n++] = (uint16_t)unit;
}

// Well-formed UTF-8 only.
static inline size_t units_add_char(units *text, const char *utf8) {
    const unsigned char *p = (const unsigned char *)utf8;
    size_t n = p[0] < 0x80 ? 1 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    unsigned code = n == 1 ? p[0] : p[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++)
        code = code << 6 | (p[i] & 0x3f);
    if (code >= 0x10000)
        units_add(text, 0xd7c0 + (code >> 10));
    units_add(text, code >= 0x10000 ? 0xdc00 + (code & 0x3ff) : code);
    return n;
}

static inline void units_add_text(units *text, const char *utf8) {
    while (*utf8)
        utf8 += units_add_char(text, utf8);
}

static inline void units_add_json(units *text, sj_slice raw) {
    assert_true(raw.n >= 2 && raw.p[0] == '"');
    const char *end = raw.p + raw.n - 1;
    for (const char *p = raw.p + 1; p < end;) {
        if (*p != '\\') {
            p += units_add_char(text, p);
        } else if (p[1] == 'u') {
            char hex[5] = {p[2], p[3], p[4], p[5], '\0'};
            units_add(text, (unsigned)strtoul(hex, NULL, 16));
            p += 6;
        } else {
            const char *letter = strchr("bfnrt", p[1]);
            units_add(text, (unsigned char)(letter ? "\b\f\n\r\t"[letter - "bfnrt"] : p[1]));
            p += 2;
        }
    }
}

static inline bool units_equal(const units *a, const units *b) {
    return a->n == b->n && memcmp(a->p, b->p, a->n * sizeof *a->p) == 0;
}

static inline bool units_is(const units *a, const char *utf8) {
    units *b = calloc(1, sizeof *b);
    assert_non_null(b);
    units_add_text(b, utf8);
    bool equal = units_equal(a, b);
    free(b);
    return equal;
}

// As a JSON string. rng NULL: as little escaped as can be.
static inline void units_write(const uint16_t *p, size_t n, sj_rng *rng, sj_buffer *out) {
    bool ok = sj_buffer_text(out, "\"");
    for (size_t i = 0; ok && i < n; i++) {
        unsigned unit = p[i];
        bool paired = unit >= 0xd800 && unit < 0xdc00 && i + 1 < n && p[i + 1] >= 0xdc00 && p[i + 1] < 0xe000;
        bool lone = unit >= 0xd800 && unit < 0xe000 && !paired;
        bool needs = unit < 0x20 || unit == '"' || unit == '\\';
        bool chooses = rng && sj_rng_next(rng) % 4 == 0;
        if (lone || (chooses && !paired) || (needs && unit < 0x20))
            ok = sj_buffer_printf(out, rng && sj_rng_next(rng) % 2 ? "\\u%04X" : "\\u%04x", unit);
        else if (needs)
            ok = sj_buffer_printf(out, "\\%c", unit);
        else if (paired && chooses)
            ok = sj_buffer_printf(out, "\\u%04x\\u%04X", unit, p[++i]);
        else if (paired) {
            unsigned code = 0x10000 + ((unit & 0x3ffu) << 10) + (p[++i] & 0x3ffu);
            ok =
                sj_buffer_printf(out, "%c%c%c%c", (int)(0xf0 | code >> 18), (int)(0x80 | (code >> 12 & 0x3f)),
                                 (int)(0x80 | (code >> 6 & 0x3f)), (int)(0x80 | (code & 0x3f)));
        } else if (unit < 0x80)
            ok = sj_buffer_printf(out, "%c", (int)unit);
        else if (unit < 0x800)
            ok = sj_buffer_printf(out, "%c%c", (int)(0xc0 | unit >> 6), (int)(0x80 | (unit & 0x3f)));
        else
            ok = sj_buffer_printf(out, "%c%c%c", (int)(0xe0 | unit >> 12), (int)(0x80 | (unit >> 6 & 0x3f)),
                                  (int)(0x80 | (unit & 0x3f)));
    }
    assert_true(ok && sj_buffer_text(out, "\""));
}

// ---- JSON by name -----------------------------------------------------------------------------------------------------------

typedef struct lookup {
    const char *name;
    sj_slice found;
    int times;
} lookup;

static inline bool look_up(void *context, sj_slice key, sj_slice value) {
    lookup *look = context;
    if (sj_slice_equal(key, sj_slice_of(look->name))) {
        look->found = value;
        look->times++;
    }
    return true;
}

// Empty when it is not there, or null. Whatever is looked into must be JSON, and say each name once.
static inline sj_slice json_get(sj_slice object, const char *name) {
    lookup look = {.name = name, .found = {NULL, 0}};
    if (object.n == 0 || object.p[0] != '{')
        return look.found;
    assert_true(sj_json_walk_object(object, look_up, &look));
    assert_in_range(look.times, 0, 1);
    return sj_slice_equal(look.found, SJ_SLICE("null")) ? (sj_slice){NULL, 0} : look.found;
}

static inline int json_int(sj_slice object, const char *name, int otherwise) {
    sj_slice value = json_get(object, name);
    return value.n ? atoi(value.p) : otherwise;
}

// ---- the client -------------------------------------------------------------------------------------------------------------

typedef struct client_tool {
    units id, name, type, arguments;
} client_tool;

typedef struct client_choice {
    units role, content, reasoning, refusal, text, finish;
    client_tool tools[BENCH_TOOLS];
} client_choice;

typedef struct client {
    client_choice choices[BENCH_CHOICES];
    char id[128], created[64];
    int events, ids, done, usages, companions;
} client;

static inline void add_member(units *text, sj_slice object, const char *name) {
    sj_slice value = json_get(object, name);
    if (value.n)
        units_add_json(text, value);
}

static inline bool client_tool_call(void *context, sj_slice key, sj_slice call) {
    (void)key;
    client_choice *choice = context;
    int index = json_int(call, "index", -1);
    assert_in_range(index, 0, BENCH_TOOLS - 1);
    client_tool *tool = &choice->tools[index];
    add_member(&tool->id, call, "id");
    add_member(&tool->type, call, "type");
    add_member(&tool->name, json_get(call, "function"), "name");
    add_member(&tool->arguments, json_get(call, "function"), "arguments");
    return true;
}

static inline bool client_read_choice(void *context, sj_slice key, sj_slice value) {
    (void)key;
    client *c = context;
    int index = json_int(value, "index", 0);
    assert_in_range(index, 0, BENCH_CHOICES - 1);
    client_choice *choice = &c->choices[index];
    sj_slice delta = json_get(value, "delta");
    add_member(&choice->role, delta, "role");
    add_member(&choice->content, delta, "content");
    add_member(&choice->reasoning, delta, "reasoning_content");
    add_member(&choice->reasoning, delta, "reasoning");
    add_member(&choice->refusal, delta, "refusal");
    add_member(&choice->text, value, "text");
    add_member(&choice->finish, value, "finish_reason");
    c->companions += json_get(delta, "reasoning_details").n != 0;
    sj_slice calls = json_get(delta, "tool_calls");
    if (calls.n)
        assert_true(sj_json_walk_array(calls, client_tool_call, choice));
    return true;
}

static inline void keep_first(char *kept, size_t size, sj_slice value, int *differ) {
    if (!*kept)
        (void)snprintf(kept, size, "%.*s", (int)value.n, value.p ? value.p : "");
    *differ += !sj_slice_equal(sj_slice_of(kept), value);
}

static inline void client_event(client *c, const sj_sse_event *event) {
    if (!event->has_data)
        return;
    c->events++;
    if (sj_slice_equal(event->data, SJ_SLICE("[DONE]"))) {
        c->done++;
        return;
    }
    assert_true(sj_json_check(event->data) == SJ_JSON_WHOLE);
    keep_first(c->id, sizeof c->id, json_get(event->data, "id"), &c->ids);
    keep_first(c->created, sizeof c->created, json_get(event->data, "created"), &c->ids);
    c->usages += json_get(event->data, "usage").n != 0;
    sj_slice choices = json_get(event->data, "choices");
    if (choices.n)
        assert_true(sj_json_walk_array(choices, client_read_choice, c));
}

static inline void client_bytes(client *c, sj_slice bytes) {
    sj_sse sse;
    sj_sse_event event;
    sj_sse_init(&sse, 1 << 20);
    while (sj_sse_next(&sse, &bytes, &event))
        client_event(c, &event);
    assert_int_equal(sj_sse_held_bytes(&sse), 0);
    sj_sse_free(&sse);
}

// ---- streams ----------------------------------------------------------------------------------------------------------------

typedef struct stream {
    sj_buffer bytes;
    size_t ends[BENCH_EVENTS];
    size_t count;
} stream;

static inline stream *stream_new(void) {
    stream *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->bytes = sj_buffer_with_max(4 << 20);
    return s;
}

static inline void stream_free(stream *s) {
    sj_buffer_free(&s->bytes);
    free(s);
}

static inline void stream_end_event(stream *s) {
    assert_true(s->count < BENCH_EVENTS);
    s->ends[s->count++] = s->bytes.n;
}

__attribute__((format(printf, 2, 3))) static inline void stream_add(stream *s, const char *format, ...) {
    char text[4096];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    assert_in_range(n, 0, sizeof text - 1);
    assert_true(sj_buffer_append(&s->bytes, text, (size_t)n));
    stream_end_event(s);
}

// Valid until the next call.
static inline sj_sse_event stream_event(const stream *s, size_t i, sj_sse *sse) {
    size_t from = i ? s->ends[i - 1] : 0;
    sj_slice input = {s->bytes.p + from, s->ends[i] - from};
    sj_sse_event event;
    assert_true(sj_sse_next(sse, &input, &event) && input.n == 0);
    return event;
}

// The first n events reach the client and the transcript.
static inline void stream_pass(const stream *s, size_t n, sj_transcript *t, client *c) {
    sj_sse sse;
    sj_sse_init(&sse, 1 << 20);
    for (size_t i = 0; i < n; i++) {
        sj_sse_event event = stream_event(s, i, &sse);
        sj_transcript_event(t, &event);
        if (c)
            client_event(c, &event);
    }
    sj_sse_free(&sse);
}

// Up to n events through a replay to the client; false when it diverged.
static inline bool stream_replay(const stream *s, size_t n, sj_replay *replay, client *c) {
    sj_sse sse;
    sj_sse_init(&sse, 1 << 20);
    bool good = true;
    for (size_t i = 0; good && i < n; i++) {
        sj_sse_event event = stream_event(s, i, &sse);
        sj_slice bytes;
        sj_replay_outcome outcome = sj_replay_event(replay, &event, &bytes);
        good = outcome != SJ_REPLAY_DIVERGED;
        assert_true((outcome == SJ_REPLAY_EMIT) == (bytes.n != 0));
        if (outcome == SJ_REPLAY_EMIT && c)
            client_bytes(c, bytes);
    }
    sj_sse_free(&sse);
    return good;
}

#endif
