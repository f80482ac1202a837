// SPDX-License-Identifier: Apache-2.0
//
// The authorized file as a whole: read into a list that never changes afterwards, and added to by
// one line.
//
// A file is taken whole or not at all: with one bad line there is no list, and whoever holds an
// older list keeps it. Lines may contradict each other, so the list is sorted twice while it is
// made: by principal, to see that all lines of one agree on its quota, and then by key, to see
// that no key stands there twice; that order stays, for the look-up. It is a sorted array, since
// it is read ten thousand times for each time that it is written.
//
// Appending holds a lock on the folder (on the file there would be nothing to hold: the file is
// replaced), reads what is there, puts the line behind it, reads the result with the parser that
// the server uses, and only then replaces the file. A writer that opens the file to append was
// rejected: it can leave half a line, and cannot see a contradiction.
//
// Public keys and names are no secrets: ordinary memory. No state; any thread.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "rpc/keyfile_internal.h"

enum { FILE_BYTES_MAX = 64 << 20 };

struct key_grants {
    size_t count;
    struct key_grant grants[]; // by public key
};

static int compare_keys(const void *a, const void *b)
{
    return memcmp(((const struct key_grant *)a)->public_key,
                  ((const struct key_grant *)b)->public_key, NOISE_KEY_BYTES);
}

static int compare_lines(const struct key_grant *a, const struct key_grant *b)
{
    return (a->line > b->line) - (a->line < b->line);
}

static int compare_keys_and_lines(const void *a, const void *b)
{
    int order = compare_keys(a, b);
    return order != 0 ? order : compare_lines(a, b);
}

static int compare_principals(const void *a, const void *b)
{
    const struct key_grant *left = a;
    const struct key_grant *right = b;
    int order = strcmp(left->principal, right->principal);
    return order != 0 ? order : compare_lines(left, right);
}

static int line_failure(const char *path, unsigned line, int error, const struct failure *reason,
                        struct failure *failure)
{
    return failure_set(failure, error, "%s: line %u: %s.", path, line, reason->text);
}

static int check_quotas(struct key_grants *list, const char *path, struct failure *failure)
{
    qsort(list->grants, list->count, sizeof list->grants[0], compare_principals);
    for (size_t i = 1; i < list->count; i++) {
        const struct key_grant *a = &list->grants[i - 1];
        const struct key_grant *b = &list->grants[i];
        if (strcmp(a->principal, b->principal) == 0 && a->quota_bytes != b->quota_bytes) {
            return failure_set(
                failure, -EINVAL,
                "%s: line %u: principal %s has another quota on line %u. Keys of one "
                "principal share its quota: say the same quota on each of its lines.",
                path, b->line, b->principal, a->line);
        }
    }
    return 0;
}

static int check_keys(struct key_grants *list, const char *path, struct failure *failure)
{
    qsort(list->grants, list->count, sizeof list->grants[0], compare_keys_and_lines);
    for (size_t i = 1; i < list->count; i++) {
        const struct key_grant *a = &list->grants[i - 1];
        const struct key_grant *b = &list->grants[i];
        if (compare_keys(a, b) == 0) {
            return failure_set(
                failure, -EINVAL,
                "%s: line %u: this key stands already on line %u. Remove one of them.", path,
                b->line, a->line);
        }
    }
    return 0;
}

static size_t count_lines(const char *text, size_t bytes)
{
    size_t lines = 1;
    for (const char *at = text; (at = memchr(at, '\n', (size_t)(text + bytes - at))) != NULL;
         at++) {
        lines++;
    }
    return lines;
}

static int parse_lines(struct key_grants *list, const char *path, const char *text, size_t bytes,
                       struct failure *failure)
{
    struct failure reason = {""};
    const char *end = text + bytes;
    for (unsigned line = 1; text < end; line++) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *stop = newline != NULL ? newline : end;
        bool empty = false;
        struct key_grant *grant = &list->grants[list->count];
        int error = keyfile_grant_parse(text, (size_t)(stop - text), grant, &empty, &reason);
        if (error != 0) {
            return line_failure(path, line, error, &reason, failure);
        }
        if (!empty) {
            grant->line = line;
            list->count++;
        }
        text = newline != NULL ? newline + 1 : end;
    }
    return 0;
}

