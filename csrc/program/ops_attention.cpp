// Operators that touch the KV pages: kv_write, rope_kv, attention.
#include <algorithm>
#include <atomic>
#include <string>

#include "base/error.h"
#include "program/op.h"

namespace miaotui {
namespace {

// Query rows (tokens × heads of a group) of one attention task; the kernel takes at most 64.
constexpr int kTaskRows = 32;
constexpr int kMaxTaskRows = 64;
// With fewer tasks than this per thread, threads share the splits of a task.
constexpr int64_t kFewTasks = 4, kMaxSharedTasks = 64;
constexpr int64_t kCounterBytes = 4 * kMaxSharedTasks, kPartsBytes = int64_t{4} << 20;

void check_pool(const KvPool& kv, int64_t layer, int64_t num_kv_heads, int64_t head_dim) {
    if (layer >= kv.num_layers() || num_kv_heads != kv.num_kv_heads() || head_dim != kv.layout().head_dim)
        throw BadInput("the KV pool has " + std::to_string(kv.num_layers()) + " layers, " +
                       std::to_string(kv.num_kv_heads()) + " KV heads of " + std::to_string(kv.layout().head_dim) +
                       "; the program needs layer " + std::to_string(layer) + ", " + std::to_string(num_kv_heads) +
                       " KV heads of " + std::to_string(head_dim));
}

// kv_write stores keys and values as they are; rope_kv rotates queries (in place) and keys on the way.
class KvWrite : public Op {
public:
    KvWrite(const OpArguments& a, const ProgramLimits& limits)
        : rotate_(a.kind == "rope_kv"), layer_(a.integer("layer", 0, 4095)), head_dim_(a.integer("head_dim", 16, 512)) {
        const size_t first = rotate_ ? 1 : 0;
        a.expect(a.inputs.size() == first + 2, "needs " + std::to_string(first + 2) + " inputs");
        a.expect(a.outputs.size() == first, "needs " + std::to_string(first) + " outputs");
        k_ = a.f32_input(first, 0);
        v_ = a.f32_input(first + 1, k_.width);
        a.expect(k_.rows == Rows::tokens && v_.rows == Rows::tokens, "keys and values come per token");
        a.expect(k_.width % head_dim_ == 0, "the width of the keys is not a multiple of head_dim");
        if (!rotate_) return;
        q_ = a.f32_input(0, 0);
        q_out_ = a.f32_output(0, q_.width);
        a.expect(q_.width % head_dim_ == 0, "the width of the queries is not a multiple of head_dim");
        table_ = a.integer("table", 0, static_cast<int64_t>(limits.rope_dims.size()) - 1);
        rope_dim_ = a.integer("rope_dim", 2, head_dim_);
        a.expect(rope_dim_ == limits.rope_dims[static_cast<size_t>(table_)], "rope_dim differs from the rope table's");
        interleaved_ = a.choice("pairing", {"neox", "interleaved"}) == "interleaved";
    }
    void check(const Batch&, const KvPool& kv) const override {
        check_pool(kv, layer_, k_.width / head_dim_, head_dim_);
    }

    void run(const Step& step, Worker& worker) const override {
        const Batch& batch = step.batch;
        const int64_t chunk = std::max<int64_t>(1, batch.num_tokens / (8 * step.num_threads));
        for (int64_t first = worker.claim(chunk); first < batch.num_tokens; first = worker.claim(chunk)) {
            int s = 0;
            for (int64_t t = first; t < std::min<int64_t>(first + chunk, batch.num_tokens); ++t) {
                while (batch.sequence_offsets[s + 1] <= t) ++s;
                run_token(step, s, t);
            }
        }
    }

private:
    void run_token(const Step& step, int sequence, int64_t t) const {
        const float* cos_sin = rotate_ ? step.rope_tables[static_cast<size_t>(table_)] + t * rope_dim_ : nullptr;
        for (int64_t i = 0; rotate_ && i < q_.width; i += head_dim_)
            kernels().rope_head(q_.f32(step.arena, t) + i, cos_sin, rope_dim_, head_dim_, interleaved_,
                                q_out_.f32(step.arena, t) + i);
        const int32_t position = step.batch.positions[t];
        const int32_t block =
            step.batch.block_tables[int64_t{sequence} * step.batch.max_blocks + position / kPageTokens];
        for (int64_t i = 0; i < k_.width; i += head_dim_) {
            uint8_t* page = step.kv.pages(static_cast<int>(layer_), static_cast<int>(i / head_dim_)) +
                            block * step.kv.block_stride();
            alignas(64) float rotated[512];
            const float* key = k_.f32(step.arena, t) + i;
            if (rotate_) {
                kernels().rope_head(key, cos_sin, rope_dim_, head_dim_, interleaved_, rotated);
                key = rotated;
            }
            kernels().kv_store(step.kv.layout(), page, position % kPageTokens, key, v_.f32(step.arena, t) + i);
        }
    }

