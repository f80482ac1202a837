// SPDX-License-Identifier: Apache-2.0
//
// libmicrohttpd, and the only file that knows it. It parses and sends; what bounds the harm that strangers can do is here,
// since /metrics asks nobody who he is and lives in the process that has everybody's pages.
//
//   one thread       our own loop around the library's epoll set, so that time and number of connections are ours to end
//   connections      METRICS_CONNECTIONS at a time. One more ends the oldest: who connects and says nothing keeps nobody out.
//                    A place stays taken until the library has let go, so it has some places more than that.
//   time             METRICS_CONNECTION_MS from accept to the end, however slowly one reads or writes
//   memory           METRICS_REQUEST_BYTES of a request, and one page for all who ask within METRICS_FRESH_MS: who asks in a
//                    loop makes the server work ten times a second and no more, and a hundred slow readers share ten pages
//   requests         one for each connection (Connection: close), so there is nothing to pipeline. GET and HEAD of /metrics.
//
// A connection is ended by shutdown(), after which the library finds its end by itself: it has no call for it.
//
// Rejected: a thread of the library's own (its time-out is of silence, not of all, and when its places are taken, those who
// are silent keep those who are not waiting); an HTTP parser of our own.
//
// Threads: create and destroy by the owner; all else is the thread's own.
#include "metrics/http.h"

#include <errno.h>
#include <microhttpd.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "metrics/listen.h"
#include "metrics/process.h"

enum {
    METRICS_CONNECTIONS = 16,
    METRICS_PLACES = 24,
    METRICS_CONNECTION_MS = 10000,
    METRICS_REQUEST_BYTES = 8 << 10,
    METRICS_FRESH_MS = 100,
    METRICS_TICK_MS = 250,
};

// What was answered; the rest (malformed, too long) the library answers by itself.
enum answer { ANSWER_OK, ANSWER_NOT_FOUND, ANSWER_NOT_ALLOWED, ANSWER_FAILED, ANSWERS };
static const struct {
    unsigned status;
    const char *code, *text;
} answers[ANSWERS] = {
    [ANSWER_OK] = {MHD_HTTP_OK, "200", NULL},
    [ANSWER_NOT_FOUND] = {MHD_HTTP_NOT_FOUND, "404", "Here is only /metrics.\n"},
    [ANSWER_NOT_ALLOWED] = {MHD_HTTP_METHOD_NOT_ALLOWED, "405", "Only GET and HEAD.\n"},
    [ANSWER_FAILED] = {MHD_HTTP_INTERNAL_SERVER_ERROR, "500", "There is no memory for it.\n"},
};

struct place {
    struct MHD_Connection *connection; // NULL: free
    int64_t since_ms;
    bool ended; // by us; the library does not know yet
};

struct metrics_http {
    struct metrics_http_options options;
    struct metrics_socket socket;
    struct MHD_Daemon *daemon;
    struct MHD_Response *fixed[ANSWERS]; // all but ANSWER_OK
    struct MHD_Response *page;           // of page_ms, or NULL
    int64_t page_ms;
    struct place places[METRICS_PLACES];
    unsigned used; // places, of those not ended
    uint64_t answered[ANSWERS];
    uint64_t ended; // connections, before they had their answer
    double start;
    int wake;
    pthread_t thread;
    bool running;
    _Atomic bool stopping;
};

static int64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void end_place(struct metrics_http *http, struct place *place)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(place->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (info != NULL) {
        (void)shutdown(info->connect_fd, SHUT_RDWR);
    }
    place->ended = true;
    http->used--;
    http->ended++;
}

static void end_oldest(struct metrics_http *http)
{
    struct place *oldest = NULL;
    for (size_t i = 0; i < METRICS_PLACES; i++) {
        struct place *place = &http->places[i];
        if (place->connection != NULL && !place->ended &&
            (oldest == NULL || place->since_ms < oldest->since_ms)) {
            oldest = place;
        }
    }
    if (oldest != NULL) {
        end_place(http, oldest);
    }
}

