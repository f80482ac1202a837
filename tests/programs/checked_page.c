// SPDX-License-Identifier: Apache-2.0
//
// See checked_page.h. Every word of the body is a mix of its place and of the whole identity, so a page that is torn
// between two versions, holds another page's bytes, or zeros in the place of stored bytes differs in nearly every
// word. The checksum covers the identity and the body; it is redundant here, but lets a dump of a page be judged by
// itself.
//
// Loads and stores are volatile: each one really touches the page, in the order written.
#include "tests/programs/checked_page.h"

#include <errno.h>

enum { SEGMENT, PAGE, VERSION, WRITER, CHECKSUM, BODY };

static uint64_t mix(uint64_t value)
{
    value ^= value >> 32;
    value *= UINT64_C(0xd6e8feb86659fd93);
    value ^= value >> 29;
    value *= UINT64_C(0xa0761d6478bd642f);
    return value ^ (value >> 32);
}

static uint64_t seed_of(const struct checked_identity *identity)
{
    uint64_t seed = mix(identity->segment + 1);
    seed = mix(seed ^ identity->page);
    seed = mix(seed ^ identity->version);
    return mix(seed ^ identity->writer);
}

static uint64_t body_word(uint64_t seed, size_t index)
{
    return mix(seed + index * UINT64_C(0x9e3779b97f4a7c15));
}

void checked_page_write(volatile uint64_t *words, size_t page_bytes,
                        const struct checked_identity *identity)
{
    uint64_t seed = seed_of(identity);
    uint64_t checksum = seed;
    words[SEGMENT] = identity->segment;
    words[PAGE] = identity->page;
    words[VERSION] = identity->version;
    words[WRITER] = identity->writer;
    for (size_t i = BODY; i < page_bytes / sizeof(uint64_t); i++) {
        uint64_t word = body_word(seed, i);
        words[i] = word;
        checksum = mix(checksum ^ word);
    }
    words[CHECKSUM] = checksum;
}

static int compare(const volatile uint64_t *words, size_t index, const char *field,
                   uint64_t expected, struct checked_mismatch *mismatch)
{
    uint64_t found = words[index];
    if (found == expected) {
        return 0;
    }
    *mismatch = (struct checked_mismatch){field, index * sizeof(uint64_t), expected, found};
    return -EBADMSG;
}

static int verify_unwritten(const volatile uint64_t *words, size_t page_bytes,
                            struct checked_mismatch *mismatch)
{
    static const char *const names[] = {"segment", "page", "version", "writer", "checksum"};
    for (size_t i = 0; i < page_bytes / sizeof(uint64_t); i++) {
        if (compare(words, i, i < BODY ? names[i] : "body", 0, mismatch) != 0) {
            return -EBADMSG;
        }
    }
    return 0;
}

int checked_page_verify(const volatile uint64_t *words, size_t page_bytes,
                        const struct checked_identity *expected, struct checked_mismatch *mismatch)
{
    if (expected->version == 0) {
        return verify_unwritten(words, page_bytes, mismatch);
    }
    if (compare(words, SEGMENT, "segment", expected->segment, mismatch) != 0 ||
        compare(words, PAGE, "page", expected->page, mismatch) != 0 ||
        compare(words, VERSION, "version", expected->version, mismatch) != 0 ||
        compare(words, WRITER, "writer", expected->writer, mismatch) != 0) {
        return -EBADMSG;
    }
    uint64_t seed = seed_of(expected);
    uint64_t checksum = seed;
    for (size_t i = BODY; i < page_bytes / sizeof(uint64_t); i++) {
        uint64_t word = body_word(seed, i);
        if (compare(words, i, "body", word, mismatch) != 0) {
            return -EBADMSG;
        }
        checksum = mix(checksum ^ word);
    }
    return compare(words, CHECKSUM, "checksum", checksum, mismatch);
}
