"""CONTRIBUTING.md's recipes are true: each is done in a copy of the repository, edit for edit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.copying import PYTEST, RECIPES, ROOT, Copy, copy_repository
from tests.docs.pages import blocks

pytestmark = pytest.mark.slow

NOT_COPIED = ("docs/report.png",)
SCENARIOS = "tests/scenarios"


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """The repository as it is: what git knows, and what is new."""
    return Copy(copy_repository(tmp_path / "copy", NOT_COPIED))


@pytest.fixture
def recipe(copy: Copy, request: pytest.FixtureRequest) -> Iterator[Copy]:
    """The copy; after the test, what was edited in it is what the recipe says."""
    yield copy
    thing = request.node.name.removeprefix("test_").replace("_", " ")
    assert package_or_file(copy.edited) == edits_of(thing), (
        f"the test of {thing} makes other edits than {RECIPES} names"
    )


def edits_of(thing: str) -> set[str]:
    """The files and packages that a recipe names, of a thing with the name `mine`."""
    text = (ROOT / RECIPES).read_text(encoding="utf-8")
    found = re.search(rf"^\| {thing} \| (.+?) \|", text, re.MULTILINE)
    assert found, f"{RECIPES} has no recipe for {thing}"
    return {path.replace("NAME", "mine") for path in re.findall(r"`([\w/.]*/[\w/.]*)`", found[1])}


def package_or_file(paths: set[str]) -> set[str]:
    """The paths, with the package in place of the modules of a new one."""
    folders = {path.removesuffix("/__init__.py") for path in paths if "/mine/__init__.py" in path}
    return folders | {path for path in paths if str(Path(path).parent) not in folders}


TINY = "  mine:\n    architecture: llama\n    replicas: 1\n\n"
HUB = (
    "  mine:\n    hub: org/mine\n    weights_gib: 14.0\n    gpus: 2\n    replicas: 1\n"
    "    environments: [k8s]\n"
)
SIZING = """
import tempfile
from pathlib import Path
from tests.terraform.running import TOPOLOGY, copy_of_node_config, outputs
values = {"topology_file": str(TOPOLOGY), "models": ["mine"]}
with tempfile.TemporaryDirectory() as folder:
    sizing = outputs(copy_of_node_config(Path(folder)), **values)["sizing"]
print(sizing["weights_gib"], sizing["gpus_of_an_arm"], sizing["model_cache_gib"])
"""
REPORT = """
from dataclasses import replace
from pathlib import Path
from bench.cli.review import stored_run
from bench.config.slo import load_slos
from bench.store import TrialStore
from reports.page import render_page
from tests.reports.cases import better_case
slo = load_slos().resolve("heavy-tail", "mine")
store = TrialStore(Path("results"))
for trial in better_case(models=("mine",)).trials:
    store.save(replace(trial, scenario=replace(trial.scenario, slos={"mine": slo})))
