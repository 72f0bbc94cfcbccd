// chat/completions and completions: their answers differ in a few names only, which stand in a `shape`.
#include "mock_answer.h"

enum { TOOL_FRAGMENT = 8 };

typedef struct shape {
    const char *id, *whole, *chunk;
    bool chat;
} shape;

static const shape chat_shape = {"chatcmpl-mock", "chat.completion", "chat.completion.chunk", true};
static const shape completion_shape = {"cmpl-mock", "text_completion", "text_completion", false};

typedef struct writer {
    const sj_mock_ask *ask;
    const sj_mock_question *question;
    const shape *shape;
    sj_mock_answer *out;
    sj_mock_reply replies[SJ_MOCK_MAX_CHOICES];
    size_t completion_tokens;
    sj_buffer head; // what every event begins with
} writer;

static bool write_head(writer *w, const char *object, sj_buffer *out) {
    return sj_buffer_printf(out,
                            "{\"id\":\"%s-%llu\",\"object\":\"%s\",\"created\":%lld,\"model\":%s,"
                            "\"system_fingerprint\":\"fp_mock\"",
                            w->shape->id, (unsigned long long)w->ask->number, object,
                            (long long)w->ask->created_s, w->question->model);
}

static bool write_usage(const writer *w, sj_buffer *out) {
    size_t prompt = w->question->prompt_tokens;
    return sj_buffer_printf(
        out,
        ",\"usage\":{\"prompt_tokens\":%zu,\"completion_tokens\":%zu,\"total_tokens\":%zu,"
        "\"prompt_tokens_details\":{\"cached_tokens\":0},"
        "\"completion_tokens_details\":{\"reasoning_tokens\":0}}",
        prompt, w->completion_tokens, prompt + w->completion_tokens);
}

static const char *finish_of(const writer *w, int choice) {
    return w->question->tool ? "tool_calls" : w->replies[choice].cut_short ? "length" : "stop";
}

// The arguments a tool is called with: {"text": "<reply>"}, itself JSON.
static bool tool_arguments(const writer *w, int choice, sj_buffer *out) {
    return sj_buffer_text(out, "{\"text\":") &&
           sj_json_encode_string(sj_buffer_slice(&w->replies[choice].text), out) && sj_buffer_text(out, "}");
}

// ---- whole --------------------------------------------------------------------------------------

static bool write_tool_call(const writer *w, int choice, sj_buffer *out) {
    sj_buffer arguments = sj_buffer_with_max(out->max);
    bool ok =
        tool_arguments(w, choice, &arguments) &&
        sj_buffer_printf(out,
                         "{\"role\":\"assistant\",\"content\":null,\"refusal\":null,\"tool_calls\":[{\"id\":"
                         "\"call_mock_%d\",\"type\":\"function\",\"function\":{\"name\":",
                         choice) &&
        sj_json_encode_string(sj_slice_of(w->question->tool), out) &&
        sj_buffer_text(out, ",\"arguments\":") && sj_json_encode_string(sj_buffer_slice(&arguments), out) &&
        sj_buffer_text(out, "}}]}");
    sj_buffer_free(&arguments);
    return ok;
}

static bool write_content(const writer *w, int choice, sj_buffer *out) {
    sj_slice text = sj_buffer_slice(&w->replies[choice].text);
    if (!w->shape->chat)
        return sj_buffer_text(out, "\"text\":") && sj_json_encode_string(text, out);
    if (!sj_buffer_text(out, "\"message\":"))
        return false;
    if (w->question->tool)
        return write_tool_call(w, choice, out);
    return sj_buffer_text(out, "{\"role\":\"assistant\",\"content\":") && sj_json_encode_string(text, out) &&
           sj_buffer_text(out, ",\"refusal\":null,\"annotations\":[]}");
}

static bool write_whole(writer *w) {
    sj_buffer *body = &w->out->body;
    bool ok = write_head(w, w->shape->whole, body) && sj_buffer_text(body, ",\"choices\":[");
    for (int i = 0; ok && i < w->question->choices; i++)
        ok = sj_buffer_printf(body, "%s{\"index\":%d,", i ? "," : "", i) && write_content(w, i, body) &&
             sj_buffer_printf(body, ",\"logprobs\":null,\"finish_reason\":\"%s\"}", finish_of(w, i));
    w->out->content_type = "application/json";
    return ok && sj_buffer_text(body, "]") && write_usage(w, body) && sj_buffer_text(body, "}") &&
           sj_mock_answer_piece(w->out);
}

// ---- streamed -----------------------------------------------------------------------------------

// One event: a delta (chat) or a text of one choice, and how it finished, NULL not yet.
static bool write_event(writer *w, int choice, sj_slice before, sj_slice text, sj_slice after,
                        const char *finish) {
    sj_buffer *body = &w->out->body;
    bool ok = sj_buffer_add(body, sj_buffer_slice(&w->head)) &&
              sj_buffer_printf(body, "%d,%s", choice, w->shape->chat ? "\"delta\":{" : "") &&
              sj_buffer_add(body, before) && (!text.p || sj_json_encode_string(text, body)) &&
              sj_buffer_add(body, after) &&
              sj_buffer_printf(body, "%s\"logprobs\":null,\"finish_reason\":%s%s%s}]%s}\n\n",
                               w->shape->chat ? "}," : ",", finish ? "\"" : "", finish ? finish : "null",
                               finish ? "\"" : "", w->question->include_usage ? ",\"usage\":null" : "");
    return ok && sj_mock_answer_piece(w->out);
}

