"""A launch plan: everything that a native engine does to data, as launches of kernels on buffers of one arena.

A plan knows nothing of a library: the builder writes it, the runtime launches it, `research/native_plan` executes it with NumPy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from yoloproof.errors import YoloproofError
from yoloproof.files.frames import detections_bytes, parameter_count

ALIGNMENT = 256  # bytes, of every buffer and every weight: what cuMemAlloc gives
MOST_VARIANTS = 1000  # of one tactic; a network's have few


@dataclass(frozen=True)
class BufferPointer:
    """The address `offset` bytes into a buffer (an index into `Plan.buffers`)."""

    buffer: int
    offset: int


@dataclass(frozen=True)
class WeightPointer:
    """The address of a weight of the file."""

    weight: str


Argument = int | BufferPointer | WeightPointer


@dataclass(frozen=True)
class Kernel:
    """One specialisation of a kernel.

    arguments -- a type per parameter: "*fp16", "*fp32", "*u8", "*i32", "i32"; with ":16" known to be a multiple of 16, with "=1" known
      to be 1 and not passed
    constants -- the kernel's compile-time parameters with the compiler's num_warps and num_stages, sorted by name
    """

    name: str
    arguments: tuple[str, ...]
    constants: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Launch:
    """One launch. kernel -- an index into `Plan.kernels`; reads, writes -- buffers; weights stand in `arguments`."""

    kernel: int
    grid: tuple[int, int, int]
    arguments: tuple[Argument, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]


@dataclass(frozen=True)
class Operation:
    """One operation in several tactics that give the same result, each a sequence of launches and smaller operations.

    kind -- the operation's name in tables; shape -- of its result; flops -- 2 per multiplication with addition
    default -- the tactic to take where none was measured
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    flops: int
    tactics: tuple[tuple[Launch | Operation, ...], ...]
    default: int = 0


@dataclass(frozen=True)
class Buffer:
    """`bytes` bytes at `offset` in the arena."""

    bytes: int
    offset: int


@dataclass(frozen=True)
class Frames:
    """What an end-to-end plan has around its network, which is `operations[first:last]`.

    frame -- buffer of a frame, uint8 [H, W, 3] of any size that fits, RGB; parameters -- buffer of its `frame_parameters`
    detections -- buffer: float32 [most, 6] and two int32, see `files.frames.Detections`
    candidates -- so many of the best boxes are put in order before suppression
    """

    frame: int
    parameters: int
    detections: int
    most: int
    candidates: int
    first: int
    last: int


@dataclass(frozen=True)
class Plan:
    """images -- [B, 3, H, W], held as float16 [B, H, W, 3] in buffer `input`; outputs -- float32, in buffer `output`
    frames -- of an end-to-end plan"""

    images: tuple[int, int, int, int]
    outputs: tuple[int, int, int]
    input: int
    output: int
    arena_bytes: int
    buffers: tuple[Buffer, ...]
    kernels: tuple[Kernel, ...]
    operations: tuple[Operation, ...]
    frames: Frames | None = None

    @property
    def given(self) -> tuple[int, ...]:
        """The buffers that are filled from outside."""
        return (self.input,) if self.frames is None else (self.frames.frame, self.frames.parameters)

    @property
    def kept(self) -> tuple[int, ...]:
        """The buffers that share space with none."""
        return tuple(dict.fromkeys((*self.given, self.input, self.output, self.result)))

    @property
    def result(self) -> int:
        """The buffer that all of it is for."""
        return self.output if self.frames is None else self.frames.detections

    @property
    def network(self) -> tuple[Operation, ...]:
        """The operations from `input` to `output`."""
        return self.operations if self.frames is None else self.operations[self.frames.first : self.frames.last]


Choice = Mapping[str, int]  # operation's name → index of a tactic


def chosen_launches(operations: Sequence[Launch | Operation], choice: Choice) -> list[Launch]:
    """The launches in order, every operation in its chosen tactic, else in its default."""
    found: list[Launch] = []
    for step in operations:
        if isinstance(step, Launch):
            found.append(step)
        else:
            found += chosen_launches(step.tactics[choice.get(step.name, step.default)], choice)
    return found


