// SPDX-License-Identifier: Apache-2.0
//
// An image with segments of every type moves as one: code that is found by its identity, a heap whose untouched pages are its
// template's, a stack, a clone, and data that nobody wrote. Each role is a process of its own. What moves is counted to the page:
//
//   leave    3 pages of the heap, 1 of the stack, 3 of the clone are dirty: 4 samples, sum 7, squares 19, 7 pages of traffic
//   pass     arrives; nothing is fetched; only touched pages come; one more page of the heap is written; leaves
//   stay     arrives where the program has the code open already; runs to the end
//   sharers  an image whose data others read does not move: their name is told, and the task goes on
//   once     of processes and threads that ask for the same code together, one makes it
//   given-up who begins to make code and gives it up leaves it to the next; who only looks makes nothing
//   refused  what is no segment for a task
//   closing  while a task's segments are cleaned as they close, and dsmd does not answer, code that is here is opened and closed
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "libdsm/backing/control_image.h"
#include "libdsm/session_api.h"
#include "tests/e2e/task_rig.h"

enum {
    HEAP_PAGES = 96,
    TEMPLATE_PAGES = 64,
    STACK_PAGES = 32,
    CLONE_PAGES = 24,
    ZERO_PAGES = 16,
    CODE_BYTES = 5 * PAGE + 100,
    CHILDREN = 3,
    THREADS = 3,
};
enum { HEAP, STACK, CODE, CLONE, ZERO };

static dsm *session;
static dsm_task *task;

static uint8_t large[3 << 20];

// The code's: as many of the same bytes.
static const uint8_t *contents(size_t bytes)
{
    uint64_t state = 42;
    CHECK(bytes <= sizeof large);
    for (size_t i = 0; i < bytes; i++) {
        large[i] = (uint8_t)(hold_random(&state) >> 56);
    }
    return large;
}

static dsm_segment *code_of(size_t bytes)
{
    dsm_segment *code = NULL;
    OK(dsm_code_open(session, contents(bytes), bytes, PAGE, &code));
    return code;
}

static void check_code(const dsm_segment *code, size_t bytes)
{
    CHECK(memcmp(dsm_segment_base(code), contents(bytes), bytes) == 0);
}

// The task: from what its program left in the heap it knows where its other segments lie.
struct root {
    const uint8_t *code;
    uint64_t *clone, *zero;
};

static void work(void *heap, uint64_t heap_bytes)
{
    const struct root *root = heap;
    bool right = heap_bytes == (uint64_t)HEAP_PAGES * PAGE && root->zero[5] == 0;
    root->zero[5] = root->code[100] + root->clone[0];
    dsm_task_exit(right ? 17 : 18);
}

static dsm_segment *part(unsigned number)
{
    dsm_segment *segment = dsm_task_segment(task, number);
    CHECK(segment != NULL, "the task has no segment %u", number);
    return segment;
}

static void send(void)
{
    FILE *file = fopen(hold_setting("TASK_CAPSULE"), "we");
    CHECK(file != NULL);
    OK(dsm_migrate_encap(task, fileno(file), task_public_key(), 60));
    (void)fclose(file);
    OK(dsm_migrate_finish(task));
    task = NULL;
}

static int receive(void)
{
    FILE *file = fopen(hold_setting("TASK_CAPSULE"), "re");
    CHECK(file != NULL);
    int error = dsm_migrate_deencap(session, fileno(file), hold_setting("TASK_KEY"), &task);
    (void)fclose(file);
    return error;
}

// ---- leave, pass, stay

static void make_task(void)
{
    dsm_segment *template = hold_create(session, "template", TEMPLATE_PAGES, PAGE);
    hold_fill_all(template, 1);
    OK(dsm_task_create_from(template, "parts", work, (uint64_t)HEAP_PAGES * PAGE,
                            (uint64_t)STACK_PAGES * PAGE, &task));
    OK(dsm_segment_close(template));
    OK(dsm_segment_delete(session, "template"));
}

