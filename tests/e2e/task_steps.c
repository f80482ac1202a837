// SPDX-License-Identifier: Apache-2.0
//
// What becomes of a task when something goes wrong at a step of its move: task_steps ROLE, with the step and what happens there in
// $DSM_MIGRATE_FAILPOINT, and the capsule in $STEPS_CAPSULE. The driver (task_steps.py) starts these, kills or stops them,
// and does what it does to dsmd and the network meanwhile.
//
//   self         moves to itself, whatever happens on the way, and ends with the right result
//   back         is asked back by its source after the capsule is out, and ends here
//   failing      a step fails: the task is whole, nothing is locked, and it ends here
//   source       gives its capsule out, says GIVEN, and does what it is told: finish, or abort
//   destination  takes it and ends
//   recover      the principal opens what the dead left, when that may be
//   hops         $STEPS_HOPS times from hand to hand, between two looks that the driver takes at dsmd
//
// The heap has pages that were written and acknowledged before the move and are never changed after: these must be right whoever
// ends up with them.
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/e2e/task_rig.h"

enum {
    HEAP_PAGES = 64,
    KEPT_PAGES = 16, // at the end of the heap
    WORDS = PAGE / 8,
    STACK_BYTES = 256 << 10,
    YIELDS = 12,
    STORES = 40, // between two yields
    OPEN_MS = 30000,
    WARM_UP =
        8, // hops: by the fifth yield each page of the heap has been stored into, and takes room from then on
};

struct work {
    uint64_t state, sum, words[(HEAP_PAGES - KEPT_PAGES) * WORDS - 2];
};

static void nothing(void)
{
}

static uint64_t compute(struct work *work, unsigned yields, void (*pause)(void))
{
    uint64_t local = 1; // on the stack
    work->state = 88172645463325252;
    for (unsigned i = 0; i < yields; i++) {
        for (unsigned j = 0; j < STORES; j++) {
            uint64_t at = hold_random(&work->state) % (sizeof work->words / 8);
            work->words[at] += local + work->state;
            local = (local << 7 | local >> 57) ^ work->words[at]; // loses nothing of what it was
        }
        pause();
    }
    work->sum = local;
    return local;
}

static unsigned yields = YIELDS; // the same in every process of a case

static struct work *the_work; // this process' only

static void work(void *heap, uint64_t heap_bytes)
{
    (void)heap_bytes;
    (void)compute(heap, yields, dsm_task_yield);
    the_work = heap;
    dsm_task_exit(17);
}

static uint64_t *kept(dsm_segment *heap)
{
    return hold_at(heap, HEAP_PAGES - KEPT_PAGES);
}

static void check_kept(dsm_segment *heap)
{
    const uint64_t *words = kept(heap);
    for (uint64_t i = 0; i < (uint64_t)KEPT_PAGES * WORDS; i++) {
        CHECK(words[i] == i * 0x9e3779b97f4a7c15 + 1, "word %llu", (unsigned long long)i);
    }
}

// Of a new task: pages that are acknowledged, and then some that are not.
static dsm_task *begun(dsm *session)
{
    dsm_task *task = NULL;
    uint64_t passed_over = 0;
    OK(dsm_task_create(session, "steps", work, (uint64_t)HEAP_PAGES * PAGE, STACK_BYTES, &task));
    dsm_segment *heap = dsm_task_segment(task, 0);
    uint64_t *words = kept(heap);
    for (uint64_t i = 0; i < (uint64_t)KEPT_PAGES * WORDS; i++) {
        words[i] = i * 0x9e3779b97f4a7c15 + 1;
    }
    OK(dsm_clean(heap, (dsm_interval){HEAP_PAGES - KEPT_PAGES, KEPT_PAGES}, &passed_over));
    task_one_yield(task);
    return task;
}

static void end_here(dsm *session, dsm_task *task)
{
    int status = 0;
    RESULT(dsm_task_run(task, &status), 1);
    CHECK(status == 17);
    struct work *again = calloc(1, sizeof *again);
    CHECK(again != NULL);
    (void)compute(again, yields, nothing);
    CHECK(memcmp(the_work, again, sizeof *again) == 0, "the result is another");
    free(again);
    check_kept(dsm_task_segment(task, 0));
    OK(dsm_task_destroy(task));
    dsm_segment *gone;
    RESULT(dsm_segment_open(session, "steps/heap", 0, &gone), -ENOENT);
    puts("ENDED");
    hold_close_after_errors(session);
}

static unsigned life(void)
{
    return (unsigned)strtoul(hold_setting("STEPS_LIFE"), NULL, 10);
}

// True: it was asked back, and is here. It may take a while until the server can be asked.
static bool asked_back(dsm_task *task)
{
    for (int ms = 0;; ms += 50) {
        int error = dsm_migrate_abort(task);
        if (error == 0 || error == -DSM_EFENCED || error == -EALREADY) {
            return error == 0;
        }
        CHECK(ms < OPEN_MS, "%s", dsm_error()->text);
        hold_pause_ms(50);
    }
}

// The capsule is in that file, or (-1) the task is here still.
static int given_to(int fd, dsm_task *task)
{
    CHECK(fd >= 0);
    int error = dsm_migrate_initiate(task, NULL);
    if (error == 0) {
        error = dsm_migrate_encap(task, fd, task_public_key(), life());
        // Where it failed, it is whole, unless the server could not say so.
        if (error != 0 && dsm_task_run(task, NULL) == -EBUSY) {
            CHECK(asked_back(task), "%s", dsm_error()->text);
        }
    }
    if (error != 0) {
        (void)close(fd);
        return -1;
    }
    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}

