// SPDX-License-Identifier: Apache-2.0
//
// An image of a heap and a stack that stops before it moves (Vm_InitiateMigration, Vm_EncapState), and goes on again.
//
//   samples  heap 3 and stack 2 pages dirty: samples 2, sum 5, squares 13 (proc_MigStats); and the capsule's size was known at the freeze
//   whole    each step of the freeze fails: nothing stays frozen, the program goes on
//   lost     the server does not take the writes: the image stays, with all it changed, and moves later
#include <stdlib.h>
#include <unistd.h>

#include "libdsm/migrate/image.h"
#include "libdsm/session_api.h"
#include "tests/e2e/hold_rig.h"

enum { HEAP_PAGES = 64, STACK_PAGES = 32 };

static dsm *session;
static dsm_segment *heap, *stack;
static struct image image;

static void set_up(void)
{
    session = hold_open(4 * MIB);
    heap = hold_create(session, "image/heap", HEAP_PAGES, PAGE);
    stack = hold_create(session, "image/stack", STACK_PAGES, PAGE);
    hold_fill(heap, 1, 1);
    hold_fill(heap, 2, 1);
    hold_fill(stack, 31, 1);
    OK(dsm_clean(heap, hold_all(heap), NULL));
    OK(dsm_clean(stack, hold_all(stack), NULL));
}

static void assemble(void)
{
    memset(&image, 0, sizeof image);
    image.pager = &session->pager;
    image.count = 2;
    image.parts[0] = (struct image_part){.segment = &heap->segment, .type = CAPSULE_HEAP};
    image.parts[1] = (struct image_part){.segment = &stack->segment, .type = CAPSULE_STACK};
}

static void make_dirty(uint64_t version)
{
    hold_fill(heap, 1, version);
    hold_fill(heap, 10, version);
    hold_fill(heap, 63, version);
    hold_fill(stack, 30, version);
    hold_fill(stack, 31, version);
}

static void check_dirty(uint64_t version)
{
    CHECK(hold_holds(heap, 1, version) && hold_holds(heap, 10, version));
    CHECK(hold_holds(heap, 63, version) && hold_holds(heap, 2, 1));
    CHECK(hold_holds(stack, 30, version) && hold_holds(stack, 31, version));
    CHECK(*(volatile uint64_t *)hold_at(heap, 20) == 0);
}

static void samples(void)
{
    set_up();
    OK(dsm_make_read_only(heap, (dsm_interval){2, 1}));
    OK(dsm_set_data_state(heap, (dsm_interval){5, 2}, DSM_DATA_NONE));
    make_dirty(2);
    assemble();
    dsm_statistics before = hold_stats(session);
    OK(image_freeze(&image));
    OK(image_settle(&image));
    dsm_statistics after = hold_stats(session);
    CHECK(after.migrate_samples - before.migrate_samples == 2);
    CHECK(after.migrate_pages_written - before.migrate_pages_written == 5);
    CHECK(after.migrate_pages_written_squared - before.migrate_pages_written_squared == 13);
    CHECK(after.migrate_bytes_before - before.migrate_bytes_before == 5 * PAGE);
    CHECK(after.bytes_written - before.bytes_written == 5 * PAGE);
    CHECK(after.bytes_read == before.bytes_read && after.resident_bytes == 0);
    struct capsule *capsule = capsule_create(2);
    CHECK(capsule != NULL);
    image_describe(&image, capsule->segments);
    const struct capsule_segment *h = &capsule->segments[0];
    // 0 zero, 1 changed, 2 read-only, 3-4 zero, 5-6 none, 7-9 zero, 10 changed, 11-62 zero, 63 changed
    static const uint64_t pages[] = {1, 1, 1, 2, 2, 3, 1, 52, 1};
    static const enum capsule_place places[] = {
        CAPSULE_ZERO, CAPSULE_BACKING, CAPSULE_BACKING, CAPSULE_ZERO,    CAPSULE_NONE,
        CAPSULE_ZERO, CAPSULE_BACKING, CAPSULE_ZERO,    CAPSULE_BACKING,
    };
    CHECK(h->run_count == 9, "%u runs", h->run_count);
    for (uint32_t i = 0; i < 9; i++) {
        CHECK(h->runs[i].pages == pages[i] && h->runs[i].place == places[i], "run %u", i);
        CHECK(h->runs[i].read_only == (i == 2));
    }
    image_thaw(&image);
    capsule_destroy(&capsule);
    check_dirty(2);
    hold_close(session);
}

static void check_whole(void)
{
    static uint64_t version = 100;
    CHECK(!heap->segment.frozen && !stack->segment.frozen);
    make_dirty(++version);
    check_dirty(version);
}

static void whole(void)
{
    set_up();
    make_dirty(2);
    assemble();
    OK(dsm_swap_in(stack, (dsm_interval){31, 1}, DSM_PIN, DSM_NO_PAGE)); // the second one's freeze
    RESULT(image_freeze(&image), -EBUSY);
    CHECK(image.failed == &stack->segment && image.failed_page == 31);
    check_whole();
    OK(dsm_unpin(stack, (dsm_interval){31, 1}));
    stack->segment.writable = false; // as one that is open for reading
    RESULT(image_freeze(&image), -EBUSY);
    stack->segment.writable = true;
    check_whole();
    atomic_store(&stack->segment.backing.fate, BACKING_FENCED);
    RESULT(image_freeze(&image), -DSM_EFENCED);
    atomic_store(&stack->segment.backing.fate, BACKING_WELL);
    check_whole();
    struct freeze freeze;
    OK(pager_freeze(&stack->segment, &freeze));
    RESULT(image_freeze(&image), -EALREADY);
    CHECK(stack->segment.frozen && !heap->segment.frozen);
    pager_thaw(&stack->segment);
    check_whole();
    struct call *calls[PAGER_CALLS]; // no record is left for the second flush
    uint32_t taken = 0;
    while (taken < PAGER_CALLS - 1) {
        calls[taken] = call_try(&session->pager, 0);
        CHECK(calls[taken++] != NULL);
    }
    RESULT(image_freeze(&image), -EAGAIN);
    while (taken > 0) {
        call_free(&session->pager, calls[--taken]);
    }
    check_whole();
    for (int round = 0; round < 20; round++) {
        OK(image_freeze(&image));
        if (round % 2 == 0) {
            OK(image_settle(&image));
        }
        image_thaw(&image);
        check_whole();
    }
    hold_close_after_errors(session);
}

static void lost(void)
{
    set_up();
    make_dirty(2);
    assemble();
    hold_say("pause");
    hold_await("paused");
    OK(image_freeze(&image));
    int error = image_settle(&image);
    CHECK(error == -ETIMEDOUT || error == -EIO, "%d", error);
    CHECK(image.failed != NULL);
    hold_say("continue");
    hold_await("continued");
    check_dirty(2);
    CHECK(hold_state(heap, 10).needs_cleaning, "what was not written must be dirty still");
    OK(image_freeze(&image));
    OK(image_settle(&image));
    image_thaw(&image);
    check_dirty(2);
    hold_close_after_errors(session);
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {
        {"samples", samples}, {"whole", whole}, {"lost", lost}};
    return hold_main(argc, argv, roles, sizeof roles / sizeof *roles);
}
