"""The providers on this machine, for the demo and the tests: faults on demand, every invention marked INVENTED."""
