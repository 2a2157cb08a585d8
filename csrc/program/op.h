// One operator of a program: built once from checked arguments, then run by all threads of the pool for every step.
#pragma once

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "kernels/table.h"
#include "program/batch.h"
#include "program/kv_pool.h"
#include "program/packed_weight.h"
#include "program/tuning.h"

namespace miaotui {

// q16: int8 rows in two planes, for the inputs that need the precision.
enum class DType { f32, q8, q16 };
enum class Rows { tokens, logits };

// A column slice of a buffer in the arena: row r starts at offset + r · stride bytes.
struct Slice {
    DType dtype;
    Rows rows;
    int64_t offset;  // bytes, of the first column (quantized slices are always whole rows)
    int64_t stride;  // bytes
    int64_t width;   // columns

    float* f32(uint8_t* arena, int64_t row) const { return reinterpret_cast<float*>(arena + offset + row * stride); }
    bool quantized() const { return dtype != DType::f32; }
    bool wide() const { return dtype == DType::q16; }
    uint8_t* q8(uint8_t* arena, int64_t row) const { return arena + offset + row * stride; }
    Q8Rows q8_rows(uint8_t* arena) const { return {q8(arena, 0), stride, width, wide()}; }
};

// A matrix in the file's own layout, read row by row; the memory is kept alive by the owner of the program.
struct RawMatrix {
    WeightType type;
    const uint8_t* data;
    int64_t rows, cols;
};

using Weight = std::variant<std::monostate, std::shared_ptr<PackedWeight>, std::vector<float>, RawMatrix>;
using Attribute = std::variant<double, std::string>;

// The arguments of an operator, with getters that name the operator and the argument when something is wrong (BadInput).
struct OpArguments {
    std::string kind;
    std::vector<Slice> inputs, outputs;
    std::vector<Weight> weights;
    std::map<std::string, Attribute> attributes;

    [[noreturn]] void fail(const std::string& what) const;
    void expect(bool condition, const std::string& what) const {
        if (!condition) fail(what);
    }
    void expect_counts(size_t num_inputs, size_t num_outputs) const;
    // Whole number in [lowest, highest].
    int64_t integer(const std::string& name, int64_t lowest, int64_t highest) const;
    float number(const std::string& name) const;
    const std::string& choice(const std::string& name, std::initializer_list<const char*> allowed) const;
    const Slice& f32_input(size_t i, int64_t width) const;  // width 0: any
    const Slice& f32_output(size_t i, int64_t width) const;
    const std::vector<float>& vector_weight(size_t i, int64_t width) const;
    std::shared_ptr<PackedWeight> packed_weight(size_t i) const;
    bool has_weight(size_t i) const { return i < weights.size() && weights[i].index() != 0; }
};

struct Step {
    const Batch& batch;
    KvPool& kv;
    uint8_t* arena;
    const std::vector<float*>& rope_tables;  // [token][rope_dim / 2][cos, sin]
    uint8_t* shared;                         // shared_bytes() of the operator; zero unless the operator left something
    const Tuning& tuning;
    int num_threads;

    int64_t num_rows(const Slice& s) const { return s.rows == Rows::tokens ? batch.num_tokens : batch.num_logit_rows; }
};

// What a thread brings along: its scratch memory and the operator's shared work counter.
struct Worker {
    std::atomic<int64_t>& next;
    uint8_t* scratch;

    // First item of the next `count` unclaimed ones.
    int64_t claim(int64_t count = 1) { return next.fetch_add(count, std::memory_order_relaxed); }

    // Runs body(begin, end, later) on ranges of at most `count` items until none is left; `later` is where this thread goes on, or
    // num_items.
    template <class BODY>
    void for_ranges(int64_t num_items, int64_t count, BODY body) {
        for (int64_t first = claim(count), later; first < num_items; first = later) {
            later = claim(count);
            body(first, std::min(first + count, num_items), std::min(later, num_items));
        }
    }

    // Runs body(item, the item this thread runs next, or num_items) on chunks of the items until none is left.
    template <class BODY>
    void for_chunks(int64_t num_items, int64_t chunk, BODY body) {
        for_ranges(num_items, chunk, [&](int64_t begin, int64_t end, int64_t later) {
            for (int64_t item = begin; item < end; ++item) body(item, item + 1 < end ? item + 1 : later);
        });
    }
};

// Runs body(row) on the rows of a slice until none is left.
template <class BODY>
void for_rows(const Step& step, Worker& worker, const Slice& slice, BODY body) {
    const int64_t num_rows = step.num_rows(slice), chunk = std::max<int64_t>(1, num_rows / (8 * step.num_threads));
    for (int64_t first = worker.claim(chunk); first < num_rows; first = worker.claim(chunk))
        for (int64_t r = first; r < std::min(first + chunk, num_rows); ++r) body(r);
}

class Op {
public:
    virtual ~Op() = default;
    virtual void run(const Step& step, Worker& worker) const = 0;
    virtual int64_t scratch_bytes() const { return 0; }       // of every thread
    virtual int64_t shared_bytes() const { return 0; }        // of all threads together
    virtual void check(const Batch&, const KvPool&) const {}  // before any thread starts; throws BadInput
};

// Facts of the program that operators are checked against.
struct ProgramLimits {
    int max_tokens, max_sequences, max_logit_rows;
    std::vector<int64_t> rope_dims;  // per rope table
};

std::unique_ptr<Op> make_op(const OpArguments& arguments, const ProgramLimits& limits);

// The constructors of ops_*.cpp; null where the kind is not theirs.
std::unique_ptr<Op> make_row_op(const OpArguments& arguments, const ProgramLimits& limits);
std::unique_ptr<Op> make_linear_op(const OpArguments& arguments, const ProgramLimits& limits);
std::unique_ptr<Op> make_attention_op(const OpArguments& arguments, const ProgramLimits& limits);
std::unique_ptr<Op> make_encoder_op(const OpArguments& arguments, const ProgramLimits& limits);
std::unique_ptr<Op> make_convolution_op(const OpArguments& arguments, const ProgramLimits& limits);

// The kernels' number of the attribute "activation".
int activation_of(const OpArguments& arguments);

}  // namespace miaotui
