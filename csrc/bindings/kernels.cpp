// Single kernels of a given tier, for the tests and the micro-benchmarks.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
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

void expect(bool condition, const char* what) {
    if (!condition) throw BadInput(std::string("kernel test: ") + what);
}

int activation_of(const std::string& name) {
    const std::vector<std::string> names{"silu", "gelu_tanh", "gelu", "relu"};
    const auto found = std::find(names.begin(), names.end(), name);
    expect(found != names.end(), "activation is silu, gelu_tanh, gelu or relu");
    return static_cast<int>(found - names.begin());
}

nb::object byte_array(const uint8_t* bytes, size_t rows, size_t columns) {
    auto* copy = new uint8_t[rows * columns];
    if (rows * columns > 0) std::memcpy(copy, bytes, rows * columns);
    nb::capsule owner(copy, [](void* p) noexcept { delete[] static_cast<uint8_t*>(p); });
    return nb::cast(nb::ndarray<nb::numpy, uint8_t, nb::ndim<2>>(copy, {rows, columns}, owner));
}

AlignedBuffer quantize_rows(const KernelTable& table, const Matrix<float>& x, bool wide) {
    const int64_t rows = static_cast<int64_t>(x.shape(0)), cols = static_cast<int64_t>(x.shape(1));
    expect(cols % kGroup == 0, "int8 rows need a multiple of 32 columns");
    AlignedBuffer memory(static_cast<size_t>(rows * q8_row_bytes(cols)));
    for (int64_t t = 0; t < rows; ++t)
        table.quantize_groups(x.data() + t * cols, memory.data() + t * q8_row_bytes(cols), cols, wide, 0,
                              cols / kGroup);
    return memory;
}

// The quantized rows of x, as [rows][row_bytes].
nb::object kernel_quantize(const std::string& tier, const Matrix<float>& x, bool wide) {
    const AlignedBuffer rows = quantize_rows(table_of(tier), x, wide);
    return byte_array(rows.data(), x.shape(0), static_cast<size_t>(q8_row_bytes(static_cast<int64_t>(x.shape(1)))));
}

// A block of 16 rows turned into a panel; owns the memory that it describes.
struct OwnedPanel {
    AlignedBuffer codes, scales;
    PanelView view;

    explicit OwnedPanel(const PanelSize& size)
        : codes(static_cast<size_t>(size.code_bytes)), scales(static_cast<size_t>(8 * size.scale_floats)), view{} {
        auto* s = reinterpret_cast<float*>(scales.data());
        view = {codes.data(), s, s + size.scale_floats};
    }
};

// One block as (codes [cols / 32][512], scales [groups][16], minimums [groups][16]).
nb::object kernel_unpack(const std::string& tier, const PackedWeight& weight, int64_t block) {
    const PackedView& w = weight.view();
    expect(!is_float(w.type) && block >= 0 && block < w.num_blocks(), "there is no such block of codes");
    const OwnedPanel panel(panel_size(w));
    table_of(tier).unpack_block(w, block, panel.view, w.data);
    const auto tiles = static_cast<size_t>(w.cols / kGroup),
               groups = static_cast<size_t>(panel_size(w).scale_floats / kBlockRows);
    return nb::make_tuple(byte_array(panel.view.codes, tiles, kBlockRows * kGroup),
                          float_array(panel.view.scales, {groups, kBlockRows}),
                          float_array(panel.view.mins, {groups, kBlockRows}));
}

