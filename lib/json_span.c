#include "json_span.h"

enum { MAX_KEY = 64 };

static bool is_word(sj_slice value, const char *word) {
    return sj_slice_equal(value, sj_slice_of(word));
}

// ---- walking ----------------------------------------------------------------------------------------------------------------

// One member of an object, or one element of an array. False: there is none here, or the callback has seen enough.
static bool walk_one(sj_json_cursor *cursor, bool named, sj_json_member_fn on_member, void *context) {
    sj_slice key = SJ_SLICE("");
    char decoded[MAX_KEY + 1];
    sj_json_skip_space(cursor);
    if (named && sj_json_skip_key(cursor, &key) != SJ_JSON_WHOLE)
        return false;
    const char *value = cursor->at;
    if (sj_json_skip_value(cursor, 1) != SJ_JSON_WHOLE)
        return false;
    if (key.n && memchr(key.p, '\\', key.n)) {
        sj_slice quoted = {key.p - 1, key.n + 2};
        if (sj_json_decode_string(quoted, decoded, sizeof decoded))
            key = sj_slice_of(decoded);
    }
    return on_member(context, key, (sj_slice){value, (size_t)(cursor->at - value)});
}

static bool take(sj_json_cursor *cursor, char c) {
    sj_json_skip_space(cursor);
    if (cursor->at == cursor->end || *cursor->at != c)
        return false;
    cursor->at++;
    return true;
}

static bool walk(sj_slice text, const char brackets[2], sj_json_member_fn on_member, void *context) {
    sj_json_cursor cursor = sj_json_cursor_of(text);
    if (!take(&cursor, brackets[0]))
        return false;
    if (!take(&cursor, brackets[1])) {
        do {
            if (!walk_one(&cursor, brackets[0] == '{', on_member, context))
                return false;
        } while (take(&cursor, ','));
        if (!take(&cursor, brackets[1]))
            return false;
    }
    sj_json_skip_space(&cursor);
    return cursor.at == cursor.end;
}

bool sj_json_walk_object(sj_slice text, sj_json_member_fn on_member, void *context) {
    return walk(text, "{}", on_member, context);
}

bool sj_json_walk_array(sj_slice text, sj_json_member_fn on_element, void *context) {
    return walk(text, "[]", on_element, context);
}

bool sj_json_has_value(sj_slice value) {
    if (is_word(value, "null") || is_word(value, "\"\""))
        return false;
    sj_json_cursor cursor = {value.p + 1, value.p + value.n};
    if (value.p[0] != '[' && value.p[0] != '{')
        return true;
    sj_json_skip_space(&cursor);
    return *cursor.at != ']' && *cursor.at != '}';
}

// ---- strings ----------------------------------------------------------------------------------------------------------------

