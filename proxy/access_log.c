#include "access_log.h"

#include "log_line.h"
#include "log_sink.h"

#include <assert.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

// How much of a value is worth reading.
enum { MAX_WORD = 128, MAX_PATH_TEXT = 256, MAX_TRAIL = 600, MAX_VALUE = 400 };

struct sj_log {
    sj_log_sink *sink;
    bool json;
    sj_log_level level;
    sj_buffer held;
    size_t held_lines;
    uint64_t dropped, dropped_told;
    time_t second; // of time_text
    char time_text[25]; // "2025-01-31T23:59:59.999Z"
};

sj_log *sj_log_new_to(int fd, sj_log_format format, sj_log_level level) {
    sj_log *log = calloc(1, sizeof *log);
    if (!log)
        return NULL;
    log->sink = sj_log_sink_open(fd);
    log->held = sj_buffer_with_max(SJ_LOG_MAX_HELD);
    log->second = -1;
    sj_log_configure(log, format, level);
    return log;
}

sj_log *sj_log_new(sj_log_format format, sj_log_level level) {
    return sj_log_new_to(STDERR_FILENO, format, level);
}

void sj_log_free(sj_log **log) {
    if (!*log)
        return;
    (void)sj_log_flush(*log);
    sj_log_sink_close(&(*log)->sink);
    sj_buffer_free(&(*log)->held);
    free(*log);
    *log = NULL;
}

void sj_log_configure(sj_log *log, sj_log_format format, sj_log_level level) {
    log->json = format == SJ_LOG_JSON;
    log->level = level;
}

bool sj_log_wants(const sj_log *log, sj_log_level level) {
    return level <= log->level;
}

uint64_t sj_log_dropped(const sj_log *log) {
    return log->dropped;
}

// ---- out ---------------------------------------------------------------------------------------------------------------------

static sj_slice now_text(sj_log *log) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (now.tv_sec != log->second) {
        struct tm parts;
        gmtime_r(&now.tv_sec, &parts);
        strftime(log->time_text, sizeof log->time_text, "%Y-%m-%dT%H:%M:%S.000Z", &parts);
        log->second = now.tv_sec;
    }
    int ms = (int)(now.tv_nsec / 1000000);
    log->time_text[20] = (char)('0' + ms / 100);
    log->time_text[21] = (char)('0' + ms / 10 % 10);
    log->time_text[22] = (char)('0' + ms % 10);
    return (sj_slice){log->time_text, sizeof log->time_text - 1};
}

static void begin(sj_log *log, sj_log_line *line, sj_log_level level, const char *event) {
    sj_log_line_begin(line, log->json, now_text(log), level, event);
}

static size_t count_lines(sj_slice text) {
    size_t n = 0;
    for (size_t i = 0; i < text.n; i++)
        n += text.p[i] == '\n';
    return n;
}

// True: something went out.
static bool write_held(sj_log *log) {
    bool broken = !log->sink;
    size_t n =
        log->sink && log->held.n ? sj_log_sink_write(log->sink, sj_buffer_slice(&log->held), &broken) : 0;
    sj_buffer_consume(&log->held, n);
    if (broken && log->held.n) {
        log->dropped += count_lines(sj_buffer_slice(&log->held));
        sj_buffer_clear(&log->held);
    }
    return n > 0;
}

// A line of its own about what was lost, as soon as there is somebody to read it.
static void tell_dropped(sj_log *log) {
    sj_log_line line;
    begin(log, &line, SJ_LOG_WARN, "log_dropped");
    sj_log_line_int(&line, "lines", (int64_t)(log->dropped - log->dropped_told));
    if (sj_buffer_add(&log->held, sj_log_line_end(&line)))
        log->dropped_told = log->dropped;
}

bool sj_log_flush(sj_log *log) {
    if (write_held(log) && log->held.n == 0 && log->dropped != log->dropped_told) {
        tell_dropped(log);
        (void)write_held(log);
    }
    return log->held.n > 0;
}

static void end(sj_log *log, sj_log_line *line) {
    if (!sj_buffer_add(&log->held, sj_log_line_end(line)))
        log->dropped++;
    else if (log->held.n >= SJ_LOG_FLUSH_AT)
        (void)sj_log_flush(log);
}

// ---- lines -------------------------------------------------------------------------------------------------------------------

const char *sj_result_name(sj_result result) {
    static const char *const names[] = {"ok", "stale", "degraded", "refused", "broken", "client_gone"};
    assert((size_t)result < sizeof names / sizeof names[0]);
    return names[result];
}

