#include "program/ceilings.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/aligned.h"
#include "base/thread_pool.h"
#include "kernels/table.h"

namespace miaotui {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

Ceilings measure_ceilings() {
    kernels();  // chooses the tier here, where a bad MIAOTUI_ISA can be reported; a pool thread must not throw
    ThreadPool& pool = thread_pool();
    constexpr int64_t kBytes = int64_t{256} << 20, kSlice = int64_t{1} << 20, kPasses = 5;
    const AlignedBuffer memory(kBytes, Pages::huge);  // as packed weights
    std::memset(memory.data(), 1, memory.size());
    Ceilings best{0, 0};
    for (int pass = 0; pass < kPasses; ++pass) {
        const auto start = std::chrono::steady_clock::now();
        pool.for_each(kBytes / kSlice, [&](int64_t i) { kernels().peak_read(memory.data() + i * kSlice, kSlice); });
        best.read_gb_per_s = std::max(best.read_gb_per_s, kBytes / seconds_since(start) / 1e9);
    }
    alignas(64) int8_t x[512];
    std::memset(x, 3, sizeof x);
    for (int pass = 0; pass < kPasses; ++pass) {
        int64_t operations = 0;
        const auto start = std::chrono::steady_clock::now();
        pool.run([&](int thread) {
            int64_t done;
            kernels().peak_dot(40000, x, &done);
            if (thread == 0) operations = done;
        });
        best.int8_gops =
            std::max(best.int8_gops, static_cast<double>(operations) * pool.size() / seconds_since(start) / 1e9);
    }
    return best;
}

}  // namespace miaotui