// x · Wᵀ by one of the variants: "direct" and "panel" on int8 activations, "float" on floats.
nb::object kernel_linear(const std::string& tier, const std::string& variant, const PackedWeight& weight,
                         const Matrix<float>& x, const std::optional<Vector<float>>& bias,
                         const std::optional<Matrix<float>>& residual, bool wide) {
    const KernelTable& table = table_of(tier);
    const PackedView& w = weight.view();
    const int64_t num_tokens = static_cast<int64_t>(x.shape(0));
    const auto num_rows = static_cast<size_t>(w.rows);
    expect(static_cast<int64_t>(x.shape(1)) == w.cols, "x and the matrix differ in columns");
    expect(!bias || bias->size() == num_rows, "bias and the matrix differ in rows");
    expect(!residual || (residual->shape(0) == x.shape(0) && residual->shape(1) == num_rows),
           "residual is [tokens][rows]");
    expect(variant == "float" || ((variant == "direct" || variant == "panel") && !is_float(w.type)),
           "there is no such variant for this matrix");
    std::vector<float> y(x.shape(0) * num_rows);
    LinearOut out{y.data(), w.rows, bias ? bias->data() : nullptr, residual ? residual->data() : nullptr, w.rows};
    if (variant == "float") {
        table.linear_f32(w, 0, w.num_blocks(), F32Rows{x.data(), w.cols}, 0, num_tokens, out);
        return float_array(y.data(), {x.shape(0), num_rows});
    }
    const AlignedBuffer rows = quantize_rows(table, x, wide);
    const Q8Rows q{rows.data(), q8_row_bytes(w.cols), w.cols, wide};
    if (variant == "direct") {
        table.linear_q8(w, 0, w.num_blocks(), q, 0, num_tokens, out, nullptr);
    } else {
        std::vector<OwnedPanel> owned;
        std::vector<PanelView> panels;
        for (int64_t b = 0; b < w.num_blocks(); ++b) {
            panels.push_back(owned.emplace_back(panel_size(w)).view);
            table.unpack_block(w, b, panels.back(), w.data);
        }
        table.linear_panels(w, 0, w.num_blocks(), panels.data(), q, 0, num_tokens, out);
    }
    return float_array(y.data(), {x.shape(0), num_rows});
}

nb::object kernel_norm(const std::string& tier, const std::string& kind, const Matrix<float>& x,
                       const Vector<float>& gain, const std::optional<Vector<float>>& bias, float eps) {
    const KernelTable& table = table_of(tier);
    expect(kind == "rms" || kind == "layer", "a norm is rms or layer");
    expect(gain.size() == x.shape(1) && (!bias || bias->size() == x.shape(1)), "x, gain and bias differ in width");
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
    expect(cos_sin.shape(0) == x.shape(0) && rope_dim <= head_dim && rope_dim % 2 == 0,
           "cos_sin is [rows][rope_dim] for x [rows][head_dim]");
    std::vector<float> y(x.size());
    for (size_t t = 0; t < x.shape(0); ++t)
        table.rope_head(x.data() + t * x.shape(1), cos_sin.data() + t * cos_sin.shape(1), rope_dim, head_dim,
                        interleaved, y.data() + t * x.shape(1));
    return float_array(y.data(), {x.shape(0), x.shape(1)});
}

nb::object kernel_activate(const std::string& tier, const std::string& activation, const Vector<float>& gate,
                           const std::optional<Vector<float>>& up) {
    expect(!up || gate.size() == up->size(), "gate and up differ in size");
    std::vector<float> y(gate.size());
    table_of(tier).activate_mul(activation_of(activation), gate.data(), up ? up->data() : nullptr,
                                static_cast<int64_t>(gate.size()), y.data());
    return float_array(y.data(), {gate.size()});
}

nb::object kernel_add(const std::string& tier, const Vector<float>& a, const Vector<float>& b) {
    expect(a.size() == b.size(), "a and b differ in size");
    std::vector<float> y(a.size());
    table_of(tier).add_rows(a.data(), b.data(), static_cast<int64_t>(a.size()), y.data());
    return float_array(y.data(), {a.size()});
}

nb::object kernel_softcap(const std::string& tier, const Vector<float>& x, float cap) {
    std::vector<float> y(x.size());
    table_of(tier).softcap(x.data(), cap, static_cast<int64_t>(x.size()), y.data());
    return float_array(y.data(), {x.size()});
}

