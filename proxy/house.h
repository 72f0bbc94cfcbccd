// The housekeeping thread: the admin listener and, when a configuration asks for it, the embedded misbehaving upstream. Kept off the workers,
// so that a scrape or a dashboard never delays an answer.
#ifndef SJ_HOUSE_H
#define SJ_HOUSE_H

#include "access_log.h"
#include "metrics.h"

typedef struct sj_house sj_house;

typedef struct sj_house_options {
    sj_server *server;
    sj_registry *registry;
    int admin_fd; // -1: no admin listener; stays the caller's
    bool mock;    // start the embedded upstream
    sj_log_format log_format;
    sj_log_level log_level;
} sj_house_options;

// NULL: *error says why.
sj_house *sj_house_start(const sj_house_options *options, sj_buffer *error);
// Opens the admin listener, once the server can be looked at.
__attribute__((warn_unused_result)) bool sj_house_open_admin(sj_house *house);
int sj_house_mock_port(const sj_house *house); // 0: not running
void sj_house_stop(sj_house **house); // NULL-safe

#endif
