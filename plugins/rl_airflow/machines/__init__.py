"""EC2 calls: instances, prices of the day, checks before a launch, pools, and the reaper."""
