"""A graph -> its file: traced by torch, converted to ONNX, and run by onnxruntime next to torch before it counts as written.

torch's own names of axes give way to those of the graph's description. onnx, onnxruntime and onnxscript are imported here only,
when a graph is written.
"""

import inspect
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from muomni.interop.onnx.spec import CHECKED, DTYPES, TRACED, Graph, Port

OPSETS = range(18, 24)
NUMBERS = ("f32", "f16", "int8")
TOLERANCE = {"f32": 1e-3, "f16": 0.1, "int8": 0.2}  # of an output, compared with the largest number in it
MOST_TIES = 0.02  # of codes: the nearest of two entries that are equally far may be the other one
EMBEDDED = 1 << 30  # bytes of weights: more are in a file of their own, `<name>.onnx.data` (a protobuf holds 2 GB)
TALKATIVE = (
    "torch.onnx", "torch.onnx._internal.exporter", "torch.__trace", "onnxscript", "root",
    "onnxruntime.quantization.matmul_nbits_quantizer",
)  # fmt: skip
PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def require_packages() -> None:
    """Raises ValueError naming what is not installed."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ValueError(f"ONNX needs {', '.join(missing)}: pip install 'muomni[onnx]'")


def write_graph(graph: Graph, path: Path, *, opset: int, dtype: str) -> float:
    """Write the graph to `path` -> the largest difference of an output from torch's, compared with the largest number in it.

    dtype: of the weights, one of `NUMBERS`; inputs and outputs stay float32. Raises ValueError naming the graph where torch
    cannot convert it, or where onnxruntime computes something else.
    """
    import onnx

    dtype = "f32" if graph.exact else dtype
    model = _converted(graph, opset)
    _name_axes(model, graph)
    if dtype == "f16":
        from onnxruntime.transformers.float16 import convert_float_to_float16

        with _quiet():
            model = convert_float_to_float16(model, keep_io_types=True)
    if dtype == "int8":
        model = _quantized(model)
    weights = sum(tensor.ByteSize() for tensor in model.graph.initializer)
    onnx.save(model, path, save_as_external_data=weights > EMBEDDED, location=f"{path.name}.data")
    return check_graph(graph, path, tolerance=TOLERANCE[dtype])


def check_graph(graph: Graph, path: Path, *, tolerance: float) -> float:
    """Run a file and its module on the same random inputs, of other sizes than it was traced with; see `write_graph`."""
    session = open_session(path)
    inputs = graph.examples({**CHECKED, **graph.checked})
    with torch.inference_mode():
        expected = graph.module(*inputs)
    results = session.run(None, {port.name: x.numpy() for port, x in zip(graph.inputs, inputs, strict=True)})
    worst = 0.0
    for port, theirs, ours in zip(graph.outputs, results, expected, strict=True):
        if theirs.shape != tuple(ours.shape):
            raise ValueError(
                f"{graph.name}: {port.name} has the shape {theirs.shape} in onnxruntime, {tuple(ours.shape)} in torch"
            )
        if port.dtype == "int64":
            wrong = float((theirs != ours.numpy()).mean())
            worst = max(worst, wrong if wrong > MOST_TIES else 0.0)
        elif ours.numel():
            difference = float(np.abs(theirs - ours.numpy()).max()) / max(1.0, float(ours.abs().max()))
            worst = max(worst, difference)
    if not worst <= tolerance:
        raise ValueError(
            f"{graph.name}: onnxruntime's numbers differ from torch's by {worst:.2g}; another opset= may help"
        )
    return worst


def open_session(path: Path) -> Any:
    """onnxruntime's session of a file, on one thread of the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _converted(graph: Graph, opset: int) -> Any:
    """The graph as an onnx.ModelProto."""
    inputs = graph.examples({**TRACED, **graph.traced})
    axes = [{at: axis for at, axis in enumerate(port.axes) if isinstance(axis, str)} for port in graph.inputs]
    axes = [dict.fromkeys(port, torch.export.Dim.AUTO) for port in axes]
    bound = inspect.signature(graph.module.forward).bind(*axes).arguments
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                graph.module.eval(), inputs, dynamo=True, opset_version=opset, dynamic_shapes=dict(bound), verbose=False,
                input_names=[port.name for port in graph.inputs], output_names=[port.name for port in graph.outputs],
            )  # fmt: skip
    except Exception as error:  # torch has many kinds
        first = str(error).strip().splitlines()
        raise ValueError(
            f"{graph.name}: torch cannot convert it to ONNX: {type(error).__name__}: {first[0] if first else ''}"
        ) from error
    assert program is not None
    return program.model_proto


def _name_axes(model: Any, graph: Graph) -> None:
    """Name the axes of inputs and outputs as the description does. A size that was baked in is an error of this program."""
    for values, ports in ((model.graph.input, graph.inputs), (model.graph.output, graph.outputs)):
        assert [value.name for value in values] == [port.name for port in ports], (
            f"{graph.name}: {[v.name for v in values]}"
        )
        for value, port in zip(values, ports, strict=True):
            _name_axes_of(value.type.tensor_type, port, where=graph.name)


def _name_axes_of(tensor: Any, port: Port, *, where: str) -> None:
    assert len(tensor.shape.dim) == len(port.axes), f"{where}: {port.name} has {len(tensor.shape.dim)} axes"
    for dim, axis in zip(tensor.shape.dim, port.axes, strict=True):
        if isinstance(axis, int):
            dim.dim_value = axis
        else:
            assert not dim.dim_value, f"{where}: {port.name} has the size {dim.dim_value} where {axis} is meant"
            dim.dim_param = axis


def _quantized(model: Any) -> Any:
    """The model with the weights of matrix products in int8, a scale for every 32 of a column; activations stay float32, for in
    int8 too (onnxruntime's dynamic quantisation) a small Thinker's logits were off by a third."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    with _quiet():
        quantizer = MatMulNBitsQuantizer(model, bits=8, block_size=32, is_symmetric=True)
        quantizer.process()
    return quantizer.model.model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without remarks of torch.onnx and onnxruntime on themselves."""
    loggers = [logging.getLogger(name) for name in TALKATIVE]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


__all__ = ["DTYPES", "NUMBERS", "OPSETS", "check_graph", "open_session", "require_packages", "write_graph"]
