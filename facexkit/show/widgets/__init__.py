"""Widgets for notebooks and the app: state in traits, drawing in one script, joined by `fx.explore`."""
