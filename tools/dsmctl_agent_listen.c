// SPDX-License-Identifier: Apache-2.0
//
// The agent's ears: one thread, which takes connections through the handshake, a bounded number at a time and each with a deadline,
// says who may come in, and gives each that may to a process of its own. A stranger costs a descriptor and a small fixed record, and
// the oldest silent one goes when those are used up. Here nothing is started and no file is looked for.
//
// A process for a move and its task, not a thread: what goes wrong there ends there, and a task goes on when the agent is ended or
// replaced (KillMode=process). Those that an earlier agent left behind are not counted against `tasks`.
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rpc/deadline.h"
#include "rpc/handshake.h"
#include "server/ready.h"
#include "tools/dsmctl_agent.h"

enum { SOCKETS = 2 * AGENT_LIST_MOST, PENDING = 32, PEER_BYTES = 64, REST_MS = 100 };

struct pending {
    int fd; // -1: free
    struct handshake *handshake;
    int64_t since, deadline;
    char peer[PEER_BYTES], principal[LIMIT_PRINCIPAL_NAME_BYTES];
    short events;
};

struct agent {
    struct agent_config *config;
    struct key_identity *identity, *psk; // psk NULL: none
    struct key_grants *grants;
    struct handshake_slot *slot;
    int sockets[SOCKETS];
    unsigned socket_count, tasks;
    uint16_t port;
    int signals;
    int64_t rests_until; // nobody is accepted before
    bool ending;
    struct pending pending[PENDING];
};

// ---- addresses

static uint16_t port_of(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
    } bound = {0};
    socklen_t bytes = sizeof bound;
    (void)getsockname(fd, &bound.any, &bytes);
    return ntohs(bound.any.sa_family == AF_INET6 ? bound.in6.sin6_port : bound.in4.sin_port);
}

static int bind_one(struct agent *agent, const struct addrinfo *info)
{
    int on = 1, off = 0;
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || agent->socket_count == SOCKETS) {
        return fd < 0 ? -errno : -EMFILE;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, info->ai_addr, info->ai_addrlen) != 0 || listen(fd, PENDING) != 0) {
        int error = -errno;
        (void)close(fd);
        return error;
    }
    agent->sockets[agent->socket_count++] = fd;
    agent->port = agent->port != 0 ? agent->port : port_of(fd);
    return 0;
}

