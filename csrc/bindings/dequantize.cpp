// What formats/ needs natively: blocks of a model file to floats.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <memory>
#include <string>

#include "base/error.h"
#include "kernels/dequantize.h"

namespace nb = nanobind;

namespace miaotui {
namespace {

using ByteArray = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using FloatVector = nb::ndarray<nb::numpy, float, nb::ndim<1>>;

FloatVector dequantize(int type, ByteArray data, int64_t count) {
    const BlockShape shape = block_shape(static_cast<WeightType>(type));
    if (shape.weights == 0) throw BadInput("weight type " + std::to_string(type) + " is not supported");
    if (count < 0 || count % shape.weights != 0 || count / shape.weights > INT64_MAX / shape.bytes ||
        static_cast<uint64_t>(count / shape.weights * shape.bytes) != data.nbytes()) {
        throw BadInput(std::to_string(count) + " weights of type " + std::to_string(type) + " do not fill " +
                       std::to_string(data.nbytes()) + " bytes exactly");
    }
    // The count matches the bytes at hand, so a hostile header cannot make this allocation large.
    std::unique_ptr<float[]> floats(new float[static_cast<size_t>(count)]);
    {
        nb::gil_scoped_release release;
        dequantize_row(static_cast<WeightType>(type), data.data(), floats.get(), count);
    }
    nb::capsule owner(floats.get(), [](void* pointer) noexcept { delete[] static_cast<float*>(pointer); });
    return FloatVector(floats.release(), {static_cast<size_t>(count)}, owner);
}

}  // namespace

void bind_dequantize(nb::module_& module) {
    module.def("dequantize", &dequantize, nb::arg("type"), nb::arg("data"), nb::arg("count"));
}

}  // namespace miaotui
