// SPDX-License-Identifier: Apache-2.0
//
// A real dsmd, over real connections: pages survive a kill, owners are kept apart, what may not
// come in hears why, a changed authorized file takes effect, and what is wrong at start ends it
// with a sentence.
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "rpc/deadline.h"
#include "tests/e2e/server_rig.h"

static enum wire_lane_kind kind; // of the lanes of this run

static void test_pages_survive_a_kill(void **state)
{
    struct server *server = *state;
    struct client client = {.instance = 1, .kind = kind};
    struct opened made, again;
    uint8_t fill = 0;
    server_start(server);
    client_connect(server, &client);
    struct wire_attached before = client.attached;
    assert_int_equal(create(&client, "data", 1, &made), WIRE_OK);
    assert_int_equal(made.epoch, 1);
    assert_int_equal(read_page(&client, made.id, 1, 7, &fill), WIRE_OK);
    assert_int_equal(fill, 0);
    for (uint8_t page = 0; page < 32; page++) {
        assert_int_equal(write_page(&client, made.id, 1, page, 100U + page, (uint8_t)(page + 1)),
                         WIRE_OK);
    }
    server_kill(server);
    assert_int_not_equal(ping(&client), 0);
    lane_destroy(&client.lane);
    server_start(server);
    client.generation = 2;
    client_connect(server, &client);
    assert_memory_equal(client.attached.store_id, before.store_id, WIRE_ID_BYTES);
    assert_int_not_equal(client.attached.incarnation, before.incarnation);
    assert_int_equal(read_page(&client, made.id, 1, 7, &fill), WIRE_NOT_OPEN);
    assert_int_equal(open_again(&client, made.id, 1, &again), WIRE_OK);
    assert_int_equal(again.epoch, 1);
    assert_int_equal(again.highest, 131);
    for (uint8_t page = 0; page < 32; page++) {
        assert_int_equal(read_page(&client, made.id, 1, page, &fill), WIRE_OK);
        assert_int_equal(fill, page + 1);
    }
    assert_int_equal(read_page(&client, made.id, 1, 64, &fill), WIRE_BOUNDS);
    lane_destroy(&client.lane);
    assert_int_equal(server_stop(server), 0);
}

static void test_owners(void **state)
{
    struct server *server = *state;
    struct client one = {.instance = 1, .kind = kind};
    struct client two = {.instance = 2, .kind = kind};
    struct client bob = {.instance = 3, .key = 1, .kind = kind};
    struct opened made, taken, none;
    uint8_t fill;
    server_start(server);
    client_connect(server, &one);
    client_connect(server, &two);
    client_connect(server, &bob);
    assert_int_equal(create(&one, "data", 1, &made), WIRE_OK);
    assert_int_equal(write_page(&one, made.id, 1, 0, 1, 0x11), WIRE_OK);
    assert_int_equal(open_by_name(&two, "data", true, false, &none), WIRE_BUSY);
    assert_non_null(strstr(none.detail, "process-1"));
    assert_int_equal(open_by_name(&one, "data", true, false, &none), WIRE_OK); // asked again
    assert_int_equal(open_by_name(&one, "data", false, false, &none), WIRE_BUSY);
    assert_non_null(strstr(none.detail, "already open in this process"));
    assert_int_equal(open_by_name(&bob, "data", false, false, &none), WIRE_NO_SEGMENT);
    assert_int_equal(read_page(&bob, made.id, 1, 0, &fill), WIRE_NOT_OPEN);
    assert_int_equal(open_by_name(&two, "data", true, true, &taken), WIRE_OK);
    assert_int_equal(taken.epoch, 2);
    assert_int_equal(write_page(&one, made.id, 1, 0, 2, 0x22), WIRE_FENCED);
    assert_int_equal(read_page(&two, made.id, 2, 0, &fill), WIRE_OK);
    assert_int_equal(fill, 0x11);
    assert_int_equal(close_segment(&two, made.id), WIRE_OK);
    lane_destroy(&one.lane);
    lane_destroy(&two.lane);
    lane_destroy(&bob.lane);
    assert_int_equal(server_stop(server), 0);
}

