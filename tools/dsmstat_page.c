// SPDX-License-Identifier: Apache-2.0
//
// One statistics page, read from outside. Root may look at pages of anybody, so a page is somebody else's bytes until it is
// checked: it must be a memory file, sealed so that it neither shrinks nor is written to by others, owned by its process's user,
// and tell that process's own pid (a forked child inherits the descriptor of its parent's). It is looked at through O_PATH before
// it is opened, for to open a file of an unknown kind may block or have effects. Names are cut to what a terminal may be
// sent.
//
// It is read, not mapped: a read of a file that is not what it seems ends in an error, and not in SIGBUS. Each counter is an
// aligned word, which the kernel copies whole.
//
// The descriptor is kept, and with it the page, when the process ends: so the last numbers are not lost, and a pid that is
// used again is not mistaken for the old one, since its page is another file.
//
// Counters are found by name: a program with an older or a newer library shows those that both know.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "tools/dsmstat.h"

const struct stat_counter_text stat_counters[STAT_COUNTERS] = {
#define SUM false
#define LEVEL true
#define DSM_COUNTER(name, unit, kind, trap, column, meaning)                                       \
    {#name, #unit, meaning, kind, STAT_COLUMN_##column},
#include <dsm/counters.def>
#undef DSM_COUNTER
#undef SUM
#undef LEVEL
};

_Static_assert(sizeof(struct stat_latency) == sizeof(struct latency), "as it lies in the page");

static const char link_text[] = "/memfd:" STAT_PAGE_NAME " (deleted)";

// Opens what O_PATH has found, if it can only be a statistics page of `owner`.
static int open_page(int found, uid_t owner, struct stat_client *client)
{
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE;
    struct statfs system;
    struct stat facts;
    char path[64];
    if (fstatfs(found, &system) != 0 || system.f_type != TMPFS_MAGIC || fstat(found, &facts) != 0 ||
        !S_ISREG(facts.st_mode) || facts.st_nlink != 0 || facts.st_uid != owner ||
        facts.st_size > STAT_PAGE_MOST_BYTES) {
        return -ENOENT;
    }
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", found);
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int has = fcntl(fd, F_GET_SEALS);
    if (has < 0 || (has & seals) != seals) {
        (void)close(fd);
        return -ENOENT;
    }
    client->fd = fd;
    client->device = facts.st_dev;
    client->inode = facts.st_ino;
    client->bytes = (uint32_t)facts.st_size;
    return 0;
}

// The pid by which the process knows itself: the last of NSpid. 0: unknown.
static pid_t own_pid(pid_t pid)
{
    char path[32];
    char line[256];
    pid_t own = 0;
    (void)snprintf(path, sizeof path, "/proc/%ld/status", (long)pid);
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "NSpid:", 6) == 0) {
            const char *last = strrchr(line, '\t');
            own = last != NULL ? (pid_t)strtol(last, NULL, 10) : 0;
            break;
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return own;
}

static void copy_printable(char *to, const char *from, size_t bytes)
{
    memcpy(to, from, bytes);
    to[bytes - 1] = '\0';
    for (char *at = to; *at != '\0'; at++) {
        if (*at < ' ' || *at > '~') {
            *at = '?';
        }
    }
}

static void find_counters(struct stat_client *client, const struct stat_page_header *header,
                          const char *names)
{
    const char *end = names + header->names_bytes;
    uint32_t at = header->counters_offset;
    for (uint32_t i = 0; i < header->counters && names < end; i++, at += sizeof(uint64_t)) {
        size_t length = strnlen(names, (size_t)(end - names));
        for (size_t k = 0; k < STAT_COUNTERS; k++) {
            if (strlen(stat_counters[k].name) == length &&
                memcmp(stat_counters[k].name, names, length) == 0) {
                client->place[k] = at;
            }
        }
        names += length + 1;
    }
}

static bool within(uint64_t offset, uint64_t bytes, uint64_t all)
{
    return offset <= all && bytes <= all - offset;
}

static int take_header(struct stat_client *client, const uint8_t *page, size_t bytes)
{
    struct stat_page_header header;
    if (bytes < sizeof header) {
        return -ENOENT;
    }
    memcpy(&header, page, sizeof header);
    if (header.magic != STAT_PAGE_MAGIC || header.version != STAT_PAGE_VERSION ||
        header.counters > STAT_PAGE_MOST_COUNTERS ||
        header.counters_offset % sizeof(uint64_t) != 0 || header.counters_offset < sizeof header ||
        !within(header.counters_offset, header.counters * sizeof(uint64_t), bytes) ||
        !within(header.names_offset, header.names_bytes, bytes)) {
        return -ENOENT;
    }
    client->own_pid = header.pid;
    client->opened_ns = header.opened_ns;
    client->cache_bytes = header.cache_bytes;
    static const char *const traps[] = {"", "mprotect", "uffd", "uffd-sync"};
    client->trap = header.trap < sizeof traps / sizeof *traps ? traps[header.trap] : "";
    copy_printable(client->program, header.program, sizeof client->program);
    if (header.server[0] == '\0') { // named none
        (void)strncpy(header.server, "embedded", sizeof header.server);
    }
    copy_printable(client->server, header.server, sizeof client->server);
    find_counters(client, &header, (const char *)page + header.names_offset);
    if (header.latency_buckets == LATENCY_BUCKETS && // else made by a library of other buckets
        header.fault_latency_offset % sizeof(uint64_t) == 0 &&
        within(header.fault_latency_offset, sizeof(struct latency), bytes)) {
        client->latency_place = header.fault_latency_offset;
    }
    if (header.segment_bytes >= sizeof(struct stat_page_segment) &&
        header.segments_offset % sizeof(uint64_t) == 0 && header.segments <= STAT_PAGE_MOST_BYTES &&
        header.segment_bytes % sizeof(uint64_t) == 0 &&
        within(header.segments_offset, (uint64_t)header.segments * header.segment_bytes, bytes)) {
        client->segments_place = header.segments_offset;
        client->segments = header.segments;
        client->segment_bytes = header.segment_bytes;
    }
    return 0;
}

