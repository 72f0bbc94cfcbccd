#include "front_internal.h"

#include "http_rules.h"
#include "refusal.h"
#include "text.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

// How an answer leaves.
//
//   whole:   one MHD response from a buffer; MHD sends head and body in one go.
//   pieces of known length: MHD pulls from `out` (QUEUED) and is suspended while it is empty (PULL).
//   pieces of unknown length: MHD sends the head and the first bytes the same way; the first time it finds `out` empty it is suspended for good
//   (DIRECT) and each piece is written to the socket as one chunk by ourselves. MHD has nothing of its own in flight then, so the bytes cannot
//   mix; it is resumed once, to send the last chunk or to cut. A resume makes MHD walk its suspended connections: this way a streamed event
//   costs one sendmsg, not a walk.

enum {
    OUT_MAX = 8 * 1024 * 1024,
    OUT_SPENT = 64 * 1024,
    EARLY_ANSWER_DRAIN = 64 * 1024 * 1024,
    READER_BLOCK = 16 * 1024,
    TARGET_MAX = 32 * 1024,
    MHD_LINE_MAX = 64 * 1024
};

static conn *conn_of(struct MHD_Connection *mhd) {
    conn *c = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    assert(c->magic == CONN_MAGIC);
    return c;
}

// ---- birth and death ------------------------------------------------------------------------------------------------------------

void *call_on_uri(void *cls, const char *uri, struct MHD_Connection *mhd) {
    (void)cls;
    conn *c = conn_of(mhd);
    sj_call *call = calloc(1, sizeof *call);
    if (!call)
        return NULL;
    *call = (sj_call){.magic = CALL_MAGIC, .conn = c, .target = sj_buffer_with_max(TARGET_MAX), .target_in_mhd = uri,
                      .out = sj_buffer_with_max(OUT_MAX)};
    sj_headers_init(&call->headers);
    if (!sj_buffer_append(&call->target, uri, strlen(uri) + 1)) {
        sj_buffer_free(&call->target);
        free(call);
        return NULL;
    }
    call->target.n--; // the NUL is there, but not counted
    c->call = call;
    c->front->calls++;
    conn_wait(c, WAIT_HEADER);
    return call;
}

static size_t held_bytes(const sj_call *call) { return call->out.n - call->out_at; }

static void forget_in_lists(sj_call *call) {
    sj_front *front = call->conn->front;
    sj_call **link = &front->writable_first;
    while (call->in_writable_list && *link != call)
        link = &(*link)->next_writable;
    if (call->in_writable_list)
        *link = call->next_writable;
    link = &front->flush_first;
    while (call->in_flush_list && *link != call)
        link = &(*link)->next_flush;
    if (call->in_flush_list)
        *link = call->next_flush;
    call->in_writable_list = call->in_flush_list = false;
}

