// SPDX-License-Identifier: Apache-2.0
//
// The package index's parser and the graph built from it, on a small sample that has one of each: versions,
// architectures, profiles, alternatives, folded fields, repeated and own dependencies, virtual packages that two
// packages provide, unknown names, a second stanza of the same name, and a last line without a newline.
// PageRank is compared with a computation that pulls, over the edges written out by hand.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/programs/package_graph.h"

struct items {
    char text[2048];
};

static void note(void *context, enum index_item item, const char *name, size_t bytes)
{
    struct items *items = context;
    size_t used = strlen(items->text);
    snprintf(items->text + used, sizeof(items->text) - used, "%c%.*s ", "PDV"[item], (int)bytes,
             name);
}

static void parse_lines(const char *text, struct items *items)
{
    struct index_parser parser = {.visit = note, .context = items};
    items->text[0] = '\0';
    index_text(&parser, text, strlen(text));
}

static void relations_are_cut_into_names(void **state)
{
    (void)state;
    struct items items;
    parse_lines("Package: a\nDepends: b (>= 1:2.0), c:any | d [amd64] , e<!x>,f(<<3)\n", &items);
    assert_string_equal(items.text, "Pa Db Dc Dd De Df ");
    parse_lines("Pre-Depends: x|y\n z,\n\tw\nProvides: v (= 1)", &items);
    assert_string_equal(items.text, "Dx Dy Dz Dw Vv ");
    parse_lines("Depends:\nDescription: Depends: no\n Provides: no\nPackage:   \n , ,|\n", &items);
    assert_string_equal(items.text, "");
    parse_lines("Depends: a\n\n b\nDepends-Not: c\nNo colon here\n d\n", &items);
    assert_string_equal(items.text, "Da ");
}

static char *read_sample(size_t *bytes)
{
    FILE *stream = fopen("programs/sample-index.txt", "re");
    assert_non_null(stream);
    char *text = malloc(4096);
    assert_non_null(text);
    *bytes = fread(text, 1, 4096, stream);
    assert_in_range(*bytes, 100, 4095);
    fclose(stream);
    return text;
}

static void make_graph(struct graph *graph)
{
    size_t bytes;
    char *text = read_sample(&bytes);
    *graph = (struct graph){.sizes.text_bytes = bytes - 1}; // the last newline is not there
    struct index_parser counter = graph_counter(&graph->sizes);
    index_text(&counter, text, bytes - 1);
    for (int part = 0; part < GRAPH_PARTS; part++) {
        graph->parts[part] = calloc(1, graph_part_bytes(&graph->sizes, (enum graph_part)part));
        assert_non_null(graph->parts[part]);
    }
    memcpy(graph->parts[GRAPH_TEXT], text, bytes - 1);
    free(text);
    assert_int_equal(graph_build(graph), 0);
}

static void free_graph(struct graph *graph)
{
    for (int part = 0; part < GRAPH_PARTS; part++) {
        free(graph->parts[part]);
    }
}

static uint64_t find(const struct graph *graph, const char *name)
{
    return graph_find(graph, name, strlen(name));
}

enum { BASE, TOOL, LIBRARY, OTHER, PACKAGES };
static const uint32_t expected_edges[] = {BASE, LIBRARY, OTHER, BASE, LIBRARY, TOOL};
static const uint64_t expected_offsets[] = {0, 0, 3, 4, 6};

static void graph_of_the_sample(void **state)
{
    (void)state;
    struct graph graph;
    make_graph(&graph);
    assert_int_equal(graph.sizes.packages, 5);
    assert_int_equal(graph.packages, PACKAGES);
    assert_int_equal(graph.edges, 6);
    assert_memory_equal(graph.parts[GRAPH_OFFSETS], expected_offsets, sizeof(expected_offsets));
    assert_int_equal(find(&graph, "virtual-shell"), LIBRARY); // the first of two
    assert_int_equal(find(&graph, "virtual-lib"), LIBRARY);
    assert_int_equal(find(&graph, "nowhere"), UINT64_MAX);
    char name[5];
    graph_name(&graph, OTHER, name, sizeof(name));
    assert_string_equal(name, "othe");
    assert_memory_equal(graph.parts[GRAPH_EDGES], expected_edges, sizeof(expected_edges));
    free_graph(&graph);
}

static void pull(const double *from, double *to)
{
    for (uint64_t target = 0; target < PACKAGES; target++) {
        double sum = from[BASE] / PACKAGES; // the one without dependencies
        for (uint64_t source = 0; source < PACKAGES; source++) {
            uint64_t degree = expected_offsets[source + 1] - expected_offsets[source];
            for (uint64_t i = expected_offsets[source]; i < expected_offsets[source + 1]; i++) {
                sum += expected_edges[i] == target ? from[source] / (double)degree : 0;
            }
        }
        to[target] = 0.15 / PACKAGES + 0.85 * sum;
    }
}

static void ranks_of_the_sample(void **state)
{
    (void)state;
    struct graph graph;
    make_graph(&graph);
    double expected[2][PACKAGES] = {{0.25, 0.25, 0.25, 0.25}};
    for (unsigned iterations = 0; iterations < 31; iterations++) {
        const double *ranks = graph_rank(&graph, iterations, 0.85);
        double sum = 0;
        for (size_t i = 0; i < PACKAGES; i++) {
            assert_true(fabs(ranks[i] - expected[iterations % 2][i]) < 1e-12);
            sum += ranks[i];
        }
        assert_true(fabs(sum - 1) < 1e-12);
        pull(expected[iterations % 2], expected[1 - iterations % 2]);
    }
    free_graph(&graph);
}

static void other_text_than_was_counted(void **state)
{
    (void)state;
    struct graph graph;
    make_graph(&graph);
    memset(graph.parts[GRAPH_NAMES], 0,
           graph_part_bytes(&graph.sizes, GRAPH_NAMES)); // as if never built
    graph.sizes.edges = 5;
    assert_int_equal(graph_build(&graph), -22);
    free_graph(&graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(relations_are_cut_into_names),
        cmocka_unit_test(graph_of_the_sample),
        cmocka_unit_test(ranks_of_the_sample),
        cmocka_unit_test(other_text_than_was_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
