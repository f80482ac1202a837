// SPDX-License-Identifier: Apache-2.0
//
// libdsm's own code allocates nothing once the session and its segment are open: the test's malloc and its kin count the
// calls that come from libdsm's text, while pages are touched, cleaned, swapped in, pinned and aged. What other
// libraries allocate for it (gRPC, when it carries a message) is counted beside, for the record.
#include <link.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "tests/e2e/hold_rig.h"

enum { CACHE = 2 * MIB, PAGES = 8 * CACHE / PAGE, TURNS = 10000 };

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *at, size_t bytes);
void *__libc_memalign(size_t boundary, size_t bytes);

static struct {
    uintptr_t from, to;
} text[8]; // libdsm's
static int text_count;
static atomic_bool counting;
static _Atomic uint64_t by_libdsm, by_others;

static void count(const void *caller)
{
    if (!atomic_load(&counting)) {
        return;
    }
    for (int i = 0; i < text_count; i++) {
        if ((uintptr_t)caller >= text[i].from && (uintptr_t)caller < text[i].to) {
            (void)atomic_fetch_add(&by_libdsm, 1);
            return;
        }
    }
    (void)atomic_fetch_add(&by_others, 1);
}

#pragma GCC visibility push(default) // instead of glibc's, for every library

void *malloc(size_t bytes)
{
    count(__builtin_return_address(0));
    return __libc_malloc(bytes);
}

void *calloc(size_t number, size_t bytes)
{
    count(__builtin_return_address(0));
    return __libc_calloc(number, bytes);
}

void *realloc(void *at, size_t bytes)
{
    count(__builtin_return_address(0));
    return __libc_realloc(at, bytes);
}

void *memalign(size_t boundary, size_t bytes)
{
    count(__builtin_return_address(0));
    return __libc_memalign(boundary, bytes);
}

void *aligned_alloc(size_t boundary, size_t bytes)
{
    count(__builtin_return_address(0));
    return __libc_memalign(boundary, bytes);
}

int posix_memalign(void **at, size_t boundary, size_t bytes)
{
    count(__builtin_return_address(0));
    void *result = __libc_memalign(boundary, bytes);
    if (result == NULL) {
        return ENOMEM;
    }
    *at = result;
    return 0;
}

#pragma GCC visibility pop

static int look_at_object(struct dl_phdr_info *info, size_t bytes, void *context)
{
    (void)bytes;
    (void)context;
    if (strstr(info->dlpi_name, "libdsm.so") == NULL) {
        return 0;
    }
    for (int i = 0; i < info->dlpi_phnum && text_count < 8; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type == PT_LOAD && (header->p_flags & PF_X) != 0) {
            text[text_count].from = info->dlpi_addr + header->p_vaddr;
            text[text_count++].to = info->dlpi_addr + header->p_vaddr + header->p_memsz;
        }
    }
    return 0;
}

static void work(dsm_segment *segment)
{
    uint64_t seed = 3;
    for (int i = 0; i < TURNS; i++) {
        uint64_t page = (hold_random(&seed) >> 8) % PAGES;
        volatile uint64_t *word = hold_at(segment, page);
        CHECK(word[1] == page + 1);
        if (i % 2 == 0) {
            word[0]++;
        }
        dsm_interval some = {page, PAGES - page < 16 ? PAGES - page : 16};
        if (i % 100 == 0) {
            OK(dsm_clean(segment, some, NULL));
        } else if (i % 100 == 25) {
            OK(dsm_swap_in(segment, some, DSM_PIN | DSM_WRITE, DSM_NO_PAGE));
            OK(dsm_unpin(segment, some));
        } else if (i % 100 == 50) {
            OK(dsm_age(segment, some));
            (void)hold_state(segment, page);
        }
    }
}

static void run_count(void)
{
    (void)dl_iterate_phdr(look_at_object, NULL);
    CHECK(text_count > 0, "libdsm is not loaded");
    atomic_store(&counting, true);
    dsm *session = hold_open(CACHE);
    dsm_segment *segment = hold_create(session, "allocations", PAGES, PAGE);
    CHECK(by_libdsm > 0, "opening allocates, but it was not counted");
    for (uint64_t page = 0; page < PAGES; page++) {
        ((volatile uint64_t *)hold_at(segment, page))[1] = page + 1;
    }
    dsm_statistics before = hold_stats(session);
    atomic_store(&by_libdsm, 0);
    atomic_store(&by_others, 0);
    work(segment);
    uint64_t ours = atomic_load(&by_libdsm);
    uint64_t others = atomic_load(&by_others);
    dsm_statistics after = hold_stats(session);
    uint64_t faults = after.faults_read + after.faults_write - before.faults_read;
    printf("%lu allocations by libdsm, %lu by other libraries, in %lu faults, %lu calls\n",
           (unsigned long)ours, (unsigned long)others, (unsigned long)faults,
           (unsigned long)(after.clean_calls - before.clean_calls));
    CHECK(faults >= TURNS / 4, "nothing was tested");
    CHECK(ours == 0);
    hold_close(session);
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {{"count", run_count}};
    return hold_main(argc, argv, roles, sizeof roles / sizeof roles[0]);
}
