// SPDX-License-Identifier: Apache-2.0
//
// A task that goes from process to process: task_hop ROLE, with the capsule in the file $TASK_CAPSULE, sealed with the key pair
// $TASK_KEY. The script starts each role as a process of its own (never forked from another of them), so libraries, the thread's
// storage and its guard word lie elsewhere each time; only the memory servers' segments and the capsule go from one to the next.
//
//   start    makes the task and runs it to its first yield
//   hop      goes on to the next yield
//   end      goes on to the end, and compares the result with the same computation done here
//   refused  what must not be taken is not, and can be taken afterwards
//   replay, older, late, binary  a capsule that was used, or taken back; that is not the last; has expired; is another binary's
//   owner    what an expired capsule had is its principal's
//   aborted  it stays, before and after the capsule was given out
//   robbed   somebody took it: too late to abort
//   many     100 hops in one process
//
// The computation is made so that a frame that is lost or mixed up changes its result: it recurses, with records on the stack that
// point to each other and to the heap, sums in floating point in a rounding mode of its own, and yields at every depth.
#include <fcntl.h>
#include <fenv.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/e2e/task_rig.h"

#ifndef TASK_HOP_DEPTH
#define TASK_HOP_DEPTH 5
#endif
enum {
    HEAP_BYTES = 4 << 20,
    STACK_BYTES = 1 << 20,
    DEPTH = TASK_HOP_DEPTH,
    WIDTH = 3,
    FRAME_WORDS = 700
};

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

static struct root *the_root; // this process' only
static void *the_heap;

