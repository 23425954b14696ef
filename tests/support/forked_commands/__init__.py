"""Commands that start in a tenth of the time: forked from a process that has imported the product already.

The tests start hundreds of commands, and each of them would take a second of a processor to import the same modules.
Therefore a command of the product is forked by a process that has imported them; everything else is started as always.

A forked command is a process like any other: it is the child of the process that started it, with its own environment,
folder, arguments and standard streams, Python's own signal handlers, and an exit code; it can be killed, and it ends as
Python ends. Where that could not be so, it is started afresh: if its environment differs in what is read while Python
starts, with a preexec_fn that is not known here, for `make coverage`, or elsewhere than on Linux on x86-64 or ARM64.
`@pytest.mark.fresh` starts all commands of a test afresh.
"""
