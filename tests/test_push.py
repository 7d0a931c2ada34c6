"""The kept traces as a data set on a hub: a stand-in that answers what huggingface_hub asks."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import datasets
import pytest
import yaml
from conftest import run_tracestill
from huggingface_hub import DatasetCard
from kept_run import make_run, row
from servers import Answer, Fake, serving
from test_redact import masked_run

from tracestill.recipe.loading import dump_recipe
from tracestill.records import Kept, read_table
from tracestill.records.layout import RECIPE
from tracestill.records.progress import ignore_progress
from tracestill.run.pipeline import make_stage
from tracestill.stages.dataset import write_dataset

TOKEN = "hf_mine"
REPOSITORY = "me/sums"
API = f"/api/datasets/{REPOSITORY}"


def said(status: int, content: Any, **headers: str) -> Answer:
    return status, json.dumps(content).encode(), {"Content-Type": "application/json", **headers}


def hub(fake: Fake, method: str, path: str, headers: Any, body: bytes) -> Answer:
    """As the hub does for one user, `me`. `fake.limits` holds its repositories' visibility and
    `fake.machines` what lies in them, and by their hashes the large files.
    """
    path = urlsplit(path).path
    if path.startswith("/lfs/"):
        assert hashlib.sha256(body).hexdigest() == path.removeprefix("/lfs/")
        fake.machines[path] = body
        return said(200, {})
    if headers.get("Authorization") != f"Bearer {TOKEN}":
        message = "Invalid credentials in Authorization header"
        return said(401, {"error": message}, **{"X-Error-Message": message})
    if path == "/api/validate-yaml":
        return said(200, {"errors": [], "warnings": []})
    if path == "/api/repos/create":
        asked = json.loads(body)
        assert asked["type"] == "dataset"
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if not name.startswith("me/"):
            return said(403, {"error": "You don't have the rights to create a dataset there"})
        url = {"url": f"{fake.url}/datasets/{name}"}
        if name in fake.limits:
            return said(409, {"error": "You already created this dataset repo", **url})
        fake.limits[name] = asked["visibility"]
        return said(200, url)
    if path == API:
        files = [{"rfilename": name} for name in fake.machines if not name.startswith("/")]
        private = fake.limits[REPOSITORY] == "private"
        told = {"id": REPOSITORY, "private": private, "sha": "0" * 40, "siblings": files}
        return said(200, told)
    if path == f"{API}/preupload/main":
        files = [
            {
                "path": one["path"],
                "uploadMode": "lfs" if one["path"].endswith(".parquet") else "regular",
                "shouldIgnore": False,
            }
            for one in json.loads(body)["files"]
        ]
        return said(200, {"files": files})
    if path == f"/datasets/{REPOSITORY}.git/info/lfs/objects/batch":
        objects = [
            {**one, "actions": {"upload": {"href": f"{fake.url}/lfs/{one['oid']}"}}}
            for one in json.loads(body)["objects"]
        ]
        return said(200, {"objects": objects, "transfer": "basic"})
    if not path.startswith(API):
        return said(404, {"error": "Not found"}, **{"X-Error-Code": "RepoNotFound"})
    assert (method, path) == ("POST", f"{API}/commit/main"), path
    for line in map(json.loads, body.splitlines()):
        value = line["value"]
        if line["key"] == "file":
            fake.machines[value["path"]] = base64.b64decode(value["content"])
        elif line["key"] == "lfsFile":
            fake.machines[value["path"]] = fake.machines[f"/lfs/{value['oid']}"]
        elif line["key"] == "deletedFile":
            del fake.machines[value["path"]]
    commit = f"{fake.url}/datasets/{REPOSITORY}/commit/{'1' * 40}"
    return said(200, {"commitUrl": commit, "commitOid": "1" * 40})


@pytest.fixture
def server() -> Iterator[Fake]:
    with serving(hub) as fake:
        yield fake


@pytest.fixture
def small_run(tmp_path: Path) -> Path:
    return make_run(tmp_path, [row(number) for number in range(5)])[1]


def push(run: Path, url: str, *options: str, token: str = TOKEN, **environment: str) -> Any:
    repository = environment.pop("repository", REPOSITORY)
    said_to_it = {
        "HF_ENDPOINT": url, "HF_TOKEN": token, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(run.parent / "home"), **environment,
    }  # fmt: skip
    return run_tracestill("push", run, repository, *options, **said_to_it)


def loaded(folder: Path) -> list[dict[str, Any]]:
    """The rows of a data set's folder, by its card's head."""
    made = datasets.load_dataset(str(folder), split="train", cache_dir=str(folder.parent / "cache"))
    return [dict(one) for one in made]


def kept_of(run: Path) -> list[dict[str, Any]]:
    return [dataclasses.asdict(one) for one in read_table(run / "filter", "kept", Kept)]


def test_what_is_on_the_hub_is_what_was_kept(server: Fake, small_run: Path, tmp_path: Path) -> None:
    for _ in range(2):
        server.machines["data/train-00007.parquet"] = b"of an earlier push"
        done = push(small_run, server.url)
        assert done.returncode == 0, done.stderr
        assert f"5 traces and their card: {server.url}/datasets/{REPOSITORY}" in done.stdout
        names = {name for name in server.machines if not name.startswith("/")}
        assert names == {"README.md", "data/train-00000.parquet"}
    assert server.limits == {REPOSITORY: "private"}
    for name in names:
        path = tmp_path / "there" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(server.machines[name])
    assert loaded(tmp_path / "there") == kept_of(small_run)
    assert not list(small_run.glob(".push-*"))


def test_the_card_says_how_the_traces_were_made(small_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shown"
    nowhere = "http://127.0.0.1:9"
    done = push(small_run, nowhere, "--dry-run", str(folder), token="")
    assert done.returncode == 0, done.stderr
    assert "nothing was sent" in done.stdout
    assert loaded(folder) == kept_of(small_run)
    card = DatasetCard.load(folder / "README.md")
    assert card.data.license == "other"
    assert "push again with `--license`" in card.text
    assert card.data.language == ["en"]
    assert yaml.safe_load(card.data.to_yaml())["size_categories"] == ["n<1K"]
    assert "| form | 5 | 0 |" in card.text
    assert "Of 5 traces 5 are kept." in card.text
    assert "| 5 | deepseek-ai/DeepSeek-R1 | " in card.text
    assert "They have 110 tokens of reasoning and answer" in card.text
    assert "| of traces/odd | 2 |" in card.text
    assert "holds 1 problems out" in card.text
    assert "No benchmark was named" in card.text
    assert f'load_dataset("{REPOSITORY}", split="train")' in card.text
    assert str(tmp_path) not in card.text
    block = card.text.partition("```yaml\n")[2].partition("```")[0]
    assert yaml.safe_load(block)["filter"]["steps"] is not None
    again = push(small_run, nowhere, "--dry-run", str(folder))
    assert again.returncode == 1
    assert "is not empty: name a new folder" in again.stderr


def test_a_teacher_of_this_machine_is_named_with_its_licence_and_sampling(
    finished: Path, tmp_path: Path, root: Path
) -> None:
    done = push(finished, "http://127.0.0.1:9", "--dry-run", str(tmp_path / "shown"))
    assert done.returncode == 0, done.stderr
    card = DatasetCard.load(tmp_path / "shown" / "README.md")
    assert card.data.license == "apache-2.0"  # as the teacher's own card says
    assert "not said yet" not in card.text
    assert "| miniature/teacher | not named | vllm " in card.text
    assert "temperature 1, top-p 1, at most 200 tokens |" in card.text
    assert str(root) not in card.text
    options = ("--dry-run", str(tmp_path / "mit"), "--license", "mit")
    assert push(finished, "http://127.0.0.1:9", *options).returncode == 0
    assert DatasetCard.load(tmp_path / "mit" / "README.md").data.license == "mit"


@pytest.mark.parametrize("restore", [True, False])
def test_what_the_recipe_masks_is_masked_in_what_is_shared(tmp_path: Path, restore: bool) -> None:
    recipe, run = masked_run(tmp_path / "run", restore)
    (run / RECIPE).write_text(dump_recipe(recipe))
    make_stage("filter", recipe, run, ignore_progress)
    write_dataset(recipe, run, tmp_path / "shared", None, REPOSITORY)
    rows = loaded(tmp_path / "shared")
    assert len(rows) == 3
    shown = json.dumps(rows) + (tmp_path / "shared" / "README.md").read_text()
    assert "ann@x.example" not in shown
    assert "901820" not in shown
    for one in rows:
        if "[EMAIL_1]" in one["reference"]:
            assert "[EMAIL_1]" in one["answer"]
    assert "was replaced by placeholders" in shown


def test_hosts_that_the_recipe_lists_must_hold_the_hub(tmp_path: Path) -> None:
    rows = [row(number) for number in range(2)]
    _, run = make_run(tmp_path, rows, egress={"allow": ["api.example"]})
    done = push(run, "https://hub.example")
    assert done.returncode == 1
    assert "push: hub.example is not this machine" in done.stderr
    assert "egress: {allow: [hub.example]}" in done.stderr


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"token": ""}, "no token for the Hugging Face Hub is on this machine"),
        ({"token": "hf_old"}, "the hub does not know this token"),
        ({"repository": "you/sums"}, "you/sums belongs to somebody else"),
        ({"repository": "a/b/c"}, "Repo id must be"),
        ({"url": "http://127.0.0.1:9"}, "http://127.0.0.1:9 can't be reached"),
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
    ],
)
def test_a_mistake_is_one_line_and_sends_no_trace(
    server: Fake, small_run: Path, changed: dict[str, str], expected: str
) -> None:
    done = push(small_run, **{"url": server.url, **changed})
    assert done.returncode == 1
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not server.machines


def test_a_public_repository_gets_nothing_that_is_to_be_private(
    server: Fake, small_run: Path
) -> None:
    server.limits[REPOSITORY] = "public"
    done = push(small_run, server.url)
    assert "is there already and public" in done.stderr
    assert not server.machines
    assert push(small_run, server.url, "--public").returncode == 0


def test_a_run_without_kept_traces_has_nothing_to_push(tmp_path: Path) -> None:
    wrong = {"response": "<think>\nHm.\n</think>\n\nIt is \\boxed{0}."}
    _, run = make_run(tmp_path, [row(number, **wrong) for number in range(3)])
    done = push(run, "http://127.0.0.1:9")
    assert "kept none of 3 traces, so there is nothing to push" in done.stderr
    (run / "filter" / "manifest.json").unlink()
    done = push(run, "http://127.0.0.1:9")
    assert "has no filtered traces yet: `tracestill filter RECIPE` makes them" in done.stderr


def test_kept_traces_of_another_recipe_are_not_pushed(small_run: Path) -> None:
    recipe = small_run / RECIPE
    values = yaml.safe_load(recipe.read_text())
    recipe.write_text(yaml.safe_dump({**values, "filter": {"steps": ["form"]}}))
    done = push(small_run, "http://127.0.0.1:9")
    assert "are not those of its recipe as it is now" in done.stderr
