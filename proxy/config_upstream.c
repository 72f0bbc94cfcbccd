// One upstream: its address, its credential, what is added to requests, and the rules that hold there.
#include "config_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static bool given(const sj_upstream_source *source, const char *key) {
    return sj_key_given(&source->given, &sj_block_upstream, key);
}

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static void resolve_address(sj_loader *loader, sj_upstream_source *source) {
    sj_upstream_config *v = &source->v;
    if (!v->base_url)
        return; // reported already
    v->embedded = strcmp(v->base_url, "mock") == 0;
    sj_url url = {0};
    const char *problem = sj_url_parse(loader, v->embedded ? "http://mock/v1" : v->base_url, &url);
    if (problem) {
        sj_config_fault(loader, source->given.setting, "base_url", "the URL %s", problem);
        return;
    }
    v->origin = url.origin;
    v->base_path = url.path;
    char base_url[3072];
    (void)snprintf(base_url, sizeof base_url, "%s%s", url.origin, url.path);
    if (!v->embedded)
        v->base_url = sj_config_copy(loader, sj_slice_of(base_url));
    if (ends_with(url.path, "/chat/completions") || ends_with(url.path, "/responses") ||
        ends_with(url.path, "/messages"))
        sj_config_warn(loader, source->given.setting, "base_url",
                       "ends in an endpoint's own path, which the client's request brings along; it usually "
                       "ends in /v1");
    for (size_t i = 0; i < loader->loaded->config.listen_count && !v->embedded; i++) {
        const sj_listen *listen = &loader->loaded->config.listens[i];
        if (listen->host && listen->port == url.port && sj_host_is_loopback(url.host))
            sj_config_fault(loader, source->given.setting, "base_url",
                            "points at this proxy's own listener; name the API behind it%s",
                            loader->path ? "" : " in STORMJIB_UPSTREAM, which goes before OPENAI_BASE_URL");
    }
}

static void resolve_credential(sj_loader *loader, sj_upstream_source *source) {
    sj_upstream_config *v = &source->v;
    const config_setting_t *at = source->given.setting;
    if (given(source, "api_key") && given(source, "api_keys"))
        sj_config_fault(loader, at, "api_keys", "stands beside api_key; keep one of them");
    if (source->api_key && !v->api_key_count) {
        v->api_keys = sj_config_alloc(loader, sizeof *v->api_keys);
        if (!v->api_keys)
            return;
        v->api_keys[0] = source->api_key;
        v->api_key_count = 1;
        source->api_key = NULL;
    }
    bool wants_key = config_setting_get_member(at, "api_key") || config_setting_get_member(at, "api_keys");
    if (!given(source, "auth"))
        v->auth = wants_key ? SJ_AUTH_KEY : SJ_AUTH_UNSET;
    else if (v->auth == SJ_AUTH_KEY && !wants_key)
        sj_config_fault(loader, at, "auth", "\"key\" needs an api_key; write api_key = \"${NAME}\"");
    else if (v->auth != SJ_AUTH_KEY && wants_key)
        sj_config_fault(loader, at, "auth", "contradicts the api_key beside it; remove one of them");
    if (v->api_key_header && !sj_is_token(v->api_key_header))
        sj_config_fault(loader, at, "api_key_header", "is not a header's name");
    bool usual = v->api_key_header && strcasecmp(v->api_key_header, "Authorization") == 0;
    if (!v->api_key_prefix)
        v->api_key_prefix = sj_config_copy(loader, sj_slice_of(usual ? "Bearer " : ""));
}

// ---- headers and query ------------------------------------------------------------------------------------------------------

static bool is_own_header(const char *name) {
    static const char *const own[] = {"host",
                                      "content-length",
                                      "connection",
                                      "keep-alive",
                                      "proxy-connection",
                                      "proxy-authorization",
                                      "te",
                                      "trailer",
                                      "transfer-encoding",
                                      "upgrade",
                                      "expect",
                                      "content-type",
                                      "content-encoding"};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        if (strcasecmp(name, own[i]) == 0)
            return true;
    }
    return strncasecmp(name, "x-stormjib-", 11) == 0;
}

static const char *header_problem(const sj_upstream_source *source, size_t index) {
    const char *name = source->headers[index].name;
    if (!sj_is_token(name))
        return "is not a header's name";
    if (is_own_header(name))
        return "is a header that the proxy or the client sets";
    if (source->v.api_key_count && strcasecmp(name, source->v.api_key_header) == 0)
        return "carries the api_key already";
    for (size_t i = 0; i < index; i++) {
        if (strcasecmp(name, source->headers[i].name) == 0)
            return "stands there twice";
    }
    return NULL;
}

