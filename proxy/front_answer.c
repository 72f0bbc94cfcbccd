// How an answer leaves.
//
//   whole:   one MHD response from a buffer; MHD sends head and body in one go.
//   pieces of known length: MHD pulls from `out` (QUEUED) and is suspended while it is empty (PULL).
//   pieces of unknown length: MHD sends the head and the first bytes the same way; the first time it finds `out` empty it is suspended for good
//   (DIRECT) and each piece is written to the socket as one chunk by ourselves. MHD has nothing of its own in flight then, so the bytes cannot
//   mix; it is resumed once, to send the last chunk or to cut. A resume makes MHD walk its suspended connections: this way a streamed event
//   costs one sendmsg, not a walk.
//   with a head that is too large for MHD's memory: written to the socket by ourselves from the first byte on; then the connection is closed.
#include "front_internal.h"

#include "text.h"

#include <assert.h>
#include <errno.h>
#include <sys/socket.h>

enum { OUT_SPENT = 64 * 1024, READER_BLOCK = 16 * 1024, MHD_HEAD_SLACK = 1024, MHD_FIELD_BYTES = 64 };

// ---- to and from MHD ------------------------------------------------------------------------------------------------------------

void call_suspend(sj_call *call, call_phase phase) {
    conn *c = call->conn;
    call->phase = phase;
    call->suspended = true;
    // A hang-up that came while MHD was reading has stopped the watch; from here on only we can notice it.
    if (!c->watched)
        conn_watch(c, UV_DISCONNECT);
    MHD_suspend_connection(c->mhd);
}

void call_resume(sj_call *call) {
    front_touch(call->conn->room);
    if (!call->suspended)
        return;
    call->suspended = false;
    if (call->phase != PHASE_WAITING)
        call->phase = PHASE_QUEUED;
    MHD_resume_connection(call->conn->mhd);
}

enum MHD_Result call_queue_answer(sj_call *call) {
    if (call->close_after || call->conn->front->quiescing)
        (void)MHD_add_response_header(call->response, "Connection", "close");
    call->phase = PHASE_QUEUED;
    if (!call->streaming)
        call->sent_all = true;
    conn_wait(call->conn, WAIT_WRITE);
    return MHD_queue_response(call->conn->mhd, (unsigned)call->status, call->response);
}

static void flush_soon(sj_call *call) {
    if (call->in_flush_list || (call->conn->watched & UV_WRITABLE))
        return;
    call->in_flush_list = true;
    call->next_flush = call->conn->front->flush_first;
    call->conn->front->flush_first = call;
}

// ---- what is given --------------------------------------------------------------------------------------------------------------

// MHD keeps the request's head and puts the answer's together in the same memory. Without room it would just close the connection.
static bool fits_mhd(const sj_call *call, const sj_headers *headers) {
    size_t request = call->target.n + call->headers.arena.n + call->headers.count * MHD_FIELD_BYTES;
    return request + headers->arena.n + 2 * headers->count + MHD_HEAD_SLACK < CONNECTION_MEMORY;
}

static bool put_line(sj_buffer *out, sj_slice name, sj_slice value) {
    return sj_buffer_add(out, name) && sj_buffer_append(out, ": ", 2) && sj_buffer_add(out, value) &&
           sj_buffer_append(out, "\r\n", 2);
}

// content_length -1: chunked, or until close. False: this answer is MHD's.
static bool give_raw(sj_call *call, int status, const sj_headers *headers, int64_t content_length) {
    if (call->phase != PHASE_WAITING || !call->suspended || fits_mhd(call, headers))
        return false;
    char first[128], length[24];
    sj_text line = sj_text_into(first, sizeof first), number = sj_text_into(length, sizeof length);
    sj_text_put(&line, "HTTP/1.1 ");
    sj_text_int(&line, status);
    sj_text_put(&line, " ");
    sj_text_put(&line, MHD_get_reason_phrase_for((unsigned)status));
    sj_text_put(&line, "\r\nConnection: close\r\n");
    sj_text_int(&number, content_length);
    bool ok = sj_buffer_append(&call->out, first, line.n);
    for (size_t i = 0; ok && i < headers->count; i++) {
        sj_header header = sj_headers_at(headers, i);
        ok = put_line(&call->out, header.name, header.value);
    }
    if (ok && content_length >= 0)
        ok = put_line(&call->out, SJ_SLICE("Content-Length"), (sj_slice){length, number.n});
    else if (ok && call->chunked)
        ok = put_line(&call->out, SJ_SLICE("Transfer-Encoding"), SJ_SLICE("chunked"));
    call->raw = true;
    call->phase = PHASE_DIRECT;
    if (ok && sj_buffer_append(&call->out, "\r\n", 2))
        flush_soon(call);
    else
        conn_doom(call->conn);
    return true;
}

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
        call_resume(call);
}

