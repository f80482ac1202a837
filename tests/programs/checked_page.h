// SPDX-License-Identifier: Apache-2.0
//
// A page that can say whether it is what it should be. It begins with {segment, page, version, writer, checksum}; the
// rest is derived from the first four. A page of version 0 was never written and is all zeros.
#ifndef TESTS_PROGRAMS_CHECKED_PAGE_H
#define TESTS_PROGRAMS_CHECKED_PAGE_H

#include <stddef.h>
#include <stdint.h>

struct checked_identity {
    uint64_t segment, page, version, writer;
};

struct checked_mismatch {
    const char *field; // "segment", "page", "version", "writer", "checksum" or "body"
    size_t offset;     // bytes, in the page
    uint64_t expected, found;
};

// words: the page, page_bytes (a multiple of 8, at least 64) long.
void checked_page_write(volatile uint64_t *words, size_t page_bytes,
                        const struct checked_identity *identity);
// 0, or -EBADMSG and the first field that differs; the identifying fields are looked at first.
int checked_page_verify(const volatile uint64_t *words, size_t page_bytes,
                        const struct checked_identity *expected, struct checked_mismatch *mismatch);

#endif
