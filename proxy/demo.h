// `stormjib demo`: the embedded misbehaving upstream, the proxy in front of it, the same load sent to both, and what came of it.
#ifndef SJ_DEMO_H
#define SJ_DEMO_H

#include "demo_load.h"

#include <stdint.h>
#include <stdio.h>

typedef struct sj_demo_options {
    int requests, concurrency;
    double fail;
    uint64_t seed;
    int port; // of the proxy; 0: any free one
    bool serve, json;
} sj_demo_options;

// One of the two runs.
typedef struct sj_demo_side {
    sj_demo_tally tally;
    double attempts; // that reached the upstream
} sj_demo_side;

// What the proxy's own metrics say it did; the table is in demo_report.c.
enum { SJ_DEMO_EVENTS = 8 };

typedef struct sj_demo_outcome {
    sj_demo_side direct, proxied;
    double events[SJ_DEMO_EVENTS];
} sj_demo_outcome;

// An exit code of sysexits.h; 130 when interrupted.
int sj_demo_run(const sj_demo_options *options);

void sj_demo_read_events(const char *metrics, size_t n, double events[SJ_DEMO_EVENTS]);
void sj_demo_report_table(const sj_demo_outcome *outcome, FILE *out);
void sj_demo_report_json(const sj_demo_options *options, const sj_demo_outcome *outcome, FILE *out);

#endif
