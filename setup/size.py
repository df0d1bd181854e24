"""Count lines of code by room: those that are not blank, comment, docstring or import; beside them the rooms' budgets."""

import ast
from collections import Counter
from pathlib import Path

BUDGETS = {
    "faces": 1050, "models": 800, "probe": 650, "measure": 1600, "mend": 350, "show": 1500, "stages, cli": 400,
    "systems, drawn, app": 1500,
}  # fmt: skip
PACKAGE = Path(__file__).parents[1] / "facexkit"


def lines_of_code(file: Path) -> int:
    text, left_out = file.read_text(encoding="utf-8"), set()
    for node in ast.walk(ast.parse(text)):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        if is_text or isinstance(node, (ast.Import, ast.ImportFrom)):
            left_out |= set(range(node.lineno, node.end_lineno + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(1 for number, line in lines if line.strip() and line.strip()[0] != "#" and number not in left_out)


def room_of(file: Path) -> str:
    own = file.relative_to(PACKAGE).parts
    name = own[0].removesuffix(".py")
    return next((room for room in BUDGETS if name in room.split(", ")), "top")


if __name__ == "__main__":
    counted: Counter[str] = Counter()
    for file in PACKAGE.rglob("*.py"):
        counted[room_of(file)] += lines_of_code(file)
    for room in [*BUDGETS, "top"]:
        print(f"{room:<22}{counted[room]:>6,} {'of ' + format(BUDGETS[room], ',') if room in BUDGETS else ''}")
    print(f"{'all':<22}{counted.total():>6,} of {sum(BUDGETS.values()):,}")
