#include "rescue_internal.h"

// ---- shared with responses --------------------------------------------------------------------------------------------------

bool rescue_judge_text(sj_transcript *t, rescue_piece *piece, rescue_kind kind) {
    int at = rescue_find(t, kind, piece->choice, piece->part);
    if (at < 0)
        return true;
    rescue_entry *entry = &t->entries[at];
    const char *start = piece->value.p + 1;
    rescue_match match = rescue_text_compare(&piece->rest, sj_buffer_slice(&entry->text), &entry->matched);
    if (match == RESCUE_BEYOND && (piece->rest.at > start || piece->rest.low))
        piece->fate = RESCUE_REST;
    else if (match == RESCUE_SAME)
        piece->fate = RESCUE_EMPTY;
    return match != RESCUE_OTHER;
}

void rescue_put_original(rescue_piece *piece, const sj_buffer *original) {
    piece->original = sj_buffer_slice(original);
    if (original->n && !sj_slice_equal(piece->original, piece->value))
        piece->fate = RESCUE_ORIGINAL;
}

// ---- taking in --------------------------------------------------------------------------------------------------------------

// Some servers send the name with each fragment of the arguments.
static bool repeats_name(sj_transcript *t, const rescue_piece *piece) {
    int at = piece->kind == RK_TOOL_NAME ? rescue_find(t, RK_TOOL_NAME, piece->choice, piece->part) : -1;
    const rescue_entry *entry = at >= 0 ? &t->entries[at] : NULL;
    return entry && entry->matched &&
           rescue_text_equals(piece->rest, (sj_slice){entry->text.p, entry->matched});
}

static uint64_t hash(sj_slice value) { // FNV-1a
    uint64_t sum = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < value.n; i++)
        sum = (sum ^ (unsigned char)value.p[i]) * UINT64_C(0x100000001b3);
    return sum | 1;
}

// Another id at the same index is another call, which cannot be told apart from the first.
static void note_tool_id(sj_transcript *t, const rescue_piece *piece) {
    int at = rescue_find(t, RK_TOOL_ID, piece->choice, piece->part);
    if (at >= 0 && !sj_slice_equal(sj_buffer_slice(&t->entries[at].text), piece->value))
        rescue_give_up(t);
    rescue_keep_value(t, RK_TOOL_ID, piece->choice, piece->part, piece->value);
    at = rescue_find(t, RK_TOOL_ID, piece->choice, piece->part);
    if (at >= 0)
        t->entries[at].known_as = hash(piece->value);
}

static void note_piece(sj_transcript *t, const rescue_piece *piece) {
    bool has_rest = piece->fate == RESCUE_KEEP || piece->fate == RESCUE_REST;
    if (rescue_is_text(piece->kind) && has_rest && !repeats_name(t, piece))
        rescue_append(t, piece->kind, piece->choice, piece->part, piece->rest);
    if (piece->fate != RESCUE_KEEP)
        return;
    if (piece->kind == RK_TOOL_ID)
        note_tool_id(t, piece);
    else if (piece->kind == RK_ROLE || piece->kind == RK_FINISH || piece->kind == RK_TOOL_TYPE)
        (void)rescue_mark(t, piece->kind, piece->choice, piece->part);
}

void rescue_chat_note(sj_transcript *t, rescue_event *event) {
    static const struct {
        rescue_kind kind;
        size_t place;
    } firsts[] = {
        {RK_ID, offsetof(sj_transcript, id)},
        {RK_CREATED, offsetof(sj_transcript, created)},
        {RK_MODEL, offsetof(sj_transcript, model)},
        {RK_FINGERPRINT, offsetof(sj_transcript, fingerprint)},
    };
    if (event->odd)
        rescue_give_up(t);
    for (int i = 0; i < event->count; i++) {
        const rescue_piece *piece = &event->pieces[i];
        for (size_t j = 0; j < sizeof firsts / sizeof *firsts; j++)
            if (piece->kind == firsts[j].kind)
                rescue_keep_first(t, (sj_buffer *)(void *)((char *)t + firsts[j].place), piece->value);
        note_piece(t, piece);
    }
}

// ---- comparing --------------------------------------------------------------------------------------------------------------

static bool knows_any(const sj_transcript *t, int choice, int part) {
    for (int i = 0; i < t->count; i++)
        if (t->entries[i].choice == choice && (part < 0 || t->entries[i].part == part))
            return true;
    return false;
}

