#include "mock_log.h"

#include "json_span.h"

#include <inttypes.h>
#include <stdlib.h>

static const char *const outcome_names[SJ_MOCK_OUTCOME_COUNT] = {
    [SJ_MOCK_RUNNING] = "running",         [SJ_MOCK_ANSWERED] = "answered",
    [SJ_MOCK_BROKEN_OFF] = "broken_off",   [SJ_MOCK_RESET_BY_US] = "reset_by_us",
    [SJ_MOCK_CLIENT_GONE] = "client_gone", [SJ_MOCK_CLIENT_RESET] = "client_reset",
};

void sj_mock_log_init(sj_mock_log *log, size_t size) {
    *log = (sj_mock_log){.size = size};
}

void sj_mock_log_free(sj_mock_log *log) {
    free(log->ring);
    log->ring = NULL;
    log->cap = 0;
}

// The ring is not in use beyond cap until it has grown to size, so an entry's place never changes.
static bool reserve(sj_mock_log *log) {
    if (log->cap == log->size || log->last < log->cap)
        return log->size > 0;
    size_t cap = log->cap ? log->cap * 2 : 256;
    if (cap > log->size)
        cap = log->size;
    sj_mock_log_entry *ring = realloc(log->ring, cap * sizeof *ring);
    if (!ring)
        return false;
    log->ring = ring;
    log->cap = cap;
    return true;
}

sj_mock_log_entry *sj_mock_log_add(sj_mock_log *log, uint64_t *number) {
    bool room = reserve(log);
    log->attempts++;
    if (++log->running > log->running_max)
        log->running_max = log->running;
    *number = ++log->last;
    if (!room) {
        log->cleared = log->last;
        return NULL;
    }
    sj_mock_log_entry *entry = &log->ring[(log->last - 1) % log->size];
    *entry =
        (sj_mock_log_entry){.number = log->last, .fault_by = "", .retry_count = -1, .content_length = -1};
    return entry;
}

static uint64_t oldest(const sj_mock_log *log) {
    uint64_t first = log->last > log->size ? log->last - log->size + 1 : 1;
    return first > log->cleared ? first : log->cleared + 1;
}

sj_mock_log_entry *sj_mock_log_find(sj_mock_log *log, uint64_t number) {
    if (number < oldest(log) || number > log->last)
        return NULL;
    return &log->ring[(number - 1) % log->size];
}

void sj_mock_log_end(sj_mock_log *log, uint64_t number, double now_ms, int status, sj_mock_outcome outcome) {
    log->running--;
    log->outcomes[outcome]++;
    if (status > 0 && status < 1000)
        log->statuses[status]++;
    sj_mock_log_entry *entry = sj_mock_log_find(log, number);
    if (!entry)
        return;
    entry->end_ms = now_ms;
    entry->status = status;
    entry->outcome = outcome;
}

void sj_mock_log_clear(sj_mock_log *log) {
    log->cleared = log->last;
}

void sj_mock_log_clear_totals(sj_mock_log *log) {
    log->attempts = (uint64_t)log->running;
    log->running_max = log->running;
    memset(log->outcomes, 0, sizeof log->outcomes);
    memset(log->statuses, 0, sizeof log->statuses);
}

// ---- JSON ---------------------------------------------------------------------------------------

static bool write_text(const char *name, const char *text, sj_buffer *out) {
    return sj_buffer_printf(out, ",\"%s\":", name) && sj_json_encode_string(sj_slice_of(text), out);
}

static bool write_entry(const sj_mock_log_entry *e, sj_buffer *out) {
    return sj_buffer_printf(out,
                            "{\"number\":%" PRIu64 ",\"connection\":%" PRIu64
                            ",\"start_ms\":%.3f,\"end_ms\":%.3f,\"wall_ms\":%" PRId64 ",\"status\":%d"
                            ",\"retry_count\":%d,\"body_crc32\":\"%08x\",\"body_bytes\":%" PRIu64
                            ",\"content_length\":%" PRId64
                            ",\"stream\":%s,\"events\":%u,\"bytes_sent\":%" PRIu64,
                            e->number, e->connection, e->start_ms, e->end_ms, e->wall_ms, e->status,
                            e->retry_count, e->body_crc32, e->body_bytes, e->content_length,
                            e->stream ? "true" : "false", e->events, e->bytes_sent) &&
           write_text("method", e->method, out) && write_text("path", e->path, out) &&
           write_text("model", e->model, out) && write_text("authorization", e->authorization, out) &&
           write_text("idempotency_key", e->idempotency_key, out) &&
           write_text("user_agent", e->user_agent, out) && write_text("fault", e->fault, out) &&
           write_text("fault_by", e->fault_by, out) &&
           write_text("outcome", outcome_names[e->outcome], out) && sj_buffer_text(out, "}");
}

bool sj_mock_log_write(const sj_mock_log *log, uint64_t since, size_t limit, sj_buffer *out) {
    uint64_t first = oldest(log);
    uint64_t from = since + 1 > first ? since + 1 : first;
    if (!sj_buffer_printf(out, "{\"last\":%" PRIu64 ",\"dropped\":%" PRIu64 ",\"entries\":[", log->last,
                          from - (since + 1)))
        return false;
    for (uint64_t number = from; number <= log->last && limit; number++, limit--) {
        if (!sj_buffer_text(out, number > from ? ",\n" : "\n") ||
            !write_entry(&log->ring[(number - 1) % log->size], out))
            return false;
    }
    return sj_buffer_text(out, "]}\n");
}

bool sj_mock_log_write_totals(const sj_mock_log *log, sj_buffer *out) {
    bool ok =
        sj_buffer_printf(out, "\"attempts\":%" PRIu64 ",\"running\":%d,\"running_max\":%d,\"outcomes\":{",
                         log->attempts, log->running, log->running_max);
    for (int i = SJ_MOCK_ANSWERED; ok && i < SJ_MOCK_OUTCOME_COUNT; i++)
        ok = sj_buffer_printf(out, "%s\"%s\":%" PRIu64, i > SJ_MOCK_ANSWERED ? "," : "", outcome_names[i],
                              log->outcomes[i]);
    ok = ok && sj_buffer_text(out, "},\"statuses\":{");
    const char *comma = "";
    for (int i = 0; ok && i < 1000; i++) {
        if (!log->statuses[i])
            continue;
        ok = sj_buffer_printf(out, "%s\"%d\":%" PRIu64, comma, i, log->statuses[i]);
        comma = ",";
    }
    return ok && sj_buffer_text(out, "}");
}
