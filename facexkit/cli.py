"""The command line: `facexkit run`, `facexkit explain`, `facexkit stages`, `facexkit layers`, `facexkit benchmark`."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Optional

import typer

from facexkit.errors import FacexkitError, Stopped, check_known, told

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="What does this face model look at, which of its units know what, and whom does it treat worse?",
)

Trust = Annotated[bool, typer.Option("--trust", help="Let the code in a model's own file run.")]

BENCHMARKS = ("shortcuts", "accusations", "together", "coverage", "coverage_audit", "honest", "photographs")

OWN_DATA = """On your own data (a CSV with an image column; `facexkit run --help` has more):
  facexkit run faces model regions audit -p data csv -p data_root FOLDER -p annotations FILE.csv -p masks landmarks \\
      -p target LABEL -p protected GROUP -p model torchvision:resnet18 -p weights MODEL.pt -p class_names "[A, B]" \\
      -p num_classes 2 -p layer layer4 --out runs/mine"""


@app.command()
def run(
    stages: Annotated[Optional[list[str]], typer.Argument(metavar="[STAGE]...", help="Which stages; all if none.")] = None,
    parameters: Annotated[
        Optional[list[str]], typer.Option("-p", metavar="NAME VALUE", help="A parameter of the notebooks; may be repeated.")
    ] = None,
    files: Annotated[
        Optional[list[Path]], typer.Option("-f", metavar="FILE", help="A YAML file of parameters; -p goes before it.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="The run's folder.")] = Path("runs/run"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that stopped; what it finished with these parameters stays.")
    ] = False,
    client: Annotated[
        Optional[str], typer.Option("--client", metavar="ADDRESS", help="A Dask scheduler for the passes, or: local.")
    ] = None,
    jobs: Annotated[
        Optional[int], typer.Option("--jobs", min=1, help="Stages side by side; two on the built-in faces, else one.")
    ] = None,
    trust: Trust = False,
) -> None:
    """Run stage notebooks and write their results, findings and an index page into a folder.

    Without -p data the built-in faces are taken. `facexkit stages` lists the stages and the parameters.
    Ctrl-C stops it; the same command with --resume goes on.
    """
    from facexkit.parameters import read_parameter_file

    given: dict[str, object] = {}
    for file in files or []:
        given |= read_parameter_file(file, trust)
    given |= parsed(parameters)
    if client is not None:
        given["client"] = client
    run_and_tell(stages or [], given, out, trust=trust, resume=resume, jobs=jobs)


def run_and_tell(stages: Sequence[str], given: dict[str, object], out: Path, **how: object) -> None:
    """Run stages, and print what they found and where it lies."""
    from facexkit.stages import run_stages

    manifest = run_stages(stages, given, out, command=shlex.join(["facexkit", *_typed]), say=typer.echo, **how)
    typer.echo("")
    for finding in manifest["headline"]:
        typer.echo(f"• {finding}")
    typer.echo(f"\nThe whole result: {(out / 'index.html').resolve()}")
    if "data" not in given:
        typer.echo(f"\n{OWN_DATA}")


@app.command()
def explain(
    model: Annotated[str, typer.Argument(help="demo:biased, torchvision:NAME, onnx:PATH, path/to/file.py:NAME")],
    photos: Annotated[Path, typer.Argument(help="A folder of photographs, aligned faces or not.")],
    labels: Annotated[
        Optional[Path], typer.Option("--labels", help="A CSV of images and labels: what is predicted, then groups.")
    ] = None,
    parameters: Annotated[Optional[list[str]], typer.Option("-p", metavar="NAME VALUE", help="As of `facexkit run`.")] = None,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the result goes.")] = Path("runs/explain"),
    trust: Trust = False,
) -> None:
    """Say which face regions drive a model, from photographs alone, and with labels whom it treats worse; one page."""
    from facexkit.show.run import photographs_of

    given = photographs_of(model, photos, labels, parsed(parameters), trust)
    stages = ["faces", "model", "regions", *(["audit"] if given.get("protected") else [])]
    run_and_tell(stages, given, out, trust=trust)


def parsed(pairs: Sequence[str] | None) -> dict[str, object]:
    """Return the parameters of `NAME=VALUE` texts."""
    from facexkit.parameters import parse

    return {name: parse(name, text) for name, _, text in (pair.partition("=") for pair in pairs or ())}


@app.command("stages")
def show_stages() -> None:
    """List the stages and the parameters that they take."""
    from facexkit.parameters import Parameters
    from facexkit.stages.notebooks import list_stages

    for stage in list_stages():
        typer.echo(f"{stage.number}_{stage.name:<14} {stage.title}")
    typer.echo("\nParameters (-p NAME VALUE):")
    for name, field in Parameters.model_fields.items():
        typer.echo(f"{name:<14} {field.description} [{field.default}]")


@app.command()
def layers(
    model: Annotated[str, typer.Argument(help="demo:biased, torchvision:NAME, timm:NAME, hf:NAME, onnx:PATH, FILE.py:NAME")],
    weights: Annotated[Optional[str], typer.Option(help="State dict of the model.")] = None,
    num_classes: Annotated[Optional[int], typer.Option(help="Outputs of the model.")] = None,
    image_size: Annotated[Optional[int], typer.Option(help="Side of the input in pixels.")] = None,
    trust: Trust = False,
) -> None:
    """List a model's layers with what they give out."""
    import facexkit as fx

    given = {"weights": weights, "num_classes": num_classes, "image_size": image_size, "trust": trust}
    loaded = fx.load_model(model, device="cpu", **given)
    table = fx.list_layers(loaded).drop(columns="depth")
    typer.echo(table.reset_index().to_string(index=False))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def benchmark(name: Annotated[str, typer.Argument(help=", ".join(BENCHMARKS))], given: typer.Context) -> None:
    """Measure how far the kit's own numbers can be relied on, on drawn faces whose truth is known; see docs/trust.md."""
    check_known("benchmark", [name], BENCHMARKS)
    sys.path.insert(0, str(Path(__file__).parents[1]))  # they lie beside the package
    with told("the benchmarks are not installed", "run this in a checkout of the repository", ImportError):
        module = import_module(f"benchmarks.{name}")
    module.main(given.args)


