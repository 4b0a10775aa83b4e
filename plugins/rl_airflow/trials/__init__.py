"""One trial: launch, wait, relaunch, terminate; its operators, trigger and supervisor."""
