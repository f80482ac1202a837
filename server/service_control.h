// SPDX-License-Identifier: Apache-2.0
//
// What the control operations share: service_control.c has the message and most of them, service_images.c those of images and of segments
// that are made from others. Include rpc/dsm.pb-c.h before.
#ifndef SERVER_SERVICE_CONTROL_H
#define SERVER_SERVICE_CONTROL_H

#include "server/service_internal.h"

enum { CONTROL_ARENA_BYTES = 1 << 20 };

struct control {
    struct service_lane *lane;
    int64_t now_ms;
    struct failure failure;
    Dsm__ControlAnswer answer;
    size_t used;
    max_align_t arena[CONTROL_ARENA_BYTES / sizeof(max_align_t)];
};

// NULL: the arena is used up.
void *control_alloc(void *control, size_t bytes);
Dsm__SegmentInfo *control_describe(struct control *control,
                                   const struct catalog_segment_view *view);
enum wire_status control_answer_segment(struct control *control, enum wire_status status,
                                        const struct catalog_segment_view *view);
enum wire_status control_invalid(struct control *control, const char *text);

// service_images.c
enum wire_status control_images(struct control *control, const Dsm__Control *message);

#endif
