#include "config.h"
#include "config_internal.h"
#include "glob.h"

#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

static void free_loaded(sj_loaded *loaded) {
    sj_config_arena_free(&loaded->arena);
    free(loaded);
}

static void report_syntax(sj_loader *loader, const config_t *tree) {
    const char *file = config_error_file(tree);
    char path[4096];
    if (file && loader->include_dir)
        (void)snprintf(path, sizeof path, "%s/%s", loader->include_dir, file);
    else
        (void)snprintf(path, sizeof path, "%s", loader->path ? loader->path : "environment");
    sj_config_fault_at(loader, path, config_error_line(tree),
                       "%s; look for a missing ';', quote or bracket here or just before, and for entries of "
                       "different types in an array",
                       config_error_text(tree) ? config_error_text(tree) : "syntax error");
}

// libconfig takes NUL-terminated text.
static void load_tree(sj_loader *loader, sj_buffer *text) {
    if (!sj_config_scan(loader, sj_buffer_slice(text)))
        return;
    config_t tree;
    config_init(&tree);
    if (loader->include_dir)
        config_set_include_dir(&tree, loader->include_dir);
    sj_loaded *loaded = loader->loaded;
    if (!sj_buffer_append(text, "", 1)) {
        sj_config_fault_at(loader, loader->path, 0, "out of memory");
    } else if (!config_read_string(&tree, text->p)) {
        report_syntax(loader, &tree);
    } else if (loader->listens_by_environment && !sj_config_supply_listen(config_root_setting(&tree))) {
        sj_config_fault_at(loader, loader->path, 0, "out of memory");
    } else {
        sj_config_defaults(loader, &sj_block_top, loaded);
        sj_config_parse(loader, &sj_block_top, config_root_setting(&tree), loaded);
        sj_config_resolve(loader);
    }
    config_destroy(&tree);
}

static bool finish(sj_loader *loader, sj_config **config) {
    if (loader->faults) {
        free_loaded(loader->loaded);
        return false;
    }
    *config = &loader->loaded->config;
    return true;
}

// False: out of memory, reported.
static bool begin(sj_loader *loader) {
    loader->loaded = calloc(1, sizeof *loader->loaded);
    if (!loader->loaded) {
        (void)!sj_buffer_text(loader->error, "out of memory\n");
        return false;
    }
    atomic_init(&loader->loaded->references, 1);
    if (loader->path)
        loader->loaded->config.path = sj_config_copy(loader, sj_slice_of(loader->path));
    return true;
}

bool sj_config_load_text(sj_slice text, const char *name, const char *include_dir, sj_config **config,
                         sj_buffer *error, sj_buffer *warnings) {
    *config = NULL;
    sj_loader loader = {.path = name, .include_dir = include_dir, .error = error, .warnings = warnings};
    if (!begin(&loader))
        return false;
    sj_buffer copy = sj_buffer_with_max(SJ_CONFIG_MAX_BYTES + 1);
    if (sj_buffer_add(&copy, text))
        load_tree(&loader, &copy);
    else
        sj_config_fault_at(&loader, name, 0, "is larger than 4 MiB: that is no configuration");
    sj_buffer_free(&copy);
    return finish(&loader, config);
}

bool sj_config_load(const char *path, sj_config **config, sj_buffer *error, sj_buffer *warnings) {
    *config = NULL;
    sj_loader loader = {
        .path = path, .listens_by_environment = path != NULL, .error = error, .warnings = warnings};
    char *folder = path ? strdup(path) : NULL; // dirname writes into it
    loader.include_dir = folder ? dirname(folder) : NULL;
    sj_buffer text = sj_buffer_with_max(SJ_CONFIG_MAX_BYTES + 1);
    bool ok = begin(&loader);
    if (ok) {
        if (path ? sj_config_read_file(&loader, path, &text) : sj_config_from_environment(&loader, &text))
            load_tree(&loader, &text);
        ok = finish(&loader, config);
    }
    sj_buffer_free(&text);
    free(folder);
    return ok;
}

int sj_config_exit_code(const char *path) {
    return path && access(path, R_OK) != 0 ? EX_NOINPUT : EX_CONFIG;
}

sj_config *sj_config_ref(sj_config *config) {
    atomic_fetch_add_explicit(&((sj_loaded *)(void *)config)->references, 1, memory_order_relaxed);
    return config;
}

void sj_config_unref(sj_config **config) {
    sj_loaded *loaded = (sj_loaded *)(void *)*config;
    *config = NULL;
    if (loaded && atomic_fetch_sub_explicit(&loaded->references, 1, memory_order_acq_rel) == 1)
        free_loaded(loaded);
}

static bool same_text(const char *a, const char *b) {
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_listen(const sj_listen *a, const sj_listen *b) {
    return a->port == b->port && same_text(a->host, b->host) && same_text(a->unix_path, b->unix_path);
}

static bool same_listens(const sj_config *a, const sj_config *b) {
    if (a->listen_count != b->listen_count)
        return false;
    for (size_t i = 0; i < a->listen_count; i++) {
        if (!same_listen(&a->listens[i], &b->listens[i]))
            return false;
    }
    return true;
}

void sj_config_needs_restart(const sj_config *from, const sj_config *to, sj_buffer *out) {
    const struct {
        const char *key;
        bool same;
    } keys[] = {
        {"listen", same_listens(from, to)},
        {"admin", from->admin_enabled == to->admin_enabled && same_listen(&from->admin, &to->admin)},
        {"workers", from->workers == to->workers},
    };
    const char *comma = "";
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (keys[i].same)
            continue;
        (void)!sj_buffer_printf(out, "%s%s", comma, keys[i].key);
        comma = ", ";
    }
}

const sj_route_config *sj_config_route(const sj_config *config, sj_slice path, sj_slice model) {
    for (size_t i = 0; i < config->route_count; i++) {
        const sj_route_config *route = &config->routes[i];
        if (sj_glob_match(sj_slice_of(route->path), path) && sj_glob_match(sj_slice_of(route->model), model))
            return route;
    }
    return NULL;
}
