"""ONNX Runtime for browsers, as npm's onnxruntime-web has it; `make runtime` compares the files."""

import base64
from pathlib import Path

FOLDER = Path(__file__).parent
MODULE, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
"""The files of npm's package; the second lies here compressed, with the suffix .gz."""


def runtime_scripts() -> dict[str, str]:
    """Return the `module` and the gzipped `wasm` in base64, and the text of the `licence`."""

    def read_base64(name: str) -> str:
        return base64.b64encode((FOLDER / name).read_bytes()).decode("ascii")

    return {
        "module": read_base64(MODULE),
        "wasm": read_base64(f"{WASM}.gz"),
        "licence": (FOLDER / "LICENSE").read_text(encoding="utf-8"),
    }
