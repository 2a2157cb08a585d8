// Single kernels of a given tier, for the tests and the micro-benchmarks.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "base/aligned.h"
#include "base/error.h"
#include "bindings/bindings.h"
#include "kernels/table.h"
#include "program/kv_pool.h"
#include "program/packed_weight.h"

namespace miaotui {
namespace {

const KernelTable& table_of(const std::string& tier) {
    for (int i = 0; i < kNumTiers; ++i)
        if (tier == tier_name(static_cast<Tier>(i))) return kernels_of(static_cast<Tier>(i));
    throw BadTier("there is no instruction-set tier " + tier);
}

std::vector<std::string> kernel_names() {
    return {
#define X(name, parameters) #name,
#include "kernels/kernels.def"
#undef X
    };
}

AlignedBuffer quantize_rows(const KernelTable& table, const Matrix<float>& x) {
    const int64_t rows = static_cast<int64_t>(x.shape(0)), cols = static_cast<int64_t>(x.shape(1));
    if (cols % kGroup != 0) throw BadInput("int8 rows need a multiple of 32 columns");
    AlignedBuffer memory(static_cast<size_t>(rows * Q8Layout(cols).bytes));
    for (int64_t t = 0; t < rows; ++t)
        table.quantize_groups(x.data() + t * cols, memory.data() + t * Q8Layout(cols).bytes, cols, 0, cols / kGroup);
    return memory;
}

// The int8 rows of x, as [rows][q8_row_bytes].
nb::object kernel_quantize(const std::string& tier, const Matrix<float>& x) {
    const AlignedBuffer rows = quantize_rows(table_of(tier), x);
    auto* copy = new uint8_t[rows.size()];
    std::memcpy(copy, rows.data(), rows.size());
    nb::capsule owner(copy, [](void* p) noexcept { delete[] static_cast<uint8_t*>(p); });
    return nb::cast(nb::ndarray<nb::numpy, uint8_t, nb::ndim<2>>(copy, {x.shape(0), rows.size() / x.shape(0)}, owner));
}

// x · Wᵀ by one of the variants: "direct" and "panel" on int8 activations, "float" on floats.
nb::object kernel_linear(const std::string& tier, const std::string& variant, const PackedWeight& weight,
                         const Matrix<float>& x, std::optional<Vector<float>> bias,
                         std::optional<Matrix<float>> residual) {
    const KernelTable& table = table_of(tier);
    const PackedView& w = weight.view();
    const int64_t num_tokens = static_cast<int64_t>(x.shape(0));
    if (static_cast<int64_t>(x.shape(1)) != w.cols) throw BadInput("x and the matrix differ in columns");
    if (is_float(w.type) && variant != "float") throw BadInput("float matrices have the float variant only");
    std::vector<float> y(static_cast<size_t>(num_tokens * w.rows));
    LinearOut out{y.data(), w.rows, nullptr, nullptr, 0};
    if (bias) out.bias = bias->data();
    if (residual) out.residual = residual->data(), out.residual_stride = w.rows;
    if (variant == "float") {
        table.linear_f32(w, 0, w.num_blocks(), F32Rows{x.data(), w.cols}, 0, num_tokens, out);
    } else {
        const AlignedBuffer rows = quantize_rows(table, x);
        const Q8Rows q{rows.data(), Q8Layout(w.cols).bytes, w.cols};
        if (variant == "direct") {
            table.linear_q8(w, 0, w.num_blocks(), q, 0, num_tokens, out);
        } else {
            const PanelSize size = panel_size(w);
            const AlignedBuffer codes(static_cast<size_t>(size.code_bytes)),
                scales(static_cast<size_t>(8 * size.scale_floats));
            auto* s = reinterpret_cast<float*>(scales.data());
            const PanelView panel{codes.data(), s, s + size.scale_floats};
            for (int64_t b = 0; b < w.num_blocks(); ++b) {
                table.unpack_block(w, b, panel);
                table.linear_panel(w, b, panel, q, 0, num_tokens, out);
            }
        }
    }
    return float_array(y.data(), {x.shape(0), static_cast<size_t>(w.rows)});
}

nb::object kernel_norm(const std::string& tier, const std::string& kind, const Matrix<float>& x,
                       const Vector<float>& gain, std::optional<Vector<float>> bias, float eps) {
    const KernelTable& table = table_of(tier);
    if (gain.size() != x.shape(1) || (bias && bias->size() != x.shape(1)))
        throw BadInput("x, gain and bias differ in width");
    std::vector<float> y(x.size());
    const auto n = static_cast<int64_t>(x.shape(1));
    for (size_t t = 0; t < x.shape(0); ++t) {
        const float* row = x.data() + t * x.shape(1);
        if (kind == "rms")
            table.rms_norm(row, gain.data(), eps, n, y.data() + t * x.shape(1));
        else
            table.layer_norm(row, gain.data(), bias ? bias->data() : nullptr, eps, n, y.data() + t * x.shape(1));
    }
    return float_array(y.data(), {x.shape(0), x.shape(1)});
}

nb::object kernel_rope(const std::string& tier, const Matrix<float>& x, const Matrix<float>& cos_sin,
                       bool interleaved) {
    const KernelTable& table = table_of(tier);
    const auto rope_dim = static_cast<int64_t>(cos_sin.shape(1)), head_dim = static_cast<int64_t>(x.shape(1));
    if (cos_sin.shape(0) != x.shape(0) || rope_dim > head_dim)
        throw BadInput("cos_sin is [rows][rope_dim] for x [rows][head_dim]");
    std::vector<float> y(x.size());
    for (size_t t = 0; t < x.shape(0); ++t)
        table.rope_head(x.data() + t * x.shape(1), cos_sin.data() + t * cos_sin.shape(1), rope_dim, head_dim,
                        interleaved, y.data() + t * x.shape(1));
    return float_array(y.data(), {x.shape(0), x.shape(1)});
}

nb::object kernel_activate(const std::string& tier, const std::string& activation, const Vector<float>& gate,
                           const Vector<float>& up) {
    if (gate.size() != up.size()) throw BadInput("gate and up differ in size");
    std::vector<float> y(gate.size());
    table_of(tier).activate_mul(activation == "silu" ? 0 : 1, gate.data(), up.data(), static_cast<int64_t>(gate.size()),
                                y.data());
    return float_array(y.data(), {gate.size()});
}

nb::object kernel_softcap(const std::string& tier, const Vector<float>& x, float cap) {
    std::vector<float> y(x.size());
    table_of(tier).softcap(x.data(), cap, static_cast<int64_t>(x.size()), y.data());
    return float_array(y.data(), {x.size()});
}

// Attention of one sequence: keys and values of positions 0 …, queries at the last positions, in tiles of `tile` tokens.
// q: [tokens][heads · head_dim]; k, v: [positions][head_dim] of one KV head, which all query heads share.
nb::object kernel_attention(const std::string& tier, const std::string& kv_dtype, const Matrix<float>& q,
                            const Matrix<float>& k, const Matrix<float>& v, int tile, float scale, int window,
                            float softcap) {
    const KernelTable& table = table_of(tier);
    const int head_dim = static_cast<int>(k.shape(1)), num_positions = static_cast<int>(k.shape(0));
    const int num_tokens = static_cast<int>(q.shape(0)), group = static_cast<int>(q.shape(1)) / head_dim;
    const KvType type = kv_dtype == "f32"    ? KvType::f32
                        : kv_dtype == "f16"  ? KvType::f16
                        : kv_dtype == "bf16" ? KvType::bf16
                                             : KvType::int8;
    const int num_blocks = (num_positions + kPageTokens - 1) / kPageTokens;
    if (v.shape(0) != k.shape(0) || v.shape(1) != k.shape(1) || num_tokens > num_positions || tile < 1 ||
        tile * group > 64)
        throw BadInput("q, k and v do not fit together");
    KvPool pool(1, 1, head_dim, num_blocks, type);
    std::vector<int32_t> blocks, positions;
    for (int b = 0; b < num_blocks; ++b) blocks.push_back(num_blocks - 1 - b);
    for (int t = num_positions - num_tokens; t < num_positions; ++t) positions.push_back(t);
    for (int p = 0; p < num_positions; ++p)
        table.kv_store(pool.layout(),
                       pool.pages(0, 0) + blocks[static_cast<size_t>(p / kPageTokens)] * pool.block_stride(),
                       p % kPageTokens, k.data() + p * head_dim, v.data() + p * head_dim);
    std::vector<float> y(q.size()), scratch(static_cast<size_t>(attention_scratch_floats(tile * group, head_dim)));
    const int64_t stride = static_cast<int64_t>(q.shape(1));
    for (int t = 0; t < num_tokens; t += tile)
        table.attention(AttentionTask{pool.layout(), pool.pages(0, 0), pool.block_stride(), blocks.data(),
                                      q.data() + t * stride, stride, positions.data() + t,
                                      std::min(tile, num_tokens - t), group, scale, window, softcap,
                                      y.data() + t * stride, stride, scratch.data()});
    return float_array(y.data(), {q.shape(0), q.shape(1)});
}

}  // namespace

void bind_kernels(nb::module_& m) {
    m.def("kernel_names", &kernel_names);
    m.def("kernel_quantize", &kernel_quantize, nb::arg("tier"), nb::arg("x"));
    m.def("kernel_linear", &kernel_linear, nb::arg("tier"), nb::arg("variant"), nb::arg("weight"), nb::arg("x"),
          nb::arg("bias") = nb::none(), nb::arg("residual") = nb::none());
    m.def("kernel_norm", &kernel_norm, nb::arg("tier"), nb::arg("kind"), nb::arg("x"), nb::arg("gain"),
          nb::arg("bias") = nb::none(), nb::arg("eps") = 1e-6F);
    m.def("kernel_rope", &kernel_rope, nb::arg("tier"), nb::arg("x"), nb::arg("cos_sin"), nb::arg("interleaved"));
    m.def("kernel_activate", &kernel_activate, nb::arg("tier"), nb::arg("activation"), nb::arg("gate"), nb::arg("up"));
    m.def("kernel_softcap", &kernel_softcap, nb::arg("tier"), nb::arg("x"), nb::arg("cap"));
    m.def("kernel_attention", &kernel_attention, nb::arg("tier"), nb::arg("kv_dtype"), nb::arg("q"), nb::arg("k"),
          nb::arg("v"), nb::arg("tile") = 1, nb::arg("scale") = 1.0F, nb::arg("window") = 0, nb::arg("softcap") = 0.0F);
}

}  // namespace miaotui
