#include "base/cpu.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "base/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace miaotui {
namespace {

#if defined(__x86_64__)
struct Registers {
    uint32_t a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(uint32_t leaf, uint32_t subleaf = 0) {
    Registers r;
    __get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d);
    return r;
}

uint64_t saved_state_mask() {
    uint32_t low = 0, high = 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t{high} << 32) | low;
}

bool bit(uint32_t word, int index) { return (word >> index) & 1U; }

std::string brand_string() {
    if (cpuid(0x80000000).a < 0x80000004) return "";
    char text[49] = {};
    for (uint32_t i = 0; i < 3; ++i) {
        const Registers r = cpuid(0x80000002 + i);
        std::memcpy(text + 16 * i, &r, 16);
    }
    std::string brand(text);
    const auto first = brand.find_first_not_of(' ');
    return first == std::string::npos ? "" : brand.substr(first, brand.find_last_not_of(' ') - first + 1);
}

CpuFeatures detect() {
    CpuFeatures f;
    f.model = brand_string();
    const Registers one = cpuid(1), seven = cpuid(7);
    const bool os_saves_state = bit(one.c, 27);  // OSXSAVE: without it xgetbv faults
    const uint64_t state = os_saves_state ? saved_state_mask() : 0;
    const bool ymm = (state & 0x06) == 0x06, zmm = (state & 0xE6) == 0xE6;
    const struct {
        const char* name;
        bool present;
    } table[] = {
        {"avx2", ymm && bit(seven.b, 5)},         {"fma", ymm && bit(one.c, 12)},
        {"f16c", ymm && bit(one.c, 29)},          {"avx512f", zmm && bit(seven.b, 16)},
        {"avx512dq", zmm && bit(seven.b, 17)},    {"avx512cd", zmm && bit(seven.b, 28)},
        {"avx512bw", zmm && bit(seven.b, 30)},    {"avx512vl", zmm && bit(seven.b, 31)},
        {"avx512_vnni", zmm && bit(seven.c, 11)},
    };
    for (const auto& entry : table)
        if (entry.present) f.names.emplace_back(entry.name);
    const auto has = [&](const char* name) { return std::find(f.names.begin(), f.names.end(), name) != f.names.end(); };
    f.avx2 = has("avx2") && has("fma") && has("f16c");
    f.avx512 = f.avx2 && has("avx512f") && has("avx512dq") && has("avx512cd") && has("avx512bw") && has("avx512vl");
    f.avx512_vnni = f.avx512 && has("avx512_vnni");
    return f;
}
#else
CpuFeatures detect() { return {}; }
#endif

double read_quota_v2(const std::string& folder) {
    std::ifstream file(folder + "/cpu.max");
    std::string quota;
    double period = 0;
    if (!(file >> quota >> period) || quota == "max" || period <= 0) return 0;
    return std::strtod(quota.c_str(), nullptr) / period;
}

double read_quota_v1(const std::string& folder) {
    double quota = 0, period = 0;
    std::ifstream quota_file(folder + "/cpu.cfs_quota_us"), period_file(folder + "/cpu.cfs_period_us");
    if (!(quota_file >> quota) || !(period_file >> period) || quota <= 0 || period <= 0) return 0;
    return quota / period;
}

void keep_smaller(double& smallest, double quota) {
    if (quota > 0 && (smallest == 0 || quota < smallest)) smallest = quota;
}

}  // namespace

const CpuFeatures& cpu_features() {
    static const CpuFeatures features = detect();
    return features;
}

const char* tier_name(Tier tier) {
    static const char* const names[kNumTiers] = {"scalar", "avx2", "avx512", "avx512_vnni"};
    return names[static_cast<int>(tier)];
}

bool tier_runs_here(Tier tier) {
    const CpuFeatures& f = cpu_features();
    switch (tier) {
        case Tier::scalar: return true;
        case Tier::avx2: return f.avx2;
        case Tier::avx512: return f.avx512;
        case Tier::avx512_vnni: return f.avx512_vnni;
    }
    return false;
}

Tier choose_tier() {
    Tier best = Tier::scalar;
    std::string runnable;
    for (int i = 0; i < kNumTiers; ++i) {
        if (!tier_runs_here(static_cast<Tier>(i))) continue;
        best = static_cast<Tier>(i);
        runnable += (runnable.empty() ? "" : ", ") + std::string(tier_name(best));
    }
    const char* wanted = std::getenv("MIAOTUI_ISA");
    if (wanted == nullptr || *wanted == '\0') return best;
    for (int i = 0; i < kNumTiers; ++i) {
        const Tier tier = static_cast<Tier>(i);
        if (std::strcmp(wanted, tier_name(tier)) == 0 && tier_runs_here(tier)) return tier;
    }
    throw BadTier("MIAOTUI_ISA=" + std::string(wanted) + " cannot run on this machine; choose one of: " + runnable +
                  ", or unset it");
}

int affinity_cpus() {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    return std::max(1, CPU_COUNT(&set));
}

double cgroup_cpu_quota() {
    // The tightest limit on the way from this process's own group up to the root counts.
    double smallest = 0;
    std::ifstream groups("/proc/self/cgroup");
    for (std::string line; std::getline(groups, line);) {
        std::istringstream fields(line);
        std::string id, controllers, path;
        if (!std::getline(fields, id, ':') || !std::getline(fields, controllers, ':') || !std::getline(fields, path))
            continue;
        const bool v2 = controllers.empty();
        if (!v2 && ("," + controllers + ",").find(",cpu,") == std::string::npos) continue;
        const std::string root = v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu";
        while (true) {
            keep_smaller(smallest, v2 ? read_quota_v2(root + path) : read_quota_v1(root + path));
            const auto slash = path.find_last_of('/');
            if (path.empty() || slash == std::string::npos) break;
            path.resize(slash);
        }
    }
    keep_smaller(smallest, read_quota_v2("/sys/fs/cgroup"));  // inside a container the path above may not exist
    return smallest;
}

int default_threads() {
    if (const char* text = std::getenv("MIAOTUI_THREADS"); text != nullptr && *text != '\0') {
        char* end = nullptr;
        const long value = std::strtol(text, &end, 10);
        if (*end != '\0' || value < 1 || value > 1024)
            throw BadSetting("MIAOTUI_THREADS=" + std::string(text) +
                             " is not a number of threads; use 1 to 1024 or unset it");
        return static_cast<int>(value);
    }
    const double quota = cgroup_cpu_quota();
    const int cpus = affinity_cpus();
    return quota > 0 ? std::clamp(static_cast<int>(std::ceil(quota)), 1, cpus) : cpus;
}

}  // namespace miaotui
