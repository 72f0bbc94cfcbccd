// What the parts of the configuration module share; nothing outside proxy/config*.c and its tests includes this.
// Reading order: config_table (the keys) -> config_scan (the text) -> config_parse, config_value, config_list (settings into fields)
// -> config_resolve (checks, merged rules), config_idle (what changes nothing) -> config_print, config_document. Everything a configuration owns lies in its arena.
#ifndef SJ_CONFIG_INTERNAL_H
#define SJ_CONFIG_INTERNAL_H

#include "config.h"

#include <libconfig.h>
#include <stdatomic.h>

enum {
    SJ_CONFIG_MAX_BYTES = 4 * 1024 * 1024, // of the file, and of each file it includes
    SJ_CONFIG_MAX_SETTINGS = 20000,        // libconfig looks names up one by one
    SJ_CONFIG_MAX_DEPTH = 32,              // of nested brackets
    SJ_CONFIG_MAX_INCLUDES = 8,            // nested in each other; libconfig's own bound is 10
    SJ_CONFIG_MAX_FAULTS = 100,
    SJ_CONFIG_MAX_ITEMS = 4096, // of any list
    SJ_CONFIG_MAX_TEXT = 64 * 1024,
    SJ_CONFIG_MAX_LATE = 512,
};

// ---- the table --------------------------------------------------------------------------------------------------------------

typedef enum sj_key_type {
    SJ_KEY_BOOL,
    SJ_KEY_INT,
    SJ_KEY_INT64,
    SJ_KEY_FLOAT,
    SJ_KEY_DURATION, // int64_t ms
    SJ_KEY_SIZE,     // size_t bytes
    SJ_KEY_ENUM,     // int, an index into names
    SJ_KEY_STRING,   // char *
    SJ_KEY_TEXT,     // char *, free text: "${" inside it means nothing
    SJ_KEY_SECRET,   // char *, never shown
    SJ_KEY_STRINGS,  // char **, size_t
    SJ_KEY_SECRETS,  // char **, size_t
    SJ_KEY_STATUSES, // sj_status_set
    SJ_KEY_PAIRS,    // sj_pair_source *, size_t
    SJ_KEY_GROUP,    // one nested block
    SJ_KEY_GROUPS,   // list of groups: item *, size_t
    SJ_KEY_NAMED,    // group of named groups: item *, size_t
    SJ_KEY_REFUSED,  // known, but not here; help says why
    SJ_KEY_TYPES,
} sj_key_type;

typedef struct sj_block sj_block;

typedef struct sj_key {
    const char *name;
    sj_key_type type;
    bool required;
    size_t offset;            // of the field in the block's struct
    const char *text;         // default, as it would stand in the file without quotes; lists with commas. NULL: unset
    double min, max;          // of the number, the ms, the bytes, a text's length or a list's; both 0: free
    const char *const *names; // of an enum, NULL-terminated
    const sj_block *block;    // of groups
    const char *example;      // shown by the document when there is no default
    const char *help;
} sj_key;

struct sj_block {
    const char *title; // "an upstream"
    const char *help;
    const sj_key *keys;
    size_t count;
    size_t size;  // of the struct an item of a list is stored in
    size_t given; // offset of its sj_given, or SJ_NO_GIVEN
};

#define SJ_NO_GIVEN SIZE_MAX

// Which keys of a block the file sets, and where the block stands. setting: only valid while loading.
typedef struct sj_given {
    uint64_t keys; // one bit per key, in the table's order
    const config_setting_t *setting;
} sj_given;

typedef struct sj_pair_source {
    char *name, *value;
    bool secret; // from the environment, or by its name: never shown
} sj_pair_source;

typedef struct sj_retry_block {
    sj_given given;
    sj_retry_policy v;
} sj_retry_block;

typedef struct sj_race_block {
    sj_given given;
    sj_race_rules v;
} sj_race_block;

typedef struct sj_breaker_block {
    sj_given given;
    sj_breaker_rules v;
} sj_breaker_block;

typedef struct sj_budget_block {
    sj_given given;
    sj_budget_rules v;
} sj_budget_block;

typedef struct sj_queue_block {
    sj_given given;
    int max_waiting;
    int64_t timeout_ms;
    bool standing_queue;
} sj_queue_block;

