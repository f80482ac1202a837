// SPDX-License-Identifier: Apache-2.0
//
// The pages of a read's answer, from the lane into their frames. Pages of zeros take no bytes on the wire, so the data of pages
// that do not lie side by side may share a record: such a record goes by way of the lane's buffer; any other is opened
// straight into the frames where the sink gives an address. A page is delivered when the last of its records was
// verified, never before.
//
// How far it is in stands in the lane, not on a stack: a thread that may not wait any more leaves it there, and another
// goes on with the byte after.
#include <errno.h>
#include <string.h>

#include "libdsm/backing/landing.h"
#include "rpc/record.h"

static uint32_t page_bytes_of(const struct land *l)
{
    return l->run->segment->page_bytes;
}

// Data pages from i on that lie side by side, at most `most`.
static uint32_t side_by_side(const struct wire_header *answer, uint32_t i, uint32_t most)
{
    uint32_t n = 0;
    while (n < most && i + n < answer->count && wire_map_get(answer->map, i + n)) {
        n++;
    }
    return n;
}

static void pass(struct landing *landing, uint32_t page_bytes, uint32_t bytes)
{
    landing->offset += bytes;
    landing->page += landing->offset / page_bytes;
    landing->offset %= page_bytes;
}

static void pass_zeros(struct landing *landing)
{
    while (!wire_map_get(landing->answer.map, landing->page)) {
        landing->page++;
    }
}

static int store_pieces(const struct land *l, struct landing *landing, const uint8_t *data,
                        uint32_t bytes)
{
    uint32_t page_bytes = page_bytes_of(l);
    while (bytes > 0) {
        pass_zeros(landing);
        uint32_t pages = side_by_side(&landing->answer, landing->page, bytes / page_bytes + 1);
        uint32_t room = pages * page_bytes - landing->offset;
        uint32_t n = room < bytes ? room : bytes;
        if (landing->to != NULL) {
            memcpy(landing->to + (size_t)landing->page * page_bytes + landing->offset, data, n);
        } else {
            int error = l->sink->fill(l->context, landing->answer.page + landing->page,
                                      landing->offset, data, n);
            if (error != 0) {
                return error;
            }
        }
        data += n;
        bytes -= n;
        pass(landing, page_bytes, n);
    }
    return 0;
}

static void deliver(const struct land *l, struct landing *landing, uint32_t up_to)
{
    uint32_t from = landing->delivered;
    if (up_to > from) {
        l->sink->deliver(l->context, landing->answer.page + from, up_to - from);
        l->run->done += up_to - from;
        landing->delivered = up_to;
    }
}

// One record: into the frames straight away where all its pages lie side by side, else by way of the lane's buffer.
static ssize_t take_record(const struct land *l, const struct landing *landing, const void **data)
{
    uint32_t page_bytes = page_bytes_of(l);
    uint8_t *to = NULL;
    if (landing->to != NULL) {
        uint32_t pages = record_plain_bytes(landing->left) / page_bytes;
        if (pages <= 1 || side_by_side(&landing->answer, landing->page, pages) == pages) {
            to = landing->to + (size_t)landing->page * page_bytes + landing->offset;
        }
    }
    ssize_t n = l->lane->lane->ops->receive_data(l->lane->lane, to, data, l->deadline);
    if (n > 0 && to != NULL) {
        *data = NULL; // it is where it belongs
    }
    return n;
}

// Whole pages are delivered as soon as they are verified, and the first ones, which somebody waits for, alone. After
// these, records that are here already are opened before anybody is woken for the ones before them: to take a lock, to
// change a protection and to wake a thread for each 32 KiB costs as much as to open them.
static bool deliver_later(const struct land *l, const struct landing *landing)
{
    uint32_t next = record_plain_bytes(landing->left);
    return landing->delivered > 0 && next > 0 && l->lane->lane->ahead >= next + LIMIT_SEAL_BYTES;
}

static int land_records(const struct land *l, struct landing *landing)
{
    while (landing->left > 0) {
        pass_zeros(landing);
        const void *data = NULL;
        ssize_t n = take_record(l, landing, &data);
        if (n <= 0) {
            return n == 0 ? -EBADMSG : (int)n;
        }
        landing->left -= (uint32_t)n;
        STAT_ADD(l->lane->backing->stat, bytes_read, n);
        l->run->bytes += (uint64_t)n;
        if (data == NULL) {
            pass(landing, page_bytes_of(l), (uint32_t)n);
        } else if (store_pieces(l, landing, data, (uint32_t)n) != 0) {
            return -ENOMEM; // of this machine, not of the server
        }
        if (!deliver_later(l, landing)) {
            deliver(l, landing, landing->page);
            if (l->lane->leave && landing->left > 0) {
                return -EINPROGRESS;
            }
        }
    }
    deliver(l, landing, landing->answer.count); // zeros at the end
    return 0;
}

// pwrite makes room page by page; pages of zeros need theirs made.
static int make_zeros(const struct land *l, const struct wire_header *answer)
{
    for (uint32_t i = 0; i < answer->count; i++) {
        if (!wire_map_get(answer->map, i)) {
            int error = l->sink->place(l->context, answer->page + i, 1, NULL);
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

int landing_begin(const struct land *l, const struct wire_header *answer)
{
    struct landing *landing = &l->lane->landing;
    if (!answers(l->run, answer)) {
        return -EBADMSG;
    }
    *landing = (struct landing){.answer = *answer, .left = answer->length};
    void *to = NULL;
    int error = l->sink->place(l->context, answer->page, answer->count, &to);
    landing->to = to;
    if (error == 0 && to == NULL) {
        error = make_zeros(l, answer);
    }
    landing->open = error == 0;
    return error == 0 ? 0 : -ENOMEM;
}

int landing_go_on(const struct land *l)
{
    struct landing *landing = &l->lane->landing;
    int error = land_records(l, landing);
    landing->open = error == -EINPROGRESS;
    return error;
}
