// SPDX-License-Identifier: Apache-2.0
//
// The trap that splits no mapping: userfaultfd in SIGBUS mode, answered by the thread that faulted. The program's view is one
// mapping for good, open for loads and stores; what is closed has no entry in the page tables, and a touch of it is a
// SIGBUS. UFFDIO_CONTINUE maps a page whose frame is filled, write-protected where only loads are let through, in one
// step: between a page that is mapped and one that is protected no store could hide. Closing is MADV_DONTNEED (locked pages included).
//
// One descriptor serves all views of the process (user mode only: no right is needed). When the last reference to it goes, the
// kernel forgets the registration, and a touch of a closed page reads zeros. So a program that closes descriptors that
// it did not open must not close the last one: a thread with a table of descriptors of its own keeps another.
//
// The kernel may take an open page's entry away by itself (it swaps frames out when memory is short): then a page that the
// pager calls open traps again, and opening it again is all that it needs.
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "libdsm/sync/futex.h"
#include "libdsm/trap/trap_frames.h"

// Younger than the headers of the oldest system that this is built on.
enum { CONTINUE_MODE_WP = 1 << 1, USER_MODE_ONLY = 1, DONTNEED_LOCKED = 24 };

static struct {
    pthread_mutex_t lock; // of users, starting and stopping
    unsigned users;
    _Atomic int fd;
    uint64_t page; // the system's
    pthread_t keeper;
    _Atomic uint32_t keeping; // 0: starting, 1: it has its table, 2: it failed, 3: it is to end
} uffd = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1};
enum { KEEPER_STARTS, KEEPER_KEEPS, KEEPER_FAILED, KEEPER_ENDS };

static int control(int fd, unsigned long request, void *argument)
{
    return (int)sync_call(SYS_ioctl, fd, (long)request, (long)argument, 0, 0, 0);
}

// ---- opening and closing, by the run ----

static struct uffdio_range range_of(const struct trap_view *view, uint64_t offset, uint64_t bytes)
{
    return (struct uffdio_range){.start = (uintptr_t)view->base + offset, .len = bytes};
}

// Of pages that are mapped; of others nothing changes that a touch would not find out.
static int set_stores(const struct trap_view *view, uint64_t offset, uint64_t bytes, bool let)
{
    int error;
    do {
        struct uffdio_writeprotect change = {
            .range = range_of(view, offset, bytes),
            .mode = let ? UFFDIO_WRITEPROTECT_MODE_DONTWAKE : UFFDIO_WRITEPROTECT_MODE_WP,
        };
        error = control(uffd.fd, UFFDIO_WRITEPROTECT, &change);
    } while (error == -EAGAIN);
    return error;
}

// Maps the frames of [offset, offset + bytes), which are filled. Pages that are mapped already are changed.
static int open_frames(const struct trap_view *view, uint64_t offset, uint64_t bytes, bool stores)
{
    while (bytes > 0) {
        struct uffdio_continue open = {
            .range = range_of(view, offset, bytes),
            .mode = UFFDIO_CONTINUE_MODE_DONTWAKE | (stores ? 0U : (unsigned)CONTINUE_MODE_WP),
        };
        int error = control(uffd.fd, UFFDIO_CONTINUE, &open);
        uint64_t done = error == 0 ? bytes : open.mapped > 0 ? (uint64_t)open.mapped : 0;
        if (error == -EEXIST && done == 0) {
            error = set_stores(view, offset, uffd.page, stores);
            done = uffd.page;
        }
        if (error != 0 && error != -EAGAIN) {
            return error;
        }
        offset += done;
        bytes -= done;
    }
    return 0;
}

// Also where the program has locked its memory (mlockall).
static int close_frames(const struct trap_view *view, uint64_t offset, uint64_t bytes)
{
    return (int)sync_call(SYS_madvise, (long)(view->base + offset), (long)bytes, DONTNEED_LOCKED, 0,
                          0, 0);
}

static int uffd_protect(struct trap_view *view, uint64_t offset, uint64_t bytes,
                        enum trap_access from, enum trap_access to)
{
    if (to == TRAP_NONE) {
        return close_frames(view, offset, bytes);
    }
    if (from == TRAP_READ || from == TRAP_READ_WRITE) {
        return set_stores(view, offset, bytes, to == TRAP_READ_WRITE);
    }
    return open_frames(view, offset, bytes, to == TRAP_READ_WRITE);
}

// ---- the view ----

static int watch(const struct trap_view *view)
{
    struct uffdio_register all = {
        .range = range_of(view, 0, view->bytes),
        .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP | UFFDIO_REGISTER_MODE_MINOR,
    };
    int error = control(uffd.fd, UFFDIO_REGISTER, &all);
    if (error == 0 && mprotect(view->base, view->bytes, PROT_READ | PROT_WRITE) != 0) {
        error = -errno;
    }
    return error;
}

