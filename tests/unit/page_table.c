// SPDX-License-Identifier: Apache-2.0
//
// The page table: every pair of states, what a move keeps and counts, who is woken. The expected moves stand here once more, as
// a picture: a move that is added to page_states.def has to be added here by somebody who means it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <string.h>

#include "libdsm/page/page_table.h"
#include "libdsm/sync/futex.h"

// A row for each state to come from, a column for each to go to, in the order of page_states.def.
static const char *const moves[PAGE_STATE_COUNT] = {
    //  utouch none undef back fill kill read resi writ disc give lost
    [PAGE_UNTOUCHED] = "............",  // stands for UNDEFINED or BACKING, and moves as these
    [PAGE_NONE] = "..x.........",       // has backing again
    [PAGE_UNDEFINED] = "....x.....x.",  // gets memory, is given up
    [PAGE_BACKING] = "..x..xx...xx",    // contents given up, killed, read, given up, or found lost
    [PAGE_FILLING] = "..x....x....",    // in, or back
    [PAGE_KILLING] = "...x...x....",    //
    [PAGE_READING] = "...x...x....",    //
    [PAGE_RESIDENT] = "........xx..",   // written, or taken away
    [PAGE_WRITING] = ".......x.x..",    // written, and perhaps a victim
    [PAGE_DISCARDING] = ".xxx...x....", // gone, given up, or back
    [PAGE_GIVING_UP] = ".xxx........",  // given up, or back
    [PAGE_LOST] = "............",
};

static struct lock lock;

static void every_pair(void **state)
{
    (void)state;
    for (int from = 0; from < PAGE_STATE_COUNT; from++) {
        assert_int_equal(strlen(moves[from]), PAGE_STATE_COUNT);
        for (int to = 0; to < PAGE_STATE_COUNT; to++) {
            bool expected = moves[from][to] == 'x';
            if (page_move_legal((enum page_state)from, (enum page_state)to) != expected) {
                fail_msg("%s to %s is %s", page_state_name((enum page_state)from),
                         page_state_name((enum page_state)to), expected ? "refused" : "allowed");
            }
        }
    }
}

static void open_table(struct page_table *table, uint64_t pages, enum page_state initial)
{
    assert_int_equal(page_table_create(table, pages, initial, &lock), 0);
}

static void walk(struct page_table *table, uint64_t page, const enum page_state *to, int count)
{
    lock_acquire(&lock);
    for (int i = 0; i < count; i++) {
        page_move(table, page, to[i]);
        assert_int_equal(page_state(table, page_at(table, page)), to[i]);
    }
    lock_release(&lock);
}

static void untouched_is_what_the_segment_says(void **state)
{
    (void)state;
    struct page_table table;
    open_table(&table, 3, PAGE_UNDEFINED);
    assert_int_equal(page_state(&table, page_at(&table, 2)), PAGE_UNDEFINED);
    const enum page_state filling[] = {PAGE_FILLING};
    walk(&table, 2, filling, 1);
    page_table_destroy(&table);
    open_table(&table, 3, PAGE_BACKING);
    assert_int_equal(page_state(&table, page_at(&table, 2)), PAGE_BACKING);
    const enum page_state reading[] = {PAGE_READING};
    walk(&table, 2, reading, 1);
    page_table_destroy(&table);
    page_table_destroy(&table); // harmless
}

// Every legal move of the table is made, and the chunk's counter is the number of pages that have a frame.
static void chunks_count_frames(void **state)
{
    (void)state;
    struct page_table table;
    open_table(&table, 2 * PAGE_CHUNK + 1, PAGE_BACKING);
    const enum page_state in[] = {PAGE_READING, PAGE_RESIDENT};
    const enum page_state write[] = {PAGE_WRITING, PAGE_RESIDENT, PAGE_WRITING, PAGE_DISCARDING};
    const enum page_state back[] = {PAGE_RESIDENT, PAGE_DISCARDING, PAGE_UNDEFINED};
    const enum page_state none[] = {PAGE_DISCARDING, PAGE_NONE, PAGE_UNDEFINED, PAGE_GIVING_UP,
                                    PAGE_NONE};
    const enum page_state fill[] = {PAGE_FILLING,  PAGE_UNDEFINED,  PAGE_FILLING,
                                    PAGE_RESIDENT, PAGE_DISCARDING, PAGE_BACKING};
    const enum page_state kill[] = {PAGE_KILLING,  PAGE_BACKING,    PAGE_KILLING,
                                    PAGE_RESIDENT, PAGE_DISCARDING, PAGE_BACKING,
                                    PAGE_READING,  PAGE_BACKING,    PAGE_LOST};
    walk(&table, PAGE_CHUNK - 1, in, 2);
    walk(&table, PAGE_CHUNK, in, 2);
    walk(&table, 2 * PAGE_CHUNK, in, 2);
    walk(&table, 2 * PAGE_CHUNK - 1, in, 2);
    assert_int_equal(table.chunk_resident[0], 1);
    assert_int_equal(table.chunk_resident[1], 2);
    assert_int_equal(table.chunk_resident[2], 1);
    walk(&table, PAGE_CHUNK, write, 4);
    assert_int_equal(table.chunk_resident[1], 2); // the frame is there until it is gone
    walk(&table, PAGE_CHUNK, back, 3);
    assert_int_equal(table.chunk_resident[1], 1);
    walk(&table, PAGE_CHUNK, fill, 6);
    walk(&table, PAGE_CHUNK, kill, 9);
    assert_int_equal(table.chunk_resident[1], 1);
    walk(&table, 2 * PAGE_CHUNK - 1, none, 5);
    assert_int_equal(table.chunk_resident[1], 0);
    page_table_destroy(&table);
}

