// SPDX-License-Identifier: Apache-2.0
//
// The trap that splits no mapping: userfaultfd in SIGBUS mode, answered by the thread that faulted. The program's view is one
// mapping for good, open for loads and stores; what is closed has no entry in the page tables, and a touch of it is a
// SIGBUS. UFFDIO_CONTINUE maps a page whose frame is filled, write-protected where only loads are let through, in one
// step: between a page that is mapped and one that is protected no store could hide. Closing is MADV_DONTNEED (locked pages included).
//
// Which pages were stored into the kernel knows (WP_ASYNC, from Linux 6.7 on): a store into a page that is mapped write-protected
// takes the mark away and goes on, and PAGEMAP_SCAN says where it is left; also of a page that was closed meanwhile. What must not
// change at all (a page on its way to the server, one that is read-only) is shut for stores by mprotect: the only thing that
// splits the mapping. Where the kernel cannot do that, and with DSM_TRAP=uffd-sync, the first store is a SIGBUS, too.
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
enum {
    CONTINUE_MODE_WP = 1 << 1,
    USER_MODE_ONLY = 1,
    DONTNEED_LOCKED = 24,
    FEATURE_WP_ASYNC = 1 << 15,
    IS_WRITTEN = 1 << 1,
    IS_PRESENT = 1 << 3,
    IS_SWAPPED = 1 << 4, // also: not mapped, with a mark that it is write-protected
};
struct scan_argument {
    uint64_t size, flags, start, end, walk_end, regions, region_count, most_pages, inverted, all_of,
        any_of, wanted;
};
struct scan_region {
    uint64_t start, end, categories;
};
#define PAGEMAP_SCAN_REQUEST _IOWR('f', 16, struct scan_argument)

static struct {
    pthread_mutex_t lock; // of users, starting and stopping
    unsigned users;
    _Atomic int fd;
    _Atomic int pagemap; // where the kernel tracks stores; else -1
    uint64_t page;       // the system's
    pthread_t keeper;
    _Atomic uint32_t keeping; // 0: starting, 1: it has its table, 2: it failed, 3: it is to end
} uffd = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1, .pagemap = -1};
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

enum mapped { MAPPED_CHANGE, MAPPED_KEEP };

// Also where the program has locked its memory (mlockall).
static int close_frames(const struct trap_view *view, uint64_t offset, uint64_t bytes)
{
    return (int)sync_call(SYS_madvise, (long)(view->base + offset), (long)bytes, DONTNEED_LOCKED, 0,
                          0, 0);
}

// Maps the frames of [offset, offset + bytes), which are filled. Pages that are mapped already are changed, or kept as they are.
// After an error none is mapped that was not: a store into one that counts as closed would go unnoticed.
static int open_frames(const struct trap_view *view, uint64_t offset, uint64_t bytes, bool stores,
                       enum mapped mapped)
{
    const uint64_t first = offset;
    while (bytes > 0) {
        struct uffdio_continue open = {
            .range = range_of(view, offset, bytes),
            .mode = UFFDIO_CONTINUE_MODE_DONTWAKE | (stores ? 0U : (unsigned)CONTINUE_MODE_WP),
        };
        int error = control(uffd.fd, UFFDIO_CONTINUE, &open);
        uint64_t done = error == 0 ? bytes : open.mapped > 0 ? (uint64_t)open.mapped : 0;
        if (error == -EEXIST && done == 0) {
            error = mapped == MAPPED_KEEP ? 0 : set_stores(view, offset, uffd.page, stores);
            done = uffd.page;
        }
        if (error != 0 && error != -EAGAIN) {
            (void)close_frames(view, first, offset - first);
            return error;
        }
        offset += done;
        bytes -= done;
    }
    return 0;
}

static int sync_protect(struct trap_view *view, uint64_t offset, uint64_t bytes,
                        enum trap_access from, enum trap_access to)
{
    if (to == TRAP_NONE) {
        return close_frames(view, offset, bytes);
    }
    if (from != to && (from == TRAP_READ || from == TRAP_READ_WRITE)) {
        return set_stores(view, offset, bytes, to == TRAP_READ_WRITE);
    }
    return open_frames(view, offset, bytes, to == TRAP_READ_WRITE, MAPPED_CHANGE);
}

// ---- the kernel tracks stores ----

