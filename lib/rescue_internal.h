// Shared by the files of rescue alone: rescue_text (text inside JSON strings), rescue_read (the members of an event that matter),
// rescue_transcript (what the client has), rescue_chat and rescue_responses (what an event means), rescue_replay (what becomes of it),
// rescue_build (how it is written), rescue_continue (the request).
#ifndef SJ_RESCUE_INTERNAL_H
#define SJ_RESCUE_INTERNAL_H

#include "rescue.h"

// ---- text -------------------------------------------------------------------------------------------------------------------

// The inside of a JSON string, read one UTF-16 code unit at a time. Kept texts are CESU-8 (Unicode TR 26: every code unit apart, 1 to 3 bytes):
// pieces put together give the same bytes wherever the stream was cut, even inside a surrogate pair.
typedef struct rescue_text {
    const char *at, *end;
    unsigned low;  // second half of a pair that is only half taken; 0 none
    bool broken;   // had bytes that are no UTF-8
} rescue_text;

typedef enum rescue_match {
    RESCUE_SAME,   // the text is used up
    RESCUE_BEYOND, // what it is compared with is used up, some of the text is left
    RESCUE_OTHER,
} rescue_match;

rescue_text rescue_text_of(sj_slice raw_string); // with its quotes
static inline bool rescue_text_is_empty(const rescue_text *text) { return text->at == text->end && !text->low; }
// Walks both on from have[*matched] to the first difference or the end of either.
rescue_match rescue_text_compare(rescue_text *text, sj_slice have, size_t *matched);
bool rescue_text_equals(rescue_text text, sj_slice have);
// False: no UTF-8, or beyond the buffer's max.
__attribute__((warn_unused_result)) bool rescue_text_append(rescue_text text, sj_buffer *have);
// What is left of the text as a JSON string, its bytes as they came.
__attribute__((warn_unused_result)) bool rescue_text_write(const rescue_text *text, sj_buffer *out);
// Kept text as UTF-8. False: it has half a surrogate pair, or beyond the buffer's max.
__attribute__((warn_unused_result)) bool rescue_text_decode(sj_slice have, sj_buffer *out);

// ---- events -----------------------------------------------------------------------------------------------------------------

typedef enum rescue_kind {
    RK_NONE,
    RK_ODD,   // said, but in a way that cannot be compared
    RK_ERROR, // said
    RK_ID,
    RK_CREATED,
    RK_MODEL,
    RK_FINGERPRINT,
    // chat and completions; choice: the choice's index, part: the tool call's, -1 none
    RK_CHOICE,
    RK_TOOL,
    RK_ROLE,
    RK_FINISH,
    RK_LOGPROBS,
    RK_COMPANION, // goes with the text beside it: only worth sending when all of that is new
    RK_TOOL_ID,
    RK_TOOL_TYPE,
    // responses; choice: the output index, part: the content or summary index, -1 none
    RK_TYPE,
    RK_SEQUENCE,
    RK_OUTPUT_INDEX,
    RK_PART_INDEX,
    RK_ITEM_REF,
    RK_ITEM_ID,
    RK_ITEM_CALL_ID,
    RK_ITEM_TYPE,
    RK_ITEM_NAME,
    RK_ITEM_BODY,
    RK_WHOLE_TEXT,
    // texts that grow; from RK_DELTA_TEXT on those of responses, one for each kind of delta
    RK_FIRST_TEXT,
    RK_CONTENT = RK_FIRST_TEXT,
    RK_REASONING,
    RK_THINKING,
    RK_REFUSAL,
    RK_PLAIN_TEXT,
    RK_TOOL_NAME,
    RK_TOOL_ARGUMENTS,
    RK_DELTA_TEXT,
    RK_DELTA_LAST = RK_DELTA_TEXT + 15,
    // marks of responses events that the client has, one for each row of the table of types
    RK_EVENT,
} rescue_kind;

static inline bool rescue_is_text(rescue_kind kind) { return kind >= RK_FIRST_TEXT && kind <= RK_DELTA_LAST; }

// What becomes of a member when its event is emitted.
typedef enum rescue_fate {
    RESCUE_KEEP,
    RESCUE_EMPTY,      // ""
    RESCUE_REST,       // what the client does not have of the text
    RESCUE_NULL,
    RESCUE_EMPTY_LIST,
    RESCUE_CUT,        // name and value
    RESCUE_ORIGINAL,   // the first stream's value
    RESCUE_NUMBER,     // the next sequence number
} rescue_fate;

