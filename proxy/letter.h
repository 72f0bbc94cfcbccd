// What workers write to each other about retries that join an exchange in flight (BEHAVIOUR 6): small, and never waited for while anything is held.
//
//   the retry's worker                         the others'
//        ASK (what it looks like) ------------->  is there one like it?
//        <---------------- JOINED (tape, seat) or ALONE
//        <---------------- NEWS: there is more on the tape
//        READ: you may write on --------------->
//        LEFT: the retry's client has gone ---->
#ifndef SJ_LETTER_H
#define SJ_LETTER_H

#include "fingerprint.h"
#include "tape.h"

typedef enum sj_letter_kind {
    SJ_LETTER_ASK,
    SJ_LETTER_JOINED,
    SJ_LETTER_ALONE,
    SJ_LETTER_NEWS,
    SJ_LETTER_READ,
    SJ_LETTER_LEFT,
} sj_letter_kind;

typedef struct sj_letter {
    sj_letter_kind kind;
    uint64_t to; // the exchange it is for; not in ASK
    // ASK
    sj_tape_place from;
    uint64_t sketch;
    sj_fingerprint print;
    int64_t deadline_ms;
    // JOINED
    sj_tape *tape; // a reference of the letter's own
    int seat;
} sj_letter;

#endif
