// SPDX-License-Identifier: Apache-2.0
//
// Private key files, and how any key file is opened and written.
//
// A key file is trusted only when it belongs to this user or root and nobody else may read or
// write it: a private key that others can read is not private, and an authorized file that others
// can write is theirs. The check is made on the open descriptor, not on the path, so nothing can
// be exchanged between check and use. An authorized file holds no secret, so there the group may
// read as well, as in root:dsm 0640: the daemon can then read, but not change, who may connect. Only
// a group of this process counts (root, who maintains the file, is in none that matters): a mode
// meant for another group is a mistake worth a word.
//
// A file appears whole or not at all: it is written under another name beside its own, synced, and
// then linked (a new file: never over an old one, and never through a symbolic link) or renamed (a
// changed one). Writing in place and truncating on error was rejected: a full disk or a crash
// would leave half a key file, and a server that reads it then would refuse all its clients.
//
// A private key passes through a buffer on the stack, which is wiped, and lives in guarded memory.
// Messages never contain key text. No state; any thread.
#include "rpc/keyfile.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rpc/keyfile_internal.h"

static_assert(sodium_base64_ENCODED_LEN(NOISE_KEY_BYTES, sodium_base64_VARIANT_ORIGINAL) ==
                  KEYFILE_TEXT_BYTES,
              "room for a key's text");

enum { KEY_CHARACTERS = KEYFILE_TEXT_BYTES - 1 };

int keyfile_decode(const char *text, uint8_t key[NOISE_KEY_BYTES])
{
    uint8_t decoded[NOISE_KEY_BYTES];
    size_t bytes = 0;
    int error = -EINVAL;
    if (strnlen(text, KEYFILE_TEXT_BYTES) == KEY_CHARACTERS &&
        sodium_base642bin(decoded, sizeof decoded, text, KEY_CHARACTERS, NULL, &bytes, NULL,
                          sodium_base64_VARIANT_ORIGINAL) == 0 &&
        bytes == sizeof decoded) {
        memcpy(key, decoded, sizeof decoded);
        error = 0;
    }
    sodium_memzero(decoded, sizeof decoded);
    return error;
}

void keyfile_encode(const uint8_t key[NOISE_KEY_BYTES], char text[KEYFILE_TEXT_BYTES])
{
    (void)sodium_bin2base64(text, KEYFILE_TEXT_BYTES, key, NOISE_KEY_BYTES,
                            sodium_base64_VARIANT_ORIGINAL);
}

// ---- reading

static int check_status(const char *path, enum keyfile_kind kind, const struct stat *status,
                        struct failure *failure)
{
    mode_t others = S_IRWXG | S_IRWXO;
    bool shared = kind == KEYFILE_AUTHORIZED && (status->st_mode & S_IRGRP) != 0;
    gid_t group = status->st_gid;
    if (shared && (geteuid() == 0 || getegid() == group || group_member(group) != 0)) {
        others &= ~(mode_t)S_IRGRP;
    }
    if (!S_ISREG(status->st_mode)) {
        return failure_set(failure, -EINVAL, "%s is not a regular file. Name a key file.", path);
    }
    if (status->st_uid != geteuid() && status->st_uid != 0) {
        return failure_set(failure, -EPERM,
                           "%s belongs to user %u, who could change it. It must belong to root or "
                           "to the user who runs this program (%u): use chown.",
                           path, status->st_uid, geteuid());
    }
    if ((status->st_mode & others) != 0) {
        return failure_set(
            failure, -EPERM, "%s has mode %04o, so others may use it. Say: chmod 600 %s%s", path,
            status->st_mode & 07777U, path,
            kind == KEYFILE_AUTHORIZED ? " (or 640, with a group of the user who runs this program)"
                                       : "");
    }
    return 0;
}

static int open_failure(const char *path, int error, struct failure *failure)
{
    if (error == ENOENT) {
        return failure_set(failure, -ENOENT, "%s does not exist. Check the path.", path);
    }
    return failure_set(failure, -error, "%s cannot be opened: %s.", path, strerror(error));
}

