// Shared by exchange.c (time and steps), exchange_life.c (from birth to end), exchange_upstream.c and exchange_client.c (the news of either side),
// exchange_leave.c (the client has left), exchange_plan.c (from request to plan), exchange_rescue.c (a stream that broke), exchange_reply.c (what is
// answered) and exchange_out.c (to whom), exchange_lead.c and exchange_join.c (retries that join), exchange_keep.c and exchange_stand_in.c (answers kept for the day nothing answers, and what is given then).
#ifndef SJ_EXCHANGE_INTERNAL_H
#define SJ_EXCHANGE_INTERNAL_H

#include "answer.h"
#include "letter.h"
#include "exchange.h"

enum {
    EXCHANGE_MAGIC = 0x53457863,
    EXCHANGE_MAX_HOPS = 16,
    LEGS_MAX = 2,
    TODO_MAX = 16,
    SLOT_BITS = 20,
    WORKER_BITS = 8
};

// An attempt under way: the transfer and the answer being read.
typedef struct leg {
    sj_exchange *exchange;
    int attempt; // the journey's number, 0: free
    size_t hop, key;
    sj_attempt *transfer; // NULL once it has ended or was cancelled
    sj_answer answer;
    bool held_back; // because the client is slow
    bool continues; // it was asked to go on from the partial answer
} leg;

// What is sent to one of the route's targets.
typedef struct hop_request {
    size_t upstream;
    const char *model; // NULL: the body goes as it came
    char *model_json; // owned: the model as a JSON string, made when first needed
} hop_request;

typedef struct saved_answer {
    int status;
    int64_t content_length;
    sj_headers headers;
    sj_buffer body;
} saved_answer;

// What is kept of a committed stream that broke.
typedef struct rescue {
    sj_transcript *transcript; // what the client has
    sj_buffer cause; // the error event that broke it, told if nothing mends it
    sj_buffer body; // of a continuation
    sj_request_facts body_facts;
} rescue;

typedef enum exchange_end {
    END_RUNNING,
    END_ANSWERED,
    END_STALE, // by a stored answer
    END_DEGRADED, // by a configured text
    END_REFUSED,
    END_BROKEN,
    END_CLIENT_GONE
} exchange_end;

// What an exchange that outlives its call keeps of the request.
typedef struct kept_request {
    sj_buffer text; // method, target, peer
    sj_headers headers;
} kept_request;

// A retry that joins another exchange, or may; and what tells whether another one may join this.
typedef enum join_state { JOIN_NOT, JOIN_ASKING, JOIN_FOLLOWING } join_state;

typedef struct joint {
    join_state state;
    sj_fingerprint print;
    int answers_due; // while it asks
    int64_t ask_until_ms;
    sj_tape *follows; // the tape it reads, or has read
    int seat;
    bool begun; // its head has gone out
    int64_t latest_ms; // deadline of those who have joined it
} joint;

struct sj_exchange {
    unsigned magic;
    sj_worker *worker;
    sj_call *call; // NULL once the front has ended it
    sj_setup *setup;
    uint64_t id;
    char request_id[20];
    // the request; slices live as long as the call, or in what is kept of it
    kept_request *kept; // owned; NULL as long as there is a call
    sj_slice method, target, path;
    const sj_headers *headers;
    const char *peer;
    char version[9];
    bool is_head, is_health;
    sj_body *body;
    sj_request_facts facts;
    bool credential_is_ours; // matched client_keys: never forwarded
    const sj_route_config *route;
    sj_answer_context context;
    sj_hop *hops; // owned
    hop_request *requests; // by hop, in the same block
    size_t hop_count;
    uint64_t client; // hash
    int64_t deadline_ms;
    bool is_repeat; // says that it may repeat another one
    joint *joint; // owned; NULL until another exchange is like it
    sj_tape *tape; // what goes out, for those who read along; NULL nobody does
    // the work
    sj_journey *journey;
    leg legs[LEGS_MAX];
    saved_answer saved;
    rescue *rescue; // from the first break on; NULL none
    struct recording *recording; // exchange_keep.c; NULL: what goes out is not kept
    sj_step todo[TODO_MAX];
    int todo_count;
    const sj_headers *trailers; // of the transfer that is just ending
    bool start_asked, in_todo;
    bool head_sent; // by a sign of life, or with a stream that broke: what comes now comes inside the stream
    bool has_begun; // an answer, for whoever listens
    bool has_spoken; // something of it has gone out that is more than a sign of life
    sj_exchange *todo_next;
    uv_timer_t timer;
    int64_t timer_at_ms; // 0: not armed
    bool timer_open;
    // the record
    exchange_end end;
    sj_refusal refusal, answered; // refusal: the client's; answered: as told, though he may have left
    int status;
    int64_t started_ns, first_content_ns, left_ns; // left: the client did, before his answer was whole; 0 no
    uint64_t bytes_in, bytes_out;
    int dropped_events;
    sj_usage usage;
    size_t answer_hop;
    bool has_answer_hop;
    char upstream_request_id[64];
};

