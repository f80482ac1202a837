// SPDX-License-Identifier: Apache-2.0
//
// Capsules: what goes in comes out, through memory, file, pipe and socket; and what is not as it was sealed is refused, each kind
// with its own error and words: any bit other, cut anywhere, another key, a newer version, a length that cannot be. What may be in it:
// capsule_contents.c.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc/deadline.h"
#include "rpc/wire.h"
#include "tests/unit/capsule_rig.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { SOME_BITS = 5 }; // everything is slower there
#else
enum { SOME_BITS = 1 };
#endif

static struct key_identity *mine;

static int set_up(void **state)
{
    (void)state;
    mine = capsule_destination();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    key_identity_destroy(&mine);
    return 0;
}

static struct capsule_memory sealed(struct capsule *capsule)
{
    struct capsule_memory memory = {0};
    struct capsule_stream stream = capsule_memory_stream(&memory);
    struct failure failure = {""};
    if (capsule_write(capsule, &stream, &failure) != 0) {
        fail_msg("%s", failure.text);
    }
    memory.cut = memory.used;
    return memory;
}

static int opened(struct capsule_memory *memory, struct capsule **capsule, struct failure *failure)
{
    struct capsule_stream stream = capsule_memory_stream(memory);
    struct capsule_facts facts;
    memory->at = 0;
    int error = capsule_read_facts(&stream, &facts, failure);
    return error != 0 ? error : capsule_read(&stream, &facts, mine, capsule, failure);
}

// Bodies are equal when all is: encode says everything.
static void assert_same(const struct capsule *a, const struct capsule *b)
{
    if (a == NULL || b == NULL) {
        abort();
    }
    uint64_t bytes = capsule_body_bytes(a);
    assert_int_equal(capsule_body_bytes(b), bytes);
    uint8_t *one = malloc(bytes), *other = malloc(bytes);
    assert_non_null(one);
    assert_non_null(other);
    capsule_body_encode(a, one);
    capsule_body_encode(b, other);
    assert_memory_equal(one, other, bytes);
    assert_memory_equal(a->facts.id, b->facts.id, CAPSULE_ID_BYTES);
    assert_int_equal(a->facts.expires_ms, b->facts.expires_ms);
    free(one);
    free(other);
}

static void comes_back(void **state)
{
    (void)state;
    struct capsule *capsule = capsule_sample(mine->public_key), *back = NULL;
    struct capsule_memory memory = sealed(capsule);
    assert_int_equal(memory.used, capsule_bytes(capsule));
    assert_int_equal(opened(&memory, &back, NULL), 0);
    assert_int_equal(memory.at, memory.used);
    assert_same(capsule, back);
    assert_string_equal(back->source, "node7 (pid 4711)");
    assert_int_equal(back->segments[1].from.version, 9);
    assert_int_equal(back->segments[1].runs[2].place, CAPSULE_BACKING);
    assert_true(back->segments[1].runs[2].read_only && back->segments[1].runs[2].changed);
    assert_int_equal(back->segments[4].page_bytes, 1 << 20);
    // The token is nowhere in the open, and no two seals are the same.
    assert_null(memmem(memory.bytes, memory.used, capsule->token, 8));
    struct capsule_memory again = sealed(capsule);
    assert_memory_not_equal(memory.bytes + CAPSULE_HEADER_BYTES, again.bytes + CAPSULE_HEADER_BYTES,
                            NOISE_KEY_BYTES);
    free(again.bytes);
    free(memory.bytes);
    capsule_destroy(&back);
    capsule_destroy(&capsule);
}

