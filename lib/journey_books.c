#include "journey_internal.h"

#include "text.h"

#include <assert.h>
#include <stdlib.h>

// An event wakes at most one per running attempt, one by looking, one by taking and one by ending, and one per hop that did not want the slot.
enum { MAX_TALK = SJ_JOURNEY_MAX_NOTES - MAX_RUNNING - 3 - MAX_HOPS };

static void stand_down(sj_journey *j) {
    if (j->stands_by)
        sj_admission_stand_down(j->stands_by);
    j->stands_by = NULL;
}

void journey_set_state(sj_journey *j, journey_state state) {
    assert(j->state != STATE_OVER); // invariant 1: over once, and for good
    j->state = state;
    if (state != STATE_WAITING)
        stand_down(j);
}

// ---- what is told ---------------------------------------------------------------------------------------

sj_step *journey_step(sj_steps *out, sj_step_kind kind) {
    assert(out->count < SJ_JOURNEY_MAX_STEPS);
    sj_step *s = &out->list[out->count++];
    *s = (sj_step){.kind = kind};
    return s;
}

// Notes are for people: when one event makes too many, some stay untold. Not so grants: somebody waits for each of them.
sj_note *journey_note(sj_steps *out, sj_note_kind kind, size_t hop, const char *reason) {
    bool grant = kind == SJ_NOTE_GRANT;
    bool fits = out->note_count < (grant ? SJ_JOURNEY_MAX_NOTES : MAX_TALK);
    assert(fits || !grant);
    sj_note *n = &out->notes[fits ? out->note_count++ : SJ_JOURNEY_MAX_NOTES];
    *n = (sj_note){.kind = kind, .hop = hop};
    sj_text_copy(n->reason, sizeof n->reason, reason);
    return n;
}

static void note_changes(sj_steps *out, size_t hop, const sj_changes *changes) {
    for (int i = 0; i < changes->count; i++) {
        sj_note *n = journey_note(out, SJ_NOTE_BREAKER, hop, "");
        n->change = changes->list[i].change;
        n->global = changes->list[i].global;
    }
}

static void note_wake(sj_steps *out, size_t hop, const sj_wake *wake) {
    if (wake->set)
        journey_note(out, SJ_NOTE_GRANT, hop, "")->wake = wake->waiter;
}

// False: there is no room for another entry.
static bool make_trail_room(sj_journey *j) {
    if (j->trail_count < j->trail_room)
        return true;
    trail_entry *trail = j->trail_room < SJ_TRAIL_MAX ? malloc(SJ_TRAIL_MAX * sizeof *trail) : NULL;
    if (!trail)
        return false;
    memcpy(trail, j->trail, (size_t)j->trail_count * sizeof *trail);
    j->trail = trail;
    j->trail_room = SJ_TRAIL_MAX;
    return true;
}

static trail_entry *trail_add(sj_journey *j, trail_kind kind, size_t hop, int64_t ms) {
    trail_entry *last = j->trail_count ? &j->trail[j->trail_count - 1] : NULL;
    if (last && kind == TRAIL_WAIT && last->kind == TRAIL_WAIT) { // one wait in several looks
        last->ms += ms;
        return last;
    }
    if (make_trail_room(j))
        last = &j->trail[j->trail_count++];
    else
        j->trail_cut = true; // the last place is for what came last
    *last = (trail_entry){.kind = kind, .hop = hop, .ms = ms};
    return last;
}

static void note_ended(sj_journey *j, const attempt_state *a, const char *word, sj_class class, int64_t now,
                       sj_steps *out) {
    int64_t ms = now - a->started_ms;
    trail_entry *entry = trail_add(j, TRAIL_ATTEMPT, a->hop, ms);
    sj_text_copy(entry->word, sizeof entry->word, word);
    entry->stale = class == SJ_CLASS_STALE;
    sj_note *n = journey_note(out, SJ_NOTE_ATTEMPT, a->hop, word);
    n->key = journey_hop(j, a->hop)->keys ? (int)a->key + 1 : 0;
    n->class = class;
    n->status = a->status;
    n->ms = ms;
}

void journey_note_attempt(sj_journey *j, const attempt_state *a, const sj_verdict *v, bool sent, int64_t now,
                          sj_steps *out) {
    note_ended(j, a, v->reason, v->class, now, out);
    j->trail[j->trail_count - 1].unsent = !sent;
    // A stale try is marked in the trail and not counted: the upstream had closed before it came.
    if (sent && v->class != SJ_CLASS_STALE)
        j->attempts_sent++;
    j->last_class = v->class;
    j->last_hop = a->hop;
    if (j->state != STATE_COMMITTED && !j->mend)
        j->upstream_ms = now - a->started_ms;
    if (!v->alert)
        return;
    sj_note *n = journey_note(out, SJ_NOTE_ALERT, a->hop, v->reason);
    n->key = journey_hop(j, a->hop)->keys ? (int)a->key + 1 : 0;
    n->class = v->class;
    n->status = a->status;
}

