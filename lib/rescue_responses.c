#include "rescue_internal.h"

#define COUNT(rows) (sizeof(rows) / sizeof *(rows))

typedef enum act {
    ACT_START, // about the response as a whole: the client has had it
    ACT_ITEM, // an item begins
    ACT_PART, // a part begins
    ACT_CLOSE, // a part or an item ends
    ACT_DELTA,
    ACT_WHOLE, // a text ends, and is said once more in full
    ACT_END,
    ACT_ERROR,
    ACT_OTHER, // annotations, steps of hosted tools: told apart by how many there were at their place
} act;

enum { TEXT, REFUSAL, CALL, CUSTOM, MCP, CODE, REASONING, SUMMARY };

enum { ROW_ITEM_DONE = 0 };

static const struct {
    const char *type;
    act act;
    int text; // which of the texts of its place
} types[] = {
    [ROW_ITEM_DONE] = {"response.output_item.done", ACT_CLOSE, 0},
    {"response.output_item.added", ACT_ITEM, 0},
    {"response.created", ACT_START, 0},
    {"response.in_progress", ACT_START, 0},
    {"response.queued", ACT_START, 0},
    {"response.content_part.added", ACT_PART, 0},
    {"response.content_part.done", ACT_CLOSE, 0},
    {"response.reasoning_summary_part.added", ACT_PART, 0},
    {"response.reasoning_summary_part.done", ACT_CLOSE, 0},
    // Each kind of delta is followed by what ends it.
    {"response.output_text.delta", ACT_DELTA, TEXT},
    {"response.output_text.done", ACT_WHOLE, TEXT},
    {"response.refusal.delta", ACT_DELTA, REFUSAL},
    {"response.refusal.done", ACT_WHOLE, REFUSAL},
    {"response.function_call_arguments.delta", ACT_DELTA, CALL},
    {"response.function_call_arguments.done", ACT_WHOLE, CALL},
    {"response.custom_tool_call_input.delta", ACT_DELTA, CUSTOM},
    {"response.custom_tool_call_input.done", ACT_WHOLE, CUSTOM},
    {"response.mcp_call_arguments.delta", ACT_DELTA, MCP},
    {"response.mcp_call_arguments.done", ACT_WHOLE, MCP},
    {"response.code_interpreter_call_code.delta", ACT_DELTA, CODE},
    {"response.code_interpreter_call_code.done", ACT_WHOLE, CODE},
    {"response.reasoning_text.delta", ACT_DELTA, REASONING},
    {"response.reasoning_text.done", ACT_WHOLE, REASONING},
    {"response.reasoning_summary_text.delta", ACT_DELTA, SUMMARY},
    {"response.reasoning_summary_text.done", ACT_WHOLE, SUMMARY},
    {"response.completed", ACT_END, 0},
    {"response.incomplete", ACT_END, 0},
    {"response.cancelled", ACT_END, 0},
    {"response.failed", ACT_ERROR, 0},
    {"error", ACT_ERROR, 0},
};

// An event, placed.
typedef struct place {
    act act;
    rescue_kind mark; // of the event itself
    rescue_kind text; // of what it adds to or repeats
    int item, part;
} place;

static bool ends_in_delta(sj_slice type) {
    sj_slice tail = SJ_SLICE(".delta");
    return type.n >= tail.n && sj_slice_equal(sj_slice_from(type, type.n - tail.n), tail);
}

// What cannot be placed makes the event odd.
static place place_of(rescue_event *event) {
    const rescue_piece *said = rescue_piece_of(event, RK_TYPE);
    bool is_string = said && said->value.p[0] == '"';
    sj_slice type = is_string ? (sj_slice){said->value.p + 1, said->value.n - 2} : event->name;
    const rescue_piece *item = rescue_piece_of(event, RK_OUTPUT_INDEX);
    const rescue_piece *part = rescue_piece_of(event, RK_PART_INDEX);
    place p = {
        .act = ACT_OTHER,
        .mark = (rescue_kind)(RK_EVENT + COUNT(types)),
        .item = item ? item->choice : -1,
        .part = part ? part->part : -1,
    };
    size_t row = 0;
    while (row < COUNT(types) && !sj_slice_equal(type, sj_slice_of(types[row].type)))
        row++;
    if (row == COUNT(types)) {
        event->odd |= ends_in_delta(type); // text of a kind that we do not know
        return p;
    }
    bool empty = types[row].act == ACT_DELTA && !rescue_piece_of(event, RK_DELTA_TEXT);
    if (empty)
        return p;
    p.act = types[row].act;
    p.mark = (rescue_kind)(RK_EVENT + row);
    p.text = (rescue_kind)(RK_DELTA_TEXT + types[row].text);
    bool needs_item = p.act == ACT_ITEM || p.act == ACT_PART || p.act == ACT_CLOSE || p.act == ACT_DELTA ||
                      p.act == ACT_WHOLE;
    event->odd |= needs_item && p.item < 0;
    return p;
}

