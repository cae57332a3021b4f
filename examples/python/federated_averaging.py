# %% [markdown]
# # Federated averaging, with gradients of outputs from NumPy or PyTorch
#
# Clients train on private data, and a server averages their parameters (McMahan et al. 2017). Each client sends one
# flat array.
#
# Clients use a custom training loop: the loss is defined here, and halfstep receives its gradient with respect to the
# model's outputs. With `HALFSTEP_EXAMPLE_LOSS=torch`, PyTorch computes it instead of NumPy.

# %%
import os

import numpy
from mnist import MODELS, digits

import halfstep

CLIENTS, ROUNDS, LOCAL_STEPS, BATCH = 5, 12, 10, 32

# %% [markdown]
# ## Non-identically distributed data
#
# Each client has two of the ten digits, and each digit belongs to one client.

# %%
x, y = digits("train", 10000)
x_test, y_test = digits("t10k", 2000)
shards = [numpy.flatnonzero(y // 2 == client) for client in range(CLIENTS)]

# %% [markdown]
# ## A custom loss
#
# Cross-entropy plus a small penalty on large scores. It returns its value and its gradient with respect to the scores.

# %%
PENALTY = 1e-3


def loss_in_numpy(scores, labels):
    shifted = scores - scores.max(axis=1, keepdims=True)
    logarithms = shifted - numpy.log(numpy.exp(shifted).sum(axis=1, keepdims=True))
    rows = numpy.arange(len(labels))
    gradient = numpy.exp(logarithms)
    gradient[rows, labels] -= 1
    gradient = gradient / len(labels) + 2 * PENALTY * scores / scores.size
    return -logarithms[rows, labels].mean() + PENALTY * (scores**2).mean(), gradient.astype(numpy.float32)


def loss_in_torch(scores, labels):
    import torch

    scores = torch.from_numpy(scores).requires_grad_()
    loss = torch.nn.functional.cross_entropy(scores, torch.from_numpy(labels)) + PENALTY * (scores**2).mean()
    loss.backward()
    return loss.item(), scores.grad


own_loss = {"numpy": loss_in_numpy, "torch": loss_in_torch}[os.environ.get("HALFSTEP_EXAMPLE_LOSS", "numpy")]

# %% [markdown]
# ## A client
#
# `forward` returns the outputs in training mode, `backward` takes their gradients. A client sends
# `flat_parameters()`, the concatenation of all parameters.


# %%
class Client:
    def __init__(self, rows, seed):
        self.step = halfstep.TrainingStep(MODELS / "mnist_mlp.onnx", optimizer=halfstep.SGD(0.05), precision="fp32")
        self.x, self.y = x[rows], y[rows]
        self.random = numpy.random.default_rng(seed)

    def train(self, parameters):
        """Trains for some steps from the given parameters; returns the new ones and the mean loss of the steps."""
        self.step.set_flat_parameters(parameters)
        losses = []
        for _ in range(LOCAL_STEPS):
            batch = self.random.choice(len(self.x), BATCH, replace=False)
            inputs = {"input": self.x[batch]}
            [(output, scores)] = self.step.forward(inputs).items()
            loss, gradient = own_loss(scores, self.y[batch])
            self.step.backward(inputs, {output: gradient})
            self.step.update()
            losses.append(loss)
        return self.step.flat_parameters(), float(numpy.mean(losses))


# %% [markdown]
# ## Rounds
#
# The server weights each client by its number of rows.

# %%
server = halfstep.TrainingStep(MODELS / "mnist_mlp.onnx", precision="fp32")
clients = [Client(rows, seed) for seed, rows in enumerate(shards)]
shares = numpy.array([len(rows) for rows in shards], numpy.float32) / sum(map(len, shards))


def accuracy():
    [scores] = server.predict({"input": x_test}).values()
    return float((scores.argmax(axis=1) == y_test).mean())


mean = server.flat_parameters()
losses, accuracies = [], [accuracy()]
for number in range(ROUNDS):
    results = [client.train(mean) for client in clients]
    mean = shares @ numpy.stack([parameters for parameters, _ in results])
    server.set_flat_parameters(mean)
    losses.append(float(shares @ [loss for _, loss in results]))
    accuracies.append(accuracy())
    print(f"round {number + 1}: loss {losses[-1]:.3f}, accuracy of the mean {accuracies[-1]:.3f}")
