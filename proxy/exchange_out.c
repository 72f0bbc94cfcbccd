#include "exchange_keep.h"

// An exchange may outlive its client: then nobody hears.

void exchange_set_end(sj_exchange *e, exchange_end end, sj_refusal refusal) {
    if (e->end == END_CLIENT_GONE)
        return;
    e->end = end;
    e->refusal = refusal;
}

void exchange_out_answer(sj_exchange *e, int status, const sj_headers *headers, sj_slice body) {
    if (!e->call)
        return;
    e->status = status;
    e->bytes_out += body.n;
    sj_call_answer(e->call, status, headers, body);
}

void exchange_out_answer_head(sj_exchange *e, int status, const sj_headers *headers, int64_t content_length) {
    if (!e->call)
        return;
    e->status = status;
    sj_call_answer_head(e->call, status, headers, content_length);
}

void exchange_out_begin(sj_exchange *e, int status, const sj_headers *headers, int64_t content_length) {
    if (!e->call)
        return;
    e->status = status;
    sj_call_begin(e->call, status, headers, content_length);
}

bool exchange_out_write(sj_exchange *e, sj_slice bytes) {
    if (!e->call)
        return false;
    e->bytes_out += bytes.n;
    if (e->recording)
        exchange_keep_more(e, bytes);
    return sj_call_write(e->call, bytes) > SJ_FRONT_HIGH_WATER;
}

void exchange_out_finish(sj_exchange *e, const sj_headers *trailers) {
    if (e->call)
        sj_call_finish(e->call, trailers);
}

void exchange_out_cut(sj_exchange *e) {
    if (e->call)
        sj_call_cut(e->call);
}
