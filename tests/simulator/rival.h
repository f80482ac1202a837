// SPDX-License-Identifier: Apache-2.0
//
// A process of a simulated run that uses a session without a pager: it opens segments, reads and writes runs of pages, and
// makes and deletes segments, each step held against what must come of it.
#ifndef TESTS_SIMULATOR_RIVAL_H
#define TESTS_SIMULATOR_RIVAL_H

#include "libdsm/backing/control.h"
#include "tests/simulator/oracle.h"

enum { RIVAL_NAMES = 8, RIVAL_RUN = 16 };

struct rival {
    unsigned number; // as a writer
    struct settings settings;
    struct counters stat;
    struct session session;
    struct held { // a segment that it has open for writing
        struct backing_segment segment;
        struct oracle *oracle;
        bool open;
    } held;
    struct named { // segments that it makes and deletes
        enum { NAME_FREE, NAME_MADE, NAME_UNSURE } state;
    } names[RIVAL_NAMES];
    bool strict; // nothing is lost for long: no operation may fail
    uint64_t operations;
};

struct rival *rival_make(unsigned number);
void rival_end(struct rival *rival);
// Opens for writing and reads all pages, which from then on are its own. 0, or why not (-EBUSY: another has it).
int rival_take(struct rival *rival, const char *name, bool takeover, struct oracle *oracle);
void rival_let_go(struct rival *rival);
// A write of pages, or their discarding, or giving them up and allocating them again. 0 or the error.
int rival_write(struct rival *rival, uint64_t page, uint32_t count);
int rival_discard(struct rival *rival, uint64_t page, uint32_t count);
int rival_renew(struct rival *rival, uint64_t page, uint32_t count);
// 0 when the pages hold what they may.
int rival_check(struct rival *rival, uint64_t page, uint32_t count);
// Makes a segment of the name, or deletes it.
void rival_create(struct rival *rival, unsigned name);
void rival_delete(struct rival *rival, unsigned name);
void rival_name(const struct rival *rival, unsigned name, char to[LIMIT_SEGMENT_NAME_BYTES]);

#endif
