#include "completion_read.h"
#include "json_span.h"

#define COUNT(rows) (sizeof(rows) / sizeof *(rows))

// Bodies up to this size are made into a tree to read their error; of larger ones only the error itself is.
enum { MAX_TREE_BYTES = 64 * 1024 };

// ---- what a whole answer holds ----------------------------------------------------------------------------------------------

// Spans, not a tree: an answer may hold megabytes of vectors or images.
typedef struct answer_spans {
    int count; // of all members
    sj_slice error, choices, output, content, usage, id, status, object, type;
    sj_slice failed_choice;
} answer_spans;

static bool note_member(void *context, sj_slice key, sj_slice value) {
    static const struct {
        const char *key;
        size_t offset;
    } members[] = {
        {"error", offsetof(answer_spans, error)},   {"choices", offsetof(answer_spans, choices)},
        {"output", offsetof(answer_spans, output)}, {"content", offsetof(answer_spans, content)},
        {"usage", offsetof(answer_spans, usage)},   {"id", offsetof(answer_spans, id)},
        {"status", offsetof(answer_spans, status)}, {"object", offsetof(answer_spans, object)},
        {"type", offsetof(answer_spans, type)},
    };
    answer_spans *spans = context;
    spans->count++;
    for (size_t i = 0; i < COUNT(members); i++)
        if (sj_slice_equal(key, sj_slice_of(members[i].key)))
            memcpy((char *)spans + members[i].offset, &value, sizeof value);
    return true;
}

static bool is_string(sj_slice value, const char *text) {
    return value.n == strlen(text) + 2 && value.p[0] == '"' && memcmp(value.p + 1, text, value.n - 2) == 0;
}

static bool holds_something(sj_slice value) {
    return value.n && sj_json_has_value(value);
}

static bool look_for_failure(void *context, sj_slice key, sj_slice value) {
    bool *failed = context;
    *failed |= (sj_slice_equal(key, SJ_SLICE("error")) && sj_json_has_value(value)) ||
               (sj_slice_equal(key, SJ_SLICE("finish_reason")) && is_string(value, "error"));
    return true;
}

// OpenRouter: a choice that failed in an answer that did not.
static bool note_failed_choice(void *context, sj_slice key, sj_slice choice) {
    (void)key;
    answer_spans *spans = context;
    bool failed = false;
    (void)sj_json_walk_object(choice, look_for_failure, &failed);
    if (failed)
        spans->failed_choice = choice;
    return !failed;
}

static bool note_first(void *context, sj_slice key, sj_slice element) {
    (void)key;
    sj_slice *first = context;
    *first = element;
    return false;
}

// ---- reading it -------------------------------------------------------------------------------------------------------------

static void read_error(sj_completion *completion, sj_slice text) {
    cJSON *tree = NULL;
    if (text.n && sj_json_tree_parse(text, &tree) == SJ_JSON_WHOLE && tree)
        sj_completion_read_error(completion, tree);
    cJSON_Delete(tree);
}

static void read_id(sj_completion *completion, sj_slice value) {
    char id[256];
    if (value.n && sj_json_decode_string(value, id, sizeof id))
        sj_error_text_copy(sj_slice_of(id), completion->id, sizeof completion->id);
}

// `error` says something; false, zero and the like do not.
static bool is_error(sj_slice value) {
    return holds_something(value) && !sj_slice_equal(value, SJ_SLICE("false")) &&
           !sj_slice_equal(value, SJ_SLICE("0"));
}

static bool carries_error(const sj_completion *completion, answer_spans *spans) {
    // Without this text in them there is neither the member nor the finish reason that it looks for.
    bool suspicious = spans->choices.n && memmem(spans->choices.p, spans->choices.n, "\"error\"", 7);
    if (sj_protocol_has_choices(completion->protocol) && suspicious)
        (void)sj_json_walk_array(spans->choices, note_failed_choice, spans);
    return is_error(spans->error) || spans->failed_choice.n || is_string(spans->object, "error") ||
           is_string(spans->type, "error") ||
           (completion->protocol == SJ_PROTOCOL_RESPONSES && is_string(spans->status, "failed"));
}

