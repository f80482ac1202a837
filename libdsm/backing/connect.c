// SPDX-License-Identifier: Apache-2.0
//
// From a name to an attached lane: resolve, connect within LIMIT_CONNECT_MS, handshake on the raw socket, and only then
// lane_sock or gRPC. Every failure ends in a sentence that says what to do, for this is where a new user's first
// mistakes come to light.
#include "libdsm/backing/connect.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libdsm/backing/embedded.h"
#include "libdsm/sync/futex.h"
#include "rpc/tcp.h"

static int split_address(struct session *session, const char *address, struct failure *failure)
{
    const char *host = address;
    const char *colon = strrchr(address, ':');
    size_t host_bytes = colon == NULL ? 0 : (size_t)(colon - address);
    if (host_bytes > 2 && host[0] == '[' && host[host_bytes - 1] == ']') {
        host++;
        host_bytes -= 2;
    }
    if (colon == NULL || host_bytes == 0 || host_bytes >= sizeof session->host ||
        strlen(colon + 1) == 0 || strlen(colon + 1) >= sizeof session->port) {
        return failure_set(failure, -EINVAL,
                           "DSM_SERVER is '%.200s': it must be HOST:PORT or [V6-ADDRESS]:PORT.",
                           address);
    }
    memcpy(session->host, host, host_bytes);
    session->host[host_bytes] = 0;
    (void)snprintf(session->port, sizeof session->port, "%s", colon + 1);
    return 0;
}

static int read_server_key(struct session *session, const char *text, struct failure *failure)
{
    char line[128] = "";
    if (keyfile_decode(text, session->client.server_key) == 0) {
        return 0;
    }
    FILE *file = fopen(text, "re");
    if (file != NULL) {
        if (fgets(line, sizeof line, file) == NULL) {
            line[0] = 0;
        }
        (void)fclose(file);
        line[strcspn(line, " \r\n")] = 0;
    }
    if (keyfile_decode(line, session->client.server_key) != 0) {
        return failure_set(
            failure, -EINVAL,
            "DSM_SERVER_KEY is '%.200s': it must be the server's public key (44 characters of "
            "base64) or a file that holds it.",
            text);
    }
    return 0;
}

static int read_psk(struct session *session, const char *path, struct failure *failure)
{
    if (path[0] == 0) {
        return 0;
    }
    int error = keyfile_load(path, &session->psk, failure);
    if (error == 0) {
        session->client.psk = session->psk->private_key;
    }
    return error;
}

static int choose_suite(const struct settings *settings, uint8_t *suite, struct failure *failure)
{
    enum { AUTO, AESGCM, CHACHAPOLY };
    bool aes = noise_suite_available(NOISE_AESGCM);
    if (settings->suite == AESGCM && !aes) {
        return failure_set(failure, -EINVAL,
                           "DSM_SUITE is aesgcm, but this processor has no AES: leave it unset.");
    }
    *suite = settings->suite == CHACHAPOLY || !aes ? NOISE_CHACHAPOLY : NOISE_AESGCM;
    return 0;
}

static int copy_name(char *to, size_t bytes, const char *from, const char *variable,
                     struct failure *failure)
{
    if (strlen(from) >= bytes) {
        return failure_set(failure, -EINVAL, "%s is longer than %zu characters.", variable,
                           bytes - 1);
    }
    memcpy(to, from, strlen(from) + 1);
    return 0;
}

static void name_holder(char *to, size_t bytes)
{
    char host[48] = "?";
    (void)gethostname(host, sizeof host - 1);
    (void)snprintf(to, bytes, "%.40s/%d/%.32s", host, (int)getpid(), program_invocation_short_name);
    for (char *at = to; *at != 0; at++) {
        if (*at < '!' || *at > '~') {
            *at = '_';
        }
    }
}

