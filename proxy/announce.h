// What the program says of itself: that it listens, drains, has loaded its file again. Plain lines for people, unless the log is JSON: then lines
// like the log's others, so that a collector can read every one. To standard error; one thread.
#ifndef SJ_ANNOUNCE_H
#define SJ_ANNOUNCE_H

#include "access_log.h"

typedef struct sj_announcer sj_announcer;

sj_announcer *sj_announcer_new(sj_log_format format, sj_log_level level); // NULL: out of memory
void sj_announcer_free(sj_announcer **announcer); // NULL-safe
void sj_announcer_configure(sj_announcer *announcer, sj_log_format format, sj_log_level level); // after a reload

// One line or several: in JSON one of each, with that event and level.
void sj_announce(sj_announcer *announcer, sj_log_level level, const char *event, sj_slice lines);
// The same with a format.
__attribute__((format(printf, 4, 5))) void sj_announce_as(sj_announcer *announcer, sj_log_level level, const char *event, const char *format, ...);
// What came of a reload, an event in both formats: the first line is the message, the others are announced.
void sj_announce_reload(sj_announcer *announcer, bool ok, sj_slice lines);

#endif
