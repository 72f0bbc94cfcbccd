// A scripted HTTP server on 127.0.0.1 for the upstream's tests: it answers request after request with raw text, and counts what it saw.
// Lives in the test's own uv loop.
#ifndef RAW_SERVER_H
#define RAW_SERVER_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

typedef enum raw_then { RAW_KEEP, RAW_CLOSE, RAW_RESET } raw_then;

typedef struct raw_reply {
    const char *text; // NULL: no answer
    size_t filler; // bytes of 'x' after the text
    raw_then then;
    bool early; // at the end of the head, without waiting for the body
} raw_reply;

typedef struct raw_server {
    uv_tcp_t listener;
    int port;
    const raw_reply *replies; // by number of request; the last one is repeated
    size_t reply_count;
    int connections, requests, closed;
    bool at_first_byte; // answers to anything, and only once on a connection
    const raw_reply *said; // out of turn
    void (*on_request)(void *context, const char *text);
    void *context;
    char *last; // the last request, NUL-terminated
    size_t last_n;
} raw_server;

typedef struct raw_peer {
    uv_tcp_t tcp;
    raw_server *server;
    char *in;
    size_t n, cap;
    bool answered_early;
} raw_peer;

typedef struct raw_write {
    uv_write_t request;
    raw_then then;
    char *bytes;
} raw_write;

static void raw_on_peer_closed(uv_handle_t *handle) {
    raw_peer *peer = handle->data;
    peer->server->closed++;
    free(peer->in);
    free(peer);
}

static void raw_close(raw_peer *peer, raw_then then) {
    if (uv_is_closing((uv_handle_t *)&peer->tcp))
        return;
    if (then == RAW_RESET)
        (void)uv_tcp_close_reset(&peer->tcp, raw_on_peer_closed);
    else
        uv_close((uv_handle_t *)&peer->tcp, raw_on_peer_closed);
}

static void raw_on_written(uv_write_t *request, int status) {
    raw_write *sent = request->data;
    raw_peer *peer = request->handle->data;
    raw_then then = sent->then;
    free(sent->bytes);
    free(sent);
    if (then != RAW_KEEP || status != 0)
        raw_close(peer, then);
}

static void raw_answer(raw_peer *peer, const raw_reply *reply) {
    if (!reply->text) {
        if (reply->then != RAW_KEEP)
            raw_close(peer, reply->then);
        return;
    }
    size_t text_n = strlen(reply->text);
    raw_write *sent = malloc(sizeof *sent);
    sent->request.data = sent;
    sent->then = reply->then;
    sent->bytes = malloc(text_n + reply->filler + 1);
    memcpy(sent->bytes, reply->text, text_n);
    memset(sent->bytes + text_n, 'x', reply->filler);
    uv_buf_t buffer = uv_buf_init(sent->bytes, (unsigned)(text_n + reply->filler));
    (void)uv_write(&sent->request, (uv_stream_t *)&peer->tcp, &buffer, 1, raw_on_written);
}

static size_t raw_content_length(const char *head) {
    const char *field = strcasestr(head, "\r\ncontent-length:");
    return field ? (size_t)strtoull(field + 17, NULL, 10) : 0;
}

// The length of the whole request at the front of the input; 0: not whole yet.
static size_t raw_request_n(raw_peer *peer, bool *head_whole) {
    char *end = memmem(peer->in, peer->n, "\r\n\r\n", 4);
    *head_whole = end != NULL;
    if (!end)
        return 0;
    size_t whole = (size_t)(end - peer->in) + 4 + raw_content_length(peer->in);
    return peer->n >= whole ? whole : 0;
}

static const raw_reply *raw_next(raw_server *server) {
    size_t index = (size_t)server->requests;
    return &server->replies[index < server->reply_count ? index : server->reply_count - 1];
}

