"""Operations on vectors of lifetimes as LLVM code, one instruction a line."""

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from metarule.kernels.scalars import Unsupported, is_constant

__all__ = ["Code", "Moving"]

# Names of counters of loops, and for each the entries of an array from one count to the next.
Moving = Sequence[tuple[str, int]]

_BINARY = {"add": "fadd", "div": "fdiv", "mul": "fmul", "sub": "fsub"}
_COMPARED = {"eq": "oeq", "ge": "oge", "gt": "ogt", "le": "ole", "lt": "olt", "ne": "une"}
_INTRINSICS = {"abs": "fabs", "cos": "cos", "exp2": "exp2", "sin": "sin", "sqrt": "sqrt"}
# A product and a sum become one instruction. Nothing else may change: infinities and NaN have to stay visible.
_FLAGS = "contract nsz "
# Shortest coefficients first, as for Horner's scheme. Rational approximation of tanh on [-7.9, 7.9], as XLA's.
_TANH_ABOVE = [-2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08]
_TANH_ABOVE += [1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03]
_TANH_BELOW = [1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03]
_TANH_LIMIT = 7.90531110763549805
# Cephes: exp on [-ln 2 / 2, ln 2 / 2], and log around 1.
_EXP = [1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1]
_LOG = [7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1]
_LOG += [-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1]


