// SPDX-License-Identifier: Apache-2.0
//
// Processes and threads in step. They share one mapping with the process that forked them: a word that says what is to be
// done (a futex), how many are ready, and a count of touches for each. Nobody but a member writes its count, so while
// they run nothing is shared but the word that is read.
//
// A member that fails leaves its error and a sentence, and goes on answering as if it were ready, so that nobody waits
// for it. Members die with their parent.
#include "tools/dsmperf_crowd.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tools/dsmperf_keeper.h"

enum { PHASE_REST, PHASE_RUN, PHASE_END, PHASES }; // the word's low part; the rest counts changes
enum { READY_STEPS = 60000, STEP_MS = 5 };

struct seat { // a member's own cache line
    _Atomic uint64_t count;
    uint8_t apart[56];
};
struct board {
    _Atomic uint32_t word, ready;
    _Atomic int error;
    struct failure failure; // of the first that failed
    struct seat seats[PERF_CROWD_MOST];
};
struct perf_crowd {
    struct board *board;
    struct perf_body body;
    uint32_t processes, threads, started;
    pid_t pids[PERF_CROWD_MOST];
};
struct member {
    struct perf_crowd *crowd;
    void *state;
    uint32_t process, thread;
};

static void wait_word(_Atomic uint32_t *word, uint32_t seen)
{
    syscall(SYS_futex, word, FUTEX_WAIT, seen, NULL, NULL, 0);
}

static void fail(struct board *board, int error, const struct failure *failure)
{
    int none = 0;
    if (atomic_compare_exchange_strong(&board->error, &none, error) && failure != NULL) {
        board->failure = *failure;
    }
}

static uint32_t next_word(struct board *board, uint32_t seen)
{
    uint32_t word;
    while ((word = atomic_load(&board->word)) == seen) {
        wait_word(&board->word, seen);
    }
    return word;
}

static void *be_member(void *argument)
{
    struct member *member = argument;
    struct perf_crowd *crowd = member->crowd;
    struct board *board = crowd->board;
    struct seat *seat = &board->seats[member->process * crowd->threads + member->thread];
    uint64_t random = UINT64_C(0x9e3779b97f4a7c15) * (2 * (uint64_t)(seat - board->seats) + 1);
    uint32_t word = 0;
    int error = 0;
    while (word % PHASES != PHASE_END) {
        while (word % PHASES == PHASE_RUN && error == 0 &&
               atomic_load_explicit(&board->word, memory_order_relaxed) == word) {
            error = crowd->body.step(member->state, member->thread, &random);
            atomic_fetch_add_explicit(&seat->count, 1, memory_order_relaxed);
        }
        if (error != 0) {
            fail(board, error, NULL);
        }
        if (word % PHASES != PHASE_RUN || error != 0) {
            (void)atomic_fetch_add(&board->ready, word % PHASES == PHASE_REST);
        }
        word = next_word(board, word);
    }
    return NULL;
}

static _Noreturn void be_process(struct perf_crowd *crowd, uint32_t process)
{
    static struct member members[PERF_CROWD_MOST];
    pthread_t threads[PERF_CROWD_MOST];
    struct failure failure = {.text = "A thread could not be made."};
    void *state = NULL;
    uint32_t made = 0;
    int error = crowd->body.open(crowd->body.context, process, crowd->threads, &state, &failure);
    for (; made < crowd->threads && error == 0; made++) {
        members[made] = (struct member){crowd, state, process, made};
        error = -pthread_create(&threads[made], NULL, be_member, &members[made]);
        made -= error != 0;
    }
    if (error != 0) {
        fail(crowd->board, error, &failure);
    }
    for (uint32_t i = 0; i < made; i++) {
        pthread_join(threads[i], NULL);
    }
    if (state != NULL) {
        crowd->body.close(state);
    }
    _exit(error == 0 ? 0 : 1);
}

