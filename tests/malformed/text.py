"""Kinds of malformed text: parameters, and what an evaluation and a registration left."""

import json
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from tests.malformed.damage import BYTES, COARSE, DEPTH, in_bytes, in_json, in_text
from tests.malformed.kind import Bytes, Damage, Kind, in_file, verb
from tests.malformed.networks import finished
from tests.malformed.projects import files, run
from tests.support.sets import drifting_frames, save, write_set

# --- parameters

PARAMS = "params.yaml"

LINES = {
    "seed": "seed: 10",
    "steps": "train: {steps: 500, learning_rate: 0.001}",
    "tracking": 'tracking: {experiment: "no"}',
    "model": "model: {name: stdan, preset: small, channels: 16}",
    "tune": "tune: {k: [1, 3]}",
}
"""The whole file, line by line; what is put for a line means the same, or nothing."""

OTHER: Mapping[str, tuple[str, ...]] = {
    "seed": (
        *("seed: 010", "seed: 0o12", "seed: 0xA", "seed: 1_0", "seed: 1:30", "seed: +10"),
        *("seed: 10.0", "seed: 1e1", "seed: '10'", "seed: 0b_", "seed: 0x", "seed: 0o", "seed: _"),
        *("seed: .nan", "seed: .inf", "seed: -010", "seed: 1e999", "seed: 10,000", "seed:10"),
        *(
            'seed: !!int ""',
            "seed: !!int 10",
            "seed: !!int x",
            'seed: !!float ""',
            "seed: !!bool 7",
        ),
        *("seed: !!python/object/apply:os.system ['touch ../outside/ran']", "seed: !x 10"),
        *("seed: !!binary '////'", "seed: !!timestamp 2020-01-01", "seed: 2020-01-01"),
        *("seed: !!timestamp x", "seed: !!set {a}", "seed: !!omap [a: 1]", "seed: !!null 10"),
        *("seed: !!python/name:os.system", "seed: !!pairs [a]", "seed: !!binary x", "seed: y"),
        *("seed: &a [*a]", "seed: &a {b: *a}", "seed: *a", "seed: &a 10", "seed: [10", "seed: {"),
        *("2020-01-01: 1", "!!binary aa: 1", "? [a, b]\n: 1", "? {a: b}\n: 1", "1: 1", "null: 1"),
        *("? &a [*a]\n: 1", ".nan: 1", "true: 1", "<<: 7", "<<: [1]", "seed: 10\nseed: 10"),
        *("<<: {seed: 10}", "<<: *b", "--- \nseed: 10", "seed: 10\n...\nseed: 11", "\tseed: 10"),
        *("%YAML 1.1\n---\nseed: 10", "%YAML 9.9\n---\nseed: 10", "%TAG ! x\nseed: 10"),
        *(
            "seed: \u0661\u0660",
            "SEED: 10",
            "seed : 10",
            '"seed": 10',
            "seed: |\n  10",
            "Seed: null",
        ),
        *("unknown: null", "unknown: {}", "seed: '\\ud800'", 'seed: "\\ud800"', 'seed: "\\x1b[2J"'),
        *(f"seed: {'9' * 5000}", f"seed: -{'9' * 400}", f"seed: 0x{'f' * 9000}", "seed: 1e-999"),
        *(f"seed: {'[' * DEPTH}", f"seed: {'[' * 900}{']' * 900}", f"{'? ' * 2000}a"),
        *(f"seed: {'{a: ' * 900}1{'}' * 900}", f"{'- ' * 5000}a", f"seed: [{'1,' * 10**6}]"),
        "".join(f"{' ' * level}a:\n" for level in range(900)),
        "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [{f'*a{n - 1},' * 9}]" for n in range(1, 12))]),
        "\n".join(
            ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{<<: [{f'*a{n - 1},' * 9}]}}" for n in range(1, 9))]
        ),
        "\n".join(f"a{n}: &a{n} 1" for n in range(50_000)),
        f"seed: 10 #{'x' * 10**6}",
    ),
    "steps": (
        "train: {steps: 600,000, learning_rate: 0.001}",
        "train: {steps: 5_00, learning_rate: 0.001}",
        "train: {steps: 0500, learning_rate: 0.001}",
        "train: {steps: 0x1f4, learning_rate: 1e-3}",
        "train: {steps: 500.5, learning_rate: 0.001}",
        "train: {steps: 500, learning_rate: 0,001}",
        "train: {steps: 500, learning_rate: 1:30.5}",
        "train: {steps: 500, learning_rate: .nan}",
        "train: {steps: 500, learning_rate: -.inf}",
        "train: {steps: 500, learning_rate: 0.001, unknown: null}",
        "train: {steps: 500, learning_rate: 0.001, step: null}",
        "train: {steps: 500, learning_rate: 0.001, steps: 500}",
        "train: {steps: true, learning_rate: 0.001}",
        "train: {steps: 500, learning_rate: '0.001'}",
        "train: [steps: 500]",
        "train: steps",
        "train: {steps: 1e30, learning_rate: 0.001}",
        "train: {steps: 500, learning_rate: 0.001, batch_size: 100000000000000000000}",
        "train: {steps: 500, learning_rate: 0.001, recipe: [x]}",
        "train: {steps: 500, learning_rate: 0.001, recipe: {a: b}}",
        "train: {<<: {steps: 500}, learning_rate: 0.001}",
    ),
    "tracking": (
        "tracking: {experiment: no}",
        "tracking: {experiment: 010}",
        "tracking: {experiment: ~}",
        "tracking: {experiment: [no]}",
        "tracking: {experiment: !!binary bm8=}",
    ),
    "model": (
        *(
            f"model: {{name: stdan, preset: small, channels: {size}}}"
            for size in (10**12, 2**31, 10**6, 0, -8, 7, 8.5, "1_6", "0o20", "016", ".inf", "~")
        ),
        "model: {name: stdan, preset: small, blocks_per_group: 1000000000000}",
        "model: {name: stdan, preset: small, k: 1000001}",
        "model: {name: stdan, preset: small, heads: 1000000}",
        "model: {name: [stdan], preset: small, channels: 16}",
        "model: {name: ../x}",
        "model: {name: {a: b}}",
        "model: stdan",
        "model: [stdan]",
    ),
    "tune": (
        "tune: {k: [1, 3, 1000000000000]}",
        "tune: {k: []}",
        "tune: {k: [1,,3]}",
        "tune: {k: [01, 03]}",
        "tune: {k: 1, 3}",
        "tune: {k: {1, 3}}",
    ),
}


