// Epilogues in schemas and function bodies of fused operators.
#pragma once

#include <string>
#include <string_view>

#include <onnx/defs/schema.h>

#include "ops/epilogue.h"

namespace halfstep::ops {

/// The attributes of an epilogue.
void add_epilogue_attributes(onnx::OpSchema& schema);
/// The epilogue of the called node. Throws Error as epilogue_of does.
Epilogue epilogue_of(const onnx::FunctionBodyBuildContext& call);
/// A line of a function body: `y` = the epilogue of `x`.
std::string epilogue_text(const Epilogue& last, std::string_view y, std::string_view x);
/// Lines that define the existing bounds of Clip, as constants "low" and "high" of the type of `like`.
std::string bounds_text(const Epilogue& clip, std::string_view like);
/// `name` = an f32 constant of the type of `like`.
std::string constant_text(std::string_view name, float value, std::string_view like);

}  // namespace halfstep::ops
