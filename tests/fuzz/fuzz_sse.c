// The first bytes choose the bound and how the rest is cut. However it is cut: the raws together are the input, what is held stays within the
// bound, and with a bound that nothing reaches the events are the same as in one piece.
#include "sse.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SEEDS = 4 };

typedef struct tape {
    sj_buffer raws, events;
} tape;

static void keep(sj_buffer *buffer, sj_slice bytes) {
    bool kept = sj_buffer_add(buffer, bytes);
    assert(kept);
}

static void note(tape *record, const sj_sse_event *event) {
    assert(event->raw.n > 0);
    assert(event->has_data || event->data.n == 0);
    assert(!event->oversize || (!event->has_data && event->name.n == 0));
    keep(&record->raws, event->raw);
    if (!event->has_data)
        return;
    keep(&record->events, event->name);
    keep(&record->events, SJ_SLICE("\r"));
    keep(&record->events, event->data);
    keep(&record->events, SJ_SLICE("\r\r"));
}

static tape run(sj_slice text, const uint8_t *cuts, size_t max_event) {
    tape record = {sj_buffer_with_max(1 << 24), sj_buffer_with_max(1 << 24)};
    sj_sse sse;
    sj_sse_event event;
    sj_sse_init(&sse, max_event);
    for (size_t i = 0; text.n; i++) {
        size_t n = cuts ? (size_t)cuts[i % SEEDS] + 1 : text.n;
        n = n < text.n ? n : text.n;
        char *piece = malloc(n);
        assert(piece);
        memcpy(piece, text.p, n);
        sj_slice input = {piece, n};
        while (sj_sse_next(&sse, &input, &event))
            note(&record, &event);
        assert(input.n == 0 && sj_sse_held_bytes(&sse) <= max_event);
        free(piece);
        text = sj_slice_from(text, n);
    }
    while (sj_sse_rest(&sse, &event))
        note(&record, &event);
    assert(sj_sse_held_bytes(&sse) == 0);
    sj_sse_free(&sse);
    return record;
}

static void forget(tape *record) {
    sj_buffer_free(&record->raws);
    sj_buffer_free(&record->events);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < SEEDS + 1)
        return 0;
    sj_slice text = {(const char *)data + SEEDS + 1, size - SEEDS - 1};
    tape in_one = run(text, NULL, size);
    tape in_many = run(text, data + 1, size);
    tape bounded = run(text, data + 1, data[0]);
    assert(sj_slice_equal(sj_buffer_slice(&in_one.raws), text));
    assert(sj_slice_equal(sj_buffer_slice(&in_many.raws), text));
    assert(sj_slice_equal(sj_buffer_slice(&bounded.raws), text));
    assert(sj_slice_equal(sj_buffer_slice(&in_one.events), sj_buffer_slice(&in_many.events)));
    assert(bounded.events.n <= in_one.events.n);
    forget(&in_one);
    forget(&in_many);
    forget(&bounded);
    return 0;
}
