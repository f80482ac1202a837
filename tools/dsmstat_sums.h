// SPDX-License-Identifier: Apache-2.0
//
// What the kernel has counted, copied: for each key a row of 64-bit sums, whatever they mean.
#ifndef TOOLS_DSMSTAT_SUMS_H
#define TOOLS_DSMSTAT_SUMS_H

#include "tools/dsmstat_watch.h"

enum sums_of { SUMS_COUNTS, SUMS_HIST, SUMS_WHY };
#define SUMS_WORDS(type) (sizeof(type) / sizeof(uint64_t))

struct sums {
    size_t words; // of each row
    size_t count, room;
    struct seen_key *keys;
    uint64_t *values; // row after row
};
// Those that the options let through. 0, or -errno with a sentence.
int sums_read(const struct watch *watch, enum sums_of what, struct sums *sums,
              struct failure *failure);
// NULL: there is none.
const uint64_t *sums_find(const struct sums *sums, const struct seen_key *key);
int sums_copy(const struct sums *sums, struct sums *copy); // 0 or -ENOMEM
void sums_subtract(struct sums *sums, const struct sums *before);
void sums_total(const struct sums *sums, uint64_t *total);
void sums_free(struct sums *sums);

// The fields that begin every object of a group, and every line.
void sums_name_json(const struct watch *watch, const struct seen_key *key, json_t *object);
void sums_name_csv(const struct watch *watch, const struct seen_key *key);
#define SUMS_NAME_CSV "pid,program,segment,server"
json_t *sums_losses_json(const struct watch *watch);

// ---- drawing (dsmstat_draw.c): UTF-8 where the locale has it, else ASCII ----

void draw_begin(void);            // before anything else of this
unsigned draw_width(void);        // of the terminal, or 80
void draw_text(const char *text); // a line, broken between words where a terminal would break it
void draw_bar(double share, unsigned width); // share of 0 to 1
const char *draw_shade(double share);        // one column wide; " " is 0

#endif