static inline const sj_config *exchange_config(const sj_exchange *e) {
    return sj_setup_config(e->setup);
}
static inline int64_t exchange_now(const sj_exchange *e) {
    return sj_worker_now_ms(e->worker);
}

// exchange_life.c
sj_exchange *exchange_new(sj_worker *worker); // NULL: no memory
sj_exchange *exchange_by_id(const sj_worker *worker, uint64_t id); // NULL: it is over
void exchange_drop_leg(sj_exchange *e, leg *l);
void exchange_drop_other_legs(sj_exchange *e, const leg *keep);
void exchange_dispose(sj_exchange *e);

size_t exchange_slot(const sj_exchange *e);

// exchange.c
void exchange_take_notes(sj_exchange *e, const sj_steps *steps);
void exchange_take_steps(sj_exchange *e, const sj_steps *steps); // they are carried out later
void exchange_carry_out(sj_exchange *e); // only at the loop's top level
void exchange_line_up(sj_exchange *e);
void exchange_leave_todo(sj_exchange *e);
void exchange_arm_timer(sj_exchange *e);
leg *exchange_committed_leg(sj_exchange *e);

// exchange_join.c
sj_fingerprint exchange_fingerprint(sj_exchange *e);
// The plan is made: it asks first, if it may be a repetition, or begins.
void exchange_begin(sj_exchange *e);
bool exchange_is_asking(const sj_exchange *e);
void exchange_ask_timer(sj_exchange *e);
void exchange_ask_answered(sj_worker *worker, sj_exchange *e, sj_letter *letter); // e may be NULL: it is over
bool exchange_is_following(const sj_exchange *e);
void exchange_follow_timer(sj_exchange *e);
int64_t exchange_follow_due(const sj_exchange *e);
void exchange_follow(sj_exchange *e); // as far as its client takes it. Only at the loop's top level
void exchange_stop_joining(sj_exchange *e);
void exchange_abort_following(sj_exchange *e);
void exchange_forget_joint(sj_exchange *e); // at the end: whoever still reads along is cut

// exchange_lead.c
bool exchange_may_lead(const sj_exchange *e);
bool exchange_has_readers(const sj_exchange *e);
bool exchange_record_on_tape(sj_exchange *e); // what goes out from now on; false: no memory
void exchange_tell_readers(sj_exchange *e, const sj_tape_news *news);
void exchange_end_tape(sj_exchange *e, bool whole);
// One in flight that the asker repeats: its tape, referenced, and a seat on it. NULL: none.
sj_tape *exchange_find_leader(sj_worker *worker, const sj_letter *ask, int *seat);

// exchange_leave.c
// Ends it, or reads on what runs. Allowed anywhere.
void exchange_client_left(sj_exchange *e);
// The same when the call ends. True: it goes on without one, and is disposed of once its journey is over.
bool exchange_outlives_its_call(sj_exchange *e);
void exchange_abandon(sj_exchange *e, const char *why); // nothing more is wanted, and all that is shared is given back
void exchange_forget_kept(sj_exchange *e);

