"""What brings changes in, in the model: files whose importers are killed, copies, events, others who write."""

from __future__ import annotations

from itertools import count

from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from consent.errors import ImportUnderWay
from consent.imports import Checkpoint, ImportSource
from consent.times import to_micros
from tests.model.changes import MORNING, OVERLAPPING, PLACES, Slot, Statement, changes
from tests.model.world import STATISTICS, File, World

cuts = st.sampled_from((9, 9, 0, 1, 2, 3))


class Cut(Exception):
    """The process is gone at this point."""


class Producers(World):
    """Files, events, and the sweep that publishes what an importer left."""

    @rule(statements=st.lists(changes, min_size=1, max_size=6), stream=st.booleans(), until=cuts, steps=cuts)
    def file_arrives(self, statements: list[Statement], stream: bool, until: int, steps: int) -> None:  # noqa: FBT001 - drawn
        """A file comes; its importer may be killed anywhere."""
        file = self._open("csv", stream=stream)
        file.changes = statements
        self.files.append(file)
        self._import(file, until, steps)

    @precondition(lambda self: self.files)
    @rule(data=st.data(), until=cuts, steps=cuts)
    def importer_runs_again(self, data: st.DataObject, until: int, steps: int) -> None:
        """A file is imported again; its importer may be killed anywhere."""
        self._import(data.draw(st.sampled_from(self.files)), until, steps)

    @precondition(lambda self: self.files)
    @rule(data=st.data(), until=cuts, steps=cuts)
    def copy_arrives(self, data: st.DataObject, until: int, steps: int) -> None:
        """Another file says the same, perhaps while the first one has not been read whole; it may be cut too."""
        file = self._open("csv")
        file.changes = data.draw(st.sampled_from(self.files)).changes
        self.files.append(file)
        self._import(file, until, steps)

    def _import(self, file: File, until: int, steps: int) -> None:
        self._read(file, until)
        if file.read == len(file.changes):
            self._release(file, steps)

    def _read(self, file: File, until: int) -> None:
        progress = self.ledger.intake.open_import(
            ImportSource("csv", file.name, file.name, 1, None, stream=file.stream)
        )
        assert progress.checkpoint.records == file.read
        while progress.state == "reading" and file.read < min(len(file.changes), until):
            chunk = file.changes[file.read : file.read + 2]
            after = file.read + len(chunk)
            changes_ = [change.change(file.read + n + 2) for n, change in enumerate(chunk)]
            done = self.ledger.intake.accept(file.id, changes_, [], Checkpoint(after, after + 1, 0, after))
            new = self._hear(file, chunk)  # more may be recorded: what a slot is confirmed to hold can be said again
            assert new <= done.recorded <= len(chunk)
            file.read = after
        if progress.state == "reading" and 0 < len(file.changes) == file.read:
            self.ledger.intake.finish_reading(file.id)
            file.whole = True

    def _release(self, file: File, steps: int) -> None:
        if not steps:
            event("release never begun")
            return
        left = count(1)

        def cut(_: int) -> None:
            if next(left) > steps:
                raise Cut

        try:
            self.ledger.intake.publish(file.id, cut)
        except Cut:
            event("release cut")

    @precondition(lambda self: any(0 < f.read < len(f.changes) for f in self.files))
    @rule(data=st.data())
    def second_importer_comes_late(self, data: st.DataObject) -> None:
        """An importer that went on from an old checkpoint is refused and records nothing."""
        file = data.draw(st.sampled_from([f for f in self.files if 0 < f.read < len(f.changes)]))
        try:
            self.ledger.intake.accept(file.id, [file.changes[0].change(2)], [], Checkpoint(1, 2, 0, 1))
        except ImportUnderWay:
            return
        raise AssertionError("an importer with an old checkpoint was let in")

    @rule(statements=st.lists(changes, min_size=1, max_size=3), twice=st.booleans())
    def events_arrive(self, statements: list[Statement], twice: bool) -> None:  # noqa: FBT001 - hypothesis draws it
        """Events come, perhaps twice because the answer was lost on the way back to their source."""
        for _ in range(1 + twice):
            fresh = self._hear(None, statements)
            done = self.ledger.intake.accept_events(
                self.run, [change.change(n) for n, change in enumerate(statements)], []
            )
            assert (
                fresh <= sum(done.fresh) <= len(statements)
            )  # more, if a file that is whole only repeated what another kept back

    @precondition(lambda self: any(is_out for _, is_out in self.applied.values()))
    @rule(data=st.data())
    def others_opt_a_person_in_who_unsubscribes(self, data: st.DataObject) -> None:
        """Another program writes to the provider, and then the person opts out: that must arrive."""
        out = sorted(slot for slot, (_, is_out) in self.applied.items() if is_out)
        self._others_write(data.draw(st.sampled_from(out)))

    def _others_write(self, where: Slot) -> None:
        """Opt a person in behind our back, who unsubscribes later than any confirmation, wherever the clock is."""
        name, slot = where
        if name in OVERLAPPING:
            self.provider.blocklists[name].entries.discard((*PLACES[slot], "CUSTOM"))
        else:
            self.provider.held[where] = "OPTIN"
        now = (self._micros() - to_micros(MORNING)) // 60_000_000
        statement = Statement(*where, "OPTOUT", max(now, self._latest(name)) + 60, f"click {next(self.numbers)}")
        self._hear(None, [statement])
        assert self.ledger.intake.accept_events(self.run, [statement.change(0)], []).fresh == (True,)
        STATISTICS["opt-outs since others wrote"] += 1

    @precondition(lambda self: any(file.whole for file in self.files))
    @rule()
    def sweep(self) -> None:
        """The sweep publishes what an importer that died had read whole."""
        for import_id in self.ledger.intake.unpublished():
            self.ledger.intake.publish(import_id)
