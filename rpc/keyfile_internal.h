// SPDX-License-Identifier: Apache-2.0
//
// What the key file's parts share: opening a file whose owner and mode may be trusted, and writing
// one whole.
#ifndef RPC_KEYFILE_INTERNAL_H
#define RPC_KEYFILE_INTERNAL_H

#include <stdbool.h>
#include <sys/stat.h>

#include "rpc/keyfile.h"

enum keyfile_kind {
    KEYFILE_SECRET,     // nobody else may read or write it
    KEYFILE_AUTHORIZED, // no secret: its group may read it, when it is a group of this process
};

// Opens a regular file that belongs to this user or root and that nobody else may use (but see
// keyfile_kind); a symbolic link is followed, and what counts is what it leads to. The caller closes
// *fd. -ENOENT, -EPERM, -EINVAL, ...
int keyfile_open(const char *path, enum keyfile_kind kind, int *fd, struct stat *status,
                 struct failure *failure);
// Reads to the end of the file. -EFBIG when it has more than `capacity` bytes.
int keyfile_read(int fd, const char *path, char *to, size_t capacity, size_t *bytes,
                 struct failure *failure);

enum { KEYFILE_LINE_BYTES = 1024 }; // of an authorized file, its end included

struct keyfile_text {
    const char *data;
    size_t bytes;
    mode_t mode;
    const struct stat
        *replaces; // a file to replace, whose owner the new one gets; NULL: -EEXIST if there is one
};
// Puts the text at path: all of it, on disk, or nothing.
int keyfile_publish(const char *path, const struct keyfile_text *text, struct failure *failure);

// One line of an authorized file, without its newline. *empty: it says nothing (blank, or a
// comment). The failure's text is a reason without the place; -EINVAL.
int keyfile_grant_parse(const char *line, size_t bytes, struct key_grant *grant, bool *empty,
                        struct failure *failure);

#endif
