// The inside of the simulator, shared by its files.
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include "sim.h"
#include "sim_queue.h"

#include "journey_internal.h" // to follow an exchange from place to place: read, never written

enum { SIM_LEGS = 2, SIM_LINES = SIM_UPSTREAMS + SIM_CHAINS, SIM_NO_LINE = -1 };

// One attempt of an exchange, as long as something of it may still be wanted.
typedef struct sim_leg {
    struct sim_exchange *exchange;
    int attempt; // its number; 0: free
    bool running; // its transfer is alive; else it ended with the present event
    size_t hop;
    int64_t started_ms;
    int status;
    uint64_t credential;
    bool replays;
    int again; // contents to come that the client has already
    sim_attempt model;
    bool probe;
    struct sim_leg *probe_next;
} sim_leg;

typedef struct sim_exchange {
    uint64_t id;
    sj_journey *journey;
    sj_plan plan;
    sj_hop hops[SIM_HOPS];
    size_t target_of[SIM_HOPS];
    int worker;
    uint64_t credential;
    sim_leg legs[SIM_LEGS];
    int last_attempt;
    bool racing; // an attempt beside another one is announced
    // what the client has seen
    int committed; // the attempt that flows to it, or did until it broke; 0 none
    bool mending; // it broke, and nothing has gone on with it yet
    bool can_replay, can_continue;
    int contents; // that the client has
    size_t committed_hop;
    int status; // of what flowed
    bool saved, gone, told, failed; // told: its one end; failed: and it was a bad one
    int saved_status;
    bool held;
    int64_t own_gate_ms[SIM_HOPS][SIM_CREDENTIALS];
    int attempts_at[SIM_HOPS];
    // where it is
    sim_place place;
    size_t chain;
    bool asked; // an attempt has been started in this event
    size_t asked_hop;
    int race_first, race_second; // the attempts of its race
    bool failed_probe;
    // while it waits in a line, of an upstream or (from SIM_UPSTREAMS on) a route
    int line; // SIM_NO_LINE: in none
    bool queued_now, woken; // woken: served, and has not looked yet
    int64_t queued_ms;
    uint32_t served_before[SIM_FAIR_CLIENTS]; // of each client, when it joined
    struct sim_exchange *line_before, *line_after;
    // its timer
    uint64_t timer_tag;
    int64_t timer_at_ms; // 0: not armed
    int rings;
    // the client
    int64_t asked_ms, born_ms, left_ms;
    int retry_count;
    bool naive;
} sim_exchange;

typedef struct sim_gate { // "not before" as this side remembers it
    int64_t until_ms, refused_ms;
} sim_gate;

typedef struct sim_line { // who waits for slots of one admission, as seen from outside
    sim_exchange *first;
    int woken;
    uint32_t served[SIM_FAIR_CLIENTS];
} sim_line;

typedef struct sim_world {
    const sim_rules *rules;
    sim_result *result;
    sim_queue queue;
    sj_rng rng, chance; // what happens; what goes wrong with clients and timers
    int64_t now_ms;
    int64_t lags[SIM_WORKERS];
    sim_upstream upstreams[SIM_UPSTREAMS];
    sj_admission *admissions[SIM_UPSTREAMS];
    sj_target *targets[SIM_TARGETS];
    sj_global_breaker *global;
    sj_keys *keys[SIM_UPSTREAMS];
    sj_sticky *sticky[SIM_CHAINS];
    sj_admission *routes[SIM_CHAINS];
    sj_retry_policy retry;
    sim_line lines[SIM_LINES];
    bool stayed[SIM_CHAINS], cut[SIM_UPSTREAMS];
    uint64_t cuts[SIM_UPSTREAMS];
    bool reloaded; // the other rules are in force
    sim_gate gates[SIM_TARGETS][SIM_CREDENTIALS];
    sim_leg *probes[SIM_TARGETS]; // under way, of the present half-open generation
    uint64_t probe_generation[SIM_TARGETS];
    sim_exchange **exchanges; // by id; NULL: gone
    const sim_exchange *acting; // whose event this is; NULL nobody's
    uint64_t exchange_count, exchange_size, alive;
    size_t phase;
    int64_t *latencies;
    size_t latency_count, latency_size;
} sim_world;

