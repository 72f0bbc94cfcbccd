// A configured text as a well-formed answer, for when nothing answers (BEHAVIOUR 11): chat completions, completions, responses and messages,
// whole or as a stream. Pure: id and time are arguments. What it says of usage is zero: nothing was used.
#ifndef SJ_DEGRADED_H
#define SJ_DEGRADED_H

#include "completion.h"

enum { SJ_DEGRADED_MAX_CHOICES = 128, SJ_DEGRADED_MAX_BYTES = 16 * 1024 * 1024 };

// What a request says about the form of its answer.
typedef struct sj_degraded_wish {
    bool stream;
    bool include_usage; // stream_options.include_usage: a closing chunk with usage is waited for
    bool wants_json;    // response_format or text.format asks for JSON
    bool wants_call;    // tool_choice asks for a tool call, which no text is
    int choices;        // n times the prompts of a completions request; 1 .. SJ_DEGRADED_MAX_CHOICES
} sj_degraded_wish;

// Of a request body that is a JSON object; anything else leaves the defaults.
void sj_degraded_read(sj_slice body, sj_degraded_wish *out);

// Whether the text can stand for an answer: the protocol speaks in text, and neither a tool call is due, nor JSON that the text is not.
bool sj_degraded_fits(sj_protocol protocol, const sj_degraded_wish *wish, const char *text);

typedef struct sj_degraded_answer {
    sj_protocol protocol;
    sj_degraded_wish wish;
    const char *text;
    const char *model; // as the client asked
    uint64_t id;       // random: part of the answer's id
    int64_t unix_s;
} sj_degraded_answer;

// The body, JSON or events as wish.stream says. False: no such form, or out's cap or memory; out is then as before.
__attribute__((warn_unused_result)) bool sj_degraded_build(const sj_degraded_answer *answer, sj_buffer *out);

#endif
