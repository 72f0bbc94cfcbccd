#include "error_object.h"

#include <ctype.h>
#include <stdio.h>

#define COUNT(rows) (sizeof(rows) / sizeof *(rows))

static bool is_text(const cJSON *object, const char *name, const char *wanted) {
    const char *text = sj_json_tree_text(object, name);
    return text && strcmp(text, wanted) == 0;
}

static const cJSON *first_of(const cJSON *value) {
    return cJSON_IsArray(value) ? value->child : value;
}

bool sj_error_object_in(const cJSON *root) {
    root = first_of(root);
    return sj_json_tree_says(sj_json_tree_get(root, "error")) || is_text(root, "object", "error") ||
           is_text(root, "type", "error");
}

// ---- texts ------------------------------------------------------------------------------------------------------------------

// Length of a key at p, of which `shown` characters may be shown; 0: none starts here.
static size_t key_length(sj_slice text, size_t *shown) {
    static const char *const prefixes[] = {"sk-", "sk_", "gsk_", "xai-", "AIza", "pplx-", "Bearer "};
    for (size_t i = 0; i < COUNT(prefixes); i++) {
        size_t n = strlen(prefixes[i]);
        if (!sj_slice_starts(text, (sj_slice){prefixes[i], n}))
            continue;
        *shown = n;
        while (n < text.n && (isalnum((unsigned char)text.p[n]) || memchr("-_*.", text.p[n], 4)))
            n++;
        return n;
    }
    return 0;
}

// Length of text when cut to size - 1 bytes without splitting a character.
static size_t cut_length(sj_slice text, size_t size) {
    if (text.n < size)
        return text.n;
    size_t n = size - 1;
    while (n && ((unsigned char)text.p[n] & 0xc0) == 0x80)
        n--;
    return n;
}

void sj_error_text_copy(sj_slice text, char *out, size_t size) {
    char clean[2 * SJ_ERROR_MESSAGE_SIZE];
    size_t n = 0;
    bool inside_word = false;
    while (text.n && n + 12 < sizeof clean) {
        size_t shown = 0;
        size_t key = inside_word ? 0 : key_length(text, &shown);
        unsigned char c = (unsigned char)text.p[0];
        if (key) {
            memcpy(clean + n, text.p, shown);
            memcpy(clean + n + shown, "...", 3);
            n += shown + 3;
        } else if (c >= 0x20 && c != 0x7f) {
            clean[n++] = (char)c;
        }
        inside_word = !key && isalnum(c);
        text = sj_slice_from(text, key ? key : 1);
    }
    n = cut_length((sj_slice){clean, n}, size);
    memcpy(out, clean, n);
    out[n] = '\0';
}

static void copy_string(const char *text, char *out, size_t size) {
    sj_error_text_copy(sj_slice_of(text ? text : ""), out, size);
}

// ---- shapes -----------------------------------------------------------------------------------------------------------------

static const char *first_text(const cJSON *object, const char *const *names, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const char *text = sj_json_tree_text(object, names[i]);
        if (text && *text)
            return text;
    }
    return NULL;
}

static void read_code(const cJSON *error, const cJSON *root, char out[SJ_ERROR_CODE_SIZE]) {
    static const char *const names[] = {"code", "type", "status", "error_type"};
    const char *code = first_text(error, names, COUNT(names));
    // Beside an error that is only a text the root may have them.
    if (!code && cJSON_IsString(error))
        code = first_text(root, names, COUNT(names));
    copy_string(code && strcmp(code, "error") != 0 ? code : "", out, SJ_ERROR_CODE_SIZE);
    int64_t number = sj_json_tree_count(error, "code");
    if (!*out && number > 0)
        (void)snprintf(out, SJ_ERROR_CODE_SIZE, "%lld", (long long)number);
}

static const char *message_of(const cJSON *error) {
    static const char *const names[] = {"message", "msg", "detail", "error"};
    const char *message = cJSON_IsString(error) ? error->valuestring : first_text(error, names, COUNT(names));
    return message ? message : sj_json_tree_text(first_of(sj_json_tree_get(error, "detail")), "msg");
}

void sj_error_object_read(const cJSON *root, char code[SJ_ERROR_CODE_SIZE],
                          char message[SJ_ERROR_MESSAGE_SIZE]) {
    root = first_of(root);
    const cJSON *error = sj_json_tree_get(root, "error");
    if (!sj_json_tree_says(error))
        error = first_of(sj_json_tree_get(root, "errors"));
    if (!sj_json_tree_says(error))
        error = root;
    error = first_of(error);
    read_code(error, root, code);
    copy_string(message_of(error), message, SJ_ERROR_MESSAGE_SIZE);
}