void call_on_completed(void *cls, struct MHD_Connection *mhd, void **con_cls, enum MHD_RequestTerminationCode code) {
    (void)cls;
    (void)mhd;
    sj_call *call = *con_cls;
    *con_cls = NULL;
    if (!call)
        return;
    assert(call->magic == CALL_MAGIC && !call->suspended);
    conn *c = call->conn;
    call->phase = PHASE_OVER;
    c->call = NULL;
    c->front->calls--;
    forget_in_lists(call);
    conn_watch(c, c->doomed || !c->watched ? 0 : UV_DISCONNECT);
    if (!c->doomed)
        conn_wait(c, WAIT_KEEPALIVE);
    // Of known length MHD asks for no end: it has counted the bytes.
    bool all = call->sent_all || (call->known_length && !call->cut && !call->gone && held_bytes(call) == 0);
    if (call->owner)
        c->front->handlers.on_end(call->owner, all && code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
    if (call->response)
        MHD_destroy_response(call->response);
    sj_buffer_free(&call->out);
    sj_buffer_free(&call->target);
    sj_headers_free(&call->headers);
    call->magic = 0;
    free(call);
}

static void suspend(sj_call *call, call_phase phase) {
    conn *c = call->conn;
    call->phase = phase;
    call->suspended = true;
    // A hang-up that came while MHD was reading has stopped the watch; from here on only we can notice it.
    if (!c->watched)
        conn_watch(c, UV_DISCONNECT);
    MHD_suspend_connection(c->mhd);
}

static void resume(sj_call *call) {
    front_touch(call->conn->room);
    if (!call->suspended)
        return;
    call->suspended = false;
    if (call->phase != PHASE_WAITING)
        call->phase = PHASE_QUEUED;
    MHD_resume_connection(call->conn->mhd);
}

// ---- the request ----------------------------------------------------------------------------------------------------------------

typedef struct head_reader {
    sj_call *call;
    const char *after; // one past the terminator that MHD put behind the last value
    bool strange;      // a NUL inside a value, or a folded line
    bool full;
} head_reader;

// MHD holds header lines in place and measures values by strlen: behind a value's terminator only the line end or the next name may stand.
static bool ends_cleanly(const char *after, const char *next_name) {
    return !after || after == next_name || strchr("\r\n \t", *after) != NULL;
}

// A folded line has been glued together somewhere else.
static bool stands_in_place(const char *name_end, const char *value) {
    if (value <= name_end || value - name_end > MHD_LINE_MAX)
        return false;
    for (const char *p = name_end + 1; p < value; p++)
        if (*p != ' ' && *p != '\t')
            return false;
    return true;
}

static enum MHD_Result take_header(void *cls, enum MHD_ValueKind kind, const char *name, size_t name_n, const char *value, size_t value_n) {
    (void)kind;
    head_reader *reader = cls;
    if (!ends_cleanly(reader->after, name) || (value && value_n && !stands_in_place(name + name_n, value)))
        reader->strange = true;
    reader->after = value && value_n ? value + value_n + 1 : NULL;
    if (!sj_headers_add(&reader->call->headers, (sj_slice){name, name_n}, (sj_slice){value ? value : "", value ? value_n : 0}))
        reader->full = true;
    return reader->full ? MHD_NO : MHD_YES;
}

static sj_http_fault read_head(sj_call *call, const char *method, const char *version) {
    // The version stands right behind the target on the request line, unless a NUL cut the target short.
    if (version != call->target_in_mhd + call->target.n + 1)
        return (sj_http_fault){400, "The request line holds a NUL or stray spaces."};
    head_reader reader = {.call = call};
    MHD_get_connection_values_n(call->conn->mhd, MHD_HEADER_KIND, take_header, &reader);
    if (reader.full)
        return (sj_http_fault){400, "Too many header fields."};
    if (reader.strange || !ends_cleanly(reader.after, NULL))
        return (sj_http_fault){400, "A header field holds a NUL or is folded over several lines."};
    sj_text_copy(call->version, sizeof call->version, version);
    return sj_http_check_request(sj_slice_of(method), sj_buffer_slice(&call->target), sj_slice_of(version), &call->headers);
}

static enum MHD_Result queue_answer(sj_call *call) {
    if (call->close_after || call->conn->front->quiescing)
        (void)MHD_add_response_header(call->response, "Connection", "close");
    call->phase = PHASE_QUEUED;
    if (!call->streaming)
        call->sent_all = true;
    conn_wait(call->conn, WAIT_WRITE);
    return MHD_queue_response(call->conn->mhd, (unsigned)call->status, call->response);
}

static enum MHD_Result refuse_framing(sj_call *call, sj_http_fault fault) {
    sj_buffer body = sj_buffer_with_max(4096);
    sj_headers headers;
    sj_headers_init(&headers);
    sj_refusal refusal = fault.status == 501 ? SJ_REFUSAL_NOT_IMPLEMENTED : SJ_REFUSAL_BAD_REQUEST;
    bool ok = sj_refusal_body(refusal, fault.message, &body) &&
              sj_headers_add(&headers, SJ_SLICE("Content-Type"), SJ_SLICE("application/json")) &&
              sj_headers_add(&headers, SJ_SLICE("x-should-retry"), SJ_SLICE("false"));
    if (ok)
        sj_call_answer(call, fault.status, &headers, sj_buffer_slice(&body));
    sj_buffer_free(&body);
    sj_headers_free(&headers);
    call->close_after = true;
    return call->response ? queue_answer(call) : MHD_NO;
}

static int64_t announced_length(const sj_headers *headers) {
    sj_slice value = sj_headers_get(headers, "Content-Length");
    if (!value.p)
        return -1;
    char *end;
    errno = 0;
    long long length = strtoll(value.p, &end, 10);
    return errno || *end ? INT64_MAX : length;
}

static enum MHD_Result begin_request(sj_call *call, const char *method, const char *version) {
    conn *c = call->conn;
    sj_http_fault fault = read_head(call, method, version);
    if (fault.status)
        return refuse_framing(call, fault);
    sj_slice expect = sj_headers_get(&call->headers, "Expect");
    sj_call_head head = {
        .method = sj_slice_of(method),
        .target = sj_buffer_slice(&call->target),
        .version = sj_slice_of(call->version),
        .headers = &call->headers,
        .peer = c->peer,
        .over_limit = c->over_limit,
        .expects_continue = sj_slice_equal_nocase(expect, SJ_SLICE("100-continue")),
        .content_length = announced_length(&call->headers),
    };
    call->phase = PHASE_BODY;
    call->drain_left = EARLY_ANSWER_DRAIN;
    conn_wait(c, WAIT_BODY);
    call->owner = c->front->handlers.on_request(c->front->context, call, &head);
    if (!call->owner)
        return MHD_NO;
    // Answered early: a client that waits for 100, or would send too much to swallow, is answered at once, which closes the connection.
    if (call->response && (head.expects_continue || head.content_length > EARLY_ANSWER_DRAIN))
        return queue_answer(call);
    return call->gone ? MHD_NO : MHD_YES;
}

static enum MHD_Result take_body(sj_call *call, const char *upload, size_t *upload_size) {
    conn *c = call->conn;
    c->wait_progress += *upload_size;
    if (!call->response)
        c->front->handlers.on_body(call->owner, (sj_slice){upload, *upload_size});
    else if (*upload_size > call->drain_left)
        return MHD_NO;
    else
        call->drain_left -= *upload_size;
    *upload_size = 0;
    return call->gone ? MHD_NO : MHD_YES;
}

static enum MHD_Result end_request(sj_call *call) {
    conn_wait(call->conn, WAIT_NONE);
    if (!call->response) {
        call->phase = PHASE_WAITING;
        call->conn->front->handlers.on_request_end(call->owner);
    }
    if (call->gone)
        return MHD_NO;
    if (call->response)
        return queue_answer(call);
    suspend(call, PHASE_WAITING);
    return MHD_YES;
}

enum MHD_Result call_handle(void *cls, struct MHD_Connection *mhd, const char *url, const char *method, const char *version,
                            const char *upload, size_t *upload_size, void **con_cls) {
    (void)cls;
    (void)mhd;
    (void)url;
    sj_call *call = *con_cls;
    if (!call)
        return MHD_NO;
    assert(call->magic == CALL_MAGIC);
    if (call->conn->doomed) // what it sent before is still in the socket, but no answer could reach it
        return MHD_NO;
    if (call->phase == PHASE_HEAD)
        return begin_request(call, method, version);
    if (call->phase == PHASE_BODY)
        return *upload_size ? take_body(call, upload, upload_size) : end_request(call);
    assert(call->phase == PHASE_WAITING);
    if (call->gone)
        return MHD_NO;
    if (call->response)
        return queue_answer(call);
    suspend(call, PHASE_WAITING);
    return MHD_YES;
}

// ---- the answer -----------------------------------------------------------------------------------------------------------------

static void give(sj_call *call, int status, const sj_headers *headers, struct MHD_Response *response) {
    assert(!call->response);
    if (!response) {
        sj_call_cut(call);
        return;
    }
    for (size_t i = 0; i < headers->count; i++) {
        sj_header header = sj_headers_at(headers, i);
        // MHD refuses an empty value; one space reads the same.
        (void)MHD_add_response_header(response, header.name.p, header.value.n ? header.value.p : " ");
    }
    call->response = response;
    call->status = status;
    if (call->phase == PHASE_WAITING)
        resume(call);
}

void sj_call_answer(sj_call *call, int status, const sj_headers *headers, sj_slice body) {
    if (call->gone)
        return;
    // The cast: MHD copies and does not write, but takes a plain pointer.
    give(call, status, headers, MHD_create_response_from_buffer(body.n, (void *)(uintptr_t)body.p, MHD_RESPMEM_MUST_COPY));
}

static ssize_t read_nothing(void *cls, uint64_t position, char *out, size_t max) {
    (void)cls;
    (void)position;
    (void)out;
    (void)max;
    return MHD_CONTENT_READER_END_OF_STREAM;
}

void sj_call_answer_head(sj_call *call, int status, const sj_headers *headers, int64_t content_length) {
    if (call->gone)
        return;
    uint64_t size = content_length >= 0 ? (uint64_t)content_length : MHD_SIZE_UNKNOWN;
    struct MHD_Response *response = MHD_create_response_from_callback(size, 1, read_nothing, NULL, NULL);
    // Of unknown length MHD would announce chunks and then send a stray last one; in this mode it announces nothing and closes.
    if (response && content_length < 0)
        MHD_set_response_options(response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
    give(call, status, headers, response);
}

static void take_held(sj_call *call, size_t n) {
    call->out_at += n;
    if (call->out_at == call->out.n) {
        // An idle stream holds no buffer.
        sj_buffer_free(&call->out);
        call->out_at = 0;
    } else if (call->out_at >= OUT_SPENT && call->out_at >= held_bytes(call)) {
        // A reader that is always a little behind would never let it run empty.
        sj_buffer_consume(&call->out, call->out_at);
        call->out_at = 0;
    }
}

// With epoll MHD 0.9.75 forgets a connection that is closed from inside the content reader: its descriptor stays open until it happens to be the
// oldest of those that have the daemon's own time-out. One with a time-out of its own is looked at in every run.
static void have_it_closed(conn *c) {
    MHD_set_connection_option(c->mhd, MHD_CONNECTION_OPTION_TIMEOUT, 3600u);
    front_touch(c->room);
}

static ssize_t end_of_answer(sj_call *call) {
    bool broken = call->cut || call->gone;
    if (broken || !call->chunked)
        have_it_closed(call->conn);
    if (broken)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    call->sent_all = true;
    return MHD_CONTENT_READER_END_OF_STREAM;
}

// MHD asks for bytes.
static ssize_t read_held(void *cls, uint64_t position, char *out, size_t max) {
    sj_call *call = cls;
    assert(call->magic == CALL_MAGIC);
    size_t n = held_bytes(call) < max ? held_bytes(call) : max;
    // MHD counts a known length and ends by itself: the last byte waits for the owner's word that the answer is complete.
    if (n && call->known_length && !call->finished && position + n >= call->length)
        n--;
    if (n && !call->gone) {
        memcpy(out, call->out.p + call->out_at, n);
        take_held(call, n);
        conn_wait(call->conn, WAIT_WRITE);
        if (call->wants_room && held_bytes(call) < SJ_FRONT_LOW_WATER && !call->in_writable_list) {
            call->in_writable_list = true;
            call->next_writable = call->conn->front->writable_first;
            call->conn->front->writable_first = call;
        }
        return (ssize_t)n;
    }
    if (call->finished || call->cut || call->gone)
        return end_of_answer(call);
    conn_wait(call->conn, WAIT_NONE);
    suspend(call, call->known_length ? PHASE_PULL : PHASE_DIRECT);
    return 0;
}

void sj_call_begin(sj_call *call, int status, const sj_headers *headers, int64_t content_length) {
    if (call->gone)
        return;
    call->streaming = true;
    call->known_length = content_length >= 0;
    call->chunked = !call->known_length && strcmp(call->version, "HTTP/1.0") != 0;
    uint64_t size = call->known_length ? (uint64_t)content_length : MHD_SIZE_UNKNOWN;
    call->length = size;
    // Chunks are read into the connection's own memory; the response's block would only lie there.
    size_t block = call->chunked ? 1 : READER_BLOCK;
    give(call, status, headers, MHD_create_response_from_callback(size, block, read_held, call, NULL));
}

// The end can be told to MHD once nothing of ours is left in `out`; until then the writable watch drives.
static void end_when_flushed(sj_call *call) {
    bool waits_for_bytes = call->phase == PHASE_PULL || (call->phase == PHASE_DIRECT && held_bytes(call) == 0);
    if (waits_for_bytes)
        resume(call);
}

// Sends what is held; what the socket does not take goes when it is writable again.
static void flush_direct(sj_call *call) {
    conn *c = call->conn;
    ssize_t n = send(c->fd, call->out.p + call->out_at, held_bytes(call), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0)
        take_held(call, (size_t)n);
    else if (n < 0 && errno != EAGAIN && errno != EINTR) {
        conn_doom(c);
        return;
    }
    if (held_bytes(call)) {
        conn_watch(c, UV_DISCONNECT | UV_WRITABLE);
        if (n > 0 || c->waits != WAIT_WRITE)
            conn_wait(c, WAIT_WRITE);
    } else if (c->watched & UV_WRITABLE) {
        conn_watch(c, UV_DISCONNECT);
        conn_wait(c, WAIT_NONE);
    }
}

static void write_direct(sj_call *call, sj_slice bytes) {
    char size_line[20];
    sj_text line = sj_text_into(size_line, sizeof size_line);
    if (call->chunked) {
        sj_text_hex(&line, bytes.n, 1);
        sj_text_put(&line, "\r\n");
    }
    bool ok = sj_buffer_append(&call->out, size_line, line.n) && sj_buffer_add(&call->out, bytes) &&
              (!call->chunked || sj_buffer_append(&call->out, "\r\n", 2));
    if (!ok) {
        conn_doom(call->conn);
        return;
    }
    if (call->in_flush_list || (call->conn->watched & UV_WRITABLE))
        return;
    call->in_flush_list = true;
    call->next_flush = call->conn->front->flush_first;
    call->conn->front->flush_first = call;
}

size_t sj_call_write(sj_call *call, sj_slice bytes) {
    if (call->gone || call->cut || call->finished || bytes.n == 0)
        return held_bytes(call);
    if (call->phase == PHASE_DIRECT)
        write_direct(call, bytes);
    else if (!sj_buffer_add(&call->out, bytes))
        conn_doom(call->conn);
    else if (call->phase == PHASE_PULL)
        resume(call);
    if (held_bytes(call) > SJ_FRONT_HIGH_WATER)
        call->wants_room = true;
    return held_bytes(call);
}

static void flush_now(sj_call *call) {
    if (call->phase == PHASE_DIRECT && call->in_flush_list)
        flush_direct(call);
}

void sj_call_finish(sj_call *call, const sj_headers *trailers) {
    if (call->gone || call->cut || call->finished)
        return;
    assert(call->streaming);
    call->finished = true;
    for (size_t i = 0; trailers && i < trailers->count; i++) {
        sj_header header = sj_headers_at(trailers, i);
        (void)MHD_add_response_footer(call->response, header.name.p, header.value.n ? header.value.p : " ");
    }
    flush_now(call);
    end_when_flushed(call);
}

void sj_call_cut(sj_call *call) {
    if (call->gone || call->cut || call->finished)
        return;
    call->cut = true;
    if (call->streaming && call->response) {
        flush_now(call);
        end_when_flushed(call);
        return;
    }
    call->gone = true; // nothing was begun: just close, without telling the owner that his client left
    if (call->suspended)
        conn_doom(call->conn);
    resume(call);
}

void sj_call_close_after(sj_call *call) { call->close_after = true; }

// ---- the socket's news ----------------------------------------------------------------------------------------------------------

void call_client_gone(sj_call *call) {
    bool answered = call->finished || call->cut || (call->response && !call->streaming);
    // While MHD reads the request or sends what is ready it sees the end itself.
    if (call->gone || call->phase < PHASE_WAITING || (call->phase == PHASE_QUEUED && answered))
        return;
    call->gone = true;
    conn *c = call->conn;
    if (!answered)
        c->front->handlers.on_gone(call->owner);
    conn_doom(c);
    resume(call);
}

static void after_flush(sj_call *call) {
    if (call->gone)
        return;
    if (held_bytes(call) == 0 && (call->finished || call->cut))
        end_when_flushed(call);
    if (call->wants_room && held_bytes(call) < SJ_FRONT_LOW_WATER && !call->finished && !call->cut) {
        call->wants_room = false;
        call->conn->front->handlers.on_writable(call->owner);
    }
}

void call_socket_writable(sj_call *call) {
    if (call->phase != PHASE_DIRECT || held_bytes(call) == 0) {
        conn_watch(call->conn, UV_DISCONNECT);
        return;
    }
    flush_direct(call);
    after_flush(call);
}

void call_flush_all(sj_front *front) {
    sj_call *call;
    while ((call = front->flush_first)) {
        front->flush_first = call->next_flush;
        call->in_flush_list = false;
        if (call->phase != PHASE_DIRECT || held_bytes(call) == 0)
            continue;
        flush_direct(call);
        after_flush(call);
    }
}

void call_tell_writable(sj_front *front) {
    sj_call *call;
    while ((call = front->writable_first)) {
        front->writable_first = call->next_writable;
        call->in_writable_list = false;
        call->wants_room = false;
        if (!call->gone && !call->finished && !call->cut)
            front->handlers.on_writable(call->owner);
    }
}
