// Machine facts, packed weights, KV pool, program builder and program.
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <optional>
#include <string>

#include "base/checksum.h"
#include "base/error.h"
#include "base/thread_pool.h"
#include "bindings/bindings.h"
#include "program/ceilings.h"
#include "program/program.h"

namespace miaotui {
namespace {

DType dtype_of(const std::string& name) {
    if (name == "f32") return DType::f32;
    if (name == "q8") return DType::q8;
    if (name == "q16") return DType::q16;
    throw BadInput("buffer dtype " + name + " is not one of f32, q8, q16");
}

Rows rows_of(const std::string& name) {
    if (name == "tokens") return Rows::tokens;
    if (name == "logits") return Rows::logits;
    throw BadInput("buffer rows " + name + " are neither tokens nor logits");
}

nb::dict cpu_info() {
    nb::dict info;
    nb::list tiers;
    for (int i = 0; i < kNumTiers; ++i)
        if (tier_runs_here(static_cast<Tier>(i))) tiers.append(tier_name(static_cast<Tier>(i)));
    const double quota = cgroup_cpu_quota();
    info["model"] = cpu_features().model;
    info["features"] = nb::cast(cpu_features().names);
    info["tiers"] = tiers;
    info["tier"] = tier_name(choose_tier());
    info["threads"] = default_threads();
    info["affinity"] = affinity_cpus();
    info["cgroup_quota"] = quota > 0 ? nb::cast(quota) : nb::none();
    return info;
}

// For the tests: the threads that are worth it for runs of (seconds in all, seconds that one thread lost), one after another.
std::vector<int> worthwhile_threads(int most, const std::vector<std::pair<double, double>>& runs) {
    Crowding crowding(most);
    std::vector<int> threads;
    double now_s = 0;
    for (const auto& [wall_s, lost_s] : runs) {
        threads.push_back(crowding.threads(now_s));
        now_s += wall_s;
        crowding.note(now_s, wall_s, lost_s);
    }
    return threads;
}

// For the tests: how many threads took part in runs with so many, each meeting the others at some barriers.
std::vector<int> exercise_pool(const std::vector<int>& threads) {
    std::vector<int> took_part;
    const nb::gil_scoped_release release;
    ThreadPool& pool = thread_pool();
    for (const int wanted : threads) {
        std::atomic<int> count{0};
        pool.run(
            pool.turn(),
            [&](int) {
                for (int i = 0; i < 3; ++i) pool.barrier().wait();
                ++count;
            },
            std::clamp(wanted, 1, pool.size()));
        took_part.push_back(count);
    }
    return took_part;
}

using FileMatrix = std::tuple<int, Vector<uint8_t>, int64_t, int64_t>;  // type, bytes, rows, cols

std::vector<std::shared_ptr<PackedWeight>> pack_weights(const std::vector<FileMatrix>& items) {
    std::vector<PackedWeight::Source> sources;
    for (const auto& [type, data, rows, cols] : items)
        sources.push_back(
            {static_cast<WeightType>(type), data.data(), static_cast<int64_t>(data.nbytes()), rows, cols});
    const nb::gil_scoped_release release;
    return PackedWeight::pack(sources);
}

// Matrices that pack_weights packed once, from where their `data` was kept.
std::vector<std::shared_ptr<PackedWeight>> adopt_packed(const std::vector<FileMatrix>& items) {
    std::vector<std::shared_ptr<PackedWeight>> adopted;
    for (const auto& [type, data, rows, cols] : items) {
        const std::shared_ptr<const void> owner(new Vector<uint8_t>(data), [](const void* p) {
            const nb::gil_scoped_acquire gil;
            delete static_cast<const Vector<uint8_t>*>(p);
        });
        adopted.push_back(PackedWeight::adopt(static_cast<WeightType>(type), rows, cols, data.data(),
                                              static_cast<int64_t>(data.nbytes()), owner));
    }
    return adopted;
}

// The first `bytes` bytes of a file in huge pages of this process: files lie in small ones, which cost a quarter of the bandwidth.
nb::object read_into_memory(const std::string& path, int64_t bytes) {
    constexpr int64_t kPieceBytes = int64_t{4} << 20;
    if (bytes < 1) throw BadInput("there is nothing to read");
    std::unique_ptr<AlignedBuffer> memory;
    {
        const nb::gil_scoped_release release;
        memory = std::make_unique<AlignedBuffer>(static_cast<size_t>(bytes), Pages::huge);
        const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
        std::atomic<bool> complete{file >= 0};
        thread_pool().for_each((bytes + kPieceBytes - 1) / kPieceBytes, [&](int64_t piece) {
            const int64_t end = std::min((piece + 1) * kPieceBytes, bytes);
            for (int64_t at = piece * kPieceBytes; at < end && complete;) {
                const ssize_t got = pread(file, memory->data() + at, static_cast<size_t>(end - at), at);
                if (got > 0)
                    at += got;
                else if (got == 0 || errno != EINTR)
                    complete = false;
            }
        });
        if (file >= 0) close(file);
        if (!complete) throw BadInput(path + " cannot be read to its end");
    }
    const uint8_t* data = memory->data();
    nb::capsule owner(memory.release(), [](void* p) noexcept { delete static_cast<AlignedBuffer*>(p); });
    return nb::cast(nb::ndarray<nb::numpy, const uint8_t>(data, {static_cast<size_t>(bytes)}, owner));
}

uint64_t checksum_of(const std::vector<Vector<uint8_t>>& arrays) {
    std::vector<std::span<const uint8_t>> parts;
    for (const Vector<uint8_t>& array : arrays) {
        if (array.size() % 64 != 0) throw BadInput("a checksum is of multiples of 64 bytes");
        parts.emplace_back(array.data(), array.size());
    }
    const nb::gil_scoped_release release;
    return checksum(parts);
}

// A program and the file memory that its embedding reads.
struct BoundProgram {
    std::unique_ptr<Program> program;
    std::vector<Vector<uint8_t>> kept_alive;
};

struct BoundBuilder {
    ProgramBuilder builder;
    std::vector<Vector<uint8_t>> kept_alive;