// exchange_upstream.c
extern const sj_attempt_handlers exchange_attempt_handlers;
void exchange_hold_back(leg *l); // the client is slower than the upstream
void exchange_let_flow(leg *l); // only at the loop's top level

// exchange_plan.c
typedef struct plan_fault {
    sj_refusal refusal; // SJ_REFUSAL_NONE: fine
    const char *message;
} plan_fault;
// Whether this client may use the proxy; notes whether its credential is ours.
bool exchange_authorise(sj_exchange *e);
sj_slice exchange_client_name(const sj_exchange *e); // its credential, or its address
// Route, hops, facts, journey.
plan_fault exchange_plan(sj_exchange *e);
// The transfer of one attempt. NULL: could not be made.
sj_attempt *exchange_start_transfer(sj_exchange *e, leg *l, bool fresh, const sj_attempt_handlers *handlers);

// exchange_out.c
// How it ended for the client; what comes after he has left changes nothing.
void exchange_set_end(sj_exchange *e, exchange_end end, sj_refusal refusal);
void exchange_out_answer(sj_exchange *e, int status, const sj_headers *headers, sj_slice body);
void exchange_out_answer_head(sj_exchange *e, int status, const sj_headers *headers, int64_t content_length);
void exchange_out_begin(sj_exchange *e, int status, const sj_headers *headers, int64_t content_length);
bool exchange_out_write(sj_exchange *e, sj_slice bytes); // true: the source has to be held back
void exchange_out_sign(sj_exchange *e, sj_slice comment); // of life; says nothing
void exchange_head_on_tape(sj_exchange *e, int status, const sj_headers *headers, int64_t content_length);
void exchange_out_finish(sj_exchange *e, const sj_headers *trailers);
void exchange_out_cut(sj_exchange *e);

// exchange_rescue.c
// Before the journey is told of anything that may break the leg's stream: what could mend it.
void exchange_tell_mends(sj_exchange *e, const leg *l);
// The leg's stream is broken, and the client will get the rest from elsewhere.
void exchange_begin_mend(sj_exchange *e, leg *l);
// Makes the leg one that mends. False: it cannot.
__attribute__((warn_unused_result)) bool exchange_mend_with(sj_exchange *e, leg *l, sj_mend mend);
void exchange_mended(sj_exchange *e, leg *l);
// The error event is kept for the case that nothing mends what it broke.
void exchange_keep_cause(sj_exchange *e, sj_slice raw);
// Body and facts of the continuation being asked for.
sj_slice exchange_continuation(const sj_exchange *e, const sj_request_facts **facts);
void exchange_free_rescue(sj_exchange *e);

// exchange_cost.c
sj_costs exchange_costs(const sj_exchange *e, size_t hop); // of what that hop answered

// exchange_reply.c
void exchange_refuse(sj_exchange *e, sj_refusal refusal, const char *message, int64_t retry_after_s);
// The leg's whole answer: of a stream that was held back, [DONE] is supplied when only that is missing.
void exchange_deliver_leg(sj_exchange *e, leg *l, sj_class class);
void exchange_deliver(sj_exchange *e, int status, const sj_headers *headers, sj_slice body,
                      int64_t content_length, size_t hop);
void exchange_commit(sj_exchange *e, leg *l);
// target NULL: none answered.
void exchange_add_labels(const sj_exchange *e, sj_headers *headers, const char *target);
void exchange_keepalive(sj_exchange *e);
void exchange_early_head_on_tape(sj_exchange *e); // that of the first sign of life
// An event that came without its blank line is closed before something else is put behind it.
void exchange_close_event(sj_exchange *e, leg *l);
void exchange_finish(sj_exchange *e, sj_class class);
void exchange_supply_done(sj_exchange *e, leg *l);
void exchange_break(sj_exchange *e, leg *l, bool quiet);
void exchange_health(sj_exchange *e, bool ready);
void exchange_record(sj_exchange *e);

#endif
