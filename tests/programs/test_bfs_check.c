// SPDX-License-Identifier: Apache-2.0
// The validation of search trees accepts a right one, and refuses one that breaks each of its rules.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "tests/programs/bfs_check.h"

enum { SCALE = 8, VERTICES = 1 << SCALE };
static const struct kronecker graph = {.scale = SCALE, .seed = 7};
static int32_t parents[VERTICES], levels[VERTICES];
static uint8_t joined[VERTICES];

// By relaxing all edges until nothing changes: slow, and nothing like the program's search.
static uint32_t search(void)
{
    uint32_t root = kronecker_edge(&graph, 0).from;
    int32_t depth[VERTICES];
    memset(parents, 0xff, sizeof parents);
    memset(depth, 0xff, sizeof depth);
    parents[root] = (int32_t)root;
    depth[root] = 0;
    for (int32_t level = 0; level < VERTICES; level++) {
        for (uint64_t i = 0; i < kronecker_edges(&graph); i++) {
            struct kronecker_edge edge = kronecker_edge(&graph, i);
            for (int way = 0; way < 2; way++) {
                if (depth[edge.from] == level && depth[edge.to] < 0) {
                    depth[edge.to] = level + 1;
                    parents[edge.to] = (int32_t)edge.from;
                }
                edge = (struct kronecker_edge){edge.to, edge.from};
            }
        }
    }
    return root;
}

static int check(uint32_t root)
{
    uint32_t vertex;
    uint64_t edges;
    struct bfs_check all = {
        .graph = &graph, .root = root, .parents = parents, .levels = levels, .joined = joined};
    return bfs_check(&all, &vertex, &edges);
}

static uint32_t at_level(int32_t level)
{
    for (uint32_t v = 0; v < VERTICES; v++) {
        if (levels[v] == level) {
            return v;
        }
    }
    fail_msg("no vertex at level %d", level);
    return 0;
}

static void test_right(void **state)
{
    (void)state;
    assert_int_equal(check(search()), 0);
}

static void test_cycle(void **state)
{
    (void)state;
    uint32_t root = search();
    assert_int_equal(check(root), 0);
    uint32_t low = at_level(2);
    parents[parents[low]] = (int32_t)low;
    assert_int_equal(check(root), 1);
}

static void test_root(void **state)
{
    (void)state;
    uint32_t root = search();
    parents[root] = BFS_NONE;
    assert_int_equal(check(root), 1);
}

static void test_outside(void **state)
{
    (void)state;
    uint32_t root = search();
    assert_int_equal(check(root), 0);
    parents[at_level(1)] = VERTICES;
    assert_int_equal(check(root), 1);
}

static void test_levels(void **state)
{
    (void)state;
    uint32_t root = search();
    assert_int_equal(check(root), 0);
    uint32_t high = at_level(1);
    for (uint32_t v = 0; v < VERTICES; v++) { // hangs at another of its own level: all below sink
        if (levels[v] == 1 && v != high) {
            parents[high] = (int32_t)v;
        }
    }
    int broken = check(root);
    assert_true(broken == 3 ||
                broken == 5); // a list edge over two levels, or no edge for the parent
}

static void test_left_out(void **state)
{
    (void)state;
    uint32_t root = search();
    assert_int_equal(check(root), 0);
    int32_t deepest = 0;
    for (uint32_t v = 0; v < VERTICES; v++) {
        deepest = levels[v] > deepest ? levels[v] : deepest;
    }
    parents[at_level(deepest)] = BFS_NONE;
    assert_int_equal(check(root), 4);
}

static bool has_edge(uint32_t a, uint32_t b)
{
    for (uint64_t i = 0; i < kronecker_edges(&graph); i++) {
        struct kronecker_edge edge = kronecker_edge(&graph, i);
        if ((edge.from == a && edge.to == b) || (edge.from == b && edge.to == a)) {
            return true;
        }
    }
    return false;
}

static void test_no_edge(void **state)
{
    (void)state;
    uint32_t root = search();
    assert_int_equal(check(root), 0);
    for (uint32_t v = 0; v < VERTICES; v++) {
        for (uint32_t p = 0; levels[v] == 2 && p < VERTICES; p++) {
            if (levels[p] == 1 && !has_edge(v, p)) {
                parents[v] = (int32_t)p; // the right level, but nothing joins them
                assert_int_equal(check(root), 5);
                return;
            }
        }
    }
    fail_msg("every vertex of level 2 is joined to all of level 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_right),   cmocka_unit_test(test_cycle),
        cmocka_unit_test(test_root),    cmocka_unit_test(test_outside),
        cmocka_unit_test(test_levels),  cmocka_unit_test(test_left_out),
        cmocka_unit_test(test_no_edge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
