// Keys that are accepted and change nothing where they stand: said at load, because whoever wrote them expects something of them. A value that is
// the default is let pass: it promises nothing.
#include "config_internal.h"

enum { DRAIN_FOR_MS = 30 * 1000, STORE_MAX_BYTES = 64 * 1024 * 1024 }; // the defaults

static void idle(sj_loader *loader, const sj_given *given, const sj_block *block, const char *key,
                 const char *why) {
    if (sj_key_given(given, block, key))
        sj_config_warn(loader, given->setting, key, "has no effect: %s", why);
}

// ---- upstreams --------------------------------------------------------------------------------------------------------------

static bool is_used(const sj_config *config, size_t upstream, bool for_rescue) {
    for (size_t r = 0; r < config->route_count; r++)
        for (size_t h = 0; h < config->routes[r].hop_count; h++)
            if (config->routes[r].hops[h].upstream == upstream &&
                !(for_rescue && config->routes[r].rescue == SJ_RESCUE_OFF))
                return true;
    return false;
}

static void look_at_keys(sj_loader *loader, const sj_upstream_source *source) {
    const sj_upstream_config *v = &source->v;
    for (size_t i = 0; i < v->api_key_count; i++)
        for (size_t k = 0; k < i; k++)
            if (strcmp(v->api_keys[i], v->api_keys[k]) == 0)
                sj_config_warn(loader, source->given.setting, "api_keys",
                               "has the same key at places %zu and %zu", k + 1, i + 1);
    if (v->auth == SJ_AUTH_KEY)
        return;
    if (strcasecmp(v->api_key_header, "Authorization") != 0)
        idle(loader, &source->given, &sj_block_upstream, "api_key_header", "there is no api_key");
    idle(loader, &source->given, &sj_block_upstream, "api_key_prefix", "there is no api_key");
}

static void look_at_upstream(sj_loader *loader, size_t index) {
    const sj_config *config = &loader->loaded->config;
    const sj_upstream_source *source = &loader->loaded->upstreams[index];
    if (!is_used(config, index, false))
        sj_config_warn(loader, source->given.setting, NULL, "is in no route's chain: nothing is sent there");
    else if (source->v.prefill && !is_used(config, index, true))
        idle(loader, &source->given, &sj_block_upstream, "prefill",
             "the routes that lead here have rescue = \"off\"");
    look_at_keys(loader, source);
    if (!source->v.embedded && strncmp(source->v.base_url, "https:", 6) != 0)
        idle(loader, &source->given, &sj_block_upstream, "ca_file", "base_url is not https");
}

// ---- routes -----------------------------------------------------------------------------------------------------------------

static void look_at_route(sj_loader *loader, const sj_route_source *source) {
    static const char *const one = "the chain has one target";
    const sj_route_config *v = &source->v;
    if (v->on_client_gone != SJ_CLIENT_GONE_DRAIN && v->drain_for_ms != DRAIN_FOR_MS)
        idle(loader, &source->given, &sj_block_route, "drain_for", "on_client_gone is not \"drain\"");
    if (v->stale_if_error_ms > 0 && loader->loaded->config.store_max_bytes == 0)
        idle(loader, &source->given, &sj_block_route, "stale_if_error", "store.max is 0");
    if (v->hop_count > 1)
        return;
    if (v->fallback_on_refusal)
        idle(loader, &source->given, &sj_block_route, "fallback_on_refusal", one);
    idle(loader, &source->retry.given, &sj_block_retry, "max_attempts_before_fallback", one);
}

// ---- blocks -----------------------------------------------------------------------------------------------------------------

static void look_at_switch(sj_loader *loader, const sj_given *given, const sj_block *block, bool enabled) {
    uint64_t others = given->keys & ~(UINT64_C(1) << (sj_key_find(block, "enabled") - block->keys));
    if (!enabled && sj_key_given(given, block, "enabled") && others)
        sj_config_warn(loader, given->setting, NULL, "has no effect: enabled is false");
}

