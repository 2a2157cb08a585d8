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

constexpr int kPasses = 5;

// 10⁹ operations per second of work(&operations) on all threads, best of a few passes.
template <class WORK>
double best_rate(WORK work) {
    ThreadPool& pool = thread_pool();
    double best = 0;
    for (int pass = 0; pass < kPasses; ++pass) {
        int64_t operations = 0;
        const auto start = std::chrono::steady_clock::now();
        pool.run([&](int thread) {
            int64_t done;
            work(&done);
            if (thread == 0) operations = done;
        });
        best = std::max(best, static_cast<double>(operations) * pool.size() / seconds_since(start) / 1e9);
    }
    return best;
}

}  // namespace

Ceilings measure_ceilings() {
    kernels();  // chooses the tier here, where a bad MIAOTUI_ISA can be reported; a pool thread must not throw
    ThreadPool& pool = thread_pool();
    constexpr int64_t kBytes = int64_t{256} << 20, kSlice = int64_t{1} << 20;
    const AlignedBuffer memory(kBytes, Pages::huge);  // as packed weights
    std::memset(memory.data(), 1, memory.size());
    Ceilings best{};
    for (int pass = 0; pass < kPasses; ++pass) {
        const auto start = std::chrono::steady_clock::now();
        pool.for_each(kBytes / kSlice, [&](int64_t i) { kernels().peak_read(memory.data() + i * kSlice, kSlice); });
        best.read_gb_per_s = std::max(best.read_gb_per_s, kBytes / seconds_since(start) / 1e9);
    }
    alignas(64) static const int8_t codes[512] = {3, 3, 3, 3};
    alignas(64) static const float floats[16] = {0.5F, 0.5F, 0.5F, 0.5F};
    best.int8_gops = best_rate([](int64_t* done) { kernels().peak_dot(40000, codes, done); });
    best.f32_gflops = best_rate([](int64_t* done) { kernels().peak_fma(400000, floats, done); });
    return best;
}

}  // namespace miaotui
