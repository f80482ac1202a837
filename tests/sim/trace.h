// SPDX-License-Identifier: Apache-2.0
//
// Page traces: which pages a program touches, in order, as small numbers. Made by a rule, or recorded from a program
// (record.c) into a file: "dsm-trace 1\n", then count and pages, then count numbers below pages; all 32 bits, of this
// machine's order.
#ifndef TESTS_SIM_TRACE_H
#define TESTS_SIM_TRACE_H

#include <stddef.h>
#include <stdint.h>

#define TRACE_MAGIC "dsm-trace 1\n"

struct trace {
    uint32_t *page;
    uint32_t count; // of touches
    uint32_t pages; // numbers are below this
};

// The rules: sequential, loop, zipf, scan, phases. cache: frames that it will be played with (a loop is a little larger, a hot
// set a little smaller). 0, or -EINVAL for another name, or -ENOMEM.
int trace_make(struct trace *trace, const char *rule, uint32_t cache);
int trace_load(struct trace *trace, const char *path); // 0 or -errno; -EBADMSG: it is no trace
void trace_free(struct trace *trace);

#endif
