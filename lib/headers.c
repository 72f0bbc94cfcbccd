#include "headers.h"

#include <stdlib.h>

enum { FIRST_ARENA = 1024, FIRST_PLACES = 32 };

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
    size_t cap = headers->cap ? headers->cap * 2 : FIRST_PLACES;
    if (cap > SJ_HEADERS_MAX_COUNT)
        cap = SJ_HEADERS_MAX_COUNT;
    sj_header_place *places = realloc(headers->places, cap * sizeof *places);
    if (!places)
        return false;
    headers->places = places;
    headers->cap = cap;
    return true;
}

// The first piece is as large as most heads, so that it seldom has to grow.
static bool reserve_bytes(sj_buffer *arena, size_t n) {
    return sj_buffer_reserve(arena, arena->cap == 0 && n < FIRST_ARENA ? FIRST_ARENA : n);
}

static char *put_text(char *to, sj_slice text) {
    if (text.n)
        memcpy(to, text.p, text.n);
    to[text.n] = '\0';
    return to + text.n + 1;
}

bool sj_headers_add(sj_headers *headers, sj_slice name, sj_slice value) {
    if (!reserve_place(headers) || name.n > SJ_HEADERS_MAX_BYTES || value.n > SJ_HEADERS_MAX_BYTES ||
        !reserve_bytes(&headers->arena, name.n + value.n + 2))
        return false;
    size_t start = headers->arena.n;
    char *end = put_text(headers->arena.p + start, name);
    end = put_text(end, value);
    headers->arena.n = (size_t)(end - headers->arena.p);
    headers->places[headers->count++] = (sj_header_place){
        .name = (uint32_t)start,
        .name_n = (uint32_t)name.n,
        .value = (uint32_t)(start + name.n + 1),
        .value_n = (uint32_t)value.n,
    };
    return true;
}

void sj_headers_remove(sj_headers *headers, size_t index) {
    headers->count--;
    memmove(&headers->places[index], &headers->places[index + 1],
            (headers->count - index) * sizeof *headers->places);
}

sj_header sj_headers_at(const sj_headers *headers, size_t index) {
    const sj_header_place *place = &headers->places[index];
    return (sj_header){{headers->arena.p + place->name, place->name_n},
                       {headers->arena.p + place->value, place->value_n}};
}

bool sj_headers_add_all(sj_headers *headers, const sj_headers *from) {
    bool ok = true;
    for (size_t i = 0; ok && i < from->count; i++) {
        sj_header header = sj_headers_at(from, i);
        ok = sj_headers_add(headers, header.name, header.value);
    }
    return ok;
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
