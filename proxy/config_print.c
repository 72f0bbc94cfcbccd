// The effective configuration, written so that it loads to the same one; secrets as "***". Walks the same table as the parser.
#include "config_internal.h"
#include "duration.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const char masked[] = "\"***\"";

typedef struct printer {
    sj_buffer *out;
    bool failed;
    int indent;
} printer;

static void put(printer *p, const char *text) {
    p->failed |= !sj_buffer_text(p->out, text);
}

static void put_quoted(printer *p, const char *text) {
    p->failed |= !sj_config_quote(p->out, text);
}

static void put_indent(printer *p) {
    for (int i = 0; i < p->indent; i++)
        put(p, "    ");
}

// The shortest text that reads back as the same number; libconfig wants a dot or an exponent in it.
static void put_float(printer *p, double number) {
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, number);
        if (strtod(text, NULL) == number)
            break;
    }
    put(p, text);
    if (!strpbrk(text, ".e"))
        put(p, ".0");
}

static void put_strings(printer *p, const sj_key *key, const void *field) {
    struct {
        char **items;
        size_t count;
    } list;
    memcpy(&list, field, sizeof list);
    put(p, "[ ");
    for (size_t i = 0; i < list.count; i++) {
        put(p, i ? ", " : "");
        if (key->type == SJ_KEY_SECRETS)
            put(p, masked);
        else
            put_quoted(p, list.items[i]);
    }
    put(p, list.count ? " ]" : "]");
}

static void put_statuses(printer *p, const sj_status_set *set) {
    put(p, "[ ");
    const char *comma = "";
    for (int from = 0; from <= 999; from++) {
        if (!sj_status_set_has(set, from))
            continue;
        int to = from;
        while (to < 999 && sj_status_set_has(set, to + 1))
            to++;
        char text[32];
        if (to > from)
            (void)snprintf(text, sizeof text, "%s\"%d-%d\"", comma, from, to);
        else
            (void)snprintf(text, sizeof text, "%s\"%d\"", comma, from);
        put(p, text);
        comma = ", ";
        from = to;
    }
    put(p, *comma ? " ]" : "]");
}

static void put_pairs(printer *p, const void *field) {
    struct {
        const sj_pair_source *items;
        size_t count;
    } list;
    memcpy(&list, field, sizeof list);
    put(p, "( ");
    for (size_t i = 0; i < list.count; i++) {
        put(p, i ? ", { name = " : "{ name = ");
        put_quoted(p, list.items[i].name);
        put(p, "; value = ");
        if (list.items[i].secret)
            put(p, masked);
        else
            put_quoted(p, list.items[i].value);
        put(p, "; }");
    }
    put(p, " )");
}

// A proxy's URL may hold a password.
static void put_url(printer *p, const char *url) {
    const char *at = strrchr(url, '@'), *host = strstr(url, "://");
    if (!at || !host || at < host) {
        put_quoted(p, url);
        return;
    }
    char shown[2200];
    (void)snprintf(shown, sizeof shown, "%.*s://***%s", (int)(host - url), url, at);
    put_quoted(p, shown);
}

static void put_number(printer *p, const sj_key *key, const void *field) {
    char text[48];
    int small;
    int64_t number;
    size_t bytes;
    if (key->type == SJ_KEY_INT) {
        memcpy(&small, field, sizeof small);
        (void)snprintf(text, sizeof text, "%d", small);
        put(p, text);
    } else if (key->type == SJ_KEY_INT64) {
        memcpy(&number, field, sizeof number);
        (void)snprintf(text, sizeof text, "%" PRId64 "%s", number, number > INT32_MAX ? "L" : "");
        put(p, text);
    } else if (key->type == SJ_KEY_DURATION) {
        memcpy(&number, field, sizeof number);
        sj_duration_format(number, text, sizeof text);
        put_quoted(p, text);
    } else {
        memcpy(&bytes, field, sizeof bytes);
        sj_size_format(bytes, text, sizeof text);
        put_quoted(p, text);
    }
}

static void put_text(printer *p, const sj_key *key, const void *field) {
    const char *text;
    memcpy(&text, field, sizeof text);
    if (key->type == SJ_KEY_SECRET)
        put(p, masked);
    else if (strcmp(key->name, "proxy") == 0)
        put_url(p, text);
    else
        put_quoted(p, text);
}

