#include "exchange_keep.h"

#include "http_rules.h"
#include "text.h"

#include <stdlib.h>

enum { TRAIL_TEXT_MAX = 1024 };

static const char NO_STREAM[] =
    "The upstream answered with something else than a stream after the stream had begun.";

static bool add_text(sj_headers *headers, const char *name, const char *value) {
    return sj_headers_add(headers, sj_slice_of(name), sj_slice_of(value));
}

static bool add_number(sj_headers *headers, const char *name, int64_t number) {
    char digits[24];
    sj_text text = sj_text_into(digits, sizeof digits);
    sj_text_int(&text, number);
    return add_text(headers, name, digits);
}

// BEHAVIOUR 14. Labels are a service: what does not fit is left out.
void exchange_add_labels(const sj_exchange *e, sj_headers *headers, const char *target) {
    if (!exchange_config(e)->labels)
        return;
    (void)add_text(headers, "x-stormjib-request-id", e->request_id);
    if (!e->journey)
        return;
    sj_journey_summary summary = sj_journey_read(e->journey);
    if (target)
        (void)add_text(headers, "x-stormjib-target", target);
    (void)add_number(headers, "x-stormjib-attempts", summary.attempts_sent);
    if (summary.fallback)
        (void)add_text(headers, "x-stormjib-fallback", summary.fallback);
    char trail[TRAIL_TEXT_MAX], timing[128];
    sj_journey_trail(e->journey, exchange_now(e), trail, sizeof trail);
    (void)add_text(headers, "x-stormjib-trail", trail);
    sj_text text = sj_text_into(timing, sizeof timing);
    sj_text_put(&text, "queue;dur=");
    sj_text_int(&text, summary.queue_ms);
    sj_text_put(&text, ", wait;dur=");
    sj_text_int(&text, summary.wait_ms);
    sj_text_put(&text, ", upstream;dur=");
    sj_text_int(&text, summary.upstream_ms);
    (void)add_text(headers, "Server-Timing", timing);
}

// Errors of the classes that we retry leave with x-should-retry: false, so that SDKs do not multiply what has been tried here (BEHAVIOUR 6).
static bool forbids_client_retry(const sj_exchange *e, int status, size_t hop) {
    sj_client_retries mode = e->route ? e->route->client_retries : SJ_CLIENT_RETRIES_NEVER;
    if (status < 400 || mode == SJ_CLIENT_RETRIES_PASSTHROUGH)
        return false;
    return status >= 500 || sj_status_set_has(&e->hops[hop].retry->rules.statuses, status);
}

static bool answer_headers(const sj_exchange *e, int status, const sj_headers *from, size_t hop,
                           sj_headers *out) {
    bool forbid = forbids_client_retry(e, status, hop);
    bool ok = sj_http_forward_answer(from, out);
    for (size_t i = out->count; forbid && i-- > 0;) {
        if (sj_slice_equal_nocase(sj_headers_at(out, i).name, SJ_SLICE("x-should-retry")))
            sj_headers_remove(out, i);
    }
    if (ok && forbid)
        ok = add_text(out, "x-should-retry", "false");
    exchange_add_labels(e, out, e->hops[hop].label);
    return ok;
}

// ---- after a sign of life -------------------------------------------------------------------------------------------------------

// The head went out with the first one: 200, an event stream. From then on whatever happens is told inside the stream.
static sj_headers early_headers(const sj_exchange *e) {
    sj_headers headers;
    sj_headers_init(&headers);
    (void)add_text(&headers, "Content-Type", "text/event-stream; charset=utf-8");
    (void)add_text(&headers, "Cache-Control", "no-cache");
    exchange_add_labels(e, &headers, e->hops[sj_journey_read(e->journey).hop].label);
    return headers;
}

static void begin_early(sj_exchange *e) {
    sj_headers headers = early_headers(e);
    e->head_sent = true;
    exchange_out_begin(e, 200, &headers, -1);
    sj_headers_free(&headers);
}

void exchange_early_head_on_tape(sj_exchange *e) {
    sj_headers headers = early_headers(e);
    exchange_head_on_tape(e, 200, &headers, -1);
    sj_headers_free(&headers);
}

