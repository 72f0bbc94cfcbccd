// Which fault strikes which attempt. In order of precedence: request headers, the model's name, the script, an outage, the limits,
// then chance. Chance is drawn from (seed, number of the attempt), so the same sequence of requests meets the same faults.
#ifndef SJ_MOCK_CHOOSE_H
#define SJ_MOCK_CHOOSE_H

#include "mock.h"

enum { SJ_MOCK_MAX_SCRIPT = 10000 };

typedef struct sj_mock_choose {
    sj_mock_rules rules;
    int64_t outages_from_ms; // what outages' starts are counted from
    sj_mock_fault *script; // owned; `times` counts down
    int *script_times; // owned; as written, for repeat
    size_t script_count, script_first; // entries before script_first are used up
    bool script_repeat;
    uint64_t attempts; // numbered from 1
    double bucket; // of limit_per_second
    int64_t bucket_at_ms;
    double busy_until_ms; // of capacity
} sj_mock_choose;

typedef struct sj_mock_choice {
    sj_mock_fault fault;
    const char *by; // "header", "model", "script", "outage", "limit", "chance", ""
    int64_t latency_ms, first_token_ms;
} sj_mock_choice;

typedef struct sj_mock_attempt_facts {
    sj_slice path, model;
    sj_slice fault_header, latency_header; // empty: none
    int running; // attempts in work, this one among them
    int64_t now_ms;
} sj_mock_attempt_facts;

void sj_mock_choose_init(sj_mock_choose *choose, const sj_mock_rules *rules, int64_t now_ms);
void sj_mock_choose_free(sj_mock_choose *choose);
// False: a header of the request makes no sense; *error says why. The attempt is numbered all the same.
__attribute__((warn_unused_result)) bool sj_mock_choose_next(sj_mock_choose *choose,
                                                             const sj_mock_attempt_facts *facts,
                                                             sj_mock_choice *out, sj_buffer *error);
// A JSON array (or {"repeat": true, "entries": [...]}) of entries: "429; retry-after=2", 503, or an object with `fault` and parameters.
__attribute__((warn_unused_result)) bool sj_mock_choose_script(sj_mock_choose *choose, sj_slice json,
                                                               sj_buffer *error);
size_t sj_mock_choose_script_left(const sj_mock_choose *choose);
// A JSON object of rules by name; all or nothing. Outages count from now when it names them.
__attribute__((warn_unused_result)) bool sj_mock_choose_rules(sj_mock_choose *choose, sj_slice json,
                                                              int64_t now_ms, sj_buffer *error);

#endif
