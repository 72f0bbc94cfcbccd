#include "body.h"

#include <assert.h>

uint64_t sj_body_cursor_size(const sj_body_cursor *cursor) {
    uint64_t size = cursor->bytes.n;
    for (size_t i = 0; i < cursor->edit_count; i++) {
        assert(cursor->edits[i].offset + cursor->edits[i].n <= cursor->bytes.n);
        size = size - cursor->edits[i].n + cursor->replacement.n;
    }
    return size;
}

typedef struct reading {
    uint64_t skip; // bytes of the edited body before the place wanted
    char *out;
    size_t room;
    size_t done;
} reading;

static void read_run(reading *wanted, sj_slice run) {
    if (wanted->skip >= run.n) {
        wanted->skip -= run.n;
        return;
    }
    run = sj_slice_from(run, (size_t)wanted->skip);
    wanted->skip = 0;
    size_t n = run.n < wanted->room ? run.n : wanted->room;
    if (n == 0)
        return;
    memcpy(wanted->out + wanted->done, run.p, n);
    wanted->done += n;
    wanted->room -= n;
}

size_t sj_body_cursor_read(sj_body_cursor *cursor, char *out, size_t n) {
    // The runs are few (twice the edits and one): walking them anew costs less than keeping a place among them.
    reading wanted = {.skip = cursor->at, .out = out, .room = n};
    size_t from = 0;
    for (size_t i = 0; i < cursor->edit_count; i++) {
        const sj_json_edit *edit = &cursor->edits[i];
        assert(edit->offset >= from);
        read_run(&wanted, (sj_slice){cursor->bytes.p + from, edit->offset - from});
        read_run(&wanted, cursor->replacement);
        from = edit->offset + edit->n;
    }
    if (from < cursor->bytes.n)
        read_run(&wanted, sj_slice_from(cursor->bytes, from));
    cursor->at += wanted.done;
    return wanted.done;
}

bool sj_body_cursor_seek(sj_body_cursor *cursor, uint64_t at) {
    if (at > sj_body_cursor_size(cursor))
        return false;
    cursor->at = at;
    return true;
}
