#include "answer.h"

#include "journey.h"

#include <errno.h>
#include <stdlib.h>

enum {
    HELD_SLACK = 64 * 1024,
    INFLATED_MAX = 16 * 1024 * 1024,
    VERIFIED_MAX = 8 * 1024 * 1024,
    TRANSCRIPT_MAX = SJ_TRANSCRIPT_MAX_BYTES / 2,
};

void sj_answer_init(sj_answer *answer, const sj_answer_context *context) {
    size_t held_max =
        context->verified && context->inspect_max < VERIFIED_MAX ? VERIFIED_MAX : context->inspect_max;
    // One event may be as long as inspect_max, and come when almost as much as allowed is held already.
    *answer = (sj_answer){.context = *context,
                          .content_length = -1,
                          .held = sj_buffer_with_max(held_max + context->inspect_max + HELD_SLACK)};
    sj_headers_init(&answer->headers);
    sj_completion_init(&answer->completion, context->protocol, context->choices);
}

void sj_answer_free(sj_answer *answer) {
    sj_headers_free(&answer->headers);
    sj_buffer_free(&answer->held);
    if (answer->mode == SJ_ANSWER_STREAM)
        sj_sse_free(&answer->sse);
    sj_transcript_free(&answer->transcript);
    sj_replay_free(&answer->replay);
    *answer = (sj_answer){0};
}

static bool is_event_stream(const sj_headers *headers) {
    sj_slice type = sj_headers_get(headers, "Content-Type");
    sj_slice sse = SJ_SLICE("text/event-stream");
    return type.n >= sse.n && sj_slice_equal_nocase((sj_slice){type.p, sse.n}, sse);
}

static bool has_event_protocol(sj_protocol protocol) {
    return protocol != SJ_PROTOCOL_OPAQUE && protocol != SJ_PROTOCOL_JSON;
}

static sj_answer_mode mode_for(const sj_answer *answer) {
    sj_coding coding = sj_coding_of(sj_headers_get(&answer->headers, "Content-Encoding"));
    if (answer->status >= 400)
        return SJ_ANSWER_WHOLE;
    if (!answer->context.generation || answer->status < 200 || answer->status >= 300 ||
        answer->context.protocol == SJ_PROTOCOL_OPAQUE)
        return SJ_ANSWER_OPAQUE;
    if (is_event_stream(&answer->headers))
        return coding == SJ_CODING_IDENTITY && has_event_protocol(answer->context.protocol)
                   ? SJ_ANSWER_STREAM
                   : SJ_ANSWER_OPAQUE;
    return coding == SJ_CODING_OTHER ? SJ_ANSWER_OPAQUE : SJ_ANSWER_WHOLE;
}

void sj_answer_head(sj_answer *answer, int status, const sj_headers *headers) {
    answer->status = status;
    for (size_t i = 0; i < headers->count; i++) {
        sj_header header = sj_headers_at(headers, i);
        if (!sj_headers_add(&answer->headers, header.name, header.value)) {
            answer->lost = answer->deaf = true;
            return;
        }
    }
    sj_slice length = sj_headers_get(headers, "Content-Length");
    if (length.n && !sj_headers_get(headers, "Transfer-Encoding").p) {
        char *end;
        errno = 0;
        long long value = strtoll(length.p, &end, 10);
        answer->content_length = errno || *end || value < 0 ? -1 : value;
    }
    answer->mode = mode_for(answer);
    if (answer->mode != SJ_ANSWER_STREAM)
        return;
    sj_sse_init(&answer->sse, answer->context.inspect_max);
    if (answer->replay)
        answer->committed = true;
    else if (answer->context.rescue)
        answer->transcript = sj_transcript_new(answer->context.protocol, TRANSCRIPT_MAX);
}

bool sj_answer_mends(sj_answer *answer, sj_transcript *transcript, sj_replay_mode mode) {
    answer->replay = sj_replay_new(transcript, mode);
    return answer->replay != NULL;
}

bool sj_answer_is_inspected(const sj_answer *answer) {
    return answer->mode == SJ_ANSWER_STREAM || answer->mode == SJ_ANSWER_WHOLE;
}

// ---- bytes ----------------------------------------------------------------------------------------------------------------------

static size_t hold_max(const sj_answer *answer) {
    bool verified = answer->context.verified && answer->mode == SJ_ANSWER_STREAM;
    return verified ? VERIFIED_MAX : answer->context.inspect_max;
}

