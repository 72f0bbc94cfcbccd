#include "exchange_keep.h"

#include <stdlib.h>

// A stream that broke after commit (BEHAVIOUR 12): the journey says where the rest comes from, the answer lets through what the client lacks, and here
// is what stays between the two.
enum {
    CONTINUED_BODY_MAX = 8 * 1024 * 1024,
    CONTINUATION_SLACK = 4 * 1024 * 1024, // of the partial text, escaped
    CAUSE_MAX = 64 * 1024,
};

static const sj_transcript *transcript_of(const sj_exchange *e, const leg *l) {
    return e->rescue && e->rescue->transcript ? e->rescue->transcript : l->answer.transcript;
}

static bool has_prefill(const sj_exchange *e) {
    bool any = false;
    for (size_t i = 0; i < e->hop_count; i++)
        any |= e->hops[i].prefill;
    return any;
}

static bool make_continuation(const sj_exchange *e, const sj_transcript *transcript, sj_prefill_form form,
                              sj_buffer *out) {
    sj_slice body = e->body ? sj_body_bytes(e->body) : (sj_slice){NULL, 0};
    sj_buffer_free(out);
    *out = sj_buffer_with_max(body.n + CONTINUATION_SLACK);
    return body.n && body.n <= CONTINUED_BODY_MAX && sj_continuation_body(transcript, body, form, out);
}

// Only then is it worth looking at what could be asked next: a continuation's body is long.
static bool may_break(const sj_exchange *e, const leg *l) {
    const sj_answer *answer = &l->answer;
    bool runs = answer->committed && !sj_answer_is_whole(answer) && !sj_answer_lacks_only_done(answer);
    return runs || sj_journey_is_mending(e->journey);
}

void exchange_tell_mends(sj_exchange *e, const leg *l) {
    if (!e->context.rescue || !may_break(e, l))
        return;
    const sj_transcript *transcript = transcript_of(e, l);
    bool replay = sj_transcript_is_complete(transcript), go_on = false;
    if (replay && has_prefill(e)) {
        sj_buffer body = sj_buffer_with_max(0);
        go_on = make_continuation(e, transcript, SJ_PREFILL_PLAIN, &body);
        sj_buffer_free(&body);
    }
    sj_journey_can_mend(e->journey, replay, go_on);
}

static bool ensure(sj_exchange *e) {
    if (!e->rescue)
        e->rescue = calloc(1, sizeof *e->rescue);
    return e->rescue != NULL;
}

void exchange_begin_mend(sj_exchange *e, leg *l) {
    e->head_sent = true;
    exchange_keep_drop(e); // of a mended stream nobody can say which model it is
    if (!l)
        return;
    exchange_close_event(e, l);
    if (ensure(e) && !e->rescue->transcript) {
        e->rescue->transcript = l->answer.transcript;
        l->answer.transcript = NULL;
    }
    exchange_drop_leg(e, l);
}

void exchange_keep_cause(sj_exchange *e, sj_slice raw) {
    if (!ensure(e))
        return;
    sj_buffer *cause = &e->rescue->cause;
    sj_buffer_free(cause);
    *cause = sj_buffer_with_max(CAUSE_MAX);
    while (raw.n && (raw.p[raw.n - 1] == '\n' || raw.p[raw.n - 1] == '\r'))
        raw.n--;
    if (!sj_buffer_add(cause, raw) || !sj_buffer_text(cause, "\n\n"))
        sj_buffer_free(cause);
}

// "https://host:port"
static sj_slice host_of(const char *origin) {
    const char *start = strstr(origin, "://");
    start = start ? start + 3 : origin;
    return (sj_slice){start, strcspn(start, ":/")};
}

bool exchange_mend_with(sj_exchange *e, leg *l, sj_mend mend) {
    if (!e->rescue || !e->rescue->transcript)
        return false;
    const sj_upstream_config *upstream = &exchange_config(e)->upstreams[e->requests[l->hop].upstream];
    l->continues = mend == SJ_MEND_CONTINUE;
    if (l->continues) {
        sj_prefill_form form = sj_prefill_form_of(host_of(upstream->origin));
        if (!make_continuation(e, e->rescue->transcript, form, &e->rescue->body))
            return false;
        sj_request_facts_read(sj_buffer_slice(&e->rescue->body), &e->rescue->body_facts);
    }
    return sj_answer_mends(&l->answer, e->rescue->transcript,
                           l->continues ? SJ_REPLAY_CONTINUE : SJ_REPLAY_AGAIN);
}

sj_slice exchange_continuation(const sj_exchange *e, const sj_request_facts **facts) {
    *facts = &e->rescue->body_facts;
    return sj_buffer_slice(&e->rescue->body);
}

void exchange_mended(sj_exchange *e, leg *l) {
    sj_buffer_free(&e->rescue->cause);
    e->answer_hop = l->hop;
    sj_headers_free(&l->answer.headers);
}

void exchange_free_rescue(sj_exchange *e) {
    if (!e->rescue)
        return;
    sj_transcript_free(&e->rescue->transcript);
    sj_buffer_free(&e->rescue->cause);
    sj_buffer_free(&e->rescue->body);
    free(e->rescue);
    e->rescue = NULL;
}
