// SPDX-License-Identifier: Apache-2.0
//
// The agent's configuration: read once, and looked at as a whole before anything listens, so that what is wrong with it is said at
// the start and not to the first task that comes.
#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "tools/dsmctl_agent.h"

static int take_text(setting_path *to, const char *key, const char *value, struct failure *reason)
{
    if ((*to)[0] != 0) {
        return failure_set(reason, -EINVAL, "the key \"%s\" stands here already.", key);
    }
    if (strlen(value) >= sizeof *to) {
        return failure_set(reason, -EINVAL, "the value of \"%s\" is too long.", key);
    }
    memcpy(*to, value, strlen(value) + 1);
    return 0;
}

static int take_list(struct agent_list *to, const char *key, const char *value,
                     struct failure *reason)
{
    if (to->count == AGENT_LIST_MOST) {
        return failure_set(reason, -EINVAL, "\"%s\" is given more than %d times.", key,
                           AGENT_LIST_MOST);
    }
    int error = take_text(&to->items[to->count], key, value, reason);
    to->count += error == 0 ? 1 : 0;
    return error;
}

static int take_number(uint64_t *to, const char *key, const char *value, struct failure *reason)
{
    return setting_parse_number(value, to) == 0
               ? 0
               : failure_set(reason, -EINVAL, "\"%.100s\" is no value for %s: it takes a number.",
                             value, key);
}

static int take_line(void *context, const char *key, const char *value, unsigned line,
                     struct failure *reason)
{
    struct agent_config *config = context;
    (void)line;
#define AGENT_TAKE_TEXT take_text
#define AGENT_TAKE_LIST take_list
#define AGENT_TAKE_NUMBER take_number
#define AGENT_SETTING(field, name, kind, initial, meaning)                                         \
    if (strcmp(key, name) == 0) {                                                                  \
        return AGENT_TAKE_##kind(&config->field, key, value, reason);                              \
    }
#include "tools/agent.def"
#undef AGENT_SETTING
    return failure_set(reason, -EINVAL, "there is no key \"%s\" (see dsmctl-agent(1)).", key);
}

// What the file does not say.
static void take_defaults(struct agent_config *config)
{
    static const struct {
        const char *key, *initial;
    } rows[] = {
#define AGENT_SETTING(field, name, kind, initial, meaning) {name, initial},
#include "tools/agent.def"
#undef AGENT_SETTING
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bool missing = false;
#define AGENT_MISSING_TEXT(value) ((value)[0] == 0)
#define AGENT_MISSING_LIST(value) ((value).count == 0)
#define AGENT_MISSING_NUMBER(value) ((value) == UINT64_MAX)
#define AGENT_SETTING(field, name, kind, initial, meaning)                                         \
    missing = missing || (strcmp(rows[i].key, name) == 0 && AGENT_MISSING_##kind(config->field));
#include "tools/agent.def"
#undef AGENT_SETTING
        if (missing && rows[i].initial[0] != 0) {
            (void)take_line(config, rows[i].key, rows[i].initial, 0, NULL);
        }
    }
}

static int check_user(struct agent_config *config, struct failure *failure)
{
    const char *name = config->user;
    const struct passwd *user = name[0] != 0 ? getpwnam(name) : getpwuid(geteuid());
    if (geteuid() == 0 && name[0] == 0) {
        return failure_set(failure, -EINVAL,
                           "The agent runs as root, and tasks must not: name their user (user =).");
    }
    if (name[0] != 0 && user == NULL) {
        return failure_set(failure, -EINVAL, "There is no user \"%s\" (user =) here.", name);
    }
    if (user != NULL && user->pw_uid == 0) {
        return failure_set(failure, -EINVAL, "Tasks must not run as root (user = %s).", name);
    }
    if (user != NULL && geteuid() != 0 && user->pw_uid != geteuid()) {
        return failure_set(failure, -EPERM,
                           "Only root can start tasks as \"%s\" (user =): start the agent as that "
                           "user, or as root.",
                           name);
    }
    config->switch_user = geteuid() == 0;
    config->uid = user != NULL ? user->pw_uid : geteuid();
    config->gid = user != NULL ? user->pw_gid : getegid();
    (void)snprintf(config->user_name, sizeof config->user_name, "%s",
                   user != NULL ? user->pw_name : "");
    (void)snprintf(config->home, sizeof config->home, "%s", user != NULL ? user->pw_dir : "/");
    return 0;
}

static int check_numbers(const struct agent_config *config, struct failure *failure)
{
    if (config->tasks < 1 || config->tasks > AGENT_MOST_TASKS) {
        return failure_set(failure, -EINVAL, "tasks must be 1 to %d.", AGENT_MOST_TASKS);
    }
    return config->wait >= 1 && config->wait <= AGENT_MOST_WAIT_S
               ? 0
               : failure_set(failure, -EINVAL, "wait must be 1 to %d.", AGENT_MOST_WAIT_S);
}

static int check_files(const struct agent_config *config, struct failure *failure)
{
    struct key_identity *identity = NULL;
    struct key_grants *grants = NULL;
    if (config->key[0] == 0 || config->authorized[0] == 0 || config->binaries.count == 0) {
        return failure_set(failure, -EINVAL, "The configuration lacks %s.",
                           config->key[0] == 0          ? "key: this agent's private key"
                           : config->authorized[0] == 0 ? "authorized: who may send tasks here"
                                                        : "binaries: what tasks may run here");
    }
    int error = keyfile_load(config->key, &identity, failure);
    key_identity_destroy(&identity);
    if (error == 0 && config->psk_file[0] != 0) {
        error = keyfile_load(config->psk_file, &identity, failure);
        key_identity_destroy(&identity);
    }
    error = error != 0 ? error : key_grants_load(config->authorized, &grants, failure);
    key_grants_destroy(&grants);
    for (unsigned i = 0; i < config->binaries.count && error == 0; i++) {
        error = agent_binary_check(config->binaries.items[i], failure);
    }
    for (unsigned i = 0; i < config->environment.count && error == 0; i++) {
        const char *name = config->environment.items[i];
        if (name[0] == '=' || strchr(name, '=') == NULL) {
            error = failure_set(failure, -EINVAL, "environment = %s: it must be NAME=VALUE.", name);
        }
    }
    return error;
}

int agent_config_read(const char *path, struct agent_config *config, struct failure *failure)
{
    memset(config, 0, sizeof *config);
    config->tasks = UINT64_MAX;
    config->wait = UINT64_MAX;
    int error = setting_file_read(path, take_line, config, failure);
    if (error != 0) {
        return error;
    }
    take_defaults(config);
    error = strlen(config->cluster) < LIMIT_CLUSTER_NAME_BYTES
                ? 0
                : failure_set(failure, -EINVAL, "The cluster's name is too long.");
    error = error != 0 ? error : check_numbers(config, failure);
    error = error != 0 ? error : check_user(config, failure);
    return error != 0 ? error : check_files(config, failure);
}