def all_operations(operations: Sequence[Launch | Operation]) -> Iterator[Operation]:
    """Every operation, the smaller ones before the one they stand in."""
    for step in operations:
        if isinstance(step, Operation):
            for tactic in step.tactics:
                yield from all_operations(tactic)
            yield step


def all_launches(operations: Sequence[Launch | Operation]) -> Iterator[Launch]:
    """Every launch of every tactic."""
    for step in operations:
        if isinstance(step, Launch):
            yield step
        else:
            for tactic in step.tactics:
                yield from all_launches(tactic)


def dependencies(launches: Sequence[Launch]) -> list[tuple[int, ...]]:
    """For each launch the earlier ones that must have ended: those that wrote what it reads."""
    writers: dict[int, list[int]] = {}
    found = []
    for i, launch in enumerate(launches):
        found.append(tuple(sorted({w for buffer in launch.reads for w in writers.get(buffer, ())})))
        for buffer in launch.writes:
            writers.setdefault(buffer, []).append(i)
    return found


def variants(operation: Operation) -> list[list[Launch]]:
    """The operation's tactics as launches, one for each distinct pattern of reads and writes. Raises YoloproofError for more
    than anything could look through."""
    found: dict[tuple[object, ...], list[Launch]] = {}
    for tactic in operation.tactics:
        steps = [[[step]] if isinstance(step, Launch) else variants(step) for step in tactic]
        if prod(map(len, steps)) > MOST_VARIANTS:
            raise YoloproofError(f"plan: {operation.name} has more than {MOST_VARIANTS} variants")
        for parts in product(*steps):
            launches = [launch for part in parts for launch in part]
            found.setdefault(tuple((launch.reads, launch.writes) for launch in launches), launches)
    return list(found.values())


def check_plan(plan: Plan) -> None:
    """Raise YoloproofError unless the plan holds together, whatever tactics are chosen.

    Every launch reads only what was written before it, every pointer lies in its buffer and every buffer in the arena,
    and two buffers share space only where everything that touches one has ended before anything writes the other.
    """
    _check_ends(plan)
    for operation in plan.operations:
        for launch in all_launches([operation]):
            _check_launch(plan, operation, launch)
    for buffer in plan.buffers:
        inside = min(buffer.offset, buffer.bytes) >= 0 and buffer.offset + buffer.bytes <= plan.arena_bytes
        if buffer.offset % ALIGNMENT or not inside:
            raise YoloproofError(f"plan: a buffer at {buffer.offset} does not lie in the arena")
    sharing = shareable(plan.operations, len(plan.buffers), plan.given, plan.kept)
    by_offset = sorted(range(len(plan.buffers)), key=lambda i: plan.buffers[i].offset)
    for at, a in enumerate(by_offset):
        for b in by_offset[at + 1 :]:
            if plan.buffers[b].offset >= plan.buffers[a].offset + plan.buffers[a].bytes:
                break
            if not sharing[a] >> b & 1:
                raise YoloproofError(f"plan: buffers {a} and {b} share space while both are in use")


def _check_ends(plan: Plan) -> None:
    """The buffers that are filled and read from outside are there, and as large as what they hold."""
    sizes = {plan.input: 2 * prod(plan.images), plan.output: 4 * prod(plan.outputs)}
    frames, inside = plan.frames, True
    if frames is not None:
        parameters, most = 4 * parameter_count((plan.images[2], plan.images[3])), detections_bytes(frames.most)
        sizes |= {frames.frame: 3, frames.parameters: parameters, frames.detections: most}
        inside = 0 < frames.first < frames.last < len(plan.operations) and len(sizes) == 5
    for buffer, size in sizes.items():
        inside = inside and 0 <= buffer < len(plan.buffers) and plan.buffers[buffer].bytes >= size
    if not inside:
        raise YoloproofError("plan: its input, its output or what stands around its network does not lie in it")


