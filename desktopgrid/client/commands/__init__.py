"""The commands of `xw`, by what they are about. No rule is in a command, and no formatting but
through Output.
"""
