// The server side: clients' HTTP connections, through libmicrohttpd. The only module that includes microhttpd.h.
// One sj_front per worker (and one for the admin listener), driven by that thread's uv loop; every call and callback is on that thread.
// It decides nothing but framing: requests that break RFC 9112's rules are refused here and reach nobody.
#ifndef SJ_FRONT_H
#define SJ_FRONT_H

#include "headers.h"

#include <stdatomic.h>
#include <stdint.h>
#include <uv.h>

typedef struct sj_front sj_front;
typedef struct sj_call sj_call; // one client request and its answer

typedef struct sj_call_head {
    sj_slice method;
    sj_slice target;  // raw, as on the request line
    sj_slice version; // "HTTP/1.1"
    const sj_headers *headers; // valid until on_end
    const char *peer; // "127.0.0.1:51234" or "unix"; valid until on_end
    bool over_limit;  // accepted beyond `connections`: answer 503 and be done
    bool expects_continue;
    int64_t content_length; // -1: chunked or none
} sj_call_head;

typedef struct sj_front_handlers {
    // The head is whole and well-formed. Returns the call's owner; NULL closes the connection. It may answer at once; the body is then drained, bounded.
    void *(*on_request)(void *context, sj_call *call, const sj_call_head *head);
    void (*on_body)(void *owner, sj_slice bytes);
    void (*on_request_end)(void *owner); // the whole request is here. Not called when an answer was given before
    void (*on_writable)(void *owner);    // what is held for the client fell below the low-water mark again
    // The client left before its answer was complete. on_end follows soon. Not called during on_request.
    void (*on_gone)(void *owner);
    // The call is over and `call` is invalid after it; exactly once. complete: the whole answer was handed to the kernel.
    void (*on_end)(void *owner, bool complete);
    // Before the loop sleeps, after the server library has run: the place for work that was put off because a library was inside a callback.
    // True: something was done that may have to be carried out. May be NULL.
    bool (*on_turn)(void *context);
} sj_front_handlers;

typedef struct sj_front_limits {
    int connections;    // beyond: over_limit
    atomic_int *in_all; // counts the connections of all fronts that share the limit; NULL: it is this front's own
    int64_t header_timeout_ms, body_timeout_ms, keepalive_timeout_ms;
} sj_front_limits;

enum { SJ_FRONT_HIGH_WATER = 64 * 1024, SJ_FRONT_LOW_WATER = 16 * 1024 };

sj_front *sj_front_new(uv_loop_t *loop, const sj_front_limits *limits, const sj_front_handlers *handlers, void *context);
void sj_front_set_limits(sj_front *front, const sj_front_limits *limits);
// Takes connections from a listening, non-blocking socket; the fd stays the caller's. Several workers may be given the same fd or their own.
__attribute__((warn_unused_result)) bool sj_front_listen(sj_front *front, int fd);
// Idle keep-alive connections are closed; running calls go on, and every connection closes after its answer. New ones are still taken, so that
// they can be told.
void sj_front_quiesce(sj_front *front);
// Cuts what still runs and closes every handle on the loop; *front is freed once the loop has run its closing callbacks.
void sj_front_close(sj_front **front);
int sj_front_connections(const sj_front *front);

// ---- answering. Each may be called from anywhere on the thread, also from inside curl's callbacks ------------------------------
// A whole answer; everything is copied. Fields that MHD owns (Content-Length, Connection ...) must not be in headers.
void sj_call_answer(sj_call *call, int status, const sj_headers *headers, sj_slice body);
// The head of an answer without a body of its own: HEAD and 304. content_length: what upstream said, -1 none.
void sj_call_answer_head(sj_call *call, int status, const sj_headers *headers, int64_t content_length);
// An answer that comes in pieces. content_length: -1 unknown (chunked, or until close on HTTP/1.0).
void sj_call_begin(sj_call *call, int status, const sj_headers *headers, int64_t content_length);
// Goes out at once when the socket takes it; what it does not take is held. Returns the bytes now held: over SJ_FRONT_HIGH_WATER the caller
// should hold its source back until on_writable.
size_t sj_call_write(sj_call *call, sj_slice bytes);
// The answer is complete; trailers may be NULL. Nothing may be written after it.
void sj_call_finish(sj_call *call, const sj_headers *trailers);
// Ends the answer so that the client can tell it is not whole: what was written is flushed, then the connection is cut without a last chunk.
// Before begin: the connection is just closed.
void sj_call_cut(sj_call *call);
// The connection closes after this answer.
void sj_call_close_after(sj_call *call);

#endif
