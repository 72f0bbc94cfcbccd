// What is wrong, where, and what to do: one line per problem. And the memory that a configuration owns.
#include "config_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct sj_arena_chunk {
    sj_arena_chunk *next;
    max_align_t bytes[];
};

void *sj_config_alloc(sj_loader *loader, size_t bytes) {
    sj_arena_chunk *chunk = calloc(1, sizeof *chunk + bytes);
    if (!chunk) {
        sj_config_fault_at(loader, loader->path, 0, "out of memory");
        return NULL;
    }
    chunk->next = loader->loaded->arena;
    loader->loaded->arena = chunk;
    return chunk->bytes;
}

char *sj_config_copy(sj_loader *loader, sj_slice text) {
    char *copy = sj_config_alloc(loader, text.n + 1);
    if (copy && text.n)
        memcpy(copy, text.p, text.n);
    return copy;
}

void sj_config_arena_free(sj_arena_chunk **arena) {
    while (*arena) {
        sj_arena_chunk *next = (*arena)->next;
        free(*arena);
        *arena = next;
    }
}

// "routes[2].chain", written from the right end of out.
static const char *path_of(const config_setting_t *setting, const char *key, char *out, size_t n) {
    char *at = out + n - 1;
    *at = '\0';
    if (key) {
        size_t length = strnlen(key, 64);
        at -= length;
        memcpy(at, key, length);
    }
    while (setting && !config_setting_is_root(setting)) {
        char part[80];
        const char *name = config_setting_name(setting);
        if (name)
            (void)snprintf(part, sizeof part, "%.64s", name);
        else
            (void)snprintf(part, sizeof part, "[%d]", config_setting_index(setting));
        size_t length = strlen(part);
        bool dot = *at != '\0' && *at != '[';
        if ((size_t)(at - out) < length + 1)
            break;
        if (dot)
            *--at = '.';
        at -= length;
        memcpy(at, part, length);
        setting = config_setting_parent(setting);
    }
    return at;
}

static void add_text(sj_buffer *out, const char *format, va_list args) {
    char line[1024];
    (void)vsnprintf(line, sizeof line, format, args);
    // A full buffer loses text, never the verdict: that is loader->faults.
    (void)!sj_buffer_text(out, line);
    (void)!sj_buffer_text(out, "\n");
}

static void add_place(const sj_loader *loader, sj_buffer *out, const char *file, unsigned line) {
    if (!loader->path)
        (void)!sj_buffer_text(out, "environment: ");
    else if (file && loader->include_dir)
        (void)!sj_buffer_printf(out, "%s/%s:%u: ", loader->include_dir, file, line);
    else if (line)
        (void)!sj_buffer_printf(out, "%s:%u: ", loader->path, line);
    else
        (void)!sj_buffer_printf(out, "%s: ", loader->path);
}

static unsigned line_of(const sj_loader *loader, const config_setting_t *setting) {
    unsigned line = config_setting_source_line(setting);
    const config_setting_t *parent = config_setting_parent(setting);
    bool last = parent && !config_setting_is_group(parent) &&
                config_setting_type(setting) == CONFIG_TYPE_STRING &&
                config_setting_index(setting) == config_setting_length(parent) - 1;
    for (int i = 0; last && !config_setting_source_file(setting) && i < loader->late_count; i++) {
        if ((unsigned)loader->late_lines[i].bracket == line)
            return (unsigned)loader->late_lines[i].string;
    }
    return line;
}

static void add_line(sj_loader *loader, sj_buffer *out, const config_setting_t *setting, const char *key,
                     const char *format, va_list args) {
    const config_setting_t *member =
        setting && key && config_setting_is_group(setting) ? config_setting_get_member(setting, key) : NULL;
    const config_setting_t *place = member ? member : setting;
    if (place)
        add_place(loader, out, config_setting_source_file(place), line_of(loader, place));
    else
        add_place(loader, out, NULL, 0);
    char path[512];
    const char *shown = path_of(setting, key, path, sizeof path);
    if (*shown)
        (void)!sj_buffer_printf(out, "key '%s': ", shown);
    add_text(out, format, args);
}

static bool count_fault(sj_loader *loader) {
    loader->faults++;
    if (loader->faults == SJ_CONFIG_MAX_FAULTS + 1)
        (void)!sj_buffer_text(loader->error, "... and more\n");
    return loader->faults <= SJ_CONFIG_MAX_FAULTS;
}

void sj_config_fault(sj_loader *loader, const config_setting_t *setting, const char *key, const char *format,
                     ...) {
    if (!count_fault(loader))
        return;
    va_list args;
    va_start(args, format);
    add_line(loader, loader->error, setting, key, format, args);
    va_end(args);
}

void sj_config_warn(sj_loader *loader, const config_setting_t *setting, const char *key, const char *format,
                    ...) {
    va_list args;
    va_start(args, format);
    (void)!sj_buffer_text(loader->warnings, "warning: ");
    add_line(loader, loader->warnings, setting, key, format, args);
    va_end(args);
}

void sj_config_fault_at(sj_loader *loader, const char *file, int line, const char *format, ...) {
    if (!count_fault(loader))
        return;
    if (!loader->path)
        (void)!sj_buffer_text(loader->error, "environment: ");
    else if (line)
        (void)!sj_buffer_printf(loader->error, "%s:%d: ", file, line);
    else
        (void)!sj_buffer_printf(loader->error, "%s: ", file);
    va_list args;
    va_start(args, format);
    add_text(loader->error, format, args);
    va_end(args);
}
