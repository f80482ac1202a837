// SPDX-License-Identifier: Apache-2.0
//
// One sentence that follows from the split of a fault's time. It names the part that takes longest, in all faults together, and says what
// could be done about that part. When the wire takes longest, what matters is why it is used so often: pages that were here
// before mean that the cache is too small, runs of one page that the program touches pages in no order.
//
// A thread that is ready but is given no processor waits in any part of its fault, and mostly in the last. When this machine's own
// part takes longest and half of that may be such waiting, or half of all, scheduling is to blame.
#include <stdio.h>

#include "tools/dsmstat_why.h"

static const double lonely = 1.5; // pages in a run

const struct why_part why_parts[SEEN_PARTS] = {
    {"trap", "trap", "the kernel: from the touch to the handler, and from its end to the probe"},
    {"pager", "pager", "the library: page, frame, victim, opening the page"},
    {"handover", "hand-over", "to the thread that fetches"},
    {"wait", "waiting", "for a page that another had asked for, a frame, a connection"},
    {"wire", "wire",
     "sockets, what lies between them, and until a thread that fetches for itself runs again"},
    {"server", "server", "dsmd, without its cipher"},
    {"cipher", "cipher", "sealing and opening, on both sides"},
    {"wake", "wake", "until the thread ran again, where another fetched for it"},
};

static const struct {
    const char *verdict, *sentence;
} causes[SEEN_PARTS] = {
    [SEEN_TRAP] = {"trap", "fewer faults help: larger pages, or dsm_swap_in ahead of the touch"},
    [SEEN_PAGER] = {"pager",
                    "fewer and larger moves help: larger pages, or dsm_swap_in ahead of the touch"},
    [SEEN_HANDOVER] = {"handover",
                       "the library's threads are late: give the program a processor more"},
    [SEEN_WAIT] = {"wait", "threads want the same pages, or memory that must be cleaned first: a "
                           "larger cache, or fewer threads on the same pages"},
    [SEEN_WIRE] = {"wire", "the wire is the limit: a faster or nearer network, or less to fetch"},
    [SEEN_SERVER] = {"server", "the server is the limit: its store is slow or its processors are "
                               "busy (dsmstat server)"},
    [SEEN_CIPHER] = {"cipher", "the cipher is the limit: processors with AES instructions, on "
                               "both sides"},
    [SEEN_WAKE] = {"wake", "threads are woken late: give the program processors of its own"},
};

static unsigned longest(const struct seen_split *faults)
{
    unsigned part = 0;
    for (unsigned i = 1; i < SEEN_PARTS; i++) {
        part = faults->parts_ns[i] > faults->parts_ns[part] ? i : part;
    }
    return part;
}

static const char *choose(const struct why_facts *facts, unsigned part, const char **verdict)
{
    bool ours = part != SEEN_WIRE && part != SEEN_SERVER && part != SEEN_WAIT;
    const struct seen_split *faults = &facts->faults;
    if (2 * faults->ready_ns > (ours ? faults->parts_ns[part] : faults->whole_ns)) {
        *verdict = "scheduling";
        return "threads were ready and had no processor: other work crowds them out, so give the "
               "program processors of its own, a higher priority, or fewer threads";
    }
    if (part == SEEN_WIRE && facts->comes_again) {
        *verdict = "cache";
        return "the cache is too small: pages are read that were here before (DSM_CACHE)";
    }
    if (part == SEEN_WIRE && facts->pages_per_run > 0 && facts->pages_per_run < lonely) {
        *verdict = "random";
        return "pages come one by one, touched in no order that could be foreseen: touch "
               "neighbours together, use larger pages, or dsm_swap_in ahead of the touch";
    }
    *verdict = causes[part].verdict;
    return causes[part].sentence;
}

void why_advise(const struct why_facts *facts, struct why_advice *advice)
{
    const struct seen_split *faults = &facts->faults;
    char times[2][16];
    if (faults->count == 0) {
        *advice = (struct why_advice){.verdict = "none", .sentence = "No fault waited for a page."};
        return;
    }
    unsigned part = longest(faults);
    const char *sentence = choose(facts, part, &advice->verdict);
    advice->part = part;
    (void)snprintf(advice->sentence, sizeof advice->sentence,
                   "The %s takes longest, %.0f %% of a fault (%s of %s): %s.",
                   why_parts[part].title,
                   100 * (double)faults->parts_ns[part] / (double)(faults->whole_ns + 1),
                   stat_time_text(faults->parts_ns[part] / faults->count, times[0]),
                   stat_time_text(faults->whole_ns / faults->count, times[1]), sentence);
}
