#include "sim_seen.h"

#include "sim_queue.h"
#include "sim_upstream.h"

#include <string.h>

// ---- what there is to be seen ---------------------------------------------------------------------------
// A kind without a name is none that a world of this kind can hold.

static const char *const events[] = {
    [SIM_ARRIVAL] = "arrival", [SIM_TIMER] = "timer",   [SIM_UPSTREAM] = "news",
    [SIM_GRANT] = "grant",     [SIM_LEAVE] = "leave",   [SIM_RESUME] = "resume",
    [SIM_BACK] = "back",       [SIM_RELOAD] = "reload", [SIM_OPERATOR] = "operator",
};

static const char *const ends[] = {
    [SJ_END_WHOLE] = "whole",   [SJ_END_NEVER_SENT] = "never sent",
    [SJ_END_STALE] = "stale",   [SJ_END_NO_ANSWER] = "no answer",
    [SJ_END_BROKEN] = "broken", [SJ_END_GARBAGE] = "garbage",
    [SJ_END_TIMED_OUT] = NULL, // the journey's own timers
    [SJ_END_LOCAL] = "local",   [SJ_END_TLS_UNVERIFIED] = "tls unverified",
    [SJ_END_CANCELLED] = NULL, // the journey's own doing
};

static const char *const steps[] = {
    [SJ_STEP_START] = "start",     [SJ_STEP_CANCEL] = "cancel",
    [SJ_STEP_SAVE] = "save",       [SJ_STEP_COMMIT] = "commit",
    [SJ_STEP_DELIVER] = "deliver", [SJ_STEP_DELIVER_SAVED] = "deliver saved",
    [SJ_STEP_FINISH] = "finish",   [SJ_STEP_KEEPALIVE] = "keepalive",
    [SJ_STEP_BREAK] = "break",     [SJ_STEP_SUPPLY_DONE] = "supply done",
    [SJ_STEP_REFUSE] = "refuse",   [SJ_STEP_MEND] = "mend",
};

static const char *const notes[] = {
    [SJ_NOTE_ATTEMPT] = "attempt",
    [SJ_NOTE_RETRY] = "retry",
    [SJ_NOTE_HINT_GATE] = "hint gate",
    [SJ_NOTE_BREAKER] = "breaker",
    [SJ_NOTE_FALLBACK] = "fallback",
    [SJ_NOTE_BUDGET_REFUSED] = "budget refused",
    [SJ_NOTE_RACE] = "race",
    [SJ_NOTE_QUEUED] = "queued",
    [SJ_NOTE_DRAIN] = "drain",
    [SJ_NOTE_ALERT] = "alert",
    [SJ_NOTE_GRANT] = "grant",
    [SJ_NOTE_RESCUED] = "rescued",
    [SJ_NOTE_KEY] = "key",
};

static const char *const specials[] = {
    [SIM_SPECIAL_SDK_RETRY] = "sdk asks again",
    [SIM_SPECIAL_NAIVE_RETRY] = "naive client asks again",
    [SIM_SPECIAL_RACE_FIRST] = "race won by the silent one",
    [SIM_SPECIAL_RACE_SECOND] = "race won by the second",
    [SIM_SPECIAL_RACE_BOTH_LOST] = "race lost by both",
    [SIM_SPECIAL_VERIFIED] = "verified stream",
    [SIM_SPECIAL_QUIET_BREAK] = "quiet break",
    [SIM_SPECIAL_LIMIT_CUT] = "limit cut",
    [SIM_SPECIAL_LIMIT_BACK] = "limit whole again",
    [SIM_SPECIAL_BUDGET_FLOOR] = "retry on the budget's floor",
    [SIM_SPECIAL_STALE_RESULT] = "result of an older generation",
    [SIM_SPECIAL_STICKY_START] = "start at the fallback stayed with",
    [SIM_SPECIAL_STICKY_RETURN] = "return to the strong target",
    [SIM_SPECIAL_PROBE_SAVED] = "probe failed, exchange answered",
    [SIM_SPECIAL_GATE_LIFTED] = "gate lifted early",
    [SIM_SPECIAL_LEFT_WOKEN] = "left with a slot granted",
    [SIM_SPECIAL_WOKEN_FOR_NOTHING] = "woken after the end",
    [SIM_SPECIAL_DRAINED] = "drained to the end",
    [SIM_SPECIAL_DRAIN_OVER] = "drain over",
    [SIM_SPECIAL_ABORTED] = "drain aborted",
    [SIM_SPECIAL_BACK] = "client back",
    [SIM_SPECIAL_JOINED] = "client joined",
    [SIM_SPECIAL_REPLAY] = "replay tried",
    [SIM_SPECIAL_CONTINUE] = "continuation tried",
    [SIM_SPECIAL_REPLAYED] = "stream went on by replay",
    [SIM_SPECIAL_CONTINUED] = "stream went on by continuation",
    [SIM_SPECIAL_DIVERGED] = "replay diverged",
    [SIM_SPECIAL_ALL_KEYS_REST] = "asked though all keys rest",
    [SIM_SPECIAL_HELD] = "slow reader",
};

