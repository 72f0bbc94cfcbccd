// What people do to a running proxy: reloads of the rules, and an operator's hand on the breakers.
#include "sim_world.h"

static void again(sim_world *w, sim_event_kind kind, int64_t every_ms) {
    int64_t at = w->now_ms + sj_rng_between(&w->chance, every_ms / 2, every_ms + every_ms / 2);
    if (every_ms > 0 && at <= w->rules->arrivals_until_ms)
        sim_queue_add(&w->queue, (sim_event){.at_ms = at, .kind = kind});
}

void sim_upkeep_begin(sim_world *w) {
    again(w, SIM_RELOAD, w->rules->reload_every_ms);
    again(w, SIM_OPERATOR, w->rules->operator_every_ms);
}

static void wake(sim_world *w, const sj_wake *wake) {
    if (!wake->set)
        return;
    sim_follow_grant(w, wake->waiter.exchange_id);
    sim_queue_add(&w->queue,
                  (sim_event){.at_ms = w->now_ms, .kind = SIM_GRANT, .exchange = wake->waiter.exchange_id});
}

void sim_reload(sim_world *w) {
    const sim_rules *rules = w->rules;
    w->reloaded = !w->reloaded;
    for (size_t i = 0; i < rules->target_count; i++)
        sj_target_set_rules(w->targets[i], w->reloaded ? &rules->other_targets : &rules->targets);
    sj_global_breaker_set_rules(w->global,
                                w->reloaded ? &rules->other_targets.breaker : &rules->targets.breaker);
    for (size_t i = 0; i < rules->upstream_count; i++) {
        sj_wake woken = {0};
        sj_admission_set_rules(w->admissions[i], w->reloaded ? &rules->other_slots[i] : &rules->slots[i]);
        sj_admission_next(w->admissions[i], w->now_ms, &woken);
        wake(w, &woken);
    }
    again(w, SIM_RELOAD, rules->reload_every_ms);
}

static void note(sim_world *w, const sj_changes *changes) {
    for (int i = 0; i < changes->count; i++)
        sim_saw_change(&w->result->seen, &changes->list[i].change, changes->list[i].global);
}

void sim_operate(sim_world *w) {
    static const sj_breaker_state states[] = {SJ_BREAKER_FORCED_OPEN, SJ_BREAKER_DISABLED, SJ_BREAKER_CLOSED,
                                              SJ_BREAKER_CLOSED};
    sj_changes changes = {0};
    sj_breaker_state state = states[sj_rng_between(&w->chance, 0, 3)];
    size_t target = (size_t)sj_rng_between(&w->chance, 0, (int64_t)w->rules->target_count - 1);
    if (sj_rng_between(&w->chance, 0, 4) == 0) {
        sj_global_breaker_force(w->global, SJ_BREAKER_CLOSED, w->now_ms, &changes.list[0].change);
        changes.list[0].global = true;
        changes.count = changes.list[0].change.changed;
    } else {
        sj_target_force(w->targets[target], state, w->now_ms, &changes);
    }
    note(w, &changes);
    again(w, SIM_OPERATOR, w->rules->operator_every_ms);
}