// ---- an attempt's books (invariant 1) -------------------------------------------------------------------

attempt_state *journey_running(sj_journey *j, int id) {
    for (int i = 0; i < MAX_RUNNING; i++)
        if (id != 0 && j->running[i].id == id)
            return &j->running[i];
    return NULL;
}

static sj_target *target_of(const sj_journey *j, size_t hop) {
    return journey_hop(j, hop)->target;
}

sj_admit journey_admit(sj_journey *j, size_t hop, sj_permit *permit, int64_t *retry_at, int64_t now,
                       sj_steps *out) {
    sj_changes changes = {0};
    const sj_hop *h = journey_hop(j, hop);
    size_t key = journey_key(j, hop, now);
    j->hops[hop].key = (uint8_t)key;
    sj_admit answer = sj_target_admit(h->target, h->keys ? h->credentials[key] : h->credential, now, permit,
                                      retry_at, &changes);
    note_changes(out, hop, &changes);
    return answer;
}

void journey_content(sj_journey *j, attempt_state *a, int64_t now, sj_steps *out) {
    a->content = true;
    if (a->beside && !j->fallback[0])
        sj_text_copy(j->fallback, sizeof j->fallback, "race");
    a->first_content_ms = now - a->started_ms;
    sj_changes changes = {0};
    sj_target_content(target_of(j, a->hop), &a->permit, j->plan.stream, j->plan.waiter.exchange_id, now,
                      &changes);
    note_changes(out, a->hop, &changes);
}

static sj_admission *admission_of(const sj_journey *j, size_t hop) {
    return sj_target_admission(target_of(j, hop));
}

bool journey_stand_by(sj_journey *j, size_t hop) {
    sj_admission *there = admission_of(j, hop);
    if (j->stands_by == there)
        return true;
    stand_down(j);
    if (!sj_admission_stand_by(there, j->last_attempt_id > 0))
        return false;
    j->stands_by = there;
    return true;
}

static void release_slot(sj_journey *j, size_t hop, int64_t now, sj_steps *out) {
    sj_wake wake;
    sj_admission_release(admission_of(j, hop), now, &wake);
    note_wake(out, hop, &wake);
}

static void tell_sticky(const sj_journey *j, size_t hop, sj_effect effect, int64_t now) {
    if (!j->plan.sticky || hop == 0)
        return;
    if (effect == SJ_EFFECT_FAILURE)
        sj_sticky_failed(j->plan.sticky, hop);
    if (effect != SJ_EFFECT_SUCCESS)
        return;
    sj_breaker_state strong = sj_target_state(target_of(j, 0));
    bool shut =
        strong == SJ_BREAKER_OPEN || strong == SJ_BREAKER_HALF_OPEN || strong == SJ_BREAKER_FORCED_OPEN;
    sj_sticky_answered(j->plan.sticky, hop, shut, now);
}

void journey_release_unused(sj_journey *j, size_t hop, int64_t now, sj_steps *out) {
    sj_admission_give_back(admission_of(j, hop), 1, j->plan.waiter.tokens, now);
    release_slot(j, hop, now, out);
}

static void teach_limit(sj_admission *admission, const attempt_state *a, const sj_verdict *v,
                        bool connect_timed_out, int64_t now) {
    if (v->class == SJ_CLASS_SUCCESS)
        sj_admission_succeeded(admission, a->started_ms, now);
    else if (a->spared) // a key's limit, not the upstream's
        return;
    else if (v->class == SJ_CLASS_THROTTLED || (v->class == SJ_CLASS_FAILING && v->status == 529))
        sj_admission_congested(admission, SJ_CONGESTION_REFUSED, a->started_ms, now);
    else if (connect_timed_out || (v->class == SJ_CLASS_FAILING && v->status == 503))
        sj_admission_congested(admission, SJ_CONGESTION_UNWELL, a->started_ms, now);
}

void journey_teach(sj_journey *j, const attempt_state *a, const sj_verdict *v, const sj_attempt_over *over,
                   int64_t now) {
    sj_admission *admission = admission_of(j, a->hop);
    teach_limit(admission, a, v, over && over->connect_timed_out, now);
    bool unsent = over && !over->sent;
    int64_t spent = j->plan.waiter.tokens; // as was guessed, when nothing tells otherwise
    if (over && over->tokens > 0)
        spent = over->tokens;
    else if (unsent || a->status >= 400)
        spent = 0;
    sj_admission_give_back(admission, unsent, j->plan.waiter.tokens - spent, now);
}