print(render_page(stored_run(store, trial.run_id)))
"""


def test_a_model(recipe: Copy) -> None:
    recipe.insert("bench/topology.yaml", TINY, before="  # Models of Hugging Face's hub")
    manifests_follow(recipe, "engines/cpu/mine.yaml")
    compose_follows(recipe, "compose.cpu.yaml", 1)
    assert "mine: engine-mine\n" in recipe.output("-m", "tests.k8s.discovered", "cpu/managed")
    ids_and_reports_follow(recipe)


def test_a_model_of_the_hub(recipe: Copy) -> None:
    recipe.insert("bench/topology.yaml", HUB, before="\nhardware:\n")
    manifests_follow(recipe, "engines/gpu/mine.yaml")
    # The eight GPUs that are declared for Docker are taken: there it needs room.
    written = (recipe.folder / "bench/topology.yaml").read_text("utf-8")
    taken = "    gpus: 2\n    replicas: 2\n    environments: [docker]\n"
    assert written.count(taken) == 1
    roomy = written.replace(taken, taken.replace("replicas: 2", "replicas: 1"))
    roomy = roomy.replace(HUB, HUB.replace("    environments: [k8s]\n", ""))
    (recipe.folder / "roomy.yaml").write_text(roomy, encoding="utf-8")
    recipe.output("-m", "bench", "manifests", "--topology", "roomy.yaml", "--folder", ".")
    for arm in ("baseline", "managed"):
        compose_follows(recipe, f"{arm}/compose.override.yaml", 1)
    recipe.output("-m", "bench", "manifests")
    assert "mine: engine-mine\n" in recipe.output("-m", "tests.k8s.discovered", "managed")
    assert recipe.output("-c", SIZING) == "{'mine': 14} 2 40\n"
    ids_and_reports_follow(recipe, "--env", "k8s")
    recipe.test("tests/terraform/test_node_config.py", "tests/k8s/test_generated.py")


def ids_and_reports_follow(copy: Copy, *environment: str) -> None:
    """Ids of tests and a report have the name of model `mine`, with the SLOs of all."""
    ids = copy.collected("-m", "latency and managed", *environment, SCENARIOS)
    assert "is_not_worse_than_control[mine]" in ids
    page = copy.output("-c", REPORT)
    rows = page.count('<th scope="row">heavy-tail · mine</th>')
    assert rows == 2, "a row of SLOs for each arm"
    assert "TTFT ≤ 2 s, TPOT ≤ 100 ms" in re.sub("<[^>]*>", "", page)
    copy.test(*(f"tests/bench/test_{one}.py" for one in ("topology", "config", "fitting")))


def compose_follows(copy: Copy, path: str, engines: int) -> None:
    """A Compose file has so many engines of model `mine`, and a balancer in front of them."""
    services = yaml.safe_load((copy.folder / "docker" / path).read_text("utf-8"))["services"]
    names = [f"mine-{index}" for index in range(engines)]
    assert [name for name in services if name.startswith("mine-")] == names
    balancer = services["balancer"]
    for name in names:
        assert f"http://{name}:8000" in balancer["environment"]["VLLM_ENDPOINTS"].split(",")
        assert balancer["depends_on"][name] == {"condition": "service_healthy"}


def test_an_arm(recipe: Copy) -> None:
    page = "docs/how-to/own-arm.md"
    entry = written_on(page, "yaml")
    assert "  mine:\n" in entry
    recipe.insert("bench/topology.yaml", entry, before="\nengine:\n")
    selected = recipe.collected("-m", "latency and managed", "--arms", "baseline,mine", SCENARIOS)
    assert "test_latency.py" in selected
    manifests_follow(recipe, "overlays/mine/kustomization.yaml")
    assert (recipe.folder / "k8s/overlays/cpu/mine/kustomization.yaml").is_file()
    recipe.test("tests/bench/test_topology.py", "tests/bench/test_config.py")


def manifests_follow(copy: Copy, path: str) -> None:
    """A check names the missing file and the command, which makes it."""
    done = copy.run("-m", "bench", "manifests", "--check")
    assert done.returncode == 1
    assert done.stderr.endswith("; run python -m bench manifests\n")
    copy.output("-m", "bench", "manifests")
    assert (copy.folder / "k8s" / path).is_file()
    copy.output("-m", "bench", "manifests", "--check")


def like(path: str) -> str:
    """The text of a module with another first line."""
    first, rest = (ROOT / path).read_text(encoding="utf-8").split("\n", 1)
    quotes = '"""'
    return f"{quotes}Mine: an example.{quotes if first.endswith(quotes) else ''}\n{rest}"


PEER = """
mine:
  arms:
    mine: random
    mine-first: first
  program: python3
  install: apt install python3
  version: '"{{ program }}" --version'
  reads: Python (\\S+)
  start: >-
    "{{ program }}" -m mine --port {{ port }} --policy {{ policy }}
    {% for replica in replicas %}{{ replica.url }} {% endfor %}
"""


def test_a_balancer_of_others(recipe: Copy) -> None:
    recipe.insert("bench/peers.yaml", PEER, before="\nhaproxy:\n  arms:\n")
    ids = recipe.collected("-m", "latency and managed", "--arms", "baseline,mine,mine-first")
    assert "[tiny-llama-mine-first]" in ids
    assert "--arms mine, mine-first\n" in recipe.output("-m", "bench", "peers")
    recipe.test("tests/bench/test_peers.py")
    assert "[mine-first]" in recipe.collected("tests/bench/test_peers_real.py")