class Code:
    """Instructions of a function, each of which is written once, in loops where it is asked for.

    Values are names of vectors; those of truth values begin with `%m`.

    Attributes:
        lanes: numbers in a vector.
        bits: of a number.
        lines: the instructions.
        intrinsics: declarations and constants that they need.
    """

    def __init__(self, lanes: int, bits: int) -> None:
        self.lanes, self.bits = lanes, bits
        self.lines: list[str] = []
        self.intrinsics: set[str] = set()
        self.number = {32: "float", 64: "double"}[bits]
        self.vector = f"<{lanes} x {self.number}>"
        self.integers = f"<{lanes} x i{bits}>"
        self._known: dict[str, str] = {}

    # --- Memory

    def load(self, pointer: str, index: int, moving: Moving = ()) -> str:
        """Load a vector from an array of vectors."""
        return self._emit(self._load(self._address(pointer, index, moving, self.lanes)))

    def splat(self, pointer: str, index: int, moving: Moving = ()) -> str:
        """Load one number into all lanes."""
        number = self._emit(f"load {self.number}, ptr {self._address(pointer, index, moving)}, align 4")
        single = self._emit(f"insertelement {self.vector} poison, {self.number} {number}, i32 0")
        lanes = f"<{self.lanes} x i32> zeroinitializer"
        return self._emit(f"shufflevector {self.vector} {single}, {self.vector} poison, {lanes}")

    def store(self, value: Any, pointer: str, index: int, moving: Moving = ()) -> None:
        """Store a vector into an array of vectors."""
        address = self._address(pointer, index, moving, self.lanes)
        self.lines.append(f"store {self.vector} {self._operand(value)}, ptr {address}, align 4")
        self._known.pop(self._load(address), None)

    def constants(self, numbers: Iterable[Any]) -> str:
        """Address of numbers that are part of the program."""
        values = ", ".join(f"{self.number} {self._literal(number)}" for number in numbers)
        name = f"@constants.{hashlib.sha256(values.encode()).hexdigest()[:16]}"
        self.intrinsics.add(f"{name} = private constant [{values.count(',') + 1} x {self.number}] [{values}]")
        return name

    # --- Loops

    @contextmanager
    def loop(self, limit: int, step: int = 1) -> Iterator[str]:
        """Repeat the instructions that are written meanwhile; the counter is a multiple of the step below a limit."""
        known, label = dict(self._known), len(self.lines)
        self.lines += [f"br label %before{label}", f"before{label}:", f"br label %loop{label}", f"loop{label}:"]
        self.lines += [f"%i{label} = phi i64 [0, %before{label}], [%next{label}, %latch{label}]"]
        yield f"%i{label}"
        self.lines += [f"br label %latch{label}", f"latch{label}:"]
        self.lines += [f"%next{label} = add nuw nsw i64 %i{label}, {step}"]
        self.lines += [f"%more{label} = icmp ult i64 %next{label}, {limit}"]
        self.lines += [f"br i1 %more{label}, label %loop{label}, label %after{label}", f"after{label}:"]
        # What the loop has computed is not known after it.
        self._known = known

    # --- Operations

    def unary(self, name: str, x: Any) -> Any:
        """Apply a function of one number."""
        if name in _INTRINSICS:
            return self._call(_INTRINSICS[name], x)
        if name == "rsqrt":
            return self.binary("div", 1.0, self._call("sqrt", x))
        if name == "logistic":
            return self.binary("div", 1.0, self.binary("add", 1.0, self.unary("exp", self.binary("sub", -0.0, x))))
        if name == "sign":
            return self.select(self.binary("gt", x, 0.0), 1.0, self.select(self.binary("lt", x, 0.0), -1.0, x))
        if name in ("log1p", "expm1"):
            return self._near_zero(name, x)
        if name in ("exp", "log", "tanh"):
            # Library functions are exact in double precision, and rare.
            return self._call(name, x) if self.bits == 64 else getattr(self, f"_{name}")(x)
        raise Unsupported(f"the primitive {name}")

    def binary(self, name: str, x: Any, y: Any) -> Any:
        """Apply a function of two numbers, or of two truth values."""
        if name in _COMPARED:
            return self._emit(f"fcmp {_COMPARED[name]} {self.vector} {self._operand(x)}, {self._operand(y)}", "%m")
        if name == "pow":
            return self._call(name, x, y)
        if name in ("and", "or", "xor"):
            return self._emit(f"{name} <{self.lanes} x i1> {self._truth(x)}, {self._truth(y)}", "%m")
        if name in ("max", "min"):
            # NaN where either is: a comparison with it is false, which chooses y, and a constant is no NaN.
            x, y = (y, x) if is_constant(y) else (x, y)
            chosen = self.binary("gt" if name == "max" else "lt", x, y)
            chosen = chosen if is_constant(x) else self.binary("or", chosen, self.binary("ne", x, x))
            return self.select(chosen, x, y)
        return self._emit(f"{_BINARY[name]} {_FLAGS}{self.vector} {self._operand(x)}, {self._operand(y)}")

    def select(self, which: Any, true: Any, false: Any) -> Any:
        """Choose one of two values."""
        truths = [value for value in (true, false) if isinstance(value, str) and value.startswith("%m")]
        if truths or isinstance(true, bool) or isinstance(false, bool):
            kind, chosen, prefix = f"<{self.lanes} x i1>", self._truth, "%m"
        else:
            kind, chosen, prefix = self.vector, self._operand, "%v"
        mask = f"<{self.lanes} x i1> {self._truth(which)}"
        return self._emit(f"select {mask}, {kind} {chosen(true)}, {kind} {chosen(false)}", prefix)

    # --- Functions of one number in single precision

    def _tanh(self, x: Any) -> Any:
        x = self.binary("min", self.binary("max", x, -_TANH_LIMIT), _TANH_LIMIT)
        square = self.binary("mul", x, x)
        numerator, denominator = (self._polynomial(part, square) for part in (_TANH_ABOVE, _TANH_BELOW))
        return self.binary("div", self.binary("mul", x, numerator), denominator)

    def _exp(self, x: Any) -> Any:
        """2^n · p(r), where 2^n is a product of two powers, so that it overflows and underflows as it should."""
        limited = self.binary("min", self.binary("max", x, -104.0), 89.0)
        # Adding a large number rounds to an integer, which is then in the lower bits.
        shifted = self._exact("fadd", self._exact("fmul", limited, 1.44269504088896341), 12582912.0)
        n = self._exact("fsub", shifted, 12582912.0)
        # n · ln 2 in two parts, of which the first is exact.
        rest = self.binary("sub", limited, self.binary("mul", n, 0.693359375))
        r = self.binary("sub", rest, self.binary("mul", n, -2.12194440e-4))
        high = self.binary("mul", self._polynomial(_EXP, r), self.binary("mul", r, r))
        p = self.binary("add", high, self.binary("add", r, 1.0))
        whole = self._integer("sub", self._bits(shifted), 0x4B400000)
        half = self._integer("ashr", whole, 1)
        for exponent in (half, self._integer("sub", whole, half)):
            p = self.binary("mul", p, self._float(self._integer("shl", self._integer("add", exponent, 127), 23)))
        return p

    def _log(self, x: Any) -> Any:
        bits = self._bits(self.binary("max", x, float(np.finfo(np.float32).tiny)))
        exponent = self._integer("ashr", self._integer("sub", bits, 0x3F3504F3), 23)
        mantissa = self._float(self._integer("sub", bits, self._integer("shl", exponent, 23)))
        e = self._emit(f"sitofp {self.integers} {exponent} to {self.vector}")
        f = self.binary("sub", mantissa, 1.0)
        square = self.binary("mul", f, f)
        high = self.binary("mul", self.binary("mul", self._polynomial(_LOG, f), square), f)
        near = self.binary("add", self.binary("add", high, self.binary("mul", square, -0.5)), f)
        log = self.binary("add", near, self.binary("mul", e, 0.693147180559945))
        log = self.select(self.binary("gt", x, 0.0), log, self.select(self.binary("eq", x, 0.0), -np.inf, np.nan))
        return self.select(self.binary("eq", x, np.inf), np.inf, log)

    def _near_zero(self, name: str, x: Any) -> Any:
        """log(1 + x) or exp(x) − 1 without the digits that are lost by rounding 1 + x (Kahan)."""
        if name == "log1p":
            u = self._exact("fadd", x, 1.0)
            rounded = self._exact("fsub", u, 1.0)
            ratio = self.binary("mul", self.unary("log", u), self.binary("div", x, rounded))
        else:
            u = self.unary("exp", x)
            rounded = self._exact("fsub", u, 1.0)
            ratio = self.binary("mul", rounded, self.binary("div", x, self.unary("log", u)))
            ratio = self.select(self.binary("eq", u, 0.0), -1.0, ratio)
        usual = self.select(self.binary("eq", u, np.inf), np.inf, ratio)
        return self.select(self.binary("eq", rounded, 0.0), x, usual)

    def _polynomial(self, coefficients: Sequence[float], x: Any) -> Any:
        result: Any = coefficients[0]
        for coefficient in coefficients[1:]:
            result = self.binary("add", self.binary("mul", result, x), coefficient)
        return result

    # --- Instructions

    def _exact(self, operation: str, x: Any, y: Any) -> str:
        """Apply an operation that no other may be contracted with."""
        return self._emit(f"{operation} {self.vector} {self._operand(x)}, {self._operand(y)}")

    def _integer(self, operation: str, x: Any, y: Any) -> str:
        operands = (value if isinstance(value, str) else f"splat (i{self.bits} {value})" for value in (x, y))
        return self._emit(f"{operation} {self.integers} {', '.join(operands)}")

    def _bits(self, x: str) -> str:
        return self._emit(f"bitcast {self.vector} {self._operand(x)} to {self.integers}")

    def _float(self, x: str) -> str:
        return self._emit(f"bitcast {self.integers} {x} to {self.vector}")

    def _call(self, name: str, *operands: Any) -> str:
        function = f"@llvm.{name}.v{self.lanes}f{self.bits}"
        self.intrinsics.add(f"declare {self.vector} {function}({', '.join([self.vector] * len(operands))})")
        given = ", ".join(f"{self.vector} {self._operand(x)}" for x in operands)
        return self._emit(f"call {self.vector} {function}({given})")

    def _load(self, address: str) -> str:
        return f"load {self.vector}, ptr {address}, align 4"

    def _address(self, pointer: str, index: int, moving: Moving = (), numbers: int = 1) -> str:
        """Address of an entry of some numbers, whose index is the sum of a constant and of multiples of counters."""
        offsets = [self._emit(f"mul nuw nsw i64 {counter}, {step * numbers}", "%o") for counter, step in moving]
        for offset in (*offsets, *([index * numbers] if index else [])):
            pointer = self._emit(f"getelementptr inbounds {self.number}, ptr {pointer}, i64 {offset}")
        return pointer

    def _operand(self, value: Any) -> str:
        return value if isinstance(value, str) else f"splat ({self.number} {self._literal(value)})"

    def _literal(self, value: Any) -> str:
        rounded = float(np.float32(value)) if self.bits == 32 else float(value)
        return f"0x{struct.unpack('>Q', struct.pack('>d', rounded))[0]:016X}"

    @staticmethod
    def _truth(value: Any) -> str:
        return value if isinstance(value, str) else f"splat (i1 {str(bool(value)).lower()})"

    def _emit(self, text: str, prefix: str = "%v") -> str:
        """Name of the result of an instruction, which is written at its first use."""
        if text not in self._known:
            self._known[text] = f"{prefix}{len(self.lines)}"
            self.lines.append(f"{self._known[text]} = {text}")
        return self._known[text]