    BoundBuilder(int max_tokens, int max_sequences, int max_logit_rows)
        : builder(max_tokens, max_sequences, max_logit_rows) {}
    BoundBuilder(const BoundBuilder&) = delete;
    BoundBuilder& operator=(const BoundBuilder&) = delete;

    Weight weight_of(nb::handle object) {
        if (object.is_none()) return std::monostate{};
        if (std::shared_ptr<PackedWeight> packed; nb::try_cast(object, packed)) return packed;
        if (Vector<float> vector; nb::try_cast(object, vector))
            return std::vector<float>(vector.data(), vector.data() + vector.size());
        if (FileMatrix matrix; nb::try_cast(object, matrix)) {
            const auto& [type, data, rows, cols] = matrix;
            const WeightType weight_type = static_cast<WeightType>(type);
            plan_packed(weight_type, rows, cols);  // checks type and shape
            if (static_cast<int64_t>(data.nbytes()) != file_bytes(weight_type, rows, cols))
                throw BadInput("a raw matrix of " + std::to_string(rows) + " x " + std::to_string(cols) +
                               " does not fill its bytes");
            kept_alive.push_back(data);  // the converted copy where the caller's array was not contiguous
            return RawMatrix{weight_type, data.data(), rows, cols};
        }
        throw BadInput("a weight must be None, a PackedWeight, a float32 vector or (type, uint8 array, rows, cols)");
    }

