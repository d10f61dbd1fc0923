# ruff: noqa: ARG001  (numba reads the arguments of its intrinsics by their types)
"""Inner loops written as vector instructions, which numba's compiler would not find itself.

A loop over a run of weights that adds to many lanes at once is fast only while the sums stay in
registers; numba keeps arrays in memory. The loops here are given to it as LLVM vectors, which
LLVM turns into whatever the processor has. Compiled callers that numba keeps on disk do not see
a change here until their own file changes.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic as numba_intrinsic

__all__ = ["GROUP", "add_product", "add_two", "gather", "gather_one", "gather_pair"]

GROUP = 8
"""Lanes of a group; the number of lanes is a multiple of it."""

intrinsic: Any = numba_intrinsic
_F32, _I64, _I32 = ir.FloatType(), ir.IntType(64), ir.IntType(32)


class _Vectors:
    """Shorthand for vectors of one width in a function that is being built."""

    def __init__(self, context: Any, builder: Any, width: int) -> None:
        self.context, self.builder, self.width = context, builder, width
        self.kind = ir.VectorType(_F32, width)
        signature = ir.FunctionType(self.kind, [self.kind] * 3)
        name = f"llvm.fmuladd.v{width}f32"
        self._fused = cgutils.get_or_insert_function(builder.module, signature, name)

    def pointer(self, kind: Any, array: Any) -> Any:
        return self.context.make_array(kind)(self.context, self.builder, array).data

    def add(self, index: Any, step: int) -> Any:
        return self.builder.add(index, ir.Constant(_I64, step))

    def at(self, base: Any, index: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(base, [index]), self.kind.as_pointer())

    def load(self, base: Any, index: Any) -> Any:
        return self.builder.load(self.at(base, index), align=4)

    def store(self, value: Any, base: Any, index: Any) -> None:
        self.builder.store(value, self.at(base, index), align=4)

    def spread(self, scalar: Any) -> Any:
        """Return a vector with the same value in all lanes."""
        empty = ir.Constant(self.kind, ir.Undefined)
        first = self.builder.insert_element(empty, scalar, ir.Constant(_I32, 0))
        zeros = ir.Constant(ir.VectorType(_I32, self.width), [0] * self.width)
        return self.builder.shuffle_vector(first, empty, zeros)

    def fused(self, a: Any, b: Any, c: Any) -> Any:
        """Return a * b + c."""
        return self.builder.call(self._fused, [a, b, c])

    def zero(self) -> Any:
        """Return a vector of zeros."""
        return ir.Constant(self.kind, [0.0] * self.width)

    def loop(self, start: Any, stop: Any, step: int, sums: list[Any], body: Any) -> list[Any]:
        """Emit a loop that keeps its sums in registers; return what holds them after it."""
        builder, entry = self.builder, self.builder.block
        head, inside, done = (
            builder.append_basic_block(f"loop.{part}") for part in ("head", "body", "end")
        )
        builder.branch(head)
        builder.position_at_end(head)
        index, carried = builder.phi(_I64), [builder.phi(self.kind) for _ in sums]
        builder.cbranch(builder.icmp_signed("<", index, stop), inside, done)
        builder.position_at_end(inside)
        grown = body(index, carried)
        for phi, first, later in zip(
            [index, *carried], [start, *sums], [self.add(index, step), *grown], strict=True
        ):
            phi.add_incoming(first, entry)
            phi.add_incoming(later, inside)
        builder.branch(head)
        builder.position_at_end(done)
        return carried


@intrinsic
def gather(
    typingctx: Any,
    groups: Any,
    out: Any,
    row: Any,
    factor: Any,
    weights: Any,
    shift: Any,
    offsets: Any,
    values: Any,
    start: Any,
    stop: Any,
) -> Any:
    """Add a weighted sum of rows to a row: all lanes at once.

    ``out[row] += factor * sum_e weights[shift + offsets[e]] * values[e]`` for e from `start` to
    `stop`; `groups` is a tuple whose length is the number of lanes over `GROUP`, `weights` and
    `offsets` are flat, all arrays contiguous float32, offsets int32.
    """
    signature = types.void(
        groups, out, types.intp, types.float32, weights, types.intp, offsets, values,
        types.intp, types.intp,
    )  # fmt: skip
    width = GROUP * groups.count

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = _Vectors(context, builder, width)
        run = _Run(vectors, signature.args, args, weights=4, offsets=6)
        first, second = run.sums([args[5]], start=args[8], stop=args[9], together=2)
        run.add_to(args[2], args[3], builder.fadd(first, second))
        return context.get_dummy_value()

    return signature, build


@intrinsic
def gather_pair(
    typingctx: Any,
    groups: Any,
    out: Any,
    row_a: Any,
    row_b: Any,
    factor_a: Any,
    factor_b: Any,
    weights: Any,
    shift_a: Any,
    shift_b: Any,
    offsets: Any,
    values: Any,
    start: Any,
    stop: Any,
) -> Any:
    """Do the work of two calls of `gather` over the same run, loading its values once."""
    signature = types.void(
        groups, out, types.intp, types.intp, types.float32, types.float32, weights, types.intp,
        types.intp, offsets, values, types.intp, types.intp,
    )  # fmt: skip
    width = GROUP * groups.count

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = _Vectors(context, builder, width)
        run = _Run(vectors, signature.args, args, weights=6, offsets=9)
        a, b = run.sums([args[7], args[8]], start=args[11], stop=args[12], together=1)
        run.add_to(args[2], args[4], a)
        run.add_to(args[3], args[5], b)
        return context.get_dummy_value()

    return signature, build


class _Run:
    """The sums over one run of values, with one or more sets of weights."""

    def __init__(
        self, vectors: _Vectors, kinds: Any, args: Any, *, weights: int, offsets: int
    ) -> None:
        self.vectors, self.builder = vectors, vectors.builder
        self.lanes = ir.Constant(_I64, vectors.width)
        self.out = vectors.pointer(kinds[1], args[1])
        self.weights = vectors.pointer(kinds[weights], args[weights])
        self.offsets = vectors.pointer(kinds[offsets], args[offsets])
        self.values = vectors.pointer(kinds[offsets + 1], args[offsets + 1])

    def sums(self, shifts: list[Any], *, start: Any, stop: Any, together: int) -> list[Any]:
        """Return `together` partial sums for each shift; more of them wait less for each other."""
        tables = [self.builder.gep(self.weights, [shift]) for shift in shifts]
        sums = [self.vectors.zero()] * (len(tables) * together)
        count = self.builder.sub(stop, start)
        whole = self.builder.and_(count, ir.Constant(_I64, -together))
        middle = self.builder.add(start, whole)
        sums = self.vectors.loop(start, middle, together, sums, self._taps(tables, together))
        if together == 1:
            return sums
        return self.vectors.loop(middle, stop, 1, sums, self._taps(tables, 1))

    def add_to(self, row: Any, factor: Any, total: Any) -> None:
        """Add a sum, times a factor, to a row of the output."""
        at = self.builder.mul(row, self.lanes)
        before = self.vectors.load(self.out, at)
        grown = self.vectors.fused(total, self.vectors.spread(factor), before)
        self.vectors.store(grown, self.out, at)

    def _taps(self, tables: list[Any], together: int) -> Any:
        """Return the body of a loop that adds `together` taps to each set's sums."""
        builder, vectors = self.builder, self.vectors

        def body(index: Any, sums: list[Any]) -> list[Any]:
            grown = list(sums)
            for lead in range(together):
                at = vectors.add(index, lead)
                place = builder.sext(builder.load(builder.gep(self.offsets, [at])), _I64)
                value = vectors.load(self.values, builder.mul(at, self.lanes))
                for number, table in enumerate(tables):
                    weight = vectors.spread(builder.load(builder.gep(table, [place])))
                    slot = number * (len(sums) // len(tables)) + lead
                    grown[slot] = vectors.fused(weight, value, grown[slot])
            return grown

        return body


@intrinsic
def gather_one(
    typingctx: Any,
    out: Any,
    row: Any,
    factor: Any,
    weights: Any,
    shift: Any,
    values: Any,
    start: Any,
    count: Any,
) -> Any:
    """Add a weighted sum of values to a row of `GROUP` partial sums.

    ``out[row, i % GROUP] += factor * weights[shift + i] * values[start + i]`` for i below
    `count`, a multiple of `GROUP`; `weights` and `values` are flat.
    """
    signature = types.void(
        out, types.intp, types.float32, weights, types.intp, values, types.intp, types.intp
    )

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors, kinds = _Vectors(context, builder, GROUP), signature.args
        table = builder.gep(vectors.pointer(kinds[3], args[3]), [args[4]])
        values = builder.gep(vectors.pointer(kinds[5], args[5]), [args[6]])
        pairs = builder.and_(args[7], ir.Constant(_I64, -2 * GROUP))

        def body(index: Any, sums: list[Any]) -> list[Any]:
            places = [vectors.add(index, GROUP * number) for number in range(len(sums))]
            return [
                vectors.fused(vectors.load(table, place), vectors.load(values, place), one)
                for place, one in zip(places, sums, strict=True)
            ]

        zero, sums = ir.Constant(_I64, 0), [vectors.zero()] * 2
        first, second = vectors.loop(zero, pairs, 2 * GROUP, sums, body)
        (first,) = vectors.loop(pairs, args[7], GROUP, [first], body)
        target = vectors.pointer(kinds[0], args[0])
        place = builder.mul(args[1], ir.Constant(_I64, GROUP))
        total = builder.fadd(first, second)
        grown = vectors.fused(total, vectors.spread(args[2]), vectors.load(target, place))
        vectors.store(grown, target, place)
        return context.get_dummy_value()

    return signature, build


@intrinsic
def add_product(
    typingctx: Any,
    groups: Any,
    out: Any,
    row: Any,
    factor: Any,
    a: Any,
    row_a: Any,
    b: Any,
    row_b: Any,
) -> Any:
    """Add a product of two rows to a row: ``out[row] += factor * a[row_a] * b[row_b]``."""
    signature = types.void(groups, out, types.intp, types.float32, a, types.intp, b, types.intp)
    width = GROUP * groups.count

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = _Vectors(context, builder, width)
        kinds, lanes = signature.args, ir.Constant(_I64, width)
        target, left, right = (vectors.pointer(kinds[i], args[i]) for i in (1, 4, 6))
        places = [builder.mul(args[i], lanes) for i in (2, 5, 7)]
        factor = vectors.spread(args[3])
        scaled = builder.fmul(vectors.load(left, places[1]), factor)
        before = vectors.load(target, places[0])
        grown = vectors.fused(scaled, vectors.load(right, places[2]), before)
        vectors.store(grown, target, places[0])
        return context.get_dummy_value()

    return signature, build


@intrinsic
def add_two(
    typingctx: Any,
    first: Any,
    second: Any,
    place: Any,
    weights: Any,
    shift: Any,
    count: Any,
    a: Any,
    b: Any,
) -> Any:
    """Add a run of weights to two arrays, each with its own factor.

    ``first[place + i] += a * weights[shift + i]`` and ``second[...] += b * weights[...]`` for i
    below `count`, a multiple of `GROUP`; all arrays flat, contiguous float32.
    """
    signature = types.void(
        first, second, types.intp, weights, types.intp, types.intp, types.float32, types.float32
    )

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = _Vectors(context, builder, GROUP)
        kinds = signature.args
        targets = [vectors.pointer(kinds[i], args[i]) for i in (0, 1)]
        targets = [builder.gep(target, [args[2]]) for target in targets]
        table = builder.gep(vectors.pointer(kinds[3], args[3]), [args[4]])
        factors = [vectors.spread(args[6]), vectors.spread(args[7])]
        zero = ir.Constant(_I64, 0)
        step = ir.Constant(_I64, GROUP)
        with cgutils.for_range_slice(builder, zero, args[5], step) as (index, _):
            weight = vectors.load(table, index)
            for target, factor in zip(targets, factors, strict=True):
                grown = vectors.fused(weight, factor, vectors.load(target, index))
                vectors.store(grown, target, index)
        return context.get_dummy_value()

    return signature, build