static void work(void *heap, uint64_t heap_bytes)
{
    struct root *root = heap;
    the_heap = heap;
    (void)fesetround(FE_UPWARD);
    uint64_t result = heap_bytes == HEAP_BYTES ? compute(root, dsm_task_yield) : 0;
    root->state = result;
    the_root = root; // after the last yield
    dsm_task_exit(17);
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

static unsigned lifetime(void)
{
    return (unsigned)strtoul(hold_setting("TASK_SECONDS"), NULL, 10);
}

static int capsule_file(int flags)
{
    int fd = open(hold_setting("TASK_CAPSULE"), flags | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    return fd;
}

// The capsule is out, and what is left of the task is here.
static void park(dsm_task *task)
{
    uint64_t bytes = 0;
    int fd = capsule_file(O_WRONLY | O_CREAT | O_TRUNC);
    OK(dsm_migrate_initiate(task, &bytes));
    RESULT(dsm_migrate_initiate(task, &bytes), -EALREADY);
    RESULT(dsm_task_run(task, NULL), -EBUSY);
    RESULT(dsm_task_destroy(task), -EBUSY);
    RESULT(dsm_migrate_finish(task), -EINVAL);
    OK(dsm_migrate_encap(task, fd, task_public_key(), lifetime()));
    struct stat status;
    CHECK(fstat(fd, &status) == 0 && (uint64_t)status.st_size == bytes);
    (void)close(fd);
}

static void send(dsm_task *task)
{
    park(task);
    OK(dsm_migrate_finish(task));
}

// What must be refused, with the key in that file.
static void refuse(dsm *session, int fd, const char *key_file, int error, const char *words)
{
    dsm_task *task = NULL;
    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    RESULT(dsm_migrate_deencap(session, fd, key_file, &task), error);
    CHECK(task == NULL && strstr(dsm_error()->text, words) != NULL, "%s", dsm_error()->text);
}

// Maps it, and fetches nothing.
static dsm_task *receive(dsm *session)
{
    dsm_task *task = NULL;
    dsm_statistics before = hold_stats(session);
    int fd = capsule_file(O_RDONLY);
    OK(dsm_migrate_deencap(session, fd, hold_setting("TASK_KEY"), &task));
    (void)close(fd);
    CHECK(hold_stats(session).swap_in_pages == before.swap_in_pages, "pages moved at the arrival");
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
        CHECK(from < 0x200000000000 || from >= 0x600000000000, "%s", line);
    }
    (void)fclose(maps);
}

static void start(void)
{
    dsm_task *task = NULL;
    look_at_addresses();
    dsm *session = hold_open(2 * MIB);
    RESULT(dsm_task_create(session, "hop", work, 0, STACK_BYTES, &task), -EINVAL);
    RESULT(dsm_task_create(session, "hop", (dsm_task_function *)&session, HEAP_BYTES, STACK_BYTES,
                           &task),
           -EINVAL);
    OK(dsm_task_create(session, "hop", work, HEAP_BYTES, STACK_BYTES, &task));
    OK(dsm_task_destroy(task)); // closed; it is there still
    RESULT(dsm_task_create(session, "hop", work, HEAP_BYTES, STACK_BYTES, &task), -EEXIST);
    OK(dsm_segment_delete(session, "hop/stack"));
    RESULT(dsm_task_create(session, "hop", work, HEAP_BYTES, STACK_BYTES, &task), -EEXIST);
    OK(dsm_segment_delete(session, "hop/heap"));
    OK(dsm_task_create(session, "hop", work, HEAP_BYTES, STACK_BYTES, &task));
    task_one_yield(task);
    send(task);
    hold_close(session);
}

static void hop(void)
{
    dsm *session = hold_open(2 * MIB);
    dsm_task *task = receive(session);
    task_one_yield(task);
    send(task);
    hold_close(session);
}

static void finish_here(dsm *session, dsm_task *task)
{
    int status = 0;
    RESULT(dsm_task_run(task, &status), 1);
    CHECK(status == 17);
    RESULT(dsm_task_run(task, &status), -ENOENT);
    CHECK(the_root->visits == 364, "%llu visits", (unsigned long long)the_root->visits);
    check_result(the_root->state);
    OK(dsm_task_destroy(task));
    dsm_segment *gone;
    RESULT(dsm_segment_open(session, "hop/heap", 0, &gone), -ENOENT);
    RESULT(dsm_segment_open(session, "hop/stack", 0, &gone), -ENOENT);
    hold_close_after_errors(session);
}

static void end(void)
{
    dsm *session = hold_open(2 * MIB);
    dsm_task *task = receive(session);
    finish_here(session, task);
}

static dsm_task *begun(dsm *session)
{
    dsm_task *task = NULL;
    OK(dsm_task_create(session, "hop", work, HEAP_BYTES, STACK_BYTES, &task));
    task_one_yield(task);
    return task;
}

// A copy of the capsule with a byte changed (or none), of so many bytes at most.
static int copied(size_t changed, size_t most)
{
    static char bytes[1 << 20];
    int from = capsule_file(O_RDONLY), to = memfd_create("capsule", MFD_CLOEXEC);
    ssize_t count = read(from, bytes, sizeof bytes);
    CHECK(count > 0 && (size_t)count > changed && to >= 0);
    count = (size_t)count < most ? count : (ssize_t)most;
    bytes[changed] ^= 1;
    CHECK(write(to, bytes, (size_t)count) == count);
    (void)close(from);
    return to;
}

static void refused(void)
{
    dsm *session = hold_open(2 * MIB);
    dsm_task *task = begun(session);
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    RESULT(dsm_migrate_encap(task, full, task_public_key(), 60), -EINVAL); // not initiated
    RESULT(dsm_migrate_abort(task), -EINVAL);
    OK(dsm_migrate_initiate(task, NULL));
    RESULT(dsm_migrate_encap(task, full, "no key", 60), -EINVAL);
    RESULT(dsm_migrate_encap(task, full, task_public_key(), 0), -EINVAL);
    RESULT(dsm_migrate_encap(task, full, task_public_key(), 60), -ENOSPC); // parked, and taken back
    (void)close(full);
    task_one_yield(task);
    send(task);
    int fd = capsule_file(O_RDONLY);
    refuse(session, fd, hold_setting("TASK_OTHER_KEY"), -EKEYREJECTED, "another key");
    (void)close(fd);
    fd = copied(200, SIZE_MAX);
    refuse(session, fd, hold_setting("TASK_KEY"), -EBADMSG, "altered");
    (void)close(fd);
    fd = copied(0, 300);
    refuse(session, fd, hold_setting("TASK_KEY"), -EBADMSG, "no capsule");
    (void)close(fd);
    fd = capsule_file(O_RDONLY);
    void *there =
        mmap(the_heap, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(there == the_heap);
    refuse(session, fd, hold_setting("TASK_KEY"), -EADDRINUSE, "in use");
    (void)munmap(there, PAGE);
    (void)close(fd);
    task = receive(session); // none of these took it
    fd = capsule_file(O_RDONLY);
    refuse(session, fd, hold_setting("TASK_KEY"), -EADDRINUSE, "in use"); // it is here
    (void)close(fd);
    finish_here(session, task);
}

static void refuse_file(int error, const char *words)
{
    dsm *session = hold_open(2 * MIB);
    int fd = capsule_file(O_RDONLY);
    refuse(session, fd, hold_setting("TASK_KEY"), error, words);
    (void)close(fd);
    hold_close_after_errors(session);
}

static void replay(void)
{
    refuse_file(-EALREADY, "");
}

static void older(void)
{
    refuse_file(-EACCES, "last capsule");
}

static void late(void)
{
    refuse_file(-ETIME, "expired");
}

static void binary(void)
{
    refuse_file(-ENOEXEC, "another binary");
}

// The source is its principal's again, who needs no capsule.
static void owner(void)
{
    dsm *session = hold_open(2 * MIB);
    dsm_segment *heap = NULL;
    for (int ms = 0; dsm_segment_open(session, "hop/heap", 0, &heap) != 0; ms += 50) {
        CHECK(ms < 30000, "%s", dsm_error()->text); // dsmd looks for expired ones now and then
        hold_pause_ms(50);
    }
    const struct root *root = dsm_segment_base(heap);
    CHECK(root->state != 0 && root->visits == 0);
    OK(dsm_segment_close(heap));
    OK(dsm_segment_delete(session, "hop/heap"));
    OK(dsm_segment_delete(session, "hop/stack"));
    hold_close_after_errors(session);
}

static void aborted(void)
{
    dsm *session = hold_open(2 * MIB);
    dsm_task *task = begun(session);
    OK(dsm_migrate_initiate(task, NULL));
    OK(dsm_migrate_abort(task));
    task_one_yield(task);
    park(task);
    OK(dsm_migrate_abort(task));
    task_one_yield(task);
    finish_here(session, task);
}

static struct hold_touch touched; // by a thread that is no task

static void *touch(void *at)
{
    touched = hold_load(at);
    return NULL;
}

// While this process sleeps on its capsule, another one takes it. A thread that waits for its memory waits for nothing then.
static void robbed(void)
{
    pthread_t thread;
    hold_catch(SIGSEGV);
    dsm *session = hold_open(2 * MIB);
    dsm_task *task = begun(session);
    void *heap = dsm_segment_base(dsm_task_segment(task, 0));
    park(task);
    CHECK(pthread_create(&thread, NULL, touch, heap) == 0);
    hold_say("parked");
    hold_await("taken");
    RESULT(dsm_migrate_abort(task), -DSM_EFENCED);
    OK(dsm_migrate_finish(task));
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(touched.signal == SIGSEGV && touched.address == (uintptr_t)heap, "signal %d",
          touched.signal);
    hold_close_after_errors(session);
}

static void many(void)
{
    enum { HOPS = 100 };
    dsm *session = hold_open(2 * MIB);
    dsm_task *task = begun(session);
    for (int hop_number = 0; hop_number < HOPS; hop_number++) {
        send(task);
        task = receive(session);
        task_one_yield(task);
    }
    dsm_statistics stat = hold_stats(session);
    CHECK(stat.migrate_samples == 2 * HOPS && stat.migrate_freeze_ns > 0);
    CHECK(stat.migrate_bytes_after > 0 && stat.migrate_bytes_before > 0);
    finish_here(session, task);
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {
        {"start", start},   {"hop", hop},         {"end", end},       {"refused", refused},
        {"replay", replay}, {"older", older},     {"late", late},     {"binary", binary},
        {"owner", owner},   {"aborted", aborted}, {"robbed", robbed}, {"many", many}};
    return hold_main(argc, argv, roles, sizeof roles / sizeof *roles);
}
