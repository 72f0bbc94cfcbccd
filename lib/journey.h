// The journey: the plan of one exchange as a pure state machine. Fed events with a time stamp, it answers with steps; it reads no clock, no
// socket and no random device, and reaches what it shares only through target and admission calls. The same code runs in the live proxy and in
// a test that plays a month in a second. One owner, no locking. Source of the rules: BEHAVIOUR 3-7, 9 and 12.
//
//   admitted ──> choosing ──start──> attempting ──content──> committed ──> over
//                  ^  │  ^               │ ended: retry / next target          ^
//                  │  v  └── waiting <───┤                                     │
//                queued (slot)           └── deliver / refuse ─────────────────┘
//
// A committed stream that breaks goes back to choosing when it may be mended; nothing is delivered or refused then, it goes on or is broken off.
#ifndef SJ_JOURNEY_H
#define SJ_JOURNEY_H

#include "backoff.h"
#include "keys.h"
#include "refusal.h"
#include "sticky.h"
#include "target.h"
#include "verdict.h"

typedef struct sj_retry_policy {
    sj_backoff backoff;
    int64_t throttle_base_ms, throttle_cap_ms; // throttled without a hint
    int64_t max_hint_ms;
    int max_attempts;                 // on the last target of a chain
    int max_attempts_before_fallback; // on the others
    int64_t max_wait_total_ms;        // unhinted waits of the whole exchange
    sj_verdict_rules rules;
} sj_retry_policy;

typedef struct sj_hop {
    sj_target *target;            // borrowed; outlives the journey
    const char *label;            // "upstream/model" as shown in labels; borrowed
    const sj_retry_policy *retry; // borrowed
    uint64_t credential;          // hash of what would be sent there
    sj_keys *keys;                // the upstream has several: which one is sent. NULL: one or none. Borrowed
    const uint64_t *credentials;  // with keys: their hashes. Borrowed
    int64_t first_byte_timeout_ms, idle_timeout_ms, answer_timeout_ms;
    int64_t max_open_wait_ms;     // 0: fail at once
    int64_t context_tokens;       // declared context of its model, 0 unknown
    bool rewrites_model;          // names a model: needs a body that can be spliced
    bool same_upstream;           // as the first hop (bodies bound to an upstream may go there)
    // A race (BEHAVIOUR 10): started when this target has been silent for so long, at the next target of the same model, or of any when
    // race_other_model. 0: none.
    int64_t race_after_ms;
    bool race_other_model;
    uint64_t model; // hash of the model it is asked for
    bool prefill; // it goes on from a partial answer
} sj_hop;

// How a stream that broke after commit is mended (BEHAVIOUR 12).
typedef enum sj_mend {
    SJ_MEND_NONE,
    SJ_MEND_REPLAY,   // the same request anew: what the client has is swallowed as it comes again
    SJ_MEND_CONTINUE, // a request that ends with the partial answer
} sj_mend;

typedef enum sj_repeat {
    SJ_REPEAT_FREELY, // generation paths
    SJ_REPEAT_SAFE,   // GET, HEAD: retried, no fallback
    SJ_REPEAT_UNSENT, // other methods: only if never sent, or on 429
} sj_repeat;

typedef struct sj_plan {
    const sj_hop *hops; // at least one; borrowed
    size_t hop_count;
    sj_waiter waiter;   // worker, exchange id, client
    sj_repeat repeat;
    bool movable;         // the body is a JSON object whose model can be spliced
    bool bound;           // the body refers to state at one upstream
    bool replayable;      // false: background, store beyond default, hosted tools with replay = false: never repeated once sent
    bool stream;          // the request asked for a stream
    bool client_retrying; // x-stainless-retry-count >= 1: one attempt per target, paying the budget
    int64_t deadline_ms;  // absolute; bounds the time to commit, and rescues
    bool verified;        // a stream is held back until it is complete: a break is then invisible
    bool rescue;          // a stream that breaks after commit may be mended
    bool rescue_other_model; // also by a target of another model
    int64_t keepalive_ms; // before commit of a stream: how often the client gets a sign of life; 0 off
    int64_t stream_max_ms;// after commit; 0 off
    int64_t fallback_gate_ms;
    sj_sticky *sticky; // of the route; NULL none. Borrowed
    sj_admission *route_slots; // for exchanges, from the first step to the last; NULL unbounded. Borrowed
    int64_t drain_ms;     // the client left: what runs is read on for so long, so that its usage is counted; 0: it is dropped
    uint64_t seed;        // of this exchange's jitter
} sj_plan;

