// SPDX-License-Identifier: Apache-2.0
//
// Which programs tasks may run here, and which of them is the one of this build id. The build id is read from the file itself, so a
// program may have any name, and several versions of it may lie side by side.
//
// A program is started by its path, so nobody but root and the agent's own user may be able to change it or its folder between the
// look and the start. The program compares the build id once more, with what it was linked with, before it takes a task.
//
// Looked through at each offer: a program that is installed while the agent runs is found. Folders are bounded.
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/dsmctl_agent.h"

enum { MOST_FILES = 4096, MOST_PARTS = 128, NOTES_BYTES = 16 << 10 };

static bool ours_alone(const struct stat *status)
{
    return (status->st_uid == 0 || status->st_uid == geteuid()) &&
           (status->st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

int agent_binary_check(const char *path, struct failure *failure)
{
    struct stat status;
    if (path[0] != '/') {
        return failure_set(failure, -EINVAL, "binaries = %s: say the whole path.", path);
    }
    if (stat(path, &status) != 0) {
        return failure_set(failure, -errno, "binaries = %s: %s.", path, strerror(errno));
    }
    if (!S_ISDIR(status.st_mode) && !S_ISREG(status.st_mode)) {
        return failure_set(failure, -EINVAL, "binaries = %s: that is no file and no directory.",
                           path);
    }
    return ours_alone(&status)
               ? 0
               : failure_set(failure, -EPERM,
                             "binaries = %s: it must belong to root or to the agent's user, and "
                             "nobody else may write it. Say: chmod go-w %s",
                             path, path);
}

static size_t aligned(size_t bytes)
{
    return (bytes + 3) & ~(size_t)3;
}

static bool notes_have(const uint8_t *at, size_t bytes, const struct mover_offer *offer)
{
    Elf64_Nhdr note;
    while (bytes >= sizeof note) {
        memcpy(&note, at, sizeof note);
        size_t name = aligned(note.n_namesz), value = aligned(note.n_descsz);
        if (name > bytes - sizeof note || value > bytes - sizeof note - name) {
            return false;
        }
        const uint8_t *text = at + sizeof note;
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == sizeof "GNU" &&
            memcmp(text, "GNU", sizeof "GNU") == 0 && note.n_descsz == offer->build_id_bytes &&
            memcmp(text + name, offer->build_id, offer->build_id_bytes) == 0) {
            return true;
        }
        at += sizeof note + name + value;
        bytes -= sizeof note + name + value;
    }
    return false;
}

static bool file_has(int fd, const struct mover_offer *offer)
{
    Elf64_Ehdr head;
    uint8_t notes[NOTES_BYTES];
    if (pread(fd, &head, sizeof head, 0) != sizeof head ||
        memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 || head.e_ident[EI_CLASS] != ELFCLASS64 ||
        head.e_phentsize != sizeof(Elf64_Phdr) || head.e_phnum > MOST_PARTS) {
        return false;
    }
    for (unsigned i = 0; i < head.e_phnum; i++) {
        Elf64_Phdr part;
        off_t at = (off_t)(head.e_phoff + i * sizeof part);
        if (pread(fd, &part, sizeof part, at) != sizeof part) {
            return false;
        }
        if (part.p_type == PT_NOTE && part.p_filesz <= sizeof notes &&
            pread(fd, notes, part.p_filesz, (off_t)part.p_offset) == (ssize_t)part.p_filesz &&
            notes_have(notes, part.p_filesz, offer)) {
            return true;
        }
    }
    return false;
}

// Relative to a folder, or AT_FDCWD.
static bool is_it(int folder, const char *name, const struct mover_offer *offer)
{
    struct stat status;
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        return false;
    }
    bool is = fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
              (status.st_mode & S_IXUSR) != 0 && ours_alone(&status) && file_has(fd, offer);
    (void)close(fd);
    return is;
}

static bool find_in(const char *path, const struct mover_offer *offer, setting_path *found)
{
    struct stat status;
    DIR *folder = opendir(path);
    bool is = false;
    if (folder == NULL) {
        return false;
    }
    const struct dirent *entry;
    bool trusted = fstat(dirfd(folder), &status) == 0 && ours_alone(&status);
    for (int i = 0; trusted && !is && i < MOST_FILES && (entry = readdir(folder)) != NULL; i++) {
        is = entry->d_name[0] != '.' && strlen(path) + strlen(entry->d_name) + 2 <= sizeof *found &&
             is_it(dirfd(folder), entry->d_name, offer);
        if (is) {
            (void)snprintf(*found, sizeof *found, "%s/%s", path, entry->d_name);
        }
    }
    (void)closedir(folder);
    return is;
}

int agent_binary_find(const struct agent_config *config, const struct mover_offer *offer,
                      setting_path *path, struct failure *failure)
{
    char id[2 * LIMIT_BUILD_ID_BYTES + 1] = "";
    for (unsigned i = 0; i < config->binaries.count; i++) {
        const char *named = config->binaries.items[i];
        if (find_in(named, offer, path)) {
            return 0;
        }
        if (is_it(AT_FDCWD, named, offer)) {
            memcpy(*path, named, strlen(named) + 1);
            return 0;
        }
    }
    for (uint32_t i = 0; i < offer->build_id_bytes; i++) {
        (void)snprintf(id + (size_t)2 * i, 3, "%02x", offer->build_id[i]);
    }
    return failure_set(failure, -ENOENT,
                       "That host has no program of build id %s: copy the file that the task runs "
                       "there, into one of the agent's \"binaries\".",
                       id);
}
