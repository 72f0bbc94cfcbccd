#include "tape.h"

#include "body.h"
#include "text.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { BLOCK_BYTES = 16 * 1024 };

typedef struct block {
    struct block *next;
    uint64_t at; // of its first byte, in the answer
    size_t n, cap;
    char bytes[];
} block;

typedef struct seat {
    bool taken, told, lost;
    sj_tape_place reader;
    uint64_t at; // what he has passed
    block *next; // holds the byte at `at`; NULL: none does yet
} seat;

struct sj_tape {
    atomic_int refs;
    sj_tape_place writer;
    char request_id[20];
    pthread_mutex_t mutex; // of what follows
    sj_tape_begin begin;
    bool has_begun, ended, whole;
    bool spoiled; // its beginning is not there any more
    bool writer_waits;
    size_t low;
    sj_refusal refusal;
    uint64_t written;
    size_t held; // in blocks
    block *first, *last;
    seat seats[SJ_TAPE_SEATS];
};

sj_tape *sj_tape_new(sj_tape_place writer, const char *request_id) {
    sj_tape *tape = calloc(1, sizeof *tape);
    if (!tape)
        return NULL;
    atomic_init(&tape->refs, 1);
    pthread_mutex_init(&tape->mutex, NULL);
    tape->writer = writer;
    sj_text_copy(tape->request_id, sizeof tape->request_id, request_id);
    return tape;
}

sj_tape *sj_tape_ref(sj_tape *tape) {
    atomic_fetch_add(&tape->refs, 1);
    return tape;
}

static void drop_first(sj_tape *tape) {
    block *gone = tape->first;
    tape->first = gone->next;
    if (!tape->first)
        tape->last = NULL;
    tape->held -= gone->cap;
    sj_body_memory_give_back(gone->cap);
    free(gone);
}

void sj_tape_unref(sj_tape **slot) {
    sj_tape *tape = *slot;
    *slot = NULL;
    if (!tape || atomic_fetch_sub(&tape->refs, 1) != 1)
        return;
    while (tape->first)
        drop_first(tape);
    if (tape->has_begun)
        sj_headers_free(&tape->begin.headers);
    free(tape->begin.target);
    pthread_mutex_destroy(&tape->mutex);
    free(tape);
}

const char *sj_tape_request_id(const sj_tape *tape) {
    return tape->request_id;
}

sj_tape_place sj_tape_writer(const sj_tape *tape) {
    return tape->writer;
}

// ---- what is true while the mutex is held ---------------------------------------------------------------

static void tell(seat *s, sj_tape_news *news) {
    if (s->told)
        return;
    s->told = true;
    news->readers[news->count++] = s->reader;
}

static void tell_all(sj_tape *tape, sj_tape_news *news) {
    for (int i = 0; i < SJ_TAPE_SEATS; i++)
        if (tape->seats[i].taken)
            tell(&tape->seats[i], news);
}

static size_t fastest_lag(const sj_tape *tape) {
    size_t lag = SIZE_MAX;
    for (int i = 0; i < SJ_TAPE_SEATS; i++) {
        const seat *s = &tape->seats[i];
        size_t behind = (size_t)(tape->written - s->at);
        if (s->taken && !s->lost && behind < lag)
            lag = behind;
    }
    return lag;
}

// Whoever still needs its first block can not have the rest.
static void leave_behind(sj_tape *tape) {
    for (int i = 0; i < SJ_TAPE_SEATS; i++) {
        seat *s = &tape->seats[i];
        if (!s->taken || s->next != tape->first)
            continue;
        s->lost |= s->at < tape->first->at + tape->first->n;
        s->next = tape->first->next;
    }
}

static void forget_what_is_too_much(sj_tape *tape) {
    while (tape->held > SJ_TAPE_MAX && tape->first != tape->last) {
        leave_behind(tape);
        drop_first(tape);
        tape->spoiled = true;
    }
}

static bool add_block(sj_tape *tape, size_t n) {
    size_t cap = n > BLOCK_BYTES ? n : BLOCK_BYTES;
    if (!sj_body_memory_take(cap))
        return false;
    block *fresh = malloc(sizeof *fresh + cap);
    if (!fresh) {
        sj_body_memory_give_back(cap);
        return false;
    }
    *fresh = (block){.at = tape->written, .cap = cap};
    *(tape->last ? &tape->last->next : &tape->first) = fresh;
    tape->last = fresh;
    tape->held += cap;
    for (int i = 0; i < SJ_TAPE_SEATS; i++)
        if (tape->seats[i].taken && !tape->seats[i].next)
            tape->seats[i].next = fresh;
    return true;
}

static void append(sj_tape *tape, sj_slice bytes) {
    memcpy(tape->last->bytes + tape->last->n, bytes.p, bytes.n);
    tape->last->n += bytes.n;
    tape->written += bytes.n;
}

static bool keep(sj_tape *tape, sj_slice bytes) {
    size_t room = tape->last ? tape->last->cap - tape->last->n : 0;
    sj_slice rest = bytes;
    if (room) {
        rest = sj_slice_from(bytes, room < bytes.n ? room : bytes.n);
        append(tape, (sj_slice){bytes.p, bytes.n - rest.n});
    }
    if (rest.n == 0)
        return true;
    if (!add_block(tape, rest.n))
        return false;
    append(tape, rest);
    return true;
}

static void lose_everybody(sj_tape *tape) {
    tape->spoiled = true;
    for (int i = 0; i < SJ_TAPE_SEATS; i++)
        tape->seats[i].lost = true;
}

