// A request as MHD hands it over: its head is checked, its body passed on or swallowed, and MHD waits until there is an answer.
#include "front_internal.h"

#include "http_rules.h"
#include "refusal.h"
#include "text.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum {
    EARLY_ANSWER_DRAIN = 64 * 1024 * 1024,
    TARGET_MAX = 32 * 1024,
    OUT_MAX = 8 * 1024 * 1024,
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
    *call = (sj_call){.magic = CALL_MAGIC,
                      .conn = c,
                      .target = sj_buffer_with_max(TARGET_MAX),
                      .target_in_mhd = uri,
                      .out = sj_buffer_with_max(OUT_MAX)};
    sj_headers_init(&call->headers);
    if (!sj_buffer_append(&call->target, uri, strlen(uri) + 1)) {
        sj_buffer_free(&call->target);
        free(call);
        return NULL;
    }
    call->target.n--; // the NUL is there, but not counted
    c->call = call;
    conn_wait(c, WAIT_HEADER);
    return call;
}

void call_on_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
                       enum MHD_RequestTerminationCode code) {
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
    call_forget_in_lists(call);
    conn_watch(c, c->doomed || !c->watched ? 0 : UV_DISCONNECT);
    if (!c->doomed)
        conn_wait(c, WAIT_KEEPALIVE);
    // Of known length MHD asks for no end: it has counted the bytes.
    bool all =
        call->sent_all || (call->known_length && !call->cut && !call->gone && call_held_bytes(call) == 0);
    if (call->owner)
        c->front->handlers.on_end(call->owner,
                                  all && (code == MHD_REQUEST_TERMINATED_COMPLETED_OK || call->raw));
    if (call->response)
        MHD_destroy_response(call->response);
    sj_buffer_free(&call->out);
    sj_buffer_free(&call->target);
    sj_headers_free(&call->headers);
    call->magic = 0;
    free(call);
}

// ---- the request ----------------------------------------------------------------------------------------------------------------

typedef struct head_reader {
    sj_call *call;
    const char *after; // one past the terminator that MHD put behind the last value
    bool strange; // a NUL inside a value, or a folded line
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

static enum MHD_Result take_header(void *cls, enum MHD_ValueKind kind, const char *name, size_t name_n,
                                   const char *value, size_t value_n) {
    (void)kind;
    head_reader *reader = cls;
    if (!ends_cleanly(reader->after, name) || (value && value_n && !stands_in_place(name + name_n, value)))
        reader->strange = true;
    reader->after = value && value_n ? value + value_n + 1 : NULL;
    if (!sj_headers_add(&reader->call->headers, (sj_slice){name, name_n},
                        (sj_slice){value ? value : "", value ? value_n : 0}))
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
    return sj_http_check_request(sj_slice_of(method), sj_buffer_slice(&call->target), sj_slice_of(version),
                                 &call->headers);
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
    return call->response ? call_queue_answer(call) : MHD_NO;
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
        return call_queue_answer(call);
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
        return call_queue_answer(call);
    call_suspend(call, PHASE_WAITING);
    return MHD_YES;
}

enum MHD_Result call_handle(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
                            const char *version, const char *upload, size_t *upload_size, void **con_cls) {
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
        return call_queue_answer(call);
    call_suspend(call, PHASE_WAITING);
    return MHD_YES;
}
