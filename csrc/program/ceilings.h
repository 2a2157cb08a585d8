// What this machine can do at most with the pool's threads, measured now.
#pragma once

namespace miaotui {

struct Ceilings {
    double read_gb_per_s;  // streaming reads of 256 MB, best of a few passes
    double int8_gops;      // integer multiply-adds of the chosen tier, counted as two operations
    double f32_gflops;     // the same with floats
};

// Takes about a third of a second.
Ceilings measure_ceilings();

}  // namespace miaotui
