// Counter-based random numbers: Philox-4x32-10 of Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as
// 1, 2, 3" (SC 2011). A draw is a pure function of (key, counter), so a token does not depend on who else is served.
#pragma once

#include <array>
#include <cstdint>

namespace miaotui {

using PhiloxBlock = std::array<uint32_t, 4>;

inline PhiloxBlock philox(PhiloxBlock counter, uint64_t key) {
    constexpr uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
    constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
    uint32_t key0 = static_cast<uint32_t>(key), key1 = static_cast<uint32_t>(key >> 32);
    for (int round = 0; round < 10; ++round) {
        const uint64_t product0 = kMultiplier0 * counter[0], product1 = kMultiplier1 * counter[2];
        counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key0, static_cast<uint32_t>(product1),
                   static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key1, static_cast<uint32_t>(product0)};
        key0 += kWeyl0;
        key1 += kWeyl1;
    }
    return counter;
}

// Uniform in [0, 1) with 53 random bits.
inline double philox_uniform(uint64_t seed, uint32_t stream, uint64_t position) {
    const PhiloxBlock block =
        philox({static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), stream, 0}, seed);
    const uint64_t bits = (static_cast<uint64_t>(block[0]) << 32 | block[1]) >> 11;
    return static_cast<double>(bits) * 0x1.0p-53;
}

}  // namespace miaotui
