// SPDX-License-Identifier: Apache-2.0
//
// Images as files. A step is: the whole new file under another name, then rename; so after a crash there is the old one or the
// new one. Then each member's record is brought up to it, one write each; a crash between them is mended at the next start, before
// anybody is served: a record whose `moves` is lower than the image's is behind. The other order was rejected: with records first, a
// crash would leave some segments with the one owner and some with the other, and nothing would say which one is right.
//
// `moves` of a member's record is that of the last step that reached it. Later opens change epoch and writer, never `moves`, so an old
// file of an image is not applied again over them.
//
// The directory is made when the first image is parked. Names that begin with "new-" are of a write that did not end.
//
// Threads: the catalog serialises the calls.
#include "server/store/image.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/store/codec.h"
#include "server/store/store_private.h"

enum {
    MAGIC_BYTES = 8,
    FORMAT = 1,
    MEMBER_BYTES = 8 + 8 + 4,
    FIXED_BYTES = MAGIC_BYTES + 4 + WIRE_ID_BYTES + 8 + 4 + 8 + WIRE_DIGEST_BYTES + WIRE_ID_BYTES +
                  LIMIT_HOLDER_NAME_BYTES + LIMIT_PRINCIPAL_NAME_BYTES +
                  LIMIT_PRINCIPAL_NAME_BYTES + WIRE_ID_BYTES + LIMIT_HOLDER_NAME_BYTES +
                  LIMIT_PRINCIPAL_NAME_BYTES + 4 + 8,
    FILE_BYTES = FIXED_BYTES + LIMIT_IMAGE_SEGMENTS * MEMBER_BYTES,
    SUM_AT = FILE_BYTES - 8,
    NAME_BYTES = 2 * WIRE_ID_BYTES + 8,
};
static const uint8_t magic[MAGIC_BYTES] = {'D', 'S', 'M', 'I', 'M', 'A', 'G', 'E'};

static void encode(const struct store_image *image, uint8_t bytes[FILE_BYTES])
{
    uint8_t *at = bytes;
    memset(bytes, 0, FILE_BYTES);
    codec_put_bytes(&at, magic, MAGIC_BYTES);
    codec_put_u32(&at, FORMAT);
    codec_put_bytes(&at, image->id, sizeof image->id);
    codec_put_u64(&at, image->moves);
    codec_put_u32(&at, (uint32_t)image->state);
    codec_put_u64(&at, image->expires_ms);
    codec_put_bytes(&at, image->digest, sizeof image->digest);
    codec_put_bytes(&at, image->source, sizeof image->source);
    codec_put_bytes(&at, image->source_name, sizeof image->source_name);
    codec_put_bytes(&at, image->source_principal, sizeof image->source_principal);
    codec_put_bytes(&at, image->destination, sizeof image->destination);
    codec_put_bytes(&at, image->owner, sizeof image->owner);
    codec_put_bytes(&at, image->owner_name, sizeof image->owner_name);
    codec_put_bytes(&at, image->principal, sizeof image->principal);
    codec_put_u32(&at, image->count);
    for (uint32_t i = 0; i < image->count; i++) {
        codec_put_u64(&at, image->members[i].segment);
        codec_put_u64(&at, image->members[i].epoch);
        codec_put_u32(&at, image->members[i].code ? 1 : 0);
    }
    at = bytes + SUM_AT;
    codec_put_u64(&at, codec_checksum(bytes, SUM_AT));
}

static bool text_ends(const char *text, size_t size)
{
    return memchr(text, 0, size) != NULL;
}

static int check(const struct store_image *image)
{
    bool texts = text_ends(image->source_name, sizeof image->source_name) &&
                 text_ends(image->source_principal, sizeof image->source_principal) &&
                 text_ends(image->destination, sizeof image->destination) &&
                 text_ends(image->owner_name, sizeof image->owner_name) &&
                 text_ends(image->principal, sizeof image->principal);
    bool numbers = image->state >= STORE_IMAGE_PARKED && image->state < STORE_IMAGE_STATES &&
                   image->count <= LIMIT_IMAGE_SEGMENTS;
    return texts && numbers ? 0 : -EINVAL;
}

static int decode(const uint8_t bytes[FILE_BYTES], struct store_image *image)
{
    const uint8_t *at = bytes + MAGIC_BYTES;
    const uint8_t *sum = bytes + SUM_AT;
    if (memcmp(bytes, magic, MAGIC_BYTES) != 0 || codec_get_u32(&at) != FORMAT ||
        codec_get_u64(&sum) != codec_checksum(bytes, SUM_AT)) {
        return -EINVAL;
    }
    codec_get_bytes(&at, image->id, sizeof image->id);
    image->moves = codec_get_u64(&at);
    image->state = (enum store_image_state)codec_get_u32(&at);
    image->expires_ms = codec_get_u64(&at);
    codec_get_bytes(&at, image->digest, sizeof image->digest);
    codec_get_bytes(&at, image->source, sizeof image->source);
    codec_get_bytes(&at, image->source_name, sizeof image->source_name);
    codec_get_bytes(&at, image->source_principal, sizeof image->source_principal);
    codec_get_bytes(&at, image->destination, sizeof image->destination);
    codec_get_bytes(&at, image->owner, sizeof image->owner);
    codec_get_bytes(&at, image->owner_name, sizeof image->owner_name);
    codec_get_bytes(&at, image->principal, sizeof image->principal);
    image->count = codec_get_u32(&at);
    if (check(image) != 0) {
        return -EINVAL;
    }
    for (uint32_t i = 0; i < image->count; i++) {
        image->members[i].segment = codec_get_u64(&at);
        image->members[i].epoch = codec_get_u64(&at);
        image->members[i].code = codec_get_u32(&at) != 0;
    }
    return 0;
}