static void add_parts(void)
{
    dsm_segment *plain = hold_create(session, "plain", CLONE_PAGES, PAGE), *clone = NULL;
    hold_fill_all(plain, 1);
    OK(dsm_segment_clone(plain, "clone", 0, 0, &clone));
    OK(dsm_segment_close(plain));
    OK(dsm_task_add(task, clone));
    OK(dsm_task_add(task, code_of(CODE_BYTES)));
    OK(dsm_task_add(task, hold_create(session, "zero", ZERO_PAGES, PAGE)));
}

static void make_dirty(void)
{
    struct root *root = hold_at(part(HEAP), 0);
    root->code = dsm_segment_base(part(CODE));
    root->clone = hold_at(part(CLONE), 7);
    root->zero = dsm_segment_base(part(ZERO));
    hold_fill(part(HEAP), 10, 2);
    hold_fill(part(HEAP), 80, 2); // beyond the template
    hold_fill(part(STACK), 0, 2);
    hold_fill(part(CLONE), 3, 2);
    hold_fill(part(CLONE), 4, 2);
    hold_fill(part(CLONE), 20, 2);
}

static void leave(void)
{
    session = hold_open(4 * MIB);
    make_task();
    add_parts();
    make_dirty();
    CHECK(hold_holds(part(HEAP), 5, 1) && hold_holds(part(CLONE), 5, 1)); // in memory, and clean
    check_code(part(CODE), CODE_BYTES);
    dsm_statistics before = hold_stats(session);
    OK(dsm_migrate_initiate(task, NULL));
    send();
    dsm_statistics after = hold_stats(session);
    CHECK(after.migrate_samples - before.migrate_samples == 4);
    CHECK(after.migrate_pages_written - before.migrate_pages_written == 7);
    CHECK(after.migrate_pages_written_squared - before.migrate_pages_written_squared == 19);
    CHECK(after.migrate_bytes_before - before.migrate_bytes_before == 7 * PAGE);
    CHECK(after.bytes_written - before.bytes_written == 7 * PAGE);
    CHECK(after.bytes_read == before.bytes_read && after.resident_bytes == 0);
    hold_close(session);
}

struct expected {
    unsigned part;
    uint64_t page, version; // 0: zeros, of which no byte comes
};

static void touch(const struct expected *pages, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        const struct expected *at = &pages[i];
        dsm_statistics before = hold_stats(session);
        CHECK(at->version != 0 ? hold_holds(part(at->part), at->page, at->version)
                               : *(volatile uint64_t *)hold_at(part(at->part), at->page) == 0);
        dsm_statistics after = hold_stats(session);
        const uint64_t bytes = at->version != 0 ? PAGE : 0;
        CHECK(after.bytes_read - before.bytes_read == bytes, "part %u page %lu", at->part,
              (unsigned long)at->page);
        CHECK(after.read_requests - before.read_requests == bytes / PAGE, "zeros were asked for");
        CHECK(after.resident_bytes - before.resident_bytes == PAGE);
    }
}

static void arrive(void)
{
    dsm_statistics before = hold_stats(session);
    OK(receive());
    dsm_statistics after = hold_stats(session);
    CHECK(after.bytes_read == before.bytes_read && after.bytes_written == before.bytes_written);
    CHECK(after.swap_in_pages == before.swap_in_pages, "pages moved at the arrival");
    CHECK(after.resident_bytes == before.resident_bytes);
    CHECK(dsm_segment_size(part(CLONE)) == (uint64_t)CLONE_PAGES * PAGE);
    CHECK(dsm_segment_size(part(ZERO)) == (uint64_t)ZERO_PAGES * PAGE);
    CHECK(dsm_task_segment(task, ZERO + 1) == NULL);
    CHECK(part(CODE)->segment.backing.epoch == 1, "the code's epoch was raised");
    RESULT(dsm_segment_close(part(CLONE)), -EBUSY); // the task's
}

