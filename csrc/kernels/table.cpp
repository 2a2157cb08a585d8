#include "kernels/table.h"

#include <string>

#include "base/error.h"

namespace miaotui {

namespace scalar {
KernelTable table();
}
#if defined(__x86_64__)
namespace avx2 {
KernelTable table();
}
namespace avx512 {
KernelTable table();
}
namespace avx512_vnni {
KernelTable table();
}
#endif

const KernelTable& kernels_of(Tier tier) {
    if (!tier_runs_here(tier))
        throw BadTier("the instruction-set tier " + std::string(tier_name(tier)) + " cannot run on this CPU");
    static const KernelTable scalar_table = scalar::table();
#if defined(__x86_64__)
    static const KernelTable avx2_table = avx2::table(), avx512_table = avx512::table(),
                             vnni_table = avx512_vnni::table();
    switch (tier) {
        case Tier::avx2: return avx2_table;
        case Tier::avx512: return avx512_table;
        case Tier::avx512_vnni: return vnni_table;
        case Tier::scalar: break;
    }
#endif
    return scalar_table;
}

const KernelTable& kernels() {
    static const KernelTable& chosen = kernels_of(choose_tier());
    return chosen;
}

}  // namespace miaotui
