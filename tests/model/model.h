// SPDX-License-Identifier: Apache-2.0
//
// The model of a segment that vm_model holds the library against: what loads may find and what dsm_page_state() may say,
// while several threads work on the same pages.
#ifndef TESTS_MODEL_MODEL_H
#define TESTS_MODEL_MODEL_H

#include <dsm/dsm.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MODEL_PAGES_MOST = 256,
    MODEL_SLOTS = 16,   // words of a page that are stored into, each by one thread
    MODEL_COUNTERS = 2, // and those that all add to
    MODEL_THREADS_MOST = 64,
};

struct model_options {
    uint64_t seed, operations;
    uint32_t threads;
    bool exact;  // one thread, everything must be as the model says after each operation
    bool states; // mostly what dsm_page_state() says
    uint32_t page_bytes, pages, cache_pages;
};

extern struct model_options model_options;
extern dsm *model_session;
extern dsm_segment *model_segment;

// Says what is wrong and how to see it again, and ends the process.
void model_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4), noreturn));
#define MODEL_CHECK(condition, ...)                                                                \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            model_fail(__FILE__, __LINE__, __VA_ARGS__);                                           \
        }                                                                                          \
    } while (0)
#define MODEL_OK(call) model_result(__FILE__, __LINE__, #call, (call), 0)
void model_result(const char *file, int line, const char *what, int result, int expected);
uint64_t model_random(uint64_t *state);                   // not zero
uint64_t model_below(uint64_t *state, uint64_t end);      // 0 <= x < end
_Atomic uint64_t *model_at(uint64_t page, uint32_t slot); // MODEL_SLOTS ...: the counters

// ---- touches of the segment: the only ones ----
// False: refused; this program's handler of SIGSEGV was told, with the address.
bool model_try_load(uint64_t page, uint32_t slot, uint64_t *found);
bool model_try_store(uint64_t page, uint32_t slot, uint64_t value);
bool model_try_add(uint64_t page, uint32_t slot, uint64_t *found); // 1; what was there before
uint64_t model_load(uint64_t page, uint32_t slot);                 // that may not be refused
void model_catch(void);                // the handler, before a session is opened
extern _Atomic uint64_t model_refused; // touches

// ---- a register of a few values, written by operations that take time ----
// A value read between `floor` and now is right when a write of it may be the last that took place by then: it
// began before now, and no other write began after its end and ended before floor was taken.
struct model_register {
    _Atomic uint64_t floor; // the latest begin of a write that is over
    _Atomic uint32_t writing[4];
    _Atomic uint64_t ended[4]; // the latest end of a write of this value
};
void model_register_set(struct model_register *r, unsigned value);        // before all threads
uint64_t model_register_begin(struct model_register *r, unsigned values); // a mask: one of these
// written: what of them it may have become; 0: nothing was written.
void model_register_end(struct model_register *r, unsigned values, unsigned written,
                        uint64_t begun);
uint64_t model_register_floor(const struct model_register *r);
bool model_register_may_be(const struct model_register *r, unsigned value, uint64_t floor);

// ---- pages ----
struct model_word {
    _Atomic uint64_t begun, done; // its owner's last store: when it began
    _Atomic uint64_t dead;        // stores begun until then were killed
};
struct model_page {
    struct model_register data;  // enum dsm_data
    struct model_register dirty; // 0, 1
    struct model_register read_only;
    _Atomic bool unsent; // marked while it had no contents: its zeros may never go to the server
    struct model_word words[MODEL_SLOTS];
    _Atomic uint64_t adds_begun[MODEL_COUNTERS], adds_done[MODEL_COUNTERS];
    _Atomic uint32_t killing;
    _Atomic uint64_t kill_ended;
    _Atomic uint64_t pins_begun, pins_done, unpins_begun, unpins_done;
};
extern struct model_page model_pages[MODEL_PAGES_MOST];

void model_reset(void);
uint64_t model_now(void);             // ticks at each question
bool model_may_kill(uint64_t page);   // else it has counters
bool model_may_vanish(uint64_t page); // at times it has no backing, and is not there

void model_checked_load(uint64_t page, uint32_t slot);
bool model_checked_store(uint64_t page, uint32_t slot); // by the word's owner only; false: refused
bool model_checked_add(uint64_t page, uint32_t slot);
struct model_own { // what the calling thread knows for certain
    uint32_t pins;
    bool dirty_while_pinned;
};
void model_checked_state(uint64_t page, const struct model_own *own);
// False: a page was read-only, or had no backing.
bool model_checked_swap_in(dsm_interval interval, unsigned flags, uint64_t next_page);
void model_checked_unpin(dsm_interval interval);
void model_checked_clean(dsm_interval interval);
void model_checked_age(dsm_interval interval);
void model_checked_set_data(dsm_interval interval, enum dsm_data data);
void model_checked_protect(dsm_interval interval, bool read_only);

// ---- what these share ----
struct model_call {                  // of one page, by one call
    unsigned data, dirty, read_only; // what it may write
    uint64_t data_begun, dirty_begun, read_only_begun;
    uint64_t data_floor, read_only_floor; // what it may find
    uint64_t done[MODEL_SLOTS];           // stores that are over: a kill takes them
    uint64_t pins, held;                  // begun, and over: undone only by unpins that are begun
    bool pinned;
};
void model_call_begin(const struct model_page *page, struct model_call *call);
void model_kill_begin(struct model_page *page, struct model_call *call);
void model_kill_end(struct model_page *page, const struct model_call *call, bool sure);
bool model_may_be_pinned(const struct model_page *page);
bool model_had_none(const struct model_page *page, const struct model_call *call); // no backing
extern _Atomic uint64_t model_failed_calls; // swap-ins that ended at a page
extern _Atomic uint64_t model_given_up;     // pages

// ---- the two ways to run it ----
void model_run_overlapping(void);
void model_run_exact(void);

#endif
