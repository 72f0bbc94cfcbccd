#include "admission.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

// Who waits or has been granted and not taken yet.
typedef struct node {
    struct node *same_hash;
    struct node *before, *after; // in its client's line, while waiting
    struct client *client; // NULL: granted
    sj_waiter waiter;
} node;

// A client with someone waiting; clients form a ring, and `turn` points at the next one served.
typedef struct client {
    struct client *same_hash;
    struct client *before, *after;
    node *first, *last;
    uint64_t key;
} client;

struct sj_admission {
    pthread_mutex_t mutex;
    sj_admission_rules rules;
    int in_flight; // granted ones included
    int waiting;
    client *turn;
    size_t mask; // of both tables
    node **nodes;
    client **clients;
};

enum { TABLE_MIN = 64, TABLE_MAX = 1 << 16 };

static size_t slot_of(const sj_admission *admission, uint64_t key) {
    return (size_t)((key * 0x9e3779b97f4a7c15U) >> 40) & admission->mask;
}

static size_t table_size(int expected) {
    size_t size = TABLE_MIN;
    while (size < TABLE_MAX && size < (size_t)(expected > 0 ? expected : 0))
        size *= 2;
    return size;
}

sj_admission *sj_admission_new(const sj_admission_rules *rules) {
    sj_admission *admission = calloc(1, sizeof *admission);
    if (!admission)
        return NULL;
    size_t size = table_size(rules->max_waiting);
    *admission = (sj_admission){.rules = *rules, .mask = size - 1};
    admission->nodes = calloc(size, sizeof *admission->nodes);
    admission->clients = calloc(size, sizeof *admission->clients);
    if (admission->nodes && admission->clients && pthread_mutex_init(&admission->mutex, NULL) == 0)
        return admission;
    free(admission->nodes);
    free(admission->clients);
    free(admission);
    return NULL;
}

void sj_admission_free(sj_admission **admission) {
    sj_admission *gone = *admission;
    *admission = NULL;
    if (!gone)
        return;
    assert(gone->in_flight == 0 && gone->waiting == 0);
    pthread_mutex_destroy(&gone->mutex);
    free(gone->nodes);
    free(gone->clients);
    free(gone);
}

static void lock(sj_admission *admission) {
    pthread_mutex_lock(&admission->mutex);
}
static void unlock(sj_admission *admission) {
    pthread_mutex_unlock(&admission->mutex);
}

void sj_admission_set_rules(sj_admission *admission, const sj_admission_rules *rules) {
    lock(admission);
    admission->rules = *rules;
    unlock(admission);
}

sj_admission_rules sj_admission_rules_of(sj_admission *admission) {
    lock(admission);
    sj_admission_rules rules = admission->rules;
    unlock(admission);
    return rules;
}

// ---- the line -------------------------------------------------------------------------------------------

static node **find_node(sj_admission *admission, uint64_t exchange_id) {
    node **at = &admission->nodes[slot_of(admission, exchange_id)];
    while (*at && (*at)->waiter.exchange_id != exchange_id)
        at = &(*at)->same_hash;
    return at;
}

static client **find_client(sj_admission *admission, uint64_t key) {
    client **at = &admission->clients[slot_of(admission, key)];
    while (*at && (*at)->key != key)
        at = &(*at)->same_hash;
    return at;
}

// A new client comes last in the round: just before the one whose turn it is.
static client *add_client(sj_admission *admission, client **at, uint64_t key) {
    client *added = calloc(1, sizeof *added);
    if (!added)
        return NULL;
    added->key = key;
    *at = added;
    if (!admission->turn) {
        added->before = added->after = added;
        admission->turn = added;
        return added;
    }
    added->after = admission->turn;
    added->before = admission->turn->before;
    added->before->after = added->after->before = added;
    return added;
}

