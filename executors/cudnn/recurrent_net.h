// A layer of cuDNN's recurrent networks: its descriptors, the memory that it takes, and where its weights lie.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "executors/cudnn/resources.h"
#include <halfstep/base/dtype.h>

namespace halfstep::cudnn {

using RnnDescriptor = Owned<cudnnRNNDescriptor_t, cudnnDestroyRNNDescriptor>;
using RnnDataDescriptor = Owned<cudnnRNNDataDescriptor_t, cudnnDestroyRNNDataDescriptor>;
using DropoutDescriptor = Owned<cudnnDropoutDescriptor_t, cudnnDestroyDropoutDescriptor>;

/// What the layer computes: one direction, which is forward, or both.
struct RecurrentLayer {
  cudnnRNNMode_t mode = CUDNN_LSTM;
  DType dtype = DType::f32;  ///< of all tensors; sums are f32
  bool has_bias = false;
  bool batch_first = false;
  std::int64_t steps = 0, batch = 0, inputs = 0, hidden = 0, directions = 1;

  std::int64_t y_count() const { return steps * batch * directions * hidden; }
  std::int64_t state_count() const { return directions * batch * hidden; }
};

/// A matrix or a bias of one gate: `count` elements that lie together in one of ONNX's tensors and in cuDNN's weight
/// space, from these elements on.
struct WeightPiece {
  enum class Tensor { w, r, b };
  Tensor tensor;
  std::int64_t from, space, count;
};

/// All of a layer's weights. Needs no device.
struct WeightSpace {
  std::size_t bytes = 0;
  std::vector<WeightPiece> pieces = {};
};

/// Throws Error (failure) with the call that cuDNN refuses, as everything here.
class RecurrentNet {
 public:
  /// With `memory` of a pass for training, or of one that only goes forward.
  RecurrentNet(cudnnHandle_t handle, const RecurrentLayer& layer, const Arithmetic& arithmetic,
               cudnnForwardMode_t mode);

  cudnnRNNDescriptor_t rnn() const { return rnn_.get(); }
  cudnnRNNDataDescriptor_t x() const { return x_.get(); }
  cudnnRNNDataDescriptor_t y() const { return y_.get(); }
  cudnnTensorDescriptor_t state() const { return state_.get(); }
  /// Of the cell state: none but of an LSTM.
  cudnnTensorDescriptor_t cell() const { return layer_.mode == CUDNN_LSTM ? state_.get() : nullptr; }

  const RecurrentLayer& layer() const { return layer_; }
  cudnnForwardMode_t mode() const { return mode_; }
  const WeightSpace& weights() const { return weights_; }
  std::size_t workspace_bytes() const { return workspace_; }
  /// What the forward pass leaves to the backward one.
  std::size_t reserve_bytes() const { return reserve_; }

 private:
  RecurrentLayer layer_;
  cudnnForwardMode_t mode_;
  DropoutDescriptor dropout_;
  RnnDescriptor rnn_;
  RnnDataDescriptor x_, y_;
  TensorDescriptor state_;
  WeightSpace weights_;
  std::size_t workspace_ = 0, reserve_ = 0;
};

/// Drops nothing: between one layer and none there is nothing to drop.
DropoutDescriptor no_dropout(cudnnHandle_t handle);
RnnDescriptor rnn_descriptor(const RecurrentLayer& layer, const Arithmetic& arithmetic,
                             const DropoutDescriptor& dropout);
WeightSpace weight_space(cudnnHandle_t handle, const RnnDescriptor& rnn, const RecurrentLayer& layer);

}  // namespace halfstep::cudnn