typedef struct sj_context_source {
    sj_given given;
    sj_context_size v;
} sj_context_source;

typedef struct sj_upstream_source {
    sj_given given;
    sj_upstream_config v; // v.name is set by the walk
    char *api_key;
    sj_pair_source *headers; // each count right behind its items
    size_t header_count;
    sj_pair_source *query;
    size_t query_count;
    sj_context_source *contexts;
    size_t context_count;
    sj_retry_block retry;
    sj_race_block race;
    sj_breaker_block breaker;
    sj_budget_block budget;
    sj_queue_block queue;
} sj_upstream_source;

typedef struct sj_route_source {
    sj_given given;
    sj_route_config v;
    char **chain;
    size_t chain_count;
    sj_retry_block retry;
    sj_race_block race;
} sj_route_source;

typedef struct sj_price_source {
    sj_given given;
    sj_price v;
} sj_price_source;

typedef struct sj_arena_chunk sj_arena_chunk;

typedef struct sj_loaded {
    sj_config config; // first: an sj_config * is an sj_loaded *
    atomic_int references;
    sj_arena_chunk *arena;
    sj_given given;
    char **listen;
    size_t listen_count;
    char *admin;
    int64_t seed;
    sj_upstream_source *upstreams;
    size_t upstream_count;
    sj_route_source *routes;
    size_t route_count;
    sj_price_source *prices;
    size_t price_count;
    sj_price_source *compare_prices;
    size_t compare_price_count;
    sj_retry_block retry;
    sj_race_block race;
    sj_breaker_block breaker, global_breaker;
    sj_budget_block budget;
    sj_queue_block queue;
} sj_loaded;

extern const sj_block sj_block_top, sj_block_upstream, sj_block_route, sj_block_retry, sj_block_race, sj_block_breaker,
    sj_block_global_breaker, sj_block_budget, sj_block_queue, sj_block_price, sj_block_context, sj_block_store, sj_block_sticky,
    sj_block_limits, sj_block_log;
extern const sj_block *const sj_blocks[]; // all of them, NULL-terminated

const sj_key *sj_key_find(const sj_block *block, const char *name);
bool sj_key_given(const sj_given *given, const sj_block *block, const char *name);
// Whether the key holds scalars only, so that its default and value fit in one line of text.
bool sj_key_is_group(const sj_key *key);

// ---- loading ----------------------------------------------------------------------------------------------------------------

typedef struct sj_loader {
    sj_loaded *loaded;
    const char *path;        // as the user wrote it; NULL: the environment
    const char *include_dir; // NULL: no @include
    bool listens_by_environment; // STORMJIB_LISTEN stands in for a `listen` that is not there
    sj_buffer *error, *warnings;
    int faults;
    // libconfig learns that a string is over from the token behind it, and gives it that token's line: wrong for the last one
    // of an array whose bracket closes in a line of its own. By the bracket's line; of the file itself, not of included ones.
    struct {
        int bracket, string;
    } late_lines[SJ_CONFIG_MAX_LATE];
    int late_count;
} sj_loader;

void *sj_config_alloc(sj_loader *loader, size_t bytes); // zeroed, from the arena; NULL is reported as a fault
char *sj_config_copy(sj_loader *loader, sj_slice text);

// One line each: FILE:LINE: key 'a.b': message. With a key the line is that of the key's setting inside `setting` when it is there.
__attribute__((format(printf, 4, 5))) void sj_config_fault(sj_loader *loader, const config_setting_t *setting, const char *key,
                                                   const char *format, ...);
__attribute__((format(printf, 4, 5))) void sj_config_warn(sj_loader *loader, const config_setting_t *setting, const char *key,
                                                  const char *format, ...);
// Before there are settings. line 0: the file as a whole.
__attribute__((format(printf, 4, 5))) void sj_config_fault_at(sj_loader *loader, const char *file, int line, const char *format, ...);

// Reads a whole regular file. False: reported.
bool sj_config_read_file(sj_loader *loader, const char *path, sj_buffer *text);

// What libconfig gets wrong silently or says too little about: NUL bytes, unterminated strings and comments, integers that would
// wrap, duplicate names (which, and where the first one is), quoted names, trailing commas, @include files. False: reported.
bool sj_config_scan(sj_loader *loader, sj_slice text);

