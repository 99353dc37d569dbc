"""50 MB of text to token numbers on disk, aibig against the library `tokenizers` on one thread. Run by `scripts/bench
shards`.

The text is Python source: every .py file of the standard library and of the installed packages in the order of their
paths, until there are 50 MB, one a line of a .jsonl file. The tokenizer is byte-level BPE with 16,000 tokens, made
of the first 10 MB beforehand. Each way is a process of its own and reads the documents, encodes them, and writes the
numbers as uint16: wall-clock seconds without imports, and the process's peak memory with them. `tokenizers` does so
with RAYON_NUM_THREADS=1, as people call it (`encode`, a document a call) and as it is fastest
(`encode_batch_fast`, 256 documents a call).
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
WAYS = ("aibig", "encode", "encode_batch_fast")


def main() -> None:
    """Measure all in turn, then print medians and ratios; how long our own BPE takes to make comes last."""
    from aibig.data.text.documents import TextFiles
    from aibig.data.text.tokenizer import make_tokenizer

    with tempfile.TemporaryDirectory() as folder:
        text, tokenizer = Path(folder) / "sources.jsonl", Path(folder) / "tokenizer.json"
        write_sources(text)
        sample = (piece.text for piece in TextFiles(text).pieces() if piece.position < SAMPLE)
        make_tokenizer("bpe", sample, VOCABULARY, end_of_text=True).save(tokenizer)
        results: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        for _ in range(ROUNDS):
            for way in WAYS:
                results[way].append(in_a_process(way, text, str(tokenizer)))
                print(way, results[way][-1], flush=True)
        assert len({one["digest"] for some in results.values() for one in some}) == 1, "other tokens"
        again = in_a_process("again", text, str(tokenizer))
        whole = in_a_process("aibig", text, "bpe")
    for way, some in results.items():
        seconds = statistics.median(one["seconds"] for one in some)
        ratio = seconds / statistics.median(one["seconds"] for one in results["aibig"])
        peak = max(one["peak_mb"] for one in some)
        print(f"{way:18} {seconds:6.1f} s, {ratio:5.2f} times aibig's, peak {peak:.0f} MB")
    print(f"a second run: {again['seconds']:.3f} s")
    print(f"with a BPE made of all the text: {whole['seconds']:.1f} s, peak {whole['peak_mb']:.0f} MB")


def write_sources(path: Path) -> None:
    """The text."""
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
    """What is not UTF-8, or empty, is left out."""
    folders = dict.fromkeys(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
    files = {file: None for folder in folders for file in sorted(Path(folder).rglob("*.py"))}
    for file in files:
        try:
            source = file.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue
        if source.strip() and "<|" not in source:
            yield source


def in_a_process(way: str, text: Path, tokenizer: str) -> dict[str, Any]:
    """The seconds, peak_mb and digest of a way."""
    threads = {} if way in ("aibig", "again") else {"RAYON_NUM_THREADS": "1"}
    command = [sys.executable, __file__, way, str(text), tokenizer]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1])])}
    result = subprocess.run(command, env=environment | threads, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def measure(way: str, text: Path, tokenizer: str) -> dict[str, Any]:
    """Runs in a process of its own."""
    made = ours if way in ("aibig", "again") else theirs
    out = text.with_suffix(".bin")
    seconds, digest = made(way, text, tokenizer, out)
    out.unlink(missing_ok=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    return {"seconds": round(seconds, 3), "peak_mb": round(peak), "digest": digest}


def ours(way: str, text: Path, tokenizer: str, _: Path) -> tuple[float, str]:
    """The folder with the tokens, made anew unless way is "again"."""
    from aibig.data.text import token_files as shards

    cache = text.with_suffix(".cache")
    if way == "aibig":
        shutil.rmtree(cache, ignore_errors=True)
    begun = time.perf_counter()
    made = shards.tokenize(shards.TextFiles(text), tokenizer, VOCABULARY, str(cache))
    return time.perf_counter() - begun, made.digest


def theirs(way: str, text: Path, tokenizer: str, out: Path) -> tuple[float, str]:
    """A file of numbers."""
    import numpy as np
    from tokenizers import Tokenizer

    made = Tokenizer.from_file(tokenizer)
    end_of_text = [made.token_to_id("<|endoftext|>")]
    digest = hashlib.blake2b(digest_size=16)

    def encoded() -> Iterator[list[int]]:
        with text.open(encoding="utf-8") as lines:
            documents = (json.loads(line)["text"] for line in lines)
            if way == "encode":
                yield from (made.encode(one).ids for one in documents)
                return
            while batch := list(islice(documents, 256)):
                yield from (one.ids for one in made.encode_batch_fast(batch))

    begun = time.perf_counter()
    with out.open("wb") as file:
        for number, tokens in enumerate(encoded()):
            numbers = np.array(end_of_text * (number > 0) + tokens, dtype=np.uint16)
            digest.update(numbers.data)
            file.write(numbers.data)
        file.flush()
        os.fsync(file.fileno())
    return time.perf_counter() - begun, digest.hexdigest()


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]), sys.argv[3])))
