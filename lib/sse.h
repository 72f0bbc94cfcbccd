// Splits a byte stream into server-sent events (WHATWG HTML 9.2) without changing a byte: what is forwarded is `raw`.
// Line ends CR, LF, CRLF; a BOM at the start; comments; several data lines joined by LF. One owner, no locking.
// An event that lies whole inside the fed bytes is not copied. An event is given as soon as its blank line is: when that line ends with the CR
// of a CRLF whose LF comes later, the LF is the first byte of the next raw. All raws together are the input.
#ifndef SJ_SSE_H
#define SJ_SSE_H

#include "buffer.h"

typedef struct sj_sse_event {
    sj_slice raw;  // the event's bytes with its closing blank line; valid until the next call
    sj_slice name; // of the last `event:` line, or empty
    sj_slice data; // data lines joined by LF; empty when has_data is false
    bool has_data;
    bool oversize; // longer than max: raw is one more piece of it, name and data are empty, to be passed on unread
} sj_sse_event;

typedef struct sj_sse {
    sj_buffer held;    // an event not yet whole
    sj_buffer joined;  // data of several lines
    bool spent;        // held was the last event's raw and goes at the next call
    size_t max_event;
    bool started;      // past the BOM
    bool in_oversize;
    unsigned char line_state; // of the search for the blank line
} sj_sse;

void sj_sse_init(sj_sse *sse, size_t max_event_bytes);
void sj_sse_free(sj_sse *sse);
// Takes bytes from the front of *input until one event is whole. True: *event is set, call again with what is left of *input.
// False: *input is empty (used up, possibly held).
bool sj_sse_next(sj_sse *sse, sj_slice *input, sj_sse_event *event);
// At the end of the stream: what is held without a closing blank line, as an event. False: nothing is held.
bool sj_sse_rest(sj_sse *sse, sj_sse_event *event);
size_t sj_sse_held_bytes(const sj_sse *sse);

#endif
