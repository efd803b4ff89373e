"""Try each method's axioms on networks where they can be decided.

``python -m benchmarks.axioms`` explains with every method, its parameters at their defaults,
networks with known answers and a random one, and writes the tables of ``docs/validation.md`` and
``cam/_methods/trust.json``, from which the pages say what to trust a method for. Everything runs on
the CPU and is deterministic. ``--only NAME``, which may be repeated, measures those methods anew
and leaves the others' rows as they are.
"""

import argparse
import json
import math
import re
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

import cam
from benchmarks import axiom_checks as checks
from benchmarks.axiom_checks import Axiom
from cam._methods.trust import TABLE
from cam._truth.known_networks import NETWORKS

DOCUMENT = Path(__file__).parents[1] / "docs" / "validation.md"

AXIOMS: Mapping[str, Axiom] = {
    "completeness": Axiom(
        "adds up",
        "A map of the pixels adds up to the score less the score of the method's blank picture.",
        "Sundararajan, Taly and Yan, ICML 2017, proposition 1",
        "|Σ map - (y(x) - y(x'))| / |y(x) - y(x')|, random network, the worse of two pictures",
        0.01,
        checks.completeness,
    ),
    "conservation": Axiom(
        "conserves",
        "Relevance adds up to the score itself; a layer's map to the score less that of a layer of "
        "zeros.",
        "Bach et al., PLOS ONE 2015, equation 2; for layers Fu et al. (XGrad-CAM), BMVC 2020, "
        "equation 3, and Draelos and Carin (HiResCAM), 2020, section 3",
        "the same share, random network, at the feature maps before pooling",
        0.01,
        checks.conservation,
    ),
    "linearity": Axiom(
        "linear",
        "The map of a sum of two scores is the sum of their maps.",
        "Sundararajan, Taly and Yan, ICML 2017, section 3",
        "‖m(2y₀ - y₁) - (2m(y₀) - m(y₁))‖ / (2‖m(y₀)‖ + ‖m(y₁)‖), random network",
        1e-4,
        checks.linearity,
    ),
    "dummy": Axiom(
        "dummy",
        "Pixels that the network ignores, whatever the others show, get nothing.",
        "Shapley 1953; Sundararajan, Taly and Yan, ICML 2017, section 2.1",
        "the largest value in the middle of the bright square of known/distractor, as a share of "
        "the map's largest (evidence: above the map's lowest)",
        1e-3,
        checks.dummy,
    ),
    "symmetry": Axiom(
        "symmetric",
        "Pixels that can be exchanged without changing any score get the same.",
        "Shapley 1953; Sundararajan, Taly and Yan, ICML 2017, section 4",
        "range of the values of two equal patterns of known/patch on an empty picture (of a "
        "layer's map: of their two cells), as a share of the map's largest",
        1e-3,
        checks.symmetry,
    ),
    "scale": Axiom(
        "scale",
        "A network that is written with other factors and computes the same has the same map.",
        "Sundararajan, Taly and Yan, ICML 2017, section 2.2 (implementation invariance)",
        "‖m' - m‖ / ‖m‖, the worst of × 2 then ÷ 2, of × g then ÷ g with a g for each channel, and "
        "of channels scaled in one layer's weights and unscaled in the next one's; of evidence and "
        "sensitivity only the proportions count; random network",
        1e-4,
        checks.scale,
    ),
    "seeds": Axiom(
        "seeds",
        "Another seed gives the same map: Pearson correlation of at least 0.9.",
        "no paper's axiom; what one map can be worth",
        "the lowest Pearson correlation of seeds 0 and 1 on three pictures, random network",
        0.9,
        checks.seeds,
        correlation=True,
    ),
    "batch": Axiom(
        "batch",
        "A picture has the same map in a batch as alone.",
        "no paper's axiom; a promise of this library",
        "max |m - m'| / max |m|, three pictures, random network",
        1e-6,
        checks.batch,
    ),
}

CLAIMS: Mapping[str, tuple[str, ...]] = {
    "integrated_gradients": ("completeness", "linearity", "dummy", "symmetry", "scale"),
    "guided_integrated_gradients": ("completeness", "dummy", "scale"),
    "blur_integrated_gradients": ("completeness", "linearity", "dummy", "symmetry", "scale"),
    "expected_gradients": ("completeness", "linearity", "dummy", "symmetry", "scale"),
    "deeplift": ("completeness",),
    "deepshap": ("completeness",),
    "idgi": ("completeness",),
    "lrp": ("conservation",),
    "attn_lrp": ("conservation",),
    "partitionshap": ("completeness", "linearity"),
    "kernelshap": ("completeness", "linearity", "dummy", "symmetry", "scale"),
    "xgradcam": ("conservation",),
    "hirescam": ("conservation",),
    "cam": ("conservation",),
}
"""What the paper of a method says that its maps have, for maps that are computed exactly."""