static int attach(struct trap_view *view, void *base, uint64_t bytes, enum trap_fill fill)
{
    *view = (struct trap_view){.ops = &trap_uffd_ops, .bytes = bytes, .fill = fill};
    int error = trap_frames_attach(view, base, PROT_NONE); // until it is watched
    if (error == 0) {
        error = watch(view);
        if (error != 0) {
            trap_frames_detach(view);
        }
    }
    return error;
}

const struct trap_ops trap_uffd_ops = {
    .name = "uffd",
    .attach = attach,
    .detach = trap_frames_detach,
    .place = trap_frames_place,
    .fill = trap_frames_fill,
    .protect = uffd_protect,
    .discard = trap_frames_discard,
};

// ---- the descriptor ----

static void *keep(void *none)
{
    int fd = uffd.fd;
    bool own = unshare(CLONE_FILES) == 0;
    if (own) {
        (void)sync_call(SYS_close_range, 0, fd - 1, 0, 0, 0, 0);
        (void)sync_call(SYS_close_range, fd + 1, (long)UINT32_MAX, 0, 0, 0, 0);
    }
    atomic_store(&uffd.keeping, own ? KEEPER_KEEPS : KEEPER_FAILED);
    sync_wake(&uffd.keeping, 1);
    while (own && atomic_load(&uffd.keeping) == KEEPER_KEEPS) {
        (void)sync_wait(&uffd.keeping, KEEPER_KEEPS, SYNC_FOR_EVER);
    }
    return none;
}

static void end_keeper(void)
{
    atomic_store(&uffd.keeping, KEEPER_ENDS);
    sync_wake(&uffd.keeping, 1);
    (void)pthread_join(uffd.keeper, NULL);
}

static int start_keeper(void)
{
    sigset_t all;
    sigset_t before;
    atomic_store(&uffd.keeping, KEEPER_STARTS);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &before);
    int error = -pthread_create(&uffd.keeper, NULL, keep, NULL);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        return error;
    }
    while (atomic_load(&uffd.keeping) == KEEPER_STARTS) {
        (void)sync_wait(&uffd.keeping, KEEPER_STARTS, SYNC_FOR_EVER);
    }
    if (atomic_load(&uffd.keeping) == KEEPER_FAILED) {
        (void)pthread_join(uffd.keeper, NULL);
        return -EPERM;
    }
    return 0;
}

// Mapped and protected in one step: a kernel that cannot do it refuses the mode. Tried on a page of its own.
static int try_one_page(void)
{
    uint64_t page = uffd.page;
    struct trap_view view;
    void *at = mmap(NULL, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); // an address
    if (at == MAP_FAILED) {
        return -errno;
    }
    (void)munmap(at, page);
    int error = attach(&view, at, page, TRAP_FILL_PWRITE);
    if (error != 0) {
        return error;
    }
    error = trap_frames_place(&view, 0, page, NULL);
    error = error != 0 ? error : uffd_protect(&view, 0, page, TRAP_NONE, TRAP_READ);
    error = error != 0 ? error : uffd_protect(&view, 0, page, TRAP_READ, TRAP_READ_WRITE);
    trap_frames_detach(&view);
    return error;
}

static int open_descriptor(void)
{
    long fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | USER_MODE_ONLY);
    if (fd < 0) {
        return -errno;
    }
    struct uffdio_api api = {
        .api = UFFD_API,
        .features = UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM |
                    UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
    };
    if (ioctl((int)fd, UFFDIO_API, &api) != 0) {
        int error = -errno;
        (void)close((int)fd);
        return error;
    }
    uffd.page = (uint64_t)sysconf(_SC_PAGESIZE);
    atomic_store(&uffd.fd, (int)fd);
    return 0;
}

static void close_descriptor(void)
{
    (void)close(atomic_exchange(&uffd.fd, -1));
}

static int start(void)
{
    int error = open_descriptor();
    if (error != 0) {
        return error;
    }
    error = try_one_page();
    error = error != 0 ? error : start_keeper();
    if (error != 0) {
        close_descriptor();
    }
    return error;
}

int trap_uffd_get(void)
{
    int error = 0;
    (void)pthread_mutex_lock(&uffd.lock);
    if (uffd.users == 0) {
        error = start();
    }
    uffd.users += error == 0;
    (void)pthread_mutex_unlock(&uffd.lock);
    return error;
}

void trap_uffd_put(void)
{
    (void)pthread_mutex_lock(&uffd.lock);
    if (--uffd.users == 0) {
        end_keeper();
        close_descriptor();
    }
    (void)pthread_mutex_unlock(&uffd.lock);
}
