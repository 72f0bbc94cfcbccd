#include "mock_reader.h"

#include <stdlib.h>

void sj_mock_reader_init(sj_mock_reader *reader) {
    *reader = (sj_mock_reader){.in = sj_buffer_with_max(SJ_MOCK_MAX_BODY + SJ_MOCK_MAX_HEAD),
                               .body = sj_buffer_with_max(SJ_MOCK_MAX_BODY)};
    sj_headers_init(&reader->request.headers);
}

void sj_mock_reader_free(sj_mock_reader *reader) {
    sj_buffer_free(&reader->in);
    sj_buffer_free(&reader->body);
    sj_headers_free(&reader->request.headers);
}

bool sj_mock_reader_feed(sj_mock_reader *reader, sj_slice bytes) {
    return sj_buffer_add(&reader->in, bytes);
}

void sj_mock_reader_reset(sj_mock_reader *reader) {
    enum { KEEP = 256 * 1024 };
    sj_buffer_consume(&reader->in, reader->used);
    sj_buffer_clear(&reader->body);
    if (reader->in.n == 0 && reader->in.cap > KEEP)
        sj_buffer_free(&reader->in);
    if (reader->body.cap > KEEP)
        sj_buffer_free(&reader->body);
    sj_headers_clear(&reader->request.headers);
    reader->used = reader->scanned = reader->body_length = 0;
    reader->has_head = reader->chunked = reader->expects = false;
}

static sj_slice take_line(sj_slice *text) {
    const char *end = memchr(text->p, '\n', text->n);
    size_t n = end ? (size_t)(end - text->p) : text->n;
    sj_slice line = {text->p, n && text->p[n - 1] == '\r' ? n - 1 : n};
    *text = sj_slice_from(*text, end ? n + 1 : n);
    return line;
}

static bool parse_number(sj_slice text, unsigned base, size_t *out) {
    size_t value = 0;
    if (text.n == 0 || text.n > 12)
        return false;
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                                : 99;
        if (digit >= base)
            return false;
        value = value * base + digit;
    }
    *out = value;
    return true;
}

// ---- the head -----------------------------------------------------------------------------------

static bool read_request_line(sj_slice line, sj_mock_request *request) {
    const char *first = memchr(line.p, ' ', line.n);
    const char *last = memrchr(line.p, ' ', line.n);
    if (!first || first == last)
        return false;
    request->method = (sj_slice){line.p, (size_t)(first - line.p)};
    request->target = (sj_slice){first + 1, (size_t)(last - first - 1)};
    sj_slice version = {last + 1, (size_t)(line.p + line.n - last - 1)};
    request->http_1_0 = sj_slice_equal(version, SJ_SLICE("HTTP/1.0"));
    return request->method.n && request->target.n &&
           (request->http_1_0 || sj_slice_equal(version, SJ_SLICE("HTTP/1.1")));
}

static bool read_fields(sj_slice text, sj_headers *headers) {
    while (text.n) {
        sj_slice line = take_line(&text);
        const char *colon = line.n ? memchr(line.p, ':', line.n) : NULL;
        if (line.n == 0)
            continue;
        if (!colon || colon == line.p || line.p[0] == ' ')
            return false;
        sj_slice name = {line.p, (size_t)(colon - line.p)};
        if (!sj_headers_add(headers, name, sj_slice_trim(sj_slice_from(line, name.n + 1))))
            return false;
    }
    return true;
}

static bool has_token(sj_slice list, const char *token) {
    while (list.n) {
        const char *comma = memchr(list.p, ',', list.n);
        size_t n = comma ? (size_t)(comma - list.p) : list.n;
        if (sj_slice_equal_nocase(sj_slice_trim((sj_slice){list.p, n}), sj_slice_of(token)))
            return true;
        list = sj_slice_from(list, comma ? n + 1 : n);
    }
    return false;
}

static sj_mock_read read_framing(sj_mock_reader *reader) {
    sj_mock_request *request = &reader->request;
    sj_slice length = sj_headers_get(&request->headers, "content-length");
    sj_slice coding = sj_headers_get(&request->headers, "transfer-encoding");
    sj_slice connection = sj_headers_get(&request->headers, "connection");
    reader->chunked = coding.p != NULL;
    if (reader->chunked && (length.p || !sj_slice_equal_nocase(coding, SJ_SLICE("chunked"))))
        return SJ_MOCK_READ_BAD;
    if (length.p && !parse_number(length, 10, &reader->body_length))
        return SJ_MOCK_READ_BAD;
    if (reader->body_length > SJ_MOCK_MAX_BODY)
        return SJ_MOCK_READ_TOO_LARGE;
    request->keep_alive =
        request->http_1_0 ? has_token(connection, "keep-alive") : !has_token(connection, "close");
    reader->expects =
        sj_slice_equal_nocase(sj_headers_get(&request->headers, "expect"), SJ_SLICE("100-continue"));
    return SJ_MOCK_READ_WHOLE;
}

