// SPDX-License-Identifier: Apache-2.0
//
// Our own broken invariants end the program on the spot, also in a fault's handler and in every build: going on would put the
// program's data at risk. Errors of the network, memory or keys are never put this way.
#ifndef LIBDSM_SYNC_INVARIANT_H
#define LIBDSM_SYNC_INVARIANT_H

#define INVARIANT(condition)                                                                       \
    ((condition) ? (void)0                                                                         \
                 : invariant_broken("libdsm: " __FILE__ ": broken invariant: " #condition "\n"))

// Writes the text to standard error and raises SIGABRT, by raw system calls.
_Noreturn void invariant_broken(const char *text);

#endif
