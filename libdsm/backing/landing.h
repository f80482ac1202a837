// SPDX-License-Identifier: Apache-2.0
//
// Between runs.c, which asks, and the sink, which owns the frames.
#ifndef LIBDSM_BACKING_LANDING_H
#define LIBDSM_BACKING_LANDING_H

#include "libdsm/backing/backing.h"

struct landing {
    struct backing_lane *lane;
    struct backing_run *run;
    const struct wire_header *answer;
    const struct backing_sink *sink;
    void *context;
    uint8_t *to; // of the answer's first page, or NULL
    int64_t deadline;
};

// Takes the whole payload in. 0; -EBADMSG when the answer is not to what was asked; -ENOMEM when the sink has no room;
// the lane's errors. run->done counts what was delivered.
int landing_take(struct landing *landing);

#endif
