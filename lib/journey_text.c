#include "journey_internal.h"

#include "text.h"

sj_journey_summary sj_journey_read(const sj_journey *j) {
    int running = 0;
    for (int i = 0; i < MAX_RUNNING; i++)
        running += j->running[i].id != 0;
    return (sj_journey_summary){
        .attempts_sent = j->attempts_sent + running,
        .retries = j->retries,
        .rescues = j->rescues,
        .hop = j->hop,
        .fallback = j->fallback[0] && j->hop > 0 ? j->fallback : NULL,
        .wait_ms = j->wait_ms,
        .queue_ms = j->queue_ms,
        .upstream_ms = j->upstream_ms,
    };
}

static void put_ms(sj_text *text, int64_t ms) {
    sj_text_int(text, ms);
    sj_text_put(text, "ms");
}

static void put_attempt(sj_text *text, const sj_journey *j, const trail_entry *entry) {
    sj_text_put(text, j->plan.hops[entry->hop].label);
    sj_text_put(text, " ");
    sj_text_put(text, entry->word);
    sj_text_put(text, " ");
    put_ms(text, entry->ms);
    if (entry->unsent || entry->stale)
        sj_text_put(text, entry->unsent ? " (not sent)" : " (stale)");
}

static void put_entry(sj_text *text, const sj_journey *j, const trail_entry *entry) {
    if (text->n)
        sj_text_put(text, ", ");
    if (entry->kind == TRAIL_ATTEMPT) {
        put_attempt(text, j, entry);
        return;
    }
    sj_text_put(text, entry->kind == TRAIL_WAIT ? "wait " : "queue ");
    put_ms(text, entry->ms);
}

static void put_running(sj_text *text, const sj_journey *j, const attempt_state *a, int64_t now_ms) {
    if (text->n)
        sj_text_put(text, ", ");
    sj_text_put(text, j->plan.hops[a->hop].label);
    if (!a->status)
        return;
    sj_text_put(text, " ");
    sj_text_int(text, a->status);
    sj_text_put(text, " ");
    put_ms(text, now_ms - a->started_ms);
}

void sj_journey_trail(const sj_journey *j, int64_t now_ms, char *out, size_t size) {
    sj_text text = sj_text_into(out, size);
    for (int i = 0; i < j->trail_count; i++) {
        if (j->trail_cut && i == j->trail_count - 1)
            sj_text_put(&text, ", ...");
        put_entry(&text, j, &j->trail[i]);
    }
    for (int i = 0; i < MAX_RUNNING; i++)
        if (j->running[i].id)
            put_running(&text, j, &j->running[i], now_ms);
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
        [SJ_REFUSAL_QUEUE_FULL] = "Too many requests are waiting for this upstream or route. Try again after "
                                  "Retry-After, or raise max_concurrent or queue.max_waiting.",
        [SJ_REFUSAL_QUEUE_TIMEOUT] = "No slot became free at this upstream or route in time. Try again after "
                                     "Retry-After, or raise max_concurrent.",
        [SJ_REFUSAL_OVERLOADED] =
            "The retry budget is used up while the upstream fails. Try again after Retry-After.",
        [SJ_REFUSAL_TIMEOUT_MAX_RETRIES] =
            "The upstream did not answer in time. Try later, or raise the upstream's time-outs.",
        [SJ_REFUSAL_DEADLINE_EXCEEDED] = "The deadline passed before an answer came. Raise the client's "
                                         "timeout, or add a faster target to the chain.",
    };
    sj_text text = sj_text_into(out, size);
    sj_text_put(&text, advice[refusal] ? advice[refusal] : "stormjib could not answer this request.");
    if (j->trail_count == 0)
        return;
    sj_text_put(&text, " Tried: ");
    char trail[1024];
    sj_journey_trail(j, 0, trail, sizeof trail);
    sj_text_put(&text, trail);
    sj_text_put(&text, ".");
}
