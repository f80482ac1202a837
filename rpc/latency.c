// SPDX-License-Identifier: Apache-2.0
//
// Why a log-linear histogram: a fault takes 10 us on a fast wire and seconds when a server is away, and what matters is the
// tail. Buckets that grow with the value keep the relative error the same everywhere (half a bucket of 1/8 of a power of two:
// 1/16) in 1.5 KiB, whatever the number of faults; adding is a shift and two relaxed additions, with no loop and no lock, so
// that it may be done in the handler. Histograms can be added and subtracted: dsmstat shows those of an interval, and the
// sum of all programs.
//
// Rejected: keeping samples (unbounded, or a lottery), and an average (which says nothing of the one fault in a thousand
// that a program's users notice).
//
// Readers copy bucket by bucket while others add: a percentile may miss what was added meanwhile, no more.
#include "rpc/latency.h"

size_t latency_bucket_of(uint64_t ns)
{
    if (ns < (UINT64_C(1) << LATENCY_FIRST_POWER)) {
        return 0;
    }
    if (ns >= (UINT64_C(1) << LATENCY_LAST_POWER)) {
        return LATENCY_BUCKETS - 1;
    }
    unsigned power = 63U - (unsigned)__builtin_clzll(ns);
    uint64_t within = (ns - (UINT64_C(1) << power)) * LATENCY_SPLIT >> power;
    return 1 + (power - LATENCY_FIRST_POWER) * (size_t)LATENCY_SPLIT + (size_t)within;
}

uint64_t latency_bucket_from(size_t bucket)
{
    if (bucket == 0) {
        return 0;
    }
    size_t power = LATENCY_FIRST_POWER + (bucket - 1) / LATENCY_SPLIT;
    uint64_t parts = LATENCY_SPLIT + (bucket - 1) % LATENCY_SPLIT;
    return (parts << power) / LATENCY_SPLIT;
}

void latency_add(struct latency *latency, int64_t ns)
{
    uint64_t took = ns > 0 ? (uint64_t)ns : 0;
    (void)atomic_fetch_add_explicit(&latency->buckets[latency_bucket_of(took)], 1,
                                    memory_order_relaxed);
    (void)atomic_fetch_add_explicit(&latency->total_ns, took, memory_order_relaxed);
}

uint64_t latency_count(const uint64_t buckets[LATENCY_BUCKETS])
{
    uint64_t count = 0;
    for (size_t i = 0; i < LATENCY_BUCKETS; i++) {
        count += buckets[i];
    }
    return count;
}

// ceil(percent / 100 * count) without libm, and never 0.
static uint64_t rank_of(double percent, uint64_t count)
{
    double exact = percent / 100.0 * (double)count;
    uint64_t rank = exact >= (double)count ? count : (exact > 0 ? (uint64_t)exact : 0);
    rank += (double)rank < exact ? 1 : 0;
    return rank < 1 ? 1 : (rank > count ? count : rank);
}

uint64_t latency_percentile(const uint64_t buckets[LATENCY_BUCKETS], double percent)
{
    uint64_t count = latency_count(buckets);
    if (count == 0) {
        return 0;
    }
    uint64_t left = rank_of(percent, count);
    size_t i = 0;
    while (i < LATENCY_BUCKETS - 1 && left > buckets[i]) {
        left -= buckets[i++];
    }
    uint64_t from = latency_bucket_from(i);
    return i == LATENCY_BUCKETS - 1 ? from : from + (latency_bucket_from(i + 1) - from) / 2;
}
