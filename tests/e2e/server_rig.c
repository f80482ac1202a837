// SPDX-License-Identifier: Apache-2.0
//
// Runs the real dsmd, as a process of its own, and talks to it with the real handshake and lanes.
// Everything that a test makes lies in one directory, and the one process that it started is ended
// by its id; should the test itself be killed, the kernel ends dsmd.
#include "tests/e2e/server_rig.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "rpc/deadline.h"

enum { PATIENCE_S = 20 };

static int64_t soon(void)
{
    return deadline_now() + (int64_t)PATIENCE_S * DEADLINE_NS_PER_S;
}

void server_path(const struct server *server, const char *name, char path[128])
{
    (void)snprintf(path, 128, "%s/%s", server->directory, name);
}

void server_authorize(const struct server *server, const char *text)
{
    char path[128];
    server_path(server, "authorized", path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

int server_setup(void **state)
{
    struct server *server = calloc(1, sizeof *server);
    struct failure failure = {""};
    char path[128], text[512];
    assert_non_null(server);
    assert_int_equal(noise_init(), 0);
    const char *parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    (void)snprintf(server->directory, sizeof server->directory, "%s/dsm-e2e-XXXXXX", parent);
    assert_non_null(mkdtemp(server->directory));
    server_path(server, "server.key", path);
    assert_int_equal(keyfile_generate(path, server->server_key, &failure), 0);
    for (int i = 0; i < RIG_KEYS; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "client-%d.key", i);
        server_path(server, name, path);
        assert_int_equal(keyfile_generate(path, server->keys[i], &failure), 0);
    }
    (void)snprintf(text, sizeof text, "%s alice\n%s bob\n", server->keys[0], server->keys[1]);
    server_authorize(server, text);
    *state = server;
    return 0;
}

static void remove_tree(const char *path)
{
    DIR *directory = opendir(path);
    struct dirent *entry;
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        char inner[600];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        (void)snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        if (unlink(inner) != 0) {
            remove_tree(inner);
        }
    }
    if (directory != NULL) {
        (void)closedir(directory);
    }
    (void)rmdir(path);
}

int server_teardown(void **state)
{
    struct server *server = *state;
    if (server->pid > 0) {
        server_kill(server);
    }
    remove_tree(server->directory);
    free(server);
    return 0;
}

// In the child.
static void execute(const struct server *server, int ready)
{
    char store[128], key[128], authorized[128], log[128], listen_on[32], fd[16];
    const char *program = getenv("DSMD");
    const char *arguments[26] = {
        program, "--config",     "",         "--store",     store,     "--key",
        key,     "--authorized", authorized, "--listen",    listen_on, "--capacity",
        "64M",   "--ready-fd",   fd,         "--log-level", "debug"};
    size_t count = 17;
    server_path(server, "store", store);
    server_path(server, "server.key", key);
    server_path(server, "authorized", authorized);
    server_path(server, "log", log);
    (void)snprintf(listen_on, sizeof listen_on, "127.0.0.1:%u", server->port);
    (void)snprintf(fd, sizeof fd, "%d", ready);
    for (size_t i = 0; i < RIG_OPTIONS && server->options[i] != NULL; i++) {
        arguments[count++] = server->options[i];
    }
    int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    (void)dup2(out, STDERR_FILENO);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)fcntl(ready, F_SETFD, 0);
    if (program != NULL) {
        (void)execv(program, (char *const *)(uintptr_t)arguments);
    }
    _exit(127);
}

static void launch(struct server *server, char ready[32])
{
    int pipes[2];
    size_t have = 0;
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    server->pid = fork();
    assert_true(server->pid >= 0);
    if (server->pid == 0) {
        execute(server, pipes[1]);
    }
    (void)close(pipes[1]);
    memset(ready, 0, 32);
    while (have < 31 && strchr(ready, '\n') == NULL) {
        ssize_t got = read(pipes[0], ready + have, 31 - have);
        if (got <= 0) {
            break;
        }
        have += (size_t)got;
    }
    (void)close(pipes[0]);
}

static void print_log(const struct server *server)
{
    char path[128], line[512];
    server_path(server, "log", path);
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        print_message("%s", line);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
}

void server_start(struct server *server)
{
    char ready[32];
    launch(server, ready);
    unsigned long port = strncmp(ready, "READY ", 6) == 0 ? strtoul(ready + 6, NULL, 10) : 0;
    if (port == 0 || port > UINT16_MAX) {
        print_log(server);
        fail_msg("dsmd did not become ready");
    }
    server->port = (uint16_t)port;
}