// path is only for messages.
static int grants_parse(const char *path, const char *text, size_t bytes,
                        struct key_grants **grants, struct failure *failure)
{
    struct key_grants *list =
        calloc(1, sizeof *list + count_lines(text, bytes) * sizeof list->grants[0]);
    if (list == NULL) {
        return failure_set(failure, -ENOMEM, "There is no memory to read %s.", path);
    }
    int error = parse_lines(list, path, text, bytes, failure);
    if (error == 0) {
        error = check_quotas(list, path, failure);
    }
    if (error == 0) {
        error = check_keys(list, path, failure);
    }
    if (error != 0) {
        key_grants_destroy(&list);
        return error;
    }
    *grants = list;
    return 0;
}

// The whole file, with `room` bytes of room behind it. The caller frees.
static int read_file(const char *path, size_t room, char **text, size_t *bytes, struct stat *status,
                     struct failure *failure)
{
    int fd = -1;
    int error = keyfile_open(path, KEYFILE_AUTHORIZED, &fd, status, failure);
    if (error != 0) {
        return error;
    }
    size_t capacity = status->st_size < FILE_BYTES_MAX ? (size_t)status->st_size : FILE_BYTES_MAX;
    char *read_text = malloc(capacity + room);
    error = read_text == NULL
                ? failure_set(failure, -ENOMEM, "There is no memory to read %s.", path)
                : keyfile_read(fd, path, read_text, capacity, bytes, failure);
    (void)close(fd);
    if (error != 0) {
        free(read_text);
        return error;
    }
    *text = read_text;
    return 0;
}

int key_grants_load(const char *path, struct key_grants **grants, struct failure *failure)
{
    char *text = NULL;
    size_t bytes = 0;
    struct stat status;
    int error = read_file(path, 1, &text, &bytes, &status, failure);
    if (error == 0) {
        error = grants_parse(path, text, bytes, grants, failure);
    }
    free(text);
    return error;
}

int key_grants_create(const struct key_grant *grant, struct key_grants **grants)
{
    struct key_grants *list = calloc(1, sizeof *list + sizeof list->grants[0]);
    if (list == NULL) {
        return -ENOMEM;
    }
    list->count = 1;
    list->grants[0] = *grant;
    *grants = list;
    return 0;
}

void key_grants_destroy(struct key_grants **grants)
{
    free(*grants);
    *grants = NULL;
}

const struct key_grant *key_grants_find(const struct key_grants *grants,
                                        const uint8_t public_key[NOISE_KEY_BYTES])
{
    struct key_grant wanted;
    memcpy(wanted.public_key, public_key, NOISE_KEY_BYTES);
    return bsearch(&wanted, grants->grants, grants->count, sizeof grants->grants[0], compare_keys);
}

// ---- appending

// The file that the path leads to, which need not exist: renaming over a symbolic link would
// replace the link.
static int resolve(const char *path, char resolved[PATH_MAX], struct failure *failure)
{
    if (realpath(path, resolved) != NULL) {
        return 0;
    }
    int error = errno;
    struct stat status;
    if (error == ENOENT && lstat(path, &status) == 0) {
        return failure_set(
            failure, -ENOENT,
            "%s is a symbolic link to nothing. Make the file that it names, or remove "
            "the link.",
            path);
    }
    if (error != ENOENT) {
        return failure_set(failure, -error, "%s cannot be opened: %s.", path, strerror(error));
    }
    if (strlen(path) >= PATH_MAX) {
        return failure_set(failure, -ENAMETOOLONG, "The path is too long. Choose a shorter one.");
    }
    memcpy(resolved, path, strlen(path) + 1);
    return 0;
}

