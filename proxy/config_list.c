// Keys that hold several values: texts, secrets, statuses, names with values.
#include "config_internal.h"

#include <stdio.h>
#include <stdlib.h>

// Items and count stand side by side in every struct of the table.
typedef struct item_list {
    void *items;
    size_t count;
} item_list;

static bool take_item(sj_loader *loader, const sj_key *key, const sj_value *value, void *field, size_t index,
                      size_t total);

static bool take_text(sj_loader *loader, const sj_key *key, const sj_value *value, void *field, size_t index,
                      size_t total) {
    item_list list;
    memcpy(&list, field, sizeof list);
    if (index == 0) {
        list = (item_list){.items = sj_config_alloc(loader, (total + 1) * sizeof(char *))};
        if (!list.items)
            return false;
    }
    char **texts = list.items;
    if (!sj_value_store(loader, key, value, &texts[list.count]))
        return false;
    list.count++;
    memcpy(field, &list, sizeof list);
    return true;
}

// "503" or "502-504"; a bare 503 too.
static bool take_statuses(sj_loader *loader, const sj_key *key, const sj_value *value, void *field) {
    int from = 0, to = 0;
    if (value->kind == SJ_VALUE_INTEGER && value->integer >= 0 && value->integer <= 999) {
        from = to = (int)value->integer;
    } else if (value->kind == SJ_VALUE_TEXT) {
        int used = 0;
        size_t n = strlen(value->text);
        bool digits = n && n <= 7 && strspn(value->text, "0123456789-") == n;
        if (digits && sscanf(value->text, "%3d%n", &from, &used) == 1 && (size_t)used == n)
            to = from;
        else if (!digits || sscanf(value->text, "%3d-%3d%n", &from, &to, &used) != 2 || (size_t)used != n)
            from = to = 0;
    }
    if (from >= (int)key->min && to <= (int)key->max && from <= to) {
        sj_status_set_add(field, from, to);
        return true;
    }
    char shown[SJ_SHOWN_BYTES];
    sj_config_fault(loader, value->setting, NULL,
                    "%s is no status from %d to %d; write \"503\" or \"502-504\"",
                    sj_value_shown(key, value, shown), (int)key->min, (int)key->max);
    return false;
}

static bool take_item(sj_loader *loader, const sj_key *key, const sj_value *value, void *field, size_t index,
                      size_t total) {
    if (key->type == SJ_KEY_STATUSES)
        return take_statuses(loader, key, value, field);
    return take_text(loader, key, value, field, index, total);
}

// "a,b": the environment and the table have no arrays.
static bool take_comma_list(sj_loader *loader, const sj_key *key, const sj_value *whole, void *field) {
    size_t total = 1, index = 0;
    for (const char *p = whole->text; *p; p++)
        total += *p == ',';
    const char *from = whole->text;
    while (*from) {
        size_t n = strcspn(from, ",");
        sj_slice part = sj_slice_trim((sj_slice){from, n});
        from += n + (from[n] == ',');
        if (part.n == 0)
            continue;
        sj_value value = *whole;
        value.text = sj_config_copy(loader, part);
        if (!value.text || !take_item(loader, key, &value, field, index++, total))
            return false;
    }
    return true;
}

bool sj_list_store_default(sj_loader *loader, const sj_key *key, void *field) {
    if (!key->text)
        return true;
    sj_value value = {.kind = SJ_VALUE_TEXT, .text = key->text};
    return take_comma_list(loader, key, &value, field);
}

static bool check_count(sj_loader *loader, const sj_key *key, const config_setting_t *setting, size_t count) {
    size_t min = key->type == SJ_KEY_STATUSES ? 0 : (size_t)key->min;
    size_t max = key->type == SJ_KEY_STATUSES ? SJ_CONFIG_MAX_ITEMS : (size_t)key->max;
    if (count < min) {
        sj_config_fault(loader, setting, NULL, "is empty; give at least %zu%s", min,
                        key->required ? "" : ", or leave the key out");
        return false;
    }
    if (count > max)
        sj_config_fault(loader, setting, NULL, "%zu entries; at most %zu", count, max);
    return count <= max;
}