// For the whole range; what is mapped there keeps its mark. A view without stores is shut for them from the start.
static int allow_stores(const struct trap_view *view, uint64_t offset, uint64_t bytes, bool allow)
{
    if (!view->stores) {
        return 0;
    }
    return (int)sync_call(SYS_mprotect, (long)(view->base + offset), (long)bytes,
                          PROT_READ | (allow ? PROT_WRITE : 0), 0, 0, 0);
}

static int shut(const struct trap_view *view, uint64_t offset, uint64_t bytes,
                enum trap_access from)
{
    int error = close_frames(view, offset, bytes);
    if (error == 0 && (from == TRAP_READ || from == TRAP_ANY)) {
        error = allow_stores(view, offset, bytes, true);
    }
    return error;
}

static int open_to_loads(const struct trap_view *view, uint64_t offset, uint64_t bytes,
                         enum trap_access from)
{
    int error = allow_stores(view, offset, bytes, false);
    if (error == 0 && (from == TRAP_NONE || from == TRAP_ANY)) {
        error = open_frames(view, offset, bytes, false, MAPPED_KEEP);
    }
    if (error != 0 && from == TRAP_NONE) { // as it was: who opens them to all does not ask again
        (void)allow_stores(view, offset, bytes, true);
    }
    return error;
}

// Marked before a store can come.
static int open_to_all(const struct trap_view *view, uint64_t offset, uint64_t bytes,
                       enum trap_access from, bool tracked)
{
    int error;
    if (from == TRAP_NONE || from == TRAP_ANY) {
        error = open_frames(view, offset, bytes, !tracked, MAPPED_CHANGE);
    } else {
        error = set_stores(view, offset, bytes, !tracked);
    }
    if (error == 0 && (from == TRAP_READ || from == TRAP_ANY)) {
        error = allow_stores(view, offset, bytes, true);
    }
    return error;
}

static int tracking_protect(struct trap_view *view, uint64_t offset, uint64_t bytes,
                            enum trap_access from, enum trap_access to)
{
    if (from == to && to != TRAP_NONE) {
        return open_frames(view, offset, bytes, to == TRAP_READ_WRITE, MAPPED_KEEP);
    }
    switch (to) {
    case TRAP_NONE:
        return shut(view, offset, bytes, from);
    case TRAP_READ:
        return open_to_loads(view, offset, bytes, from);
    default:
        return open_to_all(view, offset, bytes, from, to == TRAP_TRACKED);
    }
}

// Certainly not stored into is what carries the mark, mapped or not: the kernel leaves it where it takes a page's entry away. So
// those are asked for, and all others were stored into.
static uint64_t stored(struct trap_view *view, uint64_t offset, uint64_t bytes, uint64_t unit)
{
    uint64_t unstored[TRAP_LOOK_UNITS] = {0}; // bytes of each
    struct scan_region regions[TRAP_LOOK_UNITS];
    const uint64_t base = (uintptr_t)view->base + offset;
    uint64_t result = 0;
    struct scan_argument scan = {
        .size = sizeof scan,
        .end = base + bytes,
        .walk_end = base,
        .regions = (uintptr_t)regions,
        .region_count = TRAP_LOOK_UNITS,
        .inverted = IS_WRITTEN,
        .all_of = IS_WRITTEN,
        .any_of = IS_PRESENT | IS_SWAPPED,
        .wanted = IS_PRESENT,
    };
    while (scan.walk_end < scan.end) {
        scan.start = scan.walk_end;
        int found = control(uffd.pagemap, PAGEMAP_SCAN_REQUEST, &scan);
        if (found < 0 || scan.walk_end <= scan.start) {
            break;
        }
        for (int i = 0; i < found; i++) {
            for (uint64_t at = regions[i].start; at < regions[i].end; at += uffd.page) {
                unstored[(at - base) / unit] += uffd.page;
            }
        }
    }
    for (uint64_t i = 0; i < bytes / unit; i++) {
        result |= (uint64_t)(unstored[i] < unit) << i;
    }
    return result;
}

// ---- the view ----

static int watch(const struct trap_view *view)
{
    struct uffdio_register all = {
        .range = range_of(view, 0, view->bytes),
        .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP | UFFDIO_REGISTER_MODE_MINOR,
    };
    int error = control(uffd.fd, UFFDIO_REGISTER, &all);
    int access = uffd.pagemap < 0 || view->stores ? PROT_READ | PROT_WRITE : PROT_READ;
    if (error == 0 && mprotect(view->base, view->bytes, access) != 0) {
        error = -errno;
    }
    return error;
}

