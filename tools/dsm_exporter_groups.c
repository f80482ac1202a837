// SPDX-License-Identifier: Apache-2.0
//
// Groups of processes. Why groups: a process has a pid and lives for a second or a month; a series for each would grow without
// end in the database, and a counter of short-lived processes would never be seen to rise. A group (program and user) goes
// on when its processes end: what they did stays counted, and what the next one does is added.
//
// So a counter here is the sum of what was seen to happen, not the sum of what the processes that live now have done: that
// one would fall when a process ends, and rate() would take the fall for a restart and count everything again. For the same
// reason, what was done before the first look does not count: when the exporter itself is started again, its counters begin
// at 0, which rate() understands.
//
// The names of programs are chosen by their users, so their number is bounded: a user who has used up his share, or who
// comes when all are used up, is counted under program="other". With by_process a group is one process; it is
// forgotten a while after the process has ended, when it has been read for the last time.
//
// Threads: the caller's lock.
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "tools/dsm_exporter.h"

enum { SHARE_OF_USER = 4 }; // one user has at most the limit's 4th part
static const uint64_t forget_ns = UINT64_C(120) * 1000000000; // two scrapes a minute apart

static const char other_name[] = "other";

static void copy_name(char to[EXPORTER_NAME_BYTES], const char *from)
{
    (void)snprintf(to, EXPORTER_NAME_BYTES, "%s", from);
    for (char *at = to; *at != '\0'; at++) {
        *at = (char)(*at < ' ' || *at > '~' ? '?' : *at);
    }
}

static void name_user(struct exporter_group *group)
{
    const struct passwd *known = getpwuid(group->user);
    if (known != NULL) {
        copy_name(group->user_name, known->pw_name);
    } else {
        (void)snprintf(group->user_name, sizeof group->user_name, "%u", group->user);
    }
}

static bool same(const struct exporter_group *group, const struct exporter_group *wanted)
{
    return group->user == wanted->user && group->pid == wanted->pid &&
           strcmp(group->program, wanted->program) == 0;
}

static struct exporter_group *find(const struct exporter_groups *groups,
                                   const struct exporter_group *wanted)
{
    struct exporter_group *group = groups->first;
    while (group != NULL && !same(group, wanted)) {
        group = group->next;
    }
    return group;
}

static bool has_room(const struct exporter_groups *groups, uid_t user)
{
    size_t share = groups->limit / SHARE_OF_USER > 0 ? groups->limit / SHARE_OF_USER : 1;
    size_t used = 0;
    for (const struct exporter_group *group = groups->first; group != NULL; group = group->next) {
        used += group->user == user ? 1 : 0;
    }
    return groups->count < groups->limit && used < share;
}

// At the end, so that the order of series stays. NULL: no memory.
static struct exporter_group *add(struct exporter_groups *groups,
                                  const struct exporter_group *wanted)
{
    struct exporter_group **link = &groups->first;
    struct exporter_group *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return NULL;
    }
    while (*link != NULL) {
        link = &(*link)->next;
    }
    made->user = wanted->user;
    made->pid = wanted->pid;
    copy_name(made->program, wanted->program);
    name_user(made);
    *link = made;
    groups->count++;
    return made;
}

// Those who have no group of their own share one, which is beyond the limit.
static struct exporter_group *others(struct exporter_groups *groups)
{
    struct exporter_group wanted = {.user = (uid_t)-1};
    copy_name(wanted.program, other_name);
    struct exporter_group *group = find(groups, &wanted);
    if (group == NULL && (group = add(groups, &wanted)) != NULL) {
        copy_name(group->user_name, other_name);
        groups->count--;
    }
    return group;
}

static struct exporter_group *group_of(struct exporter_groups *groups,
                                       const struct stat_client *client)
{
    struct exporter_group wanted = {.user = client->user,
                                    .pid = groups->by_process ? client->pid : 0};
    copy_name(wanted.program, client->program);
    struct exporter_group *group = find(groups, &wanted);
    if (group != NULL) {
        return group;
    }
    return has_room(groups, client->user) ? add(groups, &wanted) : others(groups);
}

// A program can write what it likes into its page: what falls has not risen.
static uint64_t rise(uint64_t before, uint64_t now)
{
    return now > before ? now - before : 0;
}

static void count_client(struct exporter_group *group, const struct stat_client *client,
                         bool baseline)
{
    for (size_t i = 0; i < STAT_COUNTERS; i++) {
        if (stat_counters[i].level) {
            group->counters[i] += client->ended ? 0 : client->now[i];
        } else if (!baseline) {
            group->counters[i] += rise(client->before[i], client->now[i]);
        }
    }
    for (size_t i = 0; i < LATENCY_BUCKETS && !baseline; i++) {
        group->faults[i] += rise(client->latency_before.buckets[i], client->latency_now.buckets[i]);
    }
    if (!baseline) {
        group->fault_ns += rise(client->latency_before.total_ns, client->latency_now.total_ns);
    }
    group->processes += client->ended ? 0 : 1;
    group->cache_bytes += client->ended ? 0 : client->cache_bytes;
}

// What is now is summed up anew at each look.
static void begin_look(struct exporter_groups *groups)
{
    for (struct exporter_group *group = groups->first; group != NULL; group = group->next) {
        group->processes = 0;
        group->cache_bytes = 0;
        for (size_t i = 0; i < STAT_COUNTERS; i++) {
            group->counters[i] = stat_counters[i].level ? 0 : group->counters[i];
        }
    }
}

static void end_look(struct exporter_groups *groups, uint64_t now_ns)
{
    struct exporter_group **link = &groups->first;
    while (*link != NULL) {
        struct exporter_group *group = *link;
        if (group->processes > 0) {
            group->ended_ns = 0;
        } else if (group->ended_ns == 0) {
            group->ended_ns = now_ns;
        }
        if (group->pid != 0 && group->ended_ns != 0 && now_ns - group->ended_ns > forget_ns) {
            *link = group->next;
            groups->count--;
            free(group);
        } else {
            link = &group->next;
        }
    }
}

void exporter_count(struct exporter_groups *groups, const struct stat_sample *sample, bool first)
{
    begin_look(groups);
    for (struct stat_client *client = sample->clients; client != NULL; client = client->next) {
        struct exporter_group *group = group_of(groups, client);
        if (group == NULL) {
            continue; // no memory: what it has done is lost
        }
        group->sessions += !first && client->fresh ? 1 : 0;
        count_client(group, client, first);
    }
    end_look(groups, sample->now_ns);
}

void exporter_groups_end(struct exporter_groups *groups)
{
    while (groups->first != NULL) {
        struct exporter_group *group = groups->first;
        groups->first = group->next;
        free(group);
    }
    groups->count = 0;
}