static void every_bit_counts(void **state)
{
    (void)state;
    struct capsule *capsule = capsule_sample(mine->public_key);
    struct capsule_memory memory = sealed(capsule);
    for (size_t bit = 0; bit < 8 * memory.used; bit += SOME_BITS) {
        struct capsule *back = NULL;
        struct failure failure = {""};
        memory.bytes[bit / 8] = (uint8_t)(memory.bytes[bit / 8] ^ 1U << bit % 8);
        int error = opened(&memory, &back, &failure);
        memory.bytes[bit / 8] = (uint8_t)(memory.bytes[bit / 8] ^ 1U << bit % 8);
        assert_null(back);
        assert_string_not_equal(failure.text, "");
        if (bit / 8 >= CAPSULE_HEADER_BYTES) {
            assert_int_equal(error, -EBADMSG);
            assert_non_null(strstr(failure.text, "altered"));
        } else {
            assert_true(error == -EBADMSG || error == -EKEYREJECTED || error == -EFBIG ||
                        error == -EPROTONOSUPPORT || error == -ENODATA);
        }
    }
    free(memory.bytes);
    capsule_destroy(&capsule);
}

static void cut_anywhere(void **state)
{
    (void)state;
    struct capsule *capsule = capsule_sample(mine->public_key);
    struct capsule_memory memory = sealed(capsule);
    for (size_t bytes = 0; bytes < memory.used; bytes++) {
        struct capsule *back = NULL;
        struct failure failure = {""};
        memory.cut = bytes;
        assert_int_equal(opened(&memory, &back, &failure), -ENODATA);
        assert_non_null(strstr(failure.text, "cut"));
        assert_null(back);
    }
    free(memory.bytes);
    capsule_destroy(&capsule);
}

static void each_refusal_has_its_words(void **state)
{
    (void)state;
    struct capsule *capsule = capsule_sample(mine->public_key), *back = NULL;
    struct capsule_memory memory = sealed(capsule);
    struct key_identity *other = NULL;
    struct capsule_stream stream = capsule_memory_stream(&memory);
    struct capsule_facts facts;
    struct failure failure = {""};
    assert_int_equal(key_identity_create(&other), 0);
    assert_int_equal(capsule_read_facts(&stream, &facts, &failure), 0);
    assert_memory_equal(facts.destination, mine->public_key, NOISE_KEY_BYTES);
    assert_int_equal(capsule_read(&stream, &facts, other, &back, &failure), -EKEYREJECTED);
    assert_non_null(strstr(failure.text, "another key"));
    // Whoever writes their own key over the destination's gains nothing.
    memcpy(memory.bytes + 32, other->public_key, NOISE_KEY_BYTES);
    memory.at = 0;
    assert_int_equal(capsule_read_facts(&stream, &facts, &failure), 0);
    assert_int_equal(capsule_read(&stream, &facts, other, &back, &failure), -EBADMSG);
    assert_non_null(strstr(failure.text, "altered"));
    memory.bytes[8] = CAPSULE_VERSION + 1;
    assert_int_equal(opened(&memory, &back, &failure), -EPROTONOSUPPORT);
    assert_non_null(strstr(failure.text, "newer"));
    memory.bytes[0] ^= 1;
    assert_int_equal(opened(&memory, &back, &failure), -EBADMSG);
    assert_string_equal(failure.text, "This is no capsule.");
    assert_int_equal(capsule_expired(&capsule->facts, 4102444799999, &failure), 0);
    assert_int_equal(capsule_expired(&capsule->facts, 4102444800000, &failure), -ETIME);
    assert_non_null(strstr(failure.text, "expired at 2100-01-01 00:00:00 UTC"));
    key_identity_destroy(&other);
    free(memory.bytes);
    capsule_destroy(&capsule);
}