@app.command("app")
def serve_app(
    data: Annotated[Optional[list[Path]], typer.Option("--data", help="A folder that may be read; may be repeated.")] = None,
    runs: Annotated[Path, typer.Option(help="Where runs are kept.")] = Path("runs/app"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 8866,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
    trust: Trust = False,
) -> None:
    """Serve the kit as a web page on this machine: data, model, layer and class, result by clicking."""
    from facexkit.app.server import serve

    serve(data or [], runs, port, trust, browser)


_typed: list[str] = []


def join_pairs(arguments: Sequence[str]) -> list[str]:
    """Turn `-p NAME VALUE`, papermill's way, into `-p NAME=VALUE`, which an option parser can repeat."""
    joined, rest = [], list(arguments)
    while rest:
        word = rest.pop(0)
        joined.append(word)
        if word == "-p" and rest:
            name = rest.pop(0)
            if "=" not in name:
                if not rest or rest[0].startswith("--"):
                    raise FacexkitError(f"-p {name}: the value is missing; write -p {name} VALUE")
                name += "=" + rest.pop(0)
            joined.append(name)
    return joined


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a `FacexkitError` is told in red, and the exit status is 1."""
    _typed[:] = sys.argv[1:] if arguments is None else arguments
    try:
        app(args=join_pairs(_typed), prog_name="facexkit")
    except (FacexkitError, OSError) as error:
        typer.secho(f"facexkit: {as_typed(str(error), 'layers' in _typed[:1])}", fg="red", err=True)
        sys.exit(130 if isinstance(error, Stopped) else 1)


def as_typed(message: str, own_options: bool = False) -> str:
    """Return an error that names an argument as Python has it, `weights=FILE`, with the option that people type.

    Parameters
    ----------
    own_options : whether the command has an option of its own for each of a model's arguments, `--weights`.
    """
    from facexkit.parameters import Parameters

    message = re.sub(r"\bfx\.\w+: ", "", re.sub(r"\btrust=True\b", "--trust", message))
    names = {name: f"--{name.replace('_', '-')}" if own_options else f"-p {name}" for name in Parameters.model_fields}
    names |= {"root": "-p data_root", "out": "--out", "saved": "--out"}
    option = lambda found: f"{names[found[1]]} {found[2] or ''}".rstrip()  # noqa: E731
    return re.sub(rf"(?<![\w/.])({'|'.join(names)})=(?!=)('?\w\S*)?", option, message)


if __name__ == "__main__":
    main()
