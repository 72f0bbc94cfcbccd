#include "buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { FIRST_CAP = 256 };

bool sj_buffer_reserve(sj_buffer *buffer, size_t more) {
    if (more > buffer->max || buffer->n > buffer->max - more)
        return false;
    size_t need = buffer->n + more;
    if (need <= buffer->cap)
        return true;
    size_t first = buffer->max < FIRST_CAP ? buffer->max : FIRST_CAP;
    size_t cap = buffer->cap ? buffer->cap : first;
    while (cap < need)
        cap = cap > buffer->max / 2 ? buffer->max : cap * 2;
    char *p = realloc(buffer->p, cap);
    if (!p)
        return false;
    buffer->p = p;
    buffer->cap = cap;
    return true;
}

bool sj_buffer_append(sj_buffer *buffer, const void *bytes, size_t n) {
    if (n == 0)
        return true;
    if (!sj_buffer_reserve(buffer, n))
        return false;
    memcpy(buffer->p + buffer->n, bytes, n);
    buffer->n += n;
    return true;
}

bool sj_buffer_add(sj_buffer *buffer, sj_slice bytes) {
    return sj_buffer_append(buffer, bytes.p, bytes.n);
}

bool sj_buffer_text(sj_buffer *buffer, const char *text) {
    return sj_buffer_append(buffer, text, strlen(text));
}

bool sj_buffer_printf(sj_buffer *buffer, const char *format, ...) {
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    // vsnprintf writes a terminator, which is not counted as used.
    bool ok = length >= 0 && sj_buffer_reserve(buffer, (size_t)length + 1);
    if (ok) {
        (void)vsnprintf(buffer->p + buffer->n, (size_t)length + 1, format, again);
        buffer->n += (size_t)length;
    }
    va_end(again);
    return ok;
}

void sj_buffer_note(sj_buffer *buffer, const char *format, ...) {
    char text[2048];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t length = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    if (!sj_buffer_append(buffer, text, length))
        return;
}

void sj_buffer_consume(sj_buffer *buffer, size_t n) {
    if (n >= buffer->n) {
        buffer->n = 0;
        return;
    }
    memmove(buffer->p, buffer->p + n, buffer->n - n);
    buffer->n -= n;
}

void sj_buffer_free(sj_buffer *buffer) {
    free(buffer->p);
    buffer->p = NULL;
    buffer->n = buffer->cap = 0;
}
