// SPDX-License-Identifier: Apache-2.0
//
// The rig of the programs that try the library against a running dsmd. A check that fails ends the process at once with
// status 1, by _exit(): other threads of the test may be waiting for pages that will not come, and nothing is to be
// tidied up. Touches are single instructions with names of their own, so that a test can say which instruction a
// signal must name. A program that is forgotten ends with its parent.
#include "tests/e2e/hold_rig.h"

#include <fcntl.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "tests/identities.h"

extern char **environ;

// ---- roles and checks ----

int hold_main(int argc, char **argv, const struct hold_role *roles, size_t count)
{
    const struct rlimit no_core = {0, 0}; // some roles end by a signal
    (void)setrlimit(RLIMIT_CORE, &no_core);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; i < count && argc == 2; i++) {
        if (strcmp(roles[i].name, argv[1]) == 0) {
            roles[i].run();
            printf("%s: held\n", argv[1]);
            return 0;
        }
    }
    fprintf(stderr, "Usage: %s ROLE, where ROLE is one of", argv[0]);
    for (size_t i = 0; i < count; i++) {
        fprintf(stderr, " %s", roles[i].name);
    }
    fprintf(stderr, "\n");
    return 2;
}

void hold_fail(const char *file, int line, const char *what, const char *format, ...)
{
    va_list arguments;
    printf("%s:%d: %s:", file, line, what);
    va_start(arguments, format);
    // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start() was just called
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    (void)fflush(stdout);
    _exit(1);
}

void hold_result(const char *file, int line, const char *what, int result, int expected)
{
    if (result != expected) {
        hold_fail(file, line, what, " %d (%s) instead of %d: %s", result, dsm_strerror(result),
                  expected, dsm_error()->text);
    }
}

// ---- the library ----

dsm *hold_open(uint64_t cache_bytes)
{
    dsm *session;
    const dsm_options options = {.size = sizeof options, .cache_bytes = cache_bytes};
    OK(dsm_open(&options, &session));
    return session;
}

dsm_segment *hold_create(dsm *session, const char *name, uint64_t pages, uint32_t page_bytes)
{
    dsm_segment *segment;
    OK(dsm_segment_create(session, name, pages * page_bytes, page_bytes, 0, &segment));
    return segment;
}

dsm_segment *hold_segment(dsm *session, const char *name, unsigned flags)
{
    dsm_segment *segment;
    OK(dsm_segment_open(session, name, flags, &segment));
    return segment;
}

dsm_segment *hold_begin(uint64_t cache_bytes, const char *name, uint64_t pages, dsm **session)
{
    *session = hold_open(cache_bytes);
    dsm_segment *segment = hold_create(*session, name, pages, PAGE);
    hold_fill_all(segment, 1);
    OK(dsm_clean(segment, hold_all(segment), NULL));
    return segment;
}

dsm_statistics hold_stats(dsm *session)
{
    dsm_statistics statistics = {.size = sizeof statistics};
    OK(dsm_stats(session, &statistics));
    return statistics;
}

static void close_session(dsm *session, bool errors)
{
    const char *broken = identities_broken(session, errors);
    CHECK(broken == NULL, "does not hold: %s", broken);
    OK(dsm_close(session));
}

void hold_close(dsm *session)
{
    close_session(session, false);
}

void hold_close_after_errors(dsm *session)
{
    close_session(session, true);
}

dsm_page_info hold_state(dsm_segment *segment, uint64_t page)
{
    dsm_page_info info;
    OK(dsm_page_state(segment, page, &info));
    return info;
}

uint64_t hold_pages(const dsm_segment *segment)
{
    return dsm_segment_size(segment) / dsm_segment_page_size(segment);
}

void *hold_at(const dsm_segment *segment, uint64_t page)
{
    return (char *)dsm_segment_base(segment) + page * dsm_segment_page_size(segment);
}

uint64_t hold_absent(dsm_segment *segment, uint64_t from)
{
    while (from < hold_pages(segment) && hold_state(segment, from).resident) {
        from++;
    }
    CHECK(from < hold_pages(segment), "every page is in memory");
    return from;
}

dsm_interval hold_all(const dsm_segment *segment)
{
    return (dsm_interval){0, hold_pages(segment)};
}

void hold_evict(dsm_segment *segment, dsm_segment *other)
{
    OK(dsm_clean(segment, hold_all(segment), NULL));
    OK(dsm_age(segment, hold_all(segment)));
    bool any = true;
    for (int round = 0; round < 4 && any; round++) {
        for (uint64_t page = 0; page < hold_pages(other); page++) {
            (void)*(const volatile uint64_t *)hold_at(other, page);
        }
        any = false;
        for (uint64_t page = 0; page < hold_pages(segment); page++) {
            any |= hold_state(segment, page).resident;
        }
    }
    CHECK(!any, "pages stay in memory: the other segment is too small for the cache");
}

// ---- pages that know what they hold ----

static uint64_t word_of(uint64_t page, uint64_t version, uint64_t i)
{
    uint64_t x = page * UINT64_C(0x9e3779b97f4a7c15) + version * UINT64_C(0xbf58476d1ce4e5b9) + i;
    x = (x ^ (x >> 31)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 29);
}

void hold_fill(dsm_segment *segment, uint64_t page, uint64_t version)
{
    volatile uint64_t *words = hold_at(segment, page);
    for (uint64_t i = 0; i < dsm_segment_page_size(segment) / sizeof *words; i++) {
        words[i] = word_of(page, version, i);
    }
}

