#include "completion.h"

#include "completion_read.h"
#include "json_span.h"

#include <assert.h>

#define COUNT(rows) (sizeof(rows) / sizeof *(rows))

static_assert(sizeof((sj_completion *)0)->error_code == SJ_ERROR_CODE_SIZE, "one size of error codes");
static_assert(sizeof((sj_completion *)0)->error_message == SJ_ERROR_MESSAGE_SIZE,
              "one size of error messages");

// ---- protocols --------------------------------------------------------------------------------------------------------------

// The last segments of a path, first match; `*` is any one segment.
static const struct {
    const char *tail;
    sj_protocol protocol;
} paths[] = {
    {"chat/completions", SJ_PROTOCOL_CHAT},
    {"completions", SJ_PROTOCOL_COMPLETIONS},
    {"responses", SJ_PROTOCOL_RESPONSES},
    {"threads/*/messages", SJ_PROTOCOL_OPAQUE},
    {"messages", SJ_PROTOCOL_MESSAGES},
    {"threads/runs", SJ_PROTOCOL_ASSISTANTS},
    {"threads/*/runs", SJ_PROTOCOL_ASSISTANTS},
    {"threads/*/runs/*/submit_tool_outputs", SJ_PROTOCOL_ASSISTANTS},
    {"embeddings", SJ_PROTOCOL_JSON},
    {"moderations", SJ_PROTOCOL_JSON},
    {"images/*", SJ_PROTOCOL_JSON},
};

// Takes the last segment off; slashes at the end and doubled ones do not count.
static sj_slice take_segment(sj_slice *path) {
    while (path->n && path->p[path->n - 1] == '/')
        path->n--;
    size_t start = path->n;
    while (start && path->p[start - 1] != '/')
        start--;
    sj_slice segment = sj_slice_from(*path, start);
    path->n = start;
    return segment;
}

static bool ends_with_segments(sj_slice path, sj_slice tail) {
    while (tail.n) {
        sj_slice wanted = take_segment(&tail);
        sj_slice segment = take_segment(&path);
        if (segment.n == 0 || (!sj_slice_equal(wanted, SJ_SLICE("*")) && !sj_slice_equal(wanted, segment)))
            return false;
    }
    return true;
}

sj_protocol sj_protocol_of(sj_slice path) {
    size_t end = 0;
    while (end < path.n && path.p[end] != '?' && path.p[end] != '#')
        end++;
    path.n = end;
    for (size_t i = 0; i < COUNT(paths); i++)
        if (ends_with_segments(path, sj_slice_of(paths[i].tail)))
            return paths[i].protocol;
    return SJ_PROTOCOL_OPAQUE;
}

static bool is_opaque(sj_protocol protocol) {
    return protocol == SJ_PROTOCOL_OPAQUE || protocol == SJ_PROTOCOL_JSON;
}

// Speaks in choices, and ends with [DONE].
bool sj_protocol_has_choices(sj_protocol protocol) {
    return protocol == SJ_PROTOCOL_CHAT || protocol == SJ_PROTOCOL_COMPLETIONS;
}

void sj_completion_init(sj_completion *completion, sj_protocol protocol, int choices_expected) {
    int choices = choices_expected < 1 ? 1 : choices_expected;
    *completion = (sj_completion){
        .protocol = protocol,
        .choices_expected = choices > SJ_JSON_MAX_CHOICES ? SJ_JSON_MAX_CHOICES : choices,
        .usage = {-1, -1, -1, -1},
    };
}

// ---- what all protocols share -----------------------------------------------------------------------------------------------

void sj_completion_read_id(sj_completion *completion, const cJSON *object) {
    const char *id = sj_json_tree_text(object, "id");
    if (id && !*completion->id)
        sj_error_text_copy(sj_slice_of(id), completion->id, sizeof completion->id);
}

void sj_completion_read_error(sj_completion *completion, const cJSON *root) {
    sj_error_object_read(root, completion->error_code, completion->error_message);
}

// ---- chat and completions ---------------------------------------------------------------------------------------------------

static bool says_content(const cJSON *holder) {
    static const char *const members[] = {
        "content", "reasoning_content", "reasoning", "reasoning_details", "thinking", "refusal",
        "audio",   "tool_calls",        "text",      "function_call",     "images",
    };
    for (size_t i = 0; i < COUNT(members); i++)
        if (sj_json_tree_says(sj_json_tree_get(holder, members[i])))
            return true;
    return false;
}

