// SPDX-License-Identifier: Apache-2.0
//
// Authorized files: what a line may say, what it may not and on which line the message puts it;
// and that appending changes all or nothing. In a folder of its own.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rpc/keyfile.h"

#define KEY_1 "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
#define KEY_2 "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI="
#define KEY_3 "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM="

static char folder[] = "/tmp/grants-XXXXXX";

static int enter(void **state)
{
    (void)state;
    memcpy(strrchr(folder, '-') + 1, "XXXXXX", 6);
    return noise_init() == 0 && mkdtemp(folder) != NULL && chdir(folder) == 0 ? 0 : -1;
}

static unsigned files(bool remove_them)
{
    unsigned count = 0;
    DIR *open_folder = opendir(".");
    for (struct dirent *entry; (entry = readdir(open_folder)) != NULL;) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            count++;
            if (remove_them) {
                (void)remove(entry->d_name);
            }
        }
    }
    (void)closedir(open_folder);
    return count;
}

static int leave(void **state)
{
    (void)state;
    (void)files(true);
    return chdir("/") == 0 && rmdir(folder) == 0 ? 0 : -1;
}

static void put_bytes(const char *text, size_t bytes)
{
    FILE *file = fopen("clients", "we");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod("clients", 0600), 0);
}

static void put(const char *text)
{
    put_bytes(text, strlen(text));
}

static void assert_text(const char *expected)
{
    char text[1024];
    FILE *file = fopen("clients", "re");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    assert_int_equal(fclose(file), 0);
    assert_string_equal(text, expected);
}

static const struct key_grant *find(const struct key_grants *grants, const char *text)
{
    uint8_t key[NOISE_KEY_BYTES];
    assert_int_equal(keyfile_decode(text, key), 0);
    return key_grants_find(grants, key);
}

static struct key_grants *load(const char *text)
{
    struct key_grants *grants = NULL;
    struct failure failure = {""};
    put(text);
    if (key_grants_load("clients", &grants, &failure) != 0) {
        fail_msg("%s", failure.text);
    }
    return grants;
}

static void assert_refused(const char *says)
{
    struct key_grants *grants = NULL;
    struct failure failure = {""};
    assert_int_equal(key_grants_load("clients", &grants, &failure), -EINVAL);
    assert_null(grants);
    if (strstr(failure.text, says) == NULL || strncmp(failure.text, "clients: line ", 14) != 0) {
        fail_msg("\"%s\" does not say \"%s\"", failure.text, says);
    }
}

static void test_whole_file(void **state)
{
    (void)state;
    struct key_grants *grants =
        load("# clients of Zürich\n\n"
             "  " KEY_2 "\talice\tquota=64G rights=read,migrate # laptop\n"
             " \t \n" KEY_1 " bob#\n" KEY_3 " alice prefix=alice/ connections=16 quota=65536M");
    const struct key_grant *grant = find(grants, KEY_2);
    assert_string_equal(grant->principal, "alice");
    assert_true(grant->quota_bytes == UINT64_C(64) << 30);
    assert_int_equal(grant->rights, KEY_RIGHT_READ | KEY_RIGHT_MIGRATE);
    assert_string_equal(grant->prefix, "");
    assert_int_equal(grant->connections, LIMIT_CONNECTIONS_PER_KEY);
    assert_int_equal(grant->line, 3);
    grant = find(grants, KEY_1);
    assert_string_equal(grant->principal, "bob");
    assert_true(grant->quota_bytes == UINT64_MAX);
    assert_int_equal(grant->rights, KEY_RIGHT_CREATE | KEY_RIGHT_READ | KEY_RIGHT_WRITE);
    assert_int_equal(grant->line, 5);
    grant = find(grants, KEY_3);
    assert_string_equal(grant->prefix, "alice/");
    assert_int_equal(grant->connections, 16);
    assert_int_equal(grant->line, 6);
    assert_null(find(grants, "BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ="));
    key_grants_destroy(&grants);
    assert_null(grants);
    grants = load("");
    assert_null(find(grants, KEY_1));
    key_grants_destroy(&grants);
}

