// When the bytes of an answer leave, and how it ends. One exchange:
//   wait latency -> head -> wait first token -> pieces at their pace -> ending
#include "mock_core.h"

#include <stdlib.h>
#include <time.h>

enum { HIGH_WATER = 256 * 1024, ENDLESS_BYTES = 4 * 1024 * 1024, DRIP_PER_SECOND = 1000 };

typedef enum ending {
    END_WHOLE, // as it should be
    END_CLEAN_CUT, // framing ends well, the answer does not
    END_CLOSE, // FIN
    END_RESET, // RST
    END_BAD_CHUNK, // no chunk size where one is due, then FIN
    END_SILENCE // nothing more; FIN after arg_ms if that is set
} ending;

typedef enum opening { OPEN_HEAD, OPEN_NOTHING, OPEN_GARBAGE, OPEN_INFORMATIONAL, OPEN_ENDLESS } opening;

// stop: how many pieces leave. AFTER: `after` of them, but never the finish.
typedef enum stop { STOP_ALL, STOP_NONE, STOP_AFTER, STOP_FIRST, STOP_FINISH } stop;

static const struct play {
    opening opening;
    stop stop;
    ending ending;
} plays[SJ_MOCK_KIND_COUNT] = {
    [SJ_MOCK_TIMEOUT] = {OPEN_NOTHING, STOP_NONE, END_SILENCE},
    [SJ_MOCK_CLOSE] = {OPEN_NOTHING, STOP_NONE, END_CLOSE},
    [SJ_MOCK_RESET] = {OPEN_NOTHING, STOP_NONE, END_RESET},
    [SJ_MOCK_GARBAGE] = {OPEN_GARBAGE, STOP_NONE, END_CLOSE},
    [SJ_MOCK_ENDLESS_HEADERS] = {OPEN_ENDLESS, STOP_NONE, END_CLOSE},
    [SJ_MOCK_HEAD_SILENCE] = {OPEN_HEAD, STOP_NONE, END_SILENCE},
    [SJ_MOCK_HEAD_CLOSE] = {OPEN_HEAD, STOP_NONE, END_CLOSE},
    [SJ_MOCK_HEAD_RESET] = {OPEN_HEAD, STOP_NONE, END_RESET},
    [SJ_MOCK_CUT] = {OPEN_HEAD, STOP_AFTER, END_CLEAN_CUT},
    [SJ_MOCK_CUT_CLOSE] = {OPEN_HEAD, STOP_AFTER, END_CLOSE},
    [SJ_MOCK_CUT_RESET] = {OPEN_HEAD, STOP_AFTER, END_RESET},
    [SJ_MOCK_BAD_CHUNK] = {OPEN_HEAD, STOP_AFTER, END_BAD_CHUNK},
    [SJ_MOCK_STALL] = {OPEN_HEAD, STOP_AFTER, END_SILENCE},
    [SJ_MOCK_SHORT_LENGTH] = {OPEN_HEAD, STOP_FIRST, END_CLOSE},
    [SJ_MOCK_FINISH_SILENCE] = {OPEN_HEAD, STOP_FINISH, END_SILENCE},
    [SJ_MOCK_INFORMATIONAL] = {OPEN_INFORMATIONAL, STOP_ALL, END_WHOLE},
};

typedef enum phase { WAITING, PLAYING, SILENT } phase;

typedef struct exchange {
    sj_mock *mock;
    sj_mock_conn *conn;
    sj_mock_answer answer;
    sj_mock_fault fault;
    uint64_t number; // in the log
    phase phase;
    uint64_t head_due_ms, first_due_ms; // on the loop's clock
    double per_ms; // pieces a millisecond, 0 all at once
    size_t next, stop; // pieces
    uint64_t bytes_sent;
    size_t endless;
    bool keep_alive, chunked, bodyless;
} exchange;

// ---- what is written ----------------------------------------------------------------------------

static void must(bool appended) {
    if (!appended)
        abort(); // mock->out holds one head or up to HIGH_WATER of pieces
}

static const char *reason(int status) {
    static const struct {
        int status;
        const char *text;
    } reasons[] = {{200, "OK"},
                   {400, "Bad Request"},
                   {401, "Unauthorized"},
                   {404, "Not Found"},
                   {408, "Request Timeout"},
                   {429, "Too Many Requests"},
                   {500, "Internal Server Error"},
                   {502, "Bad Gateway"},
                   {503, "Service Unavailable"},
                   {504, "Gateway Timeout"}};
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
        if (reasons[i].status == status)
            return reasons[i].text;
    }
    return "Mocked";
}

static void put_date(sj_buffer *out) {
    static _Thread_local time_t last;
    static _Thread_local char text[48];
    time_t now = time(NULL);
    struct tm tm;
    if (now != last && gmtime_r(&now, &tm) &&
        strftime(text, sizeof text, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm))
        last = now;
    must(sj_buffer_text(out, text));
}

static size_t declared_length(const exchange *x) {
    size_t n = x->answer.body.n;
    return x->fault.kind == SJ_MOCK_LONG_LENGTH && n > 10 ? n - 10 : n;
}

