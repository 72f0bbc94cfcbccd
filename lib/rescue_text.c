#include "json_span.h"
#include "rescue_internal.h"
#include "utf8.h"

enum { MAX_UNIT = 3, PAIRS_FROM = 0x10000 };

// ---- code units -------------------------------------------------------------------------------------------------------------

static size_t put_unit(unsigned unit, char *out) {
    if (unit < 0x80) {
        out[0] = (char)unit;
        return 1;
    }
    size_t n = unit < 0x800 ? 2 : 3;
    out[0] = (char)(n == 2 ? 0xc0 | unit >> 6 : 0xe0 | unit >> 12);
    out[1] = (char)(0x80 | (n == 2 ? unit & 0x3f : unit >> 6 & 0x3f));
    out[2] = (char)(0x80 | (unit & 0x3f));
    return n;
}

static unsigned hex4(const char *p) {
    unsigned unit = 0;
    for (int i = 0; i < 4; i++) {
        char c = (char)(p[i] | 0x20);
        unit = unit << 4 | (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return unit;
}

// text->at stands at a backslash of a string that is known to be well formed.
static unsigned take_escape(rescue_text *text) {
    static const char letters[] = "bfnrt", meanings[] = "\b\f\n\r\t";
    char kind = text->at[1];
    text->at += 2;
    if (kind == 'u') {
        text->at += 4;
        return hex4(text->at - 4);
    }
    const char *letter = strchr(letters, kind);
    return (unsigned char)(letter ? meanings[letter - letters] : kind);
}

// Bytes at text->at that stand for themselves as one code unit: 1 to 3; 0: something else.
static size_t plain_length(const rescue_text *text) {
    unsigned char c = (unsigned char)*text->at;
    if (c < 0x80)
        return c != '\\';
    size_t n = sj_utf8_next((sj_slice){text->at, (size_t)(text->end - text->at)}, NULL);
    return n <= MAX_UNIT ? n : 0;
}

// The next code unit as CESU-8; a byte that is no UTF-8 as it is. 0: the end.
static size_t take_unit(rescue_text *text, char *out) {
    if (text->low) {
        size_t n = put_unit(text->low, out);
        text->low = 0;
        return n;
    }
    if (text->at == text->end)
        return 0;
    size_t plain = plain_length(text);
    if (plain) {
        memcpy(out, text->at, plain);
        text->at += plain;
        return plain;
    }
    if (*text->at == '\\')
        return put_unit(take_escape(text), out);
    uint32_t code = 0;
    size_t n = sj_utf8_next((sj_slice){text->at, (size_t)(text->end - text->at)}, &code);
    if (n == 0) {
        text->broken = true;
        *out = *text->at++;
        return 1;
    }
    text->at += n;
    text->low = 0xdc00 | ((code - PAIRS_FROM) & 0x3ff);
    return put_unit(0xd800 | (code - PAIRS_FROM) >> 10, out);
}

// ---- texts ------------------------------------------------------------------------------------------------------------------

rescue_text rescue_text_of(sj_slice raw) {
    return (rescue_text){.at = raw.p + 1, .end = raw.p + raw.n - 1};
}

rescue_match rescue_text_compare(rescue_text *text, sj_slice have, size_t *matched) {
    char unit[MAX_UNIT];
    while (*matched < have.n) {
        rescue_text before = *text;
        size_t n = take_unit(text, unit);
        if (n == 0)
            return RESCUE_SAME;
        if (text->broken || have.n - *matched < n || memcmp(have.p + *matched, unit, n) != 0) {
            *text = before;
            return RESCUE_OTHER;
        }
        *matched += n;
    }
    return rescue_text_is_empty(text) ? RESCUE_SAME : RESCUE_BEYOND;
}

bool rescue_text_equals(rescue_text text, sj_slice have) {
    size_t matched = 0;
    return rescue_text_compare(&text, have, &matched) == RESCUE_SAME && matched == have.n;
}

bool rescue_text_append(rescue_text text, sj_buffer *have) {
    size_t start = have->n;
    bool ok = true;
    while (ok && !rescue_text_is_empty(&text)) {
        char unit[MAX_UNIT];
        const char *run = text.at;
        for (size_t n = 1; n && !text.low && text.at < text.end; text.at += n)
            n = plain_length(&text);
        ok = sj_buffer_append(have, run, (size_t)(text.at - run)) &&
             sj_buffer_append(have, unit, take_unit(&text, unit));
    }
    if (ok && !text.broken)
        return true;
    have->n = start;
    return false;
}

bool rescue_text_write(const rescue_text *text, sj_buffer *out) {
    return sj_buffer_append(out, "\"", 1) && (!text->low || sj_buffer_printf(out, "\\u%04x", text->low)) &&
           sj_buffer_append(out, text->at, (size_t)(text->end - text->at)) && sj_buffer_append(out, "\"", 1);
}

// ---- back to UTF-8 ----------------------------------------------------------------------------------------------------------

// The surrogate at the start of kept text, 0 when something else stands there.
static unsigned surrogate_at(sj_slice have) {
    const unsigned char *p = (const unsigned char *)have.p;
    if (have.n < MAX_UNIT || p[0] != 0xed || p[1] < 0xa0)
        return 0;
    return 0xd000u | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
}

static bool put_pair(unsigned high, unsigned low, sj_buffer *out) {
    unsigned code = PAIRS_FROM + ((high & 0x3ff) << 10 | (low & 0x3ff));
    char bytes[4] = {(char)(0xf0 | code >> 18), (char)(0x80 | (code >> 12 & 0x3f)),
                     (char)(0x80 | (code >> 6 & 0x3f)), (char)(0x80 | (code & 0x3f))};
    return sj_buffer_append(out, bytes, sizeof bytes);
}

bool rescue_text_decode(sj_slice have, sj_buffer *out) {
    size_t start = out->n;
    bool ok = true;
    while (ok && have.n) {
        const char *lead = memchr(have.p, 0xed, have.n);
        size_t plain = lead ? (size_t)(lead - have.p) : have.n;
        unsigned high = lead ? surrogate_at(sj_slice_from(have, plain)) : 0;
        if (lead && !high)
            plain += MAX_UNIT; // a Hangul syllable, as a rule
        ok = sj_buffer_append(out, have.p, plain);
        have = sj_slice_from(have, plain);
        if (!high)
            continue;
        unsigned low = surrogate_at(sj_slice_from(have, MAX_UNIT));
        ok = ok && high < 0xdc00 && low >= 0xdc00 && put_pair(high, low, out);
        have = sj_slice_from(have, ok ? 2 * MAX_UNIT : MAX_UNIT);
    }
    if (!ok)
        out->n = start;
    return ok;
}
