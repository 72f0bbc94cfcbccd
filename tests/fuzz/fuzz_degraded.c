// A request body read for the form of its answer, and the answer built from it with the body's own bytes as text and model. Whatever they are:
// the wish stays in its bounds, what is built is whole JSON, or events that are each whole JSON and together a complete answer.
#include "degraded.h"
#include "json_scan.h"
#include "sse.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_BODY = 1 << 12 };

static void check_stream(const sj_degraded_answer *answer, sj_slice bytes) {
    sj_completion completion;
    sj_sse sse;
    sj_sse_event event;
    sj_completion_init(&completion, answer->protocol, answer->wish.choices);
    sj_sse_init(&sse, SJ_DEGRADED_MAX_BYTES);
    while (sj_sse_next(&sse, &bytes, &event)) {
        bool done = sj_slice_equal(event.data, SJ_SLICE("[DONE]"));
        assert(done || sj_json_check(event.data) == SJ_JSON_WHOLE);
        assert(
            !(sj_completion_event(&completion, event.name, event.data) & (SJ_SAYS_NOT_JSON | SJ_SAYS_ERROR)));
    }
    assert(bytes.n == 0 && sj_completion_is_whole(&completion));
    sj_sse_free(&sse);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const sj_protocol protocols[] = {SJ_PROTOCOL_CHAT, SJ_PROTOCOL_COMPLETIONS, SJ_PROTOCOL_RESPONSES,
                                            SJ_PROTOCOL_MESSAGES};
    if (size < 1 || size > MAX_BODY)
        return 0;
    sj_slice body = {(const char *)data + 1, size - 1};
    char *text = strndup(body.n ? body.p : "", body.n);
    sj_degraded_answer answer = {.protocol = protocols[data[0] & 3], .text = text, .model = text, .id = size};
    sj_degraded_read(body, &answer.wish);
    assert(answer.wish.choices >= 1 && answer.wish.choices <= SJ_DEGRADED_MAX_CHOICES);
    answer.wish.stream |= data[0] & 4;
    sj_buffer out = sj_buffer_with_max(SJ_DEGRADED_MAX_BYTES);
    if (sj_degraded_build(&answer, &out) && answer.wish.stream && *text)
        check_stream(&answer, sj_buffer_slice(&out));
    else if (out.n && !answer.wish.stream)
        assert(sj_json_check(sj_buffer_slice(&out)) == SJ_JSON_WHOLE);
    sj_buffer_free(&out);
    free(text);
    return 0;
}
