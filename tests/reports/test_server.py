"""Server of a page while a run goes on."""

from http.client import HTTPConnection
from threading import Thread

import pytest
from reported import metrics, reported_run

from metarule.config.toml import ConfigError
from metarule.reports.server import page_server
from metarule.runs.metrics import append_metrics


@pytest.fixture
def running(tmp_path):
    path = reported_run(tmp_path / "run", finished=False)
    with page_server(path) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield path, server.server_port
        server.shutdown()
        thread.join()


def ask(port, method="GET", path="/", **headers):
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    return answer.status, answer.getheader("ETag"), answer.read().decode()


def test_the_page_follows_the_run(running):
    path, port = running
    status, tag, text = ask(port)
    assert status == 200
    assert "5 of 12 steps" in text
    assert f"const refresh = 3, shown = {tag};" in text
    assert "connect-src &#39;self&#39;" in text
    assert ask(port, If_None_Match=tag) == (304, tag, "")
    assert ask(port, "HEAD") == (200, tag, "")
    append_metrics(path, metrics()[5:8])
    status, later, text = ask(port, If_None_Match=tag)
    assert (status, later != tag) == (200, True)
    assert "8 of 12 steps" in text
    (path / "resolved.toml").write_text("[")
    assert "cannot be read now" in ask(port)[2]


def test_other_hosts_and_paths_are_refused(running):
    _, port = running
    assert [ask(port, Host=host)[0] for host in (f"localhost:{port}", f"127.0.0.1:{port}")] == [200, 200]
    assert {ask(port, Host=host)[0] for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", "")} == {403}
    assert ask(port, path="/../run/theta.npz")[0] == 404
    assert ask(port, "POST")[0] == 501


def test_a_directory_without_a_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="it holds no run and no sweep"):
        page_server(tmp_path)
