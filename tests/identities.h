/* SPDX-License-Identifier: Apache-2.0
 *
 * What holds between the counters of a session whenever nothing is under way, whatever the program did: to be asked before
 * its end. Counters of one operation are not written at one instant, and others than the program are at work (laundry, pages
 * fetched ahead): what does not hold at once is asked again for a while. */
#ifndef TESTS_IDENTITIES_H
#define TESTS_IDENTITIES_H

#include <dsm/dsm.h>
#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>

/* errors: calls failed, at a page or by I/O. */
static inline const char *identities_of(const dsm_statistics *s, bool errors)
{
    uint64_t met = s->swap_in_already_in + s->swap_in_no_read + s->swap_in_reads;
    uint64_t taken = s->clean_writes + s->clean_check_out_cleans;
    uint64_t skipped = s->clean_skipped_absent + s->clean_skipped_no_backing +
                       s->clean_skipped_pinned + s->clean_skipped_clean;
    if (s->swap_in_pages < met || (!errors && s->swap_in_pages != met)) {
        return "swap_in_pages = already_in + no_read + reads + faults met";
    }
    if (s->clean_pages + s->clean_unneeded_check_out_cleans > taken ||
        (!errors && s->clean_pages + s->clean_unneeded_check_out_cleans != taken)) {
        return "clean_pages = writes + check_out_cleans - unneeded, but for failed I/O";
    }
    if (s->clean_cant_writes != skipped) {
        return "clean_cant_writes = pages skipped, absent, without backing, pinned and clean";
    }
    if (s->swap_in_physical_runs < s->swap_in_virtual_runs ||
        s->clean_physical_runs < s->clean_virtual_runs) {
        return "physical_runs >= virtual_runs";
    }
    if (s->waits < s->faults_waited) {
        return "waits >= faults_waited";
    }
    if (s->resident_bytes > s->resident_peak_bytes) {
        return "resident_bytes <= resident_peak_bytes";
    }
    return NULL;
}

/* NULL, or the one that does not hold. */
static inline const char *identities_broken(dsm *session, bool errors)
{
    enum { ROUNDS = 2000 };
    const char *broken = NULL;
    for (int i = 0; i < ROUNDS; i++) {
        dsm_statistics now = {.size = sizeof now};
        if (dsm_stats(session, &now) != 0) {
            return "dsm_stats() failed";
        }
        broken = identities_of(&now, errors);
        if (broken == NULL) {
            break;
        }
        (void)usleep(1000);
    }
    return broken;
}

#endif
