// A growing byte buffer with a hard cap. Every buffer of the program that grows is one of these.
// One owner, no locking. A call that would pass the cap changes nothing and returns false.
#ifndef SJ_BUFFER_H
#define SJ_BUFFER_H

#include "slice.h"

typedef struct sj_buffer {
    char *p;    // owned; NULL while empty; not NUL-terminated
    size_t n;   // bytes used
    size_t cap; // bytes allocated
    size_t max; // bytes allowed
} sj_buffer;

static inline sj_buffer sj_buffer_with_max(size_t max_bytes) { return (sj_buffer){.max = max_bytes}; }

// Room for n more bytes behind those used, so that they can be written in place and counted afterwards.
__attribute__((warn_unused_result)) bool sj_buffer_reserve(sj_buffer *buffer, size_t n);
__attribute__((warn_unused_result)) bool sj_buffer_append(sj_buffer *buffer, const void *bytes, size_t n);
__attribute__((warn_unused_result)) bool sj_buffer_add(sj_buffer *buffer, sj_slice bytes);
__attribute__((warn_unused_result)) bool sj_buffer_text(sj_buffer *buffer, const char *text);
__attribute__((warn_unused_result, format(printf, 2, 3))) bool sj_buffer_printf(sj_buffer *buffer, const char *format, ...);
// For messages to people: what does not fit is left out.
__attribute__((format(printf, 2, 3))) void sj_buffer_note(sj_buffer *buffer, const char *format, ...);
// Drops n bytes from the front.
void sj_buffer_consume(sj_buffer *buffer, size_t n);
static inline void sj_buffer_clear(sj_buffer *buffer) { buffer->n = 0; }
static inline sj_slice sj_buffer_slice(const sj_buffer *buffer) { return (sj_slice){buffer->p, buffer->n}; }
// Gives the memory back; the buffer may be used again with the same cap.
void sj_buffer_free(sj_buffer *buffer);

#endif
