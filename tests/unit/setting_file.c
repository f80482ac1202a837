// SPDX-License-Identifier: Apache-2.0
//
// Configuration files as such: what a line may look like, what is refused and on which line, and who
// may have written the file.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rpc/setting.h"

static char taken[1024]; // "LINE key=value;" for each

static int take(void *context, const char *key, const char *value, unsigned line,
                struct failure *reason)
{
    (void)context;
    size_t used = strlen(taken);
    if (strcmp(key, "bad") == 0) {
        return failure_set(reason, -ERANGE, "bad is bad.");
    }
    (void)snprintf(taken + used, sizeof taken - used, "%u %s=%s;", line, key, value);
    return 0;
}

static int read_bytes(const char *text, size_t bytes, struct failure *failure)
{
    FILE *stream = fmemopen((void *)(uintptr_t)text, bytes, "r");
    assert_non_null(stream);
    taken[0] = '\0';
    failure->text[0] = '\0';
    int error = setting_stream_read(stream, "x.conf", take, NULL, failure);
    assert_int_equal(fclose(stream), 0);
    return error;
}

static void reads(const char *text, const char *expected)
{
    struct failure failure;
    if (read_bytes(text, strlen(text), &failure) != 0) {
        fail_msg("\"%s\": %s", text, failure.text);
    }
    assert_string_equal(taken, expected);
}

static void refuses(const char *text, const char *before, const char *says)
{
    struct failure failure;
    int error = read_bytes(text, strlen(text), &failure);
    if (error >= 0 || strstr(failure.text, says) != failure.text) {
        fail_msg("\"%s\": %d, \"%s\", not \"%s\"", text, error, failure.text, says);
    }
    assert_string_equal(taken, before);
}

static void good_lines(void **state)
{
    (void)state;
    reads("\n", "");
    reads("a=b", "1 a=b;");
    reads("a = b\r\n\r\nc =  d e \n", "1 a=b;3 c=d e;");
    reads("# a = b\n; c = d\n\t a = b ; said\n", "3 a=b;");
    reads("  a = 1\n  b = 2\n   3 = x\n", "1 a=1;2 b=2;3 3=x;"); // blanks in front mean nothing
    reads("a = [::]:7412\nb = x=y\nc =\n", "1 a=[::]:7412;2 b=x=y;3 c=;");
    reads("path = /a#b;c\n", "1 path=/a#b;c;");
    reads("\xEF\xBB\xBF"
          "a = 1\n",
          "1 a=1;"); // what Windows puts in front
}

static void bad_lines(void **state)
{
    (void)state;
    refuses("a = 1\nnonsense\nb = 2\n", "1 a=1;3 b=2;", "x.conf:2: this line is no KEY = VALUE");
    refuses("a = 1\n\n[server]\nb = 2\n", "1 a=1;", "x.conf:3: there are no sections");
    refuses("a = 1 # said\n", "", "x.conf:1: a comment behind a value");
    refuses("a = 1\nbad = 1\nb = 2\n", "1 a=1;", "x.conf:2: bad is bad.");
    refuses("a = \x01\n", "", "x.conf:1: there is a control character");
}

static void nul(void **state)
{
    (void)state;
    struct failure failure;
    assert_int_equal(read_bytes("a = 1\0\nb = 2\n", 13, &failure), -EINVAL);
    assert_non_null(strstr(failure.text, "x.conf:1: there is a control character"));
}

// inih would cut a long line and take its rest for a line.
static void long_lines(void **state)
{
    (void)state;
    char text[1024];
    char expected[sizeof text + 8];
    struct failure failure;
    memset(text, 'v', sizeof text);
    memcpy(text, "a = ", 4);
    text[198] = '\0';
    (void)snprintf(expected, sizeof expected, "1 a=%s;", text + 4);
    reads(text, expected);
    text[198] = 'v';
    text[199] = '\0';
    refuses(text, "", "x.conf:1: this line has more than 198 characters.");
    memset(text, '#', 500);
    (void)snprintf(text + 500, sizeof text - 500, "\na = 1\n");
    assert_int_equal(read_bytes(text, strlen(text), &failure), -EINVAL);
}

static void owners(void **state)
{
    (void)state;
    char path[] = "/tmp/setting-file-XXXXXX";
    struct failure failure = {.text = ""};
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, "a = 1\n", 6) == 6 && close(fd) == 0);
    static const struct {
        mode_t mode;
        int error;
    } cases[] = {{0600, 0}, {0644, 0}, {0640, 0}, {0664, -EPERM}, {0602, -EPERM}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(chmod(path, cases[i].mode), 0);
        taken[0] = '\0';
        assert_int_equal(setting_file_read(path, take, NULL, &failure), cases[i].error);
        assert_string_equal(taken, cases[i].error == 0 ? "1 a=1;" : "");
    }
    assert_non_null(strstr(failure.text, "chmod go-w"));
    if (geteuid() == 0) {
        assert_int_equal(chmod(path, 0644), 0);
        assert_int_equal(chown(path, 65534, 65534), 0);
        assert_int_equal(setting_file_read(path, take, NULL, &failure), -EPERM);
    }
    assert_int_equal(unlink(path), 0);
    assert_int_equal(setting_file_read(path, take, NULL, &failure), -ENOENT);
    assert_int_equal(setting_file_read("/dev/null", take, NULL, &failure), -EINVAL);
    assert_int_equal(setting_file_read("/tmp", take, NULL, &failure), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_lines), cmocka_unit_test(bad_lines), cmocka_unit_test(nul),
        cmocka_unit_test(long_lines), cmocka_unit_test(owners),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
