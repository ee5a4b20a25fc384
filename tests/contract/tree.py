"""The list of files in docs/architecture.md, made from the files themselves by `python -m tests.contract.tree`.

A line a file: its name and the first sentence of its docstring or first comment. A folder of options is one line.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- tree: python -m tests.contract.tree -->", "<!-- end of the tree -->"
PAGE = ROOT / "docs" / "architecture.md"
#: What is listed file by file, in this order; of tests and docs the folders and files of the first level.
FIRST = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "LICENSE",
    "Makefile",
    "pyproject.toml",
    "MANIFEST.in",
    "constraints.txt",
    "train.py",
    "infer.py",
    "serve.py",
    "Dockerfile",
)
PACKAGES = ("muomni", "datamodules", "callbacks", "benchmarks")
PLAIN = {
    "README.md": "this page",
    "CONTRIBUTING.md": "how to change something",
    "CHANGELOG.md": "what users notice of each version",
    "CITATION.cff": "how to cite it",
    "LICENSE": "MIT",
    "Makefile": "`make` lists the targets",
    "pyproject.toml": "package, dependencies, tools",
    "MANIFEST.in": "what the source archive has besides the packages",
    "constraints.txt": "exact versions that were tested",
    "benchmarks/results": "what the benchmarks printed, with date and hardware, as JSON",
    "muomni/serving/static": "the page: HTML, CSS, JavaScript modules, pictures of the gallery",
    "tests/unit": "mirrors the source",
    "tests/device": "what a GPU would wait for or refuse, found by a CPU that pretends to be one",
    "tests/reference": "the reference numbers of the published micro-omni, row by row",
    "tests/contract": "imports, configuration, documents: what must stay true",
    "tests/integration": "all stages by one command, resume, inference",
    "Dockerfile": "the server in a container: CPU, or CUDA by a build argument",
    ".ci/run": "what CI runs",
    ".github/workflows/ci.yml": "the same for outsiders",
    ".pre-commit-config.yaml": "local hooks: ruff and mypy",
    ".gitignore": "what a run leaves behind",
    ".dockerignore": "the container is built of the package alone",
}
WIDTH = 36
LONGEST = 115


def tracked() -> list[str]:
    """Paths of the repository's files; new ones that git does not ignore are among them."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return sorted(line for line in done.stdout.splitlines() if (ROOT / line).is_file())


def sentence(path: Path) -> str:
    """What a file says of itself first."""
    text = path.read_text()
    if path.suffix == ".py":
        text = ast.get_docstring(ast.parse(text)) or ""
    elif path.suffix == ".md":
        text = text.lstrip("# ")
    else:
        comments = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#")]
        text = next((line for line in comments if not line.startswith("@package")), "")
    first = " ".join(text.split("\n\n")[0].split())
    first = re.split(r"(?<!et al)\.(?:\s|$)", first)[0]
    if len(first) > LONGEST:
        first = re.sub(r" \([^)]*\)", "", first)
    for mark in ("; ", ", ", ": "):
        while len(first) > LONGEST and mark in first:
            first = first.rpartition(mark)[0]
    return first.rstrip(".:")


def line(depth: int, name: str, text: str) -> str:
    """One line of the tree."""
    return f"{'  ' * depth}{name}".ljust(WIDTH) + f" {text}".rstrip()


def folder(path: str, files: list[str], depth: int) -> list[str]:
    """A package: its own line, its files, its folders."""
    init = ROOT / path / "__init__.py"
    lines = [line(depth, f"{path.split('/')[-1]}/", sentence(init) if init.is_file() else "")]
    inside = [name.removeprefix(f"{path}/") for name in files if name.startswith(f"{path}/")]
    if path in PLAIN:  # a folder of data
        return [line(depth, f"{path.split('/')[-1]}/", PLAIN[path])]
    lines += [line(depth + 1, n, sentence(ROOT / path / n)) for n in inside if "/" not in n and n != "__init__.py"]
    for sub in sorted({name.split("/")[0] for name in inside if "/" in name}):
        lines += folder(f"{path}/{sub}", files, depth + 1)
    return lines


def conf(files: list[str]) -> list[str]:
    """A line for each file on top of conf/ and for each group with its options."""
    inside = [name.removeprefix("conf/") for name in files if name.startswith("conf/")]
    lines = [line(0, "conf/", "every choice of a run, by name")]
    lines += [line(1, name, sentence(ROOT / "conf" / name)) for name in inside if "/" not in name]
    for group in sorted({name.rsplit("/", 1)[0] for name in inside if "/" in name}):
        options = [Path(name).stem for name in inside if name.rsplit("/", 1)[0] == group]
        lines.append(line(1, f"{group}/", " | ".join(options)))
    return lines


def tree() -> str:
    """The whole tree."""
    files = tracked()
    lines = [line(0, name, PLAIN.get(name) or sentence(ROOT / name)) for name in FIRST if name in files]
    lines += conf(files)
    for package in PACKAGES:
        lines += folder(package, files, 0)
    lines.append(line(0, "tests/", ""))
    for name in ("unit", "reference", "contract", "integration"):
        lines.append(line(1, f"{name}/", PLAIN[f"tests/{name}"]))
    lines.append(line(0, "docs/", ""))
    documents = [name for name in files if name.startswith("docs/") and name.endswith(".md")]
    lines += [line(1, name.removeprefix("docs/"), sentence(ROOT / name)) for name in documents]
    lines += [
        line(0, name, PLAIN[name])
        for name in (".ci/run", ".github/workflows/ci.yml", ".pre-commit-config.yaml", ".gitignore", ".dockerignore")
    ]
    return "\n".join(lines)


def rewrite() -> None:
    """Replace the tree between its marks in docs/architecture.md."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n```text\n{tree()}\n```\n{END}{after}")


if __name__ == "__main__":
    sys.exit(rewrite())