bool hold_holds(const dsm_segment *segment, uint64_t page, uint64_t version)
{
    const volatile uint64_t *words = hold_at(segment, page);
    for (uint64_t i = 0; i < dsm_segment_page_size(segment) / sizeof *words; i++) {
        uint64_t found = words[i];
        if (found != word_of(page, version, i)) {
            printf("page %lu, word %lu: %#lx instead of %#lx (version %lu)\n", (unsigned long)page,
                   (unsigned long)i, (unsigned long)found, (unsigned long)word_of(page, version, i),
                   (unsigned long)version);
            return false;
        }
    }
    return true;
}

void hold_fill_all(dsm_segment *segment, uint64_t version)
{
    for (uint64_t page = 0; page < hold_pages(segment); page++) {
        hold_fill(segment, page, version);
    }
}

void hold_check_all(const dsm_segment *segment, uint64_t version)
{
    for (uint64_t page = 0; page < hold_pages(segment); page++) {
        CHECK(hold_holds(segment, page, version));
    }
}

uint64_t hold_random(uint64_t *state) // xorshift64*
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545f4914f6cdd1d);
}

// ---- touches ----

#if defined(__x86_64__)
__asm__(".text\n"
        "hold_load_at:\n"
        "mov (%rdi), %rax\n"
        "ret\n"
        "hold_store_at:\n"
        "mov %rsi, (%rdi)\n"
        "ret\n");
#elif defined(__aarch64__)
__asm__(".text\n"
        "hold_load_at:\n"
        "ldr x0, [x0]\n"
        "ret\n"
        "hold_store_at:\n"
        "str x1, [x0]\n"
        "ret\n");
#endif
uint64_t hold_load_at(const void *at);
void hold_store_at(void *at, uint64_t value);

uintptr_t hold_load_instruction(void)
{
    return (uintptr_t)hold_load_at;
}

uintptr_t hold_store_instruction(void)
{
    return (uintptr_t)hold_store_at;
}

static __thread sigjmp_buf back;
static __thread volatile sig_atomic_t armed;
static __thread struct hold_touch met;

static uintptr_t program_counter(const ucontext_t *context)
{
#if defined(__x86_64__)
    return (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
#else
    return (uintptr_t)context->uc_mcontext.pc;
#endif
}

static void come_back(int signal, siginfo_t *info, void *context)
{
    if (!armed) {
        static const char text[] = "a signal outside of any touch that expects one\n";
        (void)!write(STDOUT_FILENO, text, sizeof text - 1);
        _exit(1);
    }
    met = (struct hold_touch){.signal = signal,
                              .code = info->si_code,
                              .address = (uintptr_t)info->si_addr,
                              .program_counter = program_counter(context)};
    siglongjmp(back, 1);
}

void hold_catch(int signal)
{
    struct sigaction action = {.sa_sigaction = come_back, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(signal, &action, NULL) == 0);
}

struct hold_touch hold_load(const void *at)
{
    struct hold_touch touch = {.signal = 0};
    if (sigsetjmp(back, 1) == 0) {
        armed = 1;
        touch.value = hold_load_at(at);
        armed = 0;
        return touch;
    }
    armed = 0;
    return met;
}

struct hold_touch hold_store(void *at, uint64_t value)
{
    if (sigsetjmp(back, 1) == 0) {
        armed = 1;
        hold_store_at(at, value);
        armed = 0;
        return (struct hold_touch){.signal = 0};
    }
    armed = 0;
    return met;
}

// ---- other processes ----

pid_t hold_spawn(const char *role)
{
    char name[32];
    pid_t child;
    (void)snprintf(name, sizeof name, "%s", role);
    char *arguments[] = {program_invocation_name, name, NULL};
    CHECK(posix_spawn(&child, "/proc/self/exe", NULL, NULL, arguments, environ) == 0);
    return child;
}

int hold_wait(pid_t child)
{
    int status = 0;
    while (waitpid(child, &status, 0) != child) {
        CHECK(errno == EINTR, "waitpid: %s", strerror(errno));
    }
    return status;
}

void hold_wait_well(pid_t child)
{
    int status = hold_wait(child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child's wait status is %#x", status);
}

const char *hold_setting(const char *name)
{
    const char *value = getenv(name);
    CHECK(value != NULL, "%s is not set: run this by its script", name);
    return value;
}

static void talk_path(const char *what, char path[512])
{
    (void)snprintf(path, 512, "%s/%s", hold_setting("HOLD_TALK"), what);
}

void hold_say(const char *what)
{
    char path[512];
    talk_path(what, path);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    CHECK(fd >= 0, "%s: %s", path, strerror(errno));
    (void)close(fd);
}

bool hold_said(const char *what)
{
    char path[512];
    talk_path(what, path);
    return access(path, F_OK) == 0;
}

void hold_await(const char *what)
{
    int64_t end = hold_now_ms() + AWAIT_SECONDS * 1000;
    while (!hold_said(what)) {
        CHECK(hold_now_ms() < end, "nobody said \"%s\" within %d s", what, AWAIT_SECONDS);
        hold_pause_ms(5);
    }
}

void hold_pause_ms(int ms)
{
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&pause, &pause) != 0 && errno == EINTR) {
    }
}

int64_t hold_now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
