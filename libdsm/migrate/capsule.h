// SPDX-License-Identifier: Apache-2.0
//
// Capsule: all that a process image needs to go on elsewhere, but for its pages: those stay on the memory server. It is sealed
// for one destination: only who has the private half of the destination's key opens it.
// Source: Vm_EncapState, Vm_DeencapState (Sprite).
//
// A capsule is written and read in one pass, so it may be a file, a pipe or a socket. Threads: one at a time for each object.
#ifndef LIBDSM_MIGRATE_CAPSULE_H
#define LIBDSM_MIGRATE_CAPSULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rpc/failure.h"
#include "rpc/keyfile.h"
#include "rpc/limits.h"

enum {
    CAPSULE_VERSION = 1,
    CAPSULE_ID_BYTES = 16,
    CAPSULE_TOKEN_BYTES = 32,
    CAPSULE_IDENTITY_BYTES = 32,
    CAPSULE_HEADER_BYTES = 96,
    CAPSULE_OPENING_BYTES = NOISE_KEY_BYTES + NOISE_TAG_BYTES, // the key of its own, and its proof
};
// In this order, and at most one of each of the first three; a heap and a stack there must be.
enum capsule_type { CAPSULE_CODE = 1, CAPSULE_HEAP, CAPSULE_STACK, CAPSULE_DATA };
// Where a page's contents are: nowhere (it was given up), zeros, on the server, in the heap's template.
enum capsule_place { CAPSULE_NONE, CAPSULE_ZERO, CAPSULE_BACKING, CAPSULE_TEMPLATE };

struct capsule_run { // consecutive pages in the same state
    uint64_t pages;
    enum capsule_place place;
    bool read_only;
    bool changed; // the program's mark
};

struct capsule_template { // page p of a heap is page first_page + p of it
    uint64_t segment;     // 0: none
    uint64_t version;
    uint64_t first_page;
};

struct capsule_segment {
    enum capsule_type type;
    char name[LIMIT_SEGMENT_NAME_BYTES];
    uint64_t id, epoch, base, pages;
    uint32_t page_bytes;
    uint8_t identity[CAPSULE_IDENTITY_BYTES]; // of code
    struct capsule_template from;             // of a heap
    uint32_t run_count;
    struct capsule_run *runs;
};

struct capsule_facts { // what stands outside the seal, and is proved by it
    uint16_t version;
    uint8_t id[CAPSULE_ID_BYTES];
    uint8_t destination[NOISE_KEY_BYTES];
    uint64_t expires_ms; // since 1970
    uint64_t body_bytes; // before sealing
};

struct capsule {
    struct capsule_facts facts;
    uint8_t image[CAPSULE_ID_BYTES];    // the same at every hop
    uint8_t token[CAPSULE_TOKEN_BYTES]; // the server takes it once
    uint64_t created_ms;                // since 1970
    char source[LIMIT_HOLDER_NAME_BYTES];
    uint16_t machine; // ELF's number of the architecture
    uint32_t system_page_bytes;
    uint32_t build_id_bytes, task_bytes, segment_count;
    uint8_t build_id[LIMIT_BUILD_ID_BYTES];
    uint8_t task[LIMIT_CAPSULE_TASK_BYTES]; // the runtime's; 0 bytes: no task
    struct capsule_segment *segments;
};

struct capsule_stream { // 0, -ENODATA when it ends before, or -errno
    int (*put)(void *context, const void *from, size_t bytes);
    int (*take)(void *context, void *to, size_t bytes);
    void *context;
};

struct capsule *capsule_create(uint32_t segments); // all zeros; NULL: no memory
void capsule_destroy(struct capsule **capsule);    // wipes; with the runs, which malloc gave
// 0 when the contents keep the rules above and do not overlap; -EINVAL with a reason.
int capsule_check(const struct capsule *capsule, struct failure *failure);
uint64_t capsule_bytes(const struct capsule *capsule); // sealed: exact, without making it

// Checks, seals for capsule->facts.destination and writes. A new id and a new key each time. -EINVAL, -EFBIG, the stream's.
int capsule_write(struct capsule *capsule, const struct capsule_stream *stream,
                  struct failure *failure);
// Reads what may be known without a key. -EBADMSG no capsule or altered, -EPROTONOSUPPORT of a newer release, -EFBIG, -ENODATA cut.
int capsule_read_facts(const struct capsule_stream *stream, struct capsule_facts *facts,
                       struct failure *failure);
// Reads the rest. -EKEYREJECTED sealed for another key; -EBADMSG altered; -ENODATA cut; -EFBIG, -ENOMEM. Whether it has expired is
// another question: the server's clock decides, capsule_expired() says what this one thinks.
int capsule_read(const struct capsule_stream *stream, const struct capsule_facts *facts,
                 const struct key_identity *identity, struct capsule **capsule,
                 struct failure *failure);
int capsule_expired(const struct capsule_facts *facts, uint64_t now_ms, struct failure *failure);

// A stream over a descriptor: file, pipe or socket, blocking or not.
struct capsule_descriptor {
    int fd;
    int64_t deadline; // CLOCK_MONOTONIC ns; INT64_MAX: none
};
struct capsule_stream capsule_stream_of(struct capsule_descriptor *descriptor); // borrows it
// After the capsule: -EBADMSG when a file goes on.
int capsule_descriptor_end(const struct capsule_descriptor *descriptor, struct failure *failure);

#endif
