// SPDX-License-Identifier: Apache-2.0
//
// One move at a host's agent, whatever source and program do: agent_move() runs in a process of its own, this one is the source, and
// the program that the agent starts is this file's, too: $PLAY tells it what to be.
//
//   takes    reads the capsule and says that it has the task
//   refuses  says why it has not
//   ends     before anything came
//   slow     reads all there is, and only long after the source has gone does it say that it has the task: by then it may be
//            the one that has it, so it must be left alone
//   deaf     stops reading: is not waited for, and is ended (the long test, for the agent is patient)
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

#include "libdsm/task/binary.h"
#include "rpc/deadline.h"
#include "rpc/noise_pair.h"
#include "tools/dsmctl_agent.h"
#include "tools/mover_socket.h"

enum { TASK_FD = 3, SLOW_S = 8, PIECES = 64, AGES_MS = 60000, PLAYED = 42 };

static char folder[] = "/tmp/dsm-agent-XXXXXX", mark[64], log_path[64];

// ---- the program

static void drain(void)
{
    char piece[4096];
    while (read(TASK_FD, piece, sizeof piece) > 0) {
    }
}

static int play(const char *what)
{
    char key[NOISE_KEY_BYTES + 3];
    if (write(TASK_FD, "WAITING\n", 8) != 8) {
        return 1;
    }
    if (strcmp(what, "ends") == 0) {
        return PLAYED;
    }
    if (recv(TASK_FD, key, sizeof key, MSG_WAITALL) != sizeof key) {
        return 1;
    }
    if (strcmp(what, "takes") == 0) {
        return write(TASK_FD, "TAKEN\n", 6) == 6 ? PLAYED : 1;
    }
    if (strcmp(what, "refuses") == 0) {
        return write(TASK_FD, "REFUSED for fun\n", 16) == 16 ? PLAYED : 1;
    }
    if (strcmp(what, "deaf") == 0) {
        (void)sleep(600);
    }
    drain();
    (void)sleep(SLOW_S);
    const char *path = getenv("MARK");
    return path != NULL && open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600) >= 0 ? PLAYED : 1;
}

// ---- the agent

void agent_log(enum agent_level level, const char *format, ...)
{
    char line[1024];
    va_list arguments;
    (void)level;
    va_start(arguments, format);
    (void)vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    FILE *log = fopen(log_path, "ae");
    assert_non_null(log);
    (void)fprintf(log, "%s\n", line);
    (void)fclose(log);
}

static bool logged(const char *words)
{
    char text[8192];
    FILE *log = fopen(log_path, "re");
    assert_non_null(log);
    text[fread(text, 1, sizeof text - 1, log)] = 0;
    (void)fclose(log);
    return strstr(text, words) != NULL;
}

static pid_t agent;
static struct mover_link link_to_agent;
static bool children_ignored; // the agent hears nothing of how they ended

static void serve(struct mover_link *link, const char *what)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); // it does not outlive a test that failed
    if (children_ignored) {
        (void)signal(SIGCHLD, SIG_IGN);
    }
    struct agent_config *config = calloc(1, sizeof *config);
    config->wait = 30;
    config->uid = geteuid();
    (void)snprintf(config->binaries.items[config->binaries.count++], sizeof(setting_path), "%s",
                   folder);
    setting_path *variables = config->environment.items;
    (void)snprintf(variables[0], sizeof *variables, "PLAY=%s", what);
    (void)snprintf(variables[1], sizeof *variables, "MARK=%s", mark);
    config->environment.count = 2;
    _exit(agent_move(config, link, "alice at home"));
}

// The offer is made, and the agent says that the program waits.
static void begin(const char *what)
{
    struct noise_pair pair;
    struct task_binary binary;
    struct mover_offer offer = {.name = "moved"};
    uint8_t text[MOVER_MOST_BYTES + 1];
    enum mover_message message;
    size_t count;
    int ends[2];
    (void)unlink(log_path);
    (void)unlink(mark);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(noise_pair_create(&pair, NOISE_CHACHAPOLY), 0);
    agent = fork();
    if (agent == 0) {
        struct mover_link link = {ends[1], pair.send[1], pair.receive[1]};
        (void)close(ends[0]);
        serve(&link, what);
    }
    (void)close(ends[1]);
    noise_cipher_destroy(&pair.send[1]);
    noise_cipher_destroy(&pair.receive[1]);
    link_to_agent = (struct mover_link){ends[0], pair.send[0], pair.receive[0]};
    task_binary_read(&binary);
    memcpy(offer.build_id, binary.build_id, binary.build_id_bytes);
    offer.build_id_bytes = binary.build_id_bytes;
    count = mover_offer_encode(&offer, text);
    assert_int_equal(mover_say(&link_to_agent, MOVER_OFFER, text, count), 0);
    assert_int_equal(mover_hear(&link_to_agent, deadline_after_ms(AGES_MS), &message, text, &count),
                     0);
    assert_int_equal(message, MOVER_READY);
}

