// SPDX-License-Identifier: Apache-2.0
//
// See the header. The sample has every kind of segment, place and mark, so that a field that is forgotten by encode, decode or the
// comparison shows in the tests that use it.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/capsule_rig.h"

static int put(void *context, const void *from, size_t bytes)
{
    struct capsule_memory *memory = context;
    uint8_t *more = realloc(memory->bytes, memory->used + bytes);
    if (more == NULL) {
        return -ENOMEM;
    }
    memcpy(more + memory->used, from, bytes);
    memory->bytes = more;
    memory->used += bytes;
    return 0;
}

static int take(void *context, void *to, size_t bytes)
{
    struct capsule_memory *memory = context;
    if (bytes > memory->cut - memory->at) {
        return -ENODATA;
    }
    memcpy(to, memory->bytes + memory->at, bytes);
    memory->at += bytes;
    return 0;
}

struct capsule_stream capsule_memory_stream(struct capsule_memory *memory)
{
    return (struct capsule_stream){.put = put, .take = take, .context = memory};
}

static void segment(struct capsule_segment *s, enum capsule_type type, const char *name,
                    const struct capsule_run *runs, uint32_t count)
{
    static const uint64_t id_of_type[] = {0, 71, 72, 73, 74};
    s->type = type;
    strcpy(s->name, name);
    s->id = id_of_type[type];
    s->epoch = 5 + (uint64_t)type;
    s->base = LIMIT_BASE_LOW + s->id * (64 << 20);
    s->page_bytes = 4096;
    s->run_count = count;
    s->runs = calloc(count, sizeof *runs);
    if (s->runs == NULL) {
        abort();
    }
    for (uint32_t i = 0; i < count; i++) {
        s->runs[i] = runs[i];
        s->pages += runs[i].pages;
    }
}

static void fill_head(struct capsule *capsule, const uint8_t destination[NOISE_KEY_BYTES])
{
    memcpy(capsule->facts.destination, destination, NOISE_KEY_BYTES);
    capsule->facts.expires_ms = 4102444800000; // 2100
    memset(capsule->image, 0x11, sizeof capsule->image);
    memset(capsule->token, 0xa5, sizeof capsule->token);
    capsule->created_ms = 1700000000123;
    strcpy(capsule->source, "node7 (pid 4711)");
    capsule->machine = 62;
    capsule->system_page_bytes = 4096;
    capsule->build_id_bytes = 20;
    memset(capsule->build_id, 0xb1, 20);
    capsule->task_bytes = 24;
    memset(capsule->task, 0x7e, 24);
}

struct capsule *capsule_sample(const uint8_t destination[NOISE_KEY_BYTES])
{
    static const struct capsule_run code[] = {{16, CAPSULE_BACKING, true, false}};
    static const struct capsule_run heap[] = {{3, CAPSULE_TEMPLATE, false, false},
                                              {2, CAPSULE_BACKING, false, true},
                                              {1, CAPSULE_BACKING, true, true},
                                              {10, CAPSULE_ZERO, false, false}};
    static const struct capsule_run stack[] = {{60, CAPSULE_ZERO, false, false},
                                               {4, CAPSULE_BACKING, false, true}};
    static const struct capsule_run data[] = {{1, CAPSULE_NONE, false, false},
                                              {7, CAPSULE_BACKING, false, false}};
    struct capsule *capsule = capsule_create(5);
    if (capsule == NULL) {
        abort();
    }
    fill_head(capsule, destination);
    segment(&capsule->segments[0], CAPSULE_CODE, "alice/solver/code", code, 1);
    segment(&capsule->segments[1], CAPSULE_HEAP, "alice/solver/heap", heap, 4);
    segment(&capsule->segments[2], CAPSULE_STACK, "alice/solver/stack", stack, 2);
    segment(&capsule->segments[3], CAPSULE_DATA, "alice/grid", data, 2);
    segment(&capsule->segments[4], CAPSULE_DATA, "alice/mesh", code, 1);
    memset(capsule->segments[0].identity, 0xc0, CAPSULE_IDENTITY_BYTES);
    capsule->segments[1].from = (struct capsule_template){71, 9, 2};
    capsule->segments[4].id = 75;
    capsule->segments[4].base = LIMIT_BASE_LOW + 75ULL * (64 << 20);
    capsule->segments[4].page_bytes = 1 << 20;
    return capsule;
}

void capsule_fragment(struct capsule_segment *s, uint32_t count)
{
    free(s->runs);
    s->runs = calloc(count, sizeof *s->runs);
    if (s->runs == NULL) {
        abort();
    }
    for (uint32_t i = 0; i < count; i++) {
        s->runs[i] = (struct capsule_run){1, i % 2 ? CAPSULE_BACKING : CAPSULE_ZERO, false, false};
    }
    s->run_count = count;
    s->pages = count;
}

struct key_identity *capsule_destination(void)
{
    struct key_identity *identity = NULL;
    if (noise_init() != 0 || key_identity_create(&identity) != 0) {
        abort();
    }
    memset(identity->private_key, 0x42, sizeof identity->private_key);
    if (noise_public_key(identity->private_key, identity->public_key) != 0) {
        abort();
    }
    return identity;
}
