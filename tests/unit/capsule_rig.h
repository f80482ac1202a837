// SPDX-License-Identifier: Apache-2.0
//
// Capsules for tests: one with everything in it, streams in memory, and a destination that is the same each time.
#ifndef TESTS_UNIT_CAPSULE_RIG_H
#define TESTS_UNIT_CAPSULE_RIG_H

#include "libdsm/migrate/capsule_internal.h"

struct capsule_memory { // a stream; put appends, take reads on
    uint8_t *bytes;
    size_t used, at;
    size_t cut; // take: no more than so many from the beginning
};
struct capsule_stream capsule_memory_stream(struct capsule_memory *memory);

// Code, heap with a template, stack and two segments of data; expires in 2100. The caller destroys it.
struct capsule *capsule_sample(const uint8_t destination[NOISE_KEY_BYTES]);
// The runs become `count` of one page each, none as the one before.
void capsule_fragment(struct capsule_segment *segment, uint32_t count);
struct key_identity *capsule_destination(void); // of a key that everybody knows

#endif
