#include "json_span.h"
#include "rescue_internal.h"

#define COUNT(rows) (sizeof(rows) / sizeof *(rows))

// The last labels of a host, and the member its documentation asks for:
// https://api-docs.deepseek.com/guides/chat_prefix_completion, https://docs.mistral.ai/api/#tag/chat (AssistantMessage.prefix),
// https://platform.moonshot.ai/docs/guide/use-partial-mode-feature-of-kimi-api, https://help.aliyun.com/zh/model-studio/partial-mode.
static const struct {
    const char *domain;
    sj_prefill_form form;
} families[] = {
    {"deepseek.com", SJ_PREFILL_PREFIX},  {"mistral.ai", SJ_PREFILL_PREFIX},
    {"moonshot.ai", SJ_PREFILL_PARTIAL},  {"moonshot.cn", SJ_PREFILL_PARTIAL},
    {"aliyuncs.com", SJ_PREFILL_PARTIAL},
};

sj_prefill_form sj_prefill_form_of(sj_slice host) {
    for (size_t i = 0; i < COUNT(families); i++) {
        sj_slice domain = sj_slice_of(families[i].domain);
        if (host.n < domain.n)
            continue;
        size_t start = host.n - domain.n;
        bool ends = sj_slice_equal_nocase(sj_slice_from(host, start), domain);
        if (ends && (start == 0 || host.p[start - 1] == '.'))
            return families[i].form;
    }
    return SJ_PREFILL_PLAIN;
}

// ---- the partial answer -----------------------------------------------------------------------------------------------------

rescue_entry *rescue_partial_text(const sj_transcript *t) {
    if (t->protocol == SJ_PROTOCOL_RESPONSES)
        return NULL;
    rescue_kind kind = t->protocol == SJ_PROTOCOL_CHAT ? RK_CONTENT : RK_PLAIN_TEXT;
    for (int i = 0; i < t->count; i++)
        if (t->entries[i].kind == kind && t->entries[i].choice == 0)
            return &t->entries[i];
    return NULL;
}

size_t rescue_sent_length(const sj_transcript *t, const rescue_entry *partial) {
    size_t n = partial->text.n;
    while (t->protocol == SJ_PROTOCOL_CHAT && n && memchr(" \t\r\n", partial->text.p[n - 1], 4))
        n--;
    return n;
}

// NULL unless there is only one choice, begun and not ended, with text and nothing else in it.
static const rescue_entry *plain_answer(const sj_transcript *t) {
    const rescue_entry *partial = sj_transcript_is_complete(t) ? rescue_partial_text(t) : NULL;
    for (int i = 0; partial && i < t->count; i++) {
        const rescue_entry *entry = &t->entries[i];
        bool is_role = entry->kind == RK_ROLE && entry->choice == 0;
        if (entry != partial && !is_role)
            return NULL;
    }
    return partial;
}

// The text as it stands inside a JSON string, with its quotes.
static bool write_partial(const sj_transcript *t, const rescue_entry *partial, sj_buffer *out) {
    sj_slice sent = {partial->text.p, rescue_sent_length(t, partial)};
    sj_buffer text = sj_buffer_with_max(sent.n);
    bool ok = sent.n && rescue_text_decode(sent, &text) && sj_json_encode_string(sj_buffer_slice(&text), out);
    sj_buffer_free(&text);
    return ok;
}

// ---- the request ------------------------------------------------------------------------------------------------------------

typedef struct request {
    sj_slice messages, prompt;
    int subjects; // how often one of these two is there
    bool refused;
    bool flagged; // says already what CONTINUE_FINAL adds
} request;

static bool says(sj_slice value) {
    return sj_json_has_value(value) && !sj_slice_equal(value, SJ_SLICE("false"));
}

static bool is_one(sj_slice value) {
    return sj_slice_equal(value, SJ_SLICE("1"));
}

static bool note_member(void *context, sj_slice key, sj_slice value) {
    request *r = context;
    if (sj_slice_equal(key, SJ_SLICE("messages")) || sj_slice_equal(key, SJ_SLICE("prompt"))) {
        *(key.p[0] == 'm' ? &r->messages : &r->prompt) = value;
        r->subjects++;
    } else if (sj_slice_equal(key, SJ_SLICE("n")) || sj_slice_equal(key, SJ_SLICE("best_of")))
        r->refused |= says(value) && !is_one(value);
    else if (sj_slice_equal(key, SJ_SLICE("tools")) || sj_slice_equal(key, SJ_SLICE("functions")) ||
             sj_slice_equal(key, SJ_SLICE("echo")) || sj_slice_equal(key, SJ_SLICE("suffix")))
        r->refused |= says(value);
    else if (sj_slice_equal(key, SJ_SLICE("continue_final_message")) ||
             sj_slice_equal(key, SJ_SLICE("add_generation_prompt")))
        r->flagged = true;
    return true;
}

