// SPDX-License-Identifier: Apache-2.0
//
// Which slots are taken. The lowest clear bit is wanted for every page written, and a store may
// have 2^32 slots, so two levels of summaries stand above the bits: a summary bit says that the
// word below has no clear bit. The top level has one bit for 4096 slots, is walked, and is 1 MiB
// for the largest store there can be (8 KiB for 1 TiB).
//
// Lowest first keeps the files compact, reuses blocks that the file already has before new ones,
// and hands out ascending runs, which one system call can write. A linked list of free slots was
// rejected: it scatters runs.
//
// Memory comes from anonymous mappings, so a bitmap for a large and empty store costs address space
// only. Bits beyond the end count as set: they are never found.
//
// Threads: none of its own; the owner holds its lock.
#include "server/store/bitmap.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

void *bitmap_memory(uint64_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

void bitmap_memory_free(void *memory, uint64_t bytes)
{
    if (memory != NULL) {
        (void)munmap(memory, bytes);
    }
}

static uint64_t level_words(const struct bitmap *map, unsigned level)
{
    uint64_t words = map->bits;
    for (unsigned i = 0; i <= level; i++) {
        words = (words + 63) / 64;
    }
    return words;
}

int bitmap_create(struct bitmap *map, uint32_t bits)
{
    *map = (struct bitmap){.bits = bits};
    for (unsigned level = 0; level < BITMAP_LEVELS; level++) {
        map->words[level] = bitmap_memory(level_words(map, level) * sizeof(uint64_t));
        if (map->words[level] == NULL) {
            bitmap_destroy(map);
            return -ENOMEM;
        }
    }
    return 0;
}

void bitmap_destroy(struct bitmap *map)
{
    for (unsigned level = 0; level < BITMAP_LEVELS; level++) {
        bitmap_memory_free(map->words[level], level_words(map, level) * sizeof(uint64_t));
        map->words[level] = NULL;
    }
}

void bitmap_set(struct bitmap *map, uint32_t bit)
{
    assert(bit < map->bits);
    for (unsigned level = 0; level < BITMAP_LEVELS; level++, bit /= 64) {
        map->words[level][bit / 64] |= 1ULL << (bit % 64);
        if (map->words[level][bit / 64] != ~0ULL) {
            return;
        }
    }
}

void bitmap_clear(struct bitmap *map, uint32_t bit)
{
    assert(bit < map->bits);
    for (unsigned level = 0; level < BITMAP_LEVELS; level++, bit /= 64) {
        map->words[level][bit / 64] &= ~(1ULL << (bit % 64));
    }
}

bool bitmap_get(const struct bitmap *map, uint32_t bit)
{
    return bit < map->bits && ((map->words[0][bit / 64] >> (bit % 64)) & 1) != 0;
}

uint32_t bitmap_lowest_clear(const struct bitmap *map)
{
    uint64_t words = level_words(map, BITMAP_LEVELS - 1);
    for (uint64_t word = 0; word < words; word++) {
        uint64_t at = word;
        unsigned level = BITMAP_LEVELS;
        while (level > 0 && at < level_words(map, level - 1) &&
               map->words[level - 1][at] != ~0ULL) {
            level--;
            at = at * 64 + (unsigned)__builtin_ctzll(~map->words[level][at]);
        }
        if (level == 0) {
            return at < map->bits ? (uint32_t)at : BITMAP_NONE;
        }
    }
    return BITMAP_NONE;
}
