#include "refusal.h"

#include "json_span.h"

#include <assert.h>

static const struct {
    int status;
    bool shed;
    const char *code;
} table[] = {
    [SJ_REFUSAL_NONE] = {0, false, ""},
    [SJ_REFUSAL_BAD_REQUEST] = {400, false, "bad_request"},
    [SJ_REFUSAL_UNAUTHORIZED] = {401, false, "unauthorized"},
    [SJ_REFUSAL_NOT_FOUND] = {404, false, "not_found"},
    [SJ_REFUSAL_BODY_TOO_LARGE] = {413, false, "body_too_large"},
    [SJ_REFUSAL_NOT_IMPLEMENTED] = {501, false, "not_implemented"},
    [SJ_REFUSAL_UPSTREAM_UNREACHABLE] = {502, false, "upstream_unreachable"},
    [SJ_REFUSAL_MAX_RETRIES_EXCEEDED] = {502, false, "max_retries_exceeded"},
    [SJ_REFUSAL_STREAM_BROKEN] = {502, false, "stream_broken"},
    [SJ_REFUSAL_CIRCUIT_OPEN] = {503, false, "circuit_open"},
    [SJ_REFUSAL_QUEUE_FULL] = {503, true, "queue_full"},
    [SJ_REFUSAL_QUEUE_TIMEOUT] = {503, false, "queue_timeout"},
    [SJ_REFUSAL_OVERLOADED] = {503, true, "overloaded"},
    [SJ_REFUSAL_SHUTTING_DOWN] = {503, true, "shutting_down"},
    [SJ_REFUSAL_TIMEOUT_MAX_RETRIES] = {504, false, "timeout_max_retries"},
    [SJ_REFUSAL_DEADLINE_EXCEEDED] = {504, false, "deadline_exceeded"},
};
_Static_assert(sizeof table / sizeof *table == SJ_REFUSAL_COUNT, "every refusal has its row");

int sj_refusal_status(sj_refusal refusal) {
    assert(refusal < SJ_REFUSAL_COUNT);
    return table[refusal].status;
}

const char *sj_refusal_code(sj_refusal refusal) {
    assert(refusal < SJ_REFUSAL_COUNT);
    return table[refusal].code;
}

bool sj_refusal_is_shed(sj_refusal refusal) {
    assert(refusal < SJ_REFUSAL_COUNT);
    return table[refusal].shed;
}

bool sj_refusal_body(sj_refusal refusal, const char *message, sj_buffer *out) {
    size_t start = out->n;
    if (sj_buffer_text(out, "{\"error\": {\"message\": ") &&
        sj_json_encode_string(sj_slice_of(message), out) &&
        sj_buffer_printf(out, ", \"type\": \"stormjib_error\", \"param\": null, \"code\": \"%s\"}}\n",
                         sj_refusal_code(refusal)))
        return true;
    out->n = start;
    return false;
}
