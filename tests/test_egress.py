"""Nothing leaves the machine unless the recipe says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import run_tracestill

from tracestill.recipe.egress import check_egress, egress_mistakes
from tracestill.recipe.errors import RecipeError
from tracestill.recipe.hosts import host_of, is_loopback, proxy_of
from tracestill.recipe.loading import load_recipe
from tracestill.recipe.schema import Recipe
from tracestill.run.listener import SILENT

PROXIES = [f"{name}_proxy" for name in ("http", "https", "all", "no")]


@pytest.fixture(autouse=True)
def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


HERE = [
    "http://localhost:8000/v1",
    "http://LOCALHOST:8000/v1",
    "https://localhost",
    "http://127.0.0.1:8000/v1",
    "http://127.255.0.3/v1",
    "http://[::1]:8000/v1",
    "http://[0:0:0:0:0:0:0:1]/v1",
    "http://[::ffff:127.0.0.1]:8000/v1",
    "HTTP://127.0.0.1/v1",
]
ELSEWHERE = {
    "https://api.deepseek.com": "api.deepseek.com",
    "https://API.DeepSeek.com:443/v1": "api.deepseek.com",
    "http://localhost.evil.com/v1": "localhost.evil.com",
    "http://evil-localhost/v1": "evil-localhost",
    "http://x.localhost/v1": "x.localhost",
    "http://127.0.0.1.evil.com/v1": "127.0.0.1.evil.com",
    "http://0.0.0.0:8000/v1": "0.0.0.0",
    "http://10.0.0.7:8000/v1": "10.0.0.7",
    "http://192.168.1.2:8000/v1": "192.168.1.2",
    "http://172.16.0.9/v1": "172.16.0.9",
    "http://169.254.169.254/v1": "169.254.169.254",
    "http://[fe80::1]/v1": "fe80::1",
    "http://[::]/v1": "::",
    "http://[::ffff:10.0.0.7]/v1": "10.0.0.7",
    "http://[2001:DB8:0:0::1]:8000/v1": "2001:db8::1",
    "http://gpu-node_3:8000/v1": "gpu-node_3",
    "https://xn--bcher-kva.example/v1": "xn--bcher-kva.example",
}
UNREADABLE = {
    "http://bob:hunter2@localhost/v1": "no user or password",
    "http://localhost:80@evil.com/v1": "no user or password",
    "http://localhost\\@evil.com/v1": "no user or password",
    "http://evil.com#@localhost/v1": "no user or password",
    "https://api.example.com/v1?key=hunter2": "without ? and #",
    "https://api.example.com/#x": "without ? and #",
    "localhost:8000/v1": "begins with http:// or https://",
    "ftp://localhost/v1": "begins with http:// or https://",
    "file:///etc/passwd": "begins with http:// or https://",
    "": "begins with http:// or https://",
    "http:///v1": "a plain URL",
    "http://local host/v1": "a plain URL",
    "http://localhost\t.evil.com/v1": "a plain URL",
    "http://localhost/v1\n": "a plain URL",
    "http://localhost\\.evil.com/v1": "a plain URL",
    "http://localhost:99999/v1": "a plain URL",
    "http://[::1%25eth0]/v1": "a plain URL",
    "http://[::1/v1": "a plain URL",
    "http://bücher.example/v1": "xn--",
    "http://ｌocalhost/v1": "xn--",
    "http://localhost./v1": "without the dot",
    "http://api.example.com./v1": "without the dot",
    "http://a..b/v1": "is no host",
    "http://2130706433/v1": "four numbers",
    "http://0x7f000001/v1": "four numbers",
    "http://0x7f.1/v1": "four numbers",
    "http://0177.0.0.1/v1": "four numbers",
    "http://127.1/v1": "four numbers",
    "http://[dead]/v1": "a plain URL",
    "http://[dead:beef]/v1": "is no host",
}


@pytest.mark.parametrize("url", HERE)
def test_this_machine_is_known(url: str) -> None:
    assert is_loopback(host_of(url))


@pytest.mark.parametrize(("url", "host"), ELSEWHERE.items())
def test_another_machine_is_known(url: str, host: str) -> None:
    assert host_of(url) == host
    assert not is_loopback(host)


@pytest.mark.parametrize(("url", "message"), UNREADABLE.items())
def test_a_url_that_can_be_read_in_two_ways_is_refused(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")) as caught:
        host_of(url)
    assert "hunter2" not in str(caught.value)


RECIPE = """\
name: small
problems:
  train: [{{source: reasoning_gym, family: chain_sum, size: 3}}]
  heldout: [{{source: reasoning_gym, family: chain_sum, size: 2, seed: 1}}]
