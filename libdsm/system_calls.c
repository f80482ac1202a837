// SPDX-License-Identifier: Apache-2.0
//
// read and write on memory that may be away. The kernel does not bring pages of segments in, so they are pinned around the
// call: for writing where the kernel writes. Buffers may lie in segments, beside them, or across their edges.
//
// A buffer is dealt with in pieces, so that no call pins more than a quarter of the cache, but one message of a datagram socket or one
// write to a pipe is one piece, whole: after a piece only what a file's read or write would do in one go is gone on with.
//
// Pins are undone before the result is looked at. What a signal handler leaves by siglongjmp stays pinned.
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libdsm/error.h"
#include "libdsm/session_api.h"

enum { PARTS = 16, PIECE_MOST = LIMIT_RUN_BYTES };

enum direction { KERNEL_READS, KERNEL_WRITES }; // the buffer

struct transfer {
    int fd;
    enum direction direction;
    bool at; // an offset, not the file's own
    off_t offset;
};

struct parts { // of a piece, those in segments
    struct {
        dsm_segment *segment;
        dsm_interval interval;
    } part[PARTS];
    unsigned count;
};

// False: there are too many, the piece must be smaller.
static bool find_parts(dsm *session, uintptr_t from, uintptr_t to, struct parts *parts)
{
    bool fit = true;
    parts->count = 0;
    (void)pthread_mutex_lock(&session->lock);
    for (dsm_segment *s = session->segments; s != NULL && fit; s = s->next) {
        uintptr_t base = (uintptr_t)s->segment.view.base;
        uintptr_t low = from > base ? from : base;
        uintptr_t end = base + s->segment.view.bytes;
        uintptr_t high = to < end ? to : end;
        if (low >= high) {
            continue;
        }
        fit = parts->count < PARTS;
        if (fit) {
            uint64_t first = (low - base) >> s->segment.page_shift;
            uint64_t last = (high - 1 - base) >> s->segment.page_shift;
            parts->part[parts->count].segment = s;
            parts->part[parts->count++].interval = (dsm_interval){first, last - first + 1};
        }
    }
    (void)pthread_mutex_unlock(&session->lock);
    return fit;
}

static void unpin(const struct parts *parts, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        (void)dsm_unpin(parts->part[i].segment, parts->part[i].interval);
    }
}

static int pin(const struct parts *parts, enum direction direction)
{
    unsigned flags = DSM_PIN | (direction == KERNEL_WRITES ? (unsigned)DSM_WRITE : 0);
    for (unsigned i = 0; i < parts->count; i++) {
        int error =
            dsm_swap_in(parts->part[i].segment, parts->part[i].interval, flags, DSM_NO_PAGE);
        if (error != 0) {
            unpin(parts, i);
            return error;
        }
    }
    return 0;
}

static ssize_t call(const struct transfer *t, void *buffer, size_t bytes, size_t done)
{
    ssize_t result;
    off_t offset = t->offset + (off_t)done;
    if (t->direction == KERNEL_WRITES) {
        result = t->at ? pread(t->fd, buffer, bytes, offset) : read(t->fd, buffer, bytes);
    } else {
        result = t->at ? pwrite(t->fd, buffer, bytes, offset) : write(t->fd, buffer, bytes);
    }
    if (result >= 0) {
        return result;
    }
    int error = errno;
    return error_set(-error, NULL, DSM_NO_PAGE, NULL, "The system call on descriptor %d: %s.",
                     t->fd, strerror(error));
}

// One piece, pinned. -ENOMEM: no room for so many pins.
static ssize_t piece(const struct transfer *t, dsm *session, uint8_t *buffer, size_t bytes,
                     size_t done)
{
    struct parts parts;
    if (!find_parts(session, (uintptr_t)buffer, (uintptr_t)buffer + bytes, &parts)) {
        return -ENOMEM;
    }
    int error = pin(&parts, t->direction);
    if (error != 0) {
        return error;
    }
    ssize_t result = call(t, buffer, bytes, done);
    unpin(&parts, parts.count);
    return result;
}

static bool goes_on(int fd)
{
    struct stat facts;
    return fstat(fd, &facts) == 0 && (S_ISREG(facts.st_mode) || S_ISBLK(facts.st_mode));
}

static ssize_t transfer(const struct transfer *t, void *buffer, size_t bytes)
{
    int error = api_alive();
    dsm *session = error == 0 ? api_session_present(true) : NULL;
    if (error != 0 || session == NULL || bytes == 0) {
        return error != 0 ? error : call(t, buffer, bytes, 0);
    }
    size_t most = session->pager.options.cache_bytes / 4;
    most = most < PIECE_MOST ? most : PIECE_MOST;
    size_t done = 0;
    bool file = goes_on(t->fd);
    while (done < bytes) {
        size_t some = bytes - done < most ? bytes - done : most;
        ssize_t result = piece(t, session, (uint8_t *)buffer + done, some, done);
        if (result == -ENOMEM && most > LIMIT_PAGE_MIN_BYTES) {
            most /= 2; // others have pins, too
            continue;
        }
        if (result < 0) {
            return done > 0 ? (ssize_t)done : result;
        }
        done += (size_t)result;
        if (!file || (size_t)result < some) {
            break;
        }
    }
    return (ssize_t)done;
}

DSM_API ssize_t dsm_read(int fd, void *buffer, size_t bytes)
{
    return transfer(&(struct transfer){.fd = fd, .direction = KERNEL_WRITES}, buffer, bytes);
}

DSM_API ssize_t dsm_write(int fd, const void *buffer, size_t bytes)
{
    return transfer(&(struct transfer){.fd = fd, .direction = KERNEL_READS},
                    (void *)(uintptr_t)buffer, bytes);
}

DSM_API ssize_t dsm_pread(int fd, void *buffer, size_t bytes, off_t offset)
{
    return transfer(
        &(struct transfer){.fd = fd, .direction = KERNEL_WRITES, .at = true, .offset = offset},
        buffer, bytes);
}

DSM_API ssize_t dsm_pwrite(int fd, const void *buffer, size_t bytes, off_t offset)
{
    return transfer(
        &(struct transfer){.fd = fd, .direction = KERNEL_READS, .at = true, .offset = offset},
        (void *)(uintptr_t)buffer, bytes);
}