static void end_late(struct metrics_http *http)
{
    int64_t before = now_ms() - METRICS_CONNECTION_MS;
    for (size_t i = 0; i < METRICS_PLACES; i++) {
        struct place *place = &http->places[i];
        if (place->connection != NULL && !place->ended && place->since_ms <= before) {
            end_place(http, place);
        }
    }
}

// The library's word that a connection has begun, or is gone.
static void connection_changed(void *context, struct MHD_Connection *connection, void **ours,
                               enum MHD_ConnectionNotificationCode what)
{
    struct metrics_http *http = context;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        struct place *place = *ours;
        if (place != NULL) {
            http->used -= place->ended ? 0 : 1;
            *place = (struct place){0};
        }
        return;
    }
    if (http->used >= METRICS_CONNECTIONS) {
        end_oldest(http);
    }
    for (size_t i = 0; i < METRICS_PLACES; i++) {
        if (http->places[i].connection == NULL) {
            http->places[i] = (struct place){.connection = connection, .since_ms = now_ms()};
            *ours = &http->places[i];
            http->used++;
            return;
        }
    }
}

static void render_own(struct metrics_http *http, struct metrics_text *text)
{
    char name[96];
    metrics_process(text, http->start);
    (void)snprintf(name, sizeof name, "%s_scrapes_total", http->options.prefix);
    metrics_family(text, name, METRICS_COUNTER, "Answers to requests over HTTP, by their code.");
    for (size_t i = 0; i < ANSWERS; i++) {
        const struct metrics_label label = {"code", answers[i].code};
        metrics_number(text, &label, 1, http->answered[i]);
    }
    (void)snprintf(name, sizeof name, "%s_scrapes_ended_total", http->options.prefix);
    metrics_one(text, name, METRICS_COUNTER,
                "Connections for HTTP that were ended because they took too long, or their place "
                "was needed.",
                (double)http->ended);
}

static struct MHD_Response *make_page(struct metrics_http *http)
{
    struct metrics_text text = {0};
    struct MHD_Response *made = NULL;
    http->options.render(http->options.context, &text);
    render_own(http, &text);
    if (!text.failed) {
        made = MHD_create_response_from_buffer(text.used, text.bytes, MHD_RESPMEM_MUST_FREE);
    }
    if (made == NULL) {
        free(text.bytes);
        return NULL;
    }
    (void)MHD_add_response_header(made, MHD_HTTP_HEADER_CONTENT_TYPE,
                                  "text/plain; version=0.0.4; charset=utf-8");
    (void)MHD_add_response_header(made, MHD_HTTP_HEADER_CONNECTION, "close");
    return made;
}

// NULL: there is no memory. The page stays ours.
static struct MHD_Response *fresh_page(struct metrics_http *http)
{
    int64_t now = now_ms();
    if (http->page != NULL && now - http->page_ms < METRICS_FRESH_MS) {
        return http->page;
    }
    if (http->page != NULL) { // those who still read it keep it
        MHD_destroy_response(http->page);
    }
    http->page = make_page(http);
    http->page_ms = now;
    return http->page;
}

static enum MHD_Result answer(void *context, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *data,
                              size_t *bytes, void **request)
{
    struct metrics_http *http = context;
    struct MHD_Response *response = NULL;
    enum answer kind = ANSWER_OK;
    (void)version, (void)data, (void)bytes, (void)request;
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
        kind = ANSWER_NOT_ALLOWED;
    } else if (strcmp(url, "/metrics") != 0) {
        kind = ANSWER_NOT_FOUND;
    } else {
        response = fresh_page(http);
        kind = response != NULL ? ANSWER_OK : ANSWER_FAILED;
    }
    http->answered[kind]++;
    response = response != NULL ? response : http->fixed[kind];
    return MHD_queue_response(connection, answers[kind].status, response);
}

static void *run(void *context)
{
    struct metrics_http *http = context;
    int library = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    while (!atomic_load(&http->stopping)) {
        MHD_UNSIGNED_LONG_LONG wants = METRICS_TICK_MS;
        struct pollfd wait[] = {{.fd = library, .events = POLLIN},
                                {.fd = http->wake, .events = POLLIN}};
        if (MHD_get_timeout(http->daemon, &wants) != MHD_YES || wants > METRICS_TICK_MS) {
            wants = METRICS_TICK_MS;
        }
        (void)poll(wait, 2, (int)wants);
        (void)MHD_run(http->daemon);
        end_late(http);
    }
    return NULL;
}

