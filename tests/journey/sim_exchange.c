// The carrier of the simulated world: tells the journey what happens and does what it says, as exchange.c does in the proxy.
#include "sim_world.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { LATE_MS = 150, AGAIN_MS = 500, SLOW_MS = 3000 };

static void add(sim_world *w, sim_event_kind kind, const sim_exchange *e, int64_t at_ms, uint64_t tag) {
    sim_queue_add(&w->queue, (sim_event){.at_ms = at_ms, .kind = kind, .exchange = e->id, .tag = tag});
}

static bool by_chance(sim_world *w, double chance) {
    return chance > 0 && sj_rng_unit(&w->chance) < chance;
}

static void saw(sim_world *w, sim_special what) {
    sim_saw(&w->result->seen, SIM_SAW_SPECIAL, (int)what);
}

static struct sim_slice *slice(sim_world *w, int64_t at_ms) {
    size_t n = sizeof w->result->slices / sizeof *w->result->slices;
    size_t i = (size_t)(at_ms / 10000);
    return &w->result->slices[i < n ? i : n - 1];
}

// ---- a client asks --------------------------------------------------------------------------------------

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
    e->plan.keepalive_ms = rules->keepalive_ms;
    e->plan.drain_ms = rules->drain_ms;
    e->plan.fallback_gate_ms = rules->fallback_gate_ms;
    e->plan.seed = sj_rng_next(&w->rng);
    plan_hops(w, e);
}

// ---- steps ----------------------------------------------------------------------------------------------

static void trace(sim_world *w, uint64_t value) {
    w->result->trace = (w->result->trace ^ value) * UINT64_C(0x100000001b3);
    w->result->trace ^= w->result->trace >> 29;
}

static void start(sim_world *w, sim_exchange *e, const sj_step *step) {
    sim_leg *leg = e->legs[0].running ? &e->legs[1] : &e->legs[0];
    *leg = (sim_leg){.exchange = e,
                     .attempt = step->attempt,
                     .running = true,
                     .hop = step->hop,
                     .started_ms = sim_clock(w, e)};
    e->last_attempt = step->attempt;
    e->asked = true;
    e->asked_hop = step->hop;
    w->result->starts++;
    sim_check_started(w, leg);
    sim_upstream *upstream = &w->upstreams[sim_upstream_at(w, e, step->hop)];
    long before = upstream->sent;
    int64_t first = sim_upstream_begin(upstream, &leg->model, e->plan.stream, step->fresh, e->credential,
                                       w->now_ms, &w->rng);
    slice(w, w->now_ms)->sent += upstream->sent - before;
    sim_saw(&w->result->seen, SIM_SAW_FATE, (int)leg->model.fate);
    if (first >= 0)
        add(w, SIM_UPSTREAM, e, w->now_ms + first, (uint64_t)step->attempt);
}

static void end_transfer(sim_world *w, sim_leg *leg) {
    sim_forget_probe(w, leg);
    sim_upstream_end(&w->upstreams[sim_upstream_at(w, leg->exchange, leg->hop)]);
    leg->running = false;
}

// What ended with this event is not wanted any longer.
static void drop_ended(sim_exchange *e) {
    for (int i = 0; i < SIM_LEGS; i++)
        if (!e->legs[i].running)
            e->legs[i] = (sim_leg){0};
}

static void keep_latency(sim_world *w, int64_t ms) {
    if (w->latency_count == w->latency_size) {
        w->latency_size = w->latency_size ? 2 * w->latency_size : 4096;
        w->latencies = realloc(w->latencies, w->latency_size * sizeof *w->latencies);
        if (!w->latencies)
            abort();
    }
    w->latencies[w->latency_count++] = ms;
}

static void failed(sim_world *w, sim_exchange *e, long *counter) {
    if (e->gone) // nobody has seen it
        return;
    (*counter)++;
    w->result->failed++;
    e->failed = true;
    sim_check_failed(w, e);
}

