"""Converting a model to half precision for inference."""

import json
import os
import pathlib

from . import _core
from ._sources import by_name, bytes_or_path, file_of, loaded
from .errors import Error, InputError

__all__ = ["Conversion", "convert"]


class Conversion:
    """A converted model, not yet written unless convert was called with `output`.

    Attributes:
        report: decisions and reasons, as a dictionary: "nodes", "inputs_and_outputs", "tensors", "warnings",
            "notes", "errors" and counts.
    """

    def __init__(self, converted):
        self._converted = converted
        self.report = json.loads(converted.report_json())

    def save(self, path, *, external_data="auto"):
        """Writes the model. Afterwards `path` has either the whole new model or its previous contents. external_data:
        whether tensors are stored in a second file: "auto", "always" or "never". Raises Error if it cannot be written,
        and InputError if it would overwrite a file of the source model."""
        self.report["bytes_after"] = self._converted.save(os.fspath(path), external_data)

    def to_bytes(self):
        """The contents of an .onnx file, at most 2 GB."""
        return self._converted.to_bytes()

    def to_proto(self):
        """An onnx.ModelProto; requires the package onnx."""
        import onnx

        return onnx.load_model_from_string(self.to_bytes())

    def __repr__(self):
        report = self.report
        half, casts = report["half_nodes"], report["casts_after"]
        return f"Conversion({half} of {half + report['f32_nodes']} nodes in {report['precision']}, {casts} Casts)"

    def save_report(self, path):
        """Writes the report, as .json or .html."""
        path = _report_path(path)
        html = path.suffix == ".html"
        path.write_text(self._converted.report_html() if html else self._converted.report_json())


def _report_path(path):
    path = pathlib.Path(path)
    if path.suffix not in (".html", ".json"):
        raise InputError("a report whose name ends in .json or .html", f"'{path}'", "rename it")
    return path


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
    device=None,
):
    """Converts a model's weights and computation to fp16 or bf16 where this is beneficial and safe.

    Supports any valid ONNX model. Nodes without a half-precision form, and values out of its range, stay f32.

    Args:
        model: a path, bytes of an .onnx file, or an onnx.ModelProto.
        output: path of the converted model, not a file of the source; None: it is not written.
        precision: "fp16" or "bf16".
        keep_io_types: True: all inputs and outputs stay f32; or the name of the one that does, or a list of names.
        keep_fp32, force_half: nodes that stay f32, or that become half regardless of their ranges:
            "op:Softmax,node:/head/.*", or a list of such patterns.
        functions: "inline" or "keep" the model's local functions. metadata: "keep" or "drop" exporters' metadata.
        calibrate: inputs by name for measuring activations; those out of the range of fp16 stay f32. An array if the
            model has one input.
        verify: the same for comparing the outputs of both models; report["errors"] has the differences.
        max_error: maximum error of an output relative to its largest value; keeps as few nodes in fp32 as necessary.
            Needs calibrate.
        executor, device: what computes for calibrate and verify, as in Session.
        external_data: as in Conversion.save. report: path of a .json or .html file for the report.

    Returns a Conversion. Raises InputError for invalid models and unknown names; Error if outputs for `verify` become
    infinite or NaN (the model is not written then) or `max_error` cannot be met.
    """
    if max_error is not None and calibrate is None:
        raise InputError("data for measuring max_error", "none", "set calibrate")
    if max_error is not None and not max_error > 0:
        raise InputError("a max_error above 0", repr(max_error), "")
    if report is not None:
        report = _report_path(report)
    data, path = bytes_or_path(model)
    source = path if data is None else data
    model = None if calibrate is None and verify is None else loaded(source)
    all_types = keep_io_types is True
    if isinstance(keep_io_types, str):
        keep_io_types = [keep_io_types]
    converted = _core.convert(
        file_of(source),
        model,
        precision=precision,
        keep_io_types=all_types,
        keep_io_names=[] if all_types or not keep_io_types else list(keep_io_types),
        keep_fp32=_node_list(keep_fp32),
        force_half=_node_list(force_half),
        keep_functions=_choice(functions, "functions", ("inline", "keep")) == "keep",
        keep_metadata=_choice(metadata, "metadata", ("keep", "drop")) == "keep",
        calibrate=None if calibrate is None else by_name(calibrate, model, "calibrate"),
        verify=None if verify is None else by_name(verify, model, "verify"),
        max_error=max_error,
        executor=executor,
        device=device or "",
    )
    result = Conversion(converted)
    overflowing = converted.overflowing_outputs()
    try:
        if output is not None and not overflowing:
            result.save(output, external_data=external_data)
    finally:
        if report is not None:
            result.save_report(report)
    if overflowing:
        raise Error(
            f"outputs that are finite in {precision} where they are in f32",
            f"infinite or NaN elements in {', '.join(overflowing)}",
            "calibrate with this data, keep the outputs f32 (keep_io_types=True), or use bf16",
        )
    return result
