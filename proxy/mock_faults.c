#include "mock_faults.h"

#include "duration.h"
#include "glob.h"

#include <stdlib.h>

typedef enum argument { ARG_NONE, ARG_COUNT, ARG_TIME } argument;

// `argument` is what may follow the name after a dash ("cut-3", "slow-2s"); `count` its default.
static const struct kind {
    const char *name;
    argument argument;
    int count;
    const char *help;
} kinds[SJ_MOCK_KIND_COUNT] = {
    [SJ_MOCK_OK] = {"ok", ARG_NONE, 0, "a good answer, whatever the other rules say"},
    [SJ_MOCK_STATUS] = {"status", ARG_COUNT, 500,
                        "an error answer with that status; the number alone will do: 429"},
    [SJ_MOCK_TIMEOUT] = {"timeout", ARG_TIME, 0,
                         "takes the request and never answers (timeout-5s: closes after that)"},
    [SJ_MOCK_CLOSE] = {"close", ARG_NONE, 0, "closes (FIN) without a byte"},
    [SJ_MOCK_RESET] = {"reset", ARG_NONE, 0, "resets (RST) without a byte"},
    [SJ_MOCK_GARBAGE] = {"garbage", ARG_NONE, 0, "a status line that is no HTTP"},
    [SJ_MOCK_ENDLESS_HEADERS] = {"endless-headers", ARG_NONE, 0, "header lines without end, up to 4 MiB"},
    [SJ_MOCK_HEAD_SILENCE] = {"head-silence", ARG_TIME, 0, "200 and headers, then nothing"},
    [SJ_MOCK_HEAD_CLOSE] = {"head-close", ARG_NONE, 0, "200 and headers, then FIN"},
    [SJ_MOCK_HEAD_RESET] = {"head-reset", ARG_NONE, 0, "200 and headers, then RST"},
    [SJ_MOCK_CUT] = {"cut", ARG_COUNT, 2,
                     "K events, then a clean end without finish; whole answers: half the body, then FIN"},
    [SJ_MOCK_CUT_CLOSE] = {"cut-close", ARG_COUNT, 2, "K events, then FIN without a last chunk"},
    [SJ_MOCK_CUT_RESET] = {"cut-reset", ARG_COUNT, 2, "K events, then RST"},
    [SJ_MOCK_BAD_CHUNK] = {"bad-chunk", ARG_COUNT, 2, "K events, then no chunk size where one is due"},
    [SJ_MOCK_STALL] = {"stall", ARG_COUNT, 2, "K events (whole answers: half the body), then silence"},
    [SJ_MOCK_LATE_ERROR] = {"late-error", ARG_COUNT, 2, "K events, then an error event and a clean end"},
    [SJ_MOCK_SHORT_LENGTH] = {"short-length", ARG_NONE, 0,
                              "the body ends 10 bytes before Content-Length says, then FIN"},
    [SJ_MOCK_LONG_LENGTH] = {"long-length", ARG_NONE, 0, "the body goes on 10 bytes past Content-Length"},
    [SJ_MOCK_FIRST_ERROR] = {"first-error", ARG_NONE, 0, "a stream whose first event is an error object"},
    [SJ_MOCK_ERROR_BODY] = {"error-body", ARG_NONE, 0, "an error object in a 200"},
    [SJ_MOCK_EMPTY] = {"empty", ARG_NONE, 0, "200 with no body"},
    [SJ_MOCK_TRUNCATED] = {"truncated", ARG_NONE, 0,
                           "200 with half the JSON and a length that fits; streams: ends inside an event"},
    [SJ_MOCK_NO_DONE] = {"no-done", ARG_NONE, 0, "a whole stream without [DONE]"},
    [SJ_MOCK_FINISH_SILENCE] = {"finish-silence", ARG_TIME, 0, "everything up to the finish, then silence"},
    [SJ_MOCK_NON_JSON] = {"non-json", ARG_COUNT, 2, "an event that is no JSON behind every K events"},
    [SJ_MOCK_ODD_SSE] = {"odd-sse", ARG_NONE, 0,
                         "CRLF line ends, comments, retry lines, no space after data:"},
    [SJ_MOCK_DRIP] = {"drip", ARG_COUNT, 7,
                      "the body in pieces of K bytes, a chunk each, about one a millisecond"},
    [SJ_MOCK_BIG_EVENT] = {"big-event", ARG_COUNT, 1048576, "the third event padded to K bytes"},
    [SJ_MOCK_INFORMATIONAL] = {"informational", ARG_NONE, 0, "100 and 103 answers ahead of the real one"},
    [SJ_MOCK_GZIP] = {"gzip", ARG_NONE, 0, "a good answer with Content-Encoding: gzip"},
    [SJ_MOCK_SLOW] = {"slow", ARG_TIME, 2000, "a good answer after that time: slow-2s"},
    [SJ_MOCK_SLOW_FIRST] = {"slow-first", ARG_TIME, 2000, "headers at once, the first event after that time"},
};