static void word(sj_log_line *line, const char *key, const char *value) {
    if (value && *value)
        sj_log_line_text(line, key, sj_slice_of(value), MAX_WORD);
}

static void number(sj_log_line *line, const char *key, int64_t value) {
    if (value > 0)
        sj_log_line_int(line, key, value);
}

static void tokens(sj_log_line *line, const sj_usage *usage) { // OpenTelemetry's names
    if (usage->prompt_tokens >= 0)
        sj_log_line_int(line, "gen_ai.usage.input_tokens", usage->prompt_tokens);
    if (usage->completion_tokens >= 0)
        sj_log_line_int(line, "gen_ai.usage.output_tokens", usage->completion_tokens);
    number(line, "cached_tokens", usage->cached_tokens);
}

// US dollars.
static void costs(sj_log_line *line, const sj_costs *costs) {
    if (!costs->known)
        return;
    sj_log_line_nano(line, "cost_usd", costs->actual);
    if (sj_cost_is_known(costs->at_first))
        sj_log_line_nano(line, "fallback_saved_usd", sj_cost_saved(costs->at_first, costs->actual));
    if (sj_cost_is_known(costs->compared))
        sj_log_line_nano(line, "compare_saved_usd", sj_cost_saved(costs->compared, costs->actual));
}

void sj_log_exchange(sj_log *log, const sj_record *record) {
    bool ours = record->result == SJ_RESULT_REFUSED || record->result == SJ_RESULT_BROKEN;
    sj_log_level level = ours ? SJ_LOG_WARN : SJ_LOG_INFO;
    if (!sj_log_wants(log, level))
        return;
    sj_log_line line;
    begin(log, &line, level, "completed");
    word(&line, "request_id", record->request_id);
    word(&line, "peer", record->peer);
    sj_log_line_text(&line, "method", record->method, 32);
    sj_log_line_text(&line, "path", record->path, MAX_PATH_TEXT);
    word(&line, "gen_ai.request.model", record->model);
    word(&line, "target", record->target);
    sj_log_line_int(&line, "status", record->status);
    word(&line, "result", sj_result_name(record->result));
    if (record->refusal != SJ_REFUSAL_NONE)
        word(&line, "code", sj_refusal_code(record->refusal));
    sj_log_line_bool(&line, "stream", record->stream);
    sj_log_line_int(&line, "attempts", record->attempts);
    number(&line, "retries", record->retries);
    number(&line, "rescues", record->rescues);
    word(&line, "fallback", record->fallback);
    word(&line, "coalesced", record->coalesced);
    sj_log_line_ms(&line, "total_ms", record->total_us);
    sj_log_line_ms(&line, "first_content_ms", record->first_content_us);
    if (record->drained_us > 0)
        sj_log_line_ms(&line, "drained_ms", record->drained_us);
    number(&line, "wait_ms", record->wait_ms);
    number(&line, "queue_ms", record->queue_ms);
    number(&line, "upstream_ms", record->upstream_ms);
    sj_log_line_int(&line, "bytes_in", (int64_t)record->bytes_in);
    sj_log_line_int(&line, "bytes_out", (int64_t)record->bytes_out);
    number(&line, "dropped_events", record->dropped_events);
    tokens(&line, &record->usage);
    costs(&line, &record->costs);
    word(&line, "upstream_request_id", record->upstream_request_id);
    if (record->trail && *record->trail)
        sj_log_line_text(&line, "trail", sj_slice_of(record->trail), MAX_TRAIL);
    end(log, &line);
}

// What each kind of note is called, how loud it is, and which of its members it uses.
enum {
    NOTE_STATUS = 1,
    NOTE_CLASS = 2,
    NOTE_MS = 4,
    NOTE_DELAY = 8,
    NOTE_REASON = 16,
    NOTE_SOURCE = 32,
    NOTE_CHANGE = 64,
    NOTE_KEY = 128, // which of several; left out where there is nothing to choose
    NOTE_AGE = 256
};

