// HTTP/1.1 as the mock needs it: reads well-formed requests, and lets its owner write whatever bytes it likes, close or reset.
// Everything is on the thread of the loop. Reading never stops while an answer runs, so a client that leaves is noticed at once.
#ifndef SJ_MOCK_HTTP_H
#define SJ_MOCK_HTTP_H

#include "headers.h"

#include <uv.h>

enum { SJ_MOCK_MAX_HEAD = 256 * 1024, SJ_MOCK_MAX_BODY = 128 * 1024 * 1024 };

typedef struct sj_mock_http sj_mock_http;
typedef struct sj_mock_conn sj_mock_conn;

// Borrowed for the call of on_request.
typedef struct sj_mock_request {
    sj_slice method, target;
    sj_headers headers;
    sj_slice body;
    bool keep_alive, http_1_0;
} sj_mock_request;

typedef struct sj_mock_http_handlers {
    // Answers within the call (write, then done, finish or reset), or names an owner of the exchange that will.
    void (*on_request)(void *context, sj_mock_conn *conn, const sj_mock_request *request);
    // The client left, or the connection broke, before done, finish or reset. conn is closed by itself.
    void (*on_gone)(void *exchange, bool by_reset);
    void (*on_drained)(void *exchange); // what was written has all left
    void (*on_timer)(void *exchange);
    void (*on_closed)(void *context); // the server's last handle is closed; it is freed when this returns
} sj_mock_http_handlers;

typedef struct sj_mock_http_stats {
    uint64_t connections;
    int open, open_max;
    uint64_t bytes_out;
} sj_mock_http_stats;

// NULL: cannot listen, errno says why.
sj_mock_http *sj_mock_http_new(uv_loop_t *loop, const char *host, int port,
                               const sj_mock_http_handlers *handlers, void *context);
int sj_mock_http_port(const sj_mock_http *http);
sj_mock_http_stats *sj_mock_http_read(sj_mock_http *http);
// Cuts all connections (their exchanges get on_gone) and closes every handle.
void sj_mock_http_close(sj_mock_http *http);

// Whom the callbacks of this exchange are for, until done, finish or reset.
void sj_mock_conn_own(sj_mock_conn *conn, void *exchange);
uint64_t sj_mock_conn_id(const sj_mock_conn *conn);
// Copies what the socket does not take at once. A failure is reported by on_gone later.
void sj_mock_conn_write(sj_mock_conn *conn, sj_slice bytes);
size_t sj_mock_conn_queued(const sj_mock_conn *conn);
// on_timer after ms; a new call replaces it. Ends with the exchange.
void sj_mock_conn_timer(sj_mock_conn *conn, uint64_t ms);
// The answer is complete: the next request is read, or the connection closes.
void sj_mock_conn_done(sj_mock_conn *conn);
// What was written leaves, then FIN or RST. Nothing is read any more.
void sj_mock_conn_finish(sj_mock_conn *conn);
void sj_mock_conn_reset(sj_mock_conn *conn);

#endif
