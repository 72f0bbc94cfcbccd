#include "mock_answer.h"

#include "rng.h"

#include <stdlib.h>
#include <zlib.h>

enum { MAX_ANSWER = 64 * 1024 * 1024, SPEECH_BYTES = 8192, SPEECH_PIECE = 1024, MAX_DIMENSIONS = 4096 };

void sj_mock_answer_init(sj_mock_answer *answer) {
    *answer = (sj_mock_answer){
        .status = 200, .headers = sj_buffer_with_max(16 * 1024), .body = sj_buffer_with_max(MAX_ANSWER)};
}

void sj_mock_answer_free(sj_mock_answer *answer) {
    sj_buffer_free(&answer->headers);
    sj_buffer_free(&answer->body);
    free(answer->ends);
    answer->ends = NULL;
    answer->count = answer->cap = 0;
}

bool sj_mock_answer_piece(sj_mock_answer *answer) {
    if (answer->count == answer->cap) {
        size_t cap = answer->cap ? answer->cap * 2 : 8;
        size_t *ends = realloc(answer->ends, cap * sizeof *ends);
        if (!ends)
            return false;
        answer->ends = ends;
        answer->cap = cap;
    }
    answer->ends[answer->count++] = answer->body.n;
    answer->finish = answer->count;
    return true;
}

static bool write_error(sj_buffer *out, const char *message, const char *type, const char *code) {
    return sj_buffer_text(out, "{\"error\":{\"message\":") &&
           sj_json_encode_string(sj_slice_of(message), out) && sj_buffer_text(out, ",\"type\":") &&
           sj_json_encode_string(sj_slice_of(type), out) &&
           sj_buffer_text(out, ",\"param\":null,\"code\":") &&
           sj_json_encode_string(sj_slice_of(code), out) && sj_buffer_text(out, "}}");
}

bool sj_mock_error_object(const sj_mock_fault *fault, sj_buffer *out) {
    char message[160];
    (void)snprintf(message, sizeof message, "%s",
                   fault->message[0] ? fault->message : "The mock upstream was told to fail this attempt.");
    const char *code = fault->code[0] ? fault->code : sj_mock_status_code(fault->status);
    bool quota = strcmp(code, "insufficient_quota") == 0;
    return write_error(out, message, quota ? code : sj_mock_status_type(fault->status), code);
}

bool sj_mock_answer_error(sj_mock_answer *out, int status, const char *code, const char *message) {
    out->status = status;
    out->content_type = "application/json";
    return write_error(&out->body, message, sj_mock_status_type(status), code) && sj_mock_answer_piece(out);
}

// ---- the small endpoints ------------------------------------------------------------------------

static bool whole(sj_mock_answer *out, bool ok) {
    if (!out->content_type)
        out->content_type = "application/json";
    return ok && sj_mock_answer_piece(out);
}

static sj_slice next_model(const char **list) {
    size_t n = strcspn(*list, ",");
    sj_slice model = sj_slice_trim((sj_slice){*list, n});
    *list += n + ((*list)[n] != 0);
    return model;
}

static bool model_listed(const char *list, sj_slice model) {
    while (*list) {
        if (sj_slice_equal(next_model(&list), model))
            return true;
    }
    return false;
}

static bool write_model(sj_slice model, sj_buffer *out) {
    return sj_buffer_text(out, "{\"id\":") && sj_json_encode_string(model, out) &&
           sj_buffer_text(out, ",\"object\":\"model\",\"created\":1700000000,\"owned_by\":\"mock\"}");
}

static bool answer_model_list(const sj_mock_ask *ask, const sj_mock_question *question, sj_mock_answer *out) {
    (void)question;
    bool ok = sj_buffer_text(&out->body, "{\"object\":\"list\",\"data\":[");
    const char *list = ask->models;
    for (bool first = true; ok && *list; first = false)
        ok = sj_buffer_text(&out->body, first ? "" : ",") && write_model(next_model(&list), &out->body);
    return whole(out, ok && sj_buffer_text(&out->body, "]}"));
}

static bool no_such_model(sj_mock_answer *out) {
    return sj_mock_answer_error(out, 404, "model_not_found",
                                "The model does not exist or you do not have access to it.");
}

static bool answer_one_model(const sj_mock_ask *ask, sj_slice model, sj_mock_answer *out) {
    if (ask->strict_models && !model_listed(ask->models, model))
        return no_such_model(out);
    return whole(out, write_model(model, &out->body));
}

static bool write_base64(const unsigned char *bytes, size_t n, sj_buffer *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    bool ok = true;
    for (size_t i = 0; ok && i < n; i += 3) {
        uint32_t group = (uint32_t)bytes[i] << 16 | (i + 1 < n ? (uint32_t)bytes[i + 1] << 8 : 0) |
                         (i + 2 < n ? bytes[i + 2] : 0);
        char four[4] = {digits[group >> 18], digits[group >> 12 & 63],
                        i + 1 < n ? digits[group >> 6 & 63] : '=', i + 2 < n ? digits[group & 63] : '='};
        ok = sj_buffer_append(out, four, 4);
    }
    return ok;
}