static void answered(sim_world *w, sim_exchange *e, int status, size_t hop) {
    if (e->gone) {
        saw(w, SIM_SPECIAL_DRAINED);
        return;
    }
    bool callers = status >= 400 && status < 500 && status != 429 && status != 408;
    if (status >= 400 && !callers) {
        failed(w, e, &w->result->bad_status);
        return;
    }
    w->result->good++;
    slice(w, e->asked_ms)->strong += hop == 0;
    if (e->failed_probe)
        saw(w, SIM_SPECIAL_PROBE_SAVED);
    slice(w, e->asked_ms)->good++;
    keep_latency(w, w->now_ms - e->asked_ms);
}

static void take_step(sim_world *w, sim_exchange *e, const sj_step *step) {
    sim_check_step(w, e, step);
    if (w->result->violation[0])
        return;
    trace(w, (uint64_t)step->kind << 32 | (uint64_t)step->attempt << 8 | step->hop);
    sim_saw(&w->result->seen, SIM_SAW_STEP, (int)step->kind);
    if (w->rules->story)
        (void)fprintf(w->rules->story, "  step %d attempt %d hop %zu refusal %d\n", step->kind, step->attempt,
                      step->hop, step->refusal);
    sim_leg *leg = sim_leg_of(e, step->attempt);
    switch (step->kind) {
    case SJ_STEP_START:
        start(w, e, step);
        return;
    case SJ_STEP_CANCEL:
        end_transfer(w, leg); // what it said so far stays until the event is over
        return;
    case SJ_STEP_SAVE:
        e->saved = true;
        e->saved_status = leg->status;
        return;
    case SJ_STEP_COMMIT:
        e->committed = step->attempt;
        e->committed_hop = step->hop;
        e->status = leg->status;
        return;
    case SJ_STEP_DELIVER:
        answered(w, e, leg->status, step->hop);
        return;
    case SJ_STEP_DELIVER_SAVED:
        answered(w, e, e->saved_status, step->hop);
        return;
    case SJ_STEP_SUPPLY_DONE:
    case SJ_STEP_KEEPALIVE:
    case SJ_STEP_MEND:
        return;
    case SJ_STEP_FINISH:
        answered(w, e, e->status, e->committed_hop);
        return;
    case SJ_STEP_BREAK:
        failed(w, e, &w->result->broken);
        if (step->quiet)
            saw(w, SIM_SPECIAL_QUIET_BREAK);
        return;
    case SJ_STEP_REFUSE:
        sim_saw(&w->result->seen, SIM_SAW_REFUSAL, (int)step->refusal);
        failed(w, e, &w->result->refused[step->refusal]);
        return;
    }
}

static void arm_timer(sim_world *w, sim_exchange *e) {
    int64_t due = sj_journey_due_ms(e->journey);
    if (due == INT64_MAX ||
        (e->timer_at_ms &&
         e->timer_at_ms <= due)) // as in the proxy: rings early rather than being armed anew
        return;
    e->timer_at_ms = due;
    int64_t at = due + w->lags[e->worker];
    if (by_chance(w, w->rules->late_timer))
        at += sj_rng_between(&w->chance, 1, LATE_MS);
    add(w, SIM_TIMER, e, at > w->now_ms ? at : w->now_ms, ++e->timer_tag);
}

// The tag of an arrival: which retry, and above it whether the client says so.
static void ask_again(sim_world *w, const sim_exchange *e) {
    if (e->retry_count >= w->rules->client_retries)
        return;
    uint64_t tag = (uint64_t)e->retry_count + 1 + (e->naive ? 0x100U : 0);
    sim_queue_add(&w->queue, (sim_event){.at_ms = w->now_ms + AGAIN_MS,
                                         .kind = SIM_ARRIVAL,
                                         .exchange = (uint64_t)e->asked_ms,
                                         .tag = tag});
}

static void dispose(sim_world *w, sim_exchange *e) {
    sj_journey_free(&e->journey);
    w->exchanges[e->id] = NULL;
    w->alive--;
    free(e);
}

