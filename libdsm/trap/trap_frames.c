// SPDX-License-Identifier: Apache-2.0
//
// What both traps share: the frames of a segment are pages of a memfd, which is mapped twice, where the program sees it and at
// another door that it never sees. How the program's view is shut and opened is each trap's own affair.
//
// Shortage of memory must be an errno and not a SIGBUS, so room is made by fallocate before anything is stored through the
// alias; pwrite makes its own.
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "libdsm/sync/futex.h"
#include "libdsm/trap/arena.h"
#include "libdsm/trap/trap_frames.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

static int make_memfd(uint64_t bytes)
{
    int fd = memfd_create("dsm-frames", MFD_CLOEXEC | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) {
        fd = memfd_create("dsm-frames", MFD_CLOEXEC);
    }
    if (fd < 0) {
        return -errno;
    }
    if (ftruncate(fd, (off_t)bytes) != 0) {
        int error = -errno;
        (void)close(fd);
        return error;
    }
    return fd;
}

static void advise(void *at, uint64_t bytes)
{
    // A child has no pager; a core with managed memory would be another machine's size; a huge page would be filled at once.
    (void)madvise(at, bytes, MADV_DONTFORK);
    (void)madvise(at, bytes, MADV_DONTDUMP);
    (void)madvise(at, bytes, MADV_NOHUGEPAGE);
}

// Where a page was used of late is asked of the page table when its entry is taken away, at a fifth of what it costs to take a
// frame away. Only the kernel's own swapping wants to know; which frames go is the pager's affair.
static void advise_no_recency(void *at, uint64_t bytes)
{
    struct sysinfo system;
    if (sysinfo(&system) == 0 && system.totalswap == 0) {
        (void)madvise(at, bytes, MADV_RANDOM);
    }
}

static int map_program_view(struct trap_view *view, void *base, int access)
{
    int error = arena_map(base, view->bytes, access, view->memfd);
    if (error != 0) {
        return error;
    }
    view->base = base;
    advise(base, view->bytes);
    advise_no_recency(base, view->bytes);
    return 0;
}

static int map_other_door(struct trap_view *view)
{
    int access = view->fill == TRAP_FILL_ALIAS ? PROT_READ | PROT_WRITE : PROT_READ;
    void *at = mmap(NULL, view->bytes, access, MAP_SHARED | MAP_NORESERVE, view->memfd, 0);
    if (at == MAP_FAILED) {
        return -errno;
    }
    view->contents = at;
    view->door = view->fill == TRAP_FILL_ALIAS ? at : NULL;
    advise(at, view->bytes);
    return 0;
}

void trap_frames_detach(struct trap_view *view)
{
    if (view->base != NULL) {
        arena_unmap(view->base, view->bytes);
    }
    if (view->contents != NULL) {
        (void)munmap((void *)(uintptr_t)view->contents, view->bytes);
    }
    if (view->memfd >= 0) {
        (void)close(view->memfd);
    }
    view->base = view->door = NULL;
    view->contents = NULL;
    view->memfd = -1;
}

int trap_frames_attach(struct trap_view *view, void *base, int access)
{
    view->memfd = make_memfd(view->bytes);
    if (view->memfd < 0) {
        return view->memfd;
    }
    int error = map_program_view(view, base, access);
    if (error == 0) {
        error = map_other_door(view);
    }
    if (error != 0) {
        trap_frames_detach(view);
    }
    return error;
}

static int make_room(struct trap_view *view, uint64_t offset, uint64_t bytes)
{
    long result;
    do {
        result = sync_call(SYS_fallocate, view->memfd, 0, (long)offset, (long)bytes, 0, 0);
    } while (result == -EINTR);
    return (int)result;
}

int trap_frames_place(struct trap_view *view, uint64_t offset, uint64_t bytes, void **to)
{
    if (view->fill == TRAP_FILL_PWRITE && to != NULL) {
        *to = NULL;
        return 0;
    }
    int error = make_room(view, offset, bytes);
    if (error == 0 && to != NULL) {
        *to = view->door + offset;
    }
    return error;
}

int trap_frames_fill(struct trap_view *view, uint64_t offset, const void *from, uint64_t bytes)
{
    const uint8_t *at = from;
    while (bytes > 0) {
        long n = sync_call(SYS_pwrite64, view->memfd, (long)at, (long)bytes, (long)offset, 0, 0);
        if (n == -EINTR) {
            continue;
        }
        if (n <= 0) {
            return n == 0 ? -EIO : (int)n;
        }
        at += n;
        offset += (uint64_t)n;
        bytes -= (uint64_t)n;
    }
    return 0;
}

int trap_frames_discard(struct trap_view *view, uint64_t offset, uint64_t bytes)
{
    long result;
    do {
        result = sync_call(SYS_fallocate, view->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                           (long)offset, (long)bytes, 0, 0);
    } while (result == -EINTR);
    return (int)result;
}