// strategy: what holds where the block stands.
static void look_at_retry(sj_loader *loader, const sj_retry_block *block, sj_backoff_strategy strategy) {
    sj_retry_block usual = {0};
    sj_config_defaults(loader, &sj_block_retry, &usual);
    const sj_backoff *b = &block->v.backoff, *d = &usual.v.backoff;
    if (strategy != SJ_BACKOFF_JITTER && b->jitter != d->jitter)
        idle(loader, &block->given, &sj_block_retry, "jitter", "it is of strategy \"jitter\"");
    if (strategy != SJ_BACKOFF_PLUS_RANDOM && b->random_max_ms != d->random_max_ms)
        idle(loader, &block->given, &sj_block_retry, "random_max", "it is of strategy \"plus_random\"");
    bool grows =
        strategy != SJ_BACKOFF_FIXED && strategy != SJ_BACKOFF_LINEAR && strategy != SJ_BACKOFF_DECORRELATED;
    if (!grows && b->exponential_base != d->exponential_base)
        idle(loader, &block->given, &sj_block_retry, "exponential_base", "the strategy does not grow by it");
}

static void look_at_retries(sj_loader *loader) {
    const sj_loaded *loaded = loader->loaded;
    bool overridden = false; // somewhere the block's values may be of use after all
    for (size_t i = 0; i < loaded->upstream_count; i++)
        overridden |= sj_key_given(&loaded->upstreams[i].retry.given, &sj_block_retry, "strategy");
    for (size_t i = 0; i < loaded->route_count; i++) {
        const sj_route_source *route = &loaded->routes[i];
        overridden |= sj_key_given(&route->retry.given, &sj_block_retry, "strategy");
        if (route->v.hop_count == 1)
            look_at_retry(loader, &route->retry, route->v.hops[0].retry.backoff.strategy);
    }
    if (!overridden)
        look_at_retry(loader, &loaded->retry, loaded->retry.v.backoff.strategy);
}

static void look_at_top(sj_loader *loader) {
    const sj_loaded *loaded = loader->loaded;
    const sj_config *config = &loaded->config;
    bool chained = false, stores = false;
    for (size_t i = 0; i < config->route_count; i++) {
        chained |= config->routes[i].hop_count > 1;
        stores |= config->routes[i].stale_if_error_ms > 0;
    }
    if (!chained)
        idle(loader, &loaded->given, &sj_block_top, "fallback_gate", "no chain has a second target");
    if (!chained && config_setting_get_member(loaded->given.setting, "sticky"))
        sj_config_warn(loader, loaded->given.setting, "sticky",
                       "has no effect: no chain has a second target");
    if (!stores && config->store_max_bytes != STORE_MAX_BYTES)
        sj_config_warn(loader, loaded->given.setting, "store", "has no effect: no route has stale_if_error");
    if (!config->admin_enabled)
        idle(loader, &loaded->given, &sj_block_top, "admin_token", "admin is off");
    if (config->compare_price_count && !config->price_count)
        idle(loader, &loaded->given, &sj_block_top, "compare_prices", "there are no prices to compare with");
}

void sj_config_tell_idle(sj_loader *loader) {
    const sj_loaded *loaded = loader->loaded;
    if (loader->faults)
        return;
    look_at_top(loader);
    look_at_retries(loader);
    bool breakers = loaded->breaker.v.enabled, budgets = loaded->budget.v.enabled; // or in an upstream
    for (size_t i = 0; i < loaded->upstream_count; i++) {
        look_at_upstream(loader, i);
        breakers |= loaded->upstreams[i].v.rules.breaker.enabled;
        budgets |= loaded->upstreams[i].v.rules.budget.enabled;
    }
    look_at_switch(loader, &loaded->breaker.given, &sj_block_breaker, breakers);
    look_at_switch(loader, &loaded->budget.given, &sj_block_budget, budgets);
    look_at_switch(loader, &loaded->global_breaker.given, &sj_block_global_breaker,
                   loaded->global_breaker.v.enabled);
    for (size_t i = 0; i < loaded->route_count; i++)
        look_at_route(loader, &loaded->routes[i]);
}