static void write_text(sj_exchange *e, sj_slice text) {
    (void)exchange_out_write(e, text);
}

void exchange_keepalive(sj_exchange *e) {
    if (!e->head_sent)
        begin_early(e);
    exchange_out_sign(e, SJ_SLICE(": keepalive\n\n"));
}

static void break_with(sj_exchange *e, sj_refusal refusal, const char *message) {
    sj_buffer event = sj_buffer_with_max(8192);
    exchange_set_end(e, END_BROKEN, refusal);
    if (sj_completion_error_event(e->context.protocol, sj_refusal_code(refusal), message, &event))
        write_text(e, sj_buffer_slice(&event));
    exchange_out_cut(e);
    sj_buffer_free(&event);
}

static bool any_member(void *context, sj_slice key, sj_slice value) {
    (void)context;
    (void)key;
    (void)value;
    return true;
}

// An error answer of the upstream's, as an event: JSON stays JSON when its line ends become spaces.
static void break_with_answer(sj_exchange *e, sj_slice body) {
    sj_buffer event = sj_buffer_with_max(body.n + 64);
    bool ok = body.n > 0 && sj_buffer_text(&event, "data: ") && sj_buffer_add(&event, body) &&
              sj_buffer_text(&event, "\n\n");
    for (size_t i = 6; ok && i < event.n - 2; i++)
        if (event.p[i] == '\n' || event.p[i] == '\r')
            event.p[i] = ' ';
    if (ok && sj_json_walk_object(body, any_member, NULL)) {
        write_text(e, sj_buffer_slice(&event));
        exchange_set_end(e, END_BROKEN, SJ_REFUSAL_MAX_RETRIES_EXCEEDED);
        exchange_out_cut(e);
    } else
        break_with(e, SJ_REFUSAL_MAX_RETRIES_EXCEEDED,
                   "The upstream answered with an error after the stream had begun.");
    sj_buffer_free(&event);
}

static void note_answer(sj_exchange *e, const sj_headers *headers, size_t hop) {
    e->answer_hop = hop;
    e->has_answer_hop = true;
    sj_text id = sj_text_into(e->upstream_request_id, sizeof e->upstream_request_id);
    sj_text_add(&id, sj_headers_get(headers, "x-request-id"));
    if (e->call && e->first_content_ns < 0)
        e->first_content_ns = (int64_t)uv_hrtime();
}

void exchange_deliver(sj_exchange *e, int status, const sj_headers *headers, sj_slice body,
                      int64_t content_length, size_t hop) {
    sj_headers out;
    sj_headers_init(&out);
    if (e->head_sent && status < 400) {
        break_with(e, SJ_REFUSAL_MAX_RETRIES_EXCEEDED, NO_STREAM);
        return;
    }
    if (e->head_sent) {
        break_with_answer(e, body);
        return;
    }
    note_answer(e, headers, hop);
    if (!answer_headers(e, status, headers, hop, &out))
        exchange_out_cut(e);
    else if (e->is_head || status == 304)
        exchange_out_answer_head(e, status, &out, content_length);
    else
        exchange_out_answer(e, status, &out, body);
    exchange_set_end(e, END_ANSWERED, SJ_REFUSAL_NONE);
    sj_headers_free(&out);
}

void exchange_deliver_leg(sj_exchange *e, leg *l, sj_class class) {
    sj_answer *answer = &l->answer;
    bool stream = answer->mode == SJ_ANSWER_STREAM;
    bool whole =
        sj_buffer_add(&answer->held, sj_answer_close_event(answer)) &&
        (!stream || !sj_answer_lacks_only_done(answer) || sj_buffer_text(&answer->held, "data: [DONE]\n\n"));
    if (!whole)
        answer->held.n = 0; // no room left: told as broken
    exchange_keep_whole(e, l, class);
    if (!e->head_sent || !stream) {
        exchange_deliver(e, answer->status, &answer->headers, sj_buffer_slice(&answer->held),
                         answer->content_length, l->hop);
        return;
    }
    note_answer(e, &answer->headers, l->hop);
    write_text(e, sj_buffer_slice(&answer->held));
    exchange_set_end(e, END_ANSWERED, SJ_REFUSAL_NONE);
    exchange_out_finish(e, NULL);
}