enum { SJ_JOURNEY_MAX_STEPS = 6, SJ_JOURNEY_MAX_NOTES = 38, SJ_TRAIL_MAX = 24 };

typedef enum sj_step_kind {
    SJ_STEP_START,       // start attempt `attempt` on hop `hop`; fresh: on a new connection
    SJ_STEP_CANCEL,      // drop attempt `attempt`; nothing more of it is wanted
    SJ_STEP_SAVE,        // keep attempt `attempt`'s whole answer: it may be delivered later (replaces one kept before)
    SJ_STEP_COMMIT,      // what is held of attempt `attempt` goes to the client now, and everything after it as it comes
    SJ_STEP_MEND,        // attempt `attempt`'s committed stream broke, and the client is to get the rest of it from elsewhere
    SJ_STEP_DELIVER,     // attempt `attempt`'s whole held answer goes to the client; the exchange is over
    SJ_STEP_DELIVER_SAVED,
    SJ_STEP_KEEPALIVE,   // a sign of life for the client, who gets his head with the first one
    SJ_STEP_SUPPLY_DONE, // append `data: [DONE]` to the committed stream
    SJ_STEP_FINISH,      // end the committed answer cleanly
    SJ_STEP_BREAK,       // end the committed answer visibly: in-band error event where the protocol has one (not when `quiet`), then cut
    SJ_STEP_REFUSE,      // answer with our own error
} sj_step_kind;

typedef struct sj_step {
    sj_step_kind kind;
    int attempt; // from 1
    size_t hop;
    size_t key; // START: which of the hop's keys, from 0
    bool fresh, quiet;
    sj_mend mend; // START: what for
    sj_refusal refusal;
    int64_t retry_after_s; // REFUSE: 0 none
    sj_class class;        // DELIVER, DELIVER_SAVED, FINISH: what the answer was judged to be
} sj_step;

// What happened, for log lines and metrics (BEHAVIOUR 15).
typedef enum sj_note_kind {
    SJ_NOTE_ATTEMPT,  // an attempt ended: hop, class, status, reason, ms
    SJ_NOTE_RETRY,    // will try again on the same target: delay, source
    SJ_NOTE_HINT_GATE,
    SJ_NOTE_BREAKER,  // hop, change, global
    SJ_NOTE_BUDGET_REFUSED,
    SJ_NOTE_FALLBACK, // to hop, reason
    SJ_NOTE_RACE, // another target is asked beside the silent one: hop, ms of silence
    SJ_NOTE_RESCUED, // a broken stream goes on from hop: ms since it broke, source is how, reason what broke it
    SJ_NOTE_QUEUED,
    SJ_NOTE_DRAIN,    // the client has left, its attempt is read on: ms at most
    SJ_NOTE_ALERT,    // credential or TLS trouble: worth a warning
    SJ_NOTE_KEY,      // one of several keys rests from now on, or is accepted again: key, reason, ms of rest
    SJ_NOTE_STALE_SERVED,    // by the carrier: a stored answer went out, `reason` why, `ms` its age
    SJ_NOTE_DEGRADED_SERVED, // by the carrier: the configured text went out
    SJ_NOTE_GRANT,    // another exchange shall look at its place in the queue: post `wake`; never left out
} sj_note_kind;

typedef struct sj_note {
    sj_note_kind kind;
    size_t hop;
    int key;              // which of several, from 1; 0: there is nothing to choose
    int status;
    sj_class class;
    int64_t ms;           // duration or delay
    char reason[32];
    const char *source;   // of a delay: "backoff", "retry-after", "gate", ...; static
    sj_breaker_change change;
    bool global;
    sj_waiter wake;
} sj_note;

typedef struct sj_steps {
    sj_step list[SJ_JOURNEY_MAX_STEPS];
    int count;
    sj_note notes[SJ_JOURNEY_MAX_NOTES + 1]; // the last is never told
    int note_count;
} sj_steps;

typedef struct sj_journey sj_journey;

// plan is copied (what it borrows is not). NULL: out of memory.
sj_journey *sj_journey_new(const sj_plan *plan);
// Before free the journey must be over (invariant 1: everything taken has been given back).
void sj_journey_free(sj_journey **journey);

