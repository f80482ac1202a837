// SPDX-License-Identifier: Apache-2.0
//
// dsmd: starts, waits for signals, stops.
//
// Everything that can be wrong is looked at before the first client can connect, and ends the
// process with one sentence and exit code 1: settings, keys, addresses, the store (in use, too big,
// of another version, without room). After READY only signals end it.
//
//   SIGTERM, SIGINT  drain: accept nothing, finish the requests in hand, close the store cleanly
//   SIGHUP           read the configuration and the authorized file again; when one of them is bad,
//                    nothing changes. What can change is marked RELOAD in settings.def.
//
// Before READY the process gives up its capabilities and the system calls that it needs no more (sandbox.c).
//
// Threads, fixed in number: this one (signals, leases), the listener, the fronts' own, one for
// /metrics where that is asked for, and what gRPC brings along. Signals are blocked before the first of them starts and read from a signalfd
// here.
//
// No dump and no core of this process: its memory holds keys and other people's pages.
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "server/clock.h"
#include "server/config.h"
#include "server/embedded.h"
#include "server/listener.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/ready.h"
#include "server/room.h"
#include "server/sandbox.h"
#include "server/service.h"

enum { DAEMON_STOP_S = 20, DAEMON_TICK_MS = 1000 };

struct daemon {
    struct config config;
    struct failure failure;
    struct log *log;
    struct key_identity *identity;
    struct key_identity *psk_file; // its private half is the key
    struct key_grants *grants;
    struct store *store;
    struct service *service;
    struct listener *listener;
    struct embedded *embedded;  // NULL: a server of its own
    struct spin_share spinning; // of the sock front's threads
    _Atomic uint64_t waits_spun, waits_slept;
    struct lane_front *sock_front, *grpc_front;
    struct metrics *metrics; // NULL: not asked for
    int signals;
    int threads, grpc_threads;
    int argc;
    char **argv; // read again with the configuration
};

// argp in libc looks for this name, so it must be seen from there.
__attribute__((visibility("default"))) const char *argp_program_version = "dsmd " DSM_VERSION;

// The alarm of stop().
static void stop_now(int signal)
{
    static const char text[] = "dsmd: error: requests did not end in time; stopped without closing "
                               "the store, which has all that was acknowledged\n";
    (void)signal;
    ssize_t written = write(STDERR_FILENO, text, sizeof text - 1);
    (void)written;
    _exit(EXIT_FAILURE);
}

static int guard_process(struct daemon *daemon)
{
    const struct rlimit none = {0};
    const struct rlimit unlimited = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
    struct rlimit descriptors, locked;
    sigset_t set;
    (void)setrlimit(RLIMIT_CORE, &none);
    if (setrlimit(RLIMIT_MEMLOCK, &unlimited) != 0 && getrlimit(RLIMIT_MEMLOCK, &locked) == 0) {
        locked.rlim_cur = locked.rlim_max; // keys of connections lie in locked memory
        (void)setrlimit(RLIMIT_MEMLOCK, &locked);
    }
#if !defined(__SANITIZE_ADDRESS__) // its leak check needs to trace the process
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
    if (getrlimit(RLIMIT_NOFILE, &descriptors) == 0) {
        descriptors.rlim_cur = descriptors.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &descriptors);
    }
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGHUP);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGALRM, stop_now);
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
    daemon->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return daemon->signals >= 0 ? 0
                                : failure_set(&daemon->failure, -errno, "There is no signalfd: %s.",
                                              strerror(errno));
}

static int require(struct daemon *daemon, const char *value, const char *option)
{
    return value[0] != '\0' ? 0
                            : failure_set(&daemon->failure, -EINVAL,
                                          "The setting %s is missing: say --%s, or %s = ... in "
                                          "the configuration file.",
                                          option, option, option);
}

static int require_files(struct daemon *daemon)
{
    const struct config *config = &daemon->config;
    int error = require(daemon, config->store, "store");
    error = error == 0 ? require(daemon, config->key, "key") : error;
    return error == 0 ? require(daemon, config->authorized, "authorized") : error;
}

