// The carrier of the simulated world: tells the journey what happens and does what it says, as exchange.c does in the proxy.
#include "sim_world.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { LATE_MS = 150, HELD_LOOK_MS = 750 };

void sim_add(sim_world *w, sim_event_kind kind, const sim_exchange *e, int64_t at_ms, uint64_t tag) {
    sim_queue_add(&w->queue, (sim_event){.at_ms = at_ms, .kind = kind, .exchange = e->id, .tag = tag});
}

bool sim_by_chance(sim_world *w, double chance) {
    return chance > 0 && sj_rng_unit(&w->chance) < chance;
}

void sim_saw_special(sim_world *w, sim_special what) {
    sim_saw(&w->result->seen, SIM_SAW_SPECIAL, (int)what);
}

static struct sim_slice *slice(sim_world *w, int64_t at_ms) {
    size_t n = sizeof w->result->slices / sizeof *w->result->slices;
    size_t i = (size_t)(at_ms / 10000);
    return &w->result->slices[i < n ? i : n - 1];
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
                     .credential = sim_credential(w, e, step->hop, step->key),
                     .replays = step->mend == SJ_MEND_REPLAY,
                     .again = step->mend == SJ_MEND_REPLAY ? e->contents : 0,
                     .started_ms = sim_clock(w, e)};
    e->last_attempt = step->attempt;
    if (step->mend)
        sim_saw_special(w, step->mend == SJ_MEND_REPLAY ? SIM_SPECIAL_REPLAY : SIM_SPECIAL_CONTINUE);
    e->asked = true;
    e->asked_hop = step->hop;
    w->result->starts++;
    sim_check_started(w, leg);
    sim_upstream *upstream = &w->upstreams[sim_upstream_at(w, e, step->hop)];
    long before = upstream->sent;
    int64_t first = sim_upstream_begin(upstream, &leg->model, e->plan.stream, step->fresh, leg->credential,
                                       w->now_ms, &w->rng);
    slice(w, w->now_ms)->sent += upstream->sent - before;
    sim_saw(&w->result->seen, SIM_SAW_FATE, (int)leg->model.fate);
    if (first >= 0)
        sim_add(w, SIM_UPSTREAM, e, w->now_ms + first, (uint64_t)step->attempt);
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
        sim_saw_special(w, SIM_SPECIAL_DRAINED);
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
        sim_saw_special(w, SIM_SPECIAL_PROBE_SAVED);
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
        e->mending = false;
        sj_journey_can_mend(e->journey, e->can_replay, e->can_continue);
        e->committed_hop = step->hop;
        e->status = leg->status;
        return;
    case SJ_STEP_DELIVER:
        answered(w, e, leg->status, step->hop);
        return;
    case SJ_STEP_DELIVER_SAVED:
        answered(w, e, e->saved_status, step->hop);
        return;
    case SJ_STEP_MEND:
        e->mending = true;
        return;
    case SJ_STEP_SUPPLY_DONE:
    case SJ_STEP_KEEPALIVE:
        return;
    case SJ_STEP_FINISH:
        answered(w, e, e->status, e->committed_hop);
        return;
    case SJ_STEP_BREAK:
        failed(w, e, &w->result->broken);
        if (step->quiet)
            sim_saw_special(w, SIM_SPECIAL_QUIET_BREAK);
        return;
    case SJ_STEP_REFUSE:
        sim_saw(&w->result->seen, SIM_SAW_REFUSAL, (int)step->refusal);
        failed(w, e, &w->result->refused[step->refusal]);
        return;
    }
}

void sim_arm_timer(sim_world *w, sim_exchange *e) {
    int64_t due = sj_journey_due_ms(e->journey);
    if (due == INT64_MAX ||
        (e->timer_at_ms &&
         e->timer_at_ms <= due)) // as in the proxy: rings early rather than being armed anew
        return;
    e->timer_at_ms = due;
    int64_t at = due + w->lags[e->worker];
    if (sim_by_chance(w, w->rules->late_timer))
        at += sj_rng_between(&w->chance, 1, LATE_MS);
    sim_add(w, SIM_TIMER, e, at > w->now_ms ? at : w->now_ms, ++e->timer_tag);
}

