"""The program behind `make deb`: what it refuses to pack, what it says, and when it has nothing to do."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import build
import freshness
import wheels

PROJECT = Path(__file__).parents[1]


def make_wheel(folder: Path, name: str, files: dict[str, str]) -> Path:
    path = folder / f"{name}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return path


# -- wheels --------------------------------------------------------------------------------------------------


def test_every_requirement_of_the_lock_is_read_with_its_hashes() -> None:
    lock = wheels.read_lock(PROJECT / "requirements.lock")
    assert set(wheels.FROM_SOURCE) < set(lock)
    for name, text in lock.items():
        assert text.startswith(f"{name}==")
        assert "--hash=sha256:" in text


def test_a_library_for_some_pythons_only_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "some.lock"
    lock.write_text("# made by a tool\nold==1.0 ; python_version < '3.12' \\\n    --hash=sha256:00\n")
    with pytest.raises(wheels.BuildError, match=r"some\.lock: old is not for every Python"):
        wheels.read_lock(lock)


def test_the_builds_of_one_library_for_two_pythons_lie_side_by_side(tmp_path: Path) -> None:
    info = "core-1.dist-info"
    for tag in ("cp311", "cp312"):
        files = {
            "core/__init__.py": "same\n",
            f"core/native.{tag}.so": tag,
            f"{info}/WHEEL": f"Wheel-Version: 1.0\nTag: {tag}",
            f"{info}/RECORD": tag,
            f"{info}/sboms/core.json": tag,
        }
        make_wheel(tmp_path, tag, files)
    wheels.unpack([tmp_path / "cp311.whl", tmp_path / "cp312.whl"], tmp_path / "tree")
    found = {str(path.relative_to(tmp_path / "tree")): path for path in (tmp_path / "tree").rglob("*.*")}
    assert {"core/native.cp311.so", "core/native.cp312.so"} < set(found)
    assert not [name for name in found if name.endswith("RECORD")]
    wheel = tmp_path / "tree" / info / "WHEEL"
    assert wheel.read_text() == "Wheel-Version: 1.0\nTag: cp311\nTag: cp312\n"
    assert found[f"{info}/sboms/core.json"].read_text() == "cp311"


def test_two_libraries_that_bring_the_same_file_are_refused(tmp_path: Path) -> None:
    one = make_wheel(tmp_path, "one", {"shared.py": "1"})
    other = make_wheel(tmp_path, "other", {"shared.py": "2"})
    with pytest.raises(wheels.BuildError, match=r"other\.whl brings another shared\.py"):
        wheels.unpack([one, other], tmp_path / "tree")


@pytest.mark.parametrize("name", ["../outside.py", "one-1.data/scripts/program"])
def test_a_library_that_wants_files_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    wheel = make_wheel(tmp_path, "one", {name: "1"})
    with pytest.raises(wheels.BuildError, match="not in the private tree"):
        wheels.unpack([wheel], tmp_path / "tree")
    assert not (tmp_path / "outside.py").exists()


# -- the driver ----------------------------------------------------------------------------------------------


def test_missing_tools_are_named_with_the_command_that_installs_them(tmp_path: Path) -> None:
    command = [sys.executable, str(PROJECT / "packaging/build.py")]
    done = subprocess.run(
        command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert f"apt install {' '.join(sorted(build.TOOLS.values()))}" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(wheels.BuildError, match="unknown architecture: riscv64; known are amd64 arm64"):
        build.check_tools(["riscv64"])


def test_another_lock_has_another_cache(tmp_path: Path) -> None:
    names = set()
    for text in ("click==8\n", "click==9\n"):
        (tmp_path / build.LOCK).write_text(text)
        names.add(build.name_cache(tmp_path))
    assert len(names) == 2


# -- nothing to do -------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/program.py").write_text("1")
    return tmp_path


def test_another_byte_another_file_and_another_version_are_another_build(checkout: Path) -> None:
    seen = [freshness.fingerprint(checkout, "1"), freshness.fingerprint(checkout, "2")]
    (checkout / "src/program.py").write_text("2")
    seen.append(freshness.fingerprint(checkout, "1"))
    (checkout / "src/program.py").rename(checkout / "src/renamed.py")
    seen.append(freshness.fingerprint(checkout, "1"))
    assert len(set(seen)) == len(seen)


def test_what_is_not_packed_does_not_matter(checkout: Path) -> None:
    before = freshness.fingerprint(checkout, "1")
    (checkout / "src/__pycache__").mkdir()
    (checkout / "src/__pycache__/program.cpython-311.pyc").write_text("1")
    (checkout / "tests").mkdir()
    (checkout / "tests/test_program.py").write_text("1")
    assert freshness.fingerprint(checkout, "1") == before


def test_every_input_is_there() -> None:
    assert [name for name in freshness.INPUTS if not (PROJECT / name).exists()] == []


def test_a_package_is_fresh_until_it_or_its_inputs_change(tmp_path: Path) -> None:
    package, record = tmp_path / "one.deb", tmp_path / "record"
    assert not freshness.is_fresh(package, record, "inputs")
    package.write_text("built")
    assert not freshness.is_fresh(package, record, "inputs")
    freshness.remember(package, record, "inputs")
    assert freshness.is_fresh(package, record, "inputs")
    assert not freshness.is_fresh(package, record, "other inputs")
    package.write_text("built by somebody else")
    assert not freshness.is_fresh(package, record, "inputs")