def _params() -> None:
    Path(PARAMS).write_text("\n".join(LINES.values()) + "\n")


def _instead(name: str, text: str) -> Damage:
    def change(random: Random, whole: bytes) -> bytes:
        return "\n".join({**LINES, name: text}.values()).encode("utf-8", "surrogatepass")

    shown = text if len(text) < 60 else f"{text[:30]}… ({len(text)} characters)"
    return in_file(repr(shown), PARAMS, change)


def _encoded(encoding: str) -> Bytes:
    return lambda random, whole: whole.decode().replace("no", "n\xf6").encode(encoding)


def _printed() -> Any:
    """The parameters as `stvsr params` printed them."""
    text = Path("../output").read_text()
    return json.loads(text[text.index("{") :])


# bytes at random make another valid file often, so what is put instead is chosen
PARAMETERS = Kind(
    "params",
    _params,
    [
        *(_instead(name, text) for name, texts in OTHER.items() for text in texts),
        *in_text(PARAMS),
        *in_bytes(PARAMS, {"all_noise": BYTES["all_noise"], "web_page": BYTES["web_page"]}),
        in_file("Latin-1", PARAMS, _encoded("latin-1")),
    ],
    [verb("params", left=_printed)],
    share=4,
)

# --- evaluation, report and registration

TABLES = ("evaluation/positions.csv", "model/history.csv")
PICTURES = ("evaluation/strips/slow_input.png",)


def _report_damages() -> list[Damage]:
    found = [
        *in_json("evaluation/scores.json"),
        *in_text("evaluation/scores.json"),
        *in_bytes("evaluation/scores.json", COARSE),
    ]
    for table in TABLES:
        found += [*in_text(table), *in_bytes(table, COARSE)]
        found += [in_file(name, table, change) for name, change in CELLS.items()]
    for picture in PICTURES:
        found += in_bytes(picture, COARSE)
    return found


