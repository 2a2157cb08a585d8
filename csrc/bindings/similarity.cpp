// Search of embeddings for answers/near: one call per search.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "bindings/bindings.h"
#include "kernels/table.h"

namespace miaotui {
namespace {

nb::object dot_rows(const Matrix<int8_t>& rows, const Vector<int8_t>& query, const std::optional<std::string>& tier) {
    const size_t num_rows = rows.shape(0), n = rows.shape(1);
    if (query.size() != n || n % 32 != 0 || n > 65536)
        throw BadInput("embeddings have a multiple of 32 codes, at most 65536, as many as the query");
    const KernelTable& table = table_named(tier);
    auto out = std::make_unique<int32_t[]>(num_rows);
    {
        nb::gil_scoped_release release;
        table.dot_rows_i8(query.data(), rows.data(), static_cast<int64_t>(n), static_cast<int64_t>(num_rows),
                          out.get());
    }
    int32_t* values = out.release();
    nb::capsule owner(values, [](void* p) noexcept { delete[] static_cast<int32_t*>(p); });
    return nb::cast(nb::ndarray<nb::numpy, int32_t, nb::ndim<1>>(values, {num_rows}, owner));
}

}  // namespace

void bind_similarity(nb::module_& m) {
    m.def("dot_rows_i8", &dot_rows, nb::arg("rows"), nb::arg("query"), nb::arg("tier") = nb::none());
}

}  // namespace miaotui
