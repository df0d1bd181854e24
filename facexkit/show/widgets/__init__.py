"""Widgets for notebooks and the app: state in traits, drawing in one script, each at home alone or joined by `fx.explore`."""