def _cell(text: str) -> Bytes:
    """A text in the place of one cell."""

    def change(random: Random, whole: bytes) -> bytes:
        rows = [line.split(",") for line in whole.decode().splitlines()]
        row = random.randrange(len(rows))
        rows[row][random.randrange(len(rows[row]))] = text
        return ("\n".join(",".join(row) for row in rows) + "\n").encode()

    return change


def _ragged(random: Random, whole: bytes) -> bytes:
    lines = whole.splitlines()
    at = random.randrange(len(lines))
    lines[at] += b",7,8"
    return b"\n".join(lines) + b"\n"


def _short(random: Random, whole: bytes) -> bytes:
    lines = whole.splitlines()
    at = random.randrange(len(lines))
    lines[at] = lines[at].rpartition(b",")[0]
    return b"\n".join(lines) + b"\n"


CELLS: Mapping[str, Bytes] = {
    "NaN": _cell("nan"),
    "infinite": _cell("inf"),
    "overflowing": _cell("1e999"),
    "formula": _cell("=1+1"),
    "markup": _cell("<script>alert(1)</script>"),
    "quote": _cell('"'),
    "5000 digits": _cell("9" * 5000),
    "cells too many": _ragged,
    "cells too few": _short,
}

REPORT = Kind(
    "report",
    finished,
    _report_damages(),
    [
        verb(
            "report",
            "--out",
            "again",
            left=lambda: files("again", "index.html"),
            out="again",
        )
    ],
    share=2,
)


def _registered() -> Any:
    """All that the registry says of the version, and what is in version.json."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{Path('mlflow.db').resolve()}")
    versions = client.search_model_versions("name='stdan'")
    metrics = client.get_run(str(versions[0].run_id)).data.metrics
    told = json.loads(Path("again/version.json").read_bytes())
    facts = [
        {key: text for key, text in version.tags.items() if not key.startswith("decision-")}
        for version in versions
    ]  # a decision has its time
    return facts, metrics, told


METRICS, SCORES = "evaluation/metrics.json", "evaluation/scores.json"
CARD, TENSORS = "model/model.json", "model/weights.safetensors"

REGISTER = Kind(
    "register",
    finished,
    [
        *in_json(METRICS),
        *in_text(METRICS),
        *in_bytes(METRICS, COARSE),
        *in_json(SCORES),
        *in_text(SCORES),
        *in_bytes(SCORES, COARSE),
        *in_bytes(TENSORS, COARSE),
    ],
    [verb("register", "--out", "again", left=_registered, out="again")],
    share=2,
)

VERSION = "registration/version.json"


def _summary() -> str:
    return Path("../output").read_text()


SUMMARY = Kind(
    "summary",
    finished,
    [
        *in_json(VERSION),
        *in_text(VERSION),
        *in_bytes(VERSION, COARSE),
        *in_json(SCORES),
        *in_bytes("report/index.html", {}),
    ],
    [verb("summary", left=_summary)],
    share=1,
)

# --- scores of sets and their table

SCORE = "scores/frames_set_stvsr"


def scored() -> None:
    """A score of a set of one clip, of frames that others made, with pictures."""
    write_set(Path("set"), {"clip": 7})
    for number, image in enumerate(drifting_frames(7, (48, 32), 1)):
        save(Path("frames/clip") / f"{number}.png", image)
    run("score", "--outputs", "frames", "--set", "set")


TABLE = Kind(
    "table",
    scored,
    [
        # neither in_json nor in_text: another valid number or name in it is another score
        *in_bytes(f"{SCORE}/scores.json", COARSE),
        *in_json(f"{SCORE}/pictures/01.json"),
        *in_bytes(f"{SCORE}/pictures/01_method.png", COARSE),
        *in_bytes(f"{SCORE}/pictures/01_profile_truth.png", COARSE),
    ],
    [verb("table", "--out", "again", left=lambda: files("again", "table.csv"), out="again")],
    share=1,
)

TEXTS = (PARAMETERS, REPORT, REGISTER, SUMMARY, TABLE)
