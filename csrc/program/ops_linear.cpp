// Matrix products: linear (one input, several matrices, optional residual) and the gated MLP's first half.
#include <algorithm>
#include <array>
#include <string>

#include "program/op.h"

namespace miaotui {
namespace {

constexpr int64_t kPanelBlocks = 2;  // Tuning::panel_blocks is at most this
// Tokens whose gate and up values wait in scratch for the activation.
constexpr int64_t kGatedTokens = 64;

int64_t panel_bytes(const PackedView& w) {
    const PanelSize size = panel_size(w);
    return round_up64(size.code_bytes) + 2 * round_up64(4 * size.scale_floats);
}

using Panels = std::array<PanelView, kPanelBlocks>;

const uint8_t* block_at(const PackedView& w, int64_t block) { return w.data + block * w.block_bytes; }

// Unpacks blocks block … block + num_blocks − 1 into memory of num_blocks · panel_bytes(w); `next` is what this thread reads
// afterwards.
Panels unpack(uint8_t* memory, const PackedView& w, int64_t block, int64_t num_blocks, const uint8_t* next) {
    const PanelSize size = panel_size(w);
    Panels panels{};
    for (int64_t b = 0; b < num_blocks; ++b, memory += panel_bytes(w)) {
        auto* scales = reinterpret_cast<float*>(memory + round_up64(size.code_bytes));
        panels[static_cast<size_t>(b)] = {memory, scales, scales + round_up64(4 * size.scale_floats) / 4};
        kernels().unpack_block(w, block + b, panels[static_cast<size_t>(b)],
                               b + 1 < num_blocks ? block_at(w, block + b + 1) : next);
    }
    return panels;
}

// Those panels times tokens t0 … t1 of the input.
void panel_products(const PackedView& w, int64_t block, int64_t num_blocks, const Panels& panels, const Slice& in,
                    const Step& step, int64_t t0, int64_t t1, const LinearOut& out) {
    const int64_t together = step.tuning.panel_blocks;
    for (int64_t b = 0; b < num_blocks; b += together)
        kernels().linear_panels(w, block + b, std::min(together, num_blocks - b), panels.data() + b,
                                in.q8_rows(step.arena), t0, t1, out);
}

void expect_fits(const OpArguments& a, const PackedView& w, const Slice& in, size_t i) {
    const std::string name = "weight " + std::to_string(i);
    a.expect(w.cols == in.width,
             name + " has " + std::to_string(w.cols) + " columns, its input " + std::to_string(in.width));
    a.expect(!in.quantized() || !is_float(w.type), name + " is a float matrix and needs a float input");
}

// Some blocks of a matrix times tokens t0 … t1 of the input; `next` is what this thread reads afterwards.
void direct_product(const PackedView& w, int64_t block, int64_t num_blocks, const Slice& in, uint8_t* arena, int64_t t0,
                    int64_t t1, const LinearOut& out, const uint8_t* next) {
    if (in.quantized())
        kernels().linear_q8(w, block, block + num_blocks, in.q8_rows(arena), t0, t1, out, next);
    else
        kernels().linear_f32(w, block, block + num_blocks, F32Rows{in.f32(arena, 0), in.stride / 4}, t0, t1, out);
}

class Linear : public Op {
public:
    explicit Linear(const OpArguments& a) {
        a.expect(!a.outputs.empty() && !a.inputs.empty() && a.inputs.size() <= 2,
                 "needs one or two inputs, one output per matrix");
        a.expect(a.weights.size() == 2 * a.outputs.size(), "needs a matrix and a bias (or None) per output");
        in_ = a.inputs[0];
        has_residual_ = a.inputs.size() == 2;
        a.expect(!has_residual_ || a.outputs.size() == 1, "a residual goes with exactly one matrix");
        for (size_t i = 0; i < a.outputs.size(); ++i) {
            Part part{a.packed_weight(2 * i), {}, {}, num_blocks_};
            const PackedView& w = part.weight->view();
            expect_fits(a, w, in_, 2 * i);
            part.out = a.f32_output(i, w.rows);
            if (a.has_weight(2 * i + 1)) part.bias = a.vector_weight(2 * i + 1, w.rows);
            num_blocks_ += w.num_blocks();
            scratch_ = std::max(scratch_, kPanelBlocks * panel_bytes(w));
            parts_.push_back(std::move(part));
        }
        if (has_residual_) residual_ = a.f32_input(1, parts_[0].out.width);
    }
    int64_t scratch_bytes() const override { return scratch_; }