static int check_settings(struct daemon *daemon)
{
    const struct config *config = &daemon->config;
    if (strlen(config->cluster) >= LIMIT_CLUSTER_NAME_BYTES ||
        strlen(config->name) >= LIMIT_SERVER_NAME_BYTES) {
        return failure_set(&daemon->failure, -EINVAL, "cluster or name is too long.");
    }
    int error = config->embedded != 0 ? 0 : require_files(daemon);
    if (error != 0) {
        return error;
    }
    enum log_level level;
    daemon->log = log_level_parse(config->log_level, &level) == 0 ? log_create(level) : NULL;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    daemon->threads = config->threads != 0 ? (int)config->threads
                      : processors > 256   ? 256
                                           : (int)(processors > 0 ? processors : 1);
    daemon->grpc_threads = (int)config->grpc_threads;
    return daemon->log != NULL ? 0 : failure_set(&daemon->failure, -ENOMEM, "No memory.");
}

static int load_keys(struct daemon *daemon)
{
    const struct config *config = &daemon->config;
    if (noise_init() != 0) {
        return failure_set(&daemon->failure, -EIO, "libsodium could not be started.");
    }
    if (daemon->embedded != NULL) {
        return embedded_keys(daemon->embedded, &daemon->identity, &daemon->grants,
                             &daemon->failure);
    }
    int error = keyfile_load(config->key, &daemon->identity, &daemon->failure);
    if (error == 0 && config->psk_file[0] != '\0') {
        error = keyfile_load(config->psk_file, &daemon->psk_file, &daemon->failure);
    }
    return error != 0 ? error
                      : key_grants_load(config->authorized, &daemon->grants, &daemon->failure);
}

static bool serves_metrics(const struct daemon *daemon)
{
    return daemon->config.metrics[0] != '\0' && daemon->embedded == NULL;
}

static int check_addresses(struct daemon *daemon)
{
    const struct config_list *list = &daemon->config.listen;
    int error = 0;
    for (size_t i = 0; i < list->count && error == 0 && daemon->embedded == NULL; i++) {
        error = listener_check(list->items[i], &daemon->failure);
    }
    if (error == 0 && serves_metrics(daemon)) {
        error = metrics_http_check(daemon->config.metrics, &daemon->failure);
    }
    return error;
}

static int open_store(struct daemon *daemon)
{
    const struct config *config = &daemon->config;
    const char *directory = config->store;
    uint64_t capacity = config->capacity;
    int error = 0;
    if (daemon->embedded != NULL) {
        directory = embedded_directory(daemon->embedded);
        capacity = embedded_capacity(daemon->embedded);
    } else if (capacity == 0) {
        error = room_default(directory, &capacity, &daemon->failure);
    }
    const struct store_options options = {
        .directory = directory,
        .capacity_bytes = capacity,
        .durability = strcmp(config->durability, "power") == 0 ? STORE_DURABILITY_POWER
                                                               : STORE_DURABILITY_PROCESS,
        .threads = daemon->threads + daemon->grpc_threads + 1,
        .create = !config->check,
    };
    error = error != 0 ? error : store_open(&options, &daemon->store, &daemon->failure);
    if (error == 0 && daemon->embedded == NULL) {
        room_warn(directory, daemon->store, daemon->log);
    }
    return error;
}

static int make_fronts(struct daemon *daemon)
{
    uint64_t spin = SPIN_OFF;
    (void)setting_parse_choice("auto|off|on", daemon->config.spin,
                               &spin); // checked when it was read
    spin_share_init(&daemon->spinning, (enum spin_way)spin, &daemon->waits_spun,
                    &daemon->waits_slept);
    daemon->sock_front = lane_sock_front_create(&service_calls, daemon->threads, &daemon->spinning);
    if (daemon->sock_front != NULL) {
        daemon->grpc_front = lane_grpc_front_create(&service_calls, daemon->grpc_threads);
    }
    return daemon->grpc_front != NULL
               ? 0
               : failure_set(&daemon->failure, -errno, "The fronts could not be started: %s.",
                             strerror(errno));
}

static int serve(struct daemon *daemon)
{
    const struct config *config = &daemon->config;
    int error = daemon->embedded != NULL
                    ? listener_create_embedded(embedded_control(daemon->embedded),
                                               &daemon->listener, &daemon->failure)
                    : listener_create(config->listen.items, config->listen.count, &daemon->listener,
                                      &daemon->failure);
    error = error == 0 ? sandbox_drop(&daemon->failure) : error;
    if (error != 0) {
        return error;
    }
    const struct service_options service = {
        .store = daemon->store,
        .lease_ms = (int64_t)config->lease_ms,
        .server_name = config->name,
        .wake = listener_wake,
        .wake_context = daemon->listener,
        .log = daemon->log,
    };
    if (service_create(&service, &daemon->grants, &daemon->service) != 0) {
        return failure_set(&daemon->failure, -ENOMEM, "There is no memory for the catalog.");
    }
    error = make_fronts(daemon);
    if (error != 0) {
        return error;
    }
    const struct listener_options listener = {
        .service = daemon->service,
        .sock_front = daemon->sock_front,
        .grpc_front = daemon->grpc_front,
        .identity = daemon->identity,
        .psk = daemon->psk_file != NULL ? daemon->psk_file->private_key : NULL,
        .cluster = config->cluster,
        .name = config->name,
        .log = daemon->log,
    };
    error = listener_start(daemon->listener, &listener);
    return error == 0 ? 0
                      : failure_set(&daemon->failure, error, "The listener could not be started.");
}

