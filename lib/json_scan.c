#include "json_scan.h"

#include <endian.h>
#include <stdint.h>

static const uint64_t each_byte = UINT64_C(0x0101010101010101);

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_plain(char c) {
    return (unsigned char)c >= 0x20 && c != '"' && c != '\\';
}

void sj_json_skip_space(sj_json_cursor *cursor) {
    while (cursor->at < cursor->end &&
           (*cursor->at == ' ' || *cursor->at == '\n' || *cursor->at == '\r' || *cursor->at == '\t'))
        cursor->at++;
}

// Eight bytes at a time: bodies carry images of megabytes as one string. A subtraction borrows into a byte's top bit exactly when some byte
// is below what is subtracted; the others are turned into that case by exclusive or. Borrows go on to higher bytes only, so the lowest hit is
// a true one.
static uint64_t stops_in(uint64_t word) {
    uint64_t quote = word ^ each_byte * '"';
    uint64_t slash = word ^ each_byte * '\\';
    uint64_t hit =
        ((word - each_byte * 0x20) & ~word) | ((quote - each_byte) & ~quote) | ((slash - each_byte) & ~slash);
    return hit & each_byte * 0x80;
}

static void skip_plain(sj_json_cursor *cursor) {
    const char *at = cursor->at;
    while (cursor->end - at >= 8) {
        uint64_t word;
        memcpy(&word, at, sizeof word);
        uint64_t hit = stops_in(le64toh(word));
        if (hit) {
            cursor->at = at + __builtin_ctzll(hit) / 8;
            return;
        }
        at += 8;
    }
    while (at < cursor->end && is_plain(*at))
        at++;
    cursor->at = at;
}