// Keeps other appenders out until the descriptor is closed.
static int lock_folder(const char *path, int *fd, struct failure *failure)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t length = slash == NULL ? 0 : (size_t)(slash - path) + 1;
    (void)snprintf(folder, sizeof folder, "%.*s.", (int)length, path);
    int opened = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (opened < 0) {
        int error = errno;
        return failure_set(failure, -error,
                           "The folder of %s cannot be opened: %s. Check the path.", path,
                           strerror(error));
    }
    while (flock(opened, LOCK_EX) != 0) {
        if (errno != EINTR) {
            break; // no locks on folders here (NFS); the file is still replaced as a whole
        }
    }
    *fd = opened;
    return 0;
}

static int check_line(const char *line, struct key_grant *grant, struct failure *failure)
{
    struct failure reason = {""};
    bool empty = false;
    if (strchr(line, '\n') != NULL) { // even in a comment, where any other byte may stand
        return failure_set(failure, -EINVAL, "The line cannot be added: it is more than one.");
    }
    int error = keyfile_grant_parse(line, strlen(line), grant, &empty, &reason);
    if (error != 0) {
        return failure_set(failure, error, "The line cannot be added: %s.", reason.text);
    }
    if (empty) {
        return failure_set(failure, -EINVAL, "The line cannot be added: it holds no key.");
    }
    return 0;
}

// -EEXIST when the key stands there; -EINVAL for a malformed file.
static int check_present(const char *path, const char *text, size_t bytes,
                         const struct key_grant *grant, struct failure *failure)
{
    struct key_grants *present = NULL;
    int error = grants_parse(path, text, bytes, &present, failure);
    if (error != 0 || present == NULL) {
        return error;
    }
    const struct key_grant *same = key_grants_find(present, grant->public_key);
    if (same != NULL) {
        error =
            failure_set(failure, -EEXIST,
                        "%s: line %u: this key stands there already, for principal %s. To change "
                        "what it may do, edit that line.",
                        path, same->line, same->principal);
    }
    key_grants_destroy(&present);
    return error;
}

// Puts the line behind the text, which has room for it, and sees that the whole is still good.
static int add_line(const char *path, char *text, size_t *bytes, const char *line,
                    struct failure *failure)
{
    size_t length = strlen(line);
    if (*bytes > 0 && text[*bytes - 1] != '\n') {
        text[(*bytes)++] = '\n';
    }
    char *end = mempcpy(text + *bytes, line, length);
    *end = '\n';
    *bytes += length + 1;
    struct key_grants *after = NULL;
    int error = grants_parse(path, text, *bytes, &after, failure);
    if (error == 0) {
        key_grants_destroy(&after);
    }
    return error;
}

static int append_locked(const char *path, const char *line, const struct key_grant *grant,
                         struct failure *failure)
{
    char *text = NULL;
    size_t bytes = 0;
    struct stat status;
    size_t room = strlen(line) + 2;
    int error = read_file(path, room, &text, &bytes, &status, failure);
    bool absent = error == -ENOENT;
    if (absent) {
        text = malloc(room);
        error = text == NULL ? failure_set(failure, -ENOMEM, "There is no memory for a line.") : 0;
    }
    if (error != 0 || text == NULL) {
        return error;
    }
    error = check_present(path, text, bytes, grant, failure);
    if (error == 0) {
        error = add_line(path, text, &bytes, line, failure);
    }
    if (error == 0) {
        struct keyfile_text new_text = {text, bytes, absent ? 0600 : status.st_mode & 0777,
                                        absent ? NULL : &status};
        error = keyfile_publish(path, &new_text, failure);
    }
    free(text);
    return error;
}

int key_grants_append(const char *path, const char *line, struct failure *failure)
{
    struct key_grant grant;
    int error = check_line(line, &grant, failure);
    if (error != 0) {
        return error;
    }
    char resolved[PATH_MAX];
    error = resolve(path, resolved, failure);
    if (error != 0) {
        return error;
    }
    int lock = -1;
    error = lock_folder(resolved, &lock, failure);
    if (error != 0) {
        return error;
    }
    error = append_locked(resolved, line, &grant, failure);
    (void)close(lock);
    return error;
}