static void raw_take(raw_peer *peer) {
    raw_server *server = peer->server;
    bool head_whole = false;
    size_t whole = raw_request_n(peer, &head_whole);
    bool early = server->at_first_byte || (head_whole && !whole && raw_next(server)->early);
    if (early && !peer->answered_early) {
        peer->answered_early = true;
        const raw_reply *reply = raw_next(server);
        server->requests++;
        raw_answer(peer, reply);
    }
    if (!whole || peer->answered_early)
        return;
    server->last = realloc(server->last, whole + 1);
    memcpy(server->last, peer->in, whole);
    server->last[whole] = '\0';
    server->last_n = whole;
    memmove(peer->in, peer->in + whole, peer->n - whole);
    peer->n -= whole;
    const raw_reply *reply = raw_next(server);
    server->requests++;
    if (server->on_request)
        server->on_request(server->context, server->last);
    raw_answer(peer, reply);
}

static void raw_on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
    (void)suggested;
    raw_peer *peer = handle->data;
    if (peer->cap - peer->n < 65536) {
        peer->cap = peer->cap * 2 + 65537;
        peer->in = realloc(peer->in, peer->cap);
    }
    // One byte stays for the terminator that the searches want.
    *buffer = uv_buf_init(peer->in + peer->n, (unsigned)(peer->cap - peer->n - 1));
}

static void raw_on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer) {
    (void)buffer;
    raw_peer *peer = stream->data;
    if (n < 0) {
        raw_close(peer, RAW_CLOSE);
        return;
    }
    peer->n += (size_t)n;
    peer->in[peer->n] = '\0';
    raw_take(peer);
}

static void raw_on_connection(uv_stream_t *listener, int status) {
    raw_server *server = listener->data;
    if (status != 0)
        return;
    raw_peer *peer = calloc(1, sizeof *peer);
    peer->server = server;
    (void)uv_tcp_init(listener->loop, &peer->tcp);
    peer->tcp.data = peer;
    (void)uv_accept(listener, (uv_stream_t *)&peer->tcp);
    server->connections++;
    (void)uv_read_start((uv_stream_t *)&peer->tcp, raw_on_alloc, raw_on_read);
}

static bool raw_start(raw_server *server, uv_loop_t *loop, const raw_reply *replies, size_t reply_count) {
    memset(server, 0, sizeof *server);
    server->replies = replies;
    server->reply_count = reply_count;
    struct sockaddr_in address;
    int length = sizeof address;
    bool ok = uv_tcp_init(loop, &server->listener) == 0 && uv_ip4_addr("127.0.0.1", 0, &address) == 0 &&
              uv_tcp_bind(&server->listener, (const struct sockaddr *)&address, 0) == 0;
    server->listener.data = server;
    ok = ok && uv_listen((uv_stream_t *)&server->listener, 1024, raw_on_connection) == 0 &&
         uv_tcp_getsockname(&server->listener, (struct sockaddr *)&address, &length) == 0;
    server->port = ntohs(address.sin_port);
    return ok;
}

static void raw_speak_one(uv_handle_t *handle, void *server) {
    raw_server *mine = server;
    if (handle->type != UV_TCP || handle == (uv_handle_t *)&mine->listener || uv_is_closing(handle))
        return;
    raw_peer *peer = handle->data;
    if (peer && peer->server == mine)
        raw_answer(peer, mine->said);
}

// To every connection, asked or not.
__attribute__((unused)) static void raw_speak(raw_server *server, const raw_reply *reply) {
    server->said = reply;
    uv_walk(server->listener.loop, raw_speak_one, server);
}

static void raw_close_any(uv_handle_t *handle, void *server) {
    raw_server *mine = server;
    if (uv_is_closing(handle))
        return;
    if (handle == (uv_handle_t *)&mine->listener)
        uv_close(handle, NULL);
    else if (handle->type == UV_TCP && handle->data && ((raw_peer *)handle->data)->server == mine)
        raw_close(handle->data, RAW_CLOSE);
}

// The loop must run on until everything is closed.
static void raw_stop(raw_server *server) {
    uv_walk(server->listener.loop, raw_close_any, server);
    free(server->last);
    server->last = NULL;
}

#endif
