// SPDX-License-Identifier: Apache-2.0
//
// Where an embedded server keeps its store. Two ways, tried in this order:
//
//   a tmpfs that is mounted nowhere  Only this process' descriptor holds it, so no other process sees a file of it, and the
//                                    kernel takes it away with the process, however that ends. The kernel also keeps its
//                                    size. It takes the right to mount; who lacks it gets it in a user name space of its
//                                    own, where the system allows that, and gives all rights away again afterwards.
//   a directory in /dev/shm          Mode 0700. This process takes it away when the program is gone. Should it be killed
//                                    itself, the next embedded server of the same user does: whose lock on the
//                                    directory is free is dead.
//
// A memfd was rejected: the store makes and removes files, and a directory is what it is written for. An unlinked
// directory takes no new files.
//
// A user name space can only be entered by a process of one thread; thread sanitizer has a thread of its own, so
// there it is the directory.
#include "server/embedded_place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rpc/limits.h"

#define SHM "/dev/shm"
#define SHM_PREFIX "dsm-embedded."

// ---- a tmpfs that is mounted nowhere ----

static int configure(int context, uint64_t capacity_bytes)
{
    char size[32];
    // What the store needs besides is its business to check; this is the kernel's last word.
    uint64_t bytes = capacity_bytes + capacity_bytes / 32 + 2ULL * LIMIT_HEADROOM_BYTES;
    (void)snprintf(size, sizeof size, "%llu", (unsigned long long)bytes);
    if (fsconfig(context, FSCONFIG_SET_STRING, "size", size, 0) != 0 ||
        fsconfig(context, FSCONFIG_SET_STRING, "mode", "0700", 0) != 0 ||
        fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) != 0) {
        return -errno;
    }
    int fd =
        fsmount(context, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    return fd >= 0 ? fd : -errno;
}

static int mount_nowhere(uint64_t capacity_bytes)
{
    int context = fsopen("tmpfs", FSOPEN_CLOEXEC);
    if (context < 0) {
        return -errno;
    }
    int fd = configure(context, capacity_bytes);
    (void)close(context);
    return fd;
}

static int write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int error = write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -EIO;
    (void)close(fd);
    return error;
}

// In the new name space this process keeps its own user and group, and knows no other.
static int enter_name_space(void)
{
    char users[64];
    char groups[64];
    (void)snprintf(users, sizeof users, "%u %u 1", geteuid(), geteuid());
    (void)snprintf(groups, sizeof groups, "%u %u 1", getegid(), getegid());
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) {
        return -errno;
    }
    int error = write_text("/proc/self/setgroups", "deny");
    error = error == 0 ? write_text("/proc/self/uid_map", users) : error;
    return error == 0 ? write_text("/proc/self/gid_map", groups) : error;
}

static void drop_rights(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    (void)syscall(SYS_capset, &head, none);
}

static int make_unseen(uint64_t capacity_bytes)
{
    int fd = mount_nowhere(capacity_bytes);
    if (fd == -EPERM && enter_name_space() == 0) {
        fd = mount_nowhere(capacity_bytes);
        drop_rights();
    }
    return fd;
}

// ---- a directory in /dev/shm ----

static int remove_one(const char *path, const struct stat *facts, int kind, struct FTW *at)
{
    (void)facts;
    (void)kind;
    (void)at;
    (void)remove(path);
    return 0;
}

static void remove_tree(const char *path)
{
    (void)nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static void remove_if_dead(const char *name)
{
    struct stat facts;
    char path[PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/%s", SHM, name);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &facts) == 0 && facts.st_uid == geteuid() &&
        flock(fd, LOCK_EX | LOCK_NB) == 0) {
        remove_tree(path);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}

static void remove_dead(void)
{
    DIR *entries = opendir(SHM);
    if (entries == NULL) {
        return;
    }
    const struct dirent *entry;
    while ((entry = readdir(entries)) != NULL) {
        if (strncmp(entry->d_name, SHM_PREFIX, strlen(SHM_PREFIX)) == 0) {
            remove_if_dead(entry->d_name);
        }
    }
    (void)closedir(entries);
}

// Between its making and its locking another process may have taken it for dead: then it has no name any more.
static int make_directory(char path[64])
{
    for (int tries = 0; tries < 8; tries++) {
        struct stat facts;
        (void)snprintf(path, 64, "%s/%sXXXXXX", SHM, SHM_PREFIX);
        if (mkdtemp(path) == NULL) {
            return -errno;
        }
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &facts) == 0 &&
            facts.st_nlink > 0) {
            return fd;
        }
        if (fd >= 0) {
            (void)close(fd);
        }
    }
    return -EBUSY;
}

int embedded_place_make(struct embedded_place *place, uint64_t capacity_bytes,
                        struct failure *failure)
{
    remove_dead();
    int fd = make_unseen(capacity_bytes);
    place->visible = fd < 0;
    if (fd >= 0) {
        (void)snprintf(place->path, sizeof place->path, "/proc/self/fd/%d", fd);
    } else {
        fd = make_directory(place->path);
    }
    if (fd < 0) {
        return failure_set(failure, fd, "There is no place for the store in %s: %s.", SHM,
                           strerror(-fd));
    }
    place->fd = fd;
    return 0;
}

void embedded_place_remove(struct embedded_place *place)
{
    if (place->visible) {
        remove_tree(place->path);
        place->visible = false;
    }
    if (place->fd >= 0) {
        (void)close(place->fd);
        place->fd = -1;
    }
}