// A claim costs nothing before bytes follow it: here the memory for them is not there.
static void claims_are_bounded(void **state)
{
    (void)state;
    struct capsule *capsule = capsule_sample(mine->public_key), *back = NULL;
    struct capsule_memory memory = sealed(capsule);
    static const uint64_t claims[] = {0, LIMIT_CAPSULE_BYTES + 1ULL, UINT64_MAX};
    for (size_t i = 0; i < sizeof claims / sizeof *claims; i++) {
        memcpy(memory.bytes + 72, &claims[i], sizeof claims[i]);
        assert_int_equal(opened(&memory, &back, NULL), -EFBIG);
    }
    free(memory.bytes);
    // A low-order point as the destination, from which no key can be made.
    memset(capsule->facts.destination, 0, NOISE_KEY_BYTES);
    memory = (struct capsule_memory){0};
    struct capsule_stream stream = capsule_memory_stream(&memory);
    assert_int_equal(capsule_write(capsule, &stream, NULL), -EINVAL);
    assert_int_equal(memory.used, 0);
    capsule_destroy(&capsule);
}

static void large_ones(void **state)
{
    (void)state;
    struct capsule *capsule = capsule_sample(mine->public_key), *back = NULL;
    struct capsule_memory memory = {0};
    struct capsule_stream stream = capsule_memory_stream(&memory);
    struct failure failure = {""};
    uint64_t others = capsule_body_bytes(capsule) - 8ULL * capsule->segments[3].run_count;
    uint32_t most = (uint32_t)((LIMIT_CAPSULE_BYTES - others) / 8);
    capsule->segments[3].base = LIMIT_BASE_LOW + (8ULL << 30);
    capsule_fragment(&capsule->segments[3], most);
    memory = sealed(capsule);
    assert_int_equal(memory.used, capsule_bytes(capsule));
    assert_int_equal(opened(&memory, &back, NULL), 0);
    assert_same(capsule, back);
    capsule_destroy(&back);
    // The last record's last byte, and two records exchanged.
    memory.bytes[memory.used - 1] ^= 1;
    assert_int_equal(opened(&memory, &back, NULL), -EBADMSG);
    memory.bytes[memory.used - 1] ^= 1;
    size_t record = LIMIT_RECORD_DATA_BYTES + LIMIT_SEAL_BYTES;
    uint8_t *first = memory.bytes + CAPSULE_HEADER_BYTES + CAPSULE_OPENING_BYTES;
    for (size_t i = 0; i < record; i++) {
        uint8_t byte = first[i];
        first[i] = first[record + i];
        first[record + i] = byte;
    }
    assert_int_equal(opened(&memory, &back, NULL), -EBADMSG);
    capsule_fragment(&capsule->segments[3], most + 1);
    size_t used = memory.used;
    assert_int_equal(capsule_write(capsule, &stream, &failure), -EFBIG);
    assert_int_equal(memory.used, used);
    free(memory.bytes);
    capsule_destroy(&capsule);
}

// ---- descriptors

static struct capsule_descriptor whole_minute(int fd)
{
    return (struct capsule_descriptor){fd, deadline_now() + 60LL * DEADLINE_NS_PER_S};
}

static void through_a_file(void **state)
{
    (void)state;
    struct capsule *capsule = capsule_sample(mine->public_key), *back = NULL;
    int fd = memfd_create("capsule", MFD_CLOEXEC);
    struct capsule_descriptor descriptor = whole_minute(fd);
    struct capsule_stream stream = capsule_stream_of(&descriptor);
    struct capsule_facts facts;
    struct failure failure = {""};
    assert_int_equal(capsule_write(capsule, &stream, &failure), 0);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        assert_int_equal(capsule_read_facts(&stream, &facts, &failure), 0);
        assert_int_equal(capsule_read(&stream, &facts, mine, &back, &failure), 0);
        assert_same(capsule, back);
        capsule_destroy(&back);
        assert_int_equal(capsule_descriptor_end(&descriptor, &failure), round == 0 ? 0 : -EBADMSG);
        assert_int_equal(write(fd, "x", 1), 1);
    }
    (void)close(fd);
    capsule_destroy(&capsule);
}

static struct capsule *large_sample(void) // more than a pipe or a socket keeps
{
    struct capsule *capsule = capsule_sample(mine->public_key);
    capsule->segments[3].base = LIMIT_BASE_LOW + (8ULL << 30);
    capsule_fragment(&capsule->segments[3], 100000);
    return capsule;
}

