// SPDX-License-Identifier: Apache-2.0
//
// The run of a swap-in: between swap_in.c, which decides, and the rooms that do.
#ifndef LIBDSM_PAGER_SWAP_RUN_H
#define LIBDSM_PAGER_SWAP_RUN_H

#include "libdsm/pager/pager.h"

enum { DIRECT_REST_PAGES = 16 }; // of a run: more are left to another thread

// (L) One pin of the page, for this call. -ENOMEM: too many are pinned; -EOVERFLOW.
int swap_pin(struct swap *s, struct page_entry *entry);
void swap_undo_pins(struct swap *s); // of the pages before the one in hand
// (L) The page in hand, which is in: zeros, and nothing to write.
void swap_kill(struct swap *s, struct page_entry *entry);
enum trap_access swap_access(const struct swap *s, uint64_t page);
// For a prefetch, with a lane in hand: checks out pages from this one on, until one is in, or not to be had for nothing. How many.
uint32_t swap_check_out(struct swap *s, uint64_t page, int64_t stride, uint32_t most);
void swap_tell_request(const struct swap *s, const struct backing_run *run); // it was sent
// Its answer; the pages that do not come, up to `end`, are given back.
void swap_take_in(struct swap *s, struct backing_run *run, uint64_t end);
// Of all runs under way that are not in yet. no_wait: s->unfinished when it would have to wait.
void swap_take_in_runs(struct swap *s);
// (L) The frames are filled: resident, opened, waiters woken.
void swap_check_in(struct swap *s, uint64_t page, uint64_t count);
void swap_release(struct swap *s); // the lock; wakes who waits for the demanded page
// Not under the lock. The pages did not come; error (or 0) is left for their waiters.
void swap_give_back(struct swap *s, uint64_t page, uint64_t count, int error);
// Pages that were checked out, with the pin of this call, and not worked on; the page in hand, whose victim is still being written.
void swap_unworked(struct swap *s, uint64_t page, uint64_t count, int error);
void swap_unworked_without_frame(struct swap *s, int error);
// (L) A victim that was to be written is in memory as before; it is written, and the page in hand has its memory from it: false
// when it cannot be closed, or does not suffice.
void swap_victim_in(struct victim victim);
bool swap_claim_victim(struct swap *s, struct victim victim);
void swap_fail(struct swap *s, int error, struct segment *segment,
               uint64_t page); // keeps the first
// Sends the run that was built up, makes room while it is on its way, and takes it in. Not under the lock.
void swap_flush(struct swap *s, uint64_t hint);
void swap_let_go(struct swap *s); // of everything, before a wait and at the end

// ---- swap_wait.c: the three things that a swap-in waits for, not under the lock ----
void swap_page_wait(struct swap *s); // the page in hand is on its way for somebody else
void swap_frame_wait(struct swap *s);
void swap_lane_wait(struct swap *s);
void swap_await(struct swap *s, void (*wait)(struct swap *s)); // measures it, too

#endif
