"""From a raw record, out of a file or an event, to consent changes or to one error that a person can fix."""
