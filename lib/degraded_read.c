#include "degraded.h"

#include "json_span.h"

#include <string.h>

enum { WORD_MAX = 32 };

typedef struct reader {
    sj_degraded_wish *wish;
    int n, prompts;
} reader;

static bool is_word(sj_slice value, const char *word) {
    return sj_slice_equal(value, sj_slice_of(word));
}

static bool names(sj_slice value, const char *word) {
    char text[WORD_MAX];
    return sj_json_decode_string(value, text, sizeof text) && strcmp(text, word) == 0;
}

// The `type` of {"type": ...}; empty when there is none, or it is no short text.
static bool on_type(void *context, sj_slice key, sj_slice value) {
    char *type = context;
    if (is_word(key, "type") && !sj_json_decode_string(value, type, WORD_MAX))
        *type = '\0';
    return true;
}

static const char *type_of(sj_slice value, char type[WORD_MAX]) {
    *type = '\0';
    if (!sj_json_walk_object(value, on_type, type))
        *type = '\0';
    return type;
}

static void read_format(reader *r, sj_slice value) {
    char type[WORD_MAX];
    r->wish->wants_json |= strncmp(type_of(value, type), "json", 4) == 0;
}

static bool on_text_member(void *context, sj_slice key, sj_slice value) {
    if (is_word(key, "format"))
        read_format(context, value);
    return true;
}

static void read_text(reader *r, sj_slice value) {
    (void)sj_json_walk_object(value, on_text_member, r);
}

// "auto" and "none", also as {"type": "auto"}, leave it to the model; everything else names a call.
static void read_tool_choice(reader *r, sj_slice value) {
    char type[WORD_MAX];
    type_of(value, type);
    bool free = strcmp(type, "auto") == 0 || strcmp(type, "none") == 0 || names(value, "auto") ||
                names(value, "none");
    r->wish->wants_call = !free && sj_json_has_value(value);
}

static bool on_stream_option(void *context, sj_slice key, sj_slice value) {
    reader *r = context;
    if (is_word(key, "include_usage"))
        r->wish->include_usage = is_word(value, "true");
    return true;
}

static void read_stream_options(reader *r, sj_slice value) {
    (void)sj_json_walk_object(value, on_stream_option, r);
}

static void read_stream(reader *r, sj_slice value) {
    r->wish->stream = is_word(value, "true");
}

static void read_n(reader *r, sj_slice value) {
    int n = 0;
    for (size_t i = 0; i < value.n && value.p[i] >= '0' && value.p[i] <= '9' && n <= SJ_DEGRADED_MAX_CHOICES;
         i++)
        n = n * 10 + (value.p[i] - '0');
    r->n = n;
}

static bool on_prompt(void *context, sj_slice key, sj_slice value) {
    reader *r = context;
    (void)key;
    if (value.p[0] != '"' && value.p[0] != '[') // the tokens of one prompt
        return false;
    return ++r->prompts <= SJ_DEGRADED_MAX_CHOICES;
}

static void read_prompt(reader *r, sj_slice value) {
    r->prompts = 0;
    (void)sj_json_walk_array(value, on_prompt, r);
}

static bool on_member(void *context, sj_slice key, sj_slice value) {
    static const struct {
        const char *key;
        void (*read)(reader *r, sj_slice value);
    } members[] = {
        {"stream", read_stream}, {"stream_options", read_stream_options}, {"response_format", read_format},
        {"text", read_text},     {"tool_choice", read_tool_choice},       {"n", read_n},
        {"prompt", read_prompt},
    };
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
        if (is_word(key, members[i].key))
            members[i].read(context, value);
    return true;
}

void sj_degraded_read(sj_slice body, sj_degraded_wish *out) {
    reader r = {.wish = out, .n = 1, .prompts = 1};
    *out = (sj_degraded_wish){0};
    if (!sj_json_walk_object(body, on_member, &r)) {
        *out = (sj_degraded_wish){.choices = 1};
        return;
    }
    int64_t choices = (int64_t)(r.n > 0 ? r.n : 1) * (r.prompts > 0 ? r.prompts : 1);
    out->choices = choices < SJ_DEGRADED_MAX_CHOICES ? (int)choices : SJ_DEGRADED_MAX_CHOICES;
}
