// Reads requests from the bytes of one connection: Content-Length or chunked, pipelined or not, bounded.
#ifndef SJ_MOCK_READER_H
#define SJ_MOCK_READER_H

#include "mock_http.h"

typedef enum sj_mock_read {
    SJ_MOCK_READ_MORE, // feed more
    SJ_MOCK_READ_CONTINUE, // the client waits for a 100; then call again
    SJ_MOCK_READ_WHOLE, // reader.request is set, until reset
    SJ_MOCK_READ_BAD,
    SJ_MOCK_READ_TOO_LARGE
} sj_mock_read;

typedef struct sj_mock_reader {
    sj_buffer in; // not yet used up
    size_t used; // bytes of `in` that belong to the request
    size_t scanned; // of the search for the head's end
    bool has_head, chunked, expects;
    size_t body_length; // by Content-Length
    sj_buffer body; // of a chunked request
    sj_mock_request request;
} sj_mock_reader;

void sj_mock_reader_init(sj_mock_reader *reader);
void sj_mock_reader_free(sj_mock_reader *reader);
__attribute__((warn_unused_result)) bool sj_mock_reader_feed(sj_mock_reader *reader, sj_slice bytes);
sj_mock_read sj_mock_reader_next(sj_mock_reader *reader);
// Drops the request that was read; what came behind it stays.
void sj_mock_reader_reset(sj_mock_reader *reader);

#endif