static void assert_refused(struct server *server, struct client client, enum wire_status status)
{
    client.kind = kind;
    int error = client_try(server, &client);
    if (error != -EACCES || client.refusal != status || client.failure.text[0] == '\0') {
        fail_msg("%s, status %d, \"%s\"", strerror(-error), (int)client.refusal,
                 client.failure.text);
    }
}

static void test_refusals(void **state)
{
    struct server *server = *state;
    server->options[0] = "--name";
    server->options[1] = "one";
    server_start(server);
    assert_refused(server, (struct client){.key = 2}, WIRE_UNAUTHORIZED);
    assert_refused(server, (struct client){.cluster = "elsewhere"}, WIRE_WRONG_CLUSTER);
    assert_refused(server, (struct client){.name = "two"}, WIRE_WRONG_SERVER);
    struct client stranger = {.server_key = server->keys[2]};
    assert_int_equal(client_try(server, &stranger), -ECONNRESET);
    struct client good = {.instance = 1, .name = "one", .kind = kind};
    client_connect(server, &good);
    assert_int_equal(ping(&good), 0);
    lane_destroy(&good.lane);
    assert_int_equal(server_stop(server), 0);
}

static void test_psk(void **state)
{
    struct server *server = *state;
    char path[128];
    server_path(server, "client-2.key", path);
    server->options[0] = "--psk-file";
    server->options[1] = path;
    server_start(server);
    struct failure failure;
    struct key_identity *psk = NULL;
    assert_int_equal(keyfile_load(path, &psk, &failure), 0);
    struct client client = {.instance = 1, .kind = kind};
    assert_int_not_equal(client_try(server, &client), 0); // none
    client.psk = psk->public_key;
    assert_int_not_equal(client_try(server, &client), 0); // another
    client.psk = psk->private_key;
    client_connect(server, &client);
    assert_int_equal(ping(&client), 0);
    lane_destroy(&client.lane);
    key_identity_destroy(&psk);
    assert_int_equal(server_stop(server), 0);
}

// Not everybody who connects speaks our language; the next good client gets in.
static void test_garbage(void **state)
{
    static const char *const hellos[] = {"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02",
                                         "PRI * HTTP/2.0"};
    struct server *server = *state;
    server_start(server);
    for (size_t i = 0; i < sizeof hellos / sizeof *hellos; i++) {
        char byte;
        int fd = server_connect(server);
        assert_true(send(fd, hellos[i], strlen(hellos[i]), MSG_NOSIGNAL) > 0);
        assert_true(recv(fd, &byte, 1, 0) <= 0); // not one byte of an answer
        (void)close(fd);
    }
    struct client good = {.instance = 1, .kind = kind};
    client_connect(server, &good);
    assert_int_equal(ping(&good), 0);
    lane_destroy(&good.lane);
    assert_true(server_said(server, "the handshake failed"));
    assert_int_equal(server_stop(server), 0);
}

static int connect_from(const struct server *server, const char *source)
{
    struct sockaddr_in from = {.sin_family = AF_INET};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(server->port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(inet_pton(AF_INET, source, &from.sin_addr), 1);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&from, sizeof from), 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

// More silent connections than there are places, from another address: a good client gets in, and
// lanes that are there go on.
static void test_half_open_flood(void **state)
{
    enum { FLOOD = 4400, SPARE = 64 };
    static int flood[FLOOD];
    struct server *server = *state;
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_max < FLOOD + SPARE) {
        skip(); // too few descriptors on this machine
    }
    limit.rlim_cur = limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    server_start(server);
    struct client before = {.instance = 1, .kind = kind};
    client_connect(server, &before);
    int64_t start = deadline_now();
    for (int i = 0; i < FLOOD; i++) {
        flood[i] = connect_from(server, "127.0.0.2");
    }
    struct client good = {.instance = 2, .kind = kind};
    client_connect(server, &good);
    bool slow = deadline_now() - start > (int64_t)LIMIT_HANDSHAKE_MS / 2 * DEADLINE_NS_PER_MS;
    assert_int_equal(ping(&good), 0);
    assert_int_equal(ping(&before), 0);
    // On a machine so busy that they took nearly as long to come as each may stay, never all of them were there.
    assert_true(server_said(server, "its place is needed") ||
                (slow && server_said(server, "no handshake within its time")));
    for (int i = 0; i < FLOOD; i++) {
        (void)close(flood[i]);
    }
    lane_destroy(&good.lane);
    lane_destroy(&before.lane);
    assert_int_equal(server_stop(server), 0);
}

