// What faults do to the bytes of an answer.
#include "mock_answer.h"

#include <stdlib.h>
#include <time.h>
#include <zlib.h>

enum { OFF_BY = 10 };

static const char event_stream[] = "text/event-stream; charset=utf-8";

// ---- error statuses -----------------------------------------------------------------------------

static bool add_retry_date(const sj_mock_fault *fault, int64_t now_s, sj_buffer *headers) {
    static const struct {
        const char *name, *format;
    } forms[] = {
        {"imf", "%a, %d %b %Y %H:%M:%S GMT"},
        {"rfc850", "%A, %d-%b-%y %H:%M:%S GMT"},
        {"asctime", "%a %b %e %H:%M:%S %Y"},
    };
    time_t then = (time_t)(now_s + fault->retry_date_s);
    struct tm tm;
    char text[64];
    for (size_t i = 0; i < 3; i++) {
        if (strcmp(fault->retry_date, forms[i].name) == 0)
            return gmtime_r(&then, &tm) && strftime(text, sizeof text, forms[i].format, &tm) &&
                   sj_buffer_printf(headers, "Retry-After: %s\r\n", text);
    }
    return true;
}

static void drop_body(sj_mock_answer *answer) {
    sj_buffer_clear(&answer->body);
    answer->count = answer->finish = 0;
    answer->stream = false;
    answer->content_type = NULL;
}

static bool become_status(sj_mock_answer *answer, const sj_mock_fault *fault) {
    drop_body(answer);
    answer->status = fault->status;
    if (fault->body == SJ_MOCK_BODY_NONE || fault->status < 300)
        return sj_mock_answer_piece(answer);
    bool html = fault->body == SJ_MOCK_BODY_HTML;
    answer->content_type = html ? "text/html" : "application/json";
    bool ok = html ? sj_buffer_printf(&answer->body,
                                      "<html><head><title>%d</title></head><body><center><h1>%d</h1></center>"
                                      "<hr><center>gateway</center></body></html>\r\n",
                                      fault->status, fault->status)
                   : sj_mock_error_object(fault, &answer->body);
    return ok && sj_mock_answer_piece(answer);
}

// An error as a stream of that dialect tells it.
static bool error_event(const sj_mock_answer *answer, const sj_mock_fault *fault, sj_buffer *out) {
    static const struct {
        const char *before, *after;
    } forms[] = {
        [SJ_MOCK_CHAT] = {"data: ", "\n\n"},
        [SJ_MOCK_RESPONSES] =
            {"event: response.failed\ndata: {\"type\":\"response.failed\",\"sequence_number\":99,"
             "\"response\":{\"id\":\"resp_mock\",\"object\":\"response\",\"status\":\"failed\","
             "\"output\":[],",
             "}\n\n"},
        [SJ_MOCK_MESSAGES] = {"event: error\ndata: {\"type\":\"error\",", "\n\n"},
    };
    sj_buffer object = sj_buffer_with_max(4096);
    bool ok = sj_mock_error_object(fault, &object) && sj_buffer_text(out, forms[answer->dialect].before);
    size_t skip = answer->dialect == SJ_MOCK_CHAT ? 0 : 1; // the opening brace stands in `before`
    ok = ok && sj_buffer_add(out, sj_slice_from(sj_buffer_slice(&object), skip)) &&
         sj_buffer_text(out, forms[answer->dialect].after);
    sj_buffer_free(&object);
    return ok;
}

// ---- a 200 that is no answer --------------------------------------------------------------------

static bool become_empty(sj_mock_answer *answer, const sj_mock_fault *fault) {
    (void)fault;
    const char *type = answer->content_type;
    drop_body(answer);
    answer->content_type = type;
    return sj_mock_answer_piece(answer);
}

static bool become_error_body(sj_mock_answer *answer, const sj_mock_fault *fault) {
    drop_body(answer);
    answer->content_type = "application/json";
    return sj_mock_error_object(fault, &answer->body) && sj_mock_answer_piece(answer);
}

static bool become_first_error(sj_mock_answer *answer, const sj_mock_fault *fault) {
    drop_body(answer);
    answer->stream = true;
    answer->content_type = event_stream;
    return error_event(answer, fault, &answer->body) && sj_mock_answer_piece(answer);
}

static bool truncate_answer(sj_mock_answer *answer, const sj_mock_fault *fault) {
    (void)fault;
    if (!answer->stream || answer->finish < 3) {
        answer->body.n /= 2;
        answer->count = 0;
        return sj_mock_answer_piece(answer);
    }
    // The middle of the event in the middle.
    size_t last = answer->finish / 2;
    size_t start = answer->ends[last - 1];
    answer->body.n = start + (answer->ends[last] - start) / 2;
    answer->count = last;
    return sj_mock_answer_piece(answer);
}

// ---- streams ------------------------------------------------------------------------------------

