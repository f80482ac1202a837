// SPDX-License-Identifier: Apache-2.0
//
// Private key files: what is written, and each reason for which one is refused. In a folder of its
// own.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rpc/keyfile.h"

static char folder[] = "/tmp/keyfile-XXXXXX";
static const char text_of_ones[] = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

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

static void put(const char *path, const char *text, size_t bytes, mode_t mode)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static void assert_refused(const char *path, int error, const char *says)
{
    struct key_identity *identity = NULL;
    struct failure failure = {""};
    assert_int_equal(keyfile_load(path, &identity, &failure), error);
    assert_null(identity);
    if (strstr(failure.text, says) == NULL || strstr(failure.text, path) == NULL) {
        fail_msg("\"%s\" does not say \"%s\" and \"%s\"", failure.text, says, path);
    }
    assert_int_equal(keyfile_load(path, &identity, NULL), error); // nobody has to listen
}

static mode_t mode_of(const char *path)
{
    struct stat status;
    assert_int_equal(lstat(path, &status), 0);
    assert_true(S_ISREG(status.st_mode));
    return status.st_mode & 07777;
}

static void test_generate_and_load(void **state)
{
    (void)state;
    char text[KEYFILE_TEXT_BYTES], encoded[KEYFILE_TEXT_BYTES], line[64] = "";
    struct key_identity *identity = NULL;
    struct failure failure = {""};
    mode_t old = umask(0);
    assert_int_equal(keyfile_generate("client", text, &failure), 0);
    (void)umask(old);
    assert_int_equal(mode_of("client"), 0600);
    assert_int_equal(mode_of("client.pub"), 0644);
    assert_int_equal(files(false), 2); // nothing else is left
    assert_int_equal(keyfile_load("client", &identity, &failure), 0);
    keyfile_encode(identity->public_key, encoded);
    assert_string_equal(encoded, text);
    uint8_t public_key[NOISE_KEY_BYTES];
    assert_int_equal(noise_public_key(identity->private_key, public_key), 0);
    assert_memory_equal(public_key, identity->public_key, sizeof public_key);
    FILE *file = fopen("client.pub", "re");
    assert_non_null(fgets(line, sizeof line, file));
    assert_int_equal(fgetc(file), EOF);
    assert_int_equal(fclose(file), 0);
    line[strcspn(line, "\n")] = '\0';
    assert_string_equal(line, text);
    key_identity_destroy(&identity);
    assert_null(identity);
    key_identity_destroy(&identity);
    assert_int_equal(keyfile_generate("other", encoded, &failure), 0);
    assert_string_not_equal(encoded, text);
}

static void assert_not_generated(const char *path, int error, unsigned files_after)
{
    char text[KEYFILE_TEXT_BYTES] = "untouched";
    struct failure failure = {""};
    assert_int_equal(keyfile_generate(path, text, &failure), error);
    assert_string_equal(text, "untouched");
    assert_true(strlen(failure.text) > 20);
    assert_int_equal(files(false), files_after);
}

static void test_never_overwrites(void **state)
{
    (void)state;
    put("a", "precious\n", 9, 0600);
    assert_not_generated("a", -EEXIST, 1);
    put("b.pub", "precious\n", 9, 0644);
    assert_not_generated("b", -EEXIST, 2);
    assert_int_equal(symlink("nowhere", "c"), 0);
    assert_not_generated("c", -EEXIST, 3);
    assert_int_equal(symlink("nowhere", "d.pub"), 0);
    assert_not_generated("d", -EEXIST, 4);
    assert_int_equal(access("nowhere", F_OK), -1);
    assert_not_generated("no/such/folder", -ENOENT, 4);
    char line[16] = "";
    FILE *file = fopen("a", "re");
    assert_non_null(fgets(line, sizeof line, file));
    assert_int_equal(fclose(file), 0);
    assert_string_equal(line, "precious\n");
    static char deep[5000];
    memset(deep, 'x', sizeof deep - 1);
    assert_not_generated(deep, -ENAMETOOLONG, 4);
}

