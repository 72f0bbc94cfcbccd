// The demo's client: plain requests without any resilience of its own, carried by the upstream module on the caller's loop.
#ifndef SJ_DEMO_CLIENT_H
#define SJ_DEMO_CLIENT_H

#include "upstream.h"

enum { SJ_DEMO_MAX_ANSWER = 4 * 1024 * 1024 };

typedef struct sj_demo_call sj_demo_call;

struct sj_demo_call {
    sj_buffer request; // the body
    sj_buffer answer; // what came of the body
    int status; // 0: no head came
    int attempts; // x-stormjib-attempts, 1 without that header
    sj_end end;
    void (*on_over)(sj_demo_call *call,
                    void *owner); // from the loop's top level; the call may be started again
    void *owner;
    sj_attempt *attempt; // NULL: not running
    sj_body_cursor cursor;
};

void sj_demo_call_init(sj_demo_call *call, void (*on_over)(sj_demo_call *call, void *owner), void *owner);
void sj_demo_call_free(sj_demo_call *call); // not running
// The body is call->request. False: it did not start, on_over is not called.
__attribute__((warn_unused_result)) bool sj_demo_call_start(sj_demo_call *call, sj_upstream *upstream,
                                                            const char *origin, const char *method,
                                                            const char *target);
// No on_over comes after it.
void sj_demo_call_cancel(sj_demo_call *call);

// One request, waited for: runs the loop, which must have nothing else on it. True: a whole 200, its body in *out.
__attribute__((warn_unused_result)) bool
sj_demo_fetch(uv_loop_t *loop, const char *origin, const char *method, const char *target, sj_buffer *out);

#endif
