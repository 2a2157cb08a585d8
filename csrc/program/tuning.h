// Choices that depend on the machine and change no result, only speed.
#pragma once

#include <cstdint>

namespace miaotui {

struct Tuning {
    // From so many tokens on, blocks of weights are unpacked once into panels that all tokens then share …
    int64_t panel_tokens = 48;
    // … and multiplied so many at a time (1 or 2), which then share what is loaded of the activations.
    int64_t panel_blocks = 2;
    // Threads of steps with fewer than kLongStepTokens tokens and of longer ones; at most those of the pool.
    int short_threads = 1024, long_threads = 1024;
};

// From here on operators are longer than a scheduler's slice: threads that lose their core for one hold nobody up for long.
inline constexpr int kLongStepTokens = 128;

}  // namespace miaotui
