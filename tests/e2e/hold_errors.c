// SPDX-License-Identifier: Apache-2.0
//
// A new user's first mistakes: each is told apart by its error and by a sentence of its own that names what to look at.
#include <stdlib.h>
#include <unistd.h>

#include "tests/e2e/hold_rig.h"

static void unset_server(void)
{
    CHECK(unsetenv("DSM_SERVER") == 0);
}

static void no_server(void)
{
    CHECK(setenv("DSM_SERVER", "127.0.0.1:1", 1) == 0);
}

static void bad_address(void)
{
    CHECK(setenv("DSM_SERVER", "localhost", 1) == 0);
}

static void unset_server_key(void)
{
    CHECK(unsetenv("DSM_SERVER_KEY") == 0);
}

static void bad_server_key(void)
{
    CHECK(setenv("DSM_SERVER_KEY", "no-key", 1) == 0);
}

static void wrong_server_key(void)
{
    char key[64];
    (void)snprintf(key, sizeof key, "%s", hold_setting("DSM_SERVER_KEY"));
    key[5] = key[5] == 'A' ? 'B' : 'A';
    CHECK(setenv("DSM_SERVER_KEY", key, 1) == 0);
}

static void wrong_cluster(void)
{
    CHECK(setenv("DSM_CLUSTER", "another", 1) == 0);
}

static void unset_key(void)
{
    CHECK(unsetenv("DSM_KEY_FILE") == 0);
}

static void no_key(void)
{
    CHECK(setenv("DSM_KEY_FILE", "/nowhere/client.key", 1) == 0);
}

static void stranger(void)
{
    CHECK(setenv("DSM_KEY_FILE", hold_setting("HOLD_STRANGER_KEY"), 1) == 0);
}

static void open_key(void)
{
    CHECK(setenv("DSM_KEY_FILE", hold_setting("HOLD_OPEN_KEY"), 1) == 0);
}

static void small_cache(void)
{
    CHECK(setenv("DSM_CACHE", "4K", 1) == 0);
}

static void bad_setting(void)
{
    CHECK(setenv("DSM_FAULT_TIMEOUT", "soon", 1) == 0);
}

static const struct mistake {
    const char *name;
    void (*make)(void);
    int error;
    const char *words[3]; // the sentence has them
} mistakes[] = {
    {"unset-server", unset_server, -EINVAL, {"DSM_SERVER is not"}},
    {"no-server", no_server, -ECONNREFUSED, {"127.0.0.1:1", "dsmd running"}},
    {"bad-address", bad_address, -EINVAL, {"localhost", "HOST:PORT"}},
    {"unset-server-key", unset_server_key, -EINVAL, {"DSM_SERVER_KEY is not set"}},
    {"bad-server-key", bad_server_key, -EINVAL, {"no-key", "base64"}},
    {"wrong-server-key", wrong_server_key, -ECONNRESET, {"DSM_SERVER_KEY"}},
    {"wrong-cluster", wrong_cluster, -EACCES, {"cluster", "another"}},
    {"unset-key", unset_key, -EINVAL, {"DSM_KEY_FILE is not set"}},
    {"no-key", no_key, -ENOENT, {"/nowhere/client.key"}},
    {"stranger", stranger, -EACCES, {"key is not in", "authorized"}},
    {"open-key", open_key, -EPERM, {"mode 0644", "chmod 600"}},
    {"small-cache", small_cache, -EINVAL, {"cache is 4096 bytes"}},
    {"bad-setting", bad_setting, -EINVAL, {"DSM_FAULT_TIMEOUT", "soon"}},
};
enum { MISTAKES = sizeof mistakes / sizeof mistakes[0] };

static void keep(const char *name, char value[512])
{
    (void)snprintf(value, 512, "%s", getenv(name) != NULL ? getenv(name) : "");
}

static void make(const struct mistake *mistake, char text[320])
{
    static const char *names[] = {"DSM_SERVER",  "DSM_SERVER_KEY", "DSM_KEY_FILE",
                                  "DSM_CLUSTER", "DSM_CACHE",      "DSM_FAULT_TIMEOUT",
                                  NULL};
    char before[6][512];
    dsm *session;
    for (int i = 0; names[i] != NULL; i++) {
        keep(names[i], before[i]);
    }
    mistake->make();
    int error = dsm_open(NULL, &session);
    printf("%s: %d, %s\n", mistake->name, error, dsm_error()->text);
    CHECK(error == mistake->error, "%s: %d instead of %d", mistake->name, error, mistake->error);
    CHECK(dsm_error()->error == error);
    for (int i = 0; i < 3 && mistake->words[i] != NULL; i++) {
        CHECK(strstr(dsm_error()->text, mistake->words[i]) != NULL, "%s: no word of %s",
              mistake->name, mistake->words[i]);
    }
    memcpy(text, dsm_error()->text, 320);
    for (int i = 0; names[i] != NULL; i++) {
        CHECK(before[i][0] == 0 ? unsetenv(names[i]) == 0 : setenv(names[i], before[i], 1) == 0);
    }
}

static void run_open(void)
{
    static char texts[MISTAKES][320];
    for (int i = 0; i < MISTAKES; i++) {
        make(&mistakes[i], texts[i]);
        for (int j = 0; j < i; j++) {
            CHECK(strcmp(texts[i], texts[j]) != 0, "%s and %s sound the same", mistakes[i].name,
                  mistakes[j].name);
        }
    }
    OK(dsm_close(hold_open(0))); // and without a mistake it works
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {{"open", run_open}};
    return hold_main(argc, argv, roles, sizeof roles / sizeof roles[0]);
}