static size_t events_before(const sj_mock_answer *answer, const sj_mock_fault *fault) {
    size_t after = fault->after < 0 ? 0 : (size_t)fault->after;
    return after < answer->finish ? after : answer->finish - (answer->finish > 0);
}

static bool end_in_error(sj_mock_answer *answer, const sj_mock_fault *fault) {
    if (!answer->stream)
        return become_error_body(answer, fault);
    size_t keep = events_before(answer, fault);
    answer->body.n = keep ? answer->ends[keep - 1] : 0;
    answer->count = keep;
    return error_event(answer, fault, &answer->body) && sj_mock_answer_piece(answer);
}

static bool drop_done(sj_mock_answer *answer, const sj_mock_fault *fault) {
    (void)fault;
    if (answer->stream && answer->finish < answer->count)
        answer->count = answer->finish;
    return true;
}

// Rebuilds the body piece by piece.
typedef bool (*rewrite)(sj_slice piece, size_t index, const sj_mock_fault *fault, sj_mock_answer *next);

static bool rebuild(sj_mock_answer *answer, const sj_mock_fault *fault, rewrite each) {
    sj_mock_answer next;
    sj_mock_answer_init(&next);
    size_t start = 0, finish = 0;
    bool ok = true;
    for (size_t i = 0; ok && i < answer->count; i++) {
        ok = each((sj_slice){answer->body.p + start, answer->ends[i] - start}, i, fault, &next);
        start = answer->ends[i];
        if (i + 1 == answer->finish)
            finish = next.count;
    }
    if (ok) {
        sj_buffer body = answer->body;
        size_t *ends = answer->ends;
        answer->body = next.body;
        answer->ends = next.ends;
        answer->count = next.count;
        answer->cap = next.cap;
        answer->finish = finish;
        next.body = body;
        next.ends = ends;
    }
    sj_mock_answer_free(&next);
    return ok;
}

static bool add_junk(sj_slice piece, size_t index, const sj_mock_fault *fault, sj_mock_answer *next) {
    size_t every = fault->after > 0 ? (size_t)fault->after : 1;
    bool ok = sj_buffer_add(&next->body, piece) && sj_mock_answer_piece(next);
    if ((index + 1) % every != 0)
        return ok;
    return ok && sj_buffer_text(&next->body, "data: this is {no JSON\n\n") && sj_mock_answer_piece(next);
}

static bool add_junk_events(sj_mock_answer *answer, const sj_mock_fault *fault) {
    return !answer->stream || rebuild(answer, fault, add_junk);
}

// CRLF for LF, "data:" for "data: ", comments and a retry line between.
static bool make_odd(sj_slice piece, size_t index, const sj_mock_fault *fault, sj_mock_answer *next) {
    (void)fault;
    bool ok = sj_buffer_text(&next->body, index % 3 == 0 ? ": ping\r\n\r\nretry: 3000\r\n" : "");
    while (ok && piece.n) {
        const char *end = memchr(piece.p, '\n', piece.n);
        size_t n = end ? (size_t)(end - piece.p) : piece.n;
        sj_slice line = {piece.p, n};
        bool data = sj_slice_starts(line, SJ_SLICE("data: "));
        ok = sj_buffer_text(&next->body, data ? "data:" : "") &&
             sj_buffer_add(&next->body, sj_slice_from(line, data ? 6 : 0)) &&
             sj_buffer_text(&next->body, "\r\n");
        piece = sj_slice_from(piece, end ? n + 1 : n);
    }
    return ok && sj_mock_answer_piece(next);
}

static bool make_odd_sse(sj_mock_answer *answer, const sj_mock_fault *fault) {
    return !answer->stream || rebuild(answer, fault, make_odd);
}

// White space is JSON too: before the event's closing line ends.
static bool pad(sj_slice piece, size_t index, const sj_mock_fault *fault, sj_mock_answer *next) {
    static const char spaces[] = "                                                                ";
    bool ok = sj_buffer_append(&next->body, piece.p, piece.n - 2);
    for (size_t n = piece.n; ok && index == 2 && n < (size_t)fault->after; n += sizeof spaces - 1)
        ok = sj_buffer_append(&next->body, spaces, sizeof spaces - 1);
    return ok && sj_buffer_append(&next->body, piece.p + piece.n - 2, 2) && sj_mock_answer_piece(next);
}

static bool make_big_event(sj_mock_answer *answer, const sj_mock_fault *fault) {
    // At most half of what an answer may be.
    bool fits = fault->after <= 32 * 1024 * 1024;
    return !answer->stream || !fits || rebuild(answer, fault, pad);
}

static bool split(sj_slice piece, size_t index, const sj_mock_fault *fault, sj_mock_answer *next) {
    (void)index;
    size_t size = fault->after > 0 ? (size_t)fault->after : 1;
    while (piece.n) {
        size_t n = piece.n < size ? piece.n : size;
        if (!sj_buffer_append(&next->body, piece.p, n) || !sj_mock_answer_piece(next))
            return false;
        piece = sj_slice_from(piece, n);
    }
    return true;
}

