"""Build the package as it is published, and use it as a stranger would: python tools/check_package.py [FOLDER].

Builds the source distribution and the wheel from it, has twine read both, looks into the wheel, installs it into a
clean environment in FOLDER (a temporary one by default) and runs it there, outside the checkout: the command line
without JupyterLab, then with it, and a session on the embedded model. Prints sizes, packages and seconds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LARGEST_MB = 37
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
    if len(sys.argv) > 1:
        check(Path(sys.argv[1]).resolve())
        return
    with tempfile.TemporaryDirectory() as folder:
        check(Path(folder))


def check(folder: Path) -> None:
    dist = folder / "dist"
    run(sys.executable, "-m", "build", "--outdir", str(dist), str(ROOT), quiet=True)
    files = sorted(dist.iterdir())
    run(sys.executable, "-m", "twine", "check", "--strict", *map(str, files), quiet=True)
    wheel = next(path for path in files if path.suffix == ".whl")
    look_into(wheel)
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


def look_into(wheel: Path) -> None:
    """Its size and its largest members; notices are in it, tests and tools are not."""
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
