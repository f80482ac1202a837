// SPDX-License-Identifier: Apache-2.0
//
// Where system calls meet memory that is away: those of dsm_read(3), which must be right whatever lies where, and what the kernel itself
// says of pages that nobody pinned (dsm(7), System calls).
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/e2e/hold_rig.h"

enum { CACHE = 1 * MIB, PAGES = 8 * CACHE / PAGE };

extern char **environ;
static dsm *session;
static dsm_segment *segment, *other;

static void begin(void)
{
    session = hold_open(CACHE);
    segment = hold_create(session, "calls", PAGES, PAGE);
    other = hold_create(session, "other", PAGES, PAGE);
    hold_fill_all(segment, 1);
    hold_evict(segment, other);
}

static void no_pins(void)
{
    for (uint64_t page = 0; page < PAGES; page++) {
        CHECK(hold_state(segment, page).pin_count == 0, "page %lu", (unsigned long)page);
    }
}

static void end(void)
{
    no_pins();
    hold_close_after_errors(session);
}

static int file(void)
{
    char name[] = "/tmp/dsm-calls.XXXXXX";
    int fd = mkstemp(name);
    CHECK(fd >= 0 && unlink(name) == 0);
    return fd;
}

// All of a segment eight times larger than the cache through a file, and back into another place.
static void run_file(void)
{
    begin();
    int fd = file();
    size_t bytes = (size_t)PAGES * PAGE - 100;
    RESULT((int)(dsm_write(fd, (char *)hold_at(segment, 0) + 50, bytes) == (ssize_t)bytes), 1);
    CHECK(dsm_pread(fd, (char *)hold_at(other, 0) + 50, bytes, 0) == (ssize_t)bytes);
    for (uint64_t page = 1; page + 1 < PAGES; page++) {
        CHECK(memcmp(hold_at(segment, page), hold_at(other, page), PAGE) == 0, "page %lu",
              (unsigned long)page);
    }
    hold_evict(other, segment);
    CHECK(memcmp(hold_at(segment, 77), hold_at(other, 77), PAGE) == 0, "what was read is lost");
    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    CHECK(dsm_pwrite(fd, hold_at(segment, 9), PAGE, 4 * PAGE) == PAGE);
    CHECK(dsm_pread(fd, hold_at(other, 9), PAGE, 4 * PAGE) == PAGE && lseek(fd, 0, SEEK_CUR) == 0);
    CHECK(memcmp(hold_at(segment, 9), hold_at(other, 9), PAGE) == 0);
    CHECK(dsm_pread(fd, hold_at(other, 0), PAGE, (off_t)bytes - 10) == 10, "the end of the file");
    CHECK(dsm_pread(fd, hold_at(other, 0), PAGE, (off_t)bytes) == 0);
    hold_check_all(segment, 1);
    end();
}

