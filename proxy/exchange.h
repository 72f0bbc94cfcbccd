// One client request and all that is done to answer it: ties front, journey and upstream. Decides nothing itself.
//
//   client bytes ─ front ──> on_request, on_body, on_request_end ──> plan (route, targets, body facts) ──> journey
//   journey's steps ──> start / cancel an attempt (upstream), commit, deliver, refuse (front)
//   upstream bytes ──> answer (reads what they say) ──> journey; held before commit, then straight to the front
//
// Invariant 6: steps are carried out at the loop's top level only; an exchange that gets some inside a library's callback lines up in the
// worker's todo list.
#ifndef SJ_EXCHANGE_H
#define SJ_EXCHANGE_H

#include "worker.h"

extern const sj_front_handlers sj_exchange_handlers; // context: the worker

// A slot was granted to this worker's exchange of that id, which may have ended meanwhile.
void sj_exchange_granted(sj_worker *worker, uint64_t exchange_id);
// About retries that join an exchange in flight. What the letter owns and still holds afterwards is the caller's.
void sj_exchange_letter(sj_worker *worker, sj_letter *letter);
// The drain's time is over: what still runs is told so (503, or an error inside the stream).
void sj_exchange_abort_all(sj_worker *worker);
// Carries out what was put off. True: there was something.
bool sj_exchange_run_todo(sj_worker *worker);
// When the worker ends and no exchange runs.
void sj_exchange_free_spare(sj_worker *worker);

#endif