static int prepare_remote(struct session *session, struct failure *failure)
{
    const struct settings *s = session->settings;
    struct handshake_client *client = &session->client;
    if (s->key_file[0] == 0 || s->server_key[0] == 0) {
        return failure_set(
            failure, -EINVAL,
            "%s is not set: a session needs DSM_SERVER (host:port), DSM_SERVER_KEY (the server's "
            "public key) and DSM_KEY_FILE (this client's private key, made by dsmctl keygen).",
            s->key_file[0] == 0 ? "DSM_KEY_FILE" : "DSM_SERVER_KEY");
    }
    int error = split_address(session, s->server, failure);
    error = error != 0 ? error : read_server_key(session, s->server_key, failure);
    error = error != 0 ? error : keyfile_load(s->key_file, &session->identity, failure);
    error = error != 0 ? error : read_psk(session, s->psk_file, failure);
    error = error != 0 ? error
                       : copy_name(client->hello.cluster, sizeof client->hello.cluster, s->cluster,
                                   "DSM_CLUSTER", failure);
    return error != 0 ? error
                      : copy_name(client->hello.server, sizeof client->hello.server, s->server_name,
                                  "DSM_SERVER_NAME", failure);
}

// It is told nothing, so it has the names that dsmd has when it is told none.
static int prepare_embedded(struct session *session, struct failure *failure)
{
    (void)snprintf(session->host, sizeof session->host, "embedded");
    (void)snprintf(session->port, sizeof session->port, "dsmd");
    (void)snprintf(session->client.hello.cluster, sizeof session->client.hello.cluster, "default");
    return embedded_start(session, failure);
}

int connect_prepare(struct session *session, struct failure *failure)
{
    struct handshake_client *client = &session->client;
    int embedded = embedded_wanted(session->settings, failure);
    if (embedded < 0) {
        return embedded;
    }
    int error = choose_suite(session->settings, &client->hello.suite, failure);
    if (error == 0) {
        error =
            embedded != 0 ? prepare_embedded(session, failure) : prepare_remote(session, failure);
    }
    if (error != 0) {
        connect_forget(session);
        return error;
    }
    client->identity = session->identity;
    client->hello.version = WIRE_VERSION;
    client->hello.role = WIRE_ROLE_CLIENT;
    noise_random(client->attach.instance, sizeof client->attach.instance);
    name_holder(client->attach.holder, sizeof client->attach.holder);
    return 0;
}

void connect_forget(struct session *session)
{
    embedded_stop(session);
    key_identity_destroy(&session->identity);
    session->client.psk = NULL;
    key_identity_destroy(&session->psk);
}

static int connect_remote(const struct session *session, int64_t deadline, struct failure *failure)
{
    const char *unknown;
    int fd = tcp_connect(session->host, session->port, deadline, &unknown);
    if (unknown != NULL) {
        return failure_set(failure, fd, "The server's address %s:%s cannot be found: %s.",
                           session->host, session->port, unknown);
    }
    return fd >= 0 ? fd
                   : failure_set(failure, fd,
                                 "No connection to %s:%s: %s. Is dsmd running there, and is the "
                                 "port right?",
                                 session->host, session->port, strerror(-fd));
}

// All that the pager does goes over direct lanes, cleaning too: a store that waits for its page to be cleaned may come from
// under malloc's lock, and a dirty victim may have to go when the heap is used up, while gRPC allocates for each message.
static bool wants_sock(const struct session *session, enum backing_class class)
{
    return class != BACKING_CONTROL && session->settings->fault_lanes == SETTINGS_SOCK;
}

int connect_lane(struct session *session, const struct backing_lane *lane, uint64_t generation,
                 struct lane **connected, struct wire_attached *attached, struct failure *failure)
{
    int64_t deadline = sync_after_ms(LIMIT_CONNECT_MS);
    int fd = session->embedded ? embedded_connect(session, deadline, failure)
                               : connect_remote(session, deadline, failure);
    if (fd < 0) {
        return fd;
    }
    bool sock = wants_sock(session, lane->class);
    struct handshake_client client = session->client;
    client.hello.lane_kind = sock ? WIRE_LANE_SOCK : WIRE_LANE_GRPC;
    client.attach.lane = lane->number;
    client.attach.generation = generation;
    struct noise_cipher *send;
    struct noise_cipher *receive;
    enum wire_status refusal;
    int error =
        handshake_connect(fd, &client, deadline, &send, &receive, attached, &refusal, failure);
    if (error != 0) {
        (void)close(fd);
        return error;
    }
    errno = 0;
    sync_mask before = sync_block_signals(); // gRPC starts threads here, and they inherit the mask
    *connected = sock ? lane_sock_create(fd, send, receive) : lane_grpc_create(fd, send, receive);
    int reason = errno;
    sync_restore_signals(before);
    if (*connected == NULL) {
        error = reason != 0 ? -reason : -ENOMEM;
        return failure_set(failure, error, "No memory for a connection.");
    }
    return 0;
}
