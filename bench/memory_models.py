"""BERT-base and ResNet-50 in PyTorch, with random weights: exported for bench/memory.py, and trained for comparison.

usage: memory_models.py write FOLDER NAME
       memory_models.py train NAME STEPS
"""

import pathlib
import sys

import numpy
import torch
from torch import nn

RATE = 1e-4


class Bert(nn.Module):
    def __init__(self):
        super().__init__()
        from transformers import BertConfig, BertForSequenceClassification

        self.bert = BertForSequenceClassification(BertConfig(num_labels=10))

    def forward(self, tokens):
        return self.bert(tokens).logits


class Bottleneck(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        outputs = 4 * width
        self.path = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs))  # fmt: skip
        self.shortcut = nn.Sequential()
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        return torch.relu(self.path(x) + self.shortcut(x))


def resnet50():
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            layers.append(Bottleneck(inputs, 64 << stage, 2 if stage > 0 and block == 0 else 1))
            inputs = 256 << stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 1000))


def mlp():
    sizes = [784, 4096, 4096, 2048, 10]
    layers = [nn.Linear(a, b) if i == 0 else nn.Sequential(nn.ReLU(), nn.Linear(a, b))
              for i, (a, b) in enumerate(zip(sizes, sizes[1:]))]  # fmt: skip
    return nn.Sequential(*layers)


CASES = {
    "mlp": (mlp, lambda: torch.randn(64, 784), 10),
    "resnet50": (resnet50, lambda: torch.randn(8, 3, 128, 128), 1000),
    "bert": (Bert, lambda: torch.randint(3, 30000, (8, 128)), 10),
}


def model_of(name):
    torch.manual_seed(0)
    make, batch, classes = CASES[name]
    model, x = make(), batch()
    return model, x, torch.randint(0, classes, (len(x),))


def write(name, folder):
    model, x, y = model_of(name)
    folder.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(model.eval(), (x,), folder / "model.onnx", dynamo=True)
    numpy.save(folder / "x.npy", x.numpy())
    numpy.save(folder / "y.npy", y.numpy())


def train(name, steps):
    model, x, y = model_of(name)
    model.eval()  # as it is exported
    if name == "resnet50":
        step = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
    else:
        step = torch.optim.AdamW(model.parameters(), lr=RATE)
    for _ in range(steps):
        step.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        step.step()
        print(loss.item())


def main(what, *arguments):
    if what == "write":
        write(arguments[1], pathlib.Path(arguments[0]))
    else:
        train(arguments[0], int(arguments[1]))


if __name__ == "__main__":
    main(*sys.argv[1:])
