// SPDX-License-Identifier: Apache-2.0
//
// To a host's agent: who it is (its public key is pinned in a list of hosts, or said), and the handshake that memory servers have,
// too. Cluster, pre-shared key, cipher and the user's own key are the client's settings.
//
// The list of hosts has a line for each: NAME ADDRESS KEY. The user's own comes first.
#include "tools/mover_connect.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libdsm/settings.h"
#include "rpc/deadline.h"
#include "rpc/handshake.h"
#include "rpc/tcp.h"

#define SYSTEM_LIST "/etc/dsm/hosts"

// ---- who

static int take_key(const char *text, struct mover_host *host, struct failure *failure)
{
    char line[128] = "";
    if (keyfile_decode(text, host->key) == 0) {
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
    return keyfile_decode(line, host->key) == 0
               ? 0
               : failure_set(failure, -EINVAL,
                             "\"%.100s\" is no agent's public key: it has 44 characters of base64, "
                             "or is the path of a .pub file.",
                             text);
}

static int take_address(const char *address, struct mover_host *host, struct failure *failure)
{
    return mover_split(address, host->address, host->port) == 0
               ? 0
               : failure_set(failure, -EINVAL,
                             "\"%.100s\" is no host: say HOST, HOST:PORT or [IPV6]:PORT.", address);
}

// 1: found; 0: not in this list.
static int look_in(const char *list, const char *name, struct mover_host *host,
                   struct failure *failure)
{
    char line[512], word[256], address[256], key[128], more[2];
    int found = 0;
    FILE *file = fopen(list, "re");
    if (file == NULL) {
        return errno == ENOENT ? 0
                               : failure_set(failure, -errno, "%s cannot be opened: %s.", list,
                                             strerror(errno));
    }
    for (unsigned number = 1; found == 0 && fgets(line, sizeof line, file) != NULL; number++) {
        line[strcspn(line, "#\n")] = 0;
        int words = sscanf(line, "%255s %255s %127s %1s", word, address, key, more);
        if (words > 0 && strcmp(word, name) == 0) {
            found = words == 3 && keyfile_decode(key, host->key) == 0
                        ? take_address(address, host, failure)
                        : failure_set(failure, -EINVAL, "%s:%u: it must be NAME ADDRESS KEY.", list,
                                      number);
            found = found == 0 ? 1 : found;
        }
    }
    (void)fclose(file);
    return found;
}

int mover_host_find(const char *name, const char *list, const char *key, struct mover_host *host,
                    struct failure *failure)
{
    char own[512] = "";
    const char *home = getenv("HOME");
    memset(host, 0, sizeof *host);
    (void)snprintf(host->name, sizeof host->name, "%s", name);
    if (key != NULL) {
        int error = take_address(name, host, failure);
        return error != 0 ? error : take_key(key, host, failure);
    }
    if (home != NULL) {
        (void)snprintf(own, sizeof own, "%s/.config/dsm/hosts", home);
    }
    int found = list != NULL   ? look_in(list, name, host, failure)
                : home != NULL ? look_in(own, name, host, failure)
                               : 0;
    if (found == 0 && list == NULL) {
        found = look_in(SYSTEM_LIST, name, host, failure);
    }
    return found > 0 ? 0
           : found < 0
               ? found
               : failure_set(failure, -ENOENT,
                             "There is no host \"%.100s\" in %s: add a line NAME ADDRESS KEY, or "
                             "say the agent's key with --agent-key.",
                             name, list != NULL ? list : "~/.config/dsm/hosts or " SYSTEM_LIST);
}

// ---- the connection

static int prepare(const struct mover_host *host, struct handshake_client *client,
                   struct key_identity **identity, struct key_identity **psk,
                   struct failure *failure)
{
    struct settings settings;
    int error = settings_read(&settings, failure);
    if (error == 0 && settings.key_file[0] == 0) {
        error = failure_set(failure, -EINVAL,
                            "DSM_KEY_FILE is not set: the agent must know who you are.");
    }
    if (error == 0 && strlen(settings.cluster) >= sizeof client->hello.cluster) {
        error = failure_set(failure, -EINVAL, "DSM_CLUSTER is too long.");
    }
    if (error == 0 && settings.psk_file[0] != 0) {
        error = keyfile_load(settings.psk_file, psk, failure);
    }
    error = error != 0 ? error : keyfile_load(settings.key_file, identity, failure);
    if (error == 0) {
        bool aes = settings.suite != 2 && noise_suite_available(NOISE_AESGCM);
        *client = (struct handshake_client){
            .identity = *identity,
            .hello = {.version = WIRE_VERSION,
                      .suite = aes ? NOISE_AESGCM : NOISE_CHACHAPOLY,
                      .role = WIRE_ROLE_MOVER,
                      .lane_kind = WIRE_LANE_SOCK},
        };
        memcpy(client->server_key, host->key, sizeof client->server_key);
        memcpy(client->hello.cluster, settings.cluster, strlen(settings.cluster) + 1);
        noise_random(client->attach.instance, sizeof client->attach.instance);
        client->attach.generation = 1;
        (void)snprintf(client->attach.holder, sizeof client->attach.holder, "dsmctl/%d",
                       (int)getpid());
        client->psk = *psk != NULL ? (*psk)->private_key : NULL;
    }
    return error;
}

static int connect_host(const struct mover_host *host, int64_t deadline, struct failure *failure)
{
    const char *unknown;
    int fd = tcp_connect(host->address, host->port, deadline, &unknown);
    if (unknown != NULL) {
        return failure_set(failure, fd, "The address of host %s, %s, cannot be found: %s.",
                           host->name, host->address, unknown);
    }
    return fd >= 0 ? fd
                   : failure_set(failure, fd,
                                 "No connection to host %s (%s port %s): %s. Does \"dsmctl agent\" "
                                 "run there?",
                                 host->name, host->address, host->port, strerror(-fd));
}

int mover_connect(const struct mover_host *host, struct mover_link *link, struct failure *failure)
{
    struct handshake_client client;
    struct key_identity *identity = NULL, *psk = NULL;
    struct wire_attached attached;
    struct failure why = {.text = ""};
    int64_t deadline = deadline_after_ms(LIMIT_CONNECT_MS);
    *link = (struct mover_link){.fd = -1};
    int error = prepare(host, &client, &identity, &psk, failure);
    if (error != 0) {
        key_identity_destroy(&psk);
        return error;
    }
    int fd = connect_host(host, deadline, failure);
    error = fd < 0 ? fd : 0;
    if (error == 0) {
        error = handshake_connect(fd, &client, deadline, &link->send, &link->receive, &attached,
                                  NULL, &why);
        static const char prefix[] = "the server refused the connection: ";
        const char *text = strncmp(why.text, prefix, sizeof prefix - 1) == 0
                               ? why.text + sizeof prefix - 1
                               : why.text;
        if (error == -ECONNRESET) {
            text = "it closed the connection in the handshake: is that the agent's key?";
        }
        if (error != 0) {
            (void)failure_set(failure, error, "Host %s: %s", host->name, text);
            (void)close(fd);
        } else {
            link->fd = fd;
        }
    }
    key_identity_destroy(&psk);
    key_identity_destroy(&identity);
    return error;
}