static const struct {
    const char *event;
    sj_log_level level;
    unsigned parts;
} notes[] = {
    [SJ_NOTE_ATTEMPT] = {"attempt", SJ_LOG_INFO, NOTE_KEY | NOTE_STATUS | NOTE_CLASS | NOTE_MS | NOTE_REASON},
    [SJ_NOTE_RETRY] = {"retry", SJ_LOG_WARN, NOTE_DELAY | NOTE_SOURCE | NOTE_REASON},
    [SJ_NOTE_HINT_GATE] = {"hint_gate", SJ_LOG_WARN, NOTE_DELAY | NOTE_SOURCE | NOTE_REASON},
    [SJ_NOTE_BREAKER] = {"breaker", SJ_LOG_WARN, NOTE_CHANGE},
    [SJ_NOTE_BUDGET_REFUSED] = {"budget_refused", SJ_LOG_WARN, NOTE_REASON},
    [SJ_NOTE_FALLBACK] = {"fallback", SJ_LOG_WARN, NOTE_REASON},
    [SJ_NOTE_RACE] = {"race", SJ_LOG_WARN, NOTE_MS | NOTE_REASON},
    [SJ_NOTE_RESCUED] = {"rescued", SJ_LOG_WARN, NOTE_MS | NOTE_REASON | NOTE_SOURCE},
    [SJ_NOTE_QUEUED] = {"queued", SJ_LOG_DEBUG, NOTE_REASON},
    [SJ_NOTE_DRAIN] = {"drain", SJ_LOG_INFO, NOTE_MS | NOTE_REASON},
    [SJ_NOTE_STALE_SERVED] = {"stale_served", SJ_LOG_WARN, NOTE_AGE | NOTE_REASON},
    [SJ_NOTE_DEGRADED_SERVED] = {"degraded_served", SJ_LOG_WARN, NOTE_REASON},
    [SJ_NOTE_ALERT] = {"alert", SJ_LOG_WARN, NOTE_KEY | NOTE_STATUS | NOTE_CLASS | NOTE_REASON},
    [SJ_NOTE_KEY] = {"key", SJ_LOG_WARN, NOTE_KEY | NOTE_STATUS | NOTE_CLASS | NOTE_DELAY | NOTE_REASON},
};

static void change(sj_log_line *line, const sj_note *note) {
    if (note->global)
        sj_log_line_bool(line, "global", true);
    word(line, "from", sj_breaker_state_name(note->change.from));
    word(line, "to", sj_breaker_state_name(note->change.to));
    word(line, "reason", note->change.reason);
}

void sj_log_note(sj_log *log, const char *request_id, const char *target_label, const sj_note *note) {
    if ((size_t)note->kind >= sizeof notes / sizeof notes[0] || !notes[note->kind].event)
        return;
    bool good = note->kind == SJ_NOTE_ATTEMPT && note->class == SJ_CLASS_SUCCESS;
    sj_log_level level = good ? SJ_LOG_DEBUG : notes[note->kind].level;
    if (!sj_log_wants(log, level))
        return;
    unsigned parts = notes[note->kind].parts;
    sj_log_line line;
    begin(log, &line, level, notes[note->kind].event);
    word(&line, "request_id", request_id);
    word(&line, "target", target_label);
    if ((parts & NOTE_KEY) && note->key)
        sj_log_line_int(&line, "key", note->key);
    if ((parts & NOTE_STATUS) && note->status)
        sj_log_line_int(&line, "status", note->status);
    if (parts & NOTE_CLASS)
        word(&line, "outcome", sj_class_name(note->class));
    if (parts & NOTE_REASON)
        word(&line, "reason", note->reason);
    if (parts & NOTE_MS)
        sj_log_line_int(&line, "ms", note->ms);
    if (parts & NOTE_DELAY)
        sj_log_line_int(&line, "delay_ms", note->ms);
    if (parts & NOTE_AGE)
        sj_log_line_int(&line, "age_ms", note->ms);
    if (parts & NOTE_SOURCE)
        word(&line, "source", note->source);
    if (parts & NOTE_CHANGE)
        change(&line, note);
    end(log, &line);
}

void sj_log_fields(sj_log *log, sj_log_level level, const char *event, const sj_log_field *fields,
                   size_t count) {
    if (!sj_log_wants(log, level))
        return;
    sj_log_line line;
    begin(log, &line, level, event);
    for (size_t i = 0; i < count; i++) {
        if (fields[i].kind == SJ_LOG_FIELD_INT)
            sj_log_line_int(&line, fields[i].key, fields[i].number);
        else if (fields[i].kind == SJ_LOG_FIELD_BOOL)
            sj_log_line_bool(&line, fields[i].key, fields[i].number != 0);
        else
            sj_log_line_text(&line, fields[i].key, fields[i].text, MAX_VALUE);
    }
    end(log, &line);
}
