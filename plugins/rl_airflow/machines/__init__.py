"""EC2 machines: instances, current prices, checks before a launch, the pool and the reaper."""
