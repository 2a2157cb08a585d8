// One pool per process. All threads run the same function; they meet at barriers inside it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "base/crowding.h"

namespace miaotui {

// Spins briefly, then yields: on two cores shared with an event loop a waiting thread must not starve the one it waits for.
class Barrier {
public:
    explicit Barrier(int threads) : threads_(threads) {}
    void wait();
    void expect(int threads) { threads_ = threads; }  // while nobody waits

private:
    int threads_;
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<uint32_t> round_{0};
};

class ThreadPool {
public:
    explicit ThreadPool(int threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int size() const { return threads_; }
    Barrier& barrier() { return barrier_; }

    // While it lives, run() of other threads waits: for callers whose state must not change between checks and tasks.
    // fork() waits for it too, so that a child never inherits a half-done task.
    using Turn = std::unique_lock<std::mutex>;
    Turn turn() { return Turn(caller_); }

    // Runs task(thread index) on every thread, the caller being thread 0; returns when all are done. One caller at a time,
    // others wait. The task must not throw. Works in the child of a fork as well, with threads of its own.
    void run(const std::function<void(int)>& task) { run(turn(), task, threads_); }
    void run(const Turn& turn, const std::function<void(int)>& task, int threads);  // for callers that have their turn

    // The same for tasks that never sleep, on as many threads as are worth it now, at most `most`: task(thread index, threads).
    void run_uncrowded(const Turn& turn, const std::function<void(int, int)>& task, int most);

    // Runs body(item) for every item, items claimed one by one. The body must not throw.
    void for_each(int64_t num_items, const std::function<void(int64_t)>& body);

private:
    void start_workers();
    void forget_workers();
    void work(int index);

    const int threads_;
    Barrier barrier_;
    std::mutex caller_;  // not recursive: a child could not unlock that after a fork
    std::vector<std::thread> workers_;
    const std::function<void(int)>* task_ = nullptr;
    int owner_pid_ = 0;
    Crowding crowding_;
    // Number of the run << 11 | its threads (at most 1024), in one word: a worker that wakes late must not mistake one run's for another's.
    alignas(64) std::atomic<uint32_t> epoch_{0};
    alignas(64) std::atomic<int> running_{0};
    std::atomic<bool> stop_{false};
};

// The process's pool, made at first use with default_threads().
ThreadPool& thread_pool();

}  // namespace miaotui
