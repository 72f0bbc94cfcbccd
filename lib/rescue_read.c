// One pass over an event's JSON that descends only where something matters and notes where it stands. What is rebuilt later is spliced, so every
// byte that is not ours stays as the upstream wrote it.
#include "json_span.h"
#include "rescue_internal.h"

enum { NO_INDEX = -1 };

typedef struct shape shape;

typedef struct row {
    sj_slice key;
    rescue_kind kind; // of a value; for one that is entered: what it means when it has another type
    const shape *inside; // an object, or an array of objects
} row;

// How an object is read.
struct shape {
    const row *rows;
    size_t count;
    rescue_kind others; // kind of members that have no row
    rescue_kind index; // the member that says which one of several this is; RK_NONE: its place in the array
    bool is_part; // that is piece.part, else piece.choice
    int without; // the index of one that does not say
};

typedef struct reader {
    sj_json_cursor cursor;
    rescue_event *event;
} reader;

#define COUNT(rows) (sizeof(rows) / sizeof *(rows))
#define KEY(text)                                                                                            \
    { (text), sizeof(text) - 1 }

// ---- chat and completions ---------------------------------------------------------------------------------------------------

static const row function_rows[] = {
    {KEY("name"), RK_TOOL_NAME, NULL},
    {KEY("arguments"), RK_TOOL_ARGUMENTS, NULL},
    {KEY("input"), RK_TOOL_ARGUMENTS, NULL}, // custom tools
};
static const shape function_shape = {.rows = function_rows, .count = COUNT(function_rows)};

static const row tool_rows[] = {
    {KEY("index"), RK_TOOL, NULL},
    {KEY("id"), RK_TOOL_ID, NULL},
    {KEY("type"), RK_TOOL_TYPE, NULL},
    {KEY("function"), RK_ODD, &function_shape},
    {KEY("custom"), RK_ODD, &function_shape},
};
static const shape tool_shape = {.rows = tool_rows,
                                 .count = COUNT(tool_rows),
                                 .others = RK_COMPANION,
                                 .index = RK_TOOL,
                                 .is_part = true,
                                 .without = NO_INDEX};

static const row delta_rows[] = {
    {KEY("content"), RK_CONTENT, NULL},
    {KEY("role"), RK_ROLE, NULL},
    {KEY("tool_calls"), RK_ODD, &tool_shape},
    {KEY("reasoning_content"), RK_REASONING, NULL},
    {KEY("reasoning"), RK_REASONING, NULL},
    {KEY("thinking"), RK_THINKING, NULL},
    {KEY("refusal"), RK_REFUSAL, NULL},
    {KEY("function_call"), RK_ODD, &function_shape},
    {KEY("audio"), RK_ODD, NULL},
    {KEY("images"), RK_ODD, NULL},
};
static const shape delta_shape = {.rows = delta_rows, .count = COUNT(delta_rows), .others = RK_COMPANION};

static const row choice_rows[] = {
    {KEY("index"), RK_CHOICE, NULL},      {KEY("delta"), RK_ODD, &delta_shape},
    {KEY("text"), RK_PLAIN_TEXT, NULL},   {KEY("finish_reason"), RK_FINISH, NULL},
    {KEY("logprobs"), RK_LOGPROBS, NULL}, {KEY("message"), RK_ODD, NULL},
    {KEY("error"), RK_ERROR, NULL},
};
static const shape choice_shape = {.rows = choice_rows, .count = COUNT(choice_rows), .index = RK_CHOICE};

static const row chat_rows[] = {
    {KEY("id"), RK_ID, NULL},
    {KEY("created"), RK_CREATED, NULL},
    {KEY("model"), RK_MODEL, NULL},
    {KEY("system_fingerprint"), RK_FINGERPRINT, NULL},
    {KEY("choices"), RK_ODD, &choice_shape},
    {KEY("error"), RK_ERROR, NULL},
};
static const shape chat_shape = {.rows = chat_rows, .count = COUNT(chat_rows)};

// ---- responses --------------------------------------------------------------------------------------------------------------

static const row item_rows[] = {
    {KEY("id"), RK_ITEM_ID, NULL},        {KEY("call_id"), RK_ITEM_CALL_ID, NULL},
    {KEY("type"), RK_ITEM_TYPE, NULL},    {KEY("name"), RK_ITEM_NAME, NULL},
    {KEY("content"), RK_ITEM_BODY, NULL}, {KEY("arguments"), RK_ITEM_BODY, NULL},
    {KEY("input"), RK_ITEM_BODY, NULL},   {KEY("summary"), RK_ITEM_BODY, NULL},
};
static const shape item_shape = {.rows = item_rows, .count = COUNT(item_rows)};