typedef struct rescue_piece {
    rescue_kind kind;
    int choice, part;
    size_t member;  // where its name begins, in the event's data
    sj_slice value; // as it came
    rescue_text rest; // of a text: what the client does not have
    rescue_fate fate;
    sj_slice original;
} rescue_piece;

enum { RESCUE_MAX_PIECES = 192, RESCUE_MAX_INDEX = 4096 };

typedef struct rescue_event {
    sj_slice name, data;
    bool odd;   // says something that cannot be compared
    bool error;
    int count;
    rescue_piece pieces[RESCUE_MAX_PIECES]; // as they stand in the data
} rescue_event;

// False: not one JSON object.
bool rescue_read(sj_protocol protocol, const sj_sse_event *event, rescue_event *out);
const rescue_piece *rescue_piece_of(const rescue_event *event, rescue_kind kind); // the last; NULL none
int rescue_number(sj_slice value); // 0 to RESCUE_MAX_INDEX; -1: something else

// ---- the transcript ---------------------------------------------------------------------------------------------------------

typedef struct rescue_entry {
    rescue_kind kind;
    int choice, part;
    sj_buffer text;  // kept text, or a raw JSON value
    // of the replay under way
    size_t matched;  // of the text
    bool seen;       // or need not come again
    uint64_t known_as; // hash of the id that the replay's stream gives to this tool call; 0 none yet
} rescue_entry;

struct sj_transcript {
    sj_protocol protocol;
    bool complete;
    size_t max_bytes, bytes;
    rescue_entry *entries;
    int count, room;
    int last; // found last
    sj_buffer id, created, model, fingerprint; // raw JSON values, as first seen
    int64_t sequence;                          // the last one sent; -1 none
};

void rescue_give_up(sj_transcript *t);
int rescue_find(sj_transcript *t, rescue_kind kind, int choice, int part); // -1 none
// Finds or adds; -1: the transcript is full, and given up.
int rescue_mark(sj_transcript *t, rescue_kind kind, int choice, int part);
void rescue_append(sj_transcript *t, rescue_kind kind, int choice, int part, rescue_text text);
// The first n bytes of the entry's own text once more.
void rescue_repeat(sj_transcript *t, rescue_entry *entry, size_t n);
// A raw value beside the mark, if it has none yet.
void rescue_keep_value(sj_transcript *t, rescue_kind kind, int choice, int part, sj_slice value);
void rescue_keep_first(sj_transcript *t, sj_buffer *place, sj_slice value);
// Whether the replay under way has brought all text of the choice again; choice -1: of all of them.
bool rescue_is_caught_up(const sj_transcript *t, int choice);

// ---- protocols --------------------------------------------------------------------------------------------------------------

// Takes into the transcript what of the event goes to the client, by the fates of its pieces.
void rescue_chat_note(sj_transcript *t, rescue_event *event);
void rescue_responses_note(sj_transcript *t, rescue_event *event);
// Compares the event with the transcript and sets the fates. caught_up: as before this event.
sj_replay_outcome rescue_chat_judge(sj_transcript *t, rescue_event *event, bool caught_up);
sj_replay_outcome rescue_responses_judge(sj_transcript *t, rescue_event *event, bool caught_up);
// Moves piece->rest past what the client has and sets the fate. False: they differ.
bool rescue_judge_text(sj_transcript *t, rescue_piece *piece, rescue_kind kind);
// The value goes on as the first stream had it, if that had one.
void rescue_put_original(rescue_piece *piece, const sj_buffer *original);

// ---- rebuilding -------------------------------------------------------------------------------------------------------------

bool rescue_is_unchanged(const sj_transcript *t, const rescue_event *event);
__attribute__((warn_unused_result)) bool rescue_write_event(const sj_transcript *t, const sj_sse_event *raw,
                                                            const rescue_event *event, sj_buffer *out);

// ---- continuation -----------------------------------------------------------------------------------------------------------

// What a continuation goes on from; NULL none.
rescue_entry *rescue_partial_text(const sj_transcript *t);
// How much of it the request carries: of a chat's, all but white space at its end.
size_t rescue_sent_length(const sj_transcript *t, const rescue_entry *partial);

#endif
