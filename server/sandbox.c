// SPDX-License-Identifier: Apache-2.0
//
// The filter on system calls. Whoever finds a way to run code in dsmd gets what serving pages takes,
// and no more: no new process, no program, no executable memory, no connection to anywhere, no
// other process to look at, no change of user, limits or mounts. It is entered when everything is
// open and every thread runs, so that what only the start needs is not in it; SIGHUP rereads files
// and so does the store, which is why files may be opened.
//
// What is not listed fails with EPERM; it does not end the process, since a call that a library of
// another version makes is better an error than an outage. clone3 fails with ENOSYS, whereupon libc
// uses clone, whose flags can be looked at. "log" lets all pass, and the kernel writes down what
// would not have.
//
// Sanitizers make calls of their own at any time, so they do without. systemd's SystemCallFilter was
// not thought enough: it must cover the start too, and it is absent where there is no systemd.
//
// Capabilities are given up earlier, once the sockets are bound and before the first thread starts, since each
// thread has its own. Serving takes none: store and keys belong to the user that dsmd runs as.
//
// The only file that knows libseccomp. Main thread, once.
#include "server/sandbox.h"

#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANDBOX_BUILT = 0 };
#else
enum { SANDBOX_BUILT = 1 };
#endif

// libc has them, but only libcap's headers declare them.
int capget(cap_user_header_t header, cap_user_data_t data);
int capset(cap_user_header_t header, const struct __user_cap_data_struct *data);

int sandbox_drop(struct failure *failure)
{
    static const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3];
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct held[_LINUX_CAPABILITY_U32S_3];
    if (capget(&header, held) != 0 || memcmp(held, none, sizeof none) == 0) {
        return 0; // none, or the service manager's filter stands before the question
    }
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (capset(&header, none) != 0) {
        int error = -errno;
        return failure_set(failure, error, "The capabilities could not be given up: %s.",
                           strerror(-error));
    }
    return 0;
}

static const int allowed[] = {
    // Descriptors and files.
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(readv),
    SCMP_SYS(writev),
    SCMP_SYS(pread64),
    SCMP_SYS(pwrite64),
    SCMP_SYS(preadv),
    SCMP_SYS(pwritev),
    SCMP_SYS(lseek),
    SCMP_SYS(close),
    SCMP_SYS(dup),
    SCMP_SYS(fcntl),
    SCMP_SYS(open),
    SCMP_SYS(openat),
    SCMP_SYS(fstat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(stat),
    SCMP_SYS(lstat),
    SCMP_SYS(statx),
    SCMP_SYS(statfs),
    SCMP_SYS(fstatfs),
    SCMP_SYS(getdents64),
    SCMP_SYS(access),
    SCMP_SYS(faccessat),
    SCMP_SYS(faccessat2),
    SCMP_SYS(readlink),
    SCMP_SYS(readlinkat),
    SCMP_SYS(mkdir),
    SCMP_SYS(mkdirat),
    SCMP_SYS(unlink),
    SCMP_SYS(unlinkat),
    SCMP_SYS(rmdir),
    SCMP_SYS(rename),
    SCMP_SYS(renameat),
    SCMP_SYS(renameat2),
    SCMP_SYS(ftruncate),
    SCMP_SYS(fallocate),
    SCMP_SYS(fsync),
    SCMP_SYS(fdatasync),
    SCMP_SYS(syncfs),
    SCMP_SYS(sync_file_range),
    SCMP_SYS(flock),
    // Memory.
    SCMP_SYS(munmap),
    SCMP_SYS(madvise),
    SCMP_SYS(mremap),
    SCMP_SYS(brk),
    SCMP_SYS(mlock),
    SCMP_SYS(mlock2),
    SCMP_SYS(munlock),
    SCMP_SYS(msync),
    SCMP_SYS(membarrier),
    // Threads, signals, time.
    SCMP_SYS(futex),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(sched_getparam), // abseil's locks look at priorities
    SCMP_SYS(sched_getscheduler),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(gettid),
    SCMP_SYS(getpid),
    SCMP_SYS(tgkill),
    SCMP_SYS(nanosleep),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_getres),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(alarm),
    SCMP_SYS(setitimer),
    SCMP_SYS(getcpu),
    SCMP_SYS(getrandom),
    SCMP_SYS(getrlimit),
    SCMP_SYS(sysinfo),
    SCMP_SYS(uname),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(getgroups),
    // Waiting.
    SCMP_SYS(epoll_create1),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_pwait2),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(eventfd2),
    SCMP_SYS(pipe2),
    SCMP_SYS(timerfd_create),
    SCMP_SYS(timerfd_settime),
    // Connections that came to us.
    SCMP_SYS(accept),
    SCMP_SYS(accept4),
    SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(sendmsg),
    SCMP_SYS(sendmmsg),
    SCMP_SYS(shutdown),
    SCMP_SYS(getsockopt),
    SCMP_SYS(setsockopt),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
};

// With a look at an argument: no executable memory, only threads, only messages to the service
// manager, no new limits, nothing of prctl but names of threads.
static const struct {
    int call;
    struct scmp_arg_cmp argument;
} conditions[] = {
    {SCMP_SYS(mmap), {2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0}},
    {SCMP_SYS(mmap2), {2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0}},
    {SCMP_SYS(mprotect), {2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0}},
    {SCMP_SYS(clone), {0, SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD}},
    {SCMP_SYS(socket), {0, SCMP_CMP_EQ, AF_UNIX, 0}},
    {SCMP_SYS(prlimit64), {2, SCMP_CMP_EQ, 0, 0}},
    {SCMP_SYS(prctl), {0, SCMP_CMP_EQ, PR_SET_NAME, 0}},
    {SCMP_SYS(ioctl), {1, SCMP_CMP_EQ, FIONREAD, 0}},
    {SCMP_SYS(ioctl), {1, SCMP_CMP_EQ, FIONBIO, 0}},
};

static int add_rules(scmp_filter_ctx filter)
{
    int error = 0;
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed && error == 0; i++) {
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
    }
    for (size_t i = 0; i < sizeof conditions / sizeof *conditions && error == 0; i++) {
        error = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, conditions[i].call, 1,
                                       &conditions[i].argument);
    }
    if (error == 0) { // the failpoints of the tests end the process so
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(kill), 1,
                                 SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0));
    }
    return error != 0 ? error
                      : seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
}

int sandbox_enter(const char *mode, struct failure *failure)
{
    if (!SANDBOX_BUILT || strcmp(mode, "off") == 0) {
        return 0;
    }
    bool log = strcmp(mode, "log") == 0;
    scmp_filter_ctx filter = seccomp_init(log ? SCMP_ACT_LOG : SCMP_ACT_ERRNO(EPERM));
    int error = filter == NULL ? -ENOMEM : 0;
    if (error == 0) { // the threads that run already, too
        error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    }
    error = error == 0 ? add_rules(filter) : error;
    error = error == 0 ? seccomp_load(filter) : error;
    if (filter != NULL) {
        seccomp_release(filter);
    }
    if (error != 0) {
        return failure_set(
            failure, error,
            "The filter on system calls could not be installed: %s. Where the kernel "
            "has none, say: seccomp = off",
            strerror(-error));
    }
    return 0;
}