typedef struct message {
    sj_slice whole, role, content;
    bool calls; // has tool calls, or anything else that text cannot follow
    bool marked; // has the member that the form asks for
    const char *mark;
} message;

static bool note_last(void *context, sj_slice key, sj_slice element) {
    (void)key;
    ((message *)context)->whole = element;
    return true;
}

static bool note_message_member(void *context, sj_slice key, sj_slice value) {
    message *m = context;
    if (sj_slice_equal(key, SJ_SLICE("role")))
        m->role = value;
    else if (sj_slice_equal(key, SJ_SLICE("content")))
        m->content = value;
    else if (sj_slice_equal(key, SJ_SLICE("tool_calls")) || sj_slice_equal(key, SJ_SLICE("function_call")))
        m->calls |= says(value);
    else
        m->marked |= m->mark && sj_slice_equal(key, sj_slice_of(m->mark));
    return true;
}

static bool is_string(sj_slice value) {
    return value.n >= 2 && value.p[0] == '"';
}

// ---- splicing ---------------------------------------------------------------------------------------------------------------

typedef struct splicer {
    sj_slice body;
    size_t at;
    sj_buffer *out;
} splicer;

static bool copy_to(splicer *s, const char *until) {
    size_t end = (size_t)(until - s->body.p);
    bool ok = sj_buffer_append(s->out, s->body.p + s->at, end - s->at);
    s->at = end;
    return ok;
}

static bool put_mark(splicer *s, const message *m) {
    return !m->mark || m->marked ||
           (sj_buffer_text(s->out, ",\"") && sj_buffer_text(s->out, m->mark) &&
            sj_buffer_text(s->out, "\":true"));
}

// At the end of a JSON string of the request.
static bool extend_string(splicer *s, sj_slice string, sj_slice partial) {
    return copy_to(s, string.p + string.n - 1) && sj_buffer_append(s->out, partial.p + 1, partial.n - 2) &&
           copy_to(s, string.p + string.n);
}

// The client's own request may end with the beginning of an answer: then that is what grows.
static bool put_message(splicer *s, const message *m, sj_slice partial) {
    if (sj_slice_equal(m->role, SJ_SLICE("\"assistant\"")))
        return is_string(m->content) && !m->calls && extend_string(s, m->content, partial) &&
               put_mark(s, m) && copy_to(s, m->whole.p + m->whole.n);
    return copy_to(s, m->whole.p + m->whole.n) &&
           sj_buffer_text(s->out, ",{\"role\":\"assistant\",\"content\":") &&
           sj_buffer_add(s->out, partial) && put_mark(s, m) && sj_buffer_text(s->out, "}");
}

static bool splice_chat(splicer *s, const request *r, sj_slice partial, sj_prefill_form form) {
    message m = {.mark = form == SJ_PREFILL_PREFIX    ? "prefix"
                         : form == SJ_PREFILL_PARTIAL ? "partial"
                                                      : NULL};
    if (!sj_json_walk_array(r->messages, note_last, &m) || !m.whole.n ||
        !sj_json_walk_object(m.whole, note_message_member, &m) || !put_message(s, &m, partial))
        return false;
    const char *end = s->body.p + s->body.n;
    while (end[-1] != '}')
        end--;
    return copy_to(s, end - 1) &&
           (form != SJ_PREFILL_CONTINUE_FINAL || r->flagged ||
            sj_buffer_text(s->out, ",\"continue_final_message\":true,\"add_generation_prompt\":false"));
}

static bool note_only(void *context, sj_slice key, sj_slice element) {
    (void)key;
    sj_slice *only = context;
    bool first = only->n == 0;
    *only = element;
    return first;
}

static bool splice_prompt(splicer *s, const request *r, sj_slice partial) {
    sj_slice prompt = r->prompt;
    sj_slice only = {NULL, 0};
    if (prompt.n && prompt.p[0] == '[')
        prompt = sj_json_walk_array(r->prompt, note_only, &only) ? only : (sj_slice){NULL, 0};
    return is_string(prompt) && extend_string(s, prompt, partial);
}

bool sj_continuation_body(const sj_transcript *t, sj_slice body, sj_prefill_form form, sj_buffer *out) {
    const rescue_entry *partial = plain_answer(t);
    request r = {0};
    if (!partial || !sj_json_walk_object(body, note_member, &r) || r.refused || r.subjects != 1)
        return false;
    bool chat = t->protocol == SJ_PROTOCOL_CHAT;
    size_t start = out->n;
    sj_buffer text = sj_buffer_with_max(out->max);
    splicer s = {body, 0, out};
    bool ok = write_partial(t, partial, &text) &&
              (chat ? splice_chat(&s, &r, sj_buffer_slice(&text), form)
                    : splice_prompt(&s, &r, sj_buffer_slice(&text))) &&
              copy_to(&s, body.p + body.n);
    sj_buffer_free(&text);
    if (!ok)
        out->n = start;
    return ok;
}
