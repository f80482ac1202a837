// SPDX-License-Identifier: Apache-2.0
//
// One lane, one segment, a server that answers as the test decides, a sink that counts. The test plays the keeper.
#ifndef TESTS_UNIT_BACKING_RIG_H
#define TESTS_UNIT_BACKING_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>

#include "libdsm/backing/backing.h"

enum { SEGMENT = 9, EPOCH = 3, FIRST_PAGE = 1000 };

struct backing_rig {
    struct counters stat;
    struct backing backing;
    struct backing_segment segment;
    pthread_t keeper;
    _Atomic uint32_t stopping;
    uint32_t connections;

    // The server.
    uint8_t data[2 * LIMIT_RUN_BYTES]; // pages from FIRST_PAGE on
    int break_at;                      // the request whose answer is a cut; counted down
    unsigned requests;
    uint64_t epoch;         // a lower one is fenced
    unsigned statuses_left; // so many answers have this status
    enum wire_status status;
    uint32_t done;
    bool wrong_place;    // answers claim to be of other pages, and of more
    uint32_t page_bytes; // of the data in answers
    // What the sink got.
    uint8_t frames[2 * LIMIT_RUN_BYTES];
    uint32_t delivered[LIMIT_RUN_PAGES];
    uint32_t deliveries;
    bool placed[LIMIT_RUN_PAGES];
    bool with_address;
    int place_error, fill_error;
    int shut_after; // shut the lane after so many pages were delivered
};

extern struct backing_rig rig;
extern const struct backing_sink sink;

struct backing_lane *start(uint32_t page_bytes); // the lane, taken
void stop(struct backing_lane *lane);
void data_pages(uint64_t zeros, uint32_t count); // on the server; bit i of zeros: page i is zeros
struct backing_run run_of(uint32_t count);
int64_t soon(void);
int read_run(struct backing_lane *lane, struct backing_run *run, int64_t deadline);
void expect_delivered(uint32_t pages, uint32_t count); // once each of the first `pages`, no other

#endif
