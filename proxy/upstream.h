// The upstream side: one HTTP request to an API, through libcurl. The only module that includes curl.h.
// One sj_upstream per worker, driven by the worker's uv loop; every call and every callback is on that thread.
// It decides nothing: no retry, no redirect, no timeout but the connect timeout. Invariant 6: it never calls curl from inside a curl callback;
// cancel, resume and start may be called from anywhere in the worker but from inside on_head / on_data of another library's callback, see each.
#ifndef SJ_UPSTREAM_H
#define SJ_UPSTREAM_H

#include "body.h"
#include "headers.h"
#include "verdict.h"

#include <uv.h>

typedef struct sj_upstream sj_upstream;
typedef struct sj_attempt sj_attempt;

// Once per process, before any worker (curl_global_init) and after the last.
__attribute__((warn_unused_result)) bool sj_upstream_global_init(void);
void sj_upstream_global_end(void);

sj_upstream *sj_upstream_new(uv_loop_t *loop);
// Cancels what runs and closes every handle on the loop; the loop must run on until they are closed.
void sj_upstream_close(sj_upstream **upstream);

typedef struct sj_attempt_spec {
    const char *origin;            // "https://host[:port]", NUL-terminated
    sj_slice target;               // exact request target
    sj_slice method;
    const sj_headers *headers;     // complete and in order; Host and Content-Length are the library's. Copied
    // NULL: no body at all; not sent with HEAD. Copied; what it borrows must outlive the attempt (cancelled inside on_head/on_data: until they have returned to
    // the loop's top level).
    const sj_body_cursor *body;
    int64_t connect_timeout_ms;    // DNS, TCP and TLS
    bool fresh;                    // on a new connection
    const char *ca_file;           // NULL: the system's
    const char *proxy;             // NULL: none (the environment's proxies are not used)
} sj_attempt_spec;

typedef struct sj_attempt_end {
    sj_end end;             // never SJ_END_TIMED_OUT (a connect timeout is NEVER_SENT) nor SJ_END_CANCELLED
    bool sent;              // the request, or part of it, may have reached the upstream
    bool own_side;          // DNS, no route, connect refused or timed out
    bool connect_timed_out;
    bool reused;            // the connection had served before
    int64_t connect_ms;     // 0 on a reused connection
    uint64_t bytes_received; // head and body
    char detail[96];        // for log and error text: "Connection refused", "Could not resolve host"; never holds a secret or a URL's userinfo
} sj_attempt_end;

// on_head and on_data are called from inside curl: they may use lib and write to a client's socket, but must not call this module
// (sj_attempt_hold apart) nor the server library: queue such work for the loop's top level.
// on_end is called from the loop's top level, once, unless the attempt was cancelled; the attempt is freed when it returns.
typedef struct sj_attempt_handlers {
    void (*on_head)(void *owner, int status, const sj_headers *headers); // the final head; 1xx are swallowed. Borrowed for the call
    void (*on_data)(void *owner, sj_slice bytes);
    void (*on_end)(void *owner, const sj_attempt_end *end, const sj_headers *trailers);
} sj_attempt_handlers;

// Never calls back before it returns. NULL: out of memory or an impossible spec (logged by the caller as SJ_END_LOCAL).
sj_attempt *sj_attempt_start(sj_upstream *upstream, const sj_attempt_spec *spec, const sj_attempt_handlers *handlers, void *owner);
// No callback of this attempt comes after it, not even on_end. Sets *attempt to NULL. Safe inside on_head/on_data (the work is then put off).
void sj_attempt_cancel(sj_attempt **attempt);
// After hold nothing more is delivered; curl keeps what it has in hand. resume delivers from the loop's next turn, never inside the call;
// it may be called from anywhere but inside on_head/on_data. Both idempotent.
void sj_attempt_hold(sj_attempt *attempt);
void sj_attempt_resume(sj_attempt *attempt);

typedef struct sj_upstream_stats {
    uint64_t connections_opened, connections_reused;
    int running;
} sj_upstream_stats;
sj_upstream_stats sj_upstream_read(const sj_upstream *upstream);

#endif
