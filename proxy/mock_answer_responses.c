// The Responses API, whole and as its sequence of named events.
#include "mock_answer.h"

typedef struct writer {
    const sj_mock_ask *ask;
    const sj_mock_question *question;
    sj_mock_answer *out;
    sj_mock_reply reply;
    sj_buffer arguments; // of the tool call
    int sequence;
} writer;

static sj_slice payload(const writer *w) {
    return sj_buffer_slice(w->question->tool ? &w->arguments : &w->reply.text);
}

static bool write_part(sj_slice text, sj_buffer *out) {
    return sj_buffer_text(out, "{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":") &&
           sj_json_encode_string(text, out) && sj_buffer_text(out, "}");
}

// The one output item; text empty while in progress.
static bool write_item(const writer *w, bool done, sj_buffer *out) {
    unsigned long long number = (unsigned long long)w->ask->number;
    const char *status = done ? "completed" : "in_progress";
    sj_slice text = done ? payload(w) : (sj_slice){"", 0};
    if (w->question->tool)
        return sj_buffer_printf(out,
                                "{\"id\":\"fc_mock_%llu\",\"type\":\"function_call\",\"status\":\"%s\","
                                "\"call_id\":\"call_mock_%llu\",\"name\":",
                                number, status, number) &&
               sj_json_encode_string(sj_slice_of(w->question->tool), out) &&
               sj_buffer_text(out, ",\"arguments\":") && sj_json_encode_string(text, out) &&
               sj_buffer_text(out, "}");
    return sj_buffer_printf(out,
                            "{\"id\":\"msg_mock_%llu\",\"type\":\"message\",\"status\":\"%s\","
                            "\"role\":\"assistant\",\"content\":[",
                            number, status) &&
           (!done || write_part(text, out)) && sj_buffer_text(out, "]}");
}

static bool write_usage(const writer *w, sj_buffer *out) {
    size_t prompt = w->question->prompt_tokens;
    return sj_buffer_printf(out,
                            "{\"input_tokens\":%zu,\"input_tokens_details\":{\"cached_tokens\":0},"
                            "\"output_tokens\":%zu,\"output_tokens_details\":{\"reasoning_tokens\":0},"
                            "\"total_tokens\":%zu}",
                            prompt, w->reply.tokens, prompt + w->reply.tokens);
}

static bool write_response(const writer *w, bool done, sj_buffer *out) {
    bool short_one = done && w->reply.cut_short;
    bool ok =
        sj_buffer_printf(out,
                         "{\"id\":\"resp_mock_%llu\",\"object\":\"response\",\"created_at\":%lld,"
                         "\"status\":\"%s\",\"error\":null,\"incomplete_details\":%s,\"instructions\":null,"
                         "\"max_output_tokens\":null,\"metadata\":{},\"model\":%s,\"output\":[",
                         (unsigned long long)w->ask->number, (long long)w->ask->created_s,
                         short_one ? "incomplete"
                         : done    ? "completed"
                                   : "in_progress",
                         short_one ? "{\"reason\":\"max_output_tokens\"}" : "null", w->question->model) &&
        (!done || write_item(w, true, out)) &&
        sj_buffer_text(out, "],\"parallel_tool_calls\":true,\"previous_response_id\":null,\"store\":true,"
                            "\"temperature\":1.0,\"text\":{\"format\":{\"type\":\"text\"}},"
                            "\"tool_choice\":\"auto\",\"tools\":[],\"top_p\":1.0,\"truncation\":\"disabled\","
                            "\"usage\":");
    return ok && (done ? write_usage(w, out) : sj_buffer_text(out, "null")) && sj_buffer_text(out, "}");
}

// ---- events -------------------------------------------------------------------------------------

static bool begin_event(writer *w, const char *type) {
    return sj_buffer_printf(&w->out->body, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%d", type,
                            type, w->sequence++);
}

static bool end_event(writer *w) {
    return sj_buffer_text(&w->out->body, "}\n\n") && sj_mock_answer_piece(w->out);
}

static bool response_event(writer *w, const char *type, bool done) {
    return begin_event(w, type) && sj_buffer_text(&w->out->body, ",\"response\":") &&
           write_response(w, done, &w->out->body) && end_event(w);
}

static bool item_event(writer *w, const char *type, bool done) {
    return begin_event(w, type) && sj_buffer_text(&w->out->body, ",\"output_index\":0,\"item\":") &&
           write_item(w, done, &w->out->body) && end_event(w);
}

// An event about the item's inside: where it is, then one more member.
static bool inner_event(writer *w, const char *type, const char *name, sj_slice text, bool as_part) {
    sj_buffer *body = &w->out->body;
    bool tool = w->question->tool != NULL;
    return begin_event(w, type) &&
           sj_buffer_printf(body,
                            ",\"item_id\":\"%s_mock_%llu\",\"output_index\":0%s,\"%s\":", tool ? "fc" : "msg",
                            (unsigned long long)w->ask->number, tool ? "" : ",\"content_index\":0", name) &&
           (as_part ? write_part(text, body) : sj_json_encode_string(text, body)) &&
           (tool || as_part || sj_buffer_text(body, ",\"logprobs\":[]")) && end_event(w);
}

static bool write_deltas(writer *w) {
    const char *type =
        w->question->tool ? "response.function_call_arguments.delta" : "response.output_text.delta";
    sj_slice rest = payload(w), token;
    while (sj_mock_reply_token(&rest, &token)) {
        if (!inner_event(w, type, "delta", token, false))
            return false;
    }
    return true;
}

static bool write_content(writer *w) {
    sj_slice nothing = {"", 0};
    if (w->question->tool)
        return write_deltas(w) &&
               inner_event(w, "response.function_call_arguments.done", "arguments", payload(w), false);
    return inner_event(w, "response.content_part.added", "part", nothing, true) && write_deltas(w) &&
           inner_event(w, "response.output_text.done", "text", payload(w), false) &&
           inner_event(w, "response.content_part.done", "part", payload(w), true);
}

static bool write_stream(writer *w) {
    w->out->stream = true;
    w->out->content_type = "text/event-stream; charset=utf-8";
    return response_event(w, "response.created", false) && response_event(w, "response.in_progress", false) &&
           item_event(w, "response.output_item.added", false) && write_content(w) &&
           item_event(w, "response.output_item.done", true) &&
           response_event(w, w->reply.cut_short ? "response.incomplete" : "response.completed", true);
}

bool sj_mock_answer_responses(const sj_mock_ask *ask, const sj_mock_question *question, sj_mock_answer *out) {
    writer w = {.ask = ask, .question = question, .out = out, .arguments = sj_buffer_with_max(out->body.max)};
    if (!sj_mock_reply_write(question, 0, &w.reply))
        return false;
    bool ok = sj_buffer_text(&w.arguments, "{\"text\":") &&
              sj_json_encode_string(sj_buffer_slice(&w.reply.text), &w.arguments) &&
              sj_buffer_text(&w.arguments, "}");
    out->content_type = "application/json";
    out->dialect = SJ_MOCK_RESPONSES;
    if (ok && question->stream)
        ok = write_stream(&w);
    else
        ok = ok && write_response(&w, true, &out->body) && sj_mock_answer_piece(out);
    sj_buffer_free(&w.arguments);
    sj_buffer_free(&w.reply.text);
    return ok;
}
