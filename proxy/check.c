#include "check.h"

#include "upstream.h"

#include <assert.h>
#include <cJSON.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct sj_check_run_state sj_check_run_state;

// One request under way.
typedef struct sj_question {
    sj_check_run_state *run;
    sj_check_result *result;
    sj_attempt *attempt; // NULL once it is over
    sj_buffer body;
    bool too_long;
    char location[96];
    uint64_t started_ms;
} sj_question;

struct sj_check_run_state {
    const sj_config *config;
    uv_loop_t loop;
    uv_timer_t limit;
    sj_upstream *upstream;
    sj_question *questions;
    size_t count, open;
};

// ---- answers -----------------------------------------------------------------------------------------------------------------

static const char *name_of(const cJSON *item) {
    if (cJSON_IsString(item))
        return item->valuestring;
    static const char *const keys[] = {"id", "name", "model"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const cJSON *name = cJSON_GetObjectItemCaseSensitive(item, keys[i]);
        if (cJSON_IsString(name))
            return name->valuestring;
    }
    return NULL;
}

static void keep_models(sj_check_result *result, const cJSON *list) {
    size_t n = (size_t)cJSON_GetArraySize(list);
    result->models = calloc(n < SJ_CHECK_MAX_MODELS ? n + 1 : SJ_CHECK_MAX_MODELS, sizeof *result->models);
    for (const cJSON *item = list->child;
         item && result->models && result->model_count + 1 < SJ_CHECK_MAX_MODELS; item = item->next) {
        const char *name = name_of(item);
        char *copy = name ? strdup(name) : NULL;
        if (copy)
            result->models[result->model_count++] = copy;
    }
}

bool sj_check_read_models(sj_check_result *result, sj_slice body) {
    cJSON *json = body.n ? cJSON_ParseWithLength(body.p, body.n) : NULL;
    const cJSON *list = json;
    if (cJSON_IsObject(json)) {
        list = cJSON_GetObjectItemCaseSensitive(json, "data");
        if (!cJSON_IsArray(list))
            list = cJSON_GetObjectItemCaseSensitive(json, "models");
    }
    bool ok = cJSON_IsArray(list);
    if (ok)
        keep_models(result, list);
    cJSON_Delete(json);
    return ok;
}

bool sj_check_lists(const sj_check_result *result, const char *model) {
    for (size_t i = 0; i < result->model_count; i++) {
        const char *listed = result->models[i];
        if (strncmp(listed, "models/", 7) == 0 && strncmp(model, "models/", 7) != 0)
            listed += 7; // Gemini lists them so and takes both
        if (strcmp(listed, model) == 0)
            return true;
    }
    return false;
}

static const sj_upstream_config *upstream_of(const sj_question *question) {
    return &question->run->config->upstreams[question->result->upstream];
}

static void judge(sj_question *question) {
    sj_check_result *result = question->result;
    const sj_upstream_config *upstream = upstream_of(question);
    int status = result->status;
    char *detail = result->detail;
    enum { SIZE = sizeof result->detail };
    if (status == 401 || status == 403) {
        bool clients = upstream->api_key_count == 0 && upstream->auth != SJ_AUTH_NONE;
        result->kind = clients ? SJ_CHECK_CLIENTS_KEY : SJ_CHECK_WRONG_KEY;
        (void)snprintf(detail, SIZE, "the API answered %d", status);
    } else if (status >= 300 && status < 400) {
        result->kind = SJ_CHECK_ODD;
        (void)snprintf(detail, SIZE, "it redirects (%d)%s%s; base_url should name where it leads", status,
                       question->location[0] ? " to " : "", question->location);
    } else if (status >= 500) {
        result->kind = SJ_CHECK_ODD;
        (void)snprintf(detail, SIZE, "it answered %d", status);
    } else if (status >= 400) {
        result->kind = SJ_CHECK_NO_LIST;
        (void)snprintf(detail, SIZE, "it answered %d to the question for its models", status);
    } else if (question->too_long || !sj_check_read_models(result, sj_buffer_slice(&question->body))) {
        result->kind = SJ_CHECK_ODD;
        (void)snprintf(detail, SIZE,
                       "it answered %d with something that is no list of models; does base_url end in /v1?",
                       status);
    } else {
        result->kind = SJ_CHECK_OK;
    }
}