static void fail_at_once(const struct server *server, const char *source)
{
    enum { TOGETHER = 20 };
    int fds[TOGETHER];
    char byte;
    for (int i = 0; i < TOGETHER; i++) {
        fds[i] = connect_from(server, source);
    }
    for (int i = 0; i < TOGETHER; i++) {
        (void)send(fds[i], "x", 1, MSG_NOSIGNAL);
    }
    for (int i = 0; i < TOGETHER; i++) {
        assert_true(recv(fds[i], &byte, 1, 0) <= 0);
        (void)close(fds[i]);
    }
}

// An address that keeps failing is not let in for a while; another address is not harmed.
static void test_failure_rate(void **state)
{
    struct server *server = *state;
    server_start(server);
    // The log says so many lines of a kind in a second, and first come those of the failures themselves.
    for (int i = 0; i < 1000 && !server_said(server, "too many failed handshakes"); i++) {
        fail_at_once(server, "127.0.0.3");
        (void)usleep(10000);
    }
    assert_true(server_said(server, "too many failed handshakes"));
    struct client good = {.instance = 1, .kind = kind};
    client_connect(server, &good);
    lane_destroy(&good.lane);
    assert_int_equal(server_stop(server), 0);
}

// A connection that says nothing is ended after its time; the listener does not spin meanwhile.
static void test_silence_ends(void **state)
{
    struct server *server = *state;
    server_start(server);
    struct pollfd end = {.fd = server_connect(server), .events = POLLIN};
    assert_int_equal(poll(&end, 1, 4 * LIMIT_HANDSHAKE_MS), 1);
    char byte;
    assert_true(recv(end.fd, &byte, 1, 0) <= 0);
    (void)close(end.fd);
    assert_true(server_said(server, "no handshake within its time"));
    assert_int_equal(server_stop(server), 0);
}

static void wait_for_log(const struct server *server, const char *text)
{
    for (int i = 0; i < 2000 && !server_said(server, text); i++) {
        (void)poll(NULL, 0, 10);
    }
    assert_true(server_said(server, text));
}

static void test_removed_key(void **state)
{
    struct server *server = *state;
    char text[256];
    struct client alice = {.instance = 1, .kind = kind};
    struct client bob = {.instance = 2, .key = 1, .kind = kind};
    struct opened made;
    server_start(server);
    client_connect(server, &alice);
    client_connect(server, &bob);
    assert_int_equal(create(&alice, "data", 1, &made), WIRE_OK);
    server_authorize(server, "this is no key\n");
    assert_int_equal(kill(server->pid, SIGHUP), 0);
    wait_for_log(server, "nothing was changed");
    assert_int_equal(ping(&alice), 0);
    assert_int_equal(ping(&bob), 0);
    (void)snprintf(text, sizeof text, "%s bob\n%s alice\n", server->keys[1], server->keys[2]);
    server_authorize(server, text);
    assert_int_equal(kill(server->pid, SIGHUP), 0);
    wait_for_log(server, "again");
    assert_int_not_equal(ping(&alice), 0);
    assert_int_equal(ping(&bob), 0);
    lane_destroy(&alice.lane);
    assert_refused(server, (struct client){.instance = 1}, WIRE_UNAUTHORIZED);
    struct client successor = {.instance = 3, .key = 2, .kind = kind};
    client_connect(server, &successor);
    assert_int_equal(open_by_name(&successor, "data", true, false, &made), WIRE_OK); // it stayed
    assert_int_equal(made.epoch, 2);
    lane_destroy(&successor.lane);
    lane_destroy(&bob.lane);
    assert_int_equal(server_stop(server), 0);
}

