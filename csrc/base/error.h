// The only exceptions the native core throws on purpose; bindings map them to miaotui.errors.
#pragma once

#include <stdexcept>

namespace miaotui {

// A caller handed in something inconsistent: shapes, offsets, types. → ModelFileError
struct BadInput : std::invalid_argument {
    using std::invalid_argument::invalid_argument;
};

// An environment variable holds something unusable. → ConfigError
struct BadSetting : std::invalid_argument {
    using std::invalid_argument::invalid_argument;
};

// MIAOTUI_ISA asks for a tier this machine cannot run. → CpuTierError
struct BadTier : std::runtime_error {
    using std::runtime_error::runtime_error;
};

}  // namespace miaotui
