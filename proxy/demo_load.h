// The demo's load: so many questions, so many at once, every fourth one streamed, each answer compared with what the mock must have said.
#ifndef SJ_DEMO_LOAD_H
#define SJ_DEMO_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

typedef enum sj_demo_result {
    SJ_DEMO_GOOD,
    SJ_DEMO_429,
    SJ_DEMO_5XX,
    SJ_DEMO_OTHER_STATUS,
    SJ_DEMO_NO_CONNECTION,
    SJ_DEMO_RESET, // no answer at all
    SJ_DEMO_BROKEN, // cut off
    SJ_DEMO_NOT_ANSWER, // a 200 that is empty or holds an error
    SJ_DEMO_WRONG, // a 200 with another text
    SJ_DEMO_TOO_LATE, // given up after a minute
    SJ_DEMO_RESULTS
} sj_demo_result;

const char *sj_demo_result_name(sj_demo_result result);

typedef struct sj_demo_tally {
    int done, failed, streams;
    int by[SJ_DEMO_RESULTS];
    int retried; // good answers that took more than one attempt, by their label
    double *latency_ms; // owned; of the good ones, sorted when the run is over
    double seconds;
} sj_demo_tally;

double sj_demo_percentile(const sj_demo_tally *tally, double p); // 0..1; 0 when there is nothing
void sj_demo_tally_free(sj_demo_tally *tally);

enum { SJ_DEMO_WORDS = 16 }; // what the mock must be told

typedef struct sj_demo_load {
    const char *origin; // "http://127.0.0.1:9101"
    int requests, concurrency;
    void (*on_progress)(const sj_demo_tally *tally, void *context); // a few times a second
    void *context;
} sj_demo_load;

// Runs the loop, which must have nothing else on it, until all is done. False: interrupted by SIGINT or SIGTERM, or out of memory.
__attribute__((warn_unused_result)) bool sj_demo_load_run(uv_loop_t *loop, const sj_demo_load *load,
                                                          sj_demo_tally *tally);

#endif