def test_a_policy(recipe: Copy) -> None:
    registry = "lb/policies/__init__.py"
    recipe.add("lb/policies/mine.py", like("lb/policies/random_choice.py"))
    recipe.insert(registry, "    mine,\n", after="    least_outstanding,\n")
    entry = '\n    "mine": PolicyEntry("an example", 8095, _random(mine.choose)),'
    recipe.insert(registry, entry, after="POLICIES: Mapping[str, PolicyEntry] = {")
    assert "an example (port 8095)" in recipe.output("-m", "lb", "--policy", "mine", "--help")
    assert "[mine]" in recipe.collected("tests/lb/test_router.py")
    recipe.test("tests/lb/test_router.py", "tests/bench/test_topology.py", "-k", "mine or policy")
    assert "\n| `mine` | 8095 | an example |\n" in made(recipe, "commands")


def test_a_scenario(recipe: Copy) -> None:
    module = written_on("docs/how-to/own-scenario.md", "python")
    recipe.add(f"{SCENARIOS}/test_mine.py", module)
    recipe.output("-m", "ruff", "check", f"{SCENARIOS}/test_mine.py")
    selected = recipe.collected("-m", "mine and managed", "--models", "tiny-llama", SCENARIOS)
    assert "tests/scenarios/test_mine.py::test_treatment_is" in selected
    assert "test_latency.py" not in selected
    summary = module.split("\n", 1)[0].strip('"')
    assert f"\n@pytest.mark.mine: {summary}\n" in recipe.output("-m", "pytest", "--markers")
    row = f"\n| mine | {summary} | each | Scheduled TTFT p95 | not worse |\n"
    assert row in made(recipe, "scenarios")
    recipe.test("tests/docs/test_generated.py")


def written_on(page: str, language: str) -> str:
    """The blocks of a page in that language, one after the other."""
    there = (one for one in blocks() if one.page == ROOT / page and one.language == language)
    return "".join(one.text for one in there)


def made(copy: Copy, page: str) -> str:
    """A page of the reference that is made anew; before, a test says that it has to be."""
    done = copy.run(*PYTEST, "tests/docs/test_generated.py")
    assert "run python -m tests.docs.generated" in done.stdout
    copy.output("-m", "tests.docs.generated")
    return (copy.folder / f"docs/reference/{page}.md").read_text(encoding="utf-8")


DRIVER = '''\
"""Driver `mine`: an example."""

from __future__ import annotations

from dataclasses import replace

from bench.drivers.driver import Setup
from bench.load.run.drive import DriveResult, Load, run_load
from bench.records import DriverFacts


def make(_setup: Setup) -> MyDriver:
    """The driver."""
    return MyDriver()


class MyDriver:
    """Sends everything from this process."""

    def run(self, load: Load, *, drain_timeout_s: float) -> DriveResult:
        """Send `load`; see `Driver`."""
        result = run_load(load, drain_timeout_s=drain_timeout_s)
        return replace(result, driver=DriverFacts("mine"))
'''
MAKE_DRIVER = """
from pathlib import Path
from bench.drivers import make_driver
print(type(make_driver("mine", Path(), Path, None, None)).__name__)
"""


def test_a_driver(recipe: Copy) -> None:
    recipe.add("bench/drivers/mine.py", DRIVER)
    last = '    "genai-perf": "genai_perf",\n'
    recipe.insert("bench/drivers/__init__.py", '    "mine": "mine",\n', after=last)
    selected = recipe.collected("-m", "latency and managed", "--driver", "mine", SCENARIOS)
    assert "test_latency.py" in selected
    assert "|mine` | builtin |" in recipe.output("-m", "bench", "options").replace("\\", "")
    assert recipe.output("-c", MAKE_DRIVER) == "MyDriver\n"
    recipe.test("tests/bench/test_driver_tools.py", "-k", "unknown_driver")


