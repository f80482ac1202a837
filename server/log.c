// SPDX-License-Identifier: Apache-2.0
//
// Writes log lines. Each is put together in a buffer and goes out with one write(), so that lines
// of several threads do not mix and a line survives the process. Bytes from outside (names,
// addresses) may stand in a line; what is not printable is replaced, so nobody can forge lines or
// send escape sequences to a terminal.
//
// It must never block the caller for long or fail it: what cannot be written is dropped. So a pipe
// that nobody reads is asked first whether it has room: the listener's thread logs too, and whoever
// reads the log must not be able to stop it by stopping to read.
//
// Where stderr is the journal (JOURNAL_STREAM names that very descriptor) a line begins with its
// priority as "<N>", which the journal takes off, and it needs neither our name nor the level's.
// syslog(3) was rejected: systemd's journal and containers take stderr as it is.
//
// Threads: any. The level may change at any time; the lock guards the budgets only.
#include "server/log.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOG_LINE_BYTES = 512, LOG_BUDGET_PER_S = 5 };

struct log_budget { // of lines that peers can cause
    int64_t second;
    unsigned said;       // in that second
    unsigned suppressed; // since the last one that was said
};

struct log {
    _Atomic enum log_level level;
    bool journal;
    pthread_mutex_t lock;
    struct log_budget strangers, clients;
    _Atomic uint64_t too_many, no_room;
};

static const char *const level_names[] = {"error", "warning", "info", "debug"};
static const char level_priorities[] = {'3', '4', '6', '7'}; // syslog's

int log_level_parse(const char *text, enum log_level *level)
{
    for (unsigned i = 0; i < sizeof level_names / sizeof *level_names; i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *level = (enum log_level)i;
            return 0;
        }
    }
    return -EINVAL;
}

// DEVICE:INODE of the stream that goes to the journal: is it still our stderr?
static bool is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat status;
    char ours[64];
    if (stream == NULL || fstat(STDERR_FILENO, &status) != 0) {
        return false;
    }
    (void)snprintf(ours, sizeof ours, "%" PRIu64 ":%" PRIu64, (uint64_t)status.st_dev,
                   (uint64_t)status.st_ino);
    return strcmp(stream, ours) == 0;
}

struct log *log_create(enum log_level level)
{
    struct log *log = calloc(1, sizeof *log);
    if (log != NULL) {
        atomic_store(&log->level, level);
        log->journal = is_journal();
        (void)pthread_mutex_init(&log->lock, NULL);
    }
    return log;
}

void log_set_level(struct log *log, enum log_level level)
{
    atomic_store(&log->level, level);
}

void log_destroy(struct log **log)
{
    if (*log != NULL) {
        (void)pthread_mutex_destroy(&(*log)->lock);
        free(*log);
        *log = NULL;
    }
}

// False: there was no room for it.
static bool put(bool journal, enum log_level level, const char *format, va_list arguments)
{
    char line[LOG_LINE_BYTES];
    int head = journal ? snprintf(line, sizeof line, "<%c>", level_priorities[level])
                       : snprintf(line, sizeof line, "dsmd: %s: ", level_names[level]);
    int body = vsnprintf(line + head, sizeof line - (size_t)head - 1, format, arguments);
    size_t bytes = (size_t)head + (body > 0 ? (size_t)body : 0);
    if (bytes > sizeof line - 2) {
        bytes = sizeof line - 2;
    }
    for (size_t i = 0; i < bytes; i++) {
        if (line[i] < ' ' || line[i] > '~') {
            line[i] = '?';
        }
    }
    line[bytes] = '\n';
    struct pollfd room = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&room, 1, 0) == 1 && (room.revents & POLLOUT) != 0) {
        ssize_t written = write(STDERR_FILENO, line, bytes + 1);
        (void)written;
        return true;
    }
    return false;
}

static void count_lost(struct log *log)
{
    if (log != NULL) {
        (void)atomic_fetch_add_explicit(&log->no_room, 1, memory_order_relaxed);
    }
}

void log_line(struct log *log, enum log_level level, const char *format, ...)
{
    if (log != NULL && level > atomic_load(&log->level)) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    bool said = put(log != NULL ? log->journal : is_journal(), level, format, arguments);
    va_end(arguments);
    if (!said) {
        count_lost(log);
    }
}

// Whether one more may be said now; *before: how many were not.
static bool budget_allows(struct log *log, struct log_budget *budget, int64_t now_ms,
                          unsigned *before)
{
    (void)pthread_mutex_lock(&log->lock);
    if (budget->second != now_ms / 1000) {
        budget->second = now_ms / 1000;
        budget->said = 0;
    }
    bool allowed = budget->said < LOG_BUDGET_PER_S;
    if (allowed) {
        budget->said++;
        *before = budget->suppressed;
        budget->suppressed = 0;
    } else {
        budget->suppressed++;
        (void)atomic_fetch_add_explicit(&log->too_many, 1, memory_order_relaxed);
    }
    (void)pthread_mutex_unlock(&log->lock);
    return allowed;
}

// The same, and says how many were left out before.
static bool may_say(struct log *log, struct log_budget *budget, enum log_level level,
                    int64_t now_ms)
{
    unsigned before = 0;
    if (atomic_load(&log->level) < level || !budget_allows(log, budget, now_ms, &before)) {
        return false;
    }
    if (before > 0) {
        log_line(log, level, "%u more lines like the next were left out", before);
    }
    return true;
}

void log_hostile(struct log *log, int64_t now_ms, const char *format, ...)
{
    if (!may_say(log, &log->strangers, LOG_LEVEL_WARNING, now_ms)) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    bool said = put(log->journal, LOG_LEVEL_WARNING, format, arguments);
    va_end(arguments);
    if (!said) {
        count_lost(log);
    }
}

void log_client(struct log *log, enum log_level level, int64_t now_ms, const char *format, ...)
{
    if (log == NULL || !may_say(log, &log->clients, level, now_ms)) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    bool said = put(log->journal, level, format, arguments);
    va_end(arguments);
    if (!said) {
        count_lost(log);
    }
}

void log_left_out(const struct log *log, uint64_t *too_many, uint64_t *no_room)
{
    *too_many = atomic_load_explicit(&log->too_many, memory_order_relaxed);
    *no_room = atomic_load_explicit(&log->no_room, memory_order_relaxed);
}
