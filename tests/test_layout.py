"""The house rules that a program can read: which way imports run, what each package offers, no path of one machine."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.surface import SURFACE

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent

# folder -> folders that its files may import from
ARROWS = {
    "engine": {"engine"},
    "kernels": {"kernels", "engine"},
    "trainer": {"trainer", "kernels", "engine"},
    "models": {"trainer", "kernels", "engine"},
    "benchmarks": {"benchmarks", "trainer", "kernels", "engine"},
    "tests": {"tests", "benchmarks", "trainer", "kernels", "engine"},
}
PACKAGES = ("engine", "kernels", "trainer")
NATIVE_USERS = {"engine", "benchmarks", "tests"}

# `uperfuse export`, `data` and `evaluate` reach for the trainer, and `uperfuse build` for kernels that a plan lacks, by
# name and when it is called: the runtime installs without both.
EXCEPTIONS = [
    ("engine/cli/export.py", "uperfuse.trainer.export"),
    ("engine/cli/data.py", "uperfuse.trainer.data"),
    ("engine/cli/train.py", "uperfuse.trainer.training"),
    ("engine/cli/evaluate.py", "uperfuse.trainer.evaluation"),
    ("engine/builder/kernels.py", "uperfuse.kernels.build"),
]

# What an extra brings is imported below these folders alone, and never by importing them.
OPTIONAL = {
    "engine/builder/": {"onnx", "google", "nncf"},
    "engine/backends/cuda/": {"pycuda"},
    "engine/rasters/": {"pyogrio", "shapely"},
    "engine/cluster/": {"dask", "distributed", "dask_jobqueue"},
    "engine/benchmark_picture.py": {"matplotlib"},
}

# Tools take folders of these names for products: pytest, for one, collects no test below them, and says nothing.
PRODUCTS = {"build", "dist", "node_modules", "venv"}

IMPORT_NAMES = {"pyyaml": "yaml", "pillow": "PIL"}

# A name that is added here is a promise; one that is taken away breaks somebody.


@dataclass(frozen=True)
class Import:
    """One import of a file: the full dotted name, and how it is written."""

    file: str
    line: int
    target: str
    form: str
    """ "relative", "absolute", or "named" for a string given to `import_module`."""

    @property
    def folder(self) -> str | None:
        """Folder of this project that is imported from, if it is one."""
        parts = self.target.split(".")
        if parts[0] == "uperfuse":
            return parts[1] if len(parts) > 1 else None
        return parts[0] if parts[0] in ARROWS else None

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.target}"


def _python_files(root: Path) -> Iterator[Path]:
    for folder in ARROWS:
        yield from (path for path in sorted((root / folder).rglob("*.py")) if "__pycache__" not in path.parts)


def _imports(path: Path, root: Path) -> Iterator[Import]:
    file = path.relative_to(root)
    # Folders that are installed lie below `uperfuse`; a relative import of one dot starts at the file's own package.
    package = (*(("uperfuse",) if file.parts[0] in PACKAGES else ()), *file.parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file.as_posix(), node.lineno, alias.name, "absolute")
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            module = (*start, *(node.module.split(".") if node.module else ()))
            for alias in node.names:
                form = "relative" if node.level else "absolute"
                yield Import(file.as_posix(), node.lineno, ".".join((*module, alias.name)), form)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
                yield Import(file.as_posix(), node.lineno, node.args[0].value, "named")


def _all_imports(root: Path) -> list[Import]:
    return [found for path in _python_files(root) for found in _imports(path, root)]


def _backwards(imports: list[Import]) -> list[Import]:
    """Imports against the arrows, of the extension from elsewhere, or not written the way the house writes them."""
    wrong = []
    for found in imports:
        home = found.file.split("/")[0]
        if found.form == "named" and (found.file, found.target) in EXCEPTIONS:
            continue
        against = found.folder is not None and found.folder not in ARROWS[home]
        native = "_native" in found.target.split(".") and home not in NATIVE_USERS
        bare = found.form != "relative" and found.target.split(".")[0] in PACKAGES
        absolute = home in PACKAGES and found.form != "relative" and found.target.split(".")[0] == "uperfuse"
        if against or native or bare or absolute:
            wrong.append(found)
    return wrong


def _foreign(imports: list[Import], allowed: set[str]) -> list[Import]:
    """Imports in the runtime of what `pip install uperfuse` does not bring."""
    known = allowed | set(sys.stdlib_module_names) | {"uperfuse"}
    return [
        found
        for found in imports
        if found.file.startswith("engine/")
        and found.target.split(".")[0] not in known
        and not any(
            found.file.startswith(folder) and found.target.split(".")[0] in extra for folder, extra in OPTIONAL.items()
        )
    ]


def _runtime_dependencies() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.split(r"[<>=!~;\[ ]", requirement)[0].lower() for requirement in project["dependencies"]}
    return {IMPORT_NAMES.get(name, name) for name in names}


def _lines(found: list[Import]) -> str:
    return "\n".join(map(str, found))


def test_imports_run_one_way() -> None:
    imports = _all_imports(ROOT)
    assert len(imports) > 500, "the files were not found"
    wrong = _backwards(imports)
    assert not wrong, _lines(wrong)


def test_the_runtime_imports_only_what_its_installation_brings() -> None:
    allowed = _runtime_dependencies()
    assert {"numpy", "openvino", "yaml", "PIL"} <= allowed
    assert not allowed & {"torch", "triton", "timm", "onnx"}
    wrong = _foreign(_all_imports(ROOT), allowed)
    assert not wrong, _lines(wrong)


def test_importing_the_runtime_imports_no_extra() -> None:
    says = "import sys, uperfuse.engine.cli; print(sorted({'onnx', 'nncf', 'pycuda', 'torch'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", says], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("path", "target"), EXCEPTIONS)
def test_what_the_runtime_lacks_is_reached_from_inside_one_function_alone(path: str, target: str) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    inside = [
        constant
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for constant in ast.walk(function)
        if isinstance(constant, ast.Constant) and constant.value == target
    ]
    everywhere = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and n.value == target]
    assert len(everywhere) == len(inside) == 1


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("engine/plan/a.py", "from ...trainer.network import UPerFuse"),
        ("engine/plan/a.py", "def f():\n    from ...kernels import resize"),
        ("engine/a.py", "import uperfuse.trainer"),
        ("engine/a.py", "import importlib\nimportlib.import_module('uperfuse.trainer.export')"),
        ("engine/cli/export.py", "from ...trainer.export import export_checkpoint"),
        ("engine/cli/export.py", "import_module('uperfuse.kernels.build')"),
        ("engine/builder/kernels.py", "from ...kernels.build import build"),
        ("engine/a.py", "from .. import kernels"),
        ("engine/a.py", "from uperfuse.engine.errors import PlanError"),
        ("kernels/resize/a.py", "from ...trainer.network import UPerFuse"),
        ("kernels/a.py", "from ..trainer import network"),
        ("trainer/a.py", "from ..engine import _native"),
        ("trainer/a.py", "from ..engine._native import prepare"),
        ("trainer/a.py", "import kernels"),
        ("trainer/a.py", "from ..benchmarks import classify"),
        ("benchmarks/a.py", "import tests.golden"),
        ("models/a.py", "from uperfuse.engine import _native"),
        ("tests/a.py", "from engine import errors"),
    ],
)
def test_an_arrow_that_runs_backwards_is_seen(tmp_path: Path, file: str, line: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(f"{line}\n")
    assert len(_backwards(_all_imports(tmp_path))) == 1


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("engine/cli/a.py", "from ..errors import PlanError"),
        ("engine/a.py", "from . import _native"),
        ("engine/cli/export.py", "import_module('uperfuse.trainer.export')"),
        ("engine/builder/kernels.py", "import_module('uperfuse.kernels.build')"),
        ("trainer/export/a.py", "from ...engine.plan import Plan"),
        ("trainer/network/a.py", "from ...kernels.temporal_attention import temporal_attention"),
        ("benchmarks/a.py", "from uperfuse.trainer.network import UPerFuse"),
        ("tests/engine/a.py", "from uperfuse.engine import _native"),
        ("tests/engine/a.py", "from ..golden import recipe"),
    ],
)
def test_an_arrow_that_runs_forwards_is_let_through(tmp_path: Path, file: str, line: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(f"{line}\n")
    imports = _all_imports(tmp_path)
    assert len(imports) == 1
    assert not _backwards(imports)
    assert not _foreign(imports, set())


@pytest.mark.parametrize("line", ["import torch", "def f():\n    from triton import language", "import onnx.helper"])
def test_a_foreign_import_in_the_runtime_is_seen(tmp_path: Path, line: str) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "a.py").write_text(f"{line}\n")
    assert len(_foreign(_all_imports(tmp_path), _runtime_dependencies())) == 1


def _surface(init: Path) -> tuple[list[str], set[str]]:
    """`__all__` of a package, and the names that are bound in it: its own and its submodules."""
    listed: list[str] | None = None
    bound = {path.stem for path in init.parent.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    for node in ast.parse(init.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            bound |= set(names)
            if names == ["__all__"] and node.value is not None:
                listed = ast.literal_eval(node.value)
    assert listed is not None, f"{init} has no __all__"
    return listed, bound


def test_every_package_offers_what_is_frozen_here() -> None:
    found = {}
    for package in PACKAGES:
        for init in sorted((ROOT / package).rglob("__init__.py")):
            listed, bound = _surface(init)
            name = init.parent.relative_to(ROOT).as_posix()
            assert set(listed) <= bound, f"{name} lists {sorted(set(listed) - bound)} and does not bind them"
            assert len(listed) == len(set(listed))
            found[name] = set(listed)
    assert found == SURFACE


def test_every_package_has_an_init() -> None:
    for package in PACKAGES:
        for folder in {path.parent for path in (ROOT / package).rglob("*.py")}:
            assert (folder / "__init__.py").exists(), f"{folder} is a package without __init__.py"


def test_no_folder_is_named_like_one_of_products() -> None:
    folders = {path.parent for top in (*PACKAGES, "benchmarks", "csrc", "tests") for path in (ROOT / top).rglob("*.*")}
    assert not [folder for folder in folders if PRODUCTS & set(folder.relative_to(ROOT).parts)]


def _own_files() -> list[Path]:
    """Files that are in the repository, or would be after `git add`."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


def test_one_core_of_openvino_is_made() -> None:
    sources = (path for path in _own_files() if path.suffix == ".py")
    makers = [path for path in sources if re.search(r"\bov\.(Core|compile_model)\(", path.read_text(encoding="utf-8"))]
    assert [path.relative_to(ROOT).as_posix() for path in makers] == ["engine/backends/openvino_core.py"]


def test_no_file_holds_a_path_of_one_machine() -> None:
    roots = "|".join(("home", "root", "work", "Users", "mnt"))
    pattern = re.compile(rf"(?<![\w.}}/])/(?:{roots})/\w|\b[A-Z]:\\Users\\".encode())
    assert pattern.search(b'"/' + b'home/somebody/file"')
    files = _own_files()
    assert len(files) > 100
    wrong = []
    for path in files:
        content = path.read_bytes()
        if b"\0" not in content:
            wrong += [f"{path.relative_to(ROOT)}: {hit.group().decode()}" for hit in pattern.finditer(content)]
    assert not wrong, "\n".join(wrong)
