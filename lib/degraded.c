#include "degraded.h"

#include "json_span.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

// An answer being written: the first failure makes the rest do nothing.
typedef struct writer {
    const sj_degraded_answer *answer;
    const char *text, *model; // as JSON strings
    char id[20];
    sj_buffer *out;
    int sequence; // of the events of responses
    bool ok;
} writer;

__attribute__((format(printf, 2, 3))) static void put(writer *w, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    w->ok = w->ok && n >= 0 && sj_buffer_reserve(w->out, (size_t)n + 1); // with vsnprintf's NUL
    if (w->ok) {
        (void)vsnprintf(w->out->p + w->out->n, (size_t)n + 1, format, again);
        w->out->n += (size_t)n;
    }
    va_end(again);
}

// ---- chat completions and completions -------------------------------------------------------------------

typedef struct shape {
    const char *id_prefix, *object;
    // A choice around the text; in a stream also around what opens and what closes it.
    const char *before, *after, *opening, *closing;
} shape;

static const shape whole_chat = {"chatcmpl",
                                 "chat.completion",
                                 "\"message\":{\"role\":\"assistant\",\"content\":",
                                 ",\"refusal\":null}",
                                 NULL,
                                 NULL};
static const shape whole_text = {"cmpl", "text_completion", "\"text\":", "", NULL, NULL};
static const shape chat_chunks = {"chatcmpl",
                                  "chat.completion.chunk",
                                  "\"delta\":{\"content\":",
                                  "}",
                                  "\"delta\":{\"role\":\"assistant\",\"content\":\"\"}",
                                  "\"delta\":{}"};
static const shape text_chunks = {"cmpl", "text_completion", "\"text\":", "", NULL, "\"text\":\"\""};

static const char no_tokens[] = "{\"prompt_tokens\":0,\"completion_tokens\":0,\"total_tokens\":0}";

static void answer_head(writer *w, const shape *s) {
    put(w, "{\"id\":\"%s-%s\",\"object\":\"%s\",\"created\":%" PRId64 ",\"model\":%s,\"choices\":[",
        s->id_prefix, w->id, s->object, w->answer->unix_s, w->model);
}

static void whole_choices(writer *w, const shape *s) {
    answer_head(w, s);
    for (int i = 0; i < w->answer->wish.choices; i++)
        put(w, "%s{\"index\":%d,%s%s%s,\"logprobs\":null,\"finish_reason\":\"stop\"}", i ? "," : "", i,
            s->before, w->text, s->after);
    put(w, "],\"usage\":%s}", no_tokens);
}

static void chunks(writer *w, const shape *s, const char *before, const char *text, const char *after,
                   const char *finish) {
    const char *usage = w->answer->wish.include_usage ? ",\"usage\":null" : "";
    for (int i = 0; i < w->answer->wish.choices; i++) {
        put(w, "data: ");
        answer_head(w, s);
        put(w, "{\"index\":%d,%s%s%s,\"logprobs\":null,\"finish_reason\":%s}]%s}\n\n", i, before, text, after,
            finish, usage);
    }
}

static void streamed_choices(writer *w, const shape *s) {
    if (s->opening)
        chunks(w, s, s->opening, "", "", "null");
    chunks(w, s, s->before, w->text, s->after, "null");
    chunks(w, s, s->closing, "", "", "\"stop\"");
    if (w->answer->wish.include_usage) {
        put(w, "data: ");
        answer_head(w, s);
        put(w, "],\"usage\":%s}\n\n", no_tokens);
    }
    put(w, "data: [DONE]\n\n");
}

static void chat(writer *w) {
    if (w->answer->wish.stream)
        streamed_choices(w, &chat_chunks);
    else
        whole_choices(w, &whole_chat);
}

static void completions(writer *w) {
    if (w->answer->wish.stream)
        streamed_choices(w, &text_chunks);
    else
        whole_choices(w, &whole_text);
}

// ---- responses ------------------------------------------------------------------------------------------

static void part(writer *w, const char *text) {
    put(w, "{\"type\":\"output_text\",\"text\":%s,\"annotations\":[],\"logprobs\":[]}", text);
}

static void item(writer *w, bool done) {
    put(w, "{\"id\":\"msg_%s\",\"type\":\"message\",\"role\":\"assistant\",\"status\":\"%s\",\"content\":[",
        w->id, done ? "completed" : "in_progress");
    if (done)
        part(w, w->text);
    put(w, "]}");
}

static void response(writer *w, bool done) {
    put(w,
        "{\"id\":\"resp_%s\",\"object\":\"response\",\"created_at\":%" PRId64
        ",\"status\":\"%s\",\"error\":null,"
        "\"incomplete_details\":null,\"instructions\":null,\"metadata\":{},\"model\":%s,\"parallel_tool_"
        "calls\":true,"
        "\"temperature\":null,\"top_p\":null,\"tool_choice\":\"auto\",\"tools\":[],\"output\":[",
        w->id, w->answer->unix_s, done ? "completed" : "in_progress", w->model);
    if (done)
        item(w, true);
    put(w, "],\"usage\":%s}",
        done ? "{\"input_tokens\":0,\"input_tokens_details\":{\"cached_tokens\":0},\"output_tokens\":0,"
               "\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":0}"
             : "null");
}

