#include "demo_load.h"

#include "demo_client.h"
#include "mock_question.h"
#include "sse.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { TICK_MS = 200, GIVE_UP_MS = 60000, STREAM_EVERY = 4, MAX_EVENT = 256 * 1024 };

static const char *const names[SJ_DEMO_RESULTS] = {
    [SJ_DEMO_GOOD] = "answered",
    [SJ_DEMO_429] = "429",
    [SJ_DEMO_5XX] = "5xx",
    [SJ_DEMO_OTHER_STATUS] = "other status",
    [SJ_DEMO_NO_CONNECTION] = "no connection",
    [SJ_DEMO_RESET] = "connection reset",
    [SJ_DEMO_BROKEN] = "answer cut off",
    [SJ_DEMO_NOT_ANSWER] = "200 without answer",
    [SJ_DEMO_WRONG] = "wrong answer",
    [SJ_DEMO_TOO_LATE] = "no answer in 60 s",
};

const char *sj_demo_result_name(sj_demo_result result) {
    return names[result];
}

typedef struct asker {
    struct runner *runner;
    sj_demo_call call;
    char question[64];
    bool stream;
    uint64_t started_ns;
} asker;

typedef struct runner {
    const sj_demo_load *load;
    sj_demo_tally *tally;
    sj_upstream *upstream;
    uv_timer_t tick;
    uv_signal_t signals[2];
    asker *askers;
    int next, running;
    bool over, interrupted;
} runner;

// ---- judging an answer --------------------------------------------------------------------------

static bool expected_text(const char *question, sj_buffer *out) {
    sj_mock_question asked = {
        .said = sj_slice_of(question), .prefill = {"", 0}, .choices = 1, .words = SJ_DEMO_WORDS};
    sj_mock_reply reply;
    if (!sj_mock_reply_write(&asked, 0, &reply))
        return false;
    *out = reply.text;
    return true;
}

static const char *content_of(const cJSON *json, const char *member) {
    const cJSON *choice = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(json, "choices"), 0);
    const cJSON *holder = cJSON_GetObjectItemCaseSensitive(choice, member);
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(holder, "content"));
}

static sj_demo_result judge_text(sj_slice said, sj_slice expected) {
    return said.n == 0 ? SJ_DEMO_NOT_ANSWER : sj_slice_equal(said, expected) ? SJ_DEMO_GOOD : SJ_DEMO_WRONG;
}

static sj_demo_result judge_whole(sj_slice body, sj_slice expected) {
    cJSON *json = cJSON_ParseWithLength(body.p, body.n);
    const char *said = content_of(json, "message");
    sj_demo_result result = judge_text(sj_slice_of(said), expected);
    cJSON_Delete(json);
    return result;
}

static sj_demo_result judge_stream(sj_slice body, sj_slice expected) {
    sj_buffer said = sj_buffer_with_max(SJ_DEMO_MAX_ANSWER);
    sj_sse sse;
    sj_sse_event event;
    sj_sse_init(&sse, MAX_EVENT);
    bool done = false, error = false;
    while (sj_sse_next(&sse, &body, &event)) {
        cJSON *json = cJSON_ParseWithLength(event.data.p, event.data.n);
        const char *content = content_of(json, "delta");
        done = done || sj_slice_equal(event.data, SJ_SLICE("[DONE]"));
        error = error || cJSON_HasObjectItem(json, "error") || (content && !sj_buffer_text(&said, content));
        cJSON_Delete(json);
    }
    sj_demo_result result = judge_text(sj_buffer_slice(&said), expected);
    if (said.n && (error || !done))
        result = SJ_DEMO_BROKEN;
    sj_sse_free(&sse);
    sj_buffer_free(&said);
    return result;
}

static sj_demo_result judge(const asker *a) {
    const sj_demo_call *call = &a->call;
    if (call->end == SJ_END_NEVER_SENT)
        return SJ_DEMO_NO_CONNECTION;
    if (call->status == 0)
        return SJ_DEMO_RESET;
    if (call->status != 200)
        return call->status == 429 ? SJ_DEMO_429 : call->status >= 500 ? SJ_DEMO_5XX : SJ_DEMO_OTHER_STATUS;
    if (call->end != SJ_END_WHOLE)
        return SJ_DEMO_BROKEN;
    sj_buffer expected;
    if (!expected_text(a->question, &expected))
        return SJ_DEMO_WRONG;
    sj_slice body = sj_buffer_slice(&call->answer);
    sj_demo_result result = a->stream ? judge_stream(body, sj_buffer_slice(&expected))
                                      : judge_whole(body, sj_buffer_slice(&expected));
    sj_buffer_free(&expected);
    return result;
}

// ---- the run ------------------------------------------------------------------------------------

