#include "inflate.h"

#define ZLIB_CONST
#include <limits.h>
#include <zlib.h>

sj_coding sj_coding_of(sj_slice content_encoding) {
    static const struct {
        const char *name;
        sj_coding coding;
    } names[] = {
        {"", SJ_CODING_IDENTITY},   {"identity", SJ_CODING_IDENTITY}, {"gzip", SJ_CODING_GZIP},
        {"x-gzip", SJ_CODING_GZIP}, {"deflate", SJ_CODING_DEFLATE},
    };
    sj_slice name = sj_slice_trim(content_encoding);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (sj_slice_equal_nocase(name, sj_slice_of(names[i].name)))
            return names[i].coding;
    }
    return SJ_CODING_OTHER;
}

// zlib's window bits choose the wrapping.
enum { GZIP = MAX_WBITS + 16, ZLIB_WRAPPED = MAX_WBITS, RAW = -MAX_WBITS, PIECE = 16 * 1024 };

// Decodes up to the end of one stream. False: it did not get there.
static bool decode_stream(z_stream *z, sj_buffer *out) {
    int state = Z_OK;
    while (state == Z_OK) {
        unsigned char piece[PIECE];
        z->next_out = piece;
        z->avail_out = sizeof piece;
        state = inflate(z, Z_NO_FLUSH);
        if (!sj_buffer_append(out, piece, sizeof piece - z->avail_out))
            return false;
    }
    return state == Z_STREAM_END; // Z_BUF_ERROR: the input ended first
}

// gzip pads with zeros where it writes in blocks.
static bool is_padding(const z_stream *z) {
    for (unsigned i = 0; i < z->avail_in; i++) {
        if (z->next_in[i])
            return false;
    }
    return true;
}

static bool decode(int window_bits, sj_slice in, sj_buffer *out) {
    z_stream z = {.next_in = (const unsigned char *)in.p, .avail_in = (unsigned)in.n};
    if (in.n > UINT_MAX || inflateInit2(&z, window_bits) != Z_OK)
        return false;
    size_t start = out->n;
    bool ok = decode_stream(&z, out);
    while (ok && window_bits == GZIP && !is_padding(&z)) // the next member
        ok = inflateReset(&z) == Z_OK && decode_stream(&z, out);
    ok = ok && is_padding(&z);
    (void)inflateEnd(&z);
    if (!ok)
        out->n = start;
    return ok;
}

bool sj_inflate(sj_coding coding, sj_slice in, sj_buffer *out) {
    switch (coding) {
    case SJ_CODING_IDENTITY:
        return sj_buffer_add(out, in);
    case SJ_CODING_GZIP:
        return decode(GZIP, in, out);
    case SJ_CODING_DEFLATE: // RFC 9110 means zlib's wrapping, but some servers leave it out
        return decode(ZLIB_WRAPPED, in, out) || decode(RAW, in, out);
    case SJ_CODING_OTHER:
        break;
    }
    return false;
}