static unsigned read_choice(sj_completion *completion, const cJSON *choice) {
    int64_t index = sj_json_tree_count(choice, "index");
    index = index < 0 ? 0 : index;
    bool counts = index < SJ_JSON_MAX_CHOICES;
    uint64_t bit = UINT64_C(1) << (index % 64);
    if (counts)
        completion->choices_seen[index / 64] |= bit;
    sj_completion_read_usage(completion, sj_json_tree_get(choice, "usage")); // Moonshot
    const char *finish = sj_json_tree_text(choice, "finish_reason");
    if ((finish && strcmp(finish, "error") == 0) || sj_error_object_in(choice)) { // OpenRouter
        sj_completion_read_error(completion, choice);
        return SJ_SAYS_ERROR;
    }
    unsigned says = finish && *finish ? SJ_SAYS_FINISH : 0;
    if (says && counts)
        completion->choices_finished[index / 64] |= bit;
    if (says_content(sj_json_tree_get(choice, "delta")) ||
        says_content(sj_json_tree_get(choice, "message")) || says_content(choice))
        says |= SJ_SAYS_CONTENT;
    return says;
}

static bool all_finished(const sj_completion *completion) {
    int finished = 0;
    for (int i = 0; i < 2; i++) {
        if (completion->choices_seen[i] & ~completion->choices_finished[i])
            return false;
        finished += __builtin_popcountll(completion->choices_finished[i]);
    }
    return finished >= completion->choices_expected;
}

static unsigned read_choices(sj_completion *completion, const cJSON *root) {
    const cJSON *choices = sj_json_tree_get(root, "choices");
    unsigned says = 0;
    sj_completion_read_id(completion, root);
    sj_completion_read_usage(completion, sj_json_tree_get(root, "usage"));
    const cJSON *choice;
    cJSON_ArrayForEach(choice, choices) says |= read_choice(completion, choice);
    completion->ended = all_finished(completion);
    // An event of a kind that we do not know is not held against the stream at its [DONE].
    completion->spoke |= says != 0 || !choices;
    return says & SJ_SAYS_ERROR ? (unsigned)SJ_SAYS_ERROR : says;
}

static unsigned read_done(sj_completion *completion) {
    completion->done = true;
    if (sj_protocol_has_choices(completion->protocol))
        return SJ_SAYS_DONE;
    if (completion->protocol != SJ_PROTOCOL_ASSISTANTS)
        return 0;
    completion->ended = true;
    return SJ_SAYS_FINISH;
}

// ---- responses, messages, assistants ----------------------------------------------------------------------------------------

// What an event says by its type alone; the first row that matches.
static const struct {
    sj_protocol protocol;
    const char *type; // with a leading `*`: how it ends
    unsigned says;
    bool ends;
} types[] = {
    {SJ_PROTOCOL_RESPONSES, "*.delta", SJ_SAYS_CONTENT, false},
    {SJ_PROTOCOL_RESPONSES, "*.partial_image", SJ_SAYS_CONTENT, false},
    {SJ_PROTOCOL_RESPONSES, "*_text.done", SJ_SAYS_CONTENT, false},
    {SJ_PROTOCOL_RESPONSES, "*_arguments.done", SJ_SAYS_CONTENT, false},
    {SJ_PROTOCOL_RESPONSES, "response.refusal.done", SJ_SAYS_CONTENT, false},
    {SJ_PROTOCOL_RESPONSES, "response.completed", SJ_SAYS_FINISH, true},
    {SJ_PROTOCOL_RESPONSES, "response.incomplete", SJ_SAYS_FINISH, true},
    {SJ_PROTOCOL_RESPONSES, "response.cancelled", SJ_SAYS_FINISH, true},
    {SJ_PROTOCOL_RESPONSES, "response.failed", SJ_SAYS_ERROR, true},
    {SJ_PROTOCOL_MESSAGES, "content_block_delta", SJ_SAYS_CONTENT, false},
    {SJ_PROTOCOL_MESSAGES, "message_stop", SJ_SAYS_FINISH, true},
    {SJ_PROTOCOL_ASSISTANTS, "*.delta", SJ_SAYS_CONTENT, false},
    {SJ_PROTOCOL_ASSISTANTS, "thread.run.requires_action", SJ_SAYS_CONTENT, false},
    {SJ_PROTOCOL_ASSISTANTS, "thread.run.completed", SJ_SAYS_FINISH, false},
    {SJ_PROTOCOL_ASSISTANTS, "thread.run.incomplete", SJ_SAYS_FINISH, false},
    {SJ_PROTOCOL_ASSISTANTS, "thread.run.cancelled", SJ_SAYS_FINISH, false},
    {SJ_PROTOCOL_ASSISTANTS, "thread.run.failed", SJ_SAYS_ERROR, false},
    {SJ_PROTOCOL_ASSISTANTS, "thread.run.expired", SJ_SAYS_ERROR, false},
    {SJ_PROTOCOL_ASSISTANTS, "done", SJ_SAYS_FINISH, true},
};

