// SPDX-License-Identifier: Apache-2.0
//
// What the files of control operations share. Include rpc/dsm.pb-c.h before.
#ifndef LIBDSM_BACKING_CONTROL_INTERNAL_H
#define LIBDSM_BACKING_CONTROL_INTERNAL_H

#include "libdsm/backing/control.h"

struct none_runs;
struct control_result { // what is wanted of an answer: one of the three, or nothing
    struct control_segment *segment;
    struct none_runs *none;
    int (*take)(void *context, const Dsm__ControlAnswer *answer); // of a large one; 0 or -EBADMSG
    void *context;
};

int control_operate(struct session *session, const Dsm__Control *control,
                    const struct control_result *result, struct failure *failure);
int control_take_segment(const Dsm__SegmentInfo *from, struct control_segment *to);

#endif
