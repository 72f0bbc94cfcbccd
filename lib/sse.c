#include "sse.h"

// Where in its line the last byte seen stands.
enum {
    LINE_EMPTY, // nothing of the line seen
    LINE_STARTED, // some of it
    LINE_AFTER_CR, // nothing of the line seen, and a LF would still belong to the line end before it
};

enum {
    SEARCH_STEP = 256, // so that a stream without LF is not searched to its end for each of its lines
    KEEP_BYTES = 64 * 1024, // memory of a longer held event is given back
};

void sj_sse_init(sj_sse *sse, size_t max_event_bytes) {
    *sse = (sj_sse){
        .held = sj_buffer_with_max(max_event_bytes),
        .joined = sj_buffer_with_max(max_event_bytes),
        .max_event = max_event_bytes,
        .line_state = LINE_EMPTY,
    };
}

void sj_sse_free(sj_sse *sse) {
    sj_buffer_free(&sse->held);
    sj_buffer_free(&sse->joined);
    sse->spent = false;
}

size_t sj_sse_held_bytes(const sj_sse *sse) {
    return sse->spent ? 0 : sse->held.n;
}

// ---- lines ------------------------------------------------------------------------------------------------------------------

// Offset of the first CR or LF from `from` on; text.n when there is none.
static size_t find_line_end(sj_slice text, size_t from) {
    while (from < text.n) {
        size_t step = text.n - from < SEARCH_STEP ? text.n - from : SEARCH_STEP;
        const char *lf = memchr(text.p + from, '\n', step);
        size_t before_lf = lf ? (size_t)(lf - (text.p + from)) : step;
        const char *cr = memchr(text.p + from, '\r', before_lf);
        if (cr || lf)
            return (size_t)((cr ? cr : lf) - text.p);
        from += step;
    }
    return text.n;
}

// Length of text up to and with the first blank line, 0 when there is none in it. *line_state: before text, then behind what was looked at.
static size_t find_event_end(sj_slice text, unsigned char *line_state) {
    size_t at = 0;
    while (at < text.n) {
        if (*line_state == LINE_STARTED) {
            at = find_line_end(text, at);
            if (at == text.n)
                break;
            *line_state = text.p[at++] == '\r' ? LINE_AFTER_CR : LINE_EMPTY;
            continue;
        }
        char c = text.p[at++];
        if (c == '\n' && *line_state == LINE_AFTER_CR) {
            *line_state = LINE_EMPTY;
        } else if (c == '\n') {
            return at;
        } else if (c == '\r') {
            bool crlf = at < text.n && text.p[at] == '\n';
            *line_state = at < text.n ? LINE_EMPTY : LINE_AFTER_CR;
            return at + crlf;
        } else {
            *line_state = LINE_STARTED;
        }
    }
    return 0;
}

// ---- fields -----------------------------------------------------------------------------------------------------------------

static bool join(sj_sse *sse, sj_slice value, sj_sse_event *event) {
    if (!event->has_data) {
        event->data = value;
        event->has_data = true;
        return true;
    }
    if (event->data.p != sse->joined.p) {
        sj_buffer_clear(&sse->joined);
        if (!sj_buffer_add(&sse->joined, event->data))
            return false;
    }
    if (!sj_buffer_append(&sse->joined, "\n", 1) || !sj_buffer_add(&sse->joined, value))
        return false;
    event->data = sj_buffer_slice(&sse->joined);
    return true;
}

static bool read_line(sj_sse *sse, sj_slice line, sj_sse_event *event) {
    const char *colon = memchr(line.p, ':', line.n);
    sj_slice field = {line.p, colon ? (size_t)(colon - line.p) : line.n};
    sj_slice value = sj_slice_from(line, field.n + (colon != NULL));
    if (value.n && value.p[0] == ' ')
        value = sj_slice_from(value, 1);
    if (sj_slice_equal(field, SJ_SLICE("data")))
        return join(sse, value, event);
    if (sj_slice_equal(field, SJ_SLICE("event")))
        event->name = value;
    return true;
}

// Fills name and data from raw. Without memory to join lines the event passes unread, like one that is too long.
static void read_fields(sj_sse *sse, sj_sse_event *event) {
    sj_slice rest = event->raw;
    if (!sse->started && sj_slice_starts(rest, SJ_SLICE("\xef\xbb\xbf")))
        rest = sj_slice_from(rest, 3);
    while (rest.n) {
        size_t end = find_line_end(rest, 0);
        if (end && !read_line(sse, (sj_slice){rest.p, end}, event)) {
            *event = (sj_sse_event){.raw = event->raw, .oversize = true};
            return;
        }
        rest = sj_slice_from(rest, end < rest.n ? end + 1 : end);
    }
}

// ---- events -----------------------------------------------------------------------------------------------------------------

static void forget_spent(sj_sse *sse) {
    if (!sse->spent)
        return;
    sse->spent = false;
    if (sse->held.cap > KEEP_BYTES)
        sj_buffer_free(&sse->held);
    else
        sj_buffer_clear(&sse->held);
}

static sj_slice take(sj_slice *input, size_t n) {
    sj_slice piece = {input->p, n};
    *input = sj_slice_from(*input, n);
    return piece;
}

static bool give(sj_sse *sse, sj_slice raw, bool oversize, sj_sse_event *event) {
    *event = (sj_sse_event){.raw = raw, .oversize = oversize};
    if (!oversize)
        read_fields(sse, event);
    sse->started = true;
    return true;
}

static bool give_held(sj_sse *sse, bool oversize, sj_sse_event *event) {
    sse->spent = true;
    return give(sse, sj_buffer_slice(&sse->held), oversize, event);
}

bool sj_sse_next(sj_sse *sse, sj_slice *input, sj_sse_event *event) {
    forget_spent(sse);
    if (input->n == 0)
        return false;
    unsigned char line_state = sse->line_state;
    size_t end = find_event_end(*input, &line_state);
    size_t n = end ? end : input->n;

    bool fits = !sse->in_oversize && sse->held.n + n <= sse->max_event;
    bool in_one_piece = fits && end && sse->held.n == 0;
    if (fits && !in_one_piece)
        fits = sj_buffer_append(&sse->held, input->p, n);
    if (!fits && sse->held.n) {
        // What was held goes first; the input stays for the next call.
        sse->in_oversize = true;
        return give_held(sse, true, event);
    }
    sse->line_state = line_state;
    sj_slice piece = take(input, n);
    if (!fits) {
        sse->in_oversize = !end;
        return give(sse, piece, true, event);
    }
    if (in_one_piece)
        return give(sse, piece, false, event);
    return end && give_held(sse, false, event);
}

bool sj_sse_rest(sj_sse *sse, sj_sse_event *event) {
    forget_spent(sse);
    return sse->held.n && give_held(sse, false, event);
}
