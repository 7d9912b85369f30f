"""The commands ``trimtab law``: fit scaling laws, and ask them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from trimtab.cli.law_view import print_fit, print_list, print_plan, print_prediction
from trimtab.cli.output import Json, Token, Url, err, out, print_json
from trimtab.client import Client
from trimtab.errors import TrimtabError
from trimtab.laws import figure_page, request_of_file
from trimtab.wire.laws import FitDetail, FitRequest, FitState, PlanRequest

T = TypeVar("T")

app = typer.Typer(
    help="Scaling laws: the learning rate, batch and loss of a run too large to tune.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Fit = Annotated[str, typer.Argument(metavar="FIT", help="A fit's id, or its name if that is unique.")]
N = Annotated[float, typer.Option("--n", help="Parameters of the target, such as 1e9.")]
D = Annotated[float, typer.Option("--d", help="Training tokens of the target, such as 2e10.")]


def _column(option: str, text: str) -> Any:
    return typer.Option(option, metavar="COL", help=text, rich_help_panel="Columns")


@app.command("fit")
def fit(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Runs as CSV or Parquet, a line for each.")
    ] = None,
    study: Annotated[
        list[str] | None,
        typer.Option(
            "--study", "-s", metavar="STUDY", help="Trials of this study instead; may be repeated."
        ),
    ] = None,
    n: Annotated[str | None, _column("--n", "Parameters (N).")] = None,
    d: Annotated[str | None, _column("--d", "Training tokens (D; of studies tokens).")] = None,
    lr: Annotated[str | None, _column("--lr", "Peak learning rate.")] = None,
    batch: Annotated[str | None, _column("--batch", "Batch.")] = None,
    loss: Annotated[str | None, _column("--loss", "Final loss (loss; of studies their metric).")] = None,
    share: Annotated[str | None, _column("--share", "Share of a domain, of a law of mixtures.")] = None,
    diverged: Annotated[str | None, _column("--diverged", "True for runs that diverged.")] = None,
    schedule: Annotated[
        str | None, _column("--schedule", "Compared between runs, as the two below.")
    ] = None,
    optimizer: Annotated[str | None, _column("--optimizer", "")] = None,
    tokenizer: Annotated[str | None, _column("--tokenizer", "")] = None,
    sequence_length: Annotated[
        str | None,
        typer.Option(
            "--sequence-length",
            metavar="TOKENS|COL",
            help="Batches count sequences of so many tokens: a number or a column.",
        ),
    ] = None,
    tokens: Annotated[
        bool, typer.Option("--batch-in-tokens", help="Batches are surely in tokens.")
    ] = False,
    family: Annotated[
        str | None, typer.Option("--family", "-f", help="The family of laws (optimum).")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="NAME=VALUE", help="Of the family; may be repeated."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Of the fit; the file's when absent.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the bootstrap.")] = 0,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the fit.")] = True,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Fit a scaling law to the runs of a table, or to the trials of studies.

    Of studies a column is a parameter, a setting of the trainer or a metric
    (params/lr, settings/width, metrics/val_loss; the plain name if it is
    unique), or a product of them.

    Example: trimtab law fit runs.csv --n params --d tokens --lr lr --batch batch_tokens
    """
    if (file is None) == (not study):
        raise TrimtabError("say what to fit: a file, or studies", "trimtab law fit runs.csv; see --help")
    columns = {
        "n": n, "d": d, "lr": lr, "batch": batch, "loss": loss, "share": share, "diverged": diverged,
        "schedule": schedule, "optimizer": optimizer, "tokenizer": tokenizer,
    }  # fmt: skip
    fields: dict[str, Any] = {"seed": seed, "options": dict(_option(text) for text in option or ())}
    if family is not None:
        fields["family"] = family
    if tokens:
        fields["batch_unit"] = "tokens"
    if sequence_length is not None:
        fields["batch_unit"] = "sequences"
        if sequence_length.isdigit():
            fields["sequence_length"] = int(sequence_length)
        else:
            columns["sequence_length"] = sequence_length
    fields["columns"] = {role: column for role, column in columns.items() if column is not None}
    with Client(url, token) as client:
        if file is not None:
            request = _checked(lambda: request_of_file(file, name=name or file.stem, **fields))
        else:
            found = [client.find(each) for each in study or ()]
            called = name or " + ".join(each.name for each in found)[:120]
            ids = [each.id for each in found]
            request = _checked(lambda: FitRequest(name=called, studies=ids, **fields))
        made = client.fit(request)
        done = _waited(client, made, quiet=as_json) if wait else made
    if as_json:
        print_json(done)
    else:
        print_fit(done)
    if done.state is FitState.FAILED:
        raise TrimtabError(f"the fit {done.id} has failed", done.error or "")
    if not as_json:
        out.print(f"[dim]ask it with: trimtab law predict {done.id} --n 1e9 --d 2e10[/]")


