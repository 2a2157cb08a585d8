// Pages of keys and values: [block][layer][KV head][page of 16 tokens]. Which sequence owns which block is the engine's business.
#pragma once

#include "base/aligned.h"
#include "kernels/kv_layout.h"

namespace miaotui {

class KvPool {
public:
    // Throws BadInput if a size is out of range. Memory is reserved at once but costs nothing until a page is written.
    KvPool(int num_layers, int num_kv_heads, int head_dim, int num_blocks, KvType type);

    int num_layers() const { return num_layers_; }
    int num_kv_heads() const { return num_kv_heads_; }
    int num_blocks() const { return num_blocks_; }
    const KvLayout& layout() const { return layout_; }
    size_t bytes() const { return memory_.size(); }
    int64_t block_stride() const { return int64_t{num_layers_} * num_kv_heads_ * layout_.page_bytes(); }

    // Page of block 0; block b lies b · block_stride() further.
    uint8_t* pages(int layer, int kv_head) const {
        return memory_.data() + (int64_t{layer} * num_kv_heads_ + kv_head) * layout_.page_bytes();
    }

    // Has the OS give memory for blocks, whose contents stay as they are; false where it has no call for that, or no memory.
    bool populate(int64_t first_block, int64_t num_blocks) const;

    // Bytes of one block over all layers. Throws BadInput as the constructor does.
    static int64_t block_bytes(int num_layers, int num_kv_heads, int head_dim, KvType type);

private:
    int num_layers_, num_kv_heads_, num_blocks_;
    KvLayout layout_;
    AlignedBuffer memory_;
};

}  // namespace miaotui