// Every protocol has the member that holds its answer; one that has not finished may hold it empty.
static bool lacks_answer(const sj_completion *completion, const answer_spans *spans) {
    switch (completion->protocol) {
    case SJ_PROTOCOL_CHAT:
    case SJ_PROTOCOL_COMPLETIONS:
        return !holds_something(spans->choices);
    case SJ_PROTOCOL_RESPONSES:
        return spans->status.n == 0 || is_string(spans->status, "completed") ? !holds_something(spans->output)
                                                                             : spans->output.n == 0;
    case SJ_PROTOCOL_MESSAGES:
        return spans->content.n == 0;
    default:
        return spans->count == 0;
    }
}

// Not one object: cut short, no JSON, or JSON of another kind.
static sj_finding judge_other(sj_completion *completion, sj_slice body) {
    sj_json_state state = sj_json_check(body);
    if (state != SJ_JSON_WHOLE)
        return state == SJ_JSON_CUT ? SJ_FINDING_TRUNCATED : SJ_FINDING_NOT_JSON;
    sj_slice first = {NULL, 0};
    answer_spans spans = {0};
    (void)sj_json_walk_array(body, note_first, &first); // Google: [{"error": {...}}]
    if (sj_json_walk_object(first, note_member, &spans) && is_error(spans.error)) {
        read_error(completion, first);
        return SJ_FINDING_ERROR;
    }
    bool typed = completion->protocol != SJ_PROTOCOL_JSON && completion->protocol != SJ_PROTOCOL_ASSISTANTS;
    return typed || !sj_json_has_value(body) ? SJ_FINDING_EMPTY : SJ_FINDING_GOOD;
}

static sj_slice trim_answer(sj_slice body) {
    if (sj_slice_starts(body, SJ_SLICE("\xef\xbb\xbf")))
        body = sj_slice_from(body, 3);
    while (body.n && memchr(" \t\r\n", body.p[0], 4))
        body = sj_slice_from(body, 1);
    while (body.n && memchr(" \t\r\n", body.p[body.n - 1], 4))
        body.n--;
    return body;
}

sj_finding sj_completion_answer(sj_completion *completion, sj_slice body) {
    if (completion->protocol == SJ_PROTOCOL_OPAQUE)
        return SJ_FINDING_GOOD;
    body = trim_answer(body);
    if (body.n == 0)
        return SJ_FINDING_EMPTY;
    answer_spans spans = {0};
    if (!sj_json_walk_object(body, note_member, &spans))
        return judge_other(completion, body);
    read_id(completion, spans.id);
    if (spans.usage.n)
        sj_completion_read_usage_text(completion, spans.usage);
    if (carries_error(completion, &spans)) {
        sj_slice error = spans.failed_choice.n ? spans.failed_choice : spans.error;
        bool whole = body.n <= MAX_TREE_BYTES && !spans.failed_choice.n;
        read_error(completion, whole ? body : error);
        return SJ_FINDING_ERROR;
    }
    return lacks_answer(completion, &spans) ? SJ_FINDING_EMPTY : SJ_FINDING_GOOD;
}

void sj_completion_error_of(sj_completion *completion, sj_slice body) {
    completion->error_code[0] = completion->error_message[0] = '\0';
    read_error(completion, trim_answer(body));
}

// ---- our own ----------------------------------------------------------------------------------------------------------------

static bool put_event(bool typed, const char *code, const char *message, sj_buffer *out) {
    return sj_buffer_text(out, typed ? "event: error\ndata: {\"type\": \"error\", \"error\": {\"message\": "
                                     : "data: {\"error\": {\"message\": ") &&
           sj_json_encode_string(sj_slice_of(message ? message : ""), out) &&
           sj_buffer_text(out, ", \"type\": \"stormjib_error\", \"param\": null, \"code\": ") &&
           sj_json_encode_string(sj_slice_of(code ? code : ""), out) && sj_buffer_text(out, "}}\n\n");
}

bool sj_completion_error_event(sj_protocol protocol, const char *code, const char *message, sj_buffer *out) {
    if (protocol == SJ_PROTOCOL_OPAQUE || protocol == SJ_PROTOCOL_JSON)
        return true;
    size_t start = out->n;
    if (put_event(!sj_protocol_has_choices(protocol), code, message, out))
        return true;
    out->n = start;
    return false;
}
