// SPDX-License-Identifier: Apache-2.0
//
// See package_graph.h. Decisions, all of them simple ones:
// - a package is a name; of several stanzas with one name the first counts, the others are passed over;
// - each alternative of a dependency ("a | b") is an edge of its own;
// - a name that is no package's but is provided by some is the first of those in the index (virtual packages);
// - names that nobody has, edges to oneself and repeated edges are dropped.
//
// The text is read three times (packages; what they provide; edges), so that every name is known before the first
// edge is looked up. Names are copied out of the text: else each look-up would touch a page of a text of 50 MB.
//
// PageRank pushes: a package gives its rank to those that it depends on. Packages without dependencies give
// theirs to all alike. Pushing writes all over the new ranks, which is the point of the exercise.
#include "tests/programs/package_graph.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

const char *const graph_part_names[GRAPH_PARTS] = {"text",    "names",  "offsets", "edges",
                                                   "degrees", "rank-a", "rank-b"};

struct name { // of a package
    uint32_t at, bytes;
};
struct slot { // of the hash table; bytes 0: free
    uint32_t hash, at, bytes, package;
};
enum { PROGRESS_STEP = 512, HINT_BYTES = 256 << 10 };
static const uint64_t nothing = UINT64_MAX;

// ---- sizes --------------------------------------------------------------------------------------------

static void count_item(void *context, enum index_item item, const char *name, size_t bytes)
{
    struct graph_sizes *sizes = context;
    (void)name;
    if (item == INDEX_DEPENDENCY) {
        sizes->edges++;
        return;
    }
    sizes->packages += item == INDEX_PACKAGE;
    sizes->names++;
    sizes->name_bytes += bytes;
}

struct index_parser graph_counter(struct graph_sizes *sizes)
{
    return (struct index_parser){.visit = count_item, .context = sizes};
}

static uint64_t slot_count(const struct graph_sizes *sizes)
{
    uint64_t slots = 16;
    while (slots < 2 * sizes->names) {
        slots *= 2;
    }
    return slots;
}

static uint64_t aligned_name_bytes(const struct graph_sizes *sizes)
{
    return (sizes->name_bytes + 15) & ~UINT64_C(15);
}

uint64_t graph_part_bytes(const struct graph_sizes *sizes, enum graph_part part)
{
    switch (part) {
    case GRAPH_TEXT:
        return sizes->text_bytes + 1;
    case GRAPH_NAMES:
        return aligned_name_bytes(sizes) + slot_count(sizes) * sizeof(struct slot) +
               sizes->packages * sizeof(struct name);
    case GRAPH_OFFSETS:
        return (sizes->packages + 1) * sizeof(uint64_t);
    case GRAPH_EDGES:
        return (sizes->edges + 1) * sizeof(uint32_t);
    case GRAPH_DEGREES:
        return (sizes->packages + 1) * sizeof(uint32_t);
    default:
        return (sizes->packages + 1) * sizeof(double);
    }
}

// ---- names --------------------------------------------------------------------------------------------

static struct slot *slots_of(const struct graph *graph)
{
    return (struct slot *)((char *)graph->parts[GRAPH_NAMES] + aligned_name_bytes(&graph->sizes));
}

static struct name *names_of(const struct graph *graph)
{
    return (struct name *)(slots_of(graph) + slot_count(&graph->sizes));
}

static uint32_t hash_of(const char *name, size_t bytes)
{
    uint32_t hash = 2166136261U; // FNV-1a
    for (size_t i = 0; i < bytes; i++) {
        hash = (hash ^ (uint8_t)name[i]) * 16777619U;
    }
    return hash;
}

// The slot of that name, or the free one where it belongs.
static struct slot *find_slot(const struct graph *graph, const char *name, size_t bytes)
{
    const char *pool = graph->parts[GRAPH_NAMES];
    struct slot *slots = slots_of(graph);
    uint64_t mask = slot_count(&graph->sizes) - 1;
    uint32_t hash = hash_of(name, bytes);
    for (uint64_t i = hash & mask;; i = (i + 1) & mask) {
        struct slot *slot = &slots[i];
        if (slot->bytes == 0 || (slot->hash == hash && slot->bytes == bytes &&
                                 memcmp(pool + slot->at, name, bytes) == 0)) {
            return slot;
        }
    }
}