// "own": a fault of the attempt itself. A global breaker shuts all targets, so nobody is left for it.
static const char *const fallbacks[] = {"own",    "breaker_open", "gated",    "queue_full", "queue_slow",
                                        "budget", "sticky",       "diverged", "no_stream"};

static const char *const keys[] = {"dead", "exhausted", "accepted"};

static const char *const sources[] = {"next_key",          "backoff",
                                      "at_once",           "retry-after-ms",
                                      "retry-after",       "x-ratelimit-reset-*",
                                      "x-ratelimit-reset", "x-ratelimit-remaining"};

static const char *const places[] = {
    [SIM_AT_NEW] = "new",
    [SIM_AT_ROUTE] = "route",
    [SIM_AT_QUEUE] = "queue",
    [SIM_AT_BACKOFF] = "backoff",
    [SIM_AT_GATE] = "gate",
    [SIM_AT_REOPENING] = "reopening",
    [SIM_AT_ASKING] = "asking",
    [SIM_AT_RACING] = "racing",
    [SIM_AT_COMMITTED] = "committed",
    [SIM_AT_DRAINING] = "draining",
    [SIM_AT_MEND_QUEUE] = "mend queue",
    [SIM_AT_MEND_WAIT] = "mend wait",
    [SIM_AT_MENDING] = "mending",
    [SIM_AT_ANSWERED] = "answered",
    [SIM_AT_FAILED] = "failed",
    [SIM_AT_LEFT] = "left",
};

#define TO(place) (1U << SIM_AT_##place)
// Where one can go from each place. An exchange that asks anew without a pause goes from asking to asking.
static const unsigned moves[SIM_PLACES] = {
    [SIM_AT_NEW] = TO(ROUTE) | TO(QUEUE) | TO(GATE) | TO(REOPENING) | TO(ASKING) | TO(FAILED),
    [SIM_AT_ROUTE] = TO(QUEUE) | TO(GATE) | TO(REOPENING) | TO(ASKING) | TO(FAILED) | TO(LEFT),
    [SIM_AT_QUEUE] = TO(QUEUE) | TO(GATE) | TO(REOPENING) | TO(ASKING) | TO(ANSWERED) | TO(FAILED) | TO(LEFT),
    [SIM_AT_BACKOFF] =
        TO(QUEUE) | TO(GATE) | TO(REOPENING) | TO(ASKING) | TO(ANSWERED) | TO(FAILED) | TO(LEFT),
    [SIM_AT_GATE] = TO(QUEUE) | TO(REOPENING) | TO(ASKING) | TO(ANSWERED) | TO(FAILED) | TO(LEFT),
    [SIM_AT_REOPENING] = TO(QUEUE) | TO(GATE) | TO(ASKING) | TO(ANSWERED) | TO(FAILED) | TO(LEFT),
    [SIM_AT_ASKING] = TO(QUEUE) | TO(BACKOFF) | TO(GATE) | TO(REOPENING) | TO(ASKING) | TO(RACING) |
                      TO(COMMITTED) | TO(DRAINING) | TO(ANSWERED) | TO(FAILED) | TO(LEFT),
    [SIM_AT_RACING] = TO(ASKING) | TO(COMMITTED) | TO(DRAINING) | TO(ANSWERED) | TO(FAILED) | TO(LEFT),
    [SIM_AT_COMMITTED] =
        TO(MEND_QUEUE) | TO(MEND_WAIT) | TO(MENDING) | TO(DRAINING) | TO(ANSWERED) | TO(FAILED) | TO(LEFT),
    [SIM_AT_MEND_QUEUE] = TO(MEND_QUEUE) | TO(MEND_WAIT) | TO(MENDING) | TO(FAILED) | TO(LEFT),
    [SIM_AT_MEND_WAIT] = TO(MEND_QUEUE) | TO(MENDING) | TO(FAILED) | TO(LEFT),
    [SIM_AT_MENDING] = TO(MEND_QUEUE) | TO(MEND_WAIT) | TO(MENDING) | TO(COMMITTED) | TO(FAILED) | TO(LEFT),
    [SIM_AT_DRAINING] = TO(ASKING) | TO(RACING) | TO(COMMITTED) | TO(LEFT),
};