static void flow_on(sj_exchange *e, leg *l) {
    l->answer.committed = true;
    exchange_keep_begin(e, l);
    if (exchange_out_write(e, sj_buffer_slice(&l->answer.held)))
        exchange_hold_back(l);
    else
        exchange_let_flow(l);
    sj_buffer_free(&l->answer.held);
}

void exchange_commit(sj_exchange *e, leg *l) {
    sj_answer *answer = &l->answer;
    if (e->head_sent && answer->mode == SJ_ANSWER_STREAM) {
        note_answer(e, &answer->headers, l->hop);
        flow_on(e, l);
        return;
    }
    if (e->head_sent) {
        break_with(e, SJ_REFUSAL_MAX_RETRIES_EXCEEDED, NO_STREAM);
        return;
    }
    sj_headers out;
    sj_headers_init(&out);
    note_answer(e, &answer->headers, l->hop);
    if (answer_headers(e, answer->status, &answer->headers, l->hop, &out)) {
        // Of a stream that is read, events may be dropped or supplied: its length is not known.
        int64_t length = answer->mode == SJ_ANSWER_STREAM ? -1 : answer->content_length;
        exchange_out_begin(e, answer->status, &out, length);
        flow_on(e, l);
    } else
        exchange_out_cut(e);
    sj_headers_free(&out);
    sj_headers_free(&answer->headers); // told; a stream may go on for long
}

void exchange_close_event(sj_exchange *e, leg *l) {
    sj_slice closing = sj_answer_close_event(&l->answer);
    if (closing.n)
        write_text(e, closing);
}

// Trailers go on as far as they fit; an answer is whole without them.
void exchange_finish(sj_exchange *e, sj_class class) {
    sj_headers trailers;
    leg *l = exchange_committed_leg(e);
    if (l)
        exchange_close_event(e, l);
    if (e->recording)
        exchange_keep_end(e, class);
    sj_headers_init(&trailers);
    exchange_set_end(e, END_ANSWERED, SJ_REFUSAL_NONE);
    bool ok = e->trailers && sj_http_forward_answer(e->trailers, &trailers);
    exchange_out_finish(e, ok ? &trailers : NULL);
    sj_headers_free(&trailers);
}

void exchange_supply_done(sj_exchange *e, leg *l) {
    exchange_close_event(e, l);
    write_text(e, SJ_SLICE("data: [DONE]\n\n"));
}

void exchange_break(sj_exchange *e, leg *l, bool quiet) {
    exchange_set_end(e, END_BROKEN, SJ_REFUSAL_STREAM_BROKEN);
    sj_buffer event = sj_buffer_with_max(8192);
    bool stream = l ? l->answer.mode == SJ_ANSWER_STREAM : e->rescue != NULL;
    if (l)
        exchange_close_event(e, l);
    if (e->rescue && e->rescue->cause.n)
        write_text(e, sj_buffer_slice(&e->rescue->cause));
    else if (stream && !quiet) {
        char message[1536];
        sj_journey_message(e->journey, SJ_REFUSAL_STREAM_BROKEN, message, sizeof message);
        if (sj_completion_error_event(e->context.protocol, sj_refusal_code(SJ_REFUSAL_STREAM_BROKEN), message,
                                      &event))
            write_text(e, sj_buffer_slice(&event));
    }
    exchange_out_cut(e);
    sj_buffer_free(&event);
}

void exchange_refuse(sj_exchange *e, sj_refusal refusal, const char *message, int64_t retry_after_s) {
    if (e->head_sent) {
        break_with(e, refusal, message);
        return;
    }
    int status = sj_refusal_status(refusal);
    exchange_set_end(e, END_REFUSED, refusal);
    sj_buffer body = sj_buffer_with_max(8192);
    sj_headers headers;
    sj_headers_init(&headers);
    sj_client_retries mode = e->route ? e->route->client_retries : SJ_CLIENT_RETRIES_NEVER;
    bool may_retry = mode == SJ_CLIENT_RETRIES_PASSTHROUGH ||
                     (mode == SJ_CLIENT_RETRIES_SHED && sj_refusal_is_shed(refusal));
    bool ok =
        sj_refusal_body(refusal, message, &body) && add_text(&headers, "Content-Type", "application/json");
    if (!may_retry)
        ok = ok && add_text(&headers, "x-should-retry", "false");
    if (retry_after_s > 0)
        ok = ok && add_number(&headers, "Retry-After", retry_after_s);
    const char *target = e->journey ? e->hops[sj_journey_read(e->journey).hop].label : "";
    exchange_add_labels(e, &headers, target);
    if (!ok)
        exchange_out_cut(e);
    else if (e->is_head)
        exchange_out_answer_head(e, status, &headers, (int64_t)body.n);
    else
        exchange_out_answer(e, status, &headers, sj_buffer_slice(&body));
    sj_headers_free(&headers);
    sj_buffer_free(&body);
}

