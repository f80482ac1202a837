// SPDX-License-Identifier: Apache-2.0
//
// Tasks that others move: the two ends of "dsmctl migrate" and "dsmctl agent" inside a program. Neither knows a network or a key that
// lasts: the tool connects, and a capsule's key is made by the agent for the one move.
//
// Source: a task that is movable has a socket in the abstract namespace, dsm-task-PID-RANDOM, on which this user and root are heard. (A
// path would be seen only where the same /tmp is mounted; a name without the random part could be taken before.) What is said:
//
//     program  DSM-TASK 1 BUILD-ID NAME
//     tool     MOVE KEY SECONDS         the thread that runs the task stops it at its next yield, and goes on from here
//     program  CAPSULE BYTES, and these; or STAYS WHY
//     tool     TAKEN, or REFUSED WHY, or nothing more
//     program  LEFT; or STAYS WHY; or nothing more: the server could not be asked whose the task is
//
// Nobody is believed but the server: whatever the tool says or does not say, but for TAKEN, the task is asked back, and
// either is here again or has gone on elsewhere. TAKEN may be believed because it can only do harm to who says it.
//
// Destination: the agent starts the program with a socket, $DSM_TASK_FD. What is said: WAITING; the capsule's private key, the
// capsule; TAKEN, or REFUSED WHY. The key is never in a file.
//
// Threads: one for each movable task listens; the thread that runs the task does all that concerns the task. The lock is held
// for the request's state alone.
#include "libdsm/image_api.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "libdsm/error.h"
#include "libdsm/sync/futex.h"

enum {
    LINE_BYTES = 768,
    SAY_MS = 60000,  // for each thing that the tool says
    LOOK_MS = 50,    // how often a request that waits is looked after, or room for one
    AGAIN_MS = 1000, // until the server is asked again whose the task is
    VERSION = 1,
};

enum request_state { REQUEST_NONE, REQUEST_WANTED, REQUEST_MOVING };

struct task_mover {
    dsm_task *task;
    char name[LIMIT_SEGMENT_NAME_BYTES]; // the task's: its segments may go before the thread does
    int listener;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t change;
    enum request_state state; // (lock), as all below
    bool ending;
    int client; // that is being talked to, or -1
    int fd;     // of a request
    unsigned seconds;
    char key[KEYFILE_TEXT_BYTES];
};

// ---- lines

static void say(int fd, const char *word, const char *text)
{
    char line[LINE_BYTES + 32];
    int bytes = snprintf(line, sizeof line, "%s%s%.*s\n", word, text[0] != 0 ? " " : "",
                         LINE_BYTES - 1, text);
    (void)send(fd, line, (size_t)bytes, MSG_NOSIGNAL); // whoever has gone is not told
}

static bool readable(int fd, int64_t deadline)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int64_t left_ms;
    while ((left_ms = (deadline - sync_now()) / 1000000) > 0) {
        int ready = poll(&p, 1, left_ms < SAY_MS ? (int)left_ms : SAY_MS);
        if (ready > 0) {
            return true;
        }
        if (ready < 0 && errno != EINTR) {
            return false;
        }
    }
    return false;
}

// A line without its end; not a byte more is taken.
static bool hear(int fd, char line[LINE_BYTES], int64_t deadline)
{
    size_t bytes = 0;
    char c = 0;
    while (readable(fd, deadline) && recv(fd, &c, 1, MSG_DONTWAIT) == 1 && c != '\n' &&
           bytes + 1 < LINE_BYTES) {
        line[bytes++] = c;
    }
    line[bytes] = 0;
    return c == '\n';
}

// ---- the source: with the task, in its thread

static int send_capsule(int fd, int memory, uint64_t bytes)
{
    struct capsule_descriptor descriptor = {fd, sync_after_ms(SAY_MS)};
    struct capsule_stream stream = capsule_stream_of(&descriptor);
    char size[32];
    void *capsule = mmap(NULL, bytes, PROT_READ, MAP_SHARED, memory, 0);
    if (capsule == MAP_FAILED) {
        return -errno;
    }
    (void)snprintf(size, sizeof size, "%llu", (unsigned long long)bytes);
    say(fd, "CAPSULE", size);
    int error = stream.put(stream.context, capsule, bytes);
    (void)munmap(capsule, bytes);
    return error;
}

