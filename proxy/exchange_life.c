#include "exchange_keep.h"

#include <assert.h>
#include <stdlib.h>

enum { SPARE_MAX = 256 };

static size_t slot_of(uint64_t id) {
    return id & ((1u << SLOT_BITS) - 1);
}

size_t exchange_slot(const sj_exchange *e) {
    return slot_of(e->id);
}

static bool more_slots(sj_worker *worker) {
    size_t count = worker->slot_count ? worker->slot_count * 2 : 64;
    if (count > 1u << SLOT_BITS)
        return false;
    sj_exchange **slots = realloc(worker->slots, count * sizeof(sj_exchange *));
    if (slots)
        worker->slots = slots;
    uint64_t *sketches = realloc(worker->sketches, count * sizeof *sketches);
    if (sketches)
        worker->sketches = sketches;
    if (!slots || !sketches)
        return false;
    memset(slots + worker->slot_count, 0, (count - worker->slot_count) * sizeof *slots);
    memset(sketches + worker->slot_count, 0, (count - worker->slot_count) * sizeof *sketches);
    worker->slot_count = count;
    return true;
}

static bool take_slot(sj_worker *worker, sj_exchange *e) {
    if (worker->exchange_count == worker->slot_count && !more_slots(worker))
        return false;
    size_t slot = worker->free_slot;
    while (worker->slots[slot % worker->slot_count])
        slot++;
    slot %= worker->slot_count;
    worker->free_slot = (uint32_t)((slot + 1) % worker->slot_count);
    worker->slots[slot] = e;
    worker->exchange_count++;
    // Unique in the process: slots and queues are shared by all workers.
    e->id = (++worker->serial << (SLOT_BITS + WORKER_BITS)) | ((uint64_t)worker->index << SLOT_BITS) | slot;
    return true;
}

// Exchanges that are over serve again: blocks of their size are dear to allocate.
static sj_exchange *take_exchange(sj_worker *worker) {
    sj_exchange *e = worker->spare;
    if (!e)
        return calloc(1, sizeof *e);
    worker->spare = e->todo_next;
    worker->spare_count--;
    memset(e, 0, sizeof *e);
    return e;
}

static void give_exchange_back(sj_worker *worker, sj_exchange *e) {
    e->magic = 0;
    if (worker->spare_count >= SPARE_MAX) {
        free(e);
        return;
    }
    e->todo_next = worker->spare;
    worker->spare = e;
    worker->spare_count++;
}

sj_exchange *exchange_new(sj_worker *worker) {
    sj_exchange *e = take_exchange(worker);
    if (!e)
        return NULL;
    if (!take_slot(worker, e)) {
        give_exchange_back(worker, e);
        return NULL;
    }
    e->magic = EXCHANGE_MAGIC;
    e->worker = worker;
    return e;
}

sj_exchange *exchange_by_id(const sj_worker *worker, uint64_t id) {
    size_t slot = slot_of(id);
    sj_exchange *e = slot < worker->slot_count ? worker->slots[slot] : NULL;
    return e && e->id == id ? e : NULL;
}

void sj_exchange_free_spare(sj_worker *worker) {
    sj_exchange *e;
    while ((e = worker->spare)) {
        worker->spare = e->todo_next;
        free(e);
    }
}

static void on_timer_closed(uv_handle_t *handle) {
    sj_exchange *e = handle->data;
    give_exchange_back(e->worker, e);
}

void exchange_drop_leg(sj_exchange *e, leg *l) {
    if (!l || !l->attempt)
        return;
    if (l->transfer)
        sj_attempt_cancel(&l->transfer);
    e->dropped_events += l->answer.dropped_events;
    if (l->answer.completion.usage.total_tokens >= 0 || l->answer.completion.usage.completion_tokens >= 0)
        e->usage = l->answer.completion.usage;
    sj_answer_free(&l->answer);
    l->attempt = 0;
}

void exchange_drop_other_legs(sj_exchange *e, const leg *keep) {
    for (int i = 0; i < LEGS_MAX; i++)
        if (&e->legs[i] != keep)
            exchange_drop_leg(e, &e->legs[i]);
}

// The one place where an exchange ends (invariant 1): reached from the front's on_end, which comes exactly once whatever happened; or later, when
// it has been read on without a client.
void exchange_dispose(sj_exchange *e) {
    assert(e->magic == EXCHANGE_MAGIC && !e->call);
    sj_worker *worker = e->worker;
    if (e->journey && !sj_journey_is_over(e->journey)) {
        sj_steps steps;
        sj_journey_abort(e->journey, "client_gone", exchange_now(e), &steps);
        exchange_take_steps(e, &steps);
    }
    exchange_leave_todo(e);
    exchange_drop_other_legs(e, NULL);
    exchange_keep_drop(e);
    exchange_record(e);
    exchange_forget_joint(e);
    exchange_forget_kept(e);
    sj_headers_free(&e->saved.headers);
    sj_buffer_free(&e->saved.body);
    exchange_free_rescue(e);
    sj_journey_free(&e->journey);
    sj_body_free(&e->body);
    for (size_t i = 0; i < e->hop_count; i++)
        free(e->requests[i].model_json);
    free(e->hops);
    sj_setup_unref(&e->setup);
    worker->slots[slot_of(e->id)] = NULL;
    worker->exchange_count--;
    if (e->timer_open)
        uv_close((uv_handle_t *)&e->timer, on_timer_closed);
    else
        on_timer_closed((uv_handle_t *)&e->timer);
}
