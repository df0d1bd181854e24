"""The parameters of a run, under the name that they had before they moved to `facexkit.parameters`."""

from facexkit.parameters import check, parse, read_parameter_file

__all__ = ["check", "parse", "read_parameter_file"]