void exchange_health(sj_exchange *e, bool fine) {
    sj_headers headers;
    sj_headers_init(&headers);
    (void)add_text(&headers, "Content-Type", "application/json");
    e->end = END_ANSWERED;
    e->is_health = true;
    e->status = fine ? 200 : 503;
    sj_slice body = fine ? SJ_SLICE("{\"status\":\"ok\"}\n") : SJ_SLICE("{\"status\":\"draining\"}\n");
    if (e->is_head)
        sj_call_answer_head(e->call, e->status, &headers, (int64_t)body.n);
    else
        sj_call_answer(e->call, e->status, &headers, body);
    sj_headers_free(&headers);
}

// ---- the record -----------------------------------------------------------------------------------------------------------------

static sj_result result_of(const sj_exchange *e) {
    switch (e->end) {
    case END_ANSWERED:
        return SJ_RESULT_OK;
    case END_STALE:
        return SJ_RESULT_STALE;
    case END_DEGRADED:
        return SJ_RESULT_DEGRADED;
    case END_REFUSED:
        return SJ_RESULT_REFUSED;
    case END_BROKEN:
        return SJ_RESULT_BROKEN;
    default:
        return SJ_RESULT_CLIENT_GONE;
    }
}

void exchange_record(sj_exchange *e) {
    char trail[TRAIL_TEXT_MAX] = "";
    sj_journey_summary summary = {0};
    const char *target = "";
    int64_t now_ns = (int64_t)uv_hrtime();
    size_t hop = 0;
    if (e->journey) {
        summary = sj_journey_read(e->journey);
        sj_journey_trail(e->journey, exchange_now(e), trail, sizeof trail);
        hop = e->has_answer_hop ? e->answer_hop : summary.hop;
        target = e->hops[hop].label;
    }
    const sj_tape_begin *followed = e->joint && e->joint->begun ? sj_tape_begun(e->joint->follows) : NULL;
    if (followed && followed->target)
        target = followed->target;
    sj_record record = {
        .coalesced = e->joint && e->joint->follows ? sj_tape_request_id(e->joint->follows) : "",
        .health = e->is_health,
        .request_id = e->request_id,
        .peer = e->peer,
        .method = e->method,
        .path = e->path,
        .model = e->facts.model,
        .target = target,
        .fallback = summary.fallback ? summary.fallback : "",
        .trail = trail,
        .upstream_request_id = e->upstream_request_id,
        .result = result_of(e),
        .refusal = e->refusal,
        .status = e->status,
        .stream = e->facts.stream,
        .attempts = summary.attempts_sent,
        .retries = summary.retries,
        .rescues = summary.rescues,
        .dropped_events = e->dropped_events,
        .total_us = ((e->left_ns ? e->left_ns : now_ns) - e->started_ns) / 1000,
        .drained_us = e->kept ? (now_ns - e->left_ns) / 1000 : 0,
        .first_content_us = e->first_content_ns < 0 ? -1 : (e->first_content_ns - e->started_ns) / 1000,
        .wait_ms = summary.wait_ms,
        .queue_ms = summary.queue_ms,
        .upstream_ms = summary.upstream_ms,
        .bytes_in = e->bytes_in,
        .bytes_out = e->bytes_out,
        .usage = e->usage,
        .costs = exchange_costs(e, hop),
    };
    sj_metrics_exchange(e->worker->metrics, &record);
    if (!record.health)
        sj_log_exchange(e->worker->log, &record);
}