static void said(enum mover_message expected, const char *words)
{
    uint8_t text[MOVER_MOST_BYTES + 1];
    enum mover_message message;
    size_t count;
    assert_int_equal(mover_hear(&link_to_agent, deadline_after_ms(AGES_MS), &message, text, &count),
                     0);
    assert_int_equal(message, expected);
    assert_non_null(strstr((const char *)text, words));
}

static void ended(int code)
{
    int status;
    assert_int_equal(waitpid(agent, &status, 0), agent);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == code);
    mover_link_end(&link_to_agent);
}

static void send_capsule(void)
{
    assert_int_equal(mover_say(&link_to_agent, MOVER_CAPSULE, "all", 3), 0);
    assert_int_equal(mover_say(&link_to_agent, MOVER_END, NULL, 0), 0);
}

// ---- the tests

static void a_task_is_taken(void **state)
{
    (void)state;
    begin("takes");
    send_capsule();
    said(MOVER_TAKEN, "");
    ended(0);
    assert_true(logged("task moved of alice at home goes on here") && logged("exit status 42"));
}

static void a_task_is_refused(void **state)
{
    (void)state;
    begin("refuses");
    send_capsule();
    said(MOVER_REFUSED, "for fun");
    ended(1);
    assert_true(logged("refused task moved of alice at home: for fun"));
}

static void a_program_that_ends_is_told_of(void **state)
{
    (void)state;
    begin("ends");
    said(MOVER_REFUSED, "ended before it took the task (exit status 42)");
    ended(1);
}

static void a_program_whose_end_nobody_saw_has_ended(void **state)
{
    (void)state;
    children_ignored = true;
    begin("ends");
    children_ignored = false;
    said(MOVER_REFUSED, "ended before it took the task (nobody saw how it ended)");
    ended(1);
}

static void nothing_is_no_capsule(void **state)
{
    (void)state;
    begin("takes");
    assert_int_equal(mover_say(&link_to_agent, MOVER_END, NULL, 0), 0);
    said(MOVER_REFUSED, "makes no sense");
    ended(1);
}

static void who_may_have_the_task_is_left_alone(void **state)
{
    struct stat status;
    (void)state;
    begin("slow");
    assert_int_equal(mover_say(&link_to_agent, MOVER_CAPSULE, "all", 3), 0);
    mover_link_end(&link_to_agent); // before it said that this was all
    ended(1);
    assert_int_equal(stat(mark, &status), 0);
    assert_true(logged("exit status 42"));
}

static void who_stops_reading_is_ended(void **state)
{
    static const uint8_t piece[MOVER_MOST_BYTES];
    (void)state;
    begin("deaf");
    int error = 0;
    for (int i = 0; i < PIECES && error == 0; i++) {
        error = mover_say(&link_to_agent, MOVER_CAPSULE, piece, sizeof piece);
    }
    assert_int_equal(error, -ENODATA);
    said(MOVER_REFUSED, "stopped reading its task");
    ended(1);
}

// ---- this program, in a folder that nobody else can write

static void copy_self(void)
{
    char path[64], piece[65536];
    ssize_t count;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/program", folder);
    (void)snprintf(mark, sizeof mark, "%s/mark", folder);
    (void)snprintf(log_path, sizeof log_path, "%s/log", folder);
    int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int to = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
    assert_true(from >= 0 && to >= 0);
    while ((count = read(from, piece, sizeof piece)) > 0) {
        assert_int_equal(write(to, piece, (size_t)count), count);
    }
    (void)close(from);
    (void)close(to);
}

static int make_folder(void **state)
{
    (void)state;
    copy_self();
    return noise_init();
}

static int remove_folder(void **state)
{
    char path[64];
    (void)state;
    (void)unlink(mark);
    (void)unlink(log_path);
    (void)snprintf(path, sizeof path, "%s/program", folder);
    (void)unlink(path);
    return rmdir(folder);
}

int main(int argc, char **argv)
{
    const char *part = getenv("PLAY");
    (void)argv;
    if (part != NULL) {
        return play(part);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_task_is_taken),
        cmocka_unit_test(a_task_is_refused),
        cmocka_unit_test(a_program_that_ends_is_told_of),
        cmocka_unit_test(a_program_whose_end_nobody_saw_has_ended),
        cmocka_unit_test(nothing_is_no_capsule),
        cmocka_unit_test(who_may_have_the_task_is_left_alone),
    };
    const struct CMUnitTest patient[] = {cmocka_unit_test(who_stops_reading_is_ended)};
    return argc > 1 ? cmocka_run_group_tests(patient, make_folder, remove_folder)
                    : cmocka_run_group_tests(tests, make_folder, remove_folder);
}
