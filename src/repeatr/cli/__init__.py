"""The command line: one module a command; the only room that prints.

A command's module has `SUMMARY` (what it does, for its help), `EXAMPLES` (shown below the
options), `add_arguments(parser)` and `execute(args, printer) -> exit code`. Errors are
raised; `main` tells them and ends with their exit code.
"""