static void pass(void)
{
    static const struct expected pages[] = {
        {HEAP, 5, 1},  {HEAP, 10, 2}, {HEAP, 63, 1}, {HEAP, 80, 2},  {STACK, 0, 2}, {STACK, 9, 0},
        {CLONE, 3, 2}, {CLONE, 7, 1}, {CLONE, 0, 1}, {CLONE, 20, 2}, {ZERO, 1, 0},
    };
    enum { TOUCHED = 9 }; // of which bytes come
    session = hold_open(4 * MIB);
    arrive();
    touch(pages, sizeof pages / sizeof *pages);
    dsm_statistics after = hold_stats(session);
    CHECK(after.migrate_faults_after == TOUCHED && after.migrate_bytes_after == TOUCHED * PAGE);
    hold_fill(part(HEAP), 6,
              3); // was the template's; with it 1 page, and the heap's is the only one
    dsm_statistics before = hold_stats(session);
    OK(dsm_migrate_initiate(task, NULL));
    send();
    after = hold_stats(session);
    CHECK(after.bytes_written - before.bytes_written == PAGE);
    CHECK(after.migrate_samples == 4 && after.migrate_pages_written == 1 &&
          after.migrate_pages_written_squared == 1);
    hold_close(session);
}

static void stay(void)
{
    static const struct expected pages[] = {{HEAP, 6, 3}, {HEAP, 7, 1}, {CLONE, 4, 2}};
    int status = 0;
    session = hold_open(4 * MIB);
    dsm_segment *code = code_of(CODE_BYTES), *again = code_of(CODE_BYTES);
    CHECK(code == again);
    OK(dsm_segment_close(again));
    arrive();
    CHECK(part(CODE) == code);
    OK(dsm_segment_close(code));
    RESULT(dsm_segment_close(code), -EBUSY); // the task has it still
    touch(pages, sizeof pages / sizeof *pages);
    check_code(part(CODE), CODE_BYTES);
    CHECK(dsm_make_read_write(part(CODE), (dsm_interval){0, 1}) == 0 &&
          hold_state(part(CODE), 0).read_only);
    RESULT(dsm_task_run(task, &status), 1);
    CHECK(status == 17);
    CHECK(*(uint64_t *)((char *)hold_at(part(ZERO), 0) + 40) != 0);
    OK(dsm_task_destroy(task));
    dsm_segment *left = hold_segment(session, "clone", 0); // what was added is not deleted
    CHECK(hold_holds(left, 20, 2) && hold_holds(left, 21, 1));
    OK(dsm_segment_close(left));
    RESULT(dsm_segment_open(session, "parts/heap", 0, &left), -ENOENT);
    hold_close_after_errors(session);
}

// ---- sharers

static void read_along(void)
{
    session = hold_open(2 * MIB);
    dsm_segment *data = hold_segment(session, "data", DSM_READ_ONLY);
    hold_say("reads");
    hold_await("read");
    OK(dsm_segment_close(data));
    hold_close(session);
}

static void small_task(void)
{
    OK(dsm_task_create(session, "parts", work, (uint64_t)HEAP_PAGES * PAGE,
                       (uint64_t)STACK_PAGES * PAGE, &task));
}

static void cannot_move(const char *words)
{
    RESULT(dsm_migrate_initiate(task, NULL), -EBUSY);
    CHECK(strstr(dsm_error()->text, words) != NULL, "\"%s\" is not in: %s", words,
          dsm_error()->text);
    CHECK(!part(HEAP)->segment.frozen);
}

