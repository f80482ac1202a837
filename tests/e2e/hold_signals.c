// SPDX-License-Identifier: Apache-2.0
//
// A thread that waits for a page holds nothing and takes its signals: ^C ends it, a handler runs at once and may leave by
// siglongjmp, or touch another absent page itself. Whatever it leaves behind, all pages can be touched afterwards: no
// fault slot, frame or page is lost.
#include <dirent.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/e2e/hold_rig.h"

enum { CACHE = 2 * MIB, PAGES = 8 * CACHE / PAGE, LEAPS = 1000 };

static dsm *session;
static dsm_segment *segment;

static void begin(void)
{
    session = hold_open(CACHE);
    segment = hold_create(session, "signals", PAGES, PAGE);
    hold_fill_all(segment, 1);
    OK(dsm_clean(segment, hold_all(segment), NULL));
}

static void end(void)
{
    hold_check_all(segment, 1);
    hold_fill_all(segment, 2);
    hold_check_all(segment, 2);
    hold_close(session);
}

static void pause_server(void)
{
    hold_say("pause");
    hold_await("paused");
    hold_pause_ms(200); // what was on its way has come
}

static void continue_server(void)
{
    hold_say("continue");
    hold_await("continued");
}

static uint64_t touch(uint64_t page)
{
    return *(const volatile uint64_t *)hold_at(segment, page);
}

// ---- ^C ----

static void wait_for_ever(void)
{
    begin();
    pause_server();
    hold_say("touching");
    (void)touch(hold_absent(segment, 0));
    CHECK(false, "the touch came back");
}

static void run_interrupt(void)
{
    pid_t child = hold_spawn("wait");
    hold_await("touching");
    hold_pause_ms(300); // it waits in its touch
    int64_t begun = hold_now_ms();
    CHECK(kill(child, SIGINT) == 0);
    int status = hold_wait(child);
    int64_t took = hold_now_ms() - begun;
    continue_server();
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT, "the child's wait status is %#x",
          status);
    CHECK(took < 3000, "it took %d ms to end", (int)took);
}

// ---- handlers that leave ----

static sigjmp_buf back;
static volatile sig_atomic_t leaps;
static volatile sig_atomic_t inside;

static void leap(int number)
{
    (void)number;
    if (inside) {
        inside = 0;
        leaps++;
        siglongjmp(back, 1);
    }
}

static void every_ms(int ms)
{
    struct itimerval timer = {{ms / 1000, ms % 1000 * 1000}, {ms / 1000, ms % 1000 * 1000}};
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

// Touches pages one after the other until the handler has left so many of them.
static void leap_out(int times, int ms)
{
    volatile uint64_t page = 0;
    CHECK(signal(SIGALRM, leap) != SIG_ERR);
    every_ms(ms);
    while (leaps < times) {
        if (sigsetjmp(back, 1) == 0) {
            uint64_t at = hold_absent(segment, page % (PAGES - CACHE / PAGE - 1));
            page = at + 1;
            inside = 1;
            (void)touch(at);
            inside = 0;
        }
    }
    every_ms(0);
}

static void run_leap(void)
{
    begin();
    pause_server();
    leap_out(LEAPS, 2);
    continue_server();
    printf("left %d touches\n", (int)leaps);
    end();
}

static void run_leap_running(void) // the answers come meanwhile, at any moment
{
    begin();
    leap_out(LEAPS, 1);
    end();
}

// ---- the library's own threads ----

static uint64_t blocked_in(const char *task)
{
    char path[300];
    char line[128];
    uint64_t mask = 0;
    (void)snprintf(path, sizeof path, "/proc/self/task/%s/status", task);
    FILE *file = fopen(path, "re");
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "SigBlk:", 7) == 0) {
            mask = strtoull(line + 7, NULL, 16);
        }
    }
    (void)fclose(file);
    return mask;
}

// A signal to the process is for the program's threads: a handler that leaves must not run in the library's.
static void run_own_threads(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGALRM, SIGUSR1, SIGCHLD};
    begin();
    hold_check_all(segment, 1);
    char own[16];
    int others = 0;
    (void)snprintf(own, sizeof own, "%d", getpid());
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks != NULL);
    for (const struct dirent *task; (task = readdir(tasks)) != NULL;) {
        if (task->d_name[0] == '.' || strcmp(task->d_name, own) == 0) {
            continue;
        }
        uint64_t mask = blocked_in(task->d_name);
        for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
            CHECK((mask >> (signals[i] - 1) & 1) != 0, "a thread of the library takes %s",
                  strsignal(signals[i]));
        }
        others++;
    }
    (void)closedir(tasks);
    printf("%d threads of the library\n", others);
    CHECK(others > 3, "nothing was tested");
    end();
}

// ---- a handler that touches ----

static volatile uint64_t handler_page;
static volatile uint64_t handler_found;
static volatile sig_atomic_t handled;

static void touch_another(int number)
{
    (void)number;
    handler_found = touch(handler_page);
    handled = 1;
}

// The thread waits in a touch; its handler touches another page, while the server is away and when it is back.
static void run_touch(void)
{
    begin();
    CHECK(signal(SIGALRM, touch_another) != SIG_ERR);
    pause_server();
    uint64_t first = hold_absent(segment, 5);
    handler_page = hold_absent(segment, first + 700);
    struct itimerval timer = {{0, 0}, {0, 300000}};
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    hold_say("continue-later");
    uint64_t found = touch(first);
    CHECK(handled, "the handler did not run while the thread waited");
    CHECK(found == touch(first) && handler_found == touch(handler_page));
    end();
}

static void run_touch_storm(void)
{
    begin();
    uint64_t seed = 7;
    CHECK(signal(SIGALRM, touch_another) != SIG_ERR);
    every_ms(1);
    for (int i = 0; i < 20000; i++) {
        if (handled) {
            handled = 0;
            handler_page = (hold_random(&seed) >> 8) % PAGES;
        }
        CHECK(hold_holds(segment, (hold_random(&seed) >> 8) % PAGES, 1));
    }
    every_ms(0);
    end();
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {
        {"interrupt", run_interrupt},       {"wait", wait_for_ever},          {"leap", run_leap},
        {"leap-running", run_leap_running}, {"own-threads", run_own_threads}, {"touch", run_touch},
        {"touch-storm", run_touch_storm},
    };
    return hold_main(argc, argv, roles, sizeof roles / sizeof roles[0]);
}
