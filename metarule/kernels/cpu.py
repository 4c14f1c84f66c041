"""Loops on CPUs: machine code that XLA calls as one operation."""

import ctypes
import hashlib
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jax
import llvmlite.binding as llvm
from jax.extend.core import Primitive
from jax.interpreters import mlir

from metarule.kernels.log import warn
from metarule.kernels.loops import adjoint_p, forward_p, in_xla
from metarule.kernels.packing import Kernel, on_vectors
from metarule.kernels.scalars import Unsupported
from metarule.kernels.steps import adjoint_text, step_text
from metarule.kernels.store import stored
from metarule.kernels.vectors import Code

__all__: list[str] = []

_FOLDER = Path(__file__).parent


def _module(kernel: Kernel, lanes: int, bits: int) -> tuple[str, int]:
    """Write the module of a kernel: (text, vectors of memory that a step needs)."""
    code = Code(lanes, bits)
    if kernel.active is None:
        (step, vectors), name = step_text(kernel.loop, kernel.shared, code), "forward.ll"
    else:
        (step, vectors), name = adjoint_text(kernel.loop, kernel.shared, kernel.active, code), "adjoint.ll"
    loops = "".join((_FOLDER / file).read_text() for file in ("buffers.ll", name))
    for word, number in {"bytes": bits // 8, **_version()}.items():
        loops = loops.replace(f"{{{word}}}", str(number))
    return "\n".join([*sorted(code.intrinsics), step, loops]), vectors


@cache
def _version() -> dict[str, int]:
    """Version of XLA's interface for functions, as in the header that jaxlib ships."""
    header = (Path(jax.ffi.include_dir()) / "xla/ffi/api/c_api.h").read_text()
    return {name: int(re.search(rf"XLA_FFI_API_{name.upper()} (\d+)", header)[1]) for name in ("major", "minor")}  # type: ignore[index]


# --- Machine code

_ENGINES: dict[str, Any] = {}


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


def _register(text: str) -> str:
    """Compile a module, and register its handler with XLA under a name made of its text."""
    name = "metarule_" + hashlib.sha256(text.encode()).hexdigest()[:32]
    if name not in _ENGINES:
        code = stored(f"{name}-{_cpu()}", lambda: _compiled(text))
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        _ENGINES[name] = engine
        address = engine.get_function_address("run")
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(ctypes.c_void_p(address)), platform="cpu")
    return name


def _lanes(bits: int) -> int:
    """Numbers in a register."""
    return (512 if llvm.get_host_cpu_features().get("avx512f", False) else 256) // bits


def _run(kernel: Kernel, given: Sequence[jax.Array], shapes: Sequence[jax.ShapeDtypeStruct]) -> Sequence[jax.Array]:
    bits = given[0].dtype.itemsize * 8
    text, vectors = _module(kernel, _lanes(bits), bits)
    memory = jax.ShapeDtypeStruct((vectors, _lanes(bits)), given[0].dtype)
    return jax.ffi.ffi_call(_register(text), [*shapes, memory])(*given)[:-1]


def _compiled_or_not(primitive: Primitive) -> Callable[..., Sequence[Any]]:
    """What an operation computes, by machine code unless its step is large and has no rolled form."""

    def computed(*operands: Any, **params: Any) -> Sequence[Any]:
        try:
            return on_vectors(_run, _lanes)(*operands, **params)
        except Unsupported as error:
            warn(str(error))
            return in_xla[primitive](*operands, **params)

    return computed


for _primitive in (forward_p, adjoint_p):
    _lowered = mlir.lower_fun(_compiled_or_not(_primitive), multiple_results=True)
    mlir.register_lowering(_primitive, _lowered, platform="cpu")
