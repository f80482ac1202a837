// SPDX-License-Identifier: Apache-2.0
//
// Which of the files that a process runs code from have the library's probes: libdsm.so, or a program that is linked
// statically. Files are opened through /proc/PID/map_files, which leads to the very file that is mapped, also when it
// was replaced or deleted since, and also in a container; a path of /proc/PID/maps would be a name in somebody else's tree.
//
// A process may map whatever it likes, so what is opened is looked at with care: regular files only, sizes bounded, every offset
// checked before it is used. Only a file with a note of the probe dsm:fault_end is handed on.
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/dsmstat_watch.h"

enum { MOST_SECTIONS = 4096, MOST_NOTES = 1 << 20, NOTE_SDT = 3, ADDRESSES = 3 * 8 };
static const char owner[] = "stapsdt";
static const char probe[] = "dsm\0fault_end"; // provider and name

static bool note_fits(const uint8_t *at, const Elf64_Nhdr *note)
{
    return note->n_type == NOTE_SDT && note->n_namesz == sizeof owner &&
           memcmp(at, owner, sizeof owner) == 0 && note->n_descsz >= ADDRESSES + sizeof probe &&
           memcmp(at + sizeof owner + ADDRESSES, probe, sizeof probe) == 0;
}

static bool notes_fit(const uint8_t *notes, size_t bytes)
{
    size_t at = 0;
    while (bytes - at > sizeof(Elf64_Nhdr)) {
        Elf64_Nhdr note;
        memcpy(&note, notes + at, sizeof note);
        at += sizeof note;
        uint64_t name = ((uint64_t)note.n_namesz + 3) & ~(uint64_t)3;
        uint64_t rest = name + (((uint64_t)note.n_descsz + 3) & ~(uint64_t)3);
        if (rest > bytes - at) {
            return false;
        }
        if (note_fits(notes + at, &note)) {
            return true;
        }
        at += (size_t)rest;
    }
    return false;
}

static bool section_fits(int fd, const Elf64_Shdr *section)
{
    if (section->sh_type != SHT_NOTE || section->sh_size > MOST_NOTES || section->sh_size == 0) {
        return false;
    }
    uint8_t *notes = malloc(section->sh_size);
    bool fits = notes != NULL &&
                pread(fd, notes, section->sh_size, (off_t)section->sh_offset) ==
                    (ssize_t)section->sh_size &&
                notes_fit(notes, section->sh_size);
    free(notes);
    return fits;
}

bool files_has_probes(int fd)
{
    Elf64_Ehdr file;
    if (pread(fd, &file, sizeof file, 0) != (ssize_t)sizeof file ||
        memcmp(file.e_ident, ELFMAG, SELFMAG) != 0 || file.e_ident[EI_CLASS] != ELFCLASS64 ||
        file.e_shentsize != sizeof(Elf64_Shdr) || file.e_shnum > MOST_SECTIONS) {
        return false;
    }
    for (size_t i = 0; i < file.e_shnum; i++) {
        Elf64_Shdr section;
        uint64_t at = file.e_shoff + i * sizeof section;
        if (at > INT64_MAX ||
            pread(fd, &section, sizeof section, (off_t)at) != (ssize_t)sizeof section) {
            return false;
        }
        if (section_fits(fd, &section)) {
            return true;
        }
    }
    return false;
}

int files_open(const char *path)
{
    struct stat facts;
    int fd = open(path, O_PATH | O_CLOEXEC); // to open a file of an unknown kind may block
    if (fd < 0) {
        return -errno;
    }
    int error = fstat(fd, &facts) != 0 ? -errno : (S_ISREG(facts.st_mode) ? 0 : -EINVAL);
    (void)close(fd);
    if (error != 0) {
        return error;
    }
    fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int files_of_process(pid_t pid, files_visit *each, void *context)
{
    char path[64], line[512];
    int result = 0;
    (void)snprintf(path, sizeof path, "/proc/%ld/maps", (long)pid);
    FILE *maps = fopen(path, "re");
    if (maps == NULL) {
        return -errno;
    }
    bool begins = true; // a path may be longer than a line here
    while (result == 0 && fgets(line, sizeof line, maps) != NULL) {
        unsigned long from, to, inode;
        char rights[5];
        // NOLINTNEXTLINE(cert-err34-c): the kernel's own text
        int n = sscanf(line, "%lx-%lx %4s %*x %*x:%*x %lu", &from, &to, rights, &inode);
        bool whole = begins && n == 4;
        begins = strchr(line, '\n') != NULL;
        if (!whole || rights[2] != 'x' || inode == 0) {
            continue;
        }
        (void)snprintf(path, sizeof path, "/proc/%ld/map_files/%lx-%lx", (long)pid, from, to);
        int fd = files_open(path);
        if (fd >= 0) {
            result = each(context, fd);
            (void)close(fd);
        }
    }
    (void)fclose(maps);
    return result;
}
