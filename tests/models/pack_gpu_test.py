"""script/pack-gpu: the archive is small, finds what it needs in itself, holds no place of the build, and its program
and script/test-gpu run elsewhere.

usage: pack_gpu_test.py PROGRAM BUILD_FOLDER EMULATED_PLUGIN
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

from halfstep_program import ROOT

MOST_BYTES = 60_000_000
# What a bare Ubuntu 24.04 has, and what NVIDIA's packages bring.
SYSTEM = re.compile(r"(lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s|cudart|cublas|cublasLt|cudnn)|ld-linux-x86-64)\.so\.\d+")
NEWEST = {"GLIBC": (2, 39), "GLIBCXX": (3, 4, 33)}


def output_of(*command, **settings):
    done = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, capture_output=True, text=True, **settings)
    assert done.returncode == 0, f"{command}\nended with status {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def pack(build):
    output_of(ROOT / "script" / "pack-gpu", "--built", build)
    return build / "halfstep-gpu.tar.gz"


def check_libraries(folder):
    binaries = [folder / "bin" / "halfstep", *sorted((folder / "lib").iterdir())]
    present = {binary.name for binary in binaries}
    assert "libhalfstep-cudnn.so" in present, present
    for binary in binaries:
        dynamic = output_of("readelf", "-dW", binary)
        for runpath in re.findall(r"\((?:RUNPATH|RPATH)\).*\[(.*)\]", dynamic):
            entries = runpath.split(":")
            assert all(entry in ("$ORIGIN", "$ORIGIN/../lib") for entry in entries), f"{binary.name}: {runpath!r}"
        for needed in re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic):
            assert needed in present or SYSTEM.fullmatch(needed), f"{binary.name} needs {needed}"
        for name, version in re.findall(r"\b(GLIBC|GLIBCXX)_([\d.]+)", output_of("readelf", "-VW", binary)):
            found = tuple(map(int, version.split(".")))
            assert found <= NEWEST[name], f"{binary.name} needs {name} {version}"
        # The ONNX library's messages name its sources, wherever they lay.
        places = re.findall(re.escape(bytes(ROOT)) + rb"[^\0]*", binary.read_bytes())
        assert all(b"/onnx/" in place for place in places), f"{binary.name}: {places}"


def check_runs(folder, emulated):
    """In an environment without anything of the build; then beside the emulation of a GPU."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    assert "halfstep" in output_of(folder / "bin" / "halfstep", "--version", env=environment)
    shutil.copy(emulated, folder / "lib" / "libhalfstep-cudnn.so")
    python = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
    printed = output_of(python, folder / "script" / "test-gpu", "--short", "--parts", "machine,losses", "--output",
                        folder / "results", env=environment)  # fmt: skip
    assert "machine: cudnn: Emulated GPU" in printed, printed
    assert "losses: mlp-torchscript.fp32: loss of step 1" in printed, printed


def check_refusals():
    """Of arguments, and of a build without the plug-in, which has no such target."""
    with tempfile.TemporaryDirectory() as folder:
        script = pathlib.Path(folder) / "script"
        script.mkdir()
        shutil.copy(ROOT / "script" / "pack-gpu", script)
        (script / "build").write_text('#!/bin/sh\nmkdir -p build/release\necho "build halfstep_cli: phony" '
                                      '>build/release/build.ninja\ntest "$1" = halfstep_cli\n')  # fmt: skip
        (script / "build").chmod(0o755)
        for arguments, expected in {(): "expected build/release/lib/libhalfstep-cudnn.so, got none",
                                    ("--built", folder): f"expected {folder}/lib/libhalfstep-cudnn.so, got none",
                                    ("--built",): "expected nothing or --built FOLDER, got --built",
                                    ("--buit", folder): f"expected nothing or --built FOLDER, got --buit {folder}"
                                    }.items():  # fmt: skip
            done = subprocess.run([script / "pack-gpu", *arguments], capture_output=True, text=True)
            assert done.returncode == 1 and expected in done.stderr and "\nHint: " in done.stderr, done


def main(program, build, emulated):
    check_refusals()
    archive = pack(pathlib.Path(build))
    assert archive.stat().st_size < MOST_BYTES, f"{archive.stat().st_size} bytes"
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(archive) as files:
            large = re.compile(r".*/networks/.*\.onnx")  # the test does without
            files.extractall(folder, [member for member in files if not large.match(member.name)])
        unpacked = pathlib.Path(folder) / "elsewhere"
        (pathlib.Path(folder) / "halfstep-gpu").rename(unpacked)
        check_libraries(unpacked)
        check_runs(unpacked, emulated)


if __name__ == "__main__":
    main(*sys.argv[1:])
