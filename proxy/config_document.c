// Every key with type, range, default and meaning, from the table, as a configuration that loads: a manual to copy from.
#include "config_internal.h"

#include <stdio.h>
#include <stdlib.h>

enum { WIDTH = 100 };

typedef struct writer {
    sj_buffer *out;
    bool failed;
    int indent;
} writer;

static void put(writer *w, const char *text) {
    w->failed |= !sj_buffer_text(w->out, text);
}

static void put_indent(writer *w) {
    for (int i = 0; i < w->indent; i++)
        put(w, "    ");
}

// Wrapped at spaces, each line behind "# ".
static void put_comment(writer *w, const char *text) {
    size_t room = (size_t)(WIDTH - 4 * w->indent - 2);
    while (*text) {
        size_t n = strlen(text);
        if (n > room) {
            n = room;
            while (n > room / 2 && text[n] != ' ')
                n--;
        }
        put_indent(w);
        put(w, "# ");
        w->failed |= !sj_buffer_append(w->out, text, n);
        put(w, "\n");
        text += n;
        while (*text == ' ')
            text++;
    }
}

// "what it means (duration, 1ms to 1h)"
static void put_about(writer *w, const sj_key *key) {
    char range[96], text[1024], names[256] = "";
    size_t n = 0;
    for (int i = 0; key->type == SJ_KEY_ENUM && key->names[i]; i++)
        n += (size_t)snprintf(names + n, sizeof names - n, "%s\"%s\"", i ? ", " : " ", key->names[i]);
    sj_key_range_text(key, range, sizeof range);
    (void)snprintf(text, sizeof text, "%s (%s%s%s%s%s)", key->help, sj_key_type_name(key->type), names,
                   *range ? ", " : "", range, key->required ? ", required" : "");
    put_comment(w, text);
}

static void put_array(writer *w, const char *text) {
    put(w, "[ ");
    while (*text) {
        size_t n = strcspn(text, ",");
        put(w, "\"");
        w->failed |= !sj_buffer_append(w->out, text, n);
        put(w, text[n] ? "\", " : "\" ]");
        text += n + (text[n] == ',');
    }
}

static void put_value(writer *w, const sj_key *key, const char *text) {
    bool bare = key->type == SJ_KEY_BOOL || key->type == SJ_KEY_INT || key->type == SJ_KEY_INT64 ||
                key->type == SJ_KEY_FLOAT || key->type == SJ_KEY_PAIRS;
    bool array = key->type == SJ_KEY_SECRETS || key->type == SJ_KEY_STATUSES ||
                 (key->type == SJ_KEY_STRINGS && strchr(text, ','));
    if (bare)
        put(w, text);
    else if (array)
        put_array(w, text);
    else
        w->failed |= !sj_config_quote(w->out, text);
}

static void put_block(writer *w, const sj_block *block);

static void put_scalar(writer *w, const sj_key *key) {
    put_about(w, key);
    put_indent(w);
    put(w, key->text || key->required ? "" : "# ");
    put(w, key->name);
    put(w, " = ");
    put_value(w, key, key->text ? key->text : key->example);
    put(w, ";\n");
}

static void put_group(writer *w, const sj_key *key) {
    put_about(w, key);
    put_indent(w);
    put(w, key->name);
    if (key->block == &sj_block_global_breaker) {
        put(w, " = { enabled = true; }; # and any key of breaker\n");
        return;
    }
    bool list = key->type == SJ_KEY_GROUPS;
    put(w, list ? " = ( {\n" : key->type == SJ_KEY_NAMED ? " = { strong = {\n" : " = {\n");
    w->indent++;
    put_block(w, key->block);
    w->indent--;
    put_indent(w);
    put(w, list ? "} );\n" : key->type == SJ_KEY_NAMED ? "}; };\n" : "};\n");
}

static void put_block(writer *w, const sj_block *block) {
    for (size_t i = 0; i < block->count; i++) {
        const sj_key *key = &block->keys[i];
        if (key->type == SJ_KEY_REFUSED)
            continue;
        if (w->indent && key->type == SJ_KEY_GROUP) {
            put_indent(w);
            put(w, "# ");
            put(w, key->name);
            put(w, " = { ... };  ");
            put(w, key->help);
            put(w, "\n");
        } else if (sj_key_is_group(key)) {
            put(w, w->indent ? "" : "\n");
            put_group(w, key);
        } else {
            put_scalar(w, key);
        }
    }
}

bool sj_config_document(sj_buffer *out) {
    writer w = {.out = out};
    put(&w, "# Every key of stormjib's configuration with its default. Durations: \"500ms\", \"30s\", "
            "\"5m\"; sizes: \"512KiB\", \"64MiB\";\n"
            "# \"${NAME}\" as a whole value stands for an environment variable. A line that begins with '#' "
            "shows a key that has no\n"
            "# default. Nothing but upstreams is required.\n\n");
    put_block(&w, &sj_block_top);
    return !w.failed;
}
