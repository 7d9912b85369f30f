"""Who may call: token, foreign pages, scripts; and what the environment may ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings, SettingsError

TOKEN = "t0ken-of-the.test"


def test_with_a_token_every_call_needs_it(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    api = serve(token=TOKEN)
    assert api.http.get("/v1/health").status_code == 200
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Cookie": "trimtab_token=wrong"},
        {"Authorization": b"Bearer t\xf6k\xc3\xb6n \xff"},
        {"Cookie": b"trimtab_token=\xc3\x28\xff"},
    ):
        for path in (
            "/v1/studies",
            "/v1/openapi.json",
            "/v1/ready",
            "/v1/nothing",
            f"/v1/studies?token={TOKEN}",
        ):
            answer = api.http.get(path, headers=headers)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.headers["content-type"] == "application/problem+json"
    for headers in ({"Authorization": f"bearer {TOKEN}"}, {"Cookie": f"a=b; trimtab_token={TOKEN}"}):
        assert api.http.get("/v1/studies", headers=headers).status_code == 200
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(Settings(home=Path(), database_url="sqlite://", token=TOKEN))


def test_a_foreign_page_cannot_drive_a_server_on_loopback(serve: Any) -> None:
    api = serve()
    document = api.document()
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        answer = api.http.post("/v1/studies", json=document, headers={"Origin": origin})
        assert answer.status_code == 403, origin
    own = str(api.http.base_url).rstrip("/")
    assert api.http.post("/v1/studies", json=document, headers={"Origin": own}).status_code == 201
    for host in ("evil.example", "evil.example:8787", "localhost.evil.example", ""):
        assert api.http.get("/v1/studies", headers={"Host": host}).status_code == 403, host
    for host in ("localhost:8787", "127.0.0.1", "[::1]:8787"):
        assert api.http.get("/v1/studies", headers={"Host": host}).status_code == 200, host


def test_scripts_are_a_capability_on_a_server_that_others_reach(serve: Any, tmp_path: Path) -> None:
    api = serve(host="0.0.0.0", token=TOKEN, headers={"Authorization": f"Bearer {TOKEN}"})
    script = api.document(trainer={"script": str(tmp_path / "train.py")})
    answer = api.http.post("/v1/studies", json=script)
    assert answer.status_code == 403
    assert answer.json()["errors"][0]["pointer"] == "/trainer/script"
    assert "TRIMTAB_ALLOW_SCRIPTS" in answer.json()["detail"]
    assert api.http.post("/v1/studies", json=api.document()).status_code == 201


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_only_scripts_in_allowed_folders_run(serve: Any, tmp_path: Path, host: str) -> None:
    allowed, outside = tmp_path / "allowed", tmp_path / "outside"
    for folder in (allowed, outside):
        folder.mkdir()
        (folder / "train.py").touch()
    (allowed / "link.py").symlink_to(outside / "train.py")
    (allowed / "bin").symlink_to("/bin")
    (allowed / "package").symlink_to(outside)
    (tmp_path / "way").symlink_to(allowed)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    api = serve(headers=headers, host=host, token=TOKEN, allow_scripts=(tmp_path / "way",))

    def refused(**trainer: Any) -> list[str]:
        answer = api.http.post("/v1/studies", json=api.document(trainer=trainer))
        assert answer.status_code in (201, 403), answer.text
        return [error["pointer"].rsplit("/", 1)[1] for error in answer.json().get("errors", [])]

    inside = str(allowed / "train.py")
    assert refused(script=inside) == []
    assert refused(script=inside, folder=str(allowed), python=str(allowed / "python")) == []
    assert refused(module="train", folder=str(allowed)) == []
    for script in (outside / "train.py", allowed / "link.py", allowed / ".." / "outside" / "train.py"):
        assert refused(script=str(script)) == ["script"]
    assert refused(script="train.py") == ["script"]
    for python in ("/bin/sh", "sh", str(allowed / "bin" / "sh"), f"{allowed}/../../bin/sh"):
        assert refused(script=inside, python=python, args=["-c", "id"]) == ["python"]
    assert refused(script=inside, folder="/") == ["folder"]
    for module in ("timeit", "package.train", "..outside.train", f"{outside}/train", "../outside/train"):
        assert refused(module=module, folder=str(allowed)) == ["module"], module
    assert refused(module="train", folder=str(allowed / "package")) == ["folder", "module"]
    assert refused(name="synthetic") == []


def test_the_environment_is_read_with_care(tmp_path: Path) -> None:
    settings = Settings.from_environment({"TRIMTAB_HOME": str(tmp_path), "TRIMTAB_TOKEN": ""})
    assert (settings.host, settings.port, settings.token) == ("127.0.0.1", 8787, None)
    assert settings.database_url == f"sqlite:///{tmp_path}/trimtab.db"
    assert settings.allow_scripts is None
    for environ, name in (
        ({"TRIMTAB_HOST": "0.0.0.0"}, "TRIMTAB_TOKEN"),
        ({"TRIMTAB_HOST": "lab.example"}, "TRIMTAB_TOKEN"),
        ({"TRIMTAB_PORT": "http"}, "TRIMTAB_PORT"),
        ({"TRIMTAB_PORT": "65536"}, "TRIMTAB_PORT"),
        ({"TRIMTAB_TOKEN": "two words"}, "TRIMTAB_TOKEN"),
    ):
        with pytest.raises(SettingsError, match=name):
            Settings.from_environment(environ)
    assert not Settings.from_environment({"TRIMTAB_HOST": "0.0.0.0", "TRIMTAB_TOKEN": "x"}).loopback