// ---- names with values ------------------------------------------------------------------------------------------------------

static bool contains_nocase(const char *text, const char *part) {
    return strcasestr(text, part) != NULL;
}

static bool is_secret_name(const char *name) {
    static const char *const marks[] = {"auth",   "key",      "token",     "secret",
                                        "cookie", "password", "signature", "credential"};
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        if (contains_nocase(name, marks[i]))
            return true;
    }
    return false;
}

static bool read_pair_value(sj_loader *loader, const sj_key *key, const config_setting_t *setting,
                            sj_pair_source *pair) {
    sj_value value;
    if (!sj_value_read(loader, key, setting, &value) || !sj_value_store(loader, key, &value, &pair->value))
        return false;
    pair->secret = value.variable != NULL || is_secret_name(pair->name);
    return true;
}

// { name = "..."; value = "..."; }
static bool read_spelled_pair(sj_loader *loader, const sj_key *key, const config_setting_t *group,
                              sj_pair_source *pair) {
    static const sj_key name_key = {
        .name = "name", .type = SJ_KEY_STRING, .required = true, .min = 1, .max = 256};
    const config_setting_t *name =
        config_setting_is_group(group) ? config_setting_get_member(group, "name") : NULL;
    const config_setting_t *value = name ? config_setting_get_member(group, "value") : NULL;
    if (!value || config_setting_length(group) != 2) {
        sj_config_fault(loader, group, NULL, "write { name = \"...\"; value = \"...\"; }");
        return false;
    }
    sj_value read;
    return sj_value_read(loader, &name_key, name, &read) &&
           sj_value_store(loader, &name_key, &read, &pair->name) && read_pair_value(loader, key, value, pair);
}

static bool store_pairs(sj_loader *loader, const sj_key *key, const config_setting_t *setting, void *field) {
    bool spelled = config_setting_is_list(setting);
    if (!spelled && !config_setting_is_group(setting)) {
        sj_config_fault(loader, setting, NULL, "is not a list of names with values; write %s", key->example);
        return false;
    }
    size_t count = (size_t)config_setting_length(setting);
    if (!check_count(loader, key, setting, count))
        return false;
    sj_pair_source *pairs = sj_config_alloc(loader, (count + 1) * sizeof *pairs);
    if (!pairs)
        return false;
    item_list list = {.items = pairs};
    for (unsigned i = 0; i < count; i++) {
        const config_setting_t *element = config_setting_get_elem(setting, i);
        sj_pair_source *pair = &pairs[list.count];
        bool ok;
        if (spelled) {
            ok = read_spelled_pair(loader, key, element, pair);
        } else {
            pair->name = sj_config_copy(loader, sj_slice_of(config_setting_name(element)));
            ok = pair->name && read_pair_value(loader, key, element, pair);
        }
        list.count += ok;
    }
    memcpy(field, &list, sizeof list);
    return true;
}

bool sj_list_store(sj_loader *loader, const sj_key *key, const config_setting_t *setting, void *field) {
    if (key->type == SJ_KEY_PAIRS)
        return store_pairs(loader, key, setting, field);
    memset(field, 0, sj_key_field_size(key->type));
    sj_value value;
    if (!config_setting_is_aggregate(setting)) {
        if (!sj_value_read(loader, key, setting, &value))
            return false;
        if (value.variable)
            return take_comma_list(loader, key, &value, field);
        return take_item(loader, key, &value, field, 0, 1);
    }
    if (config_setting_is_group(setting)) {
        sj_config_fault(loader, setting, NULL, "a group { ... } is not an array; write [ \"...\", \"...\" ]");
        return false;
    }
    size_t count = (size_t)config_setting_length(setting);
    if (!check_count(loader, key, setting, count))
        return false;
    size_t taken = 0;
    for (unsigned i = 0; i < count; i++) {
        if (sj_value_read(loader, key, config_setting_get_elem(setting, i), &value))
            taken += take_item(loader, key, &value, field, taken, count);
    }
    return taken == count;
}