static void take(sim_world *w, sim_exchange *e, const sj_steps *steps) {
    w->acting = e;
    for (int i = 0; i < steps->note_count; i++) {
        const sj_note *note = &steps->notes[i];
        sim_check_note(w, e, note);
        if (w->rules->story)
            (void)fprintf(w->rules->story, "  note %d hop %zu class %d status %d ms %" PRId64 " %s\n",
                          note->kind, note->hop, note->class, note->status, note->ms, note->reason);
        if (note->kind != SJ_NOTE_GRANT)
            continue;
        sim_follow_grant(w, note->wake.exchange_id);
        sim_exchange woken = {.id = note->wake.exchange_id};
        add(w, SIM_GRANT, &woken, w->now_ms + sj_rng_between(&w->chance, 0, 3), 0);
    }
    for (int i = 0; i < steps->count; i++)
        take_step(w, e, &steps->list[i]);
    drop_ended(e);
    e->racing = false;
    w->acting = NULL;
    sim_follow(w, e);
    sim_check_exchange(w, e);
    if (w->result->violation[0])
        return;
    if (sj_journey_is_over(e->journey)) {
        w->result->left += e->gone;
        if (e->failed && e->naive)
            ask_again(w, e);
        dispose(w, e);
        return;
    }
    arm_timer(w, e);
    if (by_chance(w, w->rules->leaves))
        add(w, SIM_LEAVE, e, w->now_ms + (by_chance(w, 0.5) ? 0 : sj_rng_between(&w->chance, 0, 5000)), 0);
}

void sim_ask(sim_world *w, int64_t asked_ms, int retry_count, bool naive) {
    sim_exchange *e = take_place(w);
    e->line = SIM_NO_LINE;
    e->naive = naive;
    if (retry_count > 0)
        saw(w, naive ? SIM_SPECIAL_NAIVE_RETRY : SIM_SPECIAL_SDK_RETRY);
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
    if (w->rules->patience_ms > 0)
        add(w, SIM_LEAVE, e, w->now_ms + w->rules->patience_ms, 0);
    sj_steps steps;
    sj_journey_admitted(e->journey, sim_clock(w, e), &steps);
    take(w, e, &steps);
}

// ---- events ---------------------------------------------------------------------------------------------

static void upstream_news(sim_world *w, sim_exchange *e, uint64_t attempt) {
    sim_leg *leg = sim_leg_of(e, (int)attempt);
    if (!leg)
        return; // cancelled meanwhile
    if (e->held) { // its window is shut; it goes on when the client reads again
        add(w, SIM_UPSTREAM, e, w->now_ms + SLOW_MS / 4, attempt);
        return;
    }
    sim_news news = sim_upstream_news(&w->upstreams[sim_upstream_at(w, e, leg->hop)], &leg->model, &w->rng);
    int64_t now = sim_clock(w, e);
    sj_steps steps = {.count = 0};
    if (news.next_ms >= 0)
        add(w, SIM_UPSTREAM, e, w->now_ms + news.next_ms, attempt);
    switch (news.kind) {
    case SIM_NEWS_NONE:
        return;
    case SIM_NEWS_HEAD:
        leg->status = news.status;
        sj_journey_attempt_head(e->journey, leg->attempt, news.status, &news.hint, true, now, &steps);
        break;
    case SIM_NEWS_SAYS:
        if (news.says) // a probe's verdict comes with the content
            sim_forget_probe(w, leg);
        sj_journey_attempt_says(e->journey, leg->attempt, news.says, now, &steps);
        break;
    case SIM_NEWS_ERROR:
        sj_journey_attempt_error(e->journey, leg->attempt, news.code, "", now, &steps);
        break;
    case SIM_NEWS_END:
        sim_saw(&w->result->seen, SIM_SAW_END, (int)news.over.facts.end);
        end_transfer(w, leg);
        sj_journey_attempt_ended(e->journey, leg->attempt, &news.over, now, &steps);
        break;
    }
    take(w, e, &steps);
}

static void ring(sim_world *w, sim_exchange *e, uint64_t tag) {
    if (tag != e->timer_tag)
        return;
    e->timer_at_ms = 0;
    e->rings++;
    sj_steps steps;
    bool ends = e->gone && sim_clock(w, e) >= e->journey->drain_until_ms;
    sj_journey_timer(e->journey, sim_clock(w, e), &steps);
    if (ends)
        saw(w, SIM_SPECIAL_DRAIN_OVER);
    take(w, e, &steps);
}

