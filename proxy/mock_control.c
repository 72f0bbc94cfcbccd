// Requests under /mock/: change the rules, read the evidence. Every answer is JSON and leaves at once.
#include "mock_core.h"

#include <inttypes.h>
#include <stdlib.h>

enum { MAX_CONTROL_ANSWER = 128 * 1024 * 1024, LOG_LIMIT = 10000 };

typedef struct control {
    sj_mock *mock;
    sj_slice query, body;
    sj_buffer out;
    sj_buffer error;
} control;

// The value of ?name=NUMBER.
static uint64_t query_number(sj_slice query, const char *name, uint64_t otherwise) {
    size_t n = strlen(name);
    while (query.n) {
        const char *end = memchr(query.p, '&', query.n);
        sj_slice pair = {query.p, end ? (size_t)(end - query.p) : query.n};
        query = sj_slice_from(query, end ? pair.n + 1 : pair.n);
        if (pair.n <= n + 1 || memcmp(pair.p, name, n) != 0 || pair.p[n] != '=')
            continue;
        char digits[24] = "";
        memcpy(digits, pair.p + n + 1, pair.n - n - 1 < sizeof digits ? pair.n - n - 1 : sizeof digits - 1);
        return strtoull(digits, NULL, 10);
    }
    return otherwise;
}

static bool done(control *c) {
    return sj_buffer_text(&c->out, "{\"ok\":true}\n");
}

static bool read_log(control *c) {
    uint64_t since = query_number(c->query, "since", 0);
    uint64_t limit = query_number(c->query, "limit", LOG_LIMIT);
    return sj_mock_log_write(&c->mock->log, since, limit < LOG_LIMIT ? limit : LOG_LIMIT, &c->out);
}

static bool clear_log(control *c) {
    sj_mock_log_clear(&c->mock->log);
    return done(c);
}

static bool read_stats(control *c) {
    const sj_mock_http_stats *http = sj_mock_http_read(c->mock->http);
    return sj_buffer_text(&c->out, "{") && sj_mock_log_write_totals(&c->mock->log, &c->out) &&
           sj_buffer_printf(&c->out,
                            ",\"connections\":%" PRIu64 ",\"connections_open\":%d,\"connections_open_max\":%d"
                            ",\"bytes_out\":%" PRIu64 ",\"script_left\":%zu,\"uptime_ms\":%.0f}\n",
                            http->connections, http->open, http->open_max, http->bytes_out,
                            sj_mock_choose_script_left(&c->mock->choose), sj_mock_now_ms(c->mock));
}

static bool clear_stats(control *c) {
    sj_mock_http_stats *http = sj_mock_http_read(c->mock->http);
    sj_mock_log_clear_totals(&c->mock->log);
    http->connections = 0;
    http->open_max = http->open;
    http->bytes_out = 0;
    return done(c);
}

static bool set_script(control *c) {
    return sj_mock_choose_script(&c->mock->choose, c->body, &c->error) &&
           sj_buffer_printf(&c->out, "{\"ok\":true,\"script_left\":%zu}\n",
                            sj_mock_choose_script_left(&c->mock->choose));
}

static bool clear_script(control *c) {
    sj_mock_choose_free(&c->mock->choose);
    return done(c);
}

static bool set_rules(control *c) {
    return sj_mock_choose_rules(&c->mock->choose, c->body, (int64_t)sj_mock_now_ms(c->mock), &c->error) &&
           done(c);
}

// As if just started: rules, script, log, totals and the sequence of chance.
static bool reset(control *c) {
    sj_mock *mock = c->mock;
    sj_mock_choose_free(&mock->choose);
    sj_mock_choose_init(&mock->choose, &mock->first_rules, (int64_t)sj_mock_now_ms(mock));
    sj_mock_log_clear(&mock->log);
    return clear_stats(c);
}

static const struct action {
    const char *path, *method;
    bool (*run)(control *c);
} actions[] = {
    {"/mock/log", "GET", read_log},           {"/mock/log", "DELETE", clear_log},
    {"/mock/stats", "GET", read_stats},       {"/mock/stats", "DELETE", clear_stats},
    {"/mock/script", "POST", set_script},     {"/mock/script", "PUT", set_script},
    {"/mock/script", "DELETE", clear_script}, {"/mock/rules", "POST", set_rules},
    {"/mock/reset", "POST", reset},           {"/mock/health", "GET", done},
};

static const struct action *find_action(const sj_mock_request *request, sj_slice path) {
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) {
        if (sj_slice_equal(path, sj_slice_of(actions[i].path)) &&
            sj_slice_equal(request->method, sj_slice_of(actions[i].method)))
            return &actions[i];
    }
    return NULL;
}

static void answer(sj_mock *mock, sj_mock_conn *conn, int status, const sj_mock_request *request,
                   sj_slice body) {
    sj_buffer *out = &mock->out;
    sj_buffer_clear(out);
    if (sj_buffer_printf(
            out, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n%s\r\n", status,
            status == 200 ? "OK" : "No", body.n, request->keep_alive ? "" : "Connection: close\r\n") &&
        sj_buffer_add(out, body)) {
        sj_mock_conn_write(conn, sj_buffer_slice(out));
        sj_buffer_clear(out);
        sj_mock_conn_done(conn);
        return;
    }
    sj_buffer_clear(out);
    sj_mock_conn_finish(conn);
}

static void refuse(control *c, sj_mock_conn *conn, int status, const sj_mock_request *request) {
    sj_buffer_clear(&c->out);
    sj_slice why =
        c->error.n ? sj_buffer_slice(&c->error) : SJ_SLICE("no such control; see stormjib mock --help");
    if (!sj_buffer_text(&c->out, "{\"ok\":false,\"error\":") || !sj_json_encode_string(why, &c->out) ||
        !sj_buffer_text(&c->out, "}\n"))
        sj_buffer_clear(&c->out);
    answer(c->mock, conn, status, request, sj_buffer_slice(&c->out));
}

bool sj_mock_control(sj_mock *mock, sj_mock_conn *conn, const sj_mock_request *request, sj_slice path,
                     sj_slice query) {
    if (!sj_slice_starts(path, SJ_SLICE("/mock/")))
        return false;
    control c = {.mock = mock,
                 .query = query,
                 .body = request->body,
                 .out = sj_buffer_with_max(MAX_CONTROL_ANSWER),
                 .error = sj_buffer_with_max(4096)};
    const struct action *action = find_action(request, path);
    if (!action)
        refuse(&c, conn, 404, request);
    else if (!action->run(&c))
        refuse(&c, conn, 400, request);
    else
        answer(mock, conn, 200, request, sj_buffer_slice(&c.out));
    sj_buffer_free(&c.out);
    sj_buffer_free(&c.error);
    return true;
}
