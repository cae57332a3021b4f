"""usage: page_test.py PAGE PREFIX

Runs the blocks of a page of docs/ one after the other, as a reader would, in a folder with the models: `sh` and
`python` blocks are run, `cpp` and `cmake` blocks are written to the file that their first line names. PREFIX is where
halfstep is installed.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

CLONE = Path(__file__).resolve().parent.parent.parent
page, prefix = map(Path, sys.argv[1:])


def blocks(text):
    """(language, text) of each block that is not for show (`py`)."""
    for language, block in re.findall(r"^```(sh|python|cpp|cmake)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        yield language, block


def run(command, folder):
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def accuracies(output):
    """Of what a block says about accuracy on validation data, in order."""
    return [float(number) for number in re.findall(r"accuracy'?:? +([01]\.\d+|[01]$)", output, re.MULTILINE)]


with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    (folder / "models").symlink_to(CLONE / "models")
    (folder / "halfstep").symlink_to(prefix)
    environment = {
        **os.environ,
        "CCACHE_DIR": os.environ.get("CCACHE_DIR", str(Path.home() / ".cache" / "ccache")),
        "HOME": name,
        "PATH": f"{prefix}/bin{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    count = 0
    before = None  # accuracy of the model that a tutorial starts from
    for language, block in blocks(page.read_text()):
        file = re.match(r"(?:#|//) ([\w.]+\.(?:cpp|txt))\n", block)
        if file:
            (folder / file[1]).write_text(block)
            continue
        output = run(["sh", "-eu", "-c", block] if language == "sh" else [sys.executable, "-B", "-c", block], folder)
        count += 1
        found = accuracies(output)
        if "evaluate pretrained" in block:
            before = found[-1]
        elif "half.onnx" in block:
            assert before is not None and found[-1] > max(before + 0.2, 0.85), (before, output)
            (folder / "half.onnx").unlink()  # the next way makes its own
    assert count > 0, page
    print(f"{count} blocks")