// ---- taking in --------------------------------------------------------------------------------------------------------------

static void note_item(sj_transcript *t, const rescue_event *event, const place *p) {
    if (rescue_find(t, p->mark, p->item, p->part) >= 0)
        rescue_give_up(t); // two items at one index
    for (int i = 0; i < event->count; i++) {
        const rescue_piece *piece = &event->pieces[i];
        bool raw = piece->kind == RK_ITEM_ID || piece->kind == RK_ITEM_CALL_ID;
        bool text = piece->kind == RK_ITEM_TYPE || piece->kind == RK_ITEM_NAME;
        if (raw)
            rescue_keep_value(t, piece->kind, p->item, -1, piece->value);
        else if (text && piece->value.p[0] == '"')
            rescue_append(t, piece->kind, p->item, -1, piece->rest);
    }
}

static void note_texts(sj_transcript *t, const rescue_event *event, const place *p) {
    const rescue_piece *delta = rescue_piece_of(event, RK_DELTA_TEXT);
    const rescue_piece *whole = rescue_piece_of(event, RK_WHOLE_TEXT);
    if (p->act == ACT_DELTA && delta)
        rescue_append(t, p->text, p->item, p->part, delta->rest);
    // Some servers say a text only in full.
    bool only = p->act == ACT_WHOLE && whole && whole->value.p[0] == '"' &&
                rescue_find(t, p->text, p->item, p->part) < 0;
    if (only)
        rescue_append(t, p->text, p->item, p->part, whole->rest);
}

static int64_t read_sequence(sj_slice value) {
    int64_t number = value.n && value.n < 16 ? 0 : -1;
    for (size_t i = 0; number >= 0 && i < value.n; i++)
        number = value.p[i] >= '0' && value.p[i] <= '9' ? number * 10 + (value.p[i] - '0') : -1;
    return number;
}

static void note_head(sj_transcript *t, const rescue_event *event) {
    const rescue_piece *id = rescue_piece_of(event, RK_ID);
    const rescue_piece *created = rescue_piece_of(event, RK_CREATED);
    const rescue_piece *model = rescue_piece_of(event, RK_MODEL);
    const rescue_piece *sequence = rescue_piece_of(event, RK_SEQUENCE);
    if (id)
        rescue_keep_first(t, &t->id, id->value);
    if (created)
        rescue_keep_first(t, &t->created, created->value);
    if (model)
        rescue_keep_first(t, &t->model, model->value);
    if (sequence)
        t->sequence = sequence->fate == RESCUE_NUMBER ? t->sequence + 1 : read_sequence(sequence->value);
}

void rescue_responses_note(sj_transcript *t, rescue_event *event) {
    place p = place_of(event);
    bool begins = p.act == ACT_ITEM || p.act == ACT_PART;
    if (event->odd || (begins && rescue_piece_of(event, RK_ITEM_BODY)))
        rescue_give_up(t); // also what begins with text in it
    note_head(t, event);
    note_texts(t, event, &p);
    if (p.act == ACT_ITEM)
        note_item(t, event, &p);
    if (p.act == ACT_OTHER)
        rescue_append(t, p.mark, p.item, p.part, rescue_text_of(SJ_SLICE("\"+\"")));
    else if (begins || p.act == ACT_CLOSE || p.act == ACT_WHOLE || p.act == ACT_END)
        (void)rescue_mark(t, p.mark, p.item, p.part);
}

// ---- comparing --------------------------------------------------------------------------------------------------------------

static bool is_same_item(sj_transcript *t, const rescue_event *event, const place *p) {
    for (int i = 0; i < event->count; i++) {
        const rescue_piece *piece = &event->pieces[i];
        bool compared = piece->kind == RK_ITEM_TYPE || piece->kind == RK_ITEM_NAME;
        int at = compared ? rescue_find(t, piece->kind, p->item, -1) : -1;
        bool is_string = piece->value.p[0] == '"';
        if (at >= 0 && is_string && !rescue_text_equals(piece->rest, sj_buffer_slice(&t->entries[at].text)))
            return false;
    }
    int at = rescue_find(t, RK_ITEM_TYPE, p->item, -1);
    if (at >= 0)
        t->entries[at].seen = true;
    return true;
}

