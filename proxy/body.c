#include "body.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

typedef enum place { PLACE_MEMORY, PLACE_FILE, PLACE_MAPPED } place;

struct sj_body {
    place place;
    bool finished;
    size_t n; // bytes of the body so far
    size_t max; // max_body
    size_t expected; // from Content-Length, 0 unknown
    char *bytes; // the memory, or the mapping
    size_t cap; // bytes of memory, all of them accounted for in total_now
    int fd; // -1 outside PLACE_FILE
};

enum { FIRST_CAP = 4096 };

static _Atomic size_t total_now;
static _Atomic size_t total_max = SIZE_MAX;

void sj_body_set_total_max(size_t bytes) {
    atomic_store(&total_max, bytes);
}

size_t sj_body_total_bytes(void) {
    return atomic_load(&total_now);
}

// Reserves before allocating, so that the total never passes the limit, not even for a moment.
bool sj_body_memory_take(size_t bytes) {
    size_t limit = atomic_load(&total_max);
    size_t now = atomic_load(&total_now);
    do {
        if (now > limit || bytes > limit - now)
            return false;
    } while (!atomic_compare_exchange_weak(&total_now, &now, now + bytes));
    return true;
}

void sj_body_memory_give_back(size_t bytes) {
    size_t before = atomic_fetch_sub(&total_now, bytes);
    assert(before >= bytes);
    (void)before;
}

// To exactly cap bytes, larger or smaller; cap > 0.
static bool resize(sj_body *body, size_t cap) {
    if (cap > body->cap && !sj_body_memory_take(cap - body->cap))
        return false;
    char *bytes = realloc(body->bytes, cap);
    if (!bytes) {
        if (cap > body->cap)
            sj_body_memory_give_back(cap - body->cap);
        return false;
    }
    if (cap < body->cap)
        sj_body_memory_give_back(body->cap - cap);
    body->bytes = bytes;
    body->cap = cap;
    return true;
}

static void drop_memory(sj_body *body) {
    free(body->bytes);
    sj_body_memory_give_back(body->cap);
    body->bytes = NULL;
    body->cap = 0;
}

sj_body *sj_body_new(size_t expected_bytes, size_t max_bytes) {
    sj_body *body = malloc(sizeof *body);
    if (!body)
        return NULL;
    *body = (sj_body){.max = max_bytes, .expected = expected_bytes, .fd = -1};
    // Refused memory is told by the first append.
    if (expected_bytes > 0 && expected_bytes <= SJ_BODY_MEMORY_BYTES && expected_bytes <= max_bytes)
        (void)resize(body, expected_bytes);
    return body;
}

void sj_body_free(sj_body **body) {
    sj_body *gone = *body;
    *body = NULL;
    if (!gone)
        return;
    if (gone->place == PLACE_MAPPED)
        (void)munmap(gone->bytes, gone->n);
    else
        drop_memory(gone);
    if (gone->fd >= 0)
        (void)close(gone->fd);
    free(gone);
}

static bool reserve_memory(sj_body *body, size_t need) {
    if (need <= body->cap)
        return true;
    size_t most = body->max < SJ_BODY_MEMORY_BYTES ? body->max : SJ_BODY_MEMORY_BYTES;
    size_t cap = body->cap * 2 > FIRST_CAP ? body->cap * 2 : FIRST_CAP;
    if (cap < need)
        cap = need;
    if (cap > most)
        cap = most;
    // Near the limit of the total the exact size may still fit.
    return resize(body, cap) || (need < cap && resize(body, need));
}

static int open_unlinked_in(const char *directory) {
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC | O_EXCL, 0600);
    if (fd >= 0)
        return fd;
    // Older file systems know no O_TMPFILE.
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/stormjib-body-XXXXXX", directory);
    if (length < 0 || (size_t)length >= sizeof path)
        return -1;
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0)
        (void)unlink(path);
    return fd;
}

static int open_unlinked(void) {
    const char *directory = getenv("TMPDIR");
    int fd = directory && directory[0] ? open_unlinked_in(directory) : -1;
    return fd >= 0 ? fd : open_unlinked_in("/tmp");
}

static bool write_all(int fd, const char *bytes, size_t n) {
    while (n > 0) {
        ssize_t written = write(fd, bytes, n);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return false;
        bytes += written;
        n -= (size_t)written;
    }
    return true;
}

static bool move_to_file(sj_body *body) {
    int fd = open_unlinked();
    if (fd < 0)
        return false;
    if (!write_all(fd, body->bytes, body->n)) {
        (void)close(fd);
        return false;
    }
    drop_memory(body);
    body->fd = fd;
    body->place = PLACE_FILE;
    return true;
}

sj_body_result sj_body_append(sj_body *body, const void *bytes, size_t n) {
    assert(!body->finished);
    if (n == 0)
        return SJ_BODY_OK;
    if (n > body->max - body->n)
        return SJ_BODY_TOO_LARGE;
    if (body->place == PLACE_MEMORY) {
        bool large = body->n + n > SJ_BODY_MEMORY_BYTES || body->expected > SJ_BODY_MEMORY_BYTES;
        if (large && !move_to_file(body))
            return SJ_BODY_NO_FILE;
        if (!large && !reserve_memory(body, body->n + n))
            return SJ_BODY_NO_MEMORY;
    }
    if (body->place == PLACE_MEMORY)
        memcpy(body->bytes + body->n, bytes, n);
    else if (!write_all(body->fd, bytes, n))
        return SJ_BODY_NO_FILE;
    body->n += n;
    return SJ_BODY_OK;
}

sj_body_result sj_body_finish(sj_body *body) {
    if (body->finished)
        return SJ_BODY_OK;
    if (body->place == PLACE_FILE) {
        void *map = mmap(NULL, body->n, PROT_READ, MAP_PRIVATE, body->fd, 0);
        if (map == MAP_FAILED)
            return SJ_BODY_NO_FILE;
        (void)close(body->fd);
        body->fd = -1;
        body->bytes = map;
        body->place = PLACE_MAPPED;
    } else if (body->n == 0) {
        drop_memory(body);
    } else if (body->cap - body->n >= FIRST_CAP) {
        // A body lives through retries: the slack of growing is not kept.
        (void)resize(body, body->n);
    }
    body->finished = true;
    return SJ_BODY_OK;
}

sj_slice sj_body_bytes(const sj_body *body) {
    assert(body->finished);
    return body->n ? (sj_slice){body->bytes, body->n} : (sj_slice){NULL, 0};
}