static void test_generations(void **state)
{
    struct server *server = *state;
    struct client old = {.instance = 1, .number = 3, .generation = 5, .kind = kind};
    struct client other = {.instance = 1, .number = 4, .generation = 1, .kind = kind};
    struct client new = {.instance = 1, .number = 3, .generation = 6, .kind = kind};
    server_start(server);
    client_connect(server, &old);
    client_connect(server, &other);
    assert_int_equal(ping(&old), 0);
    assert_refused(server, (struct client){.instance = 1, .number = 3, .generation = 5},
                   WIRE_STALE_GENERATION);
    client_connect(server, &new);
    assert_int_equal(ping(&new), 0);
    assert_int_not_equal(ping(&old), 0);
    assert_int_equal(ping(&other), 0);
    assert_refused(server, (struct client){.instance = 1, .number = 3, .generation = 4},
                   WIRE_STALE_GENERATION);
    assert_refused(server, (struct client){.instance = 1, .key = 1, .number = 9}, WIRE_NOT_ALLOWED);
    lane_destroy(&old.lane);
    lane_destroy(&other.lane);
    lane_destroy(&new.lane);
    assert_int_equal(server_stop(server), 0);
}

// Until they stay the same: a thread of gRPC that has just begun has no name yet.
static int steady_threads(const struct server *server)
{
    int now = server_threads(server), last = 0;
    for (int same = 0; same < 5; same = now == last ? same + 1 : 0) {
        last = now;
        (void)poll(NULL, 0, 100);
        now = server_threads(server);
    }
    return now;
}

static void test_threads_are_fixed(void **state)
{
    enum { CLIENTS = 100 };
    struct server *server = *state;
    static struct client clients[CLIENTS];
    server_start(server);
    clients[0] = (struct client){.instance = 1, .kind = kind};
    client_connect(server, &clients[0]); // gRPC starts what it needs with the first
    assert_int_equal(ping(&clients[0]), 0);
    int before = steady_threads(server);
    assert_true(before > 0);
    for (int i = 1; i < CLIENTS; i++) {
        clients[i] = (struct client){.instance = (uint8_t)(i + 1), .kind = WIRE_LANE_SOCK};
        client_connect(server, &clients[i]);
        assert_int_equal(ping(&clients[i]), 0);
    }
    int after = steady_threads(server);
    for (int i = 0; i < 40 && after != before; i++) {
        after = steady_threads(server);
    }
    assert_int_equal(after, before);
    for (int i = 0; i < CLIENTS; i++) {
        lane_destroy(&clients[i].lane);
    }
    assert_int_equal(server_stop(server), 0);
}

static enum wire_status list(struct client *client, const char *after, char last[256],
                             unsigned *count, bool *more)
{
    Dsm__Control message = DSM__CONTROL__INIT;
    Dsm__List body = DSM__LIST__INIT;
    Dsm__ControlAnswer *answer;
    body.after = (char *)(uintptr_t)after;
    message.list = &body;
    message.body_case = DSM__CONTROL__BODY_LIST;
    enum wire_status status = control(client, &message, &answer);
    assert_int_equal(answer->body_case, DSM__CONTROL_ANSWER__BODY_LIST);
    *count += (unsigned)answer->list->n_segment;
    *more = answer->list->more != 0;
    if (answer->list->n_segment > 0) {
        (void)snprintf(last, 256, "%s", answer->list->segment[answer->list->n_segment - 1]->name);
    }
    dsm__control_answer__free_unpacked(answer, NULL);
    return status;
}

