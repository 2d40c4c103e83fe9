"""One folder a problem, the same file names in each; `problem` says what a problem has to bring."""
