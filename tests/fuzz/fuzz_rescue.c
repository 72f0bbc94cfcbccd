// The first byte chooses protocol and mode, the second where the first stream breaks; the rest are two streams, parted by a NUL. Whatever they
// say: memory stays in its bound, what goes on is JSON, a stream that diverged stays so. And a chat stream that is replayed against its own
// beginning goes on, and then the client has exactly all of it: replayed once more, nothing is new.
#include "json_scan.h"
#include "rescue.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_EVENT = 1 << 16, MAX_TRANSCRIPT = 4096 };

static bool is_done(sj_slice data) {
    return sj_slice_starts(sj_slice_trim(data), SJ_SLICE("[DONE]"));
}

// Ends before its [DONE], if it has one.
static sj_transcript *pass(sj_protocol protocol, sj_slice text, size_t events, bool *done) {
    sj_transcript *t = sj_transcript_new(protocol, MAX_TRANSCRIPT);
    sj_sse sse;
    sj_sse_event event;
    sj_sse_init(&sse, MAX_EVENT);
    *done = false;
    for (size_t i = 0; i < events && sj_sse_next(&sse, &text, &event); i++) {
        *done |= event.has_data && is_done(event.data);
        sj_transcript_event(t, &event);
        assert(sj_transcript_bytes(t) <= MAX_TRANSCRIPT);
    }
    sj_sse_free(&sse);
    return t;
}

static void check_bytes(const sj_sse_event *said, sj_slice bytes) {
    sj_sse sse;
    sj_sse_event event;
    sj_slice before = SJ_SLICE(":\n\n"); // the client is past the start of its stream
    sj_sse_init(&sse, MAX_EVENT * 8);
    (void)sj_sse_next(&sse, &before, &event);
    assert(bytes.n > 0 || said->raw.n == 3); // but for a byte order mark
    while (said->has_data && sj_sse_next(&sse, &bytes, &event)) {
        if (!event.has_data || is_done(event.data))
            continue;
        assert(sj_json_check(event.data) == SJ_JSON_WHOLE);
        assert(is_done(said->data) || sj_json_check(said->data) == SJ_JSON_WHOLE);
    }
    sj_sse_free(&sse);
}

typedef struct replayed {
    bool diverged, caught_up;
    int emitted; // events with data
} replayed;

static replayed replay(sj_transcript *t, sj_slice text, sj_replay_mode mode) {
    replayed result = {0};
    sj_replay *replay = sj_replay_new(t, mode);
    assert(!replay == !sj_transcript_is_complete(t));
    if (!replay)
        return result;
    sj_sse sse;
    sj_sse_event event;
    sj_sse_init(&sse, MAX_EVENT);
    while (sj_sse_next(&sse, &text, &event)) {
        sj_slice bytes;
        sj_replay_outcome outcome = sj_replay_event(replay, &event, &bytes);
        assert(!result.diverged || outcome == SJ_REPLAY_DIVERGED);
        assert(outcome == SJ_REPLAY_EMIT || bytes.n == 0);
        if (outcome == SJ_REPLAY_EMIT && !event.oversize)
            check_bytes(&event, bytes);
        result.diverged = outcome == SJ_REPLAY_DIVERGED;
        result.emitted += outcome == SJ_REPLAY_EMIT && event.has_data;
        assert(sj_transcript_bytes(t) <= MAX_TRANSCRIPT);
    }
    result.caught_up = sj_replay_has_caught_up(replay);
    sj_sse_free(&sse);
    sj_replay_free(&replay);
    return result;
}

static void against_itself(sj_protocol protocol, sj_slice text, size_t events) {
    bool done;
    sj_transcript *t = pass(protocol, text, SIZE_MAX, &done);
    bool complete = sj_transcript_is_complete(t);
    sj_transcript_free(&t);
    t = pass(protocol, text, events, &done);
    if (complete && !memmem(text.p, text.n, "[DONE]", 6)) {
        replayed first = replay(t, text, SJ_REPLAY_AGAIN);
        if (!first.diverged && sj_transcript_is_complete(t)) {
            replayed second = replay(t, text, SJ_REPLAY_AGAIN);
            assert(!second.diverged && second.caught_up);
        }
    }
    sj_transcript_free(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const sj_protocol protocols[] = {SJ_PROTOCOL_CHAT, SJ_PROTOCOL_COMPLETIONS, SJ_PROTOCOL_RESPONSES};
    if (size < 3)
        return 0;
    sj_protocol protocol = protocols[data[0] % 3];
    sj_replay_mode mode = data[0] & 4 ? SJ_REPLAY_CONTINUE : SJ_REPLAY_AGAIN;
    sj_slice text = {(const char *)data + 2, size - 2};
    const char *parting = memchr(text.p, '\0', text.n);
    sj_slice first = {text.p, parting ? (size_t)(parting - text.p) : text.n};
    sj_slice second = parting ? sj_slice_from(text, first.n + 1) : first;
    bool done;
    sj_transcript *t = pass(protocol, first, data[1], &done);
    (void)replay(t, second, mode);
    sj_buffer body = sj_buffer_with_max(MAX_EVENT * 8);
    if (sj_continuation_body(t, second, (sj_prefill_form)(data[0] / 8 % 4), &body))
        assert(sj_json_check(sj_buffer_slice(&body)) == SJ_JSON_WHOLE);
    else
        assert(body.n == 0);
    sj_buffer_free(&body);
    sj_transcript_free(&t);
    if (protocol != SJ_PROTOCOL_RESPONSES)
        against_itself(protocol, first, data[1]);
    return 0;
}
