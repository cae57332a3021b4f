"""script/test-gpu on an executor that is there, and with programs that fail, stall or print nonsense.

usage: test_gpu_test.py PROGRAM
"""

import json
import pathlib
import subprocess
import sys
import tempfile

from halfstep_program import ROOT


def test_gpu(folder, program, *arguments):
    """Exit status, last line, and the records of a call."""
    done = subprocess.run([sys.executable, ROOT / "script" / "test-gpu", "--halfstep", program, "--output", folder, *arguments],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    records = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    return done.returncode, done.stdout.splitlines()[-1], records


def check_working_program(folder, program):
    status, last, records = test_gpu(folder, program, "--executor", "onednn", "--parts", "machine,repeat")
    assert status == 0 and last.endswith(" passed, 0 failed"), records
    passed = {record["name"] for record in records if record["status"] == "passed"}
    repeated = {f"lenet-torchscript.{precision}.{turn}" for precision in ("fp32", "fp16") for turn in ("second", "without-graph")}
    assert {"version", "onednn"} | repeated <= passed, records
    assert "devices" in (folder / "machine" / "devices.txt").read_text()


def check_absent_device(folder, program):
    status, last, records = test_gpu(folder, program, "--executor", "no-such-executor", "--parts", "machine,profile")
    assert status == 1, records
    failed = [record for record in records if record["status"] == "failed"]
    assert len(failed) > 1 and last.endswith(f"{len(failed)} failed"), (last, records)
    assert any(record["part"] == "profile" and "no-such-executor" in record["detail"] for record in failed), records


def check_faulty_programs(folder):
    for name, text in {"crashes": "kill -SEGV $$", "silent": "exit 0", "nonsense": "echo '{'"}.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
        status, _, records = test_gpu(folder / f"{name}.out", program, "--parts", "machine,conformance,profile")
        assert {record["part"] for record in records} == {"machine", "conformance", "profile"}, (name, records)
        assert name != "crashes" or status == 1, records


def check_stalled_program(folder):
    program = folder / "stalls"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    _, _, records = test_gpu(folder / "stalls.out", program, "--parts", "machine,repeat", "--minutes", "0.1")
    rest = [record for record in records if record["name"] == "rest"]
    assert {record["part"] for record in rest} == {"machine", "repeat"}, records


def main(program):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        check_working_program(folder / "working", program)
        check_absent_device(folder / "absent", program)
        check_faulty_programs(folder)
        check_stalled_program(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
