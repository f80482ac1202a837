// SPDX-License-Identifier: Apache-2.0
//
// How many pages should get memory together when one of them is touched for the first time and none of them has contents. Page
// numbers in, page numbers out: no I/O, no locks (the pager's lock is held).
//
// Only a walk forward is known, by the page with which it would go on. It gets twice as many as the last time: so no more
// pages get memory for nothing than were touched. A touch anywhere else begins a walk, of one page. Reads have a policy
// of their own (read_ahead.h), with which these walks have nothing to do: a page without contents among others must not
// break off the window that is being fetched.
#ifndef LIBDSM_POLICY_FIRST_TOUCH_H
#define LIBDSM_POLICY_FIRST_TOUCH_H

#include <stdint.h>

enum { FIRST_TOUCH_WALKS = 16 };

struct first_touch { // all zero: no walk
    struct {
        uint64_t next;
        uint32_t count;         // pages that it got at last; 0: no walk
    } walks[FIRST_TOUCH_WALKS]; // the last one that went on is the first here
};

// Pages from this one on, 1 to `most`.
uint32_t first_touch(struct first_touch *f, uint64_t page, uint32_t most);
// So many got memory, 1 at least: right after that.
void first_touch_got(struct first_touch *f, uint64_t page, uint32_t count);

#endif