METRIC = """\
    yield Metric(
        name="mine_s",
        unit="s",
        direction="lower",
        function=lambda samples, *_: min(map(timings.ttft_s, samples), default=None),
    )
"""
JUDGE = """
from dataclasses import replace
from reports import wording
from tests.reports.cases import better_case, judged
trials = better_case().trials
facts = replace(trials[0].scenario, primary="mine_s", metrics=("mine_s",))
primary = judged([replace(one, scenario=facts) for one in trials]).judgement.primary
print(wording.metric(primary.metric), primary.verdict)
"""


def test_a_metric(recipe: Copy) -> None:
    recipe.insert("bench/analysis/metrics.py", METRIC, before='    yield Metric("throughput_rps"')
    assert recipe.output("-c", JUDGE) == "Mine better\n"
    recipe.test("tests/bench/test_analysis_metrics.py", "-k", "mine or more_is_better")


CHART = '''\
"""How many requests there were: an example."""

from __future__ import annotations

from collections.abc import Iterator

from bench.analysis.judgement import Case
from reports.charts.style import Chart, Frame, empty, new_chart


def charts(case: Case, caption: str) -> Iterator[Chart]:
    """One chart."""
    chart, (axes,) = new_chart("My chart", [], caption, Frame(plots=(1.0,)))
    empty(axes, f"{sum(len(trial.samples) for trial in case.trials)} requests")
    yield chart
'''
SHOW = """
from pathlib import Path
from bench.cli.review import stored_run
from bench.store import TrialStore
from reports.page import render_page
from tests.reports.cases import better_case
store = TrialStore(Path("results"))
for trial in better_case().trials:
    store.save(trial)
print(render_page(stored_run(store, trial.run_id)))
"""


def test_a_chart(recipe: Copy) -> None:
    recipe.add("reports/charts/mine.py", CHART)
    page = recipe.output("-c", SHOW)
    titles = re.findall(r'alt="([^"]+)"', page)
    assert any(title.startswith("My chart") for title in titles), titles
    recipe.test("tests/reports/test_charts.py", "-k", "gallery")


ENVIRONMENT = '''\
"""Environment `mine`: an example."""

from __future__ import annotations

from bench.config.config import Config
from bench.environments.local.environment import LocalEnvironment
from bench.progress import Progress


class MyEnvironment(LocalEnvironment):
    """The local one under another name."""

    name = "mine"


def make_environment(config: Config, progress: Progress) -> MyEnvironment:
    """The environment; nothing is started yet."""
    return MyEnvironment(config.cache, config.topology, progress)
'''
OPERATIONS = '''\
"""What the commands do in environment `mine`: the same as in the local one."""

from bench.environments.local.operations import make_operations

__all__ = ["make_operations"]
'''
MAKE_ENVIRONMENT = """
from pathlib import Path
from bench.cli.pytest_run import make_environment
from bench.config.config import resolve
from bench.config.options import Options
from bench.progress import make_progress
config = resolve(Options(env="mine"), Path(), "run")
print(make_environment(config, make_progress()).name, config.hardware)
"""


def test_an_environment(recipe: Copy) -> None:
    recipe.add("bench/environments/mine/__init__.py", '"""Environment `mine`."""\n')
    recipe.add("bench/environments/mine/environment.py", ENVIRONMENT)
    recipe.add("bench/environments/mine/operations.py", OPERATIONS)
    entry = '    "mine": EnvironmentEntry("mine", "cpu", operated=True),\n'
    local = '    "local": EnvironmentEntry("local", "cpu", operated=True),\n'
    recipe.insert("bench/config/options.py", entry, after=local)
    selected = recipe.collected("-m", "latency and managed", "--env", "mine", SCENARIOS)
    assert "test_latency.py" in selected
    options = recipe.output("-m", "bench", "options").replace("\\", "")
    assert "`--env local|mine|k8s|docker|external`" in options
    assert recipe.output("-c", MAKE_ENVIRONMENT) == "mine cpu\n"
    assert recipe.output("-m", "bench", "status", "--env", "mine").startswith("nothing is deployed")
    recipe.test("tests/bench/test_config.py")
