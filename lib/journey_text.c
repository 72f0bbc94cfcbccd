#include "journey_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

sj_journey_summary sj_journey_read(const sj_journey *j) {
    int running = 0;
    for (int i = 0; i < MAX_RUNNING; i++)
        running += j->running[i].id != 0;
    return (sj_journey_summary){
        .attempts_sent = j->attempts_sent + running,
        .retries = j->retries,
        .hop = j->hop,
        .fallback = j->fallback[0] && j->hop > 0 ? j->fallback : NULL,
        .wait_ms = j->wait_ms,
        .queue_ms = j->queue_ms,
        .upstream_ms = j->upstream_ms,
    };
}

typedef struct writer {
    char *out;
    size_t size, n;
} writer;

__attribute__((format(printf, 2, 3))) static void put(writer *w, const char *format, ...) {
    if (w->n + 1 >= w->size)
        return;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(w->out + w->n, w->size - w->n, format, args);
    va_end(args);
    if (n > 0)
        w->n = w->n + (size_t)n < w->size ? w->n + (size_t)n : w->size - 1;
}

static void put_entry(writer *w, const sj_journey *j, const trail_entry *entry) {
    const char *comma = w->n ? ", " : "";
    if (entry->kind == TRAIL_WAIT)
        put(w, "%swait %" PRId64 "ms", comma, entry->ms);
    else if (entry->kind == TRAIL_QUEUE)
        put(w, "%squeue %" PRId64 "ms", comma, entry->ms);
    else
        put(w, "%s%s %s %" PRId64 "ms%s", comma, j->plan.hops[entry->hop].label, entry->word, entry->ms,
            entry->unsent  ? " (not sent)"
            : entry->stale ? " (stale)"
                           : "");
}

void sj_journey_trail(const sj_journey *j, int64_t now_ms, char *out, size_t size) {
    writer w = {.out = out, .size = size};
    out[0] = '\0';
    for (int i = 0; i < j->trail_count; i++) {
        if (j->trail_cut && i == j->trail_count - 1)
            put(&w, ", ...");
        put_entry(&w, j, &j->trail[i]);
    }
    for (int i = 0; i < MAX_RUNNING; i++) {
        const attempt_state *a = &j->running[i];
        if (!a->id)
            continue;
        put(&w, "%s%s", w.n ? ", " : "", j->plan.hops[a->hop].label);
        if (a->status)
            put(&w, " %d %" PRId64 "ms", a->status, now_ms - a->started_ms);
    }
}

void sj_journey_message(const sj_journey *j, sj_refusal refusal, char *out, size_t size) {
    static const char *const advice[SJ_REFUSAL_COUNT] = {
        [SJ_REFUSAL_UPSTREAM_UNREACHABLE] = "The upstream cannot be reached: check base_url, DNS, the "
                                            "network and certificates; `stormjib check` tests them.",
        [SJ_REFUSAL_MAX_RETRIES_EXCEEDED] =
            "Every attempt failed. Try later, or add a target to the route's chain.",
        [SJ_REFUSAL_STREAM_BROKEN] =
            "The upstream broke the stream off. What came so far is not the whole answer: ask again.",
        [SJ_REFUSAL_CIRCUIT_OPEN] =
            "The circuit breaker is open after repeated failures. Try again after Retry-After.",
        [SJ_REFUSAL_QUEUE_FULL] = "Too many requests are waiting for this upstream. Try again after "
                                  "Retry-After, or raise max_concurrent or queue.max_waiting.",
        [SJ_REFUSAL_QUEUE_TIMEOUT] = "No slot became free at this upstream in time. Try again after "
                                     "Retry-After, or raise max_concurrent.",
        [SJ_REFUSAL_OVERLOADED] =
            "The retry budget is used up while the upstream fails. Try again after Retry-After.",
        [SJ_REFUSAL_TIMEOUT_MAX_RETRIES] =
            "The upstream did not answer in time. Try later, or raise the upstream's time-outs.",
        [SJ_REFUSAL_DEADLINE_EXCEEDED] = "The deadline passed before an answer came. Raise the client's "
                                         "timeout, or add a faster target to the chain.",
    };
    writer w = {.out = out, .size = size};
    out[0] = '\0';
    put(&w, "%s", advice[refusal] ? advice[refusal] : "stormjib could not answer this request.");
    if (j->trail_count == 0)
        return;
    put(&w, " Tried: ");
    char trail[1024];
    sj_journey_trail(j, 0, trail, sizeof trail);
    put(&w, "%s.", trail);
}
