"""The pages of the documentation. ``python -m docs.pictures`` draws their pictures."""
