// SPDX-License-Identifier: Apache-2.0
//
// Why the header is a file of its own: it carries the lock that keeps a second daemon out, and the
// lock must be had before anything else is looked at, also before it is decided whether there is a
// store at all. An OFD lock goes with the open file, so closing some other descriptor of the file
// does not drop it, and it ends with the process.
//
// Layout: two copies, at 0 and at 4096, each: magic, format, sequence, fields, checksum. The valid
// copy with the higher sequence counts; a write goes to the other one. The format number stands
// before the checksum is believed, so that a store of the future is called that and not damaged.
//
// Threads: the caller serialises.
#include "server/store/header.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "server/store/codec.h"

enum {
    MAGIC_BYTES = 8,
    FIELDS_BYTES = 8 + WIRE_ID_BYTES + HEADER_BOOT_ID_BYTES + 8 + 8 + 8 + 8 + 4 + 4,
    COPY_BYTES = MAGIC_BYTES + 4 + FIELDS_BYTES + 8,
    COPY_APART_BYTES = 4096,
};
static const uint8_t magic[MAGIC_BYTES] = {'D', 'S', 'M', 'S', 'T', 'O', 'R', 'E'};

int header_lock(int fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0) {
        return 0;
    }
    return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
}

static void encode(const struct store_header *header, uint8_t copy[COPY_BYTES])
{
    uint8_t *at = copy;
    codec_put_bytes(&at, magic, MAGIC_BYTES);
    codec_put_u32(&at, HEADER_FORMAT);
    codec_put_u64(&at, header->sequence);
    codec_put_bytes(&at, header->store_id, sizeof header->store_id);
    codec_put_bytes(&at, header->boot_id, sizeof header->boot_id);
    codec_put_u64(&at, header->incarnation);
    codec_put_u64(&at, header->capacity_bytes);
    codec_put_u64(&at, header->next_segment_id);
    codec_put_u64(&at, header->base_end);
    codec_put_u32(&at, header->durability);
    codec_put_u32(&at, header->clean ? 1 : 0);
    codec_put_u64(&at, codec_checksum(copy, (size_t)(at - copy)));
}

// 0, -ENOENT: zeros, -EPROTO, -EINVAL.
static int decode(const uint8_t copy[COPY_BYTES], struct store_header *header)
{
    static const uint8_t zeros[COPY_BYTES];
    const uint8_t *at = copy + MAGIC_BYTES;
    if (memcmp(copy, zeros, COPY_BYTES) == 0) {
        return -ENOENT;
    }
    if (memcmp(copy, magic, MAGIC_BYTES) != 0) {
        return -EINVAL;
    }
    if (codec_get_u32(&at) != HEADER_FORMAT) {
        return -EPROTO;
    }
    header->sequence = codec_get_u64(&at);
    codec_get_bytes(&at, header->store_id, sizeof header->store_id);
    codec_get_bytes(&at, header->boot_id, sizeof header->boot_id);
    header->incarnation = codec_get_u64(&at);
    header->capacity_bytes = codec_get_u64(&at);
    header->next_segment_id = codec_get_u64(&at);
    header->base_end = codec_get_u64(&at);
    header->durability = codec_get_u32(&at);
    header->clean = codec_get_u32(&at) == 1;
    size_t covered = (size_t)(at - copy);
    return codec_get_u64(&at) == codec_checksum(copy, covered) ? 0 : -EINVAL;
}

int header_read(int fd, struct store_header *header, struct failure *failure)
{
    uint8_t copies[2][COPY_BYTES] = {0};
    struct store_header found[2] = {0};
    int states[2];
    for (unsigned i = 0; i < 2; i++) {
        ssize_t got = pread(fd, copies[i], COPY_BYTES, (off_t)i * COPY_APART_BYTES);
        if (got < 0) {
            return failure_set(failure, -EIO, "The store's header cannot be read: %s.",
                               strerror(errno));
        }
        states[i] = decode(copies[i], &found[i]);
    }
    if (states[0] == -EPROTO || states[1] == -EPROTO) {
        return failure_set(failure, -EPROTO,
                           "The store has a format that this version does not know (it knows %d): "
                           "use the version that made it.",
                           HEADER_FORMAT);
    }
    if (states[0] != 0 && states[1] != 0) {
        if (states[0] == -ENOENT && states[1] == -ENOENT) {
            return -ENOENT;
        }
        return failure_set(failure, -EINVAL,
                           "The store's header is damaged, or is not one: neither copy has "
                           "a good checksum.");
    }
    bool second = states[1] == 0 && (states[0] != 0 || found[1].sequence > found[0].sequence);
    *header = found[second ? 1 : 0];
    return 0;
}

int header_write(int fd, struct store_header *header, bool sync)
{
    uint8_t copy[COPY_BYTES];
    struct store_header next = *header;
    next.sequence++;
    encode(&next, copy);
    off_t offset = (off_t)(next.sequence % 2) * COPY_APART_BYTES;
    ssize_t put = pwrite(fd, copy, COPY_BYTES, offset);
    if (put != COPY_BYTES) {
        return put < 0 ? -errno : -ENOSPC;
    }
    if (sync && fdatasync(fd) != 0) {
        return -EIO;
    }
    *header = next;
    return 0;
}

int header_boot_id(char boot_id[HEADER_BOOT_ID_BYTES])
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    ssize_t got = read(fd, boot_id, HEADER_BOOT_ID_BYTES);
    (void)close(fd);
    return got == HEADER_BOOT_ID_BYTES ? 0 : -EIO;
}
