"""`tracestill evaluate`: a recipe's models on its held-out problems, or any model on benchmarks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracestill.commands.options import Quiet, Set, Verifiers
from tracestill.commands.run import run_stages

if TYPE_CHECKING:
    from tracestill.recipe.evaluation import Evaluation


def evaluate(
    target: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|MODEL",
            help="A recipe (.yaml): its student and teacher on its held-out problems. Else a "
            "model: a folder, a run's folder (its student), a GGUF file, a hub id, or with "
            "--base-url a server's name of it.",
        ),
    ],
    benchmarks: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[BENCHMARK]…",
            help="For a model: names, NAME=FILE for a local file of its questions, or YAML files.",
        ),
    ] = None,
    set_: Set = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="runs/<name>, or of a model evaluations/<name> by default."),
    ] = None,
    quiet: Quiet = False,
    samples: Annotated[
        int | None, typer.Option("--samples", min=1, help="Answers to a problem.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", min=1, help="The longest answer.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", min=0, help="0 is greedy.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Only the first problems.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the samples.")] = 0,
    base_url: Annotated[
        list[str] | None,
        typer.Option("--base-url", metavar="URL", help="A server of the model; repeatable."),
    ] = None,
    api_key_env: Annotated[
        str | None,
        typer.Option("--api-key-env", metavar="VARIABLE", help="What holds the server's key."),
    ] = None,
    system: Annotated[str | None, typer.Option("--system", help="A system prompt.")] = None,
    template: Annotated[
        str | None,
        typer.Option("--template", help="A chat template (.jinja, or a shipped one's name)."),
    ] = None,
    engine_arg: Annotated[
        list[str] | None,
        typer.Option("--engine-arg", metavar="NAME=VALUE", help="Of vLLM's engine; repeatable."),
    ] = None,
    max_failed: Annotated[
        float, typer.Option("--max-failed", min=0, max=1, help="Requests that may fail (share).")
    ] = 0.02,
    verifier: Verifiers = None,
    sandbox: Annotated[
        str, typer.Option("--sandbox", help="Where programs run; see `tracestill verify`.")
    ] = "bubblewrap",
) -> None:
    """Evaluate a recipe's student and teacher, or a model on benchmarks."""
    given = {
        "--samples": samples, "--max-tokens": max_tokens, "--temperature": temperature,
        "--limit": limit, "--base-url": base_url, "--api-key-env": api_key_env,
        "--system": system, "--template": template, "--engine-arg": engine_arg,
        "--verifier": verifier,
    }  # fmt: skip
    if target.endswith((".yaml", ".yml")):
        if benchmarks:
            raise ValueError(
                f"{target} is a recipe, which has its own problems: name a model to evaluate on "
                f"{', '.join(benchmarks)}, such as the folder of its run"
            )
        if wrong := [name for name, value in given.items() if value is not None]:
            raise ValueError(
                f"{wrong[0]} is for a model on benchmarks; of a recipe change the section "
                "evaluate, as in --set evaluate.samples=4"
            )
        run_stages(Path(target), set_, out, quiet, stop="evaluate")
        return
    if set_:
        raise ValueError("--set changes a recipe's keys, and this evaluates a model")
    from tracestill.recipe.benchmarks import named_benchmark, shipped
    from tracestill.recipe.evaluation import Evaluation
    from tracestill.recipe.functions import read_function
    from tracestill.recipe.rules import kind_mistake, read_rules, read_verifiers

    if not benchmarks:
        raise ValueError(
            f"name the benchmarks to evaluate {target} on: {', '.join(shipped())}, NAME=FILE or a "
            "YAML file. (A recipe's name ends in .yaml)"
        )
    own = read_verifiers(verifier)
    read_rules(sandbox, own)
    named = [named_benchmark(said) for said in benchmarks]
    for name, spec in named:
        if mistake := kind_mistake(spec.kind, own):
            raise ValueError(f"{name}: {mistake}, with --verifier {spec.kind}=FILE.py:FUNCTION")
    if len({name for name, _ in named}) < len(named):
        raise ValueError("a benchmark is named twice")
    model, run = _model(target, base_url, api_key_env, engine_arg)
    changed = {"samples": samples, "max_tokens": max_tokens, "temperature": temperature}
    update = {key: value for key, value in changed.items() if value is not None}
    plans = [
        Evaluation(
            name=_name(target), model=model, run=run, system_prompt=system,
            template=_template(template), benchmark=name, spec=spec.model_copy(update=update),
            limit=limit, seed=seed, max_failed=max_failed, sandbox=sandbox,
            verifiers={kind: read_function(text).path_and_name for kind, text in own.items()},
        )
        for name, spec in named
    ]  # fmt: skip
    _evaluate(plans, out or Path("evaluations") / _name(target), quiet)


