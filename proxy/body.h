// A client's request body, kept whole so that it can be sent again: in memory up to 1 MiB, beyond that in an unlinked temporary file that is
// mapped for reading. One owner (one worker); the total over all workers is bounded and atomic.
#ifndef SJ_BODY_H
#define SJ_BODY_H

#include "json_span.h"

typedef struct sj_body sj_body;

enum { SJ_BODY_MEMORY_BYTES = 1024 * 1024 };

// Total memory that all bodies may hold (limits.body_memory); set at start and at reload.
void sj_body_set_total_max(size_t bytes);
size_t sj_body_total_bytes(void); // in memory now

// For what else is kept of exchanges: counts with the bodies. False: there is no room.
__attribute__((warn_unused_result)) bool sj_body_memory_take(size_t bytes);
void sj_body_memory_give_back(size_t bytes);

typedef enum sj_body_result { SJ_BODY_OK, SJ_BODY_TOO_LARGE, SJ_BODY_NO_MEMORY, SJ_BODY_NO_FILE } sj_body_result;

// expected_bytes: from Content-Length, 0 unknown: memory is taken at once when it is small enough. max_bytes: max_body.
sj_body *sj_body_new(size_t expected_bytes, size_t max_bytes);
void sj_body_free(sj_body **body); // NULL-safe; gives back memory, file and mapping
__attribute__((warn_unused_result)) sj_body_result sj_body_append(sj_body *body, const void *bytes, size_t n);
// No more bytes come; maps the file. After it the bytes are contiguous and never move.
__attribute__((warn_unused_result)) sj_body_result sj_body_finish(sj_body *body);
sj_slice sj_body_bytes(const sj_body *body); // only after finish; {NULL,0} when empty

// A cursor over the body in which some spans are replaced by the same text (the model's JSON string). Borrowed: body, edits, replacement.
typedef struct sj_body_cursor {
    sj_slice bytes;
    const sj_json_edit *edits; // ascending, not overlapping
    size_t edit_count;
    sj_slice replacement;
    uint64_t at; // position in the edited body
} sj_body_cursor;

uint64_t sj_body_cursor_size(const sj_body_cursor *cursor);
size_t sj_body_cursor_read(sj_body_cursor *cursor, char *out, size_t n);
bool sj_body_cursor_seek(sj_body_cursor *cursor, uint64_t at);

#endif