static bool make_drip(sj_mock_answer *answer, const sj_mock_fault *fault) {
    answer->stream = true;
    return rebuild(answer, fault, split);
}

// ---- coding and lengths -------------------------------------------------------------------------

static bool deflate_piece(z_stream *z, sj_slice piece, int flush, sj_mock_answer *next) {
    unsigned char out[4096];
    z->next_in = (Bytef *)(uintptr_t)piece.p;
    z->avail_in = (uInt)piece.n;
    do {
        z->next_out = out;
        z->avail_out = sizeof out;
        if (deflate(z, flush) == Z_STREAM_ERROR ||
            !sj_buffer_append(&next->body, out, sizeof out - z->avail_out))
            return false;
    } while (z->avail_out == 0);
    return sj_mock_answer_piece(next);
}

// Each event is flushed, as a server that streams must.
static bool gzip_answer(sj_mock_answer *answer, const sj_mock_fault *fault) {
    (void)fault;
    z_stream z = {0};
    sj_mock_answer next;
    sj_mock_answer_init(&next);
    if (deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return false;
    size_t start = 0;
    bool ok = true;
    for (size_t i = 0; ok && i < answer->count; i++) {
        int flush = i + 1 == answer->count ? Z_FINISH : Z_SYNC_FLUSH;
        ok = deflate_piece(&z, (sj_slice){answer->body.p + start, answer->ends[i] - start}, flush, &next);
        start = answer->ends[i];
    }
    (void)deflateEnd(&z);
    if (ok) {
        sj_buffer body = answer->body;
        answer->body = next.body;
        next.body = body;
        memcpy(answer->ends, next.ends, next.count * sizeof *next.ends);
    }
    sj_mock_answer_free(&next);
    return ok && sj_buffer_text(&answer->headers, "Content-Encoding: gzip\r\n");
}

// The player sends these with the length of the whole; here the body only loses its chunks.
static bool make_whole(sj_mock_answer *answer, const sj_mock_fault *fault) {
    (void)fault;
    answer->stream = false;
    answer->count = 0;
    if (answer->body.n <= OFF_BY)
        return sj_mock_answer_piece(answer);
    answer->body.n -= OFF_BY;
    bool ok = sj_mock_answer_piece(answer);
    answer->body.n += OFF_BY;
    return ok && sj_mock_answer_piece(answer);
}

// Whole answers are cut in the middle.
static bool make_halves(sj_mock_answer *answer, const sj_mock_fault *fault) {
    (void)fault;
    if (answer->stream || answer->body.n < 2)
        return true;
    size_t n = answer->body.n;
    answer->count = 0;
    answer->body.n = n / 2;
    bool ok = sj_mock_answer_piece(answer);
    answer->body.n = n;
    return ok && sj_mock_answer_piece(answer);
}

// The fault needs chunks.
static bool make_chunks(sj_mock_answer *answer, const sj_mock_fault *fault) {
    bool ok = make_halves(answer, fault);
    answer->stream = true;
    return ok;
}

static bool (*const spoilers[SJ_MOCK_KIND_COUNT])(sj_mock_answer *, const sj_mock_fault *) = {
    [SJ_MOCK_STATUS] = become_status,
    [SJ_MOCK_EMPTY] = become_empty,
    [SJ_MOCK_ERROR_BODY] = become_error_body,
    [SJ_MOCK_FIRST_ERROR] = become_first_error,
    [SJ_MOCK_TRUNCATED] = truncate_answer,
    [SJ_MOCK_LATE_ERROR] = end_in_error,
    [SJ_MOCK_NO_DONE] = drop_done,
    [SJ_MOCK_FINISH_SILENCE] = drop_done,
    [SJ_MOCK_NON_JSON] = add_junk_events,
    [SJ_MOCK_ODD_SSE] = make_odd_sse,
    [SJ_MOCK_DRIP] = make_drip,
    [SJ_MOCK_BIG_EVENT] = make_big_event,
    [SJ_MOCK_GZIP] = gzip_answer,
    [SJ_MOCK_SHORT_LENGTH] = make_whole,
    [SJ_MOCK_LONG_LENGTH] = make_whole,
    [SJ_MOCK_CUT] = make_halves,
    [SJ_MOCK_CUT_CLOSE] = make_halves,
    [SJ_MOCK_CUT_RESET] = make_halves,
    [SJ_MOCK_STALL] = make_halves,
    [SJ_MOCK_BAD_CHUNK] = make_chunks,
};

bool sj_mock_answer_spoil(sj_mock_answer *answer, const sj_mock_fault *fault, int64_t now_s) {
    bool ok = !spoilers[fault->kind] || spoilers[fault->kind](answer, fault);
    return ok && sj_buffer_text(&answer->headers, fault->headers) &&
           add_retry_date(fault, now_s, &answer->headers);
}
