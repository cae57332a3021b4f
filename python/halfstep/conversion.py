"""Converting a model to half precision for inference."""

import json
import os
import pathlib

from . import _core
from ._sources import bytes_or_path, file_of, loaded
from .errors import Error, InputError

__all__ = ["Conversion", "convert"]


class Conversion:
    """A converted model, not written yet unless convert was told where to.

    Attributes:
        report: what was done and why, as a dictionary: "nodes", "inputs_and_outputs", "tensors", "warnings",
            "notes", "errors" and counts.
    """

    def __init__(self, converted):
        self._converted = converted
        self.report = json.loads(converted.report_json())

    def save(self, path, *, external_data="auto"):
        """Writes the model: `path` has the whole new one afterwards, or what was there. external_data: "auto", "always"
        or "never" keeps tensors in a second file. Raises Error when it cannot be written, and InputError for a file of
        the model that was converted."""
        self.report["bytes_after"] = self._converted.save(os.fspath(path), external_data)

    def to_bytes(self):
        """The bytes of an .onnx file, at most 2 GB."""
        return self._converted.to_bytes()

    def to_proto(self):
        """An onnx.ModelProto; needs the package onnx."""
        import onnx

        return onnx.load_model_from_string(self.to_bytes())

    def save_report(self, path):
        """Writes the report, as .json or .html."""
        path = pathlib.Path(path)
        if path.suffix not in (".html", ".json"):
            raise InputError("a report whose name ends in .json or .html", f"'{path}'", "rename it")
        html = path.suffix == ".html"
        path.write_text(self._converted.report_html() if html else self._converted.report_json())


def _node_list(nodes):
    return nodes if isinstance(nodes, str) else ",".join(nodes or ())


def _choice(value, name, choices):
    if value not in choices:
        raise InputError(f"{name}: {' or '.join(choices)}", repr(value), "")
    return value


def convert(
    model,
    output=None,
    precision="fp16",
    *,
    keep_io_types=False,
    keep_fp32="",
    force_half="",
    functions="inline",
    metadata="keep",
    calibrate=None,
    verify=None,
    max_error=None,
    external_data="auto",
    report=None,
    executor="auto",
):
    """Makes a model's weights and computation fp16 or bf16 where that is worth it and safe.

    Takes any valid ONNX model. What has no half-precision form, and what half precision cannot hold, stays f32.

    Args:
        model: a path, bytes of an .onnx file, or an onnx.ModelProto.
        output: where to write it, no file of the model itself; None: nowhere yet.
        precision: "fp16" or "bf16".
        keep_io_types: True: all inputs and outputs stay f32; or the names of those that do.
        keep_fp32, force_half: nodes that stay f32, or become half whatever their ranges: "op:Softmax,node:/head/.*", or
            a list of such.
        functions: "inline" or "keep" the model's local functions. metadata: "keep" or "drop" what exporters write.
        calibrate: inputs by name, to measure activations with: what fp16 cannot hold stays f32.
        verify: inputs by name, to compare the outputs of both models on; report["errors"] has the differences.
        max_error: the largest error of an output relative to its largest value; as few nodes stay f32 as that takes.
            Needs calibrate.
        external_data: as of Conversion.save. report: a .json or .html file to write the report to.

    Returns a Conversion. Raises InputError for models that are not valid and names that are not there; Error where
    outputs of `verify` become infinite or NaN (nothing is written then) or `max_error` cannot be had.
    """
    if max_error is not None and calibrate is None:
        raise InputError("data for max_error to measure with", "none", "give calibrate")
    needs_data = calibrate is not None or verify is not None
    data, path = bytes_or_path(model)
    source = path if data is None else data
    all_types = keep_io_types is True
    converted = _core.convert(
        file_of(source),
        loaded(source) if needs_data else None,
        precision=precision,
        keep_io_types=all_types,
        keep_io_names=[] if all_types or not keep_io_types else list(keep_io_types),
        keep_fp32=_node_list(keep_fp32),
        force_half=_node_list(force_half),
        keep_functions=_choice(functions, "functions", ("inline", "keep")) == "keep",
        keep_metadata=_choice(metadata, "metadata", ("keep", "drop")) == "keep",
        calibrate=calibrate,
        verify=verify,
        max_error=max_error,
        executor=executor,
    )
    result = Conversion(converted)
    if report is not None:
        result.save_report(report)
    overflowing = converted.overflowing_outputs()
    if overflowing:
        raise Error(
            f"outputs that are finite in {precision} where they are in f32",
            f"infinite or NaN elements in {', '.join(overflowing)}",
            "calibrate with this data, keep the outputs f32 (keep_io_types=True), or take bf16",
        )
    if output is not None:
        result.save(output, external_data=external_data)
    return result
