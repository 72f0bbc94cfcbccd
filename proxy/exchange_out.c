#include "exchange_keep.h"

// An answer goes to the client, as long as he is there, and on the tape, if retries have joined or may join. Nobody may be left to hear it.

// A client who reads nothing must not hold up those who do: beyond this he is let go.
enum { STALLED_BYTES = 1024 * 1024 };

void exchange_set_end(sj_exchange *e, exchange_end end, sj_refusal refusal) {
    e->answered = refusal;
    if (e->end == END_CLIENT_GONE)
        return;
    e->end = end;
    e->refusal = refusal;
}

void exchange_head_on_tape(sj_exchange *e, int status, const sj_headers *headers, int64_t content_length) {
    sj_tape_news news;
    size_t hop = e->has_answer_hop ? e->answer_hop : sj_journey_read(e->journey).hop;
    sj_tape_head(e->tape, status, headers, content_length, e->hops[hop].label, &news);
    exchange_tell_readers(e, &news);
}

static size_t write_on_tape(sj_exchange *e, sj_slice bytes) {
    sj_tape_news news;
    size_t behind = sj_tape_write(e->tape, bytes, SJ_FRONT_HIGH_WATER, SJ_FRONT_LOW_WATER, &news);
    exchange_tell_readers(e, &news);
    return behind;
}

// What has been given whole is not recorded for later: later it is over.
static bool is_read_along(sj_exchange *e) {
    if (e->tape && !exchange_has_readers(e))
        sj_tape_unref(&e->tape);
    return e->tape != NULL;
}

void exchange_out_answer(sj_exchange *e, int status, const sj_headers *headers, sj_slice body) {
    e->has_begun = true;
    if (e->call) {
        e->status = status;
        e->bytes_out += body.n;
        sj_call_answer(e->call, status, headers, body);
    }
    if (!is_read_along(e))
        return;
    exchange_head_on_tape(e, status, headers, (int64_t)body.n);
    (void)write_on_tape(e, body);
    exchange_end_tape(e, true);
}

void exchange_out_answer_head(sj_exchange *e, int status, const sj_headers *headers, int64_t content_length) {
    e->has_begun = true;
    if (e->call) {
        e->status = status;
        sj_call_answer_head(e->call, status, headers, content_length);
    }
    if (!is_read_along(e))
        return;
    exchange_head_on_tape(e, status, headers, 0);
    exchange_end_tape(e, true);
}

void exchange_out_begin(sj_exchange *e, int status, const sj_headers *headers, int64_t content_length) {
    e->has_begun = true;
    if (e->call) {
        e->status = status;
        sj_call_begin(e->call, status, headers, content_length);
    }
    if (e->tape)
        exchange_head_on_tape(e, status, headers, content_length);
}

// The fastest reader sets the pace.
static bool write_out(sj_exchange *e, sj_slice bytes) {
    size_t held = SIZE_MAX;
    if (e->call) {
        e->bytes_out += bytes.n;
        held = sj_call_write(e->call, bytes);
    }
    if (e->tape) {
        size_t behind = write_on_tape(e, bytes);
        if (e->call && behind != SIZE_MAX && held > STALLED_BYTES)
            sj_call_cut(e->call);
        held = behind < held ? behind : held;
    }
    return held != SIZE_MAX && held > SJ_FRONT_HIGH_WATER;
}

bool exchange_out_write(sj_exchange *e, sj_slice bytes) {
    e->has_spoken = true;
    if (e->recording)
        exchange_keep_more(e, bytes);
    return write_out(e, bytes);
}

void exchange_out_sign(sj_exchange *e, sj_slice comment) {
    (void)write_out(e, comment);
}

void exchange_out_finish(sj_exchange *e, const sj_headers *trailers) {
    if (e->call)
        sj_call_finish(e->call, trailers);
    if (e->tape)
        exchange_end_tape(e, true);
}

void exchange_out_cut(sj_exchange *e) {
    if (e->call)
        sj_call_cut(e->call);
    if (e->tape)
        exchange_end_tape(e, false);
}
