// Everything the mock reads from outside: requests in pieces and at once must read the same; scripts, rules and faults end in a verdict.
#include "mock_choose.h"
#include "mock_reader.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_REQUESTS = 64 };

typedef struct story {
    sj_mock_read end;
    int requests;
    size_t body_bytes, fields;
} story;

// Takes every request there is. True: it came to an end that more bytes do not change.
static bool take(sj_mock_reader *reader, story *out) {
    while (out->requests < MAX_REQUESTS) {
        sj_mock_read result = sj_mock_reader_next(reader);
        if (result == SJ_MOCK_READ_CONTINUE)
            continue;
        out->end = result;
        if (result != SJ_MOCK_READ_WHOLE)
            return result != SJ_MOCK_READ_MORE;
        assert(reader->used <= reader->in.n);
        assert(reader->request.method.n && reader->request.target.n);
        out->requests++;
        out->body_bytes += reader->request.body.n;
        out->fields += reader->request.headers.count;
        sj_mock_reader_reset(reader);
    }
    return true;
}

static story read_all(sj_slice bytes, size_t piece) {
    sj_mock_reader reader;
    story out = {.end = SJ_MOCK_READ_MORE};
    sj_mock_reader_init(&reader);
    while (bytes.n) {
        size_t n = bytes.n < piece ? bytes.n : piece;
        assert(sj_mock_reader_feed(&reader, (sj_slice){bytes.p, n}));
        bytes = sj_slice_from(bytes, n);
        if (take(&reader, &out))
            break;
    }
    sj_mock_reader_free(&reader);
    return out;
}

static void read_words(sj_slice text) {
    sj_mock_rules rules;
    sj_mock_choose choose;
    sj_mock_fault fault;
    char name[40];
    sj_buffer error = sj_buffer_with_max(4096);
    sj_mock_rules_init(&rules);
    sj_mock_choose_init(&choose, &rules, 0);
    if (sj_mock_fault_parse(text, &fault, &error)) {
        sj_mock_fault_name(&fault, name, sizeof name);
        assert(strlen(fault.headers) < sizeof fault.headers);
    } else {
        assert(error.n > 0);
    }
    sj_buffer_clear(&error);
    bool ok = sj_mock_choose_script(&choose, text, &error) || sj_mock_choose_rules(&choose, text, 0, &error);
    assert(ok || error.n > 0);
    sj_mock_attempt_facts facts = {.path = {"/", 1}, .model = {"m", 1}, .fault_header = text};
    sj_mock_choice choice;
    ok = sj_mock_choose_next(&choose, &facts, &choice, &error);
    assert(!ok || choice.latency_ms >= 0);
    sj_mock_choose_free(&choose);
    sj_buffer_free(&error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1)
        return 0;
    sj_slice bytes = {(const char *)data + 1, size - 1};
    story whole = read_all(bytes, size), pieces = read_all(bytes, 1 + data[0] % 32);
    assert(whole.end == pieces.end && whole.requests == pieces.requests);
    assert(whole.body_bytes == pieces.body_bytes && whole.fields == pieces.fields);
    read_words(bytes);
    return 0;
}
