// What this machine offers: instruction sets the CPU has AND the OS saves, and the cores we may really use.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace miaotui {

enum class Tier : int { scalar = 0, avx2 = 1, avx512 = 2, avx512_vnni = 3 };
inline constexpr int kNumTiers = 4;

struct CpuFeatures {
    bool avx2 = false;         // AVX2 + FMA + F16C with OS support for the ymm registers
    bool avx512 = false;       // F, BW, DQ, VL, CD with OS support for the zmm and mask registers
    bool avx512_vnni = false;  // VNNI on top
    std::string model;         // brand string, "" where the CPU does not say
    std::vector<std::string> names;
};

const CpuFeatures& cpu_features();

const char* tier_name(Tier tier);
bool tier_runs_here(Tier tier);

// The best tier, or the one that MIAOTUI_ISA names. Throws BadTier if that is unknown or cannot run here.
Tier choose_tier();

// CPUs in this process's affinity mask.
int affinity_cpus();

// CPU quota of the control group in CPUs (v2 or v1), or 0 where there is none.
double cgroup_cpu_quota();

// Threads the pool should use: MIAOTUI_THREADS if set, else affinity capped by the quota (rounded up), at least 1.
// Throws BadSetting if the variable is not a number from 1 to 1024.
int default_threads();

}  // namespace miaotui
