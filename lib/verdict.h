// What an attempt's end means (BEHAVIOUR 3): its class, what the breaker learns, what may be done next. A table, no state.
#ifndef SJ_VERDICT_H
#define SJ_VERDICT_H

#include "completion.h"
#include "retry_hint.h"

// How the transfer ended, as the carrier saw it.
typedef enum sj_end {
    SJ_END_WHOLE,          // an HTTP answer with complete framing
    SJ_END_NEVER_SENT,     // connect refused, DNS, TLS handshake, connect timeout
    SJ_END_STALE,          // a reused connection died without a byte of answer
    SJ_END_NO_ANSWER,      // reset or close before an answer byte on a fresh connection
    SJ_END_BROKEN,         // after the first answer byte: reset, early close, bad chunking, wrong length
    SJ_END_GARBAGE,        // not HTTP: bad status line, endless headers
    SJ_END_TIMED_OUT,      // first byte, idle or whole-answer timer
    SJ_END_TLS_UNVERIFIED, // certificate not trusted
    SJ_END_LOCAL,          // our own side: bad URL, out of memory, unreadable body
    SJ_END_CANCELLED,      // client gone, loser of a race, shutdown
} sj_end;

typedef enum sj_class {
    SJ_CLASS_SUCCESS,
    SJ_CLASS_CALLER,       // the caller's error: deliver as it is
    SJ_CLASS_TOO_LONG,     // context_length_exceeded and its other wordings
    SJ_CLASS_REFUSED,      // content policy
    SJ_CLASS_CREDENTIAL,   // 401, 403
    SJ_CLASS_QUOTA,        // 402, insufficient_quota
    SJ_CLASS_NO_MODEL,     // 404 model not found
    SJ_CLASS_FAILING,      // 408, 5xx and the like, error objects as their code
    SJ_CLASS_THROTTLED,    // 429, rate_limit
    SJ_CLASS_NEVER_SENT,
    SJ_CLASS_STALE,
    SJ_CLASS_NO_ANSWER,    // maybe executed
    SJ_CLASS_TIMED_OUT,
    SJ_CLASS_MALFORMED,    // 200 that is empty, truncated, not JSON; garbage
    SJ_CLASS_MISCONFIGURED,
    SJ_CLASS_NONE,         // cancelled: nothing learnt
} sj_class;

typedef enum sj_effect { SJ_EFFECT_SUCCESS, SJ_EFFECT_FAILURE, SJ_EFFECT_NEUTRAL } sj_effect;

typedef struct sj_status_set {
    unsigned char bits[125]; // one bit per status 0..999
} sj_status_set;

void sj_status_set_add(sj_status_set *set, int from, int to);
bool sj_status_set_has(const sj_status_set *set, int status);

typedef struct sj_verdict_rules {
    sj_status_set statuses;          // retried statuses; default 408 429 500 502-504 520-529
    const char *const *error_codes;  // substrings of error codes that make a 200 a failure; default rate_limit server_error timeout capacity overloaded
    size_t error_code_count;
    bool retry_conflict;             // 409 is retried
    bool fallback_on_refusal;        // a content-policy refusal goes to the next target
} sj_verdict_rules;

extern const sj_verdict_rules sj_verdict_rules_default;

typedef struct sj_attempt_facts {
    sj_end end;
    int status;               // 0: no answer head
    bool generation;          // POST to a generation path: inspected, repeats freely
    bool inspected;           // finding is set (200-class whole JSON, or a stream's first event)
    sj_finding finding;       // of a whole answer; SJ_FINDING_ERROR also for a stream that begins with an error event
    bool stream_incomplete;   // framing ended cleanly, the protocol did not
    const char *error_code;   // of the answer's error object, "" when none; borrowed
    const char *error_message;// likewise; used to recognise context-length and policy wordings
    sj_should_retry should_retry;
} sj_attempt_facts;

typedef struct sj_verdict {
    sj_class class;
    sj_effect breaker;
    bool retry_here;   // may be tried again on the same target (rules, x-should-retry and class agree)
    bool next_target;  // may be answered by the next target of the chain
    bool free_retry;   // one immediate retry outside the attempt limit
    bool own_side;     // feeds the global breaker: DNS, no route, connect
    bool alert;        // worth a warning to a person: credential, misconfigured
    bool extra_step;   // 504: one exponential step more
    int status;        // the status it counts as: the real one, or the code's (429 for rate_limit, 500 ...), 0 without any
    char reason[32];   // short word for trail, log and metrics: "503", "timeout", "reset", "refused", "empty", "error:rate_limit", ...
} sj_verdict;

sj_verdict sj_verdict_of(const sj_attempt_facts *facts, const sj_verdict_rules *rules);
// The caller has to change something before it can succeed: nobody else's answer may stand in for such an error (BEHAVIOUR 11).
bool sj_class_is_callers(sj_class class);
const char *sj_class_name(sj_class class); // snake_case, for metrics

#endif
