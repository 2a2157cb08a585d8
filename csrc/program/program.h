// A compiled graph: checked operators over a planned arena. Program::run is one forward pass.
#pragma once

#include <atomic>

#include "program/op.h"

namespace miaotui {

// Bytes from one row of a buffer to the next.
int64_t row_bytes(DType dtype, int64_t width);

struct BufferSpec {
    DType dtype;
    Rows rows;
    int64_t width, offset;  // columns; bytes into the arena
};

class Program {
public:
    struct Parts {
        ProgramLimits limits;
        std::vector<std::vector<float>> inv_freqs;  // per rope table: [rope_dim / 2] radians per position
        std::vector<float> rope_scales;             // per rope table: factor on cos and sin (yarn)
        std::vector<std::unique_ptr<Op>> ops;
        std::vector<std::string> op_names;
        Slice logits;
        int64_t arena_bytes;
    };
    explicit Program(Parts parts);

    // Runs one step on the process's thread pool. Allocates nothing. Throws BadInput before touching anything if the batch or
    // the pool does not fit. One caller at a time.
    void run(const Batch& batch, KvPool& kv) { run(batch, kv, parts_.ops.size()); }
    // The same with the first operators only, for measurements: the logits are then of no use.
    void run(const Batch& batch, KvPool& kv, size_t num_ops);

    // For the steps that follow. Throws BadInput if a choice is out of range.
    void tune(const Tuning& tuning);
    const Tuning& tuning() const { return tuning_; }

    const float* logits() const { return parts_.logits.f32(arena_.data(), 0); }
    int64_t vocab_size() const { return parts_.logits.width; }
    int num_logit_rows() const { return num_logit_rows_; }
    const std::vector<std::string>& op_names() const { return parts_.op_names; }

    // Seconds per operator since profiling was switched on.
    void profile(bool enable);
    const std::vector<double>& op_seconds() const { return op_seconds_; }

    int64_t arena_bytes() const { return parts_.arena_bytes; }
    int64_t scratch_bytes() const { return scratch_stride_ * num_threads_; }

private:
    void fill_rope_tables(const Batch& batch);
    void run_thread(const Step& step, int thread, size_t num_ops);

    Parts parts_;
    Tuning tuning_;
    int num_threads_;
    int64_t scratch_stride_ = 0;
    AlignedBuffer arena_, scratch_, shared_, rope_memory_;
    std::vector<float*> rope_tables_;
    std::vector<std::atomic<int64_t>> counters_;  // one per operator
    std::vector<double> op_seconds_;
    bool profiling_ = false;
    int num_logit_rows_ = 0;
};

// Collects buffers, rope tables and operators; every argument is checked here, so that run() need not.
class ProgramBuilder {
public:
    // Throws BadInput if a limit is out of range, as do the other members for their arguments.
    ProgramBuilder(int max_tokens, int max_sequences, int max_logit_rows);

    int buffer(DType dtype, Rows rows, int64_t width, int64_t offset);
    int rope_table(std::vector<float> inv_freq, float scale);
    struct Operand {
        int buffer;
        int64_t column, width;
    };
    void op(const std::string& kind, const std::vector<Operand>& inputs, const std::vector<Operand>& outputs,
            std::vector<Weight> weights, std::map<std::string, Attribute> attributes);
    // The last operator's output becomes the logits. The builder is empty afterwards.
    std::unique_ptr<Program> build(int64_t arena_bytes);

private:
    Slice slice(const OpArguments& op, const std::string& name, const Operand& operand) const;

    std::vector<BufferSpec> buffers_;
    Program::Parts parts_;
    std::vector<Slice> last_outputs_;
};

}  // namespace miaotui