static int attach(struct trap_view *view, void *base, uint64_t bytes, enum trap_fill fill,
                  bool stores)
{
    *view = (struct trap_view){.ops = uffd.pagemap < 0 ? &trap_uffd_sync_ops : &trap_uffd_ops,
                               .bytes = bytes,
                               .fill = fill,
                               .stores = stores};
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
    .tracks = true,
    .attach = attach,
    .detach = trap_frames_detach,
    .place = trap_frames_place,
    .fill = trap_frames_fill,
    .protect = tracking_protect,
    .stored = stored,
    .discard = trap_frames_discard,
};

const struct trap_ops trap_uffd_sync_ops = {
    .name = "uffd-sync",
    .attach = attach,
    .detach = trap_frames_detach,
    .place = trap_frames_place,
    .fill = trap_frames_fill,
    .protect = sync_protect,
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

// Mapped and protected in one step: a kernel that cannot do it refuses the mode. Tried on a page of its own; and whether a store
// is told from none, where the kernel is to know.
static int try_view(struct trap_view *view, uint64_t page)
{
    const struct trap_ops *ops = view->ops;
    enum trap_access first = ops->tracks ? TRAP_TRACKED : TRAP_READ;
    int error = trap_frames_place(view, 0, page, NULL);
    error = error != 0 ? error : ops->protect(view, 0, page, TRAP_NONE, first);
    if (error == 0 && ops->tracks) {
        bool before = ops->stored(view, 0, page, page) != 0;
        *(volatile uint8_t *)view->base = 0;
        bool after = ops->stored(view, 0, page, page) != 0;
        return before || !after ? -ENOSYS : 0;
    }
    return error != 0 ? error : ops->protect(view, 0, page, first, TRAP_READ_WRITE);
}

static int try_one_page(void)
{
    uint64_t page = uffd.page;
    struct trap_view view;
    void *at = mmap(NULL, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); // an address
    if (at == MAP_FAILED) {
        return -errno;
    }
    (void)munmap(at, page);
    int error = attach(&view, at, page, TRAP_FILL_PWRITE, true);
    if (error != 0) {
        return error;
    }
    error = try_view(&view, page);
    trap_frames_detach(&view);
    return error;
}

static int open_descriptor(bool track)
{
    long fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | USER_MODE_ONLY);
    if (fd < 0) {
        return -errno;
    }
    struct uffdio_api api = {
        .api = UFFD_API,
        .features = UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM |
                    UFFD_FEATURE_WP_HUGETLBFS_SHMEM | (track ? (unsigned)FEATURE_WP_ASYNC : 0),
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

static void close_descriptors(void)
{
    (void)close(atomic_exchange(&uffd.fd, -1));
    int pagemap = atomic_exchange(&uffd.pagemap, -1);
    if (pagemap >= 0) {
        (void)close(pagemap);
    }
}

static int start(bool track)
{
    int error = open_descriptor(track);
    if (error != 0) {
        return error;
    }
    if (track) {
        atomic_store(&uffd.pagemap, open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
        error = uffd.pagemap < 0 ? -ENOSYS : 0;
    }
    error = error != 0 ? error : try_one_page();
    error = error != 0 ? error : start_keeper();
    if (error != 0) {
        close_descriptors();
    }
    return error;
}

int trap_uffd_get(bool track, const struct trap_ops **ops)
{
    int error = 0;
    (void)pthread_mutex_lock(&uffd.lock);
    if (uffd.users == 0) {
        error = track ? start(true) : -ENOSYS;
        error = error != 0 ? start(false) : 0;
    }
    uffd.users += error == 0;
    *ops = uffd.pagemap < 0 ? &trap_uffd_sync_ops : &trap_uffd_ops;
    (void)pthread_mutex_unlock(&uffd.lock);
    return error;
}

void trap_uffd_put(void)
{
    (void)pthread_mutex_lock(&uffd.lock);
    if (--uffd.users == 0) {
        end_keeper();
        close_descriptors();
    }
    (void)pthread_mutex_unlock(&uffd.lock);
}
