// What an answer says about when, and whether, to try again (BEHAVIOUR 5), and what the client says about its own patience (6).
// Sources: openai-python / openai-node (retry-after-ms, x-should-retry, x-stainless-*), RFC 9110 10.2.3 and 5.6.7, OpenAI's
// rate-limit headers (Go durations), agentgateway (x-ratelimit-reset).
#ifndef SJ_RETRY_HINT_H
#define SJ_RETRY_HINT_H

#include "headers.h"
#include "http_date.h"

#include <stdint.h>

typedef enum sj_hint_source {
    SJ_HINT_NONE,
    SJ_HINT_RETRY_AFTER_MS,
    SJ_HINT_RETRY_AFTER,
    SJ_HINT_RATELIMIT_RESET_DIMENSION, // x-ratelimit-reset-requests / -tokens / any other
    SJ_HINT_RATELIMIT_RESET,
} sj_hint_source;

typedef enum sj_should_retry { SJ_SHOULD_RETRY_UNSAID, SJ_SHOULD_RETRY_NO, SJ_SHOULD_RETRY_YES } sj_should_retry;

typedef struct sj_retry_hint {
    int64_t wait_ms; // > 0 when source is not SJ_HINT_NONE; the bare hint, without spread
    sj_hint_source source;
    sj_should_retry should_retry;
    int64_t exhausted_ms; // of an answer that is no 429: nothing is left until then, says a dimension's remaining 0; 0 none
} sj_retry_hint;

// Retry-After and its -ms forms are read from every answer; the rate-limit resets only from a 429, since elsewhere they only describe the quota.
// wall_now_ms: Unix time, used for HTTP-dates when the answer has no valid Date, and for epoch resets.
sj_retry_hint sj_retry_hint_read(const sj_headers *answer, int status, int64_t wall_now_ms);
const char *sj_hint_source_name(sj_hint_source source);

typedef struct sj_client_patience {
    int64_t timeout_ms; // what the proxy may use: t' = max(0.9 t, t - 1 s) of the SDK headers, x-stormjib-deadline as it is; 0: unsaid
    int retry_count;    // x-stainless-retry-count, 0 when absent or malformed
} sj_client_patience;

// X-Stainless-Timeout / x-stainless-read-timeout are seconds ("600", "59.5"); x-stormjib-deadline is a duration or bare seconds.
// The smallest positive one holds; 0, NaN and malformed are ignored.
sj_client_patience sj_client_patience_read(const sj_headers *request);

#endif