int keyfile_open(const char *path, enum keyfile_kind kind, int *fd, struct stat *status,
                 struct failure *failure)
{
    // Not blocking: a pipe in the place of a file must not hold us up.
    int opened = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (opened < 0) {
        return open_failure(path, errno, failure);
    }
    int error = fstat(opened, status) == 0 ? check_status(path, kind, status, failure)
                                           : open_failure(path, errno, failure);
    if (error != 0) {
        (void)close(opened);
        return error;
    }
    *fd = opened;
    return 0;
}

int keyfile_read(int fd, const char *path, char *to, size_t capacity, size_t *bytes,
                 struct failure *failure)
{
    size_t total = 0;
    for (;;) {
        char more;
        bool full = total == capacity;
        ssize_t got = read(fd, full ? &more : to + total, full ? 1 : capacity - total);
        if (got == 0) {
            *bytes = total;
            return 0;
        }
        if (got < 0 && errno != EINTR) {
            int error = errno;
            return failure_set(failure, -error, "%s cannot be read: %s.", path, strerror(error));
        }
        if (got > 0 && full) {
            return failure_set(
                failure, -EFBIG,
                "%s has more than %zu bytes: it is too long, or it grew while it was "
                "read. Try again.",
                path, capacity);
        }
        total += got > 0 ? (size_t)got : 0;
    }
}

// The text of a private key file: one line, and nothing after its newline.
static int decode_private(const char *path, char *text, size_t bytes, uint8_t key[NOISE_KEY_BYTES],
                          struct failure *failure)
{
    const char *newline = memchr(text, '\n', bytes);
    size_t line = newline != NULL ? (size_t)(newline - text) : bytes;
    if (newline != NULL && line + 1 != bytes) {
        return failure_set(failure, -EINVAL,
                           "%s: line 2: a private key file has one line. Make a new key with "
                           "\"dsmctl keygen\", or remove what follows the key.",
                           path);
    }
    text[line] = '\0';
    if (line != KEY_CHARACTERS || keyfile_decode(text, key) != 0) {
        return failure_set(failure, -EINVAL,
                           "%s: line 1: not a private key: %d characters of base64 are expected. "
                           "Make one with \"dsmctl keygen\".",
                           path, KEY_CHARACTERS);
    }
    return 0;
}

static int load_private(const char *path, uint8_t key[NOISE_KEY_BYTES], struct failure *failure)
{
    char text[KEY_CHARACTERS + 64];
    int fd = -1;
    struct stat status;
    int error = keyfile_open(path, KEYFILE_SECRET, &fd, &status, failure);
    if (error != 0) {
        return error;
    }
    size_t bytes = 0;
    error = keyfile_read(fd, path, text, sizeof text - 1, &bytes, failure);
    if (error == -EFBIG) {
        error = failure_set(failure, -EINVAL,
                            "%s is too long for a private key file. "
                            "Make one with \"dsmctl keygen\".",
                            path);
    } else if (error == 0) {
        error = decode_private(path, text, bytes, key, failure);
    }
    sodium_memzero(text, sizeof text);
    (void)close(fd);
    return error;
}

static struct key_identity *identity_create(void)
{
    static_assert(sizeof(struct key_identity) % 16 == 0, "guarded memory is aligned at its end");
    return sodium_malloc(sizeof(struct key_identity));
}

int keyfile_load(const char *path, struct key_identity **identity, struct failure *failure)
{
    struct key_identity *loaded = identity_create();
    if (loaded == NULL) {
        return failure_set(failure, -ENOMEM, "There is no memory for a key.");
    }
    int error = load_private(path, loaded->private_key, failure);
    if (error == 0) {
        error = noise_public_key(loaded->private_key, loaded->public_key);
    }
    if (error != 0) {
        key_identity_destroy(&loaded);
        return error;
    }
    *identity = loaded;
    return 0;
}

int key_identity_create(struct key_identity **identity)
{
    struct key_identity *made = identity_create();
    if (made == NULL) {
        return -ENOMEM;
    }
    noise_keypair(made->private_key, made->public_key);
    *identity = made;
    return 0;
}

void key_identity_destroy(struct key_identity **identity)
{
    sodium_free(*identity); // wipes
    *identity = NULL;
}

// ---- writing

static int write_all(int fd, const char *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t written = write(fd, data, bytes);
        if (written < 0 && errno != EINTR) {
            return -errno;
        }
        if (written > 0) {
            data += written;
            bytes -= (size_t)written;
        }
    }
    return 0;
}