    bool rotate_;
    int64_t layer_, head_dim_;
    Slice q_{}, q_out_{}, k_{}, v_{};
    int64_t table_ = 0, rope_dim_ = 0;
    bool interleaved_ = false;
};

class Attention : public Op {
public:
    explicit Attention(const OpArguments& a)
        : layer_(a.integer("layer", 0, 4095)),
          head_dim_(a.integer("head_dim", 16, 512)),
          num_kv_heads_(a.integer("num_kv_heads", 1, 4096)),
          q_(a.f32_input(0, 0)),
          scale_(a.number("scale")),
          window_(a.integer("window", 0, 1 << 30)),
          softcap_(a.number("softcap")) {
        a.expect_counts(1, 1);
        out_ = a.outputs[0];
        a.expect(out_.width == q_.width && q_.rows == Rows::tokens, "the output must be as wide as the queries");
        a.expect(q_.width % (head_dim_ * num_kv_heads_) == 0, "the query heads are not a multiple of the KV heads");
        group_ = q_.width / (head_dim_ * num_kv_heads_);
        a.expect(group_ <= kMaxTaskRows, "more than 64 query heads per KV head");
        a.expect(!out_.quantized() || head_dim_ % kGroup == 0,
                 "an int8 output needs a head_dim that is a multiple of 32");
    }
    void check(const Batch&, const KvPool& kv) const override { check_pool(kv, layer_, num_kv_heads_, head_dim_); }
    int64_t tile_tokens() const { return std::max<int64_t>(1, kTaskRows / group_); }
    int64_t scratch_bytes() const override {
        const int64_t rows = tile_tokens() * group_;
        return 4 * (attention_scratch_floats(rows, head_dim_) + rows * head_dim_) + 128;
    }

    int64_t shared_bytes() const override { return kCounterBytes + kPartsBytes; }

    void run(const Step& step, Worker& worker) const override {
        int64_t num_tiles = 0;
        for (int s = 0; s < step.batch.num_sequences; ++s) num_tiles += tiles_of(step.batch, s);
        const int64_t num_tasks = num_tiles * num_kv_heads_;
        if (num_tasks < std::min<int64_t>(kFewTasks * step.num_threads, kMaxSharedTasks) &&
            run_shared(step, worker, num_tiles, num_tasks))
            return;
        Task task{}, next{};
        worker.for_chunks(num_tasks, 1, [&](int64_t item, int64_t later) {
            const bool first = next.kernel.num_tokens == 0, last = later >= num_tasks;
            task = first ? task_of(step, worker, num_tiles, item) : next;
            if (!last) next = task_of(step, worker, num_tiles, later);
            kernels().attention(task.kernel, last ? nullptr : &next.kernel);
            quantize(step, task);
        });
    }

private:
    struct Task {
        AttentionTask kernel;
        int64_t t0, column;
    };

    int64_t tiles_of(const Batch& batch, int s) const {
        return (batch.sequence_offsets[s + 1] - batch.sequence_offsets[s] + tile_tokens() - 1) / tile_tokens();
    }

    Task task_of(const Step& step, Worker& worker, int64_t num_tiles, int64_t item) const {
        const Batch& batch = step.batch;
        // Last tiles first: they see the most positions.
        int64_t tile = num_tiles - 1 - item / num_kv_heads_;
        int s = 0;
        while (tile >= tiles_of(batch, s)) tile -= tiles_of(batch, s++);
        const int64_t kv_head = item % num_kv_heads_, t0 = batch.sequence_offsets[s] + tile * tile_tokens();
        const int64_t num_tokens = std::min<int64_t>(tile_tokens(), batch.sequence_offsets[s + 1] - t0);
        const int64_t column = kv_head * group_ * head_dim_;
        auto* scratch = reinterpret_cast<float*>(worker.scratch);
        const AttentionTask kernel{
            .layout = step.kv.layout(),
            .pages = step.kv.pages(static_cast<int>(layer_), static_cast<int>(kv_head)),
            .page_stride = step.kv.block_stride(),
            .block_table = batch.block_tables + int64_t{s} * batch.max_blocks,
            .q = q_.f32(step.arena, t0) + column,
            .q_stride = q_.stride / 4,
            .positions = batch.positions + t0,
            .num_tokens = static_cast<int>(num_tokens),
            .group = static_cast<int>(group_),
            .scale = scale_,
            .window = static_cast<int>(window_),
            .softcap = softcap_,
            .out = out_.quantized() ? scratch + attention_scratch_floats(tile_tokens() * group_, head_dim_)
                                    : out_.f32(step.arena, t0) + column,
            .out_stride = out_.quantized() ? group_ * head_dim_ : out_.stride / 4,
            .scratch = scratch,
        };
        return {kernel, t0, column};
    }

