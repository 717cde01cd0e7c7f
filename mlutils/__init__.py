"""One Label at a Time: what language models believe while they write lists of labels."""