generate: {{engine: openai, model: r1, base_urls: [{urls}]}}
{more}
finetune: {{student: some/student, template: t.jinja, think: prefilled, stop: "<|end|>"}}
"""
JUDGE = (
    "filter: {judge: {engine: openai, model: j, base_urls: ['http://judge.example/v1'],"
    " template: t.jinja}}"
)


def write(folder: Path, *urls: str, more: str = "") -> Path:
    (folder / "t.jinja").write_text("{#- a template -#}")
    path = folder / "r.yaml"
    path.write_text(RECIPE.format(urls=", ".join(f"'{url}'" for url in urls), more=more))
    return path


def recipe(folder: Path, *urls: str, more: str = "") -> Recipe:
    return load_recipe(write(folder, *urls, more=more))


def test_endpoints_on_this_machine_need_nothing(tmp_path: Path) -> None:
    check_egress(recipe(tmp_path, *HERE))


def test_every_other_host_is_named_with_the_key_to_add(tmp_path: Path) -> None:
    urls = ("http://localhost/v1", "https://a.example/v1", "http://[2001:db8::1]/v1")
    one, two, three = egress_mistakes(recipe(tmp_path, *urls, more=JUDGE))
    assert one.startswith("generate.base_urls.1: a.example is not this machine")
    assert one.endswith("`egress: {allow: [a.example]}`")
    assert two.endswith('`egress: {allow: ["2001:db8::1"]}`')
    assert three.startswith("filter.judge.base_urls.0: judge.example")
    with pytest.raises(ValueError, match=r"a\.example"):
        check_egress(recipe(tmp_path, *urls))


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://api.deepseek.com/v1", "API.deepseek.com"),
        ("http://10.0.0.7:8000/v1", "10.0.0.7"),
        ("http://[2001:db8::1]/v1", "'2001:DB8:0::1'"),
        ("http://[2001:db8::1]/v1", "'[2001:db8::1]'"),
        ("http://0.0.0.0/v1", "0.0.0.0"),
    ],
)
def test_an_allowed_host_is_sent_to(tmp_path: Path, url: str, allowed: str) -> None:
    check_egress(recipe(tmp_path, url, more=f"egress: {{allow: [{allowed}]}}"))


@pytest.mark.parametrize(
    "allowed", ["deepseek.com", "com", "api", "xapi.deepseek.com", "api.deepseek.com.evil.com"]
)
def test_only_the_whole_name_allows(tmp_path: Path, allowed: str) -> None:
    made = recipe(tmp_path, "https://api.deepseek.com", more=f"egress: {{allow: [{allowed}]}}")
    assert len(egress_mistakes(made)) == 1


@pytest.mark.parametrize(
    ("allowed", "message"),
    [
        ("'*.deepseek.com'", "is no host"),
        ("'*'", "is no host"),
        ("https://api.deepseek.com", "is no host"),
        ("'api.deepseek.com:443'", "is no host"),
        ("''", "is no host"),
        ("10.0.0.0/8", "is no host"),
        ("'2130706433'", "four numbers"),
        ("api.deepseek.com.", "without the dot"),
    ],
)
def test_a_mistake_in_allow_is_named(tmp_path: Path, allowed: str, message: str) -> None:
    with pytest.raises(RecipeError, match=rf"line 6: egress\.allow\.0: .*{message}"):
        recipe(tmp_path, "http://localhost/v1", more=f"egress: {{allow: [{allowed}]}}")


@pytest.mark.parametrize(
    ("environment", "url", "expected"),
    [
        ({}, "https://api.example/v1", None),
        ({"HTTPS_PROXY": "http://p.example:3128"}, "https://api.example/v1", "p.example"),
        ({"https_proxy": "p.example:3128"}, "https://api.example/v1", "p.example"),
        ({"HTTPS_PROXY": "http://u:hunter2@p.example"}, "https://api.example/v1", "p.example"),
        ({"ALL_PROXY": "socks5://p.example"}, "https://api.example/v1", "p.example"),
        ({"http_proxy": "http://p.example"}, "https://api.example/v1", None),
        ({"http_proxy": "http://p.example"}, "http://localhost:8000/v1", None),
        ({"http_proxy": "http://p.example"}, "http://127.0.0.1:8000/v1", None),
        ({"http_proxy": "http://p.example"}, "http://[::1]:8000/v1", None),
        ({"ALL_PROXY": "http://p.example", "NO_PROXY": "api.example"}, "https://api.example", None),
        ({"ALL_PROXY": "http://p.example", "NO_PROXY": ".example"}, "https://api.example", None),
        ({"ALL_PROXY": "http://p.example", "NO_PROXY": "*"}, "https://api.example", None),
        ({"HTTPS_PROXY": "http://127.0.0.1:3128"}, "https://api.example/v1", "127.0.0.1"),
    ],
)
def test_a_proxy_is_a_host_that_is_sent_to(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    url: str,
    expected: str | None,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    proxy = proxy_of(url)
    assert (proxy is None) == (expected is None)
    assert expected is None or expected in str(proxy)
    made = recipe(tmp_path, url, more="egress: {allow: [api.example]}")
    mistakes = egress_mistakes(made)
    assert len(mistakes) == (expected == "p.example")
    for line in mistakes:
        assert "the proxy that the environment sets, p.example is not this machine" in line
        assert "hunter2" not in line
    both = recipe(tmp_path, url, more="egress: {allow: [api.example, p.example]}")
    assert egress_mistakes(both) == []


@pytest.mark.parametrize("sandbox", ["piston", "sandboxfusion"])
@pytest.mark.parametrize(
    ("scheme", "environment", "proxy"),
    [
        ("http", {"HTTP_PROXY": "http://elsewhere:3128"}, "elsewhere"),
        ("http", {"HTTPS_PROXY": "http://elsewhere:3128"}, None),
        ("https", {"HTTPS_PROXY": "http://elsewhere:3128"}, "elsewhere"),
        ("https", {"HTTP_PROXY": "http://elsewhere:3128"}, None),
        ("http", {"ALL_PROXY": "http://elsewhere:3128"}, "elsewhere"),
        ("http", {"ALL_PROXY": "http://elsewhere:3128", "NO_PROXY": "10.0.0.5"}, None),
    ],
)
def test_a_sandbox_is_reached_past_no_proxy_that_is_not_allowed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sandbox: str,
    scheme: str,
    environment: dict[str, str],
    proxy: str | None,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    more = (
        f"filter: {{sandbox: '{sandbox}={scheme}://10.0.0.5:2000'}}\negress: {{allow: [10.0.0.5]}}"
    )
    mistakes = egress_mistakes(recipe(tmp_path, "http://localhost/v1", more=more))
    assert [f"the environment sets, {proxy} is not this machine" in line for line in mistakes] == (
        [True] if proxy else []
    )


def test_the_machines_of_e2b_are_checked_for_proxies_as_its_api_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = "filter: {sandbox: e2b}\negress: {allow: [api.e2b.app]}"
    made = recipe(tmp_path, "http://localhost/v1", more=more)
    assert egress_mistakes(made) == []
    monkeypatch.setenv("HTTPS_PROXY", "http://elsewhere:3128")
    monkeypatch.setenv("NO_PROXY", "api.e2b.app")  # and not what is below e2b.app
    (line,) = egress_mistakes(made)
    assert "the environment sets, elsewhere is not this machine" in line


@pytest.mark.parametrize(
    ("tracker", "environment", "host"),
    [
        ("tensorboard", {}, None),
        ("wandb", {}, "api.wandb.ai"),
        ("wandb", {"WANDB_MODE": "online"}, "api.wandb.ai"),
        ("wandb", {"WANDB_MODE": "offline"}, None),
        ("wandb", {"WANDB_BASE_URL": "https://wandb.example"}, "wandb.example"),
        ("wandb", {"WANDB_BASE_URL": "http://localhost:8080"}, None),
        ("trackio", {}, None),
        ("trackio", {"TRACKIO_SPACE_ID": "me/space"}, "huggingface.co"),
        ("trackio", {"TRACKIO_SERVER_URL": "http://10.0.0.7:7860/"}, "10.0.0.7"),
    ],
)
def test_a_tracker_that_sends_metrics_away_must_be_allowed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tracker: str,
    environment: dict[str, str],
    host: str | None,
) -> None:
    for name in ("WANDB_MODE", "WANDB_BASE_URL", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def made(more: str) -> Recipe:
        path = write(tmp_path, "http://localhost/v1", more=more)
        path.write_text(path.read_text().replace("stop:", f"report_to: [{tracker}], stop:"))
        return load_recipe(path)

    mistakes = egress_mistakes(made(""))
    if host is None:
        assert mistakes == []
        return
    (line,) = mistakes
    assert line.startswith(f"finetune.report_to: {host} is not this machine")
    assert egress_mistakes(made(f"egress: {{allow: [{host}]}}")) == []


def test_a_missing_tracker_is_told_before_the_run_begins(tmp_path: Path) -> None:
    from tracestill.run.pipeline import run_recipe

    made = recipe(tmp_path, "http://localhost/v1")
    section = made.finetune.model_copy(update={"report_to": ["no_such_tracker"]})
    with pytest.raises(ValueError, match="no_such_tracker can't be imported"):
        run_recipe(made.model_copy(update={"finetune": section}), tmp_path / "run", SILENT)
    assert not (tmp_path / "run").exists()


def test_the_command_refuses_before_it_writes_anything(tmp_path: Path) -> None:
    path = write(tmp_path, "https://api.example/v1", "https://bob:hunter2@api.example/v1")
    for command in (["validate", path], ["run", path, "--out", tmp_path / "run"]):
        done = run_tracestill(*command)
        assert done.returncode == 1
        first, second = done.stderr.splitlines()
        assert "generate.base_urls.0: api.example is not this machine" in first
        assert "generate.base_urls.1: a URL holds no user or password" in second
        assert "hunter2" not in done.stderr + done.stdout
    assert not (tmp_path / "run").exists()


def test_a_key_in_the_place_of_its_variable_is_not_shown(tmp_path: Path) -> None:
    path = write(tmp_path, "http://localhost/v1")
    path.write_text(path.read_text().replace("model: r1", "model: r1, api_key_env: sk-hunter2"))
    with pytest.raises(
        RecipeError, match=r"line 5: generate\.api_key_env: write the name"
    ) as caught:
        load_recipe(path)
    assert "hunter2" not in str(caught.value)


def test_no_library_reports_its_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that do, trl's trainer and vLLM among them, ask one variable first."""
    from tracestill.run.pipeline import run_recipe

    seen: dict[str, str] = {}

    def started(*_: object, env: dict[str, str], **__: object) -> None:
        seen.update(env)
        raise OSError("not started")

    monkeypatch.delenv("DO_NOT_TRACK", raising=False)
    monkeypatch.setattr("tracestill.run.provenance.provenance", lambda seed: {})
    made = recipe(tmp_path, "http://localhost/v1")
    with monkeypatch.context() as patch:
        patch.setattr("subprocess.Popen", started)
        with pytest.raises(OSError, match="not started"):
            run_recipe(made, tmp_path / "run", SILENT)
    code = "from huggingface_hub.constants import HF_HUB_DISABLE_TELEMETRY as off; exit(not off)"
    assert subprocess.run([sys.executable, "-c", code], env=seen).returncode == 0


def test_a_run_from_python_is_refused_as_well(tmp_path: Path) -> None:
    from tracestill.run.pipeline import run_recipe

    with pytest.raises(ValueError, match=r"api\.example is not this machine"):
        run_recipe(recipe(tmp_path, "https://api.example"), tmp_path / "run", SILENT)
    assert not (tmp_path / "run").exists()
