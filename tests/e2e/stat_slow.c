// SPDX-License-Identifier: Apache-2.0
//
// For LD_PRELOAD: a store on a slow disk. Each read of a page takes a while longer.
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, SLOW_NS = 2000000 };

__attribute__((visibility("default"))) ssize_t pread64(int fd, void *buffer, size_t bytes,
                                                       off_t offset);

ssize_t pread64(int fd, void *buffer, size_t bytes, off_t offset)
{
    const struct timespec slow = {.tv_nsec = SLOW_NS};
    if (bytes >= PAGE) {
        (void)nanosleep(&slow, NULL);
    }
    return syscall(SYS_pread64, fd, buffer, bytes, offset);
}
