"""The networks of the table of training steps: generated from a seed, the same for every framework.

A row is a PyTorch module with random weights, one batch, and its loss and optimizer. Dropout is off, so that losses of
frameworks can be compared; batch normalization is always in training mode.
"""

import argparse
import dataclasses
import json
import pathlib
import typing

import numpy
import torch
from torch import nn


@dataclasses.dataclass(frozen=True)
class Network:
    title: str  # in tables, with {} for the batch size
    build: typing.Callable[[], nn.Module]
    inputs: typing.Callable[[int], torch.Tensor]  # by batch size
    classes: int
    batch: int
    optimizer: str
    lr: float = 1e-3
    tokens: bool = False  # a label per token instead of per row

    def hyperparameters(self):
        return {"lr": self.lr, **({"momentum": 0.9} if self.optimizer == "sgd" else {})}


def images(side):
    return lambda rows: torch.randn(rows, 3, side, side)


def tokens(length, words):
    return lambda rows: torch.randint(0, words, (rows, length))


def mlp():
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def lenet():
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64 * 49, 128), nn.ReLU(), nn.Linear(128, 10))  # fmt: skip


def torchvision_model(name):
    def build():
        import torchvision

        return getattr(torchvision.models, name)(num_classes=1000)

    return build


def vit_tiny():
    from torchvision.models.vision_transformer import VisionTransformer

    return VisionTransformer(image_size=128, patch_size=16, num_layers=12, num_heads=3, hidden_dim=192, mlp_dim=768)


class Logits(nn.Module):
    """A model of transformers as a function of its tokens."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, tokens):
        return self.model(tokens).logits


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=2048, n_positions=128, n_embd=256, n_layer=4, n_head=4, resid_pdrop=0, embd_pdrop=0,
                        attn_pdrop=0, use_cache=False)  # fmt: skip
    return Logits(GPT2LMHeadModel(config))


def bert_base():
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(num_labels=10, hidden_dropout_prob=0, attention_probs_dropout_prob=0)
    return Logits(BertForSequenceClassification(config))


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(2048, 128)
        self.lstm = nn.LSTM(128, 256, num_layers=2, batch_first=True)
        self.head = nn.Linear(256, 2048)

    def forward(self, tokens):
        return self.head(self.lstm(self.words(tokens))[0])


NETWORKS = {
    "mlp": Network("MLP 784-128-10, batch {}, Adam", mlp, lambda n: torch.randn(n, 784), 10, 32, "adam"),
    "lenet": Network("LeNet 32-64 channels, batch {}, Adam", lenet, lambda n: torch.randn(n, 1, 28, 28), 10, 64, "adam"),
    "resnet18": Network("ResNet-18, {}×3×128², SGD", torchvision_model("resnet18"), images(128), 1000, 16, "sgd"),
    "resnet50": Network("ResNet-50, {}×3×128², SGD", torchvision_model("resnet50"), images(128), 1000, 8, "sgd"),
    "mobilenetv2": Network("MobileNetV2, {}×3×128², SGD", torchvision_model("mobilenet_v2"), images(128), 1000, 16, "sgd"),
    "gpt2": Network("GPT-2 4 layers × 256, {}×128 tokens, Adam", gpt2, tokens(128, 2048), 2048, 8, "adam", tokens=True),
    "vit": Network("ViT-Tiny, {}×3×128², Adam", vit_tiny, images(128), 1000, 16, "adam"),
    "lstm": Network("LSTM 2 × 256, {}×64 tokens, Adam", Lstm, tokens(64, 2048), 2048, 16, "adam", tokens=True),
    "bert": Network("BERT-base, {}×128 tokens, AdamW", bert_base, tokens(128, 30000), 10, 8, "adamw", 1e-4),
}


def make(name, batch=None):
    """The module, x and y of a row. The weights do not depend on the batch size."""
    network = NETWORKS[name]
    rows = batch or network.batch
    torch.manual_seed(0)
    module = network.build().train()
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0
    torch.manual_seed(1)
    x = network.inputs(rows)
    shape = x.shape if network.tokens else (rows,)
    return module, x, torch.randint(0, network.classes, shape)


def export(name, batch, folder):
    """Writes model.onnx (exported for inference, with every parameter), x.npy, y.npy, and the training options."""
    folder.mkdir(parents=True, exist_ok=True)
    module, x, y = make(name, batch)
    torch.onnx.export(module.eval(), (x,), folder / "model.onnx", dynamo=True, optimize=False, verbose=False)
    numpy.save(folder / "x.npy", x.numpy())
    numpy.save(folder / "y.npy", y.numpy())
    network = NETWORKS[name]
    flags = {"optimizer": network.optimizer, "batch": len(x), **network.hyperparameters()}
    (folder / "network.json").write_text(json.dumps({"title": network.title.format(len(x)), "flags": flags}))


def main():
    parser = argparse.ArgumentParser(description="Exports networks, or prints their names.")
    parser.add_argument("--export", nargs=2, metavar=("NAME", "FOLDER"))
    parser.add_argument("--batch", type=int)
    arguments = parser.parse_args()
    if arguments.export:
        export(arguments.export[0], arguments.batch, pathlib.Path(arguments.export[1]))
    else:
        print(" ".join(NETWORKS))


if __name__ == "__main__":
    main()
