// Who waits, in the order of being served (BEHAVIOUR 13): first come first served within a client, turns between clients. Who comes again (after a
// refusal, or when its target was gated just then) stands where its age puts it, not at the end. Whoever has been served stays known until removed.
// Bounded by its user. Pure; the caller locks.
#ifndef SJ_LINE_H
#define SJ_LINE_H

#include <stdbool.h>
#include <stdint.h>

// Who waits: enough to find it again from any thread. exchange_id never repeats within a process.
typedef struct sj_waiter {
    uint32_t worker;
    uint64_t exchange_id;
    uint64_t client; // hash of the client's credential or address: turns are taken between clients
    int64_t since_ms; // when the exchange came
    int64_t tokens; // what its attempt is likely to cost, where tokens are paced; 0 unknown
} sj_waiter;

typedef struct sj_line_place {
    sj_waiter waiter;
    int64_t joined_ms;
    bool served;
} sj_line_place;

typedef struct sj_line sj_line;

sj_line *sj_line_new(int expected); // NULL: out of memory
void sj_line_free(sj_line **line); // NULL-safe; nobody may be known
int sj_line_length(const sj_line *line); // who wait
// The exchange must not be known. False: out of memory.
__attribute__((warn_unused_result)) bool sj_line_join(sj_line *line, const sj_waiter *waiter, int64_t now_ms);
// Whose turn it is; NULL: nobody waits.
const sj_line_place *sj_line_first(const sj_line *line);
// The first is served, and the turn goes on to the next client.
void sj_line_serve_first(sj_line *line);
// Waiting or served; NULL: unknown. Valid until the line changes.
const sj_line_place *sj_line_find(const sj_line *line, uint64_t exchange_id);
// Forgets one that is known, waiting or served.
void sj_line_remove(sj_line *line, uint64_t exchange_id);

#endif
