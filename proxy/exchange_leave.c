#include "exchange_internal.h"

#include "http_rules.h"

#include <stdlib.h>

// The client has left: its exchange ends, or what runs is read on and the exchange outlives the call (BEHAVIOUR 2).

// Cancelling is allowed anywhere.
static void drop_work(sj_exchange *e) {
    e->start_asked = false;
    for (int i = 0; i < LEGS_MAX; i++) {
        e->legs[i].answer.deaf = true;
        if (e->legs[i].transfer)
            sj_attempt_cancel(&e->legs[i].transfer);
    }
    e->todo_count = 0;
}

void exchange_abandon(sj_exchange *e, const char *why) {
    sj_steps steps;
    exchange_stop_joining(e);
    sj_journey_abort(e->journey, why, exchange_now(e), &steps);
    exchange_take_notes(e, &steps);
    drop_work(e);
}

// Decided, but not begun when the client left: it is not begun any more (invariant 3).
static void call_off_starts(sj_exchange *e) {
    int count = e->todo_count;
    for (int i = 0; i < count; i++) {
        if (e->todo[i].kind != SJ_STEP_START)
            continue;
        e->todo[i].kind = SJ_STEP_CANCEL;
        sj_attempt_over over = {.facts = {.end = SJ_END_LOCAL, .error_code = "", .error_message = ""}};
        sj_steps steps;
        sj_journey_attempt_ended(e->journey, e->todo[i].attempt, &over, exchange_now(e), &steps);
        exchange_take_steps(e, &steps);
    }
}

// Nobody slow reads it now.
static void let_all_flow(sj_exchange *e) {
    for (int i = 0; i < LEGS_MAX; i++) {
        if (!e->legs[i].held_back)
            continue;
        e->legs[i].held_back = false;
        sj_journey_attempt_held(e->journey, e->legs[i].attempt, false, exchange_now(e));
    }
    exchange_line_up(e); // we may be inside curl's callback: there they are resumed
}

void exchange_client_left(sj_exchange *e) {
    e->end = END_CLIENT_GONE;
    if (e->left_ns == 0)
        e->left_ns = (int64_t)uv_hrtime();
    exchange_stop_joining(e);
    if (!e->journey)
        return;
    if (exchange_has_readers(e)) {
        if (e->joint) // from now on it is for them alone
            sj_journey_client_back(e->journey, e->joint->latest_ms, exchange_now(e));
        return;
    }
    sj_steps steps;
    sj_journey_client_gone(e->journey, exchange_now(e), &steps);
    exchange_take_notes(e, &steps);
    if (!sj_journey_is_over(e->journey))
        call_off_starts(e);
    if (sj_journey_is_over(e->journey)) {
        drop_work(e);
        exchange_line_up(e); // to be disposed of, if the call is over already
    } else
        let_all_flow(e);
}

// ---- the request without its call -----------------------------------------------------------------------

static bool keep_text(sj_buffer *text, sj_slice bytes) {
    return sj_buffer_add(text, bytes) && sj_buffer_append(text, "", 1);
}

static bool copy_request(const sj_exchange *e, kept_request *kept) {
    kept->text = sj_buffer_with_max(64 * 1024);
    sj_headers_init(&kept->headers);
    return keep_text(&kept->text, e->method) && keep_text(&kept->text, e->target) &&
           keep_text(&kept->text, sj_slice_of(e->peer)) && sj_headers_add_all(&kept->headers, e->headers);
}

static bool keep_request(sj_exchange *e) {
    e->kept = calloc(1, sizeof *e->kept);
    if (!e->kept || !copy_request(e, e->kept))
        return false;
    const char *text = e->kept->text.p;
    e->method.p = text;
    e->target.p = text + e->method.n + 1;
    e->path = sj_http_path(e->target);
    e->peer = e->target.p + e->target.n + 1;
    e->headers = &e->kept->headers;
    return true;
}

void exchange_forget_kept(sj_exchange *e) {
    if (!e->kept)
        return;
    sj_headers_free(&e->kept->headers);
    sj_buffer_free(&e->kept->text);
    free(e->kept);
    e->kept = NULL;
}

bool exchange_outlives_its_call(sj_exchange *e) {
    exchange_client_left(e);
    // Decided, but not told yet to those who read along.
    bool is_to_tell = exchange_has_readers(e) && e->todo_count > 0;
    bool goes_on = e->journey && (!sj_journey_is_over(e->journey) || is_to_tell);
    if (!goes_on || !keep_request(e))
        return false;
    if (exchange_may_lead(e) && !e->has_begun) // he may come back for it
        (void)exchange_record_on_tape(e);
    return true;
}
