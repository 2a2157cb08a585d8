// Operators of convolutions: windows of neighbouring tokens, filters of single columns, the largest value over each sequence.
//
// A window is kernel_height × kernel_width tokens around one; the middle of an even number is the tap before it, as in PyTorch's
// "same" padding. A sequence is one line of tokens, or an image whose lines have `line` tokens each. What a window sees beyond the
// edges of its sequence is zero, whatever text stands there in the batch.
#include <algorithm>
#include <cstring>
#include <string>

#include "base/error.h"
#include "program/op.h"

namespace miaotui {
namespace {

constexpr int64_t kMaxKernel = 64;     // taps along one axis
constexpr int64_t kMaxLine = 1 << 20;  // tokens
constexpr int64_t kPartTokens = 16;    // computed by a thread at a time, at most

// Four at least, so that rows share what is loaded of the filters.
int64_t part_tokens(const Step& step) {
    return std::clamp<int64_t>(step.batch.num_tokens / (4 * step.num_threads), 4, kPartTokens);
}

// Tokens beside each other in one line.
struct Part {
    int64_t token, count;     // the first of them, in the batch
    int64_t x, y;             // its place
    int64_t line, num_lines;  // of its sequence
};

struct Taps {
    int64_t begin, end;
};

// How windows lie in sequences.
struct Geometry {
    int64_t height, width, line;  // line 0: a sequence is one

    explicit Geometry(const OpArguments& a)
        : height(a.integer("kernel_height", 1, kMaxKernel)),
          width(a.integer("kernel_width", 1, kMaxKernel)),
          line(a.integer("line", 0, kMaxLine)) {
        a.expect(height == 1 || line > 0, "windows of several lines need the length of a line");
    }
    int64_t num_taps() const { return height * width; }

    // The taps along one axis that lie inside, for the token at `place` of `length`.
    static Taps inside(int64_t size, int64_t place, int64_t length) {
        const int64_t before = (size - 1) / 2;
        return {std::max<int64_t>(0, before - place), std::min(size, length - place + before)};
    }
    Taps across(const Part& part, int64_t i) const { return inside(width, part.x + i, part.line); }
    Taps down(const Part& part) const { return inside(height, part.y, part.num_lines); }
    // From a token to the one under its window's tap.
    int64_t offset(const Part& part, int64_t down, int64_t across) const {
        return (down - (height - 1) / 2) * part.line + across - (width - 1) / 2;
    }

    void check(const Batch& batch) const {
        for (int s = 0; line > 0 && s < batch.num_sequences; ++s) {
            const int length = batch.sequence_offsets[s + 1] - batch.sequence_offsets[s];
            if (length % line != 0)
                throw BadInput("a sequence of " + std::to_string(length) + " tokens does not consist of lines of " +
                               std::to_string(line));
        }
    }

