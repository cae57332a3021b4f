"""script/test-gpu on an executor that is there, on the emulation of a GPU, and with programs that fail, stall or print
nonsense.

usage: test_gpu_test.py PROGRAM
       test_gpu_test.py PROGRAM FOLDER_OF_THE_EMULATED_PLUGIN PART
"""

import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from halfstep_program import ROOT

TABLE = """import sys
assert "compile" in sys.argv and "fp16" in sys.argv, sys.argv
print("| training step | ms |\\n| --- | --- |\\n| " + sys.argv[sys.argv.index("--networks") + 1] + " | 1 |")
"""
SANITIZER = """#!/bin/sh
test "$1 $3 $4" = "--tool --error-exitcode 9" || exit 9
shift 4
exec "$@"
"""
CUDNN = """#include <cstdint>
#include <cstring>
static const char kText[] = "{\\"deviceVer\\": 900}";
extern "C" {
int cudnnBackendCreateDescriptor(int type, void** made) { *made = made; return type != 38; }
int cudnnBackendSetAttribute(void* d, int name, int type, int64_t n, void* id) {
  return name != 2700 || type != 23 || n != 1 || *static_cast<int32_t*>(id) != 0;
}
int cudnnBackendFinalize(void*) { return 0; }
int cudnnBackendGetAttribute(void*, int name, int type, int64_t n, int64_t* count, void* text) {
  if (text && n < int64_t(sizeof kText)) return 1;
  if (text) std::memcpy(text, kText, sizeof kText);
  *count = sizeof kText;
  return name != 2702 || type != 24;
}
}
"""


def test_gpu(folder, program, *arguments, script=ROOT / "script" / "test-gpu", **settings):
    """Exit status, last line, and the records of a call."""
    done = subprocess.run([sys.executable, "-B", script, "--halfstep", program, "--output", folder, *arguments],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, **settings)  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    records = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines() if line.endswith("}")]
    return done.returncode, done.stdout.splitlines()[-1], records


def find(records, name):
    found = [record for record in records if record["name"] == name]
    assert len(found) == 1, (name, records)
    return found[0]


def check_working_program(folder, program):
    status, last, records = test_gpu(folder, program, "--executor", "onednn", "--short", "--parts",
                                     "machine,repeat")  # fmt: skip
    assert status == 0 and last.endswith(" passed, 0 failed"), records
    passed = {record["name"] for record in records if record["status"] == "passed"}
    repeated = {f"mlp-torchscript.fp32.{turn}" for turn in ("second", "without-graph")}
    assert {"version", "onednn"} | repeated <= passed, records
    assert "devices" in (folder / "machine" / "devices.txt").read_text()


def check_absent_device(folder, program):
    """Of an executor that is not there, and of a GPU that is hidden or has no driver."""
    for executor in ("no-such-executor", "cudnn"):
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
        status, last, records = test_gpu(folder / executor, program, "--executor", executor, "--parts",
                                         "machine,profile", env=environment)  # fmt: skip
        assert status == 1, records
        failed = [record for record in records if record["status"] == "failed"]
        assert len(failed) > 1 and last.endswith(f"{len(failed)} failed"), (last, records)
        assert find(records, executor)["detail"], records
        assert any(record["part"] == "profile" and executor in record["detail"] for record in failed), records


def check_faulty_programs(folder):
    for name, text in {"crashes": "kill -SEGV $$", "silent": "exit 0", "nonsense": "echo '{'"}.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
        status, _, records = test_gpu(folder / f"{name}.out", program, "--parts", "machine,conformance,profile")
        assert {record["part"] for record in records} == {"machine", "conformance", "profile"}, (name, records)
        assert name != "crashes" or (status == 1 and "SIGSEGV" in find(records, "check")["detail"]), records


def check_stalled_program(folder):
    """One that waits for another, also for one that has left its group and keeps its output open."""
    for name, other in {"stalls": "sleep 60 &", "leaves": "echo printed\nsetsid sleep 60 &"}.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\n{other}\nwait\n")
        program.chmod(0o755)
        start, results = time.monotonic(), folder / f"{name}.out"
        _, _, records = test_gpu(results, program, "--parts", "machine,repeat", "--minutes", "0.1")
        assert time.monotonic() - start < 40
        rest = [record for record in records if record["name"] == "rest"]
        assert {record["part"] for record in rest} == {"machine", "repeat"}, records
        assert name == "stalls" or "printed" in (results / "machine" / "version.txt").read_text()


def check_interrupt(folder):
    """Ctrl-C ends what is running, too."""
    program, number = folder / "waits", folder / "waits.pid"
    program.write_text(f"#!/bin/sh\necho $$ >{number}.new\nmv {number}.new {number}\nexec sleep 60\n")
    program.chmod(0o755)
    command = [sys.executable, "-B", ROOT / "script" / "test-gpu", "--halfstep", program, "--output", folder / "out"]
    handled = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          preexec_fn=handled) as run:  # fmt: skip
        end = time.monotonic() + 30
        while not number.exists() and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(1)  # until it waits for the program
        run.send_signal(signal.SIGINT)
        assert run.wait(30) != 0
    assert not pathlib.Path(f"/proc/{number.read_text().strip()}").exists()