@app.command("list")
def list_fits(url: Url = None, token: Token = None, as_json: Json = False) -> None:
    """List all fits, newest first.

    Example: trimtab law list
    """
    with Client(url, token) as client:
        fits = list(client.fits())
    if as_json:
        print_json([each.model_dump(mode="json") for each in fits])
    elif fits:
        print_list(fits)
    else:
        out.print("no fits yet; make one with: trimtab law fit runs.csv")


@app.command("show")
def show(
    fit: Fit,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.html", help="Write its pictures to this file.")
    ] = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Show a fit: its parameters with 90 % intervals, its cautions, its pictures.

    Example: trimtab law show runs --plot runs.html
    """
    with Client(url, token) as client:
        found = client.read_fit(client.find_fit(fit).id)
        if plot is not None:
            page = figure_page(client.fit_figures(found.id), client.plotly_script())
            try:
                plot.write_text(page, encoding="utf-8")
            except OSError as error:
                raise TrimtabError(f"{plot} cannot be written: {error.strerror}") from error
    if as_json:
        print_json(found)
    else:
        print_fit(found)
    if plot is not None:
        err.print(f"wrote its pictures to {plot}", soft_wrap=True)


@app.command("predict")
def predict(
    fit: Fit,
    n: N,
    d: D,
    lr: Annotated[
        float | None, typer.Option("--lr", help="A learning rate of yours: what would it cost?")
    ] = None,
    batch: Annotated[float | None, typer.Option("--batch", help="A batch of yours, in tokens.")] = None,
    flops: Annotated[
        float | None, typer.Option("--flops", help="Of a law of the loss: the compute to be spent best.")
    ] = None,
    share: Annotated[float | None, typer.Option("--share", help="Of a law of mixtures.")] = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Say what a fit expects at a target: best learning rate and batch, or the loss.

    Example: trimtab law predict runs --n 1e9 --d 2e10 --lr 3e-4 --batch 5e5
    """
    with Client(url, token) as client:
        found = client.find_fit(fit)
        answer = client.predict(found.id, n=n, d=d, lr=lr, batch=batch, flops=flops, share=share)
    if as_json:
        print_json(answer)
    else:
        print_prediction(found.name, answer)


@app.command("plan")
def plan(
    fit: Fit,
    flops: Annotated[float, typer.Option("--flops", help="What the runs may cost in all, such as 1e20.")],
    n: N,
    d: D,
    runs_per_cell: Annotated[
        int, typer.Option("--runs-per-cell", min=5, max=9, help="Rates and batches tried at each size.")
    ] = 6,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Say which runs to add to be surer at a target, for a budget.

    Example: trimtab law plan runs --flops 1e20 --n 1e9 --d 2e10
    """
    request = _checked(lambda: PlanRequest(flops=flops, n=n, d=d, runs_per_cell=runs_per_cell))
    with Client(url, token) as client:
        found = client.find_fit(fit)
        # Seconds of work for the service; a spinner says so (to a terminal only).
        with err.status("planning", spinner="dots"):
            answer = client.plan_runs(found.id, request)
    if as_json:
        print_json(answer)
    else:
        print_plan(found.name, answer)


@app.command("delete")
def delete(fit: Fit, url: Url = None, token: Token = None, as_json: Json = False) -> None:
    """Delete a fit; studies that were told what it says keep the numbers.

    Example: trimtab law delete runs
    """
    with Client(url, token) as client:
        found = client.find_fit(fit)
        client.delete_fit(found.id)
    if as_json:
        print_json({"deleted": found.id})
    else:
        out.print(f"deleted {escape(found.name)}")


def _waited(client: Client, made: FitDetail, *, quiet: bool) -> FitDetail:
    if quiet or not err.is_terminal:
        return client.wait_for_fit(made.id)
    columns = (
        TextColumn("fitting"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True) as shown:
        task = shown.add_task("fit", total=1.0)
        return client.wait_for_fit(made.id, progress=lambda share: shown.update(task, completed=share))


def _checked(make: Callable[[], T]) -> T:
    """What ``make`` makes, or its mistakes in words."""
    try:
        return make()
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = str(first["msg"]).removeprefix("Value error, ")
        raise TrimtabError(f"{place}: {message}" if place else message, "see --help") from error


def _option(text: str) -> tuple[str, Any]:
    """NAME=VALUE: JSON as such, anything else as text."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise TrimtabError(f"--option {text} is no option with a value", "write it as --option draws=400")
    try:
        return name.strip(), json.loads(value)
    except ValueError:
        return name.strip(), value
