"""`python -m validation COMMAND`: measure programs of others, and the suite itself."""

from __future__ import annotations

from collections.abc import Sequence

from bench.console import Parser, exit_code, run_program
from validation import calibrate, cross_check, load_generators, open_streams, proxies
from validation.evidence import command as evidence
from validation.fuzz import command as fuzz
from validation.gpu_check import command as gpu_check
from validation.soak import command as soak
from validation.study import command as study


def parser() -> Parser:
    """The commands and their options; `run` is what does a command's work."""
    top = Parser(prog="python -m validation", description=__doc__, allow_abbrev=False)
    commands = top.add_subparsers(required=True, dest="command", metavar="COMMAND")
    for name, module, run, text in (
        ("proxies", proxies, proxies.compare, "what proxies cost, side by side"),
        (
            "load-generators",
            load_generators,
            load_generators.compare,
            "the same of load generators",
        ),
        ("open-streams", open_streams, open_streams.hold_open, "this client with many streams"),
        ("calibrate", calibrate, calibrate.calibrate, "how far the client's timings are off"),
        ("cross-check", cross_check, cross_check.compare, "drivers side by side on one engine"),
        ("gpu-check", gpu_check, gpu_check.check, "KVCached against a static split on a GPU"),
        ("soak", soak, soak.soak, "balancers under load for hours, while engines fail"),
        ("fuzz", fuzz, fuzz.fuzz, "tests of parsers and formats, driven by coverage"),
        ("evidence", evidence, evidence.measure_missing, "how often the rule is right"),
        ("study", study, study.study, "every policy and every peer against managed"),
    ):
        one = commands.add_parser(name, description=module.__doc__, help=text, allow_abbrev=False)
        module.add_options(one)
        one.set_defaults(run=run)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Do a command's work; 2 after one line on stderr if that is not possible."""

    def work() -> int | None:
        options = parser().parse_args(arguments)
        code: int | None = options.run(options)
        return code

    return exit_code(work)


if __name__ == "__main__":
    run_program(main)