static void sharers(void)
{
    char pid[32];
    session = hold_open(2 * MIB);
    dsm_segment *data = hold_create(session, "data", 4, PAGE);
    OK(dsm_segment_close(data));
    data = hold_segment(session, "data", DSM_READ_ONLY);
    small_task();
    OK(dsm_task_add(task, data));
    cannot_move("this process for reading only");
    pid_t child = hold_spawn("read-along");
    (void)snprintf(pid, sizeof pid, "/%d/", (int)child);
    hold_await("reads");
    cannot_move(pid);
    hold_fill(part(HEAP), 3, 1); // nothing is frozen
    CHECK(hold_holds(part(HEAP), 3, 1));
    hold_say("read");
    hold_wait_well(child);
    OK(dsm_task_destroy(task));
    OK(dsm_segment_delete(session, "parts/heap"));
    OK(dsm_segment_delete(session, "parts/stack"));
    small_task();
    data = hold_segment(session, "data", 0); // nobody else's now
    OK(dsm_task_add(task, data));
    OK(dsm_migrate_initiate(task, NULL));
    OK(dsm_migrate_abort(task));
    hold_close_after_errors(session);
}

// ---- code

// `large` has its contents already: threads only read it.
static void *open_large(void *code)
{
    OK(dsm_code_open(session, large, sizeof large, PAGE, code));
    return NULL;
}

static void say_mine(const char *what)
{
    char text[64];
    (void)snprintf(text, sizeof text, "%s-%s", what, hold_setting("HOLD_CHILD"));
    hold_say(text);
}

static void ask(void)
{
    pthread_t threads[THREADS];
    dsm_segment *codes[THREADS];
    session = hold_open(16 * MIB);
    (void)contents(sizeof large);
    say_mine("ready");
    hold_await("together");
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, open_large, &codes[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0 && codes[i] == codes[0]);
    }
    say_mine(hold_stats(session).bytes_written > 0 ? "made" : "found");
    check_code(codes[0], sizeof large);
    CHECK(codes[0]->segment.backing.epoch == 1);
    hold_await("checked");
    for (int i = 0; i < THREADS; i++) {
        OK(dsm_segment_close(codes[i]));
    }
    hold_close(session);
}

static int said(const char *what)
{
    int count = 0;
    for (int i = 0; i < CHILDREN; i++) {
        char text[64];
        (void)snprintf(text, sizeof text, "%s-%d", what, i);
        count += hold_said(text);
    }
    return count;
}

static void once(void)
{
    pid_t children[CHILDREN];
    for (int i = 0; i < CHILDREN; i++) {
        char number[8];
        (void)snprintf(number, sizeof number, "%d", i);
        CHECK(setenv("HOLD_CHILD", number, 1) == 0);
        children[i] = hold_spawn("ask");
    }
    for (int ms = 0; said("ready") < CHILDREN; ms += 5) {
        CHECK(ms < AWAIT_SECONDS * 1000);
        hold_pause_ms(5);
    }
    hold_say("together");
    for (int ms = 0; said("made") + said("found") < CHILDREN; ms += 5) {
        CHECK(ms < AWAIT_SECONDS * 1000);
        hold_pause_ms(5);
    }
    CHECK(said("made") == 1, "%d made it", said("made"));
    hold_say("checked");
    for (int i = 0; i < CHILDREN; i++) {
        hold_wait_well(children[i]);
    }
}

static void begin_code(struct control_segment *info)
{
    uint8_t identity[WIRE_DIGEST_BYTES];
    struct failure failure = {.text = ""};
    noise_digest(contents(CODE_BYTES), CODE_BYTES, identity);
    OK(control_code(&session->session, identity, CODE_BYTES, PAGE, info, &failure));
    CHECK(info->writer);
}

static void wait_for_code(void)
{
    session = hold_open(2 * MIB);
    hold_say("waits");
    dsm_segment *code = code_of(CODE_BYTES);
    CHECK(hold_said("given-up"), "it was not made, and is there");
    check_code(code, CODE_BYTES);
    OK(dsm_segment_close(code));
    hold_close(session);
}