// Gives the new file its text, mode and owner, all before anybody can see it under its name.
static int fill(int fd, const struct keyfile_text *text)
{
    int error = write_all(fd, text->data, text->bytes);
    if (error != 0) {
        return error;
    }
    const struct stat *old = text->replaces;
    if (old != NULL && (old->st_uid != geteuid() || old->st_gid != getegid()) &&
        fchown(fd, old->st_uid, old->st_gid) != 0) {
        return -errno;
    }
    return fchmod(fd, text->mode) == 0 && fsync(fd) == 0 ? 0 : -errno;
}

// Makes the new name outlive a power cut.
static int sync_folder(const char *path)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t length = slash == NULL ? 0 : (size_t)(slash - path) + 1;
    (void)snprintf(folder, sizeof folder, "%.*s.", (int)length, path);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int error = fsync(fd) == 0 || errno == EINVAL ? 0 : -errno; // EINVAL: not on this file system
    (void)close(fd);
    return error;
}

static int publish(const char *path, const struct keyfile_text *text)
{
    static const char suffix[] = ".new-XXXXXX";
    char temporary[PATH_MAX];
    if (strlen(path) + sizeof suffix > sizeof temporary) {
        return -ENAMETOOLONG;
    }
    (void)snprintf(temporary, sizeof temporary, "%s%s", path, suffix);
    int fd = mkostemp(temporary, O_CLOEXEC); // mode 0600
    if (fd < 0) {
        return -errno;
    }
    int error = fill(fd, text);
    bool renamed = false;
    if (close(fd) != 0 && error == 0) {
        error = -errno;
    }
    if (error == 0 && text->replaces != NULL) {
        error = rename(temporary, path) == 0 ? 0 : -errno;
        renamed = error == 0;
    } else if (error == 0) {
        error = link(temporary, path) == 0 ? 0 : -errno;
    }
    if (!renamed) {
        (void)unlink(temporary);
    }
    return error == 0 ? sync_folder(path) : error;
}

static int exists_failure(const char *path, struct failure *failure)
{
    return failure_set(failure, -EEXIST,
                       "%s exists, and keys are never overwritten. Choose another name, or remove "
                       "it if nobody uses it any more.",
                       path);
}

int keyfile_publish(const char *path, const struct keyfile_text *text, struct failure *failure)
{
    int error = publish(path, text);
    if (error == -EEXIST) {
        return exists_failure(path, failure);
    }
    if (error != 0) {
        return failure_set(failure, error, "%s cannot be written: %s.", path, strerror(-error));
    }
    return 0;
}

// Writes one key and a newline.
static int publish_key(const char *path, const uint8_t key[NOISE_KEY_BYTES], mode_t mode,
                       struct failure *failure)
{
    char line[KEYFILE_TEXT_BYTES];
    keyfile_encode(key, line);
    line[KEY_CHARACTERS] = '\n';
    struct keyfile_text text = {line, sizeof line, mode, NULL};
    int error = keyfile_publish(path, &text, failure);
    sodium_memzero(line, sizeof line);
    return error;
}

// The public half comes first: a private key never stands there without it, and when the second
// step fails, what is taken back is a public key that nobody has seen.
static int publish_pair(const char *path, const struct key_identity *identity,
                        struct failure *failure)
{
    char public_path[PATH_MAX];
    if (snprintf(public_path, sizeof public_path, "%s.pub", path) >= (int)sizeof public_path) {
        return failure_set(failure, -ENAMETOOLONG, "The path is too long. Choose a shorter one.");
    }
    struct stat status;
    if (lstat(path, &status) == 0) {
        return exists_failure(path, failure);
    }
    int error = publish_key(public_path, identity->public_key, 0644, failure);
    if (error != 0) {
        return error;
    }
    error = publish_key(path, identity->private_key, 0600, failure);
    if (error != 0) {
        (void)unlink(public_path);
    }
    return error;
}

int keyfile_generate(const char *path, char public_text[KEYFILE_TEXT_BYTES],
                     struct failure *failure)
{
    struct key_identity *identity;
    int error = key_identity_create(&identity);
    if (error != 0) {
        return failure_set(failure, error, "There is no memory for a key.");
    }
    error = publish_pair(path, identity, failure);
    if (error == 0) {
        keyfile_encode(identity->public_key, public_text);
    }
    key_identity_destroy(&identity);
    return error;
}
