"""Whether a measurement may be judged: a line, with value and bound, for each reason why not."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence

from bench.analysis.blocks import ROLES, Block
from bench.analysis.checks import Trials, ValidityBounds, check_reasons, place, trial_reasons
from bench.analysis.kvcached import kvcached_reasons
from bench.analysis.metrics import Metric
from bench.records import ErrorKind, Role, Sample, Trial, role_number

# So many starts of an arm's engines, or fewer, do not tell how much engines vary.
FEW_STARTS = 2

OF_A_LIMIT = (
    ": a limit of the server, which need not be overloaded; offer less with --rate or"
    " --concurrency, or raise the limit"
)


def invalid_reasons(
    blocks: Sequence[Block], primary: Metric, bounds: ValidityBounds, among: Sequence[Block]
) -> tuple[str, ...]:
    """The reasons why `blocks` must not be judged; empty when they may.

    What is wrong with a trial of any arm is wrong with its whole block: `among` are the same
    blocks with all arms.
    """
    return (
        *trial_reasons([trial for block in among for trial in block.trials]),
        *check_reasons([block.trials for block in among], bounds),
        *_unlike_schedules(blocks),
        *_unlike_answers(blocks, bounds),
        *kvcached_reasons(arms(blocks)),
        *(reason for arm in arms(blocks) for reason in _arm_reasons(arm, bounds)),
        *too_few(primary, blocks),
    )


def dead_replicas(blocks: Sequence[Block]) -> tuple[str, ...]:
    """A line for every replica that was found dead, with the first trial after which it was."""
    first: dict[str, Trial] = {}
    for block in blocks:
        for trial in block.trials:
            first |= {name: trial for name in trial.dead_replicas if name not in first}
    return tuple(f"dead replica: {name} after {place(trial)}" for name, trial in first.items())


def too_few(metric: Metric, blocks: Sequence[Block]) -> tuple[str, ...]:
    """A line when the metric rests on too few values in some block."""
    counts = [
        (metric.n(trials), block.index, role)
        for block in blocks
        for role in roles_of(blocks)
        if (trials := block.of(role))
    ]
    fewest, index, role = min(counts, default=(metric.minimum_n, 0, ROLES[0]))
    if fewest >= metric.minimum_n:
        return ()
    return (
        f"{metric.name} rests on {fewest} values in block {index} ({role});"
        f" it needs {metric.minimum_n}: lengthen the trials or raise the rate",
    )


def roles_of(blocks: Sequence[Block]) -> tuple[Role, ...]:
    """The roles that were run, control first."""
    return tuple(sorted({role for block in blocks for role in block.ran}, key=role_number))


def arms(blocks: Sequence[Block]) -> Iterator[tuple[Trial, ...]]:
    """All trials of each role that was run, control first."""
    for role in roles_of(blocks):
        yield tuple(trial for block in blocks for trial in block.of(role))


def arm_notes(trials: Trials) -> Iterator[str]:
    """Lines about an arm's answers that do not make them invalid."""
    yield from _failures(trials)
    yield from _rejections(trials)
    yield from _starved_replicas(trials)
    yield from _unattributed(trials)


def engine_starts(blocks: Sequence[Block]) -> Iterator[str]:
    """How often each arm's engines were started, and what few starts cannot tell.

    None where both arms had the same engines.
    """
    used = {_arm_name(trials): {one.engines for one in trials} for trials in arms(blocks)}
    if len(used) < len(ROLES) or len({frozenset(names) for names in used.values()}) == 1:
        return
    yield f"starts of engines: {', '.join(f'{len(names)} of {arm}' for arm, names in used.items())}"
    if min(map(len, used.values())) <= FEW_STARTS:
        yield (
            f"an arm whose engines were started {FEW_STARTS} times or once does not tell how much"
            " engines differ from start to start: that may be part of the ratio, and the interval"
            " does not cover it"
        )


def failed_share(trials: Trials) -> float | None:
    """Failed requests / all attempted of an arm; None where there are none."""
    samples = _samples(trials)
    return sum(not one.ok for one in samples) / len(samples) if samples else None


def unlike_failures(blocks: Sequence[Block]) -> Iterator[str]:
    """A line where different shares of the arms' requests failed, however small."""
    shares = [(trials, failed_share(trials)) for trials in arms(blocks)]
    if len({share for _, share in shares if share is not None}) > 1:
        each = (
            f"{_arm_name(trials)} {100 * (share or 0):.2f} %"
            f" ({sum(not one.ok for one in _samples(trials))} of {len(_samples(trials))})"
            for trials, share in shares
        )
        yield f"the arms failed different shares of their requests: {', '.join(each)}"


def _unlike_schedules(blocks: Sequence[Block]) -> Iterator[str]:
    """A line for every block, except of a search, whose arms replayed different schedules."""
    for block in blocks:
        if block.searched:
            continue
        replayed = [sorted(one.schedule_sha256 for one in block.of(role)) for role in block.roles]
        seen = dict.fromkeys(map(tuple, filter(None, replayed)))
        if len(seen) > 1:
            hashes = " and ".join(", ".join(one[:12] for one in of_arm) for of_arm in seen)
            yield f"the arms of block {block.index} replayed different schedules: {hashes}"