uint64_t graph_find(const struct graph *graph, const char *name, size_t bytes)
{
    const struct slot *slot = find_slot(graph, name, bytes);
    return slot->bytes == 0 ? nothing : slot->package;
}

void graph_name(const struct graph *graph, uint64_t package, char *to, size_t capacity)
{
    const struct name *name = &names_of(graph)[package];
    size_t bytes = name->bytes < capacity - 1 ? name->bytes : capacity - 1;
    memcpy(to, (const char *)graph->parts[GRAPH_NAMES] + name->at, bytes);
    to[bytes] = '\0';
}

// ---- building -----------------------------------------------------------------------------------------

struct builder {
    struct graph *graph;
    uint64_t used;    // bytes of names
    uint64_t current; // package whose stanza this is, or nothing
    uint64_t next;    // the package whose first stanza comes next
    const char *label;
    bool overflow;
};

static bool add_name(struct builder *builder, const char *name, size_t bytes, uint64_t package)
{
    struct graph *graph = builder->graph;
    struct slot *slot = find_slot(graph, name, bytes);
    if (slot->bytes != 0) {
        return false;
    }
    if (builder->used + bytes > graph->sizes.name_bytes || package >= graph->sizes.packages) {
        builder->overflow = true;
        return false;
    }
    memcpy((char *)graph->parts[GRAPH_NAMES] + builder->used, name, bytes);
    *slot = (struct slot){hash_of(name, bytes), (uint32_t)builder->used, (uint32_t)bytes,
                          (uint32_t)package};
    builder->used += bytes;
    return true;
}

static void add_package(void *context, enum index_item item, const char *name, size_t bytes)
{
    struct builder *builder = context;
    struct graph *graph = builder->graph;
    uint64_t at = builder->used;
    if (item == INDEX_PACKAGE && add_name(builder, name, bytes, graph->packages)) {
        names_of(graph)[graph->packages] = (struct name){(uint32_t)at, (uint32_t)bytes};
        graph->packages++;
    }
}

// Packages are numbered by their first stanzas: the stanza at hand is a first one when its number is the next.
static void enter_stanza(struct builder *builder, const char *name, size_t bytes)
{
    struct graph *graph = builder->graph;
    uint64_t package = graph_find(graph, name, bytes);
    builder->current = package == builder->next ? package : nothing;
    if (builder->current != nothing) {
        builder->next++;
        if (graph->progress != NULL && package % PROGRESS_STEP == 0) {
            graph->progress(builder->label, package, graph->packages);
        }
    }
}

static void add_provided(void *context, enum index_item item, const char *name, size_t bytes)
{
    struct builder *builder = context;
    if (item == INDEX_PACKAGE) {
        enter_stanza(builder, name, bytes);
    } else if (item == INDEX_PROVIDES && builder->current != nothing) {
        add_name(builder, name, bytes, builder->current);
    }
}

static void add_edge(struct builder *builder, const char *name, size_t bytes)
{
    struct graph *graph = builder->graph;
    uint64_t *offsets = graph->parts[GRAPH_OFFSETS];
    uint32_t *edges = graph->parts[GRAPH_EDGES];
    uint32_t *degrees = graph->parts[GRAPH_DEGREES];
    uint64_t target = graph_find(graph, name, bytes);
    if (target == nothing || target == builder->current) {
        return;
    }
    for (uint64_t i = offsets[builder->current]; i < graph->edges; i++) {
        if (edges[i] == target) {
            return;
        }
    }
    if (graph->edges == graph->sizes.edges) {
        builder->overflow = true;
        return;
    }
    edges[graph->edges++] = (uint32_t)target;
    degrees[builder->current]++;
}