// Rows first … last − 1 of softmax(q · kᵀ · scale) · v for one head, all [tokens][head_dim].
nb::object kernel_encoder_attention(const std::string& tier, const Matrix<float>& q, const Matrix<float>& k,
                                    const Matrix<float>& v, float scale, int first_row, int end_row) {
    const auto n = static_cast<int64_t>(q.shape(1));
    const int num_tokens = static_cast<int>(q.shape(0));
    expect(q.shape(0) >= 1 && n >= 16 && n % 16 == 0, "queries are [tokens][a multiple of 16]");
    expect(k.shape(0) == q.shape(0) && v.shape(0) == q.shape(0) && k.shape(1) == q.shape(1) && v.shape(1) == q.shape(1),
           "queries, keys and values are of one shape");
    expect(first_row >= 0 && first_row < end_row && end_row <= num_tokens, "there are no such rows");
    std::vector<float> y(static_cast<size_t>((end_row - first_row) * n));
    std::vector<float> scratch(static_cast<size_t>(encoder_scratch_floats(num_tokens, n)));
    const int head_dim = static_cast<int>(n);
    table_of(tier).encoder_attention({q.data(), k.data(), v.data(), n, n, n, num_tokens, first_row, end_row, head_dim,
                                      scale, y.data(), n, scratch.data()});
    return float_array(y.data(), {static_cast<size_t>(end_row - first_row), q.shape(1)});
}

nb::object kernel_row_peak(const std::string& tier, const Vector<float>& x) {
    expect(x.size() > 0, "there is no value");
    RowPeak peak;
    table_of(tier).row_peak(x.data(), static_cast<int64_t>(x.size()), &peak);
    return nb::make_tuple(peak.maximum, peak.index, peak.is_usable);
}

nb::object kernel_max(const std::string& tier, const Vector<float>& a, const Vector<float>& b) {
    expect(a.size() == b.size(), "a and b differ in size");
    std::vector<float> y(a.size());
    table_of(tier).max_rows(a.data(), b.data(), static_cast<int64_t>(a.size()), y.data());
    return float_array(y.data(), {a.size()});
}

// Filters [terms · height · width][columns] over rows [lines · line][columns]: the windows that lie inside, of the first line of
// outputs, [line − width + 1][terms · columns].
nb::object kernel_depthwise(const std::string& tier, const Matrix<float>& x, const Matrix<float>& filters, int height,
                            int width, int line) {
    const auto columns = static_cast<int64_t>(x.shape(1));
    expect(columns >= 16 && columns % 16 == 0 && filters.shape(1) == x.shape(1), "columns are a multiple of 16");
    expect(height >= 1 && width >= 1 && line >= width && height * line <= static_cast<int>(x.shape(0)),
           "there are too few rows for these taps");
    const int64_t num_taps = static_cast<int64_t>(height) * width;
    const auto num_filters = static_cast<int64_t>(filters.shape(0));
    expect(num_filters >= num_taps && num_filters % num_taps == 0, "filters are [terms][height][width]");
    const int64_t num_terms = num_filters / num_taps;
    const int num_rows = line - width + 1;
    std::vector<float> y(static_cast<size_t>(num_rows * num_terms * columns));
    table_of(tier).depthwise({x.data(), columns, line * columns, num_rows, height, width, filters.data(),
                              width * columns, num_taps * columns, static_cast<int>(num_terms), columns, y.data(),
                              num_terms * columns});
    return float_array(y.data(), {static_cast<size_t>(num_rows), static_cast<size_t>(num_terms * columns)});
}

// A pool of one layer and head, every byte of it 0xFF, so that a slot that nobody wrote reads as NaN.
KvPool stained_pool(const std::string& kv_dtype, size_t head_dim, int num_blocks) {
    expect(head_dim <= 512, "head_dim is at most 512");
    KvPool pool(1, 1, static_cast<int>(head_dim), num_blocks, kv_type_of(kv_dtype));
    std::memset(pool.pages(0, 0), 0xFF, pool.bytes());
    return pool;
}