static void test_good_values(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } sizes[] = {
        {"0", 0},
        {"4096", 4096},
        {"3K", 3072},
        {"3k", 3072},
        {"5M", UINT64_C(5) << 20},
        {"7g", UINT64_C(7) << 30},
        {"2T", UINT64_C(2) << 40},
        {"16777215T", UINT64_C(16777215) << 40},
        {"18446744073709551614", UINT64_MAX - 1},
    };
    char line[400];
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        (void)snprintf(line, sizeof line, KEY_1 " p quota=%s\n", sizes[i].text);
        struct key_grants *grants = load(line);
        assert_true(find(grants, KEY_1)->quota_bytes == sizes[i].bytes);
        key_grants_destroy(&grants);
    }
    char name[64], prefix[255];
    memset(name, 'n', 63);
    memset(prefix, 'p', 254);
    name[63] = prefix[254] = '\0';
    (void)snprintf(line, sizeof line, KEY_1 " %s prefix=%s", name, prefix);
    struct key_grants *grants = load(line);
    assert_string_equal(find(grants, KEY_1)->principal, name);
    assert_string_equal(find(grants, KEY_1)->prefix, prefix);
    key_grants_destroy(&grants);
    grants = load(KEY_1 " a.b_c@d:e+f-0 rights=admin,create,migrate,read,write prefix=a/b@c.");
    assert_int_equal(find(grants, KEY_1)->rights, 31);
    key_grants_destroy(&grants);
}

static const struct {
    const char *line, *says;
} bad_lines[] = {
    {"alice", "public key"},
    {"AQEB alice", "public key"},
    {KEY_1 "A alice", "public key"},
    {KEY_1, "principal"},
    {KEY_1 " # alice", "principal"},
    {KEY_1 " quota=1G", "principal"},
    {KEY_1 " .alice", "principal"},
    {KEY_1 " a/b", "principal"},
    {KEY_1 " nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn", "principal"},
    {KEY_1 " al\x01ice", "ASCII"},
    {KEY_1 " al\xc3\xafs", "ASCII"},
    {KEY_1 " alice\r", "ASCII"},
    {KEY_1 " alice bob", "\"bob\" is not known"},
    {KEY_1 " alice quota", "not known"},
    {KEY_1 " alice Quota=1", "not known"},
    {KEY_1 " alice quot=1", "not known"},
    {KEY_1 " alice =1", "not known"},
    {KEY_1 " alice quota=", "no value"},
    {KEY_1 " alice rights=", "no value"},
    {KEY_1 " alice prefix=", "no value"},
    {KEY_1 " alice connections=", "no value"},
    {KEY_1 " alice quota=1G quota=1G", "given twice"},
    {KEY_1 " alice rights=read rights=read", "given twice"},
    {KEY_1 " alice prefix=a prefix=b", "given twice"},
    {KEY_1 " alice connections=1 connections=1", "given twice"},
    {KEY_1 " alice quota=G", "not a size"},
    {KEY_1 " alice quota=-1", "not a size"},
    {KEY_1 " alice quota=+1", "not a size"},
    {KEY_1 " alice quota=1.5G", "not a size"},
    {KEY_1 " alice quota=1GB", "not a size"},
    {KEY_1 " alice quota=1GG", "not a size"},
    {KEY_1 " alice quota=0x10", "not a size"},
    {KEY_1 " alice quota=1P", "not a size"},
    {KEY_1 " alice quota=18446744073709551615", "too large"},
    {KEY_1 " alice quota=18446744073709551616", "too large"},
    {KEY_1 " alice quota=99999999999999999999999", "too large"},
    {KEY_1 " alice quota=16777216T", "too large"},
    {KEY_1 " alice rights=root", "\"root\" is none"},
    {KEY_1 " alice rights=read,", "is none"},
    {KEY_1 " alice rights=,read", "is none"},
    {KEY_1 " alice rights=rea", "is none"},
    {KEY_1 " alice rights=reads", "is none"},
    {KEY_1 " alice rights=read,write,read", "\"read\" stands there twice"},
    {KEY_1 " alice prefix=/a", "cannot begin"},
    {KEY_1 " alice prefix=a//b", "cannot begin"},
    {KEY_1 " alice prefix=../a", "cannot begin"},
    {KEY_1 " alice prefix=a/../b", "cannot begin"},
    {KEY_1 " alice prefix=a*", "cannot begin"},
    {KEY_1 " alice connections=0", "out of range"},
    {KEY_1 " alice connections=16385", "out of range"},
    {KEY_1 " alice connections=4294967297", "out of range"},
    {KEY_1 " alice connections=1K", "out of range"},
};

