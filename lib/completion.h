// What an OpenAI-format answer says: first content, finish, usage, error, completeness (BEHAVIOUR 3 and 12). Reads, never rewrites.
// One owner, no locking, bounded memory; each event is parsed with cJSON and forgotten.
#ifndef SJ_COMPLETION_H
#define SJ_COMPLETION_H

#include "headers.h"
#include "inflate.h"

#include <stdint.h>

typedef enum sj_protocol {
    SJ_PROTOCOL_OPAQUE, // carried, never looked into
    SJ_PROTOCOL_CHAT,
    SJ_PROTOCOL_COMPLETIONS,
    SJ_PROTOCOL_RESPONSES,
    SJ_PROTOCOL_MESSAGES,   // Anthropic: message_stop
    SJ_PROTOCOL_ASSISTANTS, // threads/.../runs: `event: done`
    SJ_PROTOCOL_JSON,       // embeddings, moderations, images: a whole JSON answer is due; its streams are opaque
} sj_protocol;

// From the request path (any prefix). audio/* and everything unknown are opaque.
sj_protocol sj_protocol_of(sj_slice path);

enum {
    SJ_SAYS_CONTENT = 1 << 0,  // text, reasoning, refusal, audio, tool call: commit
    SJ_SAYS_FINISH = 1 << 1,   // a finish_reason, or the protocol's own end event
    SJ_SAYS_ERROR = 1 << 2,    // a non-null error object; code in error_code
    SJ_SAYS_DONE = 1 << 3,     // [DONE] of chat and completions
    SJ_SAYS_NOT_JSON = 1 << 4, // data that is not JSON where JSON is due: to be dropped and counted
};

typedef struct sj_usage {
    int64_t prompt_tokens, completion_tokens, total_tokens, cached_tokens; // -1: not said
} sj_usage;

typedef struct sj_completion {
    sj_protocol protocol;
    int choices_expected;        // `n` of the request
    uint64_t choices_seen[2];    // bit per choice index, 0..127
    uint64_t choices_finished[2];
    bool done;                   // [DONE] seen
    bool spoke;                  // chat and completions: something besides roles, usage and empty choices came
    bool ended;                  // the protocol's terminal event or, for chat, finish of every choice
    char error_code[64];         // of the last error object: code, else type, else a numeric code in digits; empty when there is none
    char error_message[160];     // its start, for our own log and error text; control characters removed, keys masked
    sj_usage usage;              // the last block seen
    char id[128];                // of the first event or the answer
} sj_completion;

void sj_completion_init(sj_completion *completion, sj_protocol protocol, int choices_expected);
// One SSE event that has data; returns SJ_SAYS_* bits, 0 for "held" (role-only deltas, response.created, ping, usage-only).
// usage and finish are read from the same event as content.
unsigned sj_completion_event(sj_completion *completion, sj_slice name, sj_slice data);
// Complete as its protocol says: chat and completions after [DONE] (not a bare one: that is an empty answer); the others after their
// terminal event.
bool sj_completion_is_whole(const sj_completion *completion);
// Everything was said but the closing [DONE] (chat and completions): EOF or 5 s of silence completes it and [DONE] is supplied.
bool sj_completion_lacks_only_done(const sj_completion *completion);

typedef enum sj_finding {
    SJ_FINDING_GOOD,
    SJ_FINDING_ERROR,     // a top-level non-null `error` object (or Responses' status "failed")
    SJ_FINDING_EMPTY,     // no bytes, only white space, or a chat/completions/responses answer without choices/output
    SJ_FINDING_NOT_JSON,  // not JSON where JSON is due
    SJ_FINDING_TRUNCATED, // JSON that stops short
} sj_finding;

// A whole (not streamed) answer to a generation path; body already decoded. Fills usage, id and error_*.
sj_finding sj_completion_answer(sj_completion *completion, sj_slice body);
// Only the error's code and message of an error answer (any status); empty when there is none. Also reads {"message","code"} and [{"error":..}].
void sj_completion_error_of(sj_completion *completion, sj_slice body);

// An in-band error event ready to send: `data: {"error": {...}}` + blank line (chat, completions); the others have `event: error` before it
// and `"type": "error"` in it. Nothing for opaque protocols, which have no such event.
__attribute__((warn_unused_result)) bool sj_completion_error_event(sj_protocol protocol, const char *code, const char *message, sj_buffer *out);

#endif
