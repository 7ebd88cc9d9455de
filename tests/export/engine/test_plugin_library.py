"""The plugin library is found where it is promised, built into the cache whole or not at all, and shipped as source."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sparse_detr_deploy import plugin_library
from sparse_detr_deploy.errors import BackendError, InputError, OutputError
from sparse_detr_deploy.export import cli
from sparse_detr_deploy.export.engine import plugin_build
from sparse_detr_deploy.export.engine.fatbin import architectures
from sparse_detr_deploy.export.engine.plugin_build import build_plugins, find_nvcc, parse_architectures
from sparse_detr_deploy.plugin_library import (
    BESIDE,
    CACHED,
    LIBRARY_NAME,
    NAMED,
    cache_folder,
    find_plugin_library,
    locate_plugin_library,
    plugin_sources,
    source_key,
)
from tests.plugins.packages import tensorrt_headers

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SPARSE_DETR_PLUGINS", raising=False)


def put(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LIBRARY_NAME).write_bytes(b"a library")
    return folder / LIBRARY_NAME


def program(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, arguments)


def test_order_of_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cache, then beside the package, then the environment variable: each goes before the one above."""
    assert find_plugin_library() is None
    cached = put(cache_folder() / f"{source_key()}-89")
    assert locate_plugin_library() == (cached, CACHED)
    beside = put(tmp_path / "package")
    monkeypatch.setattr(plugin_library, "__file__", str(tmp_path / "package" / "plugin_library.py"))
    assert locate_plugin_library() == (beside, BESIDE)
    named = put(tmp_path / "named")
    monkeypatch.setenv("SPARSE_DETR_PLUGINS", str(named))
    assert locate_plugin_library() == (named, NAMED)


def test_the_variable_names_a_file_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's loader does not look in the working folder for a name without a slash."""
    named = put(tmp_path / "here")
    monkeypatch.chdir(named.parent)
    monkeypatch.setenv("SPARSE_DETR_PLUGINS", named.name)
    assert find_plugin_library() == named


def test_the_variable_names_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSE_DETR_PLUGINS", str(tmp_path / "no.so"))
    with pytest.raises(BackendError, match="plugins build"):
        find_plugin_library()


def test_libraries_of_other_sources_are_left_alone() -> None:
    put(cache_folder() / "0.0.1-0123456789ab-all")
    assert find_plugin_library() is None
    older, newer = (put(cache_folder() / f"{source_key()}-{name}") for name in ("120", "89"))
    os.utime(older, (1, 1))
    assert find_plugin_library() == newer


def test_sources_change_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = plugin_sources()
    assert sources == ROOT / "plugins"
    copy = tmp_path / "copy"
    shutil.copytree(sources, copy)
    monkeypatch.setattr(plugin_library, "plugin_sources", lambda: copy)
    key = source_key()
    (copy / "tests" / "check.h").write_text("")
    assert source_key() == key
    (copy / "kernels" / "types.h").write_text("")
    assert source_key() != key


def test_architectures_that_can_be_given() -> None:
    assert parse_architectures(None) == ()
    assert parse_architectures("120, sm89,sm_89") == ("89", "120")
    for text in ("", "89;120", "70", "ada", "8.9"):
        with pytest.raises(InputError, match="compute capabilities"):
            parse_architectures(text)


def test_a_library_that_is_there_is_not_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """And becomes the one that is found."""
    monkeypatch.setattr(plugin_build, "_tools", lambda: pytest.fail("a build was begun"))
    first, second = (put(cache_folder() / f"{source_key()}-{name}") for name in ("all", "89"))
    os.utime(first, (1, 1))
    assert build_plugins() == first == find_plugin_library()
    assert build_plugins(("89",)) == second == find_plugin_library()


