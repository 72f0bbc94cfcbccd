// Rescue of a stream that broke after its first byte had gone to the client (BEHAVIOUR 12): what the client already has (transcript), a second
// stream for the same request of which only the rest goes on (replay), and the request that asks a model to go on from a partial answer
// (continuation). Chat, completions and responses; the other protocols are not rescued. Reads and makes SSE events, decides nothing: when to
// rescue, where and how often is the journey's. One owner, no locking.
//
//   committed answer --events passed on--> transcript --(it broke)--> replay <--events-- another attempt
//                                              ^                        |
//                                              +-- what went on --------+--bytes--> the same client
#ifndef SJ_RESCUE_H
#define SJ_RESCUE_H

#include "completion.h"
#include "sse.h"

// ---- what the client has ----------------------------------------------------------------------------------------------------

typedef struct sj_transcript sj_transcript;

enum { SJ_TRANSCRIPT_MAX_BYTES = 1024 * 1024 }; // suggested bound

// NULL: a protocol that cannot be rescued, or out of memory. Every call below takes NULL for "no rescue".
sj_transcript *sj_transcript_new(sj_protocol protocol, size_t max_bytes);
void sj_transcript_free(sj_transcript **transcript);
// One event that is passed on to the client, or held to be passed on at commit; error events and events that are dropped are not for this.
// One pass over the event's bytes, no tree.
void sj_transcript_event(sj_transcript *transcript, const sj_sse_event *event);
// Nothing that the client has is missing here, so a rescue can be tried. False for good once the stream said something that cannot be compared
// (audio, images, content that is no text, tool calls without an index, an event too long to be read) or outgrew max_bytes.
bool sj_transcript_is_complete(const sj_transcript *transcript);
size_t sj_transcript_bytes(const sj_transcript *transcript);

// ---- the rest of it, from a second stream -----------------------------------------------------------------------------------

typedef enum sj_replay_mode {
    SJ_REPLAY_AGAIN,    // the same request anew: what the client has is swallowed as it comes again
    SJ_REPLAY_CONTINUE, // a continuation request: all of it is new, but for an echo of the whole partial text
} sj_replay_mode;

typedef enum sj_replay_outcome {
    SJ_REPLAY_SWALLOWED, // nothing for the client
    SJ_REPLAY_EMIT,      // *bytes go to the client
    SJ_REPLAY_DIVERGED,  // this stream says something else, or ends before it has caught up: cancel it; every later call says so too
} sj_replay_outcome;

typedef struct sj_replay sj_replay;

// The transcript is borrowed and grows by itself with what is emitted (emitted events are not fed to it once more): when this stream breaks too,
// the next replay starts from there. One replay at a time.
// NULL: the transcript is not complete, or out of memory.
sj_replay *sj_replay_new(sj_transcript *transcript, sj_replay_mode mode);
void sj_replay_free(sj_replay **replay);
// One event of the second stream, in order, with or without data. *bytes: valid until the next call, and no longer than *event when unchanged.
// Emitted events have the first stream's id and created (responses: item and call ids and running sequence numbers too), this stream's model, and
// all other members as they came; of an event the client has a part of, only the rest of its text is left. Text is compared as UTF-16 code units,
// so how it is escaped and where it is cut make no difference. Nothing is emitted of a choice before all that the client has of it has come
// again. An error event is swallowed: sj_completion_event is what tells of it.
sj_replay_outcome sj_replay_event(sj_replay *replay, const sj_sse_event *event, sj_slice *bytes);
// All that the client has has come again; from here on the client sees this stream.
bool sj_replay_has_caught_up(const sj_replay *replay);

// ---- asking a model to go on ------------------------------------------------------------------------------------------------

// How a partial assistant message at the end of `messages` is marked as to be continued.
typedef enum sj_prefill_form {
    SJ_PREFILL_PLAIN,          // not at all: llama.cpp, LMDeploy, Ollama, Groq, OpenRouter
    SJ_PREFILL_PREFIX,         // "prefix": true in the message: DeepSeek (its beta base URL), Mistral
    SJ_PREFILL_PARTIAL,        // "partial": true in the message: Moonshot, Qwen at Alibaba
    SJ_PREFILL_CONTINUE_FINAL, // "continue_final_message": true and "add_generation_prompt": false in the body: vLLM, SGLang
} sj_prefill_form;

// By the upstream's host name. PLAIN unless its API documents another form: strict servers refuse members that they do not know.
sj_prefill_form sj_prefill_form_of(sj_slice host);
// Appends the request body of a continuation to *out: the original bytes with the partial text spliced in, as the last assistant message or
// behind the prompt. White space at the end of a chat's partial text is left out, since some APIs refuse it and templates trim it; the replay
// allows for that. False, and *out as before: out->max reached, or this request or answer cannot be continued (several choices, reasoning,
// refusal, tool calls or a request with tools, no text yet, text ending in half a surrogate pair, a finish already sent, prompts in tokens,
// `echo`).
__attribute__((warn_unused_result)) bool sj_continuation_body(const sj_transcript *transcript, sj_slice body, sj_prefill_form form,
                                                              sj_buffer *out);

#endif