static const row part_rows[] = {{KEY("text"), RK_ITEM_BODY, NULL}, {KEY("refusal"), RK_ITEM_BODY, NULL}};
static const shape part_shape = {.rows = part_rows, .count = COUNT(part_rows)};

static const row output_rows[] = {{KEY("id"), RK_ITEM_ID, NULL}, {KEY("call_id"), RK_ITEM_CALL_ID, NULL}};
static const shape output_shape = {.rows = output_rows, .count = COUNT(output_rows)};

static const row response_rows[] = {
    {KEY("id"), RK_ID, NULL},
    {KEY("created_at"), RK_CREATED, NULL},
    {KEY("model"), RK_MODEL, NULL},
    {KEY("output"), RK_NONE, &output_shape},
};
static const shape response_shape = {.rows = response_rows, .count = COUNT(response_rows)};

static const row responses_rows[] = {
    {KEY("type"), RK_TYPE, NULL},
    {KEY("sequence_number"), RK_SEQUENCE, NULL},
    {KEY("item_id"), RK_ITEM_REF, NULL},
    {KEY("output_index"), RK_OUTPUT_INDEX, NULL},
    {KEY("content_index"), RK_PART_INDEX, NULL},
    {KEY("summary_index"), RK_PART_INDEX, NULL},
    {KEY("delta"), RK_DELTA_TEXT, NULL},
    {KEY("logprobs"), RK_LOGPROBS, NULL},
    {KEY("text"), RK_WHOLE_TEXT, NULL},
    {KEY("refusal"), RK_WHOLE_TEXT, NULL},
    {KEY("arguments"), RK_WHOLE_TEXT, NULL},
    {KEY("input"), RK_WHOLE_TEXT, NULL},
    {KEY("code"), RK_WHOLE_TEXT, NULL},
    {KEY("item"), RK_ODD, &item_shape},
    {KEY("part"), RK_NONE, &part_shape},
    {KEY("response"), RK_ODD, &response_shape},
    {KEY("error"), RK_ERROR, NULL},
};
static const shape responses_shape = {.rows = responses_rows, .count = COUNT(responses_rows)};

// ---- values -----------------------------------------------------------------------------------------------------------------

int rescue_number(sj_slice value) {
    int number = value.n && value.n < 6 ? 0 : -1;
    for (size_t i = 0; number >= 0 && i < value.n; i++)
        number = value.p[i] >= '0' && value.p[i] <= '9' ? number * 10 + (value.p[i] - '0') : -1;
    return number <= RESCUE_MAX_INDEX ? number : -1;
}

static bool is_string(sj_slice value) {
    return value.p[0] == '"';
}

static bool has_value(sj_slice value) {
    return sj_json_has_value(value) && !sj_slice_equal(value, SJ_SLICE("false")) &&
           !sj_slice_equal(value, SJ_SLICE("0"));
}

// Two members of one object for the same text: a second name for it, as some servers send reasoning under both.
static bool is_said_already(const rescue_event *event, int from, rescue_kind kind) {
    while (from < event->count && event->pieces[from].kind != kind)
        from++;
    return from < event->count;
}

// object: the number of the first piece of the object that the member stands in.
static void note_member(reader *r, rescue_kind kind, size_t member, sj_slice value, int object) {
    rescue_event *event = r->event;
    bool says = has_value(value);
    if (kind == RK_NONE)
        return;
    if (rescue_is_text(kind)) {
        event->odd |= says && !is_string(value);
        if (!says || !is_string(value))
            return;
        if (is_said_already(event, object, kind))
            kind = RK_COMPANION;
    }
    bool needs_value = kind == RK_ROLE || kind == RK_FINISH || kind == RK_COMPANION || kind == RK_LOGPROBS ||
                       kind == RK_TOOL_ID || kind == RK_TOOL_TYPE || kind == RK_ITEM_BODY;
    event->odd |= says && kind == RK_ODD;
    event->error |= says && kind == RK_ERROR;
    if (kind == RK_ODD || kind == RK_ERROR || (needs_value && !says))
        return;
    if (event->count == RESCUE_MAX_PIECES) {
        event->odd = true;
        return;
    }
    event->pieces[event->count++] = (rescue_piece){
        .kind = kind,
        .choice = NO_INDEX,
        .part = NO_INDEX,
        .member = member,
        .value = value,
        .rest = is_string(value) ? rescue_text_of(value) : (rescue_text){0},
    };
}

// ---- the walk ---------------------------------------------------------------------------------------------------------------