static void *write_two(void *context)
{
    const int *fd = context;
    struct capsule *capsule = large_sample();
    struct capsule_descriptor descriptor = whole_minute(*fd);
    struct capsule_stream stream = capsule_stream_of(&descriptor);
    struct failure failure = {""};
    for (int i = 0; i < 2; i++) {
        if (capsule_write(capsule, &stream, &failure) != 0) {
            abort();
        }
    }
    (void)close(*fd);
    capsule_destroy(&capsule);
    return NULL;
}

// Two capsules, one behind the other, then the end.
static void read_two(int from, int to)
{
    pthread_t writer;
    struct capsule_descriptor descriptor = whole_minute(from);
    struct capsule_stream stream = capsule_stream_of(&descriptor);
    struct capsule_facts facts;
    struct failure failure = {""};
    assert_int_equal(pthread_create(&writer, NULL, write_two, &to), 0);
    for (int i = 0; i < 2; i++) {
        struct capsule *back = NULL;
        assert_int_equal(capsule_read_facts(&stream, &facts, &failure), 0);
        assert_int_equal(capsule_read(&stream, &facts, mine, &back, &failure), 0);
        assert_int_equal(capsule_descriptor_end(&descriptor, &failure), 0);
        assert_int_equal(back->segments[3].run_count, 100000);
        capsule_destroy(&back);
    }
    assert_int_equal(capsule_read_facts(&stream, &facts, &failure), -ENODATA);
    assert_int_equal(pthread_join(writer, NULL), 0);
    (void)close(from);
}

static void through_a_pipe(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    read_two(ends[0], ends[1]);
}

static void through_a_socket(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    read_two(ends[0], ends[1]);
}

static void nobody_writes_or_reads(void **state)
{
    (void)state;
    struct capsule *capsule = capsule_sample(mine->public_key);
    struct capsule_facts facts;
    struct failure failure = {""};
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    struct capsule_descriptor descriptor = {ends[0], deadline_now() + 20 * DEADLINE_NS_PER_MS};
    struct capsule_stream stream = capsule_stream_of(&descriptor);
    assert_int_equal(capsule_read_facts(&stream, &facts, &failure), -ETIMEDOUT);
    (void)close(ends[1]); // no SIGPIPE
    descriptor.deadline = INT64_MAX;
    assert_int_equal(capsule_write(capsule, &stream, &failure), -EPIPE);
    (void)close(ends[0]);
    capsule_destroy(&capsule);
}

// Somebody has the other end and does not read: it is not waited for, though the descriptor blocks.
static void reads_nothing(int to)
{
    struct capsule *capsule = large_sample();
    struct capsule_descriptor descriptor = {to, deadline_now() + 50 * DEADLINE_NS_PER_MS};
    struct capsule_stream stream = capsule_stream_of(&descriptor);
    struct failure failure = {""};
    (void)alarm(60); // what blocks ends the test
    assert_int_equal(capsule_write(capsule, &stream, &failure), -ETIMEDOUT);
    (void)alarm(0);
    capsule_destroy(&capsule);
}

static void the_reader_stops(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    reads_nothing(ends[0]);
    (void)close(ends[0]);
    (void)close(ends[1]);
    assert_int_equal(pipe(ends), 0);
    reads_nothing(ends[1]);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_back),         cmocka_unit_test(every_bit_counts),
        cmocka_unit_test(cut_anywhere),       cmocka_unit_test(each_refusal_has_its_words),
        cmocka_unit_test(claims_are_bounded), cmocka_unit_test(large_ones),
        cmocka_unit_test(through_a_file),     cmocka_unit_test(through_a_pipe),
        cmocka_unit_test(through_a_socket),   cmocka_unit_test(nobody_writes_or_reads),
        cmocka_unit_test(the_reader_stops),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