def check_full_disk(folder, program):
    """Files of more than 300 bytes cannot be written: the program goes on, and says so."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
    done = subprocess.run([sys.executable, "-B", ROOT / "script" / "test-gpu", "--halfstep", program, "--output",
                           folder, "--executor", "onednn", "--parts", "machine,speed"], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, preexec_fn=limit)  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    assert "not all results were written" in done.stdout and "passed  machine: version" in done.stdout, done.stdout
    assert "speed: PyTorch" in done.stdout, done.stdout


class Emulated:
    """test-gpu beside a few models, with a program that finds the emulated GPU."""

    def __init__(self, folder, program, plugin):
        self.folder, self.program, self.root = folder, program, folder / "root"
        (self.root / "script").mkdir(parents=True)
        self.script = shutil.copy(ROOT / "script" / "test-gpu", self.root / "script")
        (self.root / "models").mkdir()
        for name in ("tests", "models/zoo"):
            (self.root / name).symlink_to(ROOT / name)
        self.environment = {**os.environ, "HALFSTEP_PLUGIN_PATH": plugin, "HALFSTEP_KERNEL_CACHE": "/proc/nothing",
                            "HALFSTEP_EMULATED_KERNELS": str(folder)}  # fmt: skip

    def run(self, part, *arguments, failed=0):
        status, _, records = test_gpu(self.folder / "out", self.program, "--short", "--parts", part, *arguments,
                                      script=self.script, env=self.environment)  # fmt: skip
        assert status == (1 if failed else 0), records
        assert sum(record["status"] == "failed" for record in records) == failed, records
        return records


def part_machine(emulated):
    assert find(emulated.run("machine"), "cudnn")["detail"] == "Emulated GPU (cuda:0)"


def part_device(emulated):
    source, library = emulated.folder / "cudnn.cpp", emulated.folder / "libcudnn.so.9"
    source.write_text(CUDNN)
    subprocess.run(["c++", "-shared", "-fPIC", "-o", library, source], check=True)
    # Commands run elsewhere, and find the libraries of a relative folder nevertheless.
    find(emulated.run("device", "--libraries", os.path.relpath(emulated.folder)), "properties")
    assert json.loads((emulated.folder / "out" / "device.json").read_text()) == {"deviceVer": 900}


def part_probe(emulated):
    assert find(emulated.run("probe"), "models")["status"] == "missing"
    probe = emulated.root / "models" / "probe"
    subprocess.run([sys.executable, "-B", ROOT / "script" / "probe_models.py", probe], check=True)
    for model in probe.glob("*.onnx"):
        if model.stem != "convolution-one-pixel":
            model.unlink()
    (probe / "networks").mkdir()
    shutil.copy(ROOT / "models" / "mnist_mlp.onnx", probe / "networks" / "mlp.onnx")
    (probe / "networks" / "mlp.json").write_text('{"batch": 2}')
    records = emulated.run("probe")
    for name, wanted in {"convolution-one-pixel": "cudnn: convolution", "mlp": "cublaslt: matmul"}.items():
        found = find(records, f"{name}.fp32")["detail"]
        assert found["step_us"] > 0 and any(row["kernel"].startswith(wanted) for row in found["kernels"]), found


def part_conformance(emulated):
    assert " 0 failed" in find(emulated.run("conformance"), "check")["detail"]


def part_losses(emulated):
    assert "0 of them wrong" in find(emulated.run("losses"), "mlp-torchscript.fp32")["detail"]


def part_repeat(emulated):
    names = {record["name"] for record in emulated.run("repeat")}
    assert names == {f"mlp-torchscript.fp32.{turn}" for turn in ("second", "without-graph")}, names


def part_sanitizer(emulated):
    emulated.environment["PATH"] = f"{emulated.folder}:/usr/bin:/bin"
    if not pathlib.Path("/usr/local/cuda/bin/compute-sanitizer").exists():
        assert find(emulated.run("sanitizer"), "compute-sanitizer")["status"] == "missing"
    (emulated.folder / "compute-sanitizer").write_text(SANITIZER)
    (emulated.folder / "compute-sanitizer").chmod(0o755)
    assert {record["name"] for record in emulated.run("sanitizer")} == {"Relu.memcheck", "Relu.racecheck"}


def part_profile(emulated):
    slowest = find(emulated.run("profile"), "mlp-torchscript.fp32")["detail"]
    assert len(slowest) == 10 and slowest[0]["us"] >= slowest[-1]["us"] and slowest[0]["kernel"], slowest


def part_speed(emulated):
    modules = emulated.folder / "modules"
    modules.mkdir()
    emulated.environment["PYTHONPATH"] = str(modules)
    (modules / "torch.py").write_text("raise ImportError('no such library')")
    missing = find(emulated.run("speed"), "PyTorch")
    assert missing["status"] == "missing" and "no such library" in missing["detail"], missing
    (modules / "torch.py").write_text("import time\ntime.sleep(60)")
    start = time.monotonic()
    assert find(emulated.run("speed", "--minutes", "0.05"), "rest")["status"] == "missing"
    assert time.monotonic() - start < 30
    named = "import types\ncuda = types.SimpleNamespace(get_device_name=lambda: 'Emulated GPU')\n"
    (modules / "torch.py").write_text(named)
    for name in ("torchvision", "transformers", "onnx"):
        (modules / f"{name}.py").write_text("")
    (emulated.root / "bench").mkdir()
    (emulated.root / "bench" / "compare.py").write_text(TABLE)
    assert find(emulated.run("speed"), "mlp")["detail"] == ["| mlp | 1 |"]


def main(program, plugin=None, part=None):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        if part:
            return globals()[f"part_{part}"](Emulated(folder, program, plugin))
        check_working_program(folder / "working", program)
        check_absent_device(folder / "absent", program)
        check_faulty_programs(folder)
        check_stalled_program(folder)
        check_interrupt(folder)
        check_full_disk(folder / "full", program)


if __name__ == "__main__":
    main(*sys.argv[1:])
