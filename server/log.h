// SPDX-License-Identifier: Apache-2.0
//
// The server's log: one line per event on stderr, with a level in front, in the journal's way where
// stderr is the journal. What a stranger can cause comes by log_hostile(), what a client with a key can cause by
// log_client(): each lets a few lines a second through and counts the rest, so that neither drowns the other.
#ifndef SERVER_LOG_H
#define SERVER_LOG_H

#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

struct log;

int log_level_parse(const char *text, enum log_level *level); // -EINVAL
struct log *log_create(enum log_level level);                 // NULL: no memory
void log_set_level(struct log *log, enum log_level level);    // any thread
void log_destroy(struct log **log);
// Any thread. A log of NULL writes everything: for what goes wrong before there is one. Cut at 500 bytes; bytes that are not printable ASCII come out as "?".
void log_line(struct log *log, enum log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void log_hostile(struct log *log, int64_t now_ms, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// A log of NULL writes nothing.
void log_client(struct log *log, enum log_level level, int64_t now_ms, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
// Lines that nobody has: more of the last two's than a few a second; those that stderr had no room for. Any thread.
void log_left_out(const struct log *log, uint64_t *too_many, uint64_t *no_room);

#endif
