// SPDX-License-Identifier: Apache-2.0
//
// What every kind of lane must do alike, run on whichever lane a test hands in, and the server's
// mind behind it: pages whose content follows from their number.
#ifndef TESTS_UNIT_LANE_EXERCISE_H
#define TESTS_UNIT_LANE_EXERCISE_H

#include "rpc/lane.h"

enum { EXERCISE_SEGMENT = 42 };

// A lane_loop_answer. READ: every third page is zeros, the rest has content; pages of
// request->epoch bytes (a test's way to choose). WRITE: BOUNDS unless the content is what READ
// would give. CONTROL: the payload again. DISCARD and PING: OK; DISCARD of page 13 fails with
// NOT_ALLOWED after 0 pages.
int exercise_answer(void *context, const struct wire_header *request, const void *payload,
                    struct wire_header *answer, void *answer_payload);

// Each fails the running cmocka test when the lane misbehaves.
void exercise_reads(struct lane *lane);
void exercise_writes(struct lane *lane);
void exercise_pipelining(struct lane *lane);
void exercise_leftovers(struct lane *lane);
void exercise_refusals(struct lane *lane);

struct wire_header exercise_request(enum wire_op op, uint64_t page, uint32_t count,
                                    uint32_t page_bytes);
// Takes one READ answer and compares every byte.
void exercise_take_read(struct lane *lane, const struct wire_header *request);

#endif
