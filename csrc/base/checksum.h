// A checksum at the speed of memory, against damage, not against malice.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace miaotui {

// Of several pieces of memory one after another, each a multiple of 64 bytes long; all threads of the pool read them. Adler's two sums
// in 64-bit lanes, megabyte by megabyte.
uint64_t checksum(const std::vector<std::span<const uint8_t>>& parts);

}  // namespace miaotui