static void dispose(sim_world *w, sim_exchange *e) {
    sj_journey_free(&e->journey);
    w->exchanges[e->id] = NULL;
    w->alive--;
    free(e);
}

void sim_take(sim_world *w, sim_exchange *e, const sj_steps *steps) {
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
        sim_add(w, SIM_GRANT, &woken, w->now_ms + sj_rng_between(&w->chance, 0, 3), 0);
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
            sim_ask_again(w, e);
        dispose(w, e);
        return;
    }
    sim_arm_timer(w, e);
    if (sim_by_chance(w, w->rules->leaves))
        sim_add(w, SIM_LEAVE, e,
                w->now_ms + (sim_by_chance(w, 0.5) ? 0 : sj_rng_between(&w->chance, 0, 5000)), 0);
}

// ---- events ---------------------------------------------------------------------------------------------

// What mends a stream begins with what the client has already, or says something else, or ends before.
static bool goes_astray(sim_world *w, sim_leg *leg, sim_news *news) {
    if (!leg->replays || !(news->says & (SJ_SAYS_CONTENT | SJ_SAYS_FINISH)))
        return false;
    if (leg->again == 0 || news->says & SJ_SAYS_FINISH)
        return leg->again > 0 || sim_by_chance(w, w->rules->diverging);
    leg->again--;
    news->says = SJ_SAYS_AGAIN;
    return sim_by_chance(w, w->rules->diverging);
}

static void upstream_news(sim_world *w, sim_exchange *e, uint64_t attempt) {
    sim_leg *leg = sim_leg_of(e, (int)attempt);
    if (!leg)
        return; // cancelled meanwhile
    if (e->held) { // its window is shut; it goes on when the client reads again
        sim_add(w, SIM_UPSTREAM, e, w->now_ms + HELD_LOOK_MS, attempt);
        return;
    }
    sim_news news = sim_upstream_news(&w->upstreams[sim_upstream_at(w, e, leg->hop)], &leg->model, &w->rng);
    int64_t now = sim_clock(w, e);
    sj_steps steps = {.count = 0};
    if (news.next_ms >= 0)
        sim_add(w, SIM_UPSTREAM, e, w->now_ms + news.next_ms, attempt);
    switch (news.kind) {
    case SIM_NEWS_NONE:
        return;
    case SIM_NEWS_HEAD:
        leg->status = news.status;
        sj_journey_attempt_head(e->journey, leg->attempt, news.status, &news.hint, true, now, &steps);
        break;
    case SIM_NEWS_SAYS:
        if (goes_astray(w, leg, &news)) {
            sim_saw_special(w, SIM_SPECIAL_DIVERGED);
            sj_journey_attempt_diverged(e->journey, leg->attempt, now, &steps);
            break;
        }
        e->contents += (news.says & SJ_SAYS_CONTENT) != 0;
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
    sim_take(w, e, &steps);
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
        sim_saw_special(w, SIM_SPECIAL_DRAIN_OVER);
    sim_take(w, e, &steps);
}

static void granted(sim_world *w, sim_exchange *e) {
    sj_steps steps;
    sj_journey_granted(e->journey, sim_clock(w, e), &steps);
    sim_take(w, e, &steps);
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
            sim_saw_special(w, SIM_SPECIAL_WOKEN_FOR_NOTHING);
        return;
    }
    if (e->committed && !e->held && !e->gone && sim_by_chance(w, w->rules->slow))
        sim_hold(w, e, true);
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
        sim_leave(w, e);
        return;
    case SIM_BACK:
        sim_come_back(w, e);
        return;
    case SIM_RESUME:
        if (e->held)
            sim_hold(w, e, false);
        return;
    }
}
