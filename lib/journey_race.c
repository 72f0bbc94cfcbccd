#include "journey_internal.h"

// Late first token (BEHAVIOUR 10): a silent target is not waited for to the end while another could answer. Tail at Scale, with the budget paid.

int64_t journey_race_due(const sj_journey *j, size_t hop, int64_t now) {
    int64_t after = journey_hop(j, hop)->race_after_ms;
    bool allowed = after > 0 && journey_moves(j) && j->plan.replayable && !j->plan.client_retrying &&
                   !journey_others_run(j) && !j->mend;
    return allowed ? now + after : INT64_MAX;
}

bool journey_others_run(const sj_journey *j) {
    for (int i = 0; i < MAX_RUNNING; i++)
        if (j->running[i].id)
            return true;
    return false;
}

bool journey_is_racing(const sj_journey *j) {
    int running = 0;
    for (int i = 0; i < MAX_RUNNING; i++)
        running += j->running[i].id != 0;
    return running > 1;
}

void journey_drop_others(sj_journey *j, const attempt_state *winner, int64_t now, sj_steps *out) {
    for (int i = 0; i < MAX_RUNNING; i++)
        if (j->running[i].id && &j->running[i] != winner)
            journey_drop_attempt(j, &j->running[i], "lost_race", now, out);
}

// A target that is always slow is given twice its own p95.
static int64_t patience_ms(const sj_journey *j, size_t hop, int64_t now) {
    sj_target_stats stats = sj_target_read(journey_hop(j, hop)->target, now);
    int64_t p95 = j->plan.stream ? stats.p95_first_content_ms : stats.p95_whole_ms;
    int64_t after = journey_hop(j, hop)->race_after_ms;
    return p95 >= 0 && 2 * p95 > after ? 2 * p95 : after;
}

static bool may_race(const sj_journey *j, size_t silent, size_t hop, int64_t now) {
    const sj_hop *from = journey_hop(j, silent), *to = journey_hop(j, hop);
    int64_t at;
    return journey_is_candidate(j, hop) && (from->race_other_model || from->model == to->model) &&
           sj_target_would_admit(to->target, journey_credential(j, hop, now), now, &at) == SJ_ADMIT_YES;
}

static bool start_beside(sj_journey *j, size_t hop, int64_t now, sj_steps *out) {
    sj_admission *admission = sj_target_admission(journey_hop(j, hop)->target);
    if (!sj_admission_try(admission, &j->plan.waiter, now)) // a race never queues
        return false;
    sj_permit permit;
    int64_t at;
    bool paid = sj_target_charge(journey_hop(j, hop)->target, false, now, &j->next_charge);
    if (!paid)
        (void)journey_note(out, SJ_NOTE_BUDGET_REFUSED, hop, "race");
    j->next_hop = hop;
    if (paid && journey_admit(j, hop, &permit, &at, now, out) == SJ_ADMIT_YES) {
        journey_start(j, hop, &permit, now, out);
        journey_running(j, j->last_attempt_id)->beside = true;
        return true;
    }
    journey_forget_next(j);
    journey_release_unused(j, hop, now, out);
    return false;
}

void journey_race(sj_journey *j, attempt_state *silent, int64_t now, sj_steps *out) {
    int64_t due = silent->started_ms + patience_ms(j, silent->hop, now);
    silent->race_ms = due > now ? due : INT64_MAX; // one race at most
    if (due > now || journey_is_racing(j))
        return;
    size_t from = silent->hop;
    for (size_t hop = from + 1; hop < j->plan.hop_count; hop++)
        if (may_race(j, from, hop, now) && start_beside(j, hop, now, out)) {
            journey_note(out, SJ_NOTE_RACE, hop, "silent")->ms = now - silent->started_ms;
            return;
        }
}
