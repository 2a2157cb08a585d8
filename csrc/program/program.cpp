#include "program/program.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <string>

#include "base/error.h"
#include "base/thread_pool.h"

namespace miaotui {
namespace {

void expect(bool condition, const std::string& what) {
    if (!condition) throw BadInput("program: " + what);
}

constexpr int64_t kMaxWidth = int64_t{1} << 24;
constexpr int64_t kMaxArenaBytes = int64_t{1} << 40;

}  // namespace

int64_t row_bytes(DType dtype, int64_t width) { return dtype == DType::f32 ? 4 * width : q8_row_bytes(width); }

Program::Program(Parts parts)
    : parts_(std::move(parts)),
      num_threads_(thread_pool().size()),
      arena_(static_cast<size_t>(parts_.arena_bytes)),
      counters_(parts_.ops.size()),
      op_seconds_(parts_.ops.size()) {
    kernels();  // chooses the tier here, where a bad MIAOTUI_ISA can be reported; a pool thread must not throw
    int64_t shared_bytes = 0;
    for (const auto& op : parts_.ops) {
        scratch_stride_ = std::max(scratch_stride_, (op->scratch_bytes() + 4095) / 4096 * 4096);
        shared_bytes = std::max(shared_bytes, op->shared_bytes());
    }
    scratch_ = AlignedBuffer(static_cast<size_t>(scratch_stride_ * num_threads_));
    shared_ = AlignedBuffer(static_cast<size_t>(shared_bytes));
    int64_t floats = 0;
    for (const int64_t dim : parts_.limits.rope_dims) floats += dim * parts_.limits.max_tokens;
    rope_memory_ = AlignedBuffer(static_cast<size_t>(4 * floats));
    auto* table = reinterpret_cast<float*>(rope_memory_.data());
    for (const int64_t dim : parts_.limits.rope_dims) {
        rope_tables_.push_back(table);
        table += dim * parts_.limits.max_tokens;
    }
}

void Program::fill_rope_tables(const Batch& batch) {
    for (size_t i = 0; i < rope_tables_.size(); ++i) {
        const std::vector<float>& inv_freq = parts_.inv_freqs[i];
        float* out = rope_tables_[i];
        for (int t = 0; t < batch.num_tokens; ++t)
            for (const float frequency : inv_freq) {
                // The angle is rounded to float32, as the models were trained; its sine and cosine are not.
                const double angle = static_cast<float>(batch.positions[t]) * frequency;
                *out++ = static_cast<float>(std::cos(angle)) * parts_.rope_scales[i];
                *out++ = static_cast<float>(std::sin(angle)) * parts_.rope_scales[i];
            }
    }
}

void Program::run_thread(const Step& step, int thread, size_t num_ops) {
    using Clock = std::chrono::steady_clock;
    Barrier& barrier = thread_pool().barrier();
    auto before = profiling_ ? Clock::now() : Clock::time_point();
    for (size_t i = 0; i < num_ops; ++i) {
        Worker worker{counters_[i], scratch_.data() + thread * scratch_stride_};
        parts_.ops[i]->run(step, worker);
        barrier.wait();
        if (profiling_ && thread == 0) {
            const auto now = Clock::now();
            op_seconds_[i] += std::chrono::duration<double>(now - before).count();
            before = now;
        }
    }
}

void Program::run(const Batch& batch, KvPool& kv, size_t num_ops) {
    expect(num_ops <= parts_.ops.size(), "there are not so many operators");
    const auto turn = thread_pool().turn();
    batch.check(kv, parts_.limits.max_tokens, parts_.limits.max_sequences, parts_.limits.max_logit_rows);
    for (const auto& op : parts_.ops) op->check(batch, kv);
    fill_rope_tables(batch);
    for (auto& counter : counters_) counter.store(0, std::memory_order_relaxed);
    num_logit_rows_ = batch.num_logit_rows;
    const auto task = [&](int thread, int num_threads) {
        run_thread({batch, kv, arena_.data(), rope_tables_, shared_.data(), tuning_, num_threads}, thread, num_ops);
    };
    if (batch.num_tokens < kLongStepTokens)
        thread_pool().run_uncrowded(turn, task, std::min(tuning_.short_threads, num_threads_));
    else {
        const int threads = std::min(tuning_.long_threads, num_threads_);
        thread_pool().run(turn, [&](int thread) { task(thread, threads); }, threads);
    }
}

void Program::tune(const Tuning& tuning) {
    expect(tuning.panel_tokens >= 1 && (tuning.panel_blocks == 1 || tuning.panel_blocks == 2),
           "panels need at least 1 token and 1 or 2 blocks");
    expect(tuning.short_threads >= 1 && tuning.long_threads >= 1, "a step needs a thread");
    const auto turn = thread_pool().turn();
    tuning_ = tuning;
}

void Program::profile(bool enable) {
    const auto turn = thread_pool().turn();
    profiling_ = enable;
    if (enable) op_seconds_.assign(op_seconds_.size(), 0.0);
}

ProgramBuilder::ProgramBuilder(int max_tokens, int max_sequences, int max_logit_rows) {
    const auto check = [](const char* what, int value) {
        expect(value >= 1 && value <= (1 << 20),
               std::string(what) + " must be 1 to 1048576, got " + std::to_string(value));
    };
    check("max_tokens", max_tokens);
    check("max_sequences", max_sequences);
    check("max_logit_rows", max_logit_rows);
    parts_.limits = {max_tokens, max_sequences, max_logit_rows, {}};
}

int ProgramBuilder::buffer(DType dtype, Rows rows, int64_t width, int64_t offset) {
    expect(width >= 1 && width <= kMaxWidth, "a buffer of " + std::to_string(width) + " columns is out of range");
    expect(dtype == DType::f32 || width % kGroup == 0, "an int8 buffer needs a multiple of 32 columns");
    expect(offset >= 0 && offset < kMaxArenaBytes && offset % 64 == 0,
           "buffer offsets are multiples of 64 inside the arena");
    buffers_.push_back({dtype, rows, width, offset});
    return static_cast<int>(buffers_.size()) - 1;
}

int ProgramBuilder::rope_table(std::vector<float> inv_freq, float scale) {
    expect(!inv_freq.empty() && inv_freq.size() <= 256, "a rope table has 1 to 256 frequencies");
    for (const float f : inv_freq) expect(std::isfinite(f), "a rope frequency is not finite");
    expect(std::isfinite(scale), "a rope scale is not finite");
    parts_.limits.rope_dims.push_back(2 * static_cast<int64_t>(inv_freq.size()));
    parts_.inv_freqs.push_back(std::move(inv_freq));
    parts_.rope_scales.push_back(scale);
    return static_cast<int>(parts_.inv_freqs.size()) - 1;
}

Slice ProgramBuilder::slice(const OpArguments& op, const std::string& name, const Operand& operand) const {
    op.expect(operand.buffer >= 0 && operand.buffer < static_cast<int>(buffers_.size()),
              name + " names buffer " + std::to_string(operand.buffer) + ", which does not exist");
    const BufferSpec& b = buffers_[static_cast<size_t>(operand.buffer)];
    op.expect(operand.column >= 0 && operand.width >= 1 && operand.column <= b.width &&
                  operand.width <= b.width - operand.column,
              name + " has " + std::to_string(operand.width) + " columns from column " +
                  std::to_string(operand.column) + ", its buffer " + std::to_string(b.width));
    op.expect(b.dtype == DType::f32 || (operand.column == 0 && operand.width == b.width),
              name + " is a part of a quantized buffer; those are used whole");
    return {b.dtype, b.rows, b.offset + 4 * operand.column, row_bytes(b.dtype, b.width), operand.width};
}

void ProgramBuilder::op(const std::string& kind, const std::vector<Operand>& inputs,
                        const std::vector<Operand>& outputs, std::vector<Weight> weights,
                        std::map<std::string, Attribute> attributes) {
    OpArguments arguments{kind, {}, {}, std::move(weights), std::move(attributes)};
    const auto slices = [&](const char* side, const std::vector<Operand>& operands, std::vector<Slice>& target) {
        for (const Operand& o : operands) target.push_back(slice(arguments, side + std::to_string(target.size()), o));
    };
    slices("input ", inputs, arguments.inputs);
    slices("output ", outputs, arguments.outputs);
    parts_.ops.push_back(make_op(arguments, parts_.limits));
    parts_.op_names.push_back(kind);
    last_outputs_ = arguments.outputs;
}

std::unique_ptr<Program> ProgramBuilder::build(int64_t arena_bytes) {
    expect(arena_bytes >= 0 && arena_bytes <= kMaxArenaBytes, "the arena size is out of range");
    for (const BufferSpec& b : buffers_) {
        const int64_t rows = b.rows == Rows::tokens ? parts_.limits.max_tokens : parts_.limits.max_logit_rows;
        expect(rows * row_bytes(b.dtype, b.width) <= arena_bytes - b.offset, "a buffer reaches past the arena");
    }
    expect(last_outputs_.size() == 1 && last_outputs_[0].dtype == DType::f32 && last_outputs_[0].rows == Rows::logits &&
               last_outputs_[0].stride == 4 * last_outputs_[0].width,
           "the last operator must write one whole f32 buffer of logit rows");
    parts_.logits = last_outputs_[0];
    parts_.arena_bytes = arena_bytes;
    buffers_.clear();
    last_outputs_.clear();
    return std::make_unique<Program>(std::move(parts_));
}

}  // namespace miaotui