static const sj_slice none = {NULL, 0};

static bool stream_words(writer *w) {
    sj_slice rest[SJ_MOCK_MAX_CHOICES];
    int open = w->question->choices;
    for (int i = 0; i < open; i++)
        rest[i] = sj_buffer_slice(&w->replies[i].text);
    sj_slice before = w->shape->chat ? SJ_SLICE("\"content\":") : SJ_SLICE("\"text\":");
    for (bool more = true; more;) {
        more = false;
        for (int i = 0; i < open; i++) {
            sj_slice token;
            if (!sj_mock_reply_token(&rest[i], &token))
                continue;
            more = true;
            if (!write_event(w, i, before, token, none, NULL))
                return false;
        }
    }
    return true;
}

static bool stream_tool(writer *w, int choice) {
    char before[256];
    (void)snprintf(
        before, sizeof before,
        "\"tool_calls\":[{\"index\":0,\"id\":\"call_mock_%d\",\"type\":\"function\",\"function\":{\"name\":",
        choice);
    const sj_slice fragment = SJ_SLICE("\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":");
    sj_buffer arguments = sj_buffer_with_max(w->out->body.max);
    bool ok = tool_arguments(w, choice, &arguments) &&
              write_event(w, choice, sj_slice_of(before), sj_slice_of(w->question->tool),
                          SJ_SLICE(",\"arguments\":\"\"}}]"), NULL);
    sj_slice rest = sj_buffer_slice(&arguments);
    while (ok && rest.n) {
        size_t n = rest.n < TOOL_FRAGMENT ? rest.n : TOOL_FRAGMENT;
        while (n < rest.n && ((unsigned char)rest.p[n] & 0xc0) == 0x80)
            n++;
        ok = write_event(w, choice, fragment, (sj_slice){rest.p, n}, SJ_SLICE("}}]"), NULL);
        rest = sj_slice_from(rest, n);
    }
    sj_buffer_free(&arguments);
    return ok;
}

static bool stream_content(writer *w) {
    bool ok = true;
    if (!w->shape->chat)
        return stream_words(w);
    for (int i = 0; ok && i < w->question->choices; i++)
        ok = write_event(w, i, SJ_SLICE("\"role\":\"assistant\",\"content\":\"\",\"refusal\":null"), none,
                         none, NULL);
    if (!w->question->tool)
        return ok && stream_words(w);
    for (int i = 0; ok && i < w->question->choices; i++)
        ok = stream_tool(w, i);
    return ok;
}

static bool stream_end(writer *w) {
    sj_buffer *body = &w->out->body;
    sj_slice nothing = w->shape->chat ? none : SJ_SLICE("\"text\":\"\"");
    bool ok = true;
    for (int i = 0; ok && i < w->question->choices; i++)
        ok = write_event(w, i, nothing, none, none, finish_of(w, i));
    size_t finish = w->out->count;
    if (ok && w->question->include_usage)
        ok = sj_buffer_text(body, "data: ") && write_head(w, w->shape->chunk, body) &&
             sj_buffer_text(body, ",\"choices\":[]") && write_usage(w, body) &&
             sj_buffer_text(body, "}\n\n") && sj_mock_answer_piece(w->out);
    ok = ok && sj_buffer_text(body, "data: [DONE]\n\n") && sj_mock_answer_piece(w->out);
    w->out->finish = finish;
    return ok;
}

static bool write_stream(writer *w) {
    w->out->stream = true;
    w->out->content_type = "text/event-stream; charset=utf-8";
    return sj_buffer_text(&w->head, "data: ") && write_head(w, w->shape->chunk, &w->head) &&
           sj_buffer_text(&w->head, ",\"choices\":[{\"index\":") && stream_content(w) && stream_end(w);
}

static bool answer(const sj_mock_ask *ask, const sj_mock_question *question, const shape *form,
                   sj_mock_answer *out) {
    writer w = {
        .ask = ask, .question = question, .shape = form, .out = out, .head = sj_buffer_with_max(4096)};
    bool ok = true;
    int made = 0;
    for (; ok && made < question->choices; made++) {
        ok = sj_mock_reply_write(question, made, &w.replies[made]);
        w.completion_tokens += w.replies[made].tokens;
    }
    ok = ok && (question->stream ? write_stream(&w) : write_whole(&w));
    for (int i = 0; i < made; i++)
        sj_buffer_free(&w.replies[i].text);
    sj_buffer_free(&w.head);
    return ok;
}

bool sj_mock_answer_chat(const sj_mock_ask *ask, const sj_mock_question *question, sj_mock_answer *out) {
    return answer(ask, question, &chat_shape, out);
}

bool sj_mock_answer_completions(const sj_mock_ask *ask, const sj_mock_question *question,
                                sj_mock_answer *out) {
    return answer(ask, question, &completion_shape, out);
}
