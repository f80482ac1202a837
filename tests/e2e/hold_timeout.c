// SPDX-License-Identifier: Apache-2.0
//
// A server that does not answer for longer than DSM_FAULT_TIMEOUT (the script stops it): a touch ends in SIGBUS as the
// kernel would raise it, at the address touched and with the touching instruction, and works once the server goes on. It ends
// within 10 % of the time-out, and of what this machine itself was late with meanwhile (a thread that only sleeps measures).
// Where SIGBUS is blocked or ignored, the process gets the default action, as for a signal that the kernel forces.
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "tests/e2e/hold_rig.h"

enum { CACHE = 1 * MIB, PAGES = 4 * CACHE / PAGE, NAP_MS = 5, PERCENT_LATE = 10 };

static struct late_meter { // how much later than it should a thread ran, added up
    pthread_t thread;
    atomic_bool stop;
    int64_t late_ms;
} meter;

static void *measure_lateness(void *context)
{
    (void)context;
    while (!atomic_load(&meter.stop)) {
        int64_t begun = hold_now_ms();
        hold_pause_ms(NAP_MS);
        int64_t late = hold_now_ms() - begun - NAP_MS;
        meter.late_ms += late > 1 ? late : 0; // 1: of the clock's rounding
    }
    return NULL;
}

static void start_meter(void)
{
    atomic_store(&meter.stop, false);
    meter.late_ms = 0;
    CHECK(pthread_create(&meter.thread, NULL, measure_lateness, NULL) == 0);
}

static int64_t read_meter(void)
{
    atomic_store(&meter.stop, true);
    CHECK(pthread_join(meter.thread, NULL) == 0);
    return meter.late_ms;
}

static void pause_server(void)
{
    hold_say("pause");
    hold_await("paused");
    hold_pause_ms(200); // what was on its way has come
}

static void run_handled(void)
{
    dsm *session;
    hold_catch(SIGBUS);
    dsm_segment *segment = hold_begin(CACHE, "timeout", PAGES, &session);
    uint64_t timeout_ms = strtoul(hold_setting("DSM_FAULT_TIMEOUT"), NULL, 10);
    pause_server();
    for (int i = 0; i < 2; i++) { // a load, and a store
        uint64_t page = hold_absent(segment, 7 + 11 * (uint64_t)i);
        char *at = (char *)hold_at(segment, page) + 1232;
        start_meter();
        int64_t begun = hold_now_ms();
        struct hold_touch touch = i == 0 ? hold_load(at) : hold_store(at, 1);
        int64_t took = hold_now_ms() - begun;
        int64_t late = read_meter();
        printf("%d ms of %d, on a machine that was %d ms late\n", (int)took, (int)timeout_ms,
               (int)late);
        CHECK_SIGBUS(touch, at);
        CHECK(touch.program_counter ==
                  (i == 0 ? hold_load_instruction() : hold_store_instruction()),
              "the signal names another instruction");
        CHECK(took >= (int64_t)timeout_ms - 1, "after %d ms", (int)took);
        CHECK((took - late) * 100 <= (int64_t)timeout_ms * (100 + PERCENT_LATE), "only after %d ms",
              (int)took);
        CHECK(!hold_state(segment, page).resident && !hold_state(segment, page).lost);
    }
    uint64_t again = hold_absent(segment, 7);
    hold_say("continue");
    hold_await("continued");
    struct hold_touch touch = hold_load(hold_at(segment, again));
    CHECK(touch.signal == 0, "the same address does not work after the server went on");
    hold_check_all(segment, 1);
    hold_close_after_errors(session);
}

static void touch_in_vain(void (*prepare)(void))
{
    dsm *session;
    dsm_segment *segment = hold_begin(CACHE, "timeout", PAGES, &session);
    pause_server();
    const void *at = hold_at(segment, hold_absent(segment, 0));
    prepare();
    (void)*(const volatile uint64_t *)at;
    CHECK(false, "the touch came back");
}

static void block(void)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGBUS);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
}

static void nothing(void)
{
}

static void touch_blocked(void)
{
    touch_in_vain(block);
}

static void touch_default(void)
{
    touch_in_vain(nothing);
}

static void touch_ignored(void)
{
    CHECK(signal(SIGBUS, SIG_IGN) != SIG_ERR);
    touch_in_vain(nothing);
}

static void on_sigbus(int number)
{
    (void)number;
    hold_fail(__FILE__, __LINE__, "blocked", " the handler ran though SIGBUS was blocked");
}

static void touch_blocked_with_handler(void)
{
    CHECK(signal(SIGBUS, on_sigbus) != SIG_ERR);
    touch_blocked();
}

static void dies(const char *role)
{
    int status = hold_wait(hold_spawn(role));
    hold_say("continue");
    hold_await("continued");
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS, "the child's wait status is %#x",
          status);
}

static void run_blocked(void)
{
    dies("touch-blocked");
}

static void run_blocked_handler(void)
{
    dies("touch-blocked-handler");
}

static void run_ignored(void)
{
    dies("touch-ignored");
}

static void run_default(void)
{
    dies("touch-default");
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {
        {"handled", run_handled},
        {"blocked", run_blocked},
        {"blocked-handler", run_blocked_handler},
        {"ignored", run_ignored},
        {"default", run_default},
        {"touch-blocked", touch_blocked},
        {"touch-blocked-handler", touch_blocked_with_handler},
        {"touch-ignored", touch_ignored},
        {"touch-default", touch_default},
    };
    return hold_main(argc, argv, roles, sizeof roles / sizeof roles[0]);
}
