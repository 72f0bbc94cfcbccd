#include "mock_question.h"

#include "json_span.h"
#include "rng.h"

#include <stdio.h>
#include <zlib.h>

enum { PREFIX_BYTES = 40, MAX_TEXT = 1024 * 1024 };

static const char *const vocabulary[] = {
    "sail", "wind", "storm", "jib",  "keel", "mast", "harbour", "tide",  "rope",  "deck",  "anchor", "helm",
    "gale", "calm", "reef",  "boom", "hull", "bow",  "stern",   "wave",  "coast", "chart", "star",   "port",
    "lee",  "wake", "crew",  "knot", "buoy", "surf", "north",   "south", "east",  "west",  "light",  "home",
};

enum { VOCABULARY = sizeof vocabulary / sizeof *vocabulary };

// ---- reading ------------------------------------------------------------------------------------

static const cJSON *member(const cJSON *object, const char *name) {
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

static sj_slice string_of(const cJSON *item) {
    return cJSON_IsString(item) ? sj_slice_of(item->valuestring) : (sj_slice){"", 0};
}

// A text, or the last part of a list that has a text.
static sj_slice content_text(const cJSON *content) {
    if (!cJSON_IsArray(content))
        return string_of(content);
    sj_slice text = {"", 0};
    const cJSON *part;
    cJSON_ArrayForEach(part, content) {
        const cJSON *found = cJSON_IsString(part) ? part : member(part, "text");
        if (cJSON_IsString(found))
            text = string_of(found);
    }
    return text;
}

static void read_messages(const cJSON *messages, sj_mock_question *out) {
    const cJSON *message, *last = NULL;
    cJSON_ArrayForEach(message, messages) {
        last = message;
        if (sj_slice_equal(string_of(member(message, "role")), SJ_SLICE("user")))
            out->said = content_text(member(message, "content"));
    }
    if (last && sj_slice_equal(string_of(member(last, "role")), SJ_SLICE("assistant")))
        out->prefill = content_text(member(last, "content"));
}

static void read_text(const cJSON *json, sj_mock_question *out) {
    const cJSON *messages = member(json, "messages");
    const cJSON *input = messages ? messages : member(json, "input");
    if (cJSON_IsArray(input) && cJSON_IsObject(input->child))
        read_messages(input, out);
    else
        out->said = content_text(input ? input : member(json, "prompt"));
}

// A tool's result is answered in words.
static bool ends_with_result(const cJSON *json) {
    const cJSON *messages = member(json, "messages");
    const cJSON *list = messages ? messages : member(json, "input");
    if (!cJSON_IsArray(list) || !list->child)
        return false;
    const cJSON *last = cJSON_GetArrayItem(list, cJSON_GetArraySize(list) - 1);
    return sj_slice_equal(string_of(member(last, "role")), SJ_SLICE("tool")) ||
           sj_slice_equal(string_of(member(last, "type")), SJ_SLICE("function_call_output"));
}

static void read_tool(const cJSON *json, sj_mock_question *out) {
    const cJSON *tools = member(json, "tools");
    if (!cJSON_IsArray(tools) || !tools->child || !memmem(out->said.p, out->said.n, "tool", 4) ||
        ends_with_result(json))
        return;
    const cJSON *function = member(tools->child, "function");
    const cJSON *name = member(function ? function : tools->child, "name");
    out->tool = cJSON_IsString(name) ? name->valuestring : "a_tool";
}

static int read_count(const cJSON *json, const char *name, int otherwise, int max) {
    const cJSON *item = member(json, name);
    if (!cJSON_IsNumber(item) || item->valuedouble < 1)
        return otherwise;
    return item->valuedouble > max ? max : (int)item->valuedouble;
}

static void read_max_tokens(const cJSON *json, sj_mock_question *out) {
    static const char *const names[] = {"max_tokens", "max_completion_tokens", "max_output_tokens"};
    for (size_t i = 0; i < sizeof names / sizeof *names && !out->max_tokens; i++)
        out->max_tokens = read_count(json, names[i], 0, MAX_TEXT);
}

static void read_model(const cJSON *json, sj_mock_question *out) {
    sj_buffer text = sj_buffer_with_max(sizeof out->model - 1);
    const cJSON *model = member(json, "model");
    out->has_model = cJSON_IsString(model) && sj_json_encode_string(string_of(model), &text);
    if (out->has_model)
        memcpy(out->model, text.p, text.n);
    else
        (void)snprintf(out->model, sizeof out->model, "null");
    sj_buffer_free(&text);
}

void sj_mock_question_read(const cJSON *json, size_t body_bytes, int words, int variant,
                           sj_mock_question *out) {
    *out = (sj_mock_question){.said = {"", 0},
                              .prefill = {"", 0},
                              .words = words,
                              .variant = variant,
                              .prompt_tokens = body_bytes / 4 + 1};
    read_model(json, out);
    read_text(json, out);
    read_tool(json, out);
    read_max_tokens(json, out);
    out->stream = cJSON_IsTrue(member(json, "stream"));
    out->include_usage = cJSON_IsTrue(member(member(json, "stream_options"), "include_usage"));
    out->choices = read_count(json, "n", 1, SJ_MOCK_MAX_CHOICES);
}

// ---- writing ------------------------------------------------------------------------------------

bool sj_mock_reply_token(sj_slice *text, sj_slice *token) {
    if (text->n == 0)
        return false;
    const char *end = text->n > 1 ? memchr(text->p + 1, ' ', text->n - 1) : NULL;
    *token = (sj_slice){text->p, end ? (size_t)(end - text->p) : text->n};
    *text = sj_slice_from(*text, token->n);
    return true;
}

// The message's beginning, cut between characters, with line breaks as spaces.
static bool write_prefix(sj_slice said, sj_buffer *out) {
    size_t n = said.n < PREFIX_BYTES ? said.n : PREFIX_BYTES;
    while (n && n < said.n && ((unsigned char)said.p[n] & 0xc0) == 0x80)
        n--;
    size_t start = out->n;
    if (n == 0 || !sj_buffer_append(out, " ", 1) || !sj_buffer_append(out, said.p, n))
        return n == 0;
    for (size_t i = start; i < out->n; i++) {
        if ((unsigned char)out->p[i] < ' ')
            out->p[i] = ' ';
    }
    return true;
}

static size_t count_tokens(sj_slice text) {
    size_t count = 0;
    sj_slice token;
    while (sj_mock_reply_token(&text, &token))
        count++;
    return count;
}

static void keep_tokens(sj_mock_reply *reply, size_t max) {
    sj_slice rest = sj_buffer_slice(&reply->text);
    sj_slice token;
    for (size_t i = 0; i < max && sj_mock_reply_token(&rest, &token); i++)
        ;
    reply->text.n -= rest.n;
}

bool sj_mock_reply_write(const sj_mock_question *question, int choice, sj_mock_reply *out) {
    *out = (sj_mock_reply){.text = sj_buffer_with_max(MAX_TEXT)};
    uint32_t hash = (uint32_t)crc32(0, (const unsigned char *)question->said.p, (unsigned)question->said.n);
    sj_rng rng;
    sj_rng_seed(&rng, ((uint64_t)hash << 20) + (uint64_t)question->variant * 97 + (uint64_t)choice);
    bool ok = sj_buffer_printf(&out->text, "echo:%08x", hash) && write_prefix(question->said, &out->text);
    size_t have = ok ? count_tokens(sj_buffer_slice(&out->text)) : 0;
    for (; ok && have < (size_t)question->words; have++) {
        const char *word = vocabulary[sj_rng_next(&rng) % VOCABULARY];
        ok = sj_buffer_append(&out->text, " ", 1) && sj_buffer_text(&out->text, word);
    }
    if (!ok) {
        sj_buffer_free(&out->text);
        return false;
    }
    if (question->prefill.n && sj_slice_starts(sj_buffer_slice(&out->text), question->prefill))
        sj_buffer_consume(&out->text, question->prefill.n);
    out->tokens = count_tokens(sj_buffer_slice(&out->text));
    if (question->max_tokens && out->tokens > (size_t)question->max_tokens) {
        out->cut_short = true;
        out->tokens = (size_t)question->max_tokens;
        keep_tokens(out, out->tokens);
    }
    return true;
}