static int read_page(const struct stat_client *client, uint8_t page[STAT_PAGE_MOST_BYTES])
{
    ssize_t got = pread(client->fd, page, client->bytes, 0);
    return got < 0 ? -errno : (got == (ssize_t)client->bytes ? 0 : -EIO);
}

// The process may end or close its session at any moment in here: then there is none.
static int examine(int directory, const char *name, uid_t owner, struct stat_client *client)
{
    static uint8_t page[STAT_PAGE_MOST_BYTES] __attribute__((aligned(8)));
    char text[sizeof link_text + 1];
    ssize_t length = readlinkat(directory, name, text, sizeof text);
    if (length != (ssize_t)sizeof link_text - 1 || memcmp(text, link_text, (size_t)length) != 0) {
        return -ENOENT;
    }
    int found = openat(directory, name, O_PATH | O_CLOEXEC);
    if (found < 0) {
        return -ENOENT;
    }
    int error = open_page(found, owner, client);
    (void)close(found);
    if (error == 0) {
        error = read_page(client, page) == 0 ? take_header(client, page, client->bytes) : -ENOENT;
        if (error != 0 || client->own_pid != own_pid(client->pid)) {
            error = -ENOENT;
            (void)close(client->fd);
        }
    }
    return error == 0 ? 0 : -ENOENT;
}

int stat_client_find(pid_t pid, struct stat_client **client)
{
    char path[32];
    struct stat facts;
    (void)snprintf(path, sizeof path, "/proc/%ld/fd", (long)pid);
    DIR *directory = opendir(path);
    if (directory == NULL || fstat(dirfd(directory), &facts) != 0) {
        int error = errno == ENOENT ? -ESRCH : -errno;
        if (directory != NULL) {
            (void)closedir(directory);
        }
        return error;
    }
    struct stat_client *made = calloc(1, sizeof *made);
    int error = made != NULL ? -ENOENT : -ENOMEM;
    const struct dirent *entry;
    while (error == -ENOENT && (entry = readdir(directory)) != NULL) {
        made->pid = pid;
        made->user = facts.st_uid;
        error = examine(dirfd(directory), entry->d_name, facts.st_uid, made);
    }
    (void)closedir(directory);
    if (error != 0) {
        free(made);
        return error;
    }
    *client = made;
    return 0;
}

int stat_client_adopt(pid_t pid, int fd, struct stat_client **client)
{
    static uint8_t page[STAT_PAGE_MOST_BYTES] __attribute__((aligned(8)));
    struct stat facts;
    struct stat_client *made = calloc(1, sizeof *made);
    int error = made == NULL ? -ENOMEM : (fstat(fd, &facts) != 0 ? -errno : 0);
    if (error == 0) {
        made->pid = pid;
        made->fd = fd;
        made->bytes = facts.st_size > STAT_PAGE_MOST_BYTES ? 0 : (uint32_t)facts.st_size;
        made->device = facts.st_dev;
        made->inode = facts.st_ino;
        error = read_page(made, page) == 0 ? take_header(made, page, made->bytes) : -ENOENT;
    }
    if (error != 0) {
        free(made);
        (void)close(fd);
        return error;
    }
    *client = made;
    return 0;
}

void stat_client_read(struct stat_client *client)
{
    static uint8_t page[STAT_PAGE_MOST_BYTES] __attribute__((aligned(8)));
    memcpy(client->before, client->now, sizeof client->before);
    client->latency_before = client->latency_now;
    if (read_page(client, page) != 0) {
        return; // as it was
    }
    for (size_t i = 0; i < STAT_COUNTERS; i++) {
        if (client->place[i] != 0) {
            memcpy(&client->now[i], page + client->place[i], sizeof client->now[i]);
        }
    }
    if (client->latency_place != 0) {
        memcpy(&client->latency_now, page + client->latency_place, sizeof client->latency_now);
    }
}

void stat_client_segments(const struct stat_client *client, stat_visit_segment *each, void *context)
{
    static uint8_t page[STAT_PAGE_MOST_BYTES] __attribute__((aligned(8)));
    if (client->segments_place == 0 || read_page(client, page) != 0) {
        return;
    }
    for (uint32_t i = 0; i < client->segments; i++) {
        struct stat_page_segment place;
        memcpy(&place, page + client->segments_place + (size_t)i * client->segment_bytes,
               sizeof place);
        if (place.number != 0 && place.number == place.again) { // else free, or it changes just now
            struct stat_segment segment = {
                .number = place.number, .page_bytes = place.page_bytes, .pages = place.pages};
            copy_printable(segment.name, place.name, sizeof segment.name);
            each(context, &segment);
        }
    }
}

void stat_client_destroy(struct stat_client **client)
{
    if (*client != NULL) {
        (void)close((*client)->fd);
        free(*client);
        *client = NULL;
    }
}
