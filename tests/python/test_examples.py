"""The scripts of examples/python, cell by cell as a notebook would run them."""

import pathlib
import re
import sys

import numpy
import pytest

FOLDER = pathlib.Path(__file__).resolve().parent.parent.parent / "examples" / "python"


def run(name, monkeypatch):
    """The names that the script has in the end."""
    monkeypatch.syspath_prepend(FOLDER)
    space = {"__name__": name}
    cells = re.split(r"^# %%", (FOLDER / f"{name}.py").read_text(), flags=re.MULTILINE)
    assert len(cells) > 6
    for cell in cells:
        exec(compile(f"# {cell}", f"{name}.py", "exec"), space)
    sys.modules.pop("mnist", None)
    return space


def test_fine_tuning_and_converting(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    end = run("finetune_and_convert", monkeypatch)
    assert end["after"] > max(end["before"] + 0.1, 0.8)
    assert end["difference"] < 5e-3 and end["agreement"] > 0.99
    assert end["sizes"][1] < 0.6 * end["sizes"][0]


def test_federated_averaging(monkeypatch):
    monkeypatch.delenv("HALFSTEP_EXAMPLE_LOSS", raising=False)
    end = run("federated_averaging", monkeypatch)
    assert end["accuracies"][-1] > max(end["accuracies"][0] + 0.2, 0.5)
    assert all(numpy.isfinite(end["losses"]))
    # The mean is the server's, and a client's rows are of its two digits.
    numpy.testing.assert_array_equal(end["server"].flat_parameters(), end["mean"])
    assert [sorted(set(client.y)) for client in end["clients"]] == [[2 * i, 2 * i + 1] for i in range(5)]


def test_the_loss_of_federated_averaging(monkeypatch):
    """Its gradient by finite differences: forward and backward agree with what the script says it minimises."""
    end = run("federated_averaging", monkeypatch)
    random = numpy.random.default_rng(0)
    scores, labels = random.standard_normal((4, 10)), random.integers(0, 10, 4)
    loss, gradient = end["loss_in_numpy"](scores, labels)
    for place in [(0, 0), (1, 3), (3, int(labels[3]))]:
        moved = scores.copy()
        moved[place] += 1e-4
        assert (end["loss_in_numpy"](moved, labels)[0] - loss) / 1e-4 == pytest.approx(gradient[place], abs=1e-4)
