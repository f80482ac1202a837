// SPDX-License-Identifier: Apache-2.0
//
// Control operations on segments, over the control lane: packed and unpacked here (protobuf-c only here), sent again after a
// cut with the same operation id.
#ifndef LIBDSM_BACKING_CONTROL_H
#define LIBDSM_BACKING_CONTROL_H

#include "libdsm/backing/session.h"

enum { CONTROL_NORESERVE = 1, CONTROL_EPHEMERAL = 2 }; // flags of a segment

struct control_segment { // what the server says of a segment
    uint64_t id, bytes, base, epoch, highest;
    uint64_t none_pages; // without backing
    uint32_t page_bytes, flags;
    bool writer;         // open for writing: here, or somewhere
    uint32_t placements; // rows; the first of them:
    struct placement_row placed;
};

// 0 or -errno with a sentence; -ENOENT, -EEXIST, -EBUSY, -ENOSPC, -EDQUOT, -EACCES, -EINVAL, -DSM_EFENCED, -ETIMEDOUT.
int control_create(struct session *session, const char *name, uint64_t bytes, uint32_t page_bytes,
                   uint32_t flags, struct control_segment *segment, struct failure *failure);
int control_open(struct session *session, const char *name, bool write, bool takeover,
                 struct control_segment *segment, struct failure *failure);
// A server that cannot be told now is told when there is a connection again.
int control_close(struct session *session, uint64_t id, struct failure *failure);
// Tells of each run of pages without backing, in order.
int control_none(struct session *session, const struct control_segment *segment,
                 void (*tell)(void *context, uint64_t page, uint64_t count), void *context,
                 struct failure *failure);
int control_delete(struct session *session, const char *name, struct failure *failure);

// For the keeper, on a lane that it owns: opens again by id with the epoch held, unless the server has fewer writes than
// it acknowledged (-ENOENT). One try.
int control_resume(struct backing_lane *lane, const struct backing_segment *segment, bool write,
                   struct control_segment *info, int64_t deadline);
// The same, for writing, of a segment that the keeper leaves alone: over the control lane, until there is an answer.
int control_reopen(struct session *session, const struct backing_segment *segment,
                   struct control_segment *info, struct failure *failure);
// The same lane: closes, whatever the server says to that. -ECONNRESET when the lane was cut, else 0.
int control_let_go(struct backing_lane *lane, uint64_t id, int64_t deadline);

#endif
