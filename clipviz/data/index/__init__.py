"""The index: a collection of any size as columns on disk, written in one pass and read by every panel.

Why plain .npy columns with a JSON manifest, and not another format:
- Parquet and Arrow compress and type well but hold rows in groups: fp16 codes gain nothing from compression, a row
  of numbers is not a flat mapped array, and pyarrow would be the heaviest dependency of the package.
- Zarr chunks arrays into files: reads copy and decompress whole chunks, and a directory of 50 million images has
  tens of thousands of files.
- Lance has versions and random access, for a large binary dependency and a format that still moves.
- A .npy file is mapped by numpy alone, opens in microseconds at any size, is shared between processes by the
  system's page cache, and grows by appending bytes. Checksums, atomic commits and resuming cost one small journal.
The layout is in layout.py, the guarantees in writer.py.
"""

from clipviz.data.index.embedded import demo_index
from clipviz.data.index.reader import Index, Statistics
from clipviz.data.index.writer import discard

__all__ = ["Index", "Statistics", "demo_index", "discard"]