static void moves_keep_flags_and_flags_keep_states(void **state)
{
    (void)state;
    struct page_table table;
    open_table(&table, 1, PAGE_BACKING);
    struct page_entry *entry = page_at(&table, 0);
    lock_acquire(&lock);
    page_set(&table, entry, PAGE_REQUESTED | PAGE_AHEAD, 0);
    page_move(&table, 0, PAGE_READING);
    assert_true(page_has(entry, PAGE_REQUESTED | PAGE_AHEAD));
    page_set(&table, entry, PAGE_DIRTY, PAGE_REQUESTED);
    assert_false(page_has(entry, PAGE_REQUESTED));
    assert_true(page_has(entry, PAGE_DIRTY | PAGE_AHEAD));
    assert_int_equal(page_state(&table, entry), PAGE_READING);
    lock_release(&lock);
    page_table_destroy(&table);
}

// A word that had one value, then others, then the first state and flags again, is another word: whoever saw
// the first can tell that something happened.
static void a_word_does_not_come_back(void **state)
{
    (void)state;
    struct page_table table;
    open_table(&table, 1, PAGE_BACKING);
    struct page_entry *entry = page_at(&table, 0);
    const enum page_state in[] = {PAGE_READING, PAGE_RESIDENT};
    const enum page_state round[] = {PAGE_DISCARDING, PAGE_BACKING, PAGE_READING, PAGE_RESIDENT};
    walk(&table, 0, in, 2);
    uint32_t seen = page_word(entry);
    for (int i = 0; i < 1000; i++) {
        walk(&table, 0, round, 4);
        assert_int_not_equal(page_word(entry), seen);
    }
    seen = page_word(entry);
    lock_acquire(&lock);
    page_set(&table, entry, 0, PAGE_WANTED); // nothing to change: nothing changes
    lock_release(&lock);
    assert_int_equal(page_word(entry), seen);
    page_table_destroy(&table);
}

static void in_transit(void **state)
{
    (void)state;
    static const bool expected[PAGE_STATE_COUNT] = {
        [PAGE_FILLING] = true, [PAGE_KILLING] = true,    [PAGE_READING] = true,
        [PAGE_WRITING] = true, [PAGE_DISCARDING] = true, [PAGE_GIVING_UP] = true,
    };
    for (int i = 0; i < PAGE_STATE_COUNT; i++) {
        assert_int_equal(page_in_transit((enum page_state)i), expected[i]);
    }
}

static void names(void **state)
{
    (void)state;
    assert_string_equal(page_state_name(PAGE_UNTOUCHED), "UNTOUCHED");
    assert_string_equal(page_state_name(PAGE_BACKING), "BACKING");
    assert_string_equal(page_state_name(PAGE_LOST), "LOST");
    assert_string_equal(page_state_name(PAGE_STATE_COUNT), "?");
}

static void sizes(void **state)
{
    (void)state;
    struct page_table table;
    assert_int_equal(sizeof(struct page_entry), 16);
    open_table(&table, 1ull << 34, PAGE_UNDEFINED); // 64 TiB of 4 KiB pages: reserved, not used
    assert_int_equal(page_state(&table, page_at(&table, (1ull << 34) - 1)), PAGE_UNDEFINED);
    page_table_destroy(&table);
    assert_int_equal(page_table_create(&table, 1ull << 58, PAGE_UNDEFINED, &lock), -12);
    assert_null(table.entries);
}

struct sleeper {
    struct page_entry *entry;
    uint32_t word;
    pthread_t thread;
};

static void *sleep_on_page(void *argument)
{
    struct sleeper *s = argument;
    while (page_word(s->entry) == s->word) {
        (void)sync_wait(&s->entry->word, s->word, SYNC_FOR_EVER);
    }
    return NULL;
}

static void the_end_of_a_transit_wakes_all(void **state)
{
    (void)state;
    struct page_table table;
    open_table(&table, 1, PAGE_BACKING);
    struct page_entry *entry = page_at(&table, 0);
    const enum page_state reading[] = {PAGE_READING};
    const enum page_state resident[] = {PAGE_RESIDENT};
    walk(&table, 0, reading, 1);
    lock_acquire(&lock);
    page_set(&table, entry, PAGE_WAITERS, 0);
    lock_release(&lock);
    struct sleeper sleepers[8];
    for (int i = 0; i < 8; i++) {
        sleepers[i] = (struct sleeper){.entry = entry, .word = page_word(entry)};
        assert_int_equal(pthread_create(&sleepers[i].thread, NULL, sleep_on_page, &sleepers[i]), 0);
    }
    walk(&table, 0, resident, 1);
    lock_acquire(&lock);
    page_wake(&table, entry);
    assert_false(page_has(entry, PAGE_WAITERS));
    lock_release(&lock);
    for (int i = 0; i < 8; i++) {
        (void)pthread_join(sleepers[i].thread, NULL);
    }
    page_table_destroy(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair),
        cmocka_unit_test(untouched_is_what_the_segment_says),
        cmocka_unit_test(chunks_count_frames),
        cmocka_unit_test(moves_keep_flags_and_flags_keep_states),
        cmocka_unit_test(a_word_does_not_come_back),
        cmocka_unit_test(in_transit),
        cmocka_unit_test(names),
        cmocka_unit_test(sizes),
        cmocka_unit_test(the_end_of_a_transit_wakes_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
