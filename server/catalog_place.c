// SPDX-License-Identifier: Apache-2.0
//
// Where segments lie in everybody's address space: first fit in [LIMIT_BASE_LOW, LIMIT_BASE_HIGH),
// aligned to 2 MiB, with at least 2 MiB that belong to nobody behind each segment, so that a
// program that runs off the end of one meets a fault and not its neighbour. The base is in the
// segment's record; nothing else is kept, so there is no second truth that could disagree after a
// crash. A walk over the segments sorted by base is enough: creates are rare. A tree of gaps would
// be faster and was not worth its code.
//
// Pure but for reading the catalog's table; the caller holds C.
#include "server/catalog_internal.h"

static const uint64_t place_align = 2ULL << 20;

static uint64_t place_end(const struct store_segment_record *record)
{
    uint64_t bytes = (record->bytes + place_align - 1) & ~(place_align - 1);
    return record->base + bytes + place_align;
}

uint64_t catalog_place_locked(const struct catalog *catalog, uint64_t bytes)
{
    uint64_t base = LIMIT_BASE_LOW;
    uint64_t need = ((bytes + place_align - 1) & ~(place_align - 1)) + place_align;
    for (size_t i = 0; i < catalog->count; i++) {
        const struct store_segment_record *record =
            store_segment_record(catalog->by_base[i]->store);
        if (record->base >= base && record->base - base >= need) {
            return base;
        }
        if (place_end(record) > base) {
            base = place_end(record);
        }
    }
    return base <= LIMIT_BASE_HIGH && LIMIT_BASE_HIGH - base >= need ? base : 0;
}