// Asks until the server says: 1 gone on elsewhere, 0 here.
static int ask_back(dsm_task *task)
{
    for (;;) {
        int error = task->image == NULL ? 0 : dsm_migrate_abort(task);
        if (error == 0 || error == -DSM_EFENCED || error == -EALREADY) {
            return error != 0;
        }
        if (error != -ETIMEDOUT && error != -EBUSY && error != -ENOMEM && error != -EIO) {
            return error;
        }
        const struct timespec pause = {AGAIN_MS / 1000, AGAIN_MS % 1000 * 1000000L};
        (void)nanosleep(&pause, NULL);
    }
}

// The capsule is out. True: the tool says that it was taken.
static bool was_taken(int fd, char why[LINE_BYTES])
{
    char line[LINE_BYTES];
    (void)snprintf(why, LINE_BYTES, "Whoever was to take it to its new host is gone.");
    if (!hear(fd, line, sync_after_ms(SAY_MS))) {
        return false;
    }
    if (strncmp(line, "REFUSED ", 8) == 0) {
        (void)snprintf(why, LINE_BYTES, "%s", line + 8);
    }
    return strcmp(line, "TAKEN") == 0;
}

static int give_out(struct task_mover *mover, char why[LINE_BYTES])
{
    uint64_t bytes = 0;
    int memory = memfd_create("capsule", MFD_CLOEXEC);
    int error = memory < 0 ? -errno : dsm_migrate_initiate(mover->task, &bytes);
    error = error != 0 ? error : dsm_migrate_encap(mover->task, memory, mover->key, mover->seconds);
    if (error != 0) {
        (void)snprintf(why, LINE_BYTES, "%s", memory < 0 ? strerror(-error) : dsm_error()->text);
    } else {
        error = send_capsule(mover->fd, memory, bytes);
        error = error == 0 && was_taken(mover->fd, why) ? 0 : -EPIPE;
    }
    if (memory >= 0) {
        (void)close(memory);
    }
    return error;
}

// 1: it has left; 0: it is here; -errno: nobody can say.
static int move(struct task_mover *mover)
{
    char why[LINE_BYTES] = "";
    int left = give_out(mover, why) == 0 ? 1 : ask_back(mover->task);
    if (left == 1) {
        say(mover->fd, "LEFT", "");
    } else if (left == 0) { // else the end of the connection says that nobody knows
        say(mover->fd, "STAYS", why);
    }
    return left;
}

static void end(struct task_mover *mover)
{
    (void)pthread_mutex_lock(&mover->lock);
    mover->ending = true;
    if (mover->client >= 0) {
        (void)shutdown(mover->client, SHUT_RD); // what was said to it arrives
    }
    (void)pthread_cond_broadcast(&mover->change);
    (void)pthread_mutex_unlock(&mover->lock);
    (void)shutdown(mover->listener, SHUT_RDWR);
    (void)pthread_join(mover->thread, NULL);
    (void)close(mover->listener);
    (void)pthread_cond_destroy(&mover->change);
    (void)pthread_mutex_destroy(&mover->lock);
    free(mover);
}

static int serve_request(dsm_task *task)
{
    struct task_mover *mover = task->mover;
    int left = 0;
    (void)pthread_mutex_lock(&mover->lock);
    bool wanted = mover->state == REQUEST_WANTED;
    if (wanted) {
        mover->state = REQUEST_MOVING;
        (void)pthread_mutex_unlock(&mover->lock);
        left = move(mover);
        (void)pthread_mutex_lock(&mover->lock);
        mover->state = REQUEST_NONE;
        (void)pthread_cond_broadcast(&mover->change);
    }
    (void)pthread_mutex_unlock(&mover->lock);
    return left == 1 ? dsm_migrate_finish(task) < 0 ? -EINVAL : 1 : left;
}

// ---- the source: the thread that listens

static bool may_ask(int fd)
{
    struct ucred who;
    socklen_t bytes = sizeof who;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &bytes) == 0 &&
           (who.uid == geteuid() || who.uid == 0);
}

static bool hung_up(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLRDHUP};
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

