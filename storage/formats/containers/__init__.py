"""Parsers of audio containers. Each is a function of a reader, an offset and a Media, which it fills.

A parser returns False where the bytes are not its format after all. It takes a bounded number of steps, and raises
BudgetExceeded where it would have to read more than the reader allows; what it found until then stays in the Media.
Any other exception means that the bytes are broken, or hostile.
"""
