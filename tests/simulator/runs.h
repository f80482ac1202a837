// SPDX-License-Identifier: Apache-2.0
//
// The three kinds of simulated runs, and what they add up to.
#ifndef TESTS_SIMULATOR_RUNS_H
#define TESTS_SIMULATOR_RUNS_H

#include <stdint.h>

struct run_totals {
    uint64_t seconds; // of virtual time
    uint64_t operations, faults_timed_out, fenced, lost;
    uint64_t messages, cut, unanswered, late, spoiled, repeated, connections, no_memory;
    uint64_t refused_late; // writes of a former owner
};
extern struct run_totals run_totals;
extern uint64_t run_amount; // operations, or rounds

void run_weather(void);      // a program and its rivals, under every kind of fault
void run_exactly_once(void); // answers dropped and doubled, 10 % each; run_amount operations
void run_late_writers(void); // run_amount rounds of a paused writer, a take-over, a late wake-up

#endif
