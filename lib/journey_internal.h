// Shared by the files of the journey and included by nobody else:
// journey.c (events and time), journey_choose.c (which target next, and when), journey_after.c (what follows an attempt's end),
// journey_books.c (what is told, and what is taken and given back), journey_race.c (two targets at once), journey_drain.c (the client has left),
// journey_keys.c (which key), journey_mend.c (a committed stream that broke), journey_text.c (what people read).
#ifndef SJ_JOURNEY_INTERNAL_H
#define SJ_JOURNEY_INTERNAL_H

#include "journey.h"

// SHORT_TRAIL: of an exchange without trouble; only the others need room for more.
enum { MAX_HOPS = 16, MAX_RUNNING = 2, SHORT_TRAIL = 2 };

typedef enum journey_state {
    STATE_NEW,
    STATE_QUEUED, // for a slot of the route or at hop's upstream
    STATE_WAITING, // for wait_until_ms
    STATE_ATTEMPTING,
    STATE_COMMITTED,
    STATE_OVER,
} journey_state;

typedef enum wait_reason { WAIT_BACKOFF, WAIT_GATE, WAIT_REOPENING } wait_reason;

typedef struct hop_state {
    int counted; // attempts that count against the limit
    int retry_no; // n of the backoff formula
    int64_t previous_wait_ms;
    bool unsent_retry_used, stale_retry_used;
    bool exhausted; // never again in this exchange
    uint8_t key; // for the attempt that is being started
    int keys_refused;
    bool replayed, continued; // has had its turn at mending the present break
    bool requested; // asked at least once: counted in its target's budget, the next one is a retry
} hop_state;

// How far a stream has got. From SAID_ALL_BUT_DONE on, silence completes it.
typedef enum said { SAID_SOME, SAID_ALL_BUT_DONE, SAID_ALL, SAID_ERROR } said;

typedef struct attempt_state {
    int id; // 0: free place
    size_t hop;
    size_t key;
    bool spared; // refused for its key while another one is fit
    bool beside; // a silent one
    bool inspected, content, held;
    int status;
    sj_retry_hint hint;
    sj_permit permit;
    sj_charge charge;
    int64_t started_ms, head_ms, active_ms, first_content_ms;
    int64_t race_ms; // when another target is asked beside it; INT64_MAX never
    said said;
    sj_verdict error; // on the error event that is shown as it is: SAID_ERROR
} attempt_state;

typedef enum trail_kind { TRAIL_ATTEMPT, TRAIL_WAIT, TRAIL_QUEUE } trail_kind;

typedef struct trail_entry {
    trail_kind kind;
    size_t hop;
    int64_t ms;
    char word[32]; // of an attempt: status or reason
    bool unsent, stale;
} trail_entry;

struct sj_journey {
    sj_plan plan;
    sj_rng rng;
    journey_state state;
    size_t hop; // the one being attempted, waited for or queued at
    attempt_state running[MAX_RUNNING];
    int last_attempt_id;
    sj_class last_class;
    size_t last_hop;
    bool budget_refused;
    // an answer kept for the case that nothing better comes
    bool saved;
    size_t saved_hop;
    sj_class saved_class;
    int64_t saved_upstream_ms;
    // waiting
    int64_t wait_until_ms, wait_since_ms;
    int64_t keepalive_at_ms; // INT64_MAX never
    int64_t drain_until_ms; // INT64_MAX: the client is there
    wait_reason wait_for;
    sj_admission *stands_by; // where it has a place while it waits for a gate or a reopening; NULL nowhere
    sj_admission *queue; // that it waits in, or waited in last
    bool holds_route;
    int64_t gate_turn_ms, gate_look_ms; // of the gate being waited at; 0 none
    uint64_t gate_credential; // whose gate that is
    int64_t probe_look_ms; // while all probes are out; 0 none
    int64_t unhinted_wait_ms; // towards max_wait_total
    int64_t open_wait_ms; // towards max_open_wait
    int64_t earliest_ms; // reopening or gate seen when nothing was available; INT64_MAX none
    int64_t committed_ms; // the first commit
    // mending a committed stream that broke
    sj_mend mend; // NONE: nothing is broken, or nothing can be done
    bool can_replay, can_continue;
    int mends, rescues; // begun; successful
    size_t broken_hop;
    int64_t broken_ms;
    char broken_word[32];
    // the attempt to come
    size_t next_hop; // where the four below hold; elsewhere they are dropped
    bool next_is_fresh;
    bool next_is_free; // does not count against the attempt limit
    bool next_is_paid;
    sj_charge next_charge;
    // for labels
    char fallback[32];
    int attempts_sent, retries;
    int64_t wait_ms, queue_ms, upstream_ms;
    trail_entry *trail; // short_trail, or owned
    int trail_count, trail_room;
    bool trail_cut; // entries between the last two are missing
    trail_entry short_trail[SHORT_TRAIL];
    hop_state hops[]; // plan.hop_count
};