void sj_call_answer(sj_call *call, int status, const sj_headers *headers, sj_slice body) {
    if (call->gone)
        return;
    if (give_raw(call, status, headers, (int64_t)body.n)) {
        call->finished = true;
        if (!sj_buffer_add(&call->out, body))
            conn_doom(call->conn);
        return;
    }
    // The cast: MHD copies and does not write, but takes a plain pointer.
    give(call, status, headers,
         MHD_create_response_from_buffer(body.n, (void *)(uintptr_t)body.p, MHD_RESPMEM_MUST_COPY));
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
    if (give_raw(call, status, headers, content_length)) {
        call->finished = true;
        return;
    }
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
    } else if (call->out_at >= OUT_SPENT && call->out_at >= call_held_bytes(call)) {
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
    size_t n = call_held_bytes(call) < max ? call_held_bytes(call) : max;
    // MHD counts a known length and ends by itself: the last byte waits for the owner's word that the answer is complete.
    if (n && call->known_length && !call->finished && position + n >= call->length)
        n--;
    if (n && !call->gone) {
        memcpy(out, call->out.p + call->out_at, n);
        take_held(call, n);
        conn_wait(call->conn, WAIT_WRITE);
        if (call->wants_room && call_held_bytes(call) < SJ_FRONT_LOW_WATER && !call->in_writable_list) {
            call->in_writable_list = true;
            call->next_writable = call->conn->front->writable_first;
            call->conn->front->writable_first = call;
        }
        return (ssize_t)n;
    }
    if (call->finished || call->cut || call->gone)
        return end_of_answer(call);
    conn_wait(call->conn, WAIT_NONE);
    call_suspend(call, call->known_length ? PHASE_PULL : PHASE_DIRECT);
    return 0;
}

void sj_call_begin(sj_call *call, int status, const sj_headers *headers, int64_t content_length) {
    if (call->gone)
        return;
    call->streaming = true;
    call->known_length = content_length >= 0;
    call->chunked = !call->known_length && strcmp(call->version, "HTTP/1.0") != 0;
    if (give_raw(call, status, headers, content_length))
        return;
    uint64_t size = call->known_length ? (uint64_t)content_length : MHD_SIZE_UNKNOWN;
    call->length = size;
    // Chunks are read into the connection's own memory; the response's block would only lie there.
    size_t block = call->chunked ? 1 : READER_BLOCK;
    give(call, status, headers, MHD_create_response_from_callback(size, block, read_held, call, NULL));
}

// The end can be told to MHD once nothing of ours is left in `out`; until then the writable watch drives.
static void end_when_flushed(sj_call *call) {
    bool flushed = call->phase == PHASE_DIRECT && call_held_bytes(call) == 0;
    if (flushed && call->raw) {
        call->sent_all = !call->cut;
        conn_doom(call->conn);
    } else if (flushed || call->phase == PHASE_PULL)
        call_resume(call);
}

// Sends what is held; what the socket does not take goes when it is writable again.
static void flush_direct(sj_call *call) {
    conn *c = call->conn;
    ssize_t n = send(c->fd, call->out.p + call->out_at, call_held_bytes(call), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0)
        take_held(call, (size_t)n);
    else if (n < 0 && errno != EAGAIN && errno != EINTR) {
        conn_doom(c);
        return;
    }
    if (call_held_bytes(call)) {
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
    flush_soon(call);
}

size_t sj_call_write(sj_call *call, sj_slice bytes) {
    if (call->gone || call->cut || call->finished || bytes.n == 0)
        return call_held_bytes(call);
    if (call->phase == PHASE_DIRECT)
        write_direct(call, bytes);
    else if (!sj_buffer_add(&call->out, bytes))
        conn_doom(call->conn);
    else if (call->phase == PHASE_PULL)
        call_resume(call);
    if (call_held_bytes(call) > SJ_FRONT_HIGH_WATER)
        call->wants_room = true;
    return call_held_bytes(call);
}

static void flush_now(sj_call *call) {
    if (call->phase == PHASE_DIRECT && call_held_bytes(call) && !(call->conn->watched & UV_WRITABLE))
        flush_direct(call);
}

void sj_call_finish(sj_call *call, const sj_headers *trailers) {
    if (call->gone || call->cut || call->finished)
        return;
    assert(call->streaming);
    call->finished = true;
    if (call->raw && call->chunked && !sj_buffer_append(&call->out, "0\r\n\r\n", 5))
        conn_doom(call->conn);
    for (size_t i = 0; trailers && !call->raw && i < trailers->count; i++) {
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
    if (call->streaming && (call->response || call->raw)) {
        flush_now(call);
        end_when_flushed(call);
        return;
    }
    call->gone = true; // nothing was begun: just close, without telling the owner that his client left
    if (call->suspended)
        conn_doom(call->conn);
    call_resume(call);
}

void sj_call_close_after(sj_call *call) {
    call->close_after = true;
}

// ---- the socket's news ----------------------------------------------------------------------------------------------------------

void call_forget_in_lists(sj_call *call) {
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
    call_resume(call);
}

static void after_flush(sj_call *call) {
    if (call->gone)
        return;
    if (call_held_bytes(call) == 0 && (call->finished || call->cut))
        end_when_flushed(call);
    if (call->wants_room && call_held_bytes(call) < SJ_FRONT_LOW_WATER && !call->finished && !call->cut) {
        call->wants_room = false;
        call->conn->front->handlers.on_writable(call->owner);
    }
}

void call_socket_writable(sj_call *call) {
    if (call->phase != PHASE_DIRECT || call_held_bytes(call) == 0) {
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
        if (call->phase != PHASE_DIRECT || call_held_bytes(call) == 0)
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
