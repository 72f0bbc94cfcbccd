#include "sse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define COUNT(rows) (sizeof(rows) / sizeof *(rows))

typedef struct record {
    char events[1024]; // "name|data" of each event with data, in angle brackets
    char raws[1024];
    size_t raw_n;
    int count, oversize;
} record;

static void note(record *seen, const sj_sse_event *event) {
    assert_true(seen->raw_n + event->raw.n <= sizeof seen->raws);
    memcpy(seen->raws + seen->raw_n, event->raw.p, event->raw.n);
    seen->raw_n += event->raw.n;
    seen->count++;
    seen->oversize += event->oversize;
    if (!event->has_data) {
        assert_int_equal(event->data.n, 0);
        return;
    }
    size_t used = strlen(seen->events);
    (void)snprintf(seen->events + used, sizeof seen->events - used, "<%.*s|%.*s>", (int)event->name.n,
                   event->name.p, (int)event->data.n, event->data.p);
}

// Feeds text in pieces of `step` bytes, each in memory of its own size, so that a read past its end is seen.
static record run(sj_slice text, size_t step, size_t max_event, bool with_rest) {
    record seen = {0};
    sj_sse sse;
    sj_sse_event event;
    sj_sse_init(&sse, max_event);
    for (size_t at = 0; at < text.n; at += step) {
        size_t n = text.n - at < step ? text.n - at : step;
        char *piece = malloc(n);
        assert_non_null(piece);
        memcpy(piece, text.p + at, n);
        sj_slice input = {piece, n};
        while (sj_sse_next(&sse, &input, &event))
            note(&seen, &event);
        assert_int_equal(input.n, 0);
        assert_true(sj_sse_held_bytes(&sse) <= max_event);
        free(piece);
    }
    while (with_rest && sj_sse_rest(&sse, &event))
        note(&seen, &event);
    if (with_rest)
        assert_int_equal(sj_sse_held_bytes(&sse), 0);
    sj_sse_free(&sse);
    return seen;
}

// The cases of WPT's eventsource/format-*.htm, retyped, and some of our own.
static const struct {
    const char *text, *events;
} streams[] = {
    {"data: a\n\n", "<|a>"},
    {"data:a\r\n\r\ndata: b\r\n\r\n", "<|a><|b>"},
    {"data: a\r\rdata: b\r\r", "<|a><|b>"},
    {"data: a\n\rdata: b\r\n\ndata: c\r\n\rdata: d\n\r\n", "<|a><|b><|c><|d>"},
    {"\xef\xbb\xbf"
     "data: a\n\n",
     "<|a>"},
    {"\xef\xbb\xbf\xef\xbb\xbf"
     "data: a\n\ndata: b\n\n",
     "<|b>"},
    {"data: a\n\n\xef\xbb\xbf"
     "data: b\n\ndata: c\n\n",
     "<|a><|c>"},
    {"\xef\xbb\xbf\n\n\xef\xbb\xbf"
     "data: a\n\n",
     ""},
    {": comment\n\n:\n\ndata: a\n: in between\ndata: b\n\n", "<|a\nb>"},
    {"data\n\ndata\ndata\n\ndata:test\n\n", "<|><|\n><|test>"},
    {"data:\n\n", "<|>"},
    {"data:  two spaces\ndata:\t tab\n\n", "<| two spaces\n\t tab>"},
    {"event: done\ndata: [DONE]\n\n", "<done|[DONE]>"},
    {"event: a\nevent: b\ndata: x\n\ndata: y\n\n", "<b|x><|y>"},
    {"event: x\n\ndata: y\n\n", "<|y>"},
    {"event\ndata: y\n\n", "<|y>"},
    {"id: 1\nretry: 100\ndata: a\nunknown: b\nDATA: c\ndata :d\n data: e\n\n", "<|a>"},
    {"data: a: b:c\n\n", "<|a: b:c>"},
    {"\n\n\ndata: a\n\n\n\ndata: b\n\n", "<|a><|b>"},
    {"\r\n\r\ndata: a\r\n\r\n\r\n\r\n", "<|a>"},
    {"data: unfinished", "<|unfinished>"},
    {"data: a\n\ndata: [DONE]\n", "<|a><|[DONE]>"},
    {"data: {\"a\":1,\ndata: \"b\":2}\n\n", "<|{\"a\":1,\n\"b\":2}>"},
};

static void splits_alike_however_the_bytes_arrive(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(streams); i++) {
        sj_slice text = sj_slice_of(streams[i].text);
        for (size_t step = 1; step <= text.n; step++) {
            record seen = run(text, step, 1000, true);
            if (strcmp(seen.events, streams[i].events) != 0)
                fail_msg("stream %zu in steps of %zu: %s", i, step, seen.events);
            assert_int_equal(seen.raw_n, text.n);
            assert_memory_equal(seen.raws, text.p, text.n);
        }
    }
}