    void quantize(const Step& step, const Task& task) const {
        for (int64_t t = 0; out_.quantized() && t < task.kernel.num_tokens; ++t)
            kernels().quantize_groups(task.kernel.out + t * task.kernel.out_stride, out_.q8(step.arena, task.t0 + t),
                                      out_.width, out_.wide(), task.column / kGroup,
                                      (task.column + task.kernel.out_stride) / kGroup);
    }

    // Few tasks, as in a decode step, are shared split by split; whoever finishes a task's last split merges them. Returns false,
    // having done nothing, where every task has one split or the parts would not fit.
    bool run_shared(const Step& step, Worker& worker, int64_t num_tiles, int64_t num_tasks) const {
        Task tasks[kMaxSharedTasks];
        int64_t first_item[kMaxSharedTasks + 1] = {0}, first_float[kMaxSharedTasks + 1] = {0};
        for (int64_t i = 0; i < num_tasks; ++i) {
            tasks[i] = task_of(step, worker, num_tiles, i);
            const AttentionTask& kernel = tasks[i].kernel;
            const int64_t splits = kernel.end_split() - kernel.first_split();
            first_item[i + 1] = first_item[i] + splits;
            first_float[i + 1] = first_float[i] + splits * attention_part_floats(kernel.num_rows(), head_dim_);
        }
        if (first_item[num_tasks] == num_tasks || 4 * first_float[num_tasks] > kPartsBytes) return false;
        auto* counters = reinterpret_cast<int32_t*>(step.shared);
        auto* parts = reinterpret_cast<float*>(step.shared + kCounterBytes);
        const auto task_at = [&](int64_t item, int64_t i) {
            while (item >= first_item[i + 1]) ++i;
            return i;
        };
        const int64_t num_items = first_item[num_tasks],
                      chunk = std::max<int64_t>(1, num_items / (4 * step.num_threads));
        int64_t i = 0;
        worker.for_chunks(num_items, chunk, [&](int64_t item, int64_t later) {
            i = task_at(item, i);
            const AttentionTask& kernel = tasks[i].kernel;
            const int64_t split = item - first_item[i];
            const int number = kernel.first_split() + static_cast<int>(split);
            const uint8_t* ahead[kSplitPages];
            if (later < num_items) {
                const int64_t j = task_at(later, i);
                const AttentionTask& then = tasks[j].kernel;
                const int first = (then.first_split() + static_cast<int>(later - first_item[j])) * kSplitPages;
                for (int k = 0; k < kSplitPages; ++k)
                    ahead[k] =
                        then.page(std::clamp(first + k, then.begin() / kPageTokens, (then.end() - 1) / kPageTokens));
            }
            kernels().attention_split(
                kernel, number, parts + first_float[i] + split * attention_part_floats(kernel.num_rows(), head_dim_),
                later < num_items ? ahead : nullptr);
            std::atomic_ref<int32_t> done(counters[i]);
            if (done.fetch_add(1, std::memory_order_acq_rel) + 1 < first_item[i + 1] - first_item[i]) return;
            done.store(0, std::memory_order_relaxed);  // for the next operator
            kernels().attention_merge(kernel, parts + first_float[i]);
            quantize(step, tasks[i]);
        });
        return true;
    }

    int64_t layer_, head_dim_, num_kv_heads_, group_ = 1;
    Slice q_, out_{};
    float scale_;
    int64_t window_;
    float softcap_;
};

}  // namespace

std::unique_ptr<Op> make_attention_op(const OpArguments& a, const ProgramLimits& limits) {
    if (a.kind == "kv_write" || a.kind == "rope_kv") return std::make_unique<KvWrite>(a, limits);
    if (a.kind == "attention") return std::make_unique<Attention>(a);
    return nullptr;
}

}  // namespace miaotui
