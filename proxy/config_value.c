// One scalar: out of the file or the environment, checked against its row of the table, into its field.
#include "config_internal.h"
#include "duration.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef bool store_scalar(sj_loader *loader, const sj_key *key, const sj_value *value, void *field);

static store_scalar store_bool, store_integer, store_float, store_duration, store_size, store_enum,
    store_string;

static const struct {
    const char *name;
    size_t size;
    store_scalar *store; // NULL: not a scalar
} types[SJ_KEY_TYPES] = {
    [SJ_KEY_BOOL] = {"boolean", sizeof(bool), store_bool},
    [SJ_KEY_INT] = {"whole number", sizeof(int), store_integer},
    [SJ_KEY_INT64] = {"whole number", sizeof(int64_t), store_integer},
    [SJ_KEY_FLOAT] = {"number", sizeof(double), store_float},
    [SJ_KEY_DURATION] = {"duration", sizeof(int64_t), store_duration},
    [SJ_KEY_SIZE] = {"size", sizeof(size_t), store_size},
    [SJ_KEY_ENUM] = {"one of", sizeof(int), store_enum},
    [SJ_KEY_STRING] = {"text", sizeof(char *), store_string},
    [SJ_KEY_TEXT] = {"text", sizeof(char *), store_string},
    [SJ_KEY_SECRET] = {"secret", sizeof(char *), store_string},
    [SJ_KEY_STRINGS] = {"text or array of texts", sizeof(char **) + sizeof(size_t), NULL},
    [SJ_KEY_SECRETS] = {"secret or array of secrets", sizeof(char **) + sizeof(size_t), NULL},
    [SJ_KEY_STATUSES] = {"array of statuses", sizeof(sj_status_set), NULL},
    [SJ_KEY_PAIRS] = {"names with values", sizeof(sj_pair_source *) + sizeof(size_t), NULL},
    [SJ_KEY_GROUP] = {"group", 0, NULL},
    [SJ_KEY_GROUPS] = {"list of groups", 0, NULL},
    [SJ_KEY_NAMED] = {"group of groups", 0, NULL},
    [SJ_KEY_REFUSED] = {"not allowed", 0, NULL},
};

const char *sj_key_type_name(sj_key_type type) {
    return types[type].name;
}

size_t sj_key_field_size(sj_key_type type) {
    return types[type].size;
}

// ---- sizes ------------------------------------------------------------------------------------------------------------------

static const struct {
    const char *name;
    int shift;
} units[] = {{"GiB", 30}, {"MiB", 20}, {"KiB", 10}, {"B", 0}};

bool sj_size_parse(sj_slice text, size_t *bytes) {
    uint64_t value = 0;
    size_t n = 0;
    for (; n < text.n && isdigit((unsigned char)text.p[n]); n++) {
        if (value > UINT32_MAX)
            return false;
        value = value * 10 + (uint64_t)(text.p[n] - '0');
    }
    sj_slice unit = sj_slice_from(text, n);
    for (size_t i = 0; n && i < sizeof units / sizeof *units; i++) {
        if (!sj_slice_equal(unit, sj_slice_of(units[i].name)))
            continue;
        if (value > (uint64_t)INT64_MAX >> units[i].shift)
            return false;
        *bytes = (size_t)(value << units[i].shift);
        return true;
    }
    return false;
}

void sj_size_format(size_t bytes, char *out, size_t n) {
    size_t i = 0;
    while (units[i].shift && (bytes == 0 || bytes & (((size_t)1 << units[i].shift) - 1)))
        i++;
    (void)snprintf(out, n, "%zu%s", bytes >> units[i].shift, units[i].name);
}

// ---- what errors say --------------------------------------------------------------------------------------------------------

// A key that was put in the wrong place must not be shown there either: no prefix of one, no long run of letters and digits.
static bool looks_secret(const char *text) {
    size_t run = 0, longest = 0;
    for (const char *p = text; *p; p++) {
        run = isalnum((unsigned char)*p) || *p == '_' || *p == '+' ? run + 1 : 0;
        longest = run > longest ? run : longest;
    }
    return longest >= 24 || strncasecmp(text, "sk-", 3) == 0 || strncasecmp(text, "bearer ", 7) == 0 ||
           strchr(text, '@');
}

