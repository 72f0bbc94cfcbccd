// Walks libconfig's tree along the table: known keys into their fields, everything else refused.
#include "config_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct item_list {
    void *items;
    size_t count;
} item_list;

static void *field_of(void *base, const sj_key *key) {
    return (char *)base + key->offset;
}

// ---- defaults and merging ---------------------------------------------------------------------------------------------------

static void store_default(sj_loader *loader, const sj_key *key, void *field) {
    if (!key->text)
        return;
    sj_value value = {
        .kind = SJ_VALUE_TEXT, .text = key->text, .variable = "default"}; // numbers are text there too
    bool ok = key->type >= SJ_KEY_STRINGS ? sj_list_store_default(loader, key, field)
                                          : sj_value_store(loader, key, &value, field);
    assert(ok || loader->faults); // the table is right; memory may end
}

void sj_config_defaults(sj_loader *loader, const sj_block *block, void *base) {
    for (size_t i = 0; i < block->count; i++) {
        const sj_key *key = &block->keys[i];
        if (key->type == SJ_KEY_GROUP)
            sj_config_defaults(loader, key->block, field_of(base, key));
        else
            store_default(loader, key, field_of(base, key));
    }
}

void sj_config_merge(const sj_block *block, void *into, const void *from) {
    sj_given given;
    memcpy(&given, (const char *)from + block->given, sizeof given);
    for (size_t i = 0; i < block->count; i++) {
        const sj_key *key = &block->keys[i];
        if (given.keys >> i & 1)
            memcpy(field_of(into, key), (const char *)from + key->offset, sj_key_field_size(key->type));
    }
}

// ---- unknown keys -----------------------------------------------------------------------------------------------------------

// Letters to insert, remove, replace or swap; at most 63 letters each.
static unsigned edit_distance(const char *a, const char *b) {
    enum { MAX = 64 };
    size_t n = strnlen(a, MAX - 1), m = strnlen(b, MAX - 1);
    unsigned char rows[3][MAX];
    unsigned char *before = rows[0], *last = rows[1], *now = rows[2];
    for (size_t j = 0; j <= m; j++)
        last[j] = (unsigned char)j;
    for (size_t i = 1; i <= n; i++) {
        now[0] = (unsigned char)i;
        for (size_t j = 1; j <= m; j++) {
            unsigned best = last[j - 1] + (a[i - 1] != b[j - 1] ? 1U : 0U);
            if (last[j] + 1U < best)
                best = last[j] + 1U;
            if (now[j - 1] + 1U < best)
                best = now[j - 1] + 1U;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1U < best)
                best = before[j - 2] + 1U;
            now[j] = (unsigned char)best;
        }
        unsigned char *oldest = before;
        before = last;
        last = now;
        now = oldest;
    }
    return last[m];
}

typedef struct suggestion {
    const char *key;
    const sj_block *block;
    unsigned distance;
} suggestion;

static void suggest(const sj_block *block, const char *name, suggestion *best) {
    for (size_t i = 0; i < block->count; i++) {
        const sj_key *key = &block->keys[i];
        unsigned distance = edit_distance(name, key->name);
        if (distance < best->distance && key->type != SJ_KEY_REFUSED)
            *best = (suggestion){key->name, block, distance};
    }
}

// The block itself goes first: a key elsewhere must be strictly nearer.
static suggestion nearest_key(const sj_block *block, const char *name) {
    suggestion best = {.distance = (unsigned)strnlen(name, 63) / 2 + 1};
    suggest(block, name, &best);
    for (size_t i = 0; sj_blocks[i]; i++)
        suggest(sj_blocks[i], name, &best);
    return best;
}

static void refuse_unknown(sj_loader *loader, const sj_block *block, const config_setting_t *setting) {
    suggestion near = nearest_key(block, config_setting_name(setting));
    if (!near.key)
        sj_config_fault(loader, setting, NULL, "unknown key; `stormjib config` lists those that %s has",
                        block->title);
    else if (near.block == block)
        sj_config_fault(loader, setting, NULL, "unknown key; did you mean '%s'?", near.key);
    else if (near.distance == 0)
        sj_config_fault(loader, setting, NULL, "unknown in %s; it belongs in %s", block->title,
                        near.block->title);
    else
        sj_config_fault(loader, setting, NULL, "unknown key; did you mean '%s', which belongs in %s?",
                        near.key, near.block->title);
}

