// SPDX-License-Identifier: Apache-2.0
//
// What those try on a running dsmd who have no key, or somebody else's first message: to take all
// places with replays, to have more key agreements computed than their failures allow; and a client
// that makes segments until no descriptor is left; to have connections ended and taken as fast as
// the server can. Attackers come from other loopback addresses than the good client.
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
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
#include "rpc/handshake_wire.h"
#include "tests/e2e/server_rig.h"

enum { FLOOD = 4400, SPARE = 64, TOGETHER = 200 };

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

// Hello and message 1 of a client with this key, as somebody on the path may have kept them.
static void message_1(const struct server *server, int key, uint8_t out[HANDSHAKE_HELLO_1_BYTES])
{
    static const uint8_t psk[1][NOISE_KEY_BYTES];
    char path[128], name[32];
    uint8_t server_key[NOISE_KEY_BYTES];
    struct failure failure = {""};
    struct key_identity *identity = NULL;
    size_t written;
    struct wire_hello hello = {.version = WIRE_VERSION,
                               .suite = NOISE_CHACHAPOLY,
                               .role = WIRE_ROLE_CLIENT,
                               .lane_kind = WIRE_LANE_SOCK,
                               .cluster = "default"};
    (void)snprintf(name, sizeof name, "client-%d.key", key);
    server_path(server, name, path);
    assert_int_equal(keyfile_load(path, &identity, &failure), 0);
    assert_int_equal(keyfile_decode(server->server_key, server_key), 0);
    wire_hello_encode(&hello, out);
    const struct noise_parameters parameters = {
        .pattern = noise_pattern_find(noise_product_pattern),
        .suite = NOISE_CHACHAPOLY,
        .initiator = true,
        .prologue = out,
        .prologue_bytes = WIRE_HELLO_BYTES,
        .static_private = identity->private_key,
        .remote_static = server_key,
        .psks = psk,
        .psk_count = 1,
    };
    struct noise_handshake *noise = noise_handshake_create();
    assert_non_null(noise);
    assert_int_equal(noise_handshake_start(noise, &parameters), 0);
    assert_int_equal(noise_handshake_write(noise, NULL, 0, out + WIRE_HELLO_BYTES,
                                           HANDSHAKE_MESSAGE_1_BYTES, &written),
                     0);
    noise_handshake_destroy(&noise);
    key_identity_destroy(&identity);
}

static unsigned descriptors(const struct server *server)
{
    char path[64];
    unsigned count = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/fd", (int)server->pid);
    DIR *entries = opendir(path);
    if (entries == NULL) {
        return UINT32_MAX; // not ours to look at
    }
    for (const struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        count += entry->d_name[0] != '.';
    }
    (void)closedir(entries);
    return count;
}

// A kept message 1 opens and is authorized, whoever sends it. It must not hold a place against
// those who can go on.
static void test_replays_hold_no_place(void **state)
{
    static int flood[FLOOD];
    struct server *server = *state;
    struct rlimit limit;
    uint8_t replay[HANDSHAKE_HELLO_1_BYTES];
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_max < FLOOD + SPARE) {
        skip(); // too few descriptors on this machine
    }
    limit.rlim_cur = limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    server_start(server);
    message_1(server, 0, replay);
    for (int i = 0; i < FLOOD; i++) {
        flood[i] = connect_from(server, "127.0.0.2");
        (void)send(flood[i], replay, sizeof replay, MSG_NOSIGNAL);
    }
    struct client good = {.instance = 2, .kind = WIRE_LANE_SOCK};
    client_connect(server, &good);
    assert_int_equal(ping(&good), 0);
    for (int i = 0; i < FLOOD; i++) {
        (void)close(flood[i]);
    }
    lane_destroy(&good.lane);
    assert_int_equal(server_stop(server), 0);
}

static bool was_answered(int fd)
{
    uint8_t byte;
    return recv(fd, &byte, 1, 0) == 1;
}

// Many connections are made while the address is in good standing; then all of them fail at once.
// What is beyond its failures is dropped without a key agreement, so without an answer.
static void test_failures_count_for_open_connections(void **state)
{
    struct server *server = *state;
    uint8_t strange[HANDSHAKE_HELLO_1_BYTES];
    int fds[TOGETHER];
    unsigned answered = 0;
    server_start(server);
    message_1(server, 2, strange); // a key that is not authorized: it is told so
    for (int i = 0; i < TOGETHER; i++) {
        fds[i] = connect_from(server, "127.0.0.4");
    }
    for (int i = 0; i < 1000 && descriptors(server) < TOGETHER; i++) {
        (void)poll(NULL, 0, 10);
    }
    int64_t start = deadline_now();
    for (int i = 0; i < TOGETHER; i++) {
        (void)send(fds[i], strange, sizeof strange, MSG_NOSIGNAL);
    }
    for (int i = 0; i < TOGETHER; i++) {
        answered += was_answered(fds[i]);
        (void)close(fds[i]);
    }
    int64_t took_s = (deadline_now() - start) / DEADLINE_NS_PER_S + 1;
    assert_true(answered >= 1);
    assert_true(answered <=
                LIMIT_HANDSHAKE_FAILURES_BURST + took_s * LIMIT_HANDSHAKE_FAILURES_PER_S);
    struct client good = {.instance = 1, .kind = WIRE_LANE_SOCK};
    client_connect(server, &good);
    lane_destroy(&good.lane);
    assert_int_equal(server_stop(server), 0);
}

