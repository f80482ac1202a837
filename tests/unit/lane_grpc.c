// SPDX-License-Identifier: Apache-2.0
//
// lane_grpc against the server's own front: what every lane does, over a socket pair and over
// loopback TCP; CLOSE, a deadline that passes, shut from another thread, and a server that goes
// away.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc/deadline.h"
#include "rpc/lane_server.h"
#include "rpc/noise_pair.h"
#include "tests/unit/lane_exercise.h"

enum { GATE = 77 }; // a PING of this segment is not answered before the gate opens

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool gate_open;   // under the lock
static int at_gate;      // under the lock
static int closed_count; // under the lock
static int closed_reason;

static void wait_until_set(const int *what)
{
    pthread_mutex_lock(&lock);
    while (*what == 0) {
        pthread_cond_wait(&changed, &lock);
    }
    pthread_mutex_unlock(&lock);
}

static void wait_at_gate(void)
{
    pthread_mutex_lock(&lock);
    at_gate = 1;
    pthread_cond_broadcast(&changed);
    while (!gate_open) {
        pthread_cond_wait(&changed, &lock);
    }
    pthread_mutex_unlock(&lock);
}

static void open_gate(void)
{
    pthread_mutex_lock(&lock);
    gate_open = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void message(void *user, struct lane_peer *peer, const struct wire_header *request,
                    const uint8_t *payload)
{
    (void)user;
    struct wire_header answer;
    uint8_t *data = malloc(LIMIT_RUN_BYTES);
    const struct iovec piece = {data, LIMIT_RUN_BYTES};
    if (request->segment == GATE) {
        wait_at_gate();
    }
    (void)exercise_answer(NULL, request, payload, &answer, data);
    (void)lane_peer_answer(peer, &answer, &piece, 1);
    free(data);
}

static void closed(void *user, int reason)
{
    (void)user;
    pthread_mutex_lock(&lock);
    closed_reason = reason;
    closed_count++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static const struct lane_service service = {.message = message, .closed = closed};
static struct lane_front *front;

static int start_front(void **state)
{
    (void)state;
    lane_grpc_library_get();
    front = lane_grpc_front_create(&service, 2);
    gate_open = false;
    at_gate = 0;
    closed_count = 0;
    return front == NULL;
}

static int stop_front(void **state)
{
    (void)state;
    open_gate();
    if (front != NULL) {
        front->ops->stop(front);
        front = NULL;
    }
    lane_grpc_library_put();
    return 0;
}

static void tcp_pair(int fds[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, bytes), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &bytes), 0);
    fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fds[0], (struct sockaddr *)&address, bytes), 0);
    fds[1] = accept(listener, NULL, NULL);
    assert_true(fds[1] >= 0);
    close(listener);
}

static struct lane *connect_lane(bool tcp)
{
    struct noise_pair pair;
    struct lane_peer *peer;
    int fds[2];
    if (tcp) {
        tcp_pair(fds);
    } else {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    }
    assert_int_equal(noise_pair_create(&pair, NOISE_CHACHAPOLY), 0);
    assert_int_equal(front->ops->add(front, fds[1], pair.send[1], pair.receive[1], NULL, &peer), 0);
    struct lane *lane = lane_grpc_create(fds[0], pair.send[0], pair.receive[0]);
    assert_non_null(lane);
    return lane;
}

static void does_what_lanes_do(void **state)
{
    (void)state;
    void (*const exercises[])(struct lane *) = {exercise_reads, exercise_writes,
                                                exercise_pipelining, exercise_leftovers,
                                                exercise_refusals};
    for (int tcp = 0; tcp < 2; tcp++) {
        for (size_t i = 0; i < sizeof exercises / sizeof *exercises; i++) {
            struct lane *lane = connect_lane(tcp);
            exercises[i](lane);
            lane_destroy(&lane);
        }
    }
}

static void destroy_says_close(void **state)
{
    (void)state;
    struct lane *lane = connect_lane(true);
    struct wire_header request = exercise_request(WIRE_PING, 0, 0, 0), answer;
    assert_int_equal(lane->ops->send(lane, &request, NULL, 0, LANE_NO_DEADLINE), 0);
    assert_int_equal(lane->ops->receive(lane, &answer, LANE_NO_DEADLINE), 0);
    assert_int_equal(lane->counts.sent_bytes, WIRE_HEADER_SEALED_BYTES);
    assert_int_equal(lane->counts.received_bytes, WIRE_HEADER_SEALED_BYTES);
    lane_destroy(&lane);
    wait_until_set(&closed_count);
    assert_int_equal(closed_reason, -ESHUTDOWN);
}

static void send_gated_ping(struct lane *lane)
{
    struct wire_header request = exercise_request(WIRE_PING, 0, 0, 0);
    request.segment = GATE;
    assert_int_equal(lane->ops->send(lane, &request, NULL, 0, LANE_NO_DEADLINE), 0);
}

static void a_late_answer_is_too_late(void **state)
{
    (void)state;
    struct lane *lane = connect_lane(false);
    struct wire_header request = exercise_request(WIRE_PING, 0, 0, 0), answer;
    send_gated_ping(lane);
    int64_t deadline = deadline_now() + 30 * DEADLINE_NS_PER_MS;
    assert_int_equal(lane->ops->receive(lane, &answer, deadline), -ETIMEDOUT);
    assert_true(deadline_now() >= deadline);
    open_gate();
    assert_int_equal(lane->ops->receive(lane, &answer, LANE_NO_DEADLINE), -ENOTCONN);
    assert_int_equal(lane->ops->send(lane, &request, NULL, 0, LANE_NO_DEADLINE), -ENOTCONN);
    lane_destroy(&lane);
}