static int serve_metrics(struct daemon *daemon)
{
    const struct metrics_options options = {
        .address = daemon->config.metrics,
        .name = daemon->config.name,
        .cluster = daemon->config.cluster,
        .service = daemon->service,
        .store = daemon->store,
        .listener = daemon->listener,
        .spinning = &daemon->spinning,
        .log = daemon->log,
    };
    return serves_metrics(daemon) ? metrics_create(&options, &daemon->metrics, &daemon->failure)
                                  : 0;
}

static void log_start(struct daemon *daemon)
{
    struct store_facts facts;
    store_facts(daemon->store, &facts);
    log_line(daemon->log, LOG_LEVEL_INFO,
             "\"%s\" of cluster \"%s\" listens on port %u, store %s (%llu MiB, %llu MiB stored%s)",
             daemon->config.name, daemon->config.cluster, listener_port(daemon->listener),
             daemon->config.store, (unsigned long long)(facts.capacity_bytes >> 20),
             (unsigned long long)(facts.stored_bytes >> 20),
             facts.clean ? "" : ", last stop was not clean");
    log_line(daemon->log, LOG_LEVEL_DEBUG,
             "spin = %s: at most %u of the threads for direct lanes look for requests at a time",
             daemon->config.spin,
             daemon->spinning.way == SPIN_OFF  ? 0
             : daemon->spinning.way == SPIN_ON ? (unsigned)daemon->threads
                                               : daemon->spinning.most);
    log_line(
        daemon->log, LOG_LEVEL_DEBUG,
        "%d threads: main, listener, %d for direct lanes, %d for gRPC lanes, %d for /metrics, and "
        "gRPC's own",
        ready_thread_count(), daemon->threads, daemon->grpc_threads,
        daemon->metrics != NULL ? 1 : 0);
}

// What the new configuration may change, changes.
static void apply(struct daemon *daemon, struct config *next, struct key_grants **grants)
{
    char later[256];
    enum log_level level;
    config_exchange(&daemon->config, next, later, sizeof later);
    service_regrant(daemon->service, grants);
    if (log_level_parse(daemon->config.log_level, &level) == 0) {
        log_set_level(daemon->log, level);
    }
    log_line(daemon->log, LOG_LEVEL_INFO, "SIGHUP: read %s%s%s again", daemon->config.path,
             daemon->config.path[0] != '\0' ? " and " : "", daemon->config.authorized);
    if (later[0] != '\0') {
        log_line(daemon->log, LOG_LEVEL_WARNING,
                 "SIGHUP: these settings have changed and count after a restart: %s", later);
    }
}

static void reload(struct daemon *daemon)
{
    struct config next;
    struct key_grants *grants = NULL;
    struct failure failure = {.text = ""};
    if (daemon->embedded != NULL) {
        return; // it has neither file
    }
    ready_reloading();
    int error = config_read(&next, daemon->argc, daemon->argv, &failure);
    error = error == 0 ? key_grants_load(next.authorized, &grants, &failure) : error;
    if (error == 0) {
        apply(daemon, &next, &grants);
    } else {
        log_line(daemon->log, LOG_LEVEL_ERROR, "SIGHUP: nothing was changed: %s", failure.text);
    }
    metrics_reloaded(daemon->metrics, error == 0);
    config_clear(&next);
    ready_reloaded();
}

static bool wait_a_while(struct daemon *daemon)
{
    if (daemon->embedded != NULL) {
        return embedded_wait(daemon->embedded, daemon->signals, DAEMON_TICK_MS);
    }
    struct pollfd wait = {.fd = daemon->signals, .events = POLLIN};
    (void)poll(&wait, 1, DAEMON_TICK_MS);
    return false;
}

// Until SIGTERM or SIGINT, or the end of the program that embeds this server.
static void wait_for_signals(struct daemon *daemon)
{
    for (;;) {
        struct signalfd_siginfo info;
        if (wait_a_while(daemon)) {
            return;
        }
        service_expire(daemon->service, clock_now_ms());
        while (read(daemon->signals, &info, sizeof info) == (ssize_t)sizeof info) {
            if (info.ssi_signo != SIGHUP) {
                return;
            }
            reload(daemon);
        }
    }
}

