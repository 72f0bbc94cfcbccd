// What is known of one exchange when it is over: the source of its access-log line and of its metrics. Borrowed strings, filled for one call.
// Holds no secret: no header values but ids, no query string, no body.
#ifndef SJ_RECORD_H
#define SJ_RECORD_H

#include "cost.h"
#include "journey.h"

typedef enum sj_result {
    SJ_RESULT_OK,          // the upstream's answer, whatever its status, went out whole
    SJ_RESULT_STALE,       // a stored answer, because nothing answered
    SJ_RESULT_DEGRADED,    // the configured text, likewise
    SJ_RESULT_REFUSED,     // our own error
    SJ_RESULT_BROKEN,      // committed, then broken off
    SJ_RESULT_CLIENT_GONE, // the client left first
    SJ_RESULT_COUNT,
} sj_result;

typedef struct sj_record {
    bool health; // somebody asked how we are: neither counted nor logged
    const char *request_id;
    const char *peer;
    sj_slice method;
    sj_slice path;        // without query
    const char *model;    // as the client asked; "" none
    const char *target;   // label of the answering (or last) target; "" none
    const char *fallback; // reason, "" none
    const char *trail;
    const char *coalesced; // id of the request that it joined, "" none
    const char *upstream_request_id; // x-request-id, "" none
    sj_result result;
    sj_refusal refusal;   // SJ_REFUSAL_NONE unless refused or broken
    int status;           // sent to the client; 0 none
    bool stream;
    int attempts, retries, rescues;
    int dropped_events;
    int64_t total_us, first_content_us; // for the client; -1 none
    int64_t drained_us; // for how long it was read on after he had left; 0 not
    int64_t wait_ms, queue_ms, upstream_ms;
    uint64_t bytes_in, bytes_out; // bodies
    sj_usage usage;
    sj_costs costs;
} sj_record;

#endif
