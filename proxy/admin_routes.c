#include "admin.h"

#include "json_span.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_STATE = 8 * 1024 * 1024, MAX_MESSAGE = 64 * 1024, MAX_TARGET_NAME = 1024 };

// One request on its way through.
typedef struct sj_visit {
    const sj_admin_options *options;
    const sj_admin_request *request;
    const sj_server_view *view;
    sj_slice path;
    sj_admin_answer *answer;
} sj_visit;

void sj_admin_answer_init(sj_admin_answer *answer) {
    *answer = (sj_admin_answer){.body = sj_buffer_with_max(SJ_METRICS_MAX_TEXT)};
    sj_headers_init(&answer->headers);
}

void sj_admin_answer_free(sj_admin_answer *answer) {
    sj_headers_free(&answer->headers);
    sj_buffer_free(&answer->body);
}

static void header(sj_visit *visit, const char *name, const char *value) {
    // Out of memory: an answer without it still is an answer.
    (void)!sj_headers_add(&visit->answer->headers, sj_slice_of(name), sj_slice_of(value));
}

static void answer_as(sj_visit *visit, int status, const char *type) {
    visit->answer->status = status;
    header(visit, "Content-Type", type);
    header(visit, "Cache-Control", "no-store");
    header(visit, "X-Content-Type-Options", "nosniff");
}

// The error shape that the proxy uses everywhere.
static void fail(sj_visit *visit, int status, const char *code, const char *message) {
    sj_buffer *body = &visit->answer->body;
    sj_buffer_clear(body);
    bool ok = sj_buffer_text(body, "{\"error\":{\"message\":") &&
              sj_json_encode_string(sj_slice_of(message), body) &&
              sj_buffer_printf(body, ",\"type\":\"stormjib_error\",\"param\":null,\"code\":\"%s\"}}\n", code);
    if (!ok)
        sj_buffer_clear(body);
    answer_as(visit, status, "application/json");
}

// ---- who may ---------------------------------------------------------------------------------------------------------------

// Takes as long for every wrong token of the same length.
static bool same_secret(sj_slice given, sj_slice expected) {
    unsigned char differs = given.n != expected.n;
    for (size_t i = 0; i < given.n; i++)
        differs |= (unsigned char)given.p[i] ^ (unsigned char)expected.p[expected.n ? i % expected.n : 0];
    return expected.n > 0 && !differs;
}

static bool has_token(const sj_visit *visit, const char *token) {
    sj_slice given = sj_headers_get(visit->request->headers, "authorization");
    if (given.n < 7 || !sj_slice_equal_nocase((sj_slice){given.p, 7}, SJ_SLICE("Bearer ")))
        return false;
    return same_secret(sj_slice_trim(sj_slice_from(given, 7)), sj_slice_of(token));
}

// "localhost" or an address, with or without a port: no name that somebody else's DNS could point at us.
static bool is_local_host(sj_slice host) {
    if (host.n && host.p[0] == '[')
        return true;
    const char *colon = host.n ? memrchr(host.p, ':', host.n) : NULL;
    if (colon)
        host.n = (size_t)(colon - host.p);
    if (sj_slice_equal_nocase(host, SJ_SLICE("localhost")))
        return true;
    for (size_t i = 0; i < host.n; i++)
        if (!isdigit((unsigned char)host.p[i]) && host.p[i] != '.')
            return false;
    return host.n > 0;
}

// Without a token a web page in the user's browser must not be able to open breakers here.
static bool is_own_page(const sj_visit *visit) {
    if (visit->request->from_unix)
        return true;
    sj_slice host = sj_headers_get(visit->request->headers, "host");
    sj_slice origin = sj_headers_get(visit->request->headers, "origin");
    if (!is_local_host(host))
        return false;
    return origin.n == 0 || (sj_slice_starts(origin, SJ_SLICE("http://")) &&
                             sj_slice_equal_nocase(sj_slice_from(origin, 7), host));
}

// ---- what there is ---------------------------------------------------------------------------------------------------------

static void get_health(sj_visit *visit) {
    (void)!sj_buffer_text(&visit->answer->body, "ok\n");
    answer_as(visit, 200, "text/plain; charset=utf-8");
}

static void get_ready(sj_visit *visit) {
    (void)!sj_buffer_text(&visit->answer->body, visit->view->draining ? "draining\n" : "ready\n");
    answer_as(visit, visit->view->draining ? 503 : 200, "text/plain; charset=utf-8");
}

static void get_metrics(sj_visit *visit) {
    if (sj_registry_render(visit->options->registry, visit->view, &visit->answer->body))
        answer_as(visit, 200, "text/plain; version=0.0.4; charset=utf-8");
    else
        fail(visit, 500, "internal", "The metrics did not fit into memory.");
}

