// Follows each exchange from place to place, and the lines before the slots: who is served before whom.
#include "sim_world.h"

#include <inttypes.h>

enum { LATE_SLACK_MS = 400, TURNS_SLACK = 2 };

#define must(condition, ...)                                                                                 \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            sim_violated(w, e, __VA_ARGS__);                                                                 \
    } while (0)

// ---- lines ----------------------------------------------------------------------------------------------

sj_admission *sim_line_admission(const sim_world *w, int line) {
    return line < SIM_UPSTREAMS ? w->admissions[line] : w->routes[line - SIM_UPSTREAMS];
}

static const sj_admission_rules *rules_of(const sim_world *w, int line) {
    return line < SIM_UPSTREAMS ? &w->rules->slots[line] : &w->rules->route_slots;
}

bool sim_line_is_plain(const sim_world *w, int line) {
    const sj_admission_rules *now = rules_of(w, line);
    const sj_admission_rules *other = line < SIM_UPSTREAMS ? &w->rules->other_slots[line] : now;
    return now->pace.requests_per_minute == 0 && now->pace.tokens_per_minute == 0 &&
           (w->rules->reload_every_ms == 0 ||
            (other->pace.requests_per_minute == 0 && other->pace.tokens_per_minute == 0));
}

static bool takes_turns(const sim_world *w, int line) {
    return w->rules->clients <= SIM_FAIR_CLIENTS && sim_line_is_plain(w, line);
}

static uint64_t client_of(const sim_exchange *e) {
    return e->plan.waiter.client % SIM_FAIR_CLIENTS;
}

static void join(sim_world *w, sim_exchange *e, int line) {
    sim_line *at = &w->lines[line];
    e->line = line;
    e->woken = false;
    e->queued_ms = w->now_ms;
    for (int i = 0; i < SIM_FAIR_CLIENTS; i++)
        e->served_before[i] = at->served[i];
    e->line_before = NULL;
    e->line_after = at->first;
    if (at->first)
        at->first->line_before = e;
    at->first = e;
}

// While it waited, between two turns of its own client every other one had one at most.
static void check_turns(sim_world *w, const sim_exchange *e) {
    const sim_line *at = &w->lines[e->line];
    uint64_t own = client_of(e);
    uint32_t turns = at->served[own] - e->served_before[own];
    for (uint64_t i = 0; i < SIM_FAIR_CLIENTS; i++)
        must(i == own || at->served[i] - e->served_before[i] <= turns + TURNS_SLACK,
             "client %" PRIu64 " was served %u times, client %" PRIu64 " %u times", i,
             at->served[i] - e->served_before[i], own, turns);
}

// Of one client the oldest comes first, whichever worker it lives on. The one whose event this is may just have left.
static void check_age(sim_world *w, const sim_exchange *e) {
    for (const sim_exchange *other = w->lines[e->line].first; other; other = other->line_after)
        must(other == e || other == w->acting || other->woken || client_of(other) != client_of(e) ||
                 other->journey->plan.waiter.since_ms >= e->journey->plan.waiter.since_ms,
             "served before exchange %" PRIu64 ", which is older", other->id);
}

static void served(sim_world *w, sim_exchange *e) {
    if (!takes_turns(w, e->line))
        return;
    check_turns(w, e);
    check_age(w, e);
    w->lines[e->line].served[client_of(e)]++;
}

static void step_out(sim_world *w, sim_exchange *e) {
    sim_line *at = &w->lines[e->line];
    const sj_admission_rules *rules = rules_of(w, e->line);
    bool by_itself = e->asked || (e->line >= SIM_UPSTREAMS && e->journey->holds_route);
    if (!e->woken && by_itself &&
        (e->line >= SIM_UPSTREAMS || (int)sim_upstream_at(w, e, e->asked_hop) == e->line))
        served(w, e);
    at->woken -= e->woken;
    must(w->rules->reload_every_ms > 0 || w->now_ms - e->queued_ms <= rules->timeout_ms + LATE_SLACK_MS,
         "%" PRId64 " ms in a queue", w->now_ms - e->queued_ms);
    if (e->gone && e->woken)
        sim_saw(&w->result->seen, SIM_SAW_SPECIAL, SIM_SPECIAL_LEFT_WOKEN);
    *(e->line_before ? &e->line_before->line_after : &at->first) = e->line_after;
    if (e->line_after)
        e->line_after->line_before = e->line_before;
    e->line = SIM_NO_LINE;
    e->woken = false;
}

