// An event as the client gets it: the upstream's bytes with a few spans replaced or left out.
#include "rescue_internal.h"

#include <inttypes.h>

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool write_value(const sj_transcript *t, const rescue_piece *piece, sj_buffer *out) {
    switch (piece->fate) {
    case RESCUE_EMPTY:
        return sj_buffer_text(out, "\"\"");
    case RESCUE_REST:
        return rescue_text_write(&piece->rest, out);
    case RESCUE_NULL:
        return sj_buffer_text(out, "null");
    case RESCUE_EMPTY_LIST:
        return sj_buffer_text(out, "[]");
    case RESCUE_ORIGINAL:
        return sj_buffer_add(out, piece->original);
    case RESCUE_NUMBER:
        return sj_buffer_printf(out, "%" PRId64, t->sequence + 1);
    case RESCUE_KEEP:
    case RESCUE_CUT:
        break;
    }
    return sj_buffer_add(out, piece->value);
}

// Leaves a member out, and one comma: the one behind it, or when it is the last, the one before. Returns where the data goes on.
static size_t cut_member(sj_slice data, const rescue_piece *piece, size_t base, sj_buffer *out) {
    size_t at = (size_t)(piece->value.p - data.p) + piece->value.n;
    while (at < data.n && is_space(data.p[at]))
        at++;
    if (at < data.n && data.p[at] == ',') {
        for (at++; at < data.n && is_space(data.p[at]); at++)
            ;
        return at;
    }
    while (out->n > base && is_space(out->p[out->n - 1]))
        out->n--;
    if (out->n > base && out->p[out->n - 1] == ',')
        out->n--;
    return at;
}

// A chunk without an id gets the one that the client knows.
static bool lacks_id(const sj_transcript *t, const rescue_event *event) {
    return t->protocol != SJ_PROTOCOL_RESPONSES && t->id.n && event->count && !rescue_piece_of(event, RK_ID);
}

static bool write_data(const sj_transcript *t, const rescue_event *event, sj_buffer *out) {
    sj_slice data = event->data;
    size_t base = out->n;
    size_t at = (size_t)((const char *)memchr(data.p, '{', data.n) - data.p) + 1;
    bool ok = sj_buffer_append(out, data.p, at);
    if (lacks_id(t, event))
        ok = ok && sj_buffer_text(out, "\"id\":") && sj_buffer_add(out, sj_buffer_slice(&t->id)) &&
             sj_buffer_text(out, ",");
    for (int i = 0; ok && i < event->count; i++) {
        const rescue_piece *piece = &event->pieces[i];
        if (piece->fate == RESCUE_KEEP)
            continue;
        bool cut = piece->fate == RESCUE_CUT;
        size_t until = cut ? piece->member : (size_t)(piece->value.p - data.p);
        ok = sj_buffer_append(out, data.p + at, until - at) && (cut || write_value(t, piece, out));
        at = cut ? cut_member(data, piece, base, out) : until + piece->value.n;
    }
    return ok && sj_buffer_append(out, data.p + at, data.n - at);
}

static bool is_inside(sj_slice part, sj_slice whole) {
    uintptr_t from = (uintptr_t)whole.p, at = (uintptr_t)part.p;
    return at >= from && at + part.n <= from + whole.n;
}

// Data of several lines becomes one: JSON has line ends only where it may have any white space.
static bool write_joined(const sj_transcript *t, const rescue_event *event, sj_buffer *out) {
    bool ok = event->name.n == 0 || (sj_buffer_text(out, "event: ") && sj_buffer_add(out, event->name) &&
                                     sj_buffer_text(out, "\n"));
    ok = ok && sj_buffer_text(out, "data: ");
    size_t start = out->n;
    ok = ok && write_data(t, event, out);
    for (size_t i = start; ok && i < out->n; i++)
        if (out->p[i] == '\n')
            out->p[i] = ' ';
    return ok && sj_buffer_text(out, "\n\n");
}

bool rescue_is_unchanged(const sj_transcript *t, const rescue_event *event) {
    for (int i = 0; i < event->count; i++)
        if (event->pieces[i].fate != RESCUE_KEEP)
            return false;
    return !lacks_id(t, event);
}

bool rescue_write_event(const sj_transcript *t, const sj_sse_event *raw, const rescue_event *event,
                        sj_buffer *out) {
    sj_slice whole = raw->raw;
    if (rescue_is_unchanged(t, event))
        return sj_buffer_add(out, whole);
    if (!is_inside(raw->data, whole))
        return write_joined(t, event, out);
    size_t before = (size_t)(raw->data.p - whole.p);
    return sj_buffer_append(out, whole.p, before) && write_data(t, event, out) &&
           sj_buffer_add(out, sj_slice_from(whole, before + raw->data.n));
}
