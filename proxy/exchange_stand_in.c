#include "exchange_stand_in.h"

#include "degraded.h"
#include "exchange_keep.h"
#include "stale.h"
#include "text.h"

#include <time.h>

enum { WHY_MAX = 24 };

// NULL: no error, or the caller's own.
static const char *why(const sj_exchange *e, const sj_step *step, char word[WHY_MAX]) {
    if (step->kind == SJ_STEP_REFUSE)
        return sj_stale_detail(step->refusal);
    if (step->class == SJ_CLASS_SUCCESS || sj_class_is_callers(step->class))
        return NULL;
    int status = e->saved.status;
    for (int i = 0; step->kind == SJ_STEP_DELIVER && i < LEGS_MAX; i++)
        if (e->legs[i].attempt == step->attempt)
            status = e->legs[i].answer.status;
    sj_text text = sj_text_into(word, WHY_MAX);
    sj_text_put(&text, "upstream-");
    if (status >= 400)
        sj_text_int(&text, status);
    else
        sj_text_put(&text, "error"); // in a 200
    return word;
}

static void tell(sj_exchange *e, sj_note_kind kind, const char *target, const char *reason, int64_t age_ms) {
    sj_note note = {.kind = kind, .ms = age_ms};
    sj_text_copy(note.reason, sizeof note.reason, reason);
    sj_metrics_note(e->worker->metrics, target, &note);
    sj_log_note(e->worker->log, e->request_id, target, &note);
}

static void answered(sj_exchange *e, exchange_end end) {
    exchange_set_end(e, end, SJ_REFUSAL_NONE);
    if (e->first_content_ns < 0)
        e->first_content_ns = (int64_t)uv_hrtime();
}

// ---- a stored answer --------------------------------------------------------------------------------------

// The head has gone out: what it would have said is said in a comment.
static void replay_inside(sj_exchange *e, const sj_stored_answer *stored, const char *reason) {
    char status[SJ_STALE_STATUS], digits[24];
    int64_t age_s = sj_stale_age_s(stored, exchange_now(e));
    sj_text text = sj_text_into(digits, sizeof digits);
    sj_text_int(&text, age_s);
    sj_stale_status(age_s, reason, status);
    (void)exchange_out_write(e, SJ_SLICE(": Age: "));
    (void)exchange_out_write(e, sj_slice_of(digits));
    (void)exchange_out_write(e, SJ_SLICE("\n: Cache-Status: "));
    (void)exchange_out_write(e, sj_slice_of(status));
    (void)exchange_out_write(e, SJ_SLICE("\n\n"));
    (void)exchange_out_write(e, stored->body);
    exchange_out_finish(e, NULL);
}

static bool replay(sj_exchange *e, const sj_stored_answer *stored, const char *reason) {
    char target[SJ_STALE_TARGET];
    sj_headers headers;
    sj_headers_init(&headers);
    bool ok = sj_stale_serve(stored, reason, exchange_now(e), &headers, target) &&
              (!e->head_sent || stored->stream);
    if (ok) {
        answered(e, END_STALE);
        tell(e, SJ_NOTE_STALE_SERVED, target, reason, exchange_now(e) - stored->stored_ms);
    }
    if (ok && e->head_sent)
        replay_inside(e, stored, reason);
    else if (ok) {
        exchange_add_labels(e, &headers, target);
        exchange_out_answer(e, stored->status, &headers, stored->body);
    }
    sj_headers_free(&headers);
    return ok;
}

static bool serve_stored(sj_exchange *e, const char *reason) {
    if (!exchange_has_question(e) || !sj_stale_wish_of(e->headers).may_serve)
        return false;
    sj_buffer room;
    sj_answer_key key;
    const sj_stored_answer *stored = NULL;
    if (exchange_question(e, &room, &key))
        stored =
            sj_answer_store_get(sj_setup_store(e->setup), &key, e->route->stale_if_error_ms, exchange_now(e));
    bool served = stored && replay(e, stored, reason);
    sj_stored_answer_unref(&stored);
    sj_buffer_free(&room);
    return served;
}

// ---- a configured text ------------------------------------------------------------------------------------

static bool build(sj_exchange *e, sj_buffer *out) {
    sj_degraded_answer answer = {
        .protocol = e->context.protocol,
        .text = e->route->degraded,
        .model = e->facts.model,
        .id = sj_rng_next(&e->worker->rng),
        .unix_s = (int64_t)time(NULL),
    };
    if (!e->facts.is_object)
        return false;
    sj_degraded_read(sj_body_bytes(e->body), &answer.wish);
    return sj_degraded_fits(answer.protocol, &answer.wish, answer.text) && sj_degraded_build(&answer, out);
}

static bool serve_degraded(sj_exchange *e, const char *reason) {
    sj_buffer body = sj_buffer_with_max(SJ_DEGRADED_MAX_BYTES);
    sj_headers headers;
    sj_headers_init(&headers);
    sj_slice type =
        e->facts.stream ? SJ_SLICE("text/event-stream; charset=utf-8") : SJ_SLICE("application/json");
    bool ok = build(e, &body) && sj_headers_add(&headers, SJ_SLICE("Content-Type"), type) &&
              sj_headers_add(&headers, SJ_SLICE("Cache-Control"), SJ_SLICE("no-store")) &&
              sj_headers_add(&headers, SJ_SLICE("x-stormjib-degraded"), SJ_SLICE("true"));
    if (ok) {
        answered(e, END_DEGRADED);
        tell(e, SJ_NOTE_DEGRADED_SERVED, e->hops[sj_journey_read(e->journey).hop].label, reason, 0);
    }
    if (ok && e->head_sent) {
        (void)exchange_out_write(e, SJ_SLICE(": x-stormjib-degraded: true\n\n"));
        (void)exchange_out_write(e, sj_buffer_slice(&body));
        exchange_out_finish(e, NULL);
    } else if (ok) {
        exchange_add_labels(e, &headers, NULL);
        exchange_out_answer(e, 200, &headers, sj_buffer_slice(&body));
    }
    sj_headers_free(&headers);
    sj_buffer_free(&body);
    return ok;
}

bool exchange_stand_in(sj_exchange *e, const sj_step *step) {
    char word[WHY_MAX];
    const char *reason = e->call && e->context.generation ? why(e, step, word) : NULL;
    if (!reason)
        return false;
    return serve_stored(e, reason) || (e->route->degraded && serve_degraded(e, reason));
}