// ---- the walk ---------------------------------------------------------------------------------------------------------------

static void parse_item(sj_loader *loader, const sj_key *key, const config_setting_t *element, void *item) {
    sj_config_defaults(loader, key->block, item);
    sj_config_parse(loader, key->block, element, item);
}

// "upstreams": the group's own key is the name, kept in sj_upstream_source.v.name.
static void name_upstream(sj_loader *loader, const config_setting_t *element, sj_upstream_source *upstream) {
    const char *name = config_setting_name(element);
    if (strlen(name) > 48)
        sj_config_fault(loader, element, NULL, "a name of more than 48 letters");
    if (strchr(name, '*'))
        sj_config_fault(loader, element, NULL, "'*' cannot stand in an upstream's name");
    upstream->v.name = sj_config_copy(loader, sj_slice_of(name));
}

static bool parse_items(sj_loader *loader, const sj_key *key, const config_setting_t *setting, void *field) {
    bool named = key->type == SJ_KEY_NAMED;
    if (named ? !config_setting_is_group(setting) : !config_setting_is_list(setting)) {
        sj_config_fault(loader, setting, NULL, "write %s",
                        named ? "{ name = { ... }; }" : "( { ... }, { ... } )");
        return false;
    }
    size_t count = (size_t)config_setting_length(setting), size = key->block->size;
    if (count < (size_t)key->min || count > (size_t)key->max) {
        sj_config_fault(loader, setting, NULL, "%zu entries; %zu to %zu", count, (size_t)key->min,
                        (size_t)key->max);
        return false;
    }
    char *items = sj_config_alloc(loader, (count + 1) * size);
    if (!items)
        return false;
    for (unsigned i = 0; i < count; i++) {
        const config_setting_t *element = config_setting_get_elem(setting, i);
        if (named)
            name_upstream(loader, element, (sj_upstream_source *)(void *)(items + i * size));
        parse_item(loader, key, element, items + i * size);
    }
    item_list list = {items, count};
    memcpy(field, &list, sizeof list);
    return true;
}

static bool parse_key(sj_loader *loader, const sj_key *key, const config_setting_t *setting, void *base) {
    void *field = field_of(base, key);
    sj_value value;
    switch (key->type) {
    case SJ_KEY_REFUSED:
        sj_config_fault(loader, setting, NULL, "cannot stand here: %s", key->help);
        return false;
    case SJ_KEY_GROUP:
        sj_config_parse(loader, key->block, setting, field);
        return true;
    case SJ_KEY_GROUPS:
    case SJ_KEY_NAMED:
        return parse_items(loader, key, setting, field);
    case SJ_KEY_STRINGS:
    case SJ_KEY_SECRETS:
    case SJ_KEY_STATUSES:
    case SJ_KEY_PAIRS:
        return sj_list_store(loader, key, setting, field);
    default:
        return sj_value_read(loader, key, setting, &value) && sj_value_store(loader, key, &value, field);
    }
}

void sj_config_parse(sj_loader *loader, const sj_block *block, const config_setting_t *setting, void *base) {
    sj_given given = {.setting = setting};
    bool group = config_setting_is_group(setting);
    if (!group)
        sj_config_fault(loader, setting, NULL, "is not a group; write { key = value; }");
    for (int i = 0; group && i < config_setting_length(setting); i++) {
        const config_setting_t *child = config_setting_get_elem(setting, (unsigned)i);
        const sj_key *key = sj_key_find(block, config_setting_name(child));
        if (!key)
            refuse_unknown(loader, block, child);
        else if (parse_key(loader, key, child, base))
            given.keys |= UINT64_C(1) << (key - block->keys);
    }
    for (size_t i = 0; group && i < block->count; i++) {
        const char *name = block->keys[i].name;
        if (block->keys[i].required && !config_setting_get_member(setting, name))
            sj_config_fault(loader, setting, name, "is missing in %s", block->title);
    }
    if (block->given != SJ_NO_GIVEN)
        memcpy((char *)base + block->given, &given, sizeof given);
}
