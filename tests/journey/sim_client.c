// What clients do: ask, ask again, read slowly, leave, come back.
#include "sim_world.h"

#include <stdlib.h>

enum { AGAIN_MS = 500, SLOW_MS = 3000 };

// ---- asking -----------------------------------------------------------------------------------------------

static sim_exchange *take_place(sim_world *w) {
    if (w->exchange_count + 1 >= w->exchange_size) {
        w->exchange_size = w->exchange_size ? 2 * w->exchange_size : 4096;
        w->exchanges = realloc(w->exchanges, w->exchange_size * sizeof(sim_exchange *));
    }
    sim_exchange *e = calloc(1, sizeof *e);
    if (!w->exchanges || !e)
        abort();
    e->id = ++w->exchange_count;
    w->exchanges[e->id] = e;
    w->alive++;
    return e;
}

static const uint64_t key_hashes[SIM_CREDENTIALS] = {0, 1, 2, 3, 4, 5, 6, 7};

static void plan_hops(sim_world *w, sim_exchange *e) {
    const sim_rules *rules = w->rules;
    size_t chain = e->chain = (size_t)sj_rng_between(&w->rng, 0, (int64_t)rules->chain_count - 1);
    e->plan.hop_count = rules->chains[chain].n;
    for (size_t hop = 0; hop < e->plan.hop_count; hop++) {
        size_t target = rules->chains[chain].target[hop];
        e->target_of[hop] = target;
        e->hops[hop] = (sj_hop){
            .target = w->targets[target],
            .label = sj_target_name(w->targets[target]),
            .retry = &w->retry,
            .credential = e->credential,
            .keys = w->keys[rules->upstream_of[target]],
            .credentials = key_hashes,
            .model = target % (size_t)rules->models,
            .prefill = rules->prefill >> target & 1,
            .first_byte_timeout_ms = rules->first_byte_ms,
            .idle_timeout_ms = rules->idle_ms,
            .answer_timeout_ms = rules->answer_ms,
            .max_open_wait_ms = rules->targets.breaker.max_open_wait_ms,
            .rewrites_model = hop > 0,
            .same_upstream = sim_upstream_at(w, e, hop) == sim_upstream_at(w, e, 0),
            .race_after_ms = rules->race_after_ms,
            .race_other_model = true,
        };
    }
    e->plan.hops = e->hops;
    e->plan.sticky = w->sticky[chain];
    e->plan.route_slots = w->routes[chain];
}

static void plan(sim_world *w, sim_exchange *e) {
    const sim_rules *rules = w->rules;
    double u = sj_rng_unit(&w->rng);
    e->plan.stream = u < rules->streams;
    u -= rules->streams;
    e->plan.repeat = u >= 0 && u < rules->gets ? SJ_REPEAT_SAFE : SJ_REPEAT_FREELY;
    if (u >= rules->gets && u < rules->gets + rules->posts)
        e->plan.repeat = SJ_REPEAT_UNSENT;
    e->plan.replayable = sj_rng_unit(&w->rng) >= rules->unreplayable;
    e->plan.movable = sj_rng_unit(&w->rng) >= rules->unmovable;
    e->plan.bound = sj_rng_unit(&w->rng) < rules->bound;
    e->plan.client_retrying = e->retry_count > 0 && !e->naive;
    e->plan.waiter = (sj_waiter){.worker = (uint32_t)e->worker, .exchange_id = e->id};
    e->plan.waiter.client = sj_rng_next(&w->rng) % (uint64_t)rules->clients;
    e->plan.waiter.tokens = sj_rng_between(&w->rng, 0, 2000);
    e->plan.deadline_ms = sim_clock(w, e) + rules->deadline_ms;
    e->plan.stream_max_ms = rules->stream_max_ms;
    e->plan.verified = e->plan.stream && sj_rng_unit(&w->rng) < rules->verified;
    e->plan.rescue = e->plan.stream && sj_rng_unit(&w->rng) < rules->rescue;
    e->plan.rescue_other_model = sj_rng_unit(&w->rng) < rules->rescue_other_model;
    e->can_replay = sj_rng_next(&w->rng) % 4 != 0;
    e->can_continue = sj_rng_next(&w->rng) & 1;
    e->plan.keepalive_ms = rules->keepalive_ms;
    e->plan.drain_ms = rules->drain_ms;
    e->plan.fallback_gate_ms = rules->fallback_gate_ms;
    e->plan.seed = sj_rng_next(&w->rng);
    plan_hops(w, e);
}

