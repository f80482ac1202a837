// SPDX-License-Identifier: Apache-2.0
//
// A program with a server of its own, for embedded.sh: it fills a segment, says "ready", and then ends, or lives on,
// in the way that its role names. What must be gone afterwards is looked at by the script; what only this process can see
// is checked here.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <dsm/dsm.h>

enum { BYTES = 32 << 20, PAGE = 4096 };

static dsm *session;
static dsm_segment *segment;

static void check(int good, const char *what)
{
    if (!good) {
        (void)printf("wrong: %s: %s\n", what, dsm_error()->text);
        (void)fflush(stdout);
        _exit(1);
    }
}

static void say(const char *word)
{
    (void)printf("%s\n", word);
    (void)fflush(stdout);
}

static void begin(void)
{
    check(dsm_open(NULL, &session) == 0, "dsm_open");
    check(dsm_segment_create(session, "data", BYTES, 0, 0, &segment) == 0, "create");
    volatile unsigned char *at = dsm_segment_base(segment);
    for (size_t i = 0; i < BYTES; i += PAGE) {
        at[i] = (unsigned char)(i / PAGE);
    }
    for (size_t i = 0; i < BYTES; i += PAGE) {
        check(at[i] == (unsigned char)(i / PAGE), "what was written is there");
    }
    check(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "no child to wait for");
}

static void wait_for_ever(void)
{
    for (;;) {
        (void)pause();
    }
}

static void fork_child(int exec)
{
    pid_t child = fork();
    check(child >= 0, "fork");
    if (child > 0) {
        (void)printf("child %d\n", (int)child);
        say("ready");
        wait_for_ever();
    }
    check(dsm_close(session) == -ECHILD, "a child has no session");
    if (exec) {
        (void)execlp("sleep", "sleep", "100", (char *)NULL);
        _exit(127);
    }
    wait_for_ever();
}

// The server is killed: a touch that needs it is SIGBUS soon, and calls say so.
static void touch_lost(int number)
{
    (void)number;
    say("sigbus");
    _exit(0);
}

static void lose_server(void)
{
    char line[8];
    (void)signal(SIGBUS, touch_lost);
    say("ready");
    check(fgets(line, sizeof line, stdin) != NULL, "told that the server is gone");
    volatile unsigned char *at = dsm_segment_base(segment);
    for (size_t i = 0; i < BYTES; i += PAGE) {
        check(at[i] == (unsigned char)(i / PAGE), "a page that is there is the right one");
    }
    check(0, "all pages are there, without a server");
}

static void expect_failure(void)
{
    int error = dsm_open(NULL, &session);
    if (error == 0) {
        error = dsm_segment_create(session, "data", BYTES, 0, 0, &segment);
    }
    (void)printf("error %d: %s\n", error, dsm_error()->text);
}

int main(int argc, char **argv)
{
    const char *role = argc > 1 ? argv[1] : "";
    if (strcmp(role, "failure") == 0) {
        expect_failure();
        return 0;
    }
    begin();
    if (strcmp(role, "exit") == 0) {
        say("ready");
    } else if (strcmp(role, "wait") == 0) {
        say("ready");
        wait_for_ever();
    } else if (strcmp(role, "close") == 0) {
        check(dsm_close(session) == 0, "dsm_close");
        begin(); // and once more
        check(dsm_close(session) == 0, "dsm_close");
        say("ready");
        wait_for_ever();
    } else if (strcmp(role, "fork") == 0 || strcmp(role, "fork-exec") == 0) {
        fork_child(strcmp(role, "fork-exec") == 0);
    } else if (strcmp(role, "exec") == 0) {
        say("ready");
        (void)execlp("sleep", "sleep", "100", (char *)NULL);
        return 127;
    } else if (strcmp(role, "lost") == 0) {
        lose_server();
    } else {
        return 2;
    }
    return 0;
}
