"""usage: licenses_test.py FOLDER BINARY...

FOLDER has the licence text of each library that comes along with the binaries, or is a part of them. What the binaries
are linked with is asked of the loader; what is compiled into them is listed here.
"""

import re
import subprocess
import sys
from pathlib import Path

# Of a library's file the name of its licence; None: the system's own.
NAMES = {
    "libdnnl": "onednn", "libhwy": "highway", "libz": "zlib", "libjpeg": "libjpeg-turbo", "libspng": "libspng",
    "libfmt": "fmt", "libgomp": "libgomp", "libprotobuf": "protobuf",
    "libtomlplusplus": "tomlplusplus", "libhalfstep": None, "libhalfstep_conformance": None,
    "libc": None, "libm": None, "libdl": None, "libpthread": None, "librt": None, "libstdc++": None, "libgcc_s": None,
    "linux-vdso": None, "ld-linux-x86-64": None, "ld-linux-aarch64": None,
}  # fmt: skip
COMPILED_IN = {"onnx": "Apache License", "highway": "Apache License", "nlohmann-json": "MIT", "cli11": "University of Cincinnati",
               "tomlplusplus": "MIT"}  # fmt: skip
SHARED = {"libgomp": "GCC RUNTIME LIBRARY EXCEPTION", "onednn": "Apache License", "zlib": "Mark Adler", "protobuf": "Google"}

folder, binaries = Path(sys.argv[1]), sys.argv[2:]
wanted = set(COMPILED_IN)
for binary in binaries:
    listed = subprocess.run(["ldd", binary], capture_output=True, text=True, check=True).stdout
    for name in re.findall(r"^\s*(?:\S*/)?([^\s/]+?)\.so", listed, re.MULTILINE):
        assert name in NAMES, f"{name}, which {binary} is linked with, has no line in this test and in HalfstepLicenses.cmake"
        if NAMES[name]:
            wanted.add(NAMES[name])
assert {"onednn", "protobuf", "libgomp"} <= wanted, wanted
for name in sorted(wanted):
    text = (folder / f"{name}.txt").read_text(errors="replace")
    assert len(text) > 800, f"{name}: {len(text)} bytes"
    said = {**COMPILED_IN, **SHARED}.get(name, "opyright")
    assert said.lower() in text.lower(), f"{name}: no '{said}'"
print(f"{len(wanted)} licences: {', '.join(sorted(wanted))}")