// The tag of an arrival: which retry, and above it whether the client says so.
void sim_ask_again(sim_world *w, const sim_exchange *e) {
    if (e->retry_count >= w->rules->client_retries)
        return;
    uint64_t tag = (uint64_t)e->retry_count + 1 + (e->naive ? 0x100U : 0);
    sim_queue_add(&w->queue, (sim_event){.at_ms = w->now_ms + AGAIN_MS,
                                         .kind = SIM_ARRIVAL,
                                         .exchange = (uint64_t)e->asked_ms,
                                         .tag = tag});
}

void sim_ask(sim_world *w, int64_t asked_ms, int retry_count, bool naive) {
    sim_exchange *e = take_place(w);
    e->line = SIM_NO_LINE;
    e->naive = naive;
    if (retry_count > 0)
        sim_saw_special(w, naive ? SIM_SPECIAL_NAIVE_RETRY : SIM_SPECIAL_SDK_RETRY);
    e->worker = (int)sj_rng_between(&w->rng, 0, w->rules->workers - 1);
    e->credential = sj_rng_next(&w->rng) % (uint64_t)w->rules->credentials;
    e->asked_ms = asked_ms;
    e->born_ms = w->now_ms;
    e->retry_count = retry_count;
    w->result->exchanges++;
    plan(w, e);
    e->journey = sj_journey_new(&e->plan);
    if (!e->journey)
        abort();
    if (sim_by_chance(w, w->rules->back / 10))
        sim_add(w, SIM_BACK, e, w->now_ms + sj_rng_between(&w->chance, 0, 10 * AGAIN_MS), 0);
    if (w->rules->patience_ms > 0)
        sim_add(w, SIM_LEAVE, e, w->now_ms + w->rules->patience_ms, 0);
    sj_steps steps;
    sj_journey_admitted(e->journey, sim_clock(w, e), &steps);
    sim_take(w, e, &steps);
}

// ---- reading, and leaving ---------------------------------------------------------------------------------

void sim_hold(sim_world *w, sim_exchange *e, bool held) {
    e->held = held;
    sim_saw_special(w, SIM_SPECIAL_HELD);
    sj_journey_attempt_held(e->journey, e->committed, held, sim_clock(w, e));
    if (held)
        sim_add(w, SIM_RESUME, e, w->now_ms + sj_rng_between(&w->chance, 1, SLOW_MS), 0);
    else
        sim_arm_timer(w, e);
}

static void abort_drain(sim_world *w, sim_exchange *e) {
    sim_saw_special(w, SIM_SPECIAL_ABORTED);
    sj_steps steps;
    sj_journey_abort(e->journey, "shutdown", sim_clock(w, e), &steps);
    sim_take(w, e, &steps);
}

// SDKs ask again when they have lost their patience; what we answer tells them not to. Some come back to what is still read for them.
void sim_leave(sim_world *w, sim_exchange *e) {
    if (e->committed && w->rules->patience_ms > 0 && w->now_ms - e->born_ms >= w->rules->patience_ms)
        return; // patience is for the beginning of an answer
    if (e->gone) {
        abort_drain(w, e);
        return;
    }
    bool comes_back = w->rules->drain_ms > 0 && sim_by_chance(w, w->rules->back);
    if (comes_back)
        sim_add(w, SIM_BACK, e, w->now_ms + sj_rng_between(&w->chance, 0, 2 * AGAIN_MS), 0);
    else if (w->rules->patience_ms > 0 && w->now_ms - e->born_ms >= w->rules->patience_ms)
        sim_ask_again(w, e);
    if (e->held)
        sim_hold(w, e, false); // nobody slow reads it now
    e->gone = true;
    e->left_ms = sim_clock(w, e);
    sj_steps steps;
    sj_journey_client_gone(e->journey, sim_clock(w, e), &steps);
    sim_take(w, e, &steps);
}

void sim_come_back(sim_world *w, sim_exchange *e) {
    sim_saw_special(w, e->gone ? SIM_SPECIAL_BACK : SIM_SPECIAL_JOINED);
    e->gone = false;
    int64_t deadline_ms = sim_clock(w, e) + w->rules->deadline_ms;
    if (e->plan.deadline_ms < deadline_ms)
        e->plan.deadline_ms = deadline_ms;
    sj_journey_client_back(e->journey, deadline_ms, sim_clock(w, e));
    sim_take(w, e, &(sj_steps){.count = 0});
}
