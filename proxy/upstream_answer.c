// What curl hands over from inside: the head line by line, body bytes, and the moment before a request is sent.
#include "upstream_private.h"

#include <assert.h>

static sj_attempt *running_attempt(const sj_carrier *carrier) {
    assert(carrier->magic == SJ_CARRIER_MAGIC);
    sj_attempt *attempt = carrier->attempt;
    assert(attempt == NULL || attempt->magic == SJ_ATTEMPT_MAGIC);
    return attempt && attempt->state == SJ_ATTEMPT_RUNNING ? attempt : NULL;
}

// curl re-sends a request by itself when a reused connection dies without an answer. Whether to is not its decision: the second time it is
// about to send, it is stopped.
int sj_answer_on_request(void *user, char *to, char *from, int to_port, int from_port) {
    (void)to, (void)from, (void)to_port;
    sj_carrier *carrier = user;
    sj_attempt *attempt = running_attempt(carrier);
    if (!attempt || ++attempt->requests > 1)
        return CURL_PREREQFUNC_ABORT;
    attempt->local_port = from_port;
    if (attempt->opened)
        carrier->upstream->stats.connections_opened++;
    else
        carrier->upstream->stats.connections_reused++;
    return CURL_PREREQFUNC_OK;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

// "HTTP/1.1 200 OK": the status, 0 when it is none.
static int read_status(sj_slice line) {
    const char *space = memchr(line.p, ' ', line.n);
    if (!space || line.n - (size_t)(space - line.p) < 4)
        return 0;
    const char *digits = space + 1;
    if (digits[0] < '1' || !is_digit(digits[0]) || !is_digit(digits[1]) || !is_digit(digits[2]))
        return 0;
    return (digits[0] - '0') * 100 + (digits[1] - '0') * 10 + (digits[2] - '0');
}

// A folded line, a name with white space or a line without a colon is no field: such a head is not worth guessing at.
static bool add_field(sj_headers *headers, sj_slice line) {
    const char *colon = memchr(line.p, ':', line.n);
    size_t name_n = colon ? (size_t)(colon - line.p) : 0;
    if (name_n == 0 || memchr(line.p, ' ', name_n) || memchr(line.p, '\t', name_n) ||
        memchr(line.p, '\0', line.n))
        return false;
    sj_slice value = sj_slice_trim(sj_slice_from(line, name_n + 1));
    return sj_headers_add(headers, (sj_slice){line.p, name_n}, value);
}

static bool end_head(sj_carrier *carrier, sj_attempt *attempt) {
    if (attempt->status < 200) {
        // Interim answers are swallowed. We never asked to switch protocols.
        attempt->stage = SJ_ANSWER_STATUS;
        return attempt->status != 101;
    }
    attempt->stage = SJ_ANSWER_BODY;
    attempt->handlers.on_head(attempt->owner, attempt->status, &carrier->head);
    return true;
}

static bool take_line(sj_carrier *carrier, sj_attempt *attempt, sj_slice line) {
    switch (attempt->stage) {
    case SJ_ANSWER_STATUS:
        sj_headers_clear(&carrier->head);
        attempt->status = read_status(line);
        attempt->stage = SJ_ANSWER_FIELDS;
        return attempt->status != 0;
    case SJ_ANSWER_FIELDS:
        return line.n ? add_field(&carrier->head, line) : end_head(carrier, attempt);
    case SJ_ANSWER_BODY:
        return line.n == 0 || add_field(&carrier->trailers, line);
    case SJ_ANSWER_REFUSED:
        break;
    }
    return false;
}

size_t sj_answer_on_header(char *bytes, size_t size, size_t count, void *user) {
    sj_carrier *carrier = user;
    sj_attempt *attempt = running_attempt(carrier);
    size_t n = size * count;
    if (!attempt)
        return CURL_WRITEFUNC_ERROR;
    sj_slice line = {bytes, n};
    while (line.n && (line.p[line.n - 1] == '\n' || line.p[line.n - 1] == '\r'))
        line.n--;
    attempt->head_bytes += n;
    if (attempt->head_bytes > SJ_HEADERS_MAX_BYTES || !take_line(carrier, attempt, line)) {
        attempt->broken_off = attempt->stage == SJ_ANSWER_BODY;
        attempt->stage = SJ_ANSWER_REFUSED;
        return CURL_WRITEFUNC_ERROR;
    }
    return attempt->state == SJ_ATTEMPT_RUNNING ? n : CURL_WRITEFUNC_ERROR;
}

size_t sj_answer_on_body(char *bytes, size_t size, size_t count, void *user) {
    sj_carrier *carrier = user;
    sj_attempt *attempt = running_attempt(carrier);
    size_t n = size * count;
    if (!attempt)
        return CURL_WRITEFUNC_ERROR;
    if (attempt->stage != SJ_ANSWER_BODY) {
        attempt->stage = SJ_ANSWER_REFUSED;
        return CURL_WRITEFUNC_ERROR;
    }
    if (attempt->pause != SJ_PAUSE_NONE) {
        attempt->pause = SJ_PAUSE_DONE;
        return CURL_WRITEFUNC_PAUSE;
    }
    attempt->body_bytes += n;
    if (n > 0)
        attempt->handlers.on_data(attempt->owner, (sj_slice){bytes, n});
    return attempt->state == SJ_ATTEMPT_RUNNING ? n : CURL_WRITEFUNC_ERROR;
}
