"""Results of a run: rows, and the JSON and CSV files that hold them."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

from sparse_detr_deploy.benchmarks.engine_timing import EngineResult
from sparse_detr_deploy.benchmarks.json_check import is_whole
from sparse_detr_deploy.benchmarks.measuring import PARTS, Samples
from sparse_detr_deploy.benchmarks.results_check import DERIVED, fault
from sparse_detr_deploy.benchmarks.timing import STABLE, Stability, Statistics, judge, summarise
from sparse_detr_deploy.errors import InputError
from sparse_detr_deploy.plain_values import parse_json
from sparse_detr_deploy.regular_files import read_text
from sparse_detr_deploy.short_repr import short_repr

KIND = "sparse_detr_deploy.benchmark"
SCHEMA_VERSION = 1
_MOST_BYTES = 256 * 2**20


@dataclasses.dataclass(frozen=True)
class Row:
    """One artefact at one keep ratio. Field names are the JSON keys.

    ``rho`` is the keep ratio at which it ran (``None`` for a dense encoder), ``kept`` the tokens that were refined, all
    of them if dense. ``gmacs`` are 10⁹ multiply-adds of one image (1 GMAC = 2 GFLOPs). Both are means over the images
    of the run where the artefact is padded: an image keeps ρ of the part of the canvas that it covers. ``accuracy`` is as
    :meth:`~sparse_detr_deploy.benchmarks.accuracy.Accuracy.to_dict` gives it. ``engine`` is there for engines only.
    """

    name: str
    artefact: str
    sha256: str
    architecture: str
    height: int
    width: int
    batch: int
    rho: float | None
    dynamic_rho: bool
    precision: str
    tokens: int
    kept: int
    gmacs: float | None
    runtime: dict[str, Any]
    samples_ms: Samples
    peak_memory_mib: float | None = None
    accuracy: dict[str, Any] | None = None
    engine: EngineResult | None = None

    @property
    def title(self) -> str:
        """Name and keep ratio."""
        return self.name if self.rho is None else f"{self.name} at ρ {self.rho:g}"

    def statistics(self, part: str = "inference") -> Statistics:
        """Of one of the :data:`~sparse_detr_deploy.benchmarks.measuring.PARTS`."""
        return summarise(self.samples_ms.of(part), self.batch)

    @property
    def stability(self) -> Stability:
        """Of the inference times."""
        return judge(self.samples_ms.inference)

    @property
    def verdict(self) -> str:
        """Whether its times are worth quoting, in words: stable, or what speaks against it."""
        throttled = self.engine.throttled if self.engine else {}
        found = [] if self.stability.verdict == STABLE else [self.stability.verdict]
        found += [f"throttled ({', '.join(throttled)})"] if throttled else []
        return ", ".join(found) or STABLE

    @property
    def is_stable(self) -> bool:
        """Whether its times are worth quoting."""
        return self.verdict == STABLE

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        values = dataclasses.asdict(self)
        engine = {"engine": self.engine.to_dict()} if self.engine else {}
        del values["engine"]
        return {
            **values,
            **engine,
            "statistics": {part: self.statistics(part).to_dict() for part in PARTS},
            "stability": self.stability.to_dict(),
        }

    def to_csv(self) -> dict[str, Any]:
        """Plain values without nesting: the columns of the CSV file."""
        columns = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("runtime", "samples_ms", "accuracy", "engine")
        }
        columns |= {"backend": self.runtime.get("backend"), "rounds": len(self.samples_ms.inference)}
        for part in PARTS:
            columns |= {f"{part}_{key}": value for key, value in self.statistics(part).to_dict().items()}
        columns |= {"stability": self.verdict, "window_spread": self.stability.spread}
        return columns | (self.accuracy or {}) | (self.engine.to_csv() if self.engine else {})


@dataclasses.dataclass(frozen=True)
class Report:
    """A run: its rows, its settings, the environment at its start, load average at both ends, files left out."""

    rows: list[Row]
    settings: dict[str, Any]
    environment: dict[str, Any]
    left_out: list[str] = dataclasses.field(default_factory=list)

    def to_json(self, ensure_ascii: bool = False) -> str:
        """The JSON document, raw samples included, without lone surrogates (names of files that are not UTF-8)."""
        document = {
            "kind": KIND,
            "schema_version": SCHEMA_VERSION,
            "environment": self.environment,
            "settings": self.settings,
            "left_out": self.left_out,
            "rows": [row.to_dict() for row in self.rows],
        }
        return _encodable(json.dumps(document, indent=1, ensure_ascii=ensure_ascii)) + "\n"

    def to_csv(self) -> str:
        """The CSV table, one line a row."""
        rows = [row.to_csv() for row in self.rows]
        columns = list(dict.fromkeys(column for row in rows for column in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return _encodable(text.getvalue())

    @classmethod
    def read(cls, path: Path) -> Report:
        """Read a JSON document. Raises :class:`InputError` if it cannot be read, is not ours or is newer."""
        try:
            document = parse_json(read_text(path, _MOST_BYTES))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"the results {path} cannot be read ({reason}): give a file of run --json") from None
        if not isinstance(document, dict) or document.get("kind") != KIND:
            raise InputError(f"{path} holds no results of sparse-detr-bench run: write them with its option --json")
        version: Any = document.get("schema_version")
        if not is_whole(version) or version < 1:
            raise InputError(
                f"the results {path} are damaged (their schema is {short_repr(version)}): run the benchmark again"
            )
        if version > SCHEMA_VERSION:
            raise InputError(
                f"{path} has results of schema {version}; this version reads up to "
                f"{SCHEMA_VERSION}: upgrade sparse-detr-deploy"
            )
        found = fault(document)
        if found:
            raise InputError(f"the results {path} are damaged ({found}): run the benchmark again")
        rows = [_row(values) for values in document["rows"]]
        return cls(rows, document["settings"], document["environment"], document["left_out"])


def _encodable(text: str) -> str:
    """Lone surrogates as escapes, which JSON reads back."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _row(values: dict[str, Any]) -> Row:
    taken = {key: value for key, value in values.items() if key not in DERIVED}
    samples = Samples(**taken.pop("samples_ms"))
    engine = taken.pop("engine", None)
    return Row(**taken, samples_ms=samples, engine=None if engine is None else EngineResult.from_dict(engine))
