// When one request repeats another that is still being answered (BEHAVIOUR 6): what says that it is a repetition, and what must be alike.
#ifndef SJ_COALESCE_H
#define SJ_COALESCE_H

#include "fingerprint.h"
#include "headers.h"

// What is read of a body to tell it apart; one that is longer goes its own way.
enum { SJ_COALESCE_BODY_MAX = 4 * 1024 * 1024 };

typedef struct sj_question {
    sj_slice client; // credential, or where the client is
    sj_slice method, target;
    const sj_headers *headers;
    sj_slice body;
} sj_question;

// Whether the client says that it may have asked before, or may ask again: by an Idempotency-Key; or that it does, by its count of retries.
bool sj_coalesce_has_key(const sj_headers *headers);
bool sj_coalesce_is_repeat(const sj_headers *headers, int retry_count);
// Alike for questions that are alike, and cheap; never 0.
uint64_t sj_coalesce_sketch(uint64_t client_hash, size_t body_bytes);
// Alike only for the same question of the same client, asked in the same words under the same Idempotency-Key, if any.
sj_fingerprint sj_coalesce_fingerprint(const sj_question *question, uint64_t key_low, uint64_t key_high);

#endif