// Length of the well-formed UTF-8 sequence at p (RFC 3629: shortest form, no surrogates); 0: there is none.
static size_t utf8_length(const unsigned char *p, size_t n) {
    static const struct {
        unsigned char lead_from, lead_to, second_from, second_to;
        size_t length;
    } forms[] = {
        {0x00, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    size_t form = 0;
    while (form < sizeof forms / sizeof *forms &&
           (p[0] < forms[form].lead_from || p[0] > forms[form].lead_to))
        form++;
    if (form == sizeof forms / sizeof *forms || n < forms[form].length)
        return 0;
    size_t length = forms[form].length;
    if (length > 1 && (p[1] < forms[form].second_from || p[1] > forms[form].second_to))
        return 0;
    for (size_t i = 2; i < length; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

static size_t utf8_put(uint32_t code, char *out) {
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    size_t length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = length; i-- > 1; code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3f));
    out[0] = (char)(code | lead[length]);
    return length;
}

static uint32_t hex4(const char *p) {
    uint32_t code = 0;
    for (int i = 0; i < 4; i++) {
        char c = (char)(p[i] | 0x20);
        code = code << 4 | (uint32_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return code;
}

// p stands behind a backslash of a string that is known to be well formed. Returns what it stands for, 0 for what cannot be kept
// (U+0000, half a surrogate pair); *p moves on.
static uint32_t decode_escape(const char **p) {
    static const char letters[] = "bfnrt";
    static const char meanings[] = "\b\f\n\r\t";
    char kind = *(*p)++;
    if (kind != 'u') {
        const char *letter = strchr(letters, kind);
        return letter ? (uint32_t)meanings[letter - letters] : (uint32_t)kind;
    }
    uint32_t code = hex4(*p);
    *p += 4;
    if (code < 0xd800 || code > 0xdfff)
        return code;
    if (code >= 0xdc00 || (*p)[0] != '\\' || (*p)[1] != 'u')
        return 0;
    uint32_t low = hex4(*p + 2);
    *p += 6;
    return low >= 0xdc00 && low <= 0xdfff ? 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00) : 0;
}

bool sj_json_decode_string(sj_slice raw, char *out, size_t size) {
    sj_json_cursor cursor = sj_json_cursor_of(raw);
    if (sj_json_skip_string(&cursor) != SJ_JSON_WHOLE || cursor.at != cursor.end)
        return false;
    const char *p = raw.p + 1;
    const char *end = cursor.end - 1;
    size_t n = 0;
    while (p < end) {
        char piece[4];
        size_t length;
        if (*p == '\\') {
            p++;
            uint32_t code = decode_escape(&p);
            length = code ? utf8_put(code, piece) : 0;
        } else {
            length = utf8_length((const unsigned char *)p, (size_t)(end - p));
            memcpy(piece, p, length);
            p += length;
        }
        if (length == 0 || n + length >= size)
            return false;
        memcpy(out + n, piece, length);
        n += length;
    }
    if (size == 0)
        return false;
    out[n] = '\0';
    return true;
}

static bool encode_control(unsigned char c, sj_buffer *out) {
    switch (c) {
    case '\n':
        return sj_buffer_text(out, "\\n");
    case '\r':
        return sj_buffer_text(out, "\\r");
    case '\t':
        return sj_buffer_text(out, "\\t");
    default:
        return sj_buffer_printf(out, "\\u%04x", c);
    }
}

static bool encode_text(sj_slice text, sj_buffer *out) {
    while (text.n) {
        unsigned char c = (unsigned char)text.p[0];
        size_t length = utf8_length((const unsigned char *)text.p, text.n);
        bool ok = c < 0x20                ? encode_control(c, out)
                  : c == '"' || c == '\\' ? sj_buffer_append(out, "\\", 1) && sj_buffer_append(out, text.p, 1)
                  : length                ? sj_buffer_append(out, text.p, length)
                                          : sj_buffer_text(out, "\xef\xbf\xbd");
        if (!ok)
            return false;
        text = sj_slice_from(text, length ? length : 1);
    }
    return true;
}

bool sj_json_encode_string(sj_slice text, sj_buffer *out) {
    size_t start = out->n;
    if (sj_buffer_append(out, "\"", 1) && encode_text(text, out) && sj_buffer_append(out, "\"", 1))
        return true;
    out->n = start;
    return false;
}

// ---- request facts ----------------------------------------------------------------------------------------------------------

typedef struct fact_reader {
    sj_request_facts *facts;
    const char *body;
} fact_reader;

static void read_stream(fact_reader *reader, sj_slice value) {
    reader->facts->stream = is_word(value, "true");
}

static void read_store(fact_reader *reader, sj_slice value) {
    reader->facts->store = is_word(value, "true");
}

static void read_background(fact_reader *reader, sj_slice value) {
    reader->facts->background = is_word(value, "true");
}

static void read_state(fact_reader *reader, sj_slice value) {
    reader->facts->bound_to_upstream |= sj_json_has_value(value);
}

static void read_model(fact_reader *reader, sj_slice value) {
    sj_request_facts *facts = reader->facts;
    facts->has_model = true;
    if (!sj_json_decode_string(value, facts->model, sizeof facts->model))
        facts->model[0] = '\0';
    if (facts->model_span_count == SJ_JSON_MAX_MODEL_SPANS) {
        facts->model_spans_overflow = true;
        return;
    }
    facts->model_spans[facts->model_span_count++] = (sj_json_edit){(size_t)(value.p - reader->body), value.n};
}

// Zero in any spelling: 0, 0.0, -0, 0e5.
static void read_temperature(fact_reader *reader, sj_slice value) {
    bool zero = value.p[0] == '-' || value.p[0] == '0';
    for (size_t i = 0; zero && i < value.n && (value.p[i] | 0x20) != 'e'; i++)
        zero = value.p[i] == '0' || value.p[i] == '.' || (i == 0 && value.p[i] == '-');
    reader->facts->deterministic = zero;
}

static void read_n(fact_reader *reader, sj_slice value) {
    int n = 0;
    for (size_t i = 0; i < value.n && n <= SJ_JSON_MAX_CHOICES; i++)
        n = value.p[i] >= '0' && value.p[i] <= '9' ? n * 10 + (value.p[i] - '0') : SJ_JSON_MAX_CHOICES + 1;
    reader->facts->choices = n >= 1 && n <= SJ_JSON_MAX_CHOICES ? n : 1;
}

static void read_max_tokens(fact_reader *reader, sj_slice value) {
    enum { DIGITS_MAX = 9 };
    int64_t n = 0;
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] < '0' || value.p[i] > '9' || i == DIGITS_MAX)
            return;
        n = n * 10 + (value.p[i] - '0');
    }
    if (n > reader->facts->max_tokens)
        reader->facts->max_tokens = n;
}

