#include "rescue_internal.h"

#include <stdlib.h>

// OUT_SLACK: what an event may grow by when ids are put back.
enum { OUT_SLACK = 256 * 1024, KEEP_BYTES = 64 * 1024, MAX_HELD_ECHO = 256 * 1024 };

struct sj_replay {
    sj_transcript *transcript; // borrowed
    bool begun, caught_up, diverged;
    // Of a continuation:
    bool echoing; // it may be saying the partial text once more
    size_t echoed; // so far
    sj_buffer held; // the events that said so
    bool trimming; // white space that the request left out may come now
    size_t trimmed; // so far, counted from the start of the text
    sj_buffer out;
};

sj_replay *sj_replay_new(sj_transcript *t, sj_replay_mode mode) {
    sj_replay *replay = sj_transcript_is_complete(t) ? calloc(1, sizeof *replay) : NULL;
    if (!replay)
        return NULL;
    bool again = mode == SJ_REPLAY_AGAIN;
    for (int i = 0; i < t->count; i++) {
        rescue_entry *entry = &t->entries[i];
        entry->matched = again ? 0 : entry->text.n;
        entry->seen = !again || entry->kind != RK_ITEM_TYPE;
        entry->known_as = 0;
    }
    *replay = (sj_replay){
        .transcript = t,
        .caught_up = rescue_is_caught_up(t, -1),
        .echoing = !again && rescue_partial_text(t),
        .held = sj_buffer_with_max(MAX_HELD_ECHO),
    };
    return replay;
}

void sj_replay_free(sj_replay **replay) {
    if (!*replay)
        return;
    sj_buffer_free(&(*replay)->held);
    sj_buffer_free(&(*replay)->out);
    free(*replay);
    *replay = NULL;
}

bool sj_replay_has_caught_up(const sj_replay *replay) {
    return replay->caught_up && !replay->diverged;
}

// ---- the echo of a continuation ---------------------------------------------------------------------------------------------

static rescue_piece *find_text(rescue_event *event, const rescue_entry *partial) {
    for (int i = 0; i < event->count; i++) {
        rescue_piece *piece = &event->pieces[i];
        if (piece->kind == partial->kind && piece->choice == partial->choice)
            return piece;
    }
    return NULL;
}

static void end_echo(sj_replay *replay, const rescue_entry *partial) {
    replay->echoing = false;
    replay->trimmed = rescue_sent_length(replay->transcript, partial);
    replay->trimming = replay->trimmed < partial->text.n;
    sj_buffer_free(&replay->held);
}

// What was held is no echo: it goes to the client before all else, and is part of the transcript from here on.
static bool release_held(sj_replay *replay) {
    rescue_entry *partial = replay->echoing ? rescue_partial_text(replay->transcript) : NULL;
    if (!partial)
        return true;
    bool ok = sj_buffer_add(&replay->out, sj_buffer_slice(&replay->held));
    size_t echoed = replay->echoed;
    end_echo(replay, partial);
    replay->trimming &= echoed == 0;
    rescue_repeat(replay->transcript, partial, echoed);
    return ok;
}

typedef enum hearing {
    HEARD_NOTHING, // the event goes on, with what is left in its text
    HEARD_ECHO, // to be held
    HEARD_TOO_MUCH,
} hearing;

static hearing hear_text(sj_replay *replay, rescue_piece *piece, const rescue_entry *partial) {
    sj_slice sent = {partial->text.p, rescue_sent_length(replay->transcript, partial)};
    rescue_text start = piece->rest;
    size_t before = replay->echoed;
    rescue_match match = rescue_text_compare(&piece->rest, sent, &replay->echoed);
    if (match != RESCUE_OTHER && replay->echoed == sent.n) {
        end_echo(replay, partial);
        return HEARD_NOTHING;
    }
    piece->rest = start; // held or not, it is new until it turns out to be echo
    if (match != RESCUE_OTHER)
        return HEARD_ECHO;
    replay->echoed = before;
    return release_held(replay) ? HEARD_NOTHING : HEARD_TOO_MUCH;
}