static bool is_hex(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

// The cursor stands behind the backslash.
static sj_json_state skip_escape(sj_json_cursor *cursor) {
    if (cursor->at == cursor->end)
        return SJ_JSON_CUT;
    char kind = *cursor->at++;
    if (kind != 'u')
        return kind != '\0' && strchr("\"\\/bfnrt", kind) ? SJ_JSON_WHOLE : SJ_JSON_WRONG;
    for (int i = 0; i < 4; i++, cursor->at++) {
        if (cursor->at == cursor->end)
            return SJ_JSON_CUT;
        if (!is_hex(*cursor->at))
            return SJ_JSON_WRONG;
    }
    return SJ_JSON_WHOLE;
}

sj_json_state sj_json_skip_string(sj_json_cursor *cursor) {
    if (cursor->at == cursor->end)
        return SJ_JSON_CUT;
    if (*cursor->at++ != '"')
        return SJ_JSON_WRONG;
    for (;;) {
        skip_plain(cursor);
        if (cursor->at == cursor->end)
            return SJ_JSON_CUT;
        char stop = *cursor->at++;
        if (stop == '"')
            return SJ_JSON_WHOLE;
        sj_json_state escape = stop == '\\' ? skip_escape(cursor) : SJ_JSON_WRONG;
        if (escape != SJ_JSON_WHOLE)
            return escape;
    }
}

static sj_json_state skip_digits(sj_json_cursor *cursor) {
    if (cursor->at == cursor->end)
        return SJ_JSON_CUT;
    if (!is_digit(*cursor->at))
        return SJ_JSON_WRONG;
    while (cursor->at < cursor->end && is_digit(*cursor->at))
        cursor->at++;
    return SJ_JSON_WHOLE;
}

static bool take(sj_json_cursor *cursor, char c) {
    if (cursor->at == cursor->end || *cursor->at != c)
        return false;
    cursor->at++;
    return true;
}

static sj_json_state skip_number(sj_json_cursor *cursor) {
    (void)take(cursor, '-');
    sj_json_state state = take(cursor, '0') ? SJ_JSON_WHOLE : skip_digits(cursor);
    if (state == SJ_JSON_WHOLE && take(cursor, '.'))
        state = skip_digits(cursor);
    if (state == SJ_JSON_WHOLE && (take(cursor, 'e') || take(cursor, 'E'))) {
        if (!take(cursor, '+'))
            (void)take(cursor, '-');
        state = skip_digits(cursor);
    }
    return state;
}

static sj_json_state skip_word(sj_json_cursor *cursor, const char *word) {
    for (; *word; word++, cursor->at++) {
        if (cursor->at == cursor->end)
            return SJ_JSON_CUT;
        if (*cursor->at != *word)
            return SJ_JSON_WRONG;
    }
    return SJ_JSON_WHOLE;
}

static sj_json_state skip_scalar(sj_json_cursor *cursor) {
    switch (*cursor->at) {
    case '"':
        return sj_json_skip_string(cursor);
    case 't':
        return skip_word(cursor, "true");
    case 'f':
        return skip_word(cursor, "false");
    case 'n':
        return skip_word(cursor, "null");
    default:
        return skip_number(cursor);
    }
}

sj_json_state sj_json_skip_key(sj_json_cursor *cursor, sj_slice *key) {
    const char *start = cursor->at;
    sj_json_state state = sj_json_skip_string(cursor);
    if (state != SJ_JSON_WHOLE)
        return state;
    *key = (sj_slice){start + 1, (size_t)(cursor->at - start) - 2};
    sj_json_skip_space(cursor);
    if (cursor->at == cursor->end)
        return SJ_JSON_CUT;
    if (*cursor->at++ != ':')
        return SJ_JSON_WRONG;
    sj_json_skip_space(cursor);
    return SJ_JSON_WHOLE;
}

// What is open around the cursor: one bit a level, set for objects.
typedef struct nest {
    uint64_t is_object[SJ_JSON_MAX_DEPTH / 64 + 1];
    int depth, max;
} nest;

static bool push(nest *open, bool is_object) {
    if (open->depth >= open->max)
        return false;
    uint64_t bit = UINT64_C(1) << (open->depth % 64);
    uint64_t *word = &open->is_object[open->depth / 64];
    *word = is_object ? *word | bit : *word & ~bit;
    open->depth++;
    return true;
}

static bool inside_object(const nest *open) {
    int level = open->depth - 1;
    return open->is_object[level / 64] >> (level % 64) & 1;
}

// Ready for the next value of the container that is open: past the name, if it is an object's.
static sj_json_state skip_to_value(sj_json_cursor *cursor, const nest *open) {
    sj_slice key;
    sj_json_skip_space(cursor);
    return inside_object(open) ? sj_json_skip_key(cursor, &key) : SJ_JSON_WHOLE;
}

// The cursor stands at '{' or '['. *closed: it was empty and is closed again.
static sj_json_state enter(sj_json_cursor *cursor, nest *open, bool *closed) {
    bool is_object = *cursor->at++ == '{';
    if (!push(open, is_object))
        return SJ_JSON_WRONG;
    sj_json_skip_space(cursor);
    *closed = take(cursor, is_object ? '}' : ']');
    if (*closed) {
        open->depth--;
        return SJ_JSON_WHOLE;
    }
    return skip_to_value(cursor, open);
}

// Behind a value: leaves what closes here. Afterwards either nothing is open, or the cursor stands at the next value.
static sj_json_state leave(sj_json_cursor *cursor, nest *open) {
    while (open->depth > 0) {
        sj_json_skip_space(cursor);
        if (cursor->at == cursor->end)
            return SJ_JSON_CUT;
        if (take(cursor, ','))
            return skip_to_value(cursor, open);
        if (!take(cursor, inside_object(open) ? '}' : ']'))
            return SJ_JSON_WRONG;
        open->depth--;
    }
    return SJ_JSON_WHOLE;
}

sj_json_state sj_json_skip_value(sj_json_cursor *cursor, int depth) {
    nest open;
    open.depth = 0;
    open.max = SJ_JSON_MAX_DEPTH - depth;
    do {
        if (cursor->at == cursor->end)
            return SJ_JSON_CUT;
        bool ended = true;
        bool enters = *cursor->at == '{' || *cursor->at == '[';
        sj_json_state state = enters ? enter(cursor, &open, &ended) : skip_scalar(cursor);
        if (state == SJ_JSON_WHOLE && ended)
            state = leave(cursor, &open);
        if (state != SJ_JSON_WHOLE)
            return state;
    } while (open.depth > 0);
    return SJ_JSON_WHOLE;
}

sj_json_state sj_json_check(sj_slice text) {
    sj_json_cursor cursor = sj_json_cursor_of(text);
    sj_json_skip_space(&cursor);
    sj_json_state state = sj_json_skip_value(&cursor, 0);
    if (state != SJ_JSON_WHOLE)
        return state;
    sj_json_skip_space(&cursor);
    return cursor.at == cursor.end ? SJ_JSON_WHOLE : SJ_JSON_WRONG;
}
