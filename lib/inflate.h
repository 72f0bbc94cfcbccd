// A decoded copy of a content-coded answer, to look into it; what is delivered stays the original bytes. zlib.
#ifndef SJ_INFLATE_H
#define SJ_INFLATE_H

#include "buffer.h"

typedef enum sj_coding { SJ_CODING_IDENTITY, SJ_CODING_GZIP, SJ_CODING_DEFLATE, SJ_CODING_OTHER } sj_coding;

// From the Content-Encoding value; several codings are SJ_CODING_OTHER; empty and "identity" are SJ_CODING_IDENTITY.
sj_coding sj_coding_of(sj_slice content_encoding);
// gzip (several members allowed) or deflate (zlib-wrapped or raw). False: damaged, cut short, or past out->max.
__attribute__((warn_unused_result)) bool sj_inflate(sj_coding coding, sj_slice in, sj_buffer *out);

#endif
