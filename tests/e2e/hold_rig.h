// SPDX-License-Identifier: Apache-2.0
//
// What the programs that try the library against a running dsmd share: a table of roles, one of which a run of the
// program plays; checks that end it; pages that know what they must hold; touches that come back with the signal that
// they met; and a way to take turns with the script and with other processes of the test (files in $HOLD_TALK).
#ifndef TESTS_E2E_HOLD_RIG_H
#define TESTS_E2E_HOLD_RIG_H

#include <dsm/dsm.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

enum { PAGE = 4096, MIB = 1 << 20, AWAIT_SECONDS = 60 };

struct hold_role {
    const char *name;
    void (*run)(void); // returns when all that it checks held
};

int hold_main(int argc, char **argv, const struct hold_role *roles, size_t count);
void hold_fail(const char *file, int line, const char *what, const char *format, ...)
    __attribute__((format(printf, 4, 5), noreturn));

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            hold_fail(__FILE__, __LINE__, #condition, " " __VA_ARGS__);                            \
        }                                                                                          \
    } while (0)
#define RESULT(call, expected) hold_result(__FILE__, __LINE__, #call, (call), (expected))
#define OK(call) RESULT(call, 0)
void hold_result(const char *file, int line, const char *what, int result, int expected);

// ---- the library ----
dsm *hold_open(uint64_t cache_bytes);
dsm_segment *hold_create(dsm *session, const char *name, uint64_t pages, uint32_t page_bytes);
dsm_segment *hold_segment(dsm *session, const char *name, unsigned flags); // opens
// A session, and a segment in it all of whose pages hold version 1 on the server.
dsm_segment *hold_begin(uint64_t cache_bytes, const char *name, uint64_t pages, dsm **session);
dsm_statistics hold_stats(dsm *session);
void hold_close(dsm *session);              // after a look at the identities of its counters
void hold_close_after_errors(dsm *session); // the same where calls or I/O failed
dsm_page_info hold_state(dsm_segment *segment, uint64_t page);
uint64_t hold_pages(const dsm_segment *segment);
void *hold_at(const dsm_segment *segment, uint64_t page);  // its first byte
uint64_t hold_absent(dsm_segment *segment, uint64_t from); // the next page that is not in memory
dsm_interval hold_all(const dsm_segment *segment);
// Cleans and makes every page leave memory: touches the pages of another segment, which must be larger than the cache.
void hold_evict(dsm_segment *segment, dsm_segment *other);

// ---- pages that know what they hold ----
void hold_fill(dsm_segment *segment, uint64_t page, uint64_t version);
bool hold_holds(const dsm_segment *segment, uint64_t page, uint64_t version);
void hold_fill_all(dsm_segment *segment, uint64_t version);
void hold_check_all(const dsm_segment *segment, uint64_t version);
uint64_t hold_random(uint64_t *state); // not zero

// ---- touches that may end in a signal ----
struct hold_touch {
    int signal; // 0: none came
    int code;
    uintptr_t address, program_counter;
    uint64_t value; // that was loaded
};
void hold_catch(int signal); // from now on: hold_load() and hold_store() come back from it
struct hold_touch hold_load(const void *at);
struct hold_touch hold_store(void *at, uint64_t value);
uintptr_t hold_load_instruction(void); // where hold_load() touches
uintptr_t hold_store_instruction(void);
// The touch must have met SIGBUS as the kernel would raise it.
#define CHECK_SIGBUS(touch, at)                                                                    \
    CHECK((touch).signal == SIGBUS && (touch).code == BUS_ADRERR &&                                \
              (touch).address == (uintptr_t)(at),                                                  \
          "signal %d code %d at %#lx instead of SIGBUS at %p", (touch).signal, (touch).code,       \
          (unsigned long)(touch).address, (const void *)(at))

// ---- other processes ----
pid_t hold_spawn(const char *role); // this program again, by exec, in another role
int hold_wait(pid_t child);         // its wait status
void hold_wait_well(pid_t child);   // it must end with code 0
void hold_say(const char *what);    // makes $HOLD_TALK/what
void hold_await(const char *what);  // waits for it
bool hold_said(const char *what);
const char *hold_setting(const char *name); // of the environment; must be there
void hold_pause_ms(int ms);
int64_t hold_now_ms(void);

#endif
