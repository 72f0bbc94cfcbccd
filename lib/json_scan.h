// The grammar of RFC 8259 as a scanner: where a value ends and whether it is well formed. No recursion, no allocation, linear.
// Strict, but for one thing: bytes >= 0x80 inside strings are not checked to be UTF-8, since a proxy must not refuse what the upstream takes.
#ifndef SJ_JSON_SCAN_H
#define SJ_JSON_SCAN_H

#include "slice.h"

enum { SJ_JSON_MAX_DEPTH = 1000 };

typedef enum sj_json_state {
    SJ_JSON_WHOLE,
    SJ_JSON_CUT,   // good so far, but the text ends too soon
    SJ_JSON_WRONG, // no JSON, or nested deeper than SJ_JSON_MAX_DEPTH
} sj_json_state;

typedef struct sj_json_cursor {
    const char *at, *end;
} sj_json_cursor;

static inline sj_json_cursor sj_json_cursor_of(sj_slice text) {
    const char *start = text.n ? text.p : "";
    return (sj_json_cursor){start, start + text.n};
}

// Each skips one thing at the cursor; unless whole, the cursor stands near the trouble.
void sj_json_skip_space(sj_json_cursor *cursor);
sj_json_state sj_json_skip_string(sj_json_cursor *cursor);
// depth: how many objects and arrays are open around the value. No white space before it.
sj_json_state sj_json_skip_value(sj_json_cursor *cursor, int depth);
// A member's name, the colon and the white space around it; afterwards the cursor stands at the value. key: raw, between the quotes.
sj_json_state sj_json_skip_key(sj_json_cursor *cursor, sj_slice *key);

// Is the text exactly one value, of whatever kind, and white space?
sj_json_state sj_json_check(sj_slice text);

#endif