static bool type_matches(const char *pattern, sj_slice type) {
    sj_slice tail = sj_slice_of(pattern);
    if (*pattern != '*')
        return sj_slice_equal(tail, type);
    tail = sj_slice_from(tail, 1);
    return type.n >= tail.n && sj_slice_equal(tail, sj_slice_from(type, type.n - tail.n));
}

// Events whose type says nothing alone.
static unsigned read_members(const sj_completion *completion, sj_slice type, const cJSON *root) {
    if (completion->protocol == SJ_PROTOCOL_RESPONSES) {
        const char *item = sj_json_tree_text(sj_json_tree_get(root, "item"), "type");
        bool tool = item && strcmp(item, "message") != 0 && strcmp(item, "reasoning") != 0;
        return tool ? SJ_SAYS_CONTENT : 0;
    }
    if (completion->protocol != SJ_PROTOCOL_MESSAGES)
        return 0;
    if (sj_slice_equal(type, SJ_SLICE("message_delta")))
        return sj_json_tree_text(sj_json_tree_get(root, "delta"), "stop_reason") ? SJ_SAYS_FINISH : 0;
    const char *block = sj_json_tree_text(sj_json_tree_get(root, "content_block"), "type");
    return block && strcmp(block, "text") != 0 && strcmp(block, "thinking") != 0 ? SJ_SAYS_CONTENT : 0;
}

static unsigned read_typed(sj_completion *completion, sj_slice name, const cJSON *root) {
    static const char *const holders[] = {"response", "message"};
    const char *said =
        completion->protocol == SJ_PROTOCOL_ASSISTANTS ? NULL : sj_json_tree_text(root, "type");
    sj_slice type = said ? sj_slice_of(said) : name;
    const cJSON *body = root; // where id, usage and error stand
    for (size_t i = 0; i < COUNT(holders); i++)
        if (cJSON_IsObject(sj_json_tree_get(root, holders[i])))
            body = sj_json_tree_get(root, holders[i]);
    sj_completion_read_id(completion, body);
    sj_completion_read_usage(completion, sj_json_tree_get(body, "usage"));
    for (size_t i = 0; i < COUNT(types); i++) {
        if (types[i].protocol != completion->protocol || !type_matches(types[i].type, type))
            continue;
        completion->ended |= types[i].ends;
        if (types[i].says & SJ_SAYS_ERROR)
            sj_completion_read_error(completion, sj_json_tree_get(body, "last_error")
                                                     ? sj_json_tree_get(body, "last_error")
                                                     : body);
        return types[i].says;
    }
    return read_members(completion, type, root);
}

// ---- events -----------------------------------------------------------------------------------------------------------------

static unsigned read_root(sj_completion *completion, sj_slice name, const cJSON *root) {
    if (sj_error_object_in(root) || (cJSON_IsObject(root) && sj_slice_equal(name, SJ_SLICE("error")))) {
        sj_completion_read_error(completion, root);
        return SJ_SAYS_ERROR;
    }
    if (!cJSON_IsObject(root))
        return 0;
    return sj_protocol_has_choices(completion->protocol) ? read_choices(completion, root)
                                                         : read_typed(completion, name, root);
}

unsigned sj_completion_event(sj_completion *completion, sj_slice name, sj_slice data) {
    if (is_opaque(completion->protocol))
        return SJ_SAYS_CONTENT;
    if (sj_slice_starts(sj_slice_trim(data), SJ_SLICE("[DONE]")))
        return read_done(completion);
    cJSON *root;
    if (sj_json_tree_parse(data, &root) != SJ_JSON_WHOLE) {
        if (!sj_slice_equal(name, SJ_SLICE("error")))
            return SJ_SAYS_NOT_JSON;
        *completion->error_code = '\0';
        sj_error_text_copy(data, completion->error_message, sizeof completion->error_message);
        return SJ_SAYS_ERROR;
    }
    // JSON that we cannot look into goes on as content.
    unsigned says = root ? read_root(completion, name, root) : (unsigned)SJ_SAYS_CONTENT;
    cJSON_Delete(root);
    return says;
}

bool sj_completion_is_whole(const sj_completion *completion) {
    if (sj_protocol_has_choices(completion->protocol))
        return completion->done && completion->spoke;
    return completion->ended || is_opaque(completion->protocol);
}

bool sj_completion_lacks_only_done(const sj_completion *completion) {
    return sj_protocol_has_choices(completion->protocol) && completion->ended && !completion->done;
}
