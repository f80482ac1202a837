// SPDX-License-Identifier: Apache-2.0
//
// A program of a simulated run that uses the library as programs do: dsm_open(), a segment, loads and stores that trap,
// dsm_clean() and its kin, from several threads.
#ifndef TESTS_SIMULATOR_PROGRAM_H
#define TESTS_SIMULATOR_PROGRAM_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/simulator/oracle.h"

enum { PROGRAM_WRITER = 1, PROGRAM_THREADS = 3 };
extern const char program_segment[]; // its name

struct program_plan {
    uint64_t pages;
    unsigned operations; // of each thread
    bool may_lose_store; // its server's store may be replaced under it
};
struct program_totals {
    uint64_t operations, faults_timed_out, fenced, lost;
};
extern struct program_totals program_totals;

// Starts it; `*running` is 0 once it is through.
void program_start(const struct program_plan *plan, _Atomic uint32_t *running);
// Once it is through and the network whole: everything is cleaned, looked at once more and closed.
void program_finish(void);
struct oracle *program_oracle(void);         // NULL: the segment is not made yet
const struct session *program_session(void); // NULL likewise

#endif
