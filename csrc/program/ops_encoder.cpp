// Operators of encoders: learned positions, attention in both directions, a mean over each sequence.
#include <algorithm>
#include <string>

#include "base/error.h"
#include "kernels/dequantize.h"
#include "program/op.h"

namespace miaotui {
namespace {

// Query rows of one task where there are fewer sequences and heads than keep all threads busy; a multiple of what the kernel takes.
constexpr int kTaskRows = 32;
constexpr int64_t kFewTasks = 4;  // per thread

const RawMatrix& raw_matrix(const OpArguments& a, size_t i, int64_t width) {
    const std::string name = "weight " + std::to_string(i);
    a.expect(i < a.weights.size() && std::holds_alternative<RawMatrix>(a.weights[i]), name + " must be a raw matrix");
    const auto& matrix = std::get<RawMatrix>(a.weights[i]);
    a.expect(matrix.cols == width, name + " and the input differ in width");
    return matrix;
}

void read_row(const RawMatrix& m, int64_t row, float* y) {
    dequantize_row(m.type, m.data + file_bytes(m.type, row, m.cols), y, m.cols);
}

// x + positions[position] + types[0] (BERT, arXiv:1810.04805, figure 2): a lone text is of type 0 throughout.
class AddPositions : public Op {
public:
    explicit AddPositions(const OpArguments& a)
        : in_(a.f32_input(0, 0)),
          out_(a.f32_output(0, in_.width)),
          positions_(raw_matrix(a, 0, in_.width)),
          type_(static_cast<size_t>(in_.width)) {
        a.expect_counts(1, 1);
        a.expect(in_.rows == Rows::tokens, "adds to token rows");
        read_row(raw_matrix(a, 1, in_.width), 0, type_.data());
    }
    void check(const Batch& batch, const KvPool&) const override {
        for (int t = 0; t < batch.num_tokens; ++t)
            if (batch.positions[t] >= positions_.rows)
                throw BadInput("position " + std::to_string(batch.positions[t]) + " is past the " +
                               std::to_string(positions_.rows) + " that the model knows");
    }
    int64_t scratch_bytes() const override { return 4 * in_.width; }
    void run(const Step& step, Worker& worker) const override {
        auto* row = reinterpret_cast<float*>(worker.scratch);
        for_rows(step, worker, in_, [&](int64_t t) {
            read_row(positions_, step.batch.positions[t], row);
            kernels().add_rows(row, type_.data(), in_.width, row);
            kernels().add_rows(in_.f32(step.arena, t), row, in_.width, out_.f32(step.arena, t));
        });
    }

private:
    Slice in_, out_;
    RawMatrix positions_;
    std::vector<float> type_;
};

// Attention of each token to all of its sequence (arXiv:1706.03762), keys and values straight from this step's rows.
class SelfAttention : public Op {
public:
    SelfAttention(const OpArguments& a, const ProgramLimits& limits)
        : q_(a.f32_input(0, 0)),
          k_(a.f32_input(1, q_.width)),
          v_(a.f32_input(2, q_.width)),
          head_dim_(a.integer("head_dim", 16, 512)),
          scale_(a.number("scale")),
          max_tokens_(limits.max_tokens) {
        a.expect_counts(3, 1);
        out_ = a.outputs[0];
        a.expect(out_.width == q_.width && q_.rows == Rows::tokens, "the output must be as wide as the queries");
        a.expect(head_dim_ % 16 == 0 && q_.width % head_dim_ == 0,
                 "head_dim must be a multiple of 16 that divides the width");
        a.expect(!out_.quantized() || head_dim_ % kGroup == 0,
                 "an int8 output needs a head_dim that is a multiple of 32");
    }
    int64_t scratch_bytes() const override {
        return 4 * (encoder_scratch_floats(max_tokens_, head_dim_) + max_tokens_ * head_dim_);
    }
    void run(const Step& step, Worker& worker) const override {
        const Batch& batch = step.batch;
        const int64_t num_heads = q_.width / head_dim_;
        const bool whole = batch.num_sequences * num_heads >= kFewTasks * step.num_threads;
        const int tile = whole ? batch.num_tokens : kTaskRows;
        int64_t first_item = 0;
        int64_t item = worker.claim();
        for (int s = 0; s < batch.num_sequences; ++s) {
            const int length = batch.sequence_offsets[s + 1] - batch.sequence_offsets[s];
            const int64_t num_items = num_heads * ((length + tile - 1) / tile);
            for (; item < first_item + num_items; item = worker.claim()) {
                const int64_t head = (item - first_item) % num_heads, number = (item - first_item) / num_heads;
                const int row = static_cast<int>(number) * tile;
                run_task(step, worker, s, head, row, std::min(row + tile, length));
            }
            first_item += num_items;
        }
    }

private:
    void run_task(const Step& step, Worker& worker, int s, int64_t head, int row, int end) const {
        const int t0 = step.batch.sequence_offsets[s], length = step.batch.sequence_offsets[s + 1] - t0;
        const int64_t column = head * head_dim_;
        auto* scratch = reinterpret_cast<float*>(worker.scratch);
        const EncoderTask task{
            .q = q_.f32(step.arena, t0) + column,
            .k = k_.f32(step.arena, t0) + column,
            .v = v_.f32(step.arena, t0) + column,
            .q_stride = q_.stride / 4,
            .k_stride = k_.stride / 4,
            .v_stride = v_.stride / 4,
            .num_tokens = length,
            .first_row = row,
            .end_row = end,
            .head_dim = static_cast<int>(head_dim_),
            .scale = scale_,
            .out = out_.quantized() ? scratch + encoder_scratch_floats(length, head_dim_)
                                    : out_.f32(step.arena, t0 + row) + column,
            .out_stride = out_.quantized() ? head_dim_ : out_.stride / 4,
            .scratch = scratch,
        };
        kernels().encoder_attention(task);
        for (int r = 0; out_.quantized() && r < end - row; ++r)
            kernels().quantize_groups(task.out + r * head_dim_, out_.q8(step.arena, t0 + row + r), out_.width,
                                      out_.wide(), column / kGroup, (column + head_dim_) / kGroup);
    }