static int bind_address(struct agent *agent, const char *address, struct failure *failure)
{
    const struct addrinfo hints = {
        .ai_flags = AI_PASSIVE, .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    char host[256], port[8];
    if (mover_split(address, host, port) != 0) {
        return failure_set(failure, -EINVAL, "listen = %s: it must be HOST:PORT or [IPV6]:PORT.",
                           address);
    }
    int lookup = getaddrinfo(host, port, &hints, &found);
    if (lookup != 0) {
        return failure_set(failure, -EINVAL, "listen = %s: %s.", address, gai_strerror(lookup));
    }
    int error = bind_one(agent, found); // of a name, its first address
    freeaddrinfo(found);
    if (error == -EAFNOSUPPORT && strcmp(host, "::") == 0 &&
        getaddrinfo("0.0.0.0", port, &hints, &found) == 0) { // a kernel without IPv6
        error = bind_one(agent, found);
        freeaddrinfo(found);
    }
    return error == 0 ? 0
                      : failure_set(failure, error, "Cannot listen on %s: %s.", address,
                                    error == -EADDRINUSE ? "another process listens there already"
                                                         : strerror(-error));
}

// ---- connections

static void drop(struct pending *p)
{
    handshake_end(p->handshake);
    if (p->fd >= 0) {
        (void)close(p->fd);
    }
    p->fd = -1;
}

static struct pending *free_place(struct agent *agent)
{
    struct pending *oldest = &agent->pending[0];
    for (unsigned i = 0; i < PENDING; i++) {
        struct pending *p = &agent->pending[i];
        if (p->fd < 0) {
            return p;
        }
        oldest = p->since < oldest->since ? p : oldest;
    }
    drop(oldest);
    return oldest;
}

static void accept_one(struct agent *agent, int listener)
{
    struct sockaddr_storage from;
    socklen_t bytes = sizeof from;
    char host[48] = "?";
    int on = 1;
    int fd = accept4(listener, (struct sockaddr *)&from, &bytes, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        bool scarce = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
        agent->rests_until = scarce ? deadline_after_ms(REST_MS) : agent->rests_until;
        return; // who came still waits there: asked again at once, the answer would be the same
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    (void)getnameinfo((struct sockaddr *)&from, bytes, host, sizeof host, NULL, 0, NI_NUMERICHOST);
    struct pending *p = free_place(agent);
    struct handshake *handshake = p->handshake;
    *p = (struct pending){.fd = fd, .handshake = handshake, .events = POLLIN};
    p->since = deadline_now();
    p->deadline = p->since + (int64_t)LIMIT_HANDSHAKE_MS * DEADLINE_NS_PER_MS;
    (void)snprintf(p->peer, sizeof p->peer, "%s", host);
    handshake_start(handshake, fd);
}

static enum wire_status judge(const struct agent *agent, struct pending *p, char *text,
                              size_t bytes)
{
    const struct wire_hello *hello = handshake_hello(p->handshake);
    const struct key_grant *grant =
        key_grants_find(agent->grants, handshake_client_key(p->handshake));
    if (grant == NULL) {
        (void)snprintf(text, bytes,
                       "This key is not in the agent's authorized file: its operator adds the .pub "
                       "file with dsmctl authorize.");
        return WIRE_UNAUTHORIZED;
    }
    (void)snprintf(p->principal, sizeof p->principal, "%s", grant->principal);
    if (hello->role != WIRE_ROLE_MOVER) {
        (void)snprintf(text, bytes, "This is a host's agent, not a memory server.");
        return WIRE_WRONG_SERVER;
    }
    if (strcmp(hello->cluster, agent->config->cluster) != 0) {
        (void)snprintf(text, bytes, "This host belongs to cluster \"%.63s\": set DSM_CLUSTER.",
                       agent->config->cluster);
        return WIRE_WRONG_CLUSTER;
    }
    if ((grant->rights & KEY_RIGHT_MIGRATE) == 0) {
        (void)snprintf(text, bytes,
                       "This key has no right to migrate to this host: its line in the agent's "
                       "authorized file needs rights=migrate.");
        return WIRE_NOT_ALLOWED;
    }
    if (agent->tasks >= agent->config->tasks) {
        (void)snprintf(text, bytes, "This host is full: it has %u tasks, as many as it may.",
                       agent->tasks);
        return WIRE_TOO_MANY;
    }
    return WIRE_OK;
}

static enum handshake_state open_and_judge(struct agent *agent, struct pending *p)
{
    char text[WIRE_ATTACHED_BYTES] = "";
    enum handshake_state state =
        handshake_open(p->handshake, agent->slot, agent->identity,
                       agent->psk != NULL ? agent->psk->private_key : NULL);
    if (state != HANDSHAKE_KNOWN) {
        return state;
    }
    enum wire_status status = judge(agent, p, text, sizeof text);
    if (status != WIRE_OK) {
        agent_log(AGENT_WARNING, "refused %s at %s: %s", p->principal[0] != 0 ? p->principal : "?",
                  p->peer, text);
    }
    return handshake_verdict(p->handshake, status, status == WIRE_OK ? NULL : text);
}

// In the new process.
static int serve(struct agent *agent, struct pending *p, struct mover_link *link)
{
    char who[PEER_BYTES + LIMIT_PRINCIPAL_NAME_BYTES + 8];
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)setsid();
    (void)snprintf(who, sizeof who, "%s at %s", p->principal, p->peer);
    for (unsigned i = 0; i < agent->socket_count; i++) {
        (void)close(agent->sockets[i]);
    }
    for (unsigned i = 0; i < PENDING; i++) {
        if (agent->pending[i].fd >= 0 && &agent->pending[i] != p) {
            (void)close(agent->pending[i].fd);
        }
    }
    (void)close(agent->signals);
    key_identity_destroy(&agent->identity); // what runs for long need not know the agent's keys
    key_identity_destroy(&agent->psk);
    return agent_move(agent->config, link, who);
}

static void hand_over(struct agent *agent, struct pending *p)
{
    struct mover_link link = {.fd = p->fd};
    handshake_take(p->handshake, &link.send, &link.receive);
    pid_t child = fork();
    if (child == 0) {
        _exit(serve(agent, p, &link));
    }
    if (child < 0) {
        agent_log(AGENT_ERROR, "no process for a task of %s: %s", p->principal, strerror(errno));
    }
    agent->tasks += child > 0 ? 1 : 0;
    noise_cipher_destroy(&link.send);
    noise_cipher_destroy(&link.receive);
    drop(p);
}

static void step(struct agent *agent, struct pending *p)
{
    static const struct wire_attached welcome = {.text = ""};
    enum handshake_state state = handshake_step(p->handshake);
    for (;;) {
        switch (state) {
        case HANDSHAKE_MESSAGE_1:
            state = open_and_judge(agent, p);
            break;
        case HANDSHAKE_ATTACHING:
            state = handshake_attached(p->handshake, WIRE_OK, &welcome);
            break;
        case HANDSHAKE_WAITING:
            p->events = POLLIN;
            return;
        case HANDSHAKE_SENDING:
            state = handshake_step(p->handshake);
            if (state == HANDSHAKE_SENDING) {
                p->events = POLLOUT;
                return;
            }
            break;
        case HANDSHAKE_DONE:
            hand_over(agent, p);
            return;
        default:
            drop(p);
            return;
        }
    }
}

// ---- signals

static void reload(struct agent *agent)
{
    struct key_grants *grants = NULL;
    struct failure failure = {.text = ""};
    ready_reloading();
    if (key_grants_load(agent->config->authorized, &grants, &failure) == 0) {
        key_grants_destroy(&agent->grants);
        agent->grants = grants;
        agent_log(AGENT_INFO, "read %s again", agent->config->authorized);
    } else {
        agent_log(AGENT_ERROR, "%s The keys stay as they were.", failure.text);
    }
    ready_reloaded();
}

static void take_signal(struct agent *agent)
{
    struct signalfd_siginfo info;
    if (read(agent->signals, &info, sizeof info) != sizeof info) {
        return;
    }
    if (info.ssi_signo == SIGHUP) {
        reload(agent);
    } else if (info.ssi_signo == SIGCHLD) {
        while (waitpid(-1, NULL, WNOHANG) > 0) {
            agent->tasks--;
        }
    } else {
        agent->ending = true;
    }
}

// ---- the loop

static int wait_ms(const struct agent *agent)
{
    int64_t now = deadline_now(), next = agent->rests_until > now ? agent->rests_until : INT64_MAX;
    for (unsigned i = 0; i < PENDING; i++) {
        const struct pending *p = &agent->pending[i];
        next = p->fd >= 0 && p->deadline < next ? p->deadline : next;
    }
    return next == INT64_MAX ? -1 : next <= now ? 0 : (int)((next - now) / DEADLINE_NS_PER_MS + 1);
}

static void look(struct agent *agent)
{
    struct pollfd polls[1 + SOCKETS + PENDING];
    nfds_t count = 0; // no more than there are: poll() refuses more than RLIMIT_NOFILE
    bool rests = agent->rests_until > deadline_now();
    polls[count++] = (struct pollfd){.fd = agent->signals, .events = POLLIN};
    for (unsigned i = 0; i < agent->socket_count; i++) {
        polls[count++] = (struct pollfd){.fd = rests ? -1 : agent->sockets[i], .events = POLLIN};
    }
    for (unsigned i = 0; i < PENDING; i++) {
        const struct pending *p = &agent->pending[i];
        if (p->fd >= 0) {
            polls[count++] = (struct pollfd){.fd = p->fd, .events = p->events};
        }
    }
    if (poll(polls, count, wait_ms(agent)) < 0) {
        return;
    }
    if (polls[0].revents != 0) {
        take_signal(agent);
    }
    const struct pollfd *looked_at = &polls[1 + agent->socket_count];
    int64_t now = deadline_now();
    for (unsigned i = 0; i < PENDING; i++) {
        struct pending *p = &agent->pending[i];
        if (p->fd < 0) {
            continue;
        }
        if (looked_at++->revents != 0) {
            step(agent, p);
        } else if (now >= p->deadline) {
            drop(p);
        }
    }
    for (unsigned i = 0; i < agent->socket_count; i++) { // after those that were looked at
        if (polls[1 + i].revents != 0) {
            accept_one(agent, agent->sockets[i]);
        }
    }
}

static int prepare(struct agent *agent, struct failure *failure)
{
    const struct agent_config *config = agent->config;
    sigset_t signals;
    int error = keyfile_load(config->key, &agent->identity, failure);
    error = error != 0 ? error : key_grants_load(config->authorized, &agent->grants, failure);
    if (error == 0 && config->psk_file[0] != 0) {
        error = keyfile_load(config->psk_file, &agent->psk, failure);
    }
    for (unsigned i = 0; i < PENDING; i++) {
        agent->pending[i].fd = -1;
        agent->pending[i].handshake = calloc(1, handshake_bytes());
        if (agent->pending[i].handshake == NULL) {
            return failure_set(failure, -ENOMEM, "There is no memory to start with.");
        }
    }
    agent->slot = handshake_slot_create();
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGHUP);
    (void)sigaddset(&signals, SIGCHLD);
    (void)signal(SIGCHLD, SIG_DFL); // ignored by who started us, no task would end
    (void)sigprocmask(SIG_BLOCK, &signals, NULL);
    agent->signals = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (error == 0 && (agent->slot == NULL || agent->signals < 0)) {
        error = failure_set(failure, -ENOMEM, "There is no memory to start with.");
    }
    for (unsigned i = 0; i < config->listen.count && error == 0; i++) {
        error = bind_address(agent, config->listen.items[i], failure);
    }
    return error;
}

