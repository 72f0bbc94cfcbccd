#include "admin.h"

#include "front.h"

#include <assert.h>
#include <stdlib.h>

enum { MAGIC = 0x61646d6e, CONNECTIONS = 64 };

struct sj_admin {
    unsigned magic;
    sj_admin_options options;
    sj_front *front;
};

// Answers at once: nothing here waits, and a request's body means nothing.
static void *on_request(void *context, sj_call *call, const sj_call_head *head) {
    sj_admin *admin = context;
    assert(admin->magic == MAGIC);
    sj_admin_answer answer;
    sj_admin_answer_init(&answer);
    sj_admin_request request = {
        .method = head->method,
        .target = head->target,
        .headers = head->headers,
        .from_unix = strcmp(head->peer, "unix") == 0,
    };
    bool is_head = sj_slice_equal(head->method, SJ_SLICE("HEAD"));
    sj_admin_route(&admin->options, &request, &answer);
    if (is_head)
        sj_call_answer_head(call, answer.status, &answer.headers, (int64_t)answer.body.n);
    else
        sj_call_answer(call, answer.status, &answer.headers, sj_buffer_slice(&answer.body));
    sj_admin_answer_free(&answer);
    if (admin->options.log)
        (void)sj_log_flush(admin->options.log);
    return admin;
}

// A call owns nothing: its owner is the whole admin, which may be gone before the last of them ends.
static void ignore_body(void *owner, sj_slice bytes) {
    (void)owner, (void)bytes;
}
static void ignore(void *owner) {
    (void)owner;
}
static void ignore_end(void *owner, bool complete) {
    (void)owner, (void)complete;
}

static const sj_front_handlers handlers = {
    .on_request = on_request,
    .on_body = ignore_body,
    .on_request_end = ignore,
    .on_writable = ignore,
    .on_gone = ignore,
    .on_end = ignore_end,
};

sj_admin *sj_admin_new(uv_loop_t *loop, const sj_admin_options *options) {
    static const sj_front_limits limits = {
        .connections = CONNECTIONS,
        .header_timeout_ms = 10000,
        .body_timeout_ms = 10000,
        .keepalive_timeout_ms = 75000,
    };
    sj_admin *admin = calloc(1, sizeof *admin);
    if (!admin)
        return NULL;
    admin->magic = MAGIC;
    admin->options = *options;
    if (!admin->options.view_take) {
        admin->options.view_take = sj_server_view_take;
        admin->options.view_release = sj_server_view_release;
    }
    admin->front = sj_front_new(loop, &limits, &handlers, admin);
    if (!admin->front) {
        free(admin);
        return NULL;
    }
    return admin;
}

bool sj_admin_listen(sj_admin *admin, int fd) {
    return sj_front_listen(admin->front, fd);
}

void sj_admin_close(sj_admin **admin) {
    sj_admin *gone = *admin;
    if (!gone)
        return;
    *admin = NULL;
    sj_front_close(&gone->front); // takes no more requests
    gone->magic = 0;
    free(gone);
}