static const struct change {
    sj_breaker_state from, to;
    const char *reason;
    bool global;
} changes[] = {
    {SJ_BREAKER_CLOSED, SJ_BREAKER_OPEN, "consecutive failures", true},
    {SJ_BREAKER_CLOSED, SJ_BREAKER_OPEN, "failure rate", false},
    {SJ_BREAKER_CLOSED, SJ_BREAKER_OPEN, "slow rate", false},
    {SJ_BREAKER_OPEN, SJ_BREAKER_HALF_OPEN, "recovery time over", true},
    {SJ_BREAKER_HALF_OPEN, SJ_BREAKER_OPEN, "probe failed", true},
    {SJ_BREAKER_HALF_OPEN, SJ_BREAKER_OPEN, "slow probe", false},
    {SJ_BREAKER_HALF_OPEN, SJ_BREAKER_CLOSED, "probes succeeded", true},
    {SJ_BREAKER_CLOSED, SJ_BREAKER_FORCED_OPEN, "operator", false},
    {SJ_BREAKER_OPEN, SJ_BREAKER_FORCED_OPEN, "operator", false},
    {SJ_BREAKER_HALF_OPEN, SJ_BREAKER_FORCED_OPEN, "operator", false},
    {SJ_BREAKER_DISABLED, SJ_BREAKER_FORCED_OPEN, "operator", false},
    {SJ_BREAKER_CLOSED, SJ_BREAKER_DISABLED, "operator", false},
    {SJ_BREAKER_OPEN, SJ_BREAKER_DISABLED, "operator", false},
    {SJ_BREAKER_HALF_OPEN, SJ_BREAKER_DISABLED, "operator", false},
    {SJ_BREAKER_FORCED_OPEN, SJ_BREAKER_DISABLED, "operator", false},
    {SJ_BREAKER_OPEN, SJ_BREAKER_CLOSED, "operator", true},
    {SJ_BREAKER_HALF_OPEN, SJ_BREAKER_CLOSED, "operator", true},
    {SJ_BREAKER_FORCED_OPEN, SJ_BREAKER_CLOSED, "operator", false},
    {SJ_BREAKER_DISABLED, SJ_BREAKER_CLOSED, "operator", false},
};

// ---- seeing ---------------------------------------------------------------------------------------------

#define length(array) (sizeof(array) / sizeof *(array))

static void stray(sim_seen *seen, const char *what, const char *name, const char *more) {
    if (!seen->stray[0])
        (void)snprintf(seen->stray, sizeof seen->stray, "%s: %s %s", what, name, more);
}

void sim_saw_move(sim_seen *seen, sim_place from, sim_place to) {
    if (!(moves[from] & 1U << to))
        stray(seen, "a move", places[from], places[to]);
    sim_saw(seen, SIM_SAW_MOVE, (int)from * SIM_PLACES + (int)to);
}

void sim_saw_change(sim_seen *seen, const sj_breaker_change *change, bool global) {
    for (size_t i = 0; i < length(changes); i++)
        if (changes[i].from == change->from && changes[i].to == change->to &&
            strcmp(changes[i].reason, change->reason) == 0 && (!global || changes[i].global)) {
            sim_saw(seen, global ? SIM_SAW_GLOBAL : SIM_SAW_BREAKER, (int)i);
            return;
        }
    stray(seen, sj_breaker_state_name(change->from), sj_breaker_state_name(change->to), change->reason);
}

// False: the list does not have it.
static bool saw_name(sim_seen *seen, sim_group group, const char *const *names, size_t count,
                     const char *name) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(name, names[i]) == 0) {
            sim_saw(seen, group, (int)i);
            return true;
        }
    return false;
}

void sim_saw_key(sim_seen *seen, const char *what) {
    if (!saw_name(seen, SIM_SAW_KEY, keys, length(keys), what))
        stray(seen, "a key", what, "");
}

void sim_saw_source(sim_seen *seen, const char *source) {
    if (!saw_name(seen, SIM_SAW_SOURCE, sources, length(sources), source))
        stray(seen, "a delay", source, "");
}

void sim_saw_fallback(sim_seen *seen, const char *why) {
    if (!saw_name(seen, SIM_SAW_FALLBACK, fallbacks, length(fallbacks), why))
        sim_saw(seen, SIM_SAW_FALLBACK, 0);
}

void sim_seen_add(sim_seen *sum, const sim_seen *part) {
    for (int group = 0; group < SIM_SAW_GROUPS; group++)
        for (int kind = 0; kind < SIM_KINDS_MAX; kind++)
            sum->count[group][kind] += part->count[group][kind];
    if (!sum->stray[0])
        memcpy(sum->stray, part->stray, sizeof sum->stray);
}

// ---- the table ------------------------------------------------------------------------------------------

// NULL: there is no such kind.
typedef const char *namer(int kind, char *room, size_t size);