static bool find_type(void *context, sj_slice key, sj_slice value) {
    bool *hosted = context;
    if (is_word(key, "type"))
        *hosted = !is_word(value, "\"function\"") && !is_word(value, "\"custom\"");
    return true;
}

static bool read_tool(void *context, sj_slice key, sj_slice value) {
    (void)key;
    fact_reader *reader = context;
    bool hosted = true;
    (void)sj_json_walk_object(value, find_type, &hosted);
    reader->facts->hosted_tools |= hosted;
    return true;
}

static void read_tools(fact_reader *reader, sj_slice value) {
    (void)sj_json_walk_array(value, read_tool, reader);
}

static bool read_member(void *context, sj_slice key, sj_slice value) {
    static const struct {
        const char *key;
        void (*read)(fact_reader *, sj_slice);
    } members[] = {
        {"model", read_model},
        {"stream", read_stream},
        {"store", read_store},
        {"background", read_background},
        {"tools", read_tools},
        {"previous_response_id", read_state},
        {"conversation", read_state},
        {"temperature", read_temperature},
        {"n", read_n},
        {"max_tokens", read_max_tokens},
        {"max_completion_tokens", read_max_tokens},
        {"max_output_tokens", read_max_tokens},
    };
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (is_word(key, members[i].key))
            members[i].read(context, value);
    return true;
}

// In well-formed JSON an unescaped quote delimits a string, so `"file_id"` with a colon behind it is a member's name, at whatever depth.
static bool names_file(sj_slice body) {
    static const char word[] = "\"file_id";
    size_t word_n = sizeof word - 1;
    sj_json_cursor cursor = sj_json_cursor_of(body);
    while ((cursor.at = memmem(cursor.at, (size_t)(cursor.end - cursor.at), word, word_n))) {
        bool escaped = cursor.at[-1] == '\\';
        cursor.at += word_n;
        if (*cursor.at == 's')
            cursor.at++;
        if (escaped || !take(&cursor, '"') || !take(&cursor, ':'))
            continue;
        sj_json_skip_space(&cursor);
        const char *value = cursor.at;
        if (sj_json_skip_value(&cursor, 1) == SJ_JSON_WHOLE &&
            sj_json_has_value((sj_slice){value, (size_t)(cursor.at - value)}))
            return true;
    }
    return false;
}

void sj_request_facts_read(sj_slice body, sj_request_facts *out) {
    static const sj_request_facts nothing = {.choices = 1};
    *out = nothing;
    fact_reader reader = {out, body.p};
    if (!sj_json_walk_object(body, read_member, &reader)) {
        *out = nothing;
        return;
    }
    out->is_object = true;
    if (!out->bound_to_upstream)
        out->bound_to_upstream = names_file(body);
}
