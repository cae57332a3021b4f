#include "ops/epilogue_schema.h"

#include <cmath>

#include <fmt/format.h>

namespace halfstep::ops {

void add_epilogue_attributes(onnx::OpSchema& schema) {
  schema
      .Attr("activation", "Applied last: \"Relu\", \"Clip\", \"Gelu\", or nothing.", onnx::AttributeProto::STRING,
            std::string())
      .Attr("min", "Lower bound of Clip, if there is one.", onnx::AttributeProto::FLOAT, false)
      .Attr("max", "Upper bound of Clip, if there is one.", onnx::AttributeProto::FLOAT, false)
      .Attr("approximate", "As Gelu's.", onnx::AttributeProto::STRING, std::string("none"));
}

Epilogue epilogue_of(const onnx::FunctionBodyBuildContext& call) {
  Attributes attributes;
  for (const char* name : {"activation", "approximate"})
    if (const auto* given = call.getAttribute(name)) attributes.set(name, given->s());
  for (const char* name : {"min", "max"})
    if (const auto* given = call.getAttribute(name)) attributes.set(name, given->f());
  return epilogue_of(attributes);
}

std::string constant_text(std::string_view name, float value, std::string_view like) {
  return fmt::format("{0}_f = Constant<value_float = {1:.8e}>()\n{0} = CastLike({0}_f, {2})\n", name, value, like);
}

std::string bounds_text(const Epilogue& clip, std::string_view like) {
  std::string text;
  if (std::isfinite(clip.min)) text += constant_text("low", clip.min, like);
  if (std::isfinite(clip.max)) text += constant_text("high", clip.max, like);
  return text;
}

std::string epilogue_text(const Epilogue& last, std::string_view y, std::string_view x) {
  switch (last.kind) {
    case Epilogue::Kind::none:
      break;
    case Epilogue::Kind::relu:
      return fmt::format("{} = Relu({})\n", y, x);
    case Epilogue::Kind::clip:
      return bounds_text(last, x) + fmt::format("{} = Clip({}, {}, {})\n", y, x, std::isfinite(last.min) ? "low" : "",
                                                std::isfinite(last.max) ? "high" : "");
    case Epilogue::Kind::gelu:
      return fmt::format("{} = Gelu({})\n", y, x);
    case Epilogue::Kind::gelu_tanh:
      return fmt::format("{} = Gelu<approximate = \"tanh\">({})\n", y, x);
  }
  return fmt::format("{} = Identity({})\n", y, x);
}

}  // namespace halfstep::ops
