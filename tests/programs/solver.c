// SPDX-License-Identifier: Apache-2.0
//
// A solver that hops between hosts: Jacobi sweeps over a plate, as a task. Each host runs this program, which waits for the task, works
// on it for a while, and sends it to the next host:
//
//     solver --listen PORT --key FILE --next ADDRESS:PORT --next-key FILE.pub --ms TIME [--start] [--sweeps N]
//
// A connection carries one capsule. Who took it answers with one byte, and only then the source lets go; when no answer comes, the
// source asks for its task back and goes on by itself. When the task has ended, a connection that carries nothing but an E goes
// round, and each host ends. Whoever ends the task computes the same without it, and compares.
//
// Nothing is shared but dsmd: the processes may be on different hosts, started at any time.
//
// Without --listen it is simpler, and as a program would be: the task is movable, "dsmctl migrate" sends it, and the hosts' agents
// start this program, which takes what comes. --moves N: the task goes on until it has been on N hosts after the first.
#include <dsm/dsm.h>

#include <argp.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SIDE = 192, STACK_BYTES = 256 << 10, CAPSULE_SECONDS = 60, CAPSULE = 'C', ENDED = 'E' };

struct plate { // in the heap
    uint64_t sweeps, done, moves, hosts;
    double cells[2][SIDE][SIDE];
};

static struct options {
    const char *key, *next_key, *name;
    struct sockaddr_in listen, next;
    unsigned ms;
    uint64_t sweeps, moves;
    bool start;
} options = {.name = "solver", .ms = 1000, .sweeps = 2000};

// ---- the computation

static void sweep(struct plate *plate, uint64_t number)
{
    double(*from)[SIDE] = plate->cells[number % 2], (*to)[SIDE] = plate->cells[(number + 1) % 2];
    for (int y = 1; y < SIDE - 1; y++) {
        for (int x = 1; x < SIDE - 1; x++) {
            to[y][x] = (from[y - 1][x] + from[y + 1][x] + from[y][x - 1] + from[y][x + 1]) / 4;
        }
    }
}

static void heat(struct plate *plate)
{
    for (int side = 0; side < 2; side++) {
        for (int i = 0; i < SIDE; i++) {
            plate->cells[side][0][i] = 100;
            plate->cells[side][i][0] = i;
        }
    }
}

static bool been_here; // this process' own

static void solve(void *heap, uint64_t heap_bytes)
{
    struct plate *plate = heap;
    (void)heap_bytes;
    plate->sweeps = options.sweeps; // of the host where it begins
    plate->moves = options.moves;
    heat(plate);
    for (uint64_t number = 0; number < plate->sweeps || plate->hosts <= plate->moves;
         number++) { // the loop's place is on the stack
        plate->hosts += been_here ? 0 : 1;
        been_here = true;
        sweep(plate, number);
        plate->done = number + 1;
        dsm_task_yield();
    }
    // The same, from the beginning, here: the task's last stay.
    struct plate *again = calloc(1, sizeof *again);
    if (again == NULL) {
        dsm_task_exit(1);
        return; // it does not come here
    }
    heat(again);
    for (uint64_t number = 0; number < plate->done; number++) {
        sweep(again, number);
    }
    // NOLINTNEXTLINE: to the last bit
    bool same = memcmp(plate->cells, again->cells, sizeof plate->cells) == 0;
    printf("centre %.9f after %llu sweeps: %s\n", plate->cells[0][SIDE / 2][SIDE / 2],
           (unsigned long long)plate->done, same ? "verified" : "WRONG");
    free(again);
    dsm_task_exit(!same);
}

// ---- connections

static void fail(const char *what)
{
    (void)fprintf(stderr, "solver: %s: %s\n", what, dsm_error()->text);
    exit(1);
}

static int listening(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&options.listen, sizeof options.listen) != 0 ||
        listen(fd, 4) != 0) {
        perror("solver: listen");
        exit(1);
    }
    return fd;
}

// To the next host, which may not be there yet.
static int connected(char kind, int most)
{
    for (int tries = 0; tries < most; tries++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(fd, (const struct sockaddr *)&options.next, sizeof options.next) == 0 &&
            write(fd, &kind, 1) == 1) {
            return fd;
        }
        (void)close(fd);
        (void)usleep(100000);
    }
    return -1;
}

static char *next_key(void)
{
    static char key[64];
    FILE *file = fopen(options.next_key, "re");
    if (file == NULL || fgets(key, sizeof key, file) == NULL) {
        perror(options.next_key);
        exit(1);
    }
    (void)fclose(file);
    key[strcspn(key, "\n")] = 0;
    return key;
}

// ---- hops

static void *stop_later(void *task)
{
    const struct timespec time = {options.ms / 1000, options.ms % 1000 * 1000000L};
    (void)nanosleep(&time, NULL);
    dsm_task_stop(task);
    return NULL;
}

// True: it has ended.
static bool work(dsm_task *task)
{
    pthread_t clock;
    int status = 0;
    (void)pthread_create(&clock, NULL, stop_later, task);
    int result = dsm_task_run(task, &status);
    (void)pthread_join(clock, NULL); // before the task may leave
    if (result < 0) {
        fail("the task does not run");
    }
    if (result == 1 && status != 0) {
        exit(1);
    }
    return result == 1;
}

// False: it is here still.
static bool sent(dsm_task *task)
{
    char answer = 0;
    int fd = connected(CAPSULE, 100);
    if (fd < 0 || dsm_migrate_initiate(task, NULL) != 0) {
        (void)close(fd);
        return false;
    }
    bool out = dsm_migrate_encap(task, fd, next_key(), CAPSULE_SECONDS) == 0;
    bool taken = out && read(fd, &answer, 1) == 1 && answer == CAPSULE;
    (void)close(fd);
    if (taken || (out && dsm_migrate_abort(task) == -DSM_EFENCED)) {
        if (dsm_migrate_finish(task) != 0) {
            fail("the task does not leave");
        }
        return true;
    }
    return false;
}