// ---- events: each clears *out and fills it ----------------------------------------------------------------------------------
void sj_journey_admitted(sj_journey *journey, int64_t now_ms, sj_steps *out);
// Final answer head. inspected: the carrier will tell what the stream says (known protocol) or what the whole answer's finding is.
void sj_journey_attempt_head(sj_journey *journey, int attempt, int status, const sj_retry_hint *hint, bool inspected, int64_t now_ms, sj_steps *out);
// SJ_SAYS_* bits of an event of an inspected stream (SJ_SAYS_ERROR apart), with the two below; 0 for bytes that mean nothing yet. Cheap when
// committed. SJ_SAYS_CONTENT also stands for the first body byte of an opaque answer and for a held answer that outgrew its bound.
enum {
    SJ_SAYS_ALL_BUT_DONE = 1 << 8, // with this event the stream is complete but for [DONE]
    SJ_SAYS_WHOLE = 1 << 9,        // with this event the stream is complete by its protocol
    SJ_SAYS_OVERFLOW = 1 << 10,    // no more can be held back
    SJ_SAYS_AGAIN = 1 << 11,       // what mends a broken stream says what the client has already
};
void sj_journey_attempt_says(sj_journey *journey, int attempt, unsigned says, int64_t now_ms, sj_steps *out);
// An error event in an inspected stream; code and message are borrowed for the call. Before commit it may end the attempt (then CANCEL is among
// the steps); after commit it has been passed on by the carrier, and the answer ends there.
void sj_journey_attempt_error(sj_journey *journey, int attempt, const char *code, const char *message, int64_t now_ms, sj_steps *out);
// What could mend the committed stream if it broke now. Told before any event that may tell of a break; false, false until then.
void sj_journey_can_mend(sj_journey *journey, bool replay, bool go_on);
// The attempt was started to mend a stream and says something else, or is no stream.
void sj_journey_attempt_diverged(sj_journey *journey, int attempt, int64_t now_ms, sj_steps *out);
// The transfer is over. facts.end is how; borrowed for the call. lacks_only_done / whole: what the protocol reader says of a stream.
typedef struct sj_attempt_over {
    sj_attempt_facts facts;
    bool whole;           // the answer is complete by its protocol (always true for opaque answers with clean framing)
    bool lacks_only_done; // complete but for [DONE]
    bool sent;            // the request went out
    bool own_side;        // DNS, no route, connect
    bool connect_timed_out;
    int64_t tokens;       // what the answer says it used; 0 unknown
} sj_attempt_over;
void sj_journey_attempt_ended(sj_journey *journey, int attempt, const sj_attempt_over *over, int64_t now_ms, sj_steps *out);
// We hold the upstream back because the client is slow: the idle clock stands still meanwhile.
void sj_journey_attempt_held(sj_journey *journey, int attempt, bool held, int64_t now_ms);
// A wake-up for it has come: its slot has been granted, or it has to keep the time.
void sj_journey_granted(sj_journey *journey, int64_t now_ms, sj_steps *out);
void sj_journey_timer(sj_journey *journey, int64_t now_ms, sj_steps *out);
// Idempotent. The journey is over, and CANCEL the only step; or with drain_ms the running attempt is read on: no START and no KEEPALIVE comes after it,
// the other steps as ever, for whoever may still listen.
void sj_journey_client_gone(sj_journey *journey, int64_t now_ms, sj_steps *out);
// Somebody listens again, or somebody else beside the client: as long as he is there the journey goes on as before, until his deadline if that is later.
// The journey is not over.
void sj_journey_client_back(sj_journey *journey, int64_t deadline_ms, int64_t now_ms);
// Nothing is read on. CANCEL is the only step, and the journey is over; `why` stands in the trail. Idempotent.
void sj_journey_abort(sj_journey *journey, const char *why, int64_t now_ms, sj_steps *out);

// When sj_journey_timer must be called next; INT64_MAX: never. Changes with every event.
int64_t sj_journey_due_ms(const sj_journey *journey);
bool sj_journey_is_over(const sj_journey *journey);

// ---- for labels, log and error texts ----------------------------------------------------------------------------------------
typedef struct sj_journey_summary {
    int attempts_sent;
    int retries;
    int rescues; // streams that went on after they broke
    size_t hop;             // of the answer, or of the last attempt
    const char *fallback;   // reason, NULL when the first target answered; owned by the journey
    int64_t wait_ms, queue_ms, upstream_ms; // upstream_ms: of the attempt that answered
} sj_journey_summary;
sj_journey_summary sj_journey_read(const sj_journey *journey);
// The committed stream broke, and nothing has gone on with it yet.
bool sj_journey_is_mending(const sj_journey *journey);
// "a/m 503 410ms, wait 520ms, b/n 200 150ms": bounded to size, NUL-terminated. A running attempt shows as its label alone.
void sj_journey_trail(const sj_journey *journey, int64_t now_ms, char *out, size_t size);
// What was tried and what to do, for our own error text.
void sj_journey_message(const sj_journey *journey, sj_refusal refusal, char *out, size_t size);

#endif
