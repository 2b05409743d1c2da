"""What fwn.doctor examines: the environment, a data set, a run, a checkpoint. Each yields facts and findings."""
