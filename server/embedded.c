// SPDX-License-Identifier: Apache-2.0
//
// The private server of one program: where it gets its keys, its store and its end from.
//
// The program's library starts dsmd in a session of its own; dsmd forks once more and its first process ends, so that the
// program has no child that it does not know of, and ^C at the terminal does not reach the server before the program. The
// first message on the inherited socket brings the program's public key, the size, and a pidfd of the program.
//
// Its end: the end of file of that socket (the program ended, called exec, or closed its session), or the
// pidfd (the program ended, while a forked child of it still has the socket open). Either is enough. There is no time-out
// and no signal: both are told by the kernel, however the program ended.
//
// Whoever holds the other end of the socket is the program, and only its key is authorized: so there are keys, but no key
// files. What is left behind is embedded_place.c's business.
//
// Used by the main thread only; the listener has a duplicate of the socket.
#include "server/embedded.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rpc/embedded.h"
#include "server/embedded_place.h"
#include "server/room.h"

struct embedded {
    int control;
    int program; // pidfd, or -1 when the program could not make one
    struct embedded_hello hello;
    struct embedded_place place;
};

// The child goes on; what started it sees a process that ended at once.
static int leave_process_tree(struct failure *failure)
{
    pid_t child = fork();
    if (child < 0) {
        return failure_set(failure, -errno, "No second process could be made: %s.",
                           strerror(errno));
    }
    if (child > 0) {
        _exit(EXIT_SUCCESS);
    }
    (void)umask(077);
    return chdir("/") == 0 ? 0
                           : failure_set(failure, -errno, "The root directory cannot be entered.");
}

static int take_hello(struct embedded *embedded, struct failure *failure)
{
    uint8_t message[EMBEDDED_HELLO_BYTES];
    struct pollfd wait = {.fd = embedded->control, .events = POLLIN};
    (void)poll(&wait, 1, LIMIT_EMBEDDED_START_MS);
    ssize_t got = embedded_receive(embedded->control, message, sizeof message, &embedded->program);
    int error = got < 0 ? (int)got : embedded_hello_decode(message, (size_t)got, &embedded->hello);
    return error == 0 ? 0
                      : failure_set(failure, error,
                                    "--embedded takes a socket of libdsm of the same release.");
}

static int make_place(struct embedded *embedded, struct failure *failure)
{
    if (embedded->hello.size_bytes == 0) {
        embedded->hello.size_bytes = room_embedded();
    }
    return embedded_place_make(&embedded->place, embedded->hello.size_bytes, failure);
}

int embedded_begin(int control, struct embedded **embedded, struct failure *failure)
{
    struct embedded *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return failure_set(failure, -ENOMEM, "No memory.");
    }
    made->control = control;
    made->program = -1;
    made->place.fd = -1;
    *embedded = made;
    (void)fcntl(control, F_SETFD, FD_CLOEXEC);
    int error = leave_process_tree(failure);
    error = error == 0 ? take_hello(made, failure) : error;
    return error == 0 ? make_place(made, failure) : error;
}

int embedded_keys(struct embedded *embedded, struct key_identity **identity,
                  struct key_grants **grants, struct failure *failure)
{
    struct key_grant grant = {
        .principal = "program",
        .quota_bytes = UINT64_MAX,
        .rights = KEY_RIGHT_CREATE | KEY_RIGHT_READ | KEY_RIGHT_WRITE,
        .connections = LIMIT_CONNECTIONS_PER_KEY,
    };
    memcpy(grant.public_key, embedded->hello.client_key, sizeof grant.public_key);
    int error = key_identity_create(identity);
    error = error == 0 ? key_grants_create(&grant, grants) : error;
    return error == 0 ? 0 : failure_set(failure, error, "There is no memory for keys.");
}

const char *embedded_directory(const struct embedded *embedded)
{
    return embedded->place.path;
}

uint64_t embedded_capacity(const struct embedded *embedded)
{
    return embedded->hello.size_bytes;
}

int embedded_control(const struct embedded *embedded)
{
    return embedded->control;
}

void embedded_say_ready(struct embedded *embedded, const struct key_identity *identity)
{
    (void)embedded_answer_ready(embedded->control, identity->public_key);
}

void embedded_say_failed(struct embedded *embedded, const char *text)
{
    (void)embedded_answer_failed(embedded->control, text);
}

bool embedded_wait(const struct embedded *embedded, int signals, int wait_ms)
{
    struct pollfd waits[] = {
        {.fd = signals, .events = POLLIN},
        {.fd = embedded->control, .events = POLLRDHUP},
        {.fd = embedded->program, .events = POLLIN},
    };
    (void)poll(waits, sizeof waits / sizeof *waits, wait_ms);
    return waits[1].revents != 0 || waits[2].revents != 0;
}

void embedded_destroy(struct embedded **embedded)
{
    struct embedded *old = *embedded;
    if (old == NULL) {
        return;
    }
    embedded_place_remove(&old->place);
    if (old->program >= 0) {
        (void)close(old->program);
    }
    free(
        old); // the socket stays open as long as the process lives: its end tells the library of ours
    *embedded = NULL;
}
