// SPDX-License-Identifier: Apache-2.0
//
// The programs of bpf/, loaded into the kernel, and their sums. dsmstat_bpf.c alone knows libbpf.
//
// One process loads them. From then on its forked child may attach, and both may read: the kernel's objects belong to
// descriptors, and are gone when the last process that has these is.
#ifndef TOOLS_DSMSTAT_BPF_H
#define TOOLS_DSMSTAT_BPF_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "bpf/dsm_events.h"
#include "rpc/failure.h"

struct seen; // NOLINT(readability-identifier-naming)

struct seen_wish {
    uint32_t wanted; // SEEN_HIST, ...
    pid_t pid;       // 0: all processes
};

// What this kernel or this process lacks, in a sentence: 0, -EPERM (rights), or -EOPNOTSUPP (the kernel).
int seen_possible(struct failure *failure);
int seen_load(const struct seen_wish *wish, struct seen **seen, struct failure *failure);
void seen_unload(struct seen **seen);

// Whoever attaches must live on: what it attached is detached when it ends.
int seen_attach_kernel(struct seen *seen, struct failure *failure);
// All probes that are wanted, in the file that `path` names. 0 with a number for seen_detach_file, -ENOSPC, or
// another -errno with a sentence.
int seen_attach_file(struct seen *seen, const char *path, unsigned *number,
                     struct failure *failure);
void seen_detach_file(struct seen *seen, unsigned number);
enum { SEEN_FILES = 64 };

uint64_t seen_lost(const struct seen *seen, unsigned what); // SEEN_LOST_KEYS, ...

// Each entry of a map, in no order; those that are added meanwhile may be missed, none comes twice. 0, or what
// `each` returned, which ends it, or -errno.
typedef int seen_visit(void *context, const struct seen_key *key, const void *value);
int seen_each_counts(const struct seen *seen, seen_visit *each, void *context);
int seen_each_hist(const struct seen *seen, seen_visit *each, void *context);
int seen_each_why(const struct seen *seen, seen_visit *each, void *context);
// Begins another slot of time; the cells of those before it, which are removed.
typedef int seen_visit_cell(void *context, const struct seen_cell *cell,
                            const struct seen_heat *heat);
int seen_take_heat(struct seen *seen, seen_visit_cell *each, void *context);
// Events that have come since the last time, in order.
typedef int seen_visit_event(void *context, const struct seen_event *event);
int seen_take_events(struct seen *seen, seen_visit_event *each, void *context);

#endif