static void resolve_headers(sj_loader *loader, sj_upstream_source *source) {
    sj_upstream_config *v = &source->v;
    v->headers = sj_config_alloc(loader, (source->header_count + 1) * sizeof *v->headers);
    for (size_t i = 0; i < source->header_count && v->headers; i++) {
        const char *problem = header_problem(source, i);
        if (problem)
            sj_config_fault(loader, source->given.setting, "headers", "'%.64s' %s", source->headers[i].name,
                            problem);
        v->headers[v->header_count++] = (sj_pair){source->headers[i].name, source->headers[i].value};
    }
}

static bool add_encoded(sj_buffer *out, const char *text) {
    bool ok = true;
    for (; *text && ok; text++) {
        unsigned char c = (unsigned char)*text;
        bool plain =
            (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || strchr("-._~", c);
        ok = plain ? sj_buffer_append(out, text, 1) : sj_buffer_printf(out, "%%%02X", c);
    }
    return ok;
}

static void resolve_query(sj_loader *loader, sj_upstream_source *source) {
    sj_buffer out = sj_buffer_with_max(SJ_CONFIG_MAX_TEXT);
    bool ok = true;
    for (size_t i = 0; i < source->query_count && ok; i++) {
        const sj_pair_source *pair = &source->query[i];
        if (!*pair->name)
            sj_config_fault(loader, source->given.setting, "query", "a parameter without a name");
        ok = (i == 0 || sj_buffer_text(&out, "&")) && add_encoded(&out, pair->name) &&
             sj_buffer_text(&out, "=") && add_encoded(&out, pair->value);
    }
    if (!ok)
        sj_config_fault(loader, source->given.setting, "query", "is longer than %d bytes",
                        SJ_CONFIG_MAX_TEXT);
    source->v.query = sj_config_copy(loader, sj_buffer_slice(&out));
    sj_buffer_free(&out);
}

// ---- files and proxies ------------------------------------------------------------------------------------------------------

static void resolve_ca_file(sj_loader *loader, sj_upstream_source *source) {
    char *file = source->v.ca_file;
    if (!file)
        return;
    if (*file != '/' && loader->include_dir) {
        char *folder = realpath(loader->include_dir, NULL);
        char path[8192];
        int n = folder ? snprintf(path, sizeof path, "%s/%s", folder, file) : -1;
        free(folder);
        if (n > 0 && n < (int)sizeof path)
            file = sj_config_copy(loader, sj_slice_of(path));
    }
    source->v.ca_file = file;
    if (file && access(file, R_OK) != 0)
        sj_config_fault(loader, source->given.setting, "ca_file", "the file cannot be read");
}

static void resolve_proxy(sj_loader *loader, sj_upstream_source *source) {
    const char *problem = source->v.proxy ? sj_proxy_check(loader, source->v.proxy) : NULL;
    if (problem)
        sj_config_fault(loader, source->given.setting, "proxy", "the proxy's URL %s", problem);
}

static void resolve_contexts(sj_loader *loader, sj_upstream_source *source) {
    sj_upstream_config *v = &source->v;
    v->contexts = sj_config_alloc(loader, (source->context_count + 1) * sizeof *v->contexts);
    for (size_t i = 0; i < source->context_count && v->contexts; i++)
        v->contexts[v->context_count++] = source->contexts[i].v;
}

void sj_config_resolve_upstream(sj_loader *loader, sj_upstream_source *source) {
    const sj_loaded *loaded = loader->loaded;
    resolve_address(loader, source);
    resolve_credential(loader, source);
    resolve_headers(loader, source);
    resolve_query(loader, source);
    resolve_ca_file(loader, source);
    resolve_proxy(loader, source);
    resolve_contexts(loader, source);

    sj_breaker_block breaker = loaded->breaker;
    sj_config_merge(&sj_block_breaker, &breaker, &source->breaker);
    sj_budget_block budget = loaded->budget;
    sj_config_merge(&sj_block_budget, &budget, &source->budget);
    sj_queue_block queue = loaded->queue;
    sj_config_merge(&sj_block_queue, &queue, &source->queue);
    source->v.rules = (sj_target_rules){.breaker = breaker.v, .budget = budget.v};
    source->v.admission.max_waiting = queue.max_waiting;
    source->v.admission.timeout_ms = queue.timeout_ms;
    source->v.standing_queue = queue.standing_queue;
    sj_config_check_breaker(loader, &source->breaker.given, &breaker.v);
    sj_config_check_budget(loader, &source->budget.given, &budget.v);
}
