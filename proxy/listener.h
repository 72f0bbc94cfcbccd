// Listening sockets: bound and listening before any thread starts, so that a port in use is told at once.
#ifndef SJ_LISTENER_H
#define SJ_LISTENER_H

#include "config.h"

// A listening, non-blocking descriptor, or -1: *error says what is wrong and what to do. *port: the one bound to (0 for a unix socket).
// A unix socket left behind by a dead process is replaced; one that answers is in use.
__attribute__((warn_unused_result)) int sj_listener_open(const sj_listen *listen, int *port, sj_buffer *error);
// Closes it and removes a unix socket's file.
void sj_listener_close(const sj_listen *listen, int fd);

#endif
