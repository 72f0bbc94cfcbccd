// One upstream answer as it comes in: what is held of it before commit, and what it says (BEHAVIOUR 3 and 12). Reads with lib, decides nothing:
// the exchange tells the journey, and the journey says what becomes of the bytes. One owner, one thread.
#ifndef SJ_ANSWER_H
#define SJ_ANSWER_H

#include "completion.h"
#include "rescue.h"
#include "verdict.h"

typedef enum sj_answer_mode {
    SJ_ANSWER_NONE,   // no head yet
    SJ_ANSWER_STREAM, // a stream of a known protocol: read event by event
    SJ_ANSWER_WHOLE,  // held to its end and looked into (errors of any kind, and JSON of generation paths)
    SJ_ANSWER_OPAQUE, // passed on as it comes
} sj_answer_mode;

typedef struct sj_answer_context {
    sj_protocol protocol; // of the request path; OPAQUE when the path is no generation path
    int choices;          // `n` of the request
    bool generation;
    size_t inspect_max;
    bool verified; // streams are held to their end
    bool rescue;   // of a stream is remembered what it said
} sj_answer_context;

typedef struct sj_answer {
    sj_answer_context context;
    sj_answer_mode mode;
    int status;
    sj_headers headers;
    int64_t content_length; // -1 unsaid
    sj_buffer held;         // bytes not yet given to the client
    bool committed;         // bytes go straight on
    bool overflowed;        // outgrew inspect_max while held
    bool deaf;              // nothing more of it is wanted
    int lacks_line_ends;    // of its last event, which came without a blank line
    bool lost;              // something of it could not be kept: it cannot be delivered any more
    sj_sse sse;
    sj_completion completion;
    sj_transcript *transcript; // what it has said; NULL when nothing could be rescued with it
    sj_replay *replay;         // it goes on with another's stream: only what that one lacks is for the client
    int dropped_events;
    uint64_t bytes, passed; // received; held or passed on
} sj_answer;

void sj_answer_init(sj_answer *answer, const sj_answer_context *context);
void sj_answer_free(sj_answer *answer);
// It goes on with the stream that the transcript remembers: told before its head. Borrowed until the answer is freed. False: impossible.
__attribute__((warn_unused_result)) bool sj_answer_mends(sj_answer *answer, sj_transcript *transcript, sj_replay_mode mode);
// A head beyond all bounds leaves the answer lost.
void sj_answer_head(sj_answer *answer, int status, const sj_headers *headers);
// Whether the journey will be told more than "bytes came".
bool sj_answer_is_inspected(const sj_answer *answer);

typedef struct sj_answer_listener {
    // says: SJ_SAYS_* (and SJ_SAYS_ALL_BUT_DONE, SJ_SAYS_WHOLE) of what has been read since the last call.
    void (*on_says)(void *owner, unsigned says);
    // An error event. True: it is for the client; false: nobody gets it.
    bool (*on_error)(void *owner, const char *code, const char *message, sj_slice raw);
    // It should go on with another's stream, and says something else.
    void (*on_diverged)(void *owner);
    // Committed bytes for the client.
    void (*on_bytes)(void *owner, sj_slice bytes);
} sj_answer_listener;

void sj_answer_feed(sj_answer *answer, sj_slice bytes, const sj_answer_listener *listener, void *owner);
// The transfer ended: a last event without its blank line is read too.
void sj_answer_end(sj_answer *answer, const sj_answer_listener *listener, void *owner);
// What the ended answer is, for the verdict. error_code and error_message point into the answer.
void sj_answer_facts(sj_answer *answer, sj_end end, sj_attempt_facts *facts);
// Complete as far as its protocol tells; an opaque answer always is.
bool sj_answer_is_whole(const sj_answer *answer);
bool sj_answer_lacks_only_done(const sj_answer *answer);
// What is to be written behind an event that it ended in the middle of, once; empty as a rule.
sj_slice sj_answer_close_event(sj_answer *answer);

#endif
