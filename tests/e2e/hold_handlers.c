// SPDX-License-Identifier: Apache-2.0
//
// SIGSEGV is also other people's: what is not a touch of an absent page goes to the handler that was there before the
// session, as the kernel would have called it; where there was none, the process ends as it would without the library.
#include <sys/mman.h>
#include <sys/wait.h>

#include "tests/e2e/hold_rig.h"

enum { CACHE = 1 * MIB, PAGES = 4 * CACHE / PAGE };

static dsm *session;
static dsm_segment *segment;

static void begin(void)
{
    session = hold_open(CACHE);
    segment = hold_create(session, "handlers", PAGES, PAGE);
    hold_fill_all(segment, 1);
}

static void end(void)
{
    hold_check_all(segment, 1);
    hold_close(session);
}

static void *somewhere(int protection)
{
    void *at = mmap(NULL, PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

static void check_foreign(struct hold_touch touch, int code, const void *at)
{
    CHECK(touch.signal == SIGSEGV && touch.code == code && touch.address == (uintptr_t)at,
          "signal %d code %d at %#lx instead of SIGSEGV code %d at %p", touch.signal, touch.code,
          (unsigned long)touch.address, code, at);
}

static void run_foreign(void)
{
    hold_catch(SIGSEGV);
    begin();
    char *readable = somewhere(PROT_READ);
    char *closed = somewhere(PROT_NONE);
    for (int i = 0; i < 100; i++) {
        struct hold_touch touch = hold_load((void *)8);
        check_foreign(touch, SEGV_MAPERR, (void *)8);
        CHECK(touch.program_counter == hold_load_instruction());
        check_foreign(hold_store(readable + 16, 1), SEGV_ACCERR, readable + 16);
        check_foreign(hold_load(closed + 24), SEGV_ACCERR, closed + 24);
        CHECK(hold_holds(segment, (uint64_t)i * 7 % PAGES, 1));
    }
    end();
}

static void run_read_only(void)
{
    hold_catch(SIGSEGV);
    begin();
    OK(dsm_segment_close(segment));
    segment = hold_segment(session, "handlers", DSM_READ_ONLY);
    char *resident = (char *)hold_at(segment, 3) + 40;
    CHECK(hold_load(resident).signal == 0);
    struct hold_touch touch = hold_store(resident, 1);
    check_foreign(touch, SEGV_ACCERR, resident);
    CHECK(touch.program_counter == hold_store_instruction());
    char *absent = (char *)hold_at(segment, hold_absent(segment, 9)) + 48;
    check_foreign(hold_store(absent, 1), SEGV_ACCERR, absent);
    RESULT(dsm_swap_in(segment, (dsm_interval){3, 1}, DSM_WRITE, DSM_NO_PAGE), -EINVAL);
    end();
}

static volatile sig_atomic_t plain_calls;

static char *mended;

static void mend(int number)
{
    CHECK(number == SIGSEGV);
    plain_calls++;
    CHECK(mprotect(mended, PAGE, PROT_READ | PROT_WRITE) == 0);
}

static void run_returning(void)
{
    CHECK(signal(SIGSEGV, mend) != SIG_ERR);
    begin();
    mended = somewhere(PROT_NONE);
    CHECK(hold_store(mended, 7).signal == 0 && *(uint64_t *)(void *)mended == 7);
    CHECK(plain_calls == 1);
    end();
}

// A handler of the program's that itself touches an absent page.
static void mend_from_segment(int number)
{
    uint64_t page = hold_absent(segment, 100);
    CHECK(hold_holds(segment, page, 1));
    mend(number);
}

static void run_touching(void)
{
    CHECK(signal(SIGSEGV, mend_from_segment) != SIG_ERR);
    begin();
    for (int i = 1; i <= 20; i++) {
        mended = somewhere(PROT_NONE);
        CHECK(hold_store(mended, 7).signal == 0);
        CHECK(plain_calls == i);
    }
    end();
}

static void run_restored(void) // after the session the former handler is in its place again
{
    CHECK(signal(SIGSEGV, mend) != SIG_ERR);
    begin();
    end();
    struct sigaction now;
    CHECK(sigaction(SIGSEGV, NULL, &now) == 0 && now.sa_handler == mend);
}

// ---- nobody handles it ----

static void dies_of_segv(const char *role)
{
    int status = hold_wait(hold_spawn(role));
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "the child's wait status is %#x",
          status);
}

static void touch_null(void)
{
    begin();
    (void)hold_load((void *)8);
    CHECK(false, "the touch came back");
}

static void run_null(void)
{
    dies_of_segv("touch-null");
}

static void sent(void)
{
    begin();
    CHECK(raise(SIGSEGV) == 0);
    CHECK(false, "the signal did not end the process");
}

static void run_sent(void)
{
    dies_of_segv("sent-child");
}

static void run_sent_ignored(void)
{
    CHECK(signal(SIGSEGV, SIG_IGN) != SIG_ERR);
    begin();
    for (int i = 0; i < 3; i++) {
        CHECK(raise(SIGSEGV) == 0);
        CHECK(hold_holds(segment, hold_absent(segment, 0), 1));
    }
    end();
}

static void store_read_only(void)
{
    begin();
    OK(dsm_segment_close(segment));
    segment = hold_segment(session, "handlers", DSM_READ_ONLY);
    *(volatile uint64_t *)hold_at(segment, 5) = 1;
    CHECK(false, "the store came back");
}

static void run_read_only_default(void)
{
    dies_of_segv("store-read-only");
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {
        {"foreign", run_foreign},
        {"read-only", run_read_only},
        {"returning", run_returning},
        {"touching", run_touching},
        {"restored", run_restored},
        {"null", run_null},
        {"touch-null", touch_null},
        {"sent", run_sent},
        {"sent-child", sent},
        {"sent-ignored", run_sent_ignored},
        {"read-only-default", run_read_only_default},
        {"store-read-only", store_read_only},
    };
    return hold_main(argc, argv, roles, sizeof roles / sizeof roles[0]);
}
