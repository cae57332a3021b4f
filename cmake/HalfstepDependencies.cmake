# Where everything halfstep builds on is found. script/bootstrap puts what Debian lacks into .venv and .deps.
include(GNUInstallDirs)
list(APPEND CMAKE_PREFIX_PATH ${PROJECT_SOURCE_DIR}/.deps/onnx)

find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(ZLIB REQUIRED)
find_package(Protobuf REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)

find_path(ONNX_INCLUDE_DIR onnx/onnx_pb.h PATHS ${PROJECT_SOURCE_DIR}/.deps/onnx/include REQUIRED)
find_library(ONNX_LIBRARY onnx PATHS ${PROJECT_SOURCE_DIR}/.deps/onnx/lib REQUIRED)
find_library(ONNX_PROTO_LIBRARY onnx_proto PATHS ${PROJECT_SOURCE_DIR}/.deps/onnx/lib REQUIRED)
add_library(onnx_proto UNKNOWN IMPORTED)
set_target_properties(onnx_proto PROPERTIES IMPORTED_LOCATION ${ONNX_PROTO_LIBRARY})
target_include_directories(onnx_proto SYSTEM INTERFACE ${ONNX_INCLUDE_DIR})
target_compile_definitions(onnx_proto INTERFACE ONNX_ML=1 ONNX_NAMESPACE=onnx)
target_link_libraries(onnx_proto INTERFACE protobuf::libprotobuf)
add_library(onnx UNKNOWN IMPORTED)
set_target_properties(onnx PROPERTIES IMPORTED_LOCATION ${ONNX_LIBRARY})
target_compile_definitions(onnx INTERFACE __ONNX_NO_DOC_STRINGS)
target_link_libraries(onnx INTERFACE onnx_proto)

# A system oneDNN of 3.2 or newer is taken first; the wheels in .venv otherwise.
find_package(dnnl 3.2 CONFIG QUIET PATHS /usr /usr/local NO_DEFAULT_PATH)
if(NOT dnnl_FOUND)
  find_package(dnnl 3.2 CONFIG REQUIRED HINTS ${PROJECT_SOURCE_DIR}/.venv)
endif()
get_target_property(HALFSTEP_DNNL_LOCATION DNNL::dnnl LOCATION)
message(STATUS "oneDNN ${dnnl_VERSION} at ${HALFSTEP_DNNL_LOCATION}")

find_package(PkgConfig QUIET)
find_path(HWY_INCLUDE_DIR hwy/highway.h REQUIRED)
find_library(HWY_LIBRARY hwy REQUIRED)
add_library(hwy::hwy UNKNOWN IMPORTED)
set_target_properties(hwy::hwy PROPERTIES IMPORTED_LOCATION ${HWY_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${HWY_INCLUDE_DIR}
                                          INTERFACE_COMPILE_DEFINITIONS HWY_SHARED_DEFINE)

find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()