// Beyond its bound the answer is let go as it is; until that is carried out its owner takes in no more reads.
static void keep(sj_answer *answer, sj_slice bytes, const sj_answer_listener *listener, void *owner) {
    answer->passed += bytes.n;
    if (answer->committed) {
        listener->on_bytes(owner, bytes);
        return;
    }
    if (!sj_buffer_add(&answer->held, bytes)) {
        answer->lost = answer->deaf = true; // no memory, or more than the slack
        return;
    }
    if (answer->held.n <= hold_max(answer) || answer->overflowed)
        return;
    answer->overflowed = true;
    if (answer->replay && answer->status < 400) { // it cannot be let go into the midst of a stream
        answer->deaf = true;
        listener->on_diverged(owner);
    } else
        listener->on_says(owner, SJ_SAYS_CONTENT | SJ_SAYS_OVERFLOW);
}

// Events that follow each other unchanged go on in one piece.
typedef struct run {
    sj_slice bytes;
    unsigned says;
} run;

static void flush_run(sj_answer *answer, run *r, const sj_answer_listener *listener, void *owner) {
    if (r->bytes.n)
        keep(answer, r->bytes, listener, owner);
    if (r->says)
        listener->on_says(owner, r->says);
    *r = (run){0};
}

static void extend_run(sj_answer *answer, run *r, sj_slice raw, const sj_answer_listener *listener,
                       void *owner) {
    if (r->bytes.n && r->bytes.p + r->bytes.n == raw.p) {
        r->bytes.n += raw.n;
        return;
    }
    flush_run(answer, r, listener, owner);
    r->bytes = raw;
}

static unsigned completeness(const sj_completion *completion) {
    if (sj_completion_is_whole(completion))
        return SJ_SAYS_WHOLE;
    return sj_completion_lacks_only_done(completion) ? SJ_SAYS_ALL_BUT_DONE : 0;
}

static void remember(sj_answer *answer, const sj_sse_event *event) {
    sj_transcript_event(answer->transcript, event);
    if (!sj_transcript_is_complete(answer->transcript))
        sj_transcript_free(&answer->transcript);
}

// Of what mends a stream: the part that the client lacks.
static void mend(sj_answer *answer, const sj_sse_event *event, unsigned says, run *r,
                 const sj_answer_listener *listener, void *owner) {
    sj_slice rest;
    switch (sj_replay_event(answer->replay, event, &rest)) {
    case SJ_REPLAY_SWALLOWED:
        r->says |= says ? (unsigned)SJ_SAYS_AGAIN : 0;
        return;
    case SJ_REPLAY_EMIT:
        extend_run(answer, r, rest, listener, owner);
        r->says |= says;
        if (rest.p + rest.n != event->raw.p + event->raw.n) // rewritten: it stands where the next event will
            flush_run(answer, r, listener, owner);
        return;
    case SJ_REPLAY_DIVERGED:
        flush_run(answer, r, listener, owner);
        answer->deaf = true;
        listener->on_diverged(owner);
        return;
    }
}

static void read_error(sj_answer *answer, const sj_sse_event *event, unsigned says, run *r,
                       const sj_answer_listener *listener, void *owner) {
    r->says |= says & ~(unsigned)SJ_SAYS_ERROR;
    flush_run(answer, r, listener, owner);
    if (listener->on_error(owner, answer->completion.error_code, answer->completion.error_message,
                           event->raw))
        keep(answer, event->raw, listener, owner);
}

static void read_event(sj_answer *answer, const sj_sse_event *event, run *r,
                       const sj_answer_listener *listener, void *owner) {
    unsigned says = 0;
    if (event->oversize)
        says = SJ_SAYS_CONTENT;
    else if (event->has_data)
        says = sj_completion_event(&answer->completion, event->name, event->data);
    if (says & SJ_SAYS_NOT_JSON) {
        answer->dropped_events++;
        return;
    }
    if (says & SJ_SAYS_ERROR) {
        read_error(answer, event, says, r, listener, owner);
        return;
    }
    if (says & (SJ_SAYS_FINISH | SJ_SAYS_DONE))
        says |= completeness(&answer->completion);
    if (answer->replay) {
        mend(answer, event, says, r, listener, owner);
        return;
    }
    if (answer->transcript)
        remember(answer, event);
    extend_run(answer, r, event->raw, listener, owner);
    r->says |= says;
}