// For LOOK_MS at most. The lock is held.
static void wait_change(struct task_mover *mover)
{
    struct timespec look;
    (void)clock_gettime(CLOCK_MONOTONIC, &look);
    look.tv_nsec += LOOK_MS * 1000000L;
    look.tv_sec += look.tv_nsec / 1000000000;
    look.tv_nsec %= 1000000000;
    (void)pthread_cond_timedwait(&mover->change, &mover->lock, &look);
}

// Until the request was served, or nobody waits for that any more.
static void wait_served(struct task_mover *mover)
{
    (void)pthread_mutex_lock(&mover->lock);
    while (mover->state != REQUEST_NONE) {
        wait_change(mover);
        if (mover->state == REQUEST_WANTED && (mover->ending || hung_up(mover->fd))) {
            mover->state = REQUEST_NONE;
        }
    }
    atomic_store(&mover->task->move, false);
    (void)pthread_mutex_unlock(&mover->lock);
}

static void want(struct task_mover *mover, int fd, const char *key, unsigned seconds)
{
    (void)pthread_mutex_lock(&mover->lock);
    mover->fd = fd;
    mover->seconds = seconds;
    (void)snprintf(mover->key, sizeof mover->key, "%s", key);
    mover->state = REQUEST_WANTED;
    atomic_store(&mover->task->move, true);
    (void)pthread_mutex_unlock(&mover->lock);
    wait_served(mover);
}

static void introduce(const struct task_mover *mover, int fd)
{
    struct task_binary binary;
    char text[2 * LIMIT_BUILD_ID_BYTES + LIMIT_SEGMENT_NAME_BYTES + 8];
    int at = snprintf(text, sizeof text, "%d ", VERSION);
    task_binary_read(&binary);
    for (uint32_t i = 0; i < binary.build_id_bytes; i++) {
        at += snprintf(text + at, 3, "%02x", binary.build_id[i]);
    }
    (void)snprintf(text + at, sizeof text - (size_t)at, " %s", mover->name);
    say(fd, "DSM-TASK", text);
}

static void serve(struct task_mover *mover, int fd)
{
    char line[LINE_BYTES];
    char key[KEYFILE_TEXT_BYTES];
    char digits[6];
    uint8_t decoded[NOISE_KEY_BYTES];
    introduce(mover, fd);
    if (!hear(fd, line, sync_after_ms(SAY_MS))) {
        return; // it only looked
    }
    int words = sscanf(line, "MOVE %44s %5[0-9]", key, digits);
    unsigned long seconds = words == 2 ? strtoul(digits, NULL, 10) : 0;
    if (seconds == 0 || seconds > LIMIT_CAPSULE_MAX_MS / 1000 ||
        keyfile_decode(key, decoded) != 0) {
        say(fd, "STAYS", "That request has no sense here.");
        return;
    }
    want(mover, fd, key, (unsigned)seconds);
}

// False: this is the end, and nobody is listened to any more.
static bool set_client(struct task_mover *mover, int fd)
{
    (void)pthread_mutex_lock(&mover->lock);
    bool go_on = !mover->ending;
    mover->client = fd;
    (void)pthread_mutex_unlock(&mover->lock);
    return go_on;
}

// accept4() takes a descriptor before it looks at the socket: where none is left, or no memory, it
// fails at once, whether anybody connects or not, and after shutdown(), too. That may pass.
static void wait_for_room(struct task_mover *mover)
{
    (void)pthread_mutex_lock(&mover->lock);
    if (!mover->ending) {
        wait_change(mover);
    }
    (void)pthread_mutex_unlock(&mover->lock);
}

static void *listen_for_requests(void *argument)
{
    struct task_mover *mover = argument;
    while (set_client(mover, -1)) {
        int fd = accept4(mover->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0 && errno == EINVAL) { // it was shut down
            return NULL;
        }
        if (fd < 0) {
            wait_for_room(mover);
            continue;
        }
        if (may_ask(fd) && set_client(mover, fd)) {
            serve(mover, fd);
        }
        (void)set_client(mover, -1); // before another file can have its number
        (void)close(fd);
    }
    return NULL;
}