static void test_modes_and_kinds(void **state)
{
    (void)state;
    static const mode_t bad[] = {0644, 0640, 0604, 0660, 0620, 0602, 0610, 0601, 0777};
    struct key_identity *identity = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        put("key", text_of_ones, 44, bad[i]);
        assert_refused("key", -EPERM, "chmod 600");
    }
    put("key", text_of_ones, 44, 0400);
    assert_int_equal(keyfile_load("key", &identity, NULL), 0);
    key_identity_destroy(&identity);
    assert_int_equal(symlink("key", "link"), 0);
    assert_int_equal(keyfile_load("link", &identity, NULL), 0);
    key_identity_destroy(&identity);
    assert_int_equal(chmod("key", 0644), 0);
    assert_refused("link", -EPERM, "0644"); // what counts is what the link leads to
    assert_refused("absent", -ENOENT, "does not exist");
    assert_refused(".", -EINVAL, "not a regular file");
    assert_int_equal(mkfifo("pipe", 0600), 0);
    assert_refused("pipe", -EINVAL, "not a regular file");
    assert_refused("/dev/null", -EINVAL, "not a regular file");
}

static void test_owner(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        skip(); // only root can give a file away
    }
    struct key_identity *identity = NULL;
    put("key", text_of_ones, 44, 0600);
    assert_int_equal(chown("key", 4711, 0), 0);
    assert_refused("key", -EPERM, "4711");
    assert_int_equal(chown("key", 0, 4711), 0);
    assert_int_equal(keyfile_load("key", &identity, NULL), 0);
    key_identity_destroy(&identity);
}

static void test_contents(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t bytes;
        const char *says;
    } bad[] = {
        {"", 0, "line 1"},
        {"\n", 1, "line 1"},
        {text_of_ones, 43, "line 1"},
        {"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\r\n", 46, "line 1"},
        {"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE= \n", 46, "line 1"},
        {" AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n", 46, "line 1"},
        {"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n\n", 46, "line 2"},
        {"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\nx", 46, "line 2"},
        {"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\0", 45, "line 1"},
        {"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQF=\n", 45, "line 1"}, // bits beyond the key
        {"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB\n", 45, "line 1"}, // 33 bytes
        {"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBA===\n", 45, "line 1"},
        {"AQEBAQEBAQEB_QEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n", 45, "line 1"}, // another alphabet
    };
    struct key_identity *identity = NULL;
    put("key", text_of_ones, 44, 0600); // the newline may be missing
    assert_int_equal(keyfile_load("key", &identity, NULL), 0);
    assert_int_equal(identity->private_key[31], 1);
    key_identity_destroy(&identity);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        put("key", bad[i].text, bad[i].bytes, 0600);
        assert_refused("key", -EINVAL, bad[i].says);
    }
    static char long_text[100000];
    memset(long_text, 'A', sizeof long_text);
    put("key", long_text, sizeof long_text, 0600);
    assert_refused("key", -EINVAL, "too long");
}

static void test_messages_hold_no_key(void **state)
{
    (void)state;
    struct key_identity *identity = NULL;
    struct failure failure = {""};
    put("key", "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\n", 44, 0600);
    assert_int_equal(keyfile_load("key", &identity, &failure), -EINVAL);
    assert_null(strstr(failure.text, "AQEB"));
}

static void test_base64(void **state)
{
    (void)state;
    uint8_t key[NOISE_KEY_BYTES], again[NOISE_KEY_BYTES];
    char text[KEYFILE_TEXT_BYTES];
    for (int i = 0; i < 200; i++) {
        noise_random(key, sizeof key);
        keyfile_encode(key, text);
        assert_int_equal(strlen(text), 44);
        assert_int_equal(keyfile_decode(text, again), 0);
        assert_memory_equal(again, key, sizeof key);
        text[i % 43] = '*';
        memset(again, 9, sizeof again);
        assert_int_equal(keyfile_decode(text, again), -EINVAL);
        assert_int_equal(again[0], 9); // written only on success
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_generate_and_load, enter, leave),
        cmocka_unit_test_setup_teardown(test_never_overwrites, enter, leave),
        cmocka_unit_test_setup_teardown(test_modes_and_kinds, enter, leave),
        cmocka_unit_test_setup_teardown(test_owner, enter, leave),
        cmocka_unit_test_setup_teardown(test_contents, enter, leave),
        cmocka_unit_test_setup_teardown(test_messages_hold_no_key, enter, leave),
        cmocka_unit_test_setup_teardown(test_base64, enter, leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
