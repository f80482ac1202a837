// SPDX-License-Identifier: Apache-2.0
//
// The process that attaches. To show numbers takes no rights, to attach to programs that come later does; so dsmstat parts in two as
// soon as the kernel has the BPF programs. The parent gives up root and every capability, for good, and shows what the maps hold.
// The child keeps what attaching takes and nothing else (CAP_SYS_ADMIN for probes, CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH to find
// the library in other users' processes), reads no argument and no file but those of /proc and the programs' own, and answers
// one question: what is new? It says so in words of fixed size, with the descriptor of each new statistics page, which only
// it may open.
//
// All that is attached hangs on the child's descriptors. It ends when the parent does, by whatever means: the kernel
// kills it (pdeathsig), and the socket's end would do it, too. So kill -9 of either leaves nothing behind.
//
// A file is known by device and inode: a library that is replaced while programs run is another file, and is attached to
// when the first program has it mapped. Former ones stay attached while there is room, for programs still use them.
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tools/dsmstat_watch.h"

enum { NOBODY = 65534, MOST_FILES = 4096 };

struct file { // that was looked at
    dev_t device;
    ino_t inode;
    struct timespec
        changed; // a number of a file that is gone may be used again; not while we are attached
    bool attached;
    unsigned number; // of seen_attach_file
};
struct attacher {
    struct seen *seen;
    const struct stat_options *options;
    int socket;
    struct stat_sample sample;
    struct file *files;
    size_t count;
    bool begun;
};

// ---- rights ----

static uint64_t bit(unsigned capability)
{
    return (uint64_t)1 << capability;
}

static int set_capabilities(uint64_t kept)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {
        {.effective = (uint32_t)kept, .permitted = (uint32_t)kept},
        {.effective = (uint32_t)(kept >> 32), .permitted = (uint32_t)(kept >> 32)}};
    return syscall(SYS_capset, &header, data) == 0 ? 0 : -errno;
}

static unsigned number_of(const char *variable)
{
    const char *text = getenv(variable);
    char *end = NULL;
    unsigned long number = text != NULL ? strtoul(text, &end, 10) : 0;
    return text != NULL && *end == '\0' && number > 0 && number < UINT32_MAX ? (unsigned)number
                                                                             : NOBODY;
}

// From now on an ordinary user: the one who called sudo, or nobody; with these capabilities, and no way to more.
static int drop_rights(uint64_t kept)
{
    uid_t user = number_of("SUDO_UID");
    gid_t group = number_of("SUDO_GID");
    if (geteuid() == 0 && (prctl(PR_SET_KEEPCAPS, kept != 0 ? 1UL : 0UL, 0UL, 0UL, 0UL) != 0 ||
                           setgroups(0, NULL) != 0 || setresgid(group, group, group) != 0 ||
                           setresuid(user, user, user) != 0)) {
        return -errno;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1UL, 0UL, 0UL, 0UL) != 0) {
        return -errno;
    }
    return set_capabilities(kept);
}

// ---- words ----

static void say(const struct attacher *attacher, enum attach_kind kind, pid_t pid, const char *text,
                int descriptor)
{
    struct attach_word word = {.kind = kind, .pid = pid};
    struct iovec part = {.iov_base = &word, .iov_len = sizeof word};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } room = {0};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    (void)snprintf(word.text, sizeof word.text, "%s", text);
    if (descriptor >= 0) {
        message.msg_control = room.bytes;
        message.msg_controllen = sizeof room.bytes;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
    }
    if (sendmsg(attacher->socket, &message, MSG_NOSIGNAL) < 0) {
        _exit(0); // nobody wants to know
    }
}

// ---- files ----

static bool remember(struct attacher *attacher, const struct file *file)
{
    struct file *more = reallocarray(attacher->files, attacher->count + 1, sizeof *more);
    if (more == NULL) {
        return false;
    }
    attacher->files = more;
    attacher->files[attacher->count++] = *file;
    return true;
}

static struct file *known(const struct attacher *attacher, const struct stat *facts)
{
    for (size_t i = 0; i < attacher->count; i++) {
        struct file *file = &attacher->files[i];
        if (file->device == facts->st_dev && file->inode == facts->st_ino &&
            (file->attached || (file->changed.tv_sec == facts->st_ctim.tv_sec &&
                                file->changed.tv_nsec == facts->st_ctim.tv_nsec))) {
            return file;
        }
    }
    return NULL;
}

// Only those that are attached are worth being remembered for ever.
static void forget_others(struct attacher *attacher)
{
    size_t kept = 0;
    for (size_t i = 0; i < attacher->count; i++) {
        if (attacher->files[i].attached) {
            attacher->files[kept++] = attacher->files[i];
        }
    }
    attacher->count = kept;
}

// No room for another file: what was attached to first goes.
static void detach_oldest(struct attacher *attacher)
{
    for (size_t i = 0; i < attacher->count; i++) {
        if (attacher->files[i].attached) {
            seen_detach_file(attacher->seen, attacher->files[i].number);
            memmove(&attacher->files[i], &attacher->files[i + 1],
                    (attacher->count - i - 1) * sizeof attacher->files[i]);
            attacher->count--;
            return;
        }
    }
}

static int attach(struct attacher *attacher, int fd, struct file *file)
{
    struct failure failure;
    char path[32];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int error = seen_attach_file(attacher->seen, path, &file->number, &failure);
    if (error == -ENOSPC) {
        detach_oldest(attacher);
        error = seen_attach_file(attacher->seen, path, &file->number, &failure);
    }
    if (error != 0) {
        say(attacher, ATTACH_NOTE, 0, failure.text, -1);
    }
    return error;
}