def _unlike_answers(blocks: Sequence[Block], bounds: ValidityBounds) -> Iterator[str]:
    """A line if answers may have any length, and those of one arm are longer."""
    means = [(trials, _mean_tokens(trials)) for trials in arms(blocks)]
    known = [mean for _, mean in means if mean is not None]
    if len(known) > 1 and max(known) > (1 + bounds.answer_length) * min(known):
        each = ", ".join(f"{_arm_name(trials)} {mean:.1f}" for trials, mean in means)
        yield (
            f"the arms' answers have other lengths: {each} tokens on average, bound"
            f" {100 * bounds.answer_length:.0f} %; latencies of unlike work are not compared"
        )


def _mean_tokens(trials: Trials) -> float | None:
    """Mean tokens of an arm's answers; None where they are as asked, or not counted."""
    samples = [one for trial in trials if not trial.exact_answers for one in trial.samples]
    tokens = [one.output_tokens for one in samples if one.ok and one.output_tokens is not None]
    return statistics.fmean(tokens) if tokens else None


def _arm_reasons(trials: Trials, bounds: ValidityBounds) -> Iterator[str]:
    """A line if an arm has too many failures, and if it has too many other token counts."""
    samples = _samples(trials)
    meant = ErrorKind.RATE_LIMITED if trials[0].scenario.overload else None
    failed = [sample for sample in samples if not sample.ok and sample.error is not meant]
    if len(failed) > bounds.error_rate * len(samples):
        kind, _ = Counter(sample.error for sample in failed).most_common(1)[0]
        yield (
            f"{_arm_name(trials)}: {len(failed)} of {len(samples)} requests failed, bound"
            f" {100 * bounds.error_rate:.1f} %; mostly {kind}{_detail(failed, kind)}"
            f"{OF_A_LIMIT if kind is ErrorKind.RATE_LIMITED else ''}"
        )
    answered = [sample for sample in samples if sample.ok]
    unlike = [sample for sample in answered if not _as_asked(sample, trials[0])]
    if len(unlike) > (1 - bounds.token_match) * len(answered):
        first = unlike[0]
        yield (
            f"{_arm_name(trials)}: {len(unlike)} of {len(answered)} answers have other token"
            f" counts than asked, bound {100 * (1 - bounds.token_match):.1f} %; first:"
            f" {first.prompt_tokens} + {first.output_tokens} for"
            f" {first.wanted_prompt_tokens} + {first.wanted_output_tokens}"
        )


def _failures(trials: Trials) -> Iterator[str]:
    """A line with the failures by kind, each with the first one's detail."""
    samples = _samples(trials)
    failed = [sample for sample in samples if sample.error is not None]
    kinds = Counter(sample.error for sample in failed).most_common()
    if kinds:
        each = ", ".join(f"{count} {kind}{_detail(failed, kind)}" for kind, count in kinds)
        yield f"{_arm_name(trials)}: {len(failed)} of {len(samples)} requests failed: {each}"


def _rejections(trials: Trials) -> Iterator[str]:
    """A line with the requests of each tenant that were rejected; none where no request was."""
    samples = _samples(trials)
    sent = Counter(one.tenant for one in samples)
    rejected = Counter(one.tenant for one in samples if one.error is ErrorKind.RATE_LIMITED)
    if rejected and trials[0].scenario.tenants:
        each = ", ".join(f"{rejected[name]} of {sent[name]} of {name}" for name in sorted(sent))
        yield f"{_arm_name(trials)}: requests that were rejected (429): {each}"


def _starved_replicas(trials: Trials) -> Iterator[str]:
    """A line for every replica that answered nothing for the arm: a policy may avoid one.

    None where answers do not name their replica. Balancers may name it by its URL.
    """
    answered_by = {s.replica for trial in trials for s in trial.samples if s.ok and s.replica}
    replicas = dict.fromkeys(one for trial in trials for one in trial.replicas)
    for replica in replicas if answered_by else ():
        in_use = replica.model in trials[0].models
        if in_use and not answered_by & {replica.name, replica.url}:
            yield f"{_arm_name(trials)}: replica {replica.name} answered no request"


def _unattributed(trials: Trials) -> Iterator[str]:
    """A line where answers of an arm do not name their replica, as through kube-proxy.

    None where each model has only one.
    """
    replicas = Counter(replica.model for replica in trials[0].replicas)
    answered = [sample for trial in trials for sample in trial.samples if sample.ok]
    unnamed = sum(sample.replica is None for sample in answered)
    if unnamed and any(count > 1 for count in replicas.values()):
        yield (
            f"{_arm_name(trials)}: which replica gave an answer is not known for {unnamed} of"
            f" {len(answered)} (connections: {trials[0].connections}); how many each gave is by"
            " its own count"
        )


def _arm_name(trials: Trials) -> str:
    return f"{trials[0].role} {trials[0].arm}"


def _samples(trials: Trials) -> list[Sample]:
    """All requests, also those that bypassed the arm: its replicas had to serve them, too."""
    return [sample for trial in trials for sample in trial.samples + trial.bypassed]


def _as_asked(sample: Sample, trial: Trial) -> bool:
    """Whether the request has the tokens that were asked for, where these are exact."""
    prompt = sample.prompt_tokens == sample.wanted_prompt_tokens or not trial.exact_prompts
    return prompt and (
        sample.output_tokens == sample.wanted_output_tokens or not trial.exact_answers
    )


def _detail(failed: Sequence[Sample], kind: ErrorKind | None) -> str:
    """The detail of the first failure of that kind, in parentheses."""
    detail = next((s.detail for s in failed if s.error is kind and s.detail), None)
    return f" ({' '.join(detail.split())})" if detail else ""
