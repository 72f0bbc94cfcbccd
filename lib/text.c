#include "text.h"

#include <assert.h>

sj_text sj_text_into(char *out, size_t size) {
    assert(size > 0);
    out[0] = '\0';
    return (sj_text){out, size, 0};
}

void sj_text_add(sj_text *text, sj_slice bytes) {
    size_t room = text->size - 1 - text->n;
    size_t n = bytes.n < room ? bytes.n : room;
    if (n)
        memcpy(text->out + text->n, bytes.p, n);
    text->n += n;
    text->out[text->n] = '\0';
}

void sj_text_put(sj_text *text, const char *bytes) {
    sj_text_add(text, sj_slice_of(bytes));
}

static void add_digits(sj_text *text, uint64_t number, uint64_t base, int least) {
    char digits[20];
    size_t at = sizeof digits;
    while (number || least > 0) {
        digits[--at] = "0123456789abcdef"[number % base];
        number /= base;
        least--;
    }
    sj_text_add(text, (sj_slice){digits + at, sizeof digits - at});
}

void sj_text_int(sj_text *text, int64_t number) {
    if (number < 0)
        sj_text_put(text, "-");
    add_digits(text, number < 0 ? 0 - (uint64_t)number : (uint64_t)number, 10, 1);
}

void sj_text_hex(sj_text *text, uint64_t number, int digits) {
    assert(digits <= 16);
    add_digits(text, number, 16, digits);
}
