// SPDX-License-Identifier: Apache-2.0
//
// The kernel counts under numbers; here they become names. Processes and servers are named by the statistics page, and so are
// segments, as long as they are open. So whoever looks remembers what it saw, for programs that have closed a segment, or have
// ended, when their sums are shown.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/dsmstat_watch.h"

enum { MOST_SEGMENTS = 16384 }; // remembered

struct watch_segment {
    pid_t pid;
    struct stat_segment facts;
};
struct learning {
    struct watch *watch;
    pid_t pid;
};

static struct watch_segment *find(const struct watch *watch, pid_t pid, uint32_t number)
{
    for (size_t i = 0; i < watch->segment_count; i++) {
        struct watch_segment *segment = &watch->segments[i];
        if (segment->pid == pid && segment->facts.number == number) {
            return segment;
        }
    }
    return NULL;
}

static void learn(void *context, const struct stat_segment *facts)
{
    const struct learning *learning = context;
    struct watch *watch = learning->watch;
    struct watch_segment *segment = find(watch, learning->pid, facts->number);
    if (segment == NULL && watch->segment_count < MOST_SEGMENTS) {
        struct watch_segment *more =
            reallocarray(watch->segments, watch->segment_count + 1, sizeof *more);
        if (more != NULL) {
            watch->segments = more;
            segment = &more[watch->segment_count++];
        }
    }
    if (segment != NULL) {
        *segment = (struct watch_segment){.pid = learning->pid, .facts = *facts};
    }
}

void watch_learn(struct watch *watch)
{
    for (struct stat_client *client = watch->clients; client != NULL; client = client->next) {
        struct learning learning = {.watch = watch, .pid = client->pid};
        stat_client_segments(client, learn, &learning);
        stat_client_read(client);
    }
}

static const struct stat_client *client_of(const struct watch *watch, pid_t pid)
{
    const struct stat_client *client = watch->clients;
    while (client != NULL && client->pid != pid) {
        client = client->next;
    }
    return client;
}

void watch_name(const struct watch *watch, const struct seen_key *key, struct watch_name *name)
{
    const struct stat_client *client = client_of(watch, (pid_t)key->process);
    const struct watch_segment *segment = find(watch, (pid_t)key->process, key->segment);
    *name = (struct watch_name){.program = "?"};
    (void)snprintf(name->segment, sizeof name->segment, "#%u", key->segment);
    (void)snprintf(name->server, sizeof name->server, "%u", key->store);
    if (segment != NULL) {
        memcpy(name->segment, segment->facts.name, sizeof name->segment);
        name->pages = segment->facts.pages;
        name->page_bytes = segment->facts.page_bytes;
    }
    if (client != NULL) {
        memcpy(name->program, client->program, sizeof name->program);
        if (key->store == 0) {
            memcpy(name->server, client->server, sizeof name->server);
        }
    }
}

bool watch_shows(const struct watch *watch, const struct seen_key *key)
{
    const struct stat_options *options = watch->options;
    struct watch_name name;
    char numbers[2][16];
    watch_name(watch, key, &name);
    (void)snprintf(numbers[0], sizeof numbers[0], "#%u", key->segment);
    (void)snprintf(numbers[1], sizeof numbers[1], "%u", key->store);
    return (options->pid == 0 || (pid_t)key->process == options->pid) &&
           (options->segment == NULL || strcmp(options->segment, name.segment) == 0 ||
            strcmp(options->segment, numbers[0]) == 0) &&
           (options->server == NULL || strcmp(options->server, name.server) == 0 ||
            strcmp(options->server, numbers[1]) == 0);
}

bool watch_comes_again(const struct watch *watch)
{
    uint64_t pages = 0, reads = 0, victims = 0;
    for (const struct stat_client *client = watch->clients; client != NULL; client = client->next) {
        if (watch->options->pid != 0 && client->pid != watch->options->pid) {
            continue;
        }
        reads += client->now[STAT_COUNTER_swap_in_reads];
        victims += client->now[STAT_COUNTER_victims];
    }
    for (size_t i = 0; i < watch->segment_count; i++) {
        pages += watch->segments[i].facts.pages;
    }
    return pages > 0 && victims > 0 && reads > pages;
}