static void get_state(sj_visit *visit) {
    visit->answer->body.max = MAX_STATE;
    if (sj_admin_state(visit->options->registry, visit->view, &visit->answer->body))
        answer_as(visit, 200, "application/json");
    else
        fail(visit, 500, "internal", "The state did not fit into memory.");
}

static void show_page(sj_visit *visit, int status) {
    sj_buffer_clear(&visit->answer->body);
    if (!sj_admin_page(&visit->answer->body)) {
        fail(visit, 500, "internal", "The page did not fit into memory.");
        return;
    }
    header(visit, "Content-Security-Policy",
           "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
           "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
    header(visit, "Referrer-Policy", "no-referrer");
    answer_as(visit, status, "text/html; charset=utf-8");
}

static void get_page(sj_visit *visit) {
    show_page(visit, 200);
}

static void post_reload(sj_visit *visit) {
    sj_buffer message = sj_buffer_with_max(MAX_MESSAGE);
    bool ok = visit->options->reload(visit->options->context, &message);
    if (!sj_buffer_append(&message, "", 1)) {
        fail(visit, 500, "internal", "Out of memory.");
    } else if (!ok) {
        fail(visit, 422, "invalid_configuration", message.p);
    } else {
        sj_buffer *body = &visit->answer->body;
        message.n--;
        bool fits = sj_buffer_text(body, "{\"ok\":true,\"message\":") &&
                    sj_json_encode_string(sj_buffer_slice(&message), body) && sj_buffer_text(body, "}\n");
        if (fits)
            answer_as(visit, 200, "application/json");
        else
            fail(visit, 500, "internal", "Out of memory.");
    }
    sj_buffer_free(&message);
}

// ---- breakers --------------------------------------------------------------------------------------------------------------

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static bool decode(sj_slice text, char *out, size_t size) {
    size_t n = 0;
    for (size_t i = 0; i < text.n; i++, n++) {
        if (n + 1 >= size)
            return false;
        out[n] = text.p[i];
        if (text.p[i] == '%' && i + 2 < text.n && hex_digit(text.p[i + 1]) >= 0 &&
            hex_digit(text.p[i + 2]) >= 0) {
            out[n] = (char)(hex_digit(text.p[i + 1]) * 16 + hex_digit(text.p[i + 2]));
            i += 2;
        }
        if (out[n] == '\0')
            return false;
    }
    out[n] = '\0';
    return n > 0;
}

static void tell_change(const sj_visit *visit, const char *label, const sj_breaker_change *change,
                        bool global) {
    if (!change->changed)
        return;
    sj_note note = {.kind = SJ_NOTE_BREAKER, .change = *change, .global = global};
    sj_registry_note(visit->options->registry, label, &note);
    if (visit->options->log)
        sj_log_note(visit->options->log, NULL, label, &note);
}

static sj_target *find_target(const sj_server_view *view, const char *name) {
    for (size_t i = 0; i < view->target_count; i++)
        if (strcmp(sj_target_name(view->targets[i]), name) == 0)
            return view->targets[i];
    return NULL;
}

static bool force(const sj_visit *visit, const char *name, sj_breaker_state state, sj_breaker_state *now) {
    const sj_server_view *view = visit->view;
    if (strcmp(name, "global") == 0 && view->global) {
        sj_breaker_change change = {0};
        sj_global_breaker_force(view->global, state, view->now_ms, &change);
        tell_change(visit, name, &change, true);
        *now = sj_global_breaker_state(view->global);
        return true;
    }
    sj_target *target = find_target(view, name);
    if (!target)
        return false;
    sj_changes changes = {0};
    sj_target_force(target, state, view->now_ms, &changes);
    for (int i = 0; i < changes.count; i++)
        tell_change(visit, name, &changes.list[i].change, changes.list[i].global);
    *now = sj_target_read(target, view->now_ms).state;
    return true;
}

static void post_breaker(sj_visit *visit) {
    static const struct {
        const char *verb;
        sj_breaker_state state;
    } verbs[] = {
        {"open", SJ_BREAKER_FORCED_OPEN}, {"close", SJ_BREAKER_CLOSED}, {"disable", SJ_BREAKER_DISABLED}};
    sj_slice rest = sj_slice_from(visit->path, strlen("/breaker/"));
    const char *slash = rest.n ? memrchr(rest.p, '/', rest.n) : NULL;
    sj_slice verb = slash ? sj_slice_from(rest, (size_t)(slash - rest.p) + 1) : (sj_slice){NULL, 0};
    char name[MAX_TARGET_NAME];
    size_t i = 0;
    while (i < 3 && !sj_slice_equal(verb, sj_slice_of(verbs[i].verb)))
        i++;
    if (i == 3 || !decode((sj_slice){rest.p, (size_t)(slash - rest.p)}, name, sizeof name)) {
        fail(visit, 404, "not_found",
             "It is /breaker/{target}/open, /close or /disable; the target global is the global breaker.");
        return;
    }
    sj_breaker_state now;
    if (!force(visit, name, verbs[i].state, &now)) {
        fail(visit, 404, "not_found", "There is no such target; GET /state lists them.");
        return;
    }
    sj_buffer *body = &visit->answer->body;
    bool ok = sj_buffer_text(body, "{\"target\":") && sj_json_encode_string(sj_slice_of(name), body) &&
              sj_buffer_printf(body, ",\"state\":\"%s\"}\n", sj_breaker_state_name(now));
    if (ok)
        answer_as(visit, 200, "application/json");
    else
        fail(visit, 500, "internal", "Out of memory.");
}

// ---- the table ---------------------------------------------------------------------------------------------------------------

static const struct {
    const char *path; // ends in "/*": anything below it
    const char *method;
    bool open; // needs no token
    void (*answer)(sj_visit *visit);
} routes[] = {
    {"/", "GET", false, get_page},
    {"/metrics", "GET", false, get_metrics},
    {"/state", "GET", false, get_state},
    {"/healthz", "GET", true, get_health},
    {"/readyz", "GET", true, get_ready},
    {"/reload", "POST", false, post_reload},
    {"/breaker/*", "POST", false, post_breaker},
};

static bool path_matches(const char *pattern, sj_slice path) {
    size_t n = strlen(pattern);
    if (n > 2 && pattern[n - 1] == '*')
        return sj_slice_starts(path, (sj_slice){pattern, n - 1});
    return sj_slice_equal(path, sj_slice_of(pattern));
}

static bool method_matches(const char *allowed, sj_slice method) {
    return sj_slice_equal(method, sj_slice_of(allowed)) ||
           (sj_slice_equal(method, SJ_SLICE("HEAD")) && strcmp(allowed, "GET") == 0);
}

// The index of the route, or their number.
static size_t find_route(const sj_visit *visit) {
    size_t i = 0;
    while (i < sizeof routes / sizeof routes[0] && !path_matches(routes[i].path, visit->path))
        i++;
    if (i < sizeof routes / sizeof routes[0] && routes[i].answer == post_reload && !visit->options->reload)
        return sizeof routes / sizeof routes[0];
    return i;
}

static void deny(sj_visit *visit) {
    header(visit, "WWW-Authenticate", "Bearer realm=\"stormjib\"");
    if (sj_slice_equal(visit->path, SJ_SLICE("/")))
        show_page(visit, 401); // it asks for the token by itself, and holds nothing worth hiding
    else
        fail(visit, 401, "unauthorized",
             "This needs `Authorization: Bearer` with the admin_token of the configuration.");
}

static void dispatch(sj_visit *visit) {
    size_t i = find_route(visit);
    bool found = i < sizeof routes / sizeof routes[0];
    const char *token = visit->view->config ? visit->view->config->admin_token : NULL;
    if (token && !(found && routes[i].open) && !has_token(visit, token)) {
        deny(visit);
    } else if (!found) {
        fail(visit, 404, "not_found",
             "There are /, /metrics, /state, /healthz, /readyz, /breaker/{target}/open|close|disable and "
             "/reload.");
    } else if (!method_matches(routes[i].method, visit->request->method)) {
        bool get = strcmp(routes[i].method, "GET") == 0;
        header(visit, "Allow", get ? "GET, HEAD" : routes[i].method);
        fail(visit, 405, "method_not_allowed", get ? "This path takes GET." : "This path takes POST.");
    } else if (!token && strcmp(routes[i].method, "POST") == 0 && !is_own_page(visit)) {
        fail(visit, 403, "forbidden",
             "Without an admin_token this takes only requests to an address or to localhost, and none from "
             "other web pages.");
    } else {
        routes[i].answer(visit);
    }
}

void sj_admin_route(const sj_admin_options *options, const sj_admin_request *request,
                    sj_admin_answer *answer) {
    sj_server_view view;
    options->view_take(options->server, &view);
    const char *query = request->target.n ? memchr(request->target.p, '?', request->target.n) : NULL;
    sj_visit visit = {
        .options = options,
        .request = request,
        .view = &view,
        .path = {request->target.p, query ? (size_t)(query - request->target.p) : request->target.n},
        .answer = answer,
    };
    dispatch(&visit);
    options->view_release(&view);
}
