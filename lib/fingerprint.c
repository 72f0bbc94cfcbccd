#include "fingerprint.h"

static uint64_t turned(uint64_t x, int by) {
    return (x << by) | (x >> (64 - by));
}

static void rounds(uint64_t v[4], int count) {
    for (int i = 0; i < count; i++) {
        v[0] += v[1];
        v[2] += v[3];
        v[1] = turned(v[1], 13) ^ v[0];
        v[3] = turned(v[3], 16) ^ v[2];
        v[0] = turned(v[0], 32);
        v[2] += v[1];
        v[0] += v[3];
        v[1] = turned(v[1], 17) ^ v[2];
        v[3] = turned(v[3], 21) ^ v[0];
        v[2] = turned(v[2], 32);
    }
}

static uint64_t little_endian(const unsigned char *p) {
    uint64_t word = 0;
    for (int i = 0; i < 8; i++)
        word |= (uint64_t)p[i] << (8 * i);
    return word;
}

static void take_word(sj_fingerprinter *printer, uint64_t word) {
    printer->v[3] ^= word;
    rounds(printer->v, 2);
    printer->v[0] ^= word;
}

void sj_fingerprint_begin(sj_fingerprinter *printer, uint64_t key_low, uint64_t key_high) {
    *printer = (sj_fingerprinter){.v = {
                                      key_low ^ 0x736f6d6570736575u,
                                      key_high ^ 0x646f72616e646f6du ^ 0xee,
                                      key_low ^ 0x6c7967656e657261u,
                                      key_high ^ 0x7465646279746573u,
                                  }};
}

void sj_fingerprint_bytes(sj_fingerprinter *printer, sj_slice bytes) {
    const unsigned char *p = (const unsigned char *)bytes.p;
    size_t held = printer->total % 8, left = bytes.n;
    printer->total += bytes.n;
    while (left && held) {
        printer->rest[held++] = *p++;
        left--;
        if (held < 8)
            continue;
        take_word(printer, little_endian(printer->rest));
        held = 0;
    }
    for (; left >= 8; p += 8, left -= 8)
        take_word(printer, little_endian(p));
    if (left)
        memcpy(printer->rest + held, p, left);
}

void sj_fingerprint_part(sj_fingerprinter *printer, sj_slice part) {
    uint64_t n = part.p ? (uint64_t)part.n + 1 : 0;
    unsigned char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)(n >> (8 * i));
    sj_fingerprint_bytes(printer, (sj_slice){(const char *)length, sizeof length});
    sj_fingerprint_bytes(printer, part);
}

sj_fingerprint sj_fingerprint_end(sj_fingerprinter *printer) {
    size_t held = printer->total % 8;
    memset(printer->rest + held, 0, 8 - held);
    take_word(printer, little_endian(printer->rest) | printer->total << 56);
    sj_fingerprint print;
    printer->v[2] ^= 0xee;
    rounds(printer->v, 4);
    print.low = printer->v[0] ^ printer->v[1] ^ printer->v[2] ^ printer->v[3];
    printer->v[1] ^= 0xdd;
    rounds(printer->v, 4);
    print.high = printer->v[0] ^ printer->v[1] ^ printer->v[2] ^ printer->v[3];
    return print;
}
