"""`python -m validation gpu-check`: KVCached against a static split, on one NVIDIA GPU.

In 25 minutes three models of real shapes with random weights share the GPU, in turns with and
without KVCached: staggered peaks, the same peaks at once, half load. Ctrl-C leaves no process; the
same command goes on where it ended.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from bench.console import INTERRUPTED, log_folder
from bench.environments.containers.engine import VLLM_VERSION
from bench.progress import Progress, make_progress
from bench.store.files import write_whole
from validation.gpu_check.card import empty_card
from validation.gpu_check.engines import FIRST_PORT, GpuSource, Source
from validation.gpu_check.installing import (
    KVCACHED_VERSION,
    MINUTES,
    NEEDED_BYTES,
    check_version,
    ensure_engines,
    install_commands,
)
from validation.gpu_check.measuring import measure
from validation.gpu_check.plan import ARMS, ORDER, Plan, Sized, engine_command, fitting
from validation.gpu_check.report import REPORT_FILE, load, markdown
from validation.harness import ROOT

CACHE = ROOT / ".cache"
OUTPUT = ROOT / "results" / "gpu-check"
_MOST_GIB = 10_000


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "--wheels",
        type=Path,
        metavar="DIR",
        help="install from this folder alone: wheels, or their parts NAME.whl.part-00, -01, ...",
    )
    parser.add_argument(
        "--vllm",
        default=VLLM_VERSION,
        metavar="VERSION",
        help=f"version of vLLM (default: {VLLM_VERSION})",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=OUTPUT,
        metavar="DIR",
        help="folder for what is measured (default: results/gpu-check)",
    )
    parser.add_argument(
        "--dry-run",
        type=memory_gib,
        metavar="GIB",
        help="say what would be done on a GPU of so many GiB, and do nothing",
    )


def memory_gib(text: str) -> float:
    """The memory of a GPU, as the type of an option. Raises ArgumentTypeError for other text."""
    with suppress(ValueError):
        if 0 < (found := float(text)) <= _MOST_GIB:
            return found
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of GiB from 0 to {_MOST_GIB}")


def check(options: argparse.Namespace) -> int:
    """Measure what is missing, write the report and print it; see `measure_and_report`.

    Raises UserError.
    """
    vllm = check_version(options.vllm)
    if options.dry_run is not None:
        print("\n".join(plan_lines(fitting(options.dry_run), vllm, options.wheels)))
        return 0
    progress = make_progress()
    card = empty_card()
    sized = fitting(card[1].total_gib)
    venv = ensure_engines(vllm, options.wheels, CACHE, progress)
    logs = log_folder(ROOT, "gpu-check")
    source = GpuSource(venv, vllm, sized.shapes, card, CACHE, logs, progress)
    return measure_and_report(sized.plan(), source, options.output, progress)


def measure_and_report(plan: Plan, source: Source, folder: Path, progress: Progress) -> int:
    """Measure what `folder` does not have of the plan, and write the report of what it has then.

    Returns 0 when all is measured and the report is printed, 130 after Ctrl-C. Raises UserError.
    """
    try:
        measure(plan, source, folder, progress)
    except KeyboardInterrupt:
        print("interrupted; the same command measures the rest", file=sys.stderr)
        return INTERRUPTED
    finally:
        write_report(folder)
    print((folder / REPORT_FILE).read_text(encoding="utf-8"))
    return 0


def write_report(folder: Path) -> None:
    """Write the report of what a folder has."""
    write_whole(folder / REPORT_FILE, markdown(load(folder)).encode())


def plan_lines(sized: Sized, vllm: str, wheels: Path | None) -> Iterator[str]:
    """What would be done: packages, models, room, loads, commands, minutes."""
    plan, python = sized.plan(), CACHE / "gpu-check-venv" / "bin" / "python"
    yield f"install, once: {NEEDED_BYTES / 1e9:.0f} GB of disk, {MINUTES}"
    pins = [f"vllm=={vllm}", f"kvcached=={KVCACHED_VERSION}"]
    for arguments in install_commands(pins, (wheels,)):
        yield f"  {python} {' '.join(arguments)}"
    yield "models with random weights, which share the GPU:"
    for shape, room in zip(sized.shapes, sized.rooms, strict=True):
        yield (
            f"  {shape.name}: {shape.footprint.weights_gib:.1f} GiB of weights, KV cache for "
            f"{room.static_tokens:,} tokens in a static split, {room.elastic_tokens:,} with "
            "KVCached while the others are idle"
        )
    yield f"turns: {', '.join(ARMS[role] for role in ORDER)}; in each, engines one after another:"
    for role in ARMS:
        for port, shape in enumerate(sized.shapes, FIRST_PORT):
            folder = CACHE / "models" / shape.architecture
            command = engine_command(python, vllm, shape.name, folder, port, role)
            yield f"  {' '.join(command)}"
    for one in plan.loads:
        counts = ", ".join(f"{name} {count}" for name, count in plan.requests(one).items())
        yield f"{one.name}, {plan.duration_s:g} s and drain: {one.about}; requests: {counts}"
    yield f"about {plan.minutes():.0f} minutes after the installation"
