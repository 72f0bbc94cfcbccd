// What the mock saw and did: one entry for each attempt, the last ones kept, and totals. Tests read their evidence here.
#ifndef SJ_MOCK_LOG_H
#define SJ_MOCK_LOG_H

#include "headers.h"

#include <stdint.h>

typedef enum sj_mock_outcome {
    SJ_MOCK_RUNNING,
    SJ_MOCK_ANSWERED, // everything was written that was to be
    SJ_MOCK_BROKEN_OFF, // closed by us before the answer was whole
    SJ_MOCK_RESET_BY_US,
    SJ_MOCK_CLIENT_GONE, // FIN while we answered or kept silent
    SJ_MOCK_CLIENT_RESET, // RST
    SJ_MOCK_OUTCOME_COUNT
} sj_mock_outcome;

typedef struct sj_mock_log_entry {
    uint64_t number; // from 1, in order of arrival
    uint64_t connection;
    double start_ms, end_ms; // since the mock started; end 0 while running
    int64_t wall_ms;
    char method[12];
    char path[128], model[64];
    char authorization[9], idempotency_key[64], user_agent[64]; // authorization: crc32 of the value
    int retry_count; // x-stainless-retry-count, -1 none
    uint32_t body_crc32;
    uint64_t body_bytes, bytes_sent;
    int64_t content_length; // -1: chunked or none
    bool stream;
    int status; // sent; 0 none
    uint32_t events; // pieces of the answer that left
    char fault[40];
    const char *fault_by; // static
    sj_mock_outcome outcome;
} sj_mock_log_entry;

typedef struct sj_mock_log {
    sj_mock_log_entry *ring; // owned; grows up to size
    size_t size, cap;
    uint64_t last; // number of the newest entry
    uint64_t cleared; // entries up to it are gone
    uint64_t attempts, outcomes[SJ_MOCK_OUTCOME_COUNT], statuses[1000];
    int running, running_max;
} sj_mock_log;

void sj_mock_log_init(sj_mock_log *log, size_t size);
void sj_mock_log_free(sj_mock_log *log);
// A zeroed entry with its number, valid until the next add; afterwards ask by number. NULL only with size 0 or out of memory: still counted.
sj_mock_log_entry *sj_mock_log_add(sj_mock_log *log, uint64_t *number);
// NULL: it fell out of the ring.
sj_mock_log_entry *sj_mock_log_find(sj_mock_log *log, uint64_t number);
// Ends the attempt in the totals, and in its entry when that still stands.
void sj_mock_log_end(sj_mock_log *log, uint64_t number, double now_ms, int status, sj_mock_outcome outcome);
void sj_mock_log_clear(sj_mock_log *log); // the entries; numbers go on
void sj_mock_log_clear_totals(sj_mock_log *log); // but what runs
// {"last": N, "dropped": M, "entries": [...]}: those numbered above `since`, oldest first, at most `limit`.
__attribute__((warn_unused_result)) bool sj_mock_log_write(const sj_mock_log *log, uint64_t since,
                                                           size_t limit, sj_buffer *out);
// The members of the totals, without the braces.
__attribute__((warn_unused_result)) bool sj_mock_log_write_totals(const sj_mock_log *log, sj_buffer *out);

#endif
