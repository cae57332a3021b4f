"""Exports small models from PyTorch, with what PyTorch itself reaches when it trains them: cases for models/zoo.

usage: export.py FOLDER [NAME...]
needs: torch, timm, transformers, onnx, onnxscript

Writes FOLDER/NAME/{model.onnx,x.npy,y.npy,output.npy,expected.json}; README.md tells what the settings are for.
"""

import json
import pathlib
import sys
from typing import List  # as torch.jit.script wants it

import numpy
import onnx
import torch
from torch import nn

STEPS = 10
CLASSES = 10


def convnext():
    from timm.models.convnext import ConvNeXt

    model = ConvNeXt(num_classes=CLASSES, depths=(1, 1, 2, 1), dims=(16, 24, 32, 48), ls_init_value=0.1)
    return model, torch.randn(8, 3, 32, 32)


def swin():
    from timm.models.swin_transformer import SwinTransformer

    model = SwinTransformer(img_size=32, patch_size=2, embed_dim=24, depths=(2, 2), num_heads=(2, 4), window_size=4,
                            num_classes=CLASSES)  # fmt: skip
    return model, torch.randn(4, 3, 32, 32)


class Bert(nn.Module):
    """transformers returns a structure; an exported model returns tensors."""

    def __init__(self):
        super().__init__()
        from transformers import BertConfig, BertForSequenceClassification

        self.bert = BertForSequenceClassification(
            BertConfig(vocab_size=100, hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=96,
                       max_position_embeddings=40, num_labels=CLASSES))  # fmt: skip

    def forward(self, tokens):
        return self.bert(tokens).logits


def bert():
    return Bert(), torch.randint(3, 100, (4, 16))


class LstmClassifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(100, 24)
        self.lstm = nn.LSTM(24, 32, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(64, CLASSES)

    def forward(self, tokens):
        return self.head(self.lstm(self.embedding(tokens))[0].mean(dim=1))


def lstm():
    return LstmClassifier(), torch.randint(0, 100, (8, 12))


class LoopClassifier(nn.Module):
    """A recurrent network as a loop over time that collects its states in a list: Loop and sequences in the file."""

    def __init__(self):
        super().__init__()
        self.input = nn.Linear(12, 24)
        self.recurrence = nn.Linear(24, 24, bias=False)
        self.head = nn.Linear(24, CLASSES)

    def forward(self, x):
        state = torch.zeros(x.size(0), 24)
        states: List[torch.Tensor] = []
        for step in torch.unbind(x, 1):
            state = torch.tanh(self.input(step) + self.recurrence(state))
            states.append(state)
        return self.head(torch.stack(states, 1).mean(1))


def loop():
    return torch.jit.script(LoopClassifier()), torch.randn(8, 10, 12)


# Case → (model and a batch of inputs, exporter, optimizer with its settings).
ADAMW = {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.01}
ADAM = {"optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0}
CASES = {
    "convnext-torchscript": (convnext, "torchscript", ADAMW),
    "swin-dynamo": (swin, "dynamo", ADAMW),
    "bert-dynamo": (bert, "dynamo", ADAMW),
    "lstm-torchscript": (lstm, "torchscript", ADAM),
    "loop-torchscript": (loop, "torchscript", ADAM),
}


def export(model, x, path, exporter):
    if exporter == "torchscript":
        torch.onnx.export(model, (x,), path, dynamo=False, opset_version=17, input_names=["input"],
                          output_names=["output"], dynamic_axes={"input": {0: "N"}, "output": {0: "N"}},
                          training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)  # fmt: skip
    else:
        torch.onnx.export(model, (x,), path, dynamo=True, opset_version=20, optimize=False, external_data=False,
                          input_names=["input"], output_names=["output"])  # fmt: skip
        drop_stack_traces(path)


def drop_stack_traces(path):
    """They are half of such a file, and tell where on this machine PyTorch lies."""
    model = onnx.load(path)
    for node in model.graph.node:
        kept = [entry for entry in node.metadata_props if not entry.key.endswith("stack_trace")]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    onnx.save(model, path)


def train(model, x, y, optimizer, lr, weight_decay):
    """Losses of STEPS steps on one batch, and the norm of each parameter's gradient in the first."""
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    step = kinds[optimizer](model.parameters(), lr=lr, weight_decay=weight_decay)
    losses, norms = [], {}
    for _ in range(STEPS):
        step.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        if not norms:
            norms = {name: p.grad.norm().item() for name, p in model.named_parameters() if p.grad is not None}
        step.step()
        losses.append(loss.item())
    return losses, norms


def relative(a, b):
    return abs(a - b) / max(abs(b), 1e-30)


def write_case(name, folder):
    make, exporter, settings = CASES[name]
    torch.manual_seed(0)
    model, x = make()
    model.eval()  # no Dropout: its draws would not be the same elsewhere
    y = torch.randint(0, CLASSES, (len(x),))
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    export(model, x, folder / "model.onnx", exporter)
    numpy.save(folder / "x.npy", x.numpy())
    numpy.save(folder / "y.npy", y.numpy())
    with torch.no_grad():
        numpy.save(folder / "output.npy", model(x).numpy())

    losses, norms = train(model, x, y, **settings)
    model.load_state_dict(weights)
    with torch.backends.mkldnn.flags(enabled=False):
        other_losses, other_norms = train(model, x, y, **settings)
    negligible = 1e-5 * max(norms.values())
    expected = {
        "source": f"PyTorch {torch.__version__}, {exporter} exporter",
        "mode": "eval",
        "loss": "softmax_cross_entropy",
        **settings,
        "losses": losses,
        "spread": {
            "note": "relative difference of the framework from itself, computed without oneDNN",
            "losses": [relative(b, a) for a, b in zip(losses, other_losses)],
            "grad_norms_max": max(relative(other_norms[n], norms[n]) for n in norms if norms[n] > negligible),
        },
        "grad_norms": norms,
    }
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    print(f"{name}: {losses[0]:.6f} -> {losses[-1]:.6f}, {sum(v.numel() for v in model.parameters())} parameters")


def main(folder, *names):
    torch.set_num_threads(1)
    for name in names or CASES:
        write_case(name, pathlib.Path(folder) / name)


if __name__ == "__main__":
    main(*sys.argv[1:])