static void given_up(void)
{
    struct control_segment info;
    struct failure failure = {.text = ""};
    uint8_t identity[WIRE_DIGEST_BYTES] = {1};
    dsm_segment *none = NULL;
    session = hold_open(2 * MIB);
    begin_code(&info);
    pid_t child = hold_spawn("wait");
    hold_await("waits");
    hold_pause_ms(100);
    hold_say("given-up");
    OK(control_close(&session->session, info.id, &failure));
    hold_wait_well(child);
    RESULT(code_get(session, identity, PAGE, PAGE, NULL, &none, &failure), -ENOENT);
    RESULT(code_get(session, identity, PAGE, PAGE, NULL, &none, &failure), -ENOENT);
    OK(code_get(session, identity, PAGE, PAGE, contents(PAGE), &none, &failure));
    CHECK(none->segment.backing.id != info.id);
    OK(dsm_segment_close(none));
    hold_close(session);
}

// ---- refused

static void refused(void)
{
    dsm_segment *clone = NULL;
    session = hold_open(2 * MIB);
    dsm_segment *small = hold_create(session, "small", 4, PAGE);
    RESULT(dsm_task_create_from(small, "parts", work, PAGE, (uint64_t)STACK_PAGES * PAGE, &task),
           -EINVAL); // smaller than its template
    RESULT(dsm_segment_clone(small, "no", 0, DSM_STACK, &clone), -EINVAL);
    RESULT(dsm_code_open(session, "x", 0, PAGE, &clone), -EINVAL);
    RESULT(dsm_code_open(session, "x", 1, PAGE + 1, &clone), -EINVAL);
    OK(dsm_task_create_from(small, "parts", work, 0, (uint64_t)STACK_PAGES * PAGE, &task));
    CHECK(dsm_segment_size(part(HEAP)) == 4 * PAGE);
    RESULT(dsm_task_add(task, part(HEAP)), -EINVAL);
    OK(dsm_task_add(task, small));
    RESULT(dsm_task_add(task, small), -EINVAL);
    RESULT(dsm_segment_close(small), -EBUSY);
    dsm_segment *code = code_of(CODE_BYTES);
    OK(dsm_task_add(task, code));
    RESULT(dsm_task_add(task, code), -EEXIST);
    RESULT(dsm_segment_clone(code, "copy", 0, 0, &clone), 0); // code may be a template, too
    check_code(clone, CODE_BYTES);
    OK(dsm_segment_close(clone));
    OK(dsm_migrate_initiate(task, NULL));
    RESULT(dsm_task_add(task, code), -EBUSY);
    OK(dsm_migrate_abort(task));
    OK(dsm_task_destroy(task));
    hold_close_after_errors(session);
}

// ---- closing

static _Atomic int closed;

static void *close_task(void *unused)
{
    OK(dsm_task_destroy(task));
    closed = 1;
    return unused;
}

static void closing(void)
{
    pthread_t thread;
    session = hold_open(4 * MIB);
    dsm_segment *code = code_of(CODE_BYTES);
    small_task();
    hold_fill_all(part(HEAP), 1);
    hold_say("pause");
    hold_await("paused");
    uint64_t written = hold_stats(session).write_requests;
    CHECK(pthread_create(&thread, NULL, close_task, NULL) == 0);
    while (hold_stats(session).write_requests == written) {
        hold_pause_ms(1);
    }
    CHECK(code_of(CODE_BYTES) == code);
    OK(dsm_segment_close(code));
    CHECK(closed == 0, "it waited for the task's segments");
    hold_say("continue");
    CHECK(pthread_join(thread, NULL) == 0);
    OK(dsm_segment_close(code));
    hold_close(session);
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {{"leave", leave},
                                             {"pass", pass},
                                             {"stay", stay},
                                             {"sharers", sharers},
                                             {"read-along", read_along},
                                             {"once", once},
                                             {"ask", ask},
                                             {"given-up", given_up},
                                             {"wait", wait_for_code},
                                             {"refused", refused},
                                             {"closing", closing}};
    return hold_main(argc, argv, roles, sizeof roles / sizeof *roles);
}