// Other names for a status with a telling code.
static const struct alias {
    const char *name;
    int status;
    const char *code, *message;
} aliases[] = {
    {"context-length", 400, "context_length_exceeded", "This model's maximum context length is 128 tokens."},
    {"content-policy", 400, "content_policy_violation", "Your request was rejected by our safety system."},
    {"quota", 429, "insufficient_quota", "You exceeded your current quota, please check your plan."},
    {"model-not-found", 404, "model_not_found", "The model does not exist or you do not have access to it."},
    {"overloaded", 529, "overloaded_error", "Overloaded."},
};

static const struct status_words {
    int status;
    const char *code, *type;
} status_words[] = {
    {401, "invalid_api_key", "invalid_request_error"},
    {403, "forbidden", "invalid_request_error"},
    {404, "not_found", "invalid_request_error"},
    {408, "timeout", "timeout"},
    {429, "rate_limit_exceeded", "requests"},
    {500, "server_error", "server_error"},
    {502, "server_error", "server_error"},
    {503, "overloaded", "server_error"},
    {504, "timeout", "server_error"},
    {529, "overloaded_error", "overloaded_error"},
};

static const struct status_words *words_of(int status) {
    for (size_t i = 0; i < sizeof status_words / sizeof *status_words; i++) {
        if (status_words[i].status == status)
            return &status_words[i];
    }
    return NULL;
}

const char *sj_mock_status_code(int status) {
    const struct status_words *words = words_of(status);
    return words ? words->code : status >= 500 ? "server_error" : "invalid_request";
}

const char *sj_mock_status_type(int status) {
    const struct status_words *words = words_of(status);
    return words ? words->type : status >= 500 ? "server_error" : "invalid_request_error";
}

static bool complain(sj_buffer *error, const char *what, sj_slice text) {
    if (error && !sj_buffer_printf(error, "%s: '%.*s'", what, (int)(text.n < 100 ? text.n : 100), text.p))
        sj_buffer_clear(error);
    return false;
}

static bool parse_count(sj_slice text, int *out) {
    if (text.n == 0 || text.n > 9)
        return false;
    int value = 0;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
        value = value * 10 + (text.p[i] - '0');
    }
    *out = value;
    return true;
}

static bool copy_text(sj_slice text, char *out, size_t size) {
    if (text.n >= size || memchr(text.p, '\r', text.n) || memchr(text.p, '\n', text.n))
        return false;
    memcpy(out, text.p, text.n);
    out[text.n] = 0;
    return true;
}

static bool add_header(sj_mock_fault *fault, sj_slice name, sj_slice value) {
    char line[sizeof fault->headers];
    size_t used = strlen(fault->headers);
    int n = snprintf(line, sizeof line, "%.*s: %.*s\r\n", (int)name.n, name.p, (int)value.n, value.p);
    if (n < 0 || used + (size_t)n >= sizeof fault->headers || memchr(line, '\n', (size_t)n) != line + n - 1)
        return false;
    memcpy(fault->headers + used, line, (size_t)n + 1);
    return true;
}

// ---- parameters ---------------------------------------------------------------------------------

static bool set_after(sj_mock_fault *fault, sj_slice value) {
    return parse_count(value, &fault->after);
}
static bool set_times(sj_mock_fault *fault, sj_slice value) {
    return parse_count(value, &fault->times);
}
static bool set_latency(sj_mock_fault *fault, sj_slice value) {
    return sj_duration_parse(value, SJ_BARE_SECONDS, &fault->latency_ms);
}
static bool set_arg(sj_mock_fault *fault, sj_slice value) {
    return sj_duration_parse(value, SJ_BARE_SECONDS, &fault->arg_ms);
}
static bool set_status(sj_mock_fault *fault, sj_slice value) {
    return parse_count(value, &fault->status) && fault->status >= 200 && fault->status <= 999;
}
static bool set_code(sj_mock_fault *fault, sj_slice value) {
    return copy_text(value, fault->code, sizeof fault->code);
}
static bool set_message(sj_mock_fault *fault, sj_slice value) {
    return copy_text(value, fault->message, sizeof fault->message);
}
static bool set_model(sj_mock_fault *fault, sj_slice value) {
    return copy_text(value, fault->model, sizeof fault->model);
}
static bool set_path(sj_mock_fault *fault, sj_slice value) {
    return copy_text(value, fault->path, sizeof fault->path);
}

