// A world in virtual time: clients, several workers and upstreams around the real journey, targets and admissions of lib. No threads, no clock;
// everything is drawn from one seed. After every event the invariants that can be seen from here are checked (sim_check.h).
#ifndef SIM_H
#define SIM_H

#include "sim_seen.h"
#include "sim_upstream.h"

enum {
    SIM_UPSTREAMS = 4,
    SIM_TARGETS = 6,
    SIM_CHAINS = 4,
    SIM_HOPS = 4,
    SIM_PHASES = 64,
    SIM_WORKERS = 8,
    SIM_FAIR_CLIENTS = 16
};

typedef struct sim_phase { // from then on the upstream is in that mood
    int64_t at_ms;
    size_t upstream; // SIM_UPSTREAMS: all of them
    sim_mood mood;
} sim_phase;

typedef struct sim_rules {
    uint64_t seed;
    int64_t arrivals_until_ms;
    long requests; // no more arrivals than that
    double per_second;
    double surge; // arrivals are that many times more frequent between the two; 0 never
    int64_t surge_from_ms, surge_until_ms;
    // Arrivals come in bursts of so long, every so often; between them they are quiet times as frequent. 0: evenly.
    int64_t burst_every_ms, burst_ms;
    double quiet;
    int workers;
    int64_t lag_ms; // a worker's clock is behind by up to that
    size_t upstream_count;
    sim_mood moods[SIM_UPSTREAMS];
    sj_admission_rules slots[SIM_UPSTREAMS];
    size_t target_count, upstream_of[SIM_TARGETS];
    sj_target_rules targets;
    size_t chain_count;
    struct {
        size_t n, target[SIM_HOPS];
    } chains[SIM_CHAINS];
    sj_retry_policy retry;
    double verified; // share of the streams
    double rescue, rescue_other_model; // shares of the streams, and of those
    double diverging; // share of the replays that say something else
    int models; // targets take turns in having them
    unsigned prefill; // a bit for each target that goes on from a partial answer
    int64_t keepalive_ms, race_after_ms; // 0 off
    sj_admission_rules route_slots; // of each chain; max_concurrent 0: none
    bool sticky;
    sj_sticky_rules stay;
    int64_t first_byte_ms, idle_ms, answer_ms, deadline_ms, fallback_gate_ms, stream_max_ms;
    double streams, gets, posts; // shares of the requests; the rest are whole generations
    double unreplayable, unmovable, bound; // shares of any kind
    int credentials;
    size_t keys[SIM_UPSTREAMS]; // an upstream has so many, whatever the clients send; 0: theirs is passed on
    int clients; // ids that take turns in queues
    double naive; // share of the exchanges whose client asks again whenever it failed, and does not say so
    int64_t patience_ms; // a client leaves then and asks again; 0 never
    int client_retries;
    double leaves; // chance per event that the client leaves just then
    int64_t drain_ms; // what runs is read on for so long when a client has left; 0 not
    double
        back; // chance that one that left comes back to what is read on; a tenth of it that one asks twice at once
    double slow; // chance per committed event that it stops reading for a while
    double late_timer; // chance that a timer rings late
    int64_t reload_every_ms; // these rules and the other ones in turn; 0 never
    sj_admission_rules other_slots[SIM_UPSTREAMS];
    sj_target_rules other_targets;
    int64_t operator_every_ms; // somebody forces a breaker; 0 never
    size_t phase_count;
    sim_phase phases[SIM_PHASES];
    FILE *story; // every event, note and step as a line; NULL none
} sim_rules;

// Reasonable defaults: one upstream, one target, 100 requests a second for a minute, nothing fails.
void sim_defaults(sim_rules *rules, uint64_t seed);

typedef struct sim_result {
    char violation[768]; // "" all invariants held
    uint64_t trace; // of everything that happened
    long requests; // what clients wanted
    long exchanges; // their own retries included
    long good, failed, left; // exchanges: answered (callers' errors included), failed, left by the client
    long refused[SJ_REFUSAL_COUNT], broken, bad_status;
    long sent[SIM_UPSTREAMS], most_running[SIM_UPSTREAMS];
    long starts, events, opened; // breaker openings
    int64_t ended_ms; // virtual
    sim_seen seen;
    // latencies to the end of good exchanges
    int64_t p50_ms, p99_ms, worst_ms;
    // per 10 s of virtual time
    struct sim_slice {
        long requests, good, sent;
        long strong; // answered by the first of their chain
    } slices[720];
} sim_result;

void sim_run(const sim_rules *rules, sim_result *result);

#endif