// One value, from the file, the environment or the table.
typedef struct sj_value {
    enum { SJ_VALUE_TEXT, SJ_VALUE_INTEGER, SJ_VALUE_FLOAT, SJ_VALUE_BOOL, SJ_VALUE_OTHER } kind;
    const char *text;
    int64_t integer;
    double number;
    const char *variable; // it came from ${variable}
    const config_setting_t *setting;
    const char *what; // kind OTHER: "a list", ...
} sj_value;

enum { SJ_SHOWN_BYTES = 128 };

// Reads a scalar and expands "${NAME}". False: reported.
bool sj_value_read(sj_loader *loader, const sj_key *key, const config_setting_t *setting, sj_value *value);
// Puts a scalar into a field, or an item into its place; checks type and range. False: reported.
bool sj_value_store(sj_loader *loader, const sj_key *key, const sj_value *value, void *field);
const char *sj_value_shown(const sj_key *key, const sj_value *value, char out[SJ_SHOWN_BYTES]);
const char *sj_key_type_name(sj_key_type type);
size_t sj_key_field_size(sj_key_type type);
bool sj_size_parse(sj_slice text, size_t *bytes);
void sj_size_format(size_t bytes, char *out, size_t n);
// "1ms to 1h", "at least 1": empty when the key has no range.
void sj_key_range_text(const sj_key *key, char *out, size_t n);

bool sj_list_store(sj_loader *loader, const sj_key *key, const config_setting_t *setting, void *field);
bool sj_list_store_default(sj_loader *loader, const sj_key *key, void *field);

// Fills a block's struct: defaults first, then what the group says.
void sj_config_defaults(sj_loader *loader, const sj_block *block, void *base);
void sj_config_parse(sj_loader *loader, const sj_block *block, const config_setting_t *setting, void *base);
// Copies the fields that `from` sets over those of `into`.
void sj_config_merge(const sj_block *block, void *into, const void *from);

// Checks and derives everything of loader->loaded->config.
void sj_config_resolve(sj_loader *loader);
void sj_config_resolve_upstream(sj_loader *loader, sj_upstream_source *source);
void sj_config_resolve_route(sj_loader *loader, sj_route_source *source);
void sj_config_resolve_listeners(sj_loader *loader);
// Of merged rules; silent when the block at hand sets none of the keys in question.
void sj_config_check_breaker(sj_loader *loader, const sj_given *given, const sj_breaker_rules *rules);
void sj_config_check_budget(sj_loader *loader, const sj_given *given, const sj_budget_rules *rules);
void sj_config_check_retry(sj_loader *loader, const sj_given *given, const sj_retry_policy *policy);
void sj_config_tell_idle(sj_loader *loader); // warns of keys that change nothing where they stand
void sj_config_arena_free(sj_arena_chunk **arena);

// NULL, or what is wrong with it (static text). Fills the parts, allocated in the arena.
typedef struct sj_url {
    char *origin, *path, *host;
    int port;
} sj_url;
const char *sj_url_parse(sj_loader *loader, const char *text, sj_url *url);
const char *sj_proxy_check(sj_loader *loader, const char *text);
const char *sj_listen_parse(sj_loader *loader, const char *text, sj_listen *listen);
bool sj_listen_is_loopback(const sj_listen *listen);
bool sj_host_is_loopback(const char *host);
bool sj_is_token(const char *text);

// Text of a configuration under a display name. include_dir NULL: @include is refused. Entry of the tests and the fuzzer.
__attribute__((warn_unused_result)) bool sj_config_load_text(sj_slice text, const char *name, const char *include_dir, sj_config **config,
                                                     sj_buffer *error, sj_buffer *warnings);
// Writes the configuration that the environment stands for, in the same syntax. False: reported.
bool sj_config_from_environment(sj_loader *loader, sj_buffer *text);
// What the environment says where a file is silent. False: out of memory.
__attribute__((warn_unused_result)) bool sj_config_supply_listen(config_setting_t *root);
// A string as libconfig reads it back, with its quotes.
__attribute__((warn_unused_result)) bool sj_config_quote(sj_buffer *out, const char *text);

#endif