static int wait_end(struct server *server)
{
    int status = 0;
    assert_int_equal(waitpid(server->pid, &status, 0), server->pid);
    server->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int server_try(struct server *server, char *said, size_t bytes)
{
    char path[128], ready[32];
    launch(server, ready);
    int code = wait_end(server);
    server_path(server, "log", path);
    memset(said, 0, bytes);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    assert_true(fread(said, 1, bytes - 1, file) < bytes);
    (void)fclose(file);
    return code;
}

void server_kill(struct server *server)
{
    (void)kill(server->pid, SIGKILL);
    (void)wait_end(server);
}

int server_stop(struct server *server)
{
    assert_int_equal(kill(server->pid, SIGTERM), 0);
    int code = wait_end(server);
    if (code != 0) {
        print_log(server);
    }
    return code;
}

bool server_said(const struct server *server, const char *text)
{
    char path[128], line[512];
    bool found = false;
    server_path(server, "log", path);
    FILE *file = fopen(path, "re");
    while (file != NULL && !found && fgets(line, sizeof line, file) != NULL) {
        found = strstr(line, text) != NULL;
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return found;
}

// One that dsmd started: gRPC names its own.
static bool thread_is_own(const struct server *server, const char *task)
{
    char path[320], name[32] = "";
    (void)snprintf(path, sizeof path, "/proc/%d/task/%s/comm", (int)server->pid, task);
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        (void)fgets(name, sizeof name, file);
        (void)fclose(file);
    }
    return strcmp(name, "dsmd\n") == 0;
}

int server_threads(const struct server *server)
{
    char path[64];
    int count = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/task", (int)server->pid);
    DIR *tasks = opendir(path);
    if (tasks == NULL) {
        return -1;
    }
    for (const struct dirent *task; (task = readdir(tasks)) != NULL;) {
        count += task->d_name[0] != '.' && thread_is_own(server, task->d_name);
    }
    (void)closedir(tasks);
    return count;
}

int server_connect(const struct server *server)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(server->port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void fill_hello(const struct server *server, const struct client *client,
                       struct handshake_client *to)
{
    const char *key = client->server_key != NULL ? client->server_key : server->server_key;
    bool grpc = client->kind == WIRE_LANE_GRPC;
    assert_int_equal(keyfile_decode(key, to->server_key), 0);
    to->psk = client->psk;
    to->hello.version = WIRE_VERSION;
    to->hello.suite = noise_suite_available(NOISE_AESGCM) ? NOISE_AESGCM : NOISE_CHACHAPOLY;
    to->hello.role = WIRE_ROLE_CLIENT;
    to->hello.lane_kind = grpc ? WIRE_LANE_GRPC : WIRE_LANE_SOCK;
    (void)snprintf(to->hello.cluster, sizeof to->hello.cluster, "%s",
                   client->cluster != NULL ? client->cluster : "default");
    (void)snprintf(to->hello.server, sizeof to->hello.server, "%s",
                   client->name != NULL ? client->name : "");
    memset(to->attach.instance, client->instance, WIRE_ID_BYTES);
    to->attach.lane = client->number;
    to->attach.generation = client->generation != 0 ? client->generation : 1;
    (void)snprintf(to->attach.holder, sizeof to->attach.holder, "process-%u", client->instance);
}

int client_try(struct server *server, struct client *client)
{
    char path[128], name[32];
    struct handshake_client hello = {0};
    struct key_identity *identity = NULL;
    struct noise_cipher *send = NULL;
    struct noise_cipher *receive = NULL;
    (void)snprintf(name, sizeof name, "client-%d.key", client->key);
    server_path(server, name, path);
    assert_int_equal(keyfile_load(path, &identity, &client->failure), 0);
    fill_hello(server, client, &hello);
    hello.identity = identity;
    client->lane = NULL;
    client->refusal = WIRE_OK;
    int fd = server_connect(server);
    int error = handshake_connect(fd, &hello, soon(), &send, &receive, &client->attached,
                                  &client->refusal, &client->failure);
    key_identity_destroy(&identity);
    if (error != 0) {
        (void)close(fd);
        return error;
    }
    client->lane = client->kind == WIRE_LANE_GRPC ? lane_grpc_create(fd, send, receive)
                                                  : lane_sock_create(fd, send, receive);
    assert_non_null(client->lane);
    return 0;
}

void client_connect(struct server *server, struct client *client)
{
    int error = client_try(server, client);
    if (error != 0) {
        print_log(server);
        fail_msg("connect: %s (%s)", strerror(-error), client->failure.text);
    }
}

static int call_try(struct client *client, struct wire_header *request, const void *payload,
                    struct wire_header *answer, uint8_t *data, size_t bytes)
{
    static uint64_t requests;
    struct lane *lane = client->lane;
    const struct iovec piece = {.iov_base = (void *)(uintptr_t)payload, .iov_len = request->length};
    request->request = ++requests;
    *answer = (struct wire_header){0};
    int error = lane->ops->send(lane, request, &piece, request->length > 0 ? 1 : 0, soon());
    error = error == 0 ? lane->ops->receive(lane, answer, soon()) : error;
    error = error == 0 ? wire_answer_check(answer, request) : error;
    const void *record;
    ssize_t got = 0;
    size_t have = 0;
    while (error == 0 && (got = lane->ops->receive_data(lane, NULL, &record, soon())) > 0) {
        assert_true(have + (size_t)got <= bytes);
        memcpy(data + have, record, (size_t)got);
        have += (size_t)got;
    }
    return error == 0 && got < 0 ? (int)got : error;
}

enum wire_status call(struct client *client, struct wire_header *request, const void *payload,
                      struct wire_header *answer, uint8_t *data, size_t bytes)
{
    int error = call_try(client, request, payload, answer, data, bytes);
    if (error != 0) {
        fail_msg("the lane broke: %s", strerror(-error));
    }
    return (enum wire_status)answer->status;
}

int ping(struct client *client)
{
    struct wire_header request = {.op = WIRE_PING};
    struct wire_header answer;
    return call_try(client, &request, NULL, &answer, NULL, 0);
}

enum wire_status write_page(struct client *client, uint64_t segment, uint64_t epoch, uint64_t page,
                            uint64_t version, uint8_t fill)
{
    uint8_t data[PAGE];
    struct wire_header answer;
    struct wire_header request = {.op = WIRE_WRITE,
                                  .segment = segment,
                                  .epoch = epoch,
                                  .page = page,
                                  .count = 1,
                                  .version = version,
                                  .length = PAGE,
                                  .map = {1}};
    memset(data, fill, sizeof data);
    return call(client, &request, data, &answer, NULL, 0);
}

enum wire_status read_page(struct client *client, uint64_t segment, uint64_t epoch, uint64_t page,
                           uint8_t *fill)
{
    uint8_t data[PAGE] = {0};
    struct wire_header answer;
    struct wire_header request = {.op = WIRE_READ,
                                  .segment = segment,
                                  .epoch = epoch,
                                  .page = page,
                                  .count = 1,
                                  .hint = WIRE_NO_HINT};
    enum wire_status status = call(client, &request, NULL, &answer, data, sizeof data);
    if (status == WIRE_OK) {
        assert_int_equal(answer.length, wire_map_get(answer.map, 0) ? PAGE : 0);
        for (size_t i = 1; i < PAGE; i++) {
            assert_int_equal(data[i], data[0]);
        }
        *fill = data[0];
    }
    return status;
}

enum wire_status control(struct client *client, const Dsm__Control *message,
                         Dsm__ControlAnswer **answer)
{
    static uint8_t packed[LIMIT_CONTROL_BYTES], got[LIMIT_CONTROL_BYTES];
    struct wire_header header;
    struct wire_header request = {.op = WIRE_CONTROL};
    request.length = (uint32_t)dsm__control__pack(message, packed);
    enum wire_status status = call(client, &request, packed, &header, got, sizeof got);
    *answer = dsm__control_answer__unpack(NULL, header.length, got);
    assert_non_null(*answer);
    return status;
}

static enum wire_status control_segment(struct client *client, const Dsm__Control *message,
                                        struct opened *opened)
{
    Dsm__ControlAnswer *answer;
    enum wire_status status = control(client, message, &answer);
    *opened = (struct opened){0};
    if (status == WIRE_OK && answer->body_case == DSM__CONTROL_ANSWER__BODY_SEGMENT) {
        opened->id = answer->segment->id;
        opened->epoch = answer->segment->epoch;
        opened->highest = answer->segment->highest;
    }
    (void)snprintf(opened->detail, sizeof opened->detail, "%s", answer->detail);
    assert_true(status == WIRE_OK || opened->detail[0] != '\0');
    dsm__control_answer__free_unpacked(answer, NULL);
    return status;
}

enum wire_status create(struct client *client, const char *name, uint8_t operation,
                        struct opened *opened)
{
    uint8_t id[WIRE_ID_BYTES];
    Dsm__Control message = DSM__CONTROL__INIT;
    Dsm__Create body = DSM__CREATE__INIT;
    memset(id, operation, sizeof id);
    body.operation = (ProtobufCBinaryData){.len = sizeof id, .data = id};
    body.name = (char *)(uintptr_t)name;
    body.bytes = 64 * PAGE;
    body.page_bytes = PAGE;
    message.create = &body;
    message.body_case = DSM__CONTROL__BODY_CREATE;
    return control_segment(client, &message, opened);
}

static enum wire_status open_segment(struct client *client, Dsm__Open *body, struct opened *opened)
{
    Dsm__Control message = DSM__CONTROL__INIT;
    message.open = body;
    message.body_case = DSM__CONTROL__BODY_OPEN;
    return control_segment(client, &message, opened);
}

enum wire_status open_by_name(struct client *client, const char *name, bool write, bool takeover,
                              struct opened *opened)
{
    Dsm__Open body = DSM__OPEN__INIT;
    body.name = (char *)(uintptr_t)name;
    body.write = write;
    body.takeover = takeover;
    return open_segment(client, &body, opened);
}

enum wire_status open_again(struct client *client, uint64_t id, uint64_t epoch,
                            struct opened *opened)
{
    Dsm__Open body = DSM__OPEN__INIT;
    body.segment = id;
    body.write = 1;
    body.epoch = epoch;
    return open_segment(client, &body, opened);
}

enum wire_status close_segment(struct client *client, uint64_t id)
{
    struct opened opened;
    Dsm__Control message = DSM__CONTROL__INIT;
    Dsm__Close body = DSM__CLOSE__INIT;
    body.segment = id;
    message.close = &body;
    message.body_case = DSM__CONTROL__BODY_CLOSE;
    return control_segment(client, &message, &opened);
}