static void settle(sj_question *question) {
    question->attempt = NULL;
    question->result->ms = (int64_t)(uv_hrtime() / 1000000 - question->started_ms);
    assert(question->run->open > 0);
    if (--question->run->open == 0)
        uv_timer_stop(&question->run->limit);
}

static void on_head(void *owner, int status, const sj_headers *headers) {
    sj_question *question = owner;
    question->result->status = status;
    sj_slice location = sj_headers_get(headers, "location");
    if (location.n < sizeof question->location)
        for (size_t i = 0; i < location.n; i++) {
            char c = location.p[i];
            question->location[i] = c > ' ' && c < 0x7F ? c : '?';
        }
}

static void on_data(void *owner, sj_slice bytes) {
    sj_question *question = owner;
    if (!sj_buffer_add(&question->body, bytes))
        question->too_long = true;
}

static void on_end(void *owner, const sj_attempt_end *end, const sj_headers *trailers) {
    (void)trailers;
    sj_question *question = owner;
    if (end->end == SJ_END_WHOLE) {
        judge(question);
    } else {
        question->result->kind = SJ_CHECK_UNREACHABLE;
        question->result->status = 0;
        bool plain = strstr(end->detail, "wrong version number") != NULL; // OpenSSL's way to say so
        (void)snprintf(question->result->detail, sizeof question->result->detail, "%s%s",
                       end->end == SJ_END_TLS_UNVERIFIED ? "its certificate is not trusted: "
                       : plain ? "no TLS there, should base_url begin with http:// ? "
                               : "",
                       end->detail);
    }
    settle(question);
}

static void on_limit(uv_timer_t *timer) {
    sj_check_run_state *run = timer->data;
    for (size_t i = 0; i < run->count; i++) {
        sj_question *question = &run->questions[i];
        if (!question->attempt)
            continue;
        sj_attempt_cancel(&question->attempt);
        question->result->kind = SJ_CHECK_UNREACHABLE;
        question->result->status = 0;
        (void)snprintf(question->result->detail, sizeof question->result->detail, "no answer in time");
        settle(question);
    }
}

// ---- questions ---------------------------------------------------------------------------------------------------------------

static bool add_headers(sj_headers *headers, const sj_upstream_config *upstream, size_t key) {
    bool ok = sj_headers_add(headers, SJ_SLICE("Accept"), SJ_SLICE("application/json")) &&
              sj_headers_add(headers, SJ_SLICE("User-Agent"), SJ_SLICE("stormjib/" SJ_VERSION));
    if (ok && key < upstream->api_key_count) {
        sj_buffer value = sj_buffer_with_max(64 * 1024);
        ok = sj_buffer_text(&value, upstream->api_key_prefix) &&
             sj_buffer_text(&value, upstream->api_keys[key]) &&
             sj_headers_add(headers, sj_slice_of(upstream->api_key_header), sj_buffer_slice(&value));
        if (value.p)
            explicit_bzero(value.p, value.n);
        sj_buffer_free(&value);
    }
    for (size_t i = 0; i < upstream->header_count && ok; i++)
        ok = sj_headers_add(headers, sj_slice_of(upstream->headers[i].name),
                            sj_slice_of(upstream->headers[i].value));
    return ok;
}

