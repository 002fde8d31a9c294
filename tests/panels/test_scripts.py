"""The scripts are modules that are joined without a bundler: one kit, sent once, each name once, nothing fetched."""

from __future__ import annotations

import re
from importlib import resources

import pytest
from ipywidgets.embed import dependency_state

import clipviz
from clipviz import panels
from clipviz.demo import images as demo
from clipviz.panels.core import scripts
from clipviz.panels.core.scripts import (
    TOP,
    Kit,
    alone,
    joined,
    kit,
    kit_key,
    kit_names,
    module,
    ordered,
    script,
)

FOLDER = resources.files("clipviz.panels")
PANELS = sorted(f"{place.name}/view.js" for place in FOLDER.iterdir() if (place / "view.js").is_file())
PARTS = sorted(
    f"{file.parent.name}/{file.name}" for name in PANELS for file in (FOLDER / name).parent.glob("*.js")
)
OWN = [*PARTS, "core/standalone.js", "core/around.js", "core/loader.js"]


def forget():
    for cached in (module, kit, kit_names, kit_key, script):
        cached.cache_clear()


@pytest.fixture
def written(monkeypatch):
    """Scripts of a test's own in place of the package's."""

    def write(**files):
        forget()
        monkeypatch.setattr(scripts, "text", lambda name: files[name.removesuffix(".js").replace("/", "_")])
        monkeypatch.setattr(
            scripts, "_kit_files", lambda: tuple(f"kit/{name[4:]}.js" for name in files if name[:4] == "kit_")
        )

    yield write
    forget()


def test_a_module_stands_after_those_that_it_imports_however_they_are_named():
    order = ordered(scripts._kit_files())
    assert sorted(order) == sorted(scripts._kit_files())
    for place, name in enumerate(order):
        assert set(module(name).imports) <= set(order[:place]), name


def test_the_kit_joined_by_hand(written):
    written(
        kit_a='import { two, three } from "./b.js";\n\nexport const one = () => two + three;\n',
        kit_b="export const two = 2;\nexport const three = 3;\nconst own = 1;\n",
        **{"core_base.css": '.cv { content: "a"; }'},
    )
    assert joined(["kit/a.js"]) == (
        "const two = 2;\nconst three = 3;\nconst own = 1;\n\n\nconst one = () => two + three;\n"
    )
    assert kit().endswith(
        'const kitSheet = ".cv { content: \\"a\\"; }";\nexport { kitSheet, one, three, two };\n'
    )


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"kit_a": 'import { b } from "./b.js";\n', "kit_b": 'import { a } from "./a.js";\n'},
            r"without a circle, got kit/a\.js -> kit/b\.js -> kit/a\.js",
        ),
        (
            {"kit_a": 'import { c, d } from "./b.js";\n', "kit_b": "export const c = 1;\n"},
            r"kit/a\.js imports d, which kit/b\.js does not export",
        ),
        (
            {"kit_a": "const c = 2;\n", "kit_b": "export const c = 1;\n"},
            "declared once, got c twice",
        ),
        ({"kit_a": 'import * as b from "./b.js";\n', "kit_b": ""}, "got 'import \\* as b from"),
        ({"kit_a": 'import { b as c } from "./b.js";\n', "kit_b": ""}, "imports b as c, which"),
    ],
)
def test_what_cannot_be_joined_is_refused(written, files, message):
    written(**files)
    with pytest.raises(ValueError, match=message):
        joined([f"kit/{name[4:]}.js" for name in files])


def test_a_panels_script_is_a_function_of_the_kit(written):
    own = 'import { one } from "../kit/a.js";\n\nexport default { render: one };\n'
    written(
        kit_a="export const one = 1;\n",
        p_view=own,
        core_loader="export const withKit = 0;\n",
        **{"core_base.css": "a {}"},
    )
    assert script("p") == (
        "const withKit = 0;\n\n"
        f'export default withKit("{kit_key()}", ({{ one }}) => {{\n\nreturn {{ render: one }};\n}});\n'
    )