static bool set_date_form(sj_mock_fault *fault, sj_slice value, const char *form) {
    memcpy(fault->retry_date, form, strlen(form) + 1);
    return parse_count(value, &fault->retry_date_s);
}
static bool set_date_imf(sj_mock_fault *fault, sj_slice value) {
    return set_date_form(fault, value, "imf");
}
static bool set_date_rfc850(sj_mock_fault *fault, sj_slice value) {
    return set_date_form(fault, value, "rfc850");
}
static bool set_date_asctime(sj_mock_fault *fault, sj_slice value) {
    return set_date_form(fault, value, "asctime");
}

static bool set_body(sj_mock_fault *fault, sj_slice value) {
    static const char *const names[] = {"json", "html", "none"};
    for (int i = 0; i < 3; i++) {
        if (sj_slice_equal(value, sj_slice_of(names[i]))) {
            fault->body = (sj_mock_error_body)i;
            return true;
        }
    }
    return false;
}

static bool set_header(sj_mock_fault *fault, sj_slice value) {
    const char *colon = memchr(value.p, ':', value.n);
    if (!colon)
        return false;
    sj_slice name = {value.p, (size_t)(colon - value.p)};
    return add_header(fault, name, sj_slice_trim(sj_slice_from(value, name.n + 1)));
}

// header: the parameter is a response header of that name.
static const struct parameter {
    const char *name;
    bool (*set)(sj_mock_fault *fault, sj_slice value);
    const char *header, *help;
} parameters[] = {
    {"after", set_after, NULL, "events before it bites (drip, big-event: bytes)"},
    {"latency", set_latency, NULL, "time before the head, instead of --latency"},
    {"for", set_arg, NULL, "slow, slow-first: how long; silences: close after it"},
    {"status", set_status, NULL, "the status, or the kind of error inside a 200 or an event"},
    {"code", set_code, NULL, "error.code"},
    {"message", set_message, NULL, "error.message"},
    {"body", set_body, NULL, "of an error status: json, html, none"},
    {"retry-after", NULL, "Retry-After", "seconds, or any text"},
    {"retry-after-date", set_date_imf, NULL,
     "Retry-After as a date that many seconds ahead (also -rfc850, -asctime)"},
    {"retry-after-rfc850", set_date_rfc850, NULL, NULL},
    {"retry-after-asctime", set_date_asctime, NULL, NULL},
    {"retry-after-ms", NULL, "retry-after-ms", "milliseconds"},
    {"x-ms-retry-after-ms", NULL, "x-ms-retry-after-ms", NULL},
    {"reset-requests", NULL, "x-ratelimit-reset-requests", "1s, 6m0s: x-ratelimit-reset-requests"},
    {"reset-tokens", NULL, "x-ratelimit-reset-tokens", "x-ratelimit-reset-tokens"},
    {"remaining-requests", NULL, "x-ratelimit-remaining-requests", "x-ratelimit-remaining-requests"},
    {"remaining-tokens", NULL, "x-ratelimit-remaining-tokens", "x-ratelimit-remaining-tokens"},
    {"reset", NULL, "x-ratelimit-reset", "x-ratelimit-reset"},
    {"should-retry", NULL, "x-should-retry", "x-should-retry: true or false"},
    {"header", set_header, NULL, "any response header: header=Name: value"},
    {"times", set_times, NULL, "scripts: the entry serves that many attempts"},
    {"model", set_model, NULL, "only requests for that model (glob)"},
    {"path", set_path, NULL, "only requests to that path (glob)"},
};

static bool apply_parameter(sj_mock_fault *fault, sj_slice name, sj_slice value) {
    for (size_t i = 0; i < sizeof parameters / sizeof *parameters; i++) {
        const struct parameter *parameter = &parameters[i];
        if (!sj_slice_equal(name, sj_slice_of(parameter->name)))
            continue;
        return parameter->header ? add_header(fault, sj_slice_of(parameter->header), value)
                                 : parameter->set(fault, value);
    }
    return false;
}

// ---- kinds --------------------------------------------------------------------------------------

static bool find_kind(sj_slice name, sj_mock_kind *out) {
    for (int i = 0; i < SJ_MOCK_KIND_COUNT; i++) {
        if (sj_slice_equal(name, sj_slice_of(kinds[i].name))) {
            *out = (sj_mock_kind)i;
            return true;
        }
    }
    return false;
}

static void apply_defaults(sj_mock_fault *fault) {
    const struct kind *kind = &kinds[fault->kind];
    if (kind->argument == ARG_COUNT && fault->kind != SJ_MOCK_STATUS)
        fault->after = kind->count;
    if (kind->argument == ARG_TIME)
        fault->arg_ms = kind->count;
}

static bool apply_argument(sj_mock_fault *fault, sj_slice text) {
    if (fault->kind == SJ_MOCK_STATUS)
        return set_status(fault, text);
    switch (kinds[fault->kind].argument) {
    case ARG_COUNT:
        return parse_count(text, &fault->after);
    case ARG_TIME:
        return sj_duration_parse(text, SJ_BARE_SECONDS, &fault->arg_ms);
    case ARG_NONE:
        break;
    }
    return false;
}