void journey_settle(sj_journey *j, attempt_state *a, sj_effect effect, bool own_side, bool refund,
                    int64_t now, sj_steps *out) {
    static const sj_breaker_outcome outcomes[] = {
        [SJ_EFFECT_SUCCESS] = SJ_OUTCOME_SUCCESS,
        [SJ_EFFECT_FAILURE] = SJ_OUTCOME_FAILURE,
        [SJ_EFFECT_NEUTRAL] = SJ_OUTCOME_NEUTRAL,
    };
    sj_target *target = target_of(j, a->hop);
    sj_report report = {
        .outcome = outcomes[effect],
        .own_side = own_side,
        .streaming = j->plan.stream,
        .first_content_ms = a->content ? a->first_content_ms : -1,
        .exchange_id = j->plan.waiter.exchange_id,
    };
    sj_changes changes = {0};
    sj_target_report(target, &a->permit, &report, now, &changes);
    note_changes(out, a->hop, &changes);
    if (effect == SJ_EFFECT_SUCCESS)
        sj_target_success(target, &a->charge);
    else if (refund)
        sj_target_refund(target, &a->charge);
    size_t hop = a->hop;
    *a = (attempt_state){0};
    tell_sticky(j, hop, effect, now);
    release_slot(j, hop, now, out);
}

void journey_drop_attempt(sj_journey *j, attempt_state *a, const char *word, int64_t now, sj_steps *out) {
    note_ended(j, a, word, SJ_CLASS_NONE, now, out);
    j->attempts_sent++;
    journey_step(out, SJ_STEP_CANCEL)->attempt = a->id;
    journey_settle(j, a, SJ_EFFECT_NEUTRAL, false, false, now, out);
}

// ---- waits, the queue, and what is set aside ------------------------------------------------------------

void journey_end_wait(sj_journey *j, int64_t now) {
    int64_t waited = now - j->wait_since_ms;
    if (waited <= 0)
        return;
    j->wait_ms += waited;
    trail_add(j, TRAIL_WAIT, j->hop, waited);
}

static void end_queue(sj_journey *j, int64_t now) {
    int64_t waited = now - j->wait_since_ms;
    j->queue_ms += waited;
    trail_add(j, TRAIL_QUEUE, j->hop, waited);
}

void journey_leave_queue(sj_journey *j, int64_t now, sj_steps *out) {
    sj_wake wake;
    sj_admission_leave(j->queue, j->plan.waiter.exchange_id, now, &wake);
    note_wake(out, j->hop, &wake);
    end_queue(j, now);
}

sj_slot_answer journey_acquire(sj_journey *j, sj_admission *from, size_t hop, int64_t now, sj_steps *out) {
    int64_t again_ms = INT64_MAX;
    if (j->stands_by == from) // its place there becomes one in the line
        stand_down(j);
    sj_slot_answer answer = sj_admission_acquire(from, &j->plan.waiter, now, &again_ms);
    if (answer != SJ_SLOT_QUEUED)
        return answer;
    journey_set_state(j, STATE_QUEUED);
    j->queue = from;
    j->hop = hop;
    j->wait_since_ms = now;
    j->wait_until_ms = again_ms;
    (void)journey_note(out, SJ_NOTE_QUEUED, hop, "");
    return answer;
}

sj_slot_answer journey_look(sj_journey *j, int64_t now, sj_steps *out) {
    uint64_t id = j->plan.waiter.exchange_id;
    sj_wake wake;
    sj_slot_answer answer = sj_admission_look(j->queue, id, now, &j->wait_until_ms, &wake);
    note_wake(out, j->hop, &wake);
    if (answer == SJ_SLOT_GRANTED) {
        sj_admission_take(j->queue, id, now, &wake);
        note_wake(out, j->hop, &wake);
    }
    if (answer != SJ_SLOT_QUEUED)
        end_queue(j, now);
    return answer;
}

void journey_forget_next(sj_journey *j) {
    sj_target_refund(target_of(j, j->next_hop), &j->next_charge);
    j->next_charge = (sj_charge){0};
    j->next_is_fresh = j->next_is_free = j->next_is_paid = false;
}

void journey_end(sj_journey *j, int64_t now, sj_steps *out) {
    sj_wake wake = {0};
    if (j->holds_route)
        sj_admission_release(j->plan.route_slots, now, &wake);
    note_wake(out, j->hop, &wake);
    j->holds_route = false;
    journey_set_state(j, STATE_OVER);
}

void journey_drop_everything(sj_journey *j, const char *word, int64_t now, sj_steps *out) {
    if (j->state == STATE_QUEUED)
        journey_leave_queue(j, now, out);
    else if (j->state == STATE_WAITING)
        journey_end_wait(j, now);
    journey_forget_next(j);
    for (int i = 0; i < MAX_RUNNING; i++)
        if (j->running[i].id)
            journey_drop_attempt(j, &j->running[i], word, now, out);
}