static bool take(sj_json_cursor *cursor, char c) {
    sj_json_skip_space(cursor);
    if (cursor->at == cursor->end || *cursor->at != c)
        return false;
    cursor->at++;
    return true;
}

// Writes an object's index into the pieces found in it.
static void settle_index(rescue_event *event, const shape *form, int from, int place) {
    int index = form->index == RK_NONE ? place : form->without;
    for (int i = from; i < event->count; i++)
        if (event->pieces[i].kind == form->index && form->index != RK_NONE)
            index = rescue_number(event->pieces[i].value);
    event->odd |= index == NO_INDEX;
    for (int i = from; i < event->count; i++)
        *(form->is_part ? &event->pieces[i].part : &event->pieces[i].choice) = index;
}

// Recursion is as deep as the shapes are.
static bool read_object(reader *r, const shape *form, int depth);

static bool read_list(reader *r, const shape *form, int depth) {
    r->cursor.at++;
    if (take(&r->cursor, ']'))
        return true;
    int place = 0;
    do {
        sj_json_skip_space(&r->cursor);
        bool is_object = r->cursor.at < r->cursor.end && *r->cursor.at == '{';
        int from = r->event->count;
        if (is_object ? !read_object(r, form, depth + 1)
                      : sj_json_skip_value(&r->cursor, depth + 1) != SJ_JSON_WHOLE)
            return false;
        settle_index(r->event, form, from, place++);
    } while (take(&r->cursor, ','));
    return take(&r->cursor, ']');
}

static const row *row_for(const shape *form, sj_slice key) {
    for (size_t i = 0; i < form->count; i++)
        if (sj_slice_equal(form->rows[i].key, key))
            return &form->rows[i];
    return NULL;
}

static bool read_member(reader *r, const shape *form, int object, int depth) {
    sj_slice key;
    sj_json_skip_space(&r->cursor);
    const char *member = r->cursor.at;
    if (sj_json_skip_key(&r->cursor, &key) != SJ_JSON_WHOLE || r->cursor.at == r->cursor.end)
        return false;
    // A name in escapes may be one of ours.
    r->event->odd |= memchr(key.p, '\\', key.n) != NULL;
    const row *known = row_for(form, key);
    const char *value = r->cursor.at;
    if (known && known->inside && *value == '{')
        return read_object(r, known->inside, depth + 1);
    if (known && known->inside && *value == '[')
        return read_list(r, known->inside, depth + 1);
    if (sj_json_skip_value(&r->cursor, depth + 1) != SJ_JSON_WHOLE)
        return false;
    note_member(r, known ? known->kind : form->others, (size_t)(member - r->event->data.p),
                (sj_slice){value, (size_t)(r->cursor.at - value)}, object);
    return true;
}

static bool read_object(reader *r, const shape *form, int depth) {
    int object = r->event->count;
    r->cursor.at++;
    if (take(&r->cursor, '}'))
        return true;
    do {
        if (!read_member(r, form, object, depth))
            return false;
    } while (take(&r->cursor, ','));
    return take(&r->cursor, '}');
}

// Of responses: what the whole event is about.
static void settle_place(rescue_event *event) {
    static const struct {
        rescue_kind kind;
        shape form;
    } places[] = {
        {RK_OUTPUT_INDEX, {.index = RK_OUTPUT_INDEX, .without = NO_INDEX}},
        {RK_PART_INDEX, {.index = RK_PART_INDEX, .is_part = true, .without = NO_INDEX}},
    };
    for (size_t i = 0; i < COUNT(places); i++)
        if (rescue_piece_of(event, places[i].kind))
            settle_index(event, &places[i].form, 0, 0);
}

bool rescue_read(sj_protocol protocol, const sj_sse_event *event, rescue_event *out) {
    // The pieces are written before they are read.
    out->name = event->name;
    out->data = event->data;
    out->odd = out->error = false;
    out->count = 0;
    bool typed = protocol == SJ_PROTOCOL_RESPONSES;
    reader r = {sj_json_cursor_of(event->data), out};
    sj_json_skip_space(&r.cursor);
    if (r.cursor.at == r.cursor.end || *r.cursor.at != '{' ||
        !read_object(&r, typed ? &responses_shape : &chat_shape, 0))
        return false;
    sj_json_skip_space(&r.cursor);
    if (typed)
        settle_place(out);
    out->error |= sj_slice_equal(event->name, SJ_SLICE("error"));
    return r.cursor.at == r.cursor.end;
}

const rescue_piece *rescue_piece_of(const rescue_event *event, rescue_kind kind) {
    for (int i = event->count; i-- > 0;)
        if (event->pieces[i].kind == kind)
            return &event->pieces[i];
    return NULL;
}
