// Where log lines go: one file descriptor, shared by all threads, never blocked on for long and never changed in its flags (it is inherited and
// others use it too). Inside of the log; used by access_log.c alone.
#ifndef SJ_LOG_SINK_H
#define SJ_LOG_SINK_H

#include "slice.h"

typedef struct sj_log_sink sj_log_sink;

// Counted: the last close frees it. The sink of a descriptor is shared by all who open it. NULL: out of memory or not a descriptor.
sj_log_sink *sj_log_sink_open(int fd);
void sj_log_sink_close(sj_log_sink **sink); // NULL-safe
// Takes whole lines from the front of text; returns how many bytes it took (always up to the end of a line), 0 when nobody reads.
// *broken: nobody ever will again (closed pipe, full disk): what is left may be thrown away.
size_t sj_log_sink_write(sj_log_sink *sink, sj_slice text, bool *broken);

#endif