// The page that holds keys and values [tokens][head_dim] in its slots 0 …, as bytes.
nb::object kernel_kv_store(const std::string& tier, const std::string& kv_dtype, const Matrix<float>& k,
                           const Matrix<float>& v) {
    const KernelTable& table = table_of(tier);
    expect(k.shape(0) <= kPageTokens && v.shape(0) == k.shape(0) && v.shape(1) == k.shape(1),
           "k and v are [tokens][head_dim], at most 16 tokens");
    const KvPool pool = stained_pool(kv_dtype, k.shape(1), 1);
    for (size_t t = 0; t < k.shape(0); ++t)
        table.kv_store(pool.layout(), pool.pages(0, 0), static_cast<int>(t), k.data() + t * k.shape(1),
                       v.data() + t * k.shape(1));
    return byte_array(pool.pages(0, 0), 2, pool.bytes() / 2);
}

// Attention of one sequence: keys and values of positions 0 …, queries at the last positions, in tiles of `tile` tokens.
// q: [tokens][heads · head_dim]; k, v: [positions][head_dim] of one KV head, which all query heads share. Page p of the
// sequence lies in block block_table[p]. Shared: split by split, last split first, then merged.
nb::object kernel_attention(const std::string& tier, const std::string& kv_dtype, const Matrix<float>& q,
                            const Matrix<float>& k, const Matrix<float>& v, const Vector<int32_t>& block_table,
                            int tile, float scale, int window, float softcap, bool shared) {
    const KernelTable& table = table_of(tier);
    expect(v.shape(0) == k.shape(0) && v.shape(1) == k.shape(1) && q.shape(0) <= k.shape(0) && window >= 0 &&
               k.shape(0) <= kPageTokens * block_table.size() && k.shape(1) >= 16 && q.shape(1) % k.shape(1) == 0,
           "q, k, v and block_table do not fit together");
    const int head_dim = static_cast<int>(k.shape(1)), group = static_cast<int>(q.shape(1)) / head_dim;
    const int num_positions = static_cast<int>(k.shape(0)), num_tokens = static_cast<int>(q.shape(0));
    expect(group >= 1 && tile >= 1 && tile <= 64 && tile * group <= 64, "a tile has at most 64 rows");
    int num_blocks = 1;
    for (size_t b = 0; b < block_table.size(); ++b) {
        const int32_t block = block_table.data()[b];
        expect(block >= 0 && block < 4096, "block ids are 0 to 4095");
        num_blocks = std::max(num_blocks, block + 1);
    }
    const KvPool pool = stained_pool(kv_dtype, k.shape(1), num_blocks);
    for (int p = 0; p < num_positions; ++p) {
        const int64_t block = block_table.data()[p / kPageTokens];
        table.kv_store(pool.layout(), pool.pages(0, 0) + block * pool.block_stride(), p % kPageTokens,
                       k.data() + p * head_dim, v.data() + p * head_dim);
    }
    std::vector<int32_t> positions;
    for (int p = num_positions - num_tokens; p < num_positions; ++p) positions.push_back(p);
    std::vector<float> y(q.size()), scratch(static_cast<size_t>(attention_scratch_floats(tile * group, head_dim)));
    const int64_t stride = static_cast<int64_t>(q.shape(1));
    for (int t = 0; t < num_tokens; t += tile) {
        const AttentionTask task{pool.layout(),
                                 pool.pages(0, 0),
                                 pool.block_stride(),
                                 block_table.data(),
                                 q.data() + t * stride,
                                 stride,
                                 positions.data() + t,
                                 std::min(tile, num_tokens - t),
                                 group,
                                 scale,
                                 window,
                                 softcap,
                                 y.data() + t * stride,
                                 stride,
                                 scratch.data()};
        if (!shared) {
            table.attention(task, nullptr);
            continue;
        }
        const int64_t part = attention_part_floats(task.num_rows(), head_dim);
        std::vector<float> parts(static_cast<size_t>((task.end_split() - task.first_split()) * part));
        for (int i = task.end_split(); i-- > task.first_split();)
            table.attention_split(task, i, parts.data() + (i - task.first_split()) * part, nullptr);
        table.attention_merge(task, parts.data());
    }
    return float_array(y.data(), {q.shape(0), q.shape(1)});
}

