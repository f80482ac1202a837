// SPDX-License-Identifier: Apache-2.0
//
// A small HTTP server with one page, /metrics, for Prometheus. One thread, a fixed number of descriptors, bounded memory and
// bounded time for each connection, whatever strangers do.
#ifndef METRICS_HTTP_H
#define METRICS_HTTP_H

#include "metrics/text.h"
#include "rpc/failure.h"

struct metrics_http;

struct metrics_http_options { // borrowed; outlive the server
    const char *address;      // [HOST:]PORT, [IPV6]:PORT; a port alone is on 127.0.0.1; 0: any port
    const char *prefix;       // of the names of its own metrics: "dsmd"
    // Adds the families. On the server's thread, at most ten times a second.
    void (*render)(void *context, struct metrics_text *text);
    void *context;
};

// Whether an address is one that could be listened on; nothing is bound. -EINVAL with a sentence.
int metrics_http_check(const char *address, struct failure *failure);
// Binds and listens; connections wait. -EADDRINUSE, -EINVAL, ..., each with a sentence.
int metrics_http_create(const struct metrics_http_options *options, struct metrics_http **http,
                        struct failure *failure);
int metrics_http_start(struct metrics_http *http, struct failure *failure); // its thread
// As it is bound, "127.0.0.1:7413"; local: only this machine reaches it.
const char *metrics_http_address(const struct metrics_http *http, bool *local);
void metrics_http_destroy(struct metrics_http **http); // stops it first

#endif