static void test_bad_lines(void **state)
{
    (void)state;
    char text[512];
    for (size_t i = 0; i < sizeof bad_lines / sizeof bad_lines[0]; i++) {
        (void)snprintf(text, sizeof text, "# first\n" KEY_2 " carol\n%s\n", bad_lines[i].line);
        put(text);
        assert_refused(bad_lines[i].says);
        assert_refused("line 3: ");
    }
    static const char nul[] = KEY_1 " alice\0 quota=1G\n";
    put_bytes(nul, sizeof nul - 1);
    assert_refused("ASCII");
    char line[1400];
    (void)snprintf(line, sizeof line, KEY_1 " alice prefix=%0255d", 0);
    put(line);
    assert_refused("cannot begin");
    (void)snprintf(line, sizeof line, KEY_1 " alice # %01200d", 0);
    put(line);
    assert_refused("more than 1023 bytes");
}

static void test_lines_that_disagree(void **state)
{
    (void)state;
    put(KEY_1 " alice\n" KEY_2 " bob\n" KEY_1 " carol\n");
    assert_refused("line 3: this key stands already on line 1");
    put(KEY_1 " alice quota=1G\n" KEY_2 " bob quota=2G\n\n" KEY_3 " alice quota=2G\n");
    assert_refused("line 4: principal alice has another quota on line 1");
    put(KEY_1 " alice quota=1G\n" KEY_2 " alice\n");
    assert_refused("line 2: principal alice has another quota on line 1");
    struct key_grants *grants = load(KEY_1 " alice quota=1G\n" KEY_2 " alice quota=1024M\n");
    key_grants_destroy(&grants);
}

static void test_file_itself(void **state)
{
    (void)state;
    struct key_grants *grants = NULL;
    struct failure failure = {""};
    put(KEY_1 " alice\n");
    assert_int_equal(chmod("clients", 0664), 0);
    assert_int_equal(key_grants_load("clients", &grants, &failure), -EPERM);
    assert_non_null(strstr(failure.text, "chmod 600 clients"));
    assert_int_equal(key_grants_append("clients", KEY_2 " bob", &failure), -EPERM);
    assert_text(KEY_1 " alice\n");
    assert_int_equal(key_grants_load("absent", &grants, &failure), -ENOENT);
    assert_int_equal(key_grants_load(".", &grants, &failure), -EINVAL);
    assert_null(grants);
}

// Its group may read it, when that is a group of ours; more than that nobody may.
static void test_group(void **state)
{
    (void)state;
    static const struct {
        mode_t mode;
        int error;
    } cases[] = {{0640, 0}, {0440, 0}, {0660, -EPERM}, {0644, -EPERM}, {0650, -EPERM}};
    struct key_grants *grants = NULL;
    struct failure failure = {""};
    struct stat status;
    put(KEY_1 " alice\n");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(chmod("clients", cases[i].mode), 0);
        assert_int_equal(key_grants_load("clients", &grants, &failure), cases[i].error);
        key_grants_destroy(&grants);
    }
    assert_int_equal(chmod("clients", 0640), 0);
    assert_int_equal(key_grants_append("clients", KEY_2 " bob", &failure), 0);
    assert_int_equal(stat("clients", &status), 0);
    assert_int_equal(status.st_mode & 07777, 0640);
    if (geteuid() != 0 || chown("clients", 0, 4242) != 0 || chmod(".", 0755) != 0) {
        return; // another group takes root to make
    }
    assert_int_equal(key_grants_load("clients", &grants, &failure), 0); // root maintains it
    key_grants_destroy(&grants);
    assert_int_equal(setegid(4242), 0);
    assert_int_equal(seteuid(4242), 0);
    int same = key_grants_load("clients", &grants, &failure);
    key_grants_destroy(&grants);
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(setegid(4343), 0);
    assert_int_equal(setgroups(0, NULL), 0);
    assert_int_equal(chown("clients", 4343, 4242), 0);
    assert_int_equal(seteuid(4343), 0);
    int other = key_grants_load("clients", &grants, &failure);
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(setegid(0), 0);
    assert_int_equal(same, 0);
    assert_int_equal(other, -EPERM);
    assert_non_null(strstr(failure.text, "or 640"));
}

