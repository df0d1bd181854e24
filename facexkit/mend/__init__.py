"""What we change: a model is taken apart from what it should not rest on, and measured before and after.

The room stands between `measure`, which it needs for every number, and `show`, which tells and draws what it found.
"""
