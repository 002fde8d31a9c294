"""An index as a table of Arrow, one row for each image."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow

    from clipviz.data.store.store import Store


def table_of(index: Store, rows: Any = None, codes: bool = False) -> pyarrow.Table:
    """Return the table; see Index.to_arrow."""
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError("tables of Arrow need pyarrow; pip install 'clipviz[index]'") from error
    chosen = np.arange(len(index)) if rows is None else index.rows(rows)
    stored = index.codes()
    texts = {
        name: index.texts(name, None if rows is None else chosen) for name in ("name", "path", "caption")
    }
    columns: dict[str, Any] = {"image": chosen, **texts}
    for column, words in index.attributes.items():
        columns[column if column not in columns else f"{column} (attribute)"] = [words[i] for i in chosen]
    numbers = {"embedding": stored.embedding}
    if codes:
        numbers |= {"mean": stored.mean, "std": stored.std, "codes": stored.codes}
    for column, values in numbers.items():
        flat = np.asarray(values if rows is None else values[chosen]).reshape(len(chosen), -1)
        width = flat.shape[1]
        made = pyarrow.array(np.ascontiguousarray(flat).reshape(-1))
        columns[column] = pyarrow.FixedSizeListArray.from_arrays(made, width) if np.ndim(values) > 1 else made
    about = {
        "model": index.identity,
        "images": index.fingerprint,
        "layers": list(index.layers),
        "codes": ["layer", "head", "d_head"],
        "shape": list(np.shape(stored.codes)[1:]),
    }
    return pyarrow.table(columns).replace_schema_metadata({"clipviz": json.dumps(about)})