def _check_launch(plan: Plan, operation: Operation, launch: Launch) -> None:
    if not 0 <= launch.kernel < len(plan.kernels) or len(plan.kernels[launch.kernel].arguments) != len(
        launch.arguments
    ):
        raise YoloproofError(f"plan: {operation.name} launches a kernel with other arguments than it takes")
    touched = {*launch.reads, *launch.writes}
    if not touched or min(touched) < 0 or max(touched) >= len(plan.buffers) or min(launch.grid) < 1:
        raise YoloproofError(f"plan: {operation.name} has a launch of no size, or on buffers that are not there")
    for kind, argument in zip(plan.kernels[launch.kernel].arguments, launch.arguments, strict=True):
        if isinstance(argument, int) == kind.startswith("*"):
            raise YoloproofError(f"plan: {operation.name} gives {argument} for a {kind}")
        if isinstance(argument, BufferPointer):
            inside = 0 <= argument.buffer < len(plan.buffers)
            if not inside or not 0 <= argument.offset < plan.buffers[argument.buffer].bytes:
                raise YoloproofError(f"plan: {operation.name} reaches outside a buffer")
            if argument.buffer not in touched:
                raise YoloproofError(f"plan: {operation.name} touches buffer {argument.buffer} without saying so")


def shareable(operations: Sequence[Operation], buffers: int, given: Sequence[int], kept: Sequence[int]) -> list[int]:
    """For each buffer, as bits, the buffers that may lie in the same place; `kept` ones with none, among them those that
    are `given` from outside.

    a and b may share where every operation that touches a has ended before any launch that writes b starts, in the order
    that the data dependencies alone enforce, or the other way round. Raises YoloproofError for a launch that reads what
    nothing has written, and for an operation with a launch that its result does not depend on.
    """
    results: dict[int, int] = {}  # buffer that other operations may read → the operation that writes it
    owners: dict[int, int] = dict.fromkeys(given, -1)
    ended: list[int] = []  # operation → operations that ended before it does, as bits
    users, before = [0] * buffers, [-1] * buffers  # of a buffer: operations; what ended before every write
    for index, operation in enumerate(operations):
        common, shared = -1, None
        for launches in variants(operation):
            done = _ended_before(operation, launches, results, ended, given)
            for launch, bits in zip(launches, done, strict=True):
                for buffer in launch.writes:
                    before[buffer] &= bits
                    if owners.setdefault(buffer, index) != index:
                        raise YoloproofError(f"plan: {operation.name} overwrites another operation's buffer {buffer}")
                for buffer in (*launch.reads, *launch.writes):
                    users[buffer] |= 1 << index
            common &= _union(done)
            last = set(launches[-1].writes)
            shared = last if shared is None else shared & last
        ended.append(common)
        results |= dict.fromkeys(shared or (), index)
    fixed = _union([1 << buffer for buffer in kept])
    return [_partners(a, users, before, fixed) for a in range(buffers)]


def _partners(a: int, users: list[int], before: list[int], fixed: int) -> int:
    fits = 0
    for b in range(len(users)):
        if b != a and not (fixed >> a | fixed >> b) & 1 and (not users[a] & ~before[b] or not users[b] & ~before[a]):
            fits |= 1 << b
    return fits


def _ended_before(
    operation: Operation, launches: Sequence[Launch], results: Mapping[int, int], ended: Sequence[int],
    given: Sequence[int],
) -> list[int]:  # fmt: skip
    """For each launch of an operation, as bits, the operations that have ended when it starts."""
    inside = dependencies(launches)
    done: list[int] = []
    written: set[int] = set()
    for launch, needed in zip(launches, inside, strict=True):
        bits = _union([done[other] for other in needed])
        for buffer in launch.reads:
            if buffer in results:
                bits |= 1 << results[buffer] | ended[results[buffer]]
            elif buffer not in written and buffer not in given:
                raise YoloproofError(f"plan: {operation.name} reads buffer {buffer}, which no launch has written")
        done.append(bits)
        written |= set(launch.writes)
    last = set(launches[-1].writes)
    leads = {other for needed in inside for other in needed}
    if any(i not in leads and not last & set(launch.writes) for i, launch in enumerate(launches)):
        raise YoloproofError(f"plan: {operation.name} has a launch that its result does not depend on")
    return done


def _union(bits: Sequence[int]) -> int:
    total = 0
    for one in bits:
        total |= one
    return total
