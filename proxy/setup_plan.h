// From a setup to what a journey is told: the same for a live exchange and for a test that plays a configuration in virtual time. No sockets.
#ifndef SJ_SETUP_PLAN_H
#define SJ_SETUP_PLAN_H

#include "setup.h"

// One hop of a route for a request of that model; its target is made if need be (NULL: out of memory). Who asks and with what body is not known
// here: credential and rewrites_model are the caller's to set.
sj_hop sj_setup_hop(sj_setup *setup, const sj_route_config *route, size_t hop, sj_slice model, bool stream,
                    int64_t now_ms);

// The rules of an upstream's slots and queue.
sj_admission_rules sj_setup_admission_rules(const sj_upstream_config *upstream);

// What the configuration says of an exchange on that route that begins now; the rest is the caller's.
sj_plan sj_setup_plan(const sj_setup *setup, const sj_route_config *route, int64_t now_ms);

#endif