def test_the_parts_of_a_panel_stand_before_its_view(written):
    written(
        kit_a="export const one = 1;\nexport const two = 2;\n",
        p_view='import { one } from "../kit/a.js";\nimport { part } from "./part.js";\nexport default { part, one };\n',
        p_part='import { one, two } from "../kit/a.js";\nexport const part = one + two;\n',
        core_loader="export const withKit = 0;\n",
        **{"core_base.css": "a {}"},
    )
    assert script("p").endswith(
        ", ({ one, two }) => {\nconst part = one + two;\n\nreturn { part, one };\n});\n"
    )


def test_two_parts_of_a_panel_cannot_declare_one_name(written):
    written(
        kit_a="export const one = 1;\n",
        p_view='import { part } from "./part.js";\nconst own = 1;\nexport default { part, own };\n',
        p_part="const own = 2;\nexport const part = own;\n",
        core_loader="export const withKit = 0;\n",
        **{"core_base.css": "a {}"},
    )
    with pytest.raises(ValueError, match="declared once, got own twice"):
        script("p")


def test_another_kit_or_style_sheet_has_another_key(written):
    files = {"kit_a": "export const one = 1;\n", "core_base.css": "a {}"}
    written(**files)
    first = kit_key()
    for name in files:
        written(**{**files, name: files[name] + "\n"})
        assert kit_key() != first


def test_no_helper_is_written_twice():
    names = TOP.findall(kit())
    assert len(names) == len(set(names)) > 40
    for file in OWN:
        assert not set(TOP.findall(module(file).body)) & set(names), file


@pytest.mark.parametrize("file", [*OWN, *scripts._kit_files()])
def test_nothing_is_fetched(file):
    text = (FOLDER / file).read_text()
    assert not re.search(r"https?://|\bfetch\(|XMLHttpRequest|\beval\(|innerHTML", text)


def test_every_part_of_the_kit_has_a_caller():
    everything = joined([*scripts._kit_files(), "core/standalone.js"]) + "".join(
        module(file).body for file in PARTS
    )
    idle = [
        name
        for name in TOP.findall(joined(scripts._kit_files()))
        if len(re.findall(rf"\b{name}\b", everything)) < 2
    ]
    assert idle == []


@pytest.mark.parametrize("name", PANELS)
def test_every_part_of_a_panel_has_a_caller(name):
    folder = name.removesuffix("view.js")
    own = [file for file in PARTS if file.startswith(folder)]
    assert sorted(file for file in ordered([name]) if file.startswith(folder)) == own
    everything = "".join((FOLDER / file).read_text() for file in own)
    exported = [word for file in own for word in module(file).exports]
    assert [word for word in exported if len(re.findall(rf"\b{word}\b", everything)) < 3] == []


@pytest.mark.parametrize("file", PANELS)
def test_a_panels_script_has_no_copy_of_the_kit(file):
    text = script(file.removesuffix("/view.js"))
    assert isinstance(text, str)
    assert f'withKit("{kit_key()}"' in text
    assert not set(TOP.findall(text)) & set(kit_names())


def test_a_saved_page_brings_the_kit_before_its_own_script():
    page = alone("core/standalone.js")
    assert not re.search(r"^(import|export)\b", page, re.MULTILINE)
    assert page.index("const h = ") < page.index(kit_key()) < page.index("const start = ")


def test_every_panel_refers_to_one_kit_which_is_made_again_when_closed(lend, model):
    with lend(model, demo().subset(range(12)), [*clipviz.demo.texts()][:60]) as session:
        heads, words = panels.Heads(session), panels.Words(session)
        assert heads.kit is words.kit is Kit.shared()
        assert heads.get_state(["kit"]) == {"kit": f"IPY_MODEL_{heads.kit.model_id}"}
        assert heads.kit.get_state(["script"]) == {
            "script": kit(),
        }
        assert heads.kit.model_id in dependency_state([heads])
        Kit.shared().close()
        assert panels.Query(session).kit is not heads.kit
