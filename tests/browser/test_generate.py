"""The Generate desk in a browser: the hand really drags, the picture follows, a busy kernel catches up."""

from __future__ import annotations

from playwright.sync_api import expect

from browser.test_dashboard import dashboard  # noqa: F401


def opened(board):
    board.page.locator('[data-panel="desks"] button[data-name="generate"]').click()
    panel = board.panel("generate", state="settled")
    panel.wait_for()
    panel.scroll_into_view_if_needed()
    return panel


def drag(page, stage, right, down=0.0, steps=12):
    box = stage.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + right * box["width"], y + down * box["height"], steps=steps)
    page.mouse.up()


def where(board):
    """Left edge of the true object's place, from Python."""
    code = (
        "session.wait(60); "
        "print(float(session.generator.model.true_scenes(session.generator.workbench.latents).centre[0, 0, 0]))"
    )
    return float(board.kernel(code))


def settle(board):
    board.kernel("session.wait(60)")
    board.panel("generate", state="settled").wait_for()


def test_a_drag_moves_the_true_object(dashboard, artifacts):  # noqa: F811
    panel = opened(dashboard)
    panel.get_by_label("Class", exact=True).select_option("car")
    dashboard.panel("generate", label="car", state="settled").wait_for()
    before = where(dashboard)
    way = 1 if before < 0.5 else -1
    drag(dashboard.page, panel.locator(".stage"), 0.15 * way)
    settle(dashboard)
    assert (where(dashboard) - before) * way > 0.04
    assert float(panel.get_attribute("data-distance")) > 0
    panel.screenshot(path=artifacts / "generate.png")
    panel.get_by_role("button", name="Reset").click()
    settle(dashboard)
    assert abs(where(dashboard) - before) < 1e-6
    assert not dashboard.console


def test_keys_and_wheel_do_what_the_mouse_does(dashboard):  # noqa: F811
    panel = opened(dashboard)
    before = where(dashboard)
    panel.locator(".stage").focus()
    dashboard.page.keyboard.press("ArrowRight" if before < 0.5 else "ArrowLeft")
    settle(dashboard)
    assert abs(where(dashboard) - before) > 0.01
    panel.get_by_role("button", name="Copy").click()
    expect(dashboard.panel("generate").locator(".status")).to_contain_text("Copying")
    panel.get_by_role("button", name="Reset").click()
    settle(dashboard)
    distance = panel.get_attribute("data-distance")
    panel.locator(".stage").hover()
    dashboard.page.mouse.wheel(0, -240)
    settle(dashboard)
    dashboard.page.wait_for_function(
        "d => document.querySelector('[data-panel=generate]').dataset.distance !== d", arg=distance
    )


def test_a_storm_while_the_kernel_is_busy_ends_on_the_last_move(dashboard):  # noqa: F811
    panel = opened(dashboard)
    dashboard.page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"
        ".requestExecute({code: 'import time; time.sleep(2)'}) && null"
    )
    way = 1 if panel.get_attribute("data-label") else -1
    drag(dashboard.page, panel.locator(".stage"), 0.12 * way, 0.05, steps=40)
    settle(dashboard)
    asked = dashboard.kernel("print([round(v, 2) for v in dashboard.desks.built['generate'].move[1:3]])")
    assert asked.strip() == "[0.12, 0.05]"
    assert not dashboard.console


def test_a_concept_is_chosen_and_a_picture_joins_the_images(dashboard):  # noqa: F811
    panel = opened(dashboard)
    panel.locator(".concepts .one").nth(1).click()
    dashboard.page.wait_for_function(
        "() => document.querySelector('[data-panel=generate]').dataset.concept !== '-1'"
    )
    panel.get_by_role("button", name="Keep").click()
    dashboard.panel("generate", kept=1).wait_for()
    n_images = int(dashboard.kernel("print(len(session.images))"))
    panel.get_by_role("button", name="Add to images").click()
    dashboard.panel("heatmap", image=n_images).wait_for()
    assert not dashboard.console
