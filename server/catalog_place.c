// SPDX-License-Identifier: Apache-2.0
//
// Where segments lie in everybody's address space: in [LIMIT_BASE_LOW, LIMIT_BASE_HIGH), aligned to
// 2 MiB, with at least 2 MiB that belong to nobody behind each segment, so that a program that runs
// off the end of one meets a fault and not its neighbour.
//
// Addresses are dealt out upwards and not used again while there are fresh ones: a process that was
// cut off may still have a deleted segment mapped. The store remembers how far that got. Once the
// range is used up, first fit among the gaps. The walk over the segments sorted by base is enough:
// that case is rare. A tree of gaps would be faster and was not worth its code.
//
// Reads the catalog's table and the store's facts; the caller holds C.
#include "server/catalog_internal.h"

static const uint64_t place_align = 2ULL << 20;

static uint64_t place_end(const struct store_segment_record *record)
{
    uint64_t bytes = (record->bytes + place_align - 1) & ~(place_align - 1);
    return record->base + bytes + place_align;
}

static bool fits(uint64_t base, uint64_t need)
{
    return base >= LIMIT_BASE_LOW && base <= LIMIT_BASE_HIGH && LIMIT_BASE_HIGH - base >= need;
}

static uint64_t first_fit(const struct catalog *catalog, uint64_t need)
{
    uint64_t base = LIMIT_BASE_LOW;
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
    return fits(base, need) ? base : 0;
}

uint64_t catalog_place_locked(const struct catalog *catalog, uint64_t bytes)
{
    struct store_facts facts;
    store_facts(catalog->store, &facts);
    uint64_t need = ((bytes + place_align - 1) & ~(place_align - 1)) + place_align;
    uint64_t fresh = LIMIT_BASE_LOW;
    if (facts.base_end > fresh) {
        fresh = ((facts.base_end + place_align - 1) & ~(place_align - 1)) + place_align;
    }
    return fits(fresh, need) ? fresh : first_fit(catalog, need);
}