// The next dsmd has that many descriptors.
static void start_with_few(struct server *server, unsigned count)
{
    char path[128];
    char whole[1024];
    (void)snprintf(whole, sizeof whole, "%s", getenv("DSMD"));
    server_path(server, "few", path);
    FILE *script = fopen(path, "w");
    assert_non_null(script);
    assert_true(fprintf(script, "#!/bin/sh\nulimit -n %u\nexec '%s' \"$@\"\n", count, whole) > 0);
    assert_int_equal(fchmod(fileno(script), 0700), 0);
    assert_int_equal(fclose(script), 0);
    (void)setenv("DSMD", path, 1);
    server_start(server);
    (void)setenv("DSMD", whole, 1);
}

static bool line_is_short_here(void)
{
    char text[32] = "0";
    FILE *file = fopen("/proc/sys/net/core/somaxconn", "r");
    if (file != NULL) {
        (void)fgets(text, sizeof text, file);
        (void)fclose(file);
    }
    return strtoul(text, NULL, 10) < 4096;
}

// More silent connections than a server has descriptors for: they make room for each other, with a
// reset, and no faster than at their pace, though the server could; the last of them, and one who
// has something to say behind them, get in.
static void test_room_is_made_at_a_pace(void **state)
{
    enum { DESCRIPTORS = 256, CROWD = 2500, SURELY_ENDED = CROWD - DESCRIPTORS };
    static int crowd[CROWD];
    struct server *server = *state;
    struct rlimit limit;
    uint8_t byte;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_max < CROWD + SPARE || line_is_short_here()) {
        skip();
    }
    limit.rlim_cur = limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    start_with_few(server, DESCRIPTORS);
    struct client old = {.instance = 1, .kind = WIRE_LANE_SOCK};
    client_connect(server, &old);
    int64_t start = deadline_now();
    for (int i = 0; i < CROWD; i++) { // from an address each: none of them has failed before
        char source[32];
        (void)snprintf(source, sizeof source, "127.1.%d.%d", i / 250 + 1, i % 250 + 1);
        crowd[i] = connect_from(server, source);
    }
    assert_int_equal(recv(crowd[SURELY_ENDED - 1], &byte, 1, 0), -1); // the oldest is the first
    assert_int_equal(errno, ECONNRESET);
    int64_t took_ms = (deadline_now() - start) / (DEADLINE_NS_PER_S / 1000);
    assert_int_equal(ping(&old), 0);
    struct client good = {.instance = 2, .kind = WIRE_LANE_SOCK};
    client_connect(server, &good);
    assert_int_equal(ping(&good), 0);
    for (int i = 0; i < CROWD; i++) {
        (void)close(crowd[i]);
    }
    assert_true((took_ms + 100 + 1) * LIMIT_MADE_ROOM_PER_S / 1000 >= SURELY_ENDED); // 100: slept
    lane_destroy(&good.lane);
    lane_destroy(&old.lane);
    assert_int_equal(server_stop(server), 0);
}

// A client makes as many tiny segments as it may on a server with few descriptors: it is refused in
// good order, others still come in, and the store can be opened again.
static void test_segments_leave_descriptors(void **state)
{
    enum { DESCRIPTORS = 256 };
    struct server *server = *state;
    const struct rlimit few = {.rlim_cur = DESCRIPTORS, .rlim_max = DESCRIPTORS};
    struct client many = {.instance = 1, .kind = WIRE_LANE_SOCK};
    struct client other = {.instance = 2, .key = 1, .kind = WIRE_LANE_SOCK};
    struct opened made;
    enum wire_status status = WIRE_OK;
    unsigned count = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    server_start(server);
    client_connect(server, &many);
    for (; count < 2 * DESCRIPTORS && status == WIRE_OK; count++) {
        char name[32];
        (void)snprintf(name, sizeof name, "tiny-%u", count);
        status = create(&many, name, (uint8_t)(count % 255 + 1), &made);
        if (status == WIRE_OK) {
            assert_int_equal(close_segment(&many, made.id), WIRE_OK);
        }
    }
    assert_int_equal(status, WIRE_TOO_MANY);
    client_connect(server, &other);
    assert_int_equal(ping(&other), 0);
    lane_destroy(&other.lane);
    lane_destroy(&many.lane);
    assert_int_equal(server_stop(server), 0);
    server_start(server);
    other.generation = 2;
    client_connect(server, &other);
    lane_destroy(&other.lane);
    assert_int_equal(server_stop(server), 0);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        (void)setenv("DSMD", argv[1], 1);
    }
#define CASE(name) cmocka_unit_test_setup_teardown(name, server_setup, server_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_replays_hold_no_place), CASE(test_failures_count_for_open_connections),
        CASE(test_room_is_made_at_a_pace),
        CASE(test_segments_leave_descriptors), // the last: the limit stays
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
