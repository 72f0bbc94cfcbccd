// A borrowed run of bytes. Nothing here owns or allocates; not NUL-terminated unless said so.
#ifndef SJ_SLICE_H
#define SJ_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

typedef struct sj_slice {
    const char *p;
    size_t n;
} sj_slice;

#define SJ_SLICE(literal) ((sj_slice){(literal), sizeof(literal) - 1})

static inline sj_slice sj_slice_of(const char *text) { return (sj_slice){text, text ? strlen(text) : 0}; }

static inline bool sj_slice_equal(sj_slice a, sj_slice b) {
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

// ASCII only.
static inline bool sj_slice_equal_nocase(sj_slice a, sj_slice b) {
    return a.n == b.n && (a.n == 0 || strncasecmp(a.p, b.p, a.n) == 0);
}

static inline bool sj_slice_starts(sj_slice text, sj_slice prefix) {
    return text.n >= prefix.n && (prefix.n == 0 || memcmp(text.p, prefix.p, prefix.n) == 0);
}

static inline sj_slice sj_slice_from(sj_slice text, size_t offset) {
    return (sj_slice){text.p + offset, text.n - offset};
}

// Spaces and tabs off both ends.
static inline sj_slice sj_slice_trim(sj_slice text) {
    while (text.n && (text.p[0] == ' ' || text.p[0] == '\t')) {
        text.p++;
        text.n--;
    }
    while (text.n && (text.p[text.n - 1] == ' ' || text.p[text.n - 1] == '\t'))
        text.n--;
    return text;
}

#endif