// The id that the client has of a call stays. False: this stream uses the index of one call for another before it has caught up.
static bool judge_tool_id(sj_transcript *t, rescue_piece *piece, bool caught_up) {
    int at = rescue_find(t, RK_TOOL_ID, piece->choice, piece->part);
    if (at < 0)
        return true;
    rescue_entry *entry = &t->entries[at];
    if (!entry->known_as)
        entry->known_as = hash(piece->value);
    if (entry->known_as == hash(piece->value))
        piece->fate = RESCUE_CUT;
    return piece->fate == RESCUE_CUT || caught_up;
}

static bool judge_chat_text(sj_transcript *t, rescue_piece *piece) {
    bool repeated = repeats_name(t, piece);
    if (!repeated && !rescue_judge_text(t, piece, piece->kind))
        return false;
    if (piece->kind == RK_TOOL_NAME && (repeated || piece->fate == RESCUE_EMPTY))
        piece->fate = RESCUE_CUT;
    return true;
}

static bool judge_piece(sj_transcript *t, rescue_piece *piece, bool caught_up) {
    switch (piece->kind) {
    case RK_ID:
        rescue_put_original(piece, &t->id);
        return true;
    case RK_CREATED:
        rescue_put_original(piece, &t->created);
        return true;
    case RK_ROLE:
        if (knows_any(t, piece->choice, -1))
            piece->fate = RESCUE_CUT;
        return true;
    case RK_TOOL_TYPE:
        if (knows_any(t, piece->choice, piece->part))
            piece->fate = RESCUE_CUT;
        return true;
    case RK_TOOL_ID:
        return judge_tool_id(t, piece, caught_up);
    case RK_FINISH:
        if (rescue_find(t, RK_FINISH, piece->choice, -1) >= 0)
            piece->fate = RESCUE_NULL;
        return true;
    default:
        return !rescue_is_text(piece->kind) || judge_chat_text(t, piece);
    }
}

// What an event says of one choice.
typedef struct summary {
    bool fresh; // something that the client does not have
    bool text; // and that is text
    bool known; // something that it has
} summary;

static summary summarise(const rescue_event *event, int choice) {
    summary s = {0};
    for (int i = 0; i < event->count; i++) {
        const rescue_piece *piece = &event->pieces[i];
        bool kept = piece->fate == RESCUE_KEEP || piece->fate == RESCUE_REST;
        if (piece->choice != choice)
            continue;
        s.known |= piece->fate != RESCUE_KEEP && piece->kind != RK_ID && piece->kind != RK_CREATED;
        s.text |= rescue_is_text(piece->kind) && kept;
        s.fresh |= (piece->kind == RK_FINISH || piece->kind == RK_ROLE || piece->kind == RK_TOOL_ID) && kept;
    }
    s.fresh |= s.text;
    return s;
}

// Of a choice of which only a part goes on: what belongs to the other part does not.
static void drop_companions(rescue_event *event, int choice) {
    bool partial = false;
    for (int i = 0; i < event->count; i++) {
        rescue_fate fate = event->pieces[i].fate;
        bool is_text = rescue_is_text(event->pieces[i].kind) && event->pieces[i].choice == choice;
        partial |= is_text && (fate == RESCUE_EMPTY || fate == RESCUE_REST);
    }
    for (int i = 0; partial && i < event->count; i++) {
        rescue_piece *piece = &event->pieces[i];
        if (piece->choice == choice && piece->kind == RK_COMPANION)
            piece->fate = RESCUE_CUT;
        else if (piece->choice == choice && piece->kind == RK_LOGPROBS)
            piece->fate = RESCUE_NULL;
    }
}

sj_replay_outcome rescue_chat_judge(sj_transcript *t, rescue_event *event, bool caught_up) {
    if (event->odd && !caught_up)
        return SJ_REPLAY_DIVERGED;
    for (int i = 0; i < event->count; i++)
        if (!judge_piece(t, &event->pieces[i], caught_up))
            return SJ_REPLAY_DIVERGED;
    bool fresh = false, known = false;
    for (int i = 0; i < event->count; i++) {
        int choice = event->pieces[i].choice;
        if (choice < 0 || (i > 0 && event->pieces[i - 1].choice == choice))
            continue;
        summary s = summarise(event, choice);
        bool finished = rescue_find(t, RK_FINISH, choice, -1) >= 0;
        if ((s.fresh && !caught_up && !rescue_is_caught_up(t, choice)) || (s.text && finished))
            return SJ_REPLAY_DIVERGED;
        fresh |= s.fresh;
        known |= s.known;
        drop_companions(event, choice);
    }
    return fresh || (caught_up && !known) ? SJ_REPLAY_EMIT : SJ_REPLAY_SWALLOWED;
}
