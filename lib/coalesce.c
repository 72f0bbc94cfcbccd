#include "coalesce.h"

static const char KEY[] = "Idempotency-Key";

bool sj_coalesce_has_key(const sj_headers *headers) {
    return sj_headers_get(headers, KEY).n > 0;
}

bool sj_coalesce_is_repeat(const sj_headers *headers, int retry_count) {
    return retry_count >= 1 || sj_coalesce_has_key(headers);
}

uint64_t sj_coalesce_sketch(uint64_t client_hash, size_t body_bytes) {
    return (client_hash ^ (uint64_t)body_bytes * 0x9e3779b97f4a7c15u) | 1;
}

// Fields that may change the answer, or how it is written. What a client counts and measures (retries, time-outs) differs from try to try.
static const char *const telling[] = {
    KEY,
    "Content-Type",
    "Content-Encoding",
    "Accept",
    "Accept-Encoding",
    "OpenAI-Organization",
    "OpenAI-Project",
    "OpenAI-Beta",
    "Cookie",
    "x-stormjib-stream",
};

sj_fingerprint sj_coalesce_fingerprint(const sj_question *question, uint64_t key_low, uint64_t key_high) {
    sj_fingerprinter printer;
    sj_fingerprint_begin(&printer, key_low, key_high);
    sj_fingerprint_part(&printer, question->client);
    sj_fingerprint_part(&printer, question->method);
    sj_fingerprint_part(&printer, question->target);
    for (size_t i = 0; i < sizeof telling / sizeof telling[0]; i++)
        sj_fingerprint_part(&printer, sj_headers_get(question->headers, telling[i]));
    sj_fingerprint_part(&printer, question->body);
    return sj_fingerprint_end(&printer);
}
