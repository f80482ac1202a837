// SPDX-License-Identifier: Apache-2.0
//
// How long things took: a histogram with buckets of 1/8 of a power of two. Added to from any thread and from the fault's
// handler, without locks. The layout of the buckets is public (dsm_latency in dsm.h) and is read by dsmstat.
#ifndef RPC_LATENCY_H
#define RPC_LATENCY_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LATENCY_SPLIT = 8,        // buckets for each power of two
    LATENCY_FIRST_POWER = 10, // below 2^10 ns (1 us) is one bucket
    LATENCY_LAST_POWER = 34,  // from 2^34 ns (17 s) on is one
    LATENCY_BUCKETS = (LATENCY_LAST_POWER - LATENCY_FIRST_POWER) * LATENCY_SPLIT + 2,
};

struct latency {
    _Atomic uint64_t total_ns;
    _Atomic uint64_t buckets[LATENCY_BUCKETS];
};

void latency_add(struct latency *latency, int64_t ns); // less than 0 is 0
size_t latency_bucket_of(uint64_t ns);
// Bucket's range is [from, from of the next); the last one has no end.
uint64_t latency_bucket_from(size_t bucket);
uint64_t latency_count(const uint64_t buckets[LATENCY_BUCKETS]);
// The time within which `percent` of 100 (more than 0, at most 100) were done, by nearest rank: the middle of the bucket where
// that one lies, so at most 1/16 away from it between 2^10 and 2^34 ns. 0 when there are none.
uint64_t latency_percentile(const uint64_t buckets[LATENCY_BUCKETS], double percent);

#endif
