// Keeping good answers to repeatable requests, for routes with stale_if_error (BEHAVIOUR 11). Where nothing is kept, e->recording stays NULL and
// nothing else is done.
#ifndef SJ_EXCHANGE_KEEP_H
#define SJ_EXCHANGE_KEEP_H

#include "exchange_internal.h"

// Whether this exchange can have a stored answer at all, and by what it is found. room: behind the key; to be freed whatever the result.
bool exchange_has_question(const sj_exchange *e);
__attribute__((warn_unused_result)) bool exchange_question(const sj_exchange *e, sj_buffer *room, sj_answer_key *key);

// An answer that is held whole, before it goes to the client.
void exchange_keep_whole(sj_exchange *e, const leg *l, sj_class class);

// An answer that goes to the client as it comes: from commit on, every byte that is written, then the end.
void exchange_keep_begin(sj_exchange *e, const leg *l);
void exchange_keep_more(sj_exchange *e, sj_slice bytes); // only while e->recording
void exchange_keep_end(sj_exchange *e, sj_class class);  // only while e->recording
void exchange_keep_drop(sj_exchange *e);

#endif
