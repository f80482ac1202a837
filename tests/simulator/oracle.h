// SPDX-License-Identifier: Apache-2.0
//
// What each page of a segment may hold, from the point of view of those who write it. Every version of a page has a stamp of its
// own and says who wrote it. Until a write is acknowledged its page may hold the version of before or any begun since; of a
// writer that lost the segment nothing may appear any more once its successor has looked.
#ifndef TESTS_SIMULATOR_ORACLE_H
#define TESTS_SIMULATOR_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

enum { ORACLE_PAGE = 4096, ORACLE_PAGES = 512, ORACLE_STAMPS = 2048 };

struct oracle {
    uint64_t segment;
    unsigned owner; // writer whose versions count
    struct oracle_page {
        uint32_t floor, latest; // acknowledged; begun
        uint32_t last;          // stamp given, also to writers that are no owners any more
        uint8_t writer[ORACLE_STAMPS];
        bool zero[ORACLE_STAMPS]; // a version that is all zeros
    } pages[ORACLE_PAGES];
};

struct oracle *oracle_make(uint64_t segment, unsigned owner); // all pages are zeros
// A new version is begun.
uint32_t oracle_begin(struct oracle *oracle, uint64_t page, unsigned writer, bool zero);
void oracle_acknowledge(struct oracle *oracle, uint64_t page, unsigned writer, uint32_t stamp);
void oracle_contents(const struct oracle *oracle, uint64_t page, uint32_t stamp, void *to);
// The stamp of these contents, which must be one that the page may hold now; fails the run otherwise.
uint32_t oracle_read(struct oracle *oracle, uint64_t page, const void *contents, const char *who);
// They must be of this stamp.
void oracle_expect(struct oracle *oracle, uint64_t page, uint32_t stamp, const void *contents,
                   const char *who);
// A successor has read the page: this it is.
void oracle_settle(struct oracle *oracle, uint64_t page, uint32_t stamp);
void oracle_hand_over(struct oracle *oracle, unsigned owner); // once all pages were settled

#endif