    Slice q_, k_, v_, out_{};
    int64_t head_dim_;
    float scale_;
    int64_t max_tokens_;
};

// The mean of the rows of a sequence, for each sequence of which a token is named by `logit_rows`.
class MeanPool : public Op {
public:
    explicit MeanPool(const OpArguments& a) : in_(a.f32_input(0, 0)), out_(a.f32_output(0, in_.width)) {
        a.expect_counts(1, 1);
        a.expect(in_.rows == Rows::tokens && out_.rows == Rows::logits, "goes from token rows to logit rows");
    }
    void run(const Step& step, Worker& worker) const override {
        const int32_t* offsets = step.batch.sequence_offsets;
        for_rows(step, worker, out_, [&](int64_t r) {
            const int32_t* end =
                std::upper_bound(offsets, offsets + step.batch.num_sequences + 1, step.batch.logit_rows[r]);
            float* y = out_.f32(step.arena, r);
            std::fill(y, y + out_.width, 0.0F);
            for (int32_t t = end[-1]; t < *end; ++t) kernels().add_rows(y, in_.f32(step.arena, t), out_.width, y);
            const float share = 1.0F / static_cast<float>(*end - end[-1]);
            for (int64_t i = 0; i < out_.width; ++i) y[i] *= share;
        });
    }

private:
    Slice in_, out_;
};

}  // namespace

std::unique_ptr<Op> make_encoder_op(const OpArguments& a, const ProgramLimits& limits) {
    if (a.kind == "add_positions") return std::make_unique<AddPositions>(a);
    if (a.kind == "self_attention") return std::make_unique<SelfAttention>(a, limits);
    if (a.kind == "mean_pool") return std::make_unique<MeanPool>(a);
    return nullptr;
}

}  // namespace miaotui
