// SPDX-License-Identifier: Apache-2.0
//
// A large bitmap with summaries, so that the lowest clear bit is found without a walk over all of
// them. Memory is touched only where bits are set.
#ifndef SERVER_STORE_BITMAP_H
#define SERVER_STORE_BITMAP_H

#include <stdbool.h>
#include <stdint.h>

enum { BITMAP_LEVELS = 3 };
#define BITMAP_NONE UINT32_MAX

struct bitmap {
    uint64_t *words[BITMAP_LEVELS]; // a bit of level n + 1: the word of level n is all ones
    uint32_t bits;
};

int bitmap_create(struct bitmap *map, uint32_t bits); // 0 or -ENOMEM; all clear
void bitmap_destroy(struct bitmap *map);
void bitmap_set(struct bitmap *map, uint32_t bit);
void bitmap_clear(struct bitmap *map, uint32_t bit);
bool bitmap_get(const struct bitmap *map, uint32_t bit);
uint32_t bitmap_lowest_clear(const struct bitmap *map); // BITMAP_NONE: all are set

// Zeroed address space that takes memory only where it is touched; NULL when there is none.
void *bitmap_memory(uint64_t bytes);
void bitmap_memory_free(void *memory, uint64_t bytes);

#endif