static sj_mock_read read_head(sj_mock_reader *reader) {
    while (reader->in.n && (reader->in.p[0] == '\r' || reader->in.p[0] == '\n') && reader->scanned == 0)
        sj_buffer_consume(&reader->in, 1);
    size_t from = reader->scanned > 3 ? reader->scanned - 3 : 0;
    const char *end =
        reader->in.n > 3 ? memmem(reader->in.p + from, reader->in.n - from, "\r\n\r\n", 4) : NULL;
    if (!end) {
        reader->scanned = reader->in.n;
        return reader->in.n > SJ_MOCK_MAX_HEAD ? SJ_MOCK_READ_BAD : SJ_MOCK_READ_MORE;
    }
    size_t n = (size_t)(end - reader->in.p);
    sj_slice head = {reader->in.p, n};
    sj_slice line = take_line(&head);
    if (!read_request_line(line, &reader->request) || !read_fields(head, &reader->request.headers))
        return SJ_MOCK_READ_BAD;
    reader->used = n + 4;
    reader->has_head = true;
    return read_framing(reader);
}

// ---- the body -----------------------------------------------------------------------------------

// One chunk, the last one, or a trailer line, if it is here whole.
static sj_mock_read read_chunk(sj_mock_reader *reader) {
    sj_slice rest = sj_slice_from(sj_buffer_slice(&reader->in), reader->used);
    const char *end = rest.n ? memchr(rest.p, '\n', rest.n) : NULL;
    if (!end)
        return rest.n > 4096 ? SJ_MOCK_READ_BAD : SJ_MOCK_READ_MORE;
    const char *start = rest.p;
    sj_slice line = take_line(&rest);
    const char *extension = line.n ? memchr(line.p, ';', line.n) : NULL;
    if (extension)
        line.n = (size_t)(extension - line.p);
    size_t size;
    if (!parse_number(sj_slice_trim(line), 16, &size))
        return SJ_MOCK_READ_BAD;
    if (size > SJ_MOCK_MAX_BODY || reader->body.n > SJ_MOCK_MAX_BODY - size)
        return SJ_MOCK_READ_TOO_LARGE;
    size_t head = (size_t)(rest.p - start);
    if (size == 0) {
        // Trailers are skipped up to the empty line.
        for (;;) {
            if (!rest.n || !memchr(rest.p, '\n', rest.n))
                return rest.n > 4096 ? SJ_MOCK_READ_BAD : SJ_MOCK_READ_MORE;
            if (take_line(&rest).n == 0)
                break;
        }
        reader->used += (size_t)(rest.p - start);
        return SJ_MOCK_READ_WHOLE;
    }
    if (rest.n < size + 2)
        return SJ_MOCK_READ_MORE;
    if (memcmp(rest.p + size, "\r\n", 2) != 0)
        return SJ_MOCK_READ_BAD;
    if (!sj_buffer_append(&reader->body, rest.p, size))
        return SJ_MOCK_READ_TOO_LARGE;
    reader->used += head + size + 2;
    return SJ_MOCK_READ_CONTINUE;
}

static sj_mock_read read_chunks(sj_mock_reader *reader) {
    sj_mock_read result;
    do {
        result = read_chunk(reader);
    } while (result == SJ_MOCK_READ_CONTINUE);
    reader->request.body = reader->body.n ? sj_buffer_slice(&reader->body) : (sj_slice){"", 0};
    return result;
}

static sj_mock_read read_counted(sj_mock_reader *reader) {
    if (reader->in.n - reader->used < reader->body_length)
        return SJ_MOCK_READ_MORE;
    reader->request.body = (sj_slice){reader->in.p + reader->used, reader->body_length};
    reader->used += reader->body_length;
    return SJ_MOCK_READ_WHOLE;
}

sj_mock_read sj_mock_reader_next(sj_mock_reader *reader) {
    if (!reader->has_head) {
        sj_mock_read result = read_head(reader);
        if (result != SJ_MOCK_READ_WHOLE)
            return result;
    }
    sj_mock_read result = reader->chunked ? read_chunks(reader) : read_counted(reader);
    if (result == SJ_MOCK_READ_MORE && reader->expects) {
        reader->expects = false;
        return SJ_MOCK_READ_CONTINUE;
    }
    if (result == SJ_MOCK_READ_WHOLE) {
        // `in` may have moved since the head was read.
        sj_slice head = {reader->in.p, reader->in.n};
        sj_slice line = take_line(&head);
        if (!read_request_line(line, &reader->request))
            return SJ_MOCK_READ_BAD;
    }
    return result;
}
