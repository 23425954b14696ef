"""What `optrelay run` starts and watches on this machine: a broker, a worker, and the monitor of a delivery."""