#define NAMER(function, table)                                                                               \
    static const char *function(int kind, char *room, size_t size) {                                         \
        (void)room;                                                                                          \
        (void)size;                                                                                          \
        return (size_t)kind < length(table) ? (table)[kind] : NULL;                                          \
    }
NAMER(event_name, events)
NAMER(end_name, ends)
NAMER(step_name, steps)
NAMER(note_name, notes)
NAMER(special_name, specials)
NAMER(fallback_name, fallbacks)
NAMER(source_name, sources)
NAMER(key_name, keys)

static const char *fate_name(int kind, char *room, size_t size) {
    (void)room;
    (void)size;
    return kind < SIM_FATES ? sim_fate_name((sim_fate)kind) : NULL;
}

static const char *class_name(int kind, char *room, size_t size) {
    (void)room;
    (void)size;
    return kind <= SJ_CLASS_NONE ? sj_class_name((sj_class)kind) : NULL;
}

// Those that the journey gives: the others are the front's.
static const char *refusal_name(int kind, char *room, size_t size) {
    (void)room;
    (void)size;
    bool ours = kind >= SJ_REFUSAL_UPSTREAM_UNREACHABLE && kind < SJ_REFUSAL_COUNT &&
                kind != SJ_REFUSAL_SHUTTING_DOWN && kind != SJ_REFUSAL_STREAM_BROKEN;
    return ours ? sj_refusal_code((sj_refusal)kind) : NULL;
}

static const char *move_name(int kind, char *room, size_t size) {
    int from = kind / SIM_PLACES, to = kind % SIM_PLACES;
    if (from >= SIM_PLACES || !(moves[from] & 1U << to))
        return NULL;
    (void)snprintf(room, size, "%s > %s", places[from], places[to]);
    return room;
}

static const char *change_name(int kind, char *room, size_t size) {
    if ((size_t)kind >= length(changes))
        return NULL;
    const struct change *c = &changes[kind];
    (void)snprintf(room, size, "%s > %s: %s", sj_breaker_state_name(c->from), sj_breaker_state_name(c->to),
                   c->reason);
    return room;
}

static const char *global_name(int kind, char *room, size_t size) {
    return (size_t)kind < length(changes) && changes[kind].global ? change_name(kind, room, size) : NULL;
}

static const struct {
    const char *title;
    namer *name;
} groups[SIM_SAW_GROUPS] = {
    [SIM_SAW_EVENT] = {"events", event_name},
    [SIM_SAW_FATE] = {"fates of attempts", fate_name},
    [SIM_SAW_END] = {"ends of transfers", end_name},
    [SIM_SAW_STEP] = {"steps", step_name},
    [SIM_SAW_NOTE] = {"notes", note_name},
    [SIM_SAW_CLASS] = {"classes of ends", class_name},
    [SIM_SAW_REFUSAL] = {"refusals", refusal_name},
    [SIM_SAW_BREAKER] = {"breaker", change_name},
    [SIM_SAW_GLOBAL] = {"global breaker", global_name},
    [SIM_SAW_MOVE] = {"moves", move_name},
    [SIM_SAW_SOURCE] = {"sources of delays", source_name},
    [SIM_SAW_KEY] = {"keys", key_name},
    [SIM_SAW_FALLBACK] = {"reasons to leave a target", fallback_name},
    [SIM_SAW_SPECIAL] = {"and", special_name},
};

enum { WIDTH = 120 };

// Kinds stand side by side.
static void put(FILE *out, int *column, const char *text) {
    int n = (int)strlen(text) + 2;
    if (*column + n > WIDTH) {
        (void)fprintf(out, "\n   ");
        *column = 3;
    }
    (void)fprintf(out, "  %s", text);
    *column += n;
}

static void put_kind(FILE *out, int *column, const char *name, long count) {
    char text[128];
    (void)snprintf(text, sizeof text, count ? "%s: %ld" : "%s: NEVER SEEN (%ld)", name, count);
    put(out, column, text);
}

int sim_seen_print(const sim_seen *seen, FILE *out) {
    int never = 0, kinds = 0;
    for (int group = 0; group < SIM_SAW_GROUPS; group++) {
        int column = fprintf(out, "%s", groups[group].title);
        for (int kind = 0; kind < SIM_KINDS_MAX; kind++) {
            char room[96];
            const char *name = groups[group].name(kind, room, sizeof room);
            long count = seen->count[group][kind];
            if (!name && count == 0)
                continue;
            kinds++;
            never += count == 0;
            put_kind(out, &column, name ? name : "NAMELESS", count);
        }
        (void)fprintf(out, "\n");
    }
    (void)fprintf(out, "%d of %d kinds were seen\n", kinds - never, kinds);
    return never;
}
