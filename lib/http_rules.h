// What HTTP allows and what a proxy must not carry: request framing, hop-by-hop fields, where a path goes. RFC 9110, 9112.
// Pure functions over what the server library has parsed (it defends against none of this).
#ifndef SJ_HTTP_RULES_H
#define SJ_HTTP_RULES_H

#include "headers.h"

typedef struct sj_http_fault {
    int status;          // 0: nothing wrong; else 400 or 501, to be answered with a closed connection
    const char *message; // static: what is wrong and what to do
} sj_http_fault;

// raw_target: the request target as it stood on the request line. version: "HTTP/1.1".
// Refused: methods and field names that are no token; CONNECT (501); spaces, controls, NUL or an empty target; control bytes in
// values (obs-fold shows as CR/LF in a name or value); Content-Length that is no plain number, or more than one;
// Content-Length with Transfer-Encoding; Transfer-Encoding that is not exactly one "chunked" (501 for other codings, 400 on HTTP/1.0);
// no Host on 1.1, more than one Host, a Host with spaces, commas or slashes; a target that is no path, http(s) URL or OPTIONS "*";
// Upgrade to WebSocket (501, "not built yet"; other upgrades are only offers and are ignored).
sj_http_fault sj_http_check_request(sj_slice method, sj_slice raw_target, sj_slice version, const sj_headers *headers);

// RFC 9110 5.6.2: a method, a field name.
bool sj_http_is_token(sj_slice text);

// Connection, Keep-Alive, Proxy-Connection, Proxy-Authenticate, Proxy-Authorization, TE, Trailer, Transfer-Encoding, Upgrade, and
// whatever the message's own Connection fields name (connection_values: those fields' values joined by commas; may be empty).
// Connection options never remove end-to-end fields that we depend on: Host, Authorization, Content-Type, Content-Encoding, Date.
bool sj_http_is_hop_by_hop(sj_slice name, sj_slice connection_values);

// Client's fields that go upstream, in order, appended to out: all but hop-by-hop, Host, Content-Length, Expect and x-stormjib-*.
// False: out is full.
__attribute__((warn_unused_result)) bool sj_http_forward_request(const sj_headers *in, sj_headers *out);
// Upstream's fields that go to the client: all but hop-by-hop and Content-Length.
__attribute__((warn_unused_result)) bool sj_http_forward_answer(const sj_headers *in, sj_headers *out);

// Path of a target without query and fragment; absolute-form ("http://host/path?q") loses scheme and authority. "*" stays "*".
sj_slice sj_http_path(sj_slice raw_target);
// The exact target to ask the upstream for (BEHAVIOUR 2): base_path ("" or "/v1", no trailing slash) replaces a leading "/v1" segment of the
// client's path, else is put before it; without base_path the client's path stays. extra_query ("a=b&c=d" or empty) is appended to the query.
// Percent-encoding, query and an odd '#' are not touched. False: out is full.
__attribute__((warn_unused_result)) bool sj_http_upstream_target(sj_slice base_path, sj_slice raw_target, sj_slice extra_query, sj_buffer *out);

// POST to chat/completions, completions, embeddings, moderations, images/*, audio/*, messages, responses, under any prefix
// ("/v1/", "/openai/deployments/x/", "/v1beta/openai/") and with any trailing slash; not their sub-resources (responses/{id}/cancel),
// and nothing below threads/.
bool sj_http_is_generation(sj_slice method, sj_slice path);

#endif
