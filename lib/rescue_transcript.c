#include "rescue_internal.h"

#include <stdlib.h>

enum { FIRST_ENTRIES = 4, MAX_ENTRIES = 4096, MAX_HEAD_VALUE = 512 };

sj_transcript *sj_transcript_new(sj_protocol protocol, size_t max_bytes) {
    bool known = protocol == SJ_PROTOCOL_CHAT || protocol == SJ_PROTOCOL_COMPLETIONS ||
                 protocol == SJ_PROTOCOL_RESPONSES;
    sj_transcript *t = known ? calloc(1, sizeof *t) : NULL;
    if (!t)
        return NULL;
    sj_buffer value = sj_buffer_with_max(MAX_HEAD_VALUE);
    *t = (sj_transcript){
        .protocol = protocol,
        .complete = true,
        .max_bytes = max_bytes,
        .sequence = -1,
        .id = value,
        .created = value,
        .model = value,
        .fingerprint = value,
    };
    return t;
}

static void free_entries(sj_transcript *t) {
    for (int i = 0; i < t->count; i++)
        sj_buffer_free(&t->entries[i].text);
    free(t->entries);
    t->entries = NULL;
    t->count = t->room = t->last = 0;
    t->bytes = 0;
}

void sj_transcript_free(sj_transcript **transcript) {
    sj_transcript *t = *transcript;
    if (!t)
        return;
    free_entries(t);
    sj_buffer_free(&t->id);
    sj_buffer_free(&t->created);
    sj_buffer_free(&t->model);
    sj_buffer_free(&t->fingerprint);
    free(t);
    *transcript = NULL;
}

void sj_transcript_event(sj_transcript *t, const sj_sse_event *event) {
    rescue_event read;
    if (!t || !t->complete)
        return;
    if (event->oversize)
        rescue_give_up(t);
    else if (event->has_data && rescue_read(t->protocol, event, &read) && !read.error)
        (t->protocol == SJ_PROTOCOL_RESPONSES ? rescue_responses_note : rescue_chat_note)(t, &read);
    // No replay is under way here that could still need them.
    if (!t->complete)
        free_entries(t);
}

bool sj_transcript_is_complete(const sj_transcript *t) {
    return t && t->complete;
}

size_t sj_transcript_bytes(const sj_transcript *t) {
    return t ? t->bytes : 0;
}

// ---- entries ----------------------------------------------------------------------------------------------------------------

void rescue_give_up(sj_transcript *t) {
    t->complete = false;
}

static bool is_at(const rescue_entry *entry, rescue_kind kind, int choice, int part) {
    return entry->kind == kind && entry->choice == choice && entry->part == part;
}

int rescue_find(sj_transcript *t, rescue_kind kind, int choice, int part) {
    if (t->last < t->count && is_at(&t->entries[t->last], kind, choice, part))
        return t->last;
    for (int i = 0; i < t->count; i++)
        if (is_at(&t->entries[i], kind, choice, part))
            return t->last = i;
    return -1;
}

static bool make_room(sj_transcript *t) {
    if (t->count < t->room)
        return true;
    int room = t->room ? t->room * 2 : FIRST_ENTRIES;
    size_t size = sizeof *t->entries;
    if (room > MAX_ENTRIES || t->bytes + (size_t)(room - t->room) * size > t->max_bytes)
        return false;
    rescue_entry *entries = realloc(t->entries, (size_t)room * size);
    if (!entries)
        return false;
    t->bytes += (size_t)(room - t->room) * size;
    t->entries = entries;
    t->room = room;
    return true;
}

int rescue_mark(sj_transcript *t, rescue_kind kind, int choice, int part) {
    int found = rescue_find(t, kind, choice, part);
    if (found >= 0)
        return found;
    if (!make_room(t)) {
        rescue_give_up(t);
        return -1;
    }
    // What is added while a replay runs came from it.
    t->entries[t->count] = (rescue_entry){.kind = kind, .choice = choice, .part = part, .seen = true};
    return t->last = t->count++;
}

// Lets the entry's text grow up to the transcript's bound and counts what it grew.
static bool grow(sj_transcript *t, rescue_entry *entry, rescue_text text) {
    size_t before = entry->text.n;
    entry->text.max = before + (t->max_bytes - t->bytes);
    bool ok = rescue_text_append(text, &entry->text);
    t->bytes += entry->text.n - before;
    entry->matched = entry->text.n;
    return ok;
}

void rescue_append(sj_transcript *t, rescue_kind kind, int choice, int part, rescue_text text) {
    int at = rescue_mark(t, kind, choice, part);
    if (at >= 0 && !grow(t, &t->entries[at], text))
        rescue_give_up(t);
}

void rescue_repeat(sj_transcript *t, rescue_entry *entry, size_t n) {
    sj_buffer copy = sj_buffer_with_max(n);
    entry->text.max = entry->text.n + (t->max_bytes - t->bytes);
    bool ok = sj_buffer_append(&copy, entry->text.p, n) && sj_buffer_append(&entry->text, copy.p, n);
    if (ok)
        t->bytes += n;
    else
        rescue_give_up(t);
    entry->matched = entry->text.n;
    sj_buffer_free(&copy);
}

void rescue_keep_value(sj_transcript *t, rescue_kind kind, int choice, int part, sj_slice value) {
    int at = rescue_mark(t, kind, choice, part);
    if (at < 0 || t->entries[at].text.n)
        return;
    sj_buffer *text = &t->entries[at].text;
    text->max = t->max_bytes - t->bytes;
    if (!sj_buffer_add(text, value))
        rescue_give_up(t);
    t->bytes += text->n;
}

void rescue_keep_first(sj_transcript *t, sj_buffer *place, sj_slice value) {
    if (place->n)
        return;
    place->max = value.n < MAX_HEAD_VALUE
                     ? value.n
                     : MAX_HEAD_VALUE; // and no byte more: there is one for each open stream
    if (!sj_buffer_add(place, value))
        rescue_give_up(t);
}

bool rescue_is_caught_up(const sj_transcript *t, int choice) {
    for (int i = 0; i < t->count; i++) {
        const rescue_entry *entry = &t->entries[i];
        if (choice >= 0 && entry->choice != choice)
            continue;
        if (!entry->seen || (rescue_is_text(entry->kind) && entry->matched < entry->text.n))
            return false;
    }
    return true;
}
