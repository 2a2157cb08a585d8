// A weight matrix packed for the kernels, owning its memory.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "base/aligned.h"
#include "kernels/pack.h"

namespace miaotui {

class PackedWeight {
public:
    const PackedView& view() const { return view_; }
    size_t bytes() const { return static_cast<size_t>(packed_bytes(view_)); }

    // Packs several file matrices at once on the thread pool, into one piece of memory: small ones would get no huge pages, and
    // reading small pages at full speed costs a third of the bandwidth. Each source holds file_bytes(type, rows, cols) bytes.
    struct Source {
        WeightType type;
        const uint8_t* data;
        int64_t num_bytes, rows, cols;
    };
    static std::vector<std::shared_ptr<PackedWeight>> pack(const std::vector<Source>& sources);

    // A matrix that `owner` keeps in memory, as `pack` once laid it out. `data` has to be aligned to 64 bytes.
    static std::shared_ptr<PackedWeight> adopt(WeightType type, int64_t rows, int64_t cols, const uint8_t* data,
                                               int64_t num_bytes, std::shared_ptr<const void> owner);

    // Float value of every weight, row-major rows × cols, computed by the chosen tier's own kernels.
    std::vector<float> dequantize() const;

private:
    PackedWeight(PackedView view, const uint8_t* data, std::shared_ptr<const void> owner)
        : view_(view), owner_(std::move(owner)) {
        view_.data = data;
    }

    PackedView view_;
    std::shared_ptr<const void> owner_;  // of the memory, which matrices packed at once share
};

}  // namespace miaotui