const char *sj_value_shown(const sj_key *key, const sj_value *value, char out[SJ_SHOWN_BYTES]) {
    bool secret = key->type == SJ_KEY_SECRET || key->type == SJ_KEY_SECRETS || key->type == SJ_KEY_PAIRS;
    if (value->variable)
        (void)snprintf(out, SJ_SHOWN_BYTES, "the value of ${%.60s}", value->variable);
    else if (value->kind == SJ_VALUE_OTHER)
        (void)snprintf(out, SJ_SHOWN_BYTES, "%s", value->what);
    else if (secret || (value->kind == SJ_VALUE_TEXT && looks_secret(value->text)))
        (void)snprintf(out, SJ_SHOWN_BYTES, "the value");
    else if (value->kind == SJ_VALUE_TEXT)
        (void)snprintf(out, SJ_SHOWN_BYTES, "\"%.100s\"", value->text);
    else if (value->kind == SJ_VALUE_INTEGER)
        (void)snprintf(out, SJ_SHOWN_BYTES, "%" PRId64, value->integer);
    else if (value->kind == SJ_VALUE_FLOAT)
        (void)snprintf(out, SJ_SHOWN_BYTES, "%g", value->number);
    else
        (void)snprintf(out, SJ_SHOWN_BYTES, "%s", value->integer ? "true" : "false");
    for (char *p = out; *p; p++) {
        if (iscntrl((unsigned char)*p))
            *p = '?';
    }
    return out;
}

static void format_bound(const sj_key *key, double bound, char *out, size_t n) {
    if (key->type == SJ_KEY_DURATION)
        sj_duration_format((int64_t)bound, out, n);
    else if (key->type == SJ_KEY_SIZE)
        sj_size_format((size_t)bound, out, n);
    else
        (void)snprintf(out, n, "%.15g", bound);
}

void sj_key_range_text(const sj_key *key, char *out, size_t n) {
    char min[40], max[40];
    out[0] = '\0';
    if (key->max <= 0 || key->type > SJ_KEY_SIZE)
        return;
    format_bound(key, key->min, min, sizeof min);
    format_bound(key, key->max, max, sizeof max);
    if (key->max >= 9e18)
        (void)snprintf(out, n, "at least %s", min);
    else
        (void)snprintf(out, n, "%s to %s", min, max);
}

static bool refuse_kind(sj_loader *loader, const sj_key *key, const sj_value *value, const char *write) {
    char shown[SJ_SHOWN_BYTES];
    sj_config_fault(loader, value->setting, NULL, "%s is not a %s; write %s",
                    sj_value_shown(key, value, shown), types[key->type].name, write);
    return false;
}

static bool check_range(sj_loader *loader, const sj_key *key, const sj_value *value, double number) {
    if (key->max <= 0 || (number >= key->min && number <= key->max))
        return true;
    char shown[SJ_SHOWN_BYTES], range[96];
    sj_key_range_text(key, range, sizeof range);
    sj_config_fault(loader, value->setting, NULL, "%s is out of range: %s", sj_value_shown(key, value, shown),
                    range);
    return false;
}

// ---- types ------------------------------------------------------------------------------------------------------------------

static bool store_bool(sj_loader *loader, const sj_key *key, const sj_value *value, void *field) {
    bool given = value->kind == SJ_VALUE_BOOL ? value->integer != 0 : false;
    if (value->kind == SJ_VALUE_TEXT && value->variable && strcasecmp(value->text, "true") == 0)
        given = true;
    else if (value->kind == SJ_VALUE_TEXT && value->variable && strcasecmp(value->text, "false") == 0)
        given = false;
    else if (value->kind != SJ_VALUE_BOOL)
        return refuse_kind(loader, key, value, "true or false, without quotes");
    memcpy(field, &given, sizeof given);
    return true;
}

// Numbers may come from the environment too; there everything is text.
static bool text_to_integer(const char *text, int64_t *out) {
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end || errno)
        return false;
    *out = value;
    return true;
}

static bool store_integer(sj_loader *loader, const sj_key *key, const sj_value *value, void *field) {
    int64_t number = value->integer;
    bool from_text = value->kind == SJ_VALUE_TEXT && value->variable && text_to_integer(value->text, &number);
    if (value->kind != SJ_VALUE_INTEGER && !from_text)
        return refuse_kind(loader, key, value, key->text ? key->text : "1");
    if (!check_range(loader, key, value, (double)number))
        return false;
    int narrow = (int)number; // the table's ranges lie within an int
    if (key->type == SJ_KEY_INT)
        memcpy(field, &narrow, sizeof narrow);
    else
        memcpy(field, &number, sizeof number);
    return true;
}

