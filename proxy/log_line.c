#include "log_line.h"

#include "utf8.h"

#include <inttypes.h>
#include <stdio.h>

enum { TAIL = 8 }; // kept free for the closing quote, brace and newline

static size_t room(const sj_log_line *line) {
    return SJ_LOG_MAX_LINE - TAIL - line->n;
}

static void raw(sj_log_line *line, const char *bytes, size_t n) {
    memcpy(line->text + line->n, bytes, n);
    line->n += n;
}

// The key with what comes before and after it. False: no room for it and at least `more` bytes; nothing was written.
static bool key_fits(sj_log_line *line, const char *key, size_t more) {
    size_t n = strlen(key);
    if (room(line) < n + 4 + more)
        return false;
    if (line->n)
        raw(line, line->json ? "," : " ", 1);
    else if (line->json)
        raw(line, "{", 1);
    if (line->json)
        raw(line, "\"", 1);
    raw(line, key, n);
    if (line->json)
        raw(line, "\":", 2);
    else
        raw(line, "=", 1);
    return true;
}

// Bytes that stand as they are in both formats without any thought; of logfmt's also without quotes.
static bool is_plain(unsigned char c) {
    return c > ' ' && c < 0x7F && c != '"' && c != '\\' && c != '=';
}

static bool needs_quotes(sj_slice value) {
    for (size_t i = 0; i < value.n; i++)
        if (!is_plain((unsigned char)value.p[i]))
            return true;
    return value.n == 0;
}

// How the character at the start of `from` is written: at most 6 bytes to out, their number to *written. Returns what was read.
static size_t encode(sj_slice from, char out[8], size_t *written) {
    static const char hex[] = "0123456789abcdef";
    uint32_t code = 0;
    size_t n = sj_utf8_next(from, &code);
    if (n == 0) { // not UTF-8: U+FFFD
        memcpy(out, "\xEF\xBF\xBD", 3);
        *written = 3;
        return 1;
    }
    const char *at = code == '"'    ? "\"\""
                     : code == '\\' ? "\\\\"
                     : code == '\n' ? "\nn"
                     : code == '\r' ? "\rr"
                     : code == '\t' ? "\tt"
                                    : NULL;
    if (at) {
        out[0] = '\\';
        out[1] = at[1];
        *written = 2;
    } else if (code < 0x20 || (code >= 0x7F && code <= 0x9F)) { // also what a terminal would obey
        memcpy(out, "\\u00", 4);
        out[4] = hex[code >> 4];
        out[5] = hex[code & 15];
        *written = 6;
    } else {
        memcpy(out, from.p, n);
        *written = n;
    }
    return n;
}

static void quoted(sj_log_line *line, sj_slice value, size_t max) {
    raw(line, "\"", 1);
    size_t used = 0;
    while (value.n) {
        char bytes[8];
        size_t n, read = encode(value, bytes, &n);
        if (used + n + 3 > max && !(read == value.n && used + n <= max)) {
            raw(line, "...", 3);
            break;
        }
        raw(line, bytes, n);
        used += n;
        value = sj_slice_from(value, read);
    }
    raw(line, "\"", 1);
}

void sj_log_line_text(sj_log_line *line, const char *key, sj_slice value, size_t max_bytes) {
    enum { LEAST = 16 };
    if (!key_fits(line, key, LEAST + 2))
        return;
    size_t max = room(line) - 2 < max_bytes ? room(line) - 2 : max_bytes;
    if (!line->json && value.n <= max && !needs_quotes(value))
        raw(line, value.p, value.n);
    else
        quoted(line, value, max);
}

// Decimal digits of value; returns their start within out.
static char *digits(char out[24], uint64_t value) {
    char *p = out + 24;
    do
        *--p = (char)('0' + value % 10);
    while (value /= 10);
    return p;
}

void sj_log_line_int(sj_log_line *line, const char *key, int64_t value) {
    if (!key_fits(line, key, 24))
        return;
    char text[24], *p = digits(text, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
    if (value < 0)
        raw(line, "-", 1);
    raw(line, p, (size_t)(text + 24 - p));
}

void sj_log_line_ms(sj_log_line *line, const char *key, int64_t us) {
    if (us < 0 || !key_fits(line, key, 24))
        return;
    uint64_t tenths = ((uint64_t)us + 50) / 100;
    char text[24], *p = digits(text, tenths / 10);
    raw(line, p, (size_t)(text + 24 - p));
    char point[2] = {'.', (char)('0' + tenths % 10)};
    raw(line, point, 2);
}

void sj_log_line_nano(sj_log_line *line, const char *key, int64_t nano) {
    if (!key_fits(line, key, 24))
        return;
    char text[32];
    uint64_t size = nano < 0 ? -(uint64_t)nano : (uint64_t)nano;
    int n = snprintf(text, sizeof text, "%s%" PRIu64 ".%09" PRIu64, nano < 0 ? "-" : "", size / 1000000000,
                     size % 1000000000);
    while (text[n - 1] == '0')
        n--;
    raw(line, text, (size_t)(text[n - 1] == '.' ? n - 1 : n));
}

void sj_log_line_bool(sj_log_line *line, const char *key, bool value) {
    if (key_fits(line, key, 5))
        raw(line, value ? "true" : "false", value ? 4 : 5);
}

void sj_log_line_begin(sj_log_line *line, bool json, sj_slice time_text, sj_log_level level,
                       const char *event) {
    static const char *const levels[] = {"error", "warn", "info", "debug"};
    line->json = json;
    line->n = 0;
    sj_log_line_text(line, "ts", time_text, 40);
    sj_log_line_text(line, "level", sj_slice_of(levels[level]), 8);
    sj_log_line_text(line, "event", sj_slice_of(event), 64);
}

sj_slice sj_log_line_end(sj_log_line *line) {
    if (line->json)
        line->text[line->n++] = '}';
    line->text[line->n++] = '\n';
    return (sj_slice){line->text, line->n};
}