    // Runs body(part) on the parts of tokens begin … end − 1.
    template <class BODY>
    void for_parts(const Batch& batch, int64_t begin, int64_t end, BODY body) const {
        const int32_t* offsets = batch.sequence_offsets;
        const int32_t* next = std::upper_bound(offsets, offsets + batch.num_sequences + 1, begin);
        while (begin < end) {
            if (begin == *next) ++next;
            const int64_t first = next[-1], length = *next - first, in_line = line > 0 ? line : length;
            const int64_t x = (begin - first) % in_line, count = std::min(in_line - x, end - begin);
            body(Part{begin, count, x, (begin - first) / in_line, in_line, length / in_line});
            begin += count;
        }
    }
};

// The rows of a window side by side, in the order of its taps: what a matrix is multiplied with to be a convolution (im2row).
class Windows : public Op {
public:
    explicit Windows(const OpArguments& a) : geometry_(a) {
        a.expect_counts(1, 1);
        in_ = a.inputs[0];
        out_ = a.outputs[0];
        a.expect(in_.rows == Rows::tokens, "looks at token rows");
        a.expect(in_.dtype == out_.dtype, "output and input differ in type");
        a.expect(out_.width == geometry_.num_taps() * in_.width, "the output is not as wide as all taps of the input");
        a.expect(!in_.quantized() || in_.width % kGroup == 0, "int8 rows need a multiple of 32 columns");
    }
    void check(const Batch& batch, const KvPool&) const override { geometry_.check(batch); }
    void run(const Step& step, Worker& worker) const override {
        worker.for_ranges(step.batch.num_tokens, part_tokens(step), [&](int64_t begin, int64_t end, int64_t) {
            geometry_.for_parts(step.batch, begin, end, [&](const Part& part) {
                const Taps down = geometry_.down(part);
                for (int64_t i = 0; i < part.count; ++i) {
                    const Taps across = geometry_.across(part, i);
                    for (int64_t v = 0; v < geometry_.height; ++v)
                        for (int64_t h = 0; h < geometry_.width; ++h) {
                            const bool seen = v >= down.begin && v < down.end && h >= across.begin && h < across.end;
                            const int64_t token = part.token + i;
                            const int64_t from = seen ? token + geometry_.offset(part, v, h) : -1;
                            fill(step.arena, token, v * geometry_.width + h, from);
                        }
                }
            });
        });
    }

private:
    // Row `from` becomes the tap's columns of a row; −1: zeros.
    void fill(uint8_t* arena, int64_t token, int64_t tap, int64_t from) const {
        if (!in_.quantized()) {
            float* y = out_.f32(arena, token) + tap * in_.width;
            if (from < 0)
                std::fill(y, y + in_.width, 0.0F);
            else
                std::memcpy(y, in_.f32(arena, from), static_cast<size_t>(4 * in_.width));
            return;
        }
        const int64_t num_groups = in_.width / kGroup;
        uint8_t* row = out_.q8(arena, token);
        auto* groups = reinterpret_cast<Q8Group*>(row) + tap * num_groups;
        uint8_t* low = row + q8_low_offset(out_.width) + tap * in_.width;
        if (from >= 0) {
            const uint8_t* x = in_.q8(arena, from);
            std::memcpy(groups, x, static_cast<size_t>(q8_low_offset(in_.width)));
            std::memcpy(low, x + q8_low_offset(in_.width), static_cast<size_t>(in_.width));
            return;
        }
        const Q8Group zeros{};  // as zeros are quantized
        std::fill(groups, groups + num_groups, zeros);
        std::memset(low, 0, static_cast<size_t>(in_.width));
    }

    Geometry geometry_;
    Slice in_{}, out_{};
};

// Column c of term m: Σ over taps of filter[m][tap][c] · x[tap][c]. To floats, or straight to int8.
class Depthwise : public Op {
public:
    explicit Depthwise(const OpArguments& a)
        : geometry_(a), in_(a.f32_input(0, 0)), num_terms_(a.integer("terms", 1, kMaxKernel * kMaxKernel)) {
        a.expect_counts(1, 1);
        out_ = a.outputs[0];
        a.expect(in_.rows == Rows::tokens, "looks at token rows");
        a.expect(in_.width % 16 == 0, "needs a multiple of 16 columns");
        a.expect(out_.width == num_terms_ * in_.width, "the output is not as wide as all terms of the input");
        a.expect(!out_.quantized() || out_.width % kGroup == 0, "an int8 output needs a multiple of 32 columns");
        filters_ = a.vector_weight(0, out_.width * geometry_.num_taps());
    }
    int64_t scratch_bytes() const override { return out_.quantized() ? 4 * kPartTokens * out_.width : 0; }
    void check(const Batch& batch, const KvPool&) const override { geometry_.check(batch); }
    void run(const Step& step, Worker& worker) const override {
        worker.for_ranges(step.batch.num_tokens, part_tokens(step), [&](int64_t begin, int64_t end, int64_t) {
            geometry_.for_parts(step.batch, begin, end, [&](const Part& part) { run_part(step, worker, part); });
        });
    }

private:
    void run_part(const Step& step, const Worker& worker, const Part& part) const {
        const bool codes = out_.quantized();
        float* y = codes ? reinterpret_cast<float*>(worker.scratch) : out_.f32(step.arena, part.token);
        const int64_t stride = codes ? out_.width : out_.stride / 4;
        for (int64_t i = 0, end; i < part.count; i = end) {
            const Taps across = geometry_.across(part, i);
            const auto alike = [&](int64_t other) {
                const Taps taps = geometry_.across(part, other);
                return taps.begin == across.begin && taps.end == across.end;
            };
            for (end = i + 1; end < part.count && alike(end);) ++end;
            kernels().depthwise(task_of(step, part, i, end - i, across, y + i * stride, stride));
        }
        for (int64_t i = 0; codes && i < part.count; ++i)
            kernels().quantize_groups(y + i * stride, out_.q8(step.arena, part.token + i), out_.width, out_.wide(), 0,
                                      out_.width / kGroup);
    }