static inline const sj_hop *journey_hop(const sj_journey *j, size_t hop) {
    return &j->plan.hops[hop];
}
static inline int64_t journey_sooner(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static inline bool journey_is_gentle(sj_class class) { // a retry after it is the cheaper kind
    return class == SJ_CLASS_THROTTLED || class == SJ_CLASS_TIMED_OUT;
}

// ---- journey_books.c ------------------------------------------------------------------------------------

void journey_set_state(sj_journey *j, journey_state state);
// A place to wait for hop's gate or reopening, kept from one look to the next. False: too many wait there for one that has not attempted anything.
bool journey_stand_by(sj_journey *j, size_t hop);
sj_step *journey_step(sj_steps *out, sj_step_kind kind);
sj_note *journey_note(sj_steps *out, sj_note_kind kind, size_t hop, const char *reason);
// An attempt's end for trail, note and labels.
void journey_note_attempt(sj_journey *j, const attempt_state *a, const sj_verdict *v, bool sent, int64_t now,
                          sj_steps *out);
attempt_state *journey_running(sj_journey *j, int id);
// The target's permission; the slot is there already. The attempt keeps the permit until it is settled.
sj_admit journey_admit(sj_journey *j, size_t hop, sj_permit *permit, int64_t *retry_at, int64_t now,
                       sj_steps *out);
// A slot there, by way of hop: GRANTED, QUEUED (the state says so) or FULL.
sj_slot_answer journey_acquire(sj_journey *j, sj_admission *from, size_t hop, int64_t now, sj_steps *out);
// Queued: GRANTED (and taken), QUEUED (wait_until_ms is set) or LATE (and out of the queue).
sj_slot_answer journey_look(sj_journey *j, int64_t now, sj_steps *out);
// A slot that no attempt was started with.
void journey_release_unused(sj_journey *j, size_t hop, int64_t now, sj_steps *out);
// For the upstream's limit and pace, before the attempt is settled. over NULL: it was cancelled, or the stream was complete before its end.
void journey_teach(sj_journey *j, const attempt_state *a, const sj_verdict *v, const sj_attempt_over *over,
                   int64_t now);
// First content as far as everything shared is concerned.
void journey_content(sj_journey *j, attempt_state *a, int64_t now, sj_steps *out);
// The attempt's end as far as everything shared is concerned; its place is free afterwards.
void journey_settle(sj_journey *j, attempt_state *a, sj_effect effect, bool own_side, bool refund,
                    int64_t now, sj_steps *out);
void journey_end_wait(sj_journey *j, int64_t now);
// Gives the slot back if it has been granted meanwhile.
void journey_leave_queue(sj_journey *j, int64_t now, sj_steps *out);
// What is set aside for the attempt to come is given back.
void journey_forget_next(sj_journey *j);
// Over: the last that is given back is the route's slot.
void journey_end(sj_journey *j, int64_t now, sj_steps *out);
// Whatever it is doing, it stops for a reason of our own: nothing is held afterwards, and nothing learnt.
void journey_drop_attempt(sj_journey *j, attempt_state *a, const char *word, int64_t now, sj_steps *out);
void journey_drop_everything(sj_journey *j, const char *word, int64_t now, sj_steps *out);

// ---- journey_choose.c -----------------------------------------------------------------------------------

bool journey_moves(const sj_journey *j); // may be answered by another target than the first
bool journey_has_next(const sj_journey *j); // another candidate further down
bool journey_has_available_next(const sj_journey *j, int64_t now); // one that could answer right now
// Waits, without holding anything but what is paid for the attempt to come.
void journey_wait_until(sj_journey *j, size_t hop, int64_t until_ms, wait_reason why, int64_t now);
// Tries the candidates from `first` on; nothing available: waits for the earliest reopening, or gives up. why: for what the hop before was
// left, NULL if none was.
void journey_choose(sj_journey *j, size_t first, const char *why, int64_t now, sj_steps *out);
// The first look at the chain.
void journey_begin(sj_journey *j, int64_t now, sj_steps *out);
// The present hop is done with: on to `next`, or the end.
void journey_advance(sj_journey *j, size_t next, const char *why, int64_t now, sj_steps *out);
// The next one that takes a longer text, or simply the next.
size_t journey_next_for_longer(const sj_journey *j);
// Still queued: perhaps another target is free and this has lasted long enough. Sets when to look again.
void journey_weigh_queue(sj_journey *j, int64_t now, sj_steps *out);
// What it was queued for has been granted and taken.
void journey_use_grant(sj_journey *j, int64_t now, sj_steps *out);

// A permitted attempt with a slot begins; what is set aside for it becomes its own.
void journey_start(sj_journey *j, size_t hop, const sj_permit *permit, int64_t now, sj_steps *out);
bool journey_is_candidate(const sj_journey *j, size_t hop);

// ---- journey_race.c -------------------------------------------------------------------------------------

// When an attempt that begins now should get company; INT64_MAX never.
int64_t journey_race_due(const sj_journey *j, size_t hop, int64_t now);
// The attempt has been silent for long: asks another target beside it, if one is free and paid for.
void journey_race(sj_journey *j, attempt_state *silent, int64_t now, sj_steps *out);
bool journey_is_racing(const sj_journey *j); // two attempts are under way
bool journey_others_run(const sj_journey *j); // at least one is
// The others have lost: their transfers are cancelled and nothing is learnt from them.
void journey_drop_others(sj_journey *j, const attempt_state *winner, int64_t now, sj_steps *out);

// ---- journey_drain.c ------------------------------------------------------------------------------------

bool journey_is_draining(const sj_journey *j); // the client has left: nothing new is started
void journey_drain_over(sj_journey *j, int64_t now, sj_steps *out);

// ---- journey_keys.c -------------------------------------------------------------------------------------

// What an attempt that began now would be sent with: the key's place, and its hash.
size_t journey_key(const sj_journey *j, size_t hop, int64_t now);
uint64_t journey_credential(const sj_journey *j, size_t hop, int64_t now);
// The attempt's end as far as its key is concerned. True: the key was refused and another one may be asked.
bool journey_learn_key(sj_journey *j, attempt_state *a, const sj_verdict *v, int64_t now, sj_steps *out);
// What that would say, without learning.
bool journey_has_next_key(const sj_journey *j, const attempt_state *a, const sj_verdict *v, int64_t now);
// The attempt was the last for so long with its key.
void journey_rest_key(const sj_journey *j, const attempt_state *a, int64_t ms, int64_t now);
// How long a wait is really asked for when other keys may be back before.
int64_t journey_keys_back_in(const sj_journey *j, size_t hop, int64_t hint_ms, int64_t now);

// ---- journey_mend.c -------------------------------------------------------------------------------------

// A committed stream broke at this hop. False: it cannot be mended. The attempt has been settled.
bool journey_mend(sj_journey *j, int attempt, size_t hop, const char *word, int64_t now, sj_steps *out);
// Whether this hop may do what the present mending asks for.
bool journey_mends(const sj_journey *j, size_t hop);
// While another target could go on at once, nobody waits for one that is shut.
bool journey_has_another_mend(const sj_journey *j, int64_t now);
// An attempt at mending has ended or said something else: on, or the end. exhausted: that hop is done with for good.
void journey_mend_next(sj_journey *j, size_t hop, bool exhausted, const char *why, int64_t now, sj_steps *out);
// No target is left for the present way of mending.
void journey_mend_failed(sj_journey *j, int64_t now, sj_steps *out);
// The client gets something new.
void journey_mended(sj_journey *j, size_t hop, int64_t now, sj_steps *out);
// The committed answer ends visibly.
void journey_break(sj_journey *j, bool quiet, int64_t now, sj_steps *out);

// ---- journey_after.c ------------------------------------------------------------------------------------

sj_verdict journey_judge(const sj_journey *j, const attempt_state *a, const sj_attempt_facts *facts);
// The attempt is over before anything of it went to the client. transferring: its transfer must be cancelled.
void journey_ended_before_commit(sj_journey *j, attempt_state *a, const sj_attempt_over *over,
                                 bool transferring, int64_t now, sj_steps *out);
// Whether an error that came as an event is to be shown as it is: there is nowhere better to go.
bool journey_shows_error(sj_journey *j, const attempt_state *a, const sj_verdict *v, int64_t now);
void journey_refuse(sj_journey *j, sj_refusal refusal, int64_t retry_after_ms, int64_t now, sj_steps *out);
// By one that could not get in, or not in time: with what the queue really takes.
void journey_refuse_queue(sj_journey *j, sj_refusal refusal, sj_admission *queue, int64_t now, sj_steps *out);
// The end without an answer of the present attempt: the saved one, or our own error.
void journey_give_up(sj_journey *j, int64_t now, sj_steps *out);

#endif
