// An ordered list of HTTP header fields: case, order and duplicates kept. Owns its bytes (one arena).
// Names and values are NUL-terminated as well as counted. Slices stay valid until the next add, clear or free.
#ifndef SJ_HEADERS_H
#define SJ_HEADERS_H

#include "buffer.h"

#include <stdint.h>

typedef struct sj_header {
    sj_slice name;
    sj_slice value;
} sj_header;

typedef struct sj_header_place {
    uint32_t name, name_n, value, value_n; // offsets into the arena
} sj_header_place;

typedef struct sj_headers {
    sj_buffer arena;
    sj_header_place *places; // owned
    size_t count;
    size_t cap;
} sj_headers;

enum { SJ_HEADERS_MAX_BYTES = 256 * 1024, SJ_HEADERS_MAX_COUNT = 1000 };

void sj_headers_init(sj_headers *headers);
void sj_headers_free(sj_headers *headers);
// Keeps the memory for the next use.
void sj_headers_clear(sj_headers *headers);
// False: over the caps above, or out of memory; nothing was added.
__attribute__((warn_unused_result)) bool sj_headers_add(sj_headers *headers, sj_slice name, sj_slice value);
// All of `from`, behind what is there. False: as above, and a part may have been added.
__attribute__((warn_unused_result)) bool sj_headers_add_all(sj_headers *headers, const sj_headers *from);
void sj_headers_remove(sj_headers *headers, size_t index);
sj_header sj_headers_at(const sj_headers *headers, size_t index);
// The first field of that name (case-insensitive), or {NULL,0}.
sj_slice sj_headers_get(const sj_headers *headers, const char *name);
size_t sj_headers_count_of(const sj_headers *headers, const char *name);

#endif