static int meet_file(void *context, int fd)
{
    struct attacher *attacher = context;
    struct stat facts;
    if (fstat(fd, &facts) != 0 || known(attacher, &facts) != NULL) {
        return 0;
    }
    struct file file = {.device = facts.st_dev, .inode = facts.st_ino, .changed = facts.st_ctim};
    if (attacher->count == MOST_FILES) {
        forget_others(attacher);
    }
    file.attached = files_has_probes(fd) && attach(attacher, fd, &file) == 0;
    (void)remember(attacher, &file);
    return 0;
}

// A file that somebody named, or the library that was installed with this dsmstat: programs that start later have it.
static void meet_path(struct attacher *attacher, const char *path, bool must)
{
    char text[FAILURE_TEXT_BYTES];
    int fd = files_open(path);
    if (fd >= 0 && (!must || files_has_probes(fd))) {
        (void)meet_file(attacher, fd);
    } else if (must) {
        (void)snprintf(text, sizeof text, "%.200s: %s", path,
                       fd < 0 ? strerror(-fd) : "it has no probes of the library");
        say(attacher, ATTACH_NOTE, 0, text, -1);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}

static void meet_installed(struct attacher *attacher)
{
    static const char *const places[] = {"../lib/libdsm.so.0", "../lib/" DSM_TRIPLET "/libdsm.so.0",
                                         "../lib64/libdsm.so.0"};
    char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 64);
    char *slash = length > 0 ? (path[length] = '\0', strrchr(path, '/')) : NULL;
    for (size_t i = 0; slash != NULL && i < sizeof places / sizeof places[0]; i++) {
        (void)snprintf(slash + 1, 64, "%s", places[i]);
        meet_path(attacher, path, false);
    }
}

// ---- looking ----

static unsigned tell_clients(struct attacher *attacher)
{
    unsigned alive = 0;
    for (struct stat_client *client = attacher->sample.clients; client != NULL;
         client = client->next) {
        alive += client->ended ? 0 : 1;
        if (!client->told && !client->ended) {
            client->told = true;
            (void)files_of_process(client->pid, meet_file, attacher);
            say(attacher, ATTACH_CLIENT, client->pid, "", client->fd);
        }
    }
    return alive;
}

// A process without a page (DSM_STAT=off) can be watched all the same when it is named.
static unsigned look_at_named(struct attacher *attacher, struct failure *failure)
{
    pid_t pid = attacher->options->pid;
    if (kill(pid, 0) != 0 && errno == ESRCH) {
        return 0;
    }
    if (!attacher->begun) {
        (void)files_of_process(pid, meet_file, attacher);
        bool any = false;
        for (size_t i = 0; i < attacher->count; i++) {
            any = any || attacher->files[i].attached;
        }
        if (!any) {
            return 0;
        }
        (void)failure_set(failure, 0, "%s", "");
    }
    return 1;
}

static void look(struct attacher *attacher)
{
    struct failure failure = {""};
    unsigned alive = 0;
    int error = 0;
    if (!attacher->begun) {
        error = seen_attach_kernel(attacher->seen, &failure);
        if (error == 0 && attacher->options->library_file != NULL) {
            meet_path(attacher, attacher->options->library_file, true);
        }
        if (error == 0 && attacher->options->pid == 0) {
            meet_installed(attacher);
        }
    }
    if (error == 0) {
        error = stat_sample_take(&attacher->sample, attacher->options->pid, &failure);
        alive = error == 0 ? tell_clients(attacher) : 0;
        if (error != 0 && attacher->options->pid != 0) {
            alive = look_at_named(attacher, &failure);
            error = alive > 0 || attacher->begun ? 0 : error;
        }
    }
    attacher->begun = true;
    say(attacher, error != 0 ? ATTACH_FAILED : ATTACH_DONE, (pid_t)alive, failure.text, -1);
}

static _Noreturn void serve(struct seen *seen, const struct stat_options *options, int socket,
                            pid_t parent)
{
    struct attacher attacher = {.seen = seen, .options = options, .socket = socket};
    const uint64_t kept = bit(CAP_SYS_ADMIN) | bit(CAP_SYS_PTRACE) | bit(CAP_DAC_READ_SEARCH);
    (void)signal(SIGINT, SIG_IGN); // the terminal's are the parent's
    (void)signal(SIGTERM, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    int null = open("/dev/null",
                    O_RDWR | O_CLOEXEC); // who reads our output waits for the parent's end alone
    for (int i = 0; i < 3 && null >= 0; i++) {
        (void)dup2(null, i);
    }
    if (drop_rights(kept) != 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) {
        _exit(1);
    }
    char question;
    while (recv(socket, &question, 1, 0) == 1) {
        look(&attacher);
    }
    _exit(0);
}

int attach_start(struct seen *seen, const struct stat_options *options, pid_t *child,
                 struct failure *failure)
{
    int ends[2];
    pid_t parent = getpid();
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        return failure_set(failure, -errno, "no socket pair: %s", strerror(errno));
    }
    pid_t pid = fork();
    if (pid == 0) {
        (void)close(ends[0]);
        serve(seen, options, ends[1], parent);
    }
    int error = pid < 0 ? -errno : 0;
    (void)close(ends[1]);
    if (error == 0) {
        error = drop_rights(0);
    }
    if (error != 0) {
        (void)close(ends[0]);
        return failure_set(failure, error, "root's rights cannot be given up: %s",
                           strerror(-error));
    }
    *child = pid;
    return ends[0];
}