    using Operands = std::vector<std::tuple<int, int64_t, int64_t>>;
    void op(const std::string& kind, const Operands& inputs, const Operands& outputs, const nb::list& weights,
            const std::map<std::string, Attribute>& attributes) {
        const auto convert = [](const Operands& operands) {
            std::vector<ProgramBuilder::Operand> result;
            for (const auto& [buffer, column, width] : operands) result.push_back({buffer, column, width});
            return result;
        };
        std::vector<Weight> native;
        for (nb::handle w : weights) native.push_back(weight_of(w));
        builder.op(kind, convert(inputs), convert(outputs), std::move(native), attributes);
    }
};

void run(BoundProgram& self, KvPool& kv, const Vector<int32_t>& token_ids, const Vector<int32_t>& positions,
         const Vector<int32_t>& sequence_offsets, const Matrix<int32_t>& block_tables,
         const Vector<int32_t>& logit_rows, const std::optional<size_t>& num_ops) {
    constexpr size_t kMost = size_t{1} << 24;
    if (positions.size() != token_ids.size() || sequence_offsets.size() != block_tables.shape(0) + 1 ||
        token_ids.size() > kMost || block_tables.size() > (size_t{1} << 30) || logit_rows.size() > kMost)
        throw BadInput("batch: the arrays disagree about the number of tokens or sequences");
    const Batch batch{token_ids.data(),
                      positions.data(),
                      sequence_offsets.data(),
                      block_tables.data(),
                      logit_rows.data(),
                      static_cast<int>(token_ids.size()),
                      static_cast<int>(block_tables.shape(0)),
                      static_cast<int>(block_tables.shape(1)),
                      static_cast<int>(logit_rows.size())};
    const nb::gil_scoped_release release;
    self.program->run(batch, kv, num_ops.value_or(self.program->op_names().size()));
}

using FloatView = nb::ndarray<nb::numpy, const float, nb::ndim<2>>;

// A view of the arena: the next run overwrites it. It keeps the program alive.
nb::object logits(nb::handle self) {
    const Program& program = *nb::cast<BoundProgram&>(self).program;
    return nb::cast(
        FloatView(program.logits(),
                  {static_cast<size_t>(program.num_logit_rows()), static_cast<size_t>(program.vocab_size())}, self),
        nb::rv_policy::reference);
}

uint8_t* page_of(const KvPool& pool, int64_t block) {
    if (block < 0 || block >= pool.num_blocks()) {
        throw BadInput("KV page " + std::to_string(block) + " of " + std::to_string(pool.num_blocks()));
    }
    return pool.pages(0, 0) + block * pool.block_stride();
}

// A copy of one page over all layers.
nb::ndarray<nb::numpy, uint8_t, nb::ndim<1>> read_page(const KvPool& pool, int64_t block) {
    const uint8_t* page = page_of(pool, block);
    const size_t bytes = static_cast<size_t>(pool.block_stride());
    auto* copy = new uint8_t[bytes];
    nb::capsule owner(copy, [](void* memory) noexcept { delete[] static_cast<uint8_t*>(memory); });
    std::copy(page, page + bytes, copy);
    return {copy, {bytes}, owner};
}

void write_page(const KvPool& pool, int64_t block,
                const nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>& data) {
    uint8_t* page = page_of(pool, block);
    if (static_cast<int64_t>(data.shape(0)) != pool.block_stride()) throw BadInput("a KV page of another size");
    std::copy(data.data(), data.data() + data.shape(0), page);
}

}  // namespace

KvType kv_type_of(const std::string& name) {
    if (name == "f32") return KvType::f32;
    if (name == "f16") return KvType::f16;
    if (name == "bf16") return KvType::bf16;
    if (name == "int8") return KvType::int8;
    if (name == "int16") return KvType::int16;
    throw BadInput("KV dtype " + name + " is not one of f32, f16, bf16, int16, int8");
}

void bind_program(nb::module_& m) {
    m.def("cpu_info", &cpu_info);
    m.def("worthwhile_threads", &worthwhile_threads, nb::arg("most"), nb::arg("runs"));
    m.def("exercise_pool", &exercise_pool, nb::arg("threads"));
    m.def(
        "row_bytes", [](const std::string& dtype, int64_t width) { return row_bytes(dtype_of(dtype), width); },
        nb::arg("dtype"), nb::arg("width"));
    m.def("measure_ceilings", [] {
        Ceilings c{};
        {
            const nb::gil_scoped_release release;
            c = measure_ceilings();
        }
        nb::dict result;
        result["read_gb_per_s"] = c.read_gb_per_s;
        result["int8_gops"] = c.int8_gops;
        result["f32_gflops"] = c.f32_gflops;
        return result;
    });

    nb::class_<PackedWeight>(m, "PackedWeight")
        .def_prop_ro("rows", [](const PackedWeight& w) { return w.view().rows; })
        .def_prop_ro("cols", [](const PackedWeight& w) { return w.view().cols; })
        .def_prop_ro("type", [](const PackedWeight& w) { return static_cast<int>(w.view().type); })
        .def_prop_ro("nbytes", &PackedWeight::bytes)
        .def_prop_ro("data",
                     [](nb::handle self) {
                         const auto& w = nb::cast<const PackedWeight&>(self);
                         return nb::cast(nb::ndarray<nb::numpy, const uint8_t>(w.view().data, {w.bytes()}, self),
                                         nb::rv_policy::reference);
                     })
        .def("dequantize", [](const PackedWeight& w) {
            return float_array(w.dequantize().data(),
                               {static_cast<size_t>(w.view().rows), static_cast<size_t>(w.view().cols)});
        });
    m.attr("PACK_LAYOUT") = kPackLayout;
    m.def(
        "packed_bytes",
        [](int type, int64_t rows, int64_t cols) {
            return packed_bytes(plan_packed(static_cast<WeightType>(type), rows, cols));
        },
        nb::arg("type"), nb::arg("rows"), nb::arg("cols"));
    m.def("adopt_packed", &adopt_packed, nb::arg("items"));
    m.def("read_into_memory", &read_into_memory, nb::arg("path"), nb::arg("bytes"));
    m.def("checksum", &checksum_of, nb::arg("parts"));
    m.def("pack_weights", &pack_weights, nb::arg("items"));

    nb::class_<KvPool>(m, "KvPool")
        .def(
            "__init__",
            [](KvPool* self, int num_layers, int num_kv_heads, int head_dim, int num_blocks, const std::string& dtype) {
                new (self) KvPool(num_layers, num_kv_heads, head_dim, num_blocks, kv_type_of(dtype));
            },
            nb::arg("num_layers"), nb::arg("num_kv_heads"), nb::arg("head_dim"), nb::arg("num_blocks"),
            nb::arg("dtype"))
        .def_prop_ro("nbytes", &KvPool::bytes)
        .def_prop_ro("num_blocks", &KvPool::num_blocks)
        .def_prop_ro("page_bytes", &KvPool::block_stride)
        .def("populate", &KvPool::populate, nb::arg("first_block"), nb::arg("num_blocks"),
             nb::call_guard<nb::gil_scoped_release>())
        .def("read_page", &read_page, nb::arg("block"))
        .def("write_page", &write_page, nb::arg("block"), nb::arg("data"))
        .def_prop_ro_static("BLOCK_TOKENS", [](nb::handle) { return kPageTokens; })
        .def_static(
            "block_bytes",
            [](int num_layers, int num_kv_heads, int head_dim, const std::string& dtype) {
                return KvPool::block_bytes(num_layers, num_kv_heads, head_dim, kv_type_of(dtype));
            },
            nb::arg("num_layers"), nb::arg("num_kv_heads"), nb::arg("head_dim"), nb::arg("dtype"));

    nb::class_<BoundProgram>(m, "Program")
        .def("run", &run, nb::arg("kv"), nb::arg("token_ids"), nb::arg("positions"), nb::arg("sequence_offsets"),
             nb::arg("block_tables"), nb::arg("logit_rows"), nb::arg("num_ops") = nb::none())
        .def(
            "tune",
            [](BoundProgram& p, int64_t panel_tokens, int64_t panel_blocks, int short_threads, int long_threads) {
                p.program->tune({panel_tokens, panel_blocks, short_threads, long_threads});
            },
            nb::kw_only(), nb::arg("panel_tokens"), nb::arg("panel_blocks"), nb::arg("short_threads"),
            nb::arg("long_threads"))
        .def_prop_ro("tuning",
                     [](const BoundProgram& p) {
                         const Tuning& t = p.program->tuning();
                         nb::dict d;
                         d["panel_tokens"] = t.panel_tokens;
                         d["panel_blocks"] = t.panel_blocks;
                         d["short_threads"] = std::min(t.short_threads, thread_pool().size());
                         d["long_threads"] = std::min(t.long_threads, thread_pool().size());
                         return d;
                     })
        .def_prop_ro("logits", &logits)
        .def_prop_ro("op_names", [](const BoundProgram& p) { return p.program->op_names(); })
        .def_prop_ro("arena_bytes", [](const BoundProgram& p) { return p.program->arena_bytes(); })
        .def_prop_ro("scratch_bytes", [](const BoundProgram& p) { return p.program->scratch_bytes(); })
        .def(
            "profile", [](BoundProgram& p, bool enable) { p.program->profile(enable); }, nb::arg("enable"))
        .def("op_times", [](const BoundProgram& p) { return p.program->op_seconds(); });

    nb::class_<BoundBuilder>(m, "ProgramBuilder")
        .def(nb::init<int, int, int>(), nb::arg("max_tokens"), nb::arg("max_sequences"), nb::arg("max_logit_rows"))
        .def(
            "buffer",
            [](BoundBuilder& b, const std::string& dtype, int64_t width, int64_t offset_bytes,
               const std::string& rows) {
                return b.builder.buffer(dtype_of(dtype), rows_of(rows), width, offset_bytes);
            },
            nb::arg("dtype"), nb::arg("width"), nb::arg("offset_bytes"), nb::arg("rows") = "tokens")
        .def(
            "rope_table",
            [](BoundBuilder& b, const Vector<float>& inv_freq, float mscale) {
                return b.builder.rope_table(std::vector<float>(inv_freq.data(), inv_freq.data() + inv_freq.size()),
                                            mscale);
            },
            nb::arg("inv_freq"), nb::arg("mscale") = 1.0F)
        .def("op", &BoundBuilder::op, nb::arg("kind"), nb::arg("inputs"), nb::arg("outputs"), nb::arg("weights"),
             nb::arg("attrs"))
        .def(
            "build",
            [](BoundBuilder& b, int64_t arena_bytes) {
                return BoundProgram{b.builder.build(arena_bytes), std::move(b.kept_alive)};
            },
            nb::arg("arena_bytes"));
}

}  // namespace miaotui
