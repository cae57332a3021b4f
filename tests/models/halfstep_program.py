"""Runs the halfstep program for the tests beside this file."""

import ast
import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MODELS = ROOT / "models"


def run(program, *arguments):
    """What the program wrote to its output. Fails with what it wrote to its error output when it did not succeed."""
    command = [str(argument) for argument in (program, *arguments)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\nended with status {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def read_log(path):
    """The records of a training log that are about steps; those about epochs have no "loss"."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [record for record in records if "loss" in record]


def npy_shape(path):
    """The shape of the array in an NPY file of version 1."""
    data = path.read_bytes()
    size = int.from_bytes(data[8:10], "little")
    return ast.literal_eval(data[10 : 10 + size].decode())["shape"]


def read_safetensors(path):
    """Name → (dtype, shape, bytes) of each tensor of a safetensors file."""
    data = path.read_bytes()
    header_size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + header_size]), data[8 + header_size :]
    return {
        name: (entry["dtype"], tuple(entry["shape"]), body[slice(*entry["data_offsets"])])
        for name, entry in header.items()
        if name != "__metadata__"
    }
