// Short texts written into fixed space, where printf would cost more than all the rest. What does not fit is cut; always NUL-terminated.
#ifndef SJ_TEXT_H
#define SJ_TEXT_H

#include "slice.h"

#include <stdint.h>

typedef struct sj_text {
    char *out;
    size_t size, n; // n: without the NUL
} sj_text;

sj_text sj_text_into(char *out, size_t size); // size > 0
void sj_text_add(sj_text *text, sj_slice bytes);
void sj_text_put(sj_text *text, const char *bytes);
void sj_text_int(sj_text *text, int64_t number);
void sj_text_hex(sj_text *text, uint64_t number, int digits); // at least that many, lower case

static inline void sj_text_copy(char *out, size_t size, const char *from) {
    sj_text text = sj_text_into(out, size);
    sj_text_put(&text, from);
}

#endif