static bool write_vector(uint32_t hash, int dimensions, bool base64, sj_buffer *out) {
    float vector[MAX_DIMENSIONS];
    sj_rng rng;
    sj_rng_seed(&rng, hash);
    for (int i = 0; i < dimensions; i++)
        vector[i] = (float)(sj_rng_unit(&rng) * 2 - 1);
    if (base64)
        return sj_buffer_text(out, "\"") &&
               write_base64((const unsigned char *)vector, (size_t)dimensions * sizeof *vector, out) &&
               sj_buffer_text(out, "\"");
    bool ok = sj_buffer_text(out, "[");
    for (int i = 0; ok && i < dimensions; i++)
        ok = sj_buffer_printf(out, "%s%.7g", i ? "," : "", (double)vector[i]);
    return ok && sj_buffer_text(out, "]");
}

static bool write_embedding(const cJSON *input, int index, int dimensions, bool base64, sj_buffer *out) {
    char *text = cJSON_IsString(input) ? NULL : cJSON_PrintUnformatted(input);
    sj_slice bytes = sj_slice_of(text ? text : input->valuestring);
    uint32_t hash = (uint32_t)crc32(0, (const unsigned char *)bytes.p, (unsigned)bytes.n);
    cJSON_free(text);
    return sj_buffer_printf(out, "%s{\"object\":\"embedding\",\"index\":%d,\"embedding\":", index ? "," : "",
                            index) &&
           write_vector(hash, dimensions, base64, out) && sj_buffer_text(out, "}");
}

static bool answer_embeddings(const sj_mock_ask *ask, const sj_mock_question *question, sj_mock_answer *out) {
    const cJSON *input = cJSON_GetObjectItemCaseSensitive(ask->json, "input");
    const cJSON *wanted = cJSON_GetObjectItemCaseSensitive(ask->json, "dimensions");
    const cJSON *format = cJSON_GetObjectItemCaseSensitive(ask->json, "encoding_format");
    int dimensions = cJSON_IsNumber(wanted) && wanted->valueint > 0 ? wanted->valueint : 16;
    bool base64 = cJSON_IsString(format) && strcmp(format->valuestring, "base64") == 0;
    // A list of numbers is one text as tokens.
    bool several = cJSON_IsArray(input) && !cJSON_IsNumber(input->child);
    if (!cJSON_IsString(input) && !cJSON_IsArray(input))
        return sj_mock_answer_error(out, 400, "invalid_input", "'input' must be a text or an array.");
    if (dimensions > MAX_DIMENSIONS)
        return sj_mock_answer_error(out, 400, "invalid_dimensions", "'dimensions' is too large.");
    bool ok = sj_buffer_text(&out->body, "{\"object\":\"list\",\"data\":[");
    int index = 0;
    for (const cJSON *item = several ? input->child : input; ok && item; item = several ? item->next : NULL)
        ok = write_embedding(item, index++, dimensions, base64, &out->body);
    return whole(
        out, ok && sj_buffer_printf(&out->body,
                                    "],\"model\":%s,\"usage\":{\"prompt_tokens\":%zu,\"total_tokens\":%zu}}",
                                    question->model, question->prompt_tokens, question->prompt_tokens));
}

static bool answer_moderations(const sj_mock_ask *ask, const sj_mock_question *question,
                               sj_mock_answer *out) {
    bool flagged = memmem(question->said.p, question->said.n, "violence", 8) != NULL;
    const char *word = flagged ? "true" : "false";
    return whole(out, sj_buffer_printf(&out->body,
                                       "{\"id\":\"modr-mock-%llu\",\"model\":%s,\"results\":[{\"flagged\":%s,"
                                       "\"categories\":{\"violence\":%s,\"hate\":false},"
                                       "\"category_scores\":{\"violence\":%s,\"hate\":0.001}}]}",
                                       (unsigned long long)ask->number, question->model, word, word,
                                       flagged ? "0.97" : "0.002"));
}

// A PNG of one pixel.
static bool answer_images(const sj_mock_ask *ask, const sj_mock_question *question, sj_mock_answer *out) {
    static const char pixel[] =
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
        "rkJggg==";
    bool ok = sj_buffer_printf(&out->body, "{\"created\":%lld,\"data\":[", (long long)ask->created_s);
    for (int i = 0; ok && i < question->choices; i++)
        ok = sj_buffer_printf(&out->body, "%s{\"b64_json\":\"%s\"}", i ? "," : "", pixel);
    return whole(out, ok && sj_buffer_text(&out->body, "]}"));
}

