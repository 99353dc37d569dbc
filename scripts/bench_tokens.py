"""50 MB of text to token ids on disk, aibig against the library `tokenizers`. Run by `scripts/bench tokens`.

The text is Python source: every .py file of the standard library and of the installed packages in the order of their
paths, until there are 50 MB, one per line of a .jsonl file. The tokenizer is byte-level BPE with 16,000 tokens, trained
on the first 10 MB beforehand. Each contestant is a process of its own that reads the documents, encodes them, and
writes the ids as uint16: wall-clock seconds without imports, and the process's peak memory with them. `tokenizers` runs
on one thread (RAYON_NUM_THREADS=1), as it is usually called (`encode`, a document per call) and as it is fastest
(`encode_batch_fast`, 256 documents per call).
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

SIZE, SAMPLE, VOCABULARY, ROUNDS = 50_000_000, 10_000_000, 16_000, 3
CONTESTANTS = ("aibig", "encode", "encode_batch_fast")


def main() -> None:
    """Measure all in turn, then print medians and ratios; the training of our own BPE is timed last."""
    from aibig.data.text.documents import TextFiles
    from aibig.data.text.tokenizer import make_tokenizer

    with tempfile.TemporaryDirectory() as folder:
        text, tokenizer = Path(folder) / "sources.jsonl", Path(folder) / "tokenizer.json"
        write_sources(text)
        sample = (chunk.text for chunk in TextFiles(text).chunks() if chunk.bytes_read < SAMPLE)
        make_tokenizer("bpe", sample, VOCABULARY, with_eos_token=True).save(tokenizer)
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTESTANTS}
        for _ in range(ROUNDS):
            for name in CONTESTANTS:
                results[name].append(in_a_process(name, text, str(tokenizer)))
                print(name, results[name][-1], flush=True)
        assert len({result["digest"] for measured in results.values() for result in measured}) == 1, "other tokens"
        cached = in_a_process("cached", text, str(tokenizer))
        trained = in_a_process("aibig", text, "bpe")
    for name, measured in results.items():
        seconds = statistics.median(result["seconds"] for result in measured)
        ratio = seconds / statistics.median(result["seconds"] for result in results["aibig"])
        peak = max(result["peak_mb"] for result in measured)
        print(f"{name:18} {seconds:6.1f} s, {ratio:5.2f} times aibig's, peak {peak:.0f} MB")
    print(f"a second run: {cached['seconds']:.3f} s")
    print(f"with a BPE trained on all the text: {trained['seconds']:.1f} s, peak {trained['peak_mb']:.0f} MB")


def write_sources(path: Path) -> None:
    """Write the text.

    Args:
        path: of the .jsonl file.
    """
    size = 0
    with path.open("w", encoding="utf-8") as file:
        for source in python_sources():
            line = json.dumps({"text": source}, ensure_ascii=False) + "\n"
            file.write(line)
            size += len(line.encode())
            if size >= SIZE:
                return
    raise SystemExit(f"the installed packages have only {size / 1e6:.0f} MB of Python; install more of them")


def python_sources() -> Iterator[str]:
    """The sources that are UTF-8 and not empty."""
    folders = dict.fromkeys(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
    files = {file: None for folder in folders for file in sorted(Path(folder).rglob("*.py"))}
    for file in files:
        try:
            source = file.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue
        if source.strip() and "<|" not in source:
            yield source


def in_a_process(name: str, text: Path, tokenizer: str) -> dict[str, Any]:
    """The seconds, peak_mb and digest of a contestant, from a fresh process.

    Args:
        name: of the contestant, or "cached" for aibig with files that exist.
        text: the .jsonl file.
        tokenizer: path of a tokenizer.json, or a kind.
    """
    threads = {} if name in ("aibig", "cached") else {"RAYON_NUM_THREADS": "1"}
    command = [sys.executable, __file__, name, str(text), tokenizer]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1])])}
    result = subprocess.run(command, env=environment | threads, check=True, capture_output=True, text=True)
    measured: dict[str, Any] = json.loads(result.stdout)
    return measured


def measure(name: str, text: Path, tokenizer: str) -> dict[str, Any]:
    """Measure a contestant in this process.

    Args:
        name: see `in_a_process`.
        text: the .jsonl file.
        tokenizer: path of a tokenizer.json, or a kind.
    """
    contestant = ours if name in ("aibig", "cached") else theirs
    out = text.with_suffix(".bin")
    seconds, digest = contestant(name, text, tokenizer, out)
    out.unlink(missing_ok=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    return {"seconds": round(seconds, 3), "peak_mb": round(peak), "digest": digest}


def ours(name: str, text: Path, tokenizer: str, _: Path) -> tuple[float, str]:
    """Seconds and digest of aibig's token files.

    Args:
        name: "cached" to use files that exist.
        text: the .jsonl file.
        tokenizer: path of a tokenizer.json, or a kind.
    """
    from aibig.data.text.documents import TextFiles
    from aibig.data.text.token_files import tokenize

    cache = text.with_suffix(".cache")
    if name == "aibig":
        shutil.rmtree(cache, ignore_errors=True)
    start = time.perf_counter()
    tokenized = tokenize(TextFiles(text), tokenizer, VOCABULARY, str(cache))
    return time.perf_counter() - start, tokenized.digest


def theirs(name: str, text: Path, tokenizer: str, out: Path) -> tuple[float, str]:
    """Seconds and digest of the file that a loop around `tokenizers` writes.

    Args:
        name: the library's method.
        text: the .jsonl file.
        tokenizer: path of a tokenizer.json.
        out: the file.
    """
    import numpy as np
    from tokenizers import Tokenizer

    library = Tokenizer.from_file(tokenizer)
    separator = [library.token_to_id("<|endoftext|>")]
    digest = hashlib.blake2b(digest_size=16)

    def encoded() -> Iterator[list[int]]:
        with text.open(encoding="utf-8") as lines:
            documents = (json.loads(line)["text"] for line in lines)
            if name == "encode":
                yield from (library.encode(document).ids for document in documents)
                return
            while batch := list(islice(documents, 256)):
                yield from (encoding.ids for encoding in library.encode_batch_fast(batch))

    start = time.perf_counter()
    with out.open("wb") as file:
        for number, tokens in enumerate(encoded()):
            ids = np.array(separator * (number > 0) + tokens, dtype=np.uint16)
            digest.update(ids.data)
            file.write(ids.data)
        file.flush()
        os.fsync(file.fileno())
    return time.perf_counter() - start, digest.hexdigest()


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]), sys.argv[3])))