static void add_edges(void *context, enum index_item item, const char *name, size_t bytes)
{
    struct builder *builder = context;
    struct graph *graph = builder->graph;
    if (item == INDEX_PACKAGE) {
        enter_stanza(builder, name, bytes);
        if (builder->current != nothing) {
            ((uint64_t *)graph->parts[GRAPH_OFFSETS])[builder->current] = graph->edges;
        }
    } else if (item == INDEX_DEPENDENCY && builder->current != nothing) {
        add_edge(builder, name, bytes);
    }
}

int graph_build(struct graph *graph)
{
    static const struct {
        void (*visit)(void *, enum index_item, const char *, size_t);
        const char *label;
    } passes[] = {{add_package, "pagerank: packages"},
                  {add_provided, "pagerank: virtual packages"},
                  {add_edges, "pagerank: dependencies"}};
    struct builder builder = {.graph = graph};
    graph->packages = graph->edges = 0;
    for (size_t i = 0; i < sizeof(passes) / sizeof(passes[0]); i++) {
        struct index_parser parser = {.visit = passes[i].visit, .context = &builder};
        builder.next = 0;
        builder.current = nothing;
        builder.label = passes[i].label;
        index_text(&parser, graph->parts[GRAPH_TEXT], graph->sizes.text_bytes);
    }
    ((uint64_t *)graph->parts[GRAPH_OFFSETS])[graph->packages] = graph->edges;
    return builder.overflow ? -EINVAL : 0;
}

// ---- PageRank -----------------------------------------------------------------------------------------

static double dangling_rank(const struct graph *graph, const double *ranks)
{
    const uint32_t *degrees = graph->parts[GRAPH_DEGREES];
    double sum = 0;
    for (uint64_t package = 0; package < graph->packages; package++) {
        if (degrees[package] == 0) {
            sum += ranks[package];
        }
    }
    return sum;
}

// The edges are the bulk of the graph, and touched once in an iteration: what lies behind is said to be of no use, in pieces.
static uint64_t pass_edges(const struct graph *graph, uint64_t passed, uint64_t to)
{
    if (graph->passed == NULL || to - passed < HINT_BYTES) {
        return passed;
    }
    graph->passed(graph->context, graph->parts[GRAPH_EDGES], passed, to);
    return to;
}

static void push(const struct graph *graph, const double *from, double *to, double damping)
{
    uint64_t passed = 0;
    const uint64_t *offsets = graph->parts[GRAPH_OFFSETS];
    const uint32_t *edges = graph->parts[GRAPH_EDGES];
    const uint32_t *degrees = graph->parts[GRAPH_DEGREES];
    for (uint64_t package = 0; package < graph->packages; package++) {
        if (degrees[package] == 0) {
            continue;
        }
        double share = damping * from[package] / (double)degrees[package];
        for (uint64_t i = offsets[package]; i < offsets[package + 1]; i++) {
            to[edges[i]] += share;
        }
        passed = pass_edges(graph, passed, offsets[package + 1] * sizeof(*edges));
    }
}

static void set_all(const struct graph *graph, double *ranks, double value)
{
    enum { STEP = HINT_BYTES / sizeof(*ranks) };
    for (uint64_t package = 0; package < graph->packages; package++) {
        if (package % STEP == 0 && graph->overwritten != NULL) {
            uint64_t end = package + STEP < graph->packages ? package + STEP : graph->packages;
            graph->overwritten(graph->context, ranks, package * sizeof(*ranks),
                               end * sizeof(*ranks));
        }
        ranks[package] = value;
    }
}

double *graph_rank(struct graph *graph, unsigned iterations, double damping)
{
    double *from = graph->parts[GRAPH_RANK_A];
    double *to = graph->parts[GRAPH_RANK_B];
    double count = (double)graph->packages;
    set_all(graph, from, 1 / count);
    for (unsigned i = 0; i < iterations; i++) {
        if (graph->progress != NULL) {
            graph->progress("pagerank: iterations", i, iterations);
        }
        double base = (1 - damping + damping * dangling_rank(graph, from)) / count;
        set_all(graph, to, base);
        push(graph, from, to, damping);
        double *swapped = from;
        from = to;
        to = swapped;
    }
    return from;
}
