#include "json_tree.h"

#include <stdlib.h>

// Replaces every \uD800..\uDFFF by \uFFFD, which is as long. Whole pairs go too: nobody reads this copy to the end.
static void mend_surrogates(char *text, size_t n) {
    for (size_t i = 0; i + 5 < n; i++) {
        if (text[i] != '\\')
            continue;
        i++;
        bool surrogate = text[i] == 'u' && (text[i + 1] | 0x20) == 'd' && strchr("89abAB", text[i + 2]);
        if (surrogate)
            memcpy(text + i + 1, "fffd", 4);
    }
}

static cJSON *parse_mended(sj_slice text) {
    char *copy = malloc(text.n);
    if (!copy)
        return NULL;
    memcpy(copy, text.p, text.n);
    mend_surrogates(copy, text.n);
    cJSON *tree = cJSON_ParseWithLength(copy, text.n);
    free(copy);
    return tree;
}

sj_json_state sj_json_tree_parse(sj_slice text, cJSON **tree) {
    *tree = NULL;
    sj_json_state state = sj_json_check(text);
    if (state != SJ_JSON_WHOLE)
        return state;
    *tree = cJSON_ParseWithLength(text.p, text.n);
    if (!*tree)
        *tree = parse_mended(text);
    return state;
}

const cJSON *sj_json_tree_get(const cJSON *object, const char *name) {
    return cJSON_IsObject(object) ? cJSON_GetObjectItemCaseSensitive(object, name) : NULL;
}

const char *sj_json_tree_text(const cJSON *object, const char *name) {
    return cJSON_GetStringValue(sj_json_tree_get(object, name));
}

bool sj_json_tree_says(const cJSON *value) {
    if (cJSON_IsString(value))
        return *value->valuestring != '\0';
    if (cJSON_IsArray(value) || cJSON_IsObject(value))
        return value->child != NULL;
    return cJSON_IsTrue(value) || (cJSON_IsNumber(value) && value->valuedouble != 0);
}

int64_t sj_json_tree_count(const cJSON *object, const char *name) {
    const cJSON *value = sj_json_tree_get(object, name);
    bool fits = cJSON_IsNumber(value) && value->valuedouble >= 0 && value->valuedouble <= 9007199254740992.0;
    return fits ? (int64_t)value->valuedouble : -1;
}
