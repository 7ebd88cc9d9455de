"""Everything that takes foreign input, a module a room."""

from tests.fuzz.targets import (
    artefacts,
    calls,
    checkpoints,
    command_line,
    images,
    measuring,
    sessions,
    training,
)

TARGETS = {
    target.name: target
    for module in (artefacts, sessions, calls, images, measuring, training, checkpoints, command_line)
    for target in module.TARGETS
}