void sim_follow_grant(sim_world *w, uint64_t exchange_id) {
    sim_exchange *e = exchange_id <= w->exchange_count ? w->exchanges[exchange_id] : NULL;
    if (!e || e->line == SIM_NO_LINE ||
        !sim_line_is_plain(w, e->line)) // a pace wakes some only to keep the time
        return;
    must(!e->woken, "woken twice");
    served(w, e);
    e->woken = true;
    w->lines[e->line].woken++;
}

static int line_now(const sim_world *w, const sim_exchange *e) {
    const sj_journey *j = e->journey;
    if (j->state != STATE_QUEUED)
        return SIM_NO_LINE;
    return j->queue == j->plan.route_slots ? SIM_UPSTREAMS + (int)e->chain
                                           : (int)sim_upstream_at(w, e, j->hop);
}

static void follow_line(sim_world *w, sim_exchange *e) {
    int line = line_now(w, e);
    if (e->line != SIM_NO_LINE && (line != e->line || e->queued_now))
        step_out(w, e);
    if (line != SIM_NO_LINE && e->line == SIM_NO_LINE)
        join(w, e, line);
    e->queued_now = false;
}

// No free slot while somebody waits, unless one who has been told so is on its way to it; and no slot out that nobody has.
static void check_line(sim_world *w, const sim_exchange *e, int line) {
    if (!sim_line_is_plain(w, line))
        return;
    sj_admission_stats slots = sj_admission_read(sim_line_admission(w, line));
    must(slots.waiting == 0 || slots.in_flight >= slots.limit || w->lines[line].woken > 0,
         "%d are waiting while %d of %d slots are out", slots.waiting, slots.in_flight, slots.limit);
    must(line >= SIM_UPSTREAMS || slots.in_flight == w->upstreams[line].running + w->lines[line].woken,
         "%d slots for %d attempts and %d on their way", slots.in_flight, w->upstreams[line].running,
         w->lines[line].woken);
}

// ---- places ---------------------------------------------------------------------------------------------

static sim_place waiting_place(const sj_journey *j) {
    static const sim_place places[] = {
        [WAIT_BACKOFF] = SIM_AT_BACKOFF, [WAIT_GATE] = SIM_AT_GATE, [WAIT_REOPENING] = SIM_AT_REOPENING};
    return places[j->wait_for];
}

static sim_place mending_place(const sj_journey *j) {
    if (j->state == STATE_QUEUED)
        return SIM_AT_MEND_QUEUE;
    return j->state == STATE_WAITING ? SIM_AT_MEND_WAIT : SIM_AT_MENDING;
}

static sim_place place_now(const sim_exchange *e) {
    const sj_journey *j = e->journey;
    if (j->state != STATE_OVER && journey_is_draining(j))
        return SIM_AT_DRAINING;
    if (j->state != STATE_OVER && sj_journey_is_mending(j))
        return mending_place(j);
    switch (j->state) {
    case STATE_NEW:
        return SIM_AT_NEW;
    case STATE_QUEUED:
        return j->queue == j->plan.route_slots ? SIM_AT_ROUTE : SIM_AT_QUEUE;
    case STATE_WAITING:
        return waiting_place(j);
    case STATE_ATTEMPTING:
        return journey_is_racing(j) ? SIM_AT_RACING : SIM_AT_ASKING;
    case STATE_COMMITTED:
        return SIM_AT_COMMITTED;
    case STATE_OVER:
        break;
    }
    if (e->gone)
        return SIM_AT_LEFT;
    return e->failed ? SIM_AT_FAILED : SIM_AT_ANSWERED;
}

static void follow_stay(sim_world *w, const sim_exchange *e) {
    if (!w->sticky[e->chain])
        return;
    bool stays = sj_sticky_holds(w->sticky[e->chain]);
    if (w->stayed[e->chain] && !stays && e->asked && e->asked_hop == 0)
        sim_saw(&w->result->seen, SIM_SAW_SPECIAL, SIM_SPECIAL_STICKY_RETURN);
    w->stayed[e->chain] = stays;
}

void sim_follow(sim_world *w, sim_exchange *e) {
    sim_place place = place_now(e);
    bool asks = place == SIM_AT_ASKING || place == SIM_AT_MENDING;
    bool queues = place == SIM_AT_QUEUE || place == SIM_AT_MEND_QUEUE;
    bool anew = (asks && e->asked) || (queues && e->queued_now);
    if (place != e->place || anew)
        sim_saw_move(&w->result->seen, e->place, place);
    e->place = place;
    follow_line(w, e);
    follow_stay(w, e);
    for (size_t hop = 0; hop < e->plan.hop_count; hop++)
        check_line(w, e, (int)sim_upstream_at(w, e, hop));
    if (e->plan.route_slots)
        check_line(w, e, SIM_UPSTREAMS + (int)e->chain);
    e->asked = false;
}
