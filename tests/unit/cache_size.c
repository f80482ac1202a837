// SPDX-License-Identifier: Apache-2.0
//
// The cache when nobody says its size: from a made-up /proc and /sys/fs/cgroup of either version, with and without limits, in
// groups within groups and in containers, and shared among ranks.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "libdsm/cache_size.h"
#include "rpc/memory.h"

enum { MIB = 1 << 20 };
#define GIB (UINT64_C(1) << 30)
#define V2_MOUNT "31 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
#define V1_MOUNT "35 32 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"

static char root[] = "/tmp/cache-size-XXXXXX";

static int enter(void **state)
{
    (void)state;
    memset(strrchr(root, '-') + 1, 'X', 6);
    return mkdtemp(root) != NULL ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *where)
{
    (void)status;
    (void)kind;
    (void)where;
    return remove(path);
}

static int leave(void **state)
{
    (void)state;
    return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void put(const char *path, const char *text)
{
    char full[256];
    (void)snprintf(full, sizeof full, "%s/%s", root, path);
    for (char *at = full + strlen(root) + 1; (at = strchr(at, '/')) != NULL; at++) {
        *at = '\0';
        (void)mkdir(full, 0700);
        *at = '/';
    }
    FILE *file = fopen(full, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void have_8_gib(void)
{
    put("proc/meminfo", "MemTotal:       16777216 kB\nMemFree:          123456 kB\n"
                        "MemAvailable:    8388608 kB\nBuffers:               1 kB\n");
}

static void no_groups(void **state)
{
    (void)state;
    assert_int_equal(cache_size_default(root, 1), 64 * MIB); // nothing is known
    have_8_gib();
    assert_int_equal(memory_available(root), 8 * GIB);
    assert_true(memory_cgroup_left(root) == UINT64_MAX);
    assert_int_equal(cache_size_default(root, 1), 2 * GIB);
    assert_int_equal(cache_size_default(root, 3), 2048 / 3 * MIB); // whole MiB
    assert_int_equal(cache_size_default(root, 100000), cache_size_least());
}

static void second_version(void **state)
{
    (void)state;
    have_8_gib();
    put("proc/self/cgroup", "0::/user/job/step\n");
    put("proc/self/mountinfo", "23 1 0:22 / /proc rw - proc proc rw\n" V2_MOUNT);
    put("sys/fs/cgroup/user/job/step/memory.max", "max\n");
    assert_true(memory_cgroup_left(root) == UINT64_MAX);
    put("sys/fs/cgroup/user/job/step/memory.max", "3221225472\n");
    put("sys/fs/cgroup/user/job/step/memory.current", "2147483648\n");
    assert_int_equal(memory_cgroup_left(root), GIB);
    put("sys/fs/cgroup/user/job/step/memory.stat",
        "anon 1\nactive_file 5\ninactive_file 1073741824\n");
    assert_int_equal(memory_cgroup_left(root), 2 * GIB); // the page cache goes first
    assert_int_equal(cache_size_default(root, 1), GIB);
    put("sys/fs/cgroup/user/job/step/memory.high", "2147483648\n");
    assert_int_equal(memory_cgroup_left(root), GIB);
    put("sys/fs/cgroup/user/memory.max", "536870912\n"); // the group above is nearer to its limit
    put("sys/fs/cgroup/user/memory.current", "268435456\n");
    assert_int_equal(memory_cgroup_left(root), 256 * MIB);
    assert_int_equal(cache_size_default(root, 4), 32 * MIB);
    put("sys/fs/cgroup/user/memory.current", "536870913\n"); // beyond it
    assert_int_equal(memory_cgroup_left(root), 0);
    assert_int_equal(cache_size_default(root, 1), cache_size_least());
}

static void first_version(void **state)
{
    (void)state;
    have_8_gib();
    put("proc/self/cgroup", "9:name=systemd:/\n8:cpu,memory:/box/one\n0::/\n");
    put("proc/self/mountinfo",
        "34 32 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n" V1_MOUNT);
    put("sys/fs/cgroup/memory/box/one/memory.limit_in_bytes", "9223372036854771712\n");
    put("sys/fs/cgroup/memory/box/one/memory.usage_in_bytes", "4096\n");
    assert_true(memory_cgroup_left(root) == UINT64_MAX);
    put("sys/fs/cgroup/memory/box/one/memory.limit_in_bytes", "1073741824\n");
    put("sys/fs/cgroup/memory/box/one/memory.usage_in_bytes", "805306368\n");
    put("sys/fs/cgroup/memory/box/one/memory.stat",
        "inactive_file 1\ntotal_inactive_file 268435456\n");
    assert_int_equal(memory_cgroup_left(root), 512 * MIB);
    assert_int_equal(cache_size_default(root, 1), 256 * MIB);
}

// In a container the mount is our group, whatever path the host knows it by.
static void containers(void **state)
{
    (void)state;
    have_8_gib();
    put("proc/self/cgroup", "0::/../../docker/0123\n");
    put("proc/self/mountinfo", V2_MOUNT);
    put("sys/fs/cgroup/memory.max", "1073741824\n");
    put("sys/fs/cgroup/memory.current", "0\n");
    assert_int_equal(memory_cgroup_left(root), GIB);
    put("proc/self/cgroup", "8:memory:/docker/0123/inner\n");
    put("proc/self/mountinfo",
        "35 32 0:30 /docker/0123 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
    put("sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "536870912\n");
    put("sys/fs/cgroup/memory/inner/memory.usage_in_bytes", "0\n");
    assert_int_equal(memory_cgroup_left(root), 512 * MIB);
    put("proc/self/cgroup", "8:memory:/docker/01234\n"); // another one: only the mount is ours
    assert_true(memory_cgroup_left(root) == UINT64_MAX);
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n");
    assert_int_equal(memory_cgroup_left(root), 256 * MIB);
}

static void damaged(void **state)
{
    (void)state;
    have_8_gib();
    put("proc/self/cgroup", "0\n0:\n:::\n0::\n");
    put("proc/self/mountinfo", " - \n - cgroup2\nx - cgroup2 a b\n" V2_MOUNT);
    put("sys/fs/cgroup/memory.max", "many\n");
    assert_int_equal(cache_size_default(root, 1), 2 * GIB);
    put("proc/meminfo", "MemAvailable: lots\n");
    assert_int_equal(cache_size_default(root, 1), 64 * MIB);
}

static void ranks(void **state)
{
    (void)state;
    static const struct {
        const char *variable, *value;
        uint64_t ranks;
    } cases[] = {
        {"SLURM_NTASKS_PER_NODE", "48", 48},
        {"SLURM_STEP_TASKS_PER_NODE", "4(x2),3", 4},
        {"PALS_LOCAL_SIZE", "12", 12},
        {"PMI_LOCAL_SIZE", "0", 12},
        {"MV2_COMM_WORLD_LOCAL_SIZE", "-3", 12},
        {"MPI_LOCALNRANKS", "16", 16},
        {"OMPI_COMM_WORLD_LOCAL_SIZE", "many", 16},
        {"OMPI_COMM_WORLD_LOCAL_SIZE", "8", 8},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        (void)unsetenv(cases[i].variable);
    }
    assert_int_equal(cache_size_ranks(), 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        (void)setenv(cases[i].variable, cases[i].value, 1);
        assert_int_equal(cache_size_ranks(), cases[i].ranks);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(no_groups, enter, leave),
        cmocka_unit_test_setup_teardown(second_version, enter, leave),
        cmocka_unit_test_setup_teardown(first_version, enter, leave),
        cmocka_unit_test_setup_teardown(containers, enter, leave),
        cmocka_unit_test_setup_teardown(damaged, enter, leave),
        cmocka_unit_test(ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
