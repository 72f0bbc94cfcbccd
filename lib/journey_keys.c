#include "journey_internal.h"

// Several keys at an upstream (BEHAVIOUR 3): a refusal that is about the key and not about the request is learnt by all, and the next key is
// asked at once. What an upstream says about when, it says to one key: gates are the key's own.

size_t journey_key(const sj_journey *j, size_t hop, int64_t now) {
    sj_keys *keys = journey_hop(j, hop)->keys;
    return keys ? sj_keys_pick(keys, now) : 0;
}

uint64_t journey_credential(const sj_journey *j, size_t hop, int64_t now) {
    const sj_hop *h = journey_hop(j, hop);
    return h->keys ? h->credentials[sj_keys_pick(h->keys, now)] : h->credential;
}

static bool is_about_the_key(const sj_verdict *v) {
    return v->class == SJ_CLASS_CREDENTIAL || v->class == SJ_CLASS_QUOTA ||
           (v->class == SJ_CLASS_THROTTLED && v->retry_here);
}

// Each key is refused at most once in an exchange.
static bool may_go_on(const sj_journey *j, const attempt_state *a, int refused) {
    return (size_t)refused < sj_keys_count(journey_hop(j, a->hop)->keys);
}

bool journey_has_next_key(const sj_journey *j, const attempt_state *a, const sj_verdict *v, int64_t now) {
    sj_keys *keys = journey_hop(j, a->hop)->keys;
    return keys && is_about_the_key(v) && may_go_on(j, a, j->hops[a->hop].keys_refused + 1) &&
           sj_keys_has_other(keys, a->key, now);
}

static void note_key(const attempt_state *a, const sj_verdict *v, const char *reason, int64_t ms,
                     sj_steps *out) {
    sj_note *n = journey_note(out, SJ_NOTE_KEY, a->hop, reason);
    n->key = (int)a->key + 1;
    n->class = v->class;
    n->status = a->status;
    n->ms = ms;
}

bool journey_learn_key(sj_journey *j, attempt_state *a, const sj_verdict *v, int64_t now, sj_steps *out) {
    sj_keys *keys = journey_hop(j, a->hop)->keys;
    if (!keys)
        return false;
    if (v->class == SJ_CLASS_SUCCESS && sj_keys_accepted(keys, a->key, a->started_ms))
        note_key(a, v, "accepted", 0, out);
    if (!is_about_the_key(v))
        return false;
    bool dead = v->class == SJ_CLASS_CREDENTIAL;
    int64_t told_ms = !dead && a->hint.source != SJ_HINT_NONE ? a->hint.wait_ms : 0;
    sj_key_refusal refusal =
        sj_keys_refused(keys, a->key, dead ? SJ_KEY_DEAD : SJ_KEY_EXHAUSTED, told_ms, a->started_ms, now);
    if (refusal.newly)
        note_key(a, v, dead ? "dead" : "exhausted", refusal.rest_ms, out);
    j->hops[a->hop].keys_refused++;
    a->spared = refusal.another;
    return refusal.another && may_go_on(j, a, j->hops[a->hop].keys_refused);
}

void journey_rest_key(const sj_journey *j, const attempt_state *a, int64_t ms, int64_t now) {
    sj_keys *keys = journey_hop(j, a->hop)->keys;
    if (keys)
        sj_keys_pause(keys, a->key, ms, now);
}

int64_t journey_keys_back_in(const sj_journey *j, size_t hop, int64_t hint_ms, int64_t now) {
    sj_keys *keys = journey_hop(j, hop)->keys;
    int64_t back_ms = keys ? sj_keys_back_ms(keys, now) : 0;
    return back_ms > now ? journey_sooner(hint_ms, back_ms - now) : hint_ms;
}
