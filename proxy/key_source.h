// Where in a configuration file an upstream's key is written: which line, and which environment variable it names. A reading for people's
// messages, tolerant: what it does not understand it does not find. Never returns a key itself.
#ifndef SJ_KEY_SOURCE_H
#define SJ_KEY_SOURCE_H

#include "slice.h"

typedef struct sj_key_source {
    int line; // of the api_key setting; 0: not found
    char variable[128]; // "" when the value is no ${VARIABLE}
} sj_key_source;

// index: which of api_keys.
sj_key_source sj_key_source_find(sj_slice text, const char *upstream, size_t index);
// The same in a file; nothing found when it cannot be read.
sj_key_source sj_key_source_in_file(const char *path, const char *upstream, size_t index);

#endif
