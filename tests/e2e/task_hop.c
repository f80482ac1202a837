// SPDX-License-Identifier: Apache-2.0
//
// A task that goes from process to process: task_hop ROLE, with the capsule in the file $TASK_CAPSULE, sealed with the key pair
// $TASK_KEY. The script starts each role as a process of its own (never forked from another of them), so libraries, the thread's
// storage and its guard word lie elsewhere each time; only the memory servers' segments and the capsule go from one to the next.
//
//   start    makes the task and runs it to its first yield
//   hop      goes on to the next yield
//   end      goes on to the end, and compares the result with the same computation done here
//   refused  what must not be taken is not
//
// The computation is made so that a frame that is lost or mixed up changes its result: it recurses, with records on the stack that
// point to each other and to the heap, sums in floating point in a rounding mode of its own, and yields at every depth.
#include <fcntl.h>
#include <fenv.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libdsm/migrate/pages.h"
#include "libdsm/task/task.h"
#include "tests/e2e/hold_rig.h"

enum { HEAP_BYTES = 4 << 20, STACK_BYTES = 1 << 20, DEPTH = 5, WIDTH = 3, FRAME_WORDS = 700 };

struct root { // at the heap's begin
    uint64_t state, visits;
    double sum;
    uint64_t cells[1000];
};

struct record { // on the stack, one a call
    const struct record *below;
    struct root *root;
    uint64_t words[FRAME_WORDS];
};

static uint64_t next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

// volatile: each frame must be in memory, of its size.
static uint64_t walk(unsigned depth, const struct record *below, struct root *root,
                     void (*pause)(void))
{
    volatile struct record here = {.below = below, .root = root};
    for (unsigned i = 0; i < FRAME_WORDS; i++) {
        here.words[i] = next(&root->state);
    }
    uint64_t sum = 0;
    for (unsigned child = 0; child < WIDTH && depth > 0; child++) {
        sum = sum * 31 + walk(depth - 1, (const struct record *)&here, root, pause);
        root->cells[next(&root->state) % 1000] += sum;
        root->sum += 1.0 / (double)(1 + sum % 1000);
    }
    pause();
    for (const struct record *at = (const struct record *)&here; at != NULL; at = at->below) {
        sum = sum * 7 + at->words[depth] + at->words[FRAME_WORDS - 1];
        sum += at->root == root;
    }
    root->visits++;
    return sum;
}

static uint64_t compute(struct root *root, void (*pause)(void))
{
    root->state = 88172645463325252;
    uint64_t sum = walk(DEPTH, NULL, root, pause);
    for (unsigned i = 0; i < 1000; i++) {
        sum = sum * 3 + root->cells[i];
    }
    uint64_t bits;
    memcpy(&bits, &root->sum, sizeof bits);
    return sum ^ bits;
}

static void work(void *heap, uint64_t heap_bytes)
{
    struct root *root = heap;
    (void)fesetround(FE_UPWARD);
    uint64_t result = heap_bytes == HEAP_BYTES ? compute(root, task_yield) : 0;
    root->state = result;
    task_exit(17);
}

static void no_pause(void)
{
}

static void check_result(uint64_t result)
{
    struct root *root = calloc(1, sizeof *root);
    CHECK(root != NULL);
    (void)fesetround(FE_UPWARD);
    uint64_t expected = compute(root, no_pause);
    (void)fesetround(FE_TONEAREST);
    CHECK(result == expected, "%#llx instead of %#llx", (unsigned long long)result,
          (unsigned long long)expected);
    free(root);
}

// ---- the capsule

static struct key_identity *key(void)
{
    struct key_identity *identity = NULL;
    struct failure failure = {""};
    CHECK(keyfile_load(hold_setting("TASK_KEY"), &identity, &failure) == 0, "%s", failure.text);
    return identity;
}

static void describe(struct capsule_segment *to, enum capsule_type type, dsm_segment *segment)
{
    struct segment *s = &segment->segment;
    uint64_t failed = 0;
    to->type = type;
    strcpy(to->name, s->name);
    to->id = s->backing.id;
    to->epoch = s->backing.epoch;
    to->base = (uintptr_t)s->view.base;
    to->pages = s->table.pages;
    to->page_bytes = s->page_bytes;
    OK(segment_clean_all(segment));
    OK(pages_capture(s, &to->runs, &to->run_count, &failed));
}