static void forget(struct agent *agent)
{
    for (unsigned i = 0; i < PENDING; i++) {
        if (agent->pending[i].handshake != NULL) {
            drop(&agent->pending[i]);
            free(agent->pending[i].handshake);
        }
    }
    for (unsigned i = 0; i < agent->socket_count; i++) {
        (void)close(agent->sockets[i]);
    }
    handshake_slot_destroy(&agent->slot);
    key_grants_destroy(&agent->grants);
    key_identity_destroy(&agent->identity);
    key_identity_destroy(&agent->psk);
    free(agent);
}

int agent_listen(struct agent_config *config, int ready_fd, struct failure *failure)
{
    struct agent *agent = calloc(1, sizeof *agent);
    if (agent == NULL) {
        return failure_set(failure, -ENOMEM, "There is no memory to start with.");
    }
    agent->config = config;
    int error = prepare(agent, failure);
    if (error == 0) {
        agent_log(AGENT_INFO, "tasks may come to port %u, %llu at once, to run as \"%s\"",
                  agent->port, (unsigned long long)config->tasks, config->user_name);
        ready_say(ready_fd, agent->port);
        while (!agent->ending) {
            look(agent);
        }
        ready_stopping();
        agent_log(AGENT_INFO, "ends; %u tasks go on", agent->tasks);
    } else {
        ready_failed(error, failure->text);
    }
    forget(agent);
    return error;
}