static inline int64_t sim_clock(const sim_world *w, const sim_exchange *e) {
    return w->now_ms - w->lags[e->worker];
}
static inline sim_leg *sim_leg_of(sim_exchange *e, int attempt) {
    for (int i = 0; i < SIM_LEGS; i++)
        if (attempt != 0 && e->legs[i].attempt == attempt)
            return &e->legs[i];
    return NULL;
}
static inline int sim_running(const sim_exchange *e) {
    int n = 0;
    for (int i = 0; i < SIM_LEGS; i++)
        n += e->legs[i].running;
    return n;
}
// What is sent there: one of the upstream's keys, or what the client has.
static inline uint64_t sim_credential(const sim_world *w, const sim_exchange *e, size_t hop, size_t key) {
    return w->keys[w->rules->upstream_of[e->target_of[hop]]] ? (uint64_t)key : e->credential;
}
static inline size_t sim_upstream_at(const sim_world *w, const sim_exchange *e, size_t hop) {
    return w->rules->upstream_of[e->target_of[hop]];
}

// ---- sim_check.c: what must hold ------------------------------------------------------------------------

__attribute__((format(printf, 3, 4))) void sim_violated(sim_world *w, const sim_exchange *e,
                                                        const char *format, ...);
void sim_check_note(sim_world *w, sim_exchange *e, const sj_note *note);
void sim_check_step(sim_world *w, sim_exchange *e, const sj_step *step);
// After a START has been carried out.
void sim_check_started(sim_world *w, sim_leg *leg);
// After each event of an exchange.
void sim_check_exchange(sim_world *w, sim_exchange *e);
// The exchange has ended badly.
void sim_check_failed(sim_world *w, sim_exchange *e);
// An attempt is no probe any more.
void sim_forget_probe(sim_world *w, sim_leg *leg);
// At the end of the world: nothing is still out.
void sim_check_end(sim_world *w);

// ---- sim_follow.c: from place to place, and who is served before whom -----------------------------------

// An exchange is told of a grant.
void sim_follow_grant(sim_world *w, uint64_t exchange_id);
// After each event of an exchange.
void sim_follow(sim_world *w, sim_exchange *e);
sj_admission *sim_line_admission(const sim_world *w, int line);
// Nothing but free slots decides who is served: the rates of a pace do not play a part.
bool sim_line_is_plain(const sim_world *w, int line);

// ---- sim_upkeep.c: what people do to a running proxy ----------------------------------------------------

void sim_upkeep_begin(sim_world *w);
void sim_reload(sim_world *w);
void sim_operate(sim_world *w);

// ---- sim_client.c: what clients do ----------------------------------------------------------------------

void sim_ask(sim_world *w, int64_t asked_ms, int retry_count, bool naive);
void sim_ask_again(sim_world *w, const sim_exchange *e);
// It stops reading, or reads again.
void sim_hold(sim_world *w, sim_exchange *e, bool held);
void sim_leave(sim_world *w, sim_exchange *e);
// To what is still read for it.
void sim_come_back(sim_world *w, sim_exchange *e);

// ---- sim_exchange.c: the carrier ------------------------------------------------------------------------

void sim_add(sim_world *w, sim_event_kind kind, const sim_exchange *e, int64_t at_ms, uint64_t tag);
bool sim_by_chance(sim_world *w, double chance);
void sim_saw_special(sim_world *w, sim_special what);
// Does what the journey says.
void sim_take(sim_world *w, sim_exchange *e, const sj_steps *steps);
void sim_arm_timer(sim_world *w, sim_exchange *e);
void sim_happen(sim_world *w, const sim_event *event);

#endif
