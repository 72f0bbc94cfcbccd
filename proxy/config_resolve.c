// From what the file says to the configuration that the program uses: derived values, merged rules, checks across keys.
#include "config_internal.h"

#include <sched.h>
#include <stdio.h>

// ---- rules ------------------------------------------------------------------------------------------------------------------

void sj_config_check_breaker(sj_loader *loader, const sj_given *given, const sj_breaker_rules *rules) {
    bool cap = sj_key_given(given, &sj_block_breaker, "recovery_cap");
    if (!cap && !sj_key_given(given, &sj_block_breaker, "recovery_timeout"))
        return;
    if (rules->recovery_cap_ms < rules->recovery_timeout_ms)
        sj_config_fault(loader, given->setting, cap ? "recovery_cap" : "recovery_timeout",
                        "recovery_cap is shorter than recovery_timeout; make it at least as long");
}

void sj_config_check_budget(sj_loader *loader, const sj_given *given, const sj_budget_rules *rules) {
    if (given->keys && rules->enabled && rules->capacity < rules->retry_cost)
        sj_config_warn(loader, given->setting, "capacity",
                       "is less than one retry_cost: only the floor_per_minute retries pass");
}

void sj_config_check_retry(sj_loader *loader, const sj_given *given, const sj_retry_policy *policy) {
    if (!given->keys)
        return;
    const sj_backoff *b = &policy->backoff;
    if (b->base_ms > b->cap_ms)
        sj_config_warn(loader, given->setting, "cap", "is shorter than base: no wait is longer than cap");
    if (b->min_ms > b->cap_ms)
        sj_config_warn(loader, given->setting, "min", "is longer than cap: every exponential wait is min");
    if (policy->throttle_base_ms > policy->throttle_cap_ms)
        sj_config_warn(loader, given->setting, "throttle_cap",
                       "is shorter than throttle_base: no wait is longer than it");
}

// ---- listeners --------------------------------------------------------------------------------------------------------------

static bool same_listen(const sj_listen *a, const sj_listen *b) {
    if (a->unix_path || b->unix_path)
        return a->unix_path && b->unix_path && strcmp(a->unix_path, b->unix_path) == 0;
    return a->port == b->port && strcmp(a->host, b->host) == 0;
}

static void resolve_admin(sj_loader *loader) {
    sj_config *config = &loader->loaded->config;
    const config_setting_t *root = loader->loaded->given.setting;
    if (!loader->loaded->admin || !*loader->loaded->admin)
        return;
    const char *problem = sj_listen_parse(loader, loader->loaded->admin, &config->admin);
    if (problem) {
        sj_config_fault(loader, root, "admin", "the address %s", problem);
        return;
    }
    config->admin_enabled = true;
    if (!sj_listen_is_loopback(&config->admin) && !config->admin_token)
        sj_config_fault(loader, root, "admin", "is reachable from other machines; set %s, or use 127.0.0.1",
                        loader->path ? "admin_token = \"${NAME}\"" : "STORMJIB_ADMIN_TOKEN");
    for (size_t i = 0; i < config->listen_count; i++) {
        bool any_port = !config->admin.unix_path && config->admin.port == 0;
        if (!any_port && same_listen(&config->admin, &config->listens[i]))
            sj_config_fault(loader, root, "admin",
                            "is the same address as listen; give it a port of its own");
    }
}

static void warn_open_listener(sj_loader *loader) {
    const sj_config *config = &loader->loaded->config;
    bool keys_given = config_setting_get_member(loader->loaded->given.setting, "client_keys") != NULL;
    for (size_t i = 0; i < config->listen_count && !keys_given; i++) {
        if (sj_listen_is_loopback(&config->listens[i]))
            continue;
        sj_config_warn(loader, loader->loaded->given.setting, "listen",
                       "is reachable from other machines and anyone there may spend your api_key; set %s",
                       loader->path ? "client_keys = [ \"${NAME}\" ]" : "STORMJIB_CLIENT_KEYS");
        return;
    }
}

void sj_config_resolve_listeners(sj_loader *loader) {
    sj_loaded *loaded = loader->loaded;
    sj_config *config = &loaded->config;
    config->listens = sj_config_alloc(loader, (loaded->listen_count + 1) * sizeof *config->listens);
    for (size_t i = 0; i < loaded->listen_count && config->listens; i++) {
        sj_listen listen;
        const char *problem = sj_listen_parse(loader, loaded->listen[i], &listen);
        for (size_t j = 0; j < config->listen_count && !problem; j++) {
            if ((listen.unix_path || listen.port) && same_listen(&listen, &config->listens[j]))
                problem = "stands there twice";
        }
        if (problem)
            sj_config_fault(loader, loaded->given.setting, "listen", "the address %s", problem);
        else
            config->listens[config->listen_count++] = listen;
    }
    resolve_admin(loader);
    warn_open_listener(loader);
}

