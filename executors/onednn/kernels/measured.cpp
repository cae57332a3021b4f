#include "executors/onednn/kernels/measured.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>
#include <oneapi/dnnl/dnnl_debug.h>

namespace halfstep::onednn {
namespace {

using dnnl::query;
using Arguments = std::unordered_map<int, dnnl::memory>;

/// What primitives of products and convolutions read and write.
struct Role {
  query what;
  int index, argument;
  bool is_result = false, is_weights = false;
};
constexpr Role kRoles[] = {
    {query::src_md, 0, DNNL_ARG_SRC},
    {query::weights_md, 0, DNNL_ARG_WEIGHTS, false, true},
    {query::weights_md, 1, DNNL_ARG_BIAS},
    {query::dst_md, 0, DNNL_ARG_DST, true},
    {query::diff_dst_md, 0, DNNL_ARG_DIFF_DST},
    {query::diff_src_md, 0, DNNL_ARG_DIFF_SRC, true},
    {query::diff_weights_md, 0, DNNL_ARG_DIFF_WEIGHTS, true, true},
    {query::diff_weights_md, 1, DNNL_ARG_DIFF_BIAS, true},
};

bool is_there(const Desc& desc) { return desc.get(true) && desc.get_ndims() > 0; }

/// A primitive, what it needs, and the conversions before and after it.
struct Alone {
  struct Call {
    dnnl::primitive primitive;
    Arguments arguments;
  };
  dnnl::stream stream{engine()};
  std::vector<Call> calls;

  Alone(const dnnl::primitive_desc_base& pd, const dnnl::primitive_desc_base& first) {
    Call main{dnnl::primitive(pd.get()), {}};
    std::vector<Call> after;
    for (const Role& role : kRoles) {
      const Desc own = pd.query_md(role.what, role.index), given = first.query_md(role.what, role.index);
      if (!is_there(own)) continue;
      const dnnl::memory memory = filled_memory(own);
      main.arguments[role.argument] = memory;
      const bool is_free = role.is_weights && own.get_data_type() == given.get_data_type();
      if (own == given || is_free) continue;
      const dnnl::memory outer = filled_memory(given);
      const auto convert = [](const dnnl::memory& from, const dnnl::memory& to) {
        return Call{dnnl::reorder(from, to), {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}}};
      };
      if (role.is_result)
        after.push_back(convert(memory, outer));
      else
        calls.push_back(convert(outer, memory));
    }
    main.arguments[DNNL_ARG_SCRATCHPAD] = filled_memory(pd.query_md(query::scratchpad_md, 0));
    const dnnl::post_ops post = pd.get_primitive_attr().get_post_ops();
    for (int i = 0; i < post.len(); ++i) {
      if (post.kind(i) != dnnl::primitive::kind::binary) continue;
      dnnl::algorithm algorithm{};
      Desc desc;
      post.get_params_binary(i, algorithm, desc);
      main.arguments[DNNL_ARG_ATTR_MULTIPLE_POST_OP(i) | DNNL_ARG_SRC_1] = filled_memory(desc);
    }
    calls.push_back(std::move(main));
    for (Call& call : after) calls.push_back(std::move(call));
  }

  void run() {
    for (Call& call : calls) call.primitive.execute(stream, call.arguments);
  }
};

}  // namespace

dnnl::memory filled_memory(const Desc& desc) {
  constexpr int kByte = 0x3c;  // small positive numbers in f32, bf16 and f16
  dnnl::memory memory(desc, engine());
  if (const std::size_t bytes = desc.get_size(); bytes > 0) std::memset(memory.get_data_handle(), kByte, bytes);
  return memory;
}

Candidate primitive_candidate(const dnnl::primitive_desc_base& pd, const dnnl::primitive_desc_base& first) {
  Desc source = pd.query_md(query::src_md, 0);
  if (!is_there(source)) source = pd.query_md(query::diff_dst_md, 0);
  return {fmt::format("{} {}", kernel_name(pd), dnnl_dt2str(dnnl::memory::convert_to_c(source.get_data_type()))),
          [pd, first] { return [alone = std::make_shared<Alone>(pd, first)] { alone->run(); }; }};
}

bool pads_alike(const dnnl::primitive_desc_base& pd, const dnnl::primitive_desc_base& first) {
  return std::ranges::all_of(kRoles, [&](const Role& role) {
    const Desc own = pd.query_md(role.what, role.index), given = first.query_md(role.what, role.index);
    return is_there(own) == is_there(given) && (!is_there(own) || own.get_padded_dims() == given.get_padded_dims());
  });
}

}  // namespace halfstep::onednn
