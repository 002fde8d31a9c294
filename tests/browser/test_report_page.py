"""The page of `clipviz reproduce all` in a browser without a network."""

from __future__ import annotations

from clipviz.figures import chapter2 as figures
from clipviz.figures import chapter2_interactive as interactive
from clipviz.reproduce.page import write_page
from clipviz.reproduce.report import Report, Written

CURVES = {"objects": {0: 0.9, 1: 0.85, 2: 0.2}}


def test_figures_are_drawn_when_they_are_opened_and_links_lead_to_their_sections(chromium, tmp_path):
    report = Report(tmp_path, "Chapter 2", "What was measured.")
    report.section("Attention layers (Figure 2.2)")
    report.figure("layers", figures.accumulated_ablation(CURVES), "Figure 2.2: accuracy")
    for _ in range(2):
        report.interactive("layers", interactive.accumulated_ablation(CURVES), "the same, interactive")
    report.section("Segmentation (Table 2.4)")
    report.needs("--segmentation FOLDER", "masks")
    report.write("chapter2")
    written = {"chapter2": Written.read(tmp_path, "chapter2")}
    path = write_page(tmp_path / "report.html", "All", "A lead.", written)
    context = chromium.new_context(offline=True)
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(path.as_uri())
    assert page.locator(".plot .main-svg").count() == 0
    page.locator("details.interactive > summary").first.click()
    page.locator(".plot .main-svg").first.wait_for()
    assert page.locator(".plot:has(.main-svg)").count() == 1
    page.get_by_text("Where each is").click()
    row = page.get_by_role("row", name="Table 2.4")
    assert "--segmentation FOLDER" in row.inner_text()
    target = row.get_by_role("link").get_attribute("href")
    assert page.locator(f"h3{target}").inner_text() == "Segmentation (Table 2.4)"
    assert page.locator("figure img").evaluate("image => image.naturalWidth") > 100
    assert not errors
    context.close()
