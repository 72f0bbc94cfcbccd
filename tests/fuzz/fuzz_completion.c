// The first byte chooses protocol and number of choices; the rest is read as a stream, as a whole answer and as an error text. Whatever it is:
// only known bits, no contradiction between them, strings that end, counts that are counts; and our own error event says "error" to ourselves.
#include "completion.h"
#include "json_scan.h"
#include "sse.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_state(const sj_completion *completion) {
    assert(memchr(completion->id, '\0', sizeof completion->id));
    assert(memchr(completion->error_code, '\0', sizeof completion->error_code));
    assert(memchr(completion->error_message, '\0', sizeof completion->error_message));
    for (const char *p = completion->error_message; *p; p++)
        assert((unsigned char)*p >= 0x20 && *p != 0x7f);
    assert(completion->usage.prompt_tokens >= -1 && completion->usage.completion_tokens >= -1);
    assert(completion->usage.total_tokens >= -1 && completion->usage.cached_tokens >= -1);
    assert(!(sj_completion_is_whole(completion) && sj_completion_lacks_only_done(completion)));
    for (int i = 0; i < 2; i++)
        assert((completion->choices_finished[i] & ~completion->choices_seen[i]) == 0);
}

static void check_event(sj_completion *completion, const sj_sse_event *event) {
    unsigned says = sj_completion_event(completion, event->name, event->data);
    assert(says < 1u << 5);
    assert(!(says & SJ_SAYS_NOT_JSON) || says == SJ_SAYS_NOT_JSON);
    assert(!(says & SJ_SAYS_ERROR) || says == SJ_SAYS_ERROR);
    assert(!(says & SJ_SAYS_DONE) || completion->done);
    bool known = completion->protocol != SJ_PROTOCOL_OPAQUE && completion->protocol != SJ_PROTOCOL_JSON;
    bool json = sj_json_check(event->data) == SJ_JSON_WHOLE;
    assert(!(says & SJ_SAYS_NOT_JSON) || (known && !json));
    check_state(completion);
}

static void read_stream(sj_protocol protocol, int choices, sj_slice text) {
    sj_completion completion;
    sj_completion_init(&completion, protocol, choices);
    sj_sse sse;
    sj_sse_event event;
    sj_sse_init(&sse, 1 << 20);
    while (sj_sse_next(&sse, &text, &event))
        if (event.has_data)
            check_event(&completion, &event);
    while (sj_sse_rest(&sse, &event))
        if (event.has_data)
            check_event(&completion, &event);
    sj_sse_free(&sse);
}

static void read_answer(sj_protocol protocol, sj_slice text) {
    sj_completion completion;
    sj_completion_init(&completion, protocol, 1);
    sj_finding finding = sj_completion_answer(&completion, text);
    check_state(&completion);
    sj_json_state state = sj_json_check(text);
    // A byte order mark and white space around the answer are taken off before it is judged.
    bool bare = text.n && !sj_slice_starts(text, SJ_SLICE("\xef\xbb\xbf")) &&
                !memchr(" \t\r\n", text.p[text.n - 1], 4);
    if (protocol != SJ_PROTOCOL_OPAQUE && bare) {
        assert(finding != SJ_FINDING_TRUNCATED || state == SJ_JSON_CUT);
        assert(finding != SJ_FINDING_NOT_JSON || state == SJ_JSON_WRONG);
        assert((finding != SJ_FINDING_GOOD && finding != SJ_FINDING_ERROR) || state == SJ_JSON_WHOLE);
    }
    sj_completion_error_of(&completion, text);
    check_state(&completion);
}

static void write_error(sj_protocol protocol, sj_slice text) {
    char *message = malloc(text.n + 1);
    assert(message);
    memcpy(message, text.p, text.n);
    message[text.n] = '\0';
    sj_buffer out = sj_buffer_with_max(text.n * 12 + 1000);
    bool fits = sj_completion_error_event(protocol, message, message, &out);
    assert(fits);
    sj_completion completion;
    sj_completion_init(&completion, protocol, 1);
    sj_sse sse;
    sj_sse_event event;
    sj_sse_init(&sse, 1 << 24);
    sj_slice input = sj_buffer_slice(&out);
    if (out.n) {
        bool whole = sj_sse_next(&sse, &input, &event);
        assert(whole && input.n == 0);
        assert(sj_completion_event(&completion, event.name, event.data) == SJ_SAYS_ERROR);
    }
    sj_sse_free(&sse);
    sj_buffer_free(&out);
    free(message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    sj_protocol protocol = (sj_protocol)(data[0] % (SJ_PROTOCOL_JSON + 1));
    sj_slice text = {(const char *)data + 1, size - 1};
    (void)sj_protocol_of(text);
    read_stream(protocol, data[0] / 8, text);
    read_answer(protocol, text);
    write_error(protocol, text);
    return 0;
}
