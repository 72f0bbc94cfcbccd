// One connection:  READING --request--> ANSWERING --done--> READING
//                                           |---finish/reset--> ENDING --written--> CLOSED
//                  READING, ANSWERING --client left--> CLOSED
#include "mock_http.h"

#include "mock_reader.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum { READ_BYTES = 64 * 1024, BACKLOG = 4096, MAX_PIPELINED = 1024 * 1024 };

typedef enum state { READING, ANSWERING, ENDING, CLOSED } state;

struct sj_mock_conn {
    uv_tcp_t tcp;
    uv_timer_t timer;
    sj_mock_http *http;
    sj_mock_conn *next, *previous;
    uint64_t id;
    state state;
    bool reset; // how ENDING ends
    bool working; // inside serve(): requests are taken from there
    int closing; // handles not yet closed
    sj_mock_reader reader;
    void *exchange;
};

struct sj_mock_http {
    uv_tcp_t listener;
    const sj_mock_http_handlers *handlers;
    void *context;
    sj_mock_conn *first;
    sj_mock_http_stats stats;
    bool closing, listener_closed;
    int port;
    char chunk[READ_BYTES]; // every read lands here first
};

// ---- closing ------------------------------------------------------------------------------------

static void free_when_all_closed(sj_mock_http *http) {
    if (!http->closing || !http->listener_closed || http->first)
        return;
    http->handlers->on_closed(http->context);
    free(http);
}

static void on_handle_closed(uv_handle_t *handle) {
    sj_mock_conn *conn = handle->data;
    if (--conn->closing > 0)
        return;
    sj_mock_http *http = conn->http;
    if (conn->previous)
        conn->previous->next = conn->next;
    else
        http->first = conn->next;
    if (conn->next)
        conn->next->previous = conn->previous;
    http->stats.open--;
    sj_mock_reader_free(&conn->reader);
    free(conn);
    free_when_all_closed(http);
}

static void close_now(sj_mock_conn *conn, bool reset) {
    if (conn->state == CLOSED)
        return;
    conn->state = CLOSED;
    conn->closing = 2;
    uv_close((uv_handle_t *)&conn->timer, on_handle_closed);
    if (!reset || uv_tcp_close_reset(&conn->tcp, on_handle_closed) != 0)
        uv_close((uv_handle_t *)&conn->tcp, on_handle_closed);
}

static void lose(sj_mock_conn *conn, bool by_reset) {
    void *exchange = conn->exchange;
    bool answering = conn->state == ANSWERING;
    conn->exchange = NULL;
    close_now(conn, false);
    if (answering && exchange)
        conn->http->handlers->on_gone(exchange, by_reset);
}

static void on_shutdown(uv_shutdown_t *request, int status) {
    (void)status;
    sj_mock_conn *conn = request->data;
    free(request);
    close_now(conn, false);
}

static void end_when_written(sj_mock_conn *conn) {
    if (conn->state != ENDING || uv_stream_get_write_queue_size((uv_stream_t *)&conn->tcp) > 0)
        return;
    uv_shutdown_t *request = conn->reset ? NULL : malloc(sizeof *request);
    if (!request) {
        close_now(conn, conn->reset);
        return;
    }
    request->data = conn;
    if (uv_shutdown(request, (uv_stream_t *)&conn->tcp, on_shutdown) != 0) {
        free(request);
        close_now(conn, false);
    }
}

// ---- writing ------------------------------------------------------------------------------------

typedef struct held_write {
    uv_write_t request;
    sj_mock_conn *conn;
    char bytes[];
} held_write;

static void on_written(uv_write_t *request, int status) {
    held_write *held = (held_write *)request;
    sj_mock_conn *conn = held->conn;
    free(held);
    if (conn->state == CLOSED)
        return;
    if (status < 0)
        lose(conn, true);
    else if (conn->state == ENDING)
        end_when_written(conn);
    else if (conn->state == ANSWERING && conn->exchange && sj_mock_conn_queued(conn) == 0)
        conn->http->handlers->on_drained(conn->exchange);
}

