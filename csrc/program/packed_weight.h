// A weight matrix packed for the kernels, owning its memory.
#pragma once

#include <memory>
#include <vector>

#include "base/aligned.h"
#include "kernels/pack.h"

namespace miaotui {

class PackedWeight {
public:
    const PackedView& view() const { return view_; }
    size_t bytes() const { return memory_.size(); }

    // Packs several file matrices at once on the thread pool. Each source holds file_bytes(type, rows, cols) bytes.
    struct Source {
        WeightType type;
        const uint8_t* data;
        int64_t num_bytes, rows, cols;
    };
    static std::vector<std::shared_ptr<PackedWeight>> pack(const std::vector<Source>& sources);

    // Float value of every weight, row-major rows × cols, computed by the chosen tier's own kernels.
    std::vector<float> dequantize() const;

private:
    explicit PackedWeight(PackedView view)
        : view_(view), memory_(static_cast<size_t>(packed_bytes(view)), Pages::huge) {
        view_.data = memory_.data();
    }

    PackedView view_;
    AlignedBuffer memory_;
};

}  // namespace miaotui
