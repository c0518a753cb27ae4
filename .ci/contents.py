"""Check the contents of a built wheel: the package and its recipes, and nothing else."""

import re
import sys
import zipfile
from pathlib import Path

LARGEST = 10 * 2**20
"""Bytes: 300,000 of code, 3,700,000 of the runtime of `dpvae explore`, and models."""
ALLOWED = re.compile(
    r"dpvae_cli/([a-z_]+/)*(\w+\.py|py\.typed)"
    r"|dpvae_cli/(diagnosis|explorer|pages|studies/report)/\w+(\.css|\.(html|md|tex)\.j2|\.js)"
    r"|dpvae_cli/explorer/runtime/(LICENSE|manifest\.json|[\w.-]+\.(mjs|wasm\.gz))"
    r"|dpvae_cli/recipes/([a-z_]+/)?\w+\.yaml"
    r"|dpvae_cli/models/[\w-]+\.safetensors"
    r"|dpvae_cli/studies/published/\w+\.yaml"
    r"|dpvae_cli-[\w.]+\.dist-info/(METADATA|WHEEL|RECORD|entry_points\.txt|licenses/LICENSE)"
)
NEEDED = (
    *("dpvae_cli/__init__.py", "dpvae_cli/py.typed", "dpvae_cli/recipes/beta_h_moons.yaml"),
    *("dpvae_cli/recipes/studies/table1.yaml", "dpvae_cli/studies/report/report.html.j2"),
    *("dpvae_cli/diagnosis/diagnosis.html.j2", "dpvae_cli/pages/page.css"),
    *("dpvae_cli/explorer/explore.html.j2", "dpvae_cli/explorer/explore.js"),
    *("dpvae_cli/explorer/runtime/LICENSE", "dpvae_cli/explorer/runtime/manifest.json"),
    "dpvae_cli/explorer/runtime/ort-wasm-simd-threaded.wasm.gz",
    "dpvae_cli/models/beta_h_moons-decoupled.safetensors",
)


def problems(wheel: Path) -> list[str]:
    """Return unexpected files, missing files, and a wrong size."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    found = [
        f"{name} has no business in the wheel" for name in names if not ALLOWED.fullmatch(name)
    ]
    found += [f"{name} is missing" for name in NEEDED if name not in names]
    found += [] if any("licenses/LICENSE" in name for name in names) else ["no licence"]
    recipes = {f"dpvae_cli/{path.as_posix()}" for path in Path("recipes").rglob("*.yaml")}
    found += [f"{name} is missing" for name in recipes - names]
    size = wheel.stat().st_size
    return sorted(found) + ([f"{size:,} bytes are too many"] if size > LARGEST else [])


if __name__ == "__main__":
    wrong = problems(Path(sys.argv[1]))
    sys.exit("\n".join(wrong) or None)