    void run(const Step& step, Worker& worker) const override {
        const bool panels = in_.quantized() && step.num_rows(in_) >= step.tuning.panel_tokens;
        const int64_t count = panels ? kPanelBlocks : std::max<int64_t>(1, num_blocks_ / (12 * step.num_threads));
        worker.for_ranges(num_blocks_, count, [&](int64_t begin, int64_t end, int64_t later) {
            while (begin < end) {  // the blocks may belong to several matrices
                const Part& part = part_of(begin);
                const int64_t block = begin - part.first_block;
                const int64_t num_blocks = std::min(end - begin, part.weight->view().num_blocks() - block);
                begin += num_blocks;
                const int64_t after = begin < end ? begin : std::min(later, num_blocks_ - 1);
                const Part& then = part_of(after);
                run_blocks(part, block, num_blocks, step, worker, panels,
                           block_at(then.weight->view(), after - then.first_block));
            }
        });
    }

private:
    struct Part {
        std::shared_ptr<PackedWeight> weight;
        std::vector<float> bias;
        Slice out;
        int64_t first_block;  // in the common list of blocks
    };

    const Part& part_of(int64_t item) const {
        size_t i = parts_.size() - 1;
        while (parts_[i].first_block > item) --i;
        return parts_[i];
    }

    void run_blocks(const Part& part, int64_t block, int64_t num_blocks, const Step& step, Worker& worker, bool panels,
                    const uint8_t* next) const {
        const PackedView& w = part.weight->view();
        LinearOut out{part.out.f32(step.arena, 0), part.out.stride / 4, part.bias.empty() ? nullptr : part.bias.data(),
                      nullptr, 0};
        if (has_residual_) out.residual = residual_.f32(step.arena, 0), out.residual_stride = residual_.stride / 4;
        const int64_t num_tokens = step.num_rows(in_);
        if (!panels) return direct_product(w, block, num_blocks, in_, step.arena, 0, num_tokens, out, next);
        const Panels unpacked = unpack(worker.scratch, w, block, num_blocks, next);
        panel_products(w, block, num_blocks, unpacked, in_, step, 0, num_tokens, out);
    }

    Slice in_{}, residual_{};
    bool has_residual_ = false;
    std::vector<Part> parts_;
    int64_t num_blocks_ = 0, scratch_ = 0;
};

// activation(gate · x) ⊙ (up · x), to floats or straight to int8. An int8 group needs 32 neighbours, so an item is two blocks.
class GatedLinear : public Op {
public:
    explicit GatedLinear(const OpArguments& a)
        : in_(a.inputs.empty() ? Slice{} : a.inputs[0]),
          gate_(a.packed_weight(0)),
          up_(a.packed_weight(1)),
          activation_(activation_of(a)) {
        a.expect_counts(1, 1);
        expect_fits(a, gate(), in_, 0);
        expect_fits(a, up(), in_, 1);
        out_ = a.outputs[0];
        a.expect(gate().rows == up().rows && out_.width == gate().rows, "gate, up and output differ in width");
        a.expect(!out_.quantized() || out_.width % kGroup == 0, "an int8 output needs a multiple of 32 columns");
    }
    int64_t scratch_bytes() const override {
        return kPanelBlocks * (panel_bytes(gate()) + panel_bytes(up())) + 3 * 4 * kGatedTokens * kGroup;
    }