static void set_phase(struct perf_crowd *crowd, uint32_t phase)
{
    struct board *board = crowd->board;
    uint32_t word = atomic_load(&board->word);
    atomic_store(&board->ready, 0);
    atomic_store(&board->word, word - word % PHASES + PHASES + phase);
    syscall(SYS_futex, &board->word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void sleep_ms(uint32_t ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

static bool one_ended(const struct perf_crowd *crowd)
{
    for (uint32_t i = 0; i < crowd->started; i++) {
        siginfo_t info = {.si_pid = 0};
        if (waitid(P_PID, (id_t)crowd->pids[i], &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
            info.si_pid != 0) {
            return true;
        }
    }
    return false;
}

static int wait_ready(struct perf_crowd *crowd, uint32_t count, struct failure *failure)
{
    struct board *board = crowd->board;
    for (int i = 0; i < READY_STEPS; i++) {
        int error = atomic_load(&board->error);
        if (error != 0) {
            sleep_ms(STEP_MS); // its sentence
            return failure_set(failure, error, "%s",
                               board->failure.text[0] != '\0' ? board->failure.text
                                                              : "A touch failed.");
        }
        if (atomic_load(&board->ready) >= count) {
            return 0;
        }
        if (i % 100 == 99 && one_ended(crowd)) {
            return failure_set(failure, -ECHILD, "A process of the crowd ended by itself.");
        }
        sleep_ms(STEP_MS);
    }
    return failure_set(failure, -ETIMEDOUT, "Not all of the crowd became ready.");
}

int perf_crowd_start(const struct perf_body *body, uint32_t processes, uint32_t threads,
                     struct perf_crowd **started, struct failure *failure)
{
    if (processes == 0 || threads == 0 || processes > PERF_CROWD_MOST / threads) {
        return failure_set(failure, -EINVAL, "At most %d at once.", PERF_CROWD_MOST);
    }
    struct perf_crowd *crowd = calloc(1, sizeof(*crowd));
    void *board =
        mmap(NULL, sizeof(struct board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (crowd == NULL || board == MAP_FAILED) {
        free(crowd);
        return failure_set(failure, -ENOMEM, "There is not enough memory.");
    }
    crowd->board = board;
    crowd->body = *body;
    crowd->processes = processes;
    crowd->threads = threads;
    int error = 0;
    for (uint32_t i = 0; i < processes && error == 0; i++) {
        pid_t parent = getpid();
        pid_t pid = fork();
        if (pid == 0) {
            perf_end_with(parent);
            be_process(crowd, i);
        }
        error = pid < 0 ? -errno : 0;
        crowd->pids[crowd->started] = pid;
        crowd->started += pid > 0;
        if (error == 0) { // one after the other: all at once would be another measurement
            error = wait_ready(crowd, (i + 1) * threads, failure);
        }
    }
    if (error != 0) {
        perf_crowd_stop(&crowd);
        return error;
    }
    *started = crowd;
    return 0;
}

int perf_crowd_round(struct perf_crowd *crowd, uint32_t window_ms, double *rates,
                     struct failure *failure)
{
    uint32_t count = crowd->processes * crowd->threads;
    struct board *board = crowd->board;
    for (uint32_t i = 0; i < count; i++) {
        atomic_store(&board->seats[i].count, 0);
    }
    double start = perf_now_us();
    set_phase(crowd, PHASE_RUN);
    sleep_ms(window_ms);
    for (uint32_t i = 0; i < count; i++) {
        rates[i] = (double)atomic_load(&board->seats[i].count);
    }
    double seconds = (perf_now_us() - start) / 1e6;
    set_phase(crowd, PHASE_REST);
    for (uint32_t i = 0; i < count; i++) {
        rates[i] /= seconds;
    }
    return wait_ready(crowd, count, failure);
}

void perf_crowd_stop(struct perf_crowd **stopped)
{
    struct perf_crowd *crowd = *stopped;
    if (crowd == NULL) {
        return;
    }
    set_phase(crowd, PHASE_END);
    for (uint32_t i = 0; i < crowd->started; i++) {
        (void)waitpid(crowd->pids[i], NULL, 0);
    }
    munmap(crowd->board, sizeof(struct board));
    free(crowd);
    *stopped = NULL;
}