static void put_head(exchange *x, sj_buffer *out) {
    const sj_mock_answer *answer = &x->answer;
    must(sj_buffer_printf(out, "HTTP/1.1 %d %s\r\n", answer->status, reason(answer->status)));
    put_date(out);
    if (answer->content_type)
        must(sj_buffer_printf(out, "Content-Type: %s\r\n", answer->content_type));
    must(sj_buffer_printf(out, "x-request-id: req_mock_%llu\r\nopenai-processing-ms: 1\r\n",
                          (unsigned long long)x->number));
    must(sj_buffer_add(out, sj_buffer_slice(&answer->headers)));
    if (x->chunked)
        must(sj_buffer_text(out, "Transfer-Encoding: chunked\r\n"));
    else if (!answer->stream && answer->status >= 200 && answer->status != 204 && answer->status != 304)
        must(sj_buffer_printf(out, "Content-Length: %zu\r\n", declared_length(x)));
    must(sj_buffer_text(out, x->keep_alive ? "\r\n" : "Connection: close\r\n\r\n"));
}

static void put_opening(exchange *x, sj_buffer *out) {
    switch (plays[x->fault.kind].opening) {
    case OPEN_NOTHING:
        return;
    case OPEN_GARBAGE:
        must(sj_buffer_text(out, "ICY 200 what is this\x01\r\n\r\n"));
        return;
    case OPEN_ENDLESS:
        must(sj_buffer_text(out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"));
        return;
    case OPEN_INFORMATIONAL:
        must(sj_buffer_text(out, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n"
                                 "Link: </style.css>; rel=preload\r\n\r\n"));
        break;
    case OPEN_HEAD:
        break;
    }
    put_head(x, out);
}

static void put_piece(exchange *x, sj_buffer *out) {
    size_t start = x->next ? x->answer.ends[x->next - 1] : 0;
    sj_slice piece = {x->answer.body.p + start, x->answer.ends[x->next] - start};
    x->next++;
    if (x->bodyless || piece.n == 0)
        return;
    if (x->chunked)
        must(sj_buffer_printf(out, "%zx\r\n", piece.n));
    must(sj_buffer_add(out, piece));
    if (x->chunked)
        must(sj_buffer_text(out, "\r\n"));
}

static void flush(exchange *x) {
    sj_buffer *out = &x->mock->out;
    x->bytes_sent += out->n;
    sj_mock_conn_write(x->conn, sj_buffer_slice(out));
    sj_buffer_clear(out);
}

// ---- the end ------------------------------------------------------------------------------------

static void dispose(exchange *x, sj_mock_outcome outcome) {
    sj_mock *mock = x->mock;
    bool headed = x->phase != WAITING && x->bytes_sent > 0 && plays[x->fault.kind].opening != OPEN_GARBAGE;
    sj_mock_log_entry *entry = sj_mock_log_find(&mock->log, x->number);
    if (entry) {
        entry->bytes_sent = x->bytes_sent;
        entry->events = (uint32_t)x->next;
    }
    sj_mock_log_end(&mock->log, x->number, sj_mock_now_ms(mock), headed ? x->answer.status : 0, outcome);
    mock->running--;
    sj_mock_answer_free(&x->answer);
    free(x);
}

void sj_mock_play_gone(void *owner, bool by_reset) {
    dispose(owner, by_reset ? SJ_MOCK_CLIENT_RESET : SJ_MOCK_CLIENT_GONE);
}

static void end_close(exchange *x) {
    sj_mock_conn *conn = x->conn;
    flush(x);
    dispose(x, SJ_MOCK_BROKEN_OFF);
    sj_mock_conn_finish(conn);
}

static void end_reset(exchange *x) {
    sj_mock_conn *conn = x->conn;
    flush(x);
    dispose(x, SJ_MOCK_RESET_BY_US);
    sj_mock_conn_reset(conn);
}

static void end_well(exchange *x, sj_mock_outcome outcome) {
    sj_mock_conn *conn = x->conn;
    // Without a length only the end of the connection ends the body.
    bool close = x->answer.stream && !x->chunked;
    if (x->chunked && !x->bodyless)
        must(sj_buffer_text(&x->mock->out, "0\r\n\r\n"));
    flush(x);
    dispose(x, outcome);
    if (close)
        sj_mock_conn_finish(conn);
    else
        sj_mock_conn_done(conn);
}

static void fall_silent(exchange *x) {
    flush(x);
    x->phase = SILENT;
    if (x->fault.arg_ms > 0)
        sj_mock_conn_timer(x->conn, (uint64_t)x->fault.arg_ms);
}

static void end(exchange *x) {
    switch (plays[x->fault.kind].ending) {
    case END_WHOLE:
        end_well(x, SJ_MOCK_ANSWERED);
        return;
    case END_CLEAN_CUT:
        if (x->answer.stream)
            end_well(x, SJ_MOCK_BROKEN_OFF);
        else
            end_close(x);
        return;
    case END_BAD_CHUNK:
        must(sj_buffer_text(&x->mock->out, "zz no chunk\r\n"));
        end_close(x);
        return;
    case END_CLOSE:
        end_close(x);
        return;
    case END_RESET:
        end_reset(x);
        return;
    case END_SILENCE:
        fall_silent(x);
        return;
    }
}

// ---- pace ---------------------------------------------------------------------------------------

static uint64_t due_ms(const exchange *x, size_t piece) {
    return x->per_ms > 0 ? x->first_due_ms + (uint64_t)((double)piece / x->per_ms) : x->first_due_ms;
}

static void wait_until(exchange *x, uint64_t at_ms) {
    uint64_t now = uv_now(x->mock->loop);
    sj_mock_conn_timer(x->conn, at_ms > now ? at_ms - now : 1);
}

static void play_endless(exchange *x) {
    static const char line[] =
        "x-filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n";
    while (x->endless < ENDLESS_BYTES && sj_mock_conn_queued(x->conn) < HIGH_WATER) {
        for (int i = 0; i < 256; i++)
            must(sj_buffer_append(&x->mock->out, line, sizeof line - 1));
        x->endless += x->mock->out.n;
        flush(x);
    }
    if (x->endless >= ENDLESS_BYTES)
        end(x);
}

// All pieces that are due leave in one write; a reader that is slow holds us up.
static void play_pieces(exchange *x) {
    sj_buffer *out = &x->mock->out;
    uint64_t now = uv_now(x->mock->loop);
    while (x->next < x->stop && due_ms(x, x->next) <= now) {
        if (sj_mock_conn_queued(x->conn) >= HIGH_WATER) {
            flush(x);
            return; // on_drained plays on
        }
        put_piece(x, out);
        if (out->n >= HIGH_WATER)
            flush(x);
    }
    if (x->next < x->stop) {
        flush(x);
        wait_until(x, due_ms(x, x->next));
    } else if (due_ms(x, x->next) <= now || plays[x->fault.kind].ending == END_WHOLE) {
        end(x);
    } else {
        // A break comes when the next piece would have.
        flush(x);
        wait_until(x, due_ms(x, x->next));
    }
}

void sj_mock_play_timer(void *owner) {
    exchange *x = owner;
    if (x->phase == SILENT)
        end_close(x);
    else
        sj_mock_play_on(x);
}

void sj_mock_play_on(void *owner) {
    exchange *x = owner;
    if (x->phase == SILENT)
        return;
    if (x->phase == WAITING) {
        if (uv_now(x->mock->loop) < x->head_due_ms) {
            wait_until(x, x->head_due_ms);
            return;
        }
        x->phase = PLAYING;
        put_opening(x, &x->mock->out);
    }
    if (plays[x->fault.kind].opening == OPEN_ENDLESS)
        play_endless(x);
    else
        play_pieces(x);
}

// ---- the start ----------------------------------------------------------------------------------

static size_t stop_of(const exchange *x) {
    const sj_mock_answer *answer = &x->answer;
    size_t after = x->fault.after < 0 ? 0 : (size_t)x->fault.after;
    size_t whole = answer->finish;
    switch (plays[x->fault.kind].stop) {
    case STOP_NONE:
        return 0;
    case STOP_FIRST:
        return answer->count ? 1 : 0;
    case STOP_FINISH:
        return whole;
    case STOP_AFTER:
        return !answer->stream ? answer->count / 2 : after < whole ? after : whole - (whole > 0);
    case STOP_ALL:
        break;
    }
    return answer->count;
}

static void set_pace(exchange *x, const sj_mock_choice *choice) {
    double per_second = x->answer.stream ? x->mock->choose.rules.tokens_per_second : 0;
    if (x->fault.kind == SJ_MOCK_DRIP)
        per_second = DRIP_PER_SECOND;
    x->per_ms = per_second / 1000.0;
    x->head_due_ms = uv_now(x->mock->loop) + (uint64_t)choice->latency_ms;
    x->first_due_ms = x->head_due_ms + (x->answer.stream ? (uint64_t)choice->first_token_ms : 0);
}

void sj_mock_play(sj_mock *mock, sj_mock_conn *conn, const sj_mock_request *request,
                  const sj_mock_choice *choice, sj_mock_answer *answer, uint64_t number) {
    exchange *x = calloc(1, sizeof *x);
    if (!x)
        abort();
    mock->running++;
    *x = (exchange){.mock = mock,
                    .conn = conn,
                    .answer = *answer,
                    .fault = choice->fault,
                    .number = number,
                    .keep_alive = request->keep_alive,
                    .chunked = answer->stream && !request->http_1_0,
                    .bodyless = sj_slice_equal(request->method, SJ_SLICE("HEAD"))};
    if (answer->stream && request->http_1_0)
        x->keep_alive = false;
    x->stop = stop_of(x);
    set_pace(x, choice);
    sj_mock_log_entry *entry = sj_mock_log_find(&mock->log, number);
    if (entry)
        entry->stream = x->answer.stream;
    sj_mock_conn_own(conn, x);
    sj_mock_play_on(x);
}
