// SPDX-License-Identifier: Apache-2.0
//
// The pages of a read's answer, from the lane into their frames. Pages of zeros take no bytes on the wire, so the data of pages
// that do not lie side by side may share a record: such a record goes by way of the lane's buffer; any other is opened
// straight into the frames where the sink gives an address. A page is delivered when the last of its records was
// verified, never before.
#include <errno.h>
#include <string.h>

#include "libdsm/backing/landing.h"

// Data pages from i on that lie side by side, at most `most`.
static uint32_t side_by_side(const struct wire_header *answer, uint32_t i, uint32_t most)
{
    uint32_t n = 0;
    while (n < most && i + n < answer->count && wire_map_get(answer->map, i + n)) {
        n++;
    }
    return n;
}

static int store_pieces(const struct landing *l, uint32_t *i, const uint8_t *data, size_t bytes,
                        uint32_t *offset)
{
    uint32_t page_bytes = l->run->segment->page_bytes;
    while (bytes > 0) {
        while (!wire_map_get(l->answer->map, *i)) {
            (*i)++;
        }
        uint32_t n = page_bytes - *offset < bytes ? page_bytes - *offset : (uint32_t)bytes;
        if (l->to != NULL) {
            memcpy(l->to + (size_t)*i * page_bytes + *offset, data, n);
        } else {
            int error = l->sink->fill(l->context, l->answer->page + *i, *offset, data, n);
            if (error != 0) {
                return error;
            }
        }
        data += n;
        bytes -= n;
        *offset += n;
        if (*offset == page_bytes) {
            *offset = 0;
            (*i)++;
        }
    }
    return 0;
}

static void deliver(const struct landing *l, uint32_t *delivered, uint32_t up_to)
{
    if (up_to > *delivered) {
        l->sink->deliver(l->context, l->answer->page + *delivered, up_to - *delivered);
        l->run->done += up_to - *delivered;
        *delivered = up_to;
    }
}

// One record: into the frames straight away where all its pages lie side by side, else by way of the lane's buffer.
static ssize_t take_record(const struct landing *l, uint32_t i, uint32_t offset, const void **data)
{
    uint32_t page_bytes = l->run->segment->page_bytes;
    uint8_t *to = NULL;
    if (l->to != NULL) {
        uint32_t wanted = LIMIT_RECORD_DATA_BYTES / page_bytes;
        if (wanted <= 1 || side_by_side(l->answer, i, wanted) == wanted) {
            to = l->to + (size_t)i * page_bytes + offset;
        }
    }
    ssize_t n = l->lane->lane->ops->receive_data(l->lane->lane, to, data, l->deadline);
    if (n > 0 && to != NULL) {
        *data = NULL; // it is where it belongs
    }
    return n;
}

static int land_data(const struct landing *l)
{
    uint32_t page_bytes = l->run->segment->page_bytes;
    uint32_t i = 0;
    uint32_t offset = 0;
    uint32_t delivered = 0;
    uint32_t left = l->answer->length;
    while (left > 0) {
        while (!wire_map_get(l->answer->map, i)) {
            i++;
        }
        const void *data = NULL;
        ssize_t n = take_record(l, i, offset, &data);
        if (n <= 0) {
            return n == 0 ? -EBADMSG : (int)n;
        }
        left -= (uint32_t)n;
        STAT_ADD(l->lane->backing->stat, bytes_read, n);
        l->run->bytes += (uint64_t)n;
        if (data != NULL) {
            int error = store_pieces(l, &i, data, (size_t)n, &offset);
            if (error != 0) {
                return -ENOMEM; // of this machine, not of the server
            }
        } else {
            offset += (uint32_t)n;
            i += offset / page_bytes;
            offset %= page_bytes;
        }
        deliver(l, &delivered, i);
    }
    deliver(l, &delivered, l->answer->count); // zeros at the end
    return 0;
}

// pwrite makes room page by page; pages of zeros need theirs made.
static int make_zeros(const struct landing *l)
{
    for (uint32_t i = 0; i < l->answer->count; i++) {
        if (!wire_map_get(l->answer->map, i)) {
            int error = l->sink->place(l->context, l->answer->page + i, 1, NULL);
            if (error != 0) {
                return error;
            }
        }
    }
    return 0;
}

// The answer is to what was asked: its pages, in whole pages of this segment.
static bool answers(const struct backing_run *run, const struct wire_header *answer)
{
    uint64_t data = (uint64_t)wire_map_count(answer->map, answer->count) * run->segment->page_bytes;
    return answer->segment == run->segment->id && answer->page == run->page + run->done &&
           answer->count == run->count - run->done && answer->length == data;
}

int landing_take(struct landing *l)
{
    if (!answers(l->run, l->answer)) {
        return -EBADMSG;
    }
    void *to = NULL;
    int error = l->sink->place(l->context, l->answer->page, l->answer->count, &to);
    l->to = to;
    if (error == 0 && to == NULL) {
        error = make_zeros(l);
    }
    if (error != 0) {
        return -ENOMEM;
    }
    return land_data(l);
}