static int listening(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    uint64_t random;
    noise_random(&random, sizeof random);
    int bytes = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "dsm-task-%d-%016llx",
                         (int)getpid(), (unsigned long long)random);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 &&
        (bind(fd, (const struct sockaddr *)&address,
              (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)bytes)) != 0 ||
         listen(fd, 4) != 0)) {
        int error = -errno;
        (void)close(fd);
        return error;
    }
    return fd >= 0 ? fd : -errno;
}

DSM_API int dsm_task_movable(dsm_task *task)
{
    int error = api_alive();
    if (error != 0 || task->mover != NULL) {
        return error;
    }
    struct task_mover *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return error_set(-ENOMEM, NULL, DSM_NO_PAGE, NULL, "There is no memory for a socket.");
    }
    const char *heap = task->heap->segment.name;
    made->task = task;
    (void)snprintf(made->name, sizeof made->name, "%.*s", (int)(strlen(heap) - strlen("/heap")),
                   heap);
    made->client = -1;
    made->listener = listening();
    error = made->listener < 0 ? made->listener : 0;
    if (error == 0) {
        pthread_condattr_t clock;
        (void)pthread_condattr_init(&clock);
        (void)pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
        (void)pthread_mutex_init(&made->lock, NULL);
        (void)pthread_cond_init(&made->change, &clock);
        (void)pthread_condattr_destroy(&clock);
        sync_mask before = sync_block_signals();
        error = -pthread_create(&made->thread, NULL, listen_for_requests, made);
        sync_restore_signals(before);
    }
    if (error != 0) {
        if (made->listener >= 0) {
            (void)close(made->listener);
        }
        free(made);
        return error_set(error, NULL, DSM_NO_PAGE, NULL, "The task cannot be made movable: %s.",
                         strerror(-error));
    }
    task->mover = made;
    task->serve_request = serve_request;
    task->end_mover = end;
    return 0;
}

// ---- the destination

static int agent_socket(void)
{
    const char *text = secure_getenv("DSM_TASK_FD");
    char *end_of_number = NULL;
    struct stat status;
    long fd = text != NULL ? strtol(text, &end_of_number, 10) : -1;
    if (text == NULL || *text < '0' || *text > '9' || *end_of_number != 0 || fd > INT32_MAX ||
        fstat((int)fd, &status) != 0 || !S_ISSOCK(status.st_mode)) {
        return -1;
    }
    (void)unsetenv("DSM_TASK_FD"); // once
    (void)fcntl((int)fd, F_SETFD, FD_CLOEXEC);
    return (int)fd;
}

// The first bytes that the agent sends. It may be long until the source comes to a yield.
static int receive_key(int fd, struct key_identity **identity, struct failure *failure)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int error = key_identity_create(identity);
    if (error != 0) {
        return failure_set(failure, error, "There is no memory for a key.");
    }
    while (poll(&p, 1, -1) < 0 && errno == EINTR) {
    }
    ssize_t got = recv(fd, (*identity)->private_key, NOISE_KEY_BYTES, MSG_WAITALL);
    return got == NOISE_KEY_BYTES &&
                   noise_public_key((*identity)->private_key, (*identity)->public_key) == 0
               ? 0
               : failure_set(failure, -ENODATA, "The agent took the move back.");
}

DSM_API int dsm_task_receive(dsm *session, dsm_task **task)
{
    struct failure failure = {.text = ""};
    struct key_identity *identity = NULL;
    int error = api_alive();
    int fd = error == 0 ? agent_socket() : -1;
    if (fd < 0) {
        return error != 0 ? error
                          : error_set(-ENOENT, NULL, DSM_NO_PAGE, NULL,
                                      "This program was not started by \"dsmctl agent\".");
    }
    say(fd, "WAITING", "");
    error = receive_key(fd, &identity, &failure);
    error = error != 0 ? error : migrate_take(session, fd, identity, task, &failure);
    key_identity_destroy(&identity);
    if (error == 0) {
        say(fd, "TAKEN", "");
        (void)dsm_task_movable(*task); // without it, it runs all the same
    } else {
        say(fd, "REFUSED", failure.text);
    }
    (void)close(fd);
    return error == 0 ? 0 : error_set(error, NULL, DSM_NO_PAGE, NULL, "%s", failure.text);
}
