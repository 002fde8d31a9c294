"""`clipviz publish`: write the board of a model and images as a folder of static files, from the command line."""

from __future__ import annotations

import argparse

from clipviz.page.export import PRECISIONS
from clipviz.page.publishing import N_IMAGES

DESCRIPTION = """\
Write the board of a session with its model inside, as a folder that any web server can serve. Readers of the page
type texts and drop pictures, and every head and token responds; nothing leaves the browser. Needs clipviz[web].

  clipviz publish site/
  clipviz publish site/ --model ViT-B-32 --pretrained laion2b_s34b_b79k --images photos/ --precision float16
  python -m http.server --directory site/

The documentation's page "Publish a page" has workflow files for GitHub Pages and GitLab Pages.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser the arguments that `run` reads."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = DESCRIPTION
    parser.add_argument("folder", metavar="FOLDER", help="a new or an empty folder, or one published before")
    parser.add_argument(
        "--model", default="demo", help='an open_clip name, owner/model of Hugging Face, or "demo"'
    )
    parser.add_argument("--pretrained", help="a pretrained tag or a checkpoint file")
    parser.add_argument("--images", help="a folder of images; the embedded collection for the demo model")
    parser.add_argument(
        "--texts", help="general, demo (with the demo model), or a file with one text per line"
    )
    parser.add_argument(
        "--precision", default="float32", choices=PRECISIONS, help="of the weights in the page"
    )
    parser.add_argument("--n-images", type=int, default=N_IMAGES, help="images published, evenly spaced")
    parser.add_argument("--desks", nargs="*", default=[], help="desks shown as they are, such as neurons")
    parser.add_argument("--title", help="of the page")
    parser.add_argument("--no-model", action="store_true", help="the saved page alone, without the model")


def run(options: argparse.Namespace) -> int:
    """Publish what the options name, and print the folder and its size."""
    from clipviz.loading import load
    from clipviz.page.publishing import publish
    from clipviz.session import Session

    model = load(options.model, pretrained=options.pretrained)
    session = Session(model, images=options.images, texts=options.texts, background=False)
    try:
        folder = publish(
            session,
            options.folder,
            model=not options.no_model,
            precision=options.precision,
            images=options.n_images,
            desks=options.desks,
            title=options.title,
        )
    finally:
        session.close()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder} holds {size / 1e6:.1f} MB; show it with: python -m http.server --directory {folder}")
    return 0
