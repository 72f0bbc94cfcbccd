#include "upstream_private.h"

#include <assert.h>
#include <stdlib.h>

enum {
    MAX_IDLE_CARRIERS = 512, // 5 to 10 KB each
    MAX_POOLED_CONNECTIONS = 16384,
};

bool sj_upstream_global_init(void) {
    return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
}

void sj_upstream_global_end(void) {
    curl_global_cleanup();
}

sj_upstream *sj_upstream_new(uv_loop_t *loop) {
    sj_upstream *upstream = calloc(1, sizeof *upstream);
    if (!upstream)
        return NULL;
    upstream->magic = SJ_UPSTREAM_MAGIC;
    upstream->loop = loop;
    upstream->deferred_tail = &upstream->deferred;
    upstream->multi = curl_multi_init();
    upstream->share = curl_share_init();
    bool ok =
        upstream->multi && upstream->share &&
        curl_multi_setopt(upstream->multi, CURLMOPT_MAXCONNECTS, (long)MAX_POOLED_CONNECTIONS) == CURLM_OK &&
        curl_multi_setopt(upstream->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING) == CURLM_OK &&
        curl_share_setopt(upstream->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION) == CURLSHE_OK &&
        sj_upstream_sockets_init(upstream);
    if (ok)
        return upstream;
    (void)curl_multi_cleanup(upstream->multi);
    (void)curl_share_cleanup(upstream->share);
    free(upstream);
    return NULL;
}

void sj_upstream_handle_closed(sj_upstream *upstream) {
    assert(upstream->open_handles > 0);
    if (--upstream->open_handles > 0 || !upstream->closed)
        return;
    free(upstream->watchers);
    upstream->magic = 0;
    free(upstream);
}

static sj_carrier *carrier_take(sj_upstream *upstream) {
    sj_carrier *carrier = upstream->idle;
    if (!carrier)
        return sj_carrier_new(upstream);
    upstream->idle = carrier->idle_next;
    upstream->idle_count--;
    return carrier;
}

static void carrier_give_back(sj_upstream *upstream, sj_carrier *carrier) {
    sj_carrier_unload(carrier);
    if (upstream->idle_count >= MAX_IDLE_CARRIERS) {
        sj_carrier_free(carrier);
        return;
    }
    carrier->idle_next = upstream->idle;
    upstream->idle = carrier;
    upstream->idle_count++;
}

static void unlink_running(sj_attempt *attempt) {
    sj_upstream *upstream = attempt->upstream;
    if (attempt->prev)
        attempt->prev->next = attempt->next;
    else
        upstream->running = attempt->next;
    if (attempt->next)
        attempt->next->prev = attempt->prev;
    upstream->stats.running--;
}

// Out of curl's hands; the carrier stays for a last look at it.
static void detach(sj_attempt *attempt) {
    sj_upstream *upstream = attempt->upstream;
    assert(!upstream->in_curl);
    upstream->in_curl++;
    (void)curl_multi_remove_handle(upstream->multi, attempt->carrier->easy);
    upstream->in_curl--;
    unlink_running(attempt);
}

static void let_go(sj_attempt *attempt) {
    if (attempt->carrier)
        carrier_give_back(attempt->upstream, attempt->carrier);
    attempt->carrier = NULL;
    attempt->state = SJ_ATTEMPT_ENDED;
    // The deferred list still names it: the pump frees it there.
    if (attempt->queued)
        return;
    attempt->magic = 0;
    free(attempt);
}

static void finish(sj_attempt *attempt, CURLcode code) {
    sj_attempt_end end = sj_attempt_end_of(attempt, code);
    attempt->state = SJ_ATTEMPT_ENDED;
    detach(attempt);
    attempt->handlers.on_end(attempt->owner, &end, &attempt->carrier->trailers);
    let_go(attempt);
}

void sj_upstream_defer(sj_attempt *attempt) {
    sj_upstream *upstream = attempt->upstream;
    if (attempt->queued)
        return;
    attempt->queued = true;
    attempt->deferred_next = NULL;
    *upstream->deferred_tail = attempt;
    upstream->deferred_tail = &attempt->deferred_next;
    // Inside curl the pump follows anyway.
    if (!upstream->in_curl)
        sj_upstream_timer_arm(upstream);
}

// Delivers what curl held, inside this call; the owner may hold again from there.
static void unpause(sj_attempt *attempt) {
    sj_upstream *upstream = attempt->upstream;
    if (attempt->pause != SJ_PAUSE_RESUMED)
        return;
    attempt->pause = SJ_PAUSE_NONE;
    upstream->in_curl++;
    CURLcode code = curl_easy_pause(attempt->carrier->easy, CURLPAUSE_CONT);
    upstream->in_curl--;
    // curl goes on with the transfer after an error here: it must not.
    if (code != CURLE_OK && attempt->state == SJ_ATTEMPT_RUNNING)
        finish(attempt, code);
}

// When an address times out, 7.88 prepares the next but does not start it until something runs the handle, which nothing would before the
// connect timeout. Pausing and going on is the way to have a handle run.
static void nudge(sj_attempt *attempt) {
    attempt->upstream->in_curl++;
    (void)curl_easy_pause(attempt->carrier->easy, CURLPAUSE_RECV);
    (void)curl_easy_pause(attempt->carrier->easy, CURLPAUSE_CONT);
    attempt->upstream->in_curl--;
}

