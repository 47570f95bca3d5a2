"""Write every recipe to tests/golden/recipes, after a change that is meant."""

from pathlib import Path

from deit import config
from deit.recipes import book

if __name__ == "__main__":
    folder = Path(__file__).parent / "recipes"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.yaml"):
        old.unlink()
    for name in book.recipe_names():
        text = config.to_yaml(book.get_recipe(name))
        (folder / f"{name.replace('/', '--')}.yaml").write_text(text)