    DepthwiseTask task_of(const Step& step, const Part& part, int64_t i, int64_t count, const Taps& across, float* y,
                          int64_t stride) const {
        const Taps down = geometry_.down(part);
        const int64_t row = part.token + i + geometry_.offset(part, down.begin, across.begin);
        return {
            .x = in_.f32(step.arena, row),
            .stride = in_.stride / 4,
            .line = part.line * (in_.stride / 4),
            .num_rows = static_cast<int>(count),
            .height = static_cast<int>(down.end - down.begin),
            .width = static_cast<int>(across.end - across.begin),
            .filter = filters_.data() + (down.begin * geometry_.width + across.begin) * in_.width,
            .filter_line = geometry_.width * in_.width,
            .filter_term = geometry_.num_taps() * in_.width,
            .num_terms = static_cast<int>(num_terms_),
            .columns = in_.width,
            .out = y,
            .out_stride = stride,
        };
    }

    Geometry geometry_;
    Slice in_, out_{};
    int64_t num_terms_;
    std::vector<float> filters_;  // [terms][kernel_height][kernel_width][columns]
};

// The largest value of each column over the rows of a sequence, for each sequence of which a token is named by `logit_rows`;
// of several inputs side by side.
class MaxPool : public Op {
public:
    explicit MaxPool(const OpArguments& a) : inputs_(a.inputs), out_(a.f32_output(0, 0)) {
        int64_t width = 0;
        for (size_t i = 0; i < inputs_.size(); ++i) {
            a.expect(a.f32_input(i, 0).rows == Rows::tokens, "goes from token rows to logit rows");
            width += inputs_[i].width;
        }
        a.expect(!inputs_.empty() && a.outputs.size() == 1 && out_.rows == Rows::logits,
                 "goes from token rows to logit rows");
        a.expect(out_.width == width, "the output is not as wide as all inputs");
    }
    void run(const Step& step, Worker& worker) const override {
        const auto num_inputs = static_cast<int64_t>(inputs_.size());
        worker.for_ranges(step.batch.num_logit_rows * num_inputs, 1, [&](int64_t item, int64_t, int64_t) {
            pool(step, item / num_inputs, static_cast<size_t>(item % num_inputs));
        });
    }

private:
    void pool(const Step& step, int64_t row, size_t input) const {
        const int32_t* offsets = step.batch.sequence_offsets;
        const int32_t* end =
            std::upper_bound(offsets, offsets + step.batch.num_sequences + 1, step.batch.logit_rows[row]);
        const Slice& in = inputs_[input];
        float* y = out_.f32(step.arena, row);
        for (size_t i = 0; i < input; ++i) y += inputs_[i].width;
        std::memcpy(y, in.f32(step.arena, end[-1]), static_cast<size_t>(4 * in.width));
        for (int32_t t = end[-1] + 1; t < *end; ++t) kernels().max_rows(y, in.f32(step.arena, t), in.width, y);
    }

    std::vector<Slice> inputs_;
    Slice out_;
};

}  // namespace

std::unique_ptr<Op> make_convolution_op(const OpArguments& a, const ProgramLimits&) {
    if (a.kind == "windows") return std::make_unique<Windows>(a);
    if (a.kind == "depthwise") return std::make_unique<Depthwise>(a);
    if (a.kind == "max_pool") return std::make_unique<MaxPool>(a);
    return nullptr;
}

}  // namespace miaotui
