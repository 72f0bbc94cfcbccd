// Well-formed UTF-8 (RFC 3629), one character at a time.
#ifndef SJ_UTF8_H
#define SJ_UTF8_H

#include "slice.h"

#include <stdint.h>

// Bytes of the well-formed character at the start of text (1..4), 0 when there is none. *code, if wanted, is its code point.
static inline size_t sj_utf8_next(sj_slice text, uint32_t *code) {
    const unsigned char *p = (const unsigned char *)text.p;
    if (text.n == 0)
        return 0;
    if (p[0] < 0x80) {
        if (code)
            *code = p[0];
        return 1;
    }
    size_t n = p[0] >= 0xF0 ? 4 : p[0] >= 0xE0 ? 3 : 2;
    if (p[0] < 0xC2 || p[0] > 0xF4 || text.n < n)
        return 0;
    uint32_t value = p[0] & (0x7Fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
        value = value << 6 | (p[i] & 0x3F);
    }
    // Overlong forms, surrogates and what lies beyond Unicode.
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (value < least[n] || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
        return 0;
    if (code)
        *code = value;
    return n;
}

static inline bool sj_utf8_valid(sj_slice text) {
    while (text.n) {
        size_t n = sj_utf8_next(text, NULL);
        if (!n)
            return false;
        text = sj_slice_from(text, n);
    }
    return true;
}

#endif