static int given_out(dsm_task *task)
{
    return given_to(memfd_create("capsule", MFD_CLOEXEC), task);
}

static void self(void)
{
    dsm *session = hold_open(2 * MIB);
    dsm_task *task = begun(session);
    int fd = given_out(task);
    if (fd >= 0) {
        OK(dsm_migrate_finish(task));
        OK(dsm_migrate_deencap(session, fd, hold_setting("STEPS_KEY"), &task));
        (void)close(fd);
    }
    end_here(session, task);
}

static void back(void)
{
    dsm *session = hold_open(2 * MIB);
    dsm_task *task = begun(session);
    int fd = given_out(task);
    CHECK(fd >= 0);
    CHECK(asked_back(task));
    (void)close(fd);
    end_here(session, task);
}

// Anything that were locked would not come back from this.
static void *touch(void *segment)
{
    volatile uint64_t *word = hold_at(segment, HEAP_PAGES - 1);
    *word = *word;
    return NULL;
}

static void failing(void)
{
    dsm *session = hold_open(2 * MIB);
    dsm_task *task = begun(session), *arrived = NULL;
    dsm_segment *heap = dsm_task_segment(task, 0);
    pthread_t thread;
    int fd = memfd_create("capsule", MFD_CLOEXEC);
    int error = dsm_migrate_initiate(task, NULL);
    error = error != 0 ? error : dsm_migrate_encap(task, fd, task_public_key(), life());
    if (error == 0) { // it is the destination's step that fails: the capsule can be used again
        CHECK(lseek(fd, 0, SEEK_SET) == 0);
        OK(dsm_migrate_finish(task));
        RESULT(dsm_migrate_deencap(session, fd, hold_setting("STEPS_KEY"), &arrived), -EIO);
        CHECK(lseek(fd, 0, SEEK_SET) == 0);
        OK(dsm_migrate_deencap(session, fd, hold_setting("STEPS_KEY"), &arrived));
        task = arrived;
    } else {
        CHECK(error == -EIO, "%d", error);
        CHECK(pthread_create(&thread, NULL, touch, heap) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        RESULT(dsm_migrate_abort(task), -EINVAL); // it is not on its way
    }
    (void)close(fd);
    task_one_yield(task);
    end_here(session, task);
}

// ---- two processes

static void source(void)
{
    char word[16] = "";
    dsm *session = hold_open(2 * MIB);
    dsm_task *task = begun(session);
    int file = given_to(
        open(hold_setting("STEPS_CAPSULE"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), task);
    CHECK(file >= 0);
    (void)close(file);
    puts("GIVEN");
    CHECK(fflush(stdout) == 0 && fgets(word, sizeof word, stdin) != NULL);
    if (strcmp(word, "abort\n") == 0 && asked_back(task)) {
        end_here(session, task);
        return;
    }
    OK(dsm_migrate_finish(task));
    puts("LEFT");
    hold_close_after_errors(session);
}

static void destination(void)
{
    dsm_task *task = NULL;
    dsm *session = hold_open(2 * MIB);
    int file = open(hold_setting("STEPS_CAPSULE"), O_RDONLY | O_CLOEXEC);
    CHECK(file >= 0);
    if (dsm_migrate_deencap(session, file, hold_setting("STEPS_KEY"), &task) != 0) {
        printf("REFUSED %s\n", dsm_error()->text);
        hold_close_after_errors(session);
        return;
    }
    end_here(session, task);
}

// Its leases are short, and the capsule's life, too.
static void recover(void)
{
    dsm *session = hold_open(2 * MIB);
    dsm_segment *heap = NULL, *stack = NULL;
    for (int ms = 0; dsm_segment_open(session, "steps/heap", DSM_TAKEOVER, &heap) != 0; ms += 20) {
        CHECK(ms < OPEN_MS, "%s", dsm_error()->text);
        hold_pause_ms(20);
    }
    check_kept(heap);
    OK(dsm_segment_open(session, "steps/stack", DSM_TAKEOVER, &stack));
    OK(dsm_segment_close(heap));
    OK(dsm_segment_close(stack));
    OK(dsm_segment_delete(session, "steps/heap"));
    OK(dsm_segment_delete(session, "steps/stack"));
    puts("RECOVERED");
    hold_close_after_errors(session);
}

// ---- many hops

static void look(const char *what)
{
    char word[16] = "";
    puts(what);
    CHECK(fflush(stdout) == 0 && fgets(word, sizeof word, stdin) != NULL);
}

static void hops(void)
{
    unsigned count = (unsigned)strtoul(hold_setting("STEPS_HOPS"), NULL, 10);
    yields = count + WARM_UP + 4;
    dsm *session = hold_open(2 * MIB);
    dsm_task *task = begun(session);
    for (unsigned hop = 0; hop < count + WARM_UP; hop++) {
        if (hop == WARM_UP) { // every page that will be has been
            look("BEFORE");
        }
        int fd = given_out(task);
        CHECK(fd >= 0);
        OK(dsm_migrate_finish(task));
        OK(dsm_migrate_deencap(session, fd, hold_setting("STEPS_KEY"), &task));
        (void)close(fd);
        task_one_yield(task);
    }
    look("AFTER");
    end_here(session, task);
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {{"self", self},       {"back", back},
                                             {"failing", failing}, {"hops", hops},
                                             {"source", source},   {"destination", destination},
                                             {"recover", recover}};
    return hold_main(argc, argv, roles, sizeof roles / sizeof *roles);
}
