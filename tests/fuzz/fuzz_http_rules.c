// Whatever was parsed as a request: what passes the check can be forwarded without smuggling anything, forwarding twice changes nothing
// more, and a target keeps its path, query and fragment.
#include "http_rules.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// A run of bytes behind its length: names and values may hold anything.
static sj_slice take(sj_slice *input) {
    if (input->n == 0)
        return (sj_slice){"", 0};
    size_t n = (unsigned char)input->p[0];
    *input = sj_slice_from(*input, 1);
    n = n < input->n ? n : input->n;
    sj_slice taken = {input->p, n};
    *input = sj_slice_from(*input, n);
    return taken;
}

// A length of 200 or more stands for a name the rules know.
static sj_slice take_name(sj_slice *input) {
    static const char *const known[] = {"Host",    "Content-Length", "Transfer-Encoding", "Connection",
                                        "Upgrade", "Expect",         "x-stormjib-x",      "Date"};
    if (input->n == 0 || (unsigned char)input->p[0] < 200)
        return take(input);
    size_t index = (unsigned char)input->p[0] % (sizeof known / sizeof *known);
    *input = sj_slice_from(*input, 1);
    return sj_slice_of(known[index]);
}

static bool has_byte_below(sj_slice text, unsigned char limit, char allowed) {
    for (size_t i = 0; i < text.n; i++) {
        if (((unsigned char)text.p[i] < limit && text.p[i] != allowed) || text.p[i] == 0x7f)
            return true;
    }
    return false;
}

// What a reader down the line could misunderstand must not be there.
static void check_accepted(sj_slice target, sj_slice version, const sj_headers *headers) {
    assert(target.n > 0 && !has_byte_below(target, 0x21, 0x21));
    size_t lengths = sj_headers_count_of(headers, "Content-Length");
    size_t codings = sj_headers_count_of(headers, "Transfer-Encoding");
    assert(lengths + codings <= 1);
    assert(codings == 0 ||
           sj_slice_equal_nocase(sj_headers_get(headers, "Transfer-Encoding"), SJ_SLICE("chunked")));
    size_t hosts = sj_headers_count_of(headers, "Host");
    assert(hosts == 1 || (hosts == 0 && sj_slice_equal(version, SJ_SLICE("HTTP/1.0"))));
    for (size_t i = 0; i < headers->count; i++) {
        sj_header header = sj_headers_at(headers, i);
        assert(header.name.n > 0 && !has_byte_below(header.name, 0x21, 0x21));
        assert(!memchr(header.name.p, ':', header.name.n));
        assert(!has_byte_below(header.value, 0x20, '\t'));
    }
}

static void assert_same(const sj_headers *a, const sj_headers *b) {
    assert(a->count == b->count);
    for (size_t i = 0; i < a->count; i++) {
        sj_header x = sj_headers_at(a, i), y = sj_headers_at(b, i);
        assert(sj_slice_equal(x.name, y.name) && sj_slice_equal(x.value, y.value));
    }
}

static void check_forward(const sj_headers *headers, bool (*forward)(const sj_headers *, sj_headers *)) {
    sj_headers once, twice;
    sj_headers_init(&once);
    sj_headers_init(&twice);
    assert(forward(headers, &once) && forward(&once, &twice));
    assert_same(&once, &twice);
    assert(once.count <= headers->count);
    static const char *const gone[] = {"Connection", "Transfer-Encoding", "Content-Length", "Upgrade", "TE"};
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++)
        assert(sj_headers_count_of(&once, gone[i]) == 0);
    assert(sj_headers_count_of(&once, "Date") == sj_headers_count_of(headers, "Date"));
    sj_headers_free(&once);
    sj_headers_free(&twice);
}

static bool ends_with(sj_slice text, sj_slice tail) {
    return text.n >= tail.n && sj_slice_equal(sj_slice_from(text, text.n - tail.n), tail);
}

static void check_target(sj_slice target, bool accepted) {
    sj_slice path = sj_http_path(target);
    assert(path.n > 0 && !memchr(path.p, '?', path.n) && !memchr(path.p, '#', path.n));
    sj_buffer plain = sj_buffer_with_max(4096), based = sj_buffer_with_max(4096),
              cramped = sj_buffer_with_max(3);
    sj_slice none = {NULL, 0};
    assert(sj_http_upstream_target(none, target, none, &plain));
    assert(sj_http_upstream_target(SJ_SLICE("/base"), target, SJ_SLICE("k=v"), &based));
    sj_slice same = sj_buffer_slice(&plain), moved = sj_buffer_slice(&based);
    assert(ends_with(target, same) || path.n == 1);
    assert(sj_slice_equal(sj_http_path(same), path) || !accepted);
    assert(sj_slice_starts(moved, SJ_SLICE("/base")) || sj_slice_equal(path, SJ_SLICE("*")));
    assert(!accepted || same.p[0] == '/' || sj_slice_equal(same, SJ_SLICE("*")));
    assert(!accepted || !has_byte_below(moved, 0x21, 0x21));
    if (!sj_http_upstream_target(none, target, none, &cramped))
        assert(cramped.n == 0 && plain.n > 3);
    sj_buffer_free(&plain);
    sj_buffer_free(&based);
    sj_buffer_free(&cramped);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const versions[] = {"HTTP/1.1", "HTTP/1.0", "HTTP/1.5", "HTTP/2.0"};
    if (size == 0)
        return 0;
    sj_slice input = {(const char *)data, size};
    sj_slice version = sj_slice_of(versions[data[0] % 4]);
    input = sj_slice_from(input, 1);
    sj_slice method = take(&input), target = take(&input);
    sj_headers headers;
    sj_headers_init(&headers);
    while (input.n) {
        sj_slice name = take_name(&input), value = take(&input);
        if (!sj_headers_add(&headers, name, value))
            break;
    }
    sj_http_fault fault = sj_http_check_request(method, target, version, &headers);
    assert(fault.status == 0 || fault.status == 400 || fault.status == 501);
    assert((fault.status == 0) == (fault.message == NULL));
    if (fault.status == 0)
        check_accepted(target, version, &headers);
    check_forward(&headers, sj_http_forward_request);
    check_forward(&headers, sj_http_forward_answer);
    check_target(target, fault.status == 0);
    (void)sj_http_is_generation(method, sj_http_path(target));
    (void)sj_http_is_generation(SJ_SLICE("POST"), target);
    sj_headers_free(&headers);
    return 0;
}