static hearing hear(sj_replay *replay, rescue_event *event) {
    rescue_entry *partial = rescue_partial_text(replay->transcript);
    if (!partial || (!replay->echoing && !replay->trimming))
        return HEARD_NOTHING;
    rescue_piece *piece = find_text(event, partial);
    hearing heard = HEARD_NOTHING;
    if (replay->echoing && piece)
        heard = hear_text(replay, piece, partial);
    else if (replay->echoing && rescue_piece_of(event, RK_FINISH))
        heard = release_held(replay) ? HEARD_NOTHING : HEARD_TOO_MUCH;
    if (heard == HEARD_NOTHING && replay->trimming && piece) {
        rescue_match match =
            rescue_text_compare(&piece->rest, sj_buffer_slice(&partial->text), &replay->trimmed);
        replay->trimming = match == RESCUE_SAME && replay->trimmed < partial->text.n;
    }
    return heard;
}

// ---- events -----------------------------------------------------------------------------------------------------------------

// What was released before it goes first.
static sj_replay_outcome pass(sj_replay *replay, sj_slice raw, sj_slice *bytes) {
    *bytes = raw;
    if (replay->out.n == 0)
        return SJ_REPLAY_EMIT;
    bool ok = sj_buffer_add(&replay->out, raw);
    *bytes = sj_buffer_slice(&replay->out);
    return ok ? SJ_REPLAY_EMIT : SJ_REPLAY_DIVERGED;
}

static sj_replay_outcome take_json(sj_replay *replay, const sj_sse_event *raw, rescue_event *event,
                                   sj_slice *bytes) {
    sj_transcript *t = replay->transcript;
    bool typed = t->protocol == SJ_PROTOCOL_RESPONSES;
    hearing heard = hear(replay, event);
    if (heard == HEARD_TOO_MUCH)
        return SJ_REPLAY_DIVERGED;
    sj_replay_outcome outcome =
        (typed ? rescue_responses_judge : rescue_chat_judge)(t, event, replay->caught_up);
    if (outcome != SJ_REPLAY_EMIT)
        return outcome;
    if (heard == HEARD_ECHO)
        return rescue_write_event(t, raw, event, &replay->held) ? SJ_REPLAY_SWALLOWED : SJ_REPLAY_DIVERGED;
    if (rescue_is_unchanged(t, event))
        outcome = pass(replay, raw->raw, bytes);
    else if (rescue_write_event(t, raw, event, &replay->out))
        *bytes = sj_buffer_slice(&replay->out);
    else
        return SJ_REPLAY_DIVERGED;
    (typed ? rescue_responses_note : rescue_chat_note)(t, event);
    return outcome;
}

static sj_replay_outcome take_event(sj_replay *replay, const sj_sse_event *raw, sj_slice *bytes) {
    rescue_event event;
    if (raw->oversize && !replay->caught_up)
        return SJ_REPLAY_DIVERGED;
    if (raw->oversize)
        rescue_give_up(replay->transcript);
    if (raw->oversize || !raw->has_data)
        return pass(replay, raw->raw, bytes);
    if (sj_slice_starts(sj_slice_trim(raw->data), SJ_SLICE("[DONE]"))) {
        bool ok = replay->caught_up && release_held(replay);
        return ok ? pass(replay, raw->raw, bytes) : SJ_REPLAY_DIVERGED;
    }
    if (!rescue_read(replay->transcript->protocol, raw, &event) || event.error)
        return SJ_REPLAY_SWALLOWED;
    return take_json(replay, raw, &event, bytes);
}

// A byte order mark begins a stream, but the client is in the middle of one.
static sj_sse_event without_mark(const sj_sse_event *event, bool first) {
    sj_sse_event same = *event;
    if (first && sj_slice_starts(event->raw, SJ_SLICE("\xef\xbb\xbf")))
        same.raw = sj_slice_from(event->raw, 3);
    return same;
}

sj_replay_outcome sj_replay_event(sj_replay *replay, const sj_sse_event *event, sj_slice *bytes) {
    *bytes = (sj_slice){NULL, 0};
    if (replay->diverged)
        return SJ_REPLAY_DIVERGED;
    sj_sse_event raw = without_mark(event, !replay->begun);
    replay->begun = true;
    if (replay->out.cap > KEEP_BYTES)
        sj_buffer_free(&replay->out);
    sj_buffer_clear(&replay->out);
    replay->out.max = event->raw.n + event->data.n + MAX_HELD_ECHO + OUT_SLACK;
    sj_replay_outcome outcome = take_event(replay, &raw, bytes);
    replay->diverged = outcome == SJ_REPLAY_DIVERGED;
    if (outcome != SJ_REPLAY_EMIT)
        *bytes = (sj_slice){NULL, 0};
    if (!replay->caught_up)
        replay->caught_up = rescue_is_caught_up(replay->transcript, -1);
    return outcome;
}