// Bytes that no text decoder survives, in chunks.
static bool answer_speech(const sj_mock_ask *ask, const sj_mock_question *question, sj_mock_answer *out) {
    (void)question;
    sj_rng rng;
    sj_rng_seed(&rng, crc32(0, (const unsigned char *)ask->body.p, (unsigned)ask->body.n));
    out->stream = true;
    out->content_type = "audio/mpeg";
    bool ok = true;
    for (size_t i = 0; ok && i < SPEECH_BYTES; i += sizeof(uint64_t)) {
        uint64_t bytes = sj_rng_next(&rng);
        ok = sj_buffer_append(&out->body, &bytes, sizeof bytes) &&
             (out->body.n % SPEECH_PIECE != 0 || sj_mock_answer_piece(out));
    }
    return ok;
}

static bool answer_transcription(const sj_mock_ask *ask, const sj_mock_question *question,
                                 sj_mock_answer *out) {
    (void)question;
    static const char field[] = "name=\"response_format\"\r\n\r\ntext";
    bool plain = memmem(ask->body.p, ask->body.n, field, sizeof field - 1) != NULL;
    uint32_t hash = (uint32_t)crc32(0, (const unsigned char *)ask->body.p, (unsigned)ask->body.n);
    if (plain)
        out->content_type = "text/plain; charset=utf-8";
    return whole(out, sj_buffer_printf(&out->body,
                                       plain ? "transcript of %zu bytes, %08x\n"
                                             : "{\"text\":\"transcript of %zu bytes, %08x\"}",
                                       ask->body.n, hash));
}

// ---- dispatch -----------------------------------------------------------------------------------

typedef bool (*maker)(const sj_mock_ask *ask, const sj_mock_question *question, sj_mock_answer *out);

// By the end of the path, so that any base path will do.
static const struct endpoint {
    const char *ending, *method;
    bool json; // the body must be a JSON object with a model
    maker make;
} endpoints[] = {
    {"/chat/completions", "POST", true, sj_mock_answer_chat},
    {"/completions", "POST", true, sj_mock_answer_completions},
    {"/responses", "POST", true, sj_mock_answer_responses},
    {"/messages", "POST", true, sj_mock_answer_messages},
    {"/embeddings", "POST", true, answer_embeddings},
    {"/moderations", "POST", false, answer_moderations},
    {"/images/generations", "POST", false, answer_images},
    {"/audio/speech", "POST", false, answer_speech},
    {"/audio/transcriptions", "POST", false, answer_transcription},
    {"/audio/translations", "POST", false, answer_transcription},
    {"/models", "GET", false, answer_model_list},
};

static bool ends_with(sj_slice text, sj_slice ending) {
    return text.n >= ending.n && sj_slice_equal(sj_slice_from(text, text.n - ending.n), ending);
}

static const struct endpoint *find_endpoint(const sj_mock_ask *ask) {
    for (size_t i = 0; i < sizeof endpoints / sizeof *endpoints; i++) {
        if (ends_with(ask->path, sj_slice_of(endpoints[i].ending)) &&
            sj_slice_equal(ask->method, sj_slice_of(endpoints[i].method)))
            return &endpoints[i];
    }
    return NULL;
}

static bool answer_elsewhere(const sj_mock_ask *ask, sj_mock_answer *out) {
    static const char models[] = "/models/";
    const char *at = memmem(ask->path.p, ask->path.n, models, sizeof models - 1);
    if (at && sj_slice_equal(ask->method, SJ_SLICE("GET")))
        return answer_one_model(ask, sj_slice_from(ask->path, (size_t)(at - ask->path.p) + sizeof models - 1),
                                out);
    char message[200];
    (void)snprintf(message, sizeof message, "Unknown request URL: %.*s %.*s. Please check the URL for typos.",
                   (int)(ask->method.n > 16 ? 16 : ask->method.n), ask->method.p,
                   (int)(ask->path.n > 100 ? 100 : ask->path.n), ask->path.p);
    return sj_mock_answer_error(out, 404, "unknown_url", message);
}

bool sj_mock_answer_make(const sj_mock_ask *ask, sj_mock_answer *out) {
    const struct endpoint *endpoint = find_endpoint(ask);
    if (!endpoint)
        return answer_elsewhere(ask, out);
    sj_mock_question question;
    sj_mock_question_read(ask->json, ask->body.n, ask->words, ask->variant, &question);
    if (!endpoint->json)
        return endpoint->make(ask, &question, out);
    if (!cJSON_IsObject(ask->json))
        return sj_mock_answer_error(out, 400, "invalid_json",
                                    "We could not parse the JSON body of your request.");
    if (!question.has_model)
        return sj_mock_answer_error(out, 400, "missing_model", "you must provide a model parameter");
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(ask->json, "model");
    if (ask->strict_models && !model_listed(ask->models, sj_slice_of(model->valuestring)))
        return no_such_model(out);
    return endpoint->make(ask, &question, out);
}
