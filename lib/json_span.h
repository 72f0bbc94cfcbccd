// Where the top-level members of a JSON object stand, without building anything: the client's bytes are never re-serialised, only the value
// of `model` is spliced (BEHAVIOUR 2). RFC 8259 grammar, strict; nesting limited, no recursion, no allocation, linear.
#ifndef SJ_JSON_SPAN_H
#define SJ_JSON_SPAN_H

#include "buffer.h"
#include "json_scan.h"

#include <stdint.h>

enum { SJ_JSON_MAX_MODEL_SPANS = 8, SJ_JSON_MAX_MODEL = 256, SJ_JSON_MAX_CHOICES = 128 };

// Called for each top-level member in order. key: decoded (escapes resolved) when it has at most 64 bytes, else the raw text between the
// quotes. value: the raw bytes of the value, without surrounding white space. Return false to stop the walk.
typedef bool (*sj_json_member_fn)(void *context, sj_slice key, sj_slice value);

// True: the text is exactly one valid JSON object (and white space). On false members may have been reported already, or the walk was stopped.
bool sj_json_walk_object(sj_slice text, sj_json_member_fn on_member, void *context);
// The same for an array; key is empty.
bool sj_json_walk_array(sj_slice text, sj_json_member_fn on_element, void *context);
// Of a value as reported by a walk: neither null nor an empty string, array or object.
bool sj_json_has_value(sj_slice value);
// Decodes a raw JSON string value (with its quotes) to UTF-8. False: not a string, malformed, has U+0000, or longer than size - 1.
__attribute__((warn_unused_result)) bool sj_json_decode_string(sj_slice raw, char *out, size_t size);
// Appends text as a JSON string with quotes. Invalid UTF-8 becomes U+FFFD.
__attribute__((warn_unused_result)) bool sj_json_encode_string(sj_slice text, sj_buffer *out);

typedef struct sj_json_edit {
    size_t offset, n; // the bytes of the body that are replaced
} sj_json_edit;

// What a request body says that matters to a proxy.
typedef struct sj_request_facts {
    bool is_object; // one valid JSON object; everything below is only set then
    bool stream;    // top-level `stream` is true
    bool has_model;
    char model[SJ_JSON_MAX_MODEL]; // the last `model` member, decoded; empty when it is no string
    bool model_spans_overflow;     // more `model` members than we keep: cannot be moved
    size_t model_span_count;
    sj_json_edit model_spans[SJ_JSON_MAX_MODEL_SPANS]; // every `model` member's value
    bool store;         // `store: true`
    bool background;    // `background: true`
    bool hosted_tools;  // `tools` has an element whose `type` is not "function" / "custom", or that has no `type`
    bool bound_to_upstream; // previous_response_id, conversation, or file ids ("file_id" / "file_ids" anywhere with a value): keeps its upstream
    bool deterministic; // `temperature` is 0
    int choices;        // `n`, 1 when absent or odd
    int64_t max_tokens; // the largest of max_tokens, max_completion_tokens, max_output_tokens; 0 when absent or odd
} sj_request_facts;

void sj_request_facts_read(sj_slice body, sj_request_facts *out);

#endif