static void *shut_thread(void *argument)
{
    struct lane *lane = argument;
    wait_until_set(&at_gate); // the owner has sent: it waits, or is about to
    lane->ops->shut(lane);
    return NULL;
}

static void shut_wakes_the_owner(void **state)
{
    (void)state;
    struct lane *lane = connect_lane(false);
    struct wire_header answer;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, shut_thread, lane), 0);
    send_gated_ping(lane);
    assert_int_equal(lane->ops->receive(lane, &answer, LANE_NO_DEADLINE), -ENOTCONN);
    pthread_join(thread, NULL);
    open_gate();
    assert_int_equal(lane->ops->receive(lane, &answer, LANE_NO_DEADLINE), -ENOTCONN);
    lane_destroy(&lane);
}

static void a_server_that_goes_away_is_a_cut(void **state)
{
    (void)state;
    struct lane *lane = connect_lane(true);
    struct wire_header request = exercise_request(WIRE_PING, 0, 0, 0), answer;
    assert_int_equal(lane->ops->send(lane, &request, NULL, 0, LANE_NO_DEADLINE), 0);
    assert_int_equal(lane->ops->receive(lane, &answer, LANE_NO_DEADLINE), 0);
    front->ops->stop(front);
    front = NULL;
    request.request++;
    int error = lane->ops->send(lane, &request, NULL, 0, LANE_NO_DEADLINE);
    if (error == 0) { // it had not noticed yet
        error = lane->ops->receive(lane, &answer, LANE_NO_DEADLINE);
    }
    assert_int_equal(error, -ECONNRESET);
    lane_destroy(&lane);
}

// Ciphers that do not belong together: no answer is believed, and none comes.
static void strangers_do_not_understand_each_other(void **state)
{
    (void)state;
    struct noise_pair one, two;
    struct lane_peer *peer;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(noise_pair_create(&one, NOISE_CHACHAPOLY), 0);
    assert_int_equal(noise_pair_create(&two, NOISE_CHACHAPOLY), 0);
    assert_int_equal(front->ops->add(front, fds[1], one.send[1], one.receive[1], NULL, &peer), 0);
    struct lane *lane = lane_grpc_create(fds[0], two.send[0], two.receive[0]);
    struct wire_header request = exercise_request(WIRE_PING, 0, 0, 0), answer;
    assert_int_equal(lane->ops->send(lane, &request, NULL, 0, LANE_NO_DEADLINE), 0);
    assert_int_equal(lane->ops->receive(lane, &answer, LANE_NO_DEADLINE), -ECONNRESET);
    wait_until_set(&closed_count);
    assert_int_equal(closed_reason, -EBADMSG);
    lane_destroy(&lane);
    for (int i = 0; i < 2; i++) { // what nobody took over
        noise_cipher_destroy(i == 0 ? &one.send[0] : &one.receive[0]);
        noise_cipher_destroy(i == 0 ? &two.send[1] : &two.receive[1]);
    }
}

// What a peer of HTTP/2 says that lets megabytes come, and then reads none of them: its SETTINGS, and a larger window.
static void a_server_that_takes_nothing_holds_nobody(void **state)
{
    (void)state;
    static const uint8_t welcome[] = {0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0,
                                      0, 0, 0, 4, 8, 0, 0, 0, 0, 0, 1, 0, 0, 0};
    struct noise_pair pair;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(write(fds[1], welcome, sizeof welcome), sizeof welcome);
    assert_int_equal(noise_pair_create(&pair, NOISE_CHACHAPOLY), 0);
    struct lane *lane = lane_grpc_create(fds[0], pair.send[0], pair.receive[0]);
    assert_non_null(lane);
    struct wire_header request = exercise_request(WIRE_WRITE, 0, LIMIT_RUN_BYTES / 4096, 0), answer;
    struct iovec piece = {calloc(1, LIMIT_RUN_BYTES), LIMIT_RUN_BYTES};
    request.length = LIMIT_RUN_BYTES;
    for (uint32_t i = 0; i < request.count; i++) {
        wire_map_set(request.map, i);
    }
    assert_int_equal(lane->ops->send(lane, &request, &piece, 1, LANE_NO_DEADLINE), 0);
    int64_t deadline = deadline_after_ms(300);
    assert_int_equal(lane->ops->receive(lane, &answer, deadline), -ETIMEDOUT);
    (void)alarm(60); // for ever would be
    lane_destroy(&lane);
    (void)alarm(0);
    free(piece.iov_base);
    (void)close(fds[1]);
    noise_cipher_destroy(&pair.send[1]);
    noise_cipher_destroy(&pair.receive[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(does_what_lanes_do, start_front, stop_front),
        cmocka_unit_test_setup_teardown(destroy_says_close, start_front, stop_front),
        cmocka_unit_test_setup_teardown(a_late_answer_is_too_late, start_front, stop_front),
        cmocka_unit_test_setup_teardown(shut_wakes_the_owner, start_front, stop_front),
        cmocka_unit_test_setup_teardown(a_server_that_goes_away_is_a_cut, start_front, stop_front),
        cmocka_unit_test_setup_teardown(a_server_that_takes_nothing_holds_nobody, start_front,
                                        stop_front),
        cmocka_unit_test_setup_teardown(strangers_do_not_understand_each_other, start_front,
                                        stop_front),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
