// Asks every upstream of a configuration for its models, once with each of its keys: is it there, does it know the key, what does it serve.
// Blocks on a uv loop of its own. Results hold no secret: keys are named by their number.
#ifndef SJ_CHECK_H
#define SJ_CHECK_H

#include "config.h"

typedef enum sj_check_kind {
    SJ_CHECK_OK,
    SJ_CHECK_EMBEDDED, // the misbehaving upstream inside: nothing to ask
    SJ_CHECK_CLIENTS_KEY, // reachable; wants a key, which the clients bring
    SJ_CHECK_NO_LIST, // reachable and content with the key as far as one can see, but has no list of models
    SJ_CHECK_ODD, // answers what an API of this kind does not: redirects, web pages, 5xx
    SJ_CHECK_UNREACHABLE,
    SJ_CHECK_WRONG_KEY,
} sj_check_kind;

typedef struct sj_check_result {
    size_t upstream; // index into the configuration's
    size_t key; // index into its api_keys; 0 also without any
    sj_check_kind kind;
    int status; // 0: no answer
    int64_t ms;
    char detail[160]; // of trouble: "Connection refused", "redirects (301) to ..."
    char **models; // what the upstream lists
    size_t model_count;
} sj_check_result;

typedef struct sj_check {
    sj_check_result *results; // in the order of upstreams and keys
    size_t count;
} sj_check;

enum { SJ_CHECK_MAX_ANSWER = 8 * 1024 * 1024, SJ_CHECK_MAX_MODELS = 10000, SJ_CHECK_MAX_REQUESTS = 256 };

// sj_upstream_global_init must have been called. False: out of memory. Beyond SJ_CHECK_MAX_REQUESTS keys are not asked.
__attribute__((warn_unused_result)) bool sj_check_run(const sj_config *config, int64_t timeout_ms,
                                                      sj_check *check);
void sj_check_free(sj_check *check);
bool sj_check_lists(const sj_check_result *result, const char *model);

// Reads an answer to GET /models into result: {"data": [{"id"}]}, {"models": [{"name"}]} or a bare list. False: it is none of them.
bool sj_check_read_models(sj_check_result *result, sj_slice body);

#endif
