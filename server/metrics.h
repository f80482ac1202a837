// SPDX-License-Identifier: Apache-2.0
//
// What dsmd says to Prometheus: /metrics, on a port of its own, for anybody who can reach that.
#ifndef SERVER_METRICS_H
#define SERVER_METRICS_H

#include "metrics/http.h"
#include "rpc/spin.h"
#include "server/listener.h"

struct metrics;

struct metrics_options { // all borrowed; outlive it
    const char *address; // as metrics/http.h has it
    const char *name, *cluster;
    struct service *service;
    struct store *store;
    struct listener *listener;
    const struct spin_share *spinning;
    struct log *log;
};

// Binds and starts a thread. Negative errno with a sentence.
int metrics_create(const struct metrics_options *options, struct metrics **metrics,
                   struct failure *failure);
void metrics_reloaded(struct metrics *metrics, bool well); // main thread; NULL: nothing
void metrics_destroy(struct metrics **metrics);

#endif
