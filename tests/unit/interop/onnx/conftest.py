"""A small omni export whose random weights write, say and answer something, and its folder of ONNX files."""

from pathlib import Path

import pytest
import torch

from muomni.checkpoints.export import load_export, save_export
from muomni.checkpoints.single_file import read_export
from muomni.interop.onnx.folder import export_onnx

EXPORT = Path(__file__).parents[3] / "fixtures" / "export_0_1"


@pytest.fixture(scope="session")
def lively(tmp_path_factory):
    """The export's folder. Its encoder's and Thinker's last layers are large, so that no two classes are equally likely."""
    torch.manual_seed(0)
    export = load_export(EXPORT)
    with torch.no_grad():
        for weight in (export.modules["audio"].head.weight, export.modules["thinker"].head.weight):
            weight.normal_()
        export.modules["thinker"].embedding.weight.normal_()
    folder = tmp_path_factory.mktemp("lively") / "omni"
    files = {"tokenizer.model": EXPORT / "tokenizer.model"}
    return save_export(folder, export.modules, files=files, metadata=export.metadata)


@pytest.fixture(scope="session")
def modules(lively):
    return read_export(lively).modules


@pytest.fixture(scope="session")
def write(lively, tmp_path_factory):
    """Function: options of the command -> the folder that it wrote."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")

    def run(*parts, opset=18, dtype="f32"):
        out = tmp_path_factory.mktemp("onnx") / "omni"
        export_onnx(lively, out, wanted=parts, opset=opset, dtype=dtype, report=print)
        return out

    return run


@pytest.fixture(scope="session")
def everything(write):
    return write()
