"""What a developer's machine needs and a deploy does not: a store to run and test against."""
