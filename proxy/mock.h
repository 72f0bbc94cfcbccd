// A misbehaving OpenAI-format upstream, embedded: for the demo, for tests and for users' own tests (`stormjib mock`).
// Raw HTTP/1.1 over libuv streams, because it has to break rules byte by byte. One sj_mock lives in one uv loop; every call is made on that
// loop's thread. It listens on 127.0.0.1 unless told otherwise. Control and evidence are under /mock/, where no fault ever strikes.
#ifndef SJ_MOCK_H
#define SJ_MOCK_H

#include "mock_faults.h"
#include "rng.h"

#include <uv.h>

typedef struct sj_mock sj_mock;

typedef enum sj_mock_shape { SJ_MOCK_FIXED, SJ_MOCK_UNIFORM, SJ_MOCK_LOGNORMAL } sj_mock_shape;

// "200ms", "50ms..300ms", "lognormal:200ms,0.5" (median, sigma).
typedef struct sj_mock_delay {
    sj_mock_shape shape;
    double a, b; // ms; lognormal: median in ms, sigma
} sj_mock_delay;

__attribute__((warn_unused_result)) bool sj_mock_delay_parse(sj_slice text, sj_mock_delay *out);
int64_t sj_mock_delay_draw(const sj_mock_delay *delay, sj_rng *rng); // ms, at most 10 minutes

typedef struct sj_mock_odds {
    double p; // a probability, or a weight in the mix
    sj_mock_fault fault;
} sj_mock_odds;

typedef struct sj_mock_outage {
    int64_t start_ms, duration_ms; // since the mock started, or since the rules were changed
    sj_mock_fault fault;
} sj_mock_outage;

enum { SJ_MOCK_MAX_ODDS = 32, SJ_MOCK_MAX_OUTAGES = 16, SJ_MOCK_LOG_DEFAULT = 100000 };

typedef struct sj_mock_rules {
    char listen[64];
    int port; // 0: any free one
    uint64_t seed;
    char key[128]; // "": any credential will do
    double fail; // the share of attempts that the mix strikes
    sj_mock_odds mix[SJ_MOCK_MAX_ODDS];
    int mix_count;
    sj_mock_odds odds[SJ_MOCK_MAX_ODDS]; // faults with a probability of their own
    int odds_count;
    sj_mock_outage outages[SJ_MOCK_MAX_OUTAGES];
    int outage_count;
    sj_mock_delay latency, first_token;
    double tokens_per_second; // 0: as fast as it goes
    int words; // in an answer
    int variant; // another number, other texts
    int limit_concurrent; // 0 off: beyond it 429
    double limit_per_second; // 0 off: beyond it 429 with Retry-After
    double capacity; // attempts a second; 0 any. The others wait in line, and take their turn even when their clients have left
    sj_mock_delay backlog; // who would wait longer in line gets a 503
    char models[512]; // comma-separated
    bool strict_models; // others get a 404
    int log_size;
} sj_mock_rules;

void sj_mock_rules_init(sj_mock_rules *rules);
// One rule by its name, as on the command line and in POST /mock/rules: ("fail", "0.083"). False: *error says what is allowed.
__attribute__((warn_unused_result)) bool sj_mock_rules_set(sj_mock_rules *rules, sj_slice name,
                                                           sj_slice value, sj_buffer *error);
bool sj_mock_rules_is_flag(sj_slice name); // takes no value on the command line
void sj_mock_rules_help(FILE *out);

// Listens at once. rules NULL: the defaults on any free port. NULL: cannot listen, errno says why.
__attribute__((warn_unused_result)) sj_mock *sj_mock_new(uv_loop_t *loop, const sj_mock_rules *rules);
int sj_mock_port(const sj_mock *mock);
// A JSON array of faults, one for each attempt; see `stormjib mock --help`.
__attribute__((warn_unused_result)) bool sj_mock_script(sj_mock *mock, sj_slice json, sj_buffer *error);
// Cuts what runs and closes every handle; *mock is freed once the loop has run its closing callbacks.
void sj_mock_close(sj_mock **mock);

#endif
