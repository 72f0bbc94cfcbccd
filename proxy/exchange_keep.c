#include "exchange_keep.h"

#include "http_rules.h"
#include "stale.h"

#include <stdlib.h>

enum { ROOM_STEP = 64 * 1024, QUESTION_MAX = 128 * 1024 };

// What goes to the client, once more: until the answer has ended well, or is known to be of no use.
typedef struct recording {
    sj_headers headers;
    sj_buffer body;
    size_t room; // taken in the store
} recording;

static uint64_t asker(const sj_exchange *e) {
    sj_buffer identity = sj_buffer_with_max(QUESTION_MAX);
    bool ok = sj_stale_identity(e->headers, &identity);
    // An identity too long to read is nobody's but this exchange's.
    uint64_t hash = ok ? sj_setup_hash(e->setup, sj_buffer_slice(&identity)) : e->id;
    sj_buffer_free(&identity);
    return hash;
}

bool exchange_has_question(const sj_exchange *e) {
    return (e->call || exchange_has_readers(e)) && e->route && e->route->stale_if_error_ms > 0 &&
           sj_setup_store(e->setup) && e->context.generation && sj_stale_is_repeatable(e->path, &e->facts);
}

bool exchange_question(const sj_exchange *e, sj_buffer *room, sj_answer_key *key) {
    *room = sj_buffer_with_max(QUESTION_MAX);
    if (!sj_stale_question(e->target, e->headers, room))
        return false;
    *key = (sj_answer_key){asker(e), sj_buffer_slice(room), sj_body_bytes(e->body)};
    return true;
}

// A cheaper model's answer would stand in for the strong one's later on.
static bool is_first_model(const sj_exchange *e, size_t hop) {
    return e->hops[hop].model == e->hops[0].model;
}

static bool is_wanted(const sj_exchange *e, const leg *l) {
    const sj_answer *answer = &l->answer;
    return exchange_has_question(e) && answer->status == 200 && sj_answer_is_inspected(answer) &&
           answer->dropped_events == 0 && is_first_model(e, l->hop) && sj_stale_wish_of(e->headers).may_keep;
}

static bool headers_worth_keeping(const sj_exchange *e, const leg *l, sj_headers *out) {
    sj_headers forwarded;
    sj_headers_init(&forwarded);
    bool ok = sj_http_forward_answer(&l->answer.headers, &forwarded) &&
              sj_stale_keep(&forwarded, e->hops[l->hop].label, out);
    sj_headers_free(&forwarded);
    return ok;
}

static void put(const sj_exchange *e, const sj_headers *headers, sj_slice body, bool stream) {
    sj_buffer room;
    sj_answer_key key;
    if (exchange_question(e, &room, &key))
        sj_answer_store_put(sj_setup_store(e->setup), &key, 200, headers, body, stream, exchange_now(e));
    sj_buffer_free(&room);
}

void exchange_keep_whole(sj_exchange *e, const leg *l, sj_class class) {
    if (class != SJ_CLASS_SUCCESS || !is_wanted(e, l))
        return;
    sj_headers headers;
    sj_headers_init(&headers);
    if (headers_worth_keeping(e, l, &headers))
        put(e, &headers, sj_buffer_slice(&l->answer.held), l->answer.mode == SJ_ANSWER_STREAM);
    sj_headers_free(&headers);
}

// ---- while it comes -------------------------------------------------------------------------------------

void exchange_keep_drop(sj_exchange *e) {
    recording *r = e->recording;
    if (!r)
        return;
    e->recording = NULL;
    sj_answer_store_give_room(sj_setup_store(e->setup), r->room);
    sj_headers_free(&r->headers);
    sj_buffer_free(&r->body);
    free(r);
}

void exchange_keep_begin(sj_exchange *e, const leg *l) {
    // An answer that outgrew what is looked into can only be judged when its bytes can be read.
    bool readable =
        l->answer.mode == SJ_ANSWER_STREAM ||
        sj_coding_of(sj_headers_get(&l->answer.headers, "Content-Encoding")) == SJ_CODING_IDENTITY;
    if (e->recording || e->rescue || !readable || !is_wanted(e, l))
        return;
    recording *r = calloc(1, sizeof *r);
    if (!r)
        return;
    sj_headers_init(&r->headers);
    r->body = sj_buffer_with_max(sj_answer_store_share(sj_setup_store(e->setup)));
    e->recording = r;
    if (!headers_worth_keeping(e, l, &r->headers))
        exchange_keep_drop(e);
}

static bool take_room(const sj_exchange *e, recording *r, size_t more) {
    size_t need = r->body.n + more;
    if (need <= r->room)
        return true;
    size_t step = need - r->room > ROOM_STEP ? need - r->room : ROOM_STEP;
    if (!sj_answer_store_take_room(sj_setup_store(e->setup), step))
        return false;
    r->room += step;
    return true;
}

void exchange_keep_more(sj_exchange *e, sj_slice bytes) {
    recording *r = e->recording;
    if (!take_room(e, r, bytes.n) || !sj_buffer_add(&r->body, bytes))
        exchange_keep_drop(e);
}

static bool is_whole(const sj_exchange *e, const recording *r, const leg *l) {
    if (!e->call || !l || l->answer.dropped_events || e->dropped_events ||
        !is_first_model(e, sj_journey_read(e->journey).hop))
        return false;
    return l->answer.mode == SJ_ANSWER_STREAM || sj_json_check(sj_buffer_slice(&r->body)) == SJ_JSON_WHOLE;
}

void exchange_keep_end(sj_exchange *e, sj_class class) {
    const recording *r = e->recording;
    const leg *l = exchange_committed_leg(e);
    if (class == SJ_CLASS_SUCCESS && is_whole(e, r, l))
        put(e, &r->headers, sj_buffer_slice(&r->body), l->answer.mode == SJ_ANSWER_STREAM);
    exchange_keep_drop(e);
}