static void remove_client(sj_admission *admission, client *gone) {
    *find_client(admission, gone->key) = gone->same_hash;
    gone->before->after = gone->after;
    gone->after->before = gone->before;
    if (admission->turn == gone)
        admission->turn = gone->after == gone ? NULL : gone->after;
    free(gone);
}

static bool join(sj_admission *admission, const sj_waiter *waiter) {
    node **at = find_node(admission, waiter->exchange_id);
    assert(!*at);
    node *added = calloc(1, sizeof *added);
    if (!added)
        return false;
    client **place = find_client(admission, waiter->client);
    client *line = *place ? *place : add_client(admission, place, waiter->client);
    if (!line) {
        free(added);
        return false;
    }
    *added = (node){.waiter = *waiter, .client = line, .before = line->last};
    *(line->last ? &line->last->after : &line->first) = added;
    line->last = added;
    *at = added;
    admission->waiting++;
    return true;
}

// Out of its client's line, but still known.
static void step_out(sj_admission *admission, node *waiting) {
    client *line = waiting->client;
    *(waiting->before ? &waiting->before->after : &line->first) = waiting->after;
    *(waiting->after ? &waiting->after->before : &line->last) = waiting->before;
    waiting->before = waiting->after = NULL;
    waiting->client = NULL;
    admission->waiting--;
    if (!line->first)
        remove_client(admission, line);
}

static void forget(node **at) {
    node *gone = *at;
    *at = gone->same_hash;
    free(gone);
}

static void grant_next(sj_admission *admission, sj_wake *wake) {
    *wake = (sj_wake){0};
    if (!admission->turn || admission->in_flight >= admission->rules.max_concurrent)
        return;
    node *granted = admission->turn->first;
    admission->turn = admission->turn->after;
    step_out(admission, granted);
    admission->in_flight++;
    *wake = (sj_wake){true, granted->waiter};
}

// ---- slots ----------------------------------------------------------------------------------------------

sj_slot_answer sj_admission_acquire(sj_admission *admission, const sj_waiter *waiter) {
    sj_slot_answer answer = SJ_SLOT_FULL;
    lock(admission);
    if (admission->waiting == 0 && admission->in_flight < admission->rules.max_concurrent) {
        admission->in_flight++;
        answer = SJ_SLOT_GRANTED;
    } else if (admission->waiting < admission->rules.max_waiting && join(admission, waiter)) {
        answer = SJ_SLOT_QUEUED;
    }
    unlock(admission);
    return answer;
}

bool sj_admission_granted(sj_admission *admission, uint64_t exchange_id) {
    lock(admission);
    const node *known = *find_node(admission, exchange_id);
    bool granted = known && !known->client;
    unlock(admission);
    return granted;
}

void sj_admission_leave(sj_admission *admission, uint64_t exchange_id, sj_wake *wake) {
    *wake = (sj_wake){0};
    lock(admission);
    node **at = find_node(admission, exchange_id);
    if (*at && (*at)->client) {
        step_out(admission, *at);
        forget(at);
    } else if (*at) {
        forget(at);
        admission->in_flight--;
        grant_next(admission, wake);
    }
    unlock(admission);
}

void sj_admission_take(sj_admission *admission, uint64_t exchange_id) {
    lock(admission);
    node **at = find_node(admission, exchange_id);
    assert(*at && !(*at)->client);
    forget(at);
    unlock(admission);
}

void sj_admission_release(sj_admission *admission, sj_wake *wake) {
    lock(admission);
    assert(admission->in_flight > 0);
    admission->in_flight--;
    grant_next(admission, wake);
    unlock(admission);
}

void sj_admission_next(sj_admission *admission, sj_wake *wake) {
    lock(admission);
    grant_next(admission, wake);
    unlock(admission);
}

sj_admission_stats sj_admission_read(sj_admission *admission) {
    lock(admission);
    sj_admission_stats stats = {admission->in_flight, admission->waiting, admission->rules.max_concurrent};
    unlock(admission);
    return stats;
}