// Operations that peak_dot and peak_fma report for some rounds, after running them and peak_read over x.
std::pair<int64_t, int64_t> kernel_peak(const std::string& tier, int64_t rounds, const Vector<uint8_t>& x) {
    expect(x.size() >= 512 && x.size() % 512 == 0 && rounds >= 0, "x has a multiple of 512 bytes");
    std::pair<int64_t, int64_t> operations;
    table_of(tier).peak_dot(rounds, reinterpret_cast<const int8_t*>(x.data()), &operations.first);
    alignas(64) const float ones[kBlockRows] = {1};
    table_of(tier).peak_fma(rounds, ones, &operations.second);
    table_of(tier).peak_read(x.data(), static_cast<int64_t>(x.size()));
    return operations;
}

}  // namespace

void bind_kernels(nb::module_& m) {
    m.def("kernel_names", &kernel_names);
    m.def("kernel_quantize", &kernel_quantize, nb::arg("tier"), nb::arg("x"), nb::arg("wide") = false);
    m.def("kernel_unpack", &kernel_unpack, nb::arg("tier"), nb::arg("weight"), nb::arg("block"));
    m.def("kernel_linear", &kernel_linear, nb::arg("tier"), nb::arg("variant"), nb::arg("weight"), nb::arg("x"),
          nb::arg("bias") = nb::none(), nb::arg("residual") = nb::none(), nb::arg("wide") = false);
    m.def("kernel_norm", &kernel_norm, nb::arg("tier"), nb::arg("kind"), nb::arg("x"), nb::arg("gain"),
          nb::arg("bias") = nb::none(), nb::arg("eps") = 1e-6F);
    m.def("kernel_rope", &kernel_rope, nb::arg("tier"), nb::arg("x"), nb::arg("cos_sin"), nb::arg("interleaved"));
    m.def("kernel_activate", &kernel_activate, nb::arg("tier"), nb::arg("activation"), nb::arg("gate"),
          nb::arg("up") = nb::none());
    m.def("kernel_add", &kernel_add, nb::arg("tier"), nb::arg("a"), nb::arg("b"));
    m.def("kernel_max", &kernel_max, nb::arg("tier"), nb::arg("a"), nb::arg("b"));
    m.def("kernel_row_peak", &kernel_row_peak, nb::arg("tier"), nb::arg("x"));
    m.def("kernel_depthwise", &kernel_depthwise, nb::arg("tier"), nb::arg("x"), nb::arg("filters"), nb::arg("height"),
          nb::arg("width"), nb::arg("line"));
    m.def("kernel_softcap", &kernel_softcap, nb::arg("tier"), nb::arg("x"), nb::arg("cap"));
    m.def("kernel_kv_store", &kernel_kv_store, nb::arg("tier"), nb::arg("kv_dtype"), nb::arg("k"), nb::arg("v"));
    m.def("kernel_encoder_attention", &kernel_encoder_attention, nb::arg("tier"), nb::arg("q"), nb::arg("k"),
          nb::arg("v"), nb::arg("scale"), nb::arg("first_row"), nb::arg("end_row"));
    m.def("kernel_peak", &kernel_peak, nb::arg("tier"), nb::arg("rounds"), nb::arg("x"));
    m.def("kernel_attention", &kernel_attention, nb::arg("tier"), nb::arg("kv_dtype"), nb::arg("q"), nb::arg("k"),
          nb::arg("v"), nb::arg("block_table"), nb::arg("tile") = 1, nb::arg("scale") = 1.0F, nb::arg("window") = 0,
          nb::arg("softcap") = 0.0F, nb::arg("shared") = false);
}

}  // namespace miaotui