static bool text_to_double(const char *text, double *out) {
    char *end;
    *out = strtod(text, &end);
    return end != text && !*end;
}

static bool store_float(sj_loader *loader, const sj_key *key, const sj_value *value, void *field) {
    double number = value->kind == SJ_VALUE_INTEGER ? (double)value->integer : value->number;
    bool from_text = value->kind == SJ_VALUE_TEXT && value->variable && text_to_double(value->text, &number);
    if (value->kind != SJ_VALUE_INTEGER && value->kind != SJ_VALUE_FLOAT && !from_text)
        return refuse_kind(loader, key, value, key->text ? key->text : "1.0");
    if (!isfinite(number))
        return refuse_kind(loader, key, value, "a finite one");
    if (!check_range(loader, key, value, number))
        return false;
    memcpy(field, &number, sizeof number);
    return true;
}

// 8 -> "8s": the unit that a bare number was most likely meant to have.
static bool refuse_bare(sj_loader *loader, const sj_key *key, const sj_value *value, const char *unit,
                        const char *examples) {
    char number[48], write[64];
    int64_t ignored;
    if (value->kind == SJ_VALUE_INTEGER)
        (void)snprintf(number, sizeof number, "%" PRId64, value->integer);
    else if (value->kind == SJ_VALUE_FLOAT)
        (void)snprintf(number, sizeof number, "%g", value->number);
    else if (value->kind == SJ_VALUE_TEXT && !value->variable && text_to_integer(value->text, &ignored))
        (void)snprintf(number, sizeof number, "%" PRId64, ignored);
    else
        return refuse_kind(loader, key, value, examples);
    if (number[0] == '-')
        return refuse_kind(loader, key, value, examples);
    (void)snprintf(write, sizeof write, "\"%s%s\"", number, unit);
    return refuse_kind(loader, key, value, write);
}

static bool store_duration(sj_loader *loader, const sj_key *key, const sj_value *value, void *field) {
    int64_t ms;
    if (value->kind != SJ_VALUE_TEXT || !sj_duration_parse(sj_slice_of(value->text), SJ_BARE_REFUSED, &ms))
        return refuse_bare(loader, key, value, "s", "for example \"500ms\", \"30s\" or \"5m\"");
    if (!check_range(loader, key, value, (double)ms))
        return false;
    memcpy(field, &ms, sizeof ms);
    return true;
}

static bool store_size(sj_loader *loader, const sj_key *key, const sj_value *value, void *field) {
    size_t bytes;
    if (value->kind != SJ_VALUE_TEXT || !sj_size_parse(sj_slice_of(value->text), &bytes))
        return refuse_bare(loader, key, value, "B", "for example \"512KiB\", \"64MiB\" or \"1GiB\"");
    if (!check_range(loader, key, value, (double)bytes))
        return false;
    memcpy(field, &bytes, sizeof bytes);
    return true;
}

static bool store_enum(sj_loader *loader, const sj_key *key, const sj_value *value, void *field) {
    sj_buffer known = sj_buffer_with_max(1024);
    for (int i = 0; key->names[i]; i++) {
        if (value->kind == SJ_VALUE_TEXT && strcmp(value->text, key->names[i]) == 0) {
            memcpy(field, &i, sizeof i);
            sj_buffer_free(&known);
            return true;
        }
        (void)!sj_buffer_printf(&known, "%s\"%s\"", i ? ", " : "", key->names[i]);
    }
    char shown[SJ_SHOWN_BYTES];
    sj_config_fault(loader, value->setting, NULL, "%s is none of %.*s", sj_value_shown(key, value, shown),
                    (int)known.n, known.p ? known.p : "");
    sj_buffer_free(&known);
    return false;
}

static bool has_control(const char *text) {
    for (; *text; text++) {
        if (iscntrl((unsigned char)*text))
            return true;
    }
    return false;
}

