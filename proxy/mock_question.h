// What a request to the mock asks, and the text that answers it. The text follows from the last user message (and --variant) alone, so that a
// test can tell that the right answer reached the right client: "echo:<crc32 of the message> <its beginning> <words>".
#ifndef SJ_MOCK_QUESTION_H
#define SJ_MOCK_QUESTION_H

#include "buffer.h"

#include <cjson/cJSON.h>
#include <stdint.h>

enum { SJ_MOCK_MAX_CHOICES = 16 };

// Borrows from the parsed JSON.
typedef struct sj_mock_question {
    char model[600]; // a JSON string with its quotes; "null" when there is none
    bool has_model;
    bool stream, include_usage;
    int choices;
    int max_tokens; // 0: none
    sj_slice said; // the last user message's text
    sj_slice prefill; // text of a last message that is the assistant's: the answer goes on behind it
    const char *tool; // a function to be called, or NULL
    int words, variant; // as the rules have it
    size_t prompt_tokens;
} sj_mock_question;

void sj_mock_question_read(const cJSON *json, size_t body_bytes, int words, int variant,
                           sj_mock_question *out);

typedef struct sj_mock_reply {
    sj_buffer text;
    size_t tokens;
    bool cut_short; // by max_tokens
} sj_mock_reply;

// choice: 0, 1 ...: each has a text of its own.
__attribute__((warn_unused_result)) bool sj_mock_reply_write(const sj_mock_question *question, int choice,
                                                             sj_mock_reply *out);
// Takes the next token, a word with the space before it, from the front of *text. False: there is none.
bool sj_mock_reply_token(sj_slice *text, sj_slice *token);

#endif
