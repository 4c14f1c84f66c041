"""Machine code of this CPU, which XLA calls as operations."""

import ctypes
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any

import jax
import llvmlite.binding as llvm

from metarule.kernels.store import stored

__all__ = ["lanes", "register", "template"]

_FOLDER = Path(__file__).parent
_ENGINES: dict[str, Any] = {}


def template(file: str, size: int) -> str:
    """Read LLVM code of this folder: what all operations share and a file, for numbers of some bytes."""
    text = "".join((_FOLDER / name).read_text() for name in ("buffers.ll", file))
    for word, number in {"bytes": size, **_version()}.items():
        text = text.replace(f"{{{word}}}", str(number))
    return text


@cache
def _version() -> dict[str, int]:
    """Version of XLA's interface for functions, as in the header that jaxlib ships."""
    header = (Path(jax.ffi.include_dir()) / "xla/ffi/api/c_api.h").read_text()
    return {name: int(re.search(rf"XLA_FFI_API_{name.upper()} (\d+)", header)[1]) for name in ("major", "minor")}  # type: ignore[index]


@cache
def _cpu() -> str:
    """Name of this kind of CPU and of the compiler, for stored code."""
    words = (llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten(), llvm.llvm_version_info)
    return hashlib.sha256(repr(words).encode()).hexdigest()[:8]


def _machine() -> Any:
    """Describe this CPU; an engine takes ownership."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten() + ",-prefer-256-bit"
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features, opt=2
    )


def _compiled(text: str) -> bytes:
    """Compile a module to object code."""
    module, machine = llvm.parse_assembly(text), _machine()
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    passes.getModulePassManager().run(module, passes)
    return machine.emit_object(module)


def register(kind: str, text: str) -> str:
    """Compile a module, and register its handler with XLA under a name made of its kind and text."""
    name = f"metarule_{kind}_{hashlib.sha256(text.encode()).hexdigest()[:32]}"
    if name not in _ENGINES:
        code = stored(f"{name}-{_cpu()}", lambda: _compiled(text))
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        _ENGINES[name] = engine
        address = engine.get_function_address("run")
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(ctypes.c_void_p(address)), platform="cpu")
    return name


def lanes(bits: int) -> int:
    """Numbers in a register."""
    return (512 if llvm.get_host_cpu_features().get("avx512f", False) else 256) // bits