static void feed_stream(sj_answer *answer, sj_slice bytes, const sj_answer_listener *listener, void *owner) {
    run r = {0};
    sj_sse_event event;
    while (!answer->deaf && sj_sse_next(&answer->sse, &bytes, &event)) {
        // An event put together from two reads lies in the splitter's buffer, which the next call reuses.
        bool copied = event.raw.p + event.raw.n != bytes.p;
        if (copied)
            flush_run(answer, &r, listener, owner);
        read_event(answer, &event, &r, listener, owner);
        if (copied)
            flush_run(answer, &r, listener, owner);
    }
    if (!answer->deaf)
        flush_run(answer, &r, listener, owner);
}

void sj_answer_feed(sj_answer *answer, sj_slice bytes, const sj_answer_listener *listener, void *owner) {
    if (answer->deaf)
        return;
    bool first = answer->bytes == 0;
    answer->bytes += bytes.n;
    if (answer->mode == SJ_ANSWER_STREAM) {
        feed_stream(answer, bytes, listener, owner);
        return;
    }
    keep(answer, bytes, listener, owner);
    if (first && answer->mode == SJ_ANSWER_OPAQUE)
        listener->on_says(owner, SJ_SAYS_CONTENT);
}

void sj_answer_end(sj_answer *answer, const sj_answer_listener *listener, void *owner) {
    sj_sse_event event;
    if (answer->mode != SJ_ANSWER_STREAM || answer->deaf || !sj_sse_rest(&answer->sse, &event))
        return;
    bool only_line_end = memchr("\r\n", *event.raw.p, 2) != NULL;
    if (!event.oversize && !event.has_data && !only_line_end && *event.raw.p != ':')
        return; // half a field's name
    run r = {0};
    uint64_t before = answer->passed;
    read_event(answer, &event, &r, listener, owner);
    flush_run(answer, &r, listener, owner);
    if (answer->passed > before && !only_line_end)
        answer->lacks_line_ends = event.raw.p[event.raw.n - 1] == '\n' ? 1 : 2;
}

// ---- what it was ----------------------------------------------------------------------------------------------------------------

static void inspect_whole(sj_answer *answer, sj_attempt_facts *facts) {
    sj_coding coding = sj_coding_of(sj_headers_get(&answer->headers, "Content-Encoding"));
    sj_slice body = sj_buffer_slice(&answer->held);
    sj_buffer plain = sj_buffer_with_max(INFLATED_MAX);
    bool readable = coding == SJ_CODING_IDENTITY;
    if (coding == SJ_CODING_GZIP || coding == SJ_CODING_DEFLATE) {
        readable = sj_inflate(coding, body, &plain);
        body = sj_buffer_slice(&plain);
    }
    bool damaged = !readable && coding != SJ_CODING_OTHER &&
                   plain.n < INFLATED_MAX / 2; // else it is only too large to look into
    if (damaged && answer->status < 300) {
        facts->inspected = true;
        facts->finding = SJ_FINDING_NOT_JSON;
    } else if (readable && answer->status >= 400)
        sj_completion_error_of(&answer->completion, body);
    else if (readable && answer->status < 300) {
        facts->inspected = true;
        facts->finding = sj_completion_answer(&answer->completion, body);
    }
    sj_buffer_free(&plain);
}

void sj_answer_facts(sj_answer *answer, sj_end end, sj_attempt_facts *facts) {
    *facts = (sj_attempt_facts){.end = end, .status = answer->status};
    if (answer->mode == SJ_ANSWER_WHOLE && end == SJ_END_WHOLE && !answer->overflowed)
        inspect_whole(answer, facts);
    if (answer->mode == SJ_ANSWER_STREAM && end == SJ_END_WHOLE)
        facts->stream_incomplete = !sj_answer_is_whole(answer) && !sj_answer_lacks_only_done(answer);
    facts->error_code = answer->completion.error_code;
    facts->error_message = answer->completion.error_message;
}

bool sj_answer_is_whole(const sj_answer *answer) {
    return answer->mode != SJ_ANSWER_STREAM || sj_completion_is_whole(&answer->completion);
}

sj_slice sj_answer_close_event(sj_answer *answer) {
    sj_slice closing = {"\n\n", (size_t)(answer->sse.in_oversize ? 2 : answer->lacks_line_ends)};
    answer->sse.in_oversize = false;
    answer->lacks_line_ends = 0;
    return closing;
}

bool sj_answer_lacks_only_done(const sj_answer *answer) {
    return answer->mode == SJ_ANSWER_STREAM && sj_completion_lacks_only_done(&answer->completion);
}