Row = dict[str, Any]


def measure(method: cam.Method, names: tuple[str, ...] | None = None) -> Row:
    """Measure a method's row.

    Args:
        method: With its parameters.
        names: Of the axioms; None: all, and the agreement with each known network.
    """
    axioms: dict[str, dict[str, Any] | None] = {}
    for name, axiom in AXIOMS.items():
        if names is None or name in names:
            figure = _try(partial(axiom.measure, method))
            axioms[name] = (
                None if figure is None else {"figure": _round(figure), "holds": axiom.holds(figure)}
            )
    agreement = {}
    if names is None:
        for network in NETWORKS:
            value = _try(partial(checks.agreement, method, network))
            agreement[network] = None if value is None else round(value, 3)
    return {"axioms": axioms, "agreement": agreement}


def _try(measuring: Callable[[], float | None]) -> float | None:
    """Measure; what a method refuses does not apply to it."""
    try:
        figure = measuring()
    except cam.CamError:
        return None
    assert figure is None or math.isfinite(figure), measuring
    return figure


def _round(figure: float) -> float:
    """Keep two digits: what is below a millionth is rounding, and differs between machines."""
    return 0.0 if abs(figure) < 1e-6 else float(f"{figure:.2g}")


def write_row(name: str, row: Row) -> str:
    """Write a method's line of the table of axioms."""
    cells = []
    for axiom, finding in row["axioms"].items():
        if finding is None:
            cells.append("–")
            continue
        claimed = "\\*" if axiom in CLAIMS.get(name, ()) else ""
        verdict = "yes" if finding["holds"] else "**no**"
        cells.append(f"{verdict}{claimed} {_write(finding['figure'])}")
    return f"| `{name}` | {' | '.join(cells)} |"


def write_agreement(name: str, row: Row) -> str:
    """Write a method's line of the table of known answers."""
    cells = ["–" if value is None else f"{value:.2f}" for value in row["agreement"].values()]
    return f"| `{name}` | {' | '.join(cells)} |"


def _write(figure: float) -> str:
    return "0" if figure == 0 else f"{figure:.2g}"


def write_tables(rows: Mapping[str, Row]) -> dict[str, str]:
    """Write the generated parts of the document, by their names."""
    titles = [axiom.title for axiom in AXIOMS.values()]
    head = f"| method | {' | '.join(titles)} |\n|---|{'---|' * len(titles)}\n"
    networks = f"| method | {' | '.join(NETWORKS)} |\n|---|{'--:|' * len(NETWORKS)}\n"
    sentences = (
        f"- **{axiom.title}** (`{name}`). {axiom.sentence} Source: {axiom.paper}. Measured: "
        f"{axiom.measured}; it holds {'from' if axiom.correlation else 'up to'} "
        f"{axiom.tolerance:g}."
        for name, axiom in AXIOMS.items()
    )
    return {
        "axioms": "\n".join(sentences),
        "table": head + "\n".join(write_row(name, row) for name, row in rows.items()),
        "agreement": networks
        + "\n".join(
            write_agreement(name, row)
            for name, row in rows.items()
            if any(value is not None for value in row["agreement"].values())
        ),
    }


def insert(document: str, parts: Mapping[str, str]) -> str:
    """Replace what stands between a part's two comments."""
    for name, text in parts.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        between = re.compile(f"(?<={re.escape(begin)}\n).*?(?={re.escape(end)})", re.DOTALL)
        assert len(between.findall(document)) == 1, name
        # A backslash of the text is no group's number.
        document = between.sub(f"\n{text}\n\n".replace("\\", r"\\"), document)
    return document


def main() -> None:
    """Try every method, and write the document and what the pages read."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", metavar="NAME", help="Of a method; repeatable.")
    only = parser.parse_args().only
    torch.use_deterministic_algorithms(True)
    rows: dict[str, Row] = json.loads(TABLE.read_text())
    for name in only or cam.methods():
        start = time.perf_counter()
        rows[name] = measure(cam.method(name))
        print(write_row(name, rows[name]), write_agreement(name, rows[name]), end=" ")
        print(f"{time.perf_counter() - start:.0f} s", flush=True)
        # Written after each, as all of them take an hour.
        rows = {key: rows[key] for key in cam.methods() if key in rows}
        TABLE.write_text(json.dumps(rows, indent=1) + "\n")
        DOCUMENT.write_text(insert(DOCUMENT.read_text(), write_tables(rows)))


if __name__ == "__main__":
    main()
