#include "program/quantize.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/thread_pool.h"

namespace miaotui {
namespace {

// Codes count from the lowest value; those of Q8_0 are the values themselves.
int lowest_value(WeightType type) {
    switch (type) {
        case WeightType::Q4_0: return -8;
        case WeightType::Q5_0: return -16;
        case WeightType::Q6_K: return -32;
        default: return 0;
    }
}

constexpr std::array<uint8_t, 256> book_codes() {
    constexpr int values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    std::array<uint8_t, 256> codes{};
    for (uint8_t code = 0; code < 16; ++code) codes[static_cast<size_t>(values[code] + 128)] = code;
    return codes;
}

uint8_t code_of(WeightType type, float value) {
    static constexpr std::array<uint8_t, 256> kBook = book_codes();
    const int whole = static_cast<int>(value);
    return type == WeightType::IQ4_NL ? kBook[static_cast<size_t>(whole + 128)]
                                      : static_cast<uint8_t>(whole - lowest_value(type));
}

// 16 blocks side by side, the last one again and again where there are fewer.
struct Tile {
    alignas(64) float targets[kSuperWeights * kTileGroups];
    alignas(64) float costs[kSuperWeights * kTileGroups];
    alignas(64) float values[kSuperWeights * kTileGroups];
    alignas(64) float scale[kTileGroups * kTileGroups], minimum[kTileGroups * kTileGroups];
    alignas(64) float unit[kTileGroups], minimum_unit[kTileGroups];
    alignas(64) float near_scale[kTileGroups], near_minimum[kTileGroups];
};

class Matrix {
public:
    Matrix(const KernelTable& table, const QuantizeTask& task)
        : table_(table),
          task_(task),
          super_(has_units(task.type) && task.units == nullptr),
          block_(super_ ? kSuperWeights : kMostGroupWeights),
          groups_(block_ / group_weights(task.type)),
          num_blocks_(task.rows * task.cols / block_) {
        if (task.by_magnitude)
            for (int64_t row = 0; row < task.rows; ++row) mean_squares_.push_back(mean_square(row));
    }

    int64_t num_tiles() const { return (num_blocks_ + kTileGroups - 1) / kTileGroups; }

    void quantize_tile(int64_t number) const {
        Tile tile;
        for (int lane = 0; lane < kTileGroups; ++lane) load_block(tile, lane, block_at(number, lane));
        if (super_)
            table_.search_super_codes(SuperTask{task_.type, tile.targets, tile.costs, tile.values, tile.scale,
                                                tile.minimum, tile.unit, tile.minimum_unit});
        else
            table_.search_codes(GroupTask{task_.type, tile.targets, tile.costs, task_.feedback,
                                          task_.units != nullptr ? tile.unit : nullptr, tile.minimum_unit,
                                          task_.near != nullptr ? tile.near_scale : nullptr, tile.near_minimum,
                                          tile.values, tile.scale, tile.minimum});
        for (int lane = 0; lane < kTileGroups; ++lane) store_block(tile, lane, block_at(number, lane));
    }

private:
    double mean_square(int64_t row) const {
        double sum = 0;
        for (int64_t i = 0; i < task_.cols; ++i) {
            const double w = task_.weights[row * task_.cols + i];
            sum += w * w;
        }
        return sum / static_cast<double>(task_.cols);
    }

    int64_t block_at(int64_t tile, int lane) const { return std::min(tile * kTileGroups + lane, num_blocks_ - 1); }

    void load_block(Tile& tile, int lane, int64_t block) const {
        const int64_t first = block * block_, row = first / task_.cols, column = first % task_.cols;
        for (int i = 0; i < block_; ++i) {
            const float w = task_.weights[first + i];
            float cost = task_.importance != nullptr ? task_.importance[column + i] : 1.0F;
            if (task_.by_magnitude)
                cost *= static_cast<float>(std::sqrt(mean_squares_[static_cast<size_t>(row)] + double{w} * w));
            tile.targets[i * kTileGroups + lane] = w;
            tile.costs[i * kTileGroups + lane] = cost;
        }
        tile.unit[lane] = task_.units != nullptr ? task_.units[2 * block] : 0.0F;
        tile.minimum_unit[lane] = task_.units != nullptr ? task_.units[2 * block + 1] : 0.0F;
        tile.near_scale[lane] = task_.near != nullptr ? task_.near[2 * block] : 0.0F;
        tile.near_minimum[lane] = task_.near != nullptr ? task_.near[2 * block + 1] : 0.0F;
    }

    void store_block(const Tile& tile, int lane, int64_t block) const {
        for (int i = 0; i < block_; ++i)
            task_.codes[block * block_ + i] = code_of(task_.type, tile.values[i * kTileGroups + lane]);
        for (int g = 0; g < groups_; ++g) {
            task_.scales[block * groups_ + g] = tile.scale[g * kTileGroups + lane];
            task_.minimums[block * groups_ + g] = tile.minimum[g * kTileGroups + lane];
        }
        if (super_) {
            task_.found_units[2 * block] = tile.unit[lane];
            task_.found_units[2 * block + 1] = tile.minimum_unit[lane];
        }
    }

    const KernelTable& table_;
    const QuantizeTask& task_;
    const bool super_;
    const int block_, groups_;
    const int64_t num_blocks_;
    std::vector<double> mean_squares_;
};

}  // namespace

int group_weights(WeightType type) {
    switch (type) {
        case WeightType::Q4_0:
        case WeightType::Q4_1:
        case WeightType::Q5_0:
        case WeightType::Q5_1:
        case WeightType::Q8_0:
        case WeightType::IQ4_NL:
        case WeightType::Q4_K: return 32;
        case WeightType::Q6_K: return 16;
        default: return 0;
    }
}

bool has_units(WeightType type) { return type == WeightType::Q4_K || type == WeightType::Q6_K; }

void quantize(const KernelTable& table, const QuantizeTask& task) {
    const int group = group_weights(task.type);
    const bool alone = task.feedback != nullptr || task.units != nullptr || task.near != nullptr;
    if (group == 0 || (alone && group != kMostGroupWeights))
        throw BadInput("weight type " + std::to_string(static_cast<int>(task.type)) + " is not quantized to so");
    const int64_t whole = has_units(task.type) && task.units == nullptr ? kSuperWeights : kMostGroupWeights;
    if (task.rows < 0 || task.cols < whole || task.cols % whole != 0 || (alone && task.cols != kMostGroupWeights) ||
        (has_units(task.type) && (task.feedback != nullptr || task.near != nullptr) && task.units == nullptr))
        throw BadInput("rows of " + std::to_string(task.cols) + " weights are no whole blocks of the type");
    const Matrix matrix(table, task);
    thread_pool().for_each(matrix.num_tiles(), [&](int64_t tile) { matrix.quantize_tile(tile); });
}

}  // namespace miaotui
