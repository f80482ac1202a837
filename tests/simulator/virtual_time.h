// SPDX-License-Identifier: Apache-2.0
//
// Threads and time that a seed decides. Every thread of the product becomes a fiber of one real thread; the clock stands
// still while any of them can run and then leaps to the next thing that is due. Who runs next is drawn from the seed, so a
// run is repeated exactly by its seed.
//
// The program is linked with -Wl,--wrap for the few calls by which the product meets threads and time (virtual_time.c lists
// them); the product itself is the same object code as ever.
#ifndef TESTS_SIMULATOR_VIRTUAL_TIME_H
#define TESTS_SIMULATOR_VIRTUAL_TIME_H

#include <stdbool.h>
#include <stdint.h>

enum { VT_MS = 1000000 };

void vt_start(uint64_t seed);
// Runs `body` as the first fiber, and with it all that it starts, until it returns.
void vt_run(void (*body)(void));
void vt_spawn(void (*body)(void *context), void *context);

unsigned vt_self(void); // number of the running fiber
enum { VT_FIBERS = 512 };

int64_t vt_now(void); // ns; what CLOCK_MONOTONIC says to the product
void vt_sleep(int64_t ns);
// Sleeps until *word is no longer `value`, somebody wakes it, or the deadline passes (false).
bool vt_wait(_Atomic uint32_t *word, uint32_t value, int64_t deadline);
void vt_wake(_Atomic uint32_t *word, int count);
// `act` is called at this time, outside all fibers; it must not wait.
void vt_at(int64_t time, void (*act)(void *context), void *context);

uint64_t vt_random(void);
uint64_t vt_below(uint64_t limit);
bool vt_chance(unsigned per_myriad); // of ten thousand

// What happened lately, shown when the run fails. Formats as printf.
void vt_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
// The run has failed: says why, which seed, and what happened last; ends the process with 1.
_Noreturn void vt_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