// A text said in full must be what its deltas said; where there were none, it is compared here.
static bool is_same_whole(sj_transcript *t, const rescue_event *event, const place *p) {
    int at = rescue_find(t, p->text, p->item, p->part);
    const rescue_piece *whole = rescue_piece_of(event, RK_WHOLE_TEXT);
    if (at < 0 || t->entries[at].matched == t->entries[at].text.n)
        return true;
    rescue_entry *entry = &t->entries[at];
    if (!whole || whole->value.p[0] != '"' || !rescue_text_equals(whole->rest, sj_buffer_slice(&entry->text)))
        return false;
    entry->matched = entry->text.n;
    return true;
}

static bool is_closed(sj_transcript *t, const place *p) {
    return rescue_find(t, p->mark + 1, p->item, p->part) >= 0 ||
           rescue_find(t, RK_EVENT + ROW_ITEM_DONE, p->item, -1) >= 0;
}

static sj_replay_outcome judge_delta(sj_transcript *t, rescue_event *event, const place *p) {
    int i = 0;
    while (event->pieces[i].kind != RK_DELTA_TEXT) // there is one, or this would be no delta
        i++;
    rescue_piece *piece = &event->pieces[i];
    if (!rescue_judge_text(t, piece, p->text))
        return SJ_REPLAY_DIVERGED;
    if (piece->fate == RESCUE_EMPTY)
        return SJ_REPLAY_SWALLOWED;
    return is_closed(t, p) ? SJ_REPLAY_DIVERGED : SJ_REPLAY_EMIT;
}

// One of those that the client has had here already.
static bool is_counted(sj_transcript *t, const place *p) {
    int at = rescue_find(t, p->mark, p->item, p->part);
    if (at < 0 || t->entries[at].matched == t->entries[at].text.n)
        return false;
    t->entries[at].matched++;
    return true;
}

// EMIT: the client does not have this.
static sj_replay_outcome judge_act(sj_transcript *t, rescue_event *event, const place *p) {
    bool known = rescue_find(t, p->mark, p->item, p->part) >= 0;
    switch (p->act) {
    case ACT_ERROR:
        return SJ_REPLAY_SWALLOWED;
    case ACT_START:
        known = t->id.n || t->count;
        break;
    case ACT_ITEM:
        if (known && !is_same_item(t, event, p))
            return SJ_REPLAY_DIVERGED;
        break;
    case ACT_WHOLE:
        if (!is_same_whole(t, event, p))
            return SJ_REPLAY_DIVERGED;
        break;
    case ACT_DELTA:
        return judge_delta(t, event, p);
    case ACT_OTHER:
        known = is_counted(t, p);
        break;
    default:
        break;
    }
    return known ? SJ_REPLAY_SWALLOWED : SJ_REPLAY_EMIT;
}

static void put_entry(sj_transcript *t, rescue_piece *piece, rescue_kind kind) {
    int at = rescue_find(t, kind, piece->choice, -1);
    if (at >= 0)
        rescue_put_original(piece, &t->entries[at].text);
}

static void put_originals(sj_transcript *t, rescue_event *event) {
    const rescue_piece *delta = rescue_piece_of(event, RK_DELTA_TEXT);
    for (int i = 0; i < event->count; i++) {
        rescue_piece *piece = &event->pieces[i];
        if (piece->kind == RK_ID)
            rescue_put_original(piece, &t->id);
        else if (piece->kind == RK_CREATED)
            rescue_put_original(piece, &t->created);
        else if (piece->kind == RK_SEQUENCE && t->sequence >= 0)
            piece->fate = RESCUE_NUMBER;
        else if (piece->kind == RK_ITEM_REF || piece->kind == RK_ITEM_ID)
            put_entry(t, piece, RK_ITEM_ID);
        else if (piece->kind == RK_ITEM_CALL_ID)
            put_entry(t, piece, RK_ITEM_CALL_ID);
        else if (piece->kind == RK_LOGPROBS && delta && delta->fate == RESCUE_REST)
            piece->fate = RESCUE_EMPTY_LIST;
    }
}

sj_replay_outcome rescue_responses_judge(sj_transcript *t, rescue_event *event, bool caught_up) {
    place p = place_of(event);
    if (event->odd && !caught_up)
        return SJ_REPLAY_DIVERGED;
    sj_replay_outcome outcome = judge_act(t, event, &p);
    if (outcome != SJ_REPLAY_EMIT)
        return outcome;
    if (!caught_up && !rescue_is_caught_up(t, -1))
        return p.act == ACT_OTHER ? SJ_REPLAY_SWALLOWED : SJ_REPLAY_DIVERGED;
    put_originals(t, event);
    return SJ_REPLAY_EMIT;
}
