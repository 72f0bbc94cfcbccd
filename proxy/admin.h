// The admin listener: GET /metrics, /state (JSON), / (a dashboard), /healthz, /readyz; POST /breaker/{target}/open|close|disable ("global" is the
// global breaker), POST /reload. A front of its own on the given loop; one thread.
// With an admin_token every path but the two probes needs `Authorization: Bearer <token>` (invariant 8: nothing shown here holds a secret).
#ifndef SJ_ADMIN_H
#define SJ_ADMIN_H

#include "access_log.h"
#include "headers.h"
#include "metrics.h"

#include <uv.h>

typedef struct sj_admin sj_admin;

typedef struct sj_admin_options {
    sj_server *server;
    sj_registry *registry;
    sj_log *log; // of this thread; may be NULL
    // Loads the configuration again; *message says what came of it, or every problem found. NULL: /reload is not there (404).
    bool (*reload)(void *context, sj_buffer *message);
    void *context;
    // Where the view comes from; NULL: sj_server_view_take and sj_server_view_release.
    void (*view_take)(sj_server *server, sj_server_view *view);
    void (*view_release)(sj_server_view *view);
} sj_admin_options;

sj_admin *sj_admin_new(uv_loop_t *loop,
                       const sj_admin_options *options); // NULL: out of memory. options are copied
// fd: listening and non-blocking; stays the caller's.
__attribute__((warn_unused_result)) bool sj_admin_listen(sj_admin *admin, int fd);
void sj_admin_close(sj_admin **admin); // NULL-safe; the loop must run on until the front's handles are closed

// ---- without a socket: what each request is answered with (admin_routes.c) ---------------------------------------------------

typedef struct sj_admin_request {
    sj_slice method, target; // as on the request line
    const sj_headers *headers;
    bool from_unix; // over a unix socket: no browser
} sj_admin_request;

typedef struct sj_admin_answer {
    int status;
    sj_headers headers; // Content-Type among them
    sj_buffer body;
} sj_admin_answer;

void sj_admin_answer_init(sj_admin_answer *answer);
void sj_admin_answer_free(sj_admin_answer *answer);
void sj_admin_route(const sj_admin_options *options, const sj_admin_request *request,
                    sj_admin_answer *answer);

// The parts it is made of.
__attribute__((warn_unused_result)) bool sj_admin_state(sj_registry *registry, const sj_server_view *view,
                                                        sj_buffer *out);
__attribute__((warn_unused_result)) bool sj_admin_page(sj_buffer *out);

#endif
