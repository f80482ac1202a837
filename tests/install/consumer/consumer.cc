// SPDX-License-Identifier: Apache-2.0
//
// The same header in C++11: sessions and segments as objects that let go of themselves, the segment as an array.
#include <dsm/dsm.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>

namespace
{

void demand(int error)
{
    if (error != 0) {
        throw std::runtime_error(std::string(dsm_strerror(error)) + ": " + dsm_error()->text);
    }
}

struct close_session {
    void operator()(dsm *session) const
    {
        dsm_close(session);
    }
};

std::uint64_t sum(dsm *session, const char *name)
{
    dsm_segment *segment = nullptr;
    demand(dsm_segment_open(session, name, DSM_READ_ONLY, &segment));
    const auto *numbers = static_cast<const std::uint64_t *>(dsm_segment_base(segment));
    const auto count = dsm_segment_size(segment) / sizeof *numbers;
    const auto total = std::accumulate(numbers, numbers + count, std::uint64_t{0});
    demand(dsm_segment_close(segment));
    return total;
}

void run(const char *name)
{
    dsm *opened = nullptr;
    demand(dsm_open(nullptr, &opened));
    const std::unique_ptr<dsm, close_session> session(opened);
    dsm_segment *segment = nullptr;
    demand(dsm_segment_create(opened, name, 8U << 20U, 0, 0, &segment));
    auto *numbers = static_cast<std::uint64_t *>(dsm_segment_base(segment));
    const auto count = dsm_segment_size(segment) / sizeof *numbers;
    std::iota(numbers, numbers + count, std::uint64_t{0});
    demand(dsm_swap_in(segment, dsm_interval{0, 1}, DSM_PIN | DSM_WRITE, DSM_NO_PAGE));
    demand(dsm_unpin(segment, dsm_interval{0, 1}));
    demand(dsm_segment_close(segment));
    if (sum(opened, name) != count * (count - 1) / 2) {
        throw std::runtime_error("the sum is wrong");
    }
    demand(dsm_segment_delete(opened, name));
}

} // namespace

int main(int argc, char **argv)
{
    try {
        run(argc > 1 ? argv[1] : "consumer");
    } catch (const std::exception &failure) {
        std::fprintf(stderr, "consumer: %s\n", failure.what());
        return EXIT_FAILURE;
    }
    std::puts("verified");
    return EXIT_SUCCESS;
}
