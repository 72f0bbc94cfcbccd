#include "line.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

typedef struct node {
    sj_line_place place;
    struct node *same_hash;
    struct node *before, *after; // in its client's row, while waiting
    struct client *client; // NULL: served
} node;

// A client with someone waiting; clients form a ring, and `turn` points at the next one served.
typedef struct client {
    struct client *same_hash;
    struct client *before, *after;
    node *first, *last;
    uint64_t key;
} client;

struct sj_line {
    int length;
    client *turn;
    size_t mask; // of both tables
    node **nodes;
    client **clients;
};

enum { TABLE_MIN = 64, TABLE_MAX = 1 << 16 };

static size_t slot_of(const sj_line *line, uint64_t key) {
    return (size_t)((key * 0x9e3779b97f4a7c15U) >> 40) & line->mask;
}

static size_t table_size(int expected) {
    size_t size = TABLE_MIN;
    while (size < TABLE_MAX && size < (size_t)(expected > 0 ? expected : 0))
        size *= 2;
    return size;
}

sj_line *sj_line_new(int expected) {
    sj_line *line = calloc(1, sizeof *line);
    if (!line)
        return NULL;
    size_t size = table_size(expected);
    *line = (sj_line){.mask = size - 1};
    line->nodes = calloc(size, sizeof *line->nodes);
    line->clients = calloc(size, sizeof *line->clients);
    if (!line->nodes || !line->clients)
        sj_line_free(&line);
    return line;
}

void sj_line_free(sj_line **line) {
    sj_line *gone = *line;
    *line = NULL;
    if (!gone)
        return;
    assert(gone->length == 0);
    free(gone->nodes);
    free(gone->clients);
    free(gone);
}

int sj_line_length(const sj_line *line) {
    return line->length;
}

static node **find_node(const sj_line *line, uint64_t exchange_id) {
    node **at = &line->nodes[slot_of(line, exchange_id)];
    while (*at && (*at)->place.waiter.exchange_id != exchange_id)
        at = &(*at)->same_hash;
    return at;
}

static client **find_client(const sj_line *line, uint64_t key) {
    client **at = &line->clients[slot_of(line, key)];
    while (*at && (*at)->key != key)
        at = &(*at)->same_hash;
    return at;
}

// A new client comes last in the round: just before the one whose turn it is.
static client *add_client(sj_line *line, client **at, uint64_t key) {
    client *added = calloc(1, sizeof *added);
    if (!added)
        return NULL;
    added->key = key;
    *at = added;
    if (!line->turn) {
        added->before = added->after = added;
        line->turn = added;
        return added;
    }
    added->after = line->turn;
    added->before = line->turn->before;
    added->before->after = added->after->before = added;
    return added;
}

static void remove_client(sj_line *line, client *gone) {
    *find_client(line, gone->key) = gone->same_hash;
    gone->before->after = gone->after;
    gone->after->before = gone->before;
    if (line->turn == gone)
        line->turn = gone->after == gone ? NULL : gone->after;
    free(gone);
}

// The last one in the row that came no later; NULL: none did.
static node *one_before(const client *row, int64_t since_ms) {
    if (row->first && row->first->place.waiter.since_ms > since_ms)
        return NULL;
    node *at = row->last;
    while (at && at->place.waiter.since_ms > since_ms)
        at = at->before;
    return at;
}

static void stand(client *row, node *added) {
    added->before = one_before(row, added->place.waiter.since_ms);
    node **from = added->before ? &added->before->after : &row->first;
    added->after = *from;
    *from = added;
    *(added->after ? &added->after->before : &row->last) = added;
}

bool sj_line_join(sj_line *line, const sj_waiter *waiter, int64_t now_ms) {
    node **at = find_node(line, waiter->exchange_id);
    assert(!*at);
    node *added = calloc(1, sizeof *added);
    if (!added)
        return false;
    client **place = find_client(line, waiter->client);
    client *row = *place ? *place : add_client(line, place, waiter->client);
    if (!row) {
        free(added);
        return false;
    }
    *added = (node){.place = {*waiter, now_ms, false}, .client = row};
    stand(row, added);
    *at = added;
    line->length++;
    return true;
}

const sj_line_place *sj_line_first(const sj_line *line) {
    return line->turn ? &line->turn->first->place : NULL;
}

// Out of its client's row, but still known.
static void step_out(sj_line *line, node *waiting) {
    client *row = waiting->client;
    *(waiting->before ? &waiting->before->after : &row->first) = waiting->after;
    *(waiting->after ? &waiting->after->before : &row->last) = waiting->before;
    waiting->before = waiting->after = NULL;
    waiting->client = NULL;
    line->length--;
    if (!row->first)
        remove_client(line, row);
}

void sj_line_serve_first(sj_line *line) {
    node *first = line->turn->first;
    line->turn = line->turn->after;
    first->place.served = true;
    step_out(line, first);
}

const sj_line_place *sj_line_find(const sj_line *line, uint64_t exchange_id) {
    const node *known = *find_node(line, exchange_id);
    return known ? &known->place : NULL;
}

void sj_line_remove(sj_line *line, uint64_t exchange_id) {
    node **at = find_node(line, exchange_id);
    node *gone = *at;
    assert(gone);
    if (gone->client)
        step_out(line, gone);
    *at = gone->same_hash;
    free(gone);
}
