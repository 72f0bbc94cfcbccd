#include "mock.h"

#include "mock_core.h"

#include <stdlib.h>
#include <time.h>
#include <zlib.h>

enum { MAX_OUT = 128 * 1024 * 1024 };

double sj_mock_now_ms(const sj_mock *mock) {
    return (double)(uv_hrtime() - mock->started_ns) / 1e6;
}

// ---- the log's view of a request ----------------------------------------------------------------

// Printable ASCII only, so that the log is always valid JSON.
static void copy_clean(sj_slice text, char *out, size_t size) {
    size_t n = text.n < size - 1 ? text.n : size - 1;
    for (size_t i = 0; i < n; i++)
        out[i] = text.p[i] >= ' ' && text.p[i] < 0x7f ? text.p[i] : '?';
    out[n] = 0;
}

static uint32_t crc_of(sj_slice bytes) {
    return (uint32_t)crc32_z(0, (const unsigned char *)bytes.p, bytes.n);
}

static void describe(const sj_mock_request *request, sj_slice path, sj_slice model,
                     sj_mock_log_entry *entry) {
    const sj_headers *headers = &request->headers;
    sj_slice authorization = sj_headers_get(headers, "authorization");
    sj_slice retry = sj_headers_get(headers, "x-stainless-retry-count");
    sj_slice length = sj_headers_get(headers, "content-length");
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    entry->wall_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    copy_clean(request->method, entry->method, sizeof entry->method);
    copy_clean(path, entry->path, sizeof entry->path);
    copy_clean(model, entry->model, sizeof entry->model);
    copy_clean(sj_headers_get(headers, "idempotency-key"), entry->idempotency_key,
               sizeof entry->idempotency_key);
    copy_clean(sj_headers_get(headers, "user-agent"), entry->user_agent, sizeof entry->user_agent);
    if (authorization.p)
        (void)snprintf(entry->authorization, sizeof entry->authorization, "%08x", crc_of(authorization));
    if (retry.n)
        entry->retry_count = atoi(retry.p);
    if (length.n)
        entry->content_length = atoll(length.p);
    entry->body_bytes = request->body.n;
    entry->body_crc32 = crc_of(request->body);
}

// ---- one attempt --------------------------------------------------------------------------------

static bool authorized(const sj_mock *mock, const sj_headers *headers) {
    sj_slice key = sj_slice_of(mock->choose.rules.key);
    sj_slice bearer = sj_headers_get(headers, "authorization");
    if (key.n == 0 || sj_slice_equal(sj_headers_get(headers, "api-key"), key))
        return true;
    return sj_slice_starts(bearer, SJ_SLICE("Bearer ")) && sj_slice_equal(sj_slice_from(bearer, 7), key);
}

static bool make_answer(sj_mock *mock, const sj_mock_request *request, sj_slice path, const cJSON *json,
                        uint64_t number, sj_mock_answer *answer) {
    if (!authorized(mock, &request->headers))
        return sj_mock_answer_error(answer, 401, "invalid_api_key", "Incorrect API key provided.");
    const sj_mock_rules *rules = &mock->choose.rules;
    sj_slice words = sj_headers_get(&request->headers, "x-mock-words");
    int wanted = words.n ? atoi(words.p) : 0;
    sj_mock_ask ask = {.method = request->method,
                       .path = path,
                       .body = request->body,
                       .content_type = sj_headers_get(&request->headers, "content-type"),
                       .json = json,
                       .words = wanted > 0 && wanted <= 20000 ? wanted : rules->words,
                       .variant = rules->variant,
                       .models = rules->models,
                       .strict_models = rules->strict_models,
                       .created_s = time(NULL),
                       .number = number};
    return sj_mock_answer_make(&ask, answer);
}

// What the fault and the request's own merits make of it. Wrong credentials and bad fault headers are answered as they are.
static bool prepare(sj_mock *mock, const sj_mock_request *request, sj_slice path, const cJSON *json,
                    uint64_t number, sj_mock_choice *choice, sj_mock_answer *answer) {
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(json, "model");
    sj_mock_attempt_facts facts = {.path = path,
                                   .model = cJSON_IsString(model) ? sj_slice_of(model->valuestring)
                                                                  : (sj_slice){"", 0},
                                   .fault_header = sj_headers_get(&request->headers, "x-mock-fault"),
                                   .latency_header = sj_headers_get(&request->headers, "x-mock-latency"),
                                   .running = mock->running + 1,
                                   .now_ms = (int64_t)sj_mock_now_ms(mock)};
    sj_buffer error = sj_buffer_with_max(1024);
    char message[512] = "";
    if (!sj_mock_choose_next(&mock->choose, &facts, choice, &error)) {
        (void)snprintf(message, sizeof message, "x-mock header: %.*s", (int)(error.n < 400 ? error.n : 400),
                       error.p);
        *choice = (sj_mock_choice){.by = "header", .fault = {.after = -1, .latency_ms = -1}};
    }
    sj_buffer_free(&error);
    if (message[0])
        return sj_mock_answer_error(answer, 400, "bad_mock_header", message);
    if (!make_answer(mock, request, path, json, number, answer))
        return false;
    // Spoiling an error status that is none of ours would hide a mistake of the test.
    if (answer->status == 401)
        choice->fault = (sj_mock_fault){.after = -1, .latency_ms = -1};
    return sj_mock_answer_spoil(answer, &choice->fault, time(NULL));
}