static void finish(runner *r) {
    if (r->over)
        return;
    r->over = true;
    for (int i = 0; i < r->load->concurrency; i++)
        sj_demo_call_cancel(&r->askers[i].call);
    sj_upstream_close(&r->upstream);
    uv_close((uv_handle_t *)&r->tick, NULL);
    for (int i = 0; i < 2; i++)
        uv_close((uv_handle_t *)&r->signals[i], NULL);
}

static void count(asker *a, sj_demo_result result) {
    runner *r = a->runner;
    sj_demo_tally *tally = r->tally;
    if (result == SJ_DEMO_GOOD) {
        tally->latency_ms[tally->done - tally->failed] = (double)(uv_hrtime() - a->started_ns) / 1e6;
        tally->retried += a->call.attempts > 1;
    } else {
        tally->failed++;
    }
    tally->by[result]++;
    tally->streams += a->stream;
    tally->done++;
}

static bool write_question(asker *a, int number) {
    sj_buffer *body = &a->call.request;
    a->stream = number % STREAM_EVERY == 0;
    (void)snprintf(a->question, sizeof a->question, "question %d of the demo", number);
    sj_buffer_clear(body);
    return sj_buffer_printf(
        body, "{\"model\":\"gpt-4.1\",\"stream\":%s,\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}",
        a->stream ? "true" : "false", a->question);
}

static void ask_next(asker *a) {
    runner *r = a->runner;
    while (r->next < r->load->requests) {
        bool ready = write_question(a, r->next++);
        a->started_ns = uv_hrtime();
        if (ready &&
            sj_demo_call_start(&a->call, r->upstream, r->load->origin, "POST", "/v1/chat/completions")) {
            r->running++;
            return;
        }
        count(a, SJ_DEMO_NO_CONNECTION);
    }
    if (r->running == 0)
        finish(r);
}

static void on_over(sj_demo_call *call, void *owner) {
    (void)call;
    asker *a = owner;
    count(a, judge(a));
    a->runner->running--;
    ask_next(a);
}

static void on_tick(uv_timer_t *timer) {
    runner *r = timer->data;
    uint64_t now = uv_hrtime();
    for (int i = 0; i < r->load->concurrency && !r->over; i++) {
        asker *a = &r->askers[i];
        if (!a->call.attempt || now - a->started_ns < (uint64_t)GIVE_UP_MS * 1000000)
            continue;
        sj_demo_call_cancel(&a->call);
        count(a, SJ_DEMO_TOO_LATE);
        r->running--;
        ask_next(a);
    }
    r->load->on_progress(r->tally, r->load->context);
}

static void on_signal(uv_signal_t *signal, int number) {
    (void)number;
    runner *r = signal->data;
    r->interrupted = true;
    finish(r);
}

static bool begin(runner *r, uv_loop_t *loop) {
    r->upstream = sj_upstream_new(loop);
    if (!r->upstream)
        return false;
    (void)uv_timer_init(loop, &r->tick);
    r->tick.data = r;
    (void)uv_timer_start(&r->tick, on_tick, TICK_MS, TICK_MS);
    static const int numbers[2] = {SIGINT, SIGTERM};
    for (int i = 0; i < 2; i++) {
        (void)uv_signal_init(loop, &r->signals[i]);
        r->signals[i].data = r;
        (void)uv_signal_start(&r->signals[i], on_signal, numbers[i]);
    }
    for (int i = 0; i < r->load->concurrency; i++) {
        r->askers[i].runner = r;
        sj_demo_call_init(&r->askers[i].call, on_over, &r->askers[i]);
    }
    for (int i = 0; i < r->load->concurrency && !r->over; i++)
        ask_next(&r->askers[i]);
    return true;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

bool sj_demo_load_run(uv_loop_t *loop, const sj_demo_load *load, sj_demo_tally *tally) {
    runner r = {.load = load, .tally = tally};
    *tally = (sj_demo_tally){.latency_ms = calloc((size_t)load->requests + 1, sizeof *tally->latency_ms)};
    r.askers = calloc((size_t)load->concurrency, sizeof *r.askers);
    uint64_t start = uv_hrtime();
    bool ok = tally->latency_ms && r.askers && begin(&r, loop);
    if (ok)
        (void)uv_run(loop, UV_RUN_DEFAULT);
    tally->seconds = (double)(uv_hrtime() - start) / 1e9;
    for (int i = 0; ok && i < load->concurrency; i++)
        sj_demo_call_free(&r.askers[i].call);
    free(r.askers);
    if (tally->latency_ms)
        qsort(tally->latency_ms, (size_t)(tally->done - tally->failed), sizeof *tally->latency_ms, compare);
    return ok && !r.interrupted;
}

double sj_demo_percentile(const sj_demo_tally *tally, double p) {
    int good = tally->done - tally->failed;
    return good ? tally->latency_ms[(int)(p * (good - 1) + 0.5)] : 0;
}

void sj_demo_tally_free(sj_demo_tally *tally) {
    free(tally->latency_ms);
    tally->latency_ms = NULL;
}
