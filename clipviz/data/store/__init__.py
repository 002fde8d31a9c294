"""The files of an index: a collection of any size as columns on disk, written in one pass.

Why plain .npy columns with a JSON manifest, and not another format:
- Parquet and Arrow compress and type well but hold rows in groups: float16 codes gain nothing from compression, a row
  of numbers is not a flat mapped array, and pyarrow would be the heaviest dependency of the package.
- Zarr chunks arrays into files: reads copy and decompress whole chunks, and a directory of 50 million images has
  tens of thousands of files.
- Lance has versions and random access, for a large binary dependency and a format that is still changing.
- A .npy file is mapped by numpy alone, opens in microseconds at any size, is shared between processes by the
  system's page cache, and grows by appending bytes. Checksums, atomic commits and resuming cost one small journal.
layout.py says what the files are, writer.py what a kill can and cannot do, store.py reads them; clipviz.Index, in the
room above, is what a user opens.
"""