// In the order in which one uses the other. Should a front not end, the alarm does; the store is
// then as after a crash of the process, which loses nothing. Closing the store has no bound: on a
// disk it writes what the kernel still holds, and without that a reboot would refuse the store.
static int stop(struct daemon *daemon)
{
    int error = 0;
    (void)alarm(DAEMON_STOP_S);
    if (daemon->service != NULL) {
        service_drain(daemon->service);
    }
    if (daemon->listener != NULL) {
        listener_stop(daemon->listener);
    }
    if (daemon->sock_front != NULL) {
        daemon->sock_front->ops->stop(daemon->sock_front);
    }
    if (daemon->grpc_front != NULL) {
        daemon->grpc_front->ops->stop(daemon->grpc_front);
    }
    metrics_destroy(&daemon->metrics); // so long it shows that requests are finished
    (void)alarm(0);
    listener_destroy(&daemon->listener);
    service_destroy(&daemon->service);
    if (daemon->store != NULL) {
        error = store_close(&daemon->store);
    }
    embedded_destroy(&daemon->embedded);
    key_grants_destroy(&daemon->grants);
    key_identity_destroy(&daemon->psk_file);
    key_identity_destroy(&daemon->identity);
    return error;
}

static int check(struct daemon *daemon)
{
    int error = store_check(daemon->store, &daemon->failure);
    if (error == 0) {
        log_line(daemon->log, LOG_LEVEL_INFO,
                 "the configuration%s%s, the files named and the store are in order",
                 daemon->config.path[0] != '\0' ? " " : "", daemon->config.path);
    }
    return error;
}

// The service manager of a program that embeds this server is the program's business.
static void say_ready(struct daemon *daemon)
{
    if (daemon->embedded != NULL) {
        embedded_say_ready(daemon->embedded, daemon->identity);
    } else {
        ready_say((int)daemon->config.ready_fd, listener_port(daemon->listener));
    }
}

static void say_stopping(struct daemon *daemon)
{
    if (daemon->embedded == NULL) {
        ready_stopping();
    }
}

static int work(struct daemon *daemon)
{
    int error = check_settings(daemon);
    if (error == 0 && daemon->config.embedded != 0) {
        error = embedded_begin((int)daemon->config.embedded, &daemon->embedded, &daemon->failure);
    }
    error = error == 0 ? guard_process(daemon) : error;
    error = error == 0 ? load_keys(daemon) : error;
    error = error == 0 ? check_addresses(daemon) : error;
    error = error == 0 ? open_store(daemon) : error;
    if (error != 0 || daemon->config.check) {
        return error != 0 ? error : check(daemon);
    }
    error = serve(daemon);
    error = error == 0 ? serve_metrics(daemon) : error;
    error = error == 0 ? sandbox_enter(daemon->config.seccomp, &daemon->failure) : error;
    if (error != 0) {
        return error;
    }
    log_start(daemon);
    say_ready(daemon);
    wait_for_signals(daemon);
    say_stopping(daemon);
    log_line(daemon->log, LOG_LEVEL_INFO, "stopping");
    return 0;
}

static void say_failed(struct daemon *daemon, int error, const char *text)
{
    log_line(daemon->log, LOG_LEVEL_ERROR, "%s", text);
    if (daemon->embedded != NULL) {
        embedded_say_failed(daemon->embedded, text);
    } else {
        ready_failed(error, text);
    }
}

int main(int argc, char **argv)
{
    struct daemon daemon = {.signals = -1, .argc = argc, .argv = argv};
    int error = config_read(&daemon.config, argc, argv, &daemon.failure);
    if (error == 0) {
        error = work(&daemon);
    }
    if (error != 0) {
        say_failed(&daemon, error,
                   daemon.failure.text[0] != '\0' ? daemon.failure.text : strerror(-error));
    }
    bool served = error == 0 && !daemon.config.check;
    int closed = stop(&daemon);
    if (closed != 0) {
        log_line(daemon.log, LOG_LEVEL_ERROR, "The store could not be closed cleanly: %s.",
                 strerror(-closed));
        error = error != 0 ? error : closed;
    } else if (served) {
        log_line(daemon.log, LOG_LEVEL_INFO, "stopped; the store is closed");
    }
    log_destroy(&daemon.log);
    config_clear(&daemon.config);
    return error == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
