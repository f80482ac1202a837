// SPDX-License-Identifier: Apache-2.0
//
// A hang becomes a failure that says what each thread of the process was doing.
#ifndef TESTS_MODEL_WATCH_H
#define TESTS_MODEL_WATCH_H

// When `seconds` have passed, or at SIGALRM: prints each thread's state and ends the process with status 1.
void watch_start(unsigned seconds); // again: the time begins anew; also in a handler
void watch_dump(void);

#endif
