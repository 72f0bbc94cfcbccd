// Our own errors, in OpenAI's shape (BEHAVIOUR 14). One table: code, status, whether an SDK may try again.
#ifndef SJ_REFUSAL_H
#define SJ_REFUSAL_H

#include "buffer.h"

typedef enum sj_refusal {
    SJ_REFUSAL_NONE,
    SJ_REFUSAL_BAD_REQUEST,
    SJ_REFUSAL_UNAUTHORIZED,
    SJ_REFUSAL_NOT_FOUND,
    SJ_REFUSAL_BODY_TOO_LARGE,
    SJ_REFUSAL_NOT_IMPLEMENTED,
    SJ_REFUSAL_UPSTREAM_UNREACHABLE,
    SJ_REFUSAL_MAX_RETRIES_EXCEEDED,
    SJ_REFUSAL_STREAM_BROKEN,
    SJ_REFUSAL_CIRCUIT_OPEN,
    SJ_REFUSAL_QUEUE_FULL,
    SJ_REFUSAL_QUEUE_TIMEOUT,
    SJ_REFUSAL_OVERLOADED,
    SJ_REFUSAL_SHUTTING_DOWN,
    SJ_REFUSAL_TIMEOUT_MAX_RETRIES,
    SJ_REFUSAL_DEADLINE_EXCEEDED,
    SJ_REFUSAL_COUNT,
} sj_refusal;

int sj_refusal_status(sj_refusal refusal);
const char *sj_refusal_code(sj_refusal refusal);
// The instant sheds, which `client_retries = "shed"` leaves to the client's own retries: queue_full, overloaded, shutting_down.
bool sj_refusal_is_shed(sj_refusal refusal);
// {"error": {"message", "type": "stormjib_error", "param": null, "code"}}; the message is escaped.
__attribute__((warn_unused_result)) bool sj_refusal_body(sj_refusal refusal, const char *message, sj_buffer *out);

#endif