static bool store_string(sj_loader *loader, const sj_key *key, const sj_value *value, void *field) {
    char shown[SJ_SHOWN_BYTES];
    if (value->kind != SJ_VALUE_TEXT) {
        sj_config_fault(loader, value->setting, NULL, "%s is not a text; write \"...\"",
                        sj_value_shown(key, value, shown));
        return false;
    }
    size_t n = strlen(value->text);
    bool list = key->type == SJ_KEY_STRINGS || key->type == SJ_KEY_SECRETS || key->type == SJ_KEY_PAIRS;
    double min = key->type == SJ_KEY_PAIRS ? 0
                 : list                    ? 1
                                           : key->min,
           max = list ? SJ_CONFIG_MAX_TEXT : key->max;
    const char *problem = NULL;
    if (key->type != SJ_KEY_TEXT && has_control(value->text))
        problem = "contains a line end or another control character";
    else if (n == 0 && min > 0)
        problem = "is empty";
    else if ((double)n > max && max > 0)
        problem = "is too long";
    if (problem) {
        sj_config_fault(loader, value->setting, NULL, "%s %s%s", sj_value_shown(key, value, shown), problem,
                        n == 0 && !key->required && !list ? "; leave the key out instead" : "");
        return false;
    }
    bool secret = key->type == SJ_KEY_SECRET || key->type == SJ_KEY_SECRETS;
    if (secret && value->setting && !value->variable)
        sj_config_warn(loader, value->setting, NULL,
                       "the secret stands in the file; put it in the environment and write \"${NAME}\"");
    char *copy = sj_config_copy(loader, sj_slice_of(value->text));
    memcpy(field, &copy, sizeof copy);
    return copy != NULL;
}

bool sj_value_store(sj_loader *loader, const sj_key *key, const sj_value *value, void *field) {
    store_scalar *store = types[key->type].store;
    return (store ? store : store_string)(loader, key, value, field);
}

// ---- reading ----------------------------------------------------------------------------------------------------------------

// The NAME of "${NAME}"; empty when the text is not exactly that.
static sj_slice variable_of(const char *text) {
    size_t n = strlen(text);
    if (n < 4 || text[0] != '$' || text[1] != '{' || text[n - 1] != '}')
        return (sj_slice){NULL, 0};
    for (size_t i = 2; i < n - 1; i++) {
        bool fits =
            text[i] == '_' || (i > 2 ? isalnum((unsigned char)text[i]) : isalpha((unsigned char)text[i]));
        if (!fits)
            return (sj_slice){NULL, 0};
    }
    return (sj_slice){text + 2, n - 3};
}

static bool expand(sj_loader *loader, const sj_key *key, sj_value *value) {
    sj_slice name = variable_of(value->text);
    if (name.n == 0) {
        if (key->type == SJ_KEY_TEXT || !strstr(value->text, "${"))
            return true;
        sj_config_fault(loader, value->setting, NULL,
                        "a variable stands for a whole value: write \"${NAME}\" and nothing else, NAME of "
                        "letters, digits and '_'");
        return false;
    }
    char *variable = sj_config_copy(loader, name);
    const char *found = variable ? getenv(variable) : NULL;
    if (!found || !*found) {
        sj_config_fault(loader, value->setting, NULL,
                        "the environment variable %s is %s; export it, or remove the key",
                        variable ? variable : "", found ? "empty" : "not set");
        return false;
    }
    if (strncmp(found, "${", 2) == 0) {
        sj_config_fault(loader, value->setting, NULL,
                        "the environment variable %s names another variable; expand it there", variable);
        return false;
    }
    value->variable = variable;
    value->text = found;
    return true;
}

static const char *what_is(const config_setting_t *setting) {
    switch (config_setting_type(setting)) {
    case CONFIG_TYPE_GROUP:
        return "a group { ... }";
    case CONFIG_TYPE_LIST:
        return "a list ( ... )";
    case CONFIG_TYPE_ARRAY:
        return "an array [ ... ]";
    default:
        return "that";
    }
}

bool sj_value_read(sj_loader *loader, const sj_key *key, const config_setting_t *setting, sj_value *value) {
    *value = (sj_value){.setting = setting};
    switch (config_setting_type(setting)) {
    case CONFIG_TYPE_BOOL:
        value->kind = SJ_VALUE_BOOL;
        value->integer = config_setting_get_bool(setting);
        return true;
    case CONFIG_TYPE_INT:
        value->kind = SJ_VALUE_INTEGER;
        value->integer = config_setting_get_int(setting);
        return true;
    case CONFIG_TYPE_INT64:
        value->kind = SJ_VALUE_INTEGER;
        value->integer = config_setting_get_int64(setting);
        return true;
    case CONFIG_TYPE_FLOAT:
        value->kind = SJ_VALUE_FLOAT;
        value->number = config_setting_get_float(setting);
        return true;
    case CONFIG_TYPE_STRING:
        value->kind = SJ_VALUE_TEXT;
        value->text = config_setting_get_string(setting);
        return expand(loader, key, value);
    default:
        value->kind = SJ_VALUE_OTHER;
        value->what = what_is(setting);
        return true;
    }
}
