#include "headers.h"

#include <stdlib.h>

void sj_headers_init(sj_headers *headers) {
    *headers = (sj_headers){.arena = sj_buffer_with_max(SJ_HEADERS_MAX_BYTES)};
}

void sj_headers_free(sj_headers *headers) {
    sj_buffer_free(&headers->arena);
    free(headers->places);
    headers->places = NULL;
    headers->count = headers->cap = 0;
}

void sj_headers_clear(sj_headers *headers) {
    sj_buffer_clear(&headers->arena);
    headers->count = 0;
}

static bool reserve_place(sj_headers *headers) {
    if (headers->count < headers->cap)
        return true;
    if (headers->cap >= SJ_HEADERS_MAX_COUNT)
        return false;
    size_t cap = headers->cap ? headers->cap * 2 : 32;
    if (cap > SJ_HEADERS_MAX_COUNT)
        cap = SJ_HEADERS_MAX_COUNT;
    sj_header_place *places = realloc(headers->places, cap * sizeof *places);
    if (!places)
        return false;
    headers->places = places;
    headers->cap = cap;
    return true;
}

bool sj_headers_add(sj_headers *headers, sj_slice name, sj_slice value) {
    if (!reserve_place(headers))
        return false;
    size_t start = headers->arena.n;
    if (!sj_buffer_add(&headers->arena, name) || !sj_buffer_append(&headers->arena, "", 1) ||
        !sj_buffer_add(&headers->arena, value) || !sj_buffer_append(&headers->arena, "", 1)) {
        headers->arena.n = start;
        return false;
    }
    headers->places[headers->count++] = (sj_header_place){
        .name = (uint32_t)start,
        .name_n = (uint32_t)name.n,
        .value = (uint32_t)(start + name.n + 1),
        .value_n = (uint32_t)value.n,
    };
    return true;
}

sj_header sj_headers_at(const sj_headers *headers, size_t index) {
    const sj_header_place *place = &headers->places[index];
    return (sj_header){{headers->arena.p + place->name, place->name_n}, {headers->arena.p + place->value, place->value_n}};
}

sj_slice sj_headers_get(const sj_headers *headers, const char *name) {
    sj_slice wanted = sj_slice_of(name);
    for (size_t i = 0; i < headers->count; i++) {
        sj_header header = sj_headers_at(headers, i);
        if (sj_slice_equal_nocase(header.name, wanted))
            return header.value;
    }
    return (sj_slice){NULL, 0};
}

size_t sj_headers_count_of(const sj_headers *headers, const char *name) {
    sj_slice wanted = sj_slice_of(name);
    size_t count = 0;
    for (size_t i = 0; i < headers->count; i++)
        count += sj_slice_equal_nocase(sj_headers_at(headers, i).name, wanted);
    return count;
}
