// What the end of a transfer means (LIBRARIES "libcurl" 10): whether the request was sent decides, curl's number only tells details.
#include "upstream_private.h"

#include <string.h>

// Errors before anything was sent that no retry mends; every other one is SJ_END_NEVER_SENT.
typedef struct permanent {
    CURLcode code;
    sj_end end;
} permanent;

static const permanent PERMANENT[] = {
    {CURLE_UNSUPPORTED_PROTOCOL, SJ_END_LOCAL},
    {CURLE_FAILED_INIT, SJ_END_LOCAL},
    {CURLE_URL_MALFORMAT, SJ_END_LOCAL},
    {CURLE_OUT_OF_MEMORY, SJ_END_LOCAL},
    {CURLE_BAD_FUNCTION_ARGUMENT, SJ_END_LOCAL},
    {CURLE_SSL_ENGINE_NOTFOUND, SJ_END_LOCAL},
    {CURLE_SSL_ENGINE_SETFAILED, SJ_END_LOCAL},
    {CURLE_SSL_ENGINE_INITFAILED, SJ_END_LOCAL},
    {CURLE_SSL_CERTPROBLEM, SJ_END_LOCAL},
    {CURLE_SSL_CIPHER, SJ_END_LOCAL},
    {CURLE_SSL_CACERT_BADFILE, SJ_END_LOCAL},
    {CURLE_SSL_CRL_BADFILE, SJ_END_LOCAL},
    {CURLE_PEER_FAILED_VERIFICATION, SJ_END_TLS_UNVERIFIED},
    {CURLE_SSL_ISSUER_ERROR, SJ_END_TLS_UNVERIFIED},
    {CURLE_SSL_PINNEDPUBKEYNOTMATCH, SJ_END_TLS_UNVERIFIED},
    {CURLE_SSL_INVALIDCERTSTATUS, SJ_END_TLS_UNVERIFIED},
};

static sj_end end_unsent(CURLcode code) {
    for (size_t i = 0; i < sizeof PERMANENT / sizeof PERMANENT[0]; i++) {
        if (PERMANENT[i].code == code)
            return PERMANENT[i].end;
    }
    return SJ_END_NEVER_SENT;
}

// A status line that is none, a Content-Length that is none, a header line longer than curl's buffer for it.
static bool is_garbage(CURLcode code) {
    return code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_WEIRD_SERVER_REPLY ||
           code == CURLE_OUT_OF_MEMORY;
}

static sj_end end_of(const sj_attempt *attempt, CURLcode code) {
    if (attempt->state == SJ_ATTEMPT_FAILED)
        return SJ_END_LOCAL;
    if (attempt->stage == SJ_ANSWER_REFUSED)
        return attempt->broken_off ? SJ_END_BROKEN : SJ_END_GARBAGE;
    if (attempt->stage == SJ_ANSWER_BODY)
        return code == CURLE_OK ? SJ_END_WHOLE : SJ_END_BROKEN;
    if (attempt->requests == 0)
        return end_unsent(code);
    if (is_garbage(code))
        return SJ_END_GARBAGE;
    // curl also reports success when the connection is closed inside a head.
    if (attempt->head_bytes > 0)
        return SJ_END_BROKEN;
    return attempt->opened ? SJ_END_NO_ANSWER : SJ_END_STALE;
}

static bool is_own_side(const sj_attempt *attempt, CURLcode code) {
    return attempt->requests == 0 &&
           (code == CURLE_COULDNT_RESOLVE_PROXY || code == CURLE_COULDNT_RESOLVE_HOST ||
            code == CURLE_COULDNT_CONNECT || code == CURLE_OPERATION_TIMEDOUT);
}

static int64_t connect_ms(const sj_attempt *attempt) {
    curl_off_t tcp_us = 0, tls_us = 0;
    if (attempt->requests == 0 || !attempt->opened)
        return 0;
    (void)curl_easy_getinfo(attempt->carrier->easy, CURLINFO_CONNECT_TIME_T, &tcp_us);
    (void)curl_easy_getinfo(attempt->carrier->easy, CURLINFO_APPCONNECT_TIME_T, &tls_us);
    return (tls_us > tcp_us ? tls_us : tcp_us) / 1000;
}

// Before sending, curl's own text names host and port, or the URL: those get words of ours.
static const char *text_unsent(const sj_attempt *attempt, CURLcode code) {
    long os_error = 0;
    switch (code) {
    case CURLE_COULDNT_RESOLVE_PROXY:
        return "Could not resolve the proxy";
    case CURLE_COULDNT_RESOLVE_HOST:
        return "Could not resolve host";
    case CURLE_OPERATION_TIMEDOUT:
        return "Connect timed out";
    case CURLE_COULDNT_CONNECT:
        (void)curl_easy_getinfo(attempt->carrier->easy, CURLINFO_OS_ERRNO, &os_error);
        return os_error ? strerror((int)os_error) : "Could not connect";
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
        return curl_easy_strerror(code);
    default:
        return attempt->carrier->error;
    }
}

static const char *text_of(const sj_attempt *attempt, sj_end end, CURLcode code) {
    if (end == SJ_END_WHOLE)
        return "";
    if (end == SJ_END_STALE)
        return "The kept connection was closed before an answer";
    if (attempt->state == SJ_ATTEMPT_FAILED)
        return "Could not watch a socket";
    if (attempt->stage == SJ_ANSWER_REFUSED)
        return attempt->broken_off ? "Malformed or too large trailers" : "Malformed or too large answer head";
    if (code == CURLE_OK)
        return "The connection was closed inside the answer head";
    const char *text = attempt->requests == 0 ? text_unsent(attempt, code) : attempt->carrier->error;
    return text && text[0] ? text : curl_easy_strerror(code);
}

static void copy_printable(char *out, size_t size, const char *text) {
    size_t n = 0;
    for (; n + 1 < size && text[n]; n++)
        out[n] = text[n] >= ' ' && text[n] < 0x7f ? text[n] : '?';
    out[n] = '\0';
}

sj_attempt_end sj_attempt_end_of(const sj_attempt *attempt, CURLcode code) {
    sj_attempt_end end = {
        .end = end_of(attempt, code),
        .sent = attempt->requests > 0,
        .own_side = is_own_side(attempt, code),
        .connect_timed_out = attempt->requests == 0 && code == CURLE_OPERATION_TIMEDOUT,
        .reused = attempt->requests > 0 && !attempt->opened,
        .connect_ms = connect_ms(attempt),
        .bytes_received = attempt->head_bytes + attempt->body_bytes,
    };
    copy_printable(end.detail, sizeof end.detail, text_of(attempt, end.end, code));
    return end;
}
