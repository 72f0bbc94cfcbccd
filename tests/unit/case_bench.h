// A file of conf/ played in virtual time: file -> sj_config -> sj_setup -> hops and plan as the program makes them -> the real journey.
// No number of the file is repeated on the way.
#ifndef CASE_BENCH_H
#define CASE_BENCH_H

#include "config_text.h"
#include "journey_bench.h"
#include "setup_plan.h"

enum { CASE_SEED = 7 };

typedef struct case_play {
    sj_setup *setup;
    const sj_config *config;
    const sj_route_config *route;
    bench b;
} case_play;

__attribute__((unused)) static sj_config *case_config(const char *name) {
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s.conf", SJ_CONF, name);
    setenv("OPENAI_API_KEY", "sk-of-the-environment", 1);
    setenv("OPENROUTER_API_KEY", "sk-of-the-environment", 1);
    sj_config *config = load_file(path);
    assert_string_equal(said_error, "");
    assert_string_equal(said_warnings, "");
    return config;
}

static void case_targets(case_play *play, const char *model) {
    bench *b = &play->b;
    assert_true(play->route->hop_count <= BENCH_HOPS);
    for (size_t i = 0; i < play->route->hop_count; i++) {
        const sj_hop_config *hop = &play->route->hops[i];
        b->hops[i] = sj_setup_hop(play->setup, play->route, i, sj_slice_of(hop->model ? hop->model : model),
                                  b->plan.stream, b->now);
        b->hops[i].credential = sj_setup_key_hash(play->setup, hop->upstream);
        b->hops[i].rewrites_model = hop->model && strcmp(hop->model, model) != 0;
        b->policies[i] = *b->hops[i].retry;
        b->targets[i] = b->hops[i].target;
        b->admissions[i] = sj_setup_admission(play->setup, hop->upstream);
    }
}

// What a chat completion for that model would get.
__attribute__((unused)) static case_play case_for(const char *name, const char *model, bool stream) {
    case_play play = {.b = {.now = BENCH_START_MS}};
    bench *b = &play.b;
    sj_config *config = case_config(name);
    play.setup = sj_setup_new(config, NULL, 0, CASE_SEED, b->now);
    assert_non_null(play.setup);
    sj_config_unref(&config);
    play.config = sj_setup_config(play.setup);
    play.route = sj_config_route(play.config, sj_slice_of("/v1/chat/completions"), sj_slice_of(model));
    assert_non_null(play.route);
    b->global = sj_setup_global(play.setup);
    b->plan = sj_setup_plan(play.setup, play.route, b->now);
    b->plan.hop_count = play.route->hop_count;
    b->plan.waiter = (sj_waiter){.worker = 1, .exchange_id = 1, .client = 9};
    b->plan.repeat = SJ_REPEAT_FREELY;
    b->plan.movable = b->plan.replayable = true;
    b->plan.stream = stream;
    b->plan.seed = 5;
    case_targets(&play, model);
    return play;
}

__attribute__((unused)) static case_play case_of(const char *name) {
    return case_for(name, "gpt-4.1", false);
}

__attribute__((unused)) static void case_free(case_play *play) {
    sj_setup_unref(&play->setup);
}

// The next question: another exchange, with a deadline of its own.
__attribute__((unused)) static void case_ask(case_play *play) {
    bench *b = &play->b;
    b->plan.deadline_ms = sj_setup_plan(play->setup, play->route, b->now).deadline_ms;
    b->plan.waiter.exchange_id++;
    b->plan.seed++;
    go(b);
}

typedef struct case_wait {
    int64_t low_ms, high_ms;
} case_wait;

#define EXACT(ms)                                                                                            \
    { (ms), (ms) }

// Fails with that status until it stops, each attempt taking a while; every wait lies within its bounds. attempts: how many there are in all.
__attribute__((unused)) static void case_fails(case_play *play, int status, int64_t takes_ms,
                                               const case_wait *waits, int attempts) {
    bench *b = &play->b;
    case_ask(play);
    for (int i = 0; i < attempts - 1; i++) {
        b->now += takes_ms;
        answer(b, status);
        assert_int_equal(b->steps.notes[0].kind, SJ_NOTE_ATTEMPT); // an info line after each attempt
        const sj_note *retry = &b->steps.notes[b->steps.note_count - 1];
        assert_int_equal(retry->kind, SJ_NOTE_RETRY); // and a warning before each wait
        int64_t wait = due_in(b);
        assert_int_equal(retry->ms, wait);
        if (wait < waits[i].low_ms || wait > waits[i].high_ms)
            fail_msg("wait %d after %d is %d ms", i + 1, status, (int)wait);
        sleep_till_due(b);
        assert_int_equal(b->attempt, i + 2);
    }
    b->now += takes_ms;
    answer(b, status);
    char expected[64];
    (void)snprintf(expected, sizeof expected, "save %d; deliver saved a", attempts);
    if (!strstr(bench_tell(b), expected))
        fail_msg("attempt %d ended with '%s'", attempts, bench_tell(b));
    over(b);
}

#endif
