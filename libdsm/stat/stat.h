// SPDX-License-Identifier: Apache-2.0
//
// The counters, each declared once in dsm/counters.def. Added to from any thread and from the fault's handler, without locks.
#ifndef LIBDSM_STAT_STAT_H
#define LIBDSM_STAT_STAT_H

#include <stdatomic.h>
#include <stdint.h>

struct counters {
#define DSM_COUNTER(name, ...) _Atomic uint64_t name;
#include <dsm/counters.def>
#undef DSM_COUNTER
};

#define STAT_ADD(stat, name, n)                                                                    \
    ((void)atomic_fetch_add_explicit(&(stat)->name, (uint64_t)(n), memory_order_relaxed))
#define STAT_GET(stat, name) atomic_load_explicit(&(stat)->name, memory_order_relaxed)
#define STAT_SET(stat, name, n)                                                                    \
    atomic_store_explicit(&(stat)->name, (uint64_t)(n), memory_order_relaxed)

#endif