def _evaluate(plans: list[Evaluation], out: Path, quiet: bool) -> None:
    from tracestill.commands.evaluated import print_evaluated
    from tracestill.commands.terminal import show_progress
    from tracestill.evaluate.evaluated import write_results
    from tracestill.run.benchmarks import check_folder, run_benchmark

    done = []
    for plan in plans:
        check_folder(plan, out)
    for plan in plans:
        with show_progress(quiet, plan.benchmark) as listener:
            done.append(run_benchmark(plan, out / plan.benchmark, listener))
        write_results(out)
    if not quiet:
        print_evaluated(done, out)


def _name(target: str) -> str:
    """What a model is called in tables and folders."""
    text = str(Path(target).resolve()) if Path(target).exists() else target
    parts = [part for part in Path(text).parts if part not in ("/", "~", ".", "..")]
    kept = parts[-1:] if text.startswith("/") else parts[-2:]
    return re.sub(r"[^\w.-]+", "-", "-".join(kept)).strip("-.") or "model"


def _model(
    target: str, urls: list[str] | None, key: str | None, arguments: list[str] | None
) -> tuple[dict[str, Any], str | None]:
    """The model that is named, as a recipe would say it, and the run whose student it is."""
    from tracestill.recipe.hosts import host_of
    from tracestill.records.content import is_gguf
    from tracestill.records.gguf import gguf_mistake
    from tracestill.records.layout import RECIPE

    if urls:
        for url in urls:
            host_of(url)  # a URL that holds a password is not written down
        if arguments:
            raise ValueError("--engine-arg is for models that run here, not for --base-url")
        return {"engine": "openai", "model": target, "base_urls": urls, "api_key_env": key}, None
    if key:
        raise ValueError("--api-key-env is the key of a server: name that with --base-url")
    path = Path(target).expanduser()
    named: dict[str, Any] = {"engine": "vllm", "engine_args": _arguments(arguments)}
    if path.is_dir():
        place, run = path.resolve(), None
        if (path / RECIPE).is_file():
            place, run = place / "finetune" / "merged", str(place)
        if not (place / "config.json").is_file():
            raise ValueError(
                f"{target} has no student yet: `tracestill finetune RECIPE` makes it"
                if run
                else f"{target} is neither a model's folder nor a run: it has no config.json"
            )
        return {**named, "model": str(place)}, run
    if is_gguf(target):
        if mistake := gguf_mistake(target):
            raise ValueError(mistake)
        return {**named, "model": str(path.resolve())}, None
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", target):
        raise ValueError(f"there is no model folder or GGUF file {target}")
    return {**named, "model": target}, None


def _arguments(entries: list[str] | None) -> dict[str, Any]:
    from tracestill.recipe.yaml_values import read_yaml

    pairs = [entry.partition("=") for entry in entries or ()]
    if wrong := ["".join(pair) for pair in pairs if not all(pair)]:
        raise ValueError(f"--engine-arg {wrong[0]}: write it as --engine-arg NAME=VALUE")
    return {name: read_yaml(value) for name, _, value in pairs}


def _template(said: str | None) -> str | None:
    from tracestill.recipe.contract import TEMPLATES, shipped

    if said is None:
        return None
    path = TEMPLATES / f"{said}.jinja" if said in shipped() else Path(said)
    if not path.is_file():
        raise ValueError(f"there is no chat template {said}; shipped are {', '.join(shipped())}")
    return str(path.resolve())
