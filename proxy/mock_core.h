// What the parts of the mock share. Not for others: mock.h is the mock's face.
#ifndef SJ_MOCK_CORE_H
#define SJ_MOCK_CORE_H

#include "mock_answer.h"
#include "mock_choose.h"
#include "mock_http.h"
#include "mock_log.h"

struct sj_mock {
    uv_loop_t *loop;
    sj_mock_http *http;
    sj_mock_choose choose;
    sj_mock_rules first_rules; // POST /mock/reset goes back to them
    sj_mock_log log;
    uint64_t started_ns;
    int running; // exchanges
    sj_buffer out; // one write is put together here
};

double sj_mock_now_ms(const sj_mock *mock); // since it started

// Answers requests under /mock/ within the call. False: the path is none of them.
bool sj_mock_control(sj_mock *mock, sj_mock_conn *conn, const sj_mock_request *request, sj_slice path,
                     sj_slice query);

// Plays one answer with one fault, and logs how it ended. Takes the answer over.
void sj_mock_play(sj_mock *mock, sj_mock_conn *conn, const sj_mock_request *request,
                  const sj_mock_choice *choice, sj_mock_answer *answer, uint64_t number);
void sj_mock_play_gone(void *exchange, bool by_reset);
void sj_mock_play_on(void *exchange); // what was written has left
void sj_mock_play_timer(void *exchange);

#endif
