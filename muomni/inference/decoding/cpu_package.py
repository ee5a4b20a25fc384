"""A compiled step on a CPU, called without Python's lock: other threads of the process (the server's) go on meanwhile.

torch's own runner holds the lock for a whole step. So the library of the package is called through its C interface
(torch/csrc/inductor/aoti_runtime/interface.h), by ctypes, which releases the lock around each call.
"""

import ctypes
import tempfile
import weakref
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype, _pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
_capsule_of = ctypes.pythonapi.PyCapsule_New
_capsule_of.restype, _capsule_of.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


class _Constant(ctypes.Structure):
    """AOTInductorConstantMapEntry."""

    _fields_ = (("name", ctypes.c_char_p), ("handle", ctypes.c_void_p))


class CPUPackage:
    """Callable: flat arguments -> outputs, as torch's runner of the same package. May be called by one thread at a time.

    weights: by the names that the step had when it was exported; they are not copied. Raises RuntimeError if the file is damaged,
    does not fit this torch, or a weight is missing.
    """

    def __init__(self, path: Path, weights: Mapping[str, Tensor]) -> None:
        self._library = _open(path)
        self._container = ctypes.c_void_p()
        self._call("ContainerCreateWithDevice", ctypes.byref(self._container), ctypes.c_size_t(1), b"cpu", None)
        self._entries = self._set_weights(weights)
        release = weakref.finalize(self, _release, self._library, self._container, self._entries)
        release.atexit = False  # a thread may be inside a call when the process ends, which frees all anyway
        count = ctypes.c_size_t()
        self._call("ContainerGetNumOutputs", self._container, ctypes.byref(count))
        self._outputs = (ctypes.c_void_p * count.value)()

    def __call__(self, arguments: list[Tensor]) -> list[Tensor]:
        inputs, outputs = _handles(arguments), self._outputs  # the library takes ownership of the inputs' handles
        self._call("ContainerRun", self._container, inputs, _size(inputs), outputs, _size(outputs), None, None)
        return _tensors(outputs)

    def _call(self, function: str, *arguments: object) -> None:
        if getattr(self._library, f"AOTInductorModel{function}")(*arguments):
            raise RuntimeError(f"the compiled step failed in {function}; torch has printed why")

    def _set_weights(self, weights: Mapping[str, Tensor]) -> "ctypes.Array[_Constant]":
        """Give the library its weights; returns their names and handles, which stay ours."""
        count, name = ctypes.c_size_t(), ctypes.c_char_p()
        self._call("ContainerGetNumConstants", self._container, ctypes.byref(count))
        entries = (_Constant * count.value)()
        wanted = []
        for index, entry in enumerate(entries):
            self._call("ContainerGetConstantName", self._container, ctypes.c_size_t(index), ctypes.byref(name))
            entry.name = name.value
            self._call("ContainerGetConstantOriginalFQN", self._container, ctypes.c_size_t(index), ctypes.byref(name))
            wanted.append((name.value or b"").decode())
        missing = [each for each in wanted if each not in weights]
        if missing:
            raise RuntimeError(f"the compiled step needs weights that this model has not: {', '.join(missing)}")
        for entry, handle in zip(entries, _handles([weights[each] for each in wanted]), strict=True):
            entry.handle = handle
        self._call(
            "ContainerUpdateUserManagedConstantBufferPairs",
            self._container, entries, _size(entries), ctypes.c_bool(False), ctypes.c_bool(True),
        )  # fmt: skip
        return entries


def _open(path: Path) -> ctypes.CDLL:
    """The library in a package."""
    try:
        with zipfile.ZipFile(path) as package, tempfile.NamedTemporaryFile(suffix=".so") as file:
            (name,) = (each for each in package.namelist() if each.endswith(".so"))
            file.write(package.read(name))
            file.flush()
            return ctypes.CDLL(file.name)
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise RuntimeError(f"{path}: {error}") from error


def _release(library: ctypes.CDLL, container: ctypes.c_void_p, entries: "ctypes.Array[_Constant]") -> None:
    """Free a container, then the handles of its weights, which keep the weights' memory."""
    library.AOTInductorModelContainerDelete(container)
    _tensors([entry.handle for entry in entries])


def _tensors(handles: "Sequence[int] | ctypes.Array[ctypes.c_void_p]") -> list[Tensor]:
    """The tensors of handles, which are gone afterwards."""
    capsules = [_capsule_of(each, None, None) for each in handles]
    found: list[Tensor] = torch._C._aoti.alloc_tensors_by_stealing_from_void_ptrs(capsules)
    return found


def _handles(tensors: Sequence[Tensor]) -> "ctypes.Array[ctypes.c_void_p]":
    """New handles of tensors, which whoever they are given to owns."""
    capsules = torch._C._aoti.unsafe_alloc_void_ptrs_from_tensors(list(tensors))
    return (ctypes.c_void_p * len(capsules))(*(_pointer_of(each, None) for each in capsules))


def _size(array: "ctypes.Array[ctypes.c_void_p] | ctypes.Array[_Constant]") -> ctypes.c_size_t:
    return ctypes.c_size_t(len(array))
