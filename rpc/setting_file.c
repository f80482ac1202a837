// SPDX-License-Identifier: Apache-2.0
//
// Configuration files. inih splits a line into key and value; everything that inih passes over in
// silence is an error here, because a setting that is not taken as it was meant is found much later, on
// another node: a line that does not fit into inih's 200 bytes (it would go on with the rest as a line
// of its own), a section, a line that begins with a blank (inih takes it for the continuation of a
// value; here the blank means nothing), a NUL. A "#" behind a value, which inih makes a part of the
// value, is refused too. So the reader counts lines and looks at them before inih does.
//
// Who can write the file decides what the program connects to and which keys it trusts: it must belong
// to root or to this user, and nobody else may write it. Looked at on the open descriptor.
//
// Reading on after an error was rejected: one sentence is enough, and it is the first.
//
// The only file that knows inih. No state; any thread.
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rpc/setting.h"

struct reading {
    FILE *stream;
    const char *path;
    setting_take *take;
    void *context;
    struct failure *failure;
    unsigned line;
    int error; // once there is one, the file is at its end
};

static void refuse(struct reading *reading, int error, const char *reason)
{
    reading->error =
        failure_set(reading->failure, error, "%s:%u: %s", reading->path, reading->line, reason);
}

// One line without its newline and the blanks in front. False: it is refused.
static bool read_line(struct reading *reading, char *to, size_t room, bool *any)
{
    char reason[64];
    size_t bytes = 0;
    int c;
    while ((c = getc(reading->stream)) != EOF && c != '\n') {
        *any = true;
        if ((c < ' ' && c != '\t' && c != '\r') || c == 0x7f) {
            refuse(reading, -EINVAL, "there is a control character in this line.");
            return false;
        }
        if (bytes == 0 && (c == ' ' || c == '\t')) {
            continue;
        }
        if (bytes + 2 >= room) {
            (void)snprintf(reason, sizeof reason, "this line has more than %zu characters.",
                           room - 2);
            refuse(reading, -EINVAL, reason);
            return false;
        }
        to[bytes++] = (char)c;
    }
    *any = *any || c == '\n';
    to[bytes] = '\0';
    return true;
}

// inih's fgets().
static char *next_line(char *to, int room, void *context)
{
    struct reading *reading = context;
    bool any = false;
    if (reading->error != 0) {
        return NULL;
    }
    reading->line++;
    if (!read_line(reading, to, (size_t)room, &any)) {
        return NULL;
    }
    if (ferror(reading->stream) != 0) {
        refuse(reading, -EIO, "the file cannot be read.");
        return NULL;
    }
    if (to[0] == '[') {
        refuse(reading, -EINVAL, "there are no sections in this file.");
        return NULL;
    }
    return any ? to : NULL;
}

static int take_pair(void *context, const char *section, const char *name, const char *value)
{
    struct reading *reading = context;
    struct failure reason = {.text = ""};
    if (section[0] != '\0') {
        refuse(reading, -EINVAL, "there are no sections in this file.");
    } else if (strstr(value, " #") != NULL || strstr(value, "\t#") != NULL) {
        refuse(reading, -EINVAL, "a comment behind a value begins with \" ;\".");
    } else if (reading->error == 0) {
        int error = reading->take(reading->context, name, value, reading->line, &reason);
        if (error != 0) {
            refuse(reading, error, reason.text);
        }
    }
    return 1; // what inih counts are lines that it could not split
}

int setting_stream_read(FILE *stream, const char *path, setting_take *take, void *context,
                        struct failure *failure)
{
    struct reading reading = {
        .stream = stream, .path = path, .take = take, .context = context, .failure = failure};
    int unsplit = ini_parse_stream(next_line, &reading, take_pair, &reading);
    if (unsplit != 0 && (reading.error == 0 || (unsigned)unsplit < reading.line)) {
        reading.line = unsplit > 0 ? (unsigned)unsplit : reading.line;
        refuse(&reading, -EINVAL, "this line is no KEY = VALUE.");
    }
    return reading.error;
}

static int check_status(int fd, const char *path, struct failure *failure)
{
    struct stat status;
    if (fstat(fd, &status) != 0) {
        return failure_set(failure, -errno, "%s cannot be read: %s.", path, strerror(errno));
    }
    if (!S_ISREG(status.st_mode)) {
        return failure_set(failure, -EINVAL, "%s is no regular file.", path);
    }
    if ((status.st_uid != 0 && status.st_uid != geteuid()) ||
        (status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
        return failure_set(failure, -EPERM,
                           "%s belongs to user %u and has mode %04o, so others could change it. It "
                           "must belong to root or to user %u. Say: chmod go-w %s",
                           path, status.st_uid, status.st_mode & 07777U, geteuid(), path);
    }
    return 0;
}

int setting_file_read(const char *path, setting_take *take, void *context, struct failure *failure)
{
    // Not blocking: a pipe in the place of a file must not hold us up.
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) {
        return failure_set(failure, -errno, "%s cannot be opened: %s.", path, strerror(errno));
    }
    int error = check_status(fd, path, failure);
    FILE *stream = error == 0 ? fdopen(fd, "r") : NULL;
    if (stream == NULL) {
        error = error != 0 ? error : failure_set(failure, -ENOMEM, "No memory to read %s.", path);
        (void)close(fd);
        return error;
    }
    error = setting_stream_read(stream, path, take, context, failure);
    (void)fclose(stream);
    return error;
}