// Audio and forms are not even tried.
static cJSON *parse_object(sj_slice body) {
    size_t n = 0;
    while (n < body.n && memchr(" \t\r\n", body.p[n], 4))
        n++;
    return n < body.n && body.p[n] == '{' ? cJSON_ParseWithLength(body.p, body.n) : NULL;
}

static void attempt(sj_mock *mock, sj_mock_conn *conn, const sj_mock_request *request, sj_slice path) {
    cJSON *json = parse_object(request->body);
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(json, "model");
    uint64_t number;
    sj_mock_log_entry *entry = sj_mock_log_add(&mock->log, &number);
    if (entry) {
        entry->start_ms = sj_mock_now_ms(mock);
        entry->connection = sj_mock_conn_id(conn);
        describe(request, path, cJSON_IsString(model) ? sj_slice_of(model->valuestring) : (sj_slice){"", 0},
                 entry);
    }
    sj_mock_choice choice;
    sj_mock_answer answer;
    sj_mock_answer_init(&answer);
    bool ok = prepare(mock, request, path, json, number, &choice, &answer);
    cJSON_Delete(json);
    if (!ok) { // out of memory
        sj_mock_answer_free(&answer);
        sj_mock_log_end(&mock->log, number, sj_mock_now_ms(mock), 0, SJ_MOCK_BROKEN_OFF);
        sj_mock_conn_finish(conn);
        return;
    }
    if (entry) {
        entry->fault_by = choice.by;
        sj_mock_fault_name(&choice.fault, entry->fault, sizeof entry->fault);
    }
    sj_mock_play(mock, conn, request, &choice, &answer, number);
}

static void on_request(void *context, sj_mock_conn *conn, const sj_mock_request *request) {
    sj_mock *mock = context;
    sj_slice path = request->target;
    const char *question = memchr(path.p, '?', path.n);
    sj_slice query = {"", 0};
    if (question) {
        path.n = (size_t)(question - path.p);
        query = sj_slice_from(request->target, path.n + 1);
    }
    if (!sj_mock_control(mock, conn, request, path, query))
        attempt(mock, conn, request, path);
}

// ---- life ---------------------------------------------------------------------------------------

static void on_closed(void *context) {
    sj_mock *mock = context;
    sj_mock_choose_free(&mock->choose);
    sj_mock_log_free(&mock->log);
    sj_buffer_free(&mock->out);
    free(mock);
}

static const sj_mock_http_handlers handlers = {
    .on_request = on_request,
    .on_gone = sj_mock_play_gone,
    .on_drained = sj_mock_play_on,
    .on_timer = sj_mock_play_timer,
    .on_closed = on_closed,
};

sj_mock *sj_mock_new(uv_loop_t *loop, const sj_mock_rules *rules) {
    sj_mock *mock = calloc(1, sizeof *mock);
    if (!mock)
        return NULL;
    if (rules)
        mock->first_rules = *rules;
    else
        sj_mock_rules_init(&mock->first_rules);
    mock->loop = loop;
    mock->started_ns = uv_hrtime();
    mock->out = sj_buffer_with_max(MAX_OUT);
    sj_mock_choose_init(&mock->choose, &mock->first_rules, 0);
    sj_mock_log_init(&mock->log, (size_t)mock->first_rules.log_size);
    mock->http = sj_mock_http_new(loop, mock->first_rules.listen, mock->first_rules.port, &handlers, mock);
    if (!mock->http) {
        on_closed(mock);
        return NULL;
    }
    return mock;
}

int sj_mock_port(const sj_mock *mock) {
    return sj_mock_http_port(mock->http);
}

bool sj_mock_script(sj_mock *mock, sj_slice json, sj_buffer *error) {
    return sj_mock_choose_script(&mock->choose, json, error);
}

void sj_mock_close(sj_mock **mock) {
    if (!*mock)
        return;
    sj_mock_http_close((*mock)->http);
    *mock = NULL;
}
