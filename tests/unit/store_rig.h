// SPDX-License-Identifier: Apache-2.0
//
// What the store's tests share: a directory on the medium under test, segments, pages that verify
// themselves.
#ifndef TESTS_UNIT_STORE_RIG_H
#define TESTS_UNIT_STORE_RIG_H

#include "server/store/store.h"

enum rig_medium { RIG_TMPFS, RIG_DISK, RIG_POWER, RIG_MEDIA };
extern const char *const rig_medium_names[RIG_MEDIA];

extern enum rig_medium rig_medium; // under test

struct rig {
    enum rig_medium medium;
    char directory[128];
    struct store_options options;
    struct store *store;
};

struct CMUnitTest;
// All tests on each medium that is usable here. For main(): 0, 1 or 77.
int rig_run_on_media(const struct CMUnitTest *tests, size_t count);
bool rig_medium_usable(enum rig_medium medium); // there is such a file system with 512 MiB free
void rig_make(struct rig *rig, enum rig_medium medium,
              uint64_t capacity_bytes); // a fresh path, nothing opened
void rig_open(struct rig *rig);         // must succeed
void rig_reopen(struct rig *rig);
int rig_try(struct rig *rig, struct failure *failure); // opens and closes again
void rig_end(struct rig *rig);                         // closes and removes
int rig_setup(void **state);                           // an open store of 4 MiB
int rig_teardown(void **state);                        // audits it first
void rig_check(struct rig *rig);
struct store_facts rig_facts(struct rig *rig);
// Tries to make a segment with room for all its pages.
int rig_create_error(struct rig *rig, const char *name, uint64_t bytes, uint32_t page_bytes);
void rig_path(const struct rig *rig, const char *name, char path[256]);
void rig_poke(const struct rig *rig, const char *name, long offset, const void *bytes, size_t size);

struct store_segment_record rig_record(const char *name, uint64_t bytes, uint32_t page_bytes,
                                       bool thin);
struct store_segment *rig_segment(struct rig *rig, const char *name, uint64_t bytes,
                                  uint32_t page_bytes, bool thin);
struct store_segment *rig_find(struct rig *rig, const char *name); // NULL: none

// A page of {segment, page, version} and words that follow from them.
void rig_fill(uint8_t *page, uint32_t page_bytes, uint64_t segment, uint64_t number,
              uint64_t version);
// The version in it, or UINT64_MAX when it is not whole or another page's.
uint64_t rig_verify(const uint8_t *page, uint32_t page_bytes, uint64_t segment, uint64_t number);

// Writes `count` pages of this version; 0 or -errno.
int rig_write(struct rig *rig, struct store_segment *segment, uint64_t page, uint32_t count,
              uint64_t version);
// The version of the data of one page; 0: zeros; UINT64_MAX: not whole.
uint64_t rig_read(struct rig *rig, struct store_segment *segment, uint64_t page);
uint64_t rig_random(uint64_t *state);

#endif