// Ordinary memory right before the segment, and the buffer across the edge.
static void run_edge(void)
{
    begin();
    char *base = hold_at(segment, 0);
    char *before = mmap(base - PAGE, PAGE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(before == base - PAGE, "nothing can be mapped before the segment");
    int fd = file();
    CHECK(dsm_write(fd, before, (size_t)2 * PAGE) == (ssize_t)2 * PAGE);
    CHECK(pwrite(fd, "across", 6, PAGE - 3) == 6);
    CHECK(dsm_pread(fd, before, (size_t)2 * PAGE, 0) == (ssize_t)2 * PAGE);
    CHECK(memcmp(base - 3, "across", 6) == 0);
    char local[16];
    CHECK(dsm_pread(fd, local, sizeof local, PAGE - 3) == sizeof local &&
              memcmp(local, "across", 6) == 0,
          "a buffer of no segment");
    end();
}

static void *feed(void *fd)
{
    hold_pause_ms(50);
    CHECK(write(*(int *)fd, "later", 5) == 5);
    return NULL;
}

static void run_pipe(void)
{
    begin();
    int ends[2];
    pthread_t thread;
    CHECK(pipe(ends) == 0 && pthread_create(&thread, NULL, feed, &ends[1]) == 0);
    CHECK(dsm_read(ends[0], hold_at(segment, 5), (size_t)100 * PAGE) == 5,
          "it waits for more, or not at all");
    CHECK(memcmp(hold_at(segment, 5), "later", 5) == 0 && pthread_join(thread, NULL) == 0);
    CHECK(dsm_write(ends[1], hold_at(segment, 5), 5) == 5);
    char back[8] = "";
    CHECK(read(ends[0], back, sizeof back) == 5 && strcmp(back, "later") == 0);
    CHECK(fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0);
    CHECK(dsm_read(ends[0], hold_at(segment, 9), PAGE) == -EAGAIN);
    end();
}

// One datagram is one datagram, also where its buffer is in many pages.
static void run_datagram(void)
{
    begin();
    int ends[2];
    size_t bytes = (size_t)20 * PAGE;
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
    CHECK(dsm_write(ends[0], hold_at(segment, 3), bytes) == (ssize_t)bytes);
    CHECK(dsm_write(ends[0], hold_at(segment, 50), 7) == 7);
    CHECK(dsm_read(ends[1], hold_at(other, 3), bytes) == (ssize_t)bytes);
    CHECK(memcmp(hold_at(segment, 3), hold_at(other, 3), bytes) == 0);
    CHECK(dsm_read(ends[1], hold_at(other, 3), bytes) == 7);
    end();
}

static void run_refused(void)
{
    begin();
    int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    RESULT((int)dsm_read(-1, hold_at(segment, 0), PAGE), -EBADF);
    OK(dsm_make_read_only(segment, (dsm_interval){3, 1}));
    RESULT((int)dsm_read(zero, hold_at(segment, 2), (size_t)2 * PAGE), -EROFS);
    CHECK(dsm_error()->page == 3 && hold_holds(segment, 3, 1));
    OK(dsm_set_data_state(segment, (dsm_interval){4, 1}, DSM_DATA_NONE));
    RESULT((int)dsm_read(zero, hold_at(segment, 4), PAGE), -EFAULT);
    RESULT((int)dsm_read(zero, (void *)(uintptr_t)PAGE, PAGE), -EFAULT);
    RESULT((int)dsm_write(zero, hold_at(segment, 5), PAGE), -EBADF);
    OK((int)dsm_read(zero, hold_at(segment, 5), 0));
    end();
}

// What the kernel says without us: an error or a short count, never wrong bytes.
static void run_unpinned(void)
{
    begin();
    int fd = file();
    uint64_t page = hold_absent(segment, 0);
    char *at = hold_at(segment, page);
    CHECK(ftruncate(fd, (off_t)4 * PAGE) == 0);
    CHECK(pread(fd, at, PAGE, 0) == -1 && errno == EFAULT, "into a page that is away");
    CHECK(pwrite(fd, at, PAGE, 0) == -1 && errno == EFAULT, "from a page that is away");
    char local[PAGE];
    struct iovec two[2] = {{local, PAGE}, {at, PAGE}};
    CHECK(preadv(fd, two, 2, 0) == PAGE, "a vector's count ends before the page that is away");
    OK(dsm_swap_in(segment, (dsm_interval){page, 1}, DSM_PIN, DSM_NO_PAGE));
    CHECK(pwrite(fd, at, PAGE, 0) == PAGE, "from a pinned page");
    if (strcmp(dsm_trap(session), "uffd") == 0) {
        CHECK(pread(fd, at, PAGE, 0) == PAGE, "the kernel notes its own stores");
        CHECK(hold_state(segment, page).needs_cleaning);
    } else {
        CHECK(pread(fd, at, PAGE, 0) == -1 && errno == EFAULT, "into a pinned page that is clean");
    }
    OK(dsm_unpin(segment, (dsm_interval){page, 1}));
    page = hold_absent(segment, page + 1);
    uint32_t *word = hold_at(segment, page);
    CHECK(syscall(SYS_futex, word, FUTEX_WAIT, 0, NULL, NULL, 0) == -1 && errno == EFAULT, "futex");
    OK(dsm_swap_in(segment, (dsm_interval){page, 1}, DSM_PIN | DSM_WRITE, DSM_NO_PAGE));
    struct timespec soon = {.tv_nsec = 1000000};
    CHECK(syscall(SYS_futex, word, FUTEX_WAIT, *word, &soon, NULL, 0) == -1 && errno == ETIMEDOUT,
          "a pinned futex");
    OK(dsm_unpin(segment, (dsm_interval){page, 1}));
    page = hold_absent(segment, page + 1);
    char *arguments[] = {"true", hold_at(segment, page), NULL};
    pid_t child;
    CHECK(posix_spawn(&child, "/bin/true", NULL, NULL, arguments, environ) == EFAULT,
          "an argument");
    end();
}

// madvise: harmless where it says so.
static void run_madvise(void)
{
    begin();
    hold_fill(segment, 7, 2);
    CHECK(madvise(hold_at(segment, 7), PAGE, MADV_DONTNEED) == 0);
    CHECK(hold_holds(segment, 7, 2), "MADV_DONTNEED lost a page");
    end();
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {
        {"file", run_file},         {"edge", run_edge},       {"pipe", run_pipe},
        {"datagram", run_datagram}, {"refused", run_refused}, {"unpinned", run_unpinned},
        {"madvise", run_madvise},
    };
    return hold_main(argc, argv, roles, sizeof roles / sizeof roles[0]);
}
