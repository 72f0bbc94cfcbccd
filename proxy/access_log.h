// The log: one structured line per exchange, and one per event worth a person's eye (BEHAVIOUR 15). logfmt or JSON, to standard error.
// One sj_log per worker (and per other thread that logs), used by its thread alone; lines are buffered and leave whole: those of several logs
// never mix. Nothing here blocks for long: when nobody reads, lines are dropped, counted, and a later line says how many.
// Values are given free of secrets (invariant 8); lengths are capped, control characters and invalid UTF-8 made harmless.
#ifndef SJ_ACCESS_LOG_H
#define SJ_ACCESS_LOG_H

#include "config.h"
#include "record.h"

typedef struct sj_log sj_log;

enum { SJ_LOG_MAX_LINE = 4096, SJ_LOG_FLUSH_AT = 16 * 1024, SJ_LOG_MAX_HELD = 64 * 1024 };

sj_log *sj_log_new(sj_log_format format, sj_log_level level); // NULL: out of memory
sj_log *sj_log_new_to(int fd, sj_log_format format,
                      sj_log_level level); // fd stays the caller's; for tests and tools
void sj_log_free(sj_log **log); // NULL-safe; writes what the reader takes, drops the rest
void sj_log_configure(sj_log *log, sj_log_format format, sj_log_level level); // after a reload
bool sj_log_wants(const sj_log *log, sj_log_level level);

// Writes what is buffered, once per turn of the loop. True: something is left because nobody reads; call again in about a second.
bool sj_log_flush(sj_log *log);
uint64_t sj_log_dropped(const sj_log *log); // lines, so far

const char *sj_result_name(sj_result result); // "ok", "refused", "broken", "client_gone"

// At the end of an exchange. Level: info; warn when refused or broken by us.
void sj_log_exchange(sj_log *log, const sj_record *record);
// target_label: of the note's hop. Level: warn for retry, breaker, hint_gate, fallback, budget_refused, alert and key; info for a failed attempt;
// debug for a good attempt and for queued. Kinds that nobody needs to see (grant) are ignored.
void sj_log_note(sj_log *log, const char *request_id, const char *target_label, const sj_note *note);

typedef struct sj_log_field {
    const char *key; // static, [a-z0-9_.]
    enum { SJ_LOG_FIELD_TEXT, SJ_LOG_FIELD_INT, SJ_LOG_FIELD_BOOL } kind;
    sj_slice text;
    int64_t number;
} sj_log_field;

static inline sj_log_field sj_log_text(const char *key, const char *value) {
    return (sj_log_field){.key = key, .kind = SJ_LOG_FIELD_TEXT, .text = sj_slice_of(value)};
}
static inline sj_log_field sj_log_slice(const char *key, sj_slice value) {
    return (sj_log_field){.key = key, .kind = SJ_LOG_FIELD_TEXT, .text = value};
}
static inline sj_log_field sj_log_int(const char *key, int64_t value) {
    return (sj_log_field){.key = key, .kind = SJ_LOG_FIELD_INT, .number = value};
}
static inline sj_log_field sj_log_bool(const char *key, bool value) {
    return (sj_log_field){.key = key, .kind = SJ_LOG_FIELD_BOOL, .number = value};
}

// sj_log_event(log, SJ_LOG_INFO, "reload", sj_log_text("file", path), sj_log_int("targets", n)); at least one field.
#define sj_log_event(log, level, event, ...)                                                                 \
    sj_log_fields((log), (level), (event), (const sj_log_field[]){__VA_ARGS__},                              \
                  sizeof((const sj_log_field[]){__VA_ARGS__}) / sizeof(sj_log_field))
void sj_log_fields(sj_log *log, sj_log_level level, const char *event, const sj_log_field *fields,
                   size_t count);

#endif