// ---- routes -----------------------------------------------------------------------------------------------------------------

// Without routes everything goes to the only upstream.
static void supply_route(sj_loader *loader) {
    sj_loaded *loaded = loader->loaded;
    if (loaded->upstream_count != 1) {
        if (loaded->upstream_count)
            sj_config_fault(loader, loaded->given.setting, "routes",
                            "is missing; with several upstreams say which requests go where: ( { model = "
                            "\"*\"; chain = [ \"%s\" ]; } )",
                            loaded->upstreams[0].v.name);
        return;
    }
    sj_route_source *route = sj_config_alloc(loader, sizeof *route);
    if (!route)
        return;
    sj_config_defaults(loader, &sj_block_route, route);
    route->chain = sj_config_alloc(loader, sizeof *route->chain);
    if (!route->chain)
        return;
    route->chain[0] = loaded->upstreams[0].v.name;
    route->chain_count = 1;
    loaded->routes = route;
    loaded->route_count = 1;
}

static bool matches_all(const sj_route_config *route) {
    return route->path && route->model && strcmp(route->path, "*") == 0 && strcmp(route->model, "*") == 0;
}

static void resolve_routes(sj_loader *loader) {
    sj_loaded *loaded = loader->loaded;
    sj_config *config = &loaded->config;
    if (!config_setting_get_member(loaded->given.setting, "routes"))
        supply_route(loader);
    config->routes = sj_config_alloc(loader, (loaded->route_count + 1) * sizeof *config->routes);
    bool covered = false;
    for (size_t i = 0; i < loaded->route_count && config->routes; i++) {
        sj_route_source *source = &loaded->routes[i];
        sj_config_resolve_route(loader, source);
        sj_config_check_retry(loader, &source->retry.given, &source->retry.v);
        if (covered && !loader->faults)
            sj_config_warn(loader, source->given.setting, NULL,
                           "is never reached: a route before it matches everything");
        covered |= matches_all(&source->v);
        config->routes[config->route_count++] = source->v;
    }
}

// ---- all of it --------------------------------------------------------------------------------------------------------------

static void resolve_upstreams(sj_loader *loader) {
    sj_loaded *loaded = loader->loaded;
    sj_config *config = &loaded->config;
    config->upstreams = sj_config_alloc(loader, (loaded->upstream_count + 1) * sizeof *config->upstreams);
    for (size_t i = 0; i < loaded->upstream_count && config->upstreams; i++) {
        sj_upstream_source *source = &loaded->upstreams[i];
        sj_config_resolve_upstream(loader, source);
        sj_config_check_retry(loader, &source->retry.given, &source->retry.v);
        config->upstreams[config->upstream_count++] = source->v;
    }
}

static int cores(void) {
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return count < 1 ? 1 : count > 256 ? 256 : count;
}

static sj_price *prices_of(sj_loader *loader, const sj_price_source *sources, size_t source_count,
                           size_t *count) {
    sj_price *prices = sj_config_alloc(loader, (source_count + 1) * sizeof *prices);
    for (*count = 0; *count < source_count && prices; (*count)++) {
        prices[*count] = sources[*count].v;
        if (!sj_key_given(&sources[*count].given, &sj_block_price, "cached_input"))
            prices[*count].cached_input = -1;
    }
    return prices;
}

static void resolve_prices(sj_loader *loader) {
    sj_loaded *loaded = loader->loaded;
    sj_config *config = &loaded->config;
    config->prices = prices_of(loader, loaded->prices, loaded->price_count, &config->price_count);
    config->compare_prices =
        prices_of(loader, loaded->compare_prices, loaded->compare_price_count, &config->compare_price_count);
}

void sj_config_resolve(sj_loader *loader) {
    sj_loaded *loaded = loader->loaded;
    sj_config *config = &loaded->config;
    if (config->workers == 0)
        config->workers = cores();
    config->has_seed = sj_key_given(&loaded->given, &sj_block_top, "seed");
    config->seed = (uint64_t)loaded->seed;
    config->global_breaker = loaded->global_breaker.v;
    config->global_breaker_enabled = loaded->global_breaker.v.enabled;
    sj_config_check_breaker(loader, &loaded->breaker.given, &loaded->breaker.v);
    sj_config_check_breaker(loader, &loaded->global_breaker.given, &loaded->global_breaker.v);
    sj_config_check_budget(loader, &loaded->budget.given, &loaded->budget.v);
    sj_config_check_retry(loader, &loaded->retry.given, &loaded->retry.v);
    sj_config_resolve_listeners(loader);
    resolve_upstreams(loader);
    resolve_routes(loader);
    resolve_prices(loader);
    sj_config_tell_idle(loader);
}