static void ask(sj_question *question) {
    static const sj_attempt_handlers handlers = {on_head, on_data, on_end};
    const sj_upstream_config *upstream = upstream_of(question);
    sj_buffer target = sj_buffer_with_max(64 * 1024);
    sj_headers headers;
    sj_headers_init(&headers);
    bool ok = sj_buffer_printf(&target, "%s/models%s%s", upstream->base_path, *upstream->query ? "?" : "",
                               upstream->query) &&
              add_headers(&headers, upstream, question->result->key);
    question->started_ms = uv_hrtime() / 1000000;
    const sj_attempt_spec spec = {
        .origin = upstream->origin,
        .target = sj_buffer_slice(&target),
        .method = SJ_SLICE("GET"),
        .headers = &headers,
        .connect_timeout_ms = upstream->connect_timeout_ms,
        .ca_file = upstream->ca_file,
        .proxy = upstream->proxy,
    };
    if (ok)
        question->attempt = sj_attempt_start(question->run->upstream, &spec, &handlers, question);
    if (question->attempt) {
        question->run->open++;
    } else {
        question->result->kind = SJ_CHECK_UNREACHABLE;
        (void)snprintf(question->result->detail, sizeof question->result->detail,
                       "the request could not be made");
    }
    sj_headers_free(&headers);
    sj_buffer_free(&target);
}

// One result for each upstream and key.
static bool plan(const sj_config *config, sj_check *check) {
    size_t n = 0;
    for (size_t i = 0; i < config->upstream_count; i++)
        n += config->upstreams[i].api_key_count > 1 ? config->upstreams[i].api_key_count : 1;
    n = n > SJ_CHECK_MAX_REQUESTS ? SJ_CHECK_MAX_REQUESTS : n;
    check->results = calloc(n + 1, sizeof *check->results);
    if (!check->results)
        return false;
    for (size_t i = 0; i < config->upstream_count; i++)
        for (size_t key = 0; (key == 0 || key < config->upstreams[i].api_key_count) && check->count < n;
             key++)
            check->results[check->count++] = (sj_check_result){.upstream = i, .key = key};
    return true;
}

static void ask_all(sj_check_run_state *run, sj_check *check, int64_t timeout_ms) {
    uv_timer_init(&run->loop, &run->limit);
    run->limit.data = run;
    for (size_t i = 0; i < check->count; i++) {
        sj_question *question = &run->questions[run->count++];
        *question = (sj_question){
            .run = run, .result = &check->results[i], .body = sj_buffer_with_max(SJ_CHECK_MAX_ANSWER)};
        if (upstream_of(question)->embedded)
            question->result->kind = SJ_CHECK_EMBEDDED;
        else
            ask(question);
    }
    if (run->open)
        uv_timer_start(&run->limit, on_limit, (uint64_t)timeout_ms, 0);
    while (run->open)
        uv_run(&run->loop, UV_RUN_ONCE);
    for (size_t i = 0; i < run->count; i++)
        sj_buffer_free(&run->questions[i].body);
}

bool sj_check_run(const sj_config *config, int64_t timeout_ms, sj_check *check) {
    *check = (sj_check){0};
    if (!plan(config, check))
        return false;
    sj_check_run_state run = {.config = config, .questions = calloc(check->count + 1, sizeof *run.questions)};
    bool ok = run.questions && uv_loop_init(&run.loop) == 0;
    if (ok) {
        run.upstream = sj_upstream_new(&run.loop);
        ok = run.upstream != NULL;
        if (ok) {
            ask_all(&run, check, timeout_ms);
            uv_close((uv_handle_t *)&run.limit, NULL);
            sj_upstream_close(&run.upstream);
        }
        uv_run(&run.loop, UV_RUN_DEFAULT);
        int busy = uv_loop_close(&run.loop);
        assert(busy == 0);
    }
    free(run.questions);
    if (!ok)
        sj_check_free(check);
    return ok;
}

void sj_check_free(sj_check *check) {
    for (size_t i = 0; i < check->count; i++) {
        for (size_t j = 0; j < check->results[i].model_count; j++)
            free(check->results[i].models[j]);
        free(check->results[i].models);
    }
    free(check->results);
    *check = (sj_check){0};
}