// Nobody reads it, and nobody can begin to.
static bool is_idle(const sj_tape *tape) {
    return tape->spoiled && fastest_lag(tape) == SIZE_MAX;
}

// ---- the writer -----------------------------------------------------------------------------------------

static bool may_join(const sj_tape *tape) {
    int taken = 0;
    for (int i = 0; i < SJ_TAPE_SEATS; i++)
        taken += tape->seats[i].taken;
    return !tape->spoiled && taken < SJ_TAPE_SEATS;
}

int sj_tape_join(sj_tape *tape, sj_tape_place reader) {
    pthread_mutex_lock(&tape->mutex);
    int at = may_join(tape) ? 0 : -1;
    while (at >= 0 && tape->seats[at].taken)
        at++;
    if (at >= 0) { // he reads at once, without being told
        tape->seats[at] = (seat){.taken = true, .told = true, .reader = reader, .next = tape->first};
        tape->writer_waits = tape->written > 0; // perhaps for a client that reads nothing any more
    }
    pthread_mutex_unlock(&tape->mutex);
    return at;
}

int sj_tape_readers(sj_tape *tape) {
    pthread_mutex_lock(&tape->mutex);
    int readers = 0;
    for (int i = 0; i < SJ_TAPE_SEATS; i++)
        readers += tape->seats[i].taken;
    pthread_mutex_unlock(&tape->mutex);
    return readers;
}

void sj_tape_head(sj_tape *tape, int status, const sj_headers *headers, int64_t content_length,
                  const char *target, sj_tape_news *news) {
    *news = (sj_tape_news){0};
    sj_tape_begin begin = {.status = status, .content_length = content_length, .target = strdup(target)};
    sj_headers_init(&begin.headers);
    bool ok = begin.target && sj_headers_add_all(&begin.headers, headers);
    pthread_mutex_lock(&tape->mutex);
    assert(!tape->has_begun);
    tape->begin = begin;
    tape->has_begun = true;
    if (!ok)
        lose_everybody(tape);
    tell_all(tape, news);
    pthread_mutex_unlock(&tape->mutex);
}

size_t sj_tape_write(sj_tape *tape, sj_slice bytes, size_t high, size_t low, sj_tape_news *news) {
    *news = (sj_tape_news){0};
    pthread_mutex_lock(&tape->mutex);
    if (!tape->ended && bytes.n && !is_idle(tape)) {
        if (!keep(tape, bytes))
            lose_everybody(tape);
        forget_what_is_too_much(tape);
        tell_all(tape, news);
    }
    while (tape->first && is_idle(tape))
        drop_first(tape);
    size_t lag = fastest_lag(tape);
    tape->writer_waits = lag != SIZE_MAX && lag > high;
    tape->low = low;
    pthread_mutex_unlock(&tape->mutex);
    return lag;
}

void sj_tape_end(sj_tape *tape, bool whole, sj_refusal refusal, sj_tape_news *news) {
    *news = (sj_tape_news){0};
    pthread_mutex_lock(&tape->mutex);
    if (!tape->ended) {
        tape->ended = true;
        tape->whole = whole;
        tape->refusal = refusal;
        tell_all(tape, news);
    }
    pthread_mutex_unlock(&tape->mutex);
}

// ---- a reader -------------------------------------------------------------------------------------------

const sj_tape_begin *sj_tape_begun(sj_tape *tape) {
    pthread_mutex_lock(&tape->mutex);
    const sj_tape_begin *begin = tape->has_begun ? &tape->begin : NULL;
    pthread_mutex_unlock(&tape->mutex);
    return begin;
}

static void take_bytes(seat *s, sj_tape_chunk *chunk) {
    while (s->at == s->next->at + s->next->n)
        s->next = s->next->next;
    size_t from = (size_t)(s->at - s->next->at), left = s->next->n - from;
    chunk->n = left < sizeof chunk->bytes ? left : sizeof chunk->bytes;
    memcpy(chunk->bytes, s->next->bytes + from, chunk->n);
    s->at += chunk->n;
}

static sj_tape_state read_on(sj_tape *tape, seat *s, sj_tape_chunk *chunk) {
    if (s->lost)
        return SJ_TAPE_LOST;
    if (s->at < tape->written) {
        take_bytes(s, chunk);
        return SJ_TAPE_BYTES;
    }
    if (tape->ended)
        return tape->whole ? SJ_TAPE_WHOLE : SJ_TAPE_CUT;
    s->told = false;
    return SJ_TAPE_WAIT;
}

sj_tape_state sj_tape_read(sj_tape *tape, int seat_no, sj_tape_chunk *chunk) {
    pthread_mutex_lock(&tape->mutex);
    sj_tape_state state = read_on(tape, &tape->seats[seat_no], chunk);
    chunk->tell_writer = tape->writer_waits && fastest_lag(tape) < tape->low;
    if (chunk->tell_writer)
        tape->writer_waits = false;
    pthread_mutex_unlock(&tape->mutex);
    return state;
}

sj_refusal sj_tape_refusal(sj_tape *tape) {
    pthread_mutex_lock(&tape->mutex);
    sj_refusal refusal = tape->refusal;
    pthread_mutex_unlock(&tape->mutex);
    return refusal;
}

void sj_tape_leave(sj_tape *tape, int seat_no) {
    pthread_mutex_lock(&tape->mutex);
    tape->seats[seat_no] = (seat){0};
    pthread_mutex_unlock(&tape->mutex);
}
