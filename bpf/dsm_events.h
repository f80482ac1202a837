/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel's side (dsm.bpf.c) and dsmstat share. Times in ns; LATENCY_ buckets are those of rpc/latency.h. */
#ifndef BPF_DSM_EVENTS_H
#define BPF_DSM_EVENTS_H

enum { SEEN_OUTCOMES = 6, SEEN_SWAP_IN = 9, SEEN_RUNS = 12, SEEN_PARTS = 8, SEEN_CELLS = 256 };
enum { SEEN_BUCKETS = 194, SEEN_SPLIT = 8, SEEN_FIRST_POWER = 10, SEEN_LAST_POWER = 34 };
enum {
    SEEN_HIST = 1,
    SEEN_WHY = 2,
    SEEN_HEAT = 4,
    SEEN_TRACE = 8
}; /* what is wanted beside counting */
enum {
    SEEN_LOST_KEYS,
    SEEN_LOST_CELLS,
    SEEN_LOST_EVENTS,
    SEEN_LOST_PARTS,
    SEEN_LOST_STARTS,
    SEEN_LOSSES
};
enum {
    SEEN_TRAP,
    SEEN_PAGER,
    SEEN_HANDOVER,
    SEEN_WAIT,
    SEEN_WIRE,
    SEEN_SERVER,
    SEEN_CIPHER,
    SEEN_WAKE
};

struct seen_key {
    unsigned int process, segment, store, zero;
};
struct seen_counts {
    unsigned long long traps, run_pages, bytes, outcomes[SEEN_OUTCOMES], swap_in[SEEN_SWAP_IN];
};
struct seen_times {
    unsigned long long total_ns, buckets[SEEN_BUCKETS];
};
struct seen_hist { /* runs: 1, 2, 3-4, 5-8, ... pages */
    struct seen_times fault, wire, wait;
    unsigned long long runs[SEEN_RUNS];
};
struct seen_split { /* of the faults whose whole time lies in one bucket */
    unsigned long long count, whole_ns, ready_ns, parts_ns[SEEN_PARTS];
};
struct seen_why {
    struct seen_split split[SEEN_BUCKETS];
};
struct seen_cell { /* pages [index << shift, (index + 1) << shift) in one slot of time */
    unsigned int process, segment, store, slot, index, shift;
};
struct seen_heat {
    unsigned long long hard, soft;
};
struct
    seen_event { /* kind: 0 a fault, 1 a call of dsm_swap_in, 2 what a fault added after its end */
    unsigned long long ns, page, bytes, total_ns, parts_ns[SEEN_PARTS];
    unsigned int process, thread, segment, store, pages, outcome, kind;
    int error;
};

#endif