static dsm_task *received(dsm *session, int listener)
{
    dsm_task *task = NULL;
    while (task == NULL) {
        char kind = 0;
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0 && read(fd, &kind, 1) == 1 && kind == CAPSULE) {
            if (dsm_migrate_deencap(session, fd, options.key, &task) == 0) {
                (void)!write(fd, &kind, 1);
            } else {
                (void)fprintf(stderr, "solver: %s\n", dsm_error()->text);
            }
        }
        (void)close(fd);
        if (kind == ENDED) {
            return NULL;
        }
    }
    return task;
}

static void say_ended(void)
{
    int fd = connected(ENDED, 3);
    (void)close(fd);
}

static int hop(dsm *session, dsm_task *task)
{
    int listener = listening();
    unsigned stays = 0;
    for (;;) {
        if (task == NULL) {
            task = received(session, listener);
        }
        if (task == NULL || work(task)) {
            break;
        }
        stays++;
        if (sent(task)) {
            task = NULL;
        } else {
            (void)fprintf(stderr, "solver: the task stays: %s\n", dsm_error()->text);
        }
    }
    dsm_statistics stat = {.size = sizeof stat};
    (void)dsm_stats(session, &stat);
    printf("stays %u\n", stays);
    printf("frozen %.1f ms, wrote %llu pages, then %llu KiB followed\n",
           (double)stat.migrate_freeze_ns / 1e6, (unsigned long long)stat.migrate_pages_written,
           (unsigned long long)stat.migrate_bytes_after >> 10);
    say_ended(); // it goes round; whoever has ended already does not answer
    return task != NULL ? dsm_task_destroy(task) : 0;
}

// As a program would do it: the agent starts it, or the user.
static int stay_until_moved(dsm *session)
{
    dsm_task *task = NULL;
    int status = 0;
    int error = dsm_task_receive(session, &task);
    if (error == -ENOENT) {
        error =
            dsm_task_create(session, options.name, solve, sizeof(struct plate), STACK_BYTES, &task);
        error = error != 0 ? error : dsm_task_movable(task);
    }
    if (error != 0) {
        fail("no task");
    }
    int result = dsm_task_run(task, &status);
    if (result == DSM_TASK_LEFT) {
        puts("moved");
        return 0;
    }
    return result != 1 || dsm_task_destroy(task) != 0 || status != 0;
}

static unsigned long number(const char *text)
{
    return text != NULL ? strtoul(text, NULL, 10) : 0;
}

static error_t parse(int key, char *argument, struct argp_state *state)
{
    char *colon = argument != NULL ? strchr(argument, ':') : NULL;
    switch (key) {
    case 'l':
        options.listen = (struct sockaddr_in){.sin_family = AF_INET,
                                              .sin_port = htons((uint16_t)number(argument))};
        return 0;
    case 'n':
        if (colon == NULL) {
            argp_error(state, "--next is \"%s\": it must be ADDRESS:PORT", argument);
            return EINVAL;
        }
        *colon = 0;
        options.next = (struct sockaddr_in){.sin_family = AF_INET,
                                            .sin_port = htons((uint16_t)number(colon + 1))};
        return inet_pton(AF_INET, argument, &options.next.sin_addr) == 1 ? 0 : EINVAL;
    case 'k':
        options.key = argument;
        return 0;
    case 'K':
        options.next_key = argument;
        return 0;
    case 'm':
        options.ms = (unsigned)number(argument);
        return 0;
    case 's':
        options.start = true;
        return 0;
    case 'N':
        options.name = argument;
        return 0;
    case 'M':
        options.moves = number(argument);
        return 0;
    case 'w':
        options.sweeps = argument != NULL ? strtoull(argument, NULL, 10) : 0;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int main(int argc, char **argv)
{
    static const struct argp_option list[] = {
        {"listen", 'l', "PORT", 0, "Wait for the task here", 0},
        {"key", 'k', "FILE", 0, "The private key for which capsules to here are sealed", 0},
        {"next", 'n', "ADDRESS:PORT", 0, "Where the task goes from here", 0},
        {"next-key", 'K', "FILE", 0, "The next host's public key", 0},
        {"ms", 'm', "TIME", 0, "How long the task stays (1000)", 0},
        {"start", 's', NULL, 0, "Make the task", 0},
        {"name", 'N', "NAME", 0, "Of the task (solver), without --listen", 0},
        {"moves", 'M', "N", 0, "Go on until moved so often (0), without --listen", 0},
        {"sweeps", 'w', "N", 0, "Of how many sweeps (2000)", 0},
        {0}};
    const struct argp argp = {.options = list, .parser = parse, .doc = "A solver that hops."};
    dsm *session;
    dsm_task *task = NULL;
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (argp_parse(&argp, argc, argv, 0, NULL, NULL) != 0 ||
        (options.listen.sin_port != 0 &&
         (options.key == NULL || options.next_key == NULL || options.next.sin_port == 0))) {
        return 2;
    }
    if (dsm_open(NULL, &session) != 0) {
        fail("no session");
    }
    if (options.listen.sin_port == 0) {
        int error = stay_until_moved(session);
        return dsm_close(session) != 0 || error != 0;
    }
    if (options.start &&
        dsm_task_create(session, "solver", solve, sizeof(struct plate), STACK_BYTES, &task) != 0) {
        fail("no task");
    }
    int error = hop(session, task);
    return dsm_close(session) != 0 || error != 0;
}