static void hold(sim_world *w, sim_exchange *e, bool held) {
    e->held = held;
    saw(w, SIM_SPECIAL_HELD);
    sj_journey_attempt_held(e->journey, e->committed, held, sim_clock(w, e));
    if (held)
        add(w, SIM_RESUME, e, w->now_ms + sj_rng_between(&w->chance, 1, SLOW_MS), 0);
    else
        arm_timer(w, e);
}

static void abort_drain(sim_world *w, sim_exchange *e) {
    saw(w, SIM_SPECIAL_ABORTED);
    sj_steps steps;
    sj_journey_abort(e->journey, "shutdown", sim_clock(w, e), &steps);
    take(w, e, &steps);
}

// SDKs ask again when they have lost their patience; what we answer tells them not to. Some come back to what is still read for them.
static void leave(sim_world *w, sim_exchange *e) {
    if (e->committed && w->rules->patience_ms > 0 && w->now_ms - e->born_ms >= w->rules->patience_ms)
        return; // patience is for the beginning of an answer
    if (e->gone) {
        abort_drain(w, e);
        return;
    }
    bool comes_back = w->rules->drain_ms > 0 && by_chance(w, w->rules->back);
    if (comes_back)
        add(w, SIM_BACK, e, w->now_ms + sj_rng_between(&w->chance, 0, 2 * AGAIN_MS), 0);
    else if (w->rules->patience_ms > 0 && w->now_ms - e->born_ms >= w->rules->patience_ms)
        ask_again(w, e);
    if (e->held)
        hold(w, e, false); // nobody slow reads it now
    e->gone = true;
    sj_steps steps;
    sj_journey_client_gone(e->journey, sim_clock(w, e), &steps);
    take(w, e, &steps);
}

static void come_back(sim_world *w, sim_exchange *e) {
    if (!e->gone)
        return;
    saw(w, SIM_SPECIAL_BACK);
    e->gone = false;
    int64_t deadline_ms = sim_clock(w, e) + w->rules->deadline_ms;
    if (e->plan.deadline_ms < deadline_ms)
        e->plan.deadline_ms = deadline_ms;
    sj_journey_client_back(e->journey, deadline_ms, sim_clock(w, e));
    take(w, e, &(sj_steps){.count = 0});
}

static void granted(sim_world *w, sim_exchange *e) {
    sj_steps steps;
    sj_journey_granted(e->journey, sim_clock(w, e), &steps);
    take(w, e, &steps);
}

void sim_happen(sim_world *w, const sim_event *event) {
    w->result->events++;
    trace(w, (uint64_t)event->at_ms << 24 | (uint64_t)event->kind << 20 | (event->exchange & 0xfffff));
    sim_exchange *e = event->exchange <= w->exchange_count ? w->exchanges[event->exchange] : NULL;
    if (w->rules->story)
        (void)fprintf(w->rules->story, "%" PRId64 " event %d exchange %" PRIu64 " tag %" PRIu64 "\n",
                      event->at_ms, event->kind, event->exchange, event->tag);
    if (!e) { // as in the proxy: late news for one that is gone
        if (event->kind == SIM_GRANT)
            saw(w, SIM_SPECIAL_WOKEN_FOR_NOTHING);
        return;
    }
    if (e->committed && !e->held && !e->gone && by_chance(w, w->rules->slow))
        hold(w, e, true);
    switch (event->kind) {
    case SIM_ARRIVAL:
    case SIM_RELOAD:
    case SIM_OPERATOR:
        return;
    case SIM_TIMER:
        ring(w, e, event->tag);
        return;
    case SIM_UPSTREAM:
        upstream_news(w, e, event->tag);
        return;
    case SIM_GRANT:
        granted(w, e);
        return;
    case SIM_LEAVE:
        leave(w, e);
        return;
    case SIM_BACK:
        come_back(w, e);
        return;
    case SIM_RESUME:
        if (e->held)
            hold(w, e, false);
        return;
    }
}
