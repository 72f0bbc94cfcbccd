#include "announce.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct sj_announcer {
    sj_log *log;
    bool json;
};

sj_announcer *sj_announcer_new(sj_log_format format, sj_log_level level) {
    sj_announcer *announcer = calloc(1, sizeof *announcer);
    if (!announcer)
        return NULL;
    announcer->log = sj_log_new(format, level);
    announcer->json = format == SJ_LOG_JSON;
    if (!announcer->log)
        sj_announcer_free(&announcer);
    return announcer;
}

void sj_announcer_free(sj_announcer **slot) {
    sj_announcer *announcer = *slot;
    *slot = NULL;
    if (!announcer)
        return;
    sj_log_free(&announcer->log);
    free(announcer);
}

void sj_announcer_configure(sj_announcer *announcer, sj_log_format format, sj_log_level level) {
    sj_log_configure(announcer->log, format, level);
    announcer->json = format == SJ_LOG_JSON;
}

static sj_slice first_line(sj_slice lines) {
    const char *end = lines.n ? memchr(lines.p, '\n', lines.n) : NULL;
    return end ? (sj_slice){lines.p, (size_t)(end - lines.p)} : lines;
}

static sj_slice behind(sj_slice lines, sj_slice line) {
    return sj_slice_from(lines, line.n < lines.n ? line.n + 1 : lines.n);
}

void sj_announce(sj_announcer *announcer, sj_log_level level, const char *event, sj_slice lines) {
    while (lines.n) {
        sj_slice line = first_line(lines);
        lines = behind(lines, line);
        if (!announcer->json)
            (void)fprintf(stderr, "%.*s\n", (int)line.n, line.p);
        else if (line.n)
            sj_log_event(announcer->log, level, event, sj_log_slice("message", line));
    }
    (void)sj_log_flush(announcer->log);
}

void sj_announce_as(sj_announcer *announcer, sj_log_level level, const char *event, const char *format, ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    sj_announce(announcer, level, event, sj_slice_of(text));
}

void sj_announce_reload(sj_announcer *announcer, bool ok, sj_slice lines) {
    sj_slice refused = SJ_SLICE("configuration not reloaded; the old one stays in force");
    sj_slice message = ok ? first_line(lines) : refused;
    if (ok)
        lines = behind(lines, message);
    sj_announce(announcer, ok ? SJ_LOG_WARN : SJ_LOG_ERROR, "config", lines);
    sj_log_event(announcer->log, ok ? SJ_LOG_INFO : SJ_LOG_ERROR, "reload", sj_log_bool("ok", ok),
                 sj_log_slice("message", message));
    (void)sj_log_flush(announcer->log);
}
