"""Build the package as it is published, and use it as a stranger would: python tools/check_package.py [FOLDER].

The source distribution is built, and the wheel from it; twine reads both, and the wheel's members are looked at. Then
the wheel is installed into a clean environment in FOLDER (a temporary one by default) and runs there, outside the
checkout: the command line without JupyterLab, then with it, and a session on the embedded model. Sizes, packages and
seconds are printed. --build-only ends before anything is installed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LARGEST_MB = 31
"""What a wheel may weigh."""

SMOKE = """
import warnings
import clipviz
model = clipviz.load("demo")
assert model.sum_check < 1e-5, model.sum_check
session = clipviz.Session(model)
session.select(text="a flamingo", layer=3, head=7)
assert len(session.heads.textspan(5, 0).texts) > 0
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    board = clipviz.Dashboard(session)
    session.wait()
    board.save_html("view.html")
session.close()
print("the board was saved,", __import__("os").path.getsize("view.html") // 1000, "kB")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="where to build and install, kept afterwards")
    parser.add_argument("--build-only", action="store_true", help="build and read, and install nothing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if options.folder is None else options.folder.resolve()
        wheel = built(folder / "dist")
        if not options.build_only:
            use(wheel, folder)


def built(dist: Path) -> Path:
    """Build both distributions, have twine read them, and return the wheel."""
    run(sys.executable, "-m", "build", "--outdir", str(dist), str(ROOT), quiet=True)
    files = sorted(dist.iterdir())
    run(sys.executable, "-m", "twine", "check", "--strict", *map(str, files), quiet=True)
    source = next(path for path in files if path.name.endswith(".tar.gz"))
    look_into_source(source)
    wheel = next(path for path in files if path.suffix == ".whl")
    look_into(wheel)
    return wheel


def use(wheel: Path, folder: Path) -> None:
    """Install the wheel into a clean environment and use it from another folder."""
    python = environment(folder / "environment")
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()

    install(python, str(wheel))
    told = run(str(python.with_name("clipviz")), "doctor", cwd=elsewhere, read=True)
    assert "clipviz[lab]" in told, told
    asked = subprocess.run(
        [python.with_name("clipviz"), "demo"], cwd=elsewhere, capture_output=True, text=True, check=False
    )
    assert (asked.returncode, "clipviz[lab]" in asked.stderr) == (2, True), asked.stderr
    print(f"core: {packages(python)} packages, {megabytes(python):,.0f} MB")

    install(python, f"{wheel}[lab]")
    print(f"with [lab]: {packages(python)} packages, {megabytes(python):,.0f} MB")
    started = time.monotonic()
    run(str(python), "-c", SMOKE, cwd=elsewhere)
    run(str(python.with_name("clipviz")), "demo", "--dry-run", cwd=elsewhere)
    print(f"used from another folder in {time.monotonic() - started:.0f} s")


def look_into_source(source: Path) -> None:
    """Check that the source distribution has every test of the checkout."""
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tests = run("git", "-C", str(ROOT), "ls-files", "tests", read=True).split()
    missing = sorted(set(tests) - names)
    assert not missing, f"expected every test in the source distribution, {missing[:5]} are missing"


def look_into(wheel: Path) -> None:
    """Print the wheel's size and largest members, and check that notices are in it and that tests and tools are not."""
    with zipfile.ZipFile(wheel) as archive:
        members = archive.infolist()
    size = wheel.stat().st_size / 1e6
    print(f"{wheel.name}: {size:.1f} MB")
    for member in sorted(members, key=lambda one: -one.compress_size)[:5]:
        print(f"  {member.compress_size / 1e6:5.1f} MB  {member.filename}")
    names = [member.filename for member in members]
    for notice in ("LICENSE", "THIRD_PARTY_NOTICES.md"):
        assert any(name.endswith(f"licenses/{notice}") for name in names), notice
    strays = [name for name in names if name.split("/")[0] in ("tests", "tools", "benchmarks", "docs")]
    assert not strays, strays
    assert size <= LARGEST_MB, f"expected a wheel of at most {LARGEST_MB} MB, got {size:.1f}"


def environment(place: Path) -> Path:
    run(sys.executable, "-m", "venv", str(place))
    return place / "bin" / "python"


def install(python: Path, what: str) -> None:
    """By uv where it is at hand, as CI is set up to use it; else by pip."""
    uv = Path(sys.executable).with_name("uv")
    if uv.exists():
        run(str(uv), "pip", "install", "--quiet", "--system-certs", "--python", str(python), what)
    else:
        run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", what)


def packages(python: Path) -> int:
    code = "import importlib.metadata as m; print(len({d.metadata['Name'] for d in m.distributions()}))"
    return int(run(str(python), "-c", code, read=True))


def megabytes(python: Path) -> float:
    site = next(python.parent.parent.glob("lib/python*/site-packages"))
    return sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) / 1e6


def run(*command: str, cwd: Path | None = None, read: bool = False, quiet: bool = False) -> str:
    """Return a command that has to succeed; what it printed, if asked for, or only where it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    kept = subprocess.PIPE if read or quiet else None
    done = subprocess.run(
        command, cwd=cwd, env=environment, stdout=kept, stderr=subprocess.STDOUT if quiet else None, text=True
    )
    if done.returncode:
        print(done.stdout or "", file=sys.stderr)
        raise SystemExit(f"{' '.join(map(str, command))} failed with exit code {done.returncode}")
    return done.stdout or ""


if __name__ == "__main__":
    main()
