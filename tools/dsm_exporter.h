// SPDX-License-Identifier: Apache-2.0
//
// What the files of dsm_exporter share: groups of processes, and what has been counted of each.
#ifndef TOOLS_DSM_EXPORTER_H
#define TOOLS_DSM_EXPORTER_H

#include "metrics/text.h"
#include "tools/dsmstat.h"

enum { EXPORTER_NAME_BYTES = 64 };

struct exporter_group { // processes of one program and one user; or one process
    struct exporter_group *next;
    char program[EXPORTER_NAME_BYTES], user_name[EXPORTER_NAME_BYTES];
    uid_t user;
    pid_t pid; // 0 unless of one process
    uint64_t processes, sessions, cache_bytes;
    uint64_t ended_ns; // when it was last seen without a process; 0: it has some
    uint64_t counters[STAT_COUNTERS];
    uint64_t fault_ns;
    uint64_t faults[LATENCY_BUCKETS];
};

struct exporter_groups {
    struct exporter_group *first;
    size_t count, limit;
    bool by_process;
};

// Adds what the sample's clients have done since the sample before. first: of those who are there already, nothing that they
// did before counts.
void exporter_count(struct exporter_groups *groups, const struct stat_sample *sample, bool first);
void exporter_groups_end(struct exporter_groups *groups);

// ---- what is said (dsm_exporter_text.c) ----

struct exporter_facts {
    bool sees_all;
    uint64_t looks;
    double look_seconds;
};
void exporter_say(struct metrics_text *text, const struct exporter_groups *groups,
                  const struct exporter_facts *facts);
void exporter_list(FILE *to); // "NAME TYPE LABELS MEANING", with tabs between them

#endif
