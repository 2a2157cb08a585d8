// Operators that treat every row alone.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "base/error.h"
#include "kernels/dequantize.h"
#include "program/op.h"

namespace miaotui {
namespace {

class Embedding : public Op {
public:
    explicit Embedding(const OpArguments& a) : scale_(a.number("scale")) {
        a.expect_counts(0, 1);
        a.expect(a.weights.size() == 1 && std::holds_alternative<RawMatrix>(a.weights[0]),
                 "weight 0 must be a raw matrix");
        table_ = std::get<RawMatrix>(a.weights[0]);
        out_ = a.f32_output(0, table_.cols);
        a.expect(out_.rows == Rows::tokens, "goes to token rows");
    }
    void check(const Batch& batch, const KvPool&) const override {
        for (int t = 0; t < batch.num_tokens; ++t)
            if (batch.token_ids[t] < 0 || batch.token_ids[t] >= table_.rows)
                throw BadInput("token id " + std::to_string(batch.token_ids[t]) + " is outside the vocabulary of " +
                               std::to_string(table_.rows));
    }
    void run(const Step& step, Worker& worker) const override {
        for_rows(step, worker, out_, [&](int64_t t) {
            float* y = out_.f32(step.arena, t);
            dequantize_row(table_.type, table_.data + file_bytes(table_.type, step.batch.token_ids[t], table_.cols), y,
                           table_.cols);
            if (scale_ != 1.0F)
                for (int64_t i = 0; i < table_.cols; ++i) y[i] *= scale_;
        });
    }

private:
    float scale_;
    RawMatrix table_{};
    Slice out_{};
};

// RMSNorm or LayerNorm over the whole row or over each group of it (per-head q and k norms), or the row at unit length; to floats,
// straight to int8, or to both where a residual needs the floats.
class Norm : public Op {
public:
    explicit Norm(const OpArguments& a)
        : kind_(a.choice("kind", {"rms", "layer", "unit"})),
          eps_(a.number("eps")),
          in_(a.f32_input(0, 0)),
          group_(a.integer("group", 1, in_.width)) {
        a.expect(a.inputs.size() == 1 && (a.outputs.size() == 1 || a.outputs.size() == 2),
                 "needs one input and one or two outputs");
        for (const Slice& out : a.outputs) {
            a.expect(out.width == in_.width, "output and input differ in width");
            a.expect(!out.quantized() || in_.width % kGroup == 0, "an int8 output needs a multiple of 32 columns");
            (out.quantized() ? quantized_ : floats_) = out;
            (out.quantized() ? to_codes_ : to_floats_) = true;
        }
        a.expect(a.outputs.size() == static_cast<size_t>(to_codes_ + to_floats_), "two outputs are floats and codes");
        a.expect(in_.width % group_ == 0, "the width is not a multiple of the group");
        if (kind_ == "unit")  // x / |x| = x / √(mean(x²)) / √n
            gain_.assign(static_cast<size_t>(group_), 1.0F / std::sqrt(static_cast<float>(group_)));
        else
            gain_ = a.vector_weight(0, group_);
        if (a.has_weight(1)) bias_ = a.vector_weight(1, group_);
    }
    int64_t scratch_bytes() const override { return to_floats_ ? 0 : 4 * in_.width; }
    void run(const Step& step, Worker& worker) const override {
        const bool layer = kind_ == "layer";
        for_rows(step, worker, in_, [&](int64_t t) {
            const float* x = in_.f32(step.arena, t);
            float* y = to_floats_ ? floats_.f32(step.arena, t) : reinterpret_cast<float*>(worker.scratch);
            for (int64_t i = 0; i < in_.width; i += group_) {
                if (layer)
                    kernels().layer_norm(x + i, gain_.data(), bias_.empty() ? nullptr : bias_.data(), eps_, group_,
                                         y + i);
                else
                    kernels().rms_norm(x + i, gain_.data(), eps_, group_, y + i);
            }
            if (to_codes_)
                kernels().quantize_groups(y, quantized_.q8(step.arena, t), in_.width, quantized_.wide(), 0,
                                          in_.width / kGroup);
        });
    }

private:
    std::string kind_;
    float eps_;
    Slice in_, floats_{}, quantized_{};
    bool to_floats_ = false, to_codes_ = false;
    int64_t group_;
    std::vector<float> gain_, bias_;
};

class Quantize : public Op {
public:
    explicit Quantize(const OpArguments& a) : in_(a.f32_input(0, 0)) {
        a.expect_counts(1, 1);
        out_ = a.outputs[0];
        a.expect(out_.quantized() && out_.width == in_.width, "needs an int8 output as wide as the input");
        a.expect(in_.width % kGroup == 0, "needs a multiple of 32 columns");
    }
    void run(const Step& step, Worker& worker) const override {
        for_rows(step, worker, in_, [&](int64_t t) {
            kernels().quantize_groups(in_.f32(step.arena, t), out_.q8(step.arena, t), out_.width, out_.wide(), 0,
                                      out_.width / kGroup);
        });
    }

private:
    Slice in_, out_{};
};

class Rope : public Op {
public:
    Rope(const OpArguments& a, const ProgramLimits& limits)
        : table_(a.integer("table", 0, static_cast<int64_t>(limits.rope_dims.size()) - 1)),
          in_(a.f32_input(0, 0)),
          head_dim_(a.integer("head_dim", 2, in_.width)),
          rope_dim_(a.integer("rope_dim", 2, head_dim_)),
          interleaved_(a.choice("pairing", {"neox", "interleaved"}) == "interleaved") {
        a.expect_counts(1, 1);
        out_ = a.f32_output(0, in_.width);
        a.expect(in_.rows == Rows::tokens, "rotates token rows");
        a.expect(in_.width % head_dim_ == 0, "the width is not a multiple of head_dim");
        a.expect(rope_dim_ == limits.rope_dims[static_cast<size_t>(table_)], "rope_dim differs from the rope table's");
    }
    void run(const Step& step, Worker& worker) const override {
        for_rows(step, worker, in_, [&](int64_t t) {
            const float* cos_sin = step.rope_tables[static_cast<size_t>(table_)] + t * rope_dim_;
            for (int64_t i = 0; i < in_.width; i += head_dim_)
                kernels().rope_head(in_.f32(step.arena, t) + i, cos_sin, rope_dim_, head_dim_, interleaved_,
                                    out_.f32(step.arena, t) + i);
        });
    }

private:
    int64_t table_;
    Slice in_, out_{};
    int64_t head_dim_, rope_dim_;
    bool interleaved_;
};

// Two inputs, one output, element by element: add, activate_mul.
class Pairwise : public Op {
public:
    explicit Pairwise(const OpArguments& a)
        : a_(a.f32_input(0, 0)), b_(a.f32_input(1, a_.width)), out_(a.f32_output(0, a_.width)) {
        a.expect_counts(2, 1);
        if (a.kind == "activate_mul") activation_ = activation_of(a);
    }
    void run(const Step& step, Worker& worker) const override {
        for_rows(step, worker, out_, [&](int64_t t) {
            const float *x = a_.f32(step.arena, t), *y = b_.f32(step.arena, t);
            if (activation_ < 0)
                kernels().add_rows(x, y, out_.width, out_.f32(step.arena, t));
            else
                kernels().activate_mul(activation_, x, y, out_.width, out_.f32(step.arena, t));
        });
    }

private:
    Slice a_, b_, out_;
    int activation_ = -1;
};

// An activation alone, to floats or straight to int8.
class Activate : public Op {
public:
    explicit Activate(const OpArguments& a) : in_(a.f32_input(0, 0)), activation_(activation_of(a)) {
        a.expect_counts(1, 1);
        out_ = a.outputs[0];
        a.expect(out_.width == in_.width, "output and input differ in width");
        a.expect(!out_.quantized() || in_.width % kGroup == 0, "an int8 output needs a multiple of 32 columns");
    }
    int64_t scratch_bytes() const override { return out_.quantized() ? 4 * in_.width : 0; }
    void run(const Step& step, Worker& worker) const override {
        for_rows(step, worker, in_, [&](int64_t t) {
            float* y = out_.quantized() ? reinterpret_cast<float*>(worker.scratch) : out_.f32(step.arena, t);
            kernels().activate_mul(activation_, in_.f32(step.arena, t), nullptr, in_.width, y);
            if (out_.quantized())
                kernels().quantize_groups(y, out_.q8(step.arena, t), out_.width, out_.wide(), 0, out_.width / kGroup);
        });
    }

private:
    Slice in_, out_{};
    int activation_;
};

class SelectRows : public Op {
public:
    explicit SelectRows(const OpArguments& a) : in_(a.f32_input(0, 0)), out_(a.f32_output(0, in_.width)) {
        a.expect_counts(1, 1);
        a.expect(in_.rows == Rows::tokens && out_.rows == Rows::logits, "goes from token rows to logit rows");
    }
    void run(const Step& step, Worker& worker) const override {
        for_rows(step, worker, out_, [&](int64_t r) {
            std::memcpy(out_.f32(step.arena, r), in_.f32(step.arena, step.batch.logit_rows[r]),
                        static_cast<size_t>(4 * in_.width));
        });
    }

private:
    Slice in_, out_;
};

class Softcap : public Op {
public:
    explicit Softcap(const OpArguments& a)
        : in_(a.f32_input(0, 0)), out_(a.f32_output(0, in_.width)), cap_(a.number("cap")) {
        a.expect_counts(1, 1);
        a.expect(cap_ > 0, "cap must be positive");
    }
    void run(const Step& step, Worker& worker) const override {
        for_rows(step, worker, in_, [&](int64_t r) {
            kernels().softcap(in_.f32(step.arena, r), cap_, in_.width, out_.f32(step.arena, r));
        });
    }

private:
    Slice in_, out_;
    float cap_;
};

}  // namespace

std::unique_ptr<Op> make_row_op(const OpArguments& a, const ProgramLimits& limits) {
    if (a.kind == "embedding") return std::make_unique<Embedding>(a);
    if (a.kind == "norm") return std::make_unique<Norm>(a);
    if (a.kind == "quantize") return std::make_unique<Quantize>(a);
    if (a.kind == "rope") return std::make_unique<Rope>(a, limits);
    if (a.kind == "add" || a.kind == "activate_mul") return std::make_unique<Pairwise>(a);
    if (a.kind == "activate") return std::make_unique<Activate>(a);
    if (a.kind == "select_rows") return std::make_unique<SelectRows>(a);
    if (a.kind == "softcap") return std::make_unique<Softcap>(a);
    return nullptr;
}

}  // namespace miaotui
