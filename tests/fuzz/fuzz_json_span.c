// Whatever the bytes: spans lie inside the body, in order; what the walker accepts cJSON accepts, with as many members; each shorter piece
// of an accepted object is "cut"; what the encoder writes is one string that reads back.
#include "json_span.h"

#include <assert.h>
#include <stdlib.h>

#include <cjson/cJSON.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct walked {
    sj_slice body;
    const char *last;
    int members;
} walked;

static bool strains_cjson(sj_slice body) {
    size_t run = 0;
    for (size_t i = 0; i < body.n; i++) {
        run = memchr("0123456789+-.eE", body.p[i], 15) ? run + 1 : 0;
        bool surrogate =
            i + 3 < body.n && body.p[i] == '\\' && body.p[i + 1] == 'u' && (body.p[i + 2] | 0x20) == 'd';
        if (run > 63 || surrogate)
            return true;
    }
    return false;
}

static bool look(void *context, sj_slice key, sj_slice value) {
    walked *walked = context;
    assert(key.n <= walked->body.n);
    assert(value.n > 0 && value.p >= walked->last && value.p + value.n <= walked->body.p + walked->body.n);
    assert(sj_json_check(value) == SJ_JSON_WHOLE);
    walked->last = value.p + value.n;
    walked->members++;
    return true;
}

static void check_walk(sj_slice body) {
    walked walked = {.body = body, .last = body.p};
    bool whole = sj_json_walk_object(body, look, &walked);
    sj_request_facts facts;
    sj_request_facts_read(body, &facts);
    assert(facts.is_object == whole);
    assert(facts.choices >= 1 && facts.choices <= SJ_JSON_MAX_CHOICES);
    size_t last = 0;
    for (size_t i = 0; i < facts.model_span_count; i++) {
        const sj_json_edit *span = &facts.model_spans[i];
        assert(span->offset > last && span->n > 0 && span->offset + span->n < body.n);
        last = span->offset + span->n;
    }
    if (!whole)
        return;
    assert(sj_json_check(body) == SJ_JSON_WHOLE);
    size_t brace = body.n;
    while (body.p[brace - 1] != '}')
        brace--;
    assert(sj_json_check((sj_slice){body.p, brace / 2}) == SJ_JSON_CUT);
    assert(sj_json_check((sj_slice){body.p, brace - 1}) == SJ_JSON_CUT);
    if (strains_cjson(body))
        return;
    cJSON *tree = cJSON_ParseWithLength(body.p, body.n);
    assert(tree && cJSON_IsObject(tree) && cJSON_GetArraySize(tree) == walked.members);
    cJSON_Delete(tree);
}

static void check_strings(sj_slice text) {
    char *decoded = malloc(text.n * 3 + 1);
    assert(decoded);
    (void)sj_json_decode_string(text, decoded, text.n + 1);
    sj_buffer encoded = sj_buffer_with_max(text.n * 6 + 2);
    bool fits = sj_json_encode_string(text, &encoded);
    assert(fits && sj_json_check(sj_buffer_slice(&encoded)) == SJ_JSON_WHOLE);
    bool reads_back = sj_json_decode_string(sj_buffer_slice(&encoded), decoded, text.n * 3 + 1);
    assert(reads_back || memchr(text.p, '\0', text.n));
    sj_buffer_free(&encoded);
    free(decoded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    sj_slice body = {(const char *)data, size};
    if (size) {
        check_walk(body);
        check_strings(body);
    }
    return 0;
}