static void test_control(void **state)
{
    enum { SEGMENTS = 250 };
    struct server *server = *state;
    struct client client = {.instance = 1, .kind = kind};
    struct opened made;
    char name[256], last[256] = "";
    unsigned count = 0, pages = 0;
    bool more = true;
    server_start(server);
    client_connect(server, &client);
    for (unsigned i = 0; i < SEGMENTS; i++) {
        (void)snprintf(name, sizeof name, "%03u/%0240u", i, i);
        assert_int_equal(create(&client, name, (uint8_t)(i + 1), &made), WIRE_OK);
        assert_int_equal(close_segment(&client, made.id), WIRE_OK);
    }
    while (more) {
        assert_int_equal(list(&client, last, last, &count, &more), WIRE_OK);
        pages++;
    }
    assert_int_equal(count, SEGMENTS);
    assert_true(pages > 1);
    struct wire_header answer;
    struct wire_header broken = {.op = WIRE_CONTROL, .length = 5};
    static uint8_t got[LIMIT_CONTROL_BYTES];
    assert_int_equal(call(&client, &broken, "\xff\xff\xff\xff\xff", &answer, got, sizeof got),
                     WIRE_INVALID);
    assert_int_equal(open_by_name(&client, "", true, false, &made), WIRE_INVALID);
    assert_int_equal(open_by_name(&client, "nothing", true, false, &made), WIRE_NO_SEGMENT);
    assert_int_equal(ping(&client), 0);
    lane_destroy(&client.lane);
    assert_int_equal(server_stop(server), 0);
}

static void assert_start_fails(struct server *server, const char *sentence)
{
    char said[4096];
    int code = server_try(server, said, sizeof said);
    if (code != 1 || strstr(said, sentence) == NULL) {
        fail_msg("code %d, said: %s", code, said);
    }
}

static void test_start_refusals(void **state)
{
    struct server *server = *state;
    char key[128], store[128];
    server_path(server, "server.key", key);
    server_path(server, "second", store);
    server_start(server);
    struct server second = *server;
    assert_start_fails(&second, "in use"); // the store
    second.options[0] = "--store";
    second.options[1] = store;
    assert_start_fails(&second, "another process listens there already");
    second.port = 0;
    second.options[2] = "--capacity";
    second.options[3] = "4T";
    assert_start_fails(&second, "lower the capacity");
    second.options[3] = "12X";
    assert_start_fails(&second, "\"12X\" is no value for capacity");
    second.options[3] = "64M";
    assert_int_equal(chmod(key, 0644), 0);
    assert_start_fails(&second, "server.key");
    assert_int_equal(chmod(key, 0600), 0);
    assert_int_equal(server_stop(server), 0);
    server->options[0] = "--check";
    char said[4096];
    assert_int_equal(server_try(server, said, sizeof said), 0);
    assert_non_null(strstr(said, "in order"));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown(name, server_setup, server_teardown)
        CASE(test_half_open_flood),
        CASE(test_failure_rate),
        CASE(test_silence_ends),
        CASE(test_pages_survive_a_kill),
        CASE(test_owners),
        CASE(test_refusals),
        CASE(test_psk),
        CASE(test_garbage),
        CASE(test_removed_key),
        CASE(test_generations),
        CASE(test_threads_are_fixed),
        CASE(test_control),
        CASE(test_start_refusals),
    };
    if (argc != 3) {
        (void)fprintf(stderr, "usage: %s DSMD sock|grpc\n", argv[0]);
        return 2;
    }
    (void)setenv("DSMD", argv[1], 1);
    kind = strcmp(argv[2], "grpc") == 0 ? WIRE_LANE_GRPC : WIRE_LANE_SOCK;
    if (kind == WIRE_LANE_GRPC) {
        lane_grpc_library_get();
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (kind == WIRE_LANE_GRPC) {
        lane_grpc_library_put();
    }
    return failed;
}