@pytest.mark.parametrize(
    ("chosen", "built_for"), [((), None), (("89",), "89"), (("80", "89", "120"), "80-real;89-real;120")]
)
def test_how_cmake_is_asked(chosen: tuple[str, ...], built_for: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Machine code for each, PTX for the newest; without, the project's own choice."""
    asked: list[list[str]] = []

    def run(command: list[str], failure: str) -> None:
        asked.append(command)
        if "--build" in command:
            put(Path(command[2]))

    monkeypatch.setattr(plugin_build, "_tools", lambda: "/opt/nvcc")
    monkeypatch.setattr(plugin_build, "_run", run)
    library = build_plugins(chosen)
    assert library == cache_folder() / f"{source_key()}-{'+'.join(chosen) or 'all'}" / LIBRARY_NAME
    configure, compile_ = asked
    given = [option for option in configure if option.startswith("-DCMAKE_CUDA_ARCHITECTURES=")]
    assert given == ([] if built_for is None else [f"-DCMAKE_CUDA_ARCHITECTURES={built_for}"])
    assert {"-DCMAKE_CUDA_COMPILER=/opt/nvcc", "-DSPARSE_DETR_TESTS=OFF"} < set(configure)
    assert configure[configure.index("-S") + 1] == str(ROOT / "plugins")
    assert compile_[2] == configure[configure.index("-B") + 1]
    before = len(asked)
    assert build_plugins(chosen) == library
    assert len(asked) == before
    build_plugins(chosen, overwrite=True)
    assert len(asked) == 2 * before


def test_missing_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CUDA_HOME", "/no/such/folder")
    result = program("plugins", "build")
    assert result.exit_code == 7
    assert "needs nvcc (CUDA 12 or newer) and cmake" in result.stderr


def test_a_build_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler's words are in the message, and the cache is as it was."""

    def failing(command: list[str], failure: str) -> None:
        raise BackendError(f"{failure}:\nerror: expected ';'")

    monkeypatch.setattr(plugin_build, "_tools", lambda: "nvcc")
    monkeypatch.setattr(plugin_build, "_run", failing)
    with pytest.raises(BackendError, match="expected ';'"):
        build_plugins()
    assert list(cache_folder().iterdir()) == []


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    monkeypatch.setattr(plugin_build, "_tools", lambda: "nvcc")
    with pytest.raises(OutputError, match="XDG_CACHE_HOME"):
        build_plugins()


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a number that no user has."""

    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", home)
    assert find_plugin_library() is None
    with pytest.raises(OutputError, match=r"home directory.*XDG_CACHE_HOME"):
        build_plugins()


def test_path_without_a_library() -> None:
    result = program("plugins", "path")
    assert result.exit_code == 7
    assert "plugins build" in result.stderr
    cached = put(cache_folder() / f"{source_key()}-89")
    assert program("plugins", "path").stdout == f"{cached}\n"


def test_a_file_without_cuda_code(tmp_path: Path) -> None:
    (tmp_path / "x.so").write_bytes(b"\x50\xed\x55\xba\x01\x00" * 3)
    assert architectures(tmp_path / "x.so") == ()


@pytest.mark.network
@pytest.mark.slow
def test_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For real: two architectures, read back from the library itself; the cache holds nothing else."""
    if find_nvcc() is None or shutil.which("cmake") is None:
        pytest.skip("building the plugins needs nvcc and cmake")
    headers = tensorrt_headers_from(monkeypatch)
    if headers is not None:
        monkeypatch.setenv("TENSORRT_ROOT", str(headers))
    result = program("plugins", "build", "--architectures", "89,120")
    assert result.exit_code == 0, result.output
    library = Path(result.stdout.strip())
    assert library == find_plugin_library() == cache_folder() / f"{source_key()}-89+120" / LIBRARY_NAME
    assert architectures(library) == ("sm89", "sm120", "ptx120")
    assert sorted(path.name for path in cache_folder().rglob("*")) == sorted([library.parent.name, LIBRARY_NAME])


def tensorrt_headers_from(monkeypatch: pytest.MonkeyPatch) -> Path | None:
    """A folder for TENSORRT_ROOT, whose ``include`` has the headers; kept in the usual cache."""
    with monkeypatch.context() as usual:
        usual.delenv("XDG_CACHE_HOME")
        headers = tensorrt_headers()
    if headers is None:
        return None
    root = Path(os.environ["XDG_CACHE_HOME"]).parent / "tensorrt"
    root.mkdir()
    (root / "include").symlink_to(headers)
    return root


@pytest.mark.network
@pytest.mark.slow
def test_the_wheel_ships_the_sources(tmp_path: Path) -> None:
    """An installed package can build the library: it finds the same sources, with the same key, in itself."""
    copy = tmp_path / "checkout"
    ignored = shutil.ignore_patterns(
        ".venv", ".git", "build", "*.egg-info", ".*_cache", "__pycache__", "results", "*.so"
    )
    shutil.copytree(ROOT, copy, ignore=ignored)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(copy)]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    code = (
        "import sparse_detr_deploy.plugin_library as library, sparse_detr_deploy.export.engine.commands;"
        "print(library.plugin_sources()); print(library.source_key())"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    folder, key = finished.stdout.split()
    assert Path(folder) == installed / "sparse_detr_deploy" / "plugins"
    assert key == source_key()
