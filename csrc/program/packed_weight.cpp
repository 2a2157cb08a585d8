#include "program/packed_weight.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "base/thread_pool.h"
#include "kernels/table.h"

namespace miaotui {

std::vector<std::shared_ptr<PackedWeight>> PackedWeight::pack(const std::vector<Source>& sources) {
    std::vector<PackedView> views;
    std::vector<int64_t> first_block, offset;  // of each matrix in the common list of blocks and in the common memory
    int64_t num_blocks = 0, num_bytes = 0;
    for (const Source& s : sources) {
        const PackedView view = plan_packed(s.type, s.rows, s.cols);
        if (s.num_bytes != file_bytes(s.type, s.rows, s.cols))
            throw BadInput("a weight matrix of " + std::to_string(s.rows) + " x " + std::to_string(s.cols) + " needs " +
                           std::to_string(file_bytes(s.type, s.rows, s.cols)) + " bytes, got " +
                           std::to_string(s.num_bytes));
        views.push_back(view);
        first_block.push_back(num_blocks);
        offset.push_back(num_bytes);
        num_blocks += view.num_blocks();
        num_bytes += packed_bytes(view);  // a multiple of 64
    }
    const auto memory = std::make_shared<AlignedBuffer>(static_cast<size_t>(num_bytes), Pages::huge);
    std::vector<std::shared_ptr<PackedWeight>> packed;
    for (size_t i = 0; i < views.size(); ++i)
        packed.push_back(std::shared_ptr<PackedWeight>(new PackedWeight(views[i], memory->data() + offset[i], memory)));
    thread_pool().for_each(num_blocks, [&](int64_t item) {
        const auto after = std::upper_bound(first_block.begin(), first_block.end(), item);
        const auto i = static_cast<size_t>(after - first_block.begin() - 1);
        pack_block(packed[i]->view_, item - first_block[i], sources[i].data, memory->data() + offset[i]);
    });
    return packed;
}

std::shared_ptr<PackedWeight> PackedWeight::adopt(WeightType type, int64_t rows, int64_t cols, const uint8_t* data,
                                                  int64_t num_bytes, std::shared_ptr<const void> owner) {
    const PackedView view = plan_packed(type, rows, cols);
    if (num_bytes != packed_bytes(view) || reinterpret_cast<uintptr_t>(data) % 64 != 0)
        throw BadInput("a packed matrix of " + std::to_string(rows) + " x " + std::to_string(cols) + " has " +
                       std::to_string(packed_bytes(view)) + " bytes on a 64-byte boundary, got " +
                       std::to_string(num_bytes));
    return std::shared_ptr<PackedWeight>(new PackedWeight(view, data, std::move(owner)));
}

std::vector<float> PackedWeight::dequantize() const {
    // A matrix times the unit vectors gives its columns exactly.
    std::vector<float> columns(static_cast<size_t>(view_.rows * view_.cols)), unit(static_cast<size_t>(view_.cols));
    std::vector<float> column(static_cast<size_t>(view_.rows));
    for (int64_t k = 0; k < view_.cols; ++k) {
        unit[static_cast<size_t>(k)] = 1.0F;
        const LinearOut out{column.data(), view_.rows, nullptr, nullptr, 0};
        kernels().linear_f32(view_, 0, view_.num_blocks(), F32Rows{unit.data(), view_.cols}, 0, 1, out);
        for (int64_t r = 0; r < view_.rows; ++r)
            columns[static_cast<size_t>(r * view_.cols + k)] = column[static_cast<size_t>(r)];
        unit[static_cast<size_t>(k)] = 0.0F;
    }
    return columns;
}

}  // namespace miaotui
