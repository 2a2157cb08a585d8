#include "base/checksum.h"

#include <algorithm>
#include <cstring>

#include "base/thread_pool.h"

namespace miaotui {
namespace {

constexpr size_t kPieceBytes = size_t{1} << 20;
constexpr uint64_t kPrime = 0x9E3779B97F4A7C15;  // 2⁶⁴ / the golden ratio

uint64_t mix(uint64_t h, uint64_t x) {
    h = (h ^ x) * kPrime;
    return h ^ (h >> 32);
}

uint64_t checksum_of_piece(std::span<const uint8_t> piece) {
    uint64_t sum[8] = {}, sum_of_sums[8] = {};
    for (size_t i = 0; i < piece.size(); i += 64) {
        uint64_t line[8];
        std::memcpy(line, piece.data() + i, 64);
        for (int k = 0; k < 8; ++k) sum[k] += line[k], sum_of_sums[k] += sum[k];
    }
    uint64_t h = piece.size();
    for (int k = 0; k < 8; ++k) h = mix(mix(h, sum[k]), sum_of_sums[k]);
    return h;
}

}  // namespace

uint64_t checksum(const std::vector<std::span<const uint8_t>>& parts) {
    std::vector<std::span<const uint8_t>> pieces;
    for (const auto& part : parts)
        for (size_t start = 0; start < part.size(); start += kPieceBytes)
            pieces.push_back(part.subspan(start, std::min(kPieceBytes, part.size() - start)));
    std::vector<uint64_t> sums(pieces.size());
    thread_pool().for_each(static_cast<int64_t>(pieces.size()), [&](int64_t i) {
        sums[static_cast<size_t>(i)] = checksum_of_piece(pieces[static_cast<size_t>(i)]);
    });
    uint64_t h = pieces.size();
    for (const uint64_t sum : sums) h = mix(h, sum);
    return h;
}

}  // namespace miaotui
