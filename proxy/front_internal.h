// Shared by front.c (connections), front_request.c and front_answer.c. Nobody else includes this.
#ifndef SJ_FRONT_INTERNAL_H
#define SJ_FRONT_INTERNAL_H

#include "front.h"

#include <microhttpd.h>

enum { CONN_MAGIC = 0x53436f6e, CALL_MAGIC = 0x5343616c };
// MHD keeps the heads of a request and its answer in this much memory per connection: beyond, 431, or, when it is the answer's that does not fit any
// more, an answer written by ourselves. It also wipes all of it after each request, so that more costs time: 32 KiB made every request 5 % dearer.
enum { CONNECTION_MEMORY = 16 * 1024 };
enum { MAX_DAEMONS = 64, MAX_LISTENERS = 8, DAEMON_CONNECTIONS = 512 };

// A connection waits in at most one of these; each has one time-out, so that its oldest member is always at the head.
typedef enum wait_kind { WAIT_HEADER, WAIT_BODY, WAIT_KEEPALIVE, WAIT_WRITE, WAIT_KINDS, WAIT_NONE = WAIT_KINDS } wait_kind;

typedef struct conn conn;

typedef struct wait_list {
    conn *first, *last;
} wait_list;

typedef struct daemon_room {
    sj_front *front;
    struct MHD_Daemon *mhd;
    uv_poll_t poll; // its epoll descriptor in our loop
    int connections;
    bool dirty; // must be run before the loop sleeps
} daemon_room;

struct conn {
    unsigned magic;
    sj_front *front;
    daemon_room *room;
    struct MHD_Connection *mhd;
    int fd;
    uv_poll_t watch; // hang-up, and room to write while we hold bytes
    int watched;     // uv events being watched
    sj_call *call;
    conn *wait_prev, *wait_next;
    wait_kind waits;
    int64_t wait_since_ms;
    size_t wait_progress; // bytes of body since wait_since_ms
    conn *all_prev, *all_next;
    bool over_limit;
    bool doomed; // shut down by us
    char peer[64];
};

typedef enum call_phase {
    PHASE_HEAD,     // request line seen
    PHASE_BODY,     // owner knows it, body arriving
    PHASE_WAITING,  // suspended until an answer is given
    PHASE_QUEUED,   // MHD sends the answer
    PHASE_PULL,     // MHD asked for bytes and we had none: suspended in the reader, known length
    PHASE_DIRECT,   // likewise, unknown length: we write chunks to the socket ourselves
    PHASE_OVER,
} call_phase;

struct sj_call {
    unsigned magic;
    conn *conn;
    void *owner;
    call_phase phase;
    bool suspended;
    bool chunked;      // the answer's framing
    bool known_length;
    uint64_t length;   // of the answer, when it is known
    bool streaming;    // begun, comes in pieces
    bool raw;          // head and all are written by ourselves, MHD only closes
    bool finished;     // the owner said: complete
    bool cut;          // the owner said: break off
    bool gone;         // the client left
    bool sent_all;     // the end was handed to MHD
    bool close_after;
    bool wants_room;   // over the high-water mark; on_writable is due
    bool in_writable_list, in_flush_list;
    sj_call *next_writable, *next_flush;
    struct MHD_Response *response; // given, not yet queued
    int status;
    sj_buffer out;        // bytes for the client: unframed before PHASE_DIRECT, framed in it
    size_t out_at;        // already taken from the front of out
    sj_headers headers;   // of the request
    sj_buffer target;     // raw
    const char *target_in_mhd; // where MHD holds it, to detect a NUL inside
    size_t drain_left;    // body bytes we still swallow after an early answer
    char version[9];
};

struct sj_front {
    uv_loop_t *loop;
    sj_front_limits limits;
    sj_front_handlers handlers;
    void *context;
    daemon_room *rooms[MAX_DAEMONS];
    int room_count;
    struct listener {
        sj_front *front;
        uv_poll_t poll;
        int fd;
    } listeners[MAX_LISTENERS];
    int listener_count;
    bool accepting; // the listeners are watched
    uv_prepare_t before_sleep;
    uv_idle_t stay_awake;
    uv_timer_t sweep;
    int64_t sweep_at_ms; // 0: not armed
    wait_list waits[WAIT_KINDS];
    conn *all;
    int connections;
    bool quiescing, closing;
    int open_handles; // handles on the loop that keep the front's memory
    conn *adding;     // being handed to MHD
    sj_call *writable_first, *flush_first;
};

// front.c
void front_touch(daemon_room *room); // run it before the loop sleeps
void conn_wait(conn *c, wait_kind kind);
void conn_watch(conn *c, int events);
void conn_doom(conn *c); // shut the socket down; MHD closes it
int64_t front_wait_limit(const sj_front *front, wait_kind kind);

static inline size_t call_held_bytes(const sj_call *call) { return call->out.n - call->out_at; }

// front_request.c
enum MHD_Result call_handle(void *cls, struct MHD_Connection *mhd, const char *url, const char *method, const char *version,
                            const char *upload, size_t *upload_size, void **con_cls);
void *call_on_uri(void *cls, const char *uri, struct MHD_Connection *mhd);
void call_on_completed(void *cls, struct MHD_Connection *mhd, void **con_cls, enum MHD_RequestTerminationCode code);

// front_answer.c
void call_suspend(sj_call *call, call_phase phase); // only inside MHD's handler or content reader
void call_resume(sj_call *call);
enum MHD_Result call_queue_answer(sj_call *call);
void call_forget_in_lists(sj_call *call);
void call_client_gone(sj_call *call);
void call_socket_writable(sj_call *call);
void call_tell_writable(sj_front *front);
void call_flush_all(sj_front *front);

#endif
