// SPDX-License-Identifier: Apache-2.0
//
// Does a decoded header make sense? Both ends ask this before they use any of its numbers, so no
// code behind it has to think of a count of zero, of a page number that wraps, or of a length that
// does not fit its map (architecture.md, invariant 7). What needs the segment (its size, its page
// size, its epoch) is checked by the service, which knows it.
//
// The page size is not in a header, but data of n pages in `length` bytes says what it must be: a
// power of two between the smallest and the largest page, such that the whole run is within
// LIMIT_RUN_BYTES.
//
// Requests are checked where a hostile client could gain; fields that an op does not use are not
// looked at, but for the map, whose stray bits could be taken for pages.
//
// Pure and async-signal-safe. Here too: the rules of segment names, and what a status is called.
#include "rpc/wire.h"

#include <errno.h>
#include <string.h>

unsigned wire_map_count(const uint8_t *map, unsigned pages)
{
    unsigned set = 0;
    for (unsigned i = 0; i < pages && i < LIMIT_RUN_PAGES; i++) {
        set += wire_map_get(map, i);
    }
    return set;
}

static bool map_within(const uint8_t *map, uint32_t count)
{
    return wire_map_count(map, LIMIT_RUN_PAGES) == wire_map_count(map, count);
}

static bool interval_fits(const struct wire_header *h, uint32_t most)
{
    return h->count >= 1 && h->count <= most && h->page <= UINT64_MAX - h->count;
}

// `length` bytes of data for the pages of the map, of a run of `count` pages.
static bool data_fits(const struct wire_header *h, uint32_t count)
{
    uint32_t pages = wire_map_count(h->map, count);
    if (!map_within(h->map, count)) {
        return false;
    }
    if (pages == 0) {
        return h->length == 0;
    }
    uint32_t page_bytes = h->length / pages;
    return h->length % pages == 0 && (page_bytes & (page_bytes - 1)) == 0 &&
           page_bytes >= LIMIT_PAGE_MIN_BYTES && page_bytes <= LIMIT_PAGE_MAX_BYTES &&
           count <= LIMIT_RUN_BYTES / page_bytes;
}

static bool carries_nothing(const struct wire_header *h)
{
    return h->length == 0 && map_within(h->map, 0);
}

static bool carries_control(const struct wire_header *h)
{
    return h->length <= LIMIT_CONTROL_BYTES && map_within(h->map, 0);
}

static bool request_makes_sense(const struct wire_header *h)
{
    switch (h->op) {
    case WIRE_READ:
    case WIRE_DISCARD:
        return interval_fits(h, LIMIT_RUN_PAGES) && carries_nothing(h);
    case WIRE_GIVE_UP:
    case WIRE_ALLOCATE:
        return interval_fits(h, LIMIT_RESERVE_PAGES) && carries_nothing(h);
    case WIRE_WRITE:
        return interval_fits(h, LIMIT_RUN_PAGES) && data_fits(h, h->count);
    case WIRE_CONTROL:
        return carries_control(h);
    case WIRE_PING:
    case WIRE_CLOSE:
        return carries_nothing(h);
    default: // answers, and ATTACH, which belongs to the handshake
        return false;
    }
}

int wire_request_check(const struct wire_header *header)
{
    bool good = header->status == WIRE_OK && header->done == 0 && request_makes_sense(header);
    return good ? 0 : -EBADMSG;
}

static bool answer_makes_sense(const struct wire_header *h, const struct wire_header *request)
{
    switch (request->op) {
    case WIRE_READ: // a failed read carries no data, whatever was read before the failure
        return h->status == WIRE_OK ? data_fits(h, request->count) : carries_nothing(h);
    case WIRE_CONTROL: // also when it failed: the sentence
        return carries_control(h);
    default:
        return carries_nothing(h);
    }
}

int wire_answer_check(const struct wire_header *header, const struct wire_header *request)
{
    bool good = header->op == (request->op | WIRE_ANSWER) && header->request == request->request &&
                header->status < WIRE_STATUS_COUNT && header->done <= request->count &&
                answer_makes_sense(header, request);
    return good ? 0 : -EBADMSG;
}

static bool name_character(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("._@:+=-", c) != NULL);
}

static bool name_part_valid(const char *part, size_t length)
{
    bool dots = (length == 1 && part[0] == '.') || (length == 2 && memcmp(part, "..", 2) == 0);
    for (size_t i = 0; i < length; i++) {
        if (!name_character(part[i])) {
            return false;
        }
    }
    return length > 0 && !dots;
}

bool wire_segment_name_valid(const char *name)
{
    size_t length = strnlen(name, LIMIT_SEGMENT_NAME_BYTES);
    if (length == LIMIT_SEGMENT_NAME_BYTES) {
        return false;
    }
    for (const char *part = name;;) {
        size_t bytes = strcspn(part, "/");
        if (!name_part_valid(part, bytes)) {
            return false;
        }
        if (part[bytes] == '\0') {
            return true;
        }
        part += bytes + 1;
    }
}

static const struct {
    int error;
    const char *text;
} statuses[WIRE_STATUS_COUNT] = {
    [WIRE_OK] = {0, "done"},
    [WIRE_FENCED] = {-ESTALE, "the segment has a newer owner"},
    [WIRE_NO_SEGMENT] = {-ENOENT, "there is no such segment"},
    [WIRE_NOT_OPEN] = {-EBADF, "this session has not opened the segment"},
    [WIRE_BOUNDS] = {-EFAULT,
                     "the interval is not within the segment, or has pages without backing"},
    [WIRE_NO_SPACE] = {-ENOSPC, "the server has no room left"},
    [WIRE_OVER_QUOTA] = {-EDQUOT, "the principal's quota is used up"},
    [WIRE_NOT_ALLOWED] = {-EACCES, "the key's rights do not allow this"},
    [WIRE_STORE_ERROR] = {-EIO, "the server's store failed"},
    [WIRE_BUSY] = {-EBUSY, "the segment is open elsewhere"},
    [WIRE_EXISTS] = {-EEXIST, "there is a segment of this name already"},
    [WIRE_INVALID] = {-EINVAL, "the request has a value that is out of its range"},
    [WIRE_TOO_MANY] = {-EMFILE, "a limit on segments, connections or lanes is reached"},
    [WIRE_DRAINING] = {-ESHUTDOWN, "the server is about to stop and takes nothing new"},
    [WIRE_UNAUTHORIZED] = {-EACCES, "the key is not in the server's authorized file"},
    [WIRE_WRONG_CLUSTER] = {-EACCES, "the server belongs to another cluster"},
    [WIRE_WRONG_SERVER] = {-EACCES, "the server has another name"},
    [WIRE_OLD_VERSION] = {-EPROTONOSUPPORT, "the two ends speak different versions"},
    [WIRE_STALE_GENERATION] = {-ESTALE, "a newer connection has taken this lane's place"},
    [WIRE_EXPIRED] = {-ETIME, "the capsule has expired"},
    [WIRE_USED] = {-EALREADY, "the capsule was used before, or its image was taken back"},
};

int wire_status_errno(enum wire_status status)
{
    return (unsigned)status < WIRE_STATUS_COUNT ? statuses[status].error : -EBADMSG;
}

const char *wire_status_text(enum wire_status status)
{
    return (unsigned)status < WIRE_STATUS_COUNT ? statuses[status].text : "an unknown status";
}