static void put_value(printer *p, const sj_key *key, const void *field) {
    bool yes;
    int index;
    double number;
    switch (key->type) {
    case SJ_KEY_BOOL:
        memcpy(&yes, field, sizeof yes);
        put(p, yes ? "true" : "false");
        return;
    case SJ_KEY_ENUM:
        memcpy(&index, field, sizeof index);
        put_quoted(p, key->names[index]);
        return;
    case SJ_KEY_FLOAT:
        memcpy(&number, field, sizeof number);
        put_float(p, number);
        return;
    case SJ_KEY_STRINGS:
    case SJ_KEY_SECRETS:
        put_strings(p, key, field);
        return;
    case SJ_KEY_STATUSES:
        put_statuses(p, field);
        return;
    case SJ_KEY_PAIRS:
        put_pairs(p, field);
        return;
    case SJ_KEY_STRING:
    case SJ_KEY_TEXT:
    case SJ_KEY_SECRET:
        put_text(p, key, field);
        return;
    default:
        put_number(p, key, field);
    }
}

static bool has_items(const void *field) {
    struct {
        void *items;
        size_t count;
    } list;
    memcpy(&list, field, sizeof list);
    return list.count > 0;
}

static bool has_text(const void *field) {
    const char *text;
    memcpy(&text, field, sizeof text);
    return text != NULL;
}

// Whether the value is one that the file gave or could have given.
static bool is_set(const sj_key *key, const void *field, bool given) {
    switch (key->type) {
    case SJ_KEY_STRINGS:
        return given || key->text || has_items(field);
    case SJ_KEY_SECRETS:
    case SJ_KEY_PAIRS:
    case SJ_KEY_GROUPS:
    case SJ_KEY_NAMED:
        return has_items(field);
    case SJ_KEY_STRING:
    case SJ_KEY_TEXT:
    case SJ_KEY_SECRET:
        return has_text(field) && (given || key->text);
    case SJ_KEY_REFUSED:
        return false;
    default:
        return given || key->text;
    }
}

static void put_block(printer *p, const sj_block *block, const char *base, bool only_given);

static void put_group(printer *p, const sj_key *key, const char *base, bool only_given) {
    sj_given given = {0};
    if (key->block->given != SJ_NO_GIVEN)
        memcpy(&given, base + key->block->given, sizeof given);
    if (only_given && !given.keys)
        return;
    put_indent(p);
    put(p, key->name);
    put(p, " = {\n");
    p->indent++;
    put_block(p, key->block, base, only_given);
    p->indent--;
    put_indent(p);
    put(p, "};\n");
}

static void put_items(printer *p, const sj_key *key, const char *field) {
    struct {
        const char *items;
        size_t count;
    } list;
    memcpy(&list, field, sizeof list);
    bool named = key->type == SJ_KEY_NAMED;
    put_indent(p);
    put(p, key->name);
    put(p, named ? " = {\n" : " = (\n");
    p->indent++;
    for (size_t i = 0; i < list.count; i++) {
        const char *item = list.items + i * key->block->size;
        put_indent(p);
        if (named) {
            put(p, ((const sj_upstream_source *)(const void *)item)->v.name);
            put(p, " = ");
        }
        put(p, "{\n");
        p->indent++;
        put_block(p, key->block, item, true);
        p->indent--;
        put_indent(p);
        put(p, named ? "};\n" : i + 1 < list.count ? "},\n" : "}\n");
    }
    p->indent--;
    put_indent(p);
    put(p, named ? "};\n" : ");\n");
}

// only_given: groups that only override (in an upstream or a route) show what they override; scalars are shown all the same there,
// but in a block of overrides itself.
static void put_block(printer *p, const sj_block *block, const char *base, bool only_given) {
    sj_given given = {0};
    if (block->given != SJ_NO_GIVEN)
        memcpy(&given, base + block->given, sizeof given);
    bool overrides = only_given && block != &sj_block_upstream && block != &sj_block_route;
    for (size_t i = 0; i < block->count; i++) {
        const sj_key *key = &block->keys[i];
        const char *field = base + key->offset;
        bool is_given = given.keys >> i & 1;
        if (key->type == SJ_KEY_GROUP) {
            put_group(p, key, field, only_given);
            continue;
        }
        if (!is_set(key, field, is_given) || (overrides && !is_given))
            continue;
        if (sj_key_is_group(key)) {
            put_items(p, key, field);
            continue;
        }
        put_indent(p);
        put(p, key->name);
        put(p, " = ");
        put_value(p, key, field);
        put(p, ";\n");
    }
}

bool sj_config_print(const sj_config *config, sj_buffer *out) {
    printer p = {.out = out};
    put_block(&p, &sj_block_top, (const char *)config, false);
    return !p.failed;
}
