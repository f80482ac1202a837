// SPDX-License-Identifier: Apache-2.0
//
// Linked into a program before the library's pager_fault(): writes down which pages the program touches. Only the last few
// pages that were touched are left open, all others are closed (in memory, so a touch costs a trap, not a
// read): each touch of another page is a trap, and is noted. The trace goes to $DSM_TRACE_FILE when the program ends.
//
// What is not seen: touches among the few pages that are open. They hit in any cache worth the name.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "libdsm/pager/pager.h"
#include "tests/sim/trace.h"

enum { OPEN_PAGES = 8 };
static const uint64_t touches_most = 1 << 23;

static struct {
    struct segment *segment;
    uint64_t page;
} open_pages[OPEN_PAGES];
static unsigned next_open;
static uint64_t *touched; // segment << 40 | page
static uint64_t count;

enum trap_verdict __real_pager_fault(const struct trap_fault *fault);
enum trap_verdict __wrap_pager_fault(const struct trap_fault *fault);

static bool is_open(const struct segment *segment, uint64_t page)
{
    for (unsigned i = 0; i < OPEN_PAGES; i++) {
        if (open_pages[i].segment == segment && open_pages[i].page == page) {
            return true;
        }
    }
    return false;
}

static void close_page(struct pager *pager, struct segment *segment, uint64_t page)
{
    if (segment != NULL && frames_evictable(pager, segment, page) &&
        protection_of(page_at(&segment->table, page)) != TRAP_NONE) {
        (void)protection_set(segment, page, 1, TRAP_NONE);
    }
}

static void note(struct pager *pager, struct segment *segment, uint64_t page)
{
    if (is_open(segment, page)) {
        return; // its first store, after a load
    }
    close_page(pager, open_pages[next_open].segment, open_pages[next_open].page);
    open_pages[next_open].segment = segment;
    open_pages[next_open].page = page;
    next_open = (next_open + 1) % OPEN_PAGES;
    if (count < touches_most) {
        touched[count++] = (uint64_t)segment->index << 40 | page;
    }
}

enum trap_verdict __wrap_pager_fault(const struct trap_fault *fault)
{
    enum trap_verdict verdict = __real_pager_fault(fault);
    struct pager *pager = atomic_load(&pager_of_process);
    struct segment *segment = pager != NULL ? pager_find(pager, fault->address) : NULL;
    if (verdict == TRAP_RESOLVED && segment != NULL && touched != NULL) {
        uint64_t page = (fault->address - (uintptr_t)segment->view.base) >> segment->page_shift;
        lock_acquire(&pager->lock);
        note(pager, segment, page);
        lock_release(&pager->lock);
    }
    return verdict;
}

__attribute__((constructor)) static void begin(void)
{
    void *room = mmap(NULL, touches_most * sizeof *touched, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    touched = getenv("DSM_TRACE_FILE") != NULL && room != MAP_FAILED ? room : NULL;
}

// ---- at the end: small numbers instead of addresses, in the order of the first touch ----

struct numbers { // open addressing; key 0: free
    uint64_t *key;
    uint32_t *number;
    uint64_t mask;
    uint32_t used;
};

static uint32_t number_of(struct numbers *n, uint64_t key)
{
    uint64_t at = (key * UINT64_C(0x9e3779b97f4a7c15) >> 20) & n->mask;
    while (n->key[at] != 0 && n->key[at] != key + 1) {
        at = (at + 1) & n->mask;
    }
    if (n->key[at] == 0) {
        n->key[at] = key + 1;
        n->number[at] = n->used++;
    }
    return n->number[at];
}

static int write_trace(const char *path)
{
    struct numbers n = {
        .key = calloc(touches_most * 2, sizeof *n.key),
        .number = calloc(touches_most * 2, sizeof *n.number),
        .mask = touches_most * 2 - 1,
    };
    uint32_t *small = calloc(count + 2, sizeof *small);
    FILE *file = fopen(path, "we");
    bool well = n.key != NULL && n.number != NULL && small != NULL && file != NULL;
    if (well) {
        for (uint64_t i = 0; i < count; i++) {
            small[2 + i] = number_of(&n, touched[i]);
        }
        small[0] = (uint32_t)count;
        small[1] = n.used;
        well = fwrite(TRACE_MAGIC, sizeof TRACE_MAGIC - 1, 1, file) == 1 &&
               fwrite(small, sizeof *small, count + 2, file) == count + 2;
    }
    well = file != NULL && fclose(file) == 0 && well;
    free(n.key);
    free(n.number);
    free(small);
    return well ? 0 : -EIO;
}

__attribute__((destructor)) static void end(void)
{
    const char *path = getenv("DSM_TRACE_FILE");
    if (path != NULL && count > 0 && write_trace(path) != 0) {
        fprintf(stderr, "record: cannot write the trace to %s\n", path);
        _exit(1);
    }
}