static void send(struct task **task)
{
    struct capsule *capsule = capsule_create(2);
    struct key_identity *identity = key();
    struct failure failure = {""};
    struct capsule_descriptor file = {
        open(hold_setting("TASK_CAPSULE"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600),
        INT64_MAX};
    struct capsule_stream stream = capsule_stream_of(&file);
    CHECK(capsule != NULL && file.fd >= 0);
    describe(&capsule->segments[0], CAPSULE_HEAP, (*task)->heap);
    describe(&capsule->segments[1], CAPSULE_STACK, (*task)->stack);
    task_encode(*task, capsule);
    memcpy(capsule->facts.destination, identity->public_key, NOISE_KEY_BYTES);
    capsule->facts.expires_ms = UINT64_MAX;
    noise_random(capsule->token, sizeof capsule->token);
    (void)snprintf(capsule->source, sizeof capsule->source, "process %d", getpid());
    CHECK(capsule_write(capsule, &stream, &failure) == 0, "%s", failure.text);
    (void)close(file.fd);
    key_identity_destroy(&identity);
    capsule_destroy(&capsule);
    OK(task_destroy(task)); // closed, as it has not ended
}

static struct capsule *received(void)
{
    struct key_identity *identity = key();
    struct capsule *capsule = NULL;
    struct capsule_facts facts;
    struct failure failure = {""};
    struct capsule_descriptor file = {open(hold_setting("TASK_CAPSULE"), O_RDONLY | O_CLOEXEC),
                                      INT64_MAX};
    struct capsule_stream stream = capsule_stream_of(&file);
    CHECK(capsule_read_facts(&stream, &facts, &failure) == 0, "%s", failure.text);
    CHECK(capsule_read(&stream, &facts, identity, &capsule, &failure) == 0, "%s", failure.text);
    CHECK(capsule_descriptor_end(&file, &failure) == 0, "%s", failure.text);
    (void)close(file.fd);
    key_identity_destroy(&identity);
    return capsule;
}

static dsm_segment *take(dsm *session, const struct capsule_segment *from)
{
    dsm_segment *segment = hold_segment(session, from->name, 0);
    CHECK(segment->segment.backing.id == from->id && hold_pages(segment) == from->pages);
    CHECK((uintptr_t)dsm_segment_base(segment) == from->base);
    OK(pages_publish(&segment->segment, from->runs, from->run_count));
    return segment;
}

// Maps it, and fetches nothing.
static struct task *receive(dsm *session)
{
    struct failure failure = {""};
    struct capsule *capsule = received();
    struct task *task = NULL;
    dsm_statistics before = hold_stats(session);
    CHECK(task_binary_check(capsule, &failure) == 0, "%s", failure.text);
    dsm_segment *heap = take(session, &capsule->segments[0]);
    dsm_segment *stack = take(session, &capsule->segments[1]);
    CHECK(task_decode(session, capsule, heap, stack, &task, &failure) == 0, "%s", failure.text);
    CHECK(hold_stats(session).swap_in_pages == before.swap_in_pages, "pages moved at the arrival");
    capsule_destroy(&capsule);
    return task;
}

// ---- roles

// Nothing but what servers deal out may lie there.
static void look_at_addresses(void)
{
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "re");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL) {
        uint64_t from = strtoull(line, NULL, 16);
        CHECK(from < LIMIT_BASE_LOW || from >= LIMIT_BASE_HIGH, "%s", line);
    }
    (void)fclose(maps);
}

static void start(void)
{
    struct task *task = NULL;
    look_at_addresses();
    dsm *session = hold_open(2 * MIB);
    RESULT(task_create(session, "hop", work, 0, STACK_BYTES, &task), -EINVAL);
    RESULT(task_create(session, "hop", (task_function *)&task, HEAP_BYTES, STACK_BYTES, &task),
           -EINVAL);
    OK(task_create(session, "hop", work, HEAP_BYTES, STACK_BYTES, &task));
    OK(task_destroy(&task)); // closed; it is there still
    RESULT(task_create(session, "hop", work, HEAP_BYTES, STACK_BYTES, &task), -EEXIST);
    OK(dsm_segment_delete(session, "hop/stack"));
    RESULT(task_create(session, "hop", work, HEAP_BYTES, STACK_BYTES, &task), -EEXIST);
    OK(dsm_segment_delete(session, "hop/heap"));
    OK(task_create(session, "hop", work, HEAP_BYTES, STACK_BYTES, &task));
    task_stop(task);
    RESULT(task_run(task), 0);
    CHECK(task->state == TASK_AWAY);
    send(&task);
    hold_close(session);
}

static void hop(void)
{
    dsm *session = hold_open(2 * MIB);
    struct task *task = receive(session);
    task_stop(task);
    RESULT(task_run(task), 0);
    send(&task);
    hold_close(session);
}

static void end(void)
{
    dsm *session = hold_open(2 * MIB);
    struct task *task = receive(session);
    RESULT(task_run(task), 1);
    CHECK(task->status == 17);
    RESULT(task_run(task), -ENOENT);
    const struct root *root = dsm_segment_base(task->heap);
    CHECK(root->visits == 364, "%llu visits", (unsigned long long)root->visits);
    check_result(root->state);
    OK(task_destroy(&task));
    dsm_segment *gone;
    RESULT(dsm_segment_open(session, "hop/heap", 0, &gone), -ENOENT);
    RESULT(dsm_segment_open(session, "hop/stack", 0, &gone), -ENOENT);
    hold_close_after_errors(session);
}

static void refused(void)
{
    struct failure failure = {""};
    struct task *task = NULL;
    dsm *session = hold_open(2 * MIB);
    struct capsule *capsule = received();
    dsm_segment *heap = take(session, &capsule->segments[0]);
    dsm_segment *stack = take(session, &capsule->segments[1]);
    capsule->build_id[3] ^= 1;
    CHECK(task_binary_check(capsule, &failure) == -ENOEXEC);
    CHECK(strstr(failure.text, "another binary") != NULL, "%s", failure.text);
    capsule->build_id[3] ^= 1;
    capsule->machine++;
    CHECK(task_binary_check(capsule, &failure) == -ENOEXEC);
    capsule->machine--;
    OK(task_binary_check(capsule, &failure));
    static const size_t places[] = {0, 2, 8 + 7, 16 + 6}; // version, state, function, stack pointer
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        capsule->task[places[i]] ^= 0x55;
        CHECK(task_decode(session, capsule, heap, stack, &task, &failure) == -EINVAL);
        capsule->task[places[i]] ^= 0x55;
    }
    CHECK(task_decode(session, capsule, heap, stack, &task, &failure) == 0, "%s", failure.text);
    OK(task_destroy(&task));
    capsule_destroy(&capsule);
    hold_close(session);
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {
        {"start", start}, {"hop", hop}, {"end", end}, {"refused", refused}};
    return hold_main(argc, argv, roles, sizeof roles / sizeof *roles);
}
