// SPDX-License-Identifier: Apache-2.0
//
// Arrays in segments (or, to compare, in plain memory), for programs that want some and then a closing table: a session with a bounded cache, segments
// that are deleted at the end, and the end itself. With hints, a program says what it knows of its next touches: to the library, or, of
// plain memory, to the kernel, in words that come to the same.
#ifndef TESTS_PROGRAMS_WORKLOAD_H
#define TESTS_PROGRAMS_WORKLOAD_H

#include "tests/programs/report.h"

enum { WORKLOAD_ARRAYS = 12 };

struct workload {
    struct report report; // .program, .json and .cache_bytes are the caller's
    bool hints;           // the caller's: workload_overwritten() and workload_passed() count
    dsm *session;
    uint32_t count;
    struct workload_array {
        dsm_segment *segment; // NULL: plain memory
        void *memory;
        uint64_t bytes;
        char name[128];
    } arrays[WORKLOAD_ARRAYS];
    double started;
    double begun; // of a part
    dsm_statistics before;
};

// 0, or an exit code; errors are said. A cache below the least for `threads` is made that large.
int workload_open(struct workload *workload, unsigned threads);
// NULL: said. The contents are zeros.
void *workload_array(struct workload *workload, const char *part, uint64_t bytes);
// The part that the program is about: its time and what is counted meanwhile, several such parts together.
void workload_begin(struct workload *workload);
double workload_end(struct workload *workload); // seconds since workload_begin()
// Hints, of bytes [from, end) of an array; they do nothing where `hints` is not set. Overwritten: every one of these bytes is stored
// next, before any is loaded; they are zeros until then. Passed: not touched again soon.
void workload_overwritten(struct workload *workload, void *array, uint64_t from, uint64_t end);
void workload_passed(struct workload *workload, void *array, uint64_t from, uint64_t end);
// The segment of an array; NULL when it is none.
dsm_segment *workload_segment(const struct workload *workload, const void *array);
// Takes everything away. Returns the exit code: the given one, or that of what went wrong here. Prints the closing table, which ends
// in "verified", only when all is well (and not when quiet).
int workload_close(struct workload *workload, int code, bool quiet);

#endif
