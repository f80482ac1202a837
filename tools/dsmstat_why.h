// SPDX-License-Identifier: Apache-2.0
//
// What a fault's time consists of: sums (dsmstat_why.c), and what follows from them (dsmstat_advice.c).
#ifndef TOOLS_DSMSTAT_WHY_H
#define TOOLS_DSMSTAT_WHY_H

#include "tools/dsmstat_sums.h"

struct why_part { // of a fault's time
    const char *name, *title, *meaning;
};
extern const struct why_part why_parts[SEEN_PARTS];

struct why_facts {
    struct seen_split faults; // all of them together
    double pages_per_run;     // 0: none was asked for
    bool comes_again;         // the cache is full, and more pages were read than there are
};
struct why_advice {
    unsigned part;       // that takes longest
    const char *verdict; // one word
    char sentence[400];
};
void why_advise(const struct why_facts *facts, struct why_advice *advice);

#endif
