// What can go wrong with an answer, and the small language that names it: "429; retry-after=2", "cut; after=3", "slow-2s".
// The same words are used by the command line, scripts, the x-mock-fault header and model names ("mock-cut-3").
#ifndef SJ_MOCK_FAULTS_H
#define SJ_MOCK_FAULTS_H

#include "buffer.h"

#include <stdint.h>
#include <stdio.h>

typedef enum sj_mock_kind {
    SJ_MOCK_OK,
    SJ_MOCK_STATUS,
    // before a byte
    SJ_MOCK_TIMEOUT,
    SJ_MOCK_CLOSE,
    SJ_MOCK_RESET,
    SJ_MOCK_GARBAGE,
    SJ_MOCK_ENDLESS_HEADERS,
    // the head leaves, the body never does
    SJ_MOCK_HEAD_SILENCE,
    SJ_MOCK_HEAD_CLOSE,
    SJ_MOCK_HEAD_RESET,
    // part of the body leaves
    SJ_MOCK_CUT,
    SJ_MOCK_CUT_CLOSE,
    SJ_MOCK_CUT_RESET,
    SJ_MOCK_BAD_CHUNK,
    SJ_MOCK_STALL,
    SJ_MOCK_LATE_ERROR,
    SJ_MOCK_SHORT_LENGTH,
    SJ_MOCK_LONG_LENGTH,
    // a 200 that is no answer
    SJ_MOCK_FIRST_ERROR,
    SJ_MOCK_ERROR_BODY,
    SJ_MOCK_EMPTY,
    SJ_MOCK_TRUNCATED,
    // good answers with an odd form
    SJ_MOCK_NO_DONE,
    SJ_MOCK_FINISH_SILENCE,
    SJ_MOCK_NON_JSON,
    SJ_MOCK_ODD_SSE,
    SJ_MOCK_DRIP,
    SJ_MOCK_BIG_EVENT,
    SJ_MOCK_INFORMATIONAL,
    SJ_MOCK_GZIP,
    SJ_MOCK_SLOW,
    SJ_MOCK_SLOW_FIRST,
    SJ_MOCK_KIND_COUNT
} sj_mock_kind;

typedef enum sj_mock_error_body {
    SJ_MOCK_BODY_JSON,
    SJ_MOCK_BODY_HTML,
    SJ_MOCK_BODY_NONE
} sj_mock_error_body;

typedef struct sj_mock_fault {
    sj_mock_kind kind;
    int status; // of STATUS; the code inside ERROR_BODY, FIRST_ERROR, LATE_ERROR
    int after; // events (STALL, CUT ...), bytes (DRIP, BIG_EVENT); -1: the kind's default
    int times; // script entries: used that often
    int64_t latency_ms; // -1: the rules'
    int64_t arg_ms; // SLOW, SLOW_FIRST: how slow; silence: closed after it, 0 never
    sj_mock_error_body body;
    char retry_date[8]; // "imf", "rfc850", "asctime": Retry-After as a date, retry_date_s from now
    int retry_date_s;
    char code[40]; // of the error object; "": by status
    char message[96];
    char headers[192]; // more response header lines, each with CRLF
    char model[64]; // glob; "": any
    char path[48]; // glob; "": any
} sj_mock_fault;

// False: *error (may be NULL) says what is wrong.
__attribute__((warn_unused_result)) bool sj_mock_fault_parse(sj_slice text, sj_mock_fault *out,
                                                             sj_buffer *error);
// "mock-429", "mock-slow-2s", also behind "provider/". False: the model's name is no fault.
__attribute__((warn_unused_result)) bool sj_mock_fault_of_model(sj_slice model, sj_mock_fault *out);
bool sj_mock_fault_applies(const sj_mock_fault *fault, sj_slice path, sj_slice model);
// "429", "cut-3": short, for the log.
void sj_mock_fault_name(const sj_mock_fault *fault, char *out, size_t n);
// OpenAI's code and type for an error status.
const char *sj_mock_status_code(int status);
const char *sj_mock_status_type(int status);
// Kinds and parameters, for --help.
void sj_mock_faults_help(FILE *out);

#endif