static void run_deferred(sj_upstream *upstream) {
    while (upstream->deferred) {
        sj_attempt *attempt = upstream->deferred;
        assert(attempt->magic == SJ_ATTEMPT_MAGIC);
        upstream->deferred = attempt->deferred_next;
        if (!upstream->deferred)
            upstream->deferred_tail = &upstream->deferred;
        attempt->queued = false;
        switch (attempt->state) {
        case SJ_ATTEMPT_RUNNING:
            if (attempt->requests == 0)
                nudge(attempt);
            else
                unpause(attempt);
            break;
        case SJ_ATTEMPT_FAILED:
            finish(attempt, CURLE_FAILED_INIT);
            break;
        case SJ_ATTEMPT_CANCELLED:
            detach(attempt);
            let_go(attempt);
            break;
        case SJ_ATTEMPT_ENDED:
            let_go(attempt);
            break;
        }
    }
}

static void close_now(sj_upstream *upstream);

void sj_upstream_pump(sj_upstream *upstream) {
    assert(!upstream->in_curl && !upstream->pumping);
    upstream->pumping = true;
    do {
        // First the cancelled: their messages go with them.
        run_deferred(upstream);
        int left = 0;
        CURLMsg *message = curl_multi_info_read(upstream->multi, &left);
        if (!message)
            break;
        char *private = NULL;
        CURLcode code = message->data.result;
        (void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
        sj_carrier *carrier = (void *)private;
        assert(carrier && carrier->magic == SJ_CARRIER_MAGIC && carrier->attempt);
        finish(carrier->attempt, code);
    } while (true);
    upstream->pumping = false;
    if (upstream->closing)
        close_now(upstream);
}

sj_attempt *sj_attempt_start(sj_upstream *upstream, const sj_attempt_spec *spec,
                             const sj_attempt_handlers *handlers, void *owner) {
    assert(upstream->magic == SJ_UPSTREAM_MAGIC && !upstream->in_curl);
    if (upstream->closing)
        return NULL;
    sj_attempt *attempt = calloc(1, sizeof *attempt);
    if (!attempt)
        return NULL;
    attempt->magic = SJ_ATTEMPT_MAGIC;
    attempt->upstream = upstream;
    attempt->handlers = *handlers;
    attempt->owner = owner;
    attempt->carrier = carrier_take(upstream);
    if (!attempt->carrier || !sj_carrier_load(attempt->carrier, spec)) {
        let_go(attempt);
        return NULL;
    }
    attempt->carrier->attempt = attempt;
    upstream->in_curl++;
    CURLMcode added = curl_multi_add_handle(upstream->multi, attempt->carrier->easy);
    upstream->in_curl--;
    if (added != CURLM_OK) {
        let_go(attempt);
        return NULL;
    }
    attempt->next = upstream->running;
    if (attempt->next)
        attempt->next->prev = attempt;
    upstream->running = attempt;
    upstream->stats.running++;
    return attempt;
}

void sj_attempt_cancel(sj_attempt **attempt) {
    sj_attempt *gone = *attempt;
    *attempt = NULL;
    if (!gone)
        return;
    assert(gone->magic == SJ_ATTEMPT_MAGIC);
    if (gone->state == SJ_ATTEMPT_CANCELLED || gone->state == SJ_ATTEMPT_ENDED)
        return;
    gone->state = SJ_ATTEMPT_CANCELLED;
    if (gone->upstream->in_curl) {
        sj_upstream_defer(gone);
        return;
    }
    detach(gone);
    let_go(gone);
}

void sj_attempt_hold(sj_attempt *attempt) {
    assert(attempt->magic == SJ_ATTEMPT_MAGIC);
    if (attempt->pause == SJ_PAUSE_NONE)
        attempt->pause = SJ_PAUSE_WANTED;
    else if (attempt->pause == SJ_PAUSE_RESUMED)
        attempt->pause = SJ_PAUSE_DONE;
}

// Delivery starts at the next pump, never inside this call.
void sj_attempt_resume(sj_attempt *attempt) {
    assert(attempt->magic == SJ_ATTEMPT_MAGIC);
    if (attempt->pause == SJ_PAUSE_WANTED) {
        attempt->pause = SJ_PAUSE_NONE;
    } else if (attempt->pause == SJ_PAUSE_DONE) {
        attempt->pause = SJ_PAUSE_RESUMED;
        sj_upstream_defer(attempt);
    }
}

sj_upstream_stats sj_upstream_read(const sj_upstream *upstream) {
    return upstream->stats;
}

static void close_now(sj_upstream *upstream) {
    upstream->in_curl++;
    while (upstream->idle) {
        sj_carrier *carrier = upstream->idle;
        upstream->idle = carrier->idle_next;
        sj_carrier_free(carrier);
    }
    (void)curl_multi_cleanup(upstream->multi);
    (void)curl_share_cleanup(upstream->share);
    upstream->in_curl--;
    upstream->closed = true;
    sj_upstream_sockets_close(upstream);
}

void sj_upstream_close(sj_upstream **upstream) {
    sj_upstream *gone = *upstream;
    *upstream = NULL;
    if (!gone)
        return;
    assert(gone->magic == SJ_UPSTREAM_MAGIC && !gone->in_curl && !gone->closing);
    while (gone->running) {
        sj_attempt *attempt = gone->running;
        sj_attempt_cancel(&attempt);
    }
    gone->closing = true;
    // From on_end: the pump closes when it is through.
    if (!gone->pumping)
        sj_upstream_pump(gone);
}