static bool apply_alias(sj_mock_fault *fault, sj_slice name) {
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++) {
        if (!sj_slice_equal(name, sj_slice_of(aliases[i].name)))
            continue;
        fault->kind = SJ_MOCK_STATUS;
        fault->status = aliases[i].status;
        return copy_text(sj_slice_of(aliases[i].code), fault->code, sizeof fault->code) &&
               copy_text(sj_slice_of(aliases[i].message), fault->message, sizeof fault->message);
    }
    return false;
}

// "429", "quota", "cut", or a kind with its argument behind the last dash.
static bool parse_kind(sj_slice text, sj_mock_fault *fault) {
    *fault = (sj_mock_fault){.after = -1, .latency_ms = -1, .times = 1, .status = 500};
    if (set_status(fault, text)) {
        fault->kind = SJ_MOCK_STATUS;
        return true;
    }
    fault->status = 500;
    if (apply_alias(fault, text))
        return true;
    if (find_kind(text, &fault->kind)) {
        apply_defaults(fault);
        return true;
    }
    const char *dash = memrchr(text.p, '-', text.n);
    if (!dash || !find_kind((sj_slice){text.p, (size_t)(dash - text.p)}, &fault->kind))
        return false;
    apply_defaults(fault);
    return apply_argument(fault, sj_slice_from(text, (size_t)(dash - text.p) + 1));
}

static sj_slice take_part(sj_slice *text) {
    if (text->n == 0)
        return (sj_slice){"", 0};
    const char *end = memchr(text->p, ';', text->n);
    sj_slice part = {text->p, end ? (size_t)(end - text->p) : text->n};
    *text = sj_slice_from(*text, end ? part.n + 1 : part.n);
    return sj_slice_trim(part);
}

bool sj_mock_fault_parse(sj_slice text, sj_mock_fault *out, sj_buffer *error) {
    sj_mock_fault fault;
    sj_slice name = take_part(&text);
    if (name.n == 0 || !parse_kind(name, &fault))
        return complain(error, "unknown fault", name);
    while (text.n) {
        sj_slice part = take_part(&text);
        const char *equals = part.n ? memchr(part.p, '=', part.n) : NULL;
        if (!equals)
            return complain(error, "a fault's parameters are written name=value", part);
        sj_slice key = sj_slice_trim((sj_slice){part.p, (size_t)(equals - part.p)});
        sj_slice value = sj_slice_trim(sj_slice_from(part, (size_t)(equals - part.p) + 1));
        if (!apply_parameter(&fault, key, value))
            return complain(error, "bad parameter of a fault", part);
    }
    *out = fault;
    return true;
}

bool sj_mock_fault_of_model(sj_slice model, sj_mock_fault *out) {
    const char *slash = model.n ? memrchr(model.p, '/', model.n) : NULL;
    if (slash)
        model = sj_slice_from(model, (size_t)(slash - model.p) + 1);
    if (!sj_slice_starts(model, SJ_SLICE("mock-")))
        return false;
    return sj_mock_fault_parse(sj_slice_from(model, 5), out, NULL);
}

bool sj_mock_fault_applies(const sj_mock_fault *fault, sj_slice path, sj_slice model) {
    return (!fault->model[0] || sj_glob_match(sj_slice_of(fault->model), model)) &&
           (!fault->path[0] || sj_glob_match(sj_slice_of(fault->path), path));
}

void sj_mock_fault_name(const sj_mock_fault *fault, char *out, size_t n) {
    const struct kind *kind = &kinds[fault->kind];
    if (fault->kind == SJ_MOCK_STATUS)
        (void)snprintf(out, n, "%d", fault->status);
    else if (kind->argument == ARG_COUNT)
        (void)snprintf(out, n, "%s-%d", kind->name, fault->after);
    else if (fault->arg_ms)
        (void)snprintf(out, n, "%s-%lldms", kind->name, (long long)fault->arg_ms);
    else
        (void)snprintf(out, n, "%s", kind->name);
}

void sj_mock_faults_help(FILE *out) {
    (void)fputs("Faults: KIND[-ARG][; parameter=value]...\n", out);
    for (int i = 0; i < SJ_MOCK_KIND_COUNT; i++)
        (void)fprintf(out, "  %-16s %s\n", kinds[i].name, kinds[i].help);
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        (void)fprintf(out, "  %-16s %d with code %s\n", aliases[i].name, aliases[i].status, aliases[i].code);
    (void)fputs("Parameters of faults:\n", out);
    for (size_t i = 0; i < sizeof parameters / sizeof *parameters; i++) {
        if (parameters[i].help)
            (void)fprintf(out, "  %-18s %s\n", parameters[i].name, parameters[i].help);
    }
}
