#include "executors/cudnn/status.h"

#include <array>

#include <fmt/format.h>

#include "executors/cudnn/pending_failure.h"
#include <halfstep/base/error.h>

namespace halfstep::cudnn {
namespace {

constexpr const char* kLessMemory =
    "take a smaller batch, end other programs that use the device (nvidia-smi lists them), or run with --executor "
    "onednn";
constexpr const char* kSickDevice =
    "run again with CUDA_LAUNCH_BLOCKING=1 to find the kernel, look into dmesg for Xid messages, or run with "
    "--executor onednn";
constexpr const char* kVersions =
    "install the CUDA toolkit, cuDNN and driver versions halfstep was built with, or run with --executor onednn";
constexpr const char* kReport = "run with --executor onednn, and report the model and this message";

const char* remedy_of(cudaError_t status) {
  switch (status) {
    case cudaErrorMemoryAllocation:
      return kLessMemory;
    case cudaErrorInsufficientDriver:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
      return kVersions;
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
    case cudaErrorDevicesUnavailable:
      return "check nvidia-smi and CUDA_VISIBLE_DEVICES, or run with --executor onednn";
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorLaunchFailure:
    case cudaErrorHardwareStackError:
    case cudaErrorECCUncorrectable:
    case cudaErrorLaunchTimeout:
      return kSickDevice;
    default:
      return kReport;
  }
}

const char* remedy_of(cudnnStatus_t status) {
  switch (status) {
    case CUDNN_STATUS_ALLOC_FAILED:
      return kLessMemory;
    case CUDNN_STATUS_EXECUTION_FAILED:
      return kSickDevice;
    case CUDNN_STATUS_NOT_INITIALIZED:
    case CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH:
    case CUDNN_STATUS_SUBLIBRARY_LOADING_FAILED:
      return kVersions;
    default:
      return kReport;
  }
}

const char* remedy_of(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_ALLOC_FAILED:
      return kLessMemory;
    case CUBLAS_STATUS_EXECUTION_FAILED:
    case CUBLAS_STATUS_MAPPING_ERROR:
      return kSickDevice;
    case CUBLAS_STATUS_NOT_INITIALIZED:
    case CUBLAS_STATUS_ARCH_MISMATCH:
      return kVersions;
    default:
      return kReport;
  }
}

}  // namespace

void forget_failure() { cudaGetLastError(); }

std::string text_of(cudaError_t status) {
  return fmt::format("{} ({})", cudaGetErrorName(status), cudaGetErrorString(status));
}

std::string text_of(cudnnStatus_t status) {
  std::array<char, 1024> latest{};
  cudnnGetLastErrorString(latest.data(), latest.size());
  latest.back() = 0;
  if (latest[0] == 0) return cudnnGetErrorString(status);
  return fmt::format("{}: {}", cudnnGetErrorString(status), latest.data());
}

void check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  forget_failure();
  throw_failure(fmt::format("{} to succeed on the GPU", call), text_of(status), remedy_of(status));
}

void check(cudnnStatus_t status, const char* call) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  forget_failure();
  throw_failure(fmt::format("{} to succeed on the GPU", call), text_of(status), remedy_of(status));
}

void check(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  forget_failure();
  throw_failure(fmt::format("{} to succeed on the GPU", call), cublasLtGetStatusString(status), remedy_of(status));
}

}  // namespace halfstep::cudnn