// At whatever bound, also when it cuts through line ends, nothing is lost and nothing that is whole and short enough is unread.
static void passes_long_events_on_unread(void **state) {
    (void)state;
    sj_slice text =
        SJ_SLICE("data: a\n\ndata: 0123456789012345678901234567890123456789\r\ndata: x\r\n\r\ndata: b\n\n");
    for (size_t max = 0; max < 80; max++) {
        for (size_t step = 1; step <= text.n; step++) {
            record seen = run(text, step, max, true);
            assert_int_equal(seen.raw_n, text.n);
            assert_memory_equal(seen.raws, text.p, text.n);
            // 9 and 58 depend on which raw the LF of the closing CRLF fell to.
            const char *events = max < 9    ? ""
                                 : max < 59 ? "<|a><|b>"
                                            : "<|a><|0123456789012345678901234567890123456789\nx><|b>";
            if (max != 9 && max != 58 && strcmp(seen.events, events) != 0)
                fail_msg("max %zu, steps of %zu: %s", max, step, seen.events);
            assert_true(seen.oversize > 0 || max >= 58);
        }
    }
}

static void gives_an_event_as_soon_as_its_blank_line_is_whole(void **state) {
    (void)state;
    static const char *const whole[] = {"data: a\n\n", "data: a\n\r", "data: a\r\r", "data: a\r\n\r",
                                        "data: a\r\n\n"};
    for (size_t i = 0; i < COUNT(whole); i++) {
        for (size_t step = 1; step <= strlen(whole[i]); step++) {
            record seen = run(sj_slice_of(whole[i]), step, 100, false);
            assert_int_equal(seen.count, 1);
            assert_string_equal(seen.events, "<|a>");
        }
    }
    static const char *const unfinished[] = {"data: a\n", "data: a\r", "data: a\r\n", "data: a"};
    for (size_t i = 0; i < COUNT(unfinished); i++)
        assert_int_equal(run(sj_slice_of(unfinished[i]), 1, 100, false).count, 0);
}

static void a_late_line_feed_starts_the_next_raw(void **state) {
    (void)state;
    sj_sse sse;
    sj_sse_event event;
    sj_sse_init(&sse, 100);
    sj_slice input = SJ_SLICE("data: a\r\n\r");
    assert_true(sj_sse_next(&sse, &input, &event));
    assert_false(sj_sse_next(&sse, &input, &event));
    input = SJ_SLICE("\ndata: b\r\n\r\n");
    assert_true(sj_sse_next(&sse, &input, &event));
    assert_true(sj_slice_equal(event.raw, SJ_SLICE("\ndata: b\r\n\r\n")));
    assert_true(sj_slice_equal(event.data, SJ_SLICE("b")));
    assert_false(sj_sse_next(&sse, &input, &event));
    assert_false(sj_sse_rest(&sse, &event));

    input = SJ_SLICE("data: c\n\r");
    assert_true(sj_sse_next(&sse, &input, &event));
    input = SJ_SLICE("\n");
    assert_false(sj_sse_next(&sse, &input, &event));
    assert_int_equal(sj_sse_held_bytes(&sse), 1);
    assert_true(sj_sse_rest(&sse, &event));
    assert_true(sj_slice_equal(event.raw, SJ_SLICE("\n")));
    assert_false(event.has_data);
    assert_false(sj_sse_rest(&sse, &event));
    sj_sse_free(&sse);
}

static void copies_nothing_that_lies_whole_in_the_input(void **state) {
    (void)state;
    sj_sse sse;
    sj_sse_event event;
    sj_sse_init(&sse, 100);
    sj_slice text = SJ_SLICE("event: n\ndata: a\n\n: ping\n\ndata: b\n\ndata: c");
    sj_slice input = text;
    assert_true(sj_sse_next(&sse, &input, &event));
    assert_ptr_equal(event.raw.p, text.p);
    assert_ptr_equal(event.data.p, text.p + 15);
    assert_ptr_equal(event.name.p, text.p + 7);
    assert_true(sj_sse_next(&sse, &input, &event));
    assert_false(event.has_data);
    assert_true(sj_sse_next(&sse, &input, &event));
    assert_int_equal(sse.held.cap, 0);
    assert_false(sj_sse_next(&sse, &input, &event));
    assert_int_equal(sj_sse_held_bytes(&sse), 7);
    input = SJ_SLICE("d\n\n");
    assert_true(sj_sse_next(&sse, &input, &event));
    assert_true(sj_slice_equal(event.data, SJ_SLICE("cd")));
    assert_int_equal(sj_sse_held_bytes(&sse), 0);
    sj_sse_free(&sse);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(splits_alike_however_the_bytes_arrive),
        cmocka_unit_test(passes_long_events_on_unread),
        cmocka_unit_test(gives_an_event_as_soon_as_its_blank_line_is_whole),
        cmocka_unit_test(a_late_line_feed_starts_the_next_raw),
        cmocka_unit_test(copies_nothing_that_lies_whole_in_the_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
