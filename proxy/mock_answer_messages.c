// Anthropic's Messages, whole and as its sequence of named events; text only.
#include "mock_answer.h"

typedef struct writer {
    const sj_mock_ask *ask;
    const sj_mock_question *question;
    sj_mock_answer *out;
    sj_mock_reply reply;
} writer;

static const char *stop_reason(const writer *w) {
    return w->reply.cut_short ? "max_tokens" : "end_turn";
}

// The message up to its content, which follows.
static bool write_head(const writer *w, sj_buffer *out) {
    return sj_buffer_printf(
        out,
        "{\"id\":\"msg_mock_%llu\",\"type\":\"message\",\"role\":\"assistant\",\"model\":%s,"
        "\"stop_sequence\":null,\"content\":[",
        (unsigned long long)w->ask->number, w->question->model);
}

static bool write_whole(writer *w) {
    sj_buffer *body = &w->out->body;
    w->out->content_type = "application/json";
    return write_head(w, body) && sj_buffer_text(body, "{\"type\":\"text\",\"text\":") &&
           sj_json_encode_string(sj_buffer_slice(&w->reply.text), body) &&
           sj_buffer_printf(
               body, "}],\"stop_reason\":\"%s\",\"usage\":{\"input_tokens\":%zu,\"output_tokens\":%zu}}",
               stop_reason(w), w->question->prompt_tokens, w->reply.tokens) &&
           sj_mock_answer_piece(w->out);
}

static bool begin_event(writer *w, const char *type) {
    return sj_buffer_printf(&w->out->body, "event: %s\ndata: {\"type\":\"%s\"", type, type);
}

static bool end_event(writer *w) {
    return sj_buffer_text(&w->out->body, "}\n\n") && sj_mock_answer_piece(w->out);
}

static bool event(writer *w, const char *type, const char *members) {
    return begin_event(w, type) && sj_buffer_text(&w->out->body, members) && end_event(w);
}

static bool write_start(writer *w) {
    sj_buffer *body = &w->out->body;
    return begin_event(w, "message_start") && sj_buffer_text(body, ",\"message\":") && write_head(w, body) &&
           sj_buffer_printf(body,
                            "],\"stop_reason\":null,\"usage\":{\"input_tokens\":%zu,\"output_tokens\":1}}",
                            w->question->prompt_tokens) &&
           end_event(w) &&
           event(w, "content_block_start",
                 ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}") &&
           event(w, "ping", "");
}

static bool write_deltas(writer *w) {
    sj_slice rest = sj_buffer_slice(&w->reply.text), token;
    while (sj_mock_reply_token(&rest, &token)) {
        if (!begin_event(w, "content_block_delta") ||
            !sj_buffer_text(&w->out->body, ",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":") ||
            !sj_json_encode_string(token, &w->out->body) || !sj_buffer_text(&w->out->body, "}") ||
            !end_event(w))
            return false;
    }
    return true;
}

static bool write_stream(writer *w) {
    w->out->stream = true;
    w->out->content_type = "text/event-stream; charset=utf-8";
    return write_start(w) && write_deltas(w) && event(w, "content_block_stop", ",\"index\":0") &&
           begin_event(w, "message_delta") &&
           sj_buffer_printf(
               &w->out->body,
               ",\"delta\":{\"stop_reason\":\"%s\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":%zu}",
               stop_reason(w), w->reply.tokens) &&
           end_event(w) && event(w, "message_stop", "");
}

bool sj_mock_answer_messages(const sj_mock_ask *ask, const sj_mock_question *question, sj_mock_answer *out) {
    writer w = {.ask = ask, .question = question, .out = out};
    if (!sj_mock_reply_write(question, 0, &w.reply))
        return false;
    out->dialect = SJ_MOCK_MESSAGES;
    bool ok = question->stream ? write_stream(&w) : write_whole(&w);
    sj_buffer_free(&w.reply.text);
    return ok;
}
