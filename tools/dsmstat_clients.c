// SPDX-License-Identifier: Apache-2.0
//
// All clients that may be seen, sample after sample. Each sample looks through /proc anew, so processes come and go as they
// like. One is known by pid and page together: a pid that is used again, or a session that is closed and opened again, is a new
// client. One whose page is gone from /proc has ended; it is in the sample once more, with the numbers that it ended with,
// since the page outlives it in our hands.
//
// Processes that may not be looked at are passed over: to everybody but root, other users do not exist.
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/dsmstat.h"
#include "tools/tool_text.h"

uint64_t stat_now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void drop_ended(struct stat_sample *sample)
{
    struct stat_client **link = &sample->clients;
    while (*link != NULL) {
        struct stat_client *client = *link;
        client->seen = false;
        client->fresh = false;
        if (client->ended) {
            *link = client->next;
            stat_client_destroy(&client);
        } else {
            link = &client->next;
        }
    }
}

// Takes the client over: it is a new one, or known already.
static void meet(struct stat_sample *sample, struct stat_client *client)
{
    struct stat_client **link = &sample->clients;
    while (*link != NULL && (*link)->pid < client->pid) {
        link = &(*link)->next;
    }
    for (struct stat_client *known = *link; known != NULL && known->pid == client->pid;
         known = known->next) {
        if (known->device == client->device && known->inode == client->inode) {
            known->seen = true;
            stat_client_destroy(&client);
            return;
        }
    }
    client->seen = true;
    client->fresh = true;
    client->next = *link;
    *link = client;
}

static int look_everywhere(struct stat_sample *sample, struct failure *failure)
{
    DIR *proc = opendir("/proc");
    if (proc == NULL) {
        return failure_set(failure, -errno, "/proc cannot be read: %s.", strerror(errno));
    }
    const struct dirent *entry;
    while ((entry = readdir(proc)) != NULL) {
        struct stat_client *client = NULL;
        if (isdigit((unsigned char)entry->d_name[0]) != 0 &&
            stat_client_find((pid_t)strtol(entry->d_name, NULL, 10), &client) == 0) {
            meet(sample, client);
        }
    }
    (void)closedir(proc);
    return 0;
}

static int look_at(struct stat_sample *sample, pid_t pid, struct failure *failure)
{
    struct stat_client *client = NULL;
    int error = stat_client_find(pid, &client);
    switch (error) {
    case 0:
        if (sample->now_ns != 0 &&
            (sample->clients == NULL || sample->clients->inode != client->inode)) {
            stat_client_destroy(&client); // another program, or another session of it
            return 0;
        }
        meet(sample, client);
        return 0;
    case -ESRCH:
        return failure_set(failure, error, "There is no process %ld.", (long)pid);
    case -EACCES:
    case -EPERM:
        return failure_set(failure, error,
                           "Process %ld is another user's: only that user and root see its "
                           "counters.",
                           (long)pid);
    default:
        return failure_set(failure, error, "Process %ld has no session open, or has DSM_STAT=off.",
                           (long)pid);
    }
}

int stat_sample_take(struct stat_sample *sample, pid_t pid, struct failure *failure)
{
    bool first = sample->now_ns == 0;
    drop_ended(sample);
    int error = pid != 0 ? look_at(sample, pid, failure) : look_everywhere(sample, failure);
    if (error != 0 && (first || sample->clients == NULL)) {
        return error;
    }
    uint64_t now = stat_now_ns();
    for (struct stat_client *client = sample->clients; client != NULL; client = client->next) {
        client->ended = !client->seen;
        stat_client_read(client);
    }
    sample->interval_s = first ? 0 : (double)(now - sample->now_ns) / 1e9;
    sample->now_ns = now;
    sample->time_s = tool_wall_clock();
    return 0;
}

void stat_sample_end(struct stat_sample *sample)
{
    while (sample->clients != NULL) {
        struct stat_client *client = sample->clients;
        sample->clients = client->next;
        stat_client_destroy(&client);
    }
}
