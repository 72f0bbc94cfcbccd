// One answer as it goes out, for clients that read it beside the one it began for, or later (BEHAVIOUR 6): written by the worker that carries the
// exchange, read by any worker. Thread-safe: one mutex, held for arithmetic and copying. Who must be told of something new comes back as
// a list, and is told by the caller; each reader is told once, until he has read all there is.
//
// Kept from its first byte as far as SJ_TAPE_MAX allows, in blocks. Beyond, what all readers have is forgotten (nobody can begin to read
// then), and a reader who is further behind than that has lost the answer. Blocks count towards limits.body_memory.
#ifndef SJ_TAPE_H
#define SJ_TAPE_H

#include "headers.h"
#include "refusal.h"

typedef struct sj_tape sj_tape;

enum { SJ_TAPE_MAX = 1024 * 1024, SJ_TAPE_SEATS = 8 };

typedef struct sj_tape_place { // of an exchange
    uint32_t worker;
    uint64_t exchange;
} sj_tape_place;

typedef struct sj_tape_news {
    sj_tape_place readers[SJ_TAPE_SEATS];
    int count;
} sj_tape_news;

// By whom it is written; request_id is copied. NULL: out of memory.
sj_tape *sj_tape_new(sj_tape_place writer, const char *request_id);
sj_tape *sj_tape_ref(sj_tape *tape);
void sj_tape_unref(sj_tape **tape); // NULL-safe
const char *sj_tape_request_id(const sj_tape *tape);
sj_tape_place sj_tape_writer(const sj_tape *tape);

// ---- the writer's thread --------------------------------------------------------------------------------------------------------
// His seat; -1: it is full, or the beginning is no longer there.
int sj_tape_join(sj_tape *tape, sj_tape_place reader);
int sj_tape_readers(sj_tape *tape);
// Once. content_length: -1 unknown.
void sj_tape_head(sj_tape *tape, int status, const sj_headers *headers, int64_t content_length, const char *target, sj_tape_news *news);
// How far behind the fastest reader is then; SIZE_MAX without readers. Over `high` he will say when he is below `low`.
size_t sj_tape_write(sj_tape *tape, sj_slice bytes, size_t high, size_t low, sj_tape_news *news);
// Nothing is written after it; the first call counts. refusal: when it was an error of ours.
void sj_tape_end(sj_tape *tape, bool whole, sj_refusal refusal, sj_tape_news *news);

// ---- a reader's thread ----------------------------------------------------------------------------------------------------------
typedef struct sj_tape_begin { // never changes once it is there
    int status;
    sj_headers headers;
    int64_t content_length;
    char *target; // label
} sj_tape_begin;
const sj_tape_begin *sj_tape_begun(sj_tape *tape); // NULL: not yet

typedef enum sj_tape_state {
    SJ_TAPE_WAIT,  // he has all there is; he will be told of more
    SJ_TAPE_BYTES, // these were next
    SJ_TAPE_WHOLE, // the answer is complete
    SJ_TAPE_CUT,   // it was broken off here
    SJ_TAPE_LOST,  // he was too slow
} sj_tape_state;
typedef struct sj_tape_chunk {
    char bytes[16 * 1024];
    size_t n;
    bool tell_writer; // who waits for readers
} sj_tape_chunk;
sj_tape_state sj_tape_read(sj_tape *tape, int seat, sj_tape_chunk *chunk);
sj_refusal sj_tape_refusal(sj_tape *tape); // after the end
void sj_tape_leave(sj_tape *tape, int seat);

#endif
