// One log line in the making, logfmt or JSON, in a fixed piece of memory: what does not fit is left out, never written beyond it.
// Inside of the log; used by access_log.c alone.
#ifndef SJ_LOG_LINE_H
#define SJ_LOG_LINE_H

#include "access_log.h"

typedef struct sj_log_line {
    bool json;
    size_t n;
    char text[SJ_LOG_MAX_LINE];
} sj_log_line;

// Starts with what every line has. time_text: RFC 3339.
void sj_log_line_begin(sj_log_line *line, bool json, sj_slice time_text, sj_log_level level,
                       const char *event);
// At most max_bytes of the written value; a cut value ends in "...".
void sj_log_line_text(sj_log_line *line, const char *key, sj_slice value, size_t max_bytes);
void sj_log_line_int(sj_log_line *line, const char *key, int64_t value);
void sj_log_line_bool(sj_log_line *line, const char *key, bool value);
// Microseconds as milliseconds with one digit behind the point.
void sj_log_line_ms(sj_log_line *line, const char *key, int64_t us);
// Billionths as a decimal number, without zeros at its end.
void sj_log_line_nano(sj_log_line *line, const char *key, int64_t nano);
sj_slice sj_log_line_end(sj_log_line *line); // with its newline

#endif
