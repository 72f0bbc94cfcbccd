// One route: its chain into hops, each with the retry and race rules that hold there.
#include "config_internal.h"

#include <stdio.h>

// The entry in the file; NULL: there is none, the route was supplied.
static const config_setting_t *entry_of(const sj_route_source *source, size_t index) {
    const config_setting_t *route = source->given.setting;
    const config_setting_t *chain = route ? config_setting_get_member(route, "chain") : NULL;
    return chain && config_setting_is_aggregate(chain) ? config_setting_get_elem(chain, (unsigned)index)
                                                       : chain;
}

// As it stands in the file: a value from the environment is shown as its variable.
static const char *written(const config_setting_t *entry, char out[SJ_SHOWN_BYTES]) {
    static const sj_key key = {.type = SJ_KEY_STRING};
    const char *text = entry ? config_setting_get_string(entry) : NULL;
    sj_value value = {.kind = SJ_VALUE_TEXT, .text = text ? text : ""};
    return sj_value_shown(&key, &value, out);
}

static void refuse_unknown_upstream(sj_loader *loader, const config_setting_t *entry) {
    char shown[SJ_SHOWN_BYTES], known[512] = "";
    size_t n = 0;
    for (size_t i = 0; i < loader->loaded->upstream_count && n < sizeof known - 60; i++)
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "",
                              loader->loaded->upstreams[i].v.name);
    sj_config_fault(loader, entry, NULL,
                    "%s names no upstream; write \"upstream/model\" or \"upstream\" with one of: %s",
                    written(entry, shown), known);
}

static bool find_upstream(const sj_loaded *loaded, sj_slice name, size_t *index) {
    for (size_t i = 0; i < loaded->upstream_count; i++) {
        const char *known = loaded->upstreams[i].v.name;
        if (known && sj_slice_equal(name, sj_slice_of(known))) {
            *index = i;
            return true;
        }
    }
    return false;
}

static const char *model_problem(const char *model) {
    if (!*model)
        return "names an empty model; leave the slash out for the model the client asked for";
    if (strlen(model) > 255)
        return "names a model of more than 255 bytes";
    if (strpbrk(model, "*?"))
        return "names a pattern; a target is one model";
    return NULL;
}

static bool repeats(const sj_route_config *route, const sj_hop_config *hop) {
    for (size_t i = 0; i < route->hop_count; i++) {
        const sj_hop_config *other = &route->hops[i];
        bool same_model =
            hop->model && other->model ? strcmp(hop->model, other->model) == 0 : hop->model == other->model;
        if (other->upstream == hop->upstream && same_model)
            return true;
    }
    return false;
}

static void merge_rules(const sj_loaded *loaded, const sj_route_source *source, sj_hop_config *hop) {
    const sj_upstream_source *upstream = &loaded->upstreams[hop->upstream];
    sj_retry_block retry = loaded->retry;
    sj_config_merge(&sj_block_retry, &retry, &upstream->retry);
    sj_config_merge(&sj_block_retry, &retry, &source->retry);
    sj_race_block race = loaded->race;
    sj_config_merge(&sj_block_race, &race, &upstream->race);
    sj_config_merge(&sj_block_race, &race, &source->race);
    hop->retry = retry.v;
    hop->race = race.v;
    hop->retry.rules.retry_conflict = source->v.retry_conflict;
    hop->retry.rules.fallback_on_refusal = source->v.fallback_on_refusal;
}

static void add_hop(sj_loader *loader, sj_route_source *source, size_t index) {
    const config_setting_t *entry = entry_of(source, index);
    char shown[SJ_SHOWN_BYTES];
    const char *target = source->chain[index];
    const char *slash = strchr(target, '/');
    sj_hop_config hop = {0};
    sj_slice name = {target, slash ? (size_t)(slash - target) : strlen(target)};
    if (!find_upstream(loader->loaded, name, &hop.upstream)) {
        refuse_unknown_upstream(loader, entry);
        return;
    }
    const char *problem = slash ? model_problem(slash + 1) : NULL;
    if (problem) {
        sj_config_fault(loader, entry, NULL, "%s %s", written(entry, shown), problem);
        return;
    }
    hop.model = slash ? sj_config_copy(loader, sj_slice_of(slash + 1)) : NULL;
    if (repeats(&source->v, &hop)) {
        sj_config_fault(loader, entry, NULL, "%s stands there twice; a chain is gone down once",
                        written(entry, shown));
        return;
    }
    merge_rules(loader->loaded, source, &hop);
    source->v.hops[source->v.hop_count++] = hop;
}

void sj_config_resolve_route(sj_loader *loader, sj_route_source *source) {
    sj_route_config *v = &source->v;
    const config_setting_t *at = source->given.setting;
    if (v->path && *v->path != '/' && *v->path != '*')
        sj_config_fault(loader, at, "path", "matches no path; begin it with '/' or '*', as \"*/embeddings\"");
    if (v->keepalive_ms && v->keepalive_ms < 1000)
        sj_config_fault(loader, at, "keepalive", "is shorter than 1s; \"15s\" is usual, \"0s\" turns it off");
    v->hops = sj_config_alloc(loader, (source->chain_count + 1) * sizeof *v->hops);
    bool whole = !at || sj_key_given(&source->given, &sj_block_route, "chain"); // else reported already
    for (size_t i = 0; whole && i < source->chain_count && v->hops; i++)
        add_hop(loader, source, i);
}