static int make_fixed(struct metrics_http *http)
{
    for (size_t i = 0; i < ANSWERS; i++) {
        if (answers[i].text == NULL) {
            continue;
        }
        http->fixed[i] = MHD_create_response_from_buffer(
            strlen(answers[i].text), (char *)(uintptr_t)answers[i].text, MHD_RESPMEM_PERSISTENT);
        if (http->fixed[i] == NULL) {
            return -ENOMEM;
        }
        (void)MHD_add_response_header(http->fixed[i], MHD_HTTP_HEADER_CONTENT_TYPE, "text/plain");
        (void)MHD_add_response_header(http->fixed[i], MHD_HTTP_HEADER_CONNECTION, "close");
    }
    (void)MHD_add_response_header(http->fixed[ANSWER_NOT_ALLOWED], MHD_HTTP_HEADER_ALLOW,
                                  "GET, HEAD");
    return 0;
}

static int make_daemon(struct metrics_http *http)
{
    http->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (http->wake < 0) {
        return -errno;
    }
    http->daemon =
        MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, answer, http, MHD_OPTION_LISTEN_SOCKET,
                         http->socket.fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)METRICS_PLACES,
                         MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)(METRICS_CONNECTION_MS / 1000),
                         MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)METRICS_REQUEST_BYTES,
                         MHD_OPTION_NOTIFY_CONNECTION, connection_changed, http, MHD_OPTION_END);
    if (http->daemon == NULL) {
        return errno != 0 ? -errno : -ENOMEM;
    }
    http->socket.fd = -1; // the daemon's
    return 0;
}

int metrics_http_check(const char *address, struct failure *failure)
{
    return metrics_listen(address, NULL, failure);
}

int metrics_http_create(const struct metrics_http_options *options, struct metrics_http **http,
                        struct failure *failure)
{
    struct metrics_http *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return failure_set(failure, -ENOMEM, "There is no memory for /metrics.");
    }
    made->options = *options;
    made->start = metrics_process_start();
    made->socket.fd = -1;
    made->wake = -1;
    int error = metrics_listen(options->address, &made->socket, failure);
    if (error == 0) {
        error = make_fixed(made);
        error = error == 0 ? make_daemon(made) : error;
        if (error != 0) {
            (void)failure_set(failure, error, "/metrics cannot be served: %s.", strerror(-error));
        }
    }
    if (error != 0) {
        metrics_http_destroy(&made);
        return error;
    }
    *http = made;
    return 0;
}

int metrics_http_start(struct metrics_http *http, struct failure *failure)
{
    int error = -pthread_create(&http->thread, NULL, run, http);
    http->running = error == 0;
    return error == 0
               ? 0
               : failure_set(failure, error, "/metrics cannot be served: %s.", strerror(-error));
}

const char *metrics_http_address(const struct metrics_http *http, bool *local)
{
    *local = http->socket.local;
    return http->socket.address;
}

void metrics_http_destroy(struct metrics_http **http)
{
    struct metrics_http *old = *http;
    if (old == NULL) {
        return;
    }
    if (old->running) {
        atomic_store(&old->stopping, true);
        (void)eventfd_write(old->wake, 1);
        (void)pthread_join(old->thread, NULL);
    }
    if (old->daemon != NULL) {
        MHD_stop_daemon(old->daemon); // which closes the socket that it was given
    }
    for (size_t i = 0; i < ANSWERS; i++) {
        if (old->fixed[i] != NULL) {
            MHD_destroy_response(old->fixed[i]);
        }
    }
    if (old->page != NULL) {
        MHD_destroy_response(old->page);
    }
    if (old->socket.fd >= 0) {
        (void)close(old->socket.fd);
    }
    if (old->wake >= 0) {
        (void)close(old->wake);
    }
    free(old);
    *http = NULL;
}