    void run(const Step& step, Worker& worker) const override {
        const int64_t num_items = (gate().num_blocks() + 1) / 2;
        const int64_t chunk = std::max<int64_t>(1, num_items / (16 * step.num_threads));
        worker.for_chunks(num_items, chunk, [&](int64_t item, int64_t later) { run_item(item, later, step, worker); });
    }

private:
    const PackedView& gate() const { return gate_->view(); }
    const PackedView& up() const { return up_->view(); }

    void run_item(int64_t item, int64_t later, const Step& step, Worker& worker) const {
        const int64_t num_tokens = step.num_rows(in_), first_block = 2 * item;
        const int64_t num_blocks = std::min<int64_t>(2, gate().num_blocks() - first_block);
        const uint8_t* after = block_at(gate(), std::min(2 * later, gate().num_blocks() - 1));
        const bool panels = in_.quantized() && num_tokens >= step.tuning.panel_tokens;
        uint8_t* memory = worker.scratch + 3 * 4 * kGatedTokens * kGroup;
        Panels gate_panels{}, up_panels{};
        if (panels) {
            gate_panels = unpack(memory, gate(), first_block, num_blocks, block_at(up(), first_block));
            up_panels = unpack(memory + num_blocks * panel_bytes(gate()), up(), first_block, num_blocks, after);
        }
        for (int64_t t0 = 0; t0 < num_tokens; t0 += kGatedTokens) {
            const int64_t t1 = std::min(t0 + kGatedTokens, num_tokens);
            const auto products = [&](const PackedView& w, const Panels& all, int which, const uint8_t* next) {
                const LinearOut out = temporary_out(worker, which, first_block, t0);
                if (panels) return panel_products(w, first_block, num_blocks, all, in_, step, t0, t1, out);
                direct_product(w, first_block, num_blocks, in_, step.arena, t0, t1, out, next);
            };
            products(gate(), gate_panels, 0, block_at(up(), first_block));
            products(up(), up_panels, 1, after);
            activate(step, worker, first_block * kBlockRows, t0, t1);
        }
    }

    // [kGatedTokens][32] floats: 0 gate, 1 up, 2 their product.
    float* temporary(const Worker& worker, int which) const {
        return reinterpret_cast<float*>(worker.scratch) + which * kGatedTokens * kGroup;
    }

    // Row r of the matrix lands in column r − (first row of the item) of the temporary, token t in its line t − t0.
    LinearOut temporary_out(const Worker& worker, int which, int64_t first_block, int64_t t0) const {
        return {temporary(worker, which) - t0 * kGroup - first_block * kBlockRows, kGroup, nullptr, nullptr, 0};
    }

    void activate(const Step& step, const Worker& worker, int64_t row, int64_t t0, int64_t t1) const {
        const int64_t width = std::min<int64_t>(kGroup, out_.width - row);
        for (int64_t t = t0; t < t1; ++t) {
            const float *g = temporary(worker, 0) + (t - t0) * kGroup, *u = temporary(worker, 1) + (t - t0) * kGroup;
            if (!out_.quantized()) {
                kernels().activate_mul(activation_, g, u, width, out_.f32(step.arena, t) + row);
            } else {
                float* y = temporary(worker, 2);
                kernels().activate_mul(activation_, g, u, width, y);
                kernels().quantize_groups(y, out_.q8(step.arena, t), out_.width, out_.wide(), row / kGroup,
                                          row / kGroup + 1);
            }
        }
    }

    Slice in_, out_{};
    std::shared_ptr<PackedWeight> gate_, up_;
    int activation_;
};

}  // namespace

std::unique_ptr<Op> make_linear_op(const OpArguments& a, const ProgramLimits&) {
    if (a.kind == "linear") return std::make_unique<Linear>(a);
    if (a.kind == "gated_linear") return std::make_unique<GatedLinear>(a);
    return nullptr;
}

}  // namespace miaotui
