// Inside of the upstream module; only upstream*.c include it.
//
//   sj_attempt_start -> request (options of a pooled easy handle) -> curl <-> socket (uv watchers and timer)
//                                                                     |
//            on_end <- pump, at the loop's top level <- done message  +--> answer (head, data, trailers) -> on_head, on_data
#ifndef SJ_UPSTREAM_PRIVATE_H
#define SJ_UPSTREAM_PRIVATE_H

#include "upstream.h"

#include <curl/curl.h>

typedef struct sj_upstream_watcher sj_upstream_watcher;
typedef struct sj_carrier sj_carrier;

typedef enum sj_attempt_state {
    SJ_ATTEMPT_RUNNING,
    SJ_ATTEMPT_FAILED, // our own side could not serve it; ends at the next pump
    SJ_ATTEMPT_CANCELLED, // by its owner, from inside curl; removed at the next pump
    SJ_ATTEMPT_ENDED, // on_end is being called, or nothing more is
} sj_attempt_state;

typedef enum sj_answer_stage {
    SJ_ANSWER_STATUS, // waiting for a status line
    SJ_ANSWER_FIELDS, // inside a head
    SJ_ANSWER_BODY, // the final head was delivered; a field from here on is a trailer
    SJ_ANSWER_REFUSED, // not HTTP, or more head than we keep
} sj_answer_stage;

typedef enum sj_pause {
    SJ_PAUSE_NONE,
    SJ_PAUSE_WANTED, // held; curl does not know yet
    SJ_PAUSE_DONE, // curl waits
    SJ_PAUSE_RESUMED, // curl is told at the next pump
} sj_pause;

struct sj_attempt {
    uint32_t magic;
    sj_attempt_state state;
    sj_answer_stage stage;
    sj_pause pause;
    bool queued; // in the upstream's deferred list
    bool opened; // curl opened a socket for it
    bool broken_off; // refused after the head: by its trailers
    int requests; // how often curl was about to send; the second time is refused
    int local_port; // of the connection it was sent on
    int status;
    uint64_t head_bytes; // of all blocks and trailers
    uint64_t body_bytes;
    sj_upstream *upstream;
    sj_carrier *carrier;
    sj_attempt_handlers handlers;
    void *owner;
    sj_attempt *prev, *next; // running
    sj_attempt *deferred_next;
};

enum { SJ_CARRIER_LINES = 5 };

// An easy handle with the constant options set, and the memory a request needs; kept for the next attempt. Remembers what the handle was
// set to, so that only changes are set again.
struct sj_carrier {
    uint32_t magic;
    CURL *easy;
    CURLU *parsed_url;
    sj_upstream *upstream;
    sj_attempt *attempt; // NULL while idle
    sj_carrier *idle_next;
    sj_buffer text; // method, target, fields, small edited body
    struct curl_slist lines[SJ_CARRIER_LINES]; // the last one into text
    sj_body_cursor cursor;
    sj_headers head, trailers;
    char *url, *method, *ca_file, *proxy; // as set
    int64_t connect_timeout_ms;
    bool fresh, forbid_reuse;
    char error[CURL_ERROR_SIZE];
};

struct sj_upstream {
    uint32_t magic;
    uv_loop_t *loop;
    CURLM *multi;
    CURLSH *share;
    uv_timer_t timer;
    uint64_t deadline_ms; // of curl, on the loop's clock; UINT64_MAX none
    sj_upstream_watcher **watchers; // by descriptor
    size_t watcher_cap;
    int ended_socket; // whose peer is gone
    size_t open_handles; // uv handles not yet closed
    int in_curl; // curl is on the stack
    bool pumping, closing, closed;
    sj_carrier *idle;
    size_t idle_count;
    sj_attempt *running;
    sj_attempt *deferred, **deferred_tail;
    sj_upstream_stats stats;
};

enum {
    SJ_UPSTREAM_MAGIC = 0x73747570,
    SJ_ATTEMPT_MAGIC = 0x73746174,
    SJ_CARRIER_MAGIC = 0x73746361,
};

// upstream.c
void sj_upstream_pump(sj_upstream *upstream); // ends and cancels what is due; only with curl off the stack
void sj_upstream_defer(sj_attempt *attempt); // to the next pump
void sj_upstream_handle_closed(sj_upstream *upstream); // the last one frees the upstream

// upstream_socket.c
bool sj_upstream_sockets_init(sj_upstream *upstream);
void sj_upstream_sockets_close(sj_upstream *upstream); // after curl_multi_cleanup
void sj_upstream_timer_arm(sj_upstream *upstream);
void sj_carrier_set_socket_options(sj_carrier *carrier);

// upstream_request.c
sj_carrier *sj_carrier_new(sj_upstream *upstream);
void sj_carrier_free(sj_carrier *carrier);
__attribute__((warn_unused_result)) bool sj_carrier_load(sj_carrier *carrier, const sj_attempt_spec *spec);
void sj_carrier_unload(sj_carrier *carrier); // forgets what the attempt lent

// upstream_answer.c
size_t sj_answer_on_header(char *line, size_t size, size_t count, void *carrier);
size_t sj_answer_on_body(char *bytes, size_t size, size_t count, void *carrier);
int sj_answer_on_request(void *carrier, char *to, char *from, int to_port, int from_port);

// upstream_end.c
sj_attempt_end sj_attempt_end_of(const sj_attempt *attempt, CURLcode code);

#endif