static void response_event(writer *w, const char *name) {
    put(w, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%d,", name, name, w->sequence++);
}

static void whole_response_event(writer *w, const char *name, bool done) {
    response_event(w, name);
    put(w, "\"response\":");
    response(w, done);
    put(w, "}\n\n");
}

static void item_event(writer *w, const char *name, bool done) {
    response_event(w, name);
    put(w, "\"output_index\":0,\"item\":");
    item(w, done);
    put(w, "}\n\n");
}

static void part_event(writer *w, const char *name) {
    response_event(w, name);
    put(w, "\"item_id\":\"msg_%s\",\"output_index\":0,\"content_index\":0,", w->id);
}

static void responses(writer *w) {
    if (!w->answer->wish.stream) {
        response(w, true);
        return;
    }
    whole_response_event(w, "response.created", false);
    whole_response_event(w, "response.in_progress", false);
    item_event(w, "response.output_item.added", false);
    part_event(w, "response.content_part.added");
    put(w, "\"part\":");
    part(w, "\"\"");
    put(w, "}\n\n");
    part_event(w, "response.output_text.delta");
    put(w, "\"delta\":%s,\"logprobs\":[]}\n\n", w->text);
    part_event(w, "response.output_text.done");
    put(w, "\"text\":%s,\"logprobs\":[]}\n\n", w->text);
    part_event(w, "response.content_part.done");
    put(w, "\"part\":");
    part(w, w->text);
    put(w, "}\n\n");
    item_event(w, "response.output_item.done", true);
    whole_response_event(w, "response.completed", true);
}

// ---- messages -------------------------------------------------------------------------------------------

static void message(writer *w, bool done) {
    put(w, "{\"id\":\"msg_%s\",\"type\":\"message\",\"role\":\"assistant\",\"model\":%s,\"content\":[", w->id,
        w->model);
    if (done)
        put(w, "{\"type\":\"text\",\"text\":%s}", w->text);
    put(w, "],\"stop_reason\":%s,\"stop_sequence\":null,\"usage\":{\"input_tokens\":0,\"output_tokens\":0}}",
        done ? "\"end_turn\"" : "null");
}

static void messages(writer *w) {
    if (!w->answer->wish.stream) {
        message(w, true);
        return;
    }
    put(w, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":");
    message(w, false);
    put(w,
        "}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,"
        "\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n"
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,"
        "\"delta\":{\"type\":\"text_delta\",\"text\":%s}}\n\n"
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n"
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\","
        "\"stop_sequence\":null},\"usage\":{\"output_tokens\":0}}\n\n"
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        w->text);
}

// ---- all ------------------------------------------------------------------------------------------------

typedef void write_answer(writer *w);

static write_answer *writer_of(sj_protocol protocol) {
    static write_answer *const writers[] = {
        [SJ_PROTOCOL_CHAT] = chat,
        [SJ_PROTOCOL_COMPLETIONS] = completions,
        [SJ_PROTOCOL_RESPONSES] = responses,
        [SJ_PROTOCOL_MESSAGES] = messages,
    };
    return (size_t)protocol < sizeof writers / sizeof writers[0] ? writers[protocol] : NULL;
}

static bool no_member(void *context, sj_slice key, sj_slice value) {
    (void)context;
    (void)key;
    (void)value;
    return true;
}

bool sj_degraded_fits(sj_protocol protocol, const sj_degraded_wish *wish, const char *text) {
    if (!writer_of(protocol) || wish->wants_call)
        return false;
    return !wish->wants_json || sj_json_walk_object(sj_slice_of(text), no_member, NULL);
}

static bool encode(const char *text, sj_buffer *out) {
    return sj_json_encode_string(sj_slice_of(text), out) && sj_buffer_append(out, "", 1);
}

bool sj_degraded_build(const sj_degraded_answer *answer, sj_buffer *out) {
    write_answer *write = writer_of(answer->protocol);
    size_t start = out->n;
    sj_buffer text = sj_buffer_with_max(SJ_DEGRADED_MAX_BYTES), model = sj_buffer_with_max(16 * 1024);
    bool ok = write && encode(answer->text, &text) && encode(answer->model, &model);
    if (ok) {
        writer w = {.answer = answer, .text = text.p, .model = model.p, .out = out, .ok = true};
        (void)snprintf(w.id, sizeof w.id, "%016" PRIx64, answer->id);
        write(&w);
        ok = w.ok;
    }
    if (!ok)
        out->n = start;
    sj_buffer_free(&text);
    sj_buffer_free(&model);
    return ok;
}
