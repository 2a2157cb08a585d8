#include "base/thread_pool.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/cpu.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace miaotui {
namespace {

// About 50 µs of polling: longer than the gap between two steps of a decode loop, short enough not to burn an idle core.
constexpr int kSpinsBeforeSleep = 2000;
// A barrier inside a step is over in well under a microsecond unless the other thread lost its core.
constexpr int kSpinsBeforeYield = 4000;

constexpr uint32_t kNextRun = 1 << 11, kThreadsMask = kNextRun - 1;

double seconds(clockid_t clock) {
    timespec now{};
    clock_gettime(clock, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

inline void relax() {
#if defined(__x86_64__)
    _mm_pause();
#endif
}

}  // namespace

void Barrier::wait() {
    if (threads_ == 1) return;
    const uint32_t round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == threads_ - 1) {
        arrived_.store(0, std::memory_order_relaxed);
        round_.store(round + 1, std::memory_order_release);
        return;
    }
    for (int spins = 0; round_.load(std::memory_order_acquire) == round;) {
        if (++spins < kSpinsBeforeYield)
            relax();
        else
            sched_yield();
    }
}

ThreadPool::ThreadPool(int threads) : threads_(threads), barrier_(threads), crowding_(threads) { start_workers(); }

void ThreadPool::start_workers() {
    owner_pid_ = getpid();
    workers_.reserve(static_cast<size_t>(threads_));
    for (int i = 1; i < threads_; ++i) workers_.emplace_back(&ThreadPool::work, this, i);
}

ThreadPool::~ThreadPool() {
    if (owner_pid_ != getpid()) {
        forget_workers();
        return;
    }
    stop_.store(true);
    epoch_.fetch_add(kNextRun);
    epoch_.notify_all();
    for (auto& worker : workers_) worker.join();
}

// In a forked child the workers stayed behind in the parent: their handles can be neither joined, nor detached, nor destroyed.
void ThreadPool::forget_workers() { new std::vector<std::thread>(std::exchange(workers_, {})); }

void ThreadPool::work(int index) {
    uint32_t seen = 0;
    while (true) {
        for (int spins = 0; epoch_.load(std::memory_order_acquire) == seen && spins < kSpinsBeforeSleep; ++spins)
            relax();
        epoch_.wait(seen, std::memory_order_acquire);
        seen = epoch_.load(std::memory_order_acquire);
        if (stop_.load()) return;
        if (index >= static_cast<int>(seen & kThreadsMask)) continue;
        (*task_)(index);
        running_.fetch_sub(1, std::memory_order_release);
    }
}

void ThreadPool::run(const Turn&, const std::function<void(int)>& task, int threads) {
    if (owner_pid_ != getpid()) {
        forget_workers();
        epoch_.store(0);
        start_workers();
    }
    barrier_.expect(threads);
    if (threads == 1) return task(0);
    task_ = &task;
    running_.store(threads - 1, std::memory_order_relaxed);
    const uint32_t runs = (epoch_.load(std::memory_order_relaxed) & ~kThreadsMask) + kNextRun;
    epoch_.store(runs | static_cast<uint32_t>(threads), std::memory_order_release);
    epoch_.notify_all();
    task(0);
    for (int spins = 0; running_.load(std::memory_order_acquire) != 0;) {
        if (++spins < kSpinsBeforeYield)
            relax();
        else
            sched_yield();
    }
}

void ThreadPool::run_uncrowded(const Turn& turn, const std::function<void(int, int)>& task, int most) {
    const double start_s = seconds(CLOCK_MONOTONIC);
    const int threads = std::min(most, crowding_.threads(start_s));
    std::atomic<double> most_lost_s{0};
    run(
        turn,
        [&](int thread) {
            const double wall_s = seconds(CLOCK_MONOTONIC), cpu_s = seconds(CLOCK_THREAD_CPUTIME_ID);
            task(thread, threads);
            const double lost_s = seconds(CLOCK_MONOTONIC) - wall_s - (seconds(CLOCK_THREAD_CPUTIME_ID) - cpu_s);
            double most_s = most_lost_s.load(std::memory_order_relaxed);
            while (lost_s > most_s && !most_lost_s.compare_exchange_weak(most_s, lost_s)) {}
        },
        threads);
    const double end_s = seconds(CLOCK_MONOTONIC);
    crowding_.note(end_s, end_s - start_s, most_lost_s.load());
}

void ThreadPool::for_each(int64_t num_items, const std::function<void(int64_t)>& body) {
    std::atomic<int64_t> next{0};
    run([&](int) {
        for (int64_t i = next.fetch_add(1); i < num_items; i = next.fetch_add(1)) body(i);
    });
}

ThreadPool& thread_pool() {
    static ThreadPool pool(default_threads());
    static ThreadPool::Turn turn_of_fork;
    static const int registered = pthread_atfork([] { turn_of_fork = pool.turn(); }, [] { turn_of_fork.unlock(); },
                                                 [] { turn_of_fork.unlock(); });
    (void)registered;
    return pool;
}

}  // namespace miaotui