void sj_mock_conn_write(sj_mock_conn *conn, sj_slice bytes) {
    if (conn->state == CLOSED || bytes.n == 0)
        return;
    conn->http->stats.bytes_out += bytes.n;
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)bytes.p, (unsigned)bytes.n);
    int sent = uv_try_write((uv_stream_t *)&conn->tcp, &buf, 1);
    if (sent > 0)
        bytes = sj_slice_from(bytes, (size_t)sent);
    if (bytes.n == 0)
        return;
    // Also after a failure: the queued write reports it from the loop.
    held_write *held = malloc(sizeof *held + bytes.n);
    if (!held)
        return;
    held->conn = conn;
    memcpy(held->bytes, bytes.p, bytes.n);
    buf = uv_buf_init(held->bytes, (unsigned)bytes.n);
    if (uv_write(&held->request, (uv_stream_t *)&conn->tcp, &buf, 1, on_written) != 0)
        free(held);
}

size_t sj_mock_conn_queued(const sj_mock_conn *conn) {
    return uv_stream_get_write_queue_size((const uv_stream_t *)&conn->tcp);
}

// ---- requests -----------------------------------------------------------------------------------

static void refuse(sj_mock_conn *conn, const char *status) {
    char text[160];
    int n =
        snprintf(text, sizeof text, "HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status);
    conn->state = ANSWERING;
    sj_mock_conn_write(conn, (sj_slice){text, (size_t)n});
    sj_mock_conn_finish(conn);
}

// Takes requests as long as they are whole and answered at once. Not recursive: done() inside it only changes the state.
static void serve(sj_mock_conn *conn) {
    if (conn->working)
        return;
    conn->working = true;
    while (conn->state == READING) {
        sj_mock_read result = sj_mock_reader_next(&conn->reader);
        if (result == SJ_MOCK_READ_CONTINUE) {
            sj_mock_conn_write(conn, SJ_SLICE("HTTP/1.1 100 Continue\r\n\r\n"));
        } else if (result == SJ_MOCK_READ_MORE) {
            break;
        } else if (result != SJ_MOCK_READ_WHOLE) {
            refuse(conn, result == SJ_MOCK_READ_TOO_LARGE ? "413 Content Too Large" : "400 Bad Request");
        } else {
            conn->state = ANSWERING;
            conn->http->handlers->on_request(conn->http->context, conn, &conn->reader.request);
        }
    }
    conn->working = false;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    (void)suggested;
    sj_mock_conn *conn = handle->data;
    *buf = uv_buf_init(conn->http->chunk, READ_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    sj_mock_conn *conn = stream->data;
    if (conn->state == CLOSED || n == 0)
        return;
    if (n < 0) {
        if (conn->state == ENDING)
            close_now(conn, conn->reset);
        else
            lose(conn, n != UV_EOF);
        return;
    }
    if (conn->state == ENDING)
        return;
    if (conn->state == ANSWERING && conn->reader.in.n > MAX_PIPELINED) {
        lose(conn, false);
        return;
    }
    if (!sj_mock_reader_feed(&conn->reader, (sj_slice){buf->base, (size_t)n})) {
        lose(conn, false);
        return;
    }
    serve(conn);
}

static void on_timer(uv_timer_t *timer) {
    sj_mock_conn *conn = timer->data;
    if (conn->state == ANSWERING && conn->exchange)
        conn->http->handlers->on_timer(conn->exchange);
}

void sj_mock_conn_timer(sj_mock_conn *conn, uint64_t ms) {
    if (conn->state != CLOSED)
        (void)uv_timer_start(&conn->timer, on_timer, ms, 0);
}

void sj_mock_conn_done(sj_mock_conn *conn) {
    if (conn->state != ANSWERING)
        return;
    if (!conn->reader.request.keep_alive) {
        sj_mock_conn_finish(conn);
        return;
    }
    (void)uv_timer_stop(&conn->timer);
    conn->exchange = NULL;
    conn->state = READING;
    sj_mock_reader_reset(&conn->reader);
    serve(conn);
}

static void begin_end(sj_mock_conn *conn, bool reset) {
    if (conn->state == CLOSED)
        return;
    (void)uv_timer_stop(&conn->timer);
    conn->exchange = NULL;
    conn->state = ENDING;
    conn->reset = reset;
    end_when_written(conn);
}

void sj_mock_conn_finish(sj_mock_conn *conn) {
    begin_end(conn, false);
}
void sj_mock_conn_reset(sj_mock_conn *conn) {
    begin_end(conn, true);
}
void sj_mock_conn_own(sj_mock_conn *conn, void *exchange) {
    conn->exchange = exchange;
}
uint64_t sj_mock_conn_id(const sj_mock_conn *conn) {
    return conn->id;
}

// ---- the listener -------------------------------------------------------------------------------

static void on_connection(uv_stream_t *listener, int status) {
    sj_mock_http *http = listener->data;
    sj_mock_conn *conn = status < 0 ? NULL : calloc(1, sizeof *conn);
    if (!conn)
        return;
    conn->http = http;
    conn->id = ++http->stats.connections;
    (void)uv_tcp_init(listener->loop, &conn->tcp);
    (void)uv_timer_init(listener->loop, &conn->timer);
    conn->tcp.data = conn->timer.data = conn;
    sj_mock_reader_init(&conn->reader);
    conn->next = http->first;
    if (conn->next)
        conn->next->previous = conn;
    http->first = conn;
    if (++http->stats.open > http->stats.open_max)
        http->stats.open_max = http->stats.open;
    if (uv_accept(listener, (uv_stream_t *)&conn->tcp) != 0 || uv_tcp_nodelay(&conn->tcp, 1) != 0 ||
        uv_read_start((uv_stream_t *)&conn->tcp, on_alloc, on_read) != 0)
        close_now(conn, false);
}

static int listen_on(sj_mock_http *http, const char *host, int port) {
    struct sockaddr_storage address = {0};
    int result = uv_ip4_addr(host, port, (struct sockaddr_in *)&address);
    if (result != 0)
        result = uv_ip6_addr(host, port, (struct sockaddr_in6 *)&address);
    if (result == 0)
        result = uv_tcp_bind(&http->listener, (struct sockaddr *)&address, 0);
    if (result == 0)
        result = uv_listen((uv_stream_t *)&http->listener, BACKLOG, on_connection);
    int size = sizeof address;
    if (result == 0)
        result = uv_tcp_getsockname(&http->listener, (struct sockaddr *)&address, &size);
    // sin_port and sin6_port stand in the same place.
    http->port = ntohs(((struct sockaddr_in *)&address)->sin_port);
    return result;
}

static void on_failed_closed(uv_handle_t *handle) {
    free(handle->data);
}

sj_mock_http *sj_mock_http_new(uv_loop_t *loop, const char *host, int port,
                               const sj_mock_http_handlers *handlers, void *context) {
    sj_mock_http *http = calloc(1, sizeof *http);
    if (!http)
        return NULL;
    http->handlers = handlers;
    http->context = context;
    int result = uv_tcp_init(loop, &http->listener);
    http->listener.data = http;
    if (result == 0)
        result = listen_on(http, host, port);
    if (result == 0)
        return http;
    uv_close((uv_handle_t *)&http->listener, on_failed_closed);
    errno = -result;
    return NULL;
}

int sj_mock_http_port(const sj_mock_http *http) {
    return http->port;
}
sj_mock_http_stats *sj_mock_http_read(sj_mock_http *http) {
    return &http->stats;
}

static void on_listener_closed(uv_handle_t *handle) {
    sj_mock_http *http = handle->data;
    http->listener_closed = true;
    free_when_all_closed(http);
}

void sj_mock_http_close(sj_mock_http *http) {
    assert(!http->closing);
    http->closing = true;
    for (sj_mock_conn *conn = http->first; conn; conn = conn->next)
        lose(conn, false);
    uv_close((uv_handle_t *)&http->listener, on_listener_closed);
}