static void name_of(const uint8_t id[WIRE_ID_BYTES], const char *prefix, char name[NAME_BYTES])
{
    int at = snprintf(name, NAME_BYTES, "%s", prefix);
    for (unsigned i = 0; i < WIRE_ID_BYTES; i++) {
        at += snprintf(name + at, (size_t)(NAME_BYTES - at), "%02x", id[i]);
    }
}

// The directory of images, or -1 with errno.
static int directory_open(const struct store *store, bool make)
{
    if (make && mkdirat(store->directory, "images", 0700) == 0 && store->slots.power &&
        fsync(store->directory) != 0) {
        return -1;
    }
    return openat(store->directory, "images", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

static int file_write(struct store *store, int directory, const char *name,
                      const struct store_image *image)
{
    uint8_t bytes[FILE_BYTES];
    encode(image, bytes);
    int fd = openat(directory, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return -errno;
    }
    errno = EIO;
    int error = write(fd, bytes, sizeof bytes) == (ssize_t)sizeof bytes ? 0 : -errno;
    if (error == 0 && store->slots.power && fdatasync(fd) != 0) {
        error = -EIO;
    }
    (void)close(fd);
    return error != 0 ? error : failpoint_at(&store->failpoint, FAILPOINT_IMAGE_FILE);
}

static int file_replace(struct store *store, int directory, const struct store_image *image)
{
    char temporary[NAME_BYTES];
    char name[NAME_BYTES];
    name_of(image->id, "new-", temporary);
    name_of(image->id, "", name);
    int error = file_write(store, directory, temporary, image);
    if (error == 0 && renameat(directory, temporary, directory, name) != 0) {
        error = -errno;
    }
    if (error != 0) {
        (void)unlinkat(directory, temporary, 0);
        return error;
    }
    (void)failpoint_at(&store->failpoint, FAILPOINT_IMAGE_RENAME);
    if (store->slots.power && fsync(directory) != 0) {
        atomic_store(&store->slots.failed, true); // which of the two files it is, nobody knows
    }
    return 0;
}

int store_image_write(struct store *store, const struct store_image *image)
{
    int error = check(image);
    if (error == 0) {
        error = failpoint_at(&store->failpoint, FAILPOINT_IMAGE_BEGIN);
    }
    if (error != 0 || atomic_load(&store->slots.failed)) {
        return error != 0 ? error : -EIO;
    }
    int directory = directory_open(store, true);
    if (directory < 0) {
        return -errno;
    }
    error = file_replace(store, directory, image);
    (void)close(directory);
    return error;
}

int store_image_remove(struct store *store, const uint8_t id[WIRE_ID_BYTES])
{
    char name[NAME_BYTES];
    int directory = directory_open(store, false);
    if (directory < 0) {
        return -errno;
    }
    name_of(id, "", name);
    int error = unlinkat(directory, name, 0) == 0 || errno == ENOENT ? 0 : -errno;
    (void)close(directory);
    return error;
}

static int file_read(int directory, const char *name, struct store_image *image)
{
    uint8_t bytes[FILE_BYTES];
    char expected[NAME_BYTES];
    int fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return -errno;
    }
    ssize_t got = read(fd, bytes, sizeof bytes);
    (void)close(fd);
    if (got != (ssize_t)sizeof bytes || decode(bytes, image) != 0) {
        return -EINVAL;
    }
    name_of(image->id, "", expected);
    return strcmp(expected, name) == 0 ? 0 : -EINVAL;
}

static int visit_one(int directory, const char *name,
                     int (*visit)(void *context, const struct store_image *), void *context,
                     struct failure *failure)
{
    struct store_image image = {.count = 0};
    if (name[0] == '.') {
        return 0;
    }
    if (strncmp(name, "new-", 4) == 0) {
        (void)unlinkat(directory, name, 0);
        return 0;
    }
    int error = file_read(directory, name, &image);
    if (error != 0) {
        return failure_set(failure, -EINVAL, "images/%s is damaged, or no file of a store.", name);
    }
    return visit(context, &image);
}

int store_image_each(struct store *store, int (*visit)(void *context, const struct store_image *),
                     void *context, struct failure *failure)
{
    int fd = directory_open(store, false);
    if (fd < 0) {
        return errno == ENOENT
                   ? 0
                   : failure_set(failure, -errno, "images/ cannot be used: %s.", strerror(errno));
    }
    DIR *directory = fdopendir(fd);
    if (directory == NULL) {
        (void)close(fd);
        return -ENOMEM;
    }
    int error = 0;
    const struct dirent *entry;
    while (error == 0 && (entry = readdir(directory)) != NULL) {
        error = visit_one(fd, entry->d_name, visit, context, failure);
    }
    (void)closedir(directory);
    return error;
}

int store_image_follow(struct store *store, const struct store_image *image,
                       const struct store_image_member *member, struct store_segment *segment)
{
    struct store_segment_record record = *store_segment_record(segment);
    if (member->code || record.moves >= image->moves) {
        return 0;
    }
    record.epoch = member->epoch;
    record.moves = image->moves;
    record.had_readers = 0;
    memcpy(record.writer, image->owner, sizeof record.writer);
    memcpy(record.writer_name, image->owner_name, sizeof record.writer_name);
    memcpy(record.principal, image->principal, sizeof record.principal);
    return store_segment_update(store, segment, &record);
}
