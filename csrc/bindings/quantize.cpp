// Floats to codes and scales for compress/quantize: one call per matrix, or per column of groups where errors are fed back.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>

#include <memory>
#include <optional>
#include <string>
#include <tuple>

#include "base/error.h"
#include "bindings/bindings.h"
#include "program/quantize.h"

namespace miaotui {
namespace {

template <class T>
nb::object owned(std::unique_ptr<T[]> values, std::initializer_list<size_t> shape) {
    T* data = values.release();
    nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
    return nb::cast(nb::ndarray<nb::numpy, T>(data, shape, owner));
}

void expect(bool condition, const char* what) {
    if (!condition) throw BadInput(std::string("quantize: ") + what);
}

using Found = std::tuple<nb::object, nb::object, nb::object, nb::object>;

Found quantize_matrix(int type, const Matrix<float>& weights, const std::optional<Vector<float>>& importance,
                      bool by_magnitude, const std::optional<Matrix<float>>& feedback,
                      const std::optional<Matrix<float>>& units, const std::optional<Matrix<float>>& near,
                      const std::optional<std::string>& tier) {
    const size_t rows = weights.shape(0), cols = weights.shape(1);
    const auto kind = static_cast<WeightType>(type);
    expect(group_weights(kind) != 0, "nothing is quantized to that type");
    expect(!importance || importance->size() == cols, "importance is one number per column");
    expect(!feedback || (feedback->shape(0) == 32 && feedback->shape(1) == 32), "feedback is 32 x 32");
    expect(!units || (units->shape(0) == rows && units->shape(1) == 2), "units are two per row");
    expect(!near || (near->shape(0) == rows && near->shape(1) == 2), "near is a scale and a minimum per row");
    const size_t groups = cols / static_cast<size_t>(group_weights(kind));
    const size_t supers = has_units(kind) && !units ? cols / 256 : 0;
    auto codes = std::make_unique<uint8_t[]>(rows * cols);
    auto scales = std::make_unique<float[]>(rows * groups), minimums = std::make_unique<float[]>(rows * groups);
    auto found_units = std::make_unique<float[]>(rows * supers * 2);
    const QuantizeTask task{kind,
                            weights.data(),
                            static_cast<int64_t>(rows),
                            static_cast<int64_t>(cols),
                            importance ? importance->data() : nullptr,
                            by_magnitude,
                            feedback ? feedback->data() : nullptr,
                            units ? units->data() : nullptr,
                            near ? near->data() : nullptr,
                            codes.get(),
                            scales.get(),
                            minimums.get(),
                            found_units.get()};
    const KernelTable& table = table_named(tier);
    {
        const nb::gil_scoped_release release;
        quantize(table, task);
    }
    return {owned(std::move(codes), {rows, cols}), owned(std::move(scales), {rows, groups}),
            owned(std::move(minimums), {rows, groups}), owned(std::move(found_units), {rows, supers, 2})};
}

}  // namespace

void bind_quantize(nb::module_& m) {
    m.def("quantize", &quantize_matrix, nb::arg("type"), nb::arg("weights"), nb::arg("importance") = nb::none(),
          nb::arg("by_magnitude") = false, nb::arg("feedback") = nb::none(), nb::arg("units") = nb::none(),
          nb::arg("near") = nb::none(), nb::arg("tier") = nb::none());
}

}  // namespace miaotui