static void test_append(void **state)
{
    (void)state;
    struct failure failure = {""};
    struct stat status;
    assert_int_equal(key_grants_append("clients", KEY_1 " alice quota=1G # the first", &failure),
                     0);
    assert_int_equal(stat("clients", &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    assert_int_equal(chmod("clients", 0400), 0);
    assert_int_equal(key_grants_append("clients", KEY_2 " bob", &failure), 0);
    assert_int_equal(stat("clients", &status), 0);
    assert_int_equal(status.st_mode & 07777, 0400); // as it was
    assert_text(KEY_1 " alice quota=1G # the first\n" KEY_2 " bob\n");
    put(KEY_1 " alice\n# no newline here");
    assert_int_equal(symlink("clients", "link"), 0);
    assert_int_equal(key_grants_append("link", KEY_2 " bob", &failure), 0);
    assert_text(KEY_1 " alice\n# no newline here\n" KEY_2 " bob\n");
    assert_int_equal(lstat("link", &status), 0);
    assert_true(S_ISLNK(status.st_mode));
    assert_int_equal(files(false), 2); // nothing else is left
}

static void test_append_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *line, *says;
        int error;
    } bad[] = {
        {KEY_1 " bob", "stands there already, for principal alice", -EEXIST},
        {KEY_2 " alice", "another quota", -EINVAL},
        {KEY_2, "principal", -EINVAL},
        {KEY_2 " bob right=read", "not known", -EINVAL},
        {"", "holds no key", -EINVAL},
        {"# bob", "holds no key", -EINVAL},
        {KEY_2 " bob\n", "more than one", -EINVAL},
        {KEY_2 " bob #\n" KEY_3 " mallory rights=admin", "more than one", -EINVAL},
    };
    static const char text[] = "\n" KEY_1 " alice quota=1G\n";
    put(text);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct failure failure = {""};
        assert_int_equal(key_grants_append("clients", bad[i].line, &failure), bad[i].error);
        if (strstr(failure.text, bad[i].says) == NULL) {
            fail_msg("\"%s\" does not say \"%s\"", failure.text, bad[i].says);
        }
        assert_text(text);
        assert_int_equal(files(false), 1);
    }
    struct failure failure = {""};
    put("nonsense\n");
    assert_int_equal(key_grants_append("clients", KEY_2 " bob", &failure), -EINVAL);
    assert_text("nonsense\n");
    assert_int_equal(symlink("nowhere", "link"), 0);
    assert_int_equal(key_grants_append("link", KEY_2 " bob", &failure), -ENOENT);
    assert_int_equal(key_grants_append("no/folder", KEY_2 " bob", &failure), -ENOENT);
    assert_int_equal(files(false), 2);
}

enum { APPENDERS = 4, LINES = 15 };

static void *append_some(void *first)
{
    for (unsigned i = 0; i < LINES; i++) {
        uint8_t key[NOISE_KEY_BYTES] = {*(uint8_t *)first, (uint8_t)i, 1};
        char text[KEYFILE_TEXT_BYTES], line[64];
        keyfile_encode(key, text);
        (void)snprintf(line, sizeof line, "%s p%u", text, i);
        if (key_grants_append("clients", line, NULL) != 0) {
            *(uint8_t *)first = 255;
        }
    }
    return NULL;
}

// Nobody's line is lost when several append at once.
static void test_appenders(void **state)
{
    (void)state;
    pthread_t threads[APPENDERS];
    uint8_t firsts[APPENDERS];
    for (unsigned i = 0; i < APPENDERS; i++) {
        firsts[i] = (uint8_t)i;
        assert_int_equal(pthread_create(&threads[i], NULL, append_some, &firsts[i]), 0);
    }
    for (unsigned i = 0; i < APPENDERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(firsts[i], i);
    }
    struct key_grants *grants = NULL;
    assert_int_equal(key_grants_load("clients", &grants, NULL), 0);
    for (unsigned i = 0; i < APPENDERS; i++) {
        for (unsigned k = 0; k < LINES; k++) {
            uint8_t key[NOISE_KEY_BYTES] = {(uint8_t)i, (uint8_t)k, 1};
            assert_non_null(key_grants_find(grants, key));
        }
    }
    key_grants_destroy(&grants);
    assert_int_equal(files(false), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_whole_file, enter, leave),
        cmocka_unit_test_setup_teardown(test_good_values, enter, leave),
        cmocka_unit_test_setup_teardown(test_bad_lines, enter, leave),
        cmocka_unit_test_setup_teardown(test_lines_that_disagree, enter, leave),
        cmocka_unit_test_setup_teardown(test_file_itself, enter, leave),
        cmocka_unit_test_setup_teardown(test_group, enter, leave),
        cmocka_unit_test_setup_teardown(test_append, enter, leave),
        cmocka_unit_test_setup_teardown(test_append_refuses, enter, leave),
        cmocka_unit_test_setup_teardown(test_appenders, enter, leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
