// Well-formed OpenAI answers, whole or as a list of events, and the ways to spoil them. Nothing here knows of sockets or time.
#ifndef SJ_MOCK_ANSWER_H
#define SJ_MOCK_ANSWER_H

#include "json_span.h"
#include "mock_faults.h"
#include "mock_question.h"

typedef enum sj_mock_dialect {
    SJ_MOCK_CHAT,
    SJ_MOCK_RESPONSES,
    SJ_MOCK_MESSAGES
} sj_mock_dialect; // of error events

typedef struct sj_mock_answer {
    int status;
    sj_mock_dialect dialect;
    const char *content_type; // static; NULL: none
    sj_buffer headers; // more header lines, each with CRLF
    sj_buffer body;
    // Where each piece of the body ends. A stream's pieces are its events, sent as chunks; a whole answer has one.
    size_t *ends; // owned
    size_t count, cap;
    bool stream;
    size_t finish; // pieces up to the finish, that included; what follows is usage, [DONE]
} sj_mock_answer;

typedef struct sj_mock_ask {
    sj_slice method, path; // the path without its query
    sj_slice body, content_type;
    const cJSON *json; // NULL: the body is no JSON
    int words, variant;
    const char *models; // comma-separated
    bool strict_models;
    int64_t created_s; // wall clock
    uint64_t number; // of the attempt, for ids
} sj_mock_ask;

void sj_mock_answer_init(sj_mock_answer *answer);
void sj_mock_answer_free(sj_mock_answer *answer);
// False: out of memory.
__attribute__((warn_unused_result)) bool sj_mock_answer_make(const sj_mock_ask *ask, sj_mock_answer *out);
__attribute__((warn_unused_result)) bool sj_mock_answer_error(sj_mock_answer *out, int status,
                                                              const char *code, const char *message);
// The piece that was appended to the body since the last one ends here.
__attribute__((warn_unused_result)) bool sj_mock_answer_piece(sj_mock_answer *answer);
// Applies what a fault does to the bytes of an answer; when they leave and how they end is the player's.
__attribute__((warn_unused_result)) bool sj_mock_answer_spoil(sj_mock_answer *answer,
                                                              const sj_mock_fault *fault, int64_t now_s);
// {"error": {...}} of a fault, without a line end.
__attribute__((warn_unused_result)) bool sj_mock_error_object(const sj_mock_fault *fault, sj_buffer *out);

// One answer each; in mock_answer_chat.c, mock_answer_responses.c, mock_answer_messages.c.
__attribute__((warn_unused_result)) bool
sj_mock_answer_chat(const sj_mock_ask *ask, const sj_mock_question *question, sj_mock_answer *out);
__attribute__((warn_unused_result)) bool
sj_mock_answer_completions(const sj_mock_ask *ask, const sj_mock_question *question, sj_mock_answer *out);
__attribute__((warn_unused_result)) bool
sj_mock_answer_responses(const sj_mock_ask *ask, const sj_mock_question *question, sj_mock_answer *out);
__attribute__((warn_unused_result)) bool
sj_mock_answer_messages(const sj_mock_ask *ask, const sj_mock_question *question, sj_mock_answer *out);

#endif
